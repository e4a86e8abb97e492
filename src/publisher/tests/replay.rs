//! What is taken up again, and what the set-aside journal says of it later.

use std::path::PathBuf;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::super::replay::{Replay, ReplayError, Shelf};
use super::super::set_aside::SetAside;
use super::*;
use crate::journal::{Journal, OpenError, Options, Position};
use crate::metrics::Metrics;

struct Rig {
    journal: Journal,
    set_aside: Journal,
    replay: Replay,
}

fn path(dir: &TempDir) -> PathBuf {
    dir.path().join("set-aside")
}

fn open(path: PathBuf) -> Journal {
    let options = Options {
        path,
        bytes_max: 64 << 20,
        segment_bytes: 8 << 20,
        retain: Duration::from_secs(3600),
        refuse_damage: true,
        reserve_bytes: 0,
        on_sync: None,
    };
    Journal::open(options).unwrap()
}

async fn append(journal: &Journal, payload: Bytes) {
    let (tell, told) = tokio::sync::oneshot::channel();
    let done = Box::new(move |fate| drop(tell.send(fate)));
    journal.append(payload, Timestamp::UNIX_EPOCH, done);
    told.await.unwrap().unwrap();
}

fn begin(
    dir: &TempDir,
    journal: &Journal,
    set_aside: &Journal,
    stop: &CancellationToken,
) -> Result<Replay, OpenError> {
    let (journal, set_aside) = (journal.clone(), set_aside.clone());
    Replay::new(journal, set_aside, &path(dir), Metrics::new([]), stop)
}

impl Rig {
    fn new(dir: &TempDir) -> Self {
        let (journal, set_aside) = (open(dir.path().join("journal")), open(path(dir)));
        let replay = begin(dir, &journal, &set_aside, &CancellationToken::new());
        Self {
            journal,
            set_aside,
            replay: replay.unwrap(),
        }
    }

    async fn set_aside(&self, number: u64) {
        let aside = SetAside {
            position: Position(number),
            reason: "too large".to_owned(),
            delivery: delivery(number).encode(),
        };
        append(&self.set_aside, aside.encode()).await;
    }

    async fn again(&self, shelf: Shelf, position: u64) -> Result<Uuid, ReplayError> {
        self.replay.again(shelf, Position(position)).await
    }

    async fn close(self) {
        self.journal.close().await;
        self.set_aside.close().await;
    }
}

#[tokio::test]
async fn what_was_published_is_stored_once_more() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(&dir);
    for number in 0..3 {
        append(&rig.journal, delivery(number).encode()).await;
    }
    append(&rig.journal, Bytes::from_static(b"\x07what")).await;
    let waits = rig.again(Shelf::Journal, 1).await;
    assert_eq!(waits, Err(ReplayError::Waiting(1)));
    rig.journal.confirm_until(Position(4));
    assert_eq!(rig.again(Shelf::Journal, 1).await, Ok(delivery(1).id));
    assert!(matches!(
        rig.again(Shelf::Journal, 3).await,
        Err(ReplayError::NoEvent(3, _))
    ));
    let mut reader = rig.journal.read_from(Position(4));
    let record = reader.next().await.unwrap().unwrap();
    assert_eq!(Delivery::decode(&record.payload), Ok(delivery(1)));
    assert_eq!(rig.journal.status().end, Position(5));
    rig.close().await;
}

#[tokio::test]
async fn what_was_replayed_is_set_aside_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(&dir);
    for number in 0..3 {
        rig.set_aside(number).await;
    }
    assert_eq!(rig.replay.set_aside(), 3);
    assert_eq!(rig.again(Shelf::SetAside, 1).await, Ok(delivery(1).id));
    assert_eq!(rig.replay.set_aside(), 2);
    assert_eq!(
        rig.again(Shelf::SetAside, 1).await,
        Err(ReplayError::Absent(1))
    );
    assert_eq!(rig.set_aside.status().cursor, Position(0));
    rig.close().await;

    let rig = Rig::new(&dir);
    assert_eq!(rig.replay.set_aside(), 2, "it is known after a restart");
    // The mark itself is no event.
    for absent in [1, 3, 4, 99] {
        let nothing = rig.again(Shelf::SetAside, absent).await;
        assert_eq!(nothing, Err(ReplayError::Absent(absent)));
    }
    rig.set_aside(5).await;
    assert_eq!(rig.again(Shelf::SetAside, 0).await, Ok(delivery(0).id));
    assert_eq!(rig.set_aside.status().cursor, Position(2));
    assert_eq!(rig.again(Shelf::SetAside, 2).await, Ok(delivery(2).id));
    assert_eq!(rig.set_aside.status().cursor, Position(4));
    assert_eq!(rig.again(Shelf::SetAside, 4).await, Ok(delivery(5).id));
    assert_eq!(rig.set_aside.status().cursor, Position(8));
    assert_eq!(rig.replay.set_aside(), 0);
    rig.close().await;
}

/// The marks are looked for in all that is set aside, which may be much.
#[tokio::test]
async fn a_stop_ends_the_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(&dir);
    let stop = CancellationToken::new();
    stop.cancel();
    begin(&dir, &rig.journal, &rig.set_aside, &stop).unwrap();
    rig.set_aside(0).await;
    let stopped = begin(&dir, &rig.journal, &rig.set_aside, &stop);
    assert!(matches!(stopped, Err(OpenError::Stopped)));
    rig.close().await;
}
