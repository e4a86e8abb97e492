//! The feed on a real journal: trouble with reading it.

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::broker::Failure;
use super::super::feed::read;
use super::super::{Parked, Parts, Sidings, assemble, run};
use super::script::Script;
use super::*;
use crate::journal::{Journal, Options, Position};
use crate::metrics::Metrics;

const PATIENCE: Duration = Duration::from_secs(20);

fn options(dir: &TempDir, name: &str) -> Options {
    Options {
        path: dir.path().join(name),
        bytes_max: 64 << 20,
        segment_bytes: 8 << 20,
        retain: Duration::ZERO,
        refuse_damage: false,
        reserve_bytes: 0,
        on_sync: None,
    }
}

fn open(dir: &TempDir, name: &str) -> Journal {
    Journal::open(options(dir, name)).unwrap()
}

/// A journal that holds some events in its file only, and the file.
async fn stored(dir: &TempDir, events: u64) -> (Journal, PathBuf) {
    let journal = open(dir, "journal");
    for number in 0..events {
        let (tell, told) = oneshot::channel();
        let done = Box::new(move |fate| drop(tell.send(fate)));
        journal.append(delivery(number).encode(), Timestamp::UNIX_EPOCH, done);
        told.await.unwrap().unwrap();
    }
    journal.close().await;
    let file = dir.path().join("journal/0000000000000000.wal");
    (open(dir, "journal"), file)
}

#[tokio::test]
async fn trouble_that_passes_only_makes_events_wait() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, file) = stored(&dir, 3).await;
    // A directory cannot be read like a file.
    let kept = file.with_extension("kept");
    fs::rename(&file, &kept).unwrap();
    fs::create_dir(&file).unwrap();
    let (ahead, mut records) = mpsc::channel(8);
    let mut reading = tokio::spawn(read(journal.read_from(Position(0)), ahead));
    let ended = timeout(Duration::from_millis(300), &mut reading).await;
    assert!(ended.is_err(), "{ended:?}");

    fs::remove_dir(&file).unwrap();
    fs::rename(&kept, &file).unwrap();
    for number in 0..3 {
        let record = timeout(PATIENCE, records.recv()).await.unwrap().unwrap();
        assert_eq!(record.position, Position(number));
    }
    journal.close().await;
    timeout(PATIENCE, reading).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_journal_that_needs_a_restart_ends_the_publisher_even_without_a_broker() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, file) = stored(&dir, 3).await;
    fs::remove_file(&file).unwrap();
    let script = Script::new(|_| unreachable!());
    script.refuse((0..1000).map(|_| Failure::new("connection refused")));
    let Parts { links, feeds, .. } = assemble(
        &config(),
        &Arc::new(script),
        journal,
        Sidings {
            set_aside: open(&dir, "set-aside"),
            parked: Parked::open(options(&dir, "parked"), &mut |_, _| {
                ControlFlow::Continue(())
            })
            .unwrap(),
        },
        Metrics::new([]),
    )
    .unwrap();
    let stop = CancellationToken::new();
    let ended = timeout(PATIENCE, run(links, feeds, stop.clone())).await;
    ended.unwrap().unwrap_err();
    assert!(!stop.is_cancelled(), "that is for the caller to decide");
}
