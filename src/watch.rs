//! What is happening right now, for whoever looks: `hookgate tail` and the console.
//!
//! Nothing is built while nobody listens, and a listener that is too slow loses the oldest; no
//! sender ever waits for one.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::broadcast;

/// How far a listener may fall behind before it loses what is oldest.
pub const BACKLOG_MAX: usize = 1024;

/// One request and how it ended. Never a body, a secret or a signature.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Seen {
    /// When it arrived, RFC 3339.
    pub at: String,
    /// The source's name, if its path was one.
    pub source: Option<Arc<str>>,
    /// `accepted`, `duplicate`, `handshake` or `rejected`.
    pub outcome: &'static str,
    /// The answer's status.
    pub status: u16,
    /// Why it was rejected, a word of a closed set.
    pub reason: Option<&'static str>,
    /// The same for the operator, in words.
    pub detail: Option<String>,
    /// The id of the request, as answered in `X-Request-Id`.
    pub request_id: Arc<str>,
    /// The id of the event, as published in `message_id`.
    pub message_id: Option<String>,
    /// The provider's id.
    pub event_id: Option<String>,
    /// The event's type.
    pub event_type: Option<String>,
    /// The batch's name, where the request was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// How many of its events are new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<usize>,
    /// How many of its events had come before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies: Option<usize>,
    /// Label of the secret that matched.
    pub key: Option<Arc<str>>,
    /// Who sent it, after trusted proxies.
    pub client_ip: IpAddr,
    /// The method.
    pub method: String,
    /// The path, shortened.
    pub path: String,
    /// Length of the body.
    pub bytes: usize,
    /// From the head to the answer, in milliseconds.
    pub duration_ms: f64,
}

/// Tells listeners. Clones tell the same ones.
#[derive(Clone, Debug)]
pub struct Watch(broadcast::Sender<Arc<Seen>>);

/// Listens, from the moment it was made.
pub type Listener = broadcast::Receiver<Arc<Seen>>;

impl Watch {
    /// Nobody listens yet.
    pub fn new() -> Self {
        Self(broadcast::Sender::new(BACKLOG_MAX))
    }

    /// Tells listeners, if there are any.
    pub fn tell(&self, seen: impl FnOnce() -> Seen) {
        if self.0.receiver_count() == 0 {
            return;
        }
        // The last listener may have gone in this moment, and that is fine.
        drop(self.0.send(Arc::new(seen())));
    }

    /// Listens to what comes from now on.
    pub fn listen(&self) -> Listener {
        self.0.subscribe()
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}
