//! A broker that is down, dies, blocks, refuses or cuts: senders never notice, and everything
//! acknowledged arrives.

use std::time::Duration;

use lapin::types::AMQPValue;

use crate::support::balance::balance;
use crate::support::broker;
use crate::support::chance;
use crate::support::eventually::eventually;
use crate::support::gateway::{Gateway, Setup, free_port};
use crate::support::load::{self, Load};
use crate::support::proxy::{Cut, Mode, Proxy};
use crate::support::webhook::Webhook;

fn push(id: &str) -> Webhook {
    Webhook::github("/github", "push", id, br#"{"after":"6113728f"}"#)
}

async fn waiting(gateway: &Gateway) -> f64 {
    gateway.metrics().await.sum("hookgate_journal_waiting", &[])
}

async fn until_all_published(gateway: &Gateway) {
    eventually("the journal to be published", || async {
        match waiting(gateway).await {
            0.0 => Ok(()),
            n => Err(format!("{n} wait")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn down_at_start() {
    let broker = broker::shared().await;
    let proxy = Proxy::start(broker.address()).await;
    proxy.set(Mode::Refuse);
    let gateway = Setup::new()
        .broker_at(proxy.address())
        .sources(&load::sources())
        .start()
        .await;
    let load = Load::start(&gateway.sender(), 0);
    load.more(50).await;
    assert!(waiting(&gateway).await >= 50.0);
    proxy.set(Mode::Forward);
    load.more(50).await;
    let queue = gateway.consume(broker).await;
    let ledger = load.stop().await;
    ledger.assert_none_refused();
    assert_eq!(ledger.unanswered, 0);
    let messages = ledger.arrived_in(&queue).await;
    ledger.assert_delivered_in_order(&messages);
    balance(&gateway).await;
}

#[tokio::test]
async fn nobody_listens_at_its_address() {
    let gateway = Setup::new()
        .broker_at(([127, 0, 0, 1], free_port()).into())
        .start()
        .await;
    for id in ["a", "b"] {
        assert_eq!(gateway.send(&push(id)).await.status, 202);
    }
    balance(&gateway).await;
    assert_eq!(waiting(&gateway).await, 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_under_load() {
    let broker = broker::breakable().await;
    let queue_name = "killed-under-load";
    let gateway = Setup::new()
        .broker(&broker)
        .no_queues()
        .queue(queue_name, "#", "quorum")
        .sources(&load::sources())
        .start()
        .await;
    let load = Load::start(&gateway.sender(), 0);
    load.more(100).await;
    broker.settle(queue_name).await;
    for _ in 0..2 {
        load.more(50).await;
        broker.kill9().await;
        load.more(50).await;
        broker.start_again().await;
        load.more(50).await;
    }
    let ledger = load.stop().await;
    ledger.assert_none_refused();
    assert_eq!(ledger.unanswered, 0);
    until_all_published(&gateway).await;
    let queue = broker.consume(queue_name).await;
    let messages = ledger.arrived_in(&queue).await;
    ledger.assert_delivered_in_order(&messages);
    balance(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocked() {
    let broker = broker::breakable().await;
    let mut gateway = Setup::new()
        .broker(&broker)
        .broker_lines("confirm_timeout = \"2s\"")
        .sources(&load::sources())
        .start()
        .await;
    let queue = gateway.consume(&broker).await;
    let load = Load::start(&gateway.sender(), 0);
    load.more(30).await;
    broker.block().await;
    load.more(60).await;
    eventually("the journal to fill", || async {
        if waiting(&gateway).await > 0.0 {
            Ok(())
        } else {
            Err("nothing waits".to_owned())
        }
    })
    .await;
    // A broker that does not read cannot hold up the end either.
    let ledger = load.stop().await;
    ledger.assert_none_refused();
    let before = tokio::time::Instant::now();
    gateway.term();
    let status = gateway.ended().await;
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
    assert!(
        before.elapsed() < Duration::from_secs(20),
        "{:?}",
        before.elapsed()
    );
    gateway.start().await;
    assert_eq!(gateway.admin("/livez").await.status, 200);
    broker.unblock().await;
    let messages = ledger.arrived_in(&queue).await;
    ledger.assert_delivered(&messages);
    until_all_published(&gateway).await;
    balance(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_at_random_moments() {
    let broker = broker::shared().await;
    let proxy = Proxy::start(broker.address()).await;
    let gateway = Setup::new()
        .broker_at(proxy.address())
        .broker_lines("confirm_timeout = \"1s\"\nmax_in_flight = 64")
        .sources(&load::sources())
        .start()
        .await;
    let queue = gateway.consume(broker).await;
    let mut random = chance::dice();
    let load = Load::start(&gateway.sender(), 0);
    for round in 0..20 {
        load.more(random.u64(1..12)).await;
        match round % 4 {
            0 => proxy.cut(Cut::Close),
            1 => proxy.cut(Cut::Reset),
            2 => proxy.cut(Cut::HalfClose),
            _ => {
                proxy.set(Mode::Stall);
                load.more(random.u64(1..12)).await;
                proxy.cut(Cut::Reset);
                proxy.set(Mode::Forward);
            }
        }
        let connected = proxy.accepted();
        eventually("the gateway to connect again", || async {
            if proxy.accepted() > connected {
                Ok(())
            } else {
                Err("not yet".to_owned())
            }
        })
        .await;
        // A connection that never carried a confirm counts as one more failure in a row, and the
        // pauses between them grow.
        queue.wait_for(queue.seen().len() + 1).await;
    }
    let ledger = load.stop().await;
    ledger.assert_none_refused();
    assert_eq!(ledger.unanswered, 0);
    let messages = ledger.arrived_in(&queue).await;
    ledger.assert_delivered(&messages);
    until_all_published(&gateway).await;
    balance(&gateway).await;
}

/// A connection that stays open and carries nothing: only the confirms' deadline tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_without_an_end() {
    let broker = broker::shared().await;
    let proxy = Proxy::start(broker.address()).await;
    let gateway = Setup::new()
        .broker_at(proxy.address())
        .broker_lines("confirm_timeout = \"1s\"")
        .sources(&load::sources())
        .start()
        .await;
    let queue = gateway.consume(broker).await;
    let load = Load::start(&gateway.sender(), 0);
    load.more(20).await;
    proxy.set(Mode::Stall);
    let connected = proxy.accepted();
    eventually("the gateway to give the connection up", || async {
        if proxy.accepted() > connected {
            Ok(())
        } else {
            Err("it waits on".to_owned())
        }
    })
    .await;
    // Those that stalled stay as they are; new ones pass.
    proxy.cut(Cut::Close);
    proxy.set(Mode::Forward);
    load.more(20).await;
    let ledger = load.stop().await;
    ledger.assert_none_refused();
    let messages = ledger.arrived_in(&queue).await;
    ledger.assert_delivered(&messages);
    until_all_published(&gateway).await;
    balance(&gateway).await;
}

/// A full queue that refuses: the broker answers nack, which is no loss and no poison.
#[tokio::test]
async fn nacked_by_a_full_queue() {
    let broker = broker::shared().await;
    let setup = Setup::new().broker(broker).no_queues();
    let gateway = setup.start().await;
    // The exchange is there once the gateway's own queues are.
    broker
        .consume(&format!("{}.unrouted", gateway.exchange()))
        .await;
    let name = format!("{}-full", gateway.exchange());
    let limits = [
        ("x-max-length", AMQPValue::LongInt(3)),
        ("x-overflow", AMQPValue::LongString("reject-publish".into())),
    ];
    broker
        .declare(&name, &limits, gateway.exchange(), "#")
        .await;
    for n in 0..10 {
        assert_eq!(gateway.send(&push(&format!("{n}"))).await.status, 202);
    }
    eventually("a nack", || async {
        let metrics = gateway.metrics().await;
        match metrics.sum("hookgate_publish_attempts_total", &[("result", "nack")]) {
            0.0 => Err("none yet".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    assert!(waiting(&gateway).await > 0.0);
    let queue = broker.consume(&name).await;
    let messages = queue
        .wait_until("all ten", |seen| {
            (0..10).all(|n| {
                seen.iter()
                    .any(|message| message.must("hookgate_event_id") == n.to_string())
            })
        })
        .await;
    assert!(
        messages
            .iter()
            .any(|message| message.must("hookgate_attempt") != "1")
    );
    until_all_published(&gateway).await;
    balance(&gateway).await;
}

#[tokio::test]
async fn a_wrong_password_is_retried_and_not_logged() {
    let broker = broker::shared().await;
    let gateway = Setup::new().broker(broker).prepare();
    let wrong = "guest:hunter2-is-wrong";
    gateway.edit(|text| text.replace("guest:guest", wrong));
    let mut gateway = gateway;
    gateway.start().await;
    assert_eq!(gateway.send(&push("a")).await.status, 202);
    eventually("the refusal to be logged", || async {
        let log = gateway.log();
        if log.to_ascii_lowercase().contains("access") || log.contains("ACCESS_REFUSED") {
            Ok(())
        } else {
            Err("the log does not tell".to_owned())
        }
    })
    .await;
    assert!(
        !gateway.log().contains("hunter2"),
        "the password is in the log"
    );
    assert_eq!(waiting(&gateway).await, 1.0);
    balance(&gateway).await;
}
