//! A look at everything, once a second: what the figures and the picture are made of.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustix::process::Pid;
use tokio::time::{Instant, interval};

use super::ledger::Ledger;
use crate::support::gateway::{Metrics, metrics_at};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// How everything was at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Seconds since the load began.
    pub(crate) at: f64,
    /// Events acknowledged so far.
    pub(crate) accepted: u64,
    /// Messages taken from the queue so far.
    pub(crate) delivered: u64,
    /// Events in both journals that wait for the broker.
    pub(crate) waiting: f64,
    /// Resident memory of the gateway that is never restarted, in MiB.
    pub(crate) memory_mib: f64,
    /// Its open descriptors.
    pub(crate) descriptors: usize,
}

/// Everything seen so far.
#[derive(Debug, Default)]
pub(crate) struct Samples(Mutex<Vec<Sample>>);

impl Samples {
    /// To read.
    pub(crate) fn all(&self) -> MutexGuard<'_, Vec<Sample>> {
        self.0.lock().expect("no one panics with the samples")
    }

    /// The latest.
    pub(crate) fn last(&self) -> Sample {
        self.all().last().copied().unwrap_or_default()
    }
}

/// Looks until it is dropped. `steady` is the gateway whose memory counts; `admins` are the
/// listeners of all.
pub(crate) async fn watch(
    begin: Instant,
    steady: Pid,
    admins: Vec<SocketAddr>,
    ledger: Arc<Ledger>,
    samples: Arc<Samples>,
) {
    let mut pace = interval(EVERY);
    // While a gateway is down, what waited in its journal still does.
    let mut waiting = vec![0.0; admins.len()];
    loop {
        pace.tick().await;
        for (waiting, admin) in waiting.iter_mut().zip(&admins) {
            if let Ok(metrics) = metrics_at(*admin).await {
                *waiting = waiting_in(&metrics);
            }
        }
        let counts = ledger.books().counts;
        let sample = Sample {
            at: begin.elapsed().as_secs_f64(),
            accepted: counts.acknowledged,
            delivered: counts.delivered,
            waiting: waiting.iter().sum(),
            // Gone with the process, which is found out at the end.
            memory_mib: memory_mib(steady).unwrap_or_default(),
            descriptors: Descriptors::of(steady).count(),
        };
        samples.all().push(sample);
    }
}

/// Events that wait for the broker.
pub(crate) fn waiting_in(metrics: &Metrics) -> f64 {
    metrics.sum("hookgate_journal_waiting", &[])
}

/// Resident memory of a process, in MiB; `None` if there is no such process.
fn memory_mib(pid: Pid) -> Option<f64> {
    let path = format!("/proc/{}/status", pid.as_raw_nonzero());
    let status = std::fs::read_to_string(path).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

/// What files of parked events are counted as.
const LOT: &str = "of lots";

/// How many descriptors of each kind a process has open: sockets, pipes, files by their suffix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Descriptors(pub(crate) BTreeMap<String, usize>);

impl Descriptors {
    /// Those of a process; none if there is no such process.
    pub(crate) fn of(pid: Pid) -> Self {
        let mut kinds = BTreeMap::new();
        let folder = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero()));
        for entry in folder.into_iter().flatten().flatten() {
            // One that is closed in this moment has no target any more.
            if let Ok(target) = std::fs::read_link(entry.path()) {
                *kinds.entry(kind(&target)).or_default() += 1;
            }
        }
        Self(kinds)
    }

    /// All of them but those of lots: a source whose events had to be parked keeps its lot, and
    /// there are no more lots than sources.
    pub(crate) fn count(&self) -> usize {
        let counted = self.0.iter().filter(|(kind, _)| *kind != LOT);
        counted.map(|(_, count)| count).sum()
    }

    /// What there is more of than before, in words.
    pub(crate) fn more_than(&self, before: &Self) -> String {
        let more = self.0.iter().filter_map(|(kind, count)| {
            let more = count.checked_sub(before.0.get(kind).copied().unwrap_or(0))?;
            (more > 0).then(|| format!("{more} {kind}"))
        });
        more.collect::<Vec<_>>().join(", ")
    }
}

/// `socket:[4711]` is a socket, `.../0000.wal` a `*.wal`, `anon_inode:[eventpoll]` what it says.
fn kind(target: &Path) -> String {
    let text = target.to_string_lossy();
    if text.contains("/parked/") {
        return LOT.to_owned();
    }
    let numbered = |(kind, number): (&str, &str)| {
        let digits = number.trim_end_matches(']');
        digits.parse::<u64>().is_ok().then(|| kind.to_owned())
    };
    let suffix = target.extension();
    text.split_once(":[")
        .and_then(numbered)
        .or_else(|| Some(format!("*.{}", suffix?.to_string_lossy())))
        .unwrap_or_else(|| text.into_owned())
}
