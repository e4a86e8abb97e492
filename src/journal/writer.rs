//! The one thread that writes.
//!
//! It takes everything that is queued, writes it with one call, syncs once, and then answers all
//! who wait. What it does between writes is in `chores.rs`.
//!
//! What goes wrong is of two kinds. No room is not a failure: it was noticed before a sync, the
//! file is cut back to its last good byte, and records are taken again when there is room.
//! Anything else is latched for the life of the process, because after a failed sync nobody knows
//! what is on the disk: a second sync may succeed without the bytes of the first.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::disk::{Directory, DiskFile};
use super::frame::{self, Frame, POSITION_MAX, Seed};
use super::handover::{Entry, Pending, Work};
use super::lock::Lock;
use super::segment::{self, Draft, HEADER_BYTES, Header};
use super::shared::{Segment, Shared};
use super::{AppendError, Position, Record, SyncObserver};

/// What the thread owns.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) active: Active,
    /// Kept open, so that a process that runs out of file descriptors can still sync it.
    pub(super) dir: Box<dyn Directory>,
    /// The next record's position.
    pub(super) next: u64,
    /// Bytes in the segments before the active one.
    pub(super) closed_bytes: u64,
    pub(super) bytes_max: u64,
    pub(super) segment_bytes: u64,
    pub(super) retain: Duration,
    pub(super) reserve_bytes: u64,
    pub(super) on_sync: Option<SyncObserver>,
    /// Given up when the writer is dropped.
    pub(super) _lock: Lock,
    /// What is written at once; kept to save allocations.
    pub(super) buffer: Vec<u8>,
    pub(super) chores: Chores,
}

/// The segment that is appended to.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) sequence: u64,
    /// Where the next record goes.
    pub(super) tail: u64,
    /// How long the file is: zeros are written ahead, so that most syncs change no metadata.
    pub(super) allocated: u64,
}

/// What is to be done besides writing, and when.
#[derive(Debug)]
pub(super) struct Chores {
    /// The cursor as it was last stored.
    pub(super) stored_cursor: u64,
    pub(super) cursor_due: Instant,
    pub(super) tidy_due: Instant,
    /// The disk was full: it is left alone until then.
    pub(super) retry_due: Option<Instant>,
    /// A record of so many bytes was refused.
    pub(super) refused_bytes: Option<u64>,
}

/// Why something was not written.
pub(super) enum Trouble {
    /// No room. Nothing changed.
    Full,
    /// The process is out of file descriptors. Nothing changed.
    Busy,
    /// Latched.
    Failed(Arc<str>),
}

/// The buffer is not kept if it is longer.
const BUFFER_KEPT_BYTES: usize = 1024 * 1024;

/// Starts the thread.
///
/// # Errors
///
/// When the system has no thread for us.
pub(super) fn spawn(mut writer: Writer) -> io::Result<JoinHandle<()>> {
    let shared = Arc::clone(&writer.shared);
    Builder::new().name("journal".to_owned()).spawn(move || {
        let run = catch_unwind(AssertUnwindSafe(|| writer.run()));
        if let Err(panic) = run {
            shared.fail(format!("the writer panicked: {}", panic_text(&*panic)));
        }
        // The lock goes before anybody is told that the journal is closed.
        drop(writer);
        shared.finish_close();
    })
}

impl Writer {
    fn run(&mut self) {
        loop {
            let batch_bytes_max = self.segment_bytes.saturating_sub(HEADER_BYTES);
            match self
                .shared
                .handover
                .next(batch_bytes_max, self.next_chore())
            {
                Work::Write(batch) => self.commit(batch),
                Work::Chores => {}
                Work::Close => break,
            }
            self.do_chores(Instant::now());
        }
        self.store_cursor_last();
    }

    fn next_chore(&self) -> Instant {
        let mut due = self.chores.tidy_due;
        if self.shared.handover.failed().is_some() {
            return due;
        }
        if self.shared.lock().cursor != self.chores.stored_cursor {
            due = due.min(self.chores.cursor_due);
        }
        if let Some(retry) = self.chores.retry_due {
            due = due.min(retry);
        }
        due
    }

    // === Writing ===

    /// Writes a batch and answers everybody in it.
    fn commit(&mut self, batch: Vec<Pending>) {
        match self.admit(batch) {
            Ok(batch) if batch.is_empty() => {}
            Ok(batch) => match self.store(&batch) {
                Ok(first) => self.publish(first, batch),
                Err(trouble) => self.refuse(trouble, batch),
            },
            Err((trouble, batch)) => self.refuse(trouble, batch),
        }
    }

