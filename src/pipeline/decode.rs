//! What the bytes say: `Verified` -> [`Document`]. What is published stays as it came.
//!
//! ```text
//! body -> coding undone -> by kind: JSON, lines, form, XML -> out of a form's field -> document
//! ```

pub mod cloudevent;
pub(crate) mod coding;
mod form;
pub(crate) mod json;
mod lines;
pub(crate) mod multipart;
mod xml;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;

use crate::delivery::Coverage;
use crate::pipeline::verify::Verified;
use crate::reject::Reject;

use self::cloudevent::{CloudEvent, Mode};
pub use self::coding::Coding;
pub use self::json::DuplicateKeys;
use self::json::Fault;

/// How a source's bodies are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What bodies it takes.
    pub format: Format,
    /// What becomes of JSON in which a key is there twice.
    pub duplicate_keys: DuplicateKeys,
    /// The form field whose JSON is the document, where a form has it.
    pub unwrap: Option<String>,
    /// Codings that are undone.
    pub codings: Vec<Coding>,
    /// Longest body, unpacked, in bytes.
    pub unpacked_bytes_max: usize,
    /// How much the proof covers of a query that is an event.
    pub query_coverage: Coverage,
}

/// What bodies a source takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// What `Content-Type` says; JSON where it says nothing.
    Auto,
    /// JSON, whatever `Content-Type` says.
    Json,
    /// A form, whatever `Content-Type` says, but for the kind of form.
    Form,
    /// XML, whatever `Content-Type` says.
    Xml,
    /// JSON lines, whatever `Content-Type` says.
    Lines,
    /// As `Auto`, and CloudEvents say themselves what they are.
    CloudEvents,
    /// Any bytes; they are not looked at.
    Raw,
}

/// A verified request with its body's meaning.
#[derive(Debug)]
pub struct Document {
    /// The request. A query that is an event has become its body.
    pub verified: Verified,
    /// What schemas and `json:` pointers see: JSON; a form's fields as an object, or the JSON in
    /// one of them; XML by the mapping of `xml.rs`; the documents of all lines as a list; the data
    /// of a CloudEvent. `None` for what is not looked at, and for what was checked only.
    pub json: Option<Value>,
    /// The form that `json` was taken out of, or whether `json` is the form.
    form: Form,
    /// Where `json` is JSON that came: its text, unpacked and out of its form field. Not for the
    /// data of a structured CloudEvent, which is a part of the text.
    pub text: Option<Bytes>,
    /// What `json` is made of.
    pub parts: Parts,
    /// What a CloudEvent says of itself.
    pub event: Option<CloudEvent>,
    /// How the body was read, for a person: "JSON", "gzip, a form with 3 fields".
    pub read_as: Cow<'static, str>,
    /// Why the body could not be read ([`decode_anyway`]).
    pub flaw: Option<Reject>,
}

/// The form in a document.
#[derive(Debug)]
enum Form {
    /// There is none.
    None,
    /// The document itself.
    Whole,
    /// One that the document was in.
    Around(Value),
}

/// Whether a document is several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parts {
    /// One.
    Whole,
    /// A list of documents, each with its place in `text`.
    Lines(Vec<Range<usize>>),
    /// A list of structured CloudEvents.
    CloudEvents,
}

/// Decodes the body. With `needs_tree` unset, it is checked by the same rules but not kept.
/// `make_room` is asked for what a coded body unpacks to, before it is kept.
///
/// # Errors
///
/// [`Reject::UnsupportedType`], [`Reject::UnsupportedCoding`], [`Reject::BodyUnpacksTooLarge`],
/// [`Reject::Malformed`], [`Reject::DuplicateKey`], [`Reject::Ambiguous`], and what `make_room`
/// says.
pub fn decode(
    verified: Verified,
    reading: &Reading,
    needs_tree: bool,
    make_room: impl FnMut(usize) -> Result<(), Reject>,
) -> Result<Document, Reject> {
    let document = decode_anyway(verified, reading, needs_tree, make_room)?;
    document.flaw.clone().map_or(Ok(document), Err)
}

