//! What the writer, the readers and the callers share: the way to the writer, the index of
//! segments, the latest records, the marks of progress. No file is touched under its lock.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;

use super::disk::Disk;
use super::handover::{Bounds, Entry, Handover, Pending};
use super::segment::{HEADER_BYTES, as_u64};
use super::{AppendError, Completion, Position, Record, Status, frame};

/// Bounds and paces. Tests shrink them.
#[derive(Clone, Debug)]
pub(super) struct Tuning {
    pub(super) handover: Bounds,
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
    /// So many segments' worth of the disk is left free by records: for the next start, which
    /// may have to copy a damaged segment, and for the cursor.
    pub(super) reserve_segments: u64,
    /// How often segments are looked at that may have outlived `retain`.
    pub(super) tidy_every: Duration,
}

/// See [`Tuning::reserve_segments`].
pub const RESERVE_SEGMENTS: u64 = 2;

impl Default for Tuning {
    fn default() -> Self {
        Self {
            handover: Bounds {
                queue_records_max: 16 * 1024,
                queue_bytes_max: 128 * 1024 * 1024,
                batch_records_max: 1024,
                batch_bytes_max: 4 * 1024 * 1024,
            },
            ring_records_max: 64 * 1024,
            ring_bytes_max: 16 * 1024 * 1024,
            ahead_bytes: 1024 * 1024,
            mark_bytes: 1024 * 1024,
            cursor_every: Duration::from_millis(200),
            retry_every: Duration::from_millis(250),
            probe_bytes: 64 * 1024,
            reserve_segments: RESERVE_SEGMENTS,
            tidy_every: Duration::from_secs(10),
        }
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
    /// Never empty.
    pub(super) segments: VecDeque<Segment>,
    pub(super) ring: Ring,
    /// The first position that is not confirmed.
    pub(super) cursor: u64,
    /// Records from there on that need nothing more.
    pub(super) settled: u64,
    /// Positions that have no record any more since before this process, in order.
    pub(super) gaps: Vec<Range<u64>>,
    /// One past the last record on stable storage.
    pub(super) end: u64,
    pub(super) full: bool,
}

/// Records from the cursor on, of which there are none in the gaps.
pub(super) fn waiting(cursor: u64, end: u64, gaps: &[Range<u64>]) -> u64 {
    let gone: u64 = gaps
        .iter()
        .map(|gap| gap.end.saturating_sub(gap.start.max(cursor)))
        .sum();
    end.saturating_sub(cursor).saturating_sub(gone)
}

/// What readers wait for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// One past the last record on stable storage.
    pub(super) end: u64,
    /// Nothing more will come.
    pub(super) closed: bool,
}

/// What those wait for who only want to know how it ends. It is apart from [`Progress`], so that
/// they are not woken for every write.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fate {
    /// Nothing more will come.
    pub(super) closed: bool,
    /// A failure is latched.
    pub(super) failed: bool,
}

/// What is shared.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) log_id: [u8; 16],
    pub(super) tuning: Tuning,
    /// Most bytes of records that are appended together.
    group_bytes_max: u64,
    /// The writer waits here. Its lock is never waited for under this one's, nor the other way.
    pub(super) handover: Handover,
    state: Mutex<State>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) fate: watch::Sender<Fate>,
}

impl Shared {
    pub(super) fn new(
        dir: PathBuf,
        disk: Arc<dyn Disk>,
        log_id: [u8; 16],
        tuning: Tuning,
        bytes_max: u64,
        state: State,
    ) -> Self {
        let progress = watch::Sender::new(Progress {
            end: state.end,
            ..Progress::default()
        });
        let handover = Handover::new(tuning.handover);
        let state = Mutex::new(state);
        Self {
            dir,
            disk,
            log_id,
            // A segment that is being written cannot go, so not all of the journal is room.
            group_bytes_max: tuning.handover.queue_bytes_max.min(bytes_max / 2),
            tuning,
            handover,
            state,
            progress,
            fate: watch::Sender::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues records of one fate, never none, or answers at once why not.
    pub(super) fn append(&self, payloads: Vec<Bytes>, at: Timestamp, done: Completion) {
        let entry = |payload: Bytes| {
            let frame_bytes = frame::frame_bytes(payload.len())?;
            Some(Entry {
                payload,
                frame_bytes,
            })
        };
        let entries: Option<Vec<Entry>> = payloads.into_iter().map(entry).collect();
        let Some(entries) = entries else {
            done(Err(AppendError::TooLarge));
            return;
        };
        // A file keeps microseconds; memory must not say more.
        let at = Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
        let pending = Pending::new(entries, at, done);
        let bounds = &self.tuning.handover;
        let is_group = pending.entries.len() > 1;
        if is_group
            && (pending.bytes() > self.group_bytes_max
                || pending.entries.len() > bounds.queue_records_max)
        {
            // It would be busy, or full, for ever.
            pending.answer(Err(AppendError::TooLarge));
            return;
        }
        self.handover.push(pending);
    }

    /// Moves the cursor forward; from there on, so many are settled.
    pub(super) fn confirm(&self, cursor: u64, settled: u64) {
        let mut state = self.lock();
        state.settled = settled;
        let cursor = cursor.min(state.end);
        if cursor <= state.cursor {
            return;
        }
        state.cursor = cursor;
        state.ring.forget_until(cursor);
        drop(state);
        self.handover.nudge();
    }

    /// Latches the first failure. Gives the one that is latched.
    pub(super) fn fail(&self, reason: String) -> Arc<str> {
        let (reason, is_first) = self.handover.fail(reason);
        if is_first {
            tracing::error!(
                %reason,
                dir = %self.dir.display(),
                "the journal failed and takes nothing more until the next start"
            );
            self.fate.send_modify(|fate| fate.failed = true);
        }
        reason
    }

    /// The writer's last act: answers who is still waiting, and tells the readers.
    pub(super) fn finish_close(&self) {
        self.handover.finish();
        self.progress.send_modify(|progress| progress.closed = true);
        self.fate.send_modify(|fate| fate.closed = true);
    }

    pub(super) fn status(&self) -> Status {
        let failed = self.handover.failed();
        let state = self.lock();
        let first = state
            .segments
            .front()
            .map_or(state.end, |segment| segment.first);
        Status {
            first: Position(first),
            cursor: Position(state.cursor),
            end: Position(state.end),
            waiting: waiting(state.cursor, state.end, &state.gaps).saturating_sub(state.settled),
            bytes: state.segments.iter().map(|segment| segment.bytes).sum(),
            segments: state.segments.len(),
            failed,
            full: state.full,
        }
    }
}