    /// Answers who finds no room under `bytes_max`, and gives back the others.
    fn admit(&mut self, batch: Vec<Pending>) -> Result<Vec<Pending>, (Trouble, Vec<Pending>)> {
        if let Some(reason) = self.shared.handover.failed() {
            return Err((Trouble::Failed(reason), batch));
        }
        let end = self.next.saturating_add(segment::as_u64(records(&batch)));
        if end > POSITION_MAX {
            let reason = "its positions are used up, which only damage can do: move it away";
            let reason = self.shared.fail(reason.to_owned());
            return Err((Trouble::Failed(reason), batch));
        }
        if self
            .chores
            .retry_due
            .is_some_and(|due| Instant::now() < due)
        {
            return Err((Trouble::Full, batch));
        }
        let bytes = batch.iter().map(Pending::bytes).sum();
        if let Err(trouble) = self.make_room(bytes) {
            return Err((trouble, batch));
        }
        let mut admitted = Vec::with_capacity(batch.len());
        let mut sum = 0;
        for pending in batch {
            let bytes = pending.bytes();
            if self.has_room(sum + bytes) {
                sum += bytes;
                admitted.push(pending);
            } else {
                self.note_refused(bytes);
                pending.answer(Err(AppendError::Full));
            }
        }
        Ok(admitted)
    }

    /// Puts a batch on stable storage. Gives its first position.
    fn store(&mut self, batch: &[Pending]) -> Result<u64, Trouble> {
        loop {
            match self.write(batch) {
                Err(Trouble::Full) if self.delete_oldest()? => {}
                outcome => return outcome,
            }
        }
    }

    fn write(&mut self, batch: &[Pending]) -> Result<u64, Trouble> {
        let bytes = batch.iter().map(Pending::bytes).sum();
        if self.must_roll(bytes) {
            self.roll()?;
        }
        self.write_ahead(bytes)?;
        let seed = Seed::new(self.shared.log_id, self.active.sequence);
        let first = self.next;
        self.buffer.clear();
        for ((at, entry), position) in entries(batch).zip(first..) {
            let frame = Frame {
                position,
                durable: first,
                at,
                payload: &entry.payload,
            };
            frame::encode(&mut self.buffer, seed, entry.frame_bytes, &frame);
        }
        let written = self.active.file.write_at(&self.buffer, self.active.tail);
        if self.buffer.capacity() > BUFFER_KEPT_BYTES {
            self.buffer = Vec::new();
        }
        if let Err(error) = written {
            let trouble = self.trouble(&self.active_path(), "write", &error);
            return Err(self.cut_back(trouble));
        }
        let before = Instant::now();
        self.active
            .file
            .sync()
            .map_err(|error| self.failure(&self.active_path(), "sync", &error))?;
        if let Some(on_sync) = &self.on_sync {
            on_sync(before.elapsed(), records(batch));
        }
        Ok(first)
    }

    /// Writes zeros over what the batch and the next ones will take. Without room for more than
    /// the batch, it is the batch's write that has to find out. What is reserved is not touched:
    /// only here does a file grow, by more than a header.
    fn write_ahead(&mut self, bytes: u64) -> Result<(), Trouble> {
        let wanted = self.active.tail + bytes;
        if wanted <= self.active.allocated {
            return Ok(());
        }
        let free = self.free_bytes();
        if free < wanted - self.active.allocated {
            return Err(Trouble::Full);
        }
        let closed = self.closed_bytes;
        let most = self
            .segment_bytes
            .min(self.bytes_max.saturating_sub(closed))
            .max(wanted);
        let ahead = wanted
            .saturating_add(self.shared.tuning.ahead_bytes)
            .min(most)
            .min(self.active.allocated.saturating_add(free));
        let begin = self.active.allocated;
        match write_zeros(&*self.active.file, begin, ahead) {
            Ok(()) => {
                self.active.allocated = ahead;
                Ok(())
            }
            Err(error) => match self.trouble(&self.active_path(), "write", &error) {
                Trouble::Full => Ok(()),
                trouble => Err(trouble),
            },
        }
    }

    /// Forgets a write for which there was no room. Synced, because only the last segment may end
    /// in anything but records and zeros, and the next write may begin another.
    fn cut_back(&mut self, trouble: Trouble) -> Trouble {
        if let Trouble::Failed(_) = trouble {
            return trouble;
        }
        let file = &self.active.file;
        let cut = file.set_len(self.active.tail).and_then(|()| file.sync());
        match cut {
            Ok(()) => {
                self.active.allocated = self.active.tail;
                trouble
            }
            Err(error) => self.failure(&self.active_path(), "cut", &error),
        }
    }

