//! What is happening right now, for whoever looks: `hookgate tail` and the console.
//!
//! Nothing is built while nobody listens, and a listener that is too slow loses the oldest; no
//! sender ever waits for one. The requests themselves are kept while somebody saves those that are
//! turned away, and then only a few, until they are told: what is in them is the sender's.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use crate::pipeline::arrival::Inbound;

/// How far a listener may fall behind before it loses what is oldest.
pub const BACKLOG_MAX: usize = 1024;
/// Longest request that is kept, in bytes.
pub const REQUEST_BYTES_MAX: usize = 4 << 20;
/// Most bytes of requests that are kept at once, for all listeners together.
pub const REQUESTS_BYTES_MAX: usize = 16 << 20;
/// Most listeners at once that requests are kept for.
pub const SAVERS_MAX: usize = 4;

/// What listeners hear.
#[derive(Debug)]
pub struct Told {
    /// What was seen of a request.
    pub seen: Seen,
    /// The request itself, where somebody wants it.
    pub request: Option<Kept>,
}

/// A request as it came, for whoever saves those that are turned away.
#[derive(Debug)]
pub enum Kept {
    /// In the form that `explain` reads.
    Whole(Whole),
    /// It, or what is kept already, is too long; a word for which.
    Not(&'static str),
}

/// A request's bytes, and the room that they take.
pub struct Whole {
    /// See [`Inbound::written`].
    pub bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl fmt::Debug for Whole {
    /// How long it is: what is in it is the sender's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

/// Somebody saves requests, until this is dropped.
#[derive(Debug)]
pub struct Saver(#[expect(dead_code, reason = "it is held")] OwnedSemaphorePermit);

/// One request and how it ended. Never a body, a secret or a signature.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Seen {
    /// When it arrived, RFC 3339.
    pub at: String,
    /// The source's name, if its path was one.
    pub source: Option<Arc<str>>,
    /// `accepted`, `quarantined`, `unverified` (let through by `enforce = false`), `duplicate`,
    /// `handshake` or `rejected`.
    pub outcome: &'static str,
    /// The answer's status.
    pub status: u16,
    /// Why it is not simply accepted, a word of a closed set.
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
    /// How many of its events went to quarantine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<usize>,
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
pub struct Watch {
    told: broadcast::Sender<Arc<Told>>,
    /// One for each that may still begin to save requests.
    savers: Arc<Semaphore>,
    /// One for each byte that may still be kept.
    room: Arc<Semaphore>,
}

/// Listens, from the moment it was made.
pub type Listener = broadcast::Receiver<Arc<Told>>;

impl Watch {
    /// Nobody listens yet.
    pub fn new() -> Self {
        Self {
            told: broadcast::Sender::new(BACKLOG_MAX),
            savers: Arc::new(Semaphore::new(SAVERS_MAX)),
            room: Arc::new(Semaphore::new(REQUESTS_BYTES_MAX)),
        }
    }

    /// Tells listeners, if there are any. `request`: what was turned away, where that is so.
    pub fn tell(&self, request: Option<&Inbound>, seen: impl FnOnce() -> Seen) {
        if self.told.receiver_count() == 0 {
            return;
        }
        let request = request.filter(|_| self.is_saving());
        let told = Told {
            seen: seen(),
            request: request.map(|request| self.keep(request)),
        };
        // The last listener may have gone in this moment, and that is fine.
        drop(self.told.send(Arc::new(told)));
    }

    /// Listens to what comes from now on.
    pub fn listen(&self) -> Listener {
        self.told.subscribe()
    }

    /// Has requests kept for a listener. `None`: too many do.
    pub fn save(&self) -> Option<Saver> {
        let place = Arc::clone(&self.savers).try_acquire_owned();
        place.ok().map(Saver)
    }

    /// Whether somebody saves requests.
    pub fn is_saving(&self) -> bool {
        self.savers.available_permits() < SAVERS_MAX
    }

    /// A copy: the body's own memory may be part of something much larger.
    fn keep(&self, request: &Inbound) -> Kept {
        if request.body.len() > REQUEST_BYTES_MAX {
            return Kept::Not("too_long");
        }
        let bytes = request.written();
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        match Arc::clone(&self.room).try_acquire_many_owned(length) {
            Ok(room) => Kept::Whole(Whole {
                bytes: Bytes::from(bytes),
                _room: room,
            }),
            Err(_full) => Kept::Not("too_many"),
        }
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::arrival::Head;

    fn seen() -> Seen {
        Seen {
            at: String::new(),
            source: None,
            outcome: "rejected",
            status: 401,
            reason: None,
            detail: None,
            request_id: Arc::from(""),
            message_id: None,
            event_id: None,
            event_type: None,
            batch: None,
            events: None,
            copies: None,
            quarantined: None,
            key: None,
            client_ip: IpAddr::from([127, 0, 0, 1]),
            method: String::new(),
            path: String::new(),
            bytes: 0,
            duration_ms: 0.0,
        }
    }

    /// What a listener hears of a request with a body of so many bytes.
    fn tell(watch: &Watch, bytes: usize) {
        let head = Head {
            method: http::Method::POST,
            path: "/shop".to_owned(),
            query: None,
            headers: http::HeaderMap::new(),
            client_ip: IpAddr::from([127, 0, 0, 1]),
            request_id: Arc::from(""),
            certificate: None,
        };
        let body = Bytes::from(vec![b'x'; bytes]);
        watch.tell(Some(&Inbound { head, body }), seen);
    }

    #[test]
    fn requests_are_kept_while_somebody_saves_them() {
        let watch = Watch::new();
        let mut listener = watch.listen();
        tell(&watch, 3);
        assert!(listener.try_recv().unwrap().request.is_none());
        let saver = watch.save().unwrap();
        tell(&watch, 3);
        let told = listener.try_recv().unwrap();
        let Some(Kept::Whole(whole)) = &told.request else {
            panic!("{told:?}");
        };
        assert!(whole.bytes.ends_with(b"\r\ncontent-length: 3\r\n\r\nxxx"));
        assert!(!format!("{told:?}").contains("xxx"));
        drop(saver);
        tell(&watch, 3);
        assert!(listener.try_recv().unwrap().request.is_none());
        let savers: Vec<_> = (0..SAVERS_MAX).map(|_| watch.save().unwrap()).collect();
        assert!(watch.save().is_none());
        drop(savers);
        assert!(watch.save().is_some());
    }

    #[test]
    fn not_more_is_kept_than_there_is_room_for() {
        let watch = Watch::new();
        let _saver = watch.save().unwrap();
        let mut listener = watch.listen();
        let mut kept = || match &listener.try_recv().unwrap().request {
            Some(Kept::Whole(_)) => "whole",
            Some(Kept::Not(why)) => why,
            None => "nothing",
        };
        tell(&watch, REQUEST_BYTES_MAX + 1);
        assert_eq!(kept(), "too_long");
        let whole = REQUESTS_BYTES_MAX / REQUEST_BYTES_MAX - 1;
        for _ in 0..whole {
            tell(&watch, REQUEST_BYTES_MAX);
        }
        tell(&watch, REQUEST_BYTES_MAX);
        for _ in 0..whole {
            assert_eq!(kept(), "whole");
        }
        // Its head is too much; and once they were heard, there is room again.
        assert_eq!(kept(), "too_many");
        tell(&watch, REQUEST_BYTES_MAX);
        assert_eq!(kept(), "whole");
    }
}
