//! `hookgate replay`: the same events once more, under the same message ids.

use serde_json::Value;

use crate::support::balance::balance;
use crate::support::broker::{self, Consumer};
use crate::support::eventually::eventually;
use crate::support::gateway::{Gateway, Setup, said, source};
use crate::support::webhook::Webhook;

/// Runs a command that must exit so; gives what it wrote.
async fn run(gateway: &Gateway, arguments: &[&str], code: i32) -> (Vec<Value>, String) {
    let output = gateway.cli(arguments).await;
    let said = said(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let objects = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    (objects.collect(), said)
}

async fn send(gateway: &Gateway, source: &str, id: &str, body: &[u8]) -> String {
    let webhook = Webhook::github(&format!("/{source}"), "push", id, body);
    let answer = gateway.send(&webhook).await;
    assert_eq!(answer.status, 202);
    answer.json()["id"].as_str().expect("an id").to_owned()
}

fn copies(queue: &Consumer, id: &str) -> usize {
    queue.seen().iter().filter(|one| one.id() == id).count()
}

async fn until_copies(queue: &Consumer, id: &str, number: usize) {
    eventually("the copies", || async {
        match copies(queue, id) {
            there if there == number => Ok(()),
            there => Err(format!("{there} of {number}")),
        }
    })
    .await;
}

async fn until_settled(gateway: &Gateway) {
    eventually("everything to be settled", || async {
        match gateway.metrics().await.sum("hookgate_journal_waiting", &[]) {
            0.0 => Ok(()),
            waiting => Err(format!("{waiting} wait")),
        }
    })
    .await;
    balance(gateway).await;
}

#[tokio::test]
async fn published_events_again() {
    let broker = broker::shared().await;
    let sources = [source("one", "github", ""), source("two", "github", "")].concat();
    let mut gateway = Setup::new().broker(broker).sources(&sources).start().await;
    let queue = gateway.consume(broker).await;
    let first = send(&gateway, "one", "a", b"{}").await;
    let second = send(&gateway, "two", "b", b"{}").await;
    queue.wait_for(2).await;
    until_settled(&gateway).await;

    let (_, said) = run(&gateway, &["replay"], 2).await;
    assert!(
        said.contains("--set-aside, --source, --id or --since"),
        "{said}"
    );
    let (_, said) = run(&gateway, &["replay", "--source", "three"], 1).await;
    assert!(said.contains("no such event"), "{said}");
    eventually("the journal's cursor to be on the disk", || async {
        let (objects, said) = run(&gateway, &["journal", "status", "--json"], 0).await;
        match objects.first().map(|object| &object["waiting"]) {
            Some(waiting) if *waiting == 0 => Ok(()),
            _ => Err(said),
        }
    })
    .await;
    let all = ["replay", "--since", "1h", "--json"];
    let (objects, _) = run(&gateway, &[&all[..], &["--dry-run"]].concat(), 0).await;
    let ids: Vec<_> = objects
        .iter()
        .map(|one| one["message_id"].clone())
        .collect();
    assert_eq!(ids, [first.as_str(), second.as_str()]);
    assert_eq!(queue.seen().len(), 2, "a dry run does nothing");

    let (objects, said) = run(&gateway, &["replay", "--source", "one", "--json"], 0).await;
    assert_eq!(objects.len(), 1);
    assert!(said.contains("1 of 1 are on their way"), "{said}");
    until_copies(&queue, &first, 2).await;
    until_settled(&gateway).await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("hookgate_replayed_total", &[]), 1.0);

    // It stands in the journal twice now, and is one event all the same.
    let (objects, _) = run(&gateway, &[&all[..], &["--rate", "50"]].concat(), 0).await;
    assert_eq!(objects.len(), 2);
    until_copies(&queue, &first, 3).await;
    until_copies(&queue, &second, 2).await;

    // A gateway that runs has the journal, so it must be asked.
    gateway.edit(|text| {
        text.replace(
            "[admin]\nlisten = \"127.0.0.1:",
            "[admin]\nlisten = \"127.0.0.2:",
        )
    });
    let (_, said) = run(&gateway, &["replay", "--id", &second], 69).await;
    assert!(said.contains("does not answer"), "{said}");
    gateway.edit(|text| text.replace("127.0.0.2:", "127.0.0.1:"));

    gateway.term();
    gateway.ended().await;
    let (_, said) = run(&gateway, &["replay", "--id", &second], 0).await;
    assert!(said.contains("when the gateway starts"), "{said}");
    gateway.start().await;
    until_copies(&queue, &second, 3).await;
    assert_eq!(copies(&queue, &first), 3);
    until_settled(&gateway).await;
}

