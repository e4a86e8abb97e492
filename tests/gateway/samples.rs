//! The sample payloads against the shipped schemas: what is valid arrives byte for byte, what is
//! not is turned away.

use std::path::{Path, PathBuf};

use crate::support::balance::balance;
use crate::support::broker;
use crate::support::gateway::{Setup, erp, source};
use crate::support::sender::Version;
use crate::support::webhook::{Webhook, unix_now};

/// The payloads of a provider, by their event type, in order.
fn payloads(provider: &str, kind: &str) -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("tests/payloads").join(provider).join(kind);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("entry").path();
            let name = path
                .file_name()
                .expect("name")
                .to_string_lossy()
                .into_owned();
            let (event_type, _) = name.split_once("--").expect("TYPE--WHAT.json");
            (event_type.to_owned(), path)
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{} is empty", folder.display());
    found
}

/// Sends every payload of a provider through a gateway with its shipped schema.
async fn all(
    provider: &str,
    schema: &str,
    sources: fn(&str) -> String,
    sign: fn(&str, &str, &[u8]) -> Webhook,
) {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("schemas")
        .join(schema);
    let lines = format!("schema = \"{}\"\ndedupe = false", schema.display());
    let broker = broker::shared().await;
    let gateway = Setup::new()
        .broker(broker)
        .sources(&sources(&lines))
        .start()
        .await;
    let queue = gateway.consume(broker).await;
    let mut client = gateway.connect(Version::Http2).await;
    let mut sent = Vec::new();
    for (event_type, path) in payloads(provider, "valid") {
        let body = std::fs::read(&path).unwrap();
        let webhook = sign(&event_type, &path.display().to_string(), &body);
        let answer = client.send(&webhook).await.unwrap();
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status / 100, 2, "{}: {said}", path.display());
        sent.push(body);
    }
    for (event_type, path) in payloads(provider, "invalid") {
        let body = std::fs::read(&path).unwrap();
        let webhook = sign(&event_type, &path.display().to_string(), &body);
        let answer = client.send(&webhook).await.unwrap();
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 422, "{}: {said}", path.display());
    }
    let messages = queue.wait_for(sent.len()).await;
    for (message, body) in messages.iter().zip(&sent) {
        assert!(
            message.body == *body,
            "not the sender's bytes: {:?}",
            message.routing_key
        );
        assert!(
            message.header("hookgate_schema").is_some(),
            "{}",
            message.routing_key
        );
    }
    balance(&gateway).await;
    assert_eq!(queue.seen().len(), sent.len());
}

#[tokio::test]
async fn github() {
    let sign = |event: &str, id: &str, body: &[u8]| Webhook::github("/github", event, id, body);
    all(
        "github",
        "github",
        |lines| source("github", "github", lines),
        sign,
    )
    .await;
}

#[tokio::test]
async fn stripe() {
    let sign = |_: &str, _: &str, body: &[u8]| Webhook::stripe("/stripe", unix_now(), body);
    all(
        "stripe",
        "stripe",
        |lines| source("stripe", "stripe", lines),
        sign,
    )
    .await;
}

#[tokio::test]
async fn shopify() {
    let sign = |event: &str, id: &str, body: &[u8]| {
        Webhook::shopify("/shopify", &event.replacen('.', "/", 1), id, body)
    };
    all(
        "shopify",
        "shopify",
        |lines| source("shopify", "shopify", lines),
        sign,
    )
    .await;
}

#[tokio::test]
async fn orders() {
    let sign = |_: &str, id: &str, body: &[u8]| Webhook::erp("/erp", unix_now(), id, body);
    all("orders", "order.json", erp, sign).await;
}
