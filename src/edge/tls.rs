//! TLS 1.2 and 1.3: which certificate for which name, and what is offered besides.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs as provider;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};

use crate::config::{Certificate, Server, Tls};

/// What ALPN calls HTTP/2.
pub const H2: &[u8] = b"h2";
/// What ALPN calls HTTP/1.1.
pub const HTTP_1_1: &[u8] = b"http/1.1";

/// The certificates in use. Clones share them, so that new ones can be put in while serving;
/// connections that are open keep theirs.
#[derive(Clone)]
pub struct Certificates(Arc<ArcSwap<Vec<Arc<CertifiedKey>>>>);

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// There is nothing to show.
    #[error("there is no certificate")]
    NoCertificate,
    /// A self-signed certificate could not be made.
    #[error("cannot make a self-signed certificate: {0}")]
    SelfSigned(#[from] rcgen::Error),
    /// rustls did not take something.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

/// Certificates and the configuration that shows them.
///
/// # Errors
///
/// See [`TlsError`].
pub fn server_config(server: &Server, tls: &Tls) -> Result<(ServerConfig, Certificates), TlsError> {
    let certificates = match tls {
        Tls::Certificates(certificates) => Certificates::new(certificates)?,
        Tls::SelfSigned => Certificates::of(vec![self_signed(server)?]),
    };
    // The process's default provider is a trap: it panics when two are linked.
    let provider = Arc::new(provider::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates.clone()));
    config.alpn_protocols = vec![H2.to_vec(), HTTP_1_1.to_vec()];
    // Tickets are encrypted under keys that rotate and never leave this process.
    config.ticketer = provider::Ticketer::new()?;
    // A request in early data could be replayed by whoever saw it.
    config.max_early_data_size = 0;
    Ok((config, certificates))
}

// === impl Certificates ===

impl Certificates {
    fn new(certificates: &[Certificate]) -> Result<Self, TlsError> {
        let this = Self::of(Vec::new());
        this.replace(certificates)?;
        Ok(this)
    }

    fn of(keys: Vec<Arc<CertifiedKey>>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(keys)))
    }

    /// Shows these from the next handshake on. The first is also for names that no other has.
    ///
    /// # Errors
    ///
    /// [`TlsError::NoCertificate`]; the old ones stay.
    pub fn replace(&self, certificates: &[Certificate]) -> Result<(), TlsError> {
        let keys: Vec<_> = certificates
            .iter()
            .map(|certificate| Arc::clone(&certificate.certified))
            .collect();
        if keys.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        self.0.store(Arc::new(keys));
        Ok(())
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let keys = self.0.load();
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let fitting = name.and_then(|name| keys.iter().find(|key| is_for(key, &name)));
        fitting.or(keys.first()).map(Arc::clone)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("count", &self.0.load().len())
            .finish()
    }
}

/// By the names in the certificate, as a client would check them (RFC 9525), wildcards included.
fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let Ok(leaf) = key.end_entity_cert() else {
        return false;
    };
    ParsedCertificate::try_from(leaf).is_ok_and(|leaf| verify_server_name(&leaf, name).is_ok())
}

// === self-signed ===

/// A certificate for this machine's own names and the addresses that are listened on. Loud,
/// because nobody should believe in it for long.
fn self_signed(server: &Server) -> Result<Arc<CertifiedKey>, TlsError> {
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    let listen = server.listen.iter().map(|address| address.ip());
    for name in listen.filter(|ip| !ip.is_unspecified()).map(name_of) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut params = CertificateParams::new(names.clone())?;
    params.distinguished_name = DistinguishedName::new();
    let common_name = "hookgate self-signed";
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;

    let sha256 = fingerprint(certificate.der());
    tracing::warn!(
        names = names.join(", "),
        sha256,
        "tls uses a self-signed certificate made just now: no provider will believe it; \
         set server.tls.cert and server.tls.key before going live"
    );
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let chain = vec![certificate.der().clone()];
    let certified = CertifiedKey::from_der(chain, key, &provider::default_provider())?;
    Ok(Arc::new(certified))
}

fn name_of(ip: IpAddr) -> String {
    ip.to_canonical().to_string()
}

/// `AB:CD:...`, as browsers and `openssl x509 -fingerprint -sha256` show it.
pub fn fingerprint(der: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, der);
    let pairs: Vec<String> = digest.as_ref().iter().map(|b| format!("{b:02X}")).collect();
    pairs.join(":")
}

#[cfg(test)]
pub(crate) mod tests;
