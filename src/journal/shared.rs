//! What the writer, the readers and the callers share: the queue, the index of segments, the
//! latest records, the marks of progress. No file is touched under its lock.

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;

use super::disk::Disk;
use super::segment::{HEADER_BYTES, as_u64};
use super::{AppendError, Completion, Position, Record, Status, frame};

/// Bounds and paces. Tests shrink them.
#[derive(Clone, Debug)]
pub(super) struct Tuning {
    /// Most records that wait for the writer.
    pub(super) queue_records_max: usize,
    /// Most bytes that wait for the writer; room for one longest record at least.
    pub(super) queue_bytes_max: u64,
    /// Most records in one write.
    pub(super) batch_records_max: usize,
    /// Most bytes in one write, unless it is a single record.
    pub(super) batch_bytes_max: u64,
    /// Most records kept in memory for readers.
    pub(super) ring_records_max: usize,
    /// Most payload bytes kept in memory for readers.
    pub(super) ring_bytes_max: u64,
    /// How many zeros are written ahead at a time.
    pub(super) ahead_bytes: u64,
    /// Records this far apart in a segment get an entry in its index.
    pub(super) mark_bytes: u64,
    /// Shortest time between two writes of the cursor file.
    pub(super) cursor_every: Duration,
    /// How long a full disk is left alone.
    pub(super) retry_every: Duration,
    /// How much must fit on a disk that was full, for it to be so no more.
    pub(super) probe_bytes: u64,
    /// How often segments are looked at that may have outlived `retain`.
    pub(super) tidy_every: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            queue_records_max: 16 * 1024,
            queue_bytes_max: 128 * 1024 * 1024,
            batch_records_max: 1024,
            batch_bytes_max: 4 * 1024 * 1024,
            ring_records_max: 64 * 1024,
            ring_bytes_max: 16 * 1024 * 1024,
            ahead_bytes: 1024 * 1024,
            mark_bytes: 1024 * 1024,
            cursor_every: Duration::from_millis(200),
            retry_every: Duration::from_millis(250),
            probe_bytes: 64 * 1024,
            tidy_every: Duration::from_secs(10),
        }
    }
}

/// A record that waits for the writer. Dropped without an answer, which only a panic does, it
/// answers that the writer stopped: nobody waits for ever.
pub(super) struct Pending {
    pub(super) payload: Bytes,
    pub(super) at: Timestamp,
    /// With its head, as told by [`frame::frame_bytes`].
    pub(super) frame_bytes: u32,
    done: Option<Completion>,
}

impl Pending {
    pub(super) fn new(payload: Bytes, at: Timestamp, frame_bytes: u32, done: Completion) -> Self {
        Self {
            payload,
            at,
            frame_bytes,
            done: Some(done),
        }
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
            .field("frame_bytes", &self.frame_bytes)
            .finish_non_exhaustive()
    }
}

/// What is known of one segment.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) sequence: u64,
    /// Its first record's position, or the one that it will get.
    pub(super) first: u64,
    /// One past its last record.
    pub(super) end: u64,
    /// How much of the file is records on stable storage.
    pub(super) bytes: u64,
    /// The latest time of its records, in microseconds; `None` without records.
    pub(super) newest: Option<i64>,
    /// Positions and their offsets, ascending, for seeking.
    pub(super) marks: Vec<(u64, u64)>,
}

impl Segment {
    pub(super) fn empty(sequence: u64, first: u64) -> Self {
        Self {
            sequence,
            first,
            end: first,
            bytes: HEADER_BYTES,
            newest: None,
            marks: Vec::new(),
        }
    }

    /// Adds one record of `bytes` bytes. `apart`: how far apart marks are.
    pub(super) fn push(&mut self, position: u64, at: Timestamp, bytes: u64, apart: u64) {
        let marked = self.marks.last().map_or(0, |(_, offset)| *offset);
        if self.bytes.saturating_sub(marked) >= apart {
            self.marks.push((position, self.bytes));
        }
        self.bytes += bytes;
        self.end = position.saturating_add(1);
        self.newest = self.newest.max(Some(at.as_microsecond()));
    }

    /// An offset at or before the record of `position`.
    pub(super) fn seek(&self, position: u64) -> u64 {
        let after = self
            .marks
            .partition_point(|(marked, _)| *marked <= position);
        let mark = after.checked_sub(1).and_then(|mark| self.marks.get(mark));
        mark.map_or(HEADER_BYTES, |(_, offset)| *offset)
    }
}

/// The latest records, so that a reader that keeps up does not read the disk.
#[derive(Debug, Default)]
pub(super) struct Ring {
    records: VecDeque<Record>,
    bytes: u64,
}

impl Ring {
    pub(super) fn push(&mut self, record: Record, tuning: &Tuning) {
        self.bytes += as_u64(record.payload.len());
        self.records.push_back(record);
        while self.records.len() > tuning.ring_records_max || self.bytes > tuning.ring_bytes_max {
            self.pop();
        }
    }

    /// Lets go of what is confirmed.
    pub(super) fn forget_until(&mut self, cursor: u64) {
        while self
            .records
            .front()
            .is_some_and(|record| record.position.0 < cursor)
        {
            self.pop();
        }
    }

    /// Copies records from `position` on into `out`, if nothing between can be missing.
    pub(super) fn read(&self, position: u64, out: &mut VecDeque<Record>) {
        if self
            .records
            .front()
            .is_some_and(|record| record.position.0 <= position)
        {
            let skip = self
                .records
                .partition_point(|record| record.position.0 < position);
            out.extend(self.records.iter().skip(skip).take(RING_READ_MAX).cloned());
        }
    }

