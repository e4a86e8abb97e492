//! What the system says of the files of `[server.tls]` without reading them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::config::Files;

/// How often files are read of which the system says the same. The second time is there for a
/// change that came so soon after the first that the clock of the file system does not tell them
/// apart.
const READS: u8 = 2;

/// Tells which files need not be read, because nothing about them changed.
#[derive(Debug, Default)]
pub struct Stamps {
    seen: Vec<Option<Stamp>>,
    reads: u8,
}

/// What changes whenever a file does, and when a link on the way to it leads to another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds of the last change of its bytes.
    modified: (i64, i64),
    /// And of its owner, its permissions or any of the others. Nobody can set it back.
    changed: (i64, i64),
}

impl Stamps {
    /// Whether the files are to be read now. Looks at them; may wait for their disk.
    pub fn ask_for_reading(&mut self, files: &Files) -> bool {
        let seen = files.paths().map(Stamp::of).collect();
        if self.seen != seen {
            self.seen = seen;
            self.reads = 0;
        }
        let asks = self.reads < READS;
        self.reads += u8::from(asks);
        asks
    }

    /// Has them read again next time, whatever the system says of them.
    pub fn read_again(&mut self) {
        self.reads = 0;
    }
}

impl Stamp {
    /// `None` for what cannot be looked at.
    fn of(path: &Path) -> Option<Self> {
        // Of the file at the end of all links.
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "times of files have a clock of their own"
    )]
    fn files_are_read_when_something_changed_and_once_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for version in ["1", "2"] {
            fs::create_dir(path(version)).unwrap();
            fs::write(path(version).join("cert.pem"), "same length").unwrap();
        }
        symlink("1", path("data")).unwrap();
        let files = Files {
            pairs: vec![(path("data/cert.pem"), path("key.pem"))],
            ..Files::default()
        };
        let mut stamps = Stamps::default();
        let mut reads = || (0..5).filter(|_| stamps.ask_for_reading(&files)).count();
        assert_eq!(reads(), 2, "at first");
        assert_eq!(reads(), 0, "nothing changed");
        stamps.read_again();
        let mut reads = || (0..5).filter(|_| stamps.ask_for_reading(&files)).count();
        assert_eq!(reads(), 2, "somebody doubts what was read");
        let changes: [(&str, &dyn Fn()); 6] = [
            ("a file that is there now", &|| {
                fs::write(path("key.pem"), "k").unwrap();
            }),
            ("in place, as long as before", &|| {
                fs::write(path("key.pem"), "l").unwrap();
            }),
            ("renamed over it", &|| {
                fs::write(path("new"), "m").unwrap();
                fs::rename(path("new"), path("key.pem")).unwrap();
            }),
            ("another's to read", &|| {
                set_permissions(path("key.pem"), Permissions::from_mode(0o644)).unwrap();
            }),
            ("a link above it, replaced at once", &|| {
                symlink("2", path("data_tmp")).unwrap();
                fs::rename(path("data_tmp"), path("data")).unwrap();
            }),
            ("gone", &|| fs::remove_file(path("key.pem")).unwrap()),
        ];
        for (what, change) in changes {
            // Longer than a tick of that clock.
            thread::sleep(Duration::from_millis(20));
            change();
            assert_eq!(reads(), 2, "{what}");
        }
    }
}
