//! What a document has to hold to be of any use, whoever it is for.

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

/// Most certificates of a chain that are looked at.
const CHAIN_MAX: usize = 8;

/// What is looked for in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holds {
    /// A certificate in PEM that is in force, and maybe those that vouch for it.
    Certificate,
    /// JSON, with a text at this pointer.
    Json(String),
}

impl Holds {
    /// Whether it is there, and of use at the time `now`.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub fn check(&self, body: &[u8], now: Timestamp) -> Result<(), String> {
        match self {
            Self::Certificate => {
                let chain = certificates(body)?;
                chain.first().map_or(Ok(()), |first| in_force(first, now))
            }
            Self::Json(pointer) => match text_at(body, pointer) {
                Some(_) => Ok(()),
                None => Err(format!("there is no key at {pointer}")),
            },
        }
    }
}

/// The certificates of a document in PEM: the first can be read.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let chain = CertificateDer::pem_slice_iter(pem).take(CHAIN_MAX);
    let chain: Vec<_> = chain
        .collect::<Result<_, _>>()
        .map_err(|_not_pem| "it is not PEM")?;
    let first = chain.first().ok_or("there is no certificate in it")?;
    X509Certificate::from_der(first).map_err(|_malformed| "the certificate cannot be read")?;
    Ok(chain)
}

/// Whether the time is within the certificate's own.
///
/// # Errors
///
/// What is wrong, in words.
pub(crate) fn in_force(certificate: &[u8], now: Timestamp) -> Result<(), String> {
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|_malformed| "the certificate cannot be read")?;
    let now = ASN1Time::from_timestamp(now.as_second())
        .map_err(|_beyond| "the time is beyond what certificates can say")?;
    let validity = certificate.validity();
    if validity.is_valid_at(now) {
        Ok(())
    } else {
        Err(format!(
            "the certificate is valid from {} to {}",
            validity.not_before, validity.not_after
        ))
    }
}

/// The text at a pointer, if there is one.
pub(crate) fn text_at(json: &[u8], pointer: &str) -> Option<String> {
    let json: Value = serde_json::from_slice(json).ok()?;
    let text = json.pointer(pointer)?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}
