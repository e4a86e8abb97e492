//! `query_hash`: a claim with the hash of method, path and query, which ties a token to one address
//! (Atlassian Connect's `qsh`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::fault::TokenFault;
use crate::pipeline::arrival::Head;

/// The parameter that may carry the token itself, and is left out of the hash.
const TOKEN_PARAMETER: &str = "jwt";

/// The claim's name.
#[derive(Debug)]
pub(super) struct QueryHash(String);

impl QueryHash {
    pub(super) fn new(claim: String) -> Self {
        Self(claim)
    }

    pub(super) fn claim(&self) -> &str {
        &self.0
    }

    pub(super) fn check(&self, claims: &Map<String, Value>, head: &Head) -> Result<(), TokenFault> {
        let sent = claims.get(&self.0).and_then(Value::as_str);
        let sent = sent.ok_or_else(|| TokenFault::ClaimAbsent(self.0.clone()))?;
        if hash(head).as_bytes().ct_eq(sent.as_bytes()).into() {
            Ok(())
        } else {
            Err(TokenFault::Query(self.0.clone()))
        }
    }
}

/// SHA-256, in hex, of `METHOD&PATH&QUERY`: the path below the host without a slash at its end,
/// parameters sorted, values of one name joined by commas, all of it percent-encoded (Atlassian
/// Connect, "Creating a query string hash").
pub(super) fn hash(head: &Head) -> String {
    let path = head.path.trim_end_matches('/').replace('&', "%26");
    let path = if path.is_empty() { "/" } else { &path };
    let query = head.query.as_deref().unwrap_or_default();
    let mut parameters: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name != TOKEN_PARAMETER {
            let values = parameters.entry(encoded(&name)).or_default();
            values.push(encoded(&value));
        }
    }
    let parameters: Vec<String> = parameters
        .into_iter()
        .map(|(name, mut values)| {
            values.sort();
            format!("{name}={}", values.join(","))
        })
        .collect();
    let method = head.method.as_str().to_ascii_uppercase();
    let canonical = format!("{method}&{path}&{}", parameters.join("&"));
    hex::encode(Sha256::digest(canonical))
}

/// RFC 3986, section 2: all but unreserved characters as `%XX`.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _infallible = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
