//! Batches from the socket to the queue: an event of its own for each element, and the same one
//! when the batch comes again.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::balance::balance;
use crate::support::broker;
use crate::support::gateway::{Setup, source};
use crate::support::webhook::{Webhook, hex, hmac_sha256, unix_now};

const SECRET: &str = "batch-secret-31";

/// A source of a provider that sends batches.
fn of_provider(name: &str) -> String {
    let provider = name.replace('_', "-");
    format!(
        "[sources.{name}]\nprovider = \"{provider}\"\n\
         secrets = [{{ value = \"{SECRET}\", label = \"2026\" }}, {{ value = \"old-31\", label = \"2025\" }}]\n"
    )
}

/// Meta: HMAC-SHA256 of the body, hexadecimal.
fn meta(body: &[u8]) -> Webhook {
    let proof = hex(&hmac_sha256(SECRET.as_bytes(), body));
    Webhook::bare("/meta", body).with("X-Hub-Signature-256", &format!("sha256={proof}"))
}

/// GoCardless: HMAC-SHA256 of the body, hexadecimal.
fn gocardless(body: &[u8]) -> Webhook {
    let proof = hex(&hmac_sha256(SECRET.as_bytes(), body));
    Webhook::bare("/gocardless", body).with("Webhook-Signature", &proof)
}

/// HubSpot, version 3: HMAC-SHA256 of method, URL, body and time in milliseconds, base64.
fn hubspot(url: &str, body: &[u8]) -> Webhook {
    let at = (unix_now() * 1000).to_string();
    let signed = [b"POST", url.as_bytes(), body, at.as_bytes()].concat();
    let proof = STANDARD.encode(hmac_sha256(SECRET.as_bytes(), &signed));
    Webhook::bare("/hubspot_v3", body)
        .with("X-HubSpot-Request-Timestamp", &at)
        .with("X-HubSpot-Signature-v3", &proof)
}

fn counts(answer: &Value) -> (u64, u64) {
    let count = |name: &str| answer[name].as_u64().unwrap();
    (count("events"), count("duplicates"))
}

/// Half of what comes again is new, and the process was killed in between.
#[tokio::test]
async fn every_element_arrives_once_though_the_gateway_is_killed_between_two_tries() {
    let broker = broker::shared().await;
    let sources = ["hubspot_v3", "gocardless"].map(of_provider).concat();
    let mut gateway = Setup::new()
        .server("public_url = \"https://hooks.example.com\"")
        .broker(broker)
        .sources(&sources)
        .start()
        .await;
    let queue = gateway.consume(broker).await;

    let url = "https://hooks.example.com/hubspot_v3";
    let contact = r#"{ "eventId":1, "subscriptionId":12345, "occurredAt":1564113600000,"subscriptionType":"contact.creation","attemptNumber":0}"#;
    let deal = contact.replace("12345", "6").replace("contact", "deal");
    let body = format!("[{contact} ,\n{deal}]");
    let answer = gateway.send(&hubspot(url, body.as_bytes())).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(counts(&answer.json()), (2, 0));
    let messages = queue.wait_for(2).await;
    assert_eq!(messages[0].body, contact.as_bytes());
    assert_eq!(messages[1].body, deal.as_bytes());
    for (message, index) in messages.iter().zip(["0", "1"]) {
        assert_eq!(message.must("hookgate_batch_index"), index);
        assert_eq!(message.must("hookgate_batch_size"), "2");
        assert_eq!(message.must("hookgate_batch"), answer.json()["batch"]);
    }
    assert_eq!(messages[0].routing_key, "hubspot_v3.contact.creation");
    assert_eq!(messages[1].must("hookgate_event_id"), "1.6.1564113600000");

    gateway.kill9();
    gateway.start().await;
    // A later try of HubSpot's is not the same bytes.
    let again = body.replace("\"attemptNumber\":0", "\"attemptNumber\":1");
    let answer = gateway.send(&hubspot(url, again.as_bytes())).await;
    assert_eq!(answer.header("hookgate-duplicate"), Some("true"));
    assert_eq!(counts(&answer.json()), (0, 2));

    let event = |id: &str| json!({"id": id, "resource_type": "payouts", "action": "paid"});
    let batch = |ids: &[&str]| {
        let events: Vec<Value> = ids.iter().map(|id| event(id)).collect();
        json!({"events": events, "meta": {"webhook_id": "WB1"}}).to_string()
    };
    let first = gocardless(batch(&["EV1", "EV2"]).as_bytes());
    assert_eq!(gateway.send(&first).await.status, 200);
    gateway.kill9();
    gateway.start().await;
    let second = gocardless(batch(&["EV2", "EV3"]).as_bytes());
    assert_eq!(gateway.send(&second).await.status, 200);
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("hookgate_events_total", &[]), 1.0);
    assert_eq!(metrics.sum("hookgate_event_copies_total", &[]), 1.0);
    let ids = |messages: Vec<broker::Message>| {
        let ids = messages.iter().map(|m| m.must("hookgate_event_id"));
        ids.collect::<BTreeSet<_>>()
    };
    let all = BTreeSet::from(
        [
            "1.12345.1564113600000",
            "1.6.1564113600000",
            "EV1",
            "EV2",
            "EV3",
        ]
        .map(str::to_owned),
    );
    queue
        .wait_until("every element", |seen| ids(seen.to_vec()) == all)
        .await;
    balance(&gateway).await;
}

