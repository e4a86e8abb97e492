//! Lots that are stuck, together with the journal and with each other, and those that are empty.

use std::ops::ControlFlow;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::super::Parked;
use super::script::{Published, Reply, Script};
use super::whole::{PATIENCE, Whole, append, full_shop, options, store};
use super::{config, delivery};
use crate::journal::Options;

/// Queues without their majority answer nothing at all, for as long as the rule says.
fn silent_lots(published: &Published) -> Reply {
    if published.number < 1000 {
        Reply::Silence
    } else {
        Reply::Ack
    }
}

fn open(dir: &TempDir) -> Parked {
    let options = options(dir, "journal/parked");
    Parked::open(options, &mut |_, _| ControlFlow::Continue(())).unwrap()
}

async fn park(lots: &Parked, number: u64, source: &str) {
    let mut event = delivery(number);
    event.source = source.into();
    let stored = event.encode();
    let parked = lots.park(source, Timestamp::UNIX_EPOCH, 4, &stored);
    parked.await.unwrap();
}

async fn close(lots: &Parked) {
    for lot in lots.journals() {
        lot.close().await;
    }
}

/// Events by their sources, in the lots of a gateway that does not run.
async fn park_all(dir: &TempDir, events: impl Iterator<Item = (u64, String)>) {
    let lots = open(dir);
    for (number, source) in events {
        park(&lots, number, &source).await;
    }
    close(&lots).await;
}

/// More stuck lots than the window of a connection has places: neither the journal's events nor
/// another lot's wait for them, and the journal's connection is not lost for their sake.
#[tokio::test]
async fn stuck_lots_stop_neither_the_journal_nor_another_lot() {
    const LOTS: u64 = 20;
    let dir = TempDir::new().unwrap();
    let mut config = config();
    config.confirm_timeout = Duration::from_secs(1);
    let stuck = (0..LOTS * 3).map(|number| (number, format!("stuck-{}", number % LOTS)));
    park_all(&dir, stuck.chain([(5000, "well".to_owned())])).await;
    let script = Script::new(silent_lots);
    let whole = Whole::start(&dir, &script, &config);
    // The journal's window is eight long.
    whole.until_parked(LOTS * 3).await;
    for number in 1000..1100 {
        append(&whole.journal, delivery(number).encode()).await;
        sleep(Duration::from_millis(20)).await;
    }
    whole.until_cursor(100).await;
    let published = script.published();
    let of_journal = published
        .iter()
        .filter(|one| (1000..1100).contains(&one.number));
    let mut connections: Vec<_> = of_journal.map(|one| one.connection).collect();
    assert_eq!(connections.len(), 100, "nothing was published twice");
    connections.dedup();
    assert_eq!(connections.len(), 1);
    // An alarm on either is to be heard although a lot is well.
    let published_of =
        |parked| whole.metric(&format!("hookgate_published_total{{parked=\"{parked}\"}}"));
    assert_eq!(whole.metric("hookgate_broker_connected"), 1.0);
    assert_eq!((published_of("no"), published_of("yes")), (100.0, 1.0));
    // They go once their queues answer, though nobody else ever did beside them.
    let tries = |number| published.iter().filter(|one| one.number == number).count();
    assert!((0..LOTS * 3).all(|number| tries(number) > 0));
    script.now(|_: &Published| Reply::Ack);
    whole.until_parked(0).await;
    whole.stop().await;
}

/// Each time that a lot is tried it is tried with other events, so that those which are stuck stop
/// none of those which are not.
#[tokio::test]
async fn what_is_not_answered_goes_to_the_end_of_its_lot() {
    const STUCK: u64 = 64;
    let dir = TempDir::new().unwrap();
    let mut config = config();
    config.confirm_timeout = Duration::from_millis(500);
    // A turn's worth that is stuck, and one behind them that is not.
    let events = (0..STUCK).chain([1000]);
    park_all(&dir, events.map(|number| (number, "shop".to_owned()))).await;
    let script = Script::new(silent_lots);
    let whole = Whole::start(&dir, &script, &config);
    whole.until_parked(STUCK).await;
    whole.stop().await;
}

