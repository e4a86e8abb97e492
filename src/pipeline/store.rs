//! Where an event becomes safe: on stable storage, or confirmed by the broker.
//!
//! The pipeline waits for safety only until its deadline; the write goes on without it. So what
//! must outlive the request, the claim on the event's id and the count of late events, travels
//! with the write and is settled there.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::Counter;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

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

/// How many of a request's events are safe, and whether its sender still waits to hear of it.
#[derive(Debug)]
struct Tally {
    state: Mutex<TallyState>,
    all: usize,
    late: Counter,
}

#[derive(Debug, Default)]
struct TallyState {
    safe: usize,
    given_up: bool,
}

impl Tally {
    /// Counts events that have become safe; they are late if their sender was told 503 already.
    fn add_safe(&self, events: usize) {
        let mut state = self.lock();
        if state.given_up {
            self.late.increment(count(events));
        } else {
            state.safe += events;
        }
    }

    /// The sender is to be told 503. False if everything became safe in this moment; else what is
    /// safe already, or becomes so, is late.
    fn give_up(&self) -> bool {
        let mut state = self.lock();
        if state.safe == self.all {
            return false;
        }
        state.given_up = true;
        self.late.increment(count(state.safe));
        true
    }

    fn lock(&self) -> MutexGuard<'_, TallyState> {
        // Nothing under this lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(events: usize) -> u64 {
    u64::try_from(events).unwrap_or(u64::MAX)
}

/// So many events of a batch are with the broker at once, so that one batch does not take all the
/// places there are.
const WITH_BROKER_MAX: usize = 64;

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

    /// Makes the events of one request safe and commits their claims. They share a fate, but the
    /// broker takes them one by one: if it stops half way, those that it has confirmed are known,
    /// and only the others are published when the request comes again.
    ///
    /// # Errors
    ///
    /// Our own trouble: 503; or a batch that would never find room: [`Reject::BatchTooLarge`].
    pub async fn keep(
        &self,
        ack: Ack,
        events: Vec<(Delivery, Fresh)>,
        deadline: Instant,
    ) -> Result<(), Reject> {
        let Some((first, _)) = events.first() else {
            return Ok(());
        };
        if ack == Ack::Journal && (self.is_stuck)(&first.source) {
            return Err(Reject::QueuesFull);
        }
        let tally = Arc::new(Tally {
            state: Mutex::default(),
            all: events.len(),
            late: self.metrics.source(Some(&first.source)).late.clone(),
        });
        let kept = match ack {
            Ack::Journal => self.write(events, &tally, deadline).await,
            Ack::Broker => self.publish(events, &tally, deadline).await,
        };
        match kept {
            Err(reject) if tally.give_up() => Err(reject),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Hands all events to the journal at once, and waits until they are on stable storage.
    async fn write(
        &self,
        events: Vec<(Delivery, Fresh)>,
        tally: &Arc<Tally>,
        deadline: Instant,
    ) -> Result<(), Reject> {
        let received_at = events.first().map(|(first, _)| first.received_at);
        let received_at = received_at.unwrap_or_default();
        let size = events.len();
        let (tell, told) = oneshot::channel();
        let (records, claims): (Vec<_>, Vec<_>) = events
            .into_iter()
            .map(|(delivery, fresh)| (delivery.encode(), (delivery.id, fresh)))
            .unzip();
        let tally = Arc::clone(tally);
        let done = Box::new(move |fate: Result<Position, AppendError>| {
            let fate = fate.map(drop).map_err(|error| match error {
                AppendError::Full => Reject::JournalFull,
                AppendError::TooLarge if size > 1 => Reject::BatchTooLarge(size - 1),
                // No body that configuration lets in is longer than a record may be.
                AppendError::Busy | AppendError::TooLarge => Reject::Overloaded,
                AppendError::Failed(_) => Reject::JournalFailed,
                AppendError::Closed => Reject::Draining,
            });
            if fate.is_ok() {
                for (id, fresh) in claims {
                    fresh.commit(id);
                }
                tally.add_safe(size);
            }
            // Nobody listens after the deadline, and that is fine.
            drop(tell.send(fate));
        });
        self.journal.append_group(records, received_at, done);
        wait(told, deadline, Reject::JournalFailed).await
    }

    /// Publishes events in their order, and waits until the broker has confirmed them.
    async fn publish(
        &self,
        events: Vec<(Delivery, Fresh)>,
        tally: &Arc<Tally>,
        deadline: Instant,
    ) -> Result<(), Reject> {
        let Some(broker) = &self.broker else {
            return Err(Reject::BrokerUnavailable);
        };
        let mut waiting = VecDeque::new();
        for (delivery, fresh) in events {
            if waiting.len() >= WITH_BROKER_MAX
                && let Some(first) = waiting.pop_front()
            {
                wait(first, deadline, Reject::BrokerUnavailable).await?;
            }
            let (tell, told) = oneshot::channel();
            let (id, tally) = (delivery.id, Arc::clone(tally));
            let done = Box::new(move |verdict: Result<(), String>| {
                let fate = verdict.map_err(|error| {
                    // The request's own line says that it was turned away.
                    tracing::debug!(%error, "the broker did not confirm");
                    Reject::BrokerUnavailable
                });
                if fate.is_ok() {
                    fresh.commit(id);
                    tally.add_safe(1);
                }
                drop(tell.send(fate));
            });
            broker.publish(delivery, done);
            waiting.push_back(told);
        }
        for told in waiting {
            wait(told, deadline, Reject::BrokerUnavailable).await?;
        }
        Ok(())
    }
}

/// Waits for a fate. `ended`: what it means if nobody tells it, because the process is about to
/// end.
async fn wait(
    told: oneshot::Receiver<Result<(), Reject>>,
    deadline: Instant,
    ended: Reject,
) -> Result<(), Reject> {
    match timeout_at(deadline, told).await {
        Ok(Ok(fate)) => fate,
        Ok(Err(_closed)) => Err(ended),
        Err(_elapsed) => Err(Reject::TooSlow),
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("broker", &self.broker.is_some())
            .finish_non_exhaustive()
    }
}