/// And an operator sees by which secret, and that the old one is out of use.
#[tokio::test]
async fn a_batch_is_confirmed_by_the_broker_before_it_is_answered() {
    let broker = broker::shared().await;
    let direct = of_provider("meta") + "ack = \"broker\"\n";
    let direct = direct + "[sources.meta.config]\nverify_token = \"t\"\n";
    let gateway = Setup::new()
        .broker(broker)
        .sources(&(direct + &source("github", "github", "")))
        .start()
        .await;
    let queue = gateway.consume(broker).await;
    let entries: Vec<String> = (0..100)
        .map(|n| format!(r#"{{"id":"{n}","time":1,"changes":[{{"field":"feed"}}]}}"#))
        .collect();
    let body = format!(r#"{{"object":"page","entry":[{}]}}"#, entries.join(","));
    let answer = gateway.send(&meta(body.as_bytes())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let messages = queue.wait_for(100).await;
    for (message, entry) in messages.iter().zip(&entries) {
        assert_eq!(message.body, entry.as_bytes());
        assert_eq!(message.routing_key, "meta.page.feed");
    }
    let again = gateway.send(&meta(body.as_bytes())).await;
    assert_eq!(again.header("hookgate-duplicate"), Some("true"));
    balance(&gateway).await;

    let status = gateway.cli(&["status"]).await;
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    let status = String::from_utf8(status.stdout).unwrap();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = status.lines().map(words).collect();
    assert!(
        lines
            .iter()
            .any(|line| line == "meta meta /meta broker yes 0 2025 0 not known"),
        "{status}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with("2026 2 20")),
        "{status}"
    );
    let json = gateway.cli(&["status", "--json"]).await;
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["journal"]["set_aside"], 0);
}

/// Of a batch that is turned away nothing is kept, and its sender is told where to look.
#[tokio::test]
async fn a_batch_with_a_bad_element_or_too_many_is_turned_away_whole() {
    let schema = br#"{"$schema":"https://json-schema.org/draft/2020-12/schema","required":["id"]}"#;
    let lines = "split = \"json:/events\"\nmax_elements = 3\nschema = \"event.json\"";
    let gateway = Setup::new()
        .file("event.json", schema)
        .sources(&source("github", "github", lines))
        .start()
        .await;
    let send = async |body: &[u8]| {
        let webhook = Webhook::github("/github", "push", "guid-1", body);
        gateway.send(&webhook).await
    };
    let bad = send(br#"{"events":[{"id":1},{"id":2},{"n":3}]}"#).await;
    assert_eq!(bad.status, 422);
    assert_eq!(bad.json()["errors"][0]["pointer"], "/events/2");
    let none = send(br#"{"id":1}"#).await;
    assert_eq!(none.status, 422);
    assert_eq!(none.json()["errors"][0]["pointer"], "/events");
    let long = send(br#"{"events":[{"id":1},{"id":2},{"id":3},{"id":4}]}"#).await;
    assert_eq!(long.status, 413);
    assert_eq!(long.json()["code"], "batch_too_large");
    assert_eq!(gateway.waiting().await, 0.0);

    // And one that is right is kept, whatever was refused under the same delivery's id.
    let good = send(br#"{"events":[{"id":1},{"id":2},{"id":3}]}"#).await;
    assert_eq!(counts(&good.json()), (3, 0));
    assert_eq!(good.json()["batch"], "guid-1");
    let empty = send(br#"{"events":[]}"#).await;
    assert_eq!((empty.status, counts(&empty.json())), (202, (0, 0)));
    assert_eq!(gateway.waiting().await, 3.0);
    balance(&gateway).await;
}
