//! One file of the log: its name, its header, how it comes into being, how its records are found.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use super::frame::{self, Decoded, Frame, POSITION_MAX, Seed};

/// Bytes before the first record.
pub(super) const HEADER_BYTES: u64 = 64;

/// How much is read at once, unless one record is longer.
pub(super) const READ_BYTES: usize = 256 * 1024;

const MAGIC: [u8; 8] = *b"hgateWAL";
const VERSION: u32 = 1;
const FLAG_MENDED: u32 = 1;
const SUFFIX: &str = ".wal";
const SUFFIX_TEMPORARY: &str = ".tmp";

/// The highest sequence that is taken for one of ours: whatever follows it can be counted too.
const SEQUENCE_MAX: u64 = u64::MAX >> 1;

// === Names ===

/// The file of a sequence.
pub(super) fn path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}{SUFFIX}"))
}

/// The sequences of the segments in `dir`, in order.
pub(super) fn list(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<u64>> {
    let names = disk.list(dir)?;
    let mut sequences: Vec<u64> = names.iter().filter_map(|name| sequence_of(name)).collect();
    sequences.sort_unstable();
    Ok(sequences)
}

/// Removes what was not finished when the last process ended.
pub(super) fn remove_temporary(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    for name in disk.list(dir)? {
        if name.ends_with(SUFFIX_TEMPORARY) {
            disk.remove(&dir.join(name))?;
        }
    }
    Ok(())
}

/// Removes a file, or finds it gone.
pub(super) fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let sequence = u64::from_str_radix(digits, 16).ok()?;
    // The one spelling that we write: "+1.wal" and "A.wal" are not ours.
    (sequence <= SEQUENCE_MAX && format!("{sequence:016x}") == digits).then_some(sequence)
}

// === impl Header ===

/// The first bytes of a segment. The layout is drawn in [`crate::journal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) sequence: u64,
    /// The position that the first record gets.
    pub(super) first: u64,
    /// One past the last record of the segment before, so that a missing one is noticed.
    pub(super) previous_end: u64,
    pub(super) log_id: [u8; 16],
    /// Rewritten after damage: its records may end before the next segment's begin.
    pub(super) mended: bool,
}

/// Why a header is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// Too short, not ours, or the checksum is wrong.
    Damaged,
    /// Sound, but of a later format version.
    Version(u32),
}

impl Header {
    /// What the checksums of this segment begin with.
    pub(super) fn seed(&self) -> Seed {
        Seed::new(self.log_id, self.sequence)
    }

    /// Reads the header of a file that should have this sequence.
    pub(super) fn load(file: &dyn DiskFile, sequence: u64) -> io::Result<Result<Self, BadHeader>> {
        let mut bytes = [0; 64];
        file.read_at(&mut bytes, 0)?;
        let header = Self::decode(&bytes);
        let misplaced = header.is_ok_and(|header| header.sequence != sequence);
        Ok(if misplaced {
            Err(BadHeader::Damaged)
        } else {
            header
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let flags = if self.mended { FLAG_MENDED } else { 0 };
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&self.previous_end.to_le_bytes());
        bytes.extend_from_slice(&self.log_id);
        bytes.extend_from_slice(&[0; 4]);
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; 64]) -> Result<Self, BadHeader> {
        let sound = bytes.starts_with(&MAGIC)
            && bytes.split_last_chunk().is_some_and(|(covered, checksum)| {
                crc32c::crc32c(covered) == u32::from_le_bytes(*checksum)
            });
        if !sound {
            return Err(BadHeader::Damaged);
        }
        match Self::fields(bytes) {
            Some((VERSION, header)) if header.makes_sense() => Ok(header),
            Some((VERSION, _)) => Err(BadHeader::Damaged),
            Some((version, _)) => Err(BadHeader::Version(version)),
            None => Err(BadHeader::Damaged),
        }
    }

    /// A sound checksum does not say that we wrote it.
    fn makes_sense(&self) -> bool {
        self.first <= POSITION_MAX && self.previous_end <= POSITION_MAX
    }

    fn fields(bytes: &[u8]) -> Option<(u32, Self)> {
        let bytes = bytes.strip_prefix(&MAGIC)?;
        let (version, bytes) = bytes.split_first_chunk()?;
        let (flags, bytes) = bytes.split_first_chunk()?;
        let (sequence, bytes) = bytes.split_first_chunk()?;
        let (first, bytes) = bytes.split_first_chunk()?;
        let (previous_end, bytes) = bytes.split_first_chunk()?;
        let (log_id, _) = bytes.split_first_chunk()?;
        let header = Self {
            sequence: u64::from_le_bytes(*sequence),
            first: u64::from_le_bytes(*first),
            previous_end: u64::from_le_bytes(*previous_end),
            log_id: *log_id,
            mended: u32::from_le_bytes(*flags) & FLAG_MENDED != 0,
        };
        Some((u32::from_le_bytes(*version), header))
    }
}

// === impl Draft ===

/// A segment that is being made under a temporary name, so that one with a half-written header
/// never has a real one.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) file: Arc<dyn DiskFile>,
    temporary: PathBuf,
    path: PathBuf,
}

impl Draft {
    /// Makes the file and writes the header.
    pub(super) fn begin(disk: &dyn Disk, dir: &Path, header: &Header) -> io::Result<Self> {
        let path = path(dir, header.sequence);
        let temporary = dir.join(format!("{:016x}{SUFFIX_TEMPORARY}", header.sequence));
        let file = disk.create(&temporary)?;
        let written = file.write_at(&header.encode(), 0);
        if let Err(error) = written {
            // Only a courtesy to a full disk. The next open removes it too.
            drop(disk.remove(&temporary));
            return Err(error);
        }
        Ok(Self {
            file,
            temporary,
            path,
        })
    }

