//! Where a gateway keeps events: the journal, and the journals below its directory for those that
//! left it unpublished.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::Ended;
use crate::config::{self, OnDamage};
use crate::journal::{Journal, OpenError, Options, RESERVE_SEGMENTS};
use crate::metrics::{Metrics, observe};
use crate::publisher::{Parked, Replay, Sidings, parked_folder, set_aside_folder};

/// Size of the set-aside journal's files: few events ever come there.
const SET_ASIDE_SEGMENT_BYTES: u64 = 4 << 20;
/// A lot has so much room at least.
const PARKED_BYTES_MIN: u64 = 8 << 20;

/// All of them, open.
#[derive(Clone, Debug)]
pub struct Stores {
    /// Events as they are accepted.
    pub journal: Journal,
    /// Those that cannot be published.
    pub sidings: Sidings,
}

impl Stores {
    /// Opens them; makes what is not there. `see` is shown each event of the journal, and each that
    /// is parked, with the moment at which it was accepted. `stop` ends the opening.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(
        journal: &config::Journal,
        metrics: &Arc<Metrics>,
        stop: &CancellationToken,
        see: &mut dyn FnMut(Timestamp, &[u8]),
    ) -> Result<Self, OpenError> {
        let go_on = || {
            if stop.is_cancelled() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let mut shown = |at: Timestamp, event: &[u8]| {
            see(at, event);
            go_on()
        };
        Ok(Self {
            journal: Journal::open_before(options(journal, metrics), &mut shown)?,
            sidings: Sidings {
                set_aside: Journal::open_before(set_aside_options(journal), &mut |_, _| go_on())?,
                parked: Parked::open(parked_options(journal), &mut shown)?,
            },
        })
    }

    /// What publishes events again that are in them. `stop` ends its beginning.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn replay(
        &self,
        journal: &config::Journal,
        metrics: Arc<Metrics>,
        stop: &CancellationToken,
    ) -> Result<Replay, OpenError> {
        let set_aside = self.sidings.set_aside.clone();
        let path = set_aside_folder(&journal.path);
        Replay::new(self.journal.clone(), set_aside, &path, metrics, stop)
    }

    /// Waits until one of them fails, or ends though nobody closed it.
    pub(super) async fn ended(&self) -> Ended {
        let Self { journal, sidings } = self;
        tokio::select! {
            // A failure says more than an end.
            biased;
            reason = journal.failure() => Ended::Journal(reason),
            reason = sidings.set_aside.failure() => Ended::Journal(reason),
            () = journal.closed() => Ended::Part("the journal"),
            () = sidings.set_aside.closed() => Ended::Part("the journal of events set aside"),
        }
    }

    /// Writes what was handed in, and gives up the locks.
    pub async fn close(&self) {
        for journal in self.all() {
            journal.close().await;
        }
    }

    /// The same, if the disk is in order.
    ///
    /// # Errors
    ///
    /// The disk did not answer by `deadline`, or failed at any time.
    pub(super) async fn close_by(&self, deadline: Instant) -> Result<(), Ended> {
        let all = self.all();
        // Each has until the deadline, however many there are.
        let closed = join_all(all.iter().map(|journal| journal.close_by(deadline))).await;
        let hangs = closed.iter().any(Result::is_err);
        // A disk that hangs decides how to end.
        if hangs {
            return Err(Ended::DiskHangs);
        }
        let failed = all.iter().find_map(|journal| journal.status().failed);
        failed.map_or(Ok(()), |reason| Err(Ended::Journal(reason)))
    }

    fn all(&self) -> Vec<Journal> {
        let mut all = vec![self.journal.clone(), self.sidings.set_aside.clone()];
        all.extend(self.sidings.parked.journals());
        all
    }
}

pub(super) fn options(journal: &config::Journal, metrics: &Arc<Metrics>) -> Options {
    let metrics = Arc::clone(metrics);
    Options {
        path: journal.path.clone(),
        bytes_max: journal.bytes_max,
        segment_bytes: config::journal_segment_bytes(journal.bytes_max),
        retain: journal.retain,
        refuse_damage: journal.on_damage == OnDamage::Refuse,
        reserve_bytes: reserve_bytes(journal) + config::journal_segment_bytes(journal.bytes_max),
        on_sync: Some(Arc::new(move |took, events| {
            observe(&metrics.journal.sync_duration, took);
            #[expect(
                clippy::cast_precision_loss,
                reason = "a group is at most 1,024 events"
            )]
            metrics.journal.group_events.record(events as f64);
        })),
    }
}

/// Events that the broker refuses for their own sake live in a journal of their own, below the
/// main one's directory. Only a replay confirms them, so none is deleted before it.
pub(super) fn set_aside_options(journal: &config::Journal) -> Options {
    Options {
        path: set_aside_folder(&journal.path),
        bytes_max: journal.bytes_max,
        segment_bytes: SET_ASIDE_SEGMENT_BYTES,
        retain: journal.retain,
        refuse_damage: journal.on_damage == OnDamage::Refuse,
        reserve_bytes: reserve_bytes(journal),
        on_sync: None,
    }
}

/// What the journal needs free of the disk for its own sake, its neighbours on that disk leave it,
/// too: their files are small, and two of those would not be enough for it. The journal leaves them
/// a file's length more: so that on a disk that it has filled what is stuck in its oldest file can
/// be moved, and the file deleted.
fn reserve_bytes(journal: &config::Journal) -> u64 {
    RESERVE_SEGMENTS * config::journal_segment_bytes(journal.bytes_max)
}

/// Events that their queues do not take, in a journal for each source, below the main one's
/// directory. What is published of it is not kept: the main one has it, for as long as it keeps it.
pub(super) fn parked_options(journal: &config::Journal) -> Options {
    Options {
        path: parked_folder(&journal.path),
        bytes_max: journal.bytes_max.max(PARKED_BYTES_MIN),
        segment_bytes: SET_ASIDE_SEGMENT_BYTES,
        retain: Duration::ZERO,
        refuse_damage: journal.on_damage == OnDamage::Refuse,
        reserve_bytes: reserve_bytes(journal),
        on_sync: None,
    }
}
