//! What becomes of events once the broker has spoken, or the connection has ended without a word.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{BARREN_MAX, Blame, Link, Session};
use crate::publisher::backoff::RETRY;
use crate::publisher::broker::{Broker, Connection as _, Failure};
use crate::publisher::item::{Item, Origin, Report, Suspicion, Ticket};
use crate::publisher::pairing::Verdict;
use crate::publisher::wire::{Sent, Wire};

/// One of so many events that may be in flight may wait to be tried again in its place.
const WAITING_SHARE: usize = 4;
/// How often one of the events that are not taken is spoken of.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

impl<B: Broker> Link<B> {
    // === answers ===

    pub(super) fn settle(
        &mut self,
        connection: &B::Connection,
        session: &mut Session,
    ) -> Result<(), Failure> {
        let now = Instant::now();
        for quarantined in [false, true] {
            let Some(wire) = &mut self.lane(quarantined).wire else {
                continue;
            };
            let round = wire.judge();
            for (sent, verdict) in round.verdicts {
                session.answers += 1;
                session.answered_at = now;
                self.judged(sent, verdict, now);
            }
            match round.failure {
                None => {}
                Some(failure) if connection.is_up() => self.lane_failed(quarantined, &failure),
                Some(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    fn judged(&mut self, sent: Sent, verdict: Verdict, now: Instant) {
        let metrics = &self.ports.metrics.publisher;
        let mut item = sent.item;
        let mut blame = Blame::Route;
        let trouble = match verdict {
            Verdict::Safe => {
                metrics.acks.increment(1);
                let waited = now.duration_since(sent.at);
                metrics.confirm_duration.record(waited.as_secs_f64());
                return self.published(item);
            }
            Verdict::Nacked => {
                metrics.nacks.increment(1);
                let may_be_the_channel = self.lane_of(&item).refused(now);
                if may_be_the_channel && !std::mem::replace(&mut item.excused, true) {
                    blame = Blame::Connection;
                }
                "the broker refused it for now (nack)"
            }
            Verdict::Returned => {
                metrics.returns.increment(1);
                "no queue is bound for it"
            }
            Verdict::Unknown => {
                metrics.returns.increment(1);
                blame = Blame::Connection;
                "its confirm came with another event's return"
            }
        };
        // There may be very many of them, so each is only counted, and one speaks for the others.
        let routing_key = &item.delivery.routing_key;
        self.ports.lamp.failed(&format!(
            "an event with routing key {routing_key}: {trouble}"
        ));
        if self
            .complained_at
            .is_none_or(|at| now - at >= COMPLAIN_EVERY)
        {
            self.complained_at = Some(now);
            tracing::warn!(
                id = %item.delivery.id,
                source = %item.delivery.source,
                routing_key,
                attempt = item.attempts,
                "not published: {trouble}; it stays in the journal and is tried again, and others \
                 like it"
            );
        }
        self.lane_of(&item).succeeded();
        self.try_later(item, trouble, blame, now);
    }

    /// An event from the journal is tried again after a while that grows; a sender who waits is
    /// told. One that only its route is to blame for does not wait here for long, and not at all
    /// while many do: they would take up the room of events that go elsewhere.
    pub(super) fn try_later(
        &mut self,
        mut item: Box<Item>,
        trouble: &str,
        blame: Blame,
        now: Instant,
    ) {
        item.setbacks = item.setbacks.saturating_add(1);
        let delay = RETRY.delay(item.setbacks, fastrand::f64());
        let Some(item) = item.fail(trouble) else {
            return;
        };
        let crowded = self.waiting.len() >= self.bounds.in_flight_max / WAITING_SHARE;
        let leaves = blame == Blame::Route
            && matches!(&item.origin, Origin::Journal(ticket)
                if crowded || item.setbacks > ticket.setbacks_max);
        if leaves {
            item.leave();
        } else {
            self.waiting.push((now + delay, item));
        }
    }

    fn published(&mut self, mut item: Box<Item>) {
        self.lane_of(&item).succeeded();
        let counts = match &mut item.origin {
            Origin::Journal(ticket) => {
                let report = Report::Published(ticket.record.position);
                Ticket::report(&ticket.reports, report);
                true
            }
            // One who was told that it took too long will send it again.
            Origin::Direct(waiter) => waiter.answer(Ok(())),
        };
        if counts {
            self.ports.way.published.increment(1);
        }
    }

    /// An event that can never be published.
    pub(super) fn refuse(item: Box<Item>, reason: String) {
        if let Some(item) = item.fail(&reason)
            && let Origin::Journal(ticket) = item.origin
        {
            Ticket::report(&ticket.reports, Report::Refused(ticket.record, reason));
        }
    }

    // === failures ===

    /// The broker closed one channel.
    fn lane_failed(&mut self, quarantined: bool, failure: &Failure) {
        let items = self.take_in_flight(quarantined);
        let lane = self.lane(quarantined);
        lane.failed(Instant::now(), fastrand::f64());
        tracing::warn!(
            lane = lane.name,
            in_flight = items.len(),
            error = %failure,
            "the broker closed a channel"
        );
        self.ports.lamp.failed(&failure.text);
        let alone = items.len() == 1;
        self.suspect(items, failure, alone, Suspicion::Channel);
    }

    /// The connection ended, or is `given_up` although it is up: everything without an answer is
    /// published again on the next one.
    pub(super) fn lost(&mut self, failure: &Failure, session: &Session, given_up: bool) {
        let in_flight = self.in_flight();
        let cut = !given_up && failure.code.is_none();
        let barren = cut && in_flight > 0 && session.answers == 0;
        self.barren = if barren { self.barren + 1 } else { 0 };
        let blamed = failure.blames_message() || self.barren >= BARREN_MAX;
        for quarantined in [false, true] {
            if blamed {
                let items = self.take_in_flight(quarantined);
                let alone = in_flight == 1;
                self.suspect(items, failure, alone, Suspicion::Connection);
            } else {
                self.put_back_in_flight(quarantined, &failure.text);
            }
        }
    }

    /// Leaves channels that refuse: see [`Wire::refused`].
    pub(super) fn leave_refusing(&mut self, now: Instant) {
        for quarantined in [false, true] {
            let wire = self.lane(quarantined).wire.as_ref();
            if wire.is_some_and(|wire| wire.is_left(now)) {
                self.put_back_in_flight(quarantined, "the channel refused events for too long");
            }
        }
    }

    /// Ends a channel; what was in flight on it is published again on the next one.
    fn put_back_in_flight(&mut self, quarantined: bool, why: &str) {
        let items = self.take_in_flight(quarantined);
        let errors = u64::try_from(items.len()).unwrap_or(u64::MAX);
        self.ports.metrics.publisher.errors.increment(errors);
        let kept = items.into_iter().filter_map(|item| item.fail(why));
        self.lane(quarantined).put_back(kept);
    }

    /// Ends a channel; gives what was in flight on it.
    fn take_in_flight(&mut self, quarantined: bool) -> VecDeque<Box<Item>> {
        let wire = self.lane(quarantined).wire.take();
        wire.map_or_else(VecDeque::new, Wire::into_items)
    }

    /// One of these, or the only one, is what the channel or connection was closed for.
    fn suspect(
        &mut self,
        items: VecDeque<Box<Item>>,
        failure: &Failure,
        alone: bool,
        suspicion: Suspicion,
    ) {
        let mut kept = Vec::with_capacity(items.len());
        for item in items {
            self.ports.metrics.publisher.errors.increment(1);
            let Some(mut item) = item.fail(&failure.text) else {
                continue;
            };
            item.suspicion = item.suspicion.max(suspicion);
            if !alone {
                kept.push(item);
            } else if failure.blames_message() && item.strike() {
                Self::refuse(item, failure.text.clone());
            } else {
                let now = Instant::now();
                self.try_later(item, &failure.text, Blame::Connection, now);
            }
        }
        for item in kept.into_iter().rev() {
            self.lane_of(&item).put_back([item].into_iter());
        }
    }
}
