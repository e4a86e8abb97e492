//! What the writer does besides writing: it makes room, stores the cursor, deletes what has
//! outlived its time, and finds out whether a full disk has room again.

use std::io;

use tokio::time::Instant;

use super::cursor::Cursor;
use super::segment::{self, HEADER_BYTES};
use super::shared::Segment;
use super::writer::{Trouble, Writer, write_zeros};
use crate::clock::Now;

/// A journal without room for a record of this size is full, whatever smaller ones still fit. One
/// without room for a larger record is not.
const ORDINARY_RECORD_BYTES: u64 = 64 * 1024;

/// Its suffix lets the next open remove it.
const PROBE: &str = "probe.tmp";

impl Writer {
    // === Room ===

    /// Whether so many bytes more fit under `bytes_max`.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        let header = if self.must_roll(bytes) {
            HEADER_BYTES
        } else {
            0
        };
        let used = self.closed_bytes + self.active.tail;
        used.saturating_add(header).saturating_add(bytes) <= self.bytes_max
    }

    /// How much of the disk records may still take: what is free, less what is reserved. All, if
    /// the system does not say.
    pub(super) fn free_bytes(&self) -> u64 {
        let reserved = self
            .segment_bytes
            .saturating_mul(self.shared.tuning.reserve_segments)
            .max(self.reserve_bytes);
        let free = self.shared.disk.free_bytes(&self.shared.dir);
        free.map_or(u64::MAX, |free| free.saturating_sub(reserved))
    }

    fn can_ever_hold(&self, bytes: u64) -> bool {
        bytes.saturating_add(2 * HEADER_BYTES) <= self.bytes_max
    }

    pub(super) fn must_roll(&self, bytes: u64) -> bool {
        let begun = self.active.tail > HEADER_BYTES;
        begun && self.active.tail.saturating_add(bytes) > self.segment_bytes
    }

    /// Deletes confirmed segments, oldest first, until so many bytes fit or none is left.
    pub(super) fn make_room(&mut self, bytes: u64) -> Result<(), Trouble> {
        // Nothing is deleted for a record that could never fit.
        while !self.has_room(bytes) && self.can_ever_hold(bytes) {
            if self.delete_oldest()? {
                continue;
            }
            if !self.active_is_confirmed() {
                break;
            }
            self.roll()?;
        }
        Ok(())
    }

    fn active_is_confirmed(&self) -> bool {
        let confirmed = self.shared.lock().cursor >= self.next;
        confirmed && self.active.tail > HEADER_BYTES
    }

    pub(super) fn note_refused(&mut self, bytes: u64) {
        let ordinary = bytes.min(ORDINARY_RECORD_BYTES);
        if self.can_ever_hold(bytes) && !self.has_room(ordinary) {
            self.chores.refused_bytes = Some(ordinary);
            self.shared.lock().full = true;
        }
    }

    /// Deletes the oldest segment if it is confirmed and not the active one. Tells whether it did.
    pub(super) fn delete_oldest(&mut self) -> Result<bool, Trouble> {
        let mut state = self.shared.lock();
        let confirmed = |segment: &Segment| segment.end <= state.cursor;
        if state.segments.len() < 2 || !state.segments.front().is_some_and(confirmed) {
            return Ok(false);
        }
        let Some(oldest) = state.segments.pop_front() else {
            return Ok(false);
        };
        drop(state);
        self.closed_bytes = self.closed_bytes.saturating_sub(oldest.bytes);
        let (disk, dir) = (&*self.shared.disk, &self.shared.dir);
        let path = segment::path(dir, oldest.sequence);
        disk.remove(&path)
            .map_err(|error| self.failure(&path, "delete", &error))?;
        // One at a time: a crash must not bring back the older of two.
        self.dir
            .sync()
            .map_err(|error| self.failure(dir, "sync", &error))?;
        Ok(true)
    }

    // === Chores ===

    pub(super) fn do_chores(&mut self, now: Instant) {
        if self.shared.handover.failed().is_some() {
            self.chores.tidy_due = now + self.shared.tuning.tidy_every;
            return;
        }
        // What fails is latched where it fails, and everybody who asks is told then.
        if now >= self.chores.cursor_due {
            drop(self.store_cursor(now));
        }
        drop(self.look_for_room());
        if self.chores.retry_due.is_some_and(|due| now >= due) {
            drop(self.retry(now));
        }
        if now >= self.chores.tidy_due {
            self.chores.tidy_due = now + self.shared.tuning.tidy_every;
            drop(self.delete_outlived());
        }
    }

    fn store_cursor(&mut self, now: Instant) -> Result<(), Trouble> {
        let (confirmed, durable) = {
            let state = self.shared.lock();
            (state.cursor, state.end)
        };
        if confirmed == self.chores.stored_cursor {
            return Ok(());
        }
        self.chores.cursor_due = now + self.shared.tuning.cursor_every;
        let cursor = Cursor {
            log_id: self.shared.log_id,
            confirmed,
            durable,
        };
        let (disk, dir) = (&*self.shared.disk, &self.shared.dir);
        // A full disk only makes it wait for the next time.
        cursor
            .store(disk, dir)
            .map_err(|error| self.trouble(dir, "store the cursor", &error))?;
        self.chores.stored_cursor = confirmed;
        Ok(())
    }

    /// At the end the name counts too: there is no later crash to blame for duplicates.
    pub(super) fn store_cursor_last(&self) {
        if self.shared.handover.failed().is_some() {
            return;
        }
        let (confirmed, durable) = {
            let state = self.shared.lock();
            (state.cursor, state.end)
        };
        let cursor = Cursor {
            log_id: self.shared.log_id,
            confirmed,
            durable,
        };
        let (disk, dir) = (&*self.shared.disk, &self.shared.dir);
        if let Err(error) = cursor.store(disk, dir).and_then(|()| self.dir.sync()) {
            tracing::warn!(%error, "cannot store the journal's cursor; some records are published again");
        }
    }

    /// After `bytes_max` was reached, and the cursor moved: is there room now?
    fn look_for_room(&mut self) -> Result<(), Trouble> {
        if let Some(bytes) = self.chores.refused_bytes {
            self.make_room(bytes)?;
            if self.has_room(bytes) {
                self.chores.refused_bytes = None;
                self.shared.lock().full = false;
            }
        }
        Ok(())
    }

    /// After the disk was full: is there room now? Readiness depends on it, and without readiness
    /// no record comes that could try.
    fn retry(&mut self, now: Instant) -> Result<(), Trouble> {
        self.chores.retry_due = Some(now + self.shared.tuning.retry_every);
        while let Err(error) = self.probe() {
            let path = self.shared.dir.join(PROBE);
            let trouble = self.trouble(&path, "write", &error);
            if !matches!(trouble, Trouble::Full) || !self.delete_oldest()? {
                return Err(trouble);
            }
        }
        self.chores.retry_due = None;
        self.shared.lock().full = self.chores.refused_bytes.is_some();
        Ok(())
    }

    /// Whether an ordinary write finds room.
    fn probe(&self) -> io::Result<()> {
        let bytes = self.shared.tuning.probe_bytes;
        if self.free_bytes() < bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let (disk, path) = (&self.shared.disk, self.shared.dir.join(PROBE));
        let file = disk.create(&path)?;
        let written = write_zeros(&*file, 0, bytes);
        disk.remove(&path).and(written)
    }

    fn delete_outlived(&mut self) -> Result<(), Trouble> {
        let now = Now::read().wall.as_microsecond();
        let retain = i64::try_from(self.retain.as_micros()).unwrap_or(i64::MAX);
        while self.oldest_is_older_than(now.saturating_sub(retain)) {
            if !self.delete_oldest()? {
                break;
            }
        }
        Ok(())
    }

    fn oldest_is_older_than(&self, then: i64) -> bool {
        let state = self.shared.lock();
        state
            .segments
            .front()
            .is_some_and(|segment| segment.newest.is_none_or(|at| at < then))
    }
}
