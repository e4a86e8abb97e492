//! Looks into a directory without the right to write in it, for the command line. It takes no lock
//! and changes nothing, so it also works while a gateway runs on the directory: then the last
//! segment may end in a write that is under way, which looks like a torn tail.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::disk::{Disk, RealDisk};
use super::segment::{self, HEADER_BYTES, Header, Scanner};
use super::shared::{self, Tuning};
use super::survey::{self, Condition, Survey};
use super::{OpenError, Position, Record};

/// What a directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The first record that is still there.
    pub first: Position,
    /// The first that is not confirmed, as last stored; `None` if no cursor file verifies.
    pub cursor: Option<Position>,
    /// One past the last record.
    pub end: Position,
    /// Records that are not confirmed, as far as the cursor says.
    pub waiting: u64,
    /// Oldest first.
    pub segments: Vec<SegmentContents>,
}

/// What one segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentContents {
    /// The file.
    pub file: PathBuf,
    /// Its length, with the zeros written ahead.
    pub file_bytes: u64,
    /// The first record's position, or the one that it will get.
    pub first: Position,
    /// One past its last record.
    pub end: Position,
    /// Records that verify.
    pub records: u64,
    /// When the newest was appended.
    pub newest: Option<Timestamp>,
    /// Whether all is as it was written.
    pub health: Health,
}

/// Whether a segment is as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is.
    Whole,
    /// It ends in a write that did not complete. The next start cuts it.
    Torn {
        /// Where.
        offset: u64,
    },
    /// It is not. The next start sets it aside, or refuses.
    Damaged {
        /// Where.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
}

impl Contents {
    /// Looks at every record of a directory.
    ///
    /// # Errors
    ///
    /// When the disk does not let us read, or a segment is of a later format version. Damage is
    /// no error here but [`Health`].
    pub fn verify(dir: &Path) -> Result<Self, OpenError> {
        let mark_bytes = Tuning::default().mark_bytes;
        let survey = survey::survey(&RealDisk, dir, mark_bytes, &mut |_| {
            ControlFlow::Continue(())
        })?;
        Ok(Self::new(&survey))
    }

    /// Whether every segment is whole, or torn where it may be.
    pub fn is_sound(&self) -> bool {
        self.segments
            .iter()
            .all(|s| !matches!(s.health, Health::Damaged { .. }))
    }

    pub(super) fn new(survey: &Survey) -> Self {
        let first = survey
            .segments
            .first()
            .map_or(0, |surveyed| surveyed.index.first);
        let end = survey
            .segments
            .last()
            .map_or(0, |surveyed| surveyed.index.end);
        let segments = survey.segments.iter().map(|surveyed| SegmentContents {
            file: surveyed.path.clone(),
            file_bytes: surveyed.file_bytes,
            first: Position(surveyed.index.first),
            end: Position(surveyed.index.end),
            records: surveyed.records,
            newest: surveyed
                .index
                .newest
                .and_then(|at| Timestamp::from_microsecond(at).ok()),
            health: match surveyed.condition {
                Condition::Whole => Health::Whole,
                Condition::Torn { offset } => Health::Torn { offset },
                Condition::Damaged { offset, what } => Health::Damaged { offset, what },
            },
        });
        let cursor = survey.cursor.map(|cursor| cursor.confirmed);
        let gaps = survey::gaps(&survey.segments, end);
        Self {
            first: Position(first),
            cursor: cursor.map(Position),
            end: Position(end),
            waiting: shared::waiting(cursor.unwrap_or(first).max(first), end, &gaps),
            segments: segments.collect(),
        }
    }
}

/// The records of a directory from a position on, in order. It passes over what does not verify:
/// [`Contents::verify`] tells about that.
#[derive(Debug)]
pub struct Records {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Nothing before it is wanted.
    position: u64,
    /// Segments still to be read, the next one last.
    sequences: Vec<u64>,
    scanner: Option<Scanner>,
}

impl Records {
    /// Begins at `from`, or at the first record if that is later.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    pub fn read(dir: &Path, from: Position) -> io::Result<Self> {
        Self::read_on(Arc::new(RealDisk), dir, from)
    }

    pub(super) fn read_on(disk: Arc<dyn Disk>, dir: &Path, from: Position) -> io::Result<Self> {
        let mut sequences = segment::list(&*disk, dir)?;
        // A later segment's first position says that an earlier one need not be read.
        let mut begin = 0;
        for (index, sequence) in sequences.iter().enumerate().skip(1) {
            match header(&*disk, dir, *sequence)? {
                Some(header) if header.first <= from.0 => begin = index,
                Some(_) => break,
                None => {}
            }
        }
        let mut sequences = sequences.split_off(begin);
        sequences.reverse();
        let dir = dir.to_owned();
        Ok(Self {
            disk,
            dir,
            position: from.0,
            sequences,
            scanner: None,
        })
    }

    fn next_record(&mut self) -> io::Result<Option<Record>> {
        loop {
            let Some(scanner) = &mut self.scanner else {
                let Some(sequence) = self.sequences.pop() else {
                    return Ok(None);
                };
                self.scanner = open(&*self.disk, &self.dir, sequence)?;
                continue;
            };
            match scanner.next()? {
                Some(frame) if frame.position < self.position => {}
                Some(frame) => {
                    self.position = frame.position.saturating_add(1);
                    return Ok(Some(Record::copy(&frame)));
                }
                None => {
                    if scanner.only_zeros_follow()? || !scanner.resync(self.position)? {
                        self.scanner = None;
                    }
                }
            }
        }
    }
}

impl Iterator for Records {
    type Item = io::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_record();
        if next.is_err() {
            // The same error for ever would be no end.
            self.scanner = None;
            self.sequences.clear();
        }
        next.transpose()
    }
}

/// `None` if it was deleted meanwhile or does not verify.
fn header(disk: &dyn Disk, dir: &Path, sequence: u64) -> io::Result<Option<Header>> {
    match disk.open_to_read(&segment::path(dir, sequence)) {
        Ok(file) => Ok(Header::load(&*file, sequence)?.ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn open(disk: &dyn Disk, dir: &Path, sequence: u64) -> io::Result<Option<Scanner>> {
    let file = match disk.open_to_read(&segment::path(dir, sequence)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let end = file.len()?;
    let header = Header::load(&*file, sequence)?.ok();
    Ok(header.map(|header| Scanner::new(file, header.seed(), HEADER_BYTES, end)))
}
