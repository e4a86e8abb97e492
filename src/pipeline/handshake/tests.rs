//! What is a handshake, what is not, and what the answer may repeat.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::*;
use crate::config::raw::{RawReply, RawScheme, RawVerify};
use crate::pipeline::arrival::Head;
use crate::secret::{Labelled, Secret};

fn compile(raw: &RawHandshake) -> Result<Handshake, Vec<Problem>> {
    let secrets = [Labelled {
        label: Arc::from("main"),
        secret: Secret::new(b"consumer_secret".to_vec()),
    }];
    let config = BTreeMap::from([("verify_token".to_owned(), "t0ken".to_owned())]);
    let context = Context {
        secrets: &secrets,
        config: &config,
        url: None,
    };
    let scheme = RawScheme {
        algorithm: Some("hmac-sha256".to_owned()),
        signature: vec!["header:X-Signature".to_owned()],
        encoding: Some("base64".to_owned()),
        ..RawScheme::default()
    };
    let verifier = Verifier::compile(&RawVerify::Schemes(vec![scheme]), &context).unwrap();
    Handshake::compile(raw, &context, &verifier)
}

fn rule(place: &str, value: &str, body: &str) -> RawHandshake {
    RawHandshake {
        equals: BTreeMap::from([(place.to_owned(), value.to_owned())]),
        reply: RawReply {
            body: Some(body.to_owned()),
            ..RawReply::default()
        },
        ..RawHandshake::default()
    }
}

