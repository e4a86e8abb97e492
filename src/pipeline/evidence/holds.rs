//! What a document has to hold to be of any use, whoever it is for.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Most certificates of a chain that are looked at.
const CHAIN_MAX: usize = 8;

/// What is looked for in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holds {
    /// A certificate in PEM, and maybe those that vouch for it.
    Certificate,
    /// JSON, with a text at this pointer.
    Json(String),
}

impl Holds {
    /// Whether it is there.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub fn check(&self, body: &[u8]) -> Result<(), String> {
        match self {
            Self::Certificate => certificates(body).map(drop).map_err(str::to_owned),
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

/// The text at a pointer, if there is one.
pub(crate) fn text_at(json: &[u8], pointer: &str) -> Option<String> {
    let json: Value = serde_json::from_slice(json).ok()?;
    let text = json.pointer(pointer)?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}
