//! Journal, feed and links together, over a scripted broker. The journal has threads of its own,
//! so time is real here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::broker::Failure;
use super::super::set_aside::SetAside;
use super::super::{Parts, assemble, run};
use super::script::{Published, Reply, Script};
use super::{config, delivery};
use crate::config::Broker;
use crate::journal::{Journal, Options, Position};
use crate::metrics::Metrics;

const PATIENCE: Duration = Duration::from_secs(20);

struct Whole {
    journal: Journal,
    set_aside: Journal,
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

fn open(dir: &TempDir, name: &str) -> Journal {
    let options = Options {
        path: dir.path().join(name),
        bytes_max: 64 * 1024 * 1024,
        segment_bytes: 1024 * 1024,
        retain: Duration::ZERO,
        refuse_damage: true,
        on_sync: None,
    };
    Journal::open(options).unwrap()
}

async fn append(journal: &Journal, payload: Bytes) {
    let (tell, told) = oneshot::channel();
    let done = Box::new(move |fate| tell.send(fate).unwrap());
    journal.append(payload, Timestamp::UNIX_EPOCH, done);
    told.await.unwrap().unwrap();
}

async fn store(journal: &Journal, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        append(journal, delivery(number).encode()).await;
    }
}

impl Whole {
    fn start(dir: &TempDir, script: &Script, config: &Broker) -> Self {
        let journal = open(dir, "journal");
        let set_aside = open(dir, "journal/set-aside");
        let Parts { links, feed, .. } = assemble(
            config,
            &Arc::new(script.clone()),
            journal.clone(),
            set_aside.clone(),
            Metrics::new([]),
        )
        .unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(links, feed, stop.clone()));
        Self {
            journal,
            set_aside,
            stop,
            task,
        }
    }

    async fn until_cursor(&self, position: u64) {
        let reached = async {
            while self.journal.status().cursor < Position(position) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let status = self.journal.status();
        timeout(PATIENCE, reached)
            .await
            .unwrap_or_else(|_| panic!("the cursor stays at {:?}", status.cursor));
    }

    async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        self.journal.close().await;
        self.set_aside.close().await;
    }

    async fn aside(&self) -> Vec<SetAside> {
        let count = self.set_aside.status().end.0;
        let mut reader = self.set_aside.read_from(Position(0));
        let mut all = Vec::new();
        for _ in 0..count {
            let record = reader.next().await.unwrap().unwrap();
            all.push(SetAside::decode(&record.payload).unwrap());
        }
        all
    }
}

#[tokio::test]
async fn what_was_confirmed_is_not_published_again() {
    let dir = TempDir::new().unwrap();
    let script = Script::new(|_: &Published| Reply::Ack);
    let whole = Whole::start(&dir, &script, &config());
    store(&whole.journal, 0..100).await;
    whole.until_cursor(100).await;
    whole.stop().await;

    let again = Script::new(|_: &Published| Reply::Ack);
    let whole = Whole::start(&dir, &again, &config());
    store(&whole.journal, 100..150).await;
    whole.until_cursor(150).await;
    whole.stop().await;
    assert!(script.numbers().into_iter().eq(0..100));
    assert!(again.numbers().into_iter().eq(100..150));
}

#[tokio::test]
async fn a_backlog_is_published_in_order() {
    let dir = TempDir::new().unwrap();
    let journal = open(&dir, "journal");
    store(&journal, 0..3000).await;
    journal.close().await;
    let script = Script::new(|_: &Published| Reply::Ack);
    let mut config = config();
    config.in_flight_max = 500;
    let whole = Whole::start(&dir, &script, &config);
    whole.until_cursor(3000).await;
    whole.stop().await;
    assert!(script.numbers().into_iter().eq(0..3000));
    assert!(script.in_flight_max() <= 500);
}

#[tokio::test]
async fn one_stuck_event_holds_the_cursor_and_nobody_else() {
    let dir = TempDir::new().unwrap();
    let script = Script::new(|published: &Published| match published.number {
        5 => Reply::Nack,
        _ => Reply::Ack,
    });
    let whole = Whole::start(&dir, &script, &config());
    store(&whole.journal, 0..50).await;
    whole.until_cursor(5).await;
    // The window is eight long, and the fifth is stuck in it.
    while script.numbers().iter().max() != Some(&49) {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(whole.journal.status().cursor, Position(5));
    script.now(|_: &Published| Reply::Ack);
    whole.until_cursor(50).await;
    whole.stop().await;
}

#[tokio::test]
async fn what_is_no_delivery_is_set_aside_with_the_reason() {
    let dir = TempDir::new().unwrap();
    let script = Script::new(|_: &Published| Reply::Ack);
    let whole = Whole::start(&dir, &script, &config());
    store(&whole.journal, 0..3).await;
    append(&whole.journal, Bytes::from_static(b"\x09 from the future")).await;
    store(&whole.journal, 4..6).await;
    whole.until_cursor(6).await;
    let aside = whole.aside().await;
    assert_eq!(aside.len(), 1);
    assert_eq!(aside[0].position, Position(3));
    assert_eq!(&aside[0].delivery[..], b"\x09 from the future");
    assert!(aside[0].reason.contains("newer gateway"));
    whole.stop().await;
    assert_eq!(script.numbers(), [0, 1, 2, 4, 5]);
}

#[tokio::test]
async fn what_the_broker_refuses_for_its_own_sake_is_set_aside_with_the_reason() {
    let dir = TempDir::new().unwrap();
    let script = Script::new(|published: &Published| match published.number {
        7 => Reply::CloseChannel(Failure::coded(Some(406), "PRECONDITION_FAILED - no")),
        _ => Reply::Ack,
    });
    let whole = Whole::start(&dir, &script, &config());
    store(&whole.journal, 0..30).await;
    whole.until_cursor(30).await;
    let aside = whole.aside().await;
    assert_eq!(aside.len(), 1);
    assert_eq!(aside[0].position, Position(7));
    assert_eq!(aside[0].reason, "PRECONDITION_FAILED - no");
    assert_eq!(aside[0].delivery, delivery(7).encode());
    whole.stop().await;
}

#[tokio::test]
async fn sources_are_spread_over_connections_and_keep_their_order() {
    let dir = TempDir::new().unwrap();
    let script = Script::new(|_: &Published| Reply::Ack);
    let mut config = config();
    config.connections = 3;
    let whole = Whole::start(&dir, &script, &config);
    for number in 0..300 {
        let mut one = delivery(number);
        one.source = format!("source-{}", number % 10).into();
        append(&whole.journal, one.encode()).await;
    }
    whole.until_cursor(300).await;
    whole.stop().await;
    let published = script.published();
    assert_eq!(published.len(), 300);
    for source in 0..10 {
        let of_source = published.iter().filter(|one| one.number % 10 == source);
        let numbers: Vec<_> = of_source.clone().map(|one| one.number).collect();
        assert!(numbers.is_sorted());
        let mut connections: Vec<_> = of_source.map(|one| one.connection).collect();
        connections.dedup();
        assert_eq!(connections.len(), 1);
    }
    assert_eq!(script.dials().len(), 3);
}
