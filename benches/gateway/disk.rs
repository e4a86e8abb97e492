//! What the disk takes for one sync, with nothing of ours in between: the floor of every journal.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::fs::{FallocateFlags, fallocate, fdatasync};
use tokio::time::Instant;

/// What is written before each sync.
const BLOCK: [u8; 4096] = [0x5a; 4096];
/// Room that is made beforehand, so that a sync writes data and no new length.
const FILE_BYTES: u64 = 64 << 20;
/// No more syncs than this, however fast they are; all fit into the file.
const SYNCS_MAX: u64 = FILE_BYTES / BLOCK.len() as u64;

/// Appends and syncs 4 KiB at a time for so long, and gives what each took.
pub(crate) fn syncs(directory: &Path, duration: Duration) -> Result<Vec<Duration>> {
    let path = directory.join("sync-reference");
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES)?;
    file.sync_all()?;
    let end = Instant::now() + duration;
    let mut took = Vec::new();
    for n in 0..SYNCS_MAX {
        let start = Instant::now();
        if start >= end {
            break;
        }
        file.write_all_at(&BLOCK, n * BLOCK.len() as u64)?;
        fdatasync(&file)?;
        took.push(start.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(took)
}
