//! A well-behaved client beside whatever else happens, and what it notices of it.

use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::sender::{Client, Sender, Version};
use super::webhook::Webhook;

/// Sends webhooks to `/github` at an even rate until it is stopped. It has a thread of its own:
/// whoever attacks from the same process does not keep it from its work.
#[derive(Debug)]
pub(crate) struct Steady {
    stop: watch::Sender<bool>,
    noticed: oneshot::Receiver<Noticed>,
}

/// What it noticed.
#[derive(Debug, Default)]
pub(crate) struct Noticed {
    /// From the moment that a request was due to its answer: a late one makes the next late too.
    pub(crate) latencies: Vec<Duration>,
    /// Whatever was not a 202.
    pub(crate) errors: Vec<String>,
}

impl Steady {
    /// Begins, over one connection, which must stay.
    pub(crate) async fn start(sender: &Sender, version: Version, per_second: u32) -> Self {
        let sender = sender.clone();
        let (stop, stopped) = watch::channel(false);
        let (ready, connected) = oneshot::channel();
        let (tell, noticed) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let mut client = sender.connect(version).await.expect("connection");
                ready.send(()).expect("somebody waits");
                drop(tell.send(send(&mut client, &stopped, per_second).await));
            });
        });
        connected.await.expect("the client connects");
        Self { stop, noticed }
    }

    /// Ends after the request that is under way.
    pub(crate) async fn stop(self) -> Noticed {
        self.stop.send_replace(true);
        self.noticed.await.expect("the client")
    }
}

async fn send(client: &mut Client, stopped: &watch::Receiver<bool>, per_second: u32) -> Noticed {
    let mut noticed = Noticed::default();
    let mut pace = tokio::time::interval(Duration::from_secs(1) / per_second);
    let name = fastrand::u64(..);
    let mut n = 0;
    while !*stopped.borrow() {
        let due = pace.tick().await;
        n += 1;
        let id = format!("{name:x}-{n}");
        let webhook = Webhook::github("/github", "push", &id, b"{\"a\":1}");
        match client.send(&webhook).await {
            Ok(answer) if answer.status == 202 => noticed.latencies.push(Instant::now() - due),
            Ok(answer) => noticed.errors.push(format!("{}", answer.status)),
            // The connection is gone, and one error is enough.
            Err(error) => {
                noticed.errors.push(error);
                break;
            }
        }
    }
    noticed
}

impl Noticed {
    /// The latency that 99 of 100 requests kept below.
    pub(crate) fn p99(&self) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort();
        let index = sorted.len() * 99 / 100;
        let p99 = sorted.get(index.min(sorted.len().saturating_sub(1)));
        *p99.expect("a request")
    }

    #[track_caller]
    pub(crate) fn assert_no_errors(&self) {
        assert!(self.errors.is_empty(), "{:?}", self.errors);
        assert!(!self.latencies.is_empty(), "it sent nothing");
    }
}
