//! Where an event becomes safe: on stable storage, or confirmed by the broker.
//!
//! The pipeline waits for safety only until its deadline; the write goes on without it. So what
//! must outlive the request, the claim on the event's id and the count of late events, travels
//! with the write and is settled there.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::delivery::Delivery;
use crate::journal::{AppendError, Journal, Position};
use crate::metrics::Metrics;
use crate::pipeline::dedupe::Fresh;
use crate::reject::Reject;
use crate::source::Ack;

/// The broker as `ack = "broker"` sees it. One implementation publishes, one in tests says what
/// it is told to.
pub trait Confirming: Send + Sync {
    /// Publishes an event. `done` is called exactly once: when the broker has confirmed it, or
    /// with why it did not, for the log; the sender is told to try again.
    fn publish(&self, delivery: Delivery, done: Confirmed);
}

/// Called once, when the broker's verdict on an event is known.
pub type Confirmed = Box<dyn FnOnce(Result<(), String>) + Send>;

/// Where events become safe.
#[derive(Clone)]
pub struct Store {
    journal: Journal,
    broker: Option<Arc<dyn Confirming>>,
    is_stuck: IsStuck,
    metrics: Arc<Metrics>,
}

/// Whether so many events of a source wait for queues that do not take them that no more are
/// accepted: its senders are told to come back, and nobody else's.
pub type IsStuck = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Who was first: the event became safe, or its sender was told 503.
#[derive(Debug)]
struct Race(AtomicU8);

const RUNNING: u8 = 0;
const SAFE: u8 = 1;
const GIVEN_UP: u8 = 2;

impl Race {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU8::new(RUNNING)))
    }

    /// True for the one that comes first.
    fn win(&self, outcome: u8) -> bool {
        self.0
            .compare_exchange(RUNNING, outcome, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

impl Store {
    /// `broker` is there when a source asks for `ack = "broker"`.
    pub fn new(
        journal: Journal,
        broker: Option<Arc<dyn Confirming>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            journal,
            broker,
            is_stuck: Arc::new(|_| false),
            metrics,
        }
    }

    /// The same, and accepts nothing for the journal of sources that are stuck.
    #[must_use]
    pub fn refusing(self, is_stuck: IsStuck) -> Self {
        Self { is_stuck, ..self }
    }

    /// Makes an event safe and commits its claim.
    ///
    /// # Errors
    ///
    /// Always our own trouble: 503.
    pub async fn keep(
        &self,
        ack: Ack,
        delivery: Delivery,
        fresh: Fresh,
        deadline: Instant,
    ) -> Result<Uuid, Reject> {
        if ack == Ack::Journal && (self.is_stuck)(&delivery.source) {
            return Err(Reject::JournalFull);
        }
        let id = delivery.id;
        let race = Race::new();
        let (tell, told) = oneshot::channel();
        let settle = self.settlement(&delivery, fresh, Arc::clone(&race), tell);
        match ack {
            Ack::Journal => {
                let done = Box::new(move |fate: Result<Position, AppendError>| {
                    settle(fate.map(drop).map_err(|error| match error {
                        AppendError::Full => Reject::JournalFull,
                        // No body that configuration lets in is longer than a record may be.
                        AppendError::Busy | AppendError::TooLarge => Reject::Overloaded,
                        AppendError::Failed(_) => Reject::JournalFailed,
                        AppendError::Closed => Reject::Draining,
                    }));
                });
                self.journal
                    .append(delivery.encode(), delivery.received_at, done);
            }
            Ack::Broker => {
                let Some(broker) = &self.broker else {
                    return Err(Reject::BrokerUnavailable);
                };
                let done = Box::new(move |verdict: Result<(), String>| {
                    settle(verdict.map_err(|error| {
                        // The request's own line says that it was turned away.
                        tracing::debug!(%error, "the broker did not confirm");
                        Reject::BrokerUnavailable
                    }));
                });
                broker.publish(delivery, done);
            }
        }
        match timeout_at(deadline, told).await {
            Ok(Ok(fate)) => fate.map(|()| id),
            // Whoever had it ended without an answer: the process is about to end.
            Ok(Err(_closed)) => Err(match ack {
                Ack::Journal => Reject::JournalFailed,
                Ack::Broker => Reject::BrokerUnavailable,
            }),
            Err(_elapsed) if race.win(GIVEN_UP) => Err(Reject::TooSlow),
            // It became safe in the same moment.
            Err(_elapsed) => Ok(id),
        }
    }

    /// What happens once the event's fate is known, whoever still waits for it.
    fn settlement(
        &self,
        delivery: &Delivery,
        fresh: Fresh,
        race: Arc<Race>,
        tell: oneshot::Sender<Result<(), Reject>>,
    ) -> impl FnOnce(Result<(), Reject>) + Send + 'static {
        let id = delivery.id;
        let late = self.metrics.source(Some(&delivery.source)).late.clone();
        move |fate| {
            if fate.is_ok() {
                fresh.commit(id);
                if !race.win(SAFE) {
                    late.increment(1);
                }
            }
            // Nobody listens after the deadline, and that is fine.
            drop(tell.send(fate));
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("broker", &self.broker.is_some())
            .finish_non_exhaustive()
    }
}
