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
        certificate: None,
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
    let first = answer_anybody(&[], &rules, &get("a=1")).unwrap().unwrap();
    let unproved = Verified::unproved(get("a=1"));
    let (_, second) = answer_verified(&rules, &unproved).unwrap().unwrap();
    assert_eq!((&*first.body, &*second.body), ("open", "proved"));
    assert_eq!(second.status, StatusCode::OK);
}

#[test]
fn what_was_let_through_without_a_proof_is_not_answered_with_a_signature() {
    let rules = [compile(&rule("query:a", "1", "{query:crc|signed}")).unwrap()];
    let unproved = Verified::unproved(get("a=1&crc=x"));
    assert!(answer_verified(&rules, &unproved).unwrap().is_none());
}

#[test]
fn mistakes_are_told_with_their_place() {
    let raw = RawHandshake {
        method: Some("G T".to_owned()),
        has: vec!["nowhere".to_owned()],
        reply: RawReply {
            status: Some(302),
            content_type: Some("text/html".to_owned()),
            headers: BTreeMap::from([("Connection".to_owned(), "close".to_owned())]),
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
            "reply headers Connection",
            "reply body"
        ],
        "{problems:?}"
    );
    let html = RawReply {
        content_type: Some("text/html".to_owned()),
        body: Some("{query:x}".to_owned()),
        ..RawReply::default()
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

#[test]
fn what_must_be_absent_is_not_there_in_any_form() {
    let raw = RawHandshake {
        absent: vec!["header:X-Signature".to_owned()],
        ..rule("query:a", "1", "")
    };
    check(&raw, &get("a=1"), Some(""));
    let signed = inbound(Method::GET, "a=1", &[("x-signature", "")], "");
    check(&raw, &signed, None);
    let raw = RawHandshake {
        absent: vec!["json:/event".to_owned()],
        ..rule("query:a", "1", "")
    };
    let json = |body| inbound(Method::POST, "a=1", &[], body);
    check(&raw, &json(r#"{"id":1}"#), Some(""));
    check(&raw, &json(r#"{"event":null}"#), None);
    check(&raw, &json(r#"{"event":[]}"#), None);
    // What cannot be read could hold it.
    check(&raw, &json("event"), None);
}

#[test]
fn one_of_several_is_enough_and_a_part_of_one_is_not() {
    let raw = RawHandshake {
        one_of: BTreeMap::from([(
            "header:Origin".to_owned(),
            "a.example, b.example".to_owned(),
        )]),
        ..rule("query:a", "1", "")
    };
    for (origin, expected) in [
        ("a.example", Some("")),
        ("b.example", Some("")),
        ("a.example,", None),
        ("a.exampl", None),
        ("", None),
    ] {
        check(
            &raw,
            &inbound(Method::GET, "a=1", &[("origin", origin)], ""),
            expected,
        );
    }
}

#[test]
fn a_handshake_without_what_is_required_is_refused() {
    let raw = RawHandshake {
        method: Some("GET".to_owned()),
        require: BTreeMap::from([("query:token".to_owned(), "{config:verify_token}".to_owned())]),
        verify: Some(false),
        ..rule("query:a", "1", "{query:a}")
    };
    let rules = [compile(&raw).unwrap()];
    assert!(!rules[0].marks().contains("t0ken"), "{}", rules[0].marks());
    let answer = |query| answer_anybody(&[Method::POST], &rules, &get(query));
    assert!(answer("a=1&token=t0ken").unwrap().is_some());
    for query in ["a=1", "a=1&token=t0ke", "a=1&token=t0ken&token=t0ken"] {
        let reject = answer(query).unwrap_err();
        assert_eq!(reject.label(), "handshake_refused", "{query}");
        assert_eq!(reject.status(), StatusCode::FORBIDDEN);
        assert!(!reject.detail().contains("t0ken"), "{}", reject.detail());
    }
    // No event comes with GET, so what is no handshake is nothing.
    let reject = answer("a=2&token=t0ken").unwrap_err();
    assert_eq!(reject, Reject::MethodNotAllowed(vec![Method::POST]));
}

#[test]
fn a_path_of_its_own_is_for_handshakes_only() {
    let raw = RawHandshake {
        method: Some("GET".to_owned()),
        path: Some("/own".to_owned()),
        verify: Some(false),
        ..rule("query:a", "1", "own")
    };
    let rules = [
        compile(&raw).unwrap(),
        compile(&rule("query:a", "1", "other")).unwrap(),
    ];
    let own = |method| {
        let mut inbound = inbound(method, "a=1", &[], "");
        inbound.head.path = "/own".to_owned();
        inbound
    };
    let events = [Method::GET, Method::POST];
    let answer = answer_anybody(&events, &rules, &own(Method::GET)).unwrap();
    assert_eq!(answer.unwrap().body, "own");
    assert_eq!(answer_anybody(&events, &rules, &get("a=1")), Ok(None));
    let verified = Verified::unproved(get("a=1"));
    let answer = answer_verified(&rules, &verified).unwrap();
    assert_eq!(answer.unwrap().1.body, "other");
    let reject = admit(&events, &rules, &own(Method::POST).head).unwrap_err();
    assert_eq!(reject, Reject::MethodNotAllowed(vec![Method::GET]));
    let mut nothing = own(Method::GET);
    nothing.head.query = None;
    let reject = answer_anybody(&events, &rules, &nothing).unwrap_err();
    assert_eq!(reject, Reject::NoSuchPath);
}

#[test]
fn a_method_of_a_handshake_need_not_be_one_of_events() {
    let raw = RawHandshake {
        method: Some("HEAD".to_owned()),
        verify: Some(false),
        ..RawHandshake::default()
    };
    let rules = [compile(&raw).unwrap()];
    let head = |method| inbound(method, "", &[], "").head;
    let events = [Method::POST];
    assert_eq!(admit(&events, &rules, &head(Method::POST)), Ok(()));
    assert_eq!(admit(&events, &rules, &head(Method::HEAD)), Ok(()));
    let reject = admit(&events, &rules, &head(Method::PUT)).unwrap_err();
    let both = vec![Method::POST, Method::HEAD];
    assert_eq!(reject, Reject::MethodNotAllowed(both));
}

#[test]
fn headers_of_the_answer_are_templates_too() {
    let mut raw = rule("query:a", "1", "");
    raw.method = Some("HEAD".to_owned());
    raw.reply.body = Some("gone".to_owned());
    raw.reply.headers = BTreeMap::from([("X-Echo".to_owned(), "<{header:x-in}>".to_owned())]);
    let rule = compile(&raw).unwrap();
    let reply = rule.answer(&inbound(Method::HEAD, "a=1", &[("x-in", "v")], ""));
    let reply = reply.unwrap();
    assert_eq!(reply.headers["x-echo"], "<v>");
    assert_eq!(reply.body, "", "HEAD");
    let absent = inbound(Method::HEAD, "a=1", &[], "");
    assert_eq!(rule.answer(&absent), None);
    for taken in [
        "Set-Cookie",
        "transfer-encoding",
        "Content-Type",
        "X-Request-Id",
        "a b",
    ] {
        raw.reply.headers = BTreeMap::from([(taken.to_owned(), "x".to_owned())]);
        let problems = compile(&raw).unwrap_err();
        assert_eq!(problems[0].path, ["reply", "headers", taken]);
    }
    // What a header cannot hold is no handshake.
    raw.reply.headers = BTreeMap::from([("X-Echo".to_owned(), "{query:e}".to_owned())]);
    let rule = compile(&raw).unwrap();
    for (value, is_answered) in [("ok", true), ("a%0D%0AX%3A%20b", false), ("%E9", false)] {
        let request = inbound(Method::HEAD, &format!("a=1&e={value}"), &[], "");
        assert_eq!(rule.answer(&request).is_some(), is_answered, "{value}");
    }
}

#[test]
fn functions_answer_in_another_way_than_events_are_signed() {
    // Computed with another implementation (Python's hmac and hashlib).
    for (function, expected) in [
        (
            "hmac-sha256-hex(secret, query:c)",
            "bf559d882570cb5eee193316bde1c696a41737fa96d5b42b68d5d707244ed980",
        ),
        (
            "hmac-sha256-base64(secret,query:c)",
            "v1WdiCVwy17uGTMWveHGlqQXN/qW1bQraNXXByRO2YA=",
        ),
        (
            "hmac-sha1-hex(sha1(secret), query:c)",
            "9ef11abfcf13d139c42c06143859e10459b552a7",
        ),
        (
            "sha256-hex(query:c)",
            "a2fdcfbce69c14a89180dadae8a25664a4b39702e1ab096f96f4766b9b72c9fb",
        ),
        (
            "sha256-hex(config:verify_token)",
            "b46c09677343261f0b439a472422225e3a230c9c094d6ab16762e2036b597053",
        ),
    ] {
        let raw = rule("query:a", "1", &format!("[{{{function}}}]"));
        let answer = compile(&raw)
            .unwrap()
            .answer(&get("a=1&c=challenge_string"));
        assert_eq!(answer.unwrap().body, format!("[{expected}]"), "{function}");
    }
    for (wrong, why) in [
        ("{hmac-sha512-hex(secret, query:c)}", "is not known"),
        ("{hmac-sha1-hex(key, query:c)}", "is no key"),
        ("{hmac-sha1-hex(secret)}", "a key and a value"),
        ("{sha256-hex(config:none)}", "does not have"),
        ("{sha256-hex(secret)}", "where to look"),
    ] {
        let problems = compile(&rule("query:a", "1", wrong)).unwrap_err();
        assert!(problems[0].what.contains(why), "{wrong}: {problems:?}");
    }
    let mut raw = rule("query:a", "1", "{hmac-sha256-hex(secret, query:c)}");
    raw.verify = Some(false);
    assert!(compile(&raw).unwrap().signs_for_strangers());
}

#[test]
fn a_secret_is_captured_before_any_proof_and_from_no_query() {
    let raw = |capture: &str, verify| RawHandshake {
        capture: Some(capture.to_owned()),
        verify,
        ..rule("query:a", "1", "")
    };
    assert!(
        compile(&raw("header:X-Secret", Some(false)))
            .unwrap()
            .captures()
    );
    for (capture, verify, why) in [
        ("header:X-Secret", None, "nothing can be proved"),
        ("query:secret", Some(false), "in every log"),
        ("secret", Some(false), "where to look"),
    ] {
        let problems = compile(&raw(capture, verify)).unwrap_err();
        assert_eq!(problems[0].path, ["capture"]);
        assert!(problems[0].what.contains(why), "{problems:?}");
    }
}
