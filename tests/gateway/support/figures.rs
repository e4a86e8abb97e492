//! What a test saw, kept for the table in `deploy/reliability.md`.

use std::fmt::{Display, Write as _};
use std::path::PathBuf;

/// Whether the counts are those for a release (`RELEASE=1`) or those for every change.
pub(crate) fn release() -> bool {
    std::env::var_os("RELEASE").is_some_and(|value| value == "1")
}

/// A count: the first for every change, the second for a release.
pub(crate) fn count(every_change: u32, for_release: u32) -> u32 {
    if release() { for_release } else { every_change }
}

/// One row of the table: a promise, and the figures that a test saw when it tried to break it.
///
/// A row is written when the test has asserted everything; a failing test leaves none, and
/// `make figures` says which rows are missing.
#[derive(Debug)]
#[must_use = "a row that is not written is not in the table"]
pub(crate) struct Row {
    id: &'static str,
    seen: String,
}

impl Row {
    /// `id` is the row's name in `deploy/reliability.md`, such as `J1`. Where several tests share
    /// a row, each adds a part: `J4.sync`, `J4.rename`.
    pub(crate) fn new(id: &'static str) -> Self {
        Self {
            id,
            seen: String::new(),
        }
    }

    /// Adds a figure: `saw("kills", 200)`, `saw("p99", "3.1 ms")`.
    pub(crate) fn saw(mut self, what: &str, value: impl Display) -> Self {
        if !self.seen.is_empty() {
            self.seen.push_str(", ");
        }
        write!(self.seen, "{what} {value}").expect("a String takes all");
        self
    }

    /// Keeps the row in `target/figures/ID`.
    pub(crate) fn write(self) {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/figures");
        std::fs::create_dir_all(&folder).expect("target/figures");
        std::fs::write(folder.join(self.id), self.seen + "\n").expect("a row");
    }
}
