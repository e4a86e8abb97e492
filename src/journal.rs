//! Stable storage: a segment log that knows neither webhooks nor brokers.
//!
//! Records are bytes with a position and a time. [`Journal::append`] answers once a record is on
//! stable storage, many records to one sync; a [`Reader`] gives them back in order; what is
//! confirmed with [`Journal::confirm_until`] may be deleted in time.
//!
//! # Promises
//!
//! - An append that was answered with a position survives the end of the process and a loss of
//!   power.
//! - Any number of records that were not answered so may survive too, because the answer is what
//!   a crash can lose. So consumers see each record at least once.
//! - The first failed write, sync or rename is the last: every append from then on is answered
//!   [`AppendError::Failed`]. A full disk is no failure; see [`AppendError::Full`]. Records leave
//!   two segments' worth of it free at least, for the next start and for the cursor.
//! - Damage is found by checksums, never read as a record.
//!
//! # Files
//!
//! ```text
//! journal/
//!   LOCK                   empty, locked by the process that writes here
//!   cursor                 how far records are confirmed
//!   0000000000000000.wal   segments: the name is the sequence, in hexadecimal
//!   0000000000000001.wal
//!   *.tmp                  a file being made; removed at the next start
//!   damaged/               segments that were set aside: SEQUENCE.N.wal
//! ```
//!
//! # Format, version 1
//!
//! Integers are little-endian. Checksums are CRC-32C (Castagnoli).
//!
//! ```text
//! segment             header, records, then perhaps zeros written ahead
//!
//! header    0   8     "hgateWAL"
//!           8   4     format version, 1
//!          12   4     flags; bit 0: rewritten after damage, positions may be missing at its end
//!          16   8     sequence, as in the name
//!          24   8     position of the first record
//!          32   8     one past the last position in the segment before
//!          40  16     log id, random, the same in all segments
//!          56   4     zeros
//!          60   4     checksum of the 60 bytes before
//!
//! record    0   4     length of the record, with these 32 bytes: 32 to 67108896
//!           4   4     checksum of log id, sequence, length, and everything from byte 8 on
//!           8   8     position; ascending, and consecutive unless damage was mended
//!          16   8     durable: all before this position was on stable storage when this record
//!                     was written; the same in all records of one write
//!          24   8     time, microseconds since 1970 UTC, signed
//!          32   n     payload
//!
//! cursor    0   8     "hgcursor"
//!           8   4     format version, 1
//!          12   4     zeros
//!          16  16     log id
//!          32   8     confirmed: the first position that is not
//!          40   8     durable: all before this position was on stable storage
//!          48   4     zeros
//!          52   4     checksum of the 52 bytes before
//! ```
//!
//! Positions and sequences are below 2^63. Log id and sequence are not in a record, only in its checksum: what an older file left on the
//! same blocks does not verify. A length is never zero, so zeros are no record. The `durable` of
//! a record tells, after a crash, a torn write from damage: bad bytes before a record that says
//! they were on stable storage are damage, and bad bytes with nothing but their own write after
//! them never were acknowledged.

mod chores;
mod cursor;
mod disk;
mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod handover;
mod inspect;
mod lock;
mod reader;
mod recovery;
mod segment;
mod shared;
mod survey;
mod writer;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use self::cursor::Cursor;
use self::disk::{Disk, RealDisk};
pub use self::inspect::{Contents, Health, Records, SegmentContents};
use self::lock::Lock;
pub use self::reader::Reader;
use self::recovery::Recovered;
pub use self::recovery::{Recovery, SetAside};
use self::segment::HEADER_BYTES;
pub use self::shared::RESERVE_SEGMENTS;
use self::shared::{Shared, State, Tuning};
use self::writer::{Active, Chores, Writer};

/// The place of a record: consecutive numbers from 0, over the whole life of a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// Told after each sync of records, on the writer's thread: how long it took, for how many.
pub type SyncObserver = Arc<dyn Fn(Duration, usize) + Send + Sync>;

/// The newest records are kept in memory for the reader, up to this part of a file.
const RING_SHARE: u64 = 4;

