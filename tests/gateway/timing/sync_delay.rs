//! What an answer takes on a disk whose syncs take their time: group commit keeps it to about two of
//! them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::support::balance::balance;
use crate::support::figures::{Row, count};
use crate::support::gateway::{Gateway, Setup};
use crate::support::sender::Version;
use crate::support::storage::tampered;
use crate::support::webhook::Webhook;

/// Between two events, whatever becomes of the ones before: 500/s.
const EVERY: Duration = Duration::from_millis(2);
const CONNECTIONS: usize = 32;
/// What else the machine does makes answers later, and never earlier.
const TRIES: usize = 3;

/// Sends at a fixed rate; gives what each answer took from when its event was due, in order. `round`
/// tells the events from those of other rounds.
async fn latencies(gateway: &Gateway, round: usize, events: u32) -> Vec<Duration> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(gateway.connect(Version::Http1).await);
    }
    let begin = Instant::now() + EVERY;
    let next = Arc::new(Mutex::new(0..events));
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let next = Arc::clone(&next);
            tokio::spawn(async move {
                let mut took = Vec::new();
                while let Some((n, due)) = due(&next, begin).await {
                    let id = format!("{round}-{n}");
                    let body = format!(r#"{{"id":"{id}"}}"#);
                    let webhook = Webhook::github("/github", "push", &id, body.as_bytes());
                    let answer = client.send(&webhook).await.expect("an answer");
                    assert_eq!(answer.status, 202);
                    took.push(due.elapsed());
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.expect("a sender"));
    }
    took.sort();
    took
}

/// Waits for the time of the next event: one connection does, the others that are free queue up.
async fn due(next: &Mutex<std::ops::Range<u32>>, begin: Instant) -> Option<(u32, Instant)> {
    let mut next = next.lock().await;
    let n = next.next()?;
    let due = begin + EVERY * n;
    sleep_until(due).await;
    Some((n, due))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_takes_about_two_syncs() {
    let events = count(2_500, 15_000);
    let mut row = Row::new("J10").saw("events/s", 500);
    for millis in [1, 5, 10] {
        let delay = Duration::from_millis(millis);
        let inject = format!("inject=fdatasync:delay_exit={}", delay.as_micros());
        let mut gateway = Setup::new().plain().prepare();
        gateway
            .start_under(&tampered("trace=fdatasync", &inject))
            .await;
        // What is slow the first time only.
        latencies(&gateway, 0, 250).await;
        let limit = delay * 5 / 2 + Duration::from_millis(5);
        let mut p99 = Duration::MAX;
        for round in 1..=TRIES {
            let took = latencies(&gateway, round, events).await;
            let at = |hundredth: usize| took[(took.len() - 1) * hundredth / 100];
            assert!(at(50) >= delay, "{:?}: the disk was not delayed", at(50));
            p99 = p99.min(at(99));
            if p99 <= limit {
                break;
            }
        }
        assert!(
            p99 <= limit,
            "syncs of {delay:?}: p99 {p99:?}, not {limit:?}"
        );
        balance(&gateway).await;
        let seen = format!(
            "{:.1} of {:.1} ms",
            p99.as_secs_f64() * 1e3,
            limit.as_secs_f64() * 1e3
        );
        row = row.saw(&format!("p99 with syncs of {millis} ms"), seen);
    }
    row.write();
}
