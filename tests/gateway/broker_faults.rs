//! A broker that is down, dies or refuses: senders never notice, and everything acknowledged
//! arrives. Those that cut, block or stay away for long are in `faults`.

use lapin::types::AMQPValue;

use crate::support::balance::balance;
use crate::support::broker;
use crate::support::eventually::eventually;
use crate::support::gateway::{Setup, free_port};
use crate::support::load::{self, Load};
use crate::support::proxy::{Mode, Proxy};
use crate::support::webhook::Webhook;

fn push(id: &str) -> Webhook {
    Webhook::github("/github", "push", id, br#"{"after":"6113728f"}"#)
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
    assert!(gateway.waiting().await >= 50.0);
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
    assert_eq!(gateway.waiting().await, 2.0);
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
    gateway.until_all_published().await;
    let queue = broker.consume(queue_name).await;
    let messages = ledger.arrived_in(&queue).await;
    ledger.assert_delivered_in_order(&messages);
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
    assert!(gateway.waiting().await > 0.0);
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
    gateway.until_all_published().await;
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
    assert_eq!(gateway.waiting().await, 1.0);
    balance(&gateway).await;
}