/// Like [`decode`], for a source that keeps what cannot be read: with the reason.
///
/// # Errors
///
/// [`Reject::Ambiguous`], and what is no fault of the sender: what `make_room` says.
pub fn decode_anyway(
    verified: Verified,
    reading: &Reading,
    needs_tree: bool,
    mut make_room: impl FnMut(usize) -> Result<(), Reject>,
) -> Result<Document, Reject> {
    let mut document = Document::unread(take_query(verified, reading.query_coverage)?);
    match document.open(reading, needs_tree, &mut make_room) {
        Ok(()) => Ok(document),
        Err(reject) if reject.status().is_server_error() => Err(reject),
        Err(reject) => Ok(Document {
            event: reading.event_of(&document.verified.inbound.head.headers),
            flaw: Some(reject),
            ..Document::unread(document.verified)
        }),
    }
}

impl Reading {
    /// What a binary CloudEvent says of itself, whatever its data is.
    fn event_of(&self, headers: &HeaderMap) -> Option<CloudEvent> {
        let essence = essence(headers).unwrap_or_default();
        let mode = Mode::of(&essence, headers).filter(|_| self.format == Format::CloudEvents)?;
        match mode {
            Mode::Binary => CloudEvent::of_headers(headers).ok(),
            Mode::Structured | Mode::Batched => None,
        }
    }
}

impl Document {
    fn unread(verified: Verified) -> Self {
        Self {
            verified,
            json: None,
            form: Form::None,
            text: None,
            parts: Parts::Whole,
            event: None,
            read_as: Cow::Borrowed("bytes that are not looked at"),
            flaw: None,
        }
    }

    fn open(
        &mut self,
        reading: &Reading,
        needs_tree: bool,
        make_room: &mut impl FnMut(usize) -> Result<(), Reject>,
    ) -> Result<(), Reject> {
        if reading.format == Format::Raw {
            return Ok(());
        }
        let inbound = &self.verified.inbound;
        let coding = Coding::of(&inbound.head.headers)?;
        let body = match coding {
            None => inbound.body.clone(),
            Some(coding) if reading.codings.contains(&coding) => {
                let bytes_max = reading.unpacked_bytes_max;
                Bytes::from(coding.undo(&inbound.body, bytes_max, make_room)?)
            }
            Some(_) => return Err(Reject::UnsupportedCoding),
        };
        self.read(reading, &body, needs_tree)?;
        if let Some(coding) = coding {
            let (name, bytes, read_as) = (coding.name(), body.len(), &self.read_as);
            self.read_as = format!("{name} of {bytes} bytes, {read_as}").into();
        }
        if !needs_tree {
            self.json = None;
        }
        Ok(())
    }

    /// How many bytes `text` takes beside the body, if it is a copy: one out of a form's field.
    pub(crate) fn copied_bytes(&self) -> usize {
        match (&self.form, &self.text) {
            (Form::Around(_), Some(text)) => text.len(),
            _ => 0,
        }
    }

    /// What `form:NAME` looks into.
    pub fn fields(&self) -> Option<&Value> {
        match &self.form {
            Form::None => None,
            Form::Whole => self.json.as_ref(),
            Form::Around(form) => Some(form),
        }
    }

    fn read(&mut self, reading: &Reading, body: &Bytes, needs_tree: bool) -> Result<(), Reject> {
        let headers = &self.verified.inbound.head.headers;
        if reading.format == Format::CloudEvents
            && let Some(mode) = Mode::of(&essence(headers).unwrap_or_default(), headers)
        {
            return self.read_event(mode, reading, body, needs_tree);
        }
        let kind = match reading.format {
            _ if self.verified.inbound.head.method == Method::GET => Kind::Form,
            Format::Json => Kind::Json,
            Format::Form if kind_of(headers) == Some(Kind::Multipart) => Kind::Multipart,
            Format::Form => Kind::Form,
            Format::Xml => Kind::Xml,
            Format::Lines => Kind::Lines,
            Format::Auto | Format::CloudEvents | Format::Raw
                if headers.contains_key(CONTENT_TYPE) =>
            {
                kind_of(headers).ok_or(Reject::UnsupportedType)?
            }
            Format::Auto | Format::CloudEvents | Format::Raw => Kind::Json,
        };
        self.read_kind(kind, reading, body, needs_tree)
    }

