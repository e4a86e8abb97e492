//! The events for one exchange on one connection: those that wait, those that are suspected, and
//! the channel they go over.

use std::collections::VecDeque;
use std::task::Context;

use tokio::time::Instant;

use super::backoff::RECONNECT;
use super::broker::Channel;
use super::item::{Item, Origin, Suspicion};
use super::wire::Wire;

/// One exchange's share of a connection. It outlives channels and connections.
#[derive(Debug)]
pub(super) struct Lane<C> {
    /// For the log.
    pub(super) name: &'static str,
    /// The channel, while there is one.
    pub(super) wire: Option<Wire<C>>,
    /// Events whose senders wait.
    direct: VecDeque<Box<Item>>,
    /// Events from the journal.
    ready: VecDeque<Box<Item>>,
    /// Events to be published one at a time.
    suspects: VecDeque<Box<Item>>,
    /// A suspect is in flight.
    probing: bool,
    /// Times in a row that the channel failed without having taken anything.
    failures: u32,
    /// No channel is opened before.
    rests_until: Option<Instant>,
}

impl<C: Channel> Lane<C> {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            wire: None,
            direct: VecDeque::new(),
            ready: VecDeque::new(),
            suspects: VecDeque::new(),
            probing: false,
            failures: 0,
            rests_until: None,
        }
    }

    /// An event that came in, or whose time to be tried again has come.
    pub(super) fn add(&mut self, item: Box<Item>) {
        match (item.suspicion, &item.origin) {
            (Suspicion::None, Origin::Direct(_)) => self.direct.push_back(item),
            (Suspicion::None, Origin::Journal(_)) => self.ready.push_back(item),
            (Suspicion::Channel | Suspicion::Connection, _) => self.suspects.push_back(item),
        }
    }

    /// Events that were in flight, in the order sent, go before those that were not.
    pub(super) fn put_back(&mut self, items: impl DoubleEndedIterator<Item = Box<Item>>) {
        for item in items.rev() {
            match item.suspicion {
                Suspicion::None => self.ready.push_front(item),
                Suspicion::Channel | Suspicion::Connection => self.suspects.push_front(item),
            }
        }
    }

    /// The next event to publish. A suspect goes out when nothing is in flight here, and nothing
    /// goes out beside it.
    pub(super) fn next(&mut self) -> Option<Box<Item>> {
        let wire = self.wire.as_ref()?;
        if wire.is_leaving() {
            return None;
        }
        let in_flight = wire.in_flight();
        self.probing &= in_flight > 0;
        if self.probing {
            return None;
        }
        if self.suspects.is_empty() {
            return self.direct.pop_front().or_else(|| self.ready.pop_front());
        }
        if in_flight > 0 {
            return None;
        }
        self.probing = true;
        self.suspects.pop_front()
    }

    /// Whether an event here may end the whole connection.
    pub(super) fn endangers_connection(&self) -> bool {
        let dangerous = |item: &Item| item.suspicion == Suspicion::Connection;
        self.suspects.iter().any(|item| dangerous(item))
            || (self.probing
                && self
                    .wire
                    .as_ref()
                    .is_some_and(|wire| wire.items().any(dangerous)))
    }

    /// Whether a channel should be opened.
    pub(super) fn wants_channel(&self, now: Instant) -> bool {
        let has_work =
            !(self.direct.is_empty() && self.ready.is_empty() && self.suspects.is_empty());
        self.wire.is_none() && has_work && self.rests_until.is_none_or(|until| until <= now)
    }

    /// Whether the channel failed before: what it needs may be missing.
    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// The channel failed, or was not opened: the next one is opened at once the first time, and
    /// later and later after that.
    pub(super) fn failed(&mut self, now: Instant, random: f64) {
        self.rests_until = Some(now + RECONNECT.delay(self.failures, random));
        self.failures += 1;
    }

    /// The channel took an event.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The broker refused an event for now. Whether the channel may be to blame, which is left then.
    pub(super) fn refused(&mut self, now: Instant) -> bool {
        let wire = self.wire.as_mut();
        wire.is_some_and(|wire| wire.refused(now))
    }

    /// A new connection begins.
    pub(super) fn awake(&mut self) {
        self.rests_until = None;
        self.probing = false;
    }

    pub(super) fn in_flight(&self) -> usize {
        self.wire.as_ref().map_or(0, Wire::in_flight)
    }

    pub(super) fn bytes_in_flight(&self) -> usize {
        self.wire.as_ref().map_or(0, Wire::bytes)
    }

    /// True if there are answers to judge.
    pub(super) fn poll_answers(&mut self, context: &Context<'_>) -> bool {
        self.wire
            .as_mut()
            .is_some_and(|wire| wire.poll_answers(context))
    }

    /// Events of senders who wait, that were not published.
    pub(super) fn unsent_direct(&mut self) -> &mut VecDeque<Box<Item>> {
        &mut self.direct
    }
}
