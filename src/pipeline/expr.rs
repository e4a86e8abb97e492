//! Where a value stands in a request: `header:NAME`, `query:NAME`, `form:NAME`, `json:/pointer`;
//! several of them in a template, `{json:/resource}.{json:/action}`.
//!
//! In a batch, `json:` is a place in one element, and `batch:/pointer` one in the whole body.
//! `digest` is no place: it stands for the bytes of the body, all of them.

pub(crate) mod facts;

use std::borrow::Cow;
use std::fmt;

use http::{HeaderMap, HeaderName};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::pipeline::arrival::Head;

/// What is kept of a digest: enough that no two bodies have the same.
const DIGEST_BYTES: usize = 16;

/// A compiled expression: its parts, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expr(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Value(Place),
    /// A place in the whole body of a batch (RFC 6901).
    Batch(String),
    /// The body's digest. Always alone, so that it is made once for a batch, however long.
    Digest,
}

/// What a request says, but for a single event of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// The request's head.
    pub head: &'a Head,
    /// The fields of its body, where that is a form.
    pub form: Option<&'a Value>,
    /// The document; of a batch, without its events.
    pub json: Option<&'a Value>,
    /// The body as it came, if there is one yet.
    pub body: Option<&'a [u8]>,
}

impl Expr {
    /// Compiles an expression: a place, a template, which begins with `{`, or `digest`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "digest" {
            return Ok(Self(vec![Part::Digest]));
        }
        if !text.starts_with('{') {
            return Part::parse(text).map(|part| Self(vec![part]));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, tail)) = rest.split_once('{') {
            let Some((place, after)) = tail.split_once('}') else {
                return Err("a `{` without its `}`".to_owned());
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            parts.push(Part::parse(place)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// Its places in a request.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        self.0.iter().filter_map(|part| match part {
            Part::Value(place) => Some(place),
            Part::Literal(_) | Part::Batch(_) | Part::Digest => None,
        })
    }

    /// Whether it is the body's digest.
    pub fn is_digest(&self) -> bool {
        self.0 == [Part::Digest]
    }

    /// Whether reading it needs the decoded body.
    pub fn needs_json(&self) -> bool {
        self.0.iter().any(|part| {
            matches!(
                part,
                Part::Value(Place::Form(_) | Place::Json(_)) | Part::Batch(_)
            )
        })
    }

    /// Whether, in a batch, each element has its own.
    pub fn is_of_event(&self) -> bool {
        let of_event = |part: &Part| matches!(part, Part::Value(Place::Json(_)));
        self.0.iter().any(of_event)
    }

    /// Whether it asks for a place in the whole of a batch.
    pub fn is_of_batch(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Batch(_)))
    }

    /// Its value in a request that has been read, where it is there once and is text, a number or
    /// a boolean. An empty text is no value: two events without an id are not the same event.
    /// `json` is the document, `form` an object of the body's fields where it is a form. Of a
    /// template every part must be there.
    pub fn read(&self, head: &Head, form: Option<&Value>, json: Option<&Value>) -> Option<String> {
        let said = Said {
            head,
            form,
            json,
            body: None,
        };
        self.read_in(said, json)
    }

    /// The same for one event; of a batch, that is an element.
    pub fn read_in(&self, said: Said<'_>, event: Option<&Value>) -> Option<String> {
        let mut parts = self.0.iter().map(|part| match part {
            Part::Literal(text) => Some(text.clone()),
            Part::Value(place) => place.read(said.head, said.form, event),
            Part::Batch(pointer) => at(said.json, pointer),
            Part::Digest => said.body.map(digest),
        });
        match self.0.len() {
            1 => parts.next().flatten(),
            _ => parts.collect(),
        }
    }
}

impl Part {
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("batch", pointer)) if pointer.starts_with('/') => {
                Ok(Self::Batch(pointer.to_owned()))
            }
            Some(("batch", pointer)) => Err(format!(
                "`{pointer}` is not a JSON pointer: it begins with `/`"
            )),
            _ => Place::parse(text).map(Self::Value),
        }
    }
}

/// The beginning of the SHA-256 of a body, in hexadecimal.
fn digest(body: &[u8]) -> String {
    let digest = Sha256::digest(body);
    hex::encode(digest.get(..DIGEST_BYTES).unwrap_or(&digest))
}

