//! A webhook from the socket to the queue, for each kind of sender and each way to be kept.

use serde_json::json;

use crate::support::balance::balance;
use crate::support::broker::{self, Message};
use crate::support::eventually::eventually;
use crate::support::gateway::{Gateway, Setup, erp, source};
use crate::support::proxy::{Mode, Proxy};
use crate::support::sender::{Answer, Version};
use crate::support::webhook::{Webhook, unix_now};

/// Spaces, escapes, a number that no double holds, and text beyond ASCII: what a parser would
/// change if the body went through one.
const PUSH: &str = "{ \"ref\" : \"refs/heads/main\",\n\t\"big\": 12345678901234567890.10,\
                    \"name\":\"J\\u00fcrgen \u{2603}\", \"after\":\"6113728f\" }\n";

#[track_caller]
fn assert_accepted(answer: &Answer) {
    let text = String::from_utf8_lossy(&answer.body);
    assert!(
        (200..300).contains(&answer.status),
        "{} {text}",
        answer.status
    );
    assert!(
        answer
            .header("x-request-id")
            .is_some_and(|id| !id.is_empty()),
        "{answer:?}"
    );
    assert!(answer.header("hookgate-duplicate").is_none(), "{answer:?}");
}

async fn github_push_arrives(version: Version) {
    let broker = broker::shared().await;
    let forward = "forward_headers = [\"X-GitHub-Event\", \"X-GitHub-Delivery\"]";
    let gateway = Setup::new()
        .broker(broker)
        .sources(&source("github", "github", forward))
        .start()
        .await;
    let queue = gateway.consume(broker).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let webhook = Webhook::github("/github", "push", "guid-1", PUSH.as_bytes())
        .with("traceparent", trace)
        .with("tracestate", "vendor=1");
    let mut client = gateway.connect(version).await;
    let before = unix_now();
    let answer = client.send(&webhook).await.unwrap();
    assert_accepted(&answer);

    let messages = queue.wait_for(1).await;
    let message = &messages[0];
    assert_eq!(message.body, PUSH.as_bytes());
    assert_eq!(message.exchange, gateway.exchange());
    assert_eq!(message.routing_key, "github.push");

    let properties = &message.properties;
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert_eq!(
        text(properties.content_type().as_ref()),
        Some("application/json")
    );
    assert_eq!(text(properties.kind().as_ref()), Some("push"));
    assert_eq!(text(properties.app_id().as_ref()), Some("hookgate"));
    assert!(properties.content_encoding().is_none());
    let at = i64::try_from(properties.timestamp().unwrap()).unwrap();
    assert!((before..=unix_now()).contains(&at), "{at} is not now");
    assert_eq!(
        answer.json(),
        json!({ "status": "accepted", "id": message.id() })
    );
    assert_eq!(
        uuid::Uuid::parse_str(&message.id())
            .unwrap()
            .get_version_num(),
        7
    );

    assert_eq!(message.must("cloudEvents_specversion"), "1.0");
    assert_eq!(message.must("cloudEvents_id"), "guid-1");
    assert!(message.must("cloudEvents_source").contains("github"));
    assert!(message.must("cloudEvents_type").contains("push"));
    assert_is_a_moment(&message.must("cloudEvents_time"));
    assert_eq!(message.must("hookgate_source"), "github");
    assert_eq!(message.must("hookgate_event_id"), "guid-1");
    assert_is_a_moment(&message.must("hookgate_received_at"));
    assert_eq!(message.must("hookgate_client_ip"), "127.0.0.1");
    assert_eq!(
        message.must("hookgate_request_id"),
        answer.header("x-request-id").unwrap()
    );
    assert_eq!(message.must("hookgate_verified"), "full");
    assert_eq!(message.must("hookgate_key"), "2026");
    assert_eq!(message.must("hookgate_attempt"), "1");
    assert_eq!(message.header("hookgate_schema"), None);
    assert_eq!(message.must("traceparent"), trace);
    assert_eq!(message.must("tracestate"), "vendor=1");
    assert_eq!(message.must("http_x_github_event"), "push");
    assert_eq!(message.must("http_x_github_delivery"), "guid-1");
    assert_no_dangerous_header(message);

    // The connection serves on, and the same event again is one event.
    let again = client.send(&webhook).await.unwrap();
    assert_eq!(again.status, answer.status);
    assert_eq!(again.header("hookgate-duplicate"), Some("true"));
    let other = Webhook::github("/github", "push", "guid-2", PUSH.as_bytes());
    assert_accepted(&client.send(&other).await.unwrap());
    let messages = queue.wait_for(2).await;
    assert_eq!(messages[1].must("hookgate_event_id"), "guid-2");
    balance(&gateway).await;
    assert_eq!(
        gateway.metrics().await.sum("hookgate_duplicate_total", &[]),
        1.0
    );
}