#[tokio::test]
async fn a_lot_that_is_empty_goes_and_comes_again() {
    let dir = TempDir::new().unwrap();
    let script = Script::new(full_shop);
    let whole = Whole::start(&dir, &script, &config());
    let folder = dir.path().join("journal/parked/shop");
    store(&whole.journal, 0..10).await;
    whole.until_parked(10).await;
    whole.sidings.parked.tidy().await;
    assert!(folder.is_dir(), "it is not empty");
    for round in 1..=2 {
        script.now(|_: &Published| Reply::Ack);
        whole.until_parked(0).await;
        whole.sidings.parked.tidy().await;
        assert!(!folder.is_dir() && whole.sidings.parked.journals().is_empty());
        script.now(full_shop);
        store(&whole.journal, round * 10..round * 10 + 10).await;
        whole.until_parked(10).await;
    }
    whole.stop().await;
    // One that became empty just before the end goes when it is opened.
    let ack = Script::new(|_: &Published| Reply::Ack);
    let whole = Whole::start(&dir, &ack, &config());
    whole.until_parked(0).await;
    whole.stop().await;
    let whole = Whole::start(&dir, &ack, &config());
    assert!(whole.sidings.parked.journals().is_empty());
    assert!(!folder.is_dir());
    whole.stop().await;
}

/// Nothing waits in them any more.
fn empty(lots: &Parked) {
    for lot in lots.journals() {
        lot.confirm_until(lot.status().end);
    }
}

/// Whoever parks while a lot is being ended waits for the next one.
#[tokio::test]
async fn what_is_parked_while_lots_end_is_kept() {
    let dir = TempDir::new().unwrap();
    let lots = open(&dir);
    for number in 0..50 {
        tokio::join!(lots.tidy(), park(&lots, number, "shop"));
        assert_eq!(lots.waiting(), 1, "round {number}");
        empty(&lots);
    }
    close(&lots).await;
}

/// Its feed may publish it as soon as it is there, so no other lot's is to have it too.
#[tokio::test]
async fn a_lot_that_something_is_on_its_way_into_does_not_end() {
    let dir = TempDir::new().unwrap();
    let lots = open(&dir);
    park(&lots, 0, "shop").await;
    let lot = lots.journals().remove(0);
    for number in 1..50 {
        empty(&lots);
        tokio::join!(park(&lots, number, "shop"), lots.tidy());
        assert_eq!(lot.closed().now_or_never(), None, "round {number}");
        assert_eq!(lot.status().waiting, 1, "round {number}");
    }
    close(&lots).await;
}

/// A feed of it would be over at once, and be started again, for ever.
#[tokio::test]
async fn a_lot_that_failed_is_kept_and_gets_no_feed() {
    let dir = TempDir::new().unwrap();
    let lots = open(&dir);
    park(&lots, 0, "shop").await;
    assert_eq!(lots.lots().len(), 1);
    let lot = lots.journals().remove(0);
    // The cursor cannot be stored.
    let cursor = dir.path().join("journal/parked/shop/cursor");
    drop(std::fs::remove_file(&cursor));
    std::fs::create_dir(&cursor).unwrap();
    empty(&lots);
    timeout(PATIENCE, lot.failure()).await.unwrap();
    lots.tidy().await;
    assert_eq!(lot.closed().now_or_never(), None);
    close(&lots).await;
    assert!(lots.failed().is_some() && lots.lots().is_empty());
}

/// All lots together do not hold much more than the journal may, however many there are.
#[tokio::test]
async fn more_lots_have_smaller_shares() {
    let dir = TempDir::new().unwrap();
    let options = Options {
        bytes_max: 80_000,
        segment_bytes: 10_000,
        ..options(&dir, "parked")
    };
    let lots = Parked::open(options, &mut |_, _| ControlFlow::Continue(())).unwrap();
    // More than a twentieth of 80,000 bytes, and less than an eighth.
    for number in 0..30 {
        park(&lots, number, "shop").await;
    }
    let others: Vec<_> = (1..20).map(|other| format!("other-{other}")).collect();
    for other in &others {
        park(&lots, 100, other).await;
        let is_one_of_eight = lots.journals().len() <= 8;
        assert!(!(is_one_of_eight && lots.is_full("shop")), "{other}");
    }
    assert!(lots.is_full("shop"));
    assert!(others.iter().all(|other| !lots.is_full(other)));
    close(&lots).await;
}