    /// Puts it on stable storage, in place of the segment that has its name. The directory is
    /// still to be synced.
    pub(super) fn finish(self, disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
        self.file.sync()?;
        disk.rename(&self.temporary, &self.path)?;
        Ok(self.file)
    }
}

// === impl Scanner ===

/// Finds the records in one file, reading it in large pieces and front to back.
#[derive(Debug)]
pub(super) struct Scanner {
    file: Arc<dyn DiskFile>,
    seed: Seed,
    /// Where the next record is looked for.
    offset: u64,
    /// Where the file ends, or the part of it that may be read.
    end: u64,
    /// A piece of the file, and where it begins.
    buffer: Vec<u8>,
    loaded: u64,
    /// How many bytes [`Scanner::resync`] may still spend on what turns out to be no record.
    patience: u64,
}

/// How many times over a file may be read in search of its next record: payloads come from
/// strangers, who may make them look like heads.
const PATIENCE: u64 = 16;

impl Scanner {
    /// Looks at `file` from `offset` to `end`.
    pub(super) fn new(file: Arc<dyn DiskFile>, seed: Seed, offset: u64, end: u64) -> Self {
        let patience = end.saturating_mul(PATIENCE);
        Self {
            file,
            seed,
            offset,
            end,
            buffer: Vec::new(),
            loaded: offset,
            patience,
        }
    }

    /// Where the next record is looked for: after a `None`, the place of what is none.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes back to a place that was passed.
    pub(super) fn rewind(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// The next record, or `None` where the bytes are not one.
    pub(super) fn next(&mut self) -> io::Result<Option<Frame<'_>>> {
        self.load(self.offset, frame::HEAD_BYTES)?;
        let announced = frame::announced(self.window(self.offset));
        let Some(bytes) = announced.filter(|bytes| as_u64(*bytes) <= self.rest(self.offset)) else {
            return Ok(None);
        };
        self.load(self.offset, bytes)?;
        match frame::decode(self.seed, window(&self.buffer, self.loaded, self.offset)) {
            Decoded::Record(frame, bytes) => {
                self.offset += as_u64(bytes);
                Ok(Some(frame))
            }
            Decoded::Incomplete(_) | Decoded::Bad => Ok(None),
        }
    }

    /// Whether only zeros follow.
    pub(super) fn only_zeros_follow(&mut self) -> io::Result<bool> {
        let mut at = self.offset;
        while at < self.end {
            self.load(at, 1)?;
            let window = self.window(at);
            if window.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += as_u64(window.len());
        }
        Ok(true)
    }

    /// Goes on to the next record at or after position `floor`, trying every byte. Tells whether
    /// there is one.
    pub(super) fn resync(&mut self, floor: u64) -> io::Result<bool> {
        let mut at = self.offset.saturating_add(1);
        while at < self.end {
            self.load(at, frame::HEAD_BYTES)?;
            let room = self.rest(at);
            let heads = self.window(at).windows(frame::HEAD_BYTES);
            if heads.len() == 0 {
                return Ok(false);
            }
            let all = as_u64(heads.len());
            let found = heads
                .zip(0..)
                .find(|(h, skip)| frame::plausible(h, floor, room - skip));
            let Some((head, skip)) = found else {
                at += all;
                continue;
            };
            let cost = frame::announced(head).map_or(0, as_u64);
            at += skip;
            self.offset = at;
            if self.next()?.is_some() {
                self.offset = at;
                return Ok(true);
            }
            self.patience = self.patience.saturating_sub(cost);
            if self.patience == 0 {
                return Ok(false);
            }
            at += 1;
        }
        Ok(false)
    }

    /// Makes sure that `bytes` bytes from `at` are in the buffer, or all that there are.
    fn load(&mut self, at: u64, bytes: usize) -> io::Result<()> {
        let wanted = as_u64(bytes).min(self.rest(at));
        if as_u64(self.window(at).len()) >= wanted {
            return Ok(());
        }
        let most = usize::try_from(self.rest(at)).unwrap_or(usize::MAX);
        let size = bytes.max(READ_BYTES).min(most);
        if self.buffer.capacity() > size.max(READ_BYTES) {
            // One long record is no reason to hold on to so much memory.
            self.buffer = Vec::new();
        }
        self.buffer.resize(size, 0);
        let filled = self.file.read_at(&mut self.buffer, at)?;
        self.buffer.truncate(filled);
        self.loaded = at;
        if filled < size {
            // Somebody else cut the file meanwhile.
            self.end = at + as_u64(filled);
        }
        Ok(())
    }

    fn window(&self, at: u64) -> &[u8] {
        window(&self.buffer, self.loaded, at)
    }

    fn rest(&self, at: u64) -> u64 {
        self.end.saturating_sub(at)
    }
}

/// What a buffer that begins at `loaded` holds from `at` on.
fn window(buffer: &[u8], loaded: u64, at: u64) -> &[u8] {
    let skip = at
        .checked_sub(loaded)
        .and_then(|skip| usize::try_from(skip).ok());
    skip.and_then(|skip| buffer.get(skip..)).unwrap_or_default()
}

/// A length in memory as a length in a file.
pub(super) fn as_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