fn text(value: Option<&lapin::types::ShortString>) -> Option<&str> {
    value.map(lapin::types::ShortString::as_str)
}

/// RFC 3339 in UTC, to the microsecond.
#[track_caller]
fn assert_is_a_moment(text: &str) {
    let moment: jiff::Timestamp = text.parse().expect("RFC 3339");
    assert!(text.ends_with('Z'), "{text}");
    assert!(
        (unix_now() - moment.as_second()).abs() < 120,
        "{text} is not now"
    );
}

/// Names with a meaning for the broker, or that a 4.x broker drops.
#[track_caller]
fn assert_no_dangerous_header(message: &Message) {
    for name in message.header_names() {
        let lower = name.to_ascii_lowercase();
        assert!(
            !lower.starts_with("x-") && lower != "cc" && lower != "bcc",
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_github_push_over_http_1_1() {
    github_push_arrives(Version::Http1).await;
}

#[tokio::test]
async fn a_github_push_over_http_2() {
    github_push_arrives(Version::Http2).await;
}

/// Sends one webhook to a gateway with one source and gives its message.
async fn through(sources: &str, webhook: &Webhook) -> (Message, Gateway) {
    let broker = broker::shared().await;
    let gateway = Setup::new().broker(broker).sources(sources).start().await;
    let queue = gateway.consume(broker).await;
    assert_accepted(&gateway.send(webhook).await);
    let mut messages = queue.wait_for(1).await;
    balance(&gateway).await;
    let message = messages.remove(0);
    assert_eq!(message.body, webhook.body);
    assert_no_dangerous_header(&message);
    (message, gateway)
}

#[tokio::test]
async fn stripe() {
    let body = br#"{"id":"evt_1","object":"event","type":"invoice.paid","data":{"object":{}}}"#;
    let webhook = Webhook::stripe("/in/stripe", unix_now(), body);
    let sources = source("stripe", "stripe", "path = \"/in/stripe\"");
    let (message, _gateway) = through(&sources, &webhook).await;
    assert_eq!(message.routing_key, "stripe.invoice.paid");
    assert_eq!(message.must("hookgate_event_id"), "evt_1");
    assert_eq!(message.must("cloudEvents_id"), "evt_1");
}

#[tokio::test]
async fn shopify() {
    let body = br#"{"id":820982911946154508,"email":"jon@example.com"}"#;
    let webhook = Webhook::shopify("/shopify", "orders/create", "b54557e4", body);
    let (message, _gateway) = through(&source("shopify", "shopify", ""), &webhook).await;
    assert_eq!(message.routing_key, "shopify.orders.create");
    assert_eq!(message.must("hookgate_event_id"), "b54557e4");
    assert_eq!(
        text(message.properties.kind().as_ref()),
        Some("orders/create")
    );
}

#[tokio::test]
async fn slack() {
    let body = br#"{"type":"event_callback","event_id":"Ev1","event":{"type":"app_mention"}}"#;
    let webhook = Webhook::slack("/slack", unix_now(), body);
    let (message, _gateway) = through(&source("slack", "slack", ""), &webhook).await;
    assert_eq!(message.routing_key, "slack.app_mention");
    assert_eq!(message.must("hookgate_event_id"), "Ev1");
}

#[tokio::test]
async fn a_source_without_a_preset() {
    let body = br#"{"event":{"name":"invoice/posted"},"total":1}"#;
    let webhook = Webhook::erp("/house/erp", unix_now(), "7-1", body);
    let (message, _gateway) = through(&erp("path = \"/house/erp\""), &webhook).await;
    assert_eq!(message.routing_key, "erp.invoice.posted");
    assert_eq!(message.must("hookgate_event_id"), "7-1");
    assert_eq!(message.must("hookgate_key"), "erp-1");
}

#[tokio::test]
async fn a_slack_handshake_is_answered_and_not_published() {
    let gateway = Setup::new()
        .sources(&source("slack", "slack", ""))
        .start()
        .await;
    let body = br#"{"token":"x","challenge":"3eZbrw1aBm2rZgRNFdxV","type":"url_verification"}"#;
    let answer = gateway
        .send(&Webhook::slack("/slack", unix_now(), body))
        .await;
    assert_eq!(answer.status, 200);
    let said = String::from_utf8(answer.body).unwrap();
    assert!(said.contains("3eZbrw1aBm2rZgRNFdxV"), "{said}");
    balance(&gateway).await;
    let metrics = gateway.metrics().await;
    assert_eq!(
        metrics.sum("hookgate_handshake_total", &[("source", "slack")]),
        1.0
    );
    assert_eq!(metrics.sum("hookgate_journal_waiting", &[]), 0.0);

    let forged = Webhook::slack("/slack", unix_now(), body).with("X-Slack-Signature", "v0=00");
    assert_eq!(gateway.send(&forged).await.status, 401);
    balance(&gateway).await;
}

const SCHEMA: &str = r#"{"type":"object","required":["after"],
    "properties":{"after":{"type":"string"}}}"#;

#[tokio::test]
async fn what_violates_its_schema_goes_to_quarantine_with_the_reason() {
    let broker = broker::shared().await;
    let lines = "schema = \"push.json\"\non_invalid = \"quarantine\"";
    let gateway = Setup::new()
        .broker(broker)
        .file("push.json", SCHEMA.as_bytes())
        .sources(&source("github", "github", lines))
        .start()
        .await;
    let queue = gateway.consume(broker).await;
    let quarantine = broker
        .consume(&format!("{}.quarantine", gateway.exchange()))
        .await;
    let bad = Webhook::github("/github", "push", "bad", br#"{"before":7,"after":5}"#);
    assert_accepted(&gateway.send(&bad).await);
    let good = Webhook::github("/github", "push", "good", PUSH.as_bytes());
    assert_accepted(&gateway.send(&good).await);

    let messages = queue.wait_for(1).await;
    assert_eq!(messages[0].must("hookgate_event_id"), "good");
    assert!(messages[0].header("hookgate_schema").is_some());
    let messages = quarantine.wait_for(1).await;
    let message = &messages[0];
    assert_eq!(message.body, bad.body);
    assert_eq!(message.must("hookgate_event_id"), "bad");
    let reason: Vec<_> = message
        .header_names()
        .into_iter()
        .filter(|name| {
            message
                .header(name)
                .is_some_and(|value| value.contains("/after"))
        })
        .collect();
    assert!(
        !reason.is_empty(),
        "no header tells why: {:?}",
        message.header_names()
    );
    balance(&gateway).await;
    assert_eq!(queue.seen().len(), 1);
}

#[tokio::test]
async fn what_no_queue_wants_is_kept_in_unrouted() {
    let broker = broker::shared().await;
    let setup = Setup::new().broker(broker).no_queues();
    let gateway = setup
        .queue("unrouted-test-pushes", "github.push", "classic")
        .start()
        .await;
    let unrouted = broker
        .consume(&format!("{}.unrouted", gateway.exchange()))
        .await;
    let body = PUSH.as_bytes();
    assert_accepted(
        &gateway
            .send(&Webhook::github("/github", "star", "s", body))
            .await,
    );
    assert_accepted(
        &gateway
            .send(&Webhook::github("/github", "push", "p", body))
            .await,
    );
    let messages = unrouted.wait_for(1).await;
    assert_eq!(messages[0].must("hookgate_event_id"), "s");
    assert_eq!(messages[0].routing_key, "github.star");
    let pushes = broker.consume("unrouted-test-pushes").await;
    assert_eq!(pushes.wait_for(1).await[0].must("hookgate_event_id"), "p");
    balance(&gateway).await;
    assert_eq!(unrouted.seen().len(), 1);
}

#[tokio::test]
async fn a_quorum_queue_and_a_stream_are_declared_and_filled() {
    let broker = broker::shared().await;
    let setup = Setup::new().broker(broker).no_queues();
    let gateway = setup
        .queue("kinds-quorum", "github.push", "quorum")
        .queue("kinds-stream", "github.#", "stream")
        .start()
        .await;
    let queue = broker.consume("kinds-quorum").await;
    let webhook = Webhook::github("/github", "push", "q", PUSH.as_bytes());
    assert_accepted(&gateway.send(&webhook).await);
    assert_eq!(queue.wait_for(1).await[0].body, PUSH.as_bytes());
    let stream = broker.consume_stream("kinds-stream").await;
    assert_eq!(stream.wait_for(1).await[0].body, PUSH.as_bytes());
    balance(&gateway).await;
}

#[tokio::test]
async fn with_ack_broker_the_answer_waits_for_the_confirm() {
    let broker = broker::shared().await;
    let proxy = Proxy::start(broker.address()).await;
    let lines = "ack = \"broker\"";
    let gateway = Setup::new()
        .broker_at(proxy.address())
        .broker_lines("confirm_timeout = \"2s\"")
        .limits("accept_timeout = \"1s\"")
        .sources(&source("github", "github", lines))
        .start()
        .await;
    let queue = gateway.consume(broker).await;
    let send = async |id: &str| {
        gateway
            .send(&Webhook::github("/github", "push", id, PUSH.as_bytes()))
            .await
    };
    assert_accepted(&send("confirmed").await);
    // The answer came after the confirm, so the message is there and need not be waited for long.
    assert_eq!(
        queue.wait_for(1).await[0].must("hookgate_event_id"),
        "confirmed"
    );

    proxy.set(Mode::Stall);
    let answer = send("stalled").await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    proxy.set(Mode::Forward);
    // The same event, sent again as its provider would, is taken once the broker is back.
    eventually("the broker to confirm again", || async {
        let answer = send("stalled").await;
        if answer.status == 503 {
            Err(format!("{answer:?}"))
        } else {
            Ok(())
        }
    })
    .await;
    queue
        .wait_until("the event that stalled", |messages| {
            messages
                .iter()
                .any(|message| message.must("hookgate_event_id") == "stalled")
        })
        .await;
    balance(&gateway).await;
}

#[tokio::test]
async fn without_a_broker_the_journal_keeps_events_until_there_is_one() {
    let broker = broker::shared().await;
    let mut gateway = Setup::new().start().await;
    for id in ["a", "b", "c"] {
        let webhook = Webhook::github("/github", "push", id, PUSH.as_bytes());
        assert_accepted(&gateway.send(&webhook).await);
    }
    balance(&gateway).await;
    assert_eq!(
        gateway.metrics().await.sum("hookgate_journal_waiting", &[]),
        3.0
    );

    gateway.restart_with(broker).await;
    let messages = gateway.consume(broker).await.wait_for(3).await;
    let ids: Vec<_> = messages
        .iter()
        .map(|m| m.must("hookgate_event_id"))
        .collect();
    assert_eq!(ids, ["a", "b", "c"]);
    balance(&gateway).await;
    assert_eq!(
        gateway.metrics().await.sum("hookgate_journal_waiting", &[]),
        0.0
    );
}

#[tokio::test]
async fn duplicates_are_known_after_a_restart() {
    let mut gateway = Setup::new().start().await;
    let webhook = Webhook::github("/github", "push", "same", PUSH.as_bytes());
    let first = gateway.send(&webhook).await;
    assert_accepted(&first);
    gateway.restart().await;
    let second = gateway.send(&webhook).await;
    assert_eq!(second.header("hookgate-duplicate"), Some("true"));
    assert_eq!(second.json()["id"], first.json()["id"]);
    balance(&gateway).await;
}

#[tokio::test]
async fn behind_a_load_balancer_without_tls_the_client_is_who_it_says() {
    let broker = broker::shared().await;
    let gateway = Setup::new()
        .broker(broker)
        .plain()
        .server("trusted_proxies = [\"127.0.0.0/8\"]")
        .sources(&source(
            "github",
            "github",
            "allow_ips = [\"203.0.113.0/24\"]",
        ))
        .start()
        .await;
    let queue = gateway.consume(broker).await;
    let webhook = Webhook::github("/github", "push", "x", PUSH.as_bytes());
    assert_eq!(gateway.send(&webhook).await.status, 403);
    // The left-most address is whatever the client claims; the right-most untrusted one counts.
    let spoofed = webhook
        .clone()
        .with("X-Forwarded-For", "203.0.113.7, 198.51.100.9");
    assert_eq!(gateway.send(&spoofed).await.status, 403);
    let genuine = webhook.with("X-Forwarded-For", "198.51.100.9, 203.0.113.7");
    assert_accepted(&gateway.send(&genuine).await);
    assert_eq!(
        queue.wait_for(1).await[0].must("hookgate_client_ip"),
        "203.0.113.7"
    );
    balance(&gateway).await;
}

#[tokio::test]
async fn an_unenforced_source_lets_through_and_says_so() {
    let webhook = Webhook::github("/github", "push", "x", PUSH.as_bytes())
        .with("X-Hub-Signature-256", &format!("sha256={}", "0".repeat(64)));
    let sources = source("github", "github", "enforce = false");
    let (message, gateway) = through(&sources, &webhook).await;
    assert_eq!(message.must("hookgate_verified"), "none");
    assert_eq!(message.header("hookgate_key"), None);
    assert_eq!(
        gateway.metrics().await.sum("hookgate_refusals_total", &[]),
        1.0
    );
}
