//! `Authorization: Basic` (RFC 7617).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const SCHEME: &str = "Basic ";

/// `USER:PASSWORD` from a header value. The word `Basic` counts in either case.
pub(super) fn credentials(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, encoded) = value.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME.as_bytes()) {
        return None;
    }
    STANDARD.decode(encoded.trim_ascii()).ok()
}

/// The header value for `USER:PASSWORD`.
pub(super) fn value(credentials: &[u8]) -> String {
    format!("{SCHEME}{}", STANDARD.encode(credentials))
}
