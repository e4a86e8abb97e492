//! The first signal drains, the second aborts. SIGHUP reads files again and ends nothing.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Listens for SIGTERM, SIGINT and SIGHUP.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What an operator asks of a gateway, from the moment that it begins to start.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    /// To stop: before it serves, at once; afterwards, once it has finished what it has begun.
    pub drain: CancellationToken,
    /// To read the files of `[server.tls]` and of `allow_ips` again. Each who reads some subscribes.
    pub reload: watch::Sender<()>,
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

    /// Asks for a drain at the first signal, and for a reload at each SIGHUP; returns at the second.
    pub async fn watch(mut self, orders: Orders) -> Aborted {
        let Orders { drain, reload } = orders;
        let name = self.next(&reload).await;
        tracing::info!(signal = name, "draining; a second signal ends at once");
        drain.cancel();
        let name = self.next(&reload).await;
        tracing::warn!(signal = name, "ending at once");
        Aborted
    }

    async fn next(&mut self, reload: &watch::Sender<()>) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => {
                    tracing::info!(
                        "SIGHUP: reading the files of [server.tls] and of allow_ips again; any \
                         other change of the configuration needs a restart"
                    );
                    reload.send_replace(());
                }
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
    async fn a_hangup_asks_for_certificates_and_ends_nothing() {
        let signals = Signals::install().unwrap();
        let orders = Orders::default();
        let mut reload = orders.reload.subscribe();
        kill_process(getpid(), Signal::HUP).unwrap();
        tokio::select! {
            _ = signals.watch(orders.clone()) => panic!("it ended"),
            asked = timeout(Duration::from_secs(20), reload.changed()) => asked.unwrap().unwrap(),
        }
        assert!(!orders.drain.is_cancelled());
    }
}
