//! The first signal drains, the second aborts. SIGHUP, by which other services reload, ends nothing.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Listens for SIGTERM, SIGINT and SIGHUP.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// The second signal came: end at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a second signal ended the drain")]
pub struct Aborted;

impl Signals {
    /// Installs the handlers. Call it before anything is served, so that no signal is missed.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Cancels `drain` at the first signal; returns at the second.
    pub async fn watch(mut self, drain: CancellationToken) -> Aborted {
        let name = self.next().await;
        tracing::info!(signal = name, "draining; a second signal ends at once");
        drain.cancel();
        let name = self.next().await;
        tracing::warn!(signal = name, "ending at once");
        Aborted
    }

    async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => tracing::warn!(
                    "SIGHUP changes nothing: to take a new configuration, restart"
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_hangup_ends_nothing() {
        let signals = Signals::install().unwrap();
        let drain = CancellationToken::new();
        kill_process(getpid(), Signal::HUP).unwrap();
        let watching = timeout(Duration::from_millis(100), signals.watch(drain.clone()));
        watching.await.unwrap_err();
        assert!(!drain.is_cancelled());
    }
}
