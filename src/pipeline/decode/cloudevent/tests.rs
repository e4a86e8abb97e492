//! All three modes, through the decoder.

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::delivery::Coverage;
use crate::pipeline::arrival::{Head, Inbound};
use crate::pipeline::decode::{Document, DuplicateKeys, Format, Parts, Reading, decode};
use crate::pipeline::verify::Verified;
use crate::reject::Reject;

fn read(headers: &[(&'static str, &str)], body: &str) -> Result<Document, String> {
    let headers = headers
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    let head = Head {
        method: http::Method::POST,
        path: "/".to_owned(),
        query: None,
        headers: headers.collect(),
        client_ip: [192, 0, 2, 1].into(),
        request_id: "r".into(),
        certificate: None,
    };
    let body = Bytes::copy_from_slice(body.as_bytes());
    let reading = Reading {
        format: Format::CloudEvents,
        duplicate_keys: DuplicateKeys::Reject,
        unwrap: None,
        codings: Vec::new(),
        unpacked_bytes_max: 1_000,
        query_coverage: Coverage::None,
    };
    let verified = Verified::unproved(Inbound { head, body });
    decode(verified, &reading, true, |_bytes| Ok(())).map_err(|reject| match reject {
        Reject::Malformed(why) => why,
        other => panic!("{other:?}"),
    })
}

fn expected(time: Option<&str>) -> CloudEvent {
    CloudEvent {
        id: "e 1".to_owned(),
        event_type: "order.paid".to_owned(),
        origin: Origin {
            source: "/shop".to_owned(),
            subject: Some("caf\u{e9}".to_owned()),
            time: time.map(str::to_owned),
        },
    }
}

const BINARY: [(&str, &str); 6] = [
    ("content-type", "application/json"),
    ("ce-specversion", "1.0"),
    ("ce-id", "\"e\\ 1\""),
    ("ce-type", "order.paid"),
    ("ce-source", "/shop"),
    ("ce-subject", "caf%C3%A9"),
];

#[test]
fn binary() {
    let document = read(&BINARY, r#"{"total":7}"#).unwrap();
    assert_eq!(document.event, Some(expected(None)));
    assert_eq!(document.json, Some(json!({"total": 7})));
    assert_eq!(document.read_as, "a CloudEvent, its data JSON");
    // Data of a kind that nobody here reads, and none at all.
    let mut png = BINARY;
    png[0].1 = "image/png";
    assert_eq!(read(&png, "x").unwrap().json, Some(Value::Null));
    assert_eq!(read(&BINARY, "").unwrap().json, Some(Value::Null));
    let twice = [BINARY.as_slice(), &[("ce-id", "2")]].concat();
    assert_eq!(read(&twice, "{}").unwrap_err(), "`ce-id` is there twice");
    let odd = [BINARY.as_slice(), &[("ce-time", "%ff")]].concat();
    assert_eq!(read(&odd, "{}").unwrap_err(), "`ce-time` is malformed");
    assert_eq!(
        read(&BINARY[..5], "{}")
            .unwrap()
            .event
            .unwrap()
            .origin
            .subject,
        None
    );
    assert_eq!(
        read(&BINARY[..4], "{}").unwrap_err(),
        "the CloudEvent has no `source`"
    );
}

fn event() -> Value {
    json!({
        "specversion": "1.0", "id": "e 1", "type": "order.paid", "source": "/shop",
        "subject": "caf\u{e9}", "time": "2026-01-02T03:04:05.6+01:00", "data": {"total": 7},
    })
}

const STRUCTURED: (&str, &str) = (
    "content-type",
    "application/cloudevents+json; charset=UTF-8",
);

#[test]
fn structured() {
    let document = read(&[STRUCTURED], &event().to_string()).unwrap();
    let time = Some("2026-01-02T03:04:05.6+01:00");
    assert_eq!(document.event, Some(expected(time)));
    assert_eq!(document.json, Some(json!({"total": 7})));
    for (member, value, words) in [
        ("specversion", json!("0.3"), "is not 1.0"),
        ("specversion", Value::Null, "has no `specversion`"),
        ("id", json!(7), "`id` is not a text"),
        ("id", json!(""), "has no `id`"),
        ("type", json!("x".repeat(1_025)), "longer than 1024 bytes"),
        ("time", json!("yesterday"), "is not in RFC 3339"),
        ("data_base64", json!("AA=="), "has `data` and `data_base64`"),
        ("data_base64", json!(5), "has `data` and `data_base64`"),
    ] {
        let mut event = event();
        event[member] = value;
        let why = read(&[STRUCTURED], &event.to_string()).unwrap_err();
        assert!(why.contains(words), "{why}");
    }
    let mut event = event();
    event["data_base64"] = Value::Null;
    let document = read(&[STRUCTURED], &event.to_string()).unwrap();
    assert_eq!(document.json, Some(json!({"total": 7})), "null is absent");
    event.as_object_mut().unwrap().remove("data");
    event["data_base64"] = json!(5);
    let why = read(&[STRUCTURED], &event.to_string()).unwrap_err();
    assert_eq!(why, "the CloudEvent's `data_base64` is not a text");
    assert_eq!(
        read(&[STRUCTURED], "[]").unwrap_err(),
        "a CloudEvent is a JSON object"
    );
    for (packed, data) in [("eyJhIjoxfQ==", json!({"a": 1})), ("AA==", Value::Null)] {
        event["data_base64"] = json!(packed);
        let document = read(&[STRUCTURED], &event.to_string()).unwrap();
        assert_eq!(document.json, Some(data));
    }
}

#[test]
fn batched() {
    let of = [("content-type", "application/cloudevents-batch+json")];
    let batch = json!([event(), event()]);
    let document = read(&of, &batch.to_string()).unwrap();
    assert_eq!((document.event, document.parts), (None, Parts::CloudEvents));
    assert_eq!(document.json, Some(batch));
    assert_eq!(
        read(&of, "[]").unwrap_err(),
        "a batch of CloudEvents is a list with something in it"
    );
    let broken = json!([event(), {"id": "1"}]).to_string();
    assert_eq!(
        read(&of, &broken).unwrap_err(),
        "/1: the CloudEvent has no `specversion`"
    );
}

#[test]
fn a_request_that_is_no_cloudevent_is_read_as_it_is() {
    let document = read(&[("content-type", "application/json")], r#"{"id":"1"}"#).unwrap();
    assert_eq!(document.event, None);
    assert_eq!(document.json, Some(json!({"id": "1"})));
}
