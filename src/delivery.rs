//! What is stored and published: one verified, validated webhook.
//!
//! # Encoding, version 1
//!
//! The journal stores a delivery as opaque bytes; this is their format. All numbers are
//! little-endian.
//!
//! ```text
//! u8   version            1
//! then fields, in any order, until the end:
//! u8   tag                see `tag`
//! u32  length             of the value that follows
//! [u8] value
//! ```
//!
//! A tag that a reader does not know is skipped, so that an older gateway can read what a newer
//! one stored. A tag that may repeat (forwarded headers) repeats. Text is UTF-8.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use uuid::Uuid;

/// A verified webhook with all that its message will say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The gateway's own id: UUIDv7, stable across retries and replays; becomes `message_id`.
    pub id: Uuid,
    /// Name of the source in `gateway.toml`.
    pub source: Arc<str>,
    /// The provider's id for the event, where it has one.
    pub event_id: Option<String>,
    /// The provider's name for the kind of event, where it has one.
    pub event_type: Option<String>,
    /// Where a CloudEvent says that it is from.
    pub origin: Option<Origin>,
    /// When the request arrived.
    pub received_at: Timestamp,
    /// Who sent it, after trusted proxies.
    pub client_ip: IpAddr,
    /// The id of the request, as answered in `X-Request-Id`.
    pub request_id: Arc<str>,
    /// How much of the body the proof covers.
    pub coverage: Coverage,
    /// Label of the secret that matched.
    pub key: Option<Arc<str>>,
    /// Why the proof failed, where the source lets that through: a word of a closed set.
    pub unverified: Option<Arc<str>>,
    /// Name of the schema that it satisfied.
    pub schema: Option<Arc<str>>,
    /// Its place in the batch that it came in, if it came in one.
    pub batch: Option<BatchPlace>,
    /// Which exchange it goes to, and why.
    pub lane: Lane,
    /// AMQP routing key: at most 255 bytes of `[A-Za-z0-9_.-]`.
    pub routing_key: String,
    /// `Content-Type` as received.
    pub content_type: Option<String>,
    /// `Content-Encoding` as received.
    pub content_encoding: Option<String>,
    /// W3C trace context as received.
    pub traceparent: Option<String>,
    /// W3C trace state as received.
    pub tracestate: Option<String>,
    /// Request headers to copy into the message, under the message's names (`http_NAME`).
    pub forwarded: Vec<(String, String)>,
    /// The sender's bytes.
    pub body: Bytes,
}

/// A place in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchPlace {
    /// The batch's name: the sender's id for it, or a digest of its bytes where the source asks
    /// for that, else the id of the request.
    pub name: Arc<str>,
    /// Which of its elements this is, from 0.
    pub index: u32,
    /// How many elements it has.
    pub size: u32,
}

/// What a CloudEvent says of itself besides its id and type, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `source`: a URI reference.
    pub source: String,
    /// `subject`.
    pub subject: Option<String>,
    /// `time`, in RFC 3339.
    pub time: Option<String>,
}

/// How much of the body the sender's proof covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// Every byte.
    Full,
    /// Some fields of it.
    Fields,
    /// None of it: the sender presented a token.
    Token,
    /// Nothing was proved.
    None,
}

/// Where a delivery goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The configured exchange.
    Main,
    /// The quarantine exchange: authentic but invalid, with the reason, of at most
    /// [`REASON_BYTES_MAX`] bytes.
    Quarantine(String),
}

/// Longest reason of a quarantine.
pub(crate) const REASON_BYTES_MAX: usize = 2048;

/// At most so many bytes of a text, cut between characters.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max;
    while !text.is_char_boundary(end) && end < text.len() {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
}

/// Why stored bytes are not a delivery.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer gateway.
    #[error("stored by a newer gateway (delivery format {0}, this program knows {VERSION})")]
    Version(u8),
    /// The bytes end inside a field.
    #[error("ends inside a field")]
    Truncated,
    /// A field has a value that it cannot have.
    #[error("field {0} has an impossible value")]
    Field(u8),
    /// A field that every delivery has is absent.
    #[error("field {0} is absent")]
    Missing(u8),
}