/// Shown each record that the directory holds, in order, while it is being recovered: when it was
/// appended, and its bytes. Ends the opening with `Break`.
pub type Witness<'a> = dyn FnMut(Timestamp, &[u8]) -> ControlFlow<()> + 'a;

/// How to open a journal.
#[derive(Clone)]
pub struct Options {
    /// The directory; made if it is not there.
    pub path: PathBuf,
    /// Full at this many bytes, counting all segments.
    pub bytes_max: u64,
    /// A new segment is begun at this many bytes; at a quarter of `bytes_max`, if that is less.
    pub segment_bytes: u64,
    /// How long records before the cursor are kept, space permitting. Whole segments are deleted,
    /// so some are kept for longer.
    pub retain: Duration,
    /// Refuse to open on damage that is not a torn tail; else set the damaged segment aside.
    pub refuse_damage: bool,
    /// Records leave so much of the disk free, for a neighbour's sake; two segments' worth, if that
    /// is more.
    pub reserve_bytes: u64,
    /// For the metric.
    pub on_sync: Option<SyncObserver>,
}

/// A journal. Clones share it. Dropping the last one closes it too, and waits for that on the
/// caller's thread; async code calls [`Journal::close`] first.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Inner>);

/// What the clones share. The writer's thread does not hold it, so that the last clone can stop
/// the thread.
#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    recovery: Recovery,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place.
    pub position: Position,
    /// When it was appended, to the microsecond.
    pub at: Timestamp,
    /// Its bytes.
    pub payload: Bytes,
}

/// Why a record was not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No room: `bytes_max` is reached, or the disk is full or nearly so. Records are taken again
    /// when there is.
    #[error("the journal is full")]
    Full,
    /// Too much is waiting for the writer already.
    #[error("the journal is busy")]
    Busy,
    /// Longer than any record may be, 64 MiB; or a group that would fill half of the journal, or
    /// all that may wait for the writer.
    #[error("the record or the group is too large for the journal")]
    TooLarge,
    /// An earlier write or sync failed. Nothing is taken until a restart.
    #[error("the journal failed: {0}")]
    Failed(Arc<str>),
    /// It is being closed.
    #[error("the journal is closed")]
    Closed,
}

/// Why a journal did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{0} is in use by another process: one hookgate per journal directory")]
    Locked(PathBuf),
    /// Damage, and `on_damage = "refuse"`; or a format that is not known.
    #[error("{0}")]
    Damaged(String),
    /// The disk said no.
    #[error("{path}: {error}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The witness ended it, before anything was changed.
    #[error("stopped while the journal was being read; nothing was changed")]
    Stopped,
}

/// The disk did not take the last words of a journal in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal's disk does not answer")]
pub struct DiskHangs;

/// Called once, when the fate of what was appended is known, with the position of the first record: on the writer's thread, or on the caller's if
/// the record is refused at once. It must not block.
pub type Completion = Box<dyn FnOnce(Result<Position, AppendError>) + Send>;

/// Numbers for `journal status`, `/readyz` and `/metrics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The first record that is still there.
    pub first: Position,
    /// The first that is not confirmed.
    pub cursor: Position,
    /// One past the last.
    pub end: Position,
    /// Records from the cursor on, less those among them that are settled. Less than their
    /// distance, too, if records were lost to damage.
    pub waiting: u64,
    /// Bytes in all segments.
    pub bytes: u64,
    /// Segments.
    pub segments: usize,
    /// The first failure, after which nothing is taken.
    pub failed: Option<Arc<str>>,
    /// Whether there is no room.
    pub full: bool,
}

/// A segment holds at least this much, whatever the options say.
const SEGMENT_BYTES_MIN: u64 = 256;

// === impl Journal ===

