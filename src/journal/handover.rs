//! How records come to the writer and answers come back: one queue, one lock, one condition.
//!
//! Whoever hands a record in is answered once, whatever happens: written, refused, failed, closed,
//! or left behind by a writer that panicked. The writer never sleeps while there is work, nor is
//! it told of work by anything but this.
//!
//! The lock is a parameter, so that tests put this very code through every interleaving of its
//! threads.

use std::collections::VecDeque;
use std::ops::DerefMut;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use super::{AppendError, Completion, Position};

/// A lock with a condition to wait for.
pub(super) trait Monitor {
    /// What the lock protects.
    type Value;
    /// The right to it.
    type Guard<'a>: DerefMut<Target = Self::Value>
    where
        Self: 'a;

    fn new(value: Self::Value) -> Self;
    fn lock(&self) -> Self::Guard<'_>;
    /// Gives the lock up until somebody notifies, or for so long, or for no reason at all.
    fn wait<'a>(&'a self, guard: Self::Guard<'a>, patience: Duration) -> Self::Guard<'a>;
    /// Wakes the one that waits.
    fn notify(&self);
}

/// The standard library's.
#[derive(Debug)]
pub(super) struct StdMonitor<T> {
    value: Mutex<T>,
    changed: Condvar,
}

/// Between those who append and the writer.
#[derive(Debug)]
pub(super) struct Handover<M = StdMonitor<Desk>> {
    desk: M,
    bounds: Bounds,
}

/// How much may wait, and how much goes into one write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Most records that wait for the writer.
    pub(super) queue_records_max: usize,
    /// Most bytes that wait for the writer; room for one longest record at least.
    pub(super) queue_bytes_max: u64,
    /// Most records in one write, unless it is a single group.
    pub(super) batch_records_max: usize,
    /// Most bytes in one write, unless it is a single record or group.
    pub(super) batch_bytes_max: u64,
}

/// What is under the lock.
#[derive(Debug, Default)]
pub(super) struct Desk {
    queue: VecDeque<Pending>,
    queue_records: usize,
    queue_bytes: u64,
    /// Nothing more is taken.
    closing: bool,
    /// The first failure: nothing more is taken, and nothing is written.
    failed: Option<Arc<str>>,
    /// Something else changed since the writer looked.
    nudged: bool,
    /// The writer sleeps, and nobody has woken it yet: a wake-up is a call to the system, so one
    /// does for all who come before it is up.
    asleep: bool,
}

/// What is next to do.
pub(super) enum Work {
    /// These, with one sync; never none.
    Write(Vec<Pending>),
    /// The time is up, or something changed.
    Chores,
    /// Nothing is left, and nothing will come.
    Close,
}

/// Records that wait for the writer, and share one fate: they go into one write. Dropped without
/// an answer, which only a panic does, it answers that the writer stopped: nobody waits for ever.
pub(super) struct Pending {
    /// Never none.
    pub(super) entries: Vec<Entry>,
    pub(super) at: Timestamp,
    done: Option<Completion>,
}

/// One record's bytes.
pub(super) struct Entry {
    pub(super) payload: Bytes,
    /// With its head, as told by [`super::frame::frame_bytes`].
    pub(super) frame_bytes: u32,
}

impl<M: Monitor<Value = Desk>> Handover<M> {
    pub(super) fn new(bounds: Bounds) -> Self {
        let desk = M::new(Desk::default());
        Self { desk, bounds }
    }

    // === Those who append ===

    /// Queues records, or answers at once why not.
    pub(super) fn push(&self, pending: Pending) {
        let (records, bytes) = (pending.entries.len(), pending.bytes());
        let mut desk = self.desk.lock();
        let refusal = if let Some(reason) = &desk.failed {
            Some(AppendError::Failed(Arc::clone(reason)))
        } else if desk.closing {
            Some(AppendError::Closed)
        } else if desk.queue_records + records > self.bounds.queue_records_max
            || desk.queue_bytes + bytes > self.bounds.queue_bytes_max
        {
            Some(AppendError::Busy)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            drop(desk);
            pending.answer(Err(refusal));
            return;
        }
        desk.queue.push_back(pending);
        desk.queue_records += records;
        desk.queue_bytes += bytes;
        self.wake(desk);
    }

    /// Has the writer look after its chores.
    pub(super) fn nudge(&self) {
        let mut desk = self.desk.lock();
        desk.nudged = true;
        self.wake(desk);
    }

    /// Takes nothing more from now on; what is queued is still written.
    pub(super) fn begin_close(&self) {
        let mut desk = self.desk.lock();
        desk.closing = true;
        self.wake(desk);
    }

