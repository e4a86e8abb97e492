//! The books of the senders and of the consumer: what was sent, what was acknowledged, what came
//! out of the queue. They share nothing with the books of the gateways.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// Where the id of a genuine event begins. Anything else that arrives was let in by mistake.
pub(crate) const ID_PREFIX: &str = "soak-";

/// Shared by everybody who sends and by the one who consumes.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Books>);

/// What is known so far.
#[derive(Debug, Default)]
pub(crate) struct Books {
    events: HashMap<u64, Event>,
    next: u64,
    /// How often what happened.
    pub(crate) counts: Counts,
    /// What accepted answers took.
    pub(crate) latencies: Vec<Duration>,
    /// What must never happen, in words; the first few.
    pub(crate) wrong: Vec<String>,
}

/// One genuine event.
#[derive(Debug)]
struct Event {
    digest: [u8; 32],
    /// Answered 2xx.
    acknowledged: bool,
    /// Answered from the journal: then all its copies have one message id.
    one_id: bool,
    message_id: Option<String>,
}

/// Numbers for the table.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Genuine requests, repetitions among them.
    pub(crate) requests: u64,
    /// Events answered 2xx.
    pub(crate) acknowledged: u64,
    /// Answers that asked to come again (503).
    pub(crate) asked_again: u64,
    /// Requests whose connection ended before the answer.
    pub(crate) unanswered: u64,
    /// Events that their sender gave up.
    pub(crate) given_up: u64,
    /// Copies sent on purpose, and answered 2xx.
    pub(crate) copies: u64,
    /// Of these, recognised as copies.
    pub(crate) copies_recognised: u64,
    /// Forged, too large or stalling requests that were turned away or cut.
    pub(crate) turned_away: u64,
    /// Messages taken from the queue.
    pub(crate) delivered: u64,
    /// Events among them.
    pub(crate) events_delivered: u64,
    /// Messages that the queue gave out again, because a fault cut the consumer off.
    pub(crate) redelivered: u64,
    /// Messages for an event that had come already, published again.
    pub(crate) duplicates: u64,
    /// Messages that differ from what was sent, or that nobody sent.
    pub(crate) altered: u64,
    /// Messages under another message id than the event's first.
    pub(crate) renamed: u64,
    /// Genuine requests answered 4xx, and forged ones answered 2xx.
    pub(crate) misjudged: u64,
}

/// Most sentences that are kept of what must never happen.
const WRONG_MAX: usize = 20;

impl Ledger {
    /// The books, to read.
    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().expect("no one panics with the books")
    }

    /// A number for an event to be.
    pub(crate) fn number(&self) -> u64 {
        let mut books = self.books();
        books.next += 1;
        books.next
    }

    /// An event is about to be sent.
    pub(crate) fn sends(&self, number: u64, body: &[u8], one_id: bool) {
        let event = Event {
            digest: Sha256::digest(body).into(),
            acknowledged: false,
            one_id,
            message_id: None,
        };
        self.books().events.insert(number, event);
    }

    /// It was answered 2xx.
    pub(crate) fn acknowledged(&self, number: u64, took: Duration) {
        self.acknowledged_slowly(number);
        self.books().latencies.push(took);
    }

    /// The same, after a time that was the sender's doing.
    pub(crate) fn acknowledged_slowly(&self, number: u64) {
        let mut books = self.books();
        books.counts.acknowledged += 1;
        let event = books.events.get_mut(&number).expect("it was sent");
        event.acknowledged = true;
    }

    /// A genuine request was turned away for good, or a forged one let in.
    pub(crate) fn misjudged(&self, what: String) {
        let mut books = self.books();
        books.counts.misjudged += 1;
        books.note(what);
    }

    /// Counts something.
    pub(crate) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.books().counts);
    }

    /// A message came out of the queue.
    pub(crate) fn arrived(&self, event_id: &str, message_id: &str, body: &[u8], redelivered: bool) {
        let digest: [u8; 32] = Sha256::digest(body).into();
        self.books()
            .arrived(event_id, message_id, digest, redelivered);
    }
}

impl Books {
    fn arrived(&mut self, event_id: &str, message_id: &str, digest: [u8; 32], redelivered: bool) {
        self.counts.delivered += 1;
        let number = event_id
            .strip_prefix(ID_PREFIX)
            .and_then(|n| n.parse().ok());
        let event = number.and_then(|n: u64| self.events.get_mut(&n));
        let Some(event) = event.filter(|event| event.digest == digest) else {
            self.counts.altered += 1;
            self.note(format!(
                "message {message_id} for event {event_id:?} is not what was sent"
            ));
            return;
        };
        match &event.message_id {
            None => {
                event.message_id = Some(message_id.to_owned());
                self.counts.events_delivered += 1;
            }
            Some(first) => {
                let renamed = event.one_id && first != message_id;
                if redelivered {
                    self.counts.redelivered += 1;
                } else {
                    self.counts.duplicates += 1;
                }
                if renamed {
                    let note = format!("{event_id} came as {first} and as {message_id}");
                    self.counts.renamed += 1;
                    self.note(note);
                }
            }
        }
    }

    /// Numbers of the events that were acknowledged and did not arrive.
    pub(crate) fn missing(&self) -> Vec<u64> {
        let lost = |event: &Event| event.acknowledged && event.message_id.is_none();
        let mut missing: Vec<_> = self
            .events
            .iter()
            .filter(|(_, event)| lost(event))
            .map(|(number, _)| *number)
            .collect();
        missing.sort_unstable();
        missing
    }

    fn note(&mut self, what: String) {
        if self.wrong.len() < WRONG_MAX {
            self.wrong.push(what);
        }
    }
}
