//! Killed and terminated at random moments under load, again and again.

use std::time::Duration;

use bytes::Bytes;
use hookgate::journal::{Journal, Options};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::support::arrivals::Arrivals;
use crate::support::balance::balance;
use crate::support::broker::{self, Broker, Consumer};
use crate::support::chance;
use crate::support::eventually::eventually;
use crate::support::figures::{self, Row};
use crate::support::gateway::{Gateway, Setup};
use crate::support::load::{self, Ledger, Load};
use crate::support::process::catches;

/// What one kill may have published again: what was in flight, by default 1,024 events, and what
/// was confirmed since the cursor was last stored, a fifth of a second before.
const DUPLICATES_MAX: u64 = 2_000;

/// From SIGTERM to the end.
const STOP_MAX: Duration = Duration::from_secs(10);

/// So small that segments are begun and deleted all the time.
const SMALL_JOURNAL: &str = "max_size = \"16MiB\"\nretain = \"5s\"";

async fn with_a_small_journal(broker: &Broker) -> (Gateway, Consumer) {
    let setup = Setup::new().broker(broker).journal(SMALL_JOURNAL);
    let gateway = setup.sources(&load::sources()).start().await;
    let queue = gateway.consume(broker).await;
    (gateway, queue)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load() {
    let kills = figures::count(200, 2_000);
    let broker = broker::shared().await;
    let (mut gateway, queue) = with_a_small_journal(broker).await;
    let mut arrivals = Arrivals::default();
    let mut most = 0;
    let mut served = Duration::ZERO;
    let mut random = chance::dice();
    let load = Load::start(&gateway.sender(), 0);
    for _ in 0..kills {
        load.more(1).await;
        let begun = Instant::now();
        // Anywhere within some groups of writes, confirms and cursors.
        sleep(Duration::from_micros(random.u64(0..150_000))).await;
        served += begun.elapsed();
        let before = arrivals.duplicates();
        gateway.kill9();
        gateway.start().await;
        arrivals.add(&queue.take());
        most = most.max(arrivals.duplicates() - before);
    }
    load.more(10).await;
    let ledger = load.stop().await;
    ledger.assert_none_refused();
    ledger.all_arrived(&queue, &mut arrivals).await;
    arrivals.assert_complete(&ledger);
    arrivals.assert_in_order(&ledger);
    gateway.until_all_published().await;
    arrivals.add(&queue.take());
    let duplicates = arrivals.duplicates();
    assert!(most <= DUPLICATES_MAX, "{most} duplicates after one kill");
    assert!(duplicates <= u64::from(kills) * DUPLICATES_MAX);
    balance(&gateway).await;
    let acknowledged = ledger.len();
    let rate = acknowledged as f64 / served.as_secs_f64();
    Row::new("J1")
        .saw("kills", kills)
        .saw("events", acknowledged)
        .saw("a second", rate.round())
        .saw("lost", 0)
        .write();
    Row::new("J8")
        .saw("kills", kills)
        .saw("duplicates", duplicates)
        .saw("most after one", most)
        .write();
}

/// The same with nobody to publish to: all that counts is what the journal kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_without_a_broker_the_journal_has_everything() {
    let broker = broker::shared().await;
    let mut gateway = Setup::new().sources(&load::sources()).start().await;
    let mut ledger = Ledger::default();
    for round in 0..5 {
        let load = Load::start(&gateway.sender(), round * 10_000);
        load.more(30).await;
        gateway.kill9();
        ledger.add(load.stop().await);
        gateway.start().await;
    }
    ledger.assert_none_refused();
    let waiting = gateway.waiting().await;
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let acknowledged = ledger.len() as f64;
    // An event may have been stored whose answer the kill cut off.
    assert!(waiting >= acknowledged, "{waiting} of {acknowledged}");

    gateway.restart_with(broker).await;
    let queue = gateway.consume(broker).await;
    let messages = ledger.arrived_in(&queue).await;
    ledger.assert_delivered_in_order(&messages);
    balance(&gateway).await;
}

