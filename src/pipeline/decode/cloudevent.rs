//! CloudEvents 1.0 over HTTP: binary (`ce-*` header fields), structured
//! (`application/cloudevents+json`) and batched (`application/cloudevents-batch+json`), by the
//! [HTTP binding] and the [JSON format].
//!
//! [HTTP binding]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
//! [JSON format]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::json;
use crate::delivery::Origin;

/// Longest attribute that is taken, in bytes.
const ATTRIBUTE_BYTES_MAX: usize = 1024;

/// What an event says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudEvent {
    /// `id`; with `source` it is there once.
    pub id: String,
    /// `type`.
    pub event_type: String,
    /// What of the rest a message carries.
    pub origin: Origin,
}

/// How a request brings events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Attributes in header fields, the body is the data.
    Binary,
    /// The body is the event.
    Structured,
    /// The body is a list of events.
    Batched,
}

impl Mode {
    /// `None` for a request that is no CloudEvent.
    pub(super) fn of(essence: &str, headers: &HeaderMap) -> Option<Self> {
        match essence {
            "application/cloudevents+json" => Some(Self::Structured),
            "application/cloudevents-batch+json" => Some(Self::Batched),
            // What else there may be is not understood, and must not pass for data.
            _ if headers.contains_key("ce-specversion") => Some(Self::Binary),
            _ => None,
        }
    }
}

impl CloudEvent {
    /// The event of a structured body, or of an element of a batch.
    ///
    /// # Errors
    ///
    /// Which attribute is absent or is not what it must be.
    pub fn of(event: &Value) -> Result<Self, String> {
        let Some(members) = event.as_object() else {
            return Err("a CloudEvent is a JSON object".to_owned());
        };
        Self::from_attributes(|name| match members.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format!("the CloudEvent's `{name}` is not a text")),
        })
    }

    pub(super) fn of_headers(headers: &HeaderMap) -> Result<Self, String> {
        Self::from_attributes(|name| {
            let mut values = headers.get_all(format!("ce-{name}")).iter();
            match (values.next(), values.next()) {
                (None, _) => Ok(None),
                (Some(value), None) => {
                    let text = value.to_str().ok().and_then(header_text);
                    let text = text.ok_or_else(|| format!("`ce-{name}` is malformed"))?;
                    Ok(Some(text))
                }
                (Some(_), Some(_)) => Err(format!("`ce-{name}` is there twice")),
            }
        })
    }

    fn from_attributes(
        find: impl Fn(&str) -> Result<Option<String>, String>,
    ) -> Result<Self, String> {
        let optional = |name: &str| {
            let value = find(name)?.filter(|value| !value.is_empty());
            match value {
                Some(value) if value.len() > ATTRIBUTE_BYTES_MAX => Err(format!(
                    "the CloudEvent's `{name}` is longer than {ATTRIBUTE_BYTES_MAX} bytes"
                )),
                value => Ok(value),
            }
        };
        let required =
            |name: &str| optional(name)?.ok_or_else(|| format!("the CloudEvent has no `{name}`"));
        if required("specversion")? != "1.0" {
            return Err("the CloudEvent's `specversion` is not 1.0".to_owned());
        }
        let time = optional("time")?;
        if time
            .as_ref()
            .is_some_and(|time| time.parse::<Timestamp>().is_err())
        {
            return Err("the CloudEvent's `time` is not in RFC 3339".to_owned());
        }
        Ok(Self {
            id: required("id")?,
            event_type: required("type")?,
            origin: Origin {
                source: required("source")?,
                subject: optional("subject")?,
                time,
            },
        })
    }
}

/// The data of a structured event: `data` as it stands, or what is in `data_base64` if that is
/// JSON; else `null`.
///
/// # Errors
///
/// Base64 that is none, or both members at once. One that is `null` is not there.
pub fn data(event: &Value) -> Result<Value, String> {
    let there = |name: &str| event.get(name).filter(|value| !value.is_null());
    let (data, packed) = (there("data"), there("data_base64"));
    let Some(packed) = packed else {
        return Ok(data.cloned().unwrap_or_default());
    };
    if data.is_some() {
        return Err("the CloudEvent has `data` and `data_base64`".to_owned());
    }
    let Some(packed) = packed.as_str() else {
        return Err("the CloudEvent's `data_base64` is not a text".to_owned());
    };
    let bytes = STANDARD.decode(packed);
    let bytes = bytes.map_err(|_odd| "the CloudEvent's `data_base64` is not base64".to_owned())?;
    Ok(json::tree(&bytes).unwrap_or_default())
}

/// Takes the data out of a structured event, without a copy where it can.
pub(crate) fn into_data(event: Value) -> Result<Value, String> {
    match event {
        Value::Object(mut members) if members.get("data_base64").is_none_or(Value::is_null) => {
            Ok(Map::remove(&mut members, "data").unwrap_or_default())
        }
        event => data(&event),
    }
}

/// A header field's value: maybe in quotes, percent-encoded (section 3.1.3.2 of the binding).
fn header_text(value: &str) -> Option<String> {
    let unquoted = match value.strip_prefix('"') {
        None => value.to_owned(),
        Some(quoted) => {
            let mut text = String::new();
            let mut chars = quoted.strip_suffix('"')?.chars();
            while let Some(c) = chars.next() {
                text.push(if c == '\\' { chars.next()? } else { c });
            }
            text
        }
    };
    let decoded = percent_decode_str(&unquoted).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

#[cfg(test)]
mod tests;
