//! What becomes of the others when one is gone. No gateway runs here.

use std::fs;

use clap::Parser as _;
use tokio::sync::oneshot;

use super::*;
use crate::cli::{Cli, Command};
use crate::fuzzing::TARGETS;
use crate::journal::Journal;
use crate::publisher::SetAside;

/// A journal with so many events that are set aside, and its storage.
async fn stored(directory: &Path, events: u64) -> Storage {
    let file = directory.join("gateway.toml");
    fs::write(&file, "[journal]\npath = \"journal\"\n").unwrap();
    let load = || load_storage(&file).unwrap_or_else(|failure| panic!("{}", failure.message));
    let (metrics, never) = (Metrics::new([]), CancellationToken::new());
    let stores = Stores::open(&load().journal, &metrics, &never, &mut |_, _| {}).unwrap();
    let target = TARGETS.iter().find(|target| target.name == "delivery");
    let event = (target.unwrap().seeds)().swap_remove(0);
    for position in 0..events {
        let aside = SetAside {
            position: Position(position),
            reason: "too large".to_owned(),
            delivery: event.clone().into(),
        };
        append(&stores.sidings.set_aside, aside.encode()).await;
    }
    stores.close().await;
    load()
}

async fn append(journal: &Journal, event: Bytes) {
    let (tell, told) = oneshot::channel();
    let done = Box::new(move |fate| drop(tell.send(fate)));
    journal.append(event, Timestamp::UNIX_EPOCH, done);
    told.await.unwrap().unwrap();
}

fn chosen(position: u64) -> Chosen {
    Chosen {
        position: Position(position),
        id: Uuid::nil(),
        source: Arc::from("shop"),
        event_type: None,
        received_at: Timestamp::UNIX_EPOCH,
        reason: None,
    }
}

/// How it ended, and the positions that it wrote.
async fn take_up(positions: &[u64]) -> (Option<Exit>, Vec<u64>) {
    let directory = tempfile::tempdir().unwrap();
    let storage = stored(directory.path(), 3).await;
    let line = ["hookgate", "replay", "--set-aside", "--json"];
    let Command::Replay(args) = Cli::try_parse_from(line).unwrap().command else {
        panic!("another command");
    };
    let chosen: Vec<_> = positions.iter().copied().map(chosen).collect();
    let mut out = Vec::new();
    let done = replay(storage, &chosen, &args, &mut out).await;
    let objects = serde_json::Deserializer::from_slice(&out).into_iter::<Value>();
    let written = objects.map(|object| object.unwrap()["position"].as_u64().unwrap());
    (done.ok(), written.collect())
}

#[tokio::test]
async fn the_others_are_taken_up_when_one_is_gone() {
    let all = take_up(&[0, 1, 2]).await;
    assert_eq!(all, (Some(Exit::Success), vec![0, 1, 2]));
    // One that never was, and one that was just taken up.
    let most = take_up(&[0, 77, 0, 2]).await;
    assert_eq!(most, (Some(Exit::Failure), vec![0, 2]));
}
