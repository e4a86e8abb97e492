//! What a configuration asks of the process that loads it, as values: environment, files, time.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::process::{Resource, getrlimit};

use crate::clock::Now;

/// Where systemd puts the files of `LoadCredential=` and its kin.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Permission to read, for everybody on the machine.
const MODE_WORLD_READABLE: u32 = 0o004;

/// Gives the value of an environment variable.
type Variable = dyn Fn(&str) -> Option<OsString>;

/// What a configuration is resolved against.
pub struct Surroundings {
    variable: Box<Variable>,
    /// Files that this process may have open; `None`: as many as it likes.
    pub(crate) open_files_max: Option<u64>,
    /// The time, for certificates.
    pub(crate) now: Timestamp,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self::new(
            |name| std::env::var_os(name),
            getrlimit(Resource::Nofile).current,
            Now::read().wall,
        )
    }

    /// Others: variables, limit on open files, time.
    pub fn new(
        variable: impl Fn(&str) -> Option<OsString> + 'static,
        open_files_max: Option<u64>,
        now: Timestamp,
    ) -> Self {
        Self {
            variable: Box::new(variable),
            open_files_max,
            now,
        }
    }

    /// An environment variable.
    pub(crate) fn variable(&self, name: &str) -> Option<OsString> {
        // A name with `=` or NUL cannot be set.
        if name.contains(['=', '\0']) {
            None
        } else {
            (self.variable)(name)
        }
    }

    /// The directory of systemd's credentials.
    pub(crate) fn credentials(&self) -> Option<PathBuf> {
        self.variable(CREDENTIALS_DIRECTORY).map(PathBuf::from)
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The environment holds secrets.
        f.debug_struct("Surroundings")
            .field("open_files_max", &self.open_files_max)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// A file that was read whole.
pub(crate) struct Contents {
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// Whether everybody on the machine may read it.
    pub(crate) world_readable: bool,
}

/// Reads a file of at most so many bytes. The error says what is wrong in a few words.
pub(crate) fn read_file(path: &Path, bytes_max: u64) -> Result<Contents, String> {
    let said = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
        _ => error.to_string(),
    };
    let metadata = fs::metadata(path).map_err(said)?;
    if metadata.is_dir() {
        return Err("it is a directory".to_owned());
    }
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that fits from one that does not.
    File::open(path)
        .and_then(|file| {
            file.take(bytes_max.saturating_add(1))
                .read_to_end(&mut bytes)
        })
        .map_err(said)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len <= bytes_max) {
        Ok(Contents {
            bytes,
            world_readable: metadata.mode() & MODE_WORLD_READABLE != 0,
        })
    } else {
        Err(format!("it is longer than {bytes_max} bytes"))
    }
}
