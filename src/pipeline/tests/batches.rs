//! Batches: kept whole or not at all, and recognised when they come again.

use std::collections::HashSet;
use std::sync::Mutex;

use serde_json::json;

use super::*;
use crate::journal::Position;
use crate::pipeline::store::{Confirmed, Confirming};

const BATCHES: &str = r#"
provider = "github"
split = "json:/events"
event_id = ["json:/id", "header:X-Batch"]
event_type = "json:/type"
max_elements = 4
"#;

impl Setup {
    /// A batch as its sender would sign it.
    fn signed(&self, body: &str) -> (Head, Bytes) {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/json".parse().unwrap());
        let mut head = head(Method::POST, None, headers);
        let now = Now::read().wall;
        let verifier = &self.shop.verifier;
        verifier
            .sign(&mut head, body.as_bytes(), now, None)
            .unwrap();
        (head, Bytes::copy_from_slice(body.as_bytes()))
    }

    async fn send(&self, body: &str) -> Result<Outcome, Reject> {
        let (head, body) = self.signed(body);
        self.receive(head, Full::new(body)).await
    }

    /// What was stored.
    fn stored(&self) -> Vec<Delivery> {
        let mut reader = self.journal.read_from(Position(0));
        let mut deliveries = Vec::new();
        while let Some(record) = reader.try_next().unwrap() {
            deliveries.push(Delivery::decode(&record.payload).unwrap());
        }
        deliveries
    }
}

fn receipt(outcome: &Outcome) -> (&'static str, usize, usize) {
    let (events, copies) = outcome.events();
    (outcome.label(), events, copies)
}

fn events(ids: &[&str]) -> String {
    let events: Vec<_> = ids
        .iter()
        .map(|id| json!({"id": id, "type": "t"}))
        .collect();
    json!({"events": events}).to_string()
}

