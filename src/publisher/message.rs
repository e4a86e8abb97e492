//! What a consumer receives: a delivery as an AMQP message.
//!
//! The body is the sender's bytes. Headers are scalars, and no name begins with `x-`: RabbitMQ 4
//! drops or renames the others for AMQP 1.0 and stream consumers. Names of the sender's choosing
//! never become header names; a header called `CC` would route a copy to any queue.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use crate::config::Broker;
use crate::delivery::{BatchPlace, Delivery, Lane, REASON_BYTES_MAX, cut};

/// Most bytes of encoded headers. RabbitMQ closes the whole connection over a header frame of
/// more than `frame_max`, 128 KiB as it ships.
const HEADERS_BYTES_MAX: usize = 64 * 1024;
/// What every forwarded request header is called.
const FORWARDED_PREFIX: &str = "http_";
/// The attempt that most messages need.
pub(super) const FIRST_ATTEMPT: u32 = 1;
const PERSISTENT: u8 = 2;
const APP_ID: &str = "hookgate";

/// An AMQP message, ready to publish.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
}

/// What messages of one configuration have in common.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    exchange: ShortString,
    quarantine: ShortString,
    cloudevents: Option<String>,
}

/// The name of the exchange for deliveries that violate their schema.
pub(super) fn quarantine_name(exchange: &str) -> String {
    format!("{exchange}.quarantine")
}

/// The name of the exchange and queue for events that no queue is bound for.
pub(super) fn unrouted_name(exchange: &str) -> String {
    format!("{exchange}.unrouted")
}

impl Shape {
    /// What a configuration says about messages.
    ///
    /// # Errors
    ///
    /// A name that AMQP cannot carry.
    pub(super) fn new(config: &Broker) -> Result<Self, String> {
        Ok(Self {
            exchange: name("broker.exchange", config.exchange.clone())?,
            quarantine: name("broker.exchange", quarantine_name(&config.exchange))?,
            cloudevents: config.cloudevents.clone(),
        })
    }

    /// What a configuration says that changes nothing.
    ///
    /// # Errors
    ///
    /// None in fact: the names are constants.
    pub(super) fn usual() -> Result<Self, String> {
        Ok(Self {
            exchange: name("broker.exchange", "hookgate".to_owned())?,
            quarantine: name("broker.exchange", quarantine_name("hookgate"))?,
            cloudevents: Some("cloudEvents_".to_owned()),
        })
    }

    /// The message of a delivery; `attempt` counts from [`FIRST_ATTEMPT`].
    ///
    /// # Errors
    ///
    /// Why this delivery can never be a message.
    pub(super) fn message(&self, delivery: &Delivery, attempt: u32) -> Result<Message, String> {
        let exchange = match delivery.lane {
            Lane::Main => &self.exchange,
            Lane::Quarantine(_) => &self.quarantine,
        };
        let routing_key = name("routing key", delivery.routing_key.clone())?;
        let headers = self.headers(delivery, attempt)?;
        Ok(Message {
            exchange: exchange.clone(),
            routing_key,
            properties: properties(delivery, headers),
            body: delivery.body.clone(),
        })
    }

    fn headers(&self, delivery: &Delivery, attempt: u32) -> Result<FieldTable, String> {
        let mut headers = self.own_headers(delivery, attempt);
        if headers.bytes > HEADERS_BYTES_MAX {
            return Err(format!(
                "its headers take {} bytes, at most {HEADERS_BYTES_MAX} can be published",
                headers.bytes
            ));
        }
        let forwarded: Vec<_> = delivery
            .forwarded
            .iter()
            .filter(|(name, _)| name.starts_with(FORWARDED_PREFIX))
            .collect();
        let forwarded_bytes: usize = forwarded
            .iter()
            .map(|(name, value)| Headers::text_bytes(name, value))
            .sum();
        if headers.bytes + forwarded_bytes > HEADERS_BYTES_MAX {
            tracing::warn!(
                source = %delivery.source,
                id = %delivery.id,
                bytes = forwarded_bytes,
                "forwarded request headers are too long for a message and were left out"
            );
            return Ok(headers.table);
        }
        for (name, value) in forwarded {
            headers.text(name, value);
        }
        Ok(headers.table)
    }

