//! Duplicates are recognised across restarts and at the same moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::watch;

use crate::support::balance::balance;
use crate::support::broker;
use crate::support::chance;
use crate::support::eventually::eventually;
use crate::support::figures::{self, Row};
use crate::support::gateway::{Gateway, Setup, source};
use crate::support::proxy::{Mode, Proxy};
use crate::support::sender::{Answer, Sender, Version};
use crate::support::webhook::Webhook;

fn push(id: &str) -> Webhook {
    let body = format!(r#"{{"event":"{id}"}}"#);
    Webhook::github("/github", "push", id, body.as_bytes())
}

fn is_copy(answer: &Answer) -> bool {
    answer.header("hookgate-duplicate") == Some("true")
}

#[track_caller]
fn message_id(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["id"].as_str().expect("an id").to_owned()
}

async fn window(gateway: &Gateway) -> f64 {
    let metrics = gateway.metrics().await;
    metrics.sum("hookgate_dedupe_window_seconds", &[])
}

/// What the journal holds is known again, whichever way the process ended, under the same id.
#[tokio::test]
async fn the_table_is_rebuilt_from_the_journal() {
    let broker = broker::shared().await;
    let mut gateway = Setup::new().broker(broker).start().await;
    let queue = gateway.consume(broker).await;
    let ids: Vec<String> = (0..100).map(|n| format!("id-{n}")).collect();
    let mut client = gateway.connect(Version::Http1).await;
    let mut kept = BTreeMap::new();
    for id in &ids {
        let answer = client.send(&push(id)).await.expect("an answer");
        assert!(!is_copy(&answer), "{id}");
        kept.insert(id.clone(), message_id(&answer));
    }
    // Once with events published and confirmed, once right after the last answer.
    queue.wait_for(ids.len()).await;
    assert_eq!(window(&gateway).await, 86_400.0);
    for ending in ["kill", "term", "kill"] {
        match ending {
            "term" => gateway.restart().await,
            _ => {
                gateway.kill9();
                gateway.start().await;
            }
        }
        let known = gateway.metrics().await.sum("hookgate_dedupe_ids", &[]);
        assert_eq!(known, 100.0, "after {ending}");
        let mut client = gateway.connect(Version::Http1).await;
        for id in &ids {
            let answer = client.send(&push(id)).await.expect("an answer");
            assert!(is_copy(&answer), "{id} after {ending}");
            assert_eq!(message_id(&answer), kept[id], "{id} after {ending}");
        }
        balance(&gateway).await;
    }
    let other = gateway.send(&push("another")).await;
    assert!(!is_copy(&other));
    // What a kill left unconfirmed is published again, under the id that it had.
    let ids = |messages: &[broker::Message]| -> BTreeSet<_> {
        let pair = |it: &broker::Message| (it.must("hookgate_event_id"), it.id());
        messages.iter().map(pair).collect()
    };
    let messages = queue
        .wait_until("101 events", |messages| ids(messages).len() >= 101)
        .await;
    assert_eq!(ids(&messages).len(), 101, "an event has two ids");
}

/// The window is that of the moment at which the event came, not of the restart.
#[tokio::test]
async fn a_restart_does_not_prolong_the_window() {
    let sources = [
        source("brief", "github", "dedupe = \"2s\""),
        source("github", "github", ""),
        source("off", "github", "dedupe = false"),
    ]
    .concat();
    let mut gateway = Setup::new().sources(&sources).start().await;
    let to = |source: &str, id: &str| Webhook {
        path: format!("/{source}"),
        ..push(id)
    };
    for source in ["brief", "github", "off"] {
        message_id(&gateway.send(&to(source, "a")).await);
    }
    gateway.kill9();
    gateway.start().await;
    assert!(is_copy(&gateway.send(&to("github", "a")).await));
    assert!(!is_copy(&gateway.send(&to("off", "a")).await));
    eventually("the window to be over", || async {
        // A restart within the window forgets nothing, one after it remembers nothing.
        let answer = gateway.send(&to("brief", "a")).await;
        if is_copy(&answer) {
            Err("still known".to_owned())
        } else {
            Ok(())
        }
    })
    .await;
    gateway.kill9();
    gateway.start().await;
    assert!(
        is_copy(&gateway.send(&to("brief", "a")).await),
        "the second one"
    );
    balance(&gateway).await;
}

/// One sender that sends each event until it is answered 2xx, as providers do. Gives the message
/// id of each event, and how many were copies of what was stored without an answer.
async fn insist(
    sender: Sender,
    name: u32,
    stopped: watch::Receiver<bool>,
) -> (BTreeMap<String, String>, usize) {
    let mut kept = BTreeMap::new();
    let mut copies = 0;
    let mut client = None;
    while !*stopped.borrow() {
        let id = format!("{name}-{}", kept.len());
        let Some(open) = &mut client else {
            match sender.connect(Version::Http1).await {
                Ok(connected) => client = Some(connected),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
            continue;
        };
        match open.send(&push(&id)).await {
            Ok(answer) => {
                copies += usize::from(is_copy(&answer));
                kept.insert(id, message_id(&answer));
            }
            Err(_) => client = None,
        }
    }
    (kept, copies)
}

/// Killed at any moment, between storing and answering among others: an event that was stored is
/// recognised when it is sent again, so that it is one message; one that was not is taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_storing_and_answering() {
    let kills = figures::count(25, 250);
    let broker = broker::shared().await;
    let mut gateway = Setup::new().broker(broker).start().await;
    let queue = gateway.consume(broker).await;
    let mut dice = chance::dice();
    let (stop, stopped) = watch::channel(false);
    let tasks: Vec<_> = (0..4)
        .map(|name| tokio::spawn(insist(gateway.sender(), name, stopped.clone())))
        .collect();
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(dice.u64(10..80))).await;
        gateway.kill9();
        gateway.start().await;
    }
    // Whoever was cut off last sends again.
    tokio::time::sleep(Duration::from_millis(200)).await;
    stop.send_replace(true);
    let mut kept = BTreeMap::new();
    let mut copies = 0;
    for task in tasks {
        let (ids, again) = task.await.expect("a sender");
        kept.extend(ids);
        copies += again;
    }
    let complete = |messages: &[broker::Message]| {
        let there: BTreeSet<_> = messages
            .iter()
            .map(|message| message.must("hookgate_event_id"))
            .collect();
        kept.keys().all(|event| there.contains(event))
    };
    let messages = queue.wait_until("every event", complete).await;
    for message in &messages {
        let event = message.must("hookgate_event_id");
        // One that was stored right before the end, and whose sender did not come back, is not
        // in the sender's books.
        if let Some(id) = kept.get(&event) {
            assert_eq!(*id, message.id(), "{event} is two events");
        }
    }
    assert!(copies > 0, "no kill came between storing and answering");
    balance(&gateway).await;
    Row::new("X8.repeats")
        .saw("kills", kills)
        .saw("events", kept.len())
        .saw("sent again after they were stored", copies)
        .saw("stored twice", 0)
        .write();
}

