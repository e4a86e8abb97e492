//! One connection at a time, for ever: connect, publish, collect proofs, and begin again.
//!
//! "One connection, one life": lapin's own recovery is not used, because it takes a refused login
//! for recoverable, gives up after some attempts and does not reopen a channel that the broker
//! closed. Here any trouble ends the connection, everything without a proof stays, and the next
//! connection publishes it again.
//!
//! When the broker closes a channel or connection for a message, it does not say which one. So
//! what was in flight is published again one at a time; what closes it alone is the culprit.

mod fate;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::backoff::RECONNECT;
use super::broker::{Broker, Connection, Failure, Notice};
use super::direct::Gate;
use super::health::Lamp;
use super::item::{Item, Origin};
use super::lane::Lane;
use super::message::Shape;
use super::urls::Node;
use super::wire::{Sent, Wire};
use crate::metrics::{Metrics, WayMetrics};

/// Events taken from a queue at once.
const BATCH: usize = 256;
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Connections in a row that ended without a single answer to what was published: the messages
/// may be why.
const BARREN_MAX: u32 = 3;
/// A connection that lived this long did its duty, even without an event to publish.
const LONG_LIFE: Duration = Duration::from_secs(30);

/// Whose trouble it is that an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blame {
    /// Its queue's, or that of a queue which is missing: others may well be taken.
    Route,
    /// Nobody's in particular.
    Connection,
}

/// What a sender who waits is refused with.
const LATE: &str = "the broker did not confirm in time";

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Publishes without an answer.
    pub(super) in_flight_max: usize,
    /// Their bytes; one always fits.
    pub(super) bytes_max: usize,
    /// A confirm later than this counts as lost.
    pub(super) confirm_timeout: Duration,
}

/// What a link shares with the rest of the publisher.
#[derive(Debug)]
pub(super) struct Ports {
    /// Events from the journal, as many as the window holds.
    pub(super) feed: mpsc::Receiver<Box<Item>>,
    /// Events whose senders wait.
    pub(super) direct: mpsc::Receiver<Box<Item>>,
    /// Open while such events are taken.
    pub(super) gate: Arc<Gate>,
    /// For health.
    pub(super) lamp: Lamp,
    /// What is counted for links of its kind.
    pub(super) way: WayMetrics,
    /// And for all.
    pub(super) metrics: Arc<Metrics>,
}

type ChannelOf<B> = <<B as Broker>::Connection as Connection>::Channel;

/// Keeps one connection and publishes over it.
pub(super) struct Link<B: Broker> {
    broker: Arc<B>,
    nodes: Arc<[Node]>,
    shape: Shape,
    bounds: Bounds,
    ports: Ports,
    main: Lane<ChannelOf<B>>,
    quarantine: Lane<ChannelOf<B>>,
    /// Events that are tried again at their time; the window bounds them.
    waiting: Vec<(Instant, Box<Item>)>,
    /// See [`BARREN_MAX`].
    barren: u32,
    in_flight_shown: usize,
    /// When an event that was not taken was last spoken of.
    complained_at: Option<Instant>,
}

/// The state of one connection.
#[derive(Debug)]
struct Session {
    since: Instant,
    /// When publishes could first be expected to move: later than they were sent if the broker
    /// blocked the connection.
    moving_since: Instant,
    blocked: bool,
    /// No event is sent any more; since when.
    draining: Option<Instant>,
    answers: u64,
    /// When the last answer came.
    answered_at: Instant,
    /// Somebody may still hand in events whose senders wait.
    has_senders: bool,
}

/// How a connection ended.
struct End {
    /// For the log.
    what: &'static str,
    /// `None`: the gateway stops.
    failure: Option<Failure>,
    /// It was of use, so the next attempt need not wait long.
    productive: bool,
}

impl<B: Broker> Link<B> {
    pub(super) fn new(
        broker: Arc<B>,
        nodes: Arc<[Node]>,
        shape: Shape,
        bounds: Bounds,
        ports: Ports,
    ) -> Self {
        Self {
            broker,
            nodes,
            shape,
            bounds,
            ports,
            main: Lane::new("main"),
            quarantine: Lane::new("quarantine"),
            waiting: Vec::new(),
            barren: 0,
            complained_at: None,
            in_flight_shown: 0,
        }
    }

