use std::num::NonZeroU32;
use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::edge::testing::drain;
use crate::pipeline::limit::Rate;
use crate::pipeline::verify::Refusal;

const ID: &str = "req-1";

fn overrun(count: u32, period: u64, burst: u32, retry_after_ms: u64) -> Overrun {
    Overrun {
        policy: Arc::from("stripe"),
        rate: Rate {
            count: NonZeroU32::new(count).unwrap(),
            period: Duration::from_secs(period),
            burst: NonZeroU32::new(burst).unwrap(),
        },
        retry_after: Duration::from_millis(retry_after_ms),
    }
}

fn violation() -> Violation {
    Violation {
        pointer: "/amount".to_owned(),
        detail: "is not a number".to_owned(),
    }
}

type Fields = Vec<(&'static str, &'static str)>;

/// One of every kind, with the status and the header fields that it must bring.
fn every_reject() -> Vec<(Reject, u16, Fields)> {
    let secret = Refusal::Absent("header Secret-Header".to_owned());
    let quota = [
        ("ratelimit-policy", "\"stripe\";q=200;w=10"),
        ("ratelimit", "\"stripe\";r=0;t=3"),
        ("retry-after", "3"),
    ];
    vec![
        (Reject::NoSuchPath, 404, vec![]),
        (
            Reject::MethodNotAllowed(vec![Method::GET, Method::POST]),
            405,
            vec![("allow", "GET, POST")],
        ),
        (Reject::AddressNotAllowed, 403, vec![]),
        (Reject::Ambiguous("two Hosts"), 400, vec![]),
        (Reject::HeadMalformed, 400, vec![]),
        (Reject::HeadTooLarge, 431, vec![]),
        (
            Reject::Unverified(secret),
            401,
            vec![("www-authenticate", CHALLENGE)],
        ),
        (
            Reject::EvidenceUnavailable("https://certs.example.com/: it answers 500".to_owned()),
            503,
            vec![("retry-after", "5")],
        ),
        (Reject::HandshakeRefused("x".to_owned()), 403, vec![]),
        (Reject::BodyTooLarge(1024), 413, vec![]),
        (Reject::BatchTooLarge(5000), 413, vec![]),
        (Reject::BodyTooSlow, 408, vec![]),
        (Reject::BodyBroken, 400, vec![]),
        (Reject::UnsupportedType, 415, vec![]),
        (Reject::UnsupportedCoding, 415, vec![]),
        (Reject::Malformed("at byte 3".to_owned()), 400, vec![]),
        (Reject::DuplicateKey("/a/0/b".to_owned()), 400, vec![]),
        (Reject::SchemaViolated(vec![violation()]), 422, vec![]),
        (
            Reject::PeerLimited(overrun(20, 1, 200, 2_001)),
            429,
            quota.to_vec(),
        ),
        (
            Reject::SourceLimited(overrun(20, 1, 200, 3_000)),
            429,
            quota.to_vec(),
        ),
        (Reject::JournalFull, 503, vec![("retry-after", "30")]),
        (Reject::QueuesFull, 503, vec![("retry-after", "30")]),
        (Reject::JournalFailed, 503, vec![("retry-after", "30")]),
        (
            Reject::SecretNotStored("it cannot be stored: full".to_owned()),
            503,
            vec![("retry-after", "30")],
        ),
        (Reject::BrokerUnavailable, 503, vec![("retry-after", "5")]),
        (Reject::Overloaded, 503, vec![("retry-after", "2")]),
        (Reject::TooSlow, 503, vec![("retry-after", "2")]),
        (Reject::Draining, 503, vec![("retry-after", "5")]),
        (Reject::Defect, 503, vec![("retry-after", "30")]),
    ]
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

async fn body(response: Response<Full<Bytes>>) -> Vec<u8> {
    drain(response.into_body()).await.unwrap()
}

#[tokio::test]
async fn every_way_to_be_turned_away() {
    let every = every_reject();
    let labels: Vec<_> = every.iter().map(|(reject, ..)| reject.label()).collect();
    assert_eq!(labels, Reject::LABELS);
    let fields = [
        "allow",
        "www-authenticate",
        "ratelimit-policy",
        "ratelimit",
        "retry-after",
    ];
    for (reject, status, expected) in every {
        let label = reject.label();
        let told = reject.told();
        let response = reply(&Err(reject), ID, Afterwards::Open);
        assert_eq!(response.status(), status, "{label}");
        let headers = response.headers().clone();
        assert_eq!(
            text(&headers, "content-type"),
            Some("application/problem+json")
        );
        assert_eq!(text(&headers, "cache-control"), Some("no-store"));
        assert_eq!(text(&headers, "x-request-id"), Some(ID));
        assert_eq!(text(&headers, "connection"), None);
        for field in fields {
            let wanted = expected.iter().find(|(name, _)| *name == field);
            assert_eq!(
                text(&headers, field),
                wanted.map(|(_, value)| *value),
                "{label}: {field}"
            );
        }
        let problem: Value = serde_json::from_slice(&body(response).await).unwrap();
        assert_eq!(problem["type"], format!("urn:hookgate:problem:{label}"));
        assert_eq!(problem["code"], label);
        assert_eq!(problem["status"], status);
        assert_eq!(problem["instance"], ID);
        assert_eq!(problem["detail"], told);
        assert!(problem["title"].is_string());
        assert_eq!(problem["errors"].is_array(), label == "schema_violated");
        // The reason of a failed proof is the operator's.
        assert!(!problem.to_string().contains("Secret-Header"));
    }
}

#[tokio::test]
async fn violations_are_listed_and_capped() {
    let reject = Reject::SchemaViolated(vec![violation(); 30]);
    let response = reply(&Err(reject), ID, Afterwards::Open);
    let problem: Value = serde_json::from_slice(&body(response).await).unwrap();
    let errors = problem["errors"].as_array().unwrap();
    assert_eq!(errors.len(), VIOLATIONS_MAX);
    assert_eq!(
        errors[0],
        json!({"pointer": "/amount", "detail": "is not a number"})
    );
}

#[test]
fn waiting_is_rounded_up() {
    for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (59_999, 60)] {
        assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
    }
}