    fn read_kind(
        &mut self,
        kind: Kind,
        reading: &Reading,
        body: &Bytes,
        needs_tree: bool,
    ) -> Result<(), Reject> {
        let duplicates = reading.duplicate_keys;
        match kind {
            Kind::Json => {
                self.json = Some(read_json(text_of(body)?, needs_tree, duplicates)?);
                self.text = Some(body.clone());
                self.read_as = Cow::Borrowed("JSON");
            }
            Kind::Lines => {
                let (documents, ranges) = lines::read(text_of(body)?, needs_tree, duplicates)?;
                self.read_as = format!("{} lines of JSON", ranges.len()).into();
                self.json = Some(documents);
                self.text = Some(body.clone());
                self.parts = Parts::Lines(ranges);
            }
            Kind::Xml => {
                // XML may begin with a mark that JSON must not begin with.
                let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
                self.json = Some(xml::read(text_of(body)?).map_err(Reject::Malformed)?);
                self.read_as = Cow::Borrowed("XML");
            }
            Kind::Form => {
                text_of(body)?;
                self.read_form(form::urlencoded(body), "a form", reading, needs_tree)?;
            }
            Kind::Multipart => {
                let headers = &self.verified.inbound.head.headers;
                let content_type = content_type(headers).unwrap_or_default();
                let form = form::multipart(content_type, body).map_err(Reject::Malformed)?;
                self.read_form(form, "a multipart form", reading, needs_tree)?;
            }
        }
        Ok(())
    }

    /// The document is the JSON in the field that the source names, where the form has it.
    fn read_form(
        &mut self,
        form: Value,
        what: &str,
        reading: &Reading,
        needs_tree: bool,
    ) -> Result<(), Reject> {
        let fields = form.as_object().map_or(0, serde_json::Map::len);
        self.read_as = format!("{what} with {fields} fields").into();
        let wrapped = reading
            .unwrap
            .as_ref()
            .and_then(|name| Some((name, form.get(name)?)));
        if let Some((name, value)) = wrapped {
            let Some(text) = value.as_str() else {
                let why = format!("form field `{name}` is a file, or there twice");
                return Err(Reject::Malformed(why));
            };
            let placed = |reject| match reject {
                Reject::Malformed(why) => Reject::Malformed(format!("form field `{name}`: {why}")),
                other => other,
            };
            let text = Bytes::from(text.to_owned());
            let json = text_of(&text)
                .and_then(|text| read_json(text, needs_tree, reading.duplicate_keys))
                .map_err(placed)?;
            self.read_as = format!("{what}, JSON in its field `{name}`").into();
            self.json = Some(json);
            self.text = Some(text);
            self.form = Form::Around(form);
        } else {
            self.json = Some(form);
            self.form = Form::Whole;
        }
        Ok(())
    }

    fn read_event(
        &mut self,
        mode: Mode,
        reading: &Reading,
        body: &Bytes,
        needs_tree: bool,
    ) -> Result<(), Reject> {
        let headers = &self.verified.inbound.head.headers;
        match mode {
            Mode::Binary => {
                let event = CloudEvent::of_headers(headers).map_err(Reject::Malformed)?;
                // Data of other types is the consumer's; so is none at all.
                let kind = if headers.contains_key(CONTENT_TYPE) {
                    kind_of(headers)
                } else {
                    Some(Kind::Json)
                };
                match kind.filter(|_| !body.is_empty()) {
                    Some(kind) => self.read_kind(kind, reading, body, needs_tree)?,
                    None => {
                        self.json = Some(Value::Null);
                        self.read_as = Cow::Borrowed("data that is not looked at");
                    }
                }
                self.read_as = format!("a CloudEvent, its data {}", self.read_as).into();
                self.event = Some(event);
            }
            Mode::Structured => {
                let event = read_json(text_of(body)?, true, reading.duplicate_keys)?;
                self.event = Some(CloudEvent::of(&event).map_err(Reject::Malformed)?);
                self.json = Some(cloudevent::into_data(event).map_err(Reject::Malformed)?);
                self.read_as = Cow::Borrowed("a structured CloudEvent");
            }
            Mode::Batched => {
                let events = read_json(text_of(body)?, true, reading.duplicate_keys)?;
                let Some(list) = events.as_array().filter(|list| !list.is_empty()) else {
                    let why = "a batch of CloudEvents is a list with something in it";
                    return Err(Reject::Malformed(why.to_owned()));
                };
                for (index, event) in list.iter().enumerate() {
                    let checked = CloudEvent::of(event).and(cloudevent::data(event));
                    checked.map_err(|why| Reject::Malformed(format!("/{index}: {why}")))?;
                }
                self.read_as = format!("a batch of {} CloudEvents", list.len()).into();
                self.json = Some(events);
                self.text = Some(body.clone());
                self.parts = Parts::CloudEvents;
            }
        }
        Ok(())
    }
}

