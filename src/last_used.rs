//! When each labelled secret was last used, kept over restarts, so that an operator knows when an
//! old one can go.
//!
//! One file in the journal's directory, for people only: nothing depends on it, so it is not
//! synced and seldom written. A crash loses the last minute of it; what cannot be read is not
//! known.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::clock::Now;
use crate::metrics::Metrics;
use crate::source::Source;

/// How often it is written, if there is anything new.
const KEEP_EVERY: Duration = Duration::from_secs(60);

/// Longest file that is read, in bytes: far more than all secrets of ten thousand sources need.
const FILE_BYTES_MAX: u64 = 16 << 20;

const FILE: &str = "last_used.json";

/// By source and label: RFC 3339.
type Book = BTreeMap<String, BTreeMap<String, String>>;

/// Keeps what the metrics know.
#[derive(Debug)]
pub struct LastUsed {
    path: PathBuf,
    sources: Vec<Arc<Source>>,
    metrics: Arc<Metrics>,
    /// As it is in the file.
    written: Book,
    is_failing: bool,
}

impl LastUsed {
    /// Tells the metrics what was kept of the secrets that there still are. Reads the disk.
    pub fn recall(journal: &Path, sources: &[Arc<Source>], metrics: &Arc<Metrics>) -> Self {
        let path = journal.join(FILE);
        let written = read(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                let path = path.display();
                tracing::warn!(%path, %error, "when secrets were last used is not known any more");
            }
            Book::new()
        });
        let now = Now::read().wall;
        for source in sources {
            let Some(kept) = written.get(&*source.name) else {
                continue;
            };
            for label in labels(source) {
                let at = kept.get(&label).and_then(|at| at.parse().ok());
                // One that is yet to come would hide every use until then.
                if let Some(at) = at.filter(|at: &Timestamp| *at <= now) {
                    metrics.secret_was_used(&source.name, &label, at);
                }
            }
        }
        Self {
            path,
            sources: sources.to_vec(),
            metrics: Arc::clone(metrics),
            written,
            is_failing: false,
        }
    }

    /// Keeps it until `stop`, and then once more.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut ticks = interval(KEEP_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_last = tokio::select! {
                () = stop.cancelled() => true,
                _ = ticks.tick() => false,
            };
            // The disk delays nobody.
            let keeping = tokio::task::spawn_blocking(move || {
                self.keep();
                self
            });
            match keeping.await {
                Ok(it) if !is_last => self = it,
                _ => return,
            }
        }
    }

    /// Writes what has changed, if anything has. That it cannot is said once.
    fn keep(&mut self) {
        let known = self.known();
        if known == self.written {
            return;
        }
        match write(&self.path, &known) {
            Ok(()) => {
                self.written = known;
                self.is_failing = false;
            }
            Err(error) if !self.is_failing => {
                self.is_failing = true;
                let path = self.path.display();
                tracing::warn!(%path, %error, "when secrets were last used cannot be kept");
            }
            Err(_said) => {}
        }
    }

    fn known(&self) -> Book {
        let of_source = |source: &Arc<Source>| {
            let uses = self.metrics.secret_uses(&source.name).into_iter();
            let used = uses.filter_map(|it| Some((it.label, it.last_used?.to_string())));
            (source.name.to_string(), used.collect())
        };
        let book = self.sources.iter().map(of_source);
        book.filter(|(_, used): &(_, BTreeMap<_, _>)| !used.is_empty())
            .collect()
    }
}

/// What the secrets of a source are called that there are now.
fn labels(source: &Source) -> Vec<String> {
    let configured = source.secret_labels.iter().map(|label| label.to_string());
    let record = source.enrolment.as_ref().map(|it| it.record());
    let enrolled = record
        .iter()
        .flat_map(|it| it.current.iter().chain(&it.former));
    configured
        .chain(enrolled.map(|secret| secret.label()))
        .collect()
}

fn read(path: &Path) -> io::Result<Book> {
    let mut text = Vec::new();
    File::open(path)?
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::from)
}

/// Beside, and then in its place: whoever reads it reads the old or the new.
fn write(path: &Path, book: &Book) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(book)?;
    text.push(b'\n');
    let beside = path.with_extension("new");
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests;
