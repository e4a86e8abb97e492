//! A token as it is sent: `HEADER.CLAIMS.SIGNATURE`, each in base64url without padding.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::fault::TokenFault;
use crate::pipeline::decode::json;

/// Longest token that is looked at, in bytes. Real ones have one or two thousand.
pub(super) const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Longest `kid`, in bytes.
const KID_BYTES_MAX: usize = 256;

/// How much of a word of the token is shown, in characters.
const SHOWN_CHARS_MAX: usize = 64;

/// Members of a header that change what the rest means: whoever does not know them must refuse the
/// token (`crit`: RFC 7515, section 4.1.11; `b64`: RFC 7797, section 3; `enc` and `zip`: RFC 7516).
const EXTENSIONS: [&str; 4] = ["crit", "b64", "enc", "zip"];

/// A token that was taken apart. Nothing in it has been proved.
#[derive(Debug)]
pub(super) struct Token<'a> {
    /// `alg`.
    pub(super) algorithm: String,
    /// `kid`.
    pub(super) kid: Option<String>,
    pub(super) claims: Map<String, Value>,
    /// What is signed: header and claims as they were sent.
    pub(super) signed: &'a [u8],
    pub(super) signature: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Takes a token apart. Readers that disagree about a token are how forgeries begin, so there
    /// is one spelling: no padding, no white space, no stray bits, no member twice.
    pub(super) fn parse(text: &'a [u8]) -> Result<Self, TokenFault> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenFault::Malformed("it is longer than any token"));
        }
        let mut parts = text.split(|byte| *byte == b'.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenFault::Malformed(
                "it does not have three parts with a dot between them",
            ));
        };
        let signed_bytes = header.len() + 1 + claims.len();
        let signed = text.get(..signed_bytes).unwrap_or_default();
        let header = object(header, "its header is not a JSON object in base64url")?;
        for name in EXTENSIONS {
            if header.contains_key(name) {
                return Err(TokenFault::Extension(name));
            }
        }
        let Some(Value::String(algorithm)) = header.get("alg") else {
            return Err(TokenFault::Malformed("its header has no `alg`"));
        };
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= KID_BYTES_MAX => Some(kid.clone()),
            Some(_) => return Err(TokenFault::Malformed("its `kid` is no short text")),
        };
        if signature.is_empty() {
            return Err(TokenFault::Malformed("it has no signature"));
        }
        let undecodable = |_error| TokenFault::Malformed("its signature is not base64url");
        Ok(Self {
            algorithm: algorithm.clone(),
            kid,
            claims: object(claims, "its claims are not a JSON object in base64url")?,
            signed,
            signature: URL_SAFE_NO_PAD.decode(signature).map_err(undecodable)?,
        })
    }

    pub(super) fn shown_algorithm(&self) -> String {
        shown(&self.algorithm)
    }

    /// The name of the key, for messages.
    pub(super) fn shown_kid(&self) -> String {
        match &self.kid {
            Some(kid) => format!("`{}`", shown(kid)),
            None => "absent".to_owned(),
        }
    }
}

fn object(text: &[u8], what: &'static str) -> Result<Map<String, Value>, TokenFault> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    match bytes.and_then(|bytes| json::strict(&bytes)) {
        Some(Value::Object(object)) => Ok(object),
        _ => Err(TokenFault::Malformed(what)),
    }
}

/// A word that a stranger wrote, short and on one line.
pub(super) fn shown(word: &str) -> String {
    let mut shown: String = word
        .chars()
        .take(SHOWN_CHARS_MAX)
        .flat_map(char::escape_debug)
        .collect();
    if word.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}