    fn pop(&mut self) {
        if let Some(record) = self.records.pop_front() {
            self.bytes = self.bytes.saturating_sub(as_u64(record.payload.len()));
        }
    }
}

/// Most records taken from the ring under one lock.
const RING_READ_MAX: usize = 64;

/// Everything under the lock.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) queue: VecDeque<Pending>,
    pub(super) queue_bytes: u64,
    /// Nothing more is taken.
    pub(super) closing: bool,
    /// The cursor moved since the writer looked.
    pub(super) moved: bool,
    /// Never empty.
    pub(super) segments: VecDeque<Segment>,
    pub(super) ring: Ring,
    /// The first position that is not confirmed.
    pub(super) cursor: u64,
    /// Positions that have no record any more since before this process, in order.
    pub(super) gaps: Vec<Range<u64>>,
    /// One past the last record on stable storage.
    pub(super) end: u64,
    pub(super) failed: Option<Arc<str>>,
    pub(super) full: bool,
}

impl State {
    /// Records from the cursor on.
    fn waiting(&self) -> u64 {
        let gone: u64 = self
            .gaps
            .iter()
            .map(|gap| gap.end.saturating_sub(gap.start.max(self.cursor)))
            .sum();
        self.end.saturating_sub(self.cursor).saturating_sub(gone)
    }
}

/// What readers wait for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// One past the last record on stable storage.
    pub(super) end: u64,
    /// Nothing more will come.
    pub(super) closed: bool,
}

/// What is shared.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) log_id: [u8; 16],
    pub(super) tuning: Tuning,
    state: Mutex<State>,
    /// The writer waits here.
    pub(super) wake: Condvar,
    pub(super) progress: watch::Sender<Progress>,
}

impl Shared {
    pub(super) fn new(
        dir: PathBuf,
        disk: Arc<dyn Disk>,
        log_id: [u8; 16],
        tuning: Tuning,
        state: State,
    ) -> Self {
        let progress = watch::Sender::new(Progress {
            end: state.end,
            closed: false,
        });
        let state = Mutex::new(state);
        Self {
            dir,
            disk,
            log_id,
            tuning,
            state,
            wake: Condvar::new(),
            progress,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a record, or answers at once why not.
    pub(super) fn append(&self, payload: Bytes, at: Timestamp, done: Completion) {
        let Some(frame_bytes) = frame::frame_bytes(payload.len()) else {
            done(Err(AppendError::TooLarge));
            return;
        };
        // A file keeps microseconds; memory must not say more.
        let at = Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
        let bytes = u64::from(frame_bytes);
        let mut state = self.lock();
        let refusal = if let Some(reason) = &state.failed {
            Some(AppendError::Failed(Arc::clone(reason)))
        } else if state.closing {
            Some(AppendError::Closed)
        } else if state.queue.len() >= self.tuning.queue_records_max
            || state.queue_bytes + bytes > self.tuning.queue_bytes_max
        {
            Some(AppendError::Busy)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            drop(state);
            done(Err(refusal));
            return;
        }
        state
            .queue
            .push_back(Pending::new(payload, at, frame_bytes, done));
        state.queue_bytes += bytes;
        drop(state);
        self.wake.notify_one();
    }

    /// Moves the cursor forward.
    pub(super) fn confirm_until(&self, cursor: u64) {
        let mut state = self.lock();
        let cursor = cursor.min(state.end);
        if cursor <= state.cursor {
            return;
        }
        state.cursor = cursor;
        state.ring.forget_until(cursor);
        let wake = !std::mem::replace(&mut state.moved, true);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Latches the first failure. Gives the one that is latched.
    pub(super) fn fail(&self, reason: String) -> Arc<str> {
        let mut state = self.lock();
        if let Some(first) = &state.failed {
            return Arc::clone(first);
        }
        tracing::error!(
            %reason,
            dir = %self.dir.display(),
            "the journal failed and takes nothing more; repair the disk, then restart"
        );
        let reason: Arc<str> = Arc::from(reason);
        state.failed = Some(Arc::clone(&reason));
        reason
    }

    /// Takes nothing more from now on; what is queued is still written.
    pub(super) fn begin_close(&self) {
        self.lock().closing = true;
        self.wake.notify_one();
    }

    /// The writer's last act: answers who is still waiting, and tells the readers.
    pub(super) fn finish_close(&self) {
        let mut state = self.lock();
        state.closing = true;
        let left = std::mem::take(&mut state.queue);
        state.queue_bytes = 0;
        let error = state
            .failed
            .as_ref()
            .map(|reason| AppendError::Failed(Arc::clone(reason)));
        let error = error.unwrap_or(AppendError::Closed);
        drop(state);
        for pending in left {
            pending.answer(Err(error.clone()));
        }
        self.progress.send_modify(|progress| progress.closed = true);
    }

    pub(super) fn status(&self) -> Status {
        let state = self.lock();
        let first = state
            .segments
            .front()
            .map_or(state.end, |segment| segment.first);
        Status {
            first: Position(first),
            cursor: Position(state.cursor),
            end: Position(state.end),
            waiting: state.waiting(),
            bytes: state.segments.iter().map(|segment| segment.bytes).sum(),
            segments: state.segments.len(),
            failed: state.failed.clone(),
            full: state.full,
        }
    }
}