/// The broker refuses an event for its length; the operator lets it take longer ones, and says so.
#[tokio::test]
async fn events_that_were_set_aside_again() {
    const SHORT: u32 = 50_000;
    const LONG: u32 = 1_000_000;
    let broker = broker::breakable().await;
    broker.limit_messages(SHORT).await;
    let mut gateway = Setup::new().broker(&broker).start().await;
    let queue = gateway.consume(&broker).await;
    let body = format!("{{\"text\":\"{}\"}}", "x".repeat(60_000));
    let mut ids = Vec::new();
    for id in ["a", "b", "c"] {
        ids.push(send(&gateway, "github", id, body.as_bytes()).await);
    }
    let small = send(&gateway, "github", "d", b"{}").await;
    until_copies(&queue, &small, 1).await;
    until_settled(&gateway).await;

    let list = ["journal", "list", "--set-aside", "--json"];
    let (objects, said) = run(&gateway, &list, 0).await;
    assert_eq!(objects.len(), 3, "{said}");
    for object in &objects {
        let reason = object["reason"].as_str().expect("a reason");
        assert!(reason.contains("PRECONDITION_FAILED"), "{reason}");
        assert_eq!(object["state"], "set aside");
    }
    let (_, said) = run(&gateway, &["journal", "list", "--set-aside"], 0).await;
    assert!(said.contains("REASON"), "{said}");
    let (objects, _) = run(
        &gateway,
        &["journal", "show", &ids[1], "--set-aside", "--json"],
        0,
    )
    .await;
    assert_eq!(objects[0]["body"], body);
    let stored = async |gateway: &Gateway| {
        let metrics = gateway.metrics().await;
        metrics.sum("hookgate_set_aside_stored", &[])
    };
    assert_eq!(stored(&gateway).await, 3.0);

    // Nothing changed at the broker: it is set aside once more.
    run(&gateway, &["replay", "--set-aside", "--id", &ids[1]], 0).await;
    until_settled(&gateway).await;
    assert_eq!(stored(&gateway).await, 3.0);
    broker.limit_messages(LONG).await;
    run(&gateway, &["replay", "--set-aside", "--id", &ids[1]], 0).await;
    until_copies(&queue, &ids[1], 1).await;
    until_settled(&gateway).await;
    let left = async |gateway: &Gateway| {
        let (objects, _) = run(gateway, &list, 0).await;
        let ids = objects
            .iter()
            .map(|one| one["message_id"].as_str().map(str::to_owned));
        ids.collect::<Option<Vec<_>>>().expect("ids")
    };
    assert_eq!(left(&gateway).await, [ids[0].clone(), ids[2].clone()]);
    gateway.restart().await;
    assert_eq!(stored(&gateway).await, 2.0);

    // A gateway that is down takes them up when it starts.
    gateway.term();
    gateway.ended().await;
    run(&gateway, &["replay", "--set-aside"], 0).await;
    assert!(left(&gateway).await.is_empty());
    gateway.start().await;
    for id in &ids {
        until_copies(&queue, id, 1).await;
    }
    assert_eq!(stored(&gateway).await, 0.0);
    until_settled(&gateway).await;
    let (_, said) = run(&gateway, &["replay", "--set-aside"], 1).await;
    assert!(said.contains("no such event"), "{said}");
    drop(broker);
}