#[tokio::test]
async fn each_element_is_an_event_with_the_senders_bytes() {
    let setup = setup("", BATCHES);
    let body = r#"{"events": [ {"id" : "a", "type":"order.paid"},{"type":"x/y","n":1e2} ]}"#;
    let outcome = setup.send(body).await.unwrap();
    assert_eq!(receipt(&outcome), ("accepted", 2, 0));
    let stored = setup.stored();
    let [first, second] = stored.as_slice() else {
        panic!("{stored:?}");
    };
    assert_eq!(first.body, r#"{"id" : "a", "type":"order.paid"}"#);
    assert_eq!(second.body, r#"{"type":"x/y","n":1e2}"#);
    assert_eq!(first.event_id.as_deref(), Some("a"));
    assert_eq!(second.routing_key, "shop.x.y");
    let (one, two) = (
        first.batch.as_ref().unwrap(),
        second.batch.as_ref().unwrap(),
    );
    assert_eq!((one.index, one.size, two.index, two.size), (0, 2, 1, 2));
    assert_eq!(one.name, two.name);
    assert_eq!(second.event_id, None, "neither it nor its batch has one");
    assert_ne!(first.id, second.id);
}

#[tokio::test]
async fn a_batch_that_comes_again_is_recognised_and_of_another_the_new_ones_are_kept() {
    let setup = setup("", BATCHES);
    let send = async |ids: &[&str]| receipt(&setup.send(&events(ids)).await.unwrap());
    assert_eq!(send(&["a", "b"]).await, ("accepted", 2, 0));
    assert_eq!(send(&["a", "b"]).await, ("duplicate", 0, 2));
    assert_eq!(send(&["c", "b", "d", "c"]).await, ("accepted", 2, 2));
    let ids: Vec<_> = setup.stored().into_iter().map(|d| d.event_id).collect();
    assert_eq!(ids, ["a", "b", "c", "d"].map(|id| Some(id.to_owned())));
}

#[tokio::test]
async fn without_any_id_equal_bytes_are_two_batches_unless_the_source_says_that_they_are_one() {
    let split = "provider = \"github\"\nsplit = \"json:\"";
    let setup = setup("", &format!("{split}\nevent_id = \"json:/id\""));
    let send = async |setup: &Setup, body: &str| receipt(&setup.send(body).await.unwrap());
    for _ in 0..2 {
        assert_eq!(send(&setup, r#"[{"temp":20}]"#).await, ("accepted", 1, 0));
    }
    assert_eq!(setup.stored()[0].event_id, None);
    let setup = self::setup(
        "",
        &format!("{split}\nevent_id = [\"json:/id\", \"digest\"]"),
    );
    assert_eq!(send(&setup, "[1,1]").await, ("accepted", 2, 0));
    assert_eq!(send(&setup, "[1,1]").await, ("duplicate", 0, 2));
    assert_eq!(send(&setup, "[1, 1]").await, ("accepted", 2, 0));
}

/// What a head says is said of the batch, be it a CloudEvent.
#[tokio::test]
async fn elements_of_a_binary_cloud_event_are_all_kept_and_recognised() {
    let shop = "provider = \"github\"\nformat = \"cloudevents\"\nsplit = \"json:/events\"\n\
                event_type = \"json:/type\"";
    let setup = setup("", shop);
    let send = async |source: &'static str| {
        let (mut head, body) = setup.signed(r#"{"events":[{"type":"own"},{},{}]}"#);
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", source),
            ("ce-type", "batch"),
        ] {
            head.headers.insert(name, value.parse().unwrap());
        }
        receipt(&setup.receive(head, Full::new(body)).await.unwrap())
    };
    assert_eq!(send("/a").await, ("accepted", 3, 0));
    assert_eq!(send("/a").await, ("duplicate", 0, 3));
    assert_eq!(send("/b").await, ("accepted", 3, 0));
    let stored = setup.stored();
    let ids = stored.iter().map(|it| it.event_id.as_deref().unwrap());
    let ids: Vec<_> = ids.collect();
    assert_eq!(ids, ["1/0", "1/1", "1/2", "1/0", "1/1", "1/2"]);
    let types = stored[..2].iter().map(|it| it.event_type.as_deref());
    assert_eq!(types.collect::<Vec<_>>(), [Some("own"), Some("batch")]);
    assert_eq!(stored[0].origin.as_ref().unwrap().source, "/a");
}

/// What of it can be read tells it from another.
#[tokio::test]
async fn a_cloud_event_whose_data_cannot_be_read_is_still_one_of_its_source() {
    for preset in ["cloudevents-http-webhook", "github"] {
        let shop = format!(
            "provider = \"{preset}\"\nformat = \"cloudevents\"\non_invalid = \"quarantine\""
        );
        let setup = setup("", &shop);
        let send = async |source: &'static str| {
            let (mut head, body) = setup.signed("{");
            for (name, value) in [
                ("ce-specversion", "1.0"),
                ("ce-id", "1"),
                ("ce-source", source),
                ("ce-type", "t"),
            ] {
                head.headers.insert(name, value.parse().unwrap());
            }
            receipt(&setup.receive(head, Full::new(body)).await.unwrap())
        };
        assert_eq!(send("/a").await, ("accepted", 1, 0));
        assert_eq!(send("/b").await, ("accepted", 1, 0));
        assert_eq!(send("/a").await, ("duplicate", 0, 1));
        let stored = setup.stored();
        assert!(stored.iter().all(|it| it.lane != Lane::Main));
        assert_eq!(stored[0].event_type.as_deref(), Some("t"));
    }
}

#[tokio::test]
async fn an_empty_batch_is_accepted_and_nothing_is_stored() {
    let setup = setup("", BATCHES);
    let outcome = setup.send(&events(&[])).await.unwrap();
    assert_eq!(receipt(&outcome), ("accepted", 0, 0));
    assert!(setup.stored().is_empty());
}

#[tokio::test]
async fn too_many_elements_and_no_array_are_refused() {
    let setup = setup("", &format!("{BATCHES}on_invalid = \"reject\""));
    let many = setup.send(&events(&["a", "b", "c", "d", "e"])).await;
    assert_eq!(many, Err(Reject::BatchTooLarge(4)));
    let none = setup.send(r#"{"id":"a"}"#).await;
    assert!(
        matches!(&none, Err(Reject::SchemaViolated(v)) if v[0].pointer == "/events"),
        "{none:?}"
    );
    assert!(setup.stored().is_empty());
}

/// GitHub's preset keeps what cannot be read.
#[tokio::test]
async fn what_is_no_batch_or_too_many_is_set_apart_whole() {
    let setup = setup("", BATCHES);
    let many = events(&["a", "b", "c", "d", "e"]);
    for (body, reason) in [
        (many.as_str(), "more than 4"),
        (r#"{"id":"a"}"#, "must be an array of events"),
        (r#"{"events":[{"id":"a"}"#, "EOF"),
    ] {
        let outcome = setup.send(body).await.unwrap();
        assert!(matches!(outcome, Outcome::Accepted(Receipt::Event(_), _)));
        let stored = setup.stored().pop().unwrap();
        assert_eq!(stored.body, body.as_bytes());
        assert_eq!(stored.batch, None);
        let Lane::Quarantine(why) = &stored.lane else {
            panic!("{stored:?}");
        };
        assert!(why.contains(reason), "{why}");
    }
}

/// The schema's folder.
fn schema(on_invalid: &str) -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("event.json");
    let text = r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","required":["id"]}"#;
    std::fs::write(&path, text).unwrap();
    let path = path.display();
    let shop = format!("{BATCHES}schema = \"{path}\"\non_invalid = \"{on_invalid}\"");
    (directory, shop)
}

#[tokio::test]
async fn one_bad_element_rejects_the_batch_and_says_which_it_is() {
    let (_directory, shop) = schema("reject");
    let setup = setup("", &shop);
    let refused = setup
        .send(r#"{"events":[{"id":"a"},{"n":1},{"id":"c"}]}"#)
        .await;
    let Err(Reject::SchemaViolated(violations)) = refused else {
        panic!("{refused:?}");
    };
    let pointers: Vec<_> = violations.iter().map(|v| v.pointer.as_str()).collect();
    assert_eq!(pointers, ["/events/1"]);
    assert!(setup.stored().is_empty());
}

#[tokio::test]
async fn one_bad_element_goes_to_the_quarantine_alone() {
    let (_directory, shop) = schema("quarantine");
    let setup = setup("", &shop);
    let outcome = setup
        .send(r#"{"events":[{"id":"a"},{"n":1},{"id":"c"}]}"#)
        .await;
    assert_eq!(receipt(&outcome.unwrap()), ("accepted", 3, 0));
    let lanes: Vec<bool> = setup
        .stored()
        .iter()
        .map(|delivery| delivery.lane == Lane::Main)
        .collect();
    assert_eq!(lanes, [true, false, true]);
}

#[tokio::test]
async fn copies_at_once_in_another_order_do_not_wait_for_each_other() {
    let setup = setup("", BATCHES);
    let (there, back) = (events(&["a", "b", "c"]), events(&["c", "b", "a"]));
    let all = (0..20).map(|n| setup.send(if n % 2 == 0 { &there } else { &back }));
    let outcomes = futures_util::future::join_all(all).await;
    let outcomes: Vec<_> = outcomes
        .iter()
        .map(|outcome| receipt(outcome.as_ref().unwrap()))
        .collect();
    let stored = outcomes.iter().filter(|o| **o == ("accepted", 3, 0));
    assert_eq!(stored.count(), 1, "{outcomes:?}");
    let copies = outcomes.iter().filter(|o| **o == ("duplicate", 0, 3));
    assert_eq!(copies.count(), 19, "{outcomes:?}");
    assert_eq!(setup.stored().len(), 3);
}

/// Confirms events, but for those whose id it does not know; keeps what it was given.
#[derive(Default)]
struct Picky {
    refused: Mutex<HashSet<String>>,
    confirmed: Mutex<Vec<String>>,
}

impl Confirming for Picky {
    fn publish(&self, delivery: Delivery, done: Confirmed) {
        let id = delivery.event_id.unwrap_or_default();
        if self.refused.lock().unwrap().contains(&id) {
            return done(Err("no".to_owned()));
        }
        self.confirmed.lock().unwrap().push(id);
        done(Ok(()));
    }
}

/// With the broker half way through, only what it did not confirm is published again.
#[tokio::test]
async fn a_batch_is_confirmed_whole_or_sent_again() {
    let picky = Arc::new(Picky::default());
    let shop = format!("{BATCHES}ack = \"broker\"");
    let broker = "[broker]\nurls = [{ value = \"amqp://127.0.0.1\" }]";
    let setup = setup_with(
        broker,
        "",
        &shop,
        Some(Arc::clone(&picky) as Arc<dyn Confirming>),
    );
    picky.refused.lock().unwrap().insert("b".to_owned());
    let refused = setup.send(&events(&["a", "b", "c"])).await;
    assert_eq!(refused, Err(Reject::BrokerUnavailable));
    picky.refused.lock().unwrap().clear();
    let outcome = setup.send(&events(&["a", "b", "c"])).await.unwrap();
    assert_eq!(receipt(&outcome), ("accepted", 1, 2));
    assert_eq!(*picky.confirmed.lock().unwrap(), ["a", "c", "b"]);
    let page = setup.pipeline.metrics.render();
    assert!(
        page.contains("hookgate_late_total{source=\"shop\"} 2"),
        "{page}"
    );
}

#[tokio::test]
async fn a_batch_is_charged_for_what_its_events_take() {
    let limits = "max_bytes_in_flight = \"1MiB\"\nmax_body = \"64KiB\"";
    let batch = format!("[{}]", vec!["1"; 512].join(","));
    // Half of all is room for as many elements, and what each has besides is copied for each.
    for (lines, expected) in [
        ("", Ok(("accepted", 512, 0))),
        ("event_id = \"header:X-Long\"", Err(Reject::Overloaded)),
        ("event_type = \"header:X-Long\"", Err(Reject::Overloaded)),
        ("forward_headers = [\"X-Long\"]", Err(Reject::Overloaded)),
    ] {
        let shop = format!("provider = \"github\"\nsplit = \"json:\"\n{lines}");
        let setup = setup(limits, &shop);
        let (mut head, body) = setup.signed(&batch);
        let long = "x".repeat(NAME_BYTES_MAX);
        head.headers.insert("x-long", long.parse().unwrap());
        let outcome = setup.receive(head, Full::new(body)).await;
        assert_eq!(
            outcome.map(|outcome| receipt(&outcome)),
            expected,
            "{lines}"
        );
    }
}

#[tokio::test]
async fn by_itself_a_source_takes_no_more_elements_than_there_is_room_for() {
    let limits = "max_bytes_in_flight = \"1MiB\"\nmax_body = \"64KiB\"";
    let shop = "provider = \"github\"\nsplit = \"json:\"\non_invalid = \"reject\"";
    let setup = setup(limits, shop);
    let outcome = setup.send(&format!("[{}]", vec!["1"; 600].join(","))).await;
    assert_eq!(outcome, Err(Reject::BatchTooLarge(512)));
}

/// Of a batch each element may have one.
#[tokio::test]
async fn a_reason_is_cut_and_charged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("event.json");
    let names: Vec<String> = (0..20).map(|n| format!("{n:0>100}")).collect();
    let text = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "allOf": names.iter().map(|name| json!({"required": [name]})).collect::<Vec<_>>(),
    });
    std::fs::write(&path, text.to_string()).unwrap();
    let shop = format!(
        "provider = \"github\"\nsplit = \"json:\"\nschema = \"{}\"\non_invalid = \"quarantine\"",
        path.display()
    );
    let setup = setup(
        "max_bytes_in_flight = \"1MiB\"\nmax_body = \"64KiB\"",
        &shop,
    );
    setup.send("[{}]").await.unwrap();
    let stored = setup.stored().pop().unwrap();
    let Lane::Quarantine(why) = &stored.lane else {
        panic!("{stored:?}");
    };
    assert_eq!(why.len(), REASON_BYTES_MAX);
    let many = setup
        .send(&format!("[{}]", vec!["{}"; 400].join(",")))
        .await;
    assert_eq!(many, Err(Reject::Overloaded));
}

/// What `send` makes where events come as lines, of the example and of lines.
#[tokio::test]
async fn a_sample_of_lines_is_lines() {
    let split = "split = \"lines\"\nevent_id = \"json:/id\"";
    for (lines, payload, events) in [
        (split, None, 1),
        (split, Some("{\"id\":1}\n{\"n\":1.0e2}\n"), 2),
        ("format = \"ndjson\"", None, 1),
        ("format = \"ndjson\"", Some("{\"id\":1}"), 1),
    ] {
        let shop = format!("provider = \"github\"\non_invalid = \"reject\"\n{lines}");
        let setup = setup("", &shop);
        let recipe = Recipe {
            payload: payload.map(|text: &str| Bytes::copy_from_slice(text.as_bytes())),
            at: Now::read().wall,
            ..Recipe::default()
        };
        let sample = make(&setup.shop, &recipe).unwrap();
        assert_eq!(sample.headers["content-type"], "application/x-ndjson");
        let head = head(sample.method, None, sample.headers);
        let outcome = setup.receive(head, Full::new(sample.body)).await;
        assert_eq!(
            receipt(&outcome.unwrap()),
            ("accepted", events, 0),
            "{payload:?}"
        );
    }
}

/// What `send` makes where a provider sends batches.
#[tokio::test]
async fn a_sample_of_a_batch_is_a_batch() {
    for provider in ["gocardless", "line", "xero", "quickbooks", "eventgrid"] {
        let setup = setup("", &format!("provider = \"{provider}\""));
        for n in 0..2 {
            let recipe = Recipe {
                at: Now::read().wall,
                ..Recipe::default()
            };
            let sample = make(&setup.shop, &recipe).unwrap();
            let query = sample.target.split_once('?').map(|(_, query)| query);
            let head = head(sample.method, query, sample.headers);
            let outcome = setup.receive(head, Full::new(sample.body)).await.unwrap();
            assert_eq!(receipt(&outcome), ("accepted", 1, 0), "{provider}");
            let stored = setup.stored().pop().unwrap();
            assert_ne!(stored.routing_key, "shop.event", "{provider} {n}");
        }
    }
}

/// Else a second one would be taken for a copy.
#[tokio::test]
async fn a_sample_has_other_bytes_each_time_where_they_are_its_id() {
    for split in ["", "split = \"json:\""] {
        let setup = setup("", &format!("{GITHUB}\nevent_id = \"digest\"\n{split}"));
        for _ in 0..2 {
            let (head, body) = setup.genuine();
            let outcome = setup.receive(head, Full::new(body)).await.unwrap();
            assert_eq!(receipt(&outcome), ("accepted", 1, 0), "{split}");
        }
    }
}

#[tokio::test]
async fn a_source_of_cloud_events_takes_batches_of_them_and_single_ones() {
    let setup = setup("", "provider = \"github\"\nformat = \"cloudevents\"");
    let event = |id: &str| json!({"specversion": "1.0", "id": id, "source": "/a", "type": "t", "data": {"n": 1}});
    let batch = json!([event("1"), event("2")]).to_string();
    for (content_type, body, expected) in [
        (
            "application/cloudevents-batch+json",
            batch,
            ("accepted", 2, 0),
        ),
        (
            "application/cloudevents+json",
            event("2").to_string(),
            ("duplicate", 0, 1),
        ),
        (
            "application/cloudevents+json",
            event("3").to_string(),
            ("accepted", 1, 0),
        ),
    ] {
        let (mut head, body) = setup.signed(&body);
        head.headers
            .insert("content-type", content_type.parse().unwrap());
        let outcome = setup.receive(head, Full::new(body)).await.unwrap();
        assert_eq!(receipt(&outcome), expected, "{content_type}");
    }
    let ids: Vec<_> = setup.stored().into_iter().map(|it| it.event_id).collect();
    assert_eq!(ids, ["1", "2", "3"].map(|id| Some(id.to_owned())));
}

/// What a subscription of Azure Event Grid with the CloudEvents schema sends is none of the other
/// schema's arrays, and nothing of it goes to the quarantine.
#[tokio::test]
async fn event_grids_cloud_events_come_alone_and_in_batches() {
    let setup = setup("", "provider = \"eventgrid-cloudevents\"");
    let event = |id: &str| json!({"specversion": "1.0", "id": id, "source": "/subscriptions/s", "type": "Microsoft.Storage.BlobCreated", "data": {}});
    for (content_type, body, count) in [
        ("application/cloudevents+json; charset=utf-8", event("1"), 1),
        (
            "application/cloudevents-batch+json; charset=utf-8",
            json!([event("2"), event("3")]),
            2,
        ),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", content_type.parse().unwrap());
        let head = head(Method::POST, Some("code=s3cr3t"), headers);
        let body = Full::new(Bytes::from(body.to_string()));
        let outcome = setup.receive(head, body).await.unwrap();
        assert_eq!(receipt(&outcome), ("accepted", count, 0), "{content_type}");
    }
    for (number, it) in (1_u32..).zip(setup.stored()) {
        assert_eq!(
            (it.event_id, it.lane),
            (Some(number.to_string()), Lane::Main)
        );
        assert_eq!(it.routing_key, "shop.Microsoft.Storage.BlobCreated");
    }
}
