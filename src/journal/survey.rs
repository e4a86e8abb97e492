//! What is in a directory. Nothing here changes any of it: `journal verify` looks at the directory
//! of a running gateway.
//!
//! Each segment is
//!
//! - *whole*;
//! - with a *torn tail*: the last segment ends in bytes that are no record, and nothing proves
//!   that a record there was ever acknowledged. If a write that was never acknowledged reached the
//!   disk in part, its later records may verify;
//! - *damaged*: anything else. A record that verifies after the bad bytes says (by its `durable`
//!   field) that they were on stable storage once, or they are not in the last segment.

use std::io;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::OpenError;
use super::cursor::Cursor;
use super::disk::{Disk, DiskFile};
use super::frame::Frame;
use super::segment::{self, BadHeader, HEADER_BYTES, Header, Scanner};
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
    pub(super) header: Header,
    pub(super) file_bytes: u64,
    /// Positions without a record, inside of it.
    gaps: Vec<Range<u64>>,
    /// Where records are: one run from the header on, if it is whole.
    pub(super) runs: Vec<Run>,
    /// Index of what verifies, as if it stood alone.
    pub(super) index: Segment,
    pub(super) records: u64,
    /// Where the records of the last write begin.
    pub(super) last_write: u64,
    pub(super) condition: Condition,
}

/// Neighbouring records that verify.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) offset: u64,
    pub(super) bytes: u64,
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

pub(super) fn io_at(path: &Path, error: io::Error) -> OpenError {
    OpenError::Io {
        path: path.to_owned(),
        error,
    }
}
