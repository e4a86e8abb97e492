//! What a phase found.

use std::time::Duration;

/// Events, the time they took, and what they cost. Rounds of a phase are added up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// Events done within the time.
    pub(crate) events: usize,
    /// The time, in seconds.
    pub(crate) seconds: f64,
    /// What each event took, where that was measured.
    pub(crate) latencies: Vec<Duration>,
    /// Processor time of the program in that time, in seconds, where there is a program.
    pub(crate) cpu_seconds: Option<f64>,
    /// Processor time of the broker in that time, in seconds.
    pub(crate) broker_seconds: Option<f64>,
    /// The most memory it had resident, in MiB.
    pub(crate) peak_mib: Option<f64>,
}

impl Figures {
    /// One latency for each event.
    pub(crate) fn of_load(latencies: Vec<Duration>, duration: Duration) -> Self {
        Self {
            events: latencies.len(),
            seconds: duration.as_secs_f64(),
            latencies,
            ..Self::default()
        }
    }

    /// Adds another round.
    pub(crate) fn add(&mut self, mut other: Self) {
        self.events += other.events;
        self.seconds += other.seconds;
        self.latencies.append(&mut other.latencies);
        self.cpu_seconds = join(self.cpu_seconds, other.cpu_seconds, |a, b| a + b);
        self.broker_seconds = join(self.broker_seconds, other.broker_seconds, |a, b| a + b);
        self.peak_mib = join(self.peak_mib, other.peak_mib, f64::max);
    }

    /// Events per second.
    #[expect(clippy::cast_precision_loss, reason = "nobody measures 2^53 events")]
    pub(crate) fn rate(&self) -> f64 {
        self.events as f64 / self.seconds
    }

    /// Processor seconds for a thousand events.
    pub(crate) fn cpu_per_thousand(&self) -> Option<f64> {
        self.per_thousand(self.cpu_seconds)
    }

    /// The same of the broker.
    pub(crate) fn broker_per_thousand(&self) -> Option<f64> {
        self.per_thousand(self.broker_seconds)
    }

    #[expect(clippy::cast_precision_loss, reason = "nobody measures 2^53 events")]
    fn per_thousand(&self, seconds: Option<f64>) -> Option<f64> {
        seconds.map(|seconds| seconds * 1000.0 / self.events as f64)
    }
}

fn join(a: Option<f64>, b: Option<f64>, both: fn(f64, f64) -> f64) -> Option<f64> {
    a.into_iter().chain(b).reduce(both)
}

/// The value below which so many thousandths of the values lie.
pub(crate) fn percentile(values: &[Duration], thousandths: usize) -> Option<Duration> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().checked_sub(1)?;
    sorted.get(last * thousandths / 1000).copied()
}
