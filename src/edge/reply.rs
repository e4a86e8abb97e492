//! What a sender is answered: the only file that writes a status line.
//!
//! Errors are problem documents (RFC 9457). The exhaustive matches stand one under the other, so
//! that a new way to be turned away does not compile until its words are decided.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde::Serialize;
use serde_json::json;

use crate::pipeline::handshake::HandshakeReply;
use crate::pipeline::limit::Overrun;
use crate::pipeline::schema::{VIOLATIONS_MAX, Violation};
use crate::pipeline::{Outcome, Receipt};
use crate::reject::Reject;
use crate::source::Reply;

/// Names the request, in every answer.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Says that the event had come before.
pub const HOOKGATE_DUPLICATE: HeaderName = HeaderName::from_static("hookgate-duplicate");
/// Says that the event, or some of a batch, went to quarantine.
pub const HOOKGATE_QUARANTINED: HeaderName = HeaderName::from_static("hookgate-quarantined");
/// What the limit is (draft-ietf-httpapi-ratelimit-headers-11).
pub const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What is left of it, and when there is more.
pub const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// RFC 9110 section 11.6.1 wants a challenge with every 401. Webhook signatures have no registered
/// scheme, and a provider reads none; the word says what was missing and nothing about why.
const CHALLENGE: &str = "Webhook-Signature";

/// The prefix of every problem's `type`.
const PROBLEM: &str = "urn:hookgate:problem:";

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Whether the connection can take another request after this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// It can.
    Open,
    /// It cannot: HTTP/1, and the body was not read to its end, so that what follows could be
    /// body or request.
    Close,
}

/// A problem document (RFC 9457).
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Vec<Error<'a>>>,
}

/// One place that violates the schema.
#[derive(Serialize)]
struct Error<'a> {
    pointer: &'a str,
    detail: &'a str,
}