// === impl Coverage ===

impl Coverage {
    /// The word in the message header `hookgate_verified`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Fields => "fields",
            Self::Token => "token",
            Self::None => "none",
        }
    }

    fn parse(label: &str) -> Option<Self> {
        [Self::Full, Self::Fields, Self::Token, Self::None]
            .into_iter()
            .find(|coverage| coverage.label() == label)
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

// === impl Delivery ===

/// Field numbers. They are on disk for ever: never reuse one.
mod tag {
    pub(super) const ID: u8 = 1;
    pub(super) const SOURCE: u8 = 2;
    pub(super) const EVENT_ID: u8 = 3;
    pub(super) const EVENT_TYPE: u8 = 4;
    pub(super) const RECEIVED_AT: u8 = 5;
    pub(super) const CLIENT_IP: u8 = 6;
    pub(super) const REQUEST_ID: u8 = 7;
    pub(super) const COVERAGE: u8 = 8;
    pub(super) const KEY: u8 = 9;
    pub(super) const SCHEMA: u8 = 10;
    pub(super) const QUARANTINE: u8 = 11;
    pub(super) const ROUTING_KEY: u8 = 12;
    pub(super) const CONTENT_TYPE: u8 = 13;
    pub(super) const CONTENT_ENCODING: u8 = 14;
    pub(super) const TRACEPARENT: u8 = 15;
    pub(super) const TRACESTATE: u8 = 16;
    pub(super) const FORWARDED: u8 = 17;
    pub(super) const BODY: u8 = 18;
    /// Index and size, each as `u32`, then the name.
    pub(super) const BATCH: u8 = 19;
    pub(super) const ORIGIN_SOURCE: u8 = 24;
    pub(super) const ORIGIN_SUBJECT: u8 = 25;
    pub(super) const ORIGIN_TIME: u8 = 26;
    pub(super) const UNVERIFIED: u8 = 27;
}

const VERSION: u8 = 1;

impl Delivery {
    /// The bytes that the journal stores.
    pub fn encode(&self) -> Bytes {
        let mut out = Encoder(BytesMut::with_capacity(self.body.len() + 512));
        out.0.put_u8(VERSION);
        out.field(tag::ID, self.id.as_bytes());
        out.field(tag::SOURCE, self.source.as_bytes());
        out.optional(tag::EVENT_ID, self.event_id.as_deref());
        out.optional(tag::EVENT_TYPE, self.event_type.as_deref());
        if let Some(origin) = &self.origin {
            out.field(tag::ORIGIN_SOURCE, origin.source.as_bytes());
            out.optional(tag::ORIGIN_SUBJECT, origin.subject.as_deref());
            out.optional(tag::ORIGIN_TIME, origin.time.as_deref());
        }
        out.field(
            tag::RECEIVED_AT,
            &self.received_at.as_microsecond().to_le_bytes(),
        );
        out.field(tag::CLIENT_IP, self.client_ip.to_string().as_bytes());
        out.field(tag::REQUEST_ID, self.request_id.as_bytes());
        out.field(tag::COVERAGE, self.coverage.label().as_bytes());
        out.optional(tag::KEY, self.key.as_deref());
        out.optional(tag::UNVERIFIED, self.unverified.as_deref());
        out.optional(tag::SCHEMA, self.schema.as_deref());
        if let Some(BatchPlace { name, index, size }) = &self.batch {
            let numbers = [index.to_le_bytes(), size.to_le_bytes()];
            let place = [numbers.as_flattened(), name.as_bytes()];
            out.field(tag::BATCH, &place.concat());
        }
        if let Lane::Quarantine(reason) = &self.lane {
            out.field(tag::QUARANTINE, reason.as_bytes());
        }
        out.field(tag::ROUTING_KEY, self.routing_key.as_bytes());
        out.optional(tag::CONTENT_TYPE, self.content_type.as_deref());
        out.optional(tag::CONTENT_ENCODING, self.content_encoding.as_deref());
        out.optional(tag::TRACEPARENT, self.traceparent.as_deref());
        out.optional(tag::TRACESTATE, self.tracestate.as_deref());
        for (name, value) in &self.forwarded {
            out.field(tag::FORWARDED, format!("{name}\n{value}").as_bytes());
        }
        out.field(tag::BODY, &self.body);
        out.0.freeze()
    }

    /// Reads what [`Delivery::encode`] wrote. The body shares memory with `stored`.
    ///
    /// # Errors
    ///
    /// Bytes that are not a delivery, or one of a newer format.
    pub fn decode(stored: &Bytes) -> Result<Self, DecodeError> {
        let mut rest = stored.clone();
        match rest.split_first() {
            None => return Err(DecodeError::Truncated),
            Some((&VERSION, _)) => drop(rest.split_to(1)),
            Some((&version, _)) => return Err(DecodeError::Version(version)),
        }
        let mut draft = Draft::default();
        while !rest.is_empty() {
            let (tag, value) = next_field(&mut rest)?;
            draft.set(tag, value)?;
        }
        draft.finish()
    }
}

impl BatchPlace {
    fn read(field: &[u8]) -> Option<Self> {
        let (index, rest) = field.split_first_chunk()?;
        let (size, name) = rest.split_first_chunk()?;
        Some(Self {
            name: Arc::from(std::str::from_utf8(name).ok()?),
            index: u32::from_le_bytes(*index),
            size: u32::from_le_bytes(*size),
        })
    }
}

struct Encoder(BytesMut);

impl Encoder {
    fn field(&mut self, tag: u8, value: &[u8]) {
        // Every value is bounded by the body limit, which configuration keeps below 4 GiB.
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.0.put_u8(tag);
        self.0.put_u32_le(length);
        self.0.put_slice(value);
    }

    fn optional(&mut self, tag: u8, value: Option<&str>) {
        if let Some(value) = value {
            self.field(tag, value.as_bytes());
        }
    }
}

fn next_field(rest: &mut Bytes) -> Result<(u8, Bytes), DecodeError> {
    const FIELD_HEAD_BYTES: usize = 5;
    let Some((&[tag, a, b, c, d], _)) = rest.split_first_chunk::<FIELD_HEAD_BYTES>() else {
        return Err(DecodeError::Truncated);
    };
    let Ok(length) = usize::try_from(u32::from_le_bytes([a, b, c, d])) else {
        return Err(DecodeError::Truncated);
    };
    drop(rest.split_to(FIELD_HEAD_BYTES));
    if length > rest.len() {
        return Err(DecodeError::Truncated);
    }
    Ok((tag, rest.split_to(length)))
}

/// A delivery while its fields come in.
#[derive(Default)]
struct Draft {
    id: Option<Uuid>,
    source: Option<Arc<str>>,
    event_id: Option<String>,
    event_type: Option<String>,
    received_at: Option<Timestamp>,
    client_ip: Option<IpAddr>,
    request_id: Option<Arc<str>>,
    coverage: Option<Coverage>,
    key: Option<Arc<str>>,
    unverified: Option<Arc<str>>,
    schema: Option<Arc<str>>,
    batch: Option<BatchPlace>,
    quarantine: Option<String>,
    routing_key: Option<String>,
    content_type: Option<String>,
    content_encoding: Option<String>,
    traceparent: Option<String>,
    tracestate: Option<String>,
    forwarded: Vec<(String, String)>,
    body: Option<Bytes>,
    origin_source: Option<String>,
    origin_subject: Option<String>,
    origin_time: Option<String>,
}

impl Draft {
    fn set(&mut self, tag: u8, value: Bytes) -> Result<(), DecodeError> {
        let impossible = || DecodeError::Field(tag);
        let text = || std::str::from_utf8(&value).ok().ok_or_else(impossible);
        match tag {
            tag::ID => self.id = Some(Uuid::from_slice(&value).ok().ok_or_else(impossible)?),
            tag::SOURCE => self.source = Some(Arc::from(text()?)),
            tag::EVENT_ID => self.event_id = Some(text()?.to_owned()),
            tag::EVENT_TYPE => self.event_type = Some(text()?.to_owned()),
            tag::RECEIVED_AT => {
                let bytes = <[u8; 8]>::try_from(&*value).ok().ok_or_else(impossible)?;
                let micros = i64::from_le_bytes(bytes);
                self.received_at = Some(
                    Timestamp::from_microsecond(micros)
                        .ok()
                        .ok_or_else(impossible)?,
                );
            }
            tag::CLIENT_IP => {
                self.client_ip = Some(text()?.parse().ok().ok_or_else(impossible)?);
            }
            tag::REQUEST_ID => self.request_id = Some(Arc::from(text()?)),
            tag::COVERAGE => {
                self.coverage = Some(Coverage::parse(text()?).ok_or_else(impossible)?);
            }
            tag::KEY => self.key = Some(Arc::from(text()?)),
            tag::UNVERIFIED => self.unverified = Some(Arc::from(text()?)),
            tag::SCHEMA => self.schema = Some(Arc::from(text()?)),
            tag::BATCH => self.batch = Some(BatchPlace::read(&value).ok_or_else(impossible)?),
            tag::QUARANTINE => self.quarantine = Some(text()?.to_owned()),
            tag::ROUTING_KEY => self.routing_key = Some(text()?.to_owned()),
            tag::CONTENT_TYPE => self.content_type = Some(text()?.to_owned()),
            tag::CONTENT_ENCODING => self.content_encoding = Some(text()?.to_owned()),
            tag::TRACEPARENT => self.traceparent = Some(text()?.to_owned()),
            tag::TRACESTATE => self.tracestate = Some(text()?.to_owned()),
            tag::FORWARDED => {
                let (name, value) = text()?.split_once('\n').ok_or_else(impossible)?;
                self.forwarded.push((name.to_owned(), value.to_owned()));
            }
            tag::BODY => self.body = Some(value),
            tag::ORIGIN_SOURCE => self.origin_source = Some(text()?.to_owned()),
            tag::ORIGIN_SUBJECT => self.origin_subject = Some(text()?.to_owned()),
            tag::ORIGIN_TIME => self.origin_time = Some(text()?.to_owned()),
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<Delivery, DecodeError> {
        Ok(Delivery {
            id: self.id.ok_or(DecodeError::Missing(tag::ID))?,
            source: self.source.ok_or(DecodeError::Missing(tag::SOURCE))?,
            event_id: self.event_id,
            event_type: self.event_type,
            origin: self.origin_source.map(|source| Origin {
                source,
                subject: self.origin_subject,
                time: self.origin_time,
            }),
            received_at: self
                .received_at
                .ok_or(DecodeError::Missing(tag::RECEIVED_AT))?,
            client_ip: self.client_ip.ok_or(DecodeError::Missing(tag::CLIENT_IP))?,
            request_id: self
                .request_id
                .ok_or(DecodeError::Missing(tag::REQUEST_ID))?,
            coverage: self.coverage.ok_or(DecodeError::Missing(tag::COVERAGE))?,
            key: self.key,
            unverified: self.unverified,
            schema: self.schema,
            batch: self.batch,
            lane: self.quarantine.map_or(Lane::Main, Lane::Quarantine),
            routing_key: self
                .routing_key
                .ok_or(DecodeError::Missing(tag::ROUTING_KEY))?,
            content_type: self.content_type,
            content_encoding: self.content_encoding,
            traceparent: self.traceparent,
            tracestate: self.tracestate,
            forwarded: self.forwarded,
            body: self.body.ok_or(DecodeError::Missing(tag::BODY))?,
        })
    }
}

#[cfg(test)]
mod tests;
