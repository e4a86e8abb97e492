//! Making a directory whole at the start.
//!
//! [`mend`] is the one place that cuts or replaces anything, after the [`super::survey`] has said
//! what each file is. A torn tail is cut. Damage is refused or set aside: the file goes to
//! `damaged/`, and a new one with everything in it that verifies takes its place.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::OpenError;
use super::cursor::Cursor;
use super::disk::{Disk, DiskFile};
use super::segment::{self, Draft, HEADER_BYTES, Header};
use super::shared::Segment;
use super::survey::{Condition, Surveyed, Witness, gaps, io_at, survey};

/// What was found and done at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Records that are there.
    pub records: u64,
    /// Bytes cut off the end: a write that was under way when the last process ended.
    pub torn_bytes: u64,
    /// Positions at the end that were on stable storage once, says the cursor file, and have no
    /// record now.
    pub missing: u64,
    /// Damaged segments, oldest first.
    pub set_aside: Vec<SetAside>,
}

/// A damaged segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where it was moved.
    pub file: PathBuf,
    /// The first byte that is not as it was written.
    pub offset: u64,
    /// What is wrong there.
    pub what: &'static str,
    /// Its records that verify; they stay in the log.
    pub kept: u64,
}

/// What the writer goes on from.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) log_id: [u8; 16],
    pub(super) segments: Vec<Segment>,
    /// The last segment, to append to.
    pub(super) file: Arc<dyn DiskFile>,
    /// How long that file is.
    pub(super) allocated: u64,
    pub(super) cursor: u64,
    /// The position of the next record.
    pub(super) next: u64,
    /// Positions from the cursor on that have no record any more, in order.
    pub(super) gaps: Vec<Range<u64>>,
    pub(super) report: Recovery,
}

const DAMAGED_DIR: &str = "damaged";
/// How often one segment can be set aside before somebody has to tidy up.
const DAMAGED_NAMES_MAX: u32 = 1000;

/// Surveys a directory and makes it whole: after it, the last segment can be appended to, and
/// everything that the survey saw is on stable storage.
///
/// # Errors
///
/// Those of [`survey`]; damage, if it is to be refused, before anything was touched; and when the
/// disk does not let us write.
pub(super) fn mend(
    disk: &dyn Disk,
    dir: &Path,
    refuse_damage: bool,
    mark_bytes: u64,
    witness: &mut Witness<'_>,
) -> Result<Recovered, OpenError> {
    let survey = survey(disk, dir, mark_bytes, witness)?;
    if refuse_damage && let Some(refusal) = survey.segments.iter().find_map(refusal) {
        return Err(OpenError::Damaged(refusal));
    }
    segment::remove_temporary(disk, dir).map_err(|error| io_at(dir, error))?;

    let log_id = match survey.log_id {
        Some(log_id) => log_id,
        None => new_log_id().map_err(|error| io_at(dir, error))?,
    };
    let mut report = Recovery::default();
    for surveyed in &survey.segments {
        report.records += surveyed.records;
        if let Some(set_aside) = surveyed.replace(disk, dir, log_id)? {
            report.set_aside.push(set_aside);
        }
    }

    let first = survey
        .segments
        .first()
        .map_or(0, |surveyed| surveyed.index.first);
    let end = survey
        .segments
        .last()
        .map_or(0, |surveyed| surveyed.index.end);
    let known = survey
        .cursor
        .map_or(0, |cursor| cursor.confirmed.max(cursor.durable));
    // A position that a lost record had is not given again: the cursor may be beyond it.
    let next = end.max(known);
    report.missing = if survey.segments.is_empty() {
        0
    } else {
        next - end
    };
    let cursor = survey
        .cursor
        .map_or(first, |cursor| cursor.confirmed.max(first));
    if survey.cursor.is_none() {
        // In place of one that does not verify now and might later.
        let cursor = Cursor {
            log_id,
            confirmed: cursor,
            durable: end,
        };
        cursor.store(disk, dir).map_err(|error| io_at(dir, error))?;
    }

    let gaps = gaps(&survey.segments, next);

    let (file, allocated) = match survey.segments.last() {
        Some(last) => {
            let (file, allocated) = last.open_to_append(disk)?;
            if let Condition::Torn { .. } = last.condition {
                report.torn_bytes = last.file_bytes - allocated.min(last.file_bytes);
            }
            (file, allocated)
        }
        None => {
            let header = Header {
                sequence: 0,
                first: next,
                previous_end: next,
                log_id,
                mended: false,
            };
            let draft = Draft::begin(disk, dir, &header).map_err(|error| io_at(dir, error))?;
            (
                draft.finish(disk).map_err(|error| io_at(dir, error))?,
                HEADER_BYTES,
            )
        }
    };
    disk.sync_dir(dir).map_err(|error| io_at(dir, error))?;

    let mut segments: Vec<Segment> = survey.segments.into_iter().map(|s| s.index).collect();
    if segments.is_empty() {
        segments.push(Segment::empty(0, next));
    }
    Ok(Recovered {
        log_id,
        segments,
        file,
        allocated,
        cursor,
        next,
        gaps,
        report,
    })
}

