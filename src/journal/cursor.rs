//! How far records are confirmed, in a small file.
//!
//! It is an optimisation. Without it, or with an older one, records are published again; none is
//! lost. So a file that does not verify is the same as none.

use std::io;
use std::path::Path;

use super::disk::Disk;
use super::frame::POSITION_MAX;
use super::segment;

/// What the file says. The layout is drawn in [`crate::journal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The log that it speaks of.
    pub(super) log_id: [u8; 16],
    /// The first position that is not confirmed.
    pub(super) confirmed: u64,
    /// Everything before this position was on stable storage.
    pub(super) durable: u64,
}

/// Bytes of the file.
const BYTES: usize = 56;
const MAGIC: [u8; 8] = *b"hgcursor";
const VERSION: u32 = 1;
const FILE: &str = "cursor";
const TEMPORARY: &str = "cursor.tmp";

impl Cursor {
    /// Reads the file of `dir`; `None` if there is none that can be read and verifies.
    pub(super) fn load(disk: &dyn Disk, dir: &Path) -> Option<Self> {
        let mut bytes = [0; BYTES];
        let read = disk
            .open_to_read(&dir.join(FILE))
            .and_then(|f| f.read_at(&mut bytes, 0));
        match read {
            Ok(BYTES) => Self::decode(&bytes),
            Ok(_) => None,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%error, "cannot read the journal's cursor; going without it");
                }
                None
            }
        }
    }

    /// Puts the file in place of the one that is there. The bytes are on stable storage before
    /// the name is, so that a crash leaves the old file or the new one; which of them does not
    /// matter enough to sync the directory each time.
    pub(super) fn store(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let temporary = dir.join(TEMPORARY);
        let file = disk.create(&temporary)?;
        file.write_at(&self.encode(), 0)?;
        file.sync()?;
        disk.rename(&temporary, &dir.join(FILE))
    }

    /// Removes the file of `dir`, if there is one.
    pub(super) fn remove(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        segment::remove_if_there(disk, &dir.join(FILE))
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.log_id);
        bytes.extend_from_slice(&self.confirmed.to_le_bytes());
        bytes.extend_from_slice(&self.durable.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; BYTES]) -> Option<Self> {
        let (covered, checksum) = bytes.split_last_chunk()?;
        if crc32c::crc32c(covered) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let rest = covered.strip_prefix(&MAGIC)?;
        let rest = rest.strip_prefix(&VERSION.to_le_bytes())?;
        let (_, rest) = rest.split_first_chunk::<4>()?;
        let (log_id, rest) = rest.split_first_chunk()?;
        let (confirmed, rest) = rest.split_first_chunk()?;
        let (durable, _) = rest.split_first_chunk()?;
        let cursor = Self {
            log_id: *log_id,
            confirmed: u64::from_le_bytes(*confirmed),
            durable: u64::from_le_bytes(*durable),
        };
        (cursor.confirmed <= POSITION_MAX && cursor.durable <= POSITION_MAX).then_some(cursor)
    }
}