    /// Wakes the writer if it sleeps.
    fn wake(&self, mut desk: M::Guard<'_>) {
        let asleep = std::mem::take(&mut desk.asleep);
        drop(desk);
        if asleep {
            self.desk.notify();
        }
    }

    /// Latches the first failure. Gives the one that is latched, and whether it is this one.
    pub(super) fn fail(&self, reason: String) -> (Arc<str>, bool) {
        let mut desk = self.desk.lock();
        if let Some(first) = &desk.failed {
            return (Arc::clone(first), false);
        }
        let reason: Arc<str> = Arc::from(reason);
        desk.failed = Some(Arc::clone(&reason));
        (reason, true)
    }

    /// The failure that is latched.
    pub(super) fn failed(&self) -> Option<Arc<str>> {
        self.desk.lock().failed.clone()
    }

    // === The writer ===

    /// Waits for work, at most until `due`. `batch_bytes_max`: most bytes in the next write, if
    /// that is less than the bound.
    pub(super) fn next(&self, batch_bytes_max: u64, due: Instant) -> Work {
        let mut desk = self.desk.lock();
        loop {
            let nudged = std::mem::take(&mut desk.nudged);
            if !desk.queue.is_empty() {
                return Work::Write(self.gather(&mut desk, batch_bytes_max));
            }
            if desk.closing {
                return Work::Close;
            }
            let now = Instant::now();
            if nudged || due <= now {
                return Work::Chores;
            }
            desk.asleep = true;
            desk = self.desk.wait(desk, due - now);
            desk.asleep = false;
        }
    }

    /// Takes what is queued, up to the bounds of one write.
    fn gather(&self, desk: &mut Desk, batch_bytes_max: u64) -> Vec<Pending> {
        let bytes_max = self.bounds.batch_bytes_max.min(batch_bytes_max);
        let mut batch = Vec::new();
        let (mut records, mut bytes) = (0, 0);
        while let Some(pending) = desk.queue.front() {
            let (more_records, more_bytes) = (pending.entries.len(), pending.bytes());
            let over = records + more_records > self.bounds.batch_records_max
                || bytes + more_bytes > bytes_max;
            if over && !batch.is_empty() {
                break;
            }
            records += more_records;
            bytes += more_bytes;
            batch.extend(desk.queue.pop_front());
        }
        desk.queue_records = desk.queue_records.saturating_sub(records);
        desk.queue_bytes = desk.queue_bytes.saturating_sub(bytes);
        batch
    }

    /// The writer's last act: answers who is still waiting, and whoever comes later.
    pub(super) fn finish(&self) {
        let mut desk = self.desk.lock();
        desk.closing = true;
        let left = std::mem::take(&mut desk.queue);
        desk.queue_records = 0;
        desk.queue_bytes = 0;
        let failed = desk.failed.clone();
        drop(desk);
        let error = failed.map_or(AppendError::Closed, AppendError::Failed);
        for pending in left {
            pending.answer(Err(error.clone()));
        }
    }
}

// === impl Pending ===

impl Pending {
    pub(super) fn new(entries: Vec<Entry>, at: Timestamp, done: Completion) -> Self {
        Self {
            entries,
            at,
            done: Some(done),
        }
    }

    /// What it takes in a file.
    pub(super) fn bytes(&self) -> u64 {
        let bytes = self
            .entries
            .iter()
            .map(|entry| u64::from(entry.frame_bytes));
        bytes.sum()
    }

    pub(super) fn answer(mut self, fate: Result<Position, AppendError>) {
        self.tell(fate);
    }

    fn tell(&mut self, fate: Result<Position, AppendError>) {
        let Some(done) = self.done.take() else {
            return;
        };
        // What a caller does wrong must not stop the writer, nor turn an unwinding into an abort.
        if catch_unwind(AssertUnwindSafe(|| done(fate))).is_err() {
            tracing::error!("a completion of the journal panicked");
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.tell(Err(AppendError::Failed(Arc::from("the writer stopped"))));
    }
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending")
            .field("records", &self.entries.len())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

// === impl StdMonitor ===

impl<T> Monitor for StdMonitor<T> {
    type Value = T;
    type Guard<'a>
        = MutexGuard<'a, T>
    where
        T: 'a;

    fn new(value: T) -> Self {
        Self {
            value: Mutex::new(value),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> Self::Guard<'_> {
        // Nothing under this lock can panic half way through a change.
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&'a self, guard: Self::Guard<'a>, patience: Duration) -> Self::Guard<'a> {
        let waited = self.changed.wait_timeout(guard, patience);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn notify(&self) {
        self.changed.notify_one();
    }
}
