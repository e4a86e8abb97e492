//! What the bytes say: `Verified` -> [`Document`]. The body itself is never changed.

pub(crate) mod json;

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::{Map, Value};

use crate::pipeline::arrival::Inbound;
use crate::pipeline::verify::Verified;
use crate::reject::Reject;

pub use self::json::DuplicateKeys;
use self::json::Fault;

/// What bodies a source takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// What `Content-Type` says: JSON or a form.
    Auto,
    /// JSON, whatever `Content-Type` says.
    Json,
    /// A form, whatever `Content-Type` says.
    Form,
    /// Any bytes; they are not looked at.
    Raw,
}

/// A verified request with its body's meaning.
#[derive(Debug)]
pub struct Document {
    /// The request.
    pub verified: Verified,
    /// The body as JSON; a form as an object of its fields; `None` for raw bytes, and for JSON
    /// that was checked only.
    pub json: Option<Value>,
}

/// The form field in which GitHub, Gitea and Slack send JSON.
const PAYLOAD_FIELD: &str = "payload";

/// Decodes the body. `Content-Encoding` other than `identity` is not taken. With `needs_tree`
/// unset, JSON is checked by the same rules but not kept.
///
/// # Errors
///
/// [`Reject::UnsupportedType`], [`Reject::UnsupportedCoding`], [`Reject::Malformed`],
/// [`Reject::DuplicateKey`].
pub fn decode(
    verified: Verified,
    format: Format,
    duplicates: DuplicateKeys,
    needs_tree: bool,
) -> Result<Document, Reject> {
    let json = read(&verified.inbound, format, duplicates, needs_tree)?;
    Ok(Document { verified, json })
}

fn read(
    inbound: &Inbound,
    format: Format,
    duplicates: DuplicateKeys,
    needs_tree: bool,
) -> Result<Option<Value>, Reject> {
    let headers = &inbound.head.headers;
    if format == Format::Raw {
        return Ok(None);
    }
    if is_coded(headers) {
        return Err(Reject::UnsupportedCoding);
    }
    let kind = match format {
        Format::Json => Kind::Json,
        Format::Form => Kind::Form,
        Format::Auto | Format::Raw if headers.contains_key(CONTENT_TYPE) => {
            kind_of(headers).ok_or(Reject::UnsupportedType)?
        }
        Format::Auto | Format::Raw => Kind::Json,
    };
    let text = text_of(&inbound.body)?;
    match kind {
        Kind::Json => match json::read(text, needs_tree, duplicates) {
            Ok(value) => Ok(needs_tree.then_some(value)),
            Err(Fault::Syntax(error)) => Err(at(&error)),
            Err(Fault::Duplicate(pointer)) => Err(Reject::DuplicateKey(pointer)),
        },
        Kind::Form => fields(text, duplicates).map(Some),
    }
}

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Json,
    Form,
}

/// What `Content-Type` says, where it is one that is understood.
pub(crate) fn kind_of(headers: &HeaderMap) -> Option<Kind> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split_once(';').map_or(value, |(essence, _)| essence);
    let essence = essence.trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" | "text/json" => Some(Kind::Json),
        "application/x-www-form-urlencoded" => Some(Kind::Form),
        other => other.ends_with("+json").then_some(Kind::Json),
    }
}

fn is_coded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    codings.any(|coding| {
        !coding
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"identity")
    })
}

fn text_of(body: &[u8]) -> Result<&str, Reject> {
    if body.is_empty() {
        return Err(Reject::Malformed("it is empty".to_owned()));
    }
    let Ok(text) = std::str::from_utf8(body) else {
        return Err(Reject::Malformed("it is not UTF-8".to_owned()));
    };
    // RFC 8259, section 8.1: JSON must not begin with a byte order mark.
    if text.starts_with('\u{feff}') {
        return Err(Reject::Malformed(
            "it begins with a byte order mark".to_owned(),
        ));
    }
    Ok(text)
}

/// Line, column and the rule; serde_json's syntax messages hold nothing of the text itself.
fn at(error: &serde_json::Error) -> Reject {
    let (line, column) = (error.line(), error.column());
    let message = error.to_string();
    let rule = message
        .split_once(" at line ")
        .map_or(message.as_str(), |(rule, _)| rule);
    Reject::Malformed(format!("line {line}, column {column}: {rule}"))
}

/// A form as an object: a field that repeats is an array. [`PAYLOAD_FIELD`] is put as the JSON
/// that it holds, if it holds some.
fn fields(text: &str, duplicates: DuplicateKeys) -> Result<Value, Reject> {
    let mut object = Map::new();
    for (name, value) in form_urlencoded::parse(text.as_bytes()).into_owned() {
        let value = Value::String(value);
        match object.get_mut(&name) {
            None => drop(object.insert(name, value)),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    if let Some(payload) = object.get_mut(PAYLOAD_FIELD)
        && let Some(text) = payload.as_str()
    {
        match json::read(text, true, duplicates) {
            Ok(json) => *payload = json,
            Err(Fault::Syntax(_)) => {}
            Err(Fault::Duplicate(pointer)) => {
                return Err(Reject::DuplicateKey(format!("/{PAYLOAD_FIELD}{pointer}")));
            }
        }
    }
    Ok(Value::Object(object))
}

#[cfg(test)]
mod tests;