impl Surveyed {
    /// Whether the file is to be replaced by one with what verifies.
    fn is_replaced(&self) -> bool {
        match self.condition {
            Condition::Whole => false,
            Condition::Torn { .. } => self.runs.len() > 1,
            Condition::Damaged { .. } => true,
        }
    }

    /// Puts a segment with everything that verifies in the place of a bad one, which is kept
    /// under another name if it is damaged. At any moment a crash leaves one of the two.
    fn replace(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        log_id: [u8; 16],
    ) -> Result<Option<SetAside>, OpenError> {
        if !self.is_replaced() {
            return Ok(None);
        }
        let at = |error| io_at(&self.path, error);
        let damage = match self.condition {
            Condition::Damaged { offset, what } => Some((offset, what)),
            Condition::Whole | Condition::Torn { .. } => None,
        };
        let mended = self.header.mended || damage.is_some();
        let header = Header {
            first: self.index.first,
            mended,
            log_id,
            ..self.header
        };
        let draft = Draft::begin(disk, dir, &header).map_err(at)?;
        let source = disk.open_to_read(&self.path).map_err(at)?;
        let mut to = HEADER_BYTES;
        for run in &self.runs {
            copy(&*source, run.offset, &*draft.file, to, run.bytes).map_err(at)?;
            to += run.bytes;
        }
        let set_aside = match damage {
            Some((offset, what)) => {
                let file = self.keep_aside(disk, dir)?;
                Some(SetAside {
                    file,
                    offset,
                    what,
                    kept: self.records,
                })
            }
            None => None,
        };
        draft.finish(disk).map_err(at)?;
        disk.sync_dir(dir).map_err(at)?;
        Ok(set_aside)
    }

    /// Gives the damaged file a name in `damaged/`.
    fn keep_aside(&self, disk: &dyn Disk, dir: &Path) -> Result<PathBuf, OpenError> {
        let aside = dir.join(DAMAGED_DIR);
        disk.create_dir(&aside)
            .map_err(|error| io_at(&aside, error))?;
        let sequence = self.header.sequence;
        for attempt in 0..DAMAGED_NAMES_MAX {
            let path = aside.join(format!("{sequence:016x}.{attempt}.wal"));
            match disk.link(&self.path, &path) {
                Ok(()) => {
                    disk.sync_dir(&aside)
                        .map_err(|error| io_at(&aside, error))?;
                    return Ok(path);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io_at(&path, error)),
            }
        }
        let error = io::Error::other("too many damaged segments are kept here: move them away");
        Err(io_at(&aside, error))
    }

    /// Opens the last segment, cuts what is torn, and writes its last records once more. After a
    /// failed sync memory may show bytes that the disk never got, and a later sync would not write
    /// them; so what was perhaps not synced is made new.
    fn open_to_append(&self, disk: &dyn Disk) -> Result<(Arc<dyn DiskFile>, u64), OpenError> {
        let open = || {
            let file = disk.open(&self.path)?;
            if self.is_replaced() {
                return Ok((file, self.index.bytes));
            }
            let mut allocated = self.file_bytes;
            if self.condition != Condition::Whole {
                file.set_len(self.index.bytes)?;
                allocated = self.index.bytes;
            }
            file.write_at(&self.header.encode(), 0)?;
            let bytes = self.index.bytes - self.last_write;
            copy(&*file, self.last_write, &*file, self.last_write, bytes)?;
            file.sync()?;
            Ok((file, allocated))
        };
        open().map_err(|error| io_at(&self.path, error))
    }
}

/// Why a damaged segment is refused, and what to do.
fn refusal(surveyed: &Surveyed) -> Option<String> {
    let Condition::Damaged { offset, what } = surveyed.condition else {
        return None;
    };
    Some(format!(
        "{} is damaged at byte {offset}: {what}; {} of its records verify. restore the file from a \
         copy, or set journal.on_damage to \"set-aside\" to go on with what verifies and keep the \
         file in {DAMAGED_DIR}/; `hookgate journal verify` says more",
        surveyed.path.display(),
        surveyed.records,
    ))
}

fn copy(
    from: &dyn DiskFile,
    mut from_offset: u64,
    to: &dyn DiskFile,
    mut to_offset: u64,
    bytes: u64,
) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let size = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(segment::READ_BYTES);
        let mut buffer = vec![0; size];
        if from.read_at(&mut buffer, from_offset)? < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_at(&buffer, to_offset)?;
        let size = segment::as_u64(size);
        from_offset += size;
        to_offset += size;
        left -= size;
    }
    Ok(())
}

/// A number that no other log has, and that nobody outside can guess.
fn new_log_id() -> io::Result<[u8; 16]> {
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id).map_err(|_unspecified| {
        io::Error::other("the system gives no random numbers for the log id")
    })?;
    Ok(id)
}