    fn own_headers(&self, delivery: &Delivery, attempt: u32) -> Headers {
        let received_at = format!("{:.6}", delivery.received_at);
        let mut headers = Headers::default();
        if let Some(prefix) = &self.cloudevents {
            cloudevents(&mut headers, prefix, delivery, &received_at);
        }
        headers.text("hookgate_source", &*delivery.source);
        headers.optional("hookgate_event_id", delivery.event_id.as_deref());
        headers.text("hookgate_received_at", received_at);
        headers.text("hookgate_client_ip", delivery.client_ip.to_string());
        headers.text("hookgate_request_id", &*delivery.request_id);
        headers.text("hookgate_verified", delivery.coverage.label());
        headers.optional("hookgate_key", delivery.key.as_deref());
        headers.optional("hookgate_unverified", delivery.unverified.as_deref());
        headers.optional("hookgate_schema", delivery.schema.as_deref());
        if let Some(BatchPlace { name, index, size }) = &delivery.batch {
            headers.text("hookgate_batch", &**name);
            headers.number("hookgate_batch_index", *index);
            headers.number("hookgate_batch_size", *size);
        }
        headers.number("hookgate_attempt", attempt);
        if let Lane::Quarantine(reason) = &delivery.lane {
            headers.text("hookgate_quarantine", cut(reason, REASON_BYTES_MAX));
        }
        headers.optional("traceparent", delivery.traceparent.as_deref());
        headers.optional("tracestate", delivery.tracestate.as_deref());
        headers
    }
}

/// Context attributes of CloudEvents 1.0, in binary mode. `datacontenttype` is `content_type`.
fn cloudevents(headers: &mut Headers, prefix: &str, delivery: &Delivery, time: &str) {
    let event_type = delivery
        .event_type
        .as_deref()
        .filter(|name| !name.is_empty());
    let event_type = event_type.map_or_else(|| format!("{}.event", delivery.source), attribute);
    let event_id = delivery.event_id.as_deref().filter(|id| !id.is_empty());
    let event_id = event_id.map_or_else(|| delivery.id.to_string(), attribute);
    let mut set = |name: &str, value: String| headers.text(format!("{prefix}{name}"), value);
    set("specversion", "1.0".to_owned());
    set("id", event_id);
    // A URI reference; names of sources need no escaping in it.
    let own = || format!("/hookgate/{}", delivery.source);
    let origin = delivery.origin.as_ref();
    let source = origin.map_or_else(own, |origin| attribute(&origin.source));
    set("source", source);
    set("type", event_type);
    let of_origin = origin.and_then(|origin| origin.time.as_deref());
    set("time", attribute(of_origin.unwrap_or(time)));
    if let Some(subject) = origin.and_then(|origin| origin.subject.as_deref()) {
        set("subject", attribute(subject));
    }
}

/// CloudEvents allows no control characters in a string.
fn attribute(value: &str) -> String {
    value.replace(char::is_control, "_")
}

fn properties(delivery: &Delivery, headers: FieldTable) -> BasicProperties {
    let mut properties = BasicProperties::default()
        .with_headers(headers)
        .with_delivery_mode(PERSISTENT);
    // The broker refuses nothing here for its content, but these fields hold 255 bytes at most.
    if let Some(value) = delivery.content_type.as_deref().and_then(short) {
        properties = properties.with_content_type(value);
    }
    if let Some(value) = delivery.content_encoding.as_deref().and_then(short) {
        properties = properties.with_content_encoding(value);
    }
    if let Some(value) = delivery.event_type.as_deref().and_then(short) {
        properties = properties.with_type(value);
    }
    if let Some(value) = short(delivery.id.to_string()) {
        properties = properties.with_message_id(value);
    }
    if let Some(value) = short(APP_ID) {
        properties = properties.with_app_id(value);
    }
    match u64::try_from(delivery.received_at.as_second()) {
        Ok(seconds) => properties.with_timestamp(seconds),
        Err(_before_1970) => properties,
    }
}

/// A text that fits a short string; nothing else becomes one, because lapin's conversions panic
/// on longer ones.
fn short(value: impl Into<String>) -> Option<ShortString> {
    ShortString::try_new(value).ok()
}

/// A name that AMQP can carry.
pub(super) fn name(what: &str, value: String) -> Result<ShortString, String> {
    let length = value.len();
    ShortString::try_new(value)
        .map_err(|_too_long| format!("{what} is {length} bytes long, AMQP carries at most 255"))
}

/// A header table that knows how long it is on the wire.
#[derive(Default)]
struct Headers {
    table: FieldTable,
    bytes: usize,
}

impl Headers {
    fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// What is owned already is not copied: an event has a dozen of these.
    fn text(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        self.bytes += Self::text_bytes(&name, &value);
        self.insert(name, AMQPValue::LongString(LongString::from(value)));
    }

    fn number(&mut self, name: &str, value: u32) {
        self.bytes += Self::HEAD_BYTES + name.len() + size_of::<u32>();
        self.insert(name, AMQPValue::LongUInt(value));
    }

    /// The length of the name and the type of the value.
    const HEAD_BYTES: usize = 2;

    fn text_bytes(name: &str, value: &str) -> usize {
        Self::HEAD_BYTES + name.len() + size_of::<u32>() + value.len()
    }

    /// A name that is too long for AMQP, or that the broker would act on, is no header.
    fn insert(&mut self, name: impl Into<String>, value: AMQPValue) {
        let name = name.into();
        if name.starts_with("x-") {
            return;
        }
        if let Some(name) = short(name) {
            self.table.insert(name, value);
        }
    }
}