fn reply_of(status: StatusCode, body: Option<&str>, content_type: Option<&str>) -> Reply {
    Reply {
        status,
        body: body.map(str::to_owned),
        content_type: content_type.map(str::to_owned),
    }
}

async fn accepted_with(reply_: Reply) -> (u16, Option<String>, String) {
    let response = reply(
        &Ok(Outcome::Accepted(Receipt::Event(Uuid::nil()), reply_)),
        ID,
        Afterwards::Open,
    );
    let status = response.status().as_u16();
    let content_type = text(response.headers(), "content-type").map(str::to_owned);
    let body = String::from_utf8(body(response).await).unwrap();
    (status, content_type, body)
}

#[tokio::test]
async fn what_an_accepted_event_is_answered() {
    let json_type = Some("application/json".to_owned());
    let text_type = Some("text/plain; charset=utf-8".to_owned());
    let usual = r#"{"status":"accepted","id":"00000000-0000-0000-0000-000000000000"}"#;
    let cases = [
        (
            reply_of(StatusCode::ACCEPTED, None, None),
            (202, json_type, usual.to_owned()),
        ),
        (
            reply_of(StatusCode::OK, Some("[accepted]"), None),
            (200, text_type, "[accepted]".to_owned()),
        ),
        (
            reply_of(StatusCode::OK, Some(""), Some("a/b")),
            (200, None, String::new()),
        ),
        (
            reply_of(StatusCode::OK, Some("<ok/>"), Some("text/xml")),
            (200, Some("text/xml".to_owned()), "<ok/>".to_owned()),
        ),
        (
            reply_of(StatusCode::NO_CONTENT, None, None),
            (204, None, String::new()),
        ),
        (
            reply_of(StatusCode::NO_CONTENT, Some("x"), None),
            (204, None, String::new()),
        ),
    ];
    for (reply, expected) in cases {
        assert_eq!(accepted_with(reply).await, expected);
    }
}

#[tokio::test]
async fn a_duplicate_is_answered_alike_and_marked() {
    let reply_ = reply_of(StatusCode::ACCEPTED, None, None);
    let first = reply(
        &Ok(Outcome::Accepted(
            Receipt::Event(Uuid::nil()),
            reply_.clone(),
        )),
        ID,
        Afterwards::Open,
    );
    let second = reply(
        &Ok(Outcome::Duplicate(Receipt::Event(Uuid::nil()), reply_)),
        ID,
        Afterwards::Close,
    );
    assert_eq!(first.status(), second.status());
    assert_eq!(text(first.headers(), "hookgate-duplicate"), None);
    assert_eq!(text(second.headers(), "hookgate-duplicate"), Some("true"));
    assert_eq!(text(second.headers(), "connection"), Some("close"));
    assert_eq!(body(first).await, body(second).await);
}

#[tokio::test]
async fn a_handshake_is_never_a_page() {
    let handshake = HandshakeReply {
        headers: HeaderMap::new(),
        status: StatusCode::OK,
        content_type: "text/plain".to_owned(),
        body: "<script>".to_owned(),
    };
    let response = reply(&Ok(Outcome::Handshake(handshake)), ID, Afterwards::Open);
    assert_eq!(response.status(), 200);
    assert_eq!(text(response.headers(), "content-type"), Some("text/plain"));
    assert_eq!(
        text(response.headers(), "x-content-type-options"),
        Some("nosniff")
    );
    assert_eq!(body(response).await, b"<script>");
}

#[tokio::test]
async fn a_batch_is_answered_with_how_many_of_its_events_were_new() {
    let receipt = Receipt::Batch {
        name: "b\"1".into(),
        stored: 2,
        copies: 1,
    };
    let outcome = Outcome::Accepted(receipt, reply_of(StatusCode::ACCEPTED, None, None));
    let response = reply(&Ok(outcome), ID, Afterwards::Open);
    let body = String::from_utf8(body(response).await).unwrap();
    assert_eq!(
        body,
        r#"{"batch":"b\"1","duplicates":1,"events":2,"status":"accepted"}"#
    );
}