/// SIGTERM, and how long it took to end, which it must in good order.
async fn stop(gateway: &mut Gateway) -> Duration {
    let begun = Instant::now();
    gateway.term();
    let status = gateway.ended().await;
    assert_eq!(status.code(), Some(0), "{status:?} {}", gateway.log());
    begun.elapsed()
}

/// Waits until SIGTERM does not simply kill it any more.
async fn until_it_listens_for_signals(gateway: &Gateway) {
    eventually("the gateway to listen for signals", || async {
        if catches(gateway.pid(), Signal::TERM) {
            Ok(())
        } else {
            Err("it does not".to_owned())
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminated_under_load() {
    let stops = figures::count(100, 500);
    let broker = broker::shared().await;
    let (mut gateway, queue) = with_a_small_journal(broker).await;
    let mut arrivals = Arrivals::default();
    let mut slowest = Duration::ZERO;
    let mut random = chance::dice();
    let load = Load::start(&gateway.sender(), 0);
    for n in 0..stops {
        if n % 4 == 3 {
            // While it starts, or just after.
            gateway.kill9();
            gateway.launch();
            until_it_listens_for_signals(&gateway).await;
        } else {
            load.more(random.u64(1..20)).await;
        }
        sleep(Duration::from_micros(random.u64(0..20_000))).await;
        slowest = slowest.max(stop(&mut gateway).await);
        gateway.start().await;
        arrivals.add(&queue.take());
    }
    load.more(10).await;
    let ledger = load.stop().await;
    ledger.assert_none_refused_but_by_draining();
    ledger.all_arrived(&queue, &mut arrivals).await;
    arrivals.assert_complete(&ledger);
    arrivals.assert_in_order(&ledger);
    balance(&gateway).await;
    assert!(slowest <= STOP_MAX, "{slowest:?}");
    Row::new("P10.load")
        .saw("SIGTERM", stops)
        .saw("events", ledger.len())
        .saw("lost", 0)
        .saw("slowest", format_args!("{slowest:.1?}"))
        .write();
}

/// A journal that takes long to read does not hold up the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminated_while_it_recovers() {
    const RECORDS: u32 = 400_000;
    let mut gateway = Setup::new().prepare();
    fill(&gateway, RECORDS).await;
    let begun = Instant::now();
    gateway.start().await;
    let recovery = begun.elapsed();
    gateway.kill9();
    let mut slowest = Duration::ZERO;
    let mut random = chance::dice();
    let stops = figures::count(5, 50);
    for _ in 0..stops {
        gateway.launch();
        until_it_listens_for_signals(&gateway).await;
        sleep(recovery.mul_f64(random.f64() * 0.5)).await;
        slowest = slowest.max(stop(&mut gateway).await);
    }
    gateway.start().await;
    assert_eq!(gateway.waiting().await, f64::from(RECORDS));
    balance(&gateway).await;
    assert!(
        slowest < recovery / 2,
        "{slowest:?} to end, {recovery:?} to recover"
    );
    Row::new("P10.recovery")
        .saw("SIGTERM", stops)
        .saw("recovery", format_args!("{recovery:.1?}"))
        .saw("slowest", format_args!("{slowest:.1?}"))
        .write();
}

/// Writes records into a gateway's journal, faster than webhooks would.
async fn fill(gateway: &Gateway, records: u32) {
    let journal = Journal::open(Options {
        path: gateway.directory().join("journal"),
        bytes_max: 1 << 30,
        segment_bytes: 64 << 20,
        retain: Duration::from_secs(3600),
        refuse_damage: true,
        reserve_bytes: 0,
        on_sync: None,
    })
    .expect("a journal");
    // A thousand at a time, each with a way to tell that it is stored.
    let payload = Bytes::from(vec![b'x'; 100]);
    for _ in 0..records / 1_000 {
        let (done, mut all) = tokio::sync::mpsc::channel(1);
        for _ in 0..1_000 {
            let done = done.clone();
            let at = hookgate::clock::Now::read().wall;
            journal.append(
                payload.clone(),
                at,
                Box::new(move |fate| {
                    fate.expect("it is stored");
                    drop(done);
                }),
            );
        }
        drop(done);
        assert_eq!(all.recv().await, None::<()>);
    }
    journal.close().await;
}