    /// Publishes until it is told to stop; then takes no more events, gives those in flight their
    /// time, and closes the connection.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let nodes = Arc::clone(&self.nodes);
        let mut failures = 0u32;
        for node in nodes.iter().cycle() {
            let broker = Arc::clone(&self.broker);
            self.ports.lamp.trying(node.address());
            let connected = self
                .refusing(stop.run_until_cancelled(broker.connect(node)))
                .await;
            let end = match connected {
                None => break,
                Some(Ok(connection)) => self.live(connection, node, &stop).await,
                Some(Err(failure)) => End {
                    what: "cannot connect to the broker; events wait in the journal",
                    failure: Some(failure),
                    productive: false,
                },
            };
            let Some(failure) = end.failure else { break };
            failures = if end.productive { 1 } else { failures + 1 };
            // The other nodes are tried at once.
            let rounds = u32::try_from(nodes.len()).map_or(failures, |nodes| failures / nodes);
            let retry_in = RECONNECT.delay(rounds, fastrand::f64());
            self.ports.lamp.failed(&failure.text);
            tracing::warn!(
                node = node.address(),
                error = %failure,
                retry_in_ms = u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX),
                "{}",
                end.what
            );
            let paused = self.refusing(stop.run_until_cancelled(sleep(retry_in)));
            if paused.await.is_none() {
                break;
            }
        }
        self.ports.direct.close();
    }

    /// Waits for something while there is no connection: senders who wait are refused.
    async fn refusing<T>(&mut self, wait: impl Future<Output = T>) -> T {
        let mut wait = std::pin::pin!(wait);
        loop {
            tokio::select! {
                biased;
                done = &mut wait => return done,
                Some(item) = self.ports.direct.recv() => {
                    drop(item.fail("there is no connection to the broker"));
                }
            }
        }
    }

    /// One connection from its first to its last moment.
    async fn live(
        &mut self,
        mut connection: B::Connection,
        node: &Node,
        stop: &CancellationToken,
    ) -> End {
        tracing::info!(
            node = node.address(),
            tls = node.is_tls(),
            "connected to the broker"
        );
        self.ports.way.connected.increment(1.0);
        self.ports.lamp.connected();
        self.ports.gate.open();
        self.main.awake();
        self.quarantine.awake();
        let now = Instant::now();
        let mut session = Session {
            since: now,
            moving_since: now,
            blocked: false,
            draining: None,
            answers: 0,
            answered_at: now,
            has_senders: true,
        };

        let failure = self.publish(&mut connection, &mut session, stop).await;

        self.ports.gate.close();
        self.ports.way.connected.decrement(1.0);
        self.mark_unblocked(&mut session);
        if let Some(failure) = &failure {
            self.ports.metrics.publisher.reconnects.increment(1);
            self.lost(failure, &session, connection.is_up());
        }
        self.end_wires();
        self.show_in_flight();
        self.ports.lamp.disconnected();
        self.refusing(connection.close()).await;
        End {
            what: "the connection to the broker ended; another one is made",
            failure,
            productive: session.answers > 0 || session.since.elapsed() >= LONG_LIFE,
        }
    }

    /// Publishes over a connection until it fails, or `None` when all is settled after a stop.
    async fn publish(
        &mut self,
        connection: &mut B::Connection,
        session: &mut Session,
        stop: &CancellationToken,
    ) -> Option<Failure> {
        let mut fed = Vec::with_capacity(BATCH);
        let mut direct = Vec::with_capacity(BATCH);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Err(failure) = self.send_all(connection, session).await {
                return Some(failure);
            }
            self.show_in_flight();
            if self.is_drained(session) {
                return None;
            }
            let draining = session.draining.is_some();
            let open = !draining && !session.blocked;
            let direct_fits = open && session.has_senders && self.direct_waiting() < BATCH;
            tokio::select! {
                () = stop.cancelled(), if !draining => self.drain(session),
                () = answers(&mut self.main, &mut self.quarantine) => {
                    if let Err(failure) = self.settle(connection, session) {
                        return Some(failure);
                    }
                }
                notice = connection.notice() => match notice {
                    Notice::Blocked(reason) => self.block(session, &reason),
                    Notice::Unblocked => self.unblock(session),
                    Notice::Failed(failure) if !connection.is_up() => return Some(failure),
                    // A channel: its publishes say so themselves.
                    Notice::Failed(_) => {}
                },
                taken = self.ports.feed.recv_many(&mut fed, BATCH), if open => {
                    if taken == 0 {
                        self.drain(session);
                    }
                    fed.drain(..).for_each(|item| self.lane_of(&item).add(item));
                }
                taken = self.ports.direct.recv_many(&mut direct, BATCH), if direct_fits => {
                    session.has_senders = taken > 0;
                    direct.drain(..).for_each(|item| self.lane_of(&item).add(item));
                }
                _ = ticks.tick() => {
                    if let Err(failure) = self.look_at_the_clock(connection, session) {
                        return Some(failure);
                    }
                }
            }
        }
    }

    // === sending ===

    /// Opens the channels that are needed and sends what may be sent.
    async fn send_all(
        &mut self,
        connection: &mut B::Connection,
        session: &mut Session,
    ) -> Result<(), Failure> {
        if session.blocked || session.draining.is_some() {
            return Ok(());
        }
        let mut opened = false;
        for lane in [&mut self.main, &mut self.quarantine] {
            if !lane.wants_channel(Instant::now()) {
                continue;
            }
            opened = true;
            let channel = connection.open(lane.is_failing()).await;
            // That may have taken its time, which counts for nothing that is sent after it.
            let now = Instant::now();
            match channel {
                Ok(channel) => lane.wire = Some(Wire::new(channel, now)),
                // A refusal is about what the channel needs. Without an answer nothing is left of the
                // connection but its socket, which may stay open for as long as heartbeats allow.
                Err(failure) if connection.is_up() && failure.code.is_some() => {
                    tracing::warn!(lane = lane.name, error = %failure, "no channel to the broker");
                    self.ports.lamp.failed(&failure.text);
                    lane.failed(now, fastrand::f64());
                }
                Err(failure) => return Err(failure),
            }
        }
        if opened {
            // Answers that came meanwhile are not late.
            let come = answers(&mut self.main, &mut self.quarantine).now_or_never();
            if come.is_some() {
                self.settle(connection, session)?;
            }
        }
        let now = Instant::now();
        while let Some(item) = self.next() {
            self.send(item, now);
        }
        Ok(())
    }

    fn next(&mut self) -> Option<Box<Item>> {
        let in_flight = self.in_flight();
        let bytes = self.main.bytes_in_flight() + self.quarantine.bytes_in_flight();
        let full = in_flight >= self.bounds.in_flight_max || bytes >= self.bounds.bytes_max;
        let alone = self.main.endangers_connection() || self.quarantine.endangers_connection();
        if in_flight > 0 && (full || alone) {
            return None;
        }
        self.main.next().or_else(|| self.quarantine.next())
    }

    fn send(&mut self, mut item: Box<Item>, now: Instant) {
        item.attempts = item.attempts.saturating_add(1);
        let message = match self.shape.message(&item.delivery, item.attempts) {
            Ok(message) => message,
            Err(reason) => return Self::refuse(item, reason),
        };
        match &mut self.lane_of(&item).wire {
            Some(wire) => wire.send(message, item, now),
            None => self.lane_of(&item).put_back([item].into_iter()),
        }
    }

    // === deadlines ===

    fn look_at_the_clock(
        &mut self,
        connection: &B::Connection,
        session: &Session,
    ) -> Result<(), Failure> {
        let now = Instant::now();
        self.wake(now);
        self.answer_late(now);
        if !connection.is_up() {
            return Err(Failure::new("the connection ended"));
        }
        if session.blocked {
            return Ok(());
        }
        self.leave_refusing(now);
        let mut late = Vec::new();
        let mut stuck = false;
        let timeout = self.bounds.confirm_timeout;
        for quarantined in [false, true] {
            if let Some(wire) = &mut self.lane(quarantined).wire {
                if now.duration_since(session.moving_since) > timeout {
                    late.extend(now.checked_sub(timeout).map(|since| wire.overdue(since)));
                }
                stuck |= wire.is_stuck(session.moving_since, now);
            }
        }
        let late: Vec<Sent> = late.into_iter().flatten().collect();
        let timed_out = !late.is_empty();
        for sent in late {
            self.ports.metrics.publisher.timeouts.increment(1);
            // The broker answered others meanwhile: a queue without its majority, say. An event of
            // a lot may have no others beside it that are answered, and goes to the end of the lot.
            let since = sent.at.max(session.moving_since);
            let others_went = session.answered_at >= since + timeout / 2;
            let is_of_lot = matches!(&sent.item.origin, Origin::Journal(it) if it.is_of_lot());
            let blame = if others_went || is_of_lot {
                Blame::Route
            } else {
                Blame::Connection
            };
            self.try_later(sent.item, LATE, blame, now);
        }
        if timed_out {
            return Err(Failure::new(format_args!(
                "a confirm did not come within {timeout:?}"
            )));
        }
        if stuck {
            return Err(Failure::new("publishes do not leave the socket"));
        }
        Ok(())
    }

    /// Events whose time to be tried again has come.
    fn wake(&mut self, now: Instant) {
        let due: Vec<_> = self.waiting.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, item) in due {
            self.lane_of(&item).add(item);
        }
    }

    /// Senders who waited too long.
    fn answer_late(&mut self, now: Instant) {
        for quarantined in [false, true] {
            let lane = self.lane(quarantined);
            // In the order in which they came, so the late ones stand first.
            let unsent = lane.unsent_direct();
            while let Some(item) = unsent.pop_front_if(|item| item.is_late(now)) {
                drop(item.fail(LATE));
            }
            let sent = lane.wire.iter_mut().flat_map(Wire::items_mut);
            for item in sent.filter(|item| item.is_late(now)) {
                if let Origin::Direct(waiter) = &mut item.origin {
                    waiter.answer(Err(LATE.to_owned()));
                }
            }
        }
    }

    // === blocked, draining ===

    fn block(&mut self, session: &mut Session, reason: &str) {
        if session.blocked {
            return;
        }
        session.blocked = true;
        tracing::warn!(
            reason,
            "the broker takes no publishes for now; events wait in the journal"
        );
        self.ports.way.blocked.increment(1.0);
        self.ports.lamp.blocked(true);
        self.ports.gate.close();
        self.refuse_direct("the broker takes no publishes for now");
    }

    fn unblock(&mut self, session: &mut Session) {
        if !session.blocked {
            return;
        }
        self.mark_unblocked(session);
        session.moving_since = Instant::now();
        tracing::info!("the broker takes publishes again");
        if session.draining.is_none() {
            self.ports.gate.open();
        }
    }

    fn mark_unblocked(&self, session: &mut Session) {
        if std::mem::take(&mut session.blocked) {
            self.ports.way.blocked.decrement(1.0);
            self.ports.lamp.blocked(false);
        }
    }

    fn drain(&mut self, session: &mut Session) {
        session.draining.get_or_insert(Instant::now());
        self.ports.gate.close();
        self.refuse_direct("the gateway is stopping");
    }

    fn is_drained(&self, session: &Session) -> bool {
        session.draining.is_some_and(|since| {
            self.in_flight() == 0
                || session.blocked
                || since.elapsed() >= self.bounds.confirm_timeout
        })
    }

    fn refuse_direct(&mut self, reason: &str) {
        for quarantined in [false, true] {
            for item in self.lane(quarantined).unsent_direct().drain(..) {
                drop(item.fail(reason));
            }
        }
        while let Ok(item) = self.ports.direct.try_recv() {
            drop(item.fail(reason));
        }
    }

    // === small change ===

    fn lane(&mut self, quarantined: bool) -> &mut Lane<ChannelOf<B>> {
        if quarantined {
            &mut self.quarantine
        } else {
            &mut self.main
        }
    }

    fn lane_of(&mut self, item: &Item) -> &mut Lane<ChannelOf<B>> {
        self.lane(item.is_quarantined())
    }

    fn in_flight(&self) -> usize {
        self.main.in_flight() + self.quarantine.in_flight()
    }

    fn direct_waiting(&mut self) -> usize {
        self.main.unsent_direct().len() + self.quarantine.unsent_direct().len()
    }

    fn end_wires(&mut self) {
        self.main.wire = None;
        self.quarantine.wire = None;
    }

    /// The gauge is shared by all links, so each adds its own change.
    fn show_in_flight(&mut self) {
        let in_flight = self.in_flight();
        if in_flight != self.in_flight_shown {
            let small = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            let change = small(in_flight) - small(self.in_flight_shown);
            self.ports.metrics.publisher.in_flight.increment(change);
            self.in_flight_shown = in_flight;
        }
    }
}

/// Waits until there are answers to judge on a channel.
async fn answers<C: super::broker::Channel>(main: &mut Lane<C>, quarantine: &mut Lane<C>) {
    poll_fn(|context| {
        // Both, always: each keeps the waker.
        let main = main.poll_answers(context);
        let quarantine = quarantine.poll_answers(context);
        if main || quarantine {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
