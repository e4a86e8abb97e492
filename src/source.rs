//! One configured sender with everything that a request needs. Made by `config`; cannot be wrong.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};

use crate::config::Ranges;
use crate::pipeline::arrival::BodyBounds;
use crate::pipeline::decode::Reading;
use crate::pipeline::expr::Expr;
use crate::pipeline::handshake::enrolment::Enrolment;
use crate::pipeline::handshake::{self, Handshake};
use crate::pipeline::limit::{PeerLimit, SourceLimit};
use crate::pipeline::networks::AllowIps;
use crate::pipeline::routing::RoutingKey;
use crate::pipeline::schema::SchemaSet;
use crate::pipeline::split::Split;
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
    /// Methods that events come with; handshakes have their own.
    pub methods: Vec<Method>,
    /// Networks that may send.
    pub allow_ips: AllowIps,
    /// Where those are written, for when that changes.
    pub ranges: Ranges,
    /// Per client address, before verification.
    pub peer_limit: Option<PeerLimit>,
    /// Longest body and how long it may take.
    pub body: BodyBounds,
    /// Requests that are answered by rule.
    pub handshakes: Vec<Handshake>,
    /// How the sender proves itself. Without a key where the secret is enrolled: see
    /// [`Source::verifier`].
    pub verifier: Verifier,
    /// Labels of its secrets, in the order of the configuration.
    pub secret_labels: Vec<Arc<str>>,
    /// Where the secret comes in a handshake.
    pub enrolment: Option<Arc<Enrolment>>,
    /// `false`: a failed proof is counted and marked, but let through.
    pub enforce: bool,
    /// Whether handshakes are finished by calling what they name.
    pub confirms: bool,
    /// On verified traffic.
    pub limit: Option<SourceLimit>,
    /// How its bodies are read.
    pub reading: Reading,
    /// Where the events of a batch stand, if a request can bring several.
    pub split: Option<Split>,
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
    /// Whether who is turned away gets a problem document, or a status and nothing else.
    pub problems: bool,
}

/// A verifier, for as long as somebody looks at it.
#[derive(Debug)]
pub enum Current<'a> {
    /// The configured one.
    Configured(&'a Verifier),
    /// The one of an enrolled secret, which another may replace at any time.
    Enrolled(Arc<Verifier>),
}

impl Deref for Current<'_> {
    type Target = Verifier;

    fn deref(&self) -> &Verifier {
        match self {
            Self::Configured(verifier) => verifier,
            Self::Enrolled(verifier) => verifier,
        }
    }
}

impl Source {
    /// Whether requests for this path come here: its own, or one that a handshake of it has.
    pub fn listens_at(&self, path: &str) -> bool {
        self.path == path || handshake::is_own_path(&self.handshakes, path)
    }

    /// What proves the sender now.
    pub fn verifier(&self) -> Current<'_> {
        let enrolled = self.enrolment.as_ref();
        match enrolled.and_then(|enrolment| enrolment.verifier()) {
            Some(verifier) => Current::Enrolled(verifier),
            None => Current::Configured(&self.verifier),
        }
    }
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