/// While the first copy is not safe, the second is not answered; then both have one receipt.
#[tokio::test]
async fn two_copies_at_once_wait_for_one_receipt() {
    let broker = broker::shared().await;
    let proxy = Proxy::start(broker.address()).await;
    let gateway = Setup::new()
        .broker_at(proxy.address())
        .limits("accept_timeout = \"20s\"")
        .sources(&source("github", "github", "ack = \"broker\""))
        .start()
        .await;
    let queue = gateway.consume(broker).await;
    message_id(&gateway.send(&push("warm")).await);
    for round in 0..10 {
        proxy.set(Mode::Stall);
        let id = format!("twin-{round}");
        let copies: Vec<_> = (0..5)
            .map(|_| {
                let (sender, webhook) = (gateway.sender(), push(&id));
                tokio::spawn(async move { sender.send(&webhook).await })
            })
            .collect();
        eventually("all copies to wait", || async {
            match gateway
                .metrics()
                .await
                .sum("hookgate_requests_in_flight", &[])
            {
                5.0 => Ok(()),
                n => Err(format!("{n} in flight")),
            }
        })
        .await;
        assert!(
            copies.iter().all(|copy| !copy.is_finished()),
            "an answer before the event is safe"
        );
        proxy.set(Mode::Forward);
        let mut ids = BTreeSet::new();
        let mut first = 0;
        for copy in copies {
            let answer = copy.await.expect("a sender");
            first += usize::from(!is_copy(&answer));
            ids.insert(message_id(&answer));
        }
        assert_eq!((first, ids.len()), (1, 1), "round {round}");
    }
    let messages = queue.wait_for(11).await;
    let ids: BTreeSet<_> = messages.iter().map(broker::Message::id).collect();
    assert_eq!(ids.len(), 11);
    balance(&gateway).await;
}

/// An id counts only once its event is safe: one that the broker never confirmed is no copy.
#[tokio::test]
async fn what_was_not_stored_is_not_remembered() {
    let broker = broker::shared().await;
    let proxy = Proxy::start(broker.address()).await;
    let gateway = Setup::new()
        .broker_at(proxy.address())
        .broker_lines("confirm_timeout = \"1s\"")
        .sources(&source("github", "github", "ack = \"broker\""))
        .start()
        .await;
    let queue = gateway.consume(broker).await;
    message_id(&gateway.send(&push("warm")).await);
    proxy.set(Mode::Refuse);
    proxy.cut(crate::support::proxy::Cut::Reset);
    let lost = push("lost");
    let copies = tokio::join!(
        gateway.send(&lost),
        gateway.send(&lost),
        gateway.send(&lost)
    );
    for answer in [copies.0, copies.1, copies.2] {
        assert_eq!(answer.status, 503, "{answer:?}");
    }
    proxy.set(Mode::Forward);
    let answer = eventually("the broker to be back", || async {
        let answer = gateway.send(&push("lost")).await;
        match answer.status {
            202 => Ok(answer),
            status => Err(status.to_string()),
        }
    })
    .await;
    assert!(!is_copy(&answer), "it was never stored");
    assert!(is_copy(&gateway.send(&push("lost")).await));
    let lost = queue.wait_for(2).await;
    assert_eq!(lost[1].id(), message_id(&answer));
    balance(&gateway).await;
}
