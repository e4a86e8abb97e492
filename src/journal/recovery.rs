//! What is in a directory, and making it whole at the start.
//!
//! [`survey`] only looks: `journal verify` uses it on the directory of a running gateway.
//! [`mend`] is the one place that cuts or replaces anything, after the survey has said what each
//! file is:
//!
//! - *whole*;
//! - with a *torn tail*: the last segment ends in bytes that are no record, and nothing proves
//!   that a record there was ever acknowledged. They are cut. If a write that was never
//!   acknowledged reached the disk in part, its later records may verify; they are kept;
//! - *damaged*: anything else. A record that verifies after the bad bytes says (by its `durable`
//!   field) that they were on stable storage once, or they are not in the last segment.
//!
//! Damage is refused or set aside: the file goes to `damaged/`, and a new one with everything in
//! it that verifies takes its place.

use std::io;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::OpenError;
use super::cursor::Cursor;
use super::disk::{Disk, DiskFile};
use super::frame::Frame;
use super::segment::{self, BadHeader, Draft, HEADER_BYTES, Header, Scanner};
use super::shared::Segment;

/// What a directory holds.
#[derive(Debug)]
pub(super) struct Survey {
    /// `None` if no file tells.
    pub(super) log_id: Option<[u8; 16]>,
    /// `None` if there is none that verifies and belongs to this log.
    pub(super) cursor: Option<Cursor>,
    pub(super) segments: Vec<Surveyed>,
}

/// What one segment holds.
#[derive(Debug)]
pub(super) struct Surveyed {
    pub(super) path: PathBuf,
    /// As read, or as it should be.
    header: Header,
    pub(super) file_bytes: u64,
    /// Where records are: one run from the header on, if it is whole.
    /// Positions without a record, inside of it.
    gaps: Vec<Range<u64>>,
    runs: Vec<Run>,
    /// Index of what verifies, as if it stood alone.
    pub(super) index: Segment,
    pub(super) records: u64,
    /// Where the records of the last write begin.
    last_write: u64,
    pub(super) condition: Condition,
}

/// Neighbouring records that verify.
#[derive(Clone, Copy, Debug)]
struct Run {
    offset: u64,
    bytes: u64,
}

/// What is to be said of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Every byte is as it was written.
    Whole,
    /// The last write, never acknowledged, did not reach the disk in full.
    Torn {
        /// Where the first bad byte may be.
        offset: u64,
    },
    /// Something that was on stable storage is not there.
    Damaged {
        /// Where the first bad byte may be.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
}

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

/// Shown every record that verifies, in order, and may end the survey.
pub(super) type Witness<'a> = dyn FnMut(&Frame<'_>) -> ControlFlow<()> + 'a;

/// Why a segment was not surveyed to its end.
enum Halt {
    Io(io::Error),
    /// The witness has seen enough.
    Stopped,
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

const DAMAGED_DIR: &str = "damaged";
/// How often one segment can be set aside before somebody has to tidy up.
const DAMAGED_NAMES_MAX: u32 = 1000;

// === Survey ===

/// Looks at every record. Changes nothing.
///
/// # Errors
///
/// When the disk does not let us read, which is no damage; when a segment is of a later format
/// version; and when the witness ends it.
pub(super) fn survey(
    disk: &dyn Disk,
    dir: &Path,
    mark_bytes: u64,
    witness: &mut Witness<'_>,
) -> Result<Survey, OpenError> {
    let sequences = segment::list(disk, dir).map_err(|error| io_at(dir, error))?;
    let mut headers = Vec::new();
    for sequence in sequences {
        let path = segment::path(dir, sequence);
        let Some(file) = open(disk, &path)? else {
            continue;
        };
        let header = Header::load(&*file, sequence).map_err(|error| io_at(&path, error))?;
        if let Err(BadHeader::Version(version)) = header {
            return Err(OpenError::Damaged(format!(
                "{} is in format version {version}, which this hookgate does not know: use the \
                 version that wrote it, or a later one",
                path.display()
            )));
        }
        // Not kept open: there may be more segments than file descriptors.
        headers.push((sequence, path, header.ok()));
    }
    let cursor = Cursor::load(disk, dir);
    let known = headers
        .iter()
        .filter_map(|(_, _, header)| header.map(|h| h.log_id));
    let log_id = most_common(known).or(cursor.map(|cursor| cursor.log_id));
    let cursor = cursor.filter(|cursor| Some(cursor.log_id) == log_id);

    let mut segments: Vec<Surveyed> = Vec::new();
    let last = headers.last().map(|(sequence, ..)| *sequence);
    for (sequence, path, header) in headers {
        let Some(file) = open(disk, &path)? else {
            continue;
        };
        let look = Look {
            header: header.filter(|header| Some(header.log_id) == log_id),
            sequence,
            log_id: log_id.unwrap_or_default(),
            floor: segments.last().map_or(0, |before| before.index.end),
            durable: cursor.map_or(0, |cursor| cursor.durable),
            is_last: Some(sequence) == last,
            mark_bytes,
        };
        let surveyed = match look.at(path.clone(), file, witness) {
            Ok(surveyed) => surveyed,
            Err(Halt::Io(error)) => return Err(io_at(&path, error)),
            Err(Halt::Stopped) => return Err(OpenError::Stopped),
        };
        if let Some(before) = segments.last_mut() {
            before.check_end(&surveyed.header);
        }
        segments.push(surveyed);
    }
    Ok(Survey {
        log_id,
        cursor,
        segments,
    })
}

/// `None` if the file is gone: a running gateway deletes the oldest when it is time.
fn open(disk: &dyn Disk, path: &Path) -> Result<Option<Arc<dyn DiskFile>>, OpenError> {
    match disk.open_to_read(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_at(path, error)),
    }
}