/// The answer to a request.
pub fn reply(
    decision: &Result<Outcome, Reject>,
    request_id: &str,
    afterwards: Afterwards,
) -> Response<Full<Bytes>> {
    let mut response = match decision {
        Ok(Outcome::Accepted(receipt, reply)) => accepted(receipt, reply),
        Ok(Outcome::Duplicate(receipt, reply)) => {
            let mut response = accepted(receipt, reply);
            let headers = response.headers_mut();
            headers.insert(HOOKGATE_DUPLICATE, HeaderValue::from_static("true"));
            response
        }
        Ok(Outcome::Handshake(reply)) => handshake(reply),
        Err(reject) => rejected(reject, request_id),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(X_REQUEST_ID, id);
    }
    if afterwards == Afterwards::Close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// An answer as HTTP/1.1 bytes, the connection's last: for a request that is none, so that hyper
/// has nobody to ask for an answer. `now` goes into `Date` (RFC 9110, section 6.6.1).
pub fn last_words(response: Response<Full<Bytes>>, now: Timestamp) -> Vec<u8> {
    let (head, mut body) = response.into_parts();
    // All of it is there, so nobody has to wait for it.
    let frame = body.frame().now_or_never().flatten();
    let body = frame.and_then(|frame| frame.ok()?.into_data().ok());
    let body = body.unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
    for (name, value) in &head.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    if let Ok(date) = rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now) {
        bytes.extend_from_slice(format!("date: {date}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&body);
    bytes
}

// === when all is well ===

fn accepted(receipt: &Receipt, reply: &Reply) -> Response<Full<Bytes>> {
    let (content_type, body) = match &reply.body {
        // A 204 has no body, and a 205 neither.
        _ if is_empty(reply.status) => (None, Bytes::new()),
        None => (Some(JSON), Bytes::from(receipt_text(receipt))),
        Some(body) if body.is_empty() => (None, Bytes::new()),
        Some(body) => {
            let content_type = text_type(reply.content_type.as_deref());
            (Some(content_type), Bytes::from(body.clone()))
        }
    };
    answer(reply.status, content_type, body)
}

fn receipt_text(receipt: &Receipt) -> String {
    match receipt {
        Receipt::Event(id) => format!(r#"{{"status":"accepted","id":"{id}"}}"#),
        Receipt::Batch {
            name,
            stored,
            copies,
        } => json!({
            "status": "accepted", "batch": name, "events": stored, "duplicates": copies
        })
        .to_string(),
    }
}

/// A handshake often repeats what the request said, so no browser may take it for a page.
fn handshake(reply: &HandshakeReply) -> Response<Full<Bytes>> {
    let content_type = text_type(Some(&reply.content_type));
    let body = if is_empty(reply.status) {
        Bytes::new()
    } else {
        Bytes::from(reply.body.clone())
    };
    let mut response = answer(reply.status, Some(content_type), body);
    let headers = response.headers_mut();
    headers.extend(reply.headers.clone());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn is_empty(status: StatusCode) -> bool {
    status == StatusCode::NO_CONTENT || status == StatusCode::RESET_CONTENT
}

fn text_type(content_type: Option<&str>) -> HeaderValue {
    content_type
        .and_then(|text| HeaderValue::from_str(text).ok())
        .unwrap_or(PLAIN_TEXT)
}

/// For what was accepted and went to quarantine.
pub fn from_quarantine(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let headers = response.headers_mut();
    headers.insert(HOOKGATE_QUARANTINED, HeaderValue::from_static("true"));
    response
}

// === when it is not ===

/// For a source that wants no problem documents: a refusal is a status and its header fields.
pub fn without_problem(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    if !response.status().is_success() {
        response.headers_mut().remove(CONTENT_TYPE);
        *response.body_mut() = Full::default();
    }
    response
}

fn rejected(reject: &Reject, request_id: &str) -> Response<Full<Bytes>> {
    let errors = match reject {
        Reject::SchemaViolated(violations) => Some(errors(violations)),
        _ => None,
    };
    let problem = Problem {
        r#type: format!("{PROBLEM}{}", reject.label()),
        title: title(reject),
        status: reject.status().as_u16(),
        detail: &reject.told(),
        instance: request_id,
        code: reject.label(),
        errors,
    };
    // Strings and numbers always have a JSON form.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = answer(reject.status(), Some(PROBLEM_JSON), Bytes::from(body));
    explain(reject, response.headers_mut());
    response
}

/// The header fields that go with a status.
fn explain(reject: &Reject, headers: &mut HeaderMap) {
    if let Some(wait) = reject.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    match reject {
        Reject::MethodNotAllowed(methods) => {
            let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
            if let Ok(list) = HeaderValue::from_str(&names.join(", ")) {
                headers.insert(ALLOW, list);
            }
        }
        Reject::Unverified(_) => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
        }
        Reject::PeerLimited(overrun) | Reject::SourceLimited(overrun) => {
            rate_limit(overrun, headers);
        }
        Reject::NoSuchPath
        | Reject::AddressNotAllowed
        | Reject::HandshakeRefused(_)
        | Reject::Ambiguous(_)
        | Reject::HeadMalformed
        | Reject::HeadTooLarge
        | Reject::BodyTooLarge(_)
        | Reject::BatchTooLarge(_)
        | Reject::BodyUnpacksTooLarge(_)
        | Reject::BodyTooSlow
        | Reject::BodyBroken
        | Reject::UnsupportedType
        | Reject::UnsupportedCoding
        | Reject::Malformed(_)
        | Reject::DuplicateKey(_)
        | Reject::SchemaViolated(_)
        | Reject::EvidenceUnavailable(_)
        | Reject::JournalFull
        | Reject::QueuesFull
        | Reject::JournalFailed
        | Reject::SecretNotStored(_)
        | Reject::BrokerUnavailable
        | Reject::Overloaded
        | Reject::TooSlow
        | Reject::Draining
        | Reject::Defect => {}
    }
}

/// `RateLimit-Policy: "stripe";q=400;w=2` is a burst of 400 that is whole again after 2 s.
fn rate_limit(overrun: &Overrun, headers: &mut HeaderMap) {
    let rate = overrun.rate;
    let nanos =
        rate.period.as_nanos() * u128::from(rate.burst.get()) / u128::from(rate.count.get());
    let window = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
    let policy = format!(
        "\"{}\";q={};w={}",
        overrun.policy,
        rate.burst,
        whole_seconds(window)
    );
    let left = format!(
        "\"{}\";r=0;t={}",
        overrun.policy,
        whole_seconds(overrun.retry_after)
    );
    for (name, value) in [(RATELIMIT_POLICY, policy), (RATELIMIT, left)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

/// Rounded up, so that nobody comes back too early; at least 1.
fn whole_seconds(duration: Duration) -> u64 {
    let part = u64::from(duration.subsec_nanos() > 0);
    duration.as_secs().saturating_add(part).max(1)
}

fn errors(violations: &[Violation]) -> Vec<Error<'_>> {
    let violations = violations.iter().take(VIOLATIONS_MAX);
    violations
        .map(|Violation { pointer, detail }| Error { pointer, detail })
        .collect()
}

/// A problem's name, the same for every occurrence.
fn title(reject: &Reject) -> &'static str {
    match reject {
        Reject::NoSuchPath => "No such path",
        Reject::MethodNotAllowed(_) => "Method not allowed",
        Reject::AddressNotAllowed => "Address not allowed",
        Reject::Ambiguous(_) => "Ambiguous request",
        Reject::HeadMalformed => "Malformed head",
        Reject::HeadTooLarge => "Head too large",
        Reject::Unverified(_) => "Sender not verified",
        Reject::HandshakeRefused(_) => "Handshake refused",
        Reject::BodyTooLarge(_) | Reject::BodyUnpacksTooLarge(_) => "Body too large",
        Reject::BatchTooLarge(_) => "Batch too large",
        Reject::BodyTooSlow => "Body too slow",
        Reject::BodyBroken => "Body broken",
        Reject::UnsupportedType => "Content type not taken",
        Reject::UnsupportedCoding => "Content coding not taken",
        Reject::Malformed(_) => "Malformed body",
        Reject::DuplicateKey(_) => "Ambiguous body",
        Reject::SchemaViolated(_) => "Schema violated",
        Reject::PeerLimited(_) => "Too many requests from this address",
        Reject::SourceLimited(_) => "Quota exceeded",
        Reject::EvidenceUnavailable(_)
        | Reject::JournalFull
        | Reject::QueuesFull
        | Reject::JournalFailed
        | Reject::SecretNotStored(_)
        | Reject::BrokerUnavailable
        | Reject::Overloaded
        | Reject::TooSlow => "Temporarily unavailable",
        Reject::Draining => "Shutting down",
        Reject::Defect => "Internal error",
    }
}

fn answer(
    status: StatusCode,
    content_type: Option<HeaderValue>,
    body: Bytes,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    if let Some(content_type) = content_type {
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    response
}

#[cfg(test)]
mod tests;
