//! An event on its way to the broker.

use std::fmt;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::delivery::{Delivery, Lane};
use crate::journal::{Position, Record};
use crate::pipeline::store::Confirmed;

/// A lone event that ended its channel or connection this often is set aside.
const STRIKES_MAX: u32 = 3;

/// An event with its history.
#[derive(Debug)]
pub(super) struct Item {
    /// What is published.
    pub(super) delivery: Delivery,
    /// Who waits for it.
    pub(super) origin: Origin,
    /// How often it was published.
    pub(super) attempts: u32,
    /// How often it was refused, returned, late or lone in a failure: its retry delay.
    pub(super) setbacks: u32,
    /// How often it was proved to be what the broker closed a channel for.
    strikes: u32,
    /// What it may do when it is published.
    pub(super) suspicion: Suspicion,
    /// Whether a refusal of it was put down to its channel once.
    pub(super) excused: bool,
}

/// Who waits for an event to be published.
#[derive(Debug)]
pub(super) enum Origin {
    /// A journal: it is tried again until it is published, set aside or moved into a lot.
    Journal(Ticket),
    /// A sender (`ack = "broker"`): it is tried once.
    Direct(Waiter),
}

/// An event's place in a journal, and the way back to its feed.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) record: Record,
    /// Has room for one report about each event on its way.
    pub(super) reports: mpsc::Sender<Report>,
    /// An event that its queue did not take more often is moved into a lot; one of a lot, to the
    /// lot's end at once.
    pub(super) setbacks_max: u32,
}

/// What an event is suspected of. A suspect is published with nothing beside it that could be
/// blamed instead or be lost with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Suspicion {
    /// Nothing.
    #[default]
    None,
    /// The broker may close the channel for it.
    Channel,
    /// The broker may close the connection for it.
    Connection,
}

/// What became of an event from the journal. Each gets exactly one, or stays in the journal.
#[derive(Debug)]
pub(super) enum Report {
    /// The broker has it.
    Published(Position),
    /// The broker refuses it for its own sake, and why.
    Refused(Record, String),
    /// Its queue does not take it; and how often it was published.
    NotTaken(Box<Delivery>, Record, u32),
}

impl Ticket {
    /// Whether its journal is a lot.
    pub(super) fn is_of_lot(&self) -> bool {
        self.setbacks_max == 0
    }

    /// There is room for a report about every event of the window; and when nobody listens, the
    /// gateway stops and the event stays in the journal.
    pub(super) fn report(reports: &mpsc::Sender<Report>, report: Report) {
        drop(reports.try_send(report));
    }
}

/// A sender who waits. Answered exactly once, whatever happens to it.
pub(super) struct Waiter {
    done: Option<Confirmed>,
    /// When the sender is told that it took too long.
    pub(super) deadline: Instant,
}

impl Item {
    pub(super) fn new(delivery: Delivery, origin: Origin) -> Box<Self> {
        Box::new(Self {
            delivery,
            origin,
            attempts: 0,
            setbacks: 0,
            strikes: 0,
            suspicion: Suspicion::None,
            excused: false,
        })
    }

    pub(super) fn is_quarantined(&self) -> bool {
        matches!(self.delivery.lane, Lane::Quarantine(_))
    }

    /// Bytes that it keeps in memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.delivery.body.len()
    }

    /// It was alone when the broker closed a channel for it. True if that is once too often.
    pub(super) fn strike(&mut self) -> bool {
        self.strikes += 1;
        self.strikes >= STRIKES_MAX
    }

    /// Whether a sender has waited too long for it.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        matches!(&self.origin, Origin::Direct(waiter) if waiter.deadline <= now)
    }

    /// Gives it back to its feed: its queue does not take it.
    pub(super) fn leave(self) {
        if let Origin::Journal(ticket) = self.origin {
            let delivery = Box::new(self.delivery);
            let report = Report::NotTaken(delivery, ticket.record, self.attempts);
            Ticket::report(&ticket.reports, report);
        }
    }

    /// Tells a sender who waits that it was not published; anybody else keeps the item.
    pub(super) fn fail(mut self: Box<Self>, reason: &str) -> Option<Box<Self>> {
        match &mut self.origin {
            Origin::Journal(_) => Some(self),
            Origin::Direct(waiter) => {
                waiter.answer(Err(reason.to_owned()));
                None
            }
        }
    }
}

impl Waiter {
    pub(super) fn new(done: Confirmed, deadline: Instant) -> Self {
        Self {
            done: Some(done),
            deadline,
        }
    }

    /// Answers; false if it was answered already.
    pub(super) fn answer(&mut self, verdict: Result<(), String>) -> bool {
        match self.done.take() {
            Some(done) => {
                done(verdict);
                true
            }
            None => false,
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.answer(Err("the gateway is stopping".to_owned()));
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter")
            .field("answered", &self.done.is_none())
            .finish_non_exhaustive()
    }
}
