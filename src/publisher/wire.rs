//! One channel with its publishes in flight.

use std::collections::VecDeque;
use std::fmt;
use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::broker::{Channel, Failure};
use super::confirms::Confirms;
use super::item::Item;
use super::message::Message;
use super::pairing::{Pairing, Verdict};

/// A publish that has not reached the socket by then never will.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// A channel of this age that refuses an event is left for a new one.
pub(super) const REFUSING_AGE: Duration = Duration::from_secs(3);
/// What is still in flight on it has this long.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// A channel and what was published on it without an answer.
pub(super) struct Wire<C> {
    channel: C,
    confirms: Confirms,
    pairing: Pairing,
    /// In the order sent. Answers come in any order, so answered ones leave holes; the first is
    /// none.
    sent: VecDeque<Option<Sent>>,
    /// The number of the first.
    first: u64,
    in_flight: usize,
    bytes: usize,
    written: u64,
    written_at: Instant,
    opened_at: Instant,
    /// Since when nothing more is sent over it: see [`Self::refused`].
    leaving_since: Option<Instant>,
}

/// An event that was published.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) item: Box<Item>,
    pub(super) at: Instant,
}

/// What a round of answers says.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) verdicts: Vec<(Sent, Verdict)>,
    /// The channel ended. What is in flight stays so.
    pub(super) failure: Option<Failure>,
}

impl<C: Channel> Wire<C> {
    pub(super) fn new(channel: C, now: Instant) -> Self {
        Self {
            channel,
            confirms: Confirms::new(),
            pairing: Pairing::default(),
            sent: VecDeque::new(),
            first: 0,
            in_flight: 0,
            bytes: 0,
            written: 0,
            written_at: now,
            opened_at: now,
            leaving_since: None,
        }
    }

    /// Publishes without waiting.
    pub(super) fn send(&mut self, message: Message, item: Box<Item>, now: Instant) {
        let number = self.next_number();
        self.in_flight += 1;
        self.bytes += item.bytes();
        self.sent.push_back(Some(Sent { item, at: now }));
        self.confirms.push(number, self.channel.publish(message));
    }

    /// Publishes without an answer.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Their bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// True if there are answers to [`Self::judge`].
    pub(super) fn poll_answers(&mut self, context: &Context<'_>) -> bool {
        self.confirms.poll_all(context)
    }

    /// Judges the answers that have come.
    pub(super) fn judge(&mut self) -> Round {
        let mut failure = None;
        let mut numbers = Vec::new();
        let mut receipts = Vec::new();
        for (number, answer) in self.confirms.take() {
            match answer {
                Err(error) => failure = failure.or(Some(error)),
                Ok(receipt) => {
                    let sent = self.slot(number).and_then(|slot| slot.as_ref());
                    if let Some(sent) = sent {
                        receipts.push((sent.item.delivery.id, receipt));
                        numbers.push(number);
                    }
                }
            }
        }
        let judged = self.pairing.judge(&receipts);
        let verdicts = numbers.into_iter().zip(judged);
        let verdicts = verdicts
            .filter_map(|(number, verdict)| Some((self.remove(number)?, verdict)))
            .collect();
        Round { verdicts, failure }
    }

    /// Takes out what was sent before `since`.
    pub(super) fn overdue(&mut self, since: Instant) -> Vec<Sent> {
        let mut overdue = Vec::new();
        let end = self.next_number();
        for number in self.first..end {
            match self.slot(number) {
                Some(Some(sent)) if sent.at > since => break,
                Some(Some(_)) => overdue.extend(self.remove(number)),
                Some(None) | None => {}
            }
        }
        overdue
    }

    /// Whether publishes wait for the socket without any progress; `moving_since` is when
    /// progress could first be expected.
    pub(super) fn is_stuck(&mut self, moving_since: Instant, now: Instant) -> bool {
        let written = self.channel.written();
        if written != self.written || written >= self.next_number() {
            self.written = written;
            self.written_at = now;
        }
        now.duration_since(self.written_at.max(moving_since)) > WRITE_TIMEOUT
    }

    /// The broker refused an event for now, and perhaps on this channel only. RabbitMQ 3.10 binds
    /// a channel to a quorum queue's leader at its first publish to the queue. If that node has
    /// just died, everything is refused on the channel until the node is back, while a new
    /// channel finds the new leader.
    pub(super) fn refused(&mut self, now: Instant) -> bool {
        if now.duration_since(self.opened_at) >= REFUSING_AGE {
            self.leaving_since.get_or_insert(now);
        }
        self.is_leaving()
    }

    /// Whether nothing more is to be sent over it.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving_since.is_some()
    }

    /// Whether it can go.
    pub(super) fn is_left(&self, now: Instant) -> bool {
        self.leaving_since
            .is_some_and(|since| self.in_flight == 0 || now.duration_since(since) > LEAVE_TIMEOUT)
    }

    /// Events without an answer.
    pub(super) fn items(&self) -> impl Iterator<Item = &Item> {
        self.sent.iter().flatten().map(|sent| &*sent.item)
    }

    /// The same, to answer their senders.
    pub(super) fn items_mut(&mut self) -> impl Iterator<Item = &mut Box<Item>> {
        self.sent.iter_mut().flatten().map(|sent| &mut sent.item)
    }

    /// Ends the channel; gives back the events without an answer, in the order sent.
    pub(super) fn into_items(self) -> VecDeque<Box<Item>> {
        let sent = self.sent.into_iter().flatten();
        sent.map(|sent| sent.item).collect()
    }

    fn next_number(&self) -> u64 {
        self.first + self.sent.len() as u64
    }

    fn slot(&mut self, number: u64) -> Option<&mut Option<Sent>> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.sent.get_mut(index)
    }

    fn remove(&mut self, number: u64) -> Option<Sent> {
        let sent = self.slot(number)?.take()?;
        self.in_flight -= 1;
        self.bytes -= sent.item.bytes();
        while let Some(None) = self.sent.front() {
            self.sent.pop_front();
            self.first += 1;
        }
        Some(sent)
    }
}

impl<C> fmt::Debug for Wire<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("in_flight", &self.in_flight)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
