//! Moments at which requests are due, whether or not the ones before are answered.
//!
//! What a request takes is counted from the moment that it was due: whoever waits for a slow answer
//! before the next request would leave out all who had to wait behind it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Requests that may be due at one sender and not sent.
const WAITING_MAX: usize = 1 << 16;

/// Tells each of so many senders in turn when its next request is due, `per_second` over all, until
/// the end. The system's sleep is exact to some 0.06 ms, the runtime's to 1 ms.
pub(crate) fn pace(
    per_second: f64,
    senders: usize,
    end: Instant,
) -> (Vec<Receiver<Instant>>, JoinHandle<Result<()>>) {
    let (to, from): (Vec<_>, Vec<_>) = std::iter::repeat_with(|| channel(WAITING_MAX))
        .take(senders)
        .unzip();
    let every = Duration::from_secs_f64(1.0 / per_second);
    let clock = tokio::task::spawn_blocking(move || {
        let mut due = Instant::now();
        for sender in to.iter().cycle() {
            due += every;
            if due >= end {
                break;
            }
            #[expect(clippy::disallowed_methods, reason = "a thread of its own")]
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            sender
                .try_send(due)
                .context("a sender has failed, or is far behind")?;
        }
        Ok(())
    });
    (from, clock)
}
