//! Journal, feed and links together, over a scripted broker. The journal has threads of its own,
//! so time is real here.

use std::ops::ControlFlow;
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
use super::super::{Parked, Parts, Sidings, assemble, run};
use super::script::{Published, Reply, Script, metric};
use super::{config, delivery};
use crate::config::Broker;
use crate::journal::{Journal, Options, Position};
use crate::metrics::Metrics;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Whole {
    pub(super) journal: Journal,
    pub(super) sidings: Sidings,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

pub(super) fn options(dir: &TempDir, name: &str) -> Options {
    Options {
        path: dir.path().join(name),
        bytes_max: 64 * 1024 * 1024,
        segment_bytes: 1024 * 1024,
        retain: Duration::ZERO,
        refuse_damage: true,
        reserve_bytes: 0,
        on_sync: None,
    }
}

pub(super) fn open(dir: &TempDir, name: &str) -> Journal {
    Journal::open(options(dir, name)).unwrap()
}

pub(super) async fn append(journal: &Journal, payload: Bytes) {
    let (tell, told) = oneshot::channel();
    let done = Box::new(move |fate| tell.send(fate).unwrap());
    journal.append(payload, Timestamp::UNIX_EPOCH, done);
    told.await.unwrap().unwrap();
}

pub(super) async fn store(journal: &Journal, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        append(journal, delivery(number).encode()).await;
    }
}

impl Whole {
    pub(super) fn start(dir: &TempDir, script: &Script, config: &Broker) -> Self {
        Self::start_with(dir, script, config, options(dir, "journal/parked"))
    }

    fn start_with(dir: &TempDir, script: &Script, config: &Broker, parked: Options) -> Self {
        let journal = open(dir, "journal");
        let sidings = Sidings {
            set_aside: open(dir, "journal/set-aside"),
            parked: Parked::open(parked, &mut |_, _| ControlFlow::Continue(())).unwrap(),
        };
        let metrics = Metrics::new([]);
        let Parts { links, feeds, .. } = assemble(
            config,
            &Arc::new(script.clone()),
            journal.clone(),
            sidings.clone(),
            Arc::clone(&metrics),
        )
        .unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(links, feeds, stop.clone()));
        Self {
            journal,
            sidings,
            metrics,
            stop,
            task,
        }
    }

    #[track_caller]
    pub(super) fn metric(&self, series: &str) -> f64 {
        metric(&self.metrics, series)
    }

    pub(super) async fn until_cursor(&self, position: u64) {
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

    pub(super) async fn until_parked(&self, count: u64) {
        let reached = async {
            while self.sidings.parked.waiting() != count {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, reached)
            .await
            .unwrap_or_else(|_| panic!("{} are parked", self.sidings.parked.waiting()));
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        self.journal.close().await;
        self.sidings.set_aside.close().await;
        for lot in self.sidings.parked.journals() {
            lot.close().await;
        }
    }

    async fn aside(&self) -> Vec<SetAside> {
        let count = self.sidings.set_aside.status().end.0;
        let mut reader = self.sidings.set_aside.read_from(Position(0));
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
async fn one_stuck_event_holds_nobody_up_and_is_moved_out_of_the_way() {
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
    whole.until_cursor(50).await;
    whole.until_parked(1).await;
    let tries = script.numbers().iter().filter(|one| **one == 5).count();
    script.now(|_: &Published| Reply::Ack);
    whole.until_parked(0).await;
    whole.stop().await;
    let published = script.published();
    let of_it: Vec<_> = published.iter().filter(|one| one.number == 5).collect();
    assert!(of_it.len() > tries);
    let attempts = of_it.iter().map(|one| one.attempt);
    assert!(attempts.eq(1..=u32::try_from(of_it.len()).unwrap()));
}

/// The shop's queue takes nothing, for as long as the rule says.
pub(super) fn full_shop(published: &Published) -> Reply {
    if published.number < 1000 {
        Reply::Nack
    } else {
        Reply::Ack
    }
}

#[tokio::test]
async fn a_stuck_source_stops_no_other_however_many_its_events_are() {
    let dir = TempDir::new().unwrap();
    let script = Script::new(full_shop);
    let whole = Whole::start(&dir, &script, &config());
    // The window is eight long.
    for number in 0..200 {
        append(&whole.journal, delivery(number).encode()).await;
        let mut other = delivery(1000 + number);
        other.source = "other".into();
        append(&whole.journal, other.encode()).await;
    }
    whole.until_cursor(400).await;
    whole.until_parked(200).await;
    whole.stop().await;

    // They are there after a restart, are tried again, and still stop nobody.
    let whole = Whole::start(&dir, &script, &config());
    store(&whole.journal, 2000..2010).await;
    whole.until_cursor(410).await;
    whole.until_parked(200).await;
    script.now(|_: &Published| Reply::Ack);
    whole.until_parked(0).await;
    whole.stop().await;
    let mut numbers = script.numbers();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 410);
}

#[tokio::test]
async fn a_lot_that_is_full_loses_nothing() {
    let dir = TempDir::new().unwrap();
    let script = Script::new(full_shop);
    let parked = Options {
        bytes_max: 20_000,
        segment_bytes: 10_000,
        ..options(&dir, "journal/parked")
    };
    let whole = Whole::start_with(&dir, &script, &config(), parked);
    store(&whole.journal, 0..300).await;
    while !whole.sidings.parked.is_full("shop") {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(!whole.sidings.parked.is_full("other"));
    // It goes on until the lot takes no more.
    let takes_more = || {
        let mut lots = whole.sidings.parked.journals().into_iter();
        lots.all(|lot| !lot.status().full)
    };
    while takes_more() {
        sleep(Duration::from_millis(10)).await;
    }
    script.now(|_: &Published| Reply::Ack);
    whole.until_cursor(300).await;
    whole.until_parked(0).await;
    assert!(!whole.sidings.parked.is_full("shop"));
    whole.stop().await;
    let mut numbers = script.numbers();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 300);
}

#[tokio::test]
async fn a_stuck_lot_is_tried_now_and_then_only() {
    let dir = TempDir::new().unwrap();
    let script = Script::new(full_shop);
    let whole = Whole::start(&dir, &script, &config());
    store(&whole.journal, 0..500).await;
    whole.until_cursor(500).await;
    let before = script.published().len();
    sleep(Duration::from_secs(3)).await;
    // A turn of 64 after each quarter, half, whole and second second.
    let tries = script.published().len() - before;
    assert!(tries <= 6 * 64, "{tries} in three seconds");
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

#[tokio::test]
async fn what_is_settled_behind_a_stuck_event_does_not_wait() {
    let dir = TempDir::new().unwrap();
    // It is not answered, so it stays in its place for a while.
    let script = Script::new(|published: &Published| match published.number {
        3 => Reply::Silence,
        _ => Reply::Ack,
    });
    let mut config = config();
    config.confirm_timeout = Duration::from_secs(1);
    let whole = Whole::start(&dir, &script, &config);
    store(&whole.journal, 0..50).await;
    let seen = async {
        while whole.journal.status().waiting != 1 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, seen).await.expect("one waits");
    assert_eq!(whole.journal.status().cursor, Position(3));
    script.now(|_: &Published| Reply::Ack);
    whole.until_cursor(50).await;
    assert_eq!(whole.journal.status().waiting, 0);
    whole.stop().await;
}
