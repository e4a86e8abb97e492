//! `Content-Digest` (RFC 9530): the body's hash, which a signature can cover.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::HeaderName;
use sfv::{Dictionary, ListEntry, Parser};
use sha2::{Digest as _, Sha256, Sha512};

use super::fields::joined;
use crate::pipeline::verify::refusal::Refusal;

pub(super) const CONTENT_DIGEST: &str = "content-digest";

const SHA_256: &str = "sha-256";
const SHA_512: &str = "sha-512";

/// Whether a body is tied to its digest by this hash.
pub(super) fn is_known(algorithm: &str) -> bool {
    matches!(algorithm, SHA_256 | SHA_512)
}

/// Every digest by a known hash must be that of the body, and there must be one.
pub(super) fn ensure(headers: &HeaderMap, body: &[u8]) -> Result<(), Refusal> {
    let unreadable = || Refusal::Undecodable {
        place: "header Content-Digest".to_owned(),
        encoding: "a structured field",
    };
    let value = joined(headers, &HeaderName::from_static(CONTENT_DIGEST));
    let digests: Dictionary = Parser::new(&value).parse().map_err(|_error| unreadable())?;
    let mut known = 0;
    for (algorithm, digest) in &digests {
        let actual = match algorithm.as_str() {
            SHA_256 => Sha256::digest(body).to_vec(),
            SHA_512 => Sha512::digest(body).to_vec(),
            // Others are broken or checksums (RFC 9530, section 5).
            _ => continue,
        };
        let ListEntry::Item(digest) = digest else {
            return Err(unreadable());
        };
        let digest = digest.bare_item.as_byte_sequence().ok_or_else(unreadable)?;
        if digest != actual {
            return Err(Refusal::Digest);
        }
        known += 1;
    }
    if known == 0 {
        return Err(Refusal::Digest);
    }
    Ok(())
}

/// The value of the field for a body.
pub(super) fn value(body: &[u8]) -> String {
    format!("{SHA_256}=:{}:", STANDARD.encode(Sha256::digest(body)))
}