/// A part of a JSON Pointer, as it is meant (RFC 6901, section 4).
pub(crate) fn unescaped(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}

/// What has text at a pointer.
fn at(json: Option<&Value>, pointer: &str) -> Option<String> {
    let value = json?.pointer(pointer).and_then(scalar)?.into_owned();
    Some(value).filter(|value| !value.is_empty())
}

impl Place {
    /// See [`Expr::read`].
    fn read(&self, head: &Head, form: Option<&Value>, json: Option<&Value>) -> Option<String> {
        let value = match self {
            Self::Header(header) => match header.find(&head.headers) {
                Found::Once(value) => std::str::from_utf8(value).ok().map(str::to_owned),
                Found::Absent | Found::Twice => None,
            },
            Self::Query(name) => match find_query(head, name) {
                Found::Once(value) => Some(value.into_owned()),
                Found::Absent | Found::Twice => None,
            },
            Self::Form(name) => form?.get(name).and_then(scalar).map(Cow::into_owned),
            Self::Json(pointer) => json?.pointer(pointer).and_then(scalar).map(Cow::into_owned),
        };
        value.filter(|value| !value.is_empty())
    }
}

/// A place in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `header:NAME`.
    Header(Header),
    /// `query:NAME`, percent-decoded.
    Query(String),
    /// `form:NAME`, percent-decoded.
    Form(String),
    /// `json:/pointer` (RFC 6901).
    Json(String),
}

/// A header field's name, with the spelling that people know it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) name: HeaderName,
    pub(crate) written: String,
}

/// What was found at a place. Twice is ambiguous: two readers could pick different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found<T> {
    Absent,
    Once(T),
    Twice,
}

impl<T> Found<T> {
    /// Looks at most at two.
    pub(crate) fn of(mut values: impl Iterator<Item = T>) -> Self {
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(value), None) => Self::Once(value),
            (Some(_), Some(_)) => Self::Twice,
        }
    }
}

/// The kinds of places, for messages.
const KINDS: &str = "`header:NAME`, `query:NAME`, `form:NAME` or `json:/pointer`";

impl Place {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some((kind, rest)) = text.split_once(':') else {
            return Err(format!(
                "`{text}` does not say where to look; write {KINDS}"
            ));
        };
        if rest.is_empty() {
            return Err(format!(
                "`{text}` lacks what comes after the colon; write {KINDS}"
            ));
        }
        match kind {
            "header" => Header::parse(rest).map(Self::Header),
            "query" => Ok(Self::Query(rest.to_owned())),
            "form" => Ok(Self::Form(rest.to_owned())),
            "json" if rest.starts_with('/') => Ok(Self::Json(rest.to_owned())),
            "json" => Err(format!(
                "`{rest}` is not a JSON pointer: it begins with `/`"
            )),
            _ => Err(format!("`{kind}:` is not known; write {KINDS}")),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(header) => write!(f, "header {}", header.written),
            Self::Query(name) => write!(f, "query parameter {name}"),
            Self::Form(name) => write!(f, "form field {name}"),
            Self::Json(pointer) => write!(f, "body member {pointer}"),
        }
    }
}

impl Header {
    pub(crate) fn parse(written: &str) -> Result<Self, String> {
        match HeaderName::try_from(written) {
            Ok(name) => Ok(Self {
                name,
                written: written.to_owned(),
            }),
            Err(_) => Err(format!("`{written}` cannot be a header's name")),
        }
    }

    pub(crate) fn find<'a>(&self, headers: &'a HeaderMap) -> Found<&'a [u8]> {
        Found::of(
            headers
                .get_all(&self.name)
                .iter()
                .map(http::HeaderValue::as_bytes),
        )
    }
}

/// A query parameter, decoded.
pub(crate) fn find_query<'a>(head: &'a Head, name: &str) -> Found<Cow<'a, str>> {
    let query = head.query.as_deref().unwrap_or_default();
    let values = form_urlencoded::parse(query.as_bytes());
    Found::of(
        values
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value),
    )
}

/// Text, numbers and booleans as text.
pub(crate) fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests;
