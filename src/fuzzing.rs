//! Fuzz targets: every parser that meets the network, a user's file or an old disk.
//!
//! A target takes any bytes, lets the product's own code read them, and asserts what must hold
//! whatever they are; a panic is a finding. `fuzz/` runs the targets under libFuzzer, and the tests
//! below run them once over their seeds and over what crashed them before
//! (`fuzz/crashes/TARGET/`). None of this is in the product: it is built for those two only.
//!
//! Seeds are made from the test vectors, the payloads and the configurations of `tests/`, and
//! never copied.

// As in a test, what is wrong with the scaffolding may panic: that is how it says so.
#![expect(
    clippy::expect_used,
    reason = "a target says by a panic that it cannot work"
)]

mod config;
mod delivery;
mod document;
mod fetched;
mod log;
mod message;
mod proxy;
mod request;
pub(crate) mod vectors;
mod verify;
mod words;

use std::path::{Path, PathBuf};
use std::sync::Once;

pub(crate) use crate::journal::fuzz as journal;
pub(crate) use crate::pipeline::verify::fuzz as token;

/// One parser, or a few that work together.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in `fuzz/crashes/`.
    pub name: &'static str,
    /// What it begins with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Reads some bytes.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "config",
        seeds: config::seeds,
        run: config::run,
    },
    Target {
        name: "delivery",
        seeds: delivery::seeds,
        run: delivery::run,
    },
    Target {
        name: "document",
        seeds: document::seeds,
        run: document::run,
    },
    Target {
        name: "fetched",
        seeds: fetched::seeds,
        run: fetched::run,
    },
    Target {
        name: "journal",
        seeds: journal::seeds,
        run: journal::run,
    },
    Target {
        name: "log",
        seeds: log::seeds,
        run: log::run,
    },
    Target {
        name: "message",
        seeds: message::seeds,
        run: message::run,
    },
    Target {
        name: "proxy",
        seeds: proxy::seeds,
        run: proxy::run,
    },
    Target {
        name: "request",
        seeds: request::seeds,
        run: request::run,
    },
    Target {
        name: "token",
        seeds: token::seeds,
        run: token::run,
    },
    Target {
        name: "verify",
        seeds: verify::seeds,
        run: verify::run,
    },
    Target {
        name: "words",
        seeds: words::seeds,
        run: words::run,
    },
];

/// Bytes as they are used up. At the end there are zeros.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    /// So many bytes, or what is left.
    pub(crate) fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// One of some things.
    pub(crate) fn choose<'t, T>(&mut self, things: &'t [T]) -> &'t T {
        let index = usize::from(self.byte()) % things.len();
        things.get(index).expect("something to choose from")
    }

    /// The text up to the next line's end.
    pub(crate) fn line(&mut self) -> String {
        let end = self.0.iter().position(|byte| *byte == b'\n');
        let line = self.take(end.unwrap_or(self.0.len()));
        self.take(1);
        String::from_utf8_lossy(line).into_owned()
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// A folder of this process, in memory where the system has such a place.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    remove_leftovers(&base);
    let folder = base.join(format!("{SCRATCH}{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a scratch folder");
    folder
}

const SCRATCH: &str = "hookgate-fuzz-";

/// Removes the folders of processes that have ended: nobody does so while they end. Several may
/// do this at once.
fn remove_leftovers(base: &Path) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for entry in std::fs::read_dir(base).expect("a folder for scratch folders") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str());
            let owner = name.and_then(|name| name.strip_prefix(SCRATCH)?.split('-').next());
            if owner.is_some_and(|id| !Path::new("/proc").join(id).is_dir()) {
                drop(std::fs::remove_dir_all(&path));
            }
        }
    });
}

/// A folder of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The files below a folder with this extension, in order.
pub(crate) fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests;
