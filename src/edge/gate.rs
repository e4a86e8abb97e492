//! Refuses requests that two HTTP implementations could read differently.
//!
//! hyper is strict about framing and lenient above it. A proxy before us, or a library behind a
//! consumer, may be lenient in another way; where the two disagree, one request becomes two, or a
//! path becomes another. What a genuine provider never sends is refused here, by the head alone.
//! Trailer fields are refused where the body is read, in `Arrival::read`.

use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, Method, Version};

use crate::reject::Reject;

/// Looks at a request's head.
///
/// # Errors
///
/// [`Reject::Ambiguous`], and [`Reject::NoSuchPath`] for a path that no source can have.
pub fn check(head: &Parts) -> Result<(), Reject> {
    if head.method == Method::CONNECT {
        return Err(Reject::Ambiguous("CONNECT is not taken"));
    }
    check_framing(head.version, &head.headers)?;
    check_host(head)?;
    check_headers(&head.headers)?;
    check_path(head.uri.path())
}

fn check_framing(version: Version, headers: &HeaderMap) -> Result<(), Reject> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let plain = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !plain || codings.next().is_some() {
            return Err(Reject::Ambiguous("Transfer-Encoding is not one `chunked`"));
        }
        // hyper removes Content-Length before we see it; this holds whatever hyper does.
        if version != Version::HTTP_11 || headers.contains_key(CONTENT_LENGTH) {
            return Err(Reject::Ambiguous("Transfer-Encoding has no place here"));
        }
    }
    if headers.contains_key(UPGRADE) {
        return Err(Reject::Ambiguous("Upgrade is not taken"));
    }
    let mut expectations = headers.get_all(EXPECT).iter();
    if let Some(expectation) = expectations.next() {
        let known = expectation.as_bytes().eq_ignore_ascii_case(b"100-continue");
        if !known || expectations.next().is_some() {
            return Err(Reject::Ambiguous("Expect is not `100-continue`"));
        }
    }
    Ok(())
}

/// HTTP/1 names the host in `Host`, and again in an absolute URI; HTTP/2 in `:authority`, in
/// `Host`, or in both. There must be one name, however often it is said.
fn check_host(head: &Parts) -> Result<(), Reject> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Reject::Ambiguous("there is more than one Host"));
    }
    let host = match host {
        None => None,
        Some(value) => match Authority::try_from(value.as_bytes()) {
            Ok(host) => Some(host),
            Err(_invalid) => return Err(Reject::Ambiguous("Host is not a host")),
        },
    };
    let names_user = |name: &Authority| name.as_str().contains('@');
    if host.as_ref().is_some_and(names_user) || head.uri.authority().is_some_and(names_user) {
        return Err(Reject::Ambiguous("the host has a user before it"));
    }
    match (head.uri.authority(), &host) {
        // `Authority` compares without regard to case.
        (Some(said), Some(host)) if said != host => {
            Err(Reject::Ambiguous("Host is not the host of the URI"))
        }
        (_, None) if head.version != Version::HTTP_2 => Err(Reject::Ambiguous("there is no Host")),
        (None, None) => Err(Reject::Ambiguous("there is no :authority")),
        _ => Ok(()),
    }
}

fn check_headers(headers: &HeaderMap) -> Result<(), Reject> {
    let twice = |name: &HeaderName| headers.get_all(name).iter().nth(1).is_some();
    if twice(&CONTENT_LENGTH) {
        return Err(Reject::Ambiguous("there is more than one Content-Length"));
    }
    if twice(&CONTENT_TYPE) {
        return Err(Reject::Ambiguous("there is more than one Content-Type"));
    }
    if twice(&CONTENT_ENCODING) {
        return Err(Reject::Ambiguous("there is more than one Content-Encoding"));
    }
    // To CGI, WSGI and their heirs `X_Signature` and `X-Signature` are one variable.
    if headers.keys().any(|name| name.as_str().contains('_')) {
        return Err(Reject::Ambiguous("a header name has `_` in it"));
    }
    Ok(())
}

/// A path is compared with configured ones byte for byte and never decoded, so whatever could be
/// decoded or normalised into another path cannot be one of them.
fn check_path(path: &str) -> Result<(), Reject> {
    let odd = |c: char| matches!(c, '%' | ';' | '\\') || c.is_ascii_control() || !c.is_ascii();
    if !path.starts_with('/') || path.contains(odd) || path.contains("..") || path.contains("//") {
        return Err(Reject::NoSuchPath);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