/// What is known of a segment before its records are read.
struct Look {
    header: Option<Header>,
    sequence: u64,
    log_id: [u8; 16],
    /// Earlier positions are taken.
    floor: u64,
    /// Everything before it was on stable storage, says the cursor file.
    durable: u64,
    is_last: bool,
    mark_bytes: u64,
}

impl Look {
    fn at(
        &self,
        path: PathBuf,
        file: Arc<dyn DiskFile>,
        witness: &mut Witness<'_>,
    ) -> Result<Surveyed, Halt> {
        let header = self.header.unwrap_or(Header {
            sequence: self.sequence,
            first: self.floor,
            previous_end: self.floor,
            log_id: self.log_id,
            mended: true,
        });
        let file_bytes = file.len()?;
        let mut scanner = Scanner::new(file, header.seed(), HEADER_BYTES, file_bytes);
        let mut found = Surveyed {
            path,
            header,
            file_bytes,
            runs: Vec::new(),
            gaps: Vec::new(),
            index: Segment::empty(header.sequence, header.first.max(self.floor)),
            records: 0,
            last_write: HEADER_BYTES,
            condition: Condition::Whole,
        };
        found.take_run(&mut scanner, self.mark_bytes, witness)?;
        // The first bad bytes, what came before them, and what the records after them know.
        let offset = scanner.offset();
        let end = found.index.end;
        let mut durable = self.durable;
        let clean = scanner.only_zeros_follow()?;
        if !clean {
            while scanner.resync(found.index.end)? {
                durable = durable.max(found.take_run(&mut scanner, self.mark_bytes, witness)?);
            }
        }
        found.condition = if self.header.is_none() {
            Condition::Damaged {
                offset: 0,
                what: "the header does not verify",
            }
        } else if clean {
            Condition::Whole
        } else if !self.is_last {
            Condition::Damaged {
                offset,
                what: "a record does not verify",
            }
        } else if found.runs.len() > 1 && durable > end {
            Condition::Damaged {
                offset,
                what: "a record does not verify, but later ones do",
            }
        } else {
            Condition::Torn { offset }
        };
        Ok(found)
    }
}

impl Surveyed {
    /// Takes records from the scanner, up to what is none or has a position that is taken. Gives
    /// the highest `durable` among them.
    fn take_run(
        &mut self,
        scanner: &mut Scanner,
        mark_bytes: u64,
        witness: &mut Witness<'_>,
    ) -> Result<u64, Halt> {
        let begin = scanner.offset();
        let mut end = begin;
        let mut durable = 0;
        while let Some(frame) = scanner.next()? {
            if frame.position < self.index.end {
                scanner.rewind(end);
                break;
            }
            if frame.durable > durable || end == begin {
                self.last_write = end;
            }
            durable = durable.max(frame.durable);
            if witness(&frame).is_break() {
                return Err(Halt::Stopped);
            }
            let (position, at) = (frame.position, frame.at);
            if position > self.index.end {
                self.gaps.push(self.index.end..position);
            }
            let bytes = scanner.offset() - end;
            self.index.push(position, at, bytes, mark_bytes);
            self.records += 1;
            end += bytes;
        }
        self.runs.push(Run {
            offset: begin,
            bytes: end - begin,
        });
        Ok(durable)
    }

    /// Damaged too if the next segment began after records that are not in this one.
    fn check_end(&mut self, next: &Header) {
        let whole = self.condition == Condition::Whole;
        if whole && !self.header.mended && next.previous_end > self.index.end {
            let offset = self.index.bytes;
            self.condition = Condition::Damaged {
                offset,
                what: "records are missing at the end",
            };
        }
    }
}

// === Mending ===

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

/// Positions without a record: inside of segments, between them, and before `next`.
pub(super) fn gaps(segments: &[Surveyed], next: u64) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    let mut end = segments.first().map_or(next, |first| first.index.first);
    for segment in segments {
        gaps.push(end..segment.index.first);
        gaps.extend(segment.gaps.iter().cloned());
        end = segment.index.end;
    }
    gaps.push(end..next);
    gaps.retain(|gap| !gap.is_empty());
    gaps
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

fn io_at(path: &Path, error: io::Error) -> OpenError {
    OpenError::Io {
        path: path.to_owned(),
        error,
    }
}

/// The value that comes most often; the earlier one of two that come equally often.
fn most_common(ids: impl Iterator<Item = [u8; 16]>) -> Option<[u8; 16]> {
    let mut counts: Vec<([u8; 16], u32)> = Vec::new();
    for id in ids {
        match counts.iter_mut().find(|(known, _)| *known == id) {
            Some((_, count)) => *count += 1,
            None => counts.push((id, 1)),
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max()?;
    counts
        .into_iter()
        .find(|(_, count)| *count == most)
        .map(|(id, _)| id)
}
