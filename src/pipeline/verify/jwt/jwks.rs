//! Sets of public keys (RFC 7517), as issuers publish them and as they may stand in `secrets`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::{KeyKind, TokenAlgorithm};
use super::key::{Material, TokenKey};
use crate::pipeline::decode::json;

/// Most keys of one set that are looked at. Issuers have two to ten.
pub(super) const KEYS_MAX: usize = 32;

/// A coordinate of P-256 and of P-384, in bytes (RFC 7518, section 6.2.1.2).
const P256_BYTES: usize = 32;
const P384_BYTES: usize = 48;

/// Reads a set, or a single key. Keys that are not for signatures, not for one of `algorithms` or
/// not keys at all are left out, as the standard wants it (RFC 7517, section 5).
///
/// # Errors
///
/// What is wrong with the text as a whole, in words.
pub(super) fn read(
    text: &[u8],
    label: &Arc<str>,
    algorithms: &[TokenAlgorithm],
) -> Result<Vec<TokenKey>, &'static str> {
    let Some(Value::Object(whole)) = json::strict(text) else {
        return Err("it is not a JSON object");
    };
    let members = match whole.get("keys") {
        None => vec![&whole],
        Some(Value::Array(keys)) if keys.len() <= KEYS_MAX => {
            keys.iter().filter_map(Value::as_object).collect()
        }
        Some(Value::Array(_)) => return Err("it has more keys than any issuer's"),
        Some(_) => return Err("its `keys` is not a list"),
    };
    let keys: Vec<TokenKey> = members
        .into_iter()
        .filter_map(|member| key(member, label, algorithms))
        .collect();
    if keys.is_empty() {
        Err("it has no public key for any of `algorithms`")
    } else {
        Ok(keys)
    }
}

fn key(
    members: &Map<String, Value>,
    label: &Arc<str>,
    algorithms: &[TokenAlgorithm],
) -> Option<TokenKey> {
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    // A member that is there and says something else excludes the key.
    let is_free = |name: &str, wanted: &str| match members.get(name) {
        None => true,
        Some(value) => value.as_str() == Some(wanted),
    };
    let may_verify = match members.get("key_ops") {
        None => true,
        Some(Value::Array(uses)) => uses.iter().any(|it| it.as_str() == Some("verify")),
        Some(_) => false,
    };
    // A private key has no business in a public place, and whoever finds one there can sign.
    if !is_free("use", "sig") || !may_verify || members.contains_key("d") {
        return None;
    }
    let algorithms: Vec<TokenAlgorithm> = algorithms
        .iter()
        .copied()
        .filter(|algorithm| is_free("alg", algorithm.name()))
        .collect();
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    let point = |kind, length| {
        let (x, y) = (bytes("x")?, bytes("y")?);
        let is_whole = x.len() == length && y.len() == length;
        is_whole.then(|| Material::Point(kind, [&[4][..], &x, &y].concat()))
    };
    let material = match (text("kty")?, text("crv")) {
        ("RSA", _) => Material::Rsa {
            n: without_zeros(bytes("n")?),
            e: without_zeros(bytes("e")?),
        },
        ("EC", Some("P-256")) => point(KeyKind::P256, P256_BYTES)?,
        ("EC", Some("P-384")) => point(KeyKind::P384, P384_BYTES)?,
        ("OKP", Some("Ed25519")) => Material::Ed25519(bytes("x")?),
        // Also `oct`: a shared secret is never public.
        _ => return None,
    };
    let kid = text("kid").map(str::to_owned);
    TokenKey::public(Arc::clone(label), kid, &material, &algorithms)
}

/// Some issuers write a number with a zero before it.
fn without_zeros(number: Vec<u8>) -> Vec<u8> {
    number.into_iter().skip_while(|byte| *byte == 0).collect()
}