impl Journal {
    /// Opens a directory and recovers what is in it. Reads all of it, so it takes its time with a
    /// large one.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(options: Options) -> Result<Self, OpenError> {
        Self::open_before(options, &mut |_, _| ControlFlow::Continue(()))
    }

    /// The same before a witness, so that whoever wants the records need not read them again.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open_before(options: Options, witness: &mut Witness<'_>) -> Result<Self, OpenError> {
        let disk = Arc::new(RealDisk);
        let tuning = Tuning::default();
        // A journal of small files is a small journal: what it keeps in memory is, too.
        let ring_bytes_max = tuning
            .ring_bytes_max
            .min(options.segment_bytes / RING_SHARE);
        let tuning = Tuning {
            ring_bytes_max,
            ..tuning
        };
        Self::open_on(disk, options, tuning, witness)
    }

    fn open_on(
        disk: Arc<dyn Disk>,
        options: Options,
        tuning: Tuning,
        witness: &mut Witness<'_>,
    ) -> Result<Self, OpenError> {
        let dir = options.path;
        let io_at = |error| OpenError::Io {
            path: dir.clone(),
            error,
        };
        disk.create_dir(&dir).map_err(io_at)?;
        let lock = Lock::take(&*disk, &dir)?;
        let directory = disk.open_dir(&dir).map_err(io_at)?;
        let recovered = recovery::mend(
            &*disk,
            &dir,
            options.refuse_damage,
            tuning.mark_bytes,
            &mut |frame| witness(frame.at, frame.payload),
        )?;
        let Recovered {
            log_id,
            segments,
            file,
            allocated,
            cursor,
            next,
            gaps,
            report,
        } = recovered;
        tell(&report);

        let active = match segments.last() {
            Some(last) => Active {
                file,
                sequence: last.sequence,
                tail: last.bytes,
                allocated,
            },
            None => Active {
                file,
                sequence: 0,
                tail: HEADER_BYTES,
                allocated,
            },
        };
        let closed = segments
            .iter()
            .filter(|segment| segment.sequence != active.sequence);
        let closed_bytes = closed.map(|segment| segment.bytes).sum();
        let state = State {
            segments: segments.into(),
            cursor,
            gaps,
            end: next,
            ..State::default()
        };
        let shared = Arc::new(Shared::new(
            dir.clone(),
            disk,
            log_id,
            tuning,
            options.bytes_max,
            state,
        ));
        let now = Instant::now();
        let writer = Writer {
            shared: Arc::clone(&shared),
            active,
            dir: directory,
            next,
            closed_bytes,
            bytes_max: options.bytes_max,
            segment_bytes: options
                .segment_bytes
                .min(options.bytes_max / 4)
                .max(SEGMENT_BYTES_MIN),
            retain: options.retain,
            reserve_bytes: options.reserve_bytes,
            on_sync: options.on_sync,
            _lock: lock,
            buffer: Vec::new(),
            chores: Chores {
                stored_cursor: cursor,
                cursor_due: now,
                tidy_due: now,
                retry_due: None,
                refused_bytes: None,
            },
        };
        let thread = writer::spawn(writer).map_err(io_at)?;
        let thread = Mutex::new(Some(thread));
        Ok(Self(Arc::new(Inner {
            shared,
            thread,
            recovery: report,
        })))
    }

    /// Hands a record to the writer. `done` is called with its place once it is on stable
    /// storage, or with why it is not acknowledged and never will be. Does not block.
    pub fn append(&self, payload: Bytes, at: Timestamp, done: Completion) {
        self.0.shared.append(vec![payload], at, done);
    }

    /// Hands in records that belong together, at least one: they stand at consecutive positions
    /// from the one that `done` is told, written and synced at once, or none of them is
    /// acknowledged. There is room for all of them or for none.
    ///
    /// A crash may leave the first ones of a group that was not acknowledged, as it may leave any
    /// record that was not.
    pub fn append_group(&self, payloads: Vec<Bytes>, at: Timestamp, done: Completion) {
        self.0.shared.append(payloads, at, done);
    }

    /// Reads from a position on; from the first record that is still there if it is earlier.
    pub fn read_from(&self, position: Position) -> Reader {
        Reader::new(&self.0.shared, position.0)
    }

    /// Everything before `cursor` is confirmed and may be deleted in time. Never moves back, nor
    /// beyond the end. Counts at once; is stored a little later, so that a crash may have the
    /// last ones read again.
    pub fn confirm_until(&self, cursor: Position) {
        self.0.shared.confirm(cursor.0, 0);
    }

    /// The same, and of the records from the cursor on, `settled` need nothing more, though one
    /// before them does: they do not wait any more. That is not stored, so they are read again
    /// after a restart.
    pub fn confirm_with(&self, cursor: Position, settled: u64) {
        self.0.shared.confirm(cursor.0, settled);
    }

    /// Deletes a directory with a journal that nobody has open and in which nothing waits. A crash
    /// in between leaves nothing that would wait again. What is no part of a journal stays, and the
    /// directory with it.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn remove(dir: &Path) -> Result<(), OpenError> {
        remove_on(&RealDisk, dir)
    }

    /// Numbers.
    pub fn status(&self) -> Status {
        self.0.shared.status()
    }

    /// What was found and mended when it was opened.
    pub fn recovery(&self) -> &Recovery {
        &self.0.recovery
    }

    /// Waits until it is closed: because it was asked to, or because its thread died of a defect.
    pub async fn closed(&self) {
        let mut fate = self.0.shared.fate.subscribe();
        // The sender is in `shared`, which we hold: it cannot be gone.
        drop(fate.wait_for(|fate| fate.closed).await);
    }

    /// Waits for the first failure, after which nothing is taken; for ever, if there is none.
    pub async fn failure(&self) -> Arc<str> {
        let mut fate = self.0.shared.fate.subscribe();
        // The sender is in `shared`, which we hold: it cannot be gone.
        drop(fate.wait_for(|fate| fate.failed).await);
        match self.0.shared.handover.failed() {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }

    /// Writes what was handed in, persists the cursor, gives up the lock.
    pub async fn close(&self) {
        self.0.shared.handover.begin_close();
        let mut fate = self.0.shared.fate.subscribe();
        drop(fate.wait_for(|fate| fate.closed).await);
    }

    /// The same, but if the disk does not answer by `deadline`, the writer is left to it: the
    /// process can end without having waited for it.
    ///
    /// # Errors
    ///
    /// It did not. What was acknowledged is safe all the same.
    pub async fn close_by(&self, deadline: Instant) -> Result<(), DiskHangs> {
        timeout_at(deadline, self.close())
            .await
            .map_err(|_elapsed| {
                drop(self.0.take_thread());
                DiskHangs
            })
    }
}

