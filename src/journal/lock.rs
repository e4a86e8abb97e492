//! One process per directory.

use std::io;
use std::path::Path;

use super::OpenError;
use super::disk::{Disk, Guard};
use super::segment;

/// The right to write in a directory, until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _guard: Box<dyn Guard>,
}

const FILE: &str = "LOCK";

impl Lock {
    /// Takes the lock of `dir`.
    pub(super) fn take(disk: &dyn Disk, dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(FILE);
        match disk.lock(&path) {
            Ok(Some(guard)) => Ok(Self { _guard: guard }),
            Ok(None) => Err(OpenError::Locked(dir.to_owned())),
            Err(error) => Err(OpenError::Io { path, error }),
        }
    }

    /// Takes its file away, from a directory that is being removed.
    pub(super) fn remove(self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        segment::remove_if_there(disk, &dir.join(FILE))
    }
}