fn inbound(method: Method, query: &str, headers: &[(&'static str, &str)], body: &str) -> Inbound {
    let head = Head {
        method,
        path: "/".to_owned(),
        query: Some(query.to_owned()).filter(|query| !query.is_empty()),
        headers: HeaderMap::from_iter(
            headers
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())),
        ),
        client_ip: [192, 0, 2, 1].into(),
        request_id: Arc::from("r"),
    };
    Inbound {
        head,
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

fn post(body: &str) -> Inbound {
    inbound(Method::POST, "", &[], body)
}

fn get(query: &str) -> Inbound {
    inbound(Method::GET, query, &[], "")
}

#[track_caller]
fn check(raw: &RawHandshake, inbound: &Inbound, expected: Option<&str>) {
    let reply = compile(raw).unwrap().answer(inbound);
    assert_eq!(reply.map(|reply| reply.body).as_deref(), expected);
}

#[test]
fn json_is_looked_into_only_where_it_is_json() {
    let raw = rule("json:/type", "url_verification", "{json:/challenge}");
    check(
        &raw,
        &post(r#"{"type":"url_verification","challenge":"c"}"#),
        Some("c"),
    );
    check(
        &raw,
        &post(r#"{"type":"event","note":"url_verification"}"#),
        None,
    );
    check(&raw, &post(r#"{"type":"url_verification"}"#), None);
    check(&raw, &post("type=url_verification&challenge=c"), None);
    check(&raw, &post(""), None);
}

#[test]
fn method_values_and_presence_must_all_hold() {
    let raw = RawHandshake {
        method: Some("GET".to_owned()),
        has: vec!["query:challenge".to_owned()],
        ..rule("query:token", "{config:verify_token}", "{query:challenge}")
    };
    check(&raw, &get("token=t0ken&challenge=a%20b"), Some("a b"));
    check(&raw, &get("token=t0ke&challenge=a"), None);
    check(&raw, &get("token=t0ken"), None);
    check(&raw, &get("token=t0ken&token=t0ken&challenge=a"), None);
    let posted = inbound(Method::POST, "token=t0ken&challenge=a", &[], "");
    check(&raw, &posted, None);
}

/// A customer writes `&webhook_id=1` into an order's note: that must not make the event vanish.
#[test]
fn an_event_does_not_pass_for_a_form() {
    let raw = RawHandshake {
        has: vec!["form:webhook_id".to_owned()],
        ..RawHandshake::default()
    };
    let form = [("content-type", "application/x-www-form-urlencoded")];
    check(
        &raw,
        &inbound(Method::POST, "", &form, "webhook_id=12"),
        Some(""),
    );
    let json = [("content-type", "application/json")];
    let event = r#"{"note":"&webhook_id=12"}"#;
    check(&raw, &inbound(Method::POST, "", &json, event), None);
    check(&raw, &post(event), None);
}

#[test]
fn what_is_repeated_is_short_and_escaped() {
    let mut raw = rule("query:a", "1", "{query:echo}");
    let longest = "x".repeat(ECHO_BYTES_MAX);
    check(&raw, &get(&format!("a=1&echo={longest}")), Some(&longest));
    check(&raw, &get(&format!("a=1&echo={longest}x")), None);
    let script = "%3Cscript%3E%22";
    let reply = compile(&raw)
        .unwrap()
        .answer(&get(&format!("a=1&echo={script}")))
        .unwrap();
    assert_eq!(reply.body, "<script>\"");
    assert_eq!(reply.content_type, "text/plain; charset=utf-8");
    raw.reply.content_type = Some("application/json".to_owned());
    raw.reply.body = Some(r#"{"echo":"{query:echo}"}"#.to_owned());
    check(
        &raw,
        &get("a=1&echo=%22%0A%5C"),
        Some(r#"{"echo":"\"\n\\"}"#),
    );
}

#[test]
fn only_what_cannot_be_an_event_is_signed() {
    let raw = rule("query:a", "1", "sha256={query:crc|signed}");
    // The answer that X's documentation of the challenge leads to.
    let answer = "sha256=v1WdiCVwy17uGTMWveHGlqQXN/qW1bQraNXXByRO2YA=";
    check(&raw, &get("a=1&crc=challenge_string"), Some(answer));
    check(&raw, &get("a=1&crc=%7B%22id%22:1%7D"), None);
    check(&raw, &get("a=1&crc=v0:1:x"), None);
    check(&raw, &get("a=1&crc="), None);
    check(&raw, &get(&format!("a=1&crc={}", "x".repeat(129))), None);
}

#[test]
fn rules_without_a_proof_come_before_it_and_the_others_after() {
    let open = RawHandshake {
        verify: Some(false),
        ..rule("query:a", "1", "open")
    };
    let rules = [compile(&rule("query:a", "1", "proved")), compile(&open)].map(Result::unwrap);
    assert!(rules[0].needs_proof() && !rules[1].needs_proof());
    let first = answer_anybody(&rules, &get("a=1")).unwrap();
    let second = answer_verified(&rules, &Verified::unproved(get("a=1"))).unwrap();
    assert_eq!((&*first.body, &*second.body), ("open", "proved"));
    assert_eq!(second.status, StatusCode::OK);
}

#[test]
fn what_was_let_through_without_a_proof_is_not_answered_with_a_signature() {
    let rules = [compile(&rule("query:a", "1", "{query:crc|signed}")).unwrap()];
    let unproved = Verified::unproved(get("a=1&crc=x"));
    assert_eq!(answer_verified(&rules, &unproved), None);
}

#[test]
fn mistakes_are_told_with_their_place() {
    let raw = RawHandshake {
        method: Some("G T".to_owned()),
        has: vec!["nowhere".to_owned()],
        reply: RawReply {
            status: Some(302),
            content_type: Some("text/html".to_owned()),
            body: Some("{query:x}{header:y".to_owned()),
        },
        ..rule("json:type", "{config:absent}", "")
    };
    let problems = compile(&raw).unwrap_err();
    let paths: Vec<String> = problems
        .iter()
        .map(|problem| problem.path.join(" "))
        .collect();
    assert_eq!(
        paths,
        [
            "method",
            "match json:type",
            "has 0",
            "reply status",
            "reply body"
        ],
        "{problems:?}"
    );
    let html = RawReply {
        content_type: Some("text/html".to_owned()),
        body: Some("{query:x}".to_owned()),
        status: None,
    };
    let problems = compile(&RawHandshake {
        reply: html,
        ..rule("query:a", "1", "")
    })
    .unwrap_err();
    assert_eq!(problems[0].path, ["reply", "content_type"]);
    let problems = compile(&RawHandshake::default()).unwrap_err();
    assert!(problems[0].what.contains("every request"), "{problems:?}");
}
