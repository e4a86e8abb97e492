//! Whose word is taken for who somebody is: the certificate authorities of this machine, and those
//! that the configuration adds.

use std::fmt;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use rustls_platform_verifier::Verifier;

/// Certificate authorities. Those of the machine are read when they are first needed: most
/// gateways fetch nothing.
#[derive(Clone)]
pub struct Authorities(Arc<Inner>);

struct Inner {
    own: Vec<CertificateDer<'static>>,
    verifier: OnceLock<Result<Arc<dyn ServerCertVerifier>, String>>,
}

impl Authorities {
    /// Those of the machine and `own`.
    pub fn with(own: Vec<CertificateDer<'static>>) -> Self {
        Self(Arc::new(Inner {
            own,
            verifier: OnceLock::new(),
        }))
    }

    /// Decides about chains of certificates.
    ///
    /// # Errors
    ///
    /// There is no authority at all, in words.
    pub fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, String> {
        let made = self.0.verifier.get_or_init(|| {
            let provider = Arc::new(aws_lc_rs::default_provider());
            Verifier::new_with_extra_roots(self.0.own.iter().cloned(), provider)
                .map(|verifier| Arc::new(verifier) as Arc<dyn ServerCertVerifier>)
                .map_err(|error| error.to_string())
        });
        made.clone()
    }

    /// Whether they vouch at that moment for the first of these certificates, with the help of
    /// the others, as that of `name`.
    ///
    /// # Errors
    ///
    /// Why they do not, in words.
    pub fn vouch(
        &self,
        chain: &[CertificateDer<'_>],
        name: &str,
        at: Timestamp,
    ) -> Result<(), String> {
        let (end, between) = chain.split_first().ok_or("there is no certificate")?;
        let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
        let seconds = u64::try_from(at.as_second()).unwrap_or_default();
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let verified = self
            .verifier()?
            .verify_server_cert(end, between, &name, &[], at);
        verified.map(drop).map_err(|error| error.to_string())
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities")
            .field("own", &self.0.own.len())
            .finish_non_exhaustive()
    }
}