/// The segments go first, oldest first, so that the cursor speaks for those that a crash leaves.
fn remove_on(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    let io_at = |error| OpenError::Io {
        path: dir.to_owned(),
        error,
    };
    let lock = Lock::take(disk, dir)?;
    let remove = move || {
        for sequence in segment::list(disk, dir)? {
            disk.remove(&segment::path(dir, sequence))?;
            disk.sync_dir(dir)?;
        }
        segment::remove_temporary(disk, dir)?;
        Cursor::remove(disk, dir)?;
        lock.remove(disk, dir)?;
        disk.remove_dir(dir)
    };
    match remove() {
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed.map_err(io_at),
    }
}

impl Inner {
    /// Waits for the thread, unless this is it: the last clone may be dropped by a completion.
    fn join(&self) {
        if let Some(thread) = self.take_thread()
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic in it is caught there, and latched.
            drop(thread.join());
        }
    }

    fn take_thread(&self) -> Option<JoinHandle<()>> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.take()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.handover.begin_close();
        self.join();
    }
}

// === impl Options ===

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("path", &self.path)
            .field("bytes_max", &self.bytes_max)
            .field("segment_bytes", &self.segment_bytes)
            .field("retain", &self.retain)
            .field("refuse_damage", &self.refuse_damage)
            .field("reserve_bytes", &self.reserve_bytes)
            .field("on_sync", &self.on_sync.is_some())
            .finish()
    }
}

/// Tells the operator what was mended. An error is something that somebody must act on.
fn tell(report: &Recovery) {
    for SetAside {
        file,
        offset,
        what,
        kept,
    } in &report.set_aside
    {
        tracing::error!(
            file = %file.display(), offset, what, kept,
            "a journal segment was damaged; what verifies is kept, the file was set aside"
        );
    }
    if report.missing > 0 {
        tracing::error!(
            missing = report.missing,
            "the journal ends before records that were once on stable storage; they are lost"
        );
    }
    if report.torn_bytes > 0 {
        tracing::warn!(
            bytes = report.torn_bytes,
            "cut the journal's last write, which was not acknowledged when the process ended"
        );
    }
}

#[cfg(test)]
mod tests;
