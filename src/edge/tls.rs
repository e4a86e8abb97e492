//! TLS 1.2 and 1.3: which certificate for which name, and what is offered and asked for besides.

pub(crate) mod reload;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs as provider;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};

use crate::config::{Certificate, Clients, Server, Shown, Tls, UnknownName};

/// What ALPN calls HTTP/2.
pub const H2: &[u8] = b"h2";
/// What ALPN calls HTTP/1.1.
pub const HTTP_1_1: &[u8] = b"http/1.1";

/// What handshakes are made with. Clones share it, so that new certificates can be put in while
/// serving; connections that are open keep theirs.
#[derive(Clone)]
pub struct Identity(Arc<Current>);

struct Current {
    config: ArcSwap<ServerConfig>,
    /// Shown where there are no certificates from files.
    self_signed: Option<Arc<CertifiedKey>>,
    unknown_name: UnknownName,
}

/// The certificates that are shown.
#[derive(Debug)]
struct Names {
    keys: Vec<Arc<CertifiedKey>>,
    unknown_name: UnknownName,
}

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

// === impl Identity ===

impl Identity {
    /// What the configuration says, with a self-signed certificate made for `server` if it says
    /// that.
    ///
    /// # Errors
    ///
    /// See [`TlsError`].
    pub fn new(server: &Server, tls: &Tls) -> Result<Self, TlsError> {
        let (certificates, self_signed) = match &tls.shown {
            Shown::Certificates(certificates) => (certificates.as_slice(), None),
            Shown::SelfSigned => (&[][..], Some(self_signed(server)?)),
        };
        let names = Names::new(certificates, self_signed.as_ref(), tls.unknown_name)?;
        Ok(Self(Arc::new(Current {
            config: ArcSwap::from_pointee(server_config(names, tls.clients.as_ref())?),
            self_signed,
            unknown_name: tls.unknown_name,
        })))
    }

    /// Takes these from the next handshake on: all of them, or none.
    ///
    /// # Errors
    ///
    /// See [`TlsError`]; the old ones stay.
    pub fn replace(
        &self,
        certificates: &[Certificate],
        clients: Option<&Clients>,
    ) -> Result<(), TlsError> {
        let current = &self.0;
        let names = Names::new(
            certificates,
            current.self_signed.as_ref(),
            current.unknown_name,
        )?;
        // A configuration of its own, with keys of its own for tickets: a session that began
        // under the old one is not resumed under the new one.
        let config = server_config(names, clients)?;
        current.config.store(Arc::new(config));
        Ok(())
    }

    /// For one handshake.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.0.config.load_full()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("self_signed", &self.0.self_signed.is_some())
            .finish_non_exhaustive()
    }
}

fn server_config(names: Names, clients: Option<&Clients>) -> Result<ServerConfig, TlsError> {
    // The process's default provider is a trap: it panics when two are linked.
    let provider = Arc::new(provider::default_provider());
    let verifier = clients.map_or_else(WebPkiClientVerifier::no_client_auth, |clients| {
        clients.verifier.to_rustls()
    });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(names));
    config.alpn_protocols = vec![H2.to_vec(), HTTP_1_1.to_vec()];
    if clients.is_some() {
        // A resumed session is not verified again: a client whose certificate has been revoked, or
        // has expired since, would come in by its ticket. So each connection shows it anew.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        // Tickets are encrypted under keys that rotate and never leave this process.
        config.ticketer = provider::Ticketer::new()?;
    }
    // Every cipher here is good; scanners mark down who lets the client choose.
    config.ignore_client_order = true;
    // A request in early data could be replayed by whoever saw it.
    config.max_early_data_size = 0;
    Ok(config)
}

// === impl Names ===

impl Names {
    /// The first certificate is also for names that no other has, unless those are refused.
    fn new(
        certificates: &[Certificate],
        self_signed: Option<&Arc<CertifiedKey>>,
        unknown_name: UnknownName,
    ) -> Result<Self, TlsError> {
        let certificates = certificates.iter().map(|it| &it.certified);
        let keys: Vec<_> = certificates.chain(self_signed).map(Arc::clone).collect();
        if keys.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        Ok(Self { keys, unknown_name })
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let fitting = name.and_then(|name| self.keys.iter().find(|key| is_for(key, &name)));
        let fallback = match self.unknown_name {
            UnknownName::First => self.keys.first(),
            UnknownName::Refuse => None,
        };
        fitting.or(fallback).map(Arc::clone)
    }
}

impl ResolvesServerCert for Names {
    /// `None` ends the handshake with an alert.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
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
