//! What is built before anything is served.

use std::fs;

use bytes::Bytes;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::stores::{options, parked_options, set_aside_options};
use super::*;
use crate::journal::Options;

const CONFIG: &str = r#"
[server]
listen = ["127.0.0.1:0"]
tls = "off"

[admin]
listen = "127.0.0.1:0"

[journal]
path = "journal"

[sources.erp]
verify = "insecure-none"
"#;

fn config(dir: &TempDir) -> Config {
    let path = dir.path().join("gateway.toml");
    fs::write(&path, CONFIG).unwrap();
    Config::load(&path).unwrap().config
}

/// Closes a journal with so many events in it.
async fn fill(options: Options, events: usize) {
    let journal = Journal::open(options).unwrap();
    for _ in 0..events {
        let (tell, told) = oneshot::channel();
        let done = Box::new(move |fate| drop(tell.send(fate)));
        journal.append(Bytes::from_static(b"event"), Timestamp::UNIX_EPOCH, done);
        told.await.unwrap().unwrap();
    }
    journal.close().await;
}

#[tokio::test]
async fn events_of_an_earlier_process_are_in_the_books_from_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let settings = config(&dir).journal;
    fill(set_aside_options(&settings), 2).await;
    fill(options(&settings, &Metrics::new([])), 3).await;

    let app = App::build(config(&dir), &Orders::default()).unwrap();
    (app.admin_state.refresh)();
    let page = app.metrics.render();
    for line in [
        "hookgate_journal_waiting_at_start 3",
        "hookgate_set_aside_stored 2",
    ] {
        assert!(page.lines().any(|one| one == line), "no {line} in\n{page}");
    }
}

/// A part that dies of a defect closes what it has: here the journals' threads stand for all.
#[tokio::test]
async fn a_part_that_ends_ends_the_process_and_says_which() {
    for (which, name) in [(0, "the journal"), (1, "the journal of events set aside")] {
        let dir = tempfile::tempdir().unwrap();
        let app = App::build(config(&dir), &Orders::default()).unwrap();
        let journal = [app.journal(), app.stores.sidings.set_aside.clone()][which].clone();
        let running = tokio::spawn(app.run(CancellationToken::new()));
        journal.close().await;
        let ended = tokio::time::timeout(Duration::from_secs(20), running).await;
        assert_eq!(ended.unwrap().unwrap(), Err(Ended::Part(name)));
    }
}

/// On a disk that is nearly full the journal stops a file's length before its neighbours, and all
/// of them leave what its next start needs.
#[test]
fn neighbours_leave_the_journal_its_reserve_and_can_take_a_file_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let journal = config(&dir).journal;
    let main = options(&journal, &Metrics::new([]));
    let file = main.segment_bytes;
    assert_eq!(main.reserve_bytes, 3 * file);
    for neighbour in [parked_options(&journal), set_aside_options(&journal)] {
        assert!(neighbour.segment_bytes < file);
        assert_eq!(neighbour.reserve_bytes, 2 * file);
    }
}
