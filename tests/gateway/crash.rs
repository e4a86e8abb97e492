//! The gateway is killed at random moments under load; nothing that it acknowledged is missing.

use std::time::Duration;

use crate::support::balance::balance;
use crate::support::broker;
use crate::support::chance;
use crate::support::figures::{self, Row};
use crate::support::gateway::{Setup, cli, said};
use crate::support::load::{self, Ledger, Load};
use crate::support::webhook::Webhook;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load() {
    let kills = figures::count(20, 200);
    let broker = broker::shared().await;
    let mut gateway = Setup::new()
        .broker(broker)
        .sources(&load::sources())
        .start()
        .await;
    let queue = gateway.consume(broker).await;
    let mut random = chance::dice();
    let load = Load::start(&gateway.sender(), 0);
    for _ in 0..kills {
        load.more(random.u64(1..20)).await;
        // Anywhere within a few groups of writes, not only just after an answer.
        tokio::time::sleep(Duration::from_micros(random.u64(0..5_000))).await;
        gateway.kill9();
        gateway.start().await;
    }
    load.more(10).await;
    let ledger = load.stop().await;
    ledger.assert_none_refused();
    let messages = ledger.arrived_in(&queue).await;
    ledger.assert_delivered_in_order(&messages);
    balance(&gateway).await;
    Row::new("J1.in_order")
        .saw("kills", kills)
        .saw("lost", 0)
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
    let waiting = gateway.metrics().await.sum("hookgate_journal_waiting", &[]);
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

#[tokio::test]
async fn a_second_gateway_on_the_same_journal_is_refused() {
    let first = Setup::new().start().await;
    let second = Setup::new().prepare();
    let journal = first.directory().join("journal");
    let line = format!("path = \"{}\"", journal.display());
    second.edit(|text| text.replace("path = \"journal\"", &line));
    let config = second.config();
    let output = cli(&["run", "-c", config.to_str().expect("path")], &[]).await;
    let said = said(&output);
    assert_eq!(output.status.code(), Some(73), "{said}");
    assert!(said.contains("in use"), "{said}");
    let webhook = Webhook::github("/github", "push", "still", br#"{"a":1}"#);
    assert_eq!(first.send(&webhook).await.status, 202);
    balance(&first).await;
}