/// A GET brings its event in the query: that becomes the body, as the form that it is.
fn take_query(mut verified: Verified, coverage: Coverage) -> Result<Verified, Reject> {
    let inbound = &mut verified.inbound;
    if inbound.head.method != Method::GET {
        return Ok(verified);
    }
    if !inbound.body.is_empty() {
        return Err(Reject::Ambiguous("a GET with a body"));
    }
    inbound.body = Bytes::from(inbound.head.query.clone().unwrap_or_default());
    let headers = &mut inbound.head.headers;
    headers.remove(CONTENT_ENCODING);
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    // The proof of the body was one of nothing.
    if verified.proof.coverage != Coverage::None {
        verified.proof.coverage = coverage;
    }
    Ok(verified)
}

/// The tree of JSON that stands in a form field.
///
/// # Errors
///
/// [`Reject::Malformed`], [`Reject::DuplicateKey`].
pub(crate) fn json_in_field(
    name: &str,
    text: &str,
    duplicates: DuplicateKeys,
) -> Result<Value, Reject> {
    read_json(text, true, duplicates).map_err(|reject| match reject {
        Reject::DuplicateKey(pointer) => Reject::DuplicateKey(format!("/{name}{pointer}")),
        other => other,
    })
}

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Json,
    Lines,
    Form,
    Multipart,
    Xml,
}

impl Kind {
    pub(crate) fn is_form(self) -> bool {
        matches!(self, Self::Form | Self::Multipart)
    }
}

/// What `Content-Type` says, where it is one that is understood.
pub(crate) fn kind_of(headers: &HeaderMap) -> Option<Kind> {
    let essence = essence(headers)?;
    match essence.as_str() {
        "application/json" | "text/json" => Some(Kind::Json),
        "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/jsonlines"
        | "application/x-jsonlines" => Some(Kind::Lines),
        "application/x-www-form-urlencoded" => Some(Kind::Form),
        "multipart/form-data" => Some(Kind::Multipart),
        "application/xml" | "text/xml" => Some(Kind::Xml),
        other if other.ends_with("+json") => Some(Kind::Json),
        other => other.ends_with("+xml").then_some(Kind::Xml),
    }
}

/// `Content-Type`, where it is there once.
pub(crate) fn content_type(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// The media type without parameters, in lower case.
fn essence(headers: &HeaderMap) -> Option<String> {
    let value = content_type(headers)?;
    let essence = value.split_once(';').map_or(value, |(essence, _)| essence);
    Some(essence.trim().to_ascii_lowercase())
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

fn read_json(text: &str, keeps: bool, duplicates: DuplicateKeys) -> Result<Value, Reject> {
    json::read(text, keeps, duplicates).map_err(|fault| match fault {
        Fault::Syntax(error) => {
            let (line, column, rule) = (error.line(), error.column(), rule(&error));
            Reject::Malformed(format!("line {line}, column {column}: {rule}"))
        }
        Fault::Duplicate(pointer) => Reject::DuplicateKey(pointer),
    })
}

/// The rule alone; serde_json's syntax messages hold nothing of the text itself.
fn rule(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let rule = message.split_once(" at line ").map(|(rule, _)| rule);
    rule.map(str::to_owned).unwrap_or(message)
}

#[cfg(test)]
mod tests;