    /// Begins a new segment. Its name is on stable storage before a record is in it.
    pub(super) fn roll(&mut self) -> Result<(), Trouble> {
        if self.active.allocated > self.active.tail {
            // Gives back what was written ahead. Not synced: a crash may bring zeros back, which
            // do no harm.
            let cut = self.active.file.set_len(self.active.tail);
            cut.map_err(|error| self.failure(&self.active_path(), "cut", &error))?;
            self.active.allocated = self.active.tail;
        }
        let sequence = self.active.sequence + 1;
        let previous_end = self
            .shared
            .lock()
            .segments
            .back()
            .map_or(self.next, |last| last.end);
        let log_id = self.shared.log_id;
        let header = Header {
            sequence,
            first: self.next,
            previous_end,
            log_id,
            mended: false,
        };
        let (disk, dir) = (&*self.shared.disk, &self.shared.dir);
        let path = segment::path(dir, sequence);
        let draft = Draft::begin(disk, dir, &header)
            .map_err(|error| self.trouble(&path, "create", &error))?;
        let file = draft
            .finish(disk)
            .map_err(|error| self.failure(&path, "create", &error))?;
        self.dir
            .sync()
            .map_err(|error| self.failure(dir, "sync", &error))?;
        self.closed_bytes += self.active.tail;
        self.active = Active {
            file,
            sequence,
            tail: HEADER_BYTES,
            allocated: HEADER_BYTES,
        };
        self.shared
            .lock()
            .segments
            .push_back(Segment::empty(sequence, self.next));
        Ok(())
    }

    /// Shows a stored batch to the readers and answers everybody in it.
    fn publish(&mut self, first: u64, batch: Vec<Pending>) {
        let tuning = &self.shared.tuning;
        let mut state = self.shared.lock();
        for ((at, entry), position) in entries(&batch).zip(first..) {
            let bytes = u64::from(entry.frame_bytes);
            if let Some(segment) = state.segments.back_mut() {
                segment.push(position, at, bytes, tuning.mark_bytes);
            }
            let payload = entry.payload.clone();
            state.ring.push(
                Record {
                    position: Position(position),
                    at,
                    payload,
                },
                tuning,
            );
            self.active.tail += bytes;
            self.next = position + 1;
        }
        let end = self.next;
        state.end = end;
        // A smaller record than the one that was refused says nothing about that one.
        let refused = self.chores.refused_bytes.filter(|b| !self.has_room(*b));
        state.full = refused.is_some();
        drop(state);
        self.chores.retry_due = None;
        self.chores.refused_bytes = refused;
        self.active.allocated = self.active.allocated.max(self.active.tail);
        self.shared
            .progress
            .send_modify(|progress| progress.end = end);
        let mut position = first;
        for pending in batch {
            let after = position + segment::as_u64(pending.entries.len());
            pending.answer(Ok(Position(position)));
            position = after;
        }
    }

    fn refuse(&mut self, trouble: Trouble, batch: Vec<Pending>) {
        let error = match trouble {
            Trouble::Full => {
                let now = Instant::now();
                if self.chores.retry_due.is_none_or(|due| due <= now) {
                    self.chores.retry_due = Some(now + self.shared.tuning.retry_every);
                }
                self.shared.lock().full = true;
                AppendError::Full
            }
            Trouble::Busy => AppendError::Busy,
            Trouble::Failed(reason) => AppendError::Failed(reason),
        };
        for pending in batch {
            pending.answer(Err(error.clone()));
        }
    }

    // === Trouble ===

    fn active_path(&self) -> PathBuf {
        segment::path(&self.shared.dir, self.active.sequence)
    }

    /// Sorts an error that came before a sync.
    pub(super) fn trouble(&self, path: &Path, what: &str, error: &io::Error) -> Trouble {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        if matches!(error.kind(), StorageFull | QuotaExceeded) {
            return Trouble::Full;
        }
        let errno = error
            .raw_os_error()
            .map(rustix::io::Errno::from_raw_os_error);
        if matches!(
            errno,
            Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)
        ) {
            return Trouble::Busy;
        }
        self.failure(path, what, error)
    }

    pub(super) fn failure(&self, path: &Path, what: &str, error: &io::Error) -> Trouble {
        let reason = format!("cannot {what} {}: {error}", path.display());
        Trouble::Failed(self.shared.fail(reason))
    }
}

fn records(batch: &[Pending]) -> usize {
    batch.iter().map(|pending| pending.entries.len()).sum()
}

/// The records of a batch in their order, each with its time.
fn entries(batch: &[Pending]) -> impl Iterator<Item = (Timestamp, &Entry)> {
    batch
        .iter()
        .flat_map(|pending| pending.entries.iter().map(|entry| (pending.at, entry)))
}

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

pub(super) fn write_zeros(file: &dyn DiskFile, begin: u64, end: u64) -> io::Result<()> {
    let mut at = begin;
    while at < end {
        let size = usize::try_from(end - at)
            .unwrap_or(usize::MAX)
            .min(ZEROS.len());
        let zeros = ZEROS.get(..size).unwrap_or(&ZEROS);
        file.write_at(zeros, at)?;
        at += segment::as_u64(size);
    }
    Ok(())
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
