//! One configured sender with everything that a request needs. Made by `config`; cannot be wrong.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use ipnet::IpNet;

use crate::pipeline::arrival::BodyBounds;
use crate::pipeline::decode::{DuplicateKeys, Format};
use crate::pipeline::expr::Expr;
use crate::pipeline::handshake::Handshake;
use crate::pipeline::limit::{PeerLimit, SourceLimit};
use crate::pipeline::routing::RoutingKey;
use crate::pipeline::schema::SchemaSet;
use crate::pipeline::verify::Verifier;

/// A configured sender.
#[derive(Debug)]
pub struct Source {
    /// Its name in `gateway.toml`: `[a-z0-9_-]`, at most 64 bytes.
    pub name: Arc<str>,
    /// The built-in provider it was made from.
    pub provider: Option<String>,
    /// The URL's path, byte for byte.
    pub path: String,
    /// Methods it takes.
    pub methods: Vec<Method>,
    /// Networks that may send; empty means anyone.
    pub allow_ips: Vec<IpNet>,
    /// Per client address, before verification.
    pub peer_limit: Option<PeerLimit>,
    /// Longest body and how long it may take.
    pub body: BodyBounds,
    /// Requests that are answered by rule.
    pub handshakes: Vec<Handshake>,
    /// How the sender proves itself.
    pub verifier: Verifier,
    /// `false`: a failed proof is counted and marked, but let through.
    pub enforce: bool,
    /// On verified traffic.
    pub limit: Option<SourceLimit>,
    /// What bodies it takes.
    pub format: Format,
    /// What becomes of JSON in which a key is there twice.
    pub duplicate_keys: DuplicateKeys,
    /// Where the provider's event id stands; the first that is there.
    pub event_id: Vec<Expr>,
    /// Where the event's type stands; the first that is there.
    pub event_type: Vec<Expr>,
    /// What a body must look like.
    pub schemas: Option<SchemaSet>,
    /// What becomes of an authentic body that does not.
    pub on_invalid: OnInvalid,
    /// How long an event id is recognised.
    pub dedupe: Option<Duration>,
    /// The message's routing key.
    pub routing_key: RoutingKey,
    /// When an event counts as safe.
    pub ack: Ack,
    /// Request headers to copy, with their names in the message.
    pub forward_headers: Vec<(HeaderName, String)>,
    /// What an accepted event is answered.
    pub reply: Reply,
}

/// What becomes of an authentic event that violates its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnInvalid {
    /// 422.
    Reject,
    /// Accepted, and published to the quarantine exchange with the reason.
    Quarantine,
}

/// When an event counts as safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Written to the journal and synced: survives `kill -9` and a power cut.
    Journal,
    /// Confirmed by the broker: survives what the broker's queues survive.
    Broker,
}

/// What an accepted event is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 299.
    pub status: http::StatusCode,
    /// `None`: `{"status":"accepted","id":"..."}`. `Some("")`: an empty body.
    pub body: Option<String>,
    /// `Content-Type` of `body`.
    pub content_type: Option<String>,
}
