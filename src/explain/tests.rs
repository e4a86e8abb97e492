//! Saved requests and what a person is told about them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use jiff::Timestamp;

use super::*;
use crate::config::raw::{RawFetch, RawHandshake, RawMessage, RawReply, RawScheme, RawVerify};
use crate::delivery::Coverage;
use crate::pipeline::arrival::BodyBounds;
use crate::pipeline::decode::{DuplicateKeys, Format, Reading};
use crate::pipeline::expr::Expr;
use crate::pipeline::handshake::Handshake;
use crate::pipeline::routing::RoutingKey;
use crate::pipeline::split::{Place, Split};
use crate::pipeline::verify::{Context, Refusal, Verifier};
use crate::secret::{Labelled, Secret};
use crate::source::{Ack, Reply};

mod mistakes;

const BODY: &str = r#"{"id":1,"note":"a b"}"#;

fn now() -> Now {
    Now::at(Timestamp::from_second(1_760_000_000).unwrap())
}

fn scheme() -> RawScheme {
    let word = |text: &str| Some(text.to_owned());
    RawScheme {
        algorithm: word("hmac-sha256"),
        signature: vec!["header:X-Signature".to_owned()],
        prefix: word("v0="),
        signed: word("{timestamp}.{body}"),
        timestamp: word("header:X-Time"),
        tolerance: Some(Duration::from_mins(5)),
        ..RawScheme::default()
    }
}

fn source_with(scheme: RawScheme, secret: &str) -> Source {
    let secrets = [Labelled {
        label: Arc::from("main"),
        secret: Secret::new(secret.as_bytes().to_vec()),
    }];
    let url = Some("https://hooks.example.com/erp".to_owned());
    let context = Context {
        secrets: &secrets,
        config: &BTreeMap::new(),
        url,
    };
    let verifier = Verifier::compile(&RawVerify::Schemes(vec![scheme]), &context).unwrap();
    let challenge = RawHandshake {
        equals: BTreeMap::from([("json:/type".to_owned(), "hello".to_owned())]),
        reply: RawReply {
            body: Some("{json:/challenge}".to_owned()),
            ..RawReply::default()
        },
        ..RawHandshake::default()
    };
    let head = RawHandshake {
        method: Some("HEAD".to_owned()),
        verify: Some(false),
        ..RawHandshake::default()
    };
    let handshakes = [challenge, head];
    Source {
        name: Arc::from("erp"),
        provider: None,
        path: "/erp".to_owned(),
        methods: vec![Method::POST],
        allow_ips: crate::pipeline::networks::AllowIps::default(),
        ranges: crate::config::Ranges::default(),
        peer_limit: None,
        body: BodyBounds {
            bytes_max: 1_000,
            timeout: Duration::from_secs(1),
        },
        handshakes: handshakes
            .iter()
            .map(|raw| Handshake::compile(raw, &context, &verifier).unwrap())
            .collect(),
        verifier,
        secret_labels: Vec::new(),
        enrolment: None,
        enforce: true,
        confirms: false,
        limit: None,
        split: None,
        reading: Reading {
            format: Format::Auto,
            duplicate_keys: DuplicateKeys::Reject,
            unwrap: None,
            codings: Vec::new(),
            unpacked_bytes_max: 1_000,
            query_coverage: Coverage::None,
        },
        event_id: Vec::new(),
        event_type: vec![Expr::parse("json:/type").unwrap()],
        schemas: None,
        on_invalid: OnInvalid::Reject,
        dedupe: None,
        routing_key: RoutingKey::parse("erp.{type}").unwrap(),
        ack: Ack::Journal,
        forward_headers: Vec::new(),
        reply: Reply {
            status: StatusCode::ACCEPTED,
            body: None,
            content_type: None,
        },
        problems: true,
    }
}

fn source() -> Source {
    source_with(scheme(), "s3cr3t")
}

/// A request that `signer` would have signed over `body`.
fn request(signer: &Source, body: &str) -> Inbound {
    let text = format!("POST /erp HTTP/1.1\nHost: h\nContent-Type: application/json\n\n{body}");
    let mut inbound = saved::read(text.as_bytes()).unwrap().inbound;
    signer
        .verifier
        .sign(&mut inbound.head, &inbound.body, now().wall, None)
        .unwrap();
    inbound
}

fn saved_with(inbound: &Inbound, line_end: &str, body: &[u8]) -> Vec<u8> {
    let head = &inbound.head;
    let query = head
        .query
        .as_ref()
        .map_or(String::new(), |query| format!("?{query}"));
    let mut out = format!("{} {}{query} HTTP/1.1{line_end}", head.method, head.path);
    for (name, value) in &head.headers {
        out.push_str(&format!("{name}: {}{line_end}", value.to_str().unwrap()));
    }
    out.push_str(line_end);
    [out.as_bytes(), body].concat()
}

fn saved(inbound: &Inbound) -> Vec<u8> {
    saved_with(inbound, "\r\n", &inbound.body)
}

#[track_caller]
fn check(source: &Source, request: &[u8], reason: &str, words: &str) -> Explanation {
    let explanation = explain(source, request, now());
    let detail = &explanation.whole();
    assert_eq!(explanation.reason, reason, "{detail}");
    assert!(detail.contains(words), "{detail}");
    assert!(!detail.contains("s3cr3t"), "{detail}");
    let known = Refusal::LABELS.contains(&reason) || Reject::LABELS.contains(&reason);
    assert_eq!(
        known,
        explanation.verdict == Verdict::Reject && reason != "unreadable"
    );
    explanation
}

#[test]
fn a_genuine_request_is_accepted_with_either_line_end() {
    let genuine = request(&source(), BODY);
    for line_end in ["\n", "\r\n"] {
        let file = saved_with(&genuine, line_end, &genuine.body);
        let explanation = check(&source(), &file, "accepted", "the secret `main`");
        assert_eq!(
            (explanation.verdict, explanation.status),
            (Verdict::Accept, 202)
        );
    }
}

#[test]
fn how_the_body_was_read_is_said() {
    let told = "body coverage: full; read as JSON, type order";
    let genuine = request(&source(), r#"{"type":"order"}"#);
    check(&source(), &saved(&genuine), "accepted", told);
    let mut form = request(&source(), "type=order&a=1");
    let headers = &mut form.head.headers;
    let content_type = "application/x-www-form-urlencoded";
    headers.insert("content-type", content_type.parse().unwrap());
    let told = "read as a form with 2 fields, type order";
    check(&source(), &saved(&form), "accepted", told);
}

#[test]
fn how_much_of_a_query_is_proved_is_said_as_it_is_published() {
    for (signed, coverage) in [("{url}", "full"), ("{query:id}", "fields")] {
        let source = source_with(
            RawScheme {
                signed: Some(signed.to_owned()),
                timestamp: None,
                tolerance: None,
                ..scheme()
            },
            "s3cr3t",
        );
        let source = Source {
            methods: vec![Method::GET],
            reading: Reading {
                query_coverage: source.verifier.query_coverage(),
                ..source.reading
            },
            handshakes: Vec::new(),
            ..source
        };
        let mut inbound = saved::read(b"GET /erp?id=1 HTTP/1.1\nHost: h\n\n")
            .unwrap()
            .inbound;
        let signing = source
            .verifier
            .sign(&mut inbound.head, &inbound.body, now().wall, None);
        signing.unwrap();
        let told = format!("body coverage: {coverage}");
        check(&source, &saved(&inbound), "accepted", &told);
    }
}

#[test]
fn one_line_of_json() {
    let explanation = explain(&source(), &saved(&request(&source(), BODY)), now());
    let json: serde_json::Value = serde_json::from_str(&explanation.to_json("a.http")).unwrap();
    assert_eq!(json["file"], "a.http");
    assert_eq!(json["verdict"], "accept");
    assert_eq!(json["status"], 202);
    assert_eq!(json["reason"], "accepted");
    assert!(json["detail"].is_string());
}

#[test]
fn a_handshake_does_not_tell_the_word_that_is_agreed_on() {
    let raw = RawHandshake {
        equals: BTreeMap::from([("query:hub.verify_token".to_owned(), "s3cr3t".to_owned())]),
        verify: Some(false),
        ..RawHandshake::default()
    };
    let context = Context {
        secrets: &[],
        config: &BTreeMap::new(),
        url: None,
    };
    let source = source();
    let rule = Handshake::compile(&raw, &context, &source.verifier).unwrap();
    let source = Source {
        handshakes: vec![rule],
        ..source
    };
    let asked = b"POST /erp?hub.verify_token=s3cr3t HTTP/1.1\n\n";
    check(
        &source,
        asked,
        "handshake",
        "(query:hub.verify_token as configured)",
    );
}

#[test]
fn a_chunked_body_is_put_together() {
    let mut genuine = request(&source(), BODY);
    genuine
        .head
        .headers
        .insert("transfer-encoding", "chunked".parse().unwrap());
    let (first, second) = BODY.split_at(5);
    let length = second.len();
    let chunks = format!("5\r\n{first}\r\n{length:x}\r\n{second}\r\n0\r\n\r\n");
    check(
        &source(),
        &saved_with(&genuine, "\r\n", chunks.as_bytes()),
        "accepted",
        "",
    );
    check(&source(), &saved(&genuine), "unreadable", "the body is not");
}

#[test]
fn what_is_odd_about_the_file_is_said() {
    let mut genuine = request(&source(), BODY);
    let length = BODY.len() + 1;
    genuine.head.headers.insert("content-length", length.into());
    check(
        &source(),
        &saved(&genuine),
        "accepted",
        "Content-Length says 22",
    );
    for (length, words) in [
        (BODY.len() + 1, "it is 1 byte short: the newline at its end"),
        (BODY.len() + 9, "it is 9 bytes short: the file was cut"),
        (BODY.len() - 1, "a byte was added after it was sent"),
        (BODY.len() - 9, "9 bytes were added"),
    ] {
        genuine.head.headers.insert("content-length", length.into());
        check(&source(), &saved(&genuine), "accepted", words);
    }
    check(&source(), b"", "unreadable", "the head has no end");
    check(
        &source(),
        b"{\"id\":1}\n\n",
        "unreadable",
        "begins with a line like",
    );
    check(
        &source(),
        b"POST /erp HTTP/1.1\nA: b\n",
        "unreadable",
        "an empty line",
    );
}

#[test]
fn what_is_sent_to_where_nobody_listens_is_not_accepted() {
    let mut genuine = request(&source(), BODY);
    genuine.head.path = "/erp/".to_owned();
    let words = "nothing listens at this path: /erp/; sent to /erp, where erp listens, it would \
                 be: accept (202 accepted): verified with the secret `main`";
    let explanation = check(&source(), &saved(&genuine), "no_such_path", words);
    let judged = (explanation.verdict, explanation.status);
    assert_eq!(judged, (Verdict::Reject, 404));
}

#[test]
fn the_source_judges_that_listens_at_the_path() {
    let other = Source {
        name: Arc::from("shop"),
        path: "/shop".to_owned(),
        ..source_with(scheme(), "s3cr3t-shop")
    };
    let neighbours = Neighbours {
        sources: &[Arc::new(other)],
        paths: &[("absent".to_owned(), "/absent".to_owned())],
    };
    let told = |path: &str, signer: &str| {
        let mut request = request(&source_with(scheme(), signer), BODY);
        request.head.path = path.to_owned();
        let file = saved(&request);
        explain_among(&source(), &neighbours, &file, None, &Nowhere, now())
    };
    let accepted = told("/shop", "s3cr3t-shop");
    assert_eq!(accepted.verdict, Verdict::Accept, "{accepted:?}");
    let words = "this is what the source shop says";
    assert!(accepted.whole().contains(words), "{accepted:?}");
    assert_eq!(told("/shop", "s3cr3t").reason, "signature_mismatch");
    assert_eq!(told("/nobody", "s3cr3t").reason, "no_such_path");
    let absent = told("/absent", "s3cr3t");
    assert_eq!((absent.status, absent.reason), (0, "unreadable"));
    assert!(
        absent.detail.contains("the source absent listens"),
        "{absent:?}"
    );
}

#[test]
fn stages_before_the_proof() {
    check(
        &source(),
        b"GET /erp HTTP/1.1\n\n",
        "method_not_allowed",
        "POST, HEAD",
    );
    let long = format!("POST /erp HTTP/1.1\n\n{}", "x".repeat(1_001));
    check(&source(), long.as_bytes(), "body_too_large", "1000 bytes");
    let explanation = check(
        &source(),
        b"HEAD /erp HTTP/1.1\n\n",
        "handshake",
        "a handshake (method HEAD): answered with 200 and no body, nothing is published",
    );
    assert_eq!(
        (explanation.verdict, explanation.status),
        (Verdict::Handshake, 200)
    );
}

#[test]
fn a_method_of_handshakes_brings_no_event_even_if_it_is_genuine() {
    let mut source = source();
    let raw = RawHandshake {
        method: Some("GET".to_owned()),
        has: vec!["query:challenge".to_owned()],
        ..RawHandshake::default()
    };
    let context = Context {
        secrets: &[],
        config: &BTreeMap::new(),
        url: None,
    };
    source.handshakes = vec![Handshake::compile(&raw, &context, &source.verifier).unwrap()];
    let mut genuine = request(&source, r#"{"type":"order"}"#);
    check(&source, &saved(&genuine), "accepted", "verified");
    genuine.head.method = Method::GET;
    let explanation = check(&source, &saved(&genuine), "method_not_allowed", "POST");
    assert_eq!(explanation.status, 405);
}

#[test]
fn a_handshake_that_needs_a_proof_is_not_answered_without() {
    let hello = r#"{"type":"hello","challenge":"x"}"#;
    let signed = request(&source(), hello);
    let told = "a handshake (json:/type = hello): answered with 200 and a body of 1 bytes";
    check(&source(), &saved(&signed), "handshake", told);
    let of_slack = Source {
        provider: Some("slack".to_owned()),
        ..source()
    };
    let told = "the handshake of slack (json:/type = hello)";
    check(&of_slack, &saved(&signed), "handshake", told);
    let forged = format!("POST /erp HTTP/1.1\n\n{hello}");
    check(
        &source(),
        forged.as_bytes(),
        "signature_absent",
        "no header of the request",
    );
}

#[test]
fn stages_after_the_proof() {
    check(
        &source(),
        &saved(&request(&source(), "{")),
        "malformed",
        "line 1, column 1",
    );
    let mut coded = request(&source(), BODY);
    coded
        .head
        .headers
        .insert("content-encoding", "gzip".parse().unwrap());
    check(&source(), &saved(&coded), "unsupported_coding", "");
    let lenient = Source {
        enforce: false,
        ..source()
    };
    let forged = format!("POST /erp HTTP/1.1\nContent-Type: application/json\n\n{BODY}");
    check(
        &lenient,
        forged.as_bytes(),
        "accepted",
        "let through because `enforce = false`",
    );
}

/// Signed by one configuration, judged by another.
#[track_caller]
fn mismatch(signer: &Source, judge: &Source, words: &str) {
    let explanation = check(
        judge,
        &saved(&request(signer, BODY)),
        "signature_mismatch",
        words,
    );
    assert_eq!(explanation.status, 401);
}

#[test]
fn a_wrong_secret() {
    mismatch(
        &source_with(scheme(), "other"),
        &source(),
        "most likely the secret is another one",
    );
    mismatch(
        &source(),
        &source_with(scheme(), " s3cr3t\n"),
        "without the white space around",
    );
    mismatch(
        &source_with(scheme(), "s3cr3t\n"),
        &source(),
        "a newline after the secret `main`",
    );
    let keyed = |key: &str| RawScheme {
        key: Some(key.to_owned()),
        ..scheme()
    };
    let whsec = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let (signer, judge) = (
        source_with(keyed("whsec"), whsec),
        source_with(scheme(), whsec),
    );
    mismatch(
        &signer,
        &judge,
        "the secret `main` matches with `key = \"whsec\"`",
    );
    let (signer, judge) = (
        source_with(keyed("hex"), "abcd"),
        source_with(scheme(), "abcd"),
    );
    mismatch(&signer, &judge, "`key = \"hex\"`");
}

#[test]
fn a_wrong_word() {
    let other = |change: fn(&mut RawScheme)| {
        let mut scheme = scheme();
        change(&mut scheme);
        source_with(scheme, "s3cr3t")
    };
    let signer = other(|scheme| scheme.algorithm = Some("hmac-sha512".to_owned()));
    mismatch(&signer, &source(), "`algorithm = \"hmac-sha512\"`");
    let signer = other(|scheme| scheme.signed = Some("{timestamp}:{body}".to_owned()));
    mismatch(&signer, &source(), "`signed = \"{timestamp}:{body}\"`");
    let signer = other(|scheme| scheme.encoding = Some("base64".to_owned()));
    let explanation = explain(&source(), &saved(&request(&signer, BODY)), now());
    assert_eq!(explanation.reason, "signature_undecodable");
    assert!(
        explanation
            .whole()
            .contains("should `encoding` be `base64`?"),
        "{explanation:?}"
    );
    let signer = other(|scheme| scheme.prefix = Some("sha256=".to_owned()));
    check(
        &source(),
        &saved(&request(&signer, BODY)),
        "signature_prefix",
        "begins with `sha256=`",
    );
    let signer = other(|scheme| scheme.signature = vec!["header:X-Signature-256".to_owned()]);
    let file = saved(&request(&signer, BODY));
    check(
        &source(),
        &file,
        "signature_absent",
        "the request has x-signature-256",
    );
}

#[test]
fn a_body_that_was_changed_on_its_way() {
    let with = |signed: &str, came: &str, words: &str| {
        let genuine = request(&source(), signed);
        let file = saved_with(&genuine, "\r\n", came.as_bytes());
        check(&source(), &file, "signature_mismatch", words);
    };
    with(BODY, &format!("{BODY}\n"), "without the newline at the end");
    with(&format!("{BODY}\n"), BODY, "with a newline at the end");
    with("{\n\"a\":1}", "{\r\n\"a\":1}", "with LF line ends");
    with("{\r\n\"a\":1}", "{\n\"a\":1}", "with CRLF line ends");
    let pretty = "{\n  \"id\": 1,\n  \"note\": \"a b\",\n  \"c\": [],\n  \"d\": [\n    {}\n  ]\n}";
    let compact = r#"{"id":1,"note":"a b","c":[],"d":[{}]}"#;
    let spaced = r#"{"id": 1, "note": "a b", "c": [], "d": [{}]}"#;
    with(compact, pretty, "written without white space");
    with(spaced, compact, "in one line with spaces");
    with(pretty, compact, "indented");
    let (compact, spaced) = (
        r#"{"z":1,"a":{"y":[1,2]}}"#,
        r#"{"z": 1, "a": {"y": [1, 2]}}"#,
    );
    with(compact, spaced, "written without white space");
    with(spaced, compact, "with spaces after `,` and `:`");
    let (plain, ascii) = ("{\"b\":\"\u{e9}\"}", r#"{"b":"\u00e9"}"#);
    with(ascii, plain, "the JSON escaped to ASCII (`\\u00e9`)");
    with(plain, ascii, "the JSON not escaped");
    let of_python = r#"{"b": "\u00e9"}"#;
    with(of_python, plain, "`:` and escaped to ASCII");
    with(plain, of_python, "without white space and not escaped");
    let marked = format!("\u{feff}{compact}");
    with(compact, &marked, "without the byte order mark");
    with(&marked, compact, "with a byte order mark");
    with(spaced, &marked, "with spaces after");
    with(
        r#"{"a":1}"#,
        "payload=%7B%22a%22%3A1%7D",
        "`payload` field alone",
    );
}

#[test]
fn of_a_body_that_was_cut_no_secret_is_suspected() {
    let mut genuine = request(&source(), BODY);
    let length = BODY.len();
    genuine.head.headers.insert("content-length", length.into());
    let file = saved_with(&genuine, "\r\n", BODY.split_at(length - 7).0.as_bytes());
    let words = "not all that was sent, so no secret can match";
    let explanation = check(&source(), &file, "signature_mismatch", words);
    assert!(
        explanation.whole().contains("it is 7 bytes short"),
        "{explanation:?}"
    );
}

#[test]
fn a_signature_of_a_wrong_length() {
    let with = |change: fn(&str) -> String, reason: &str, words: &str| {
        let mut genuine = request(&source(), BODY);
        let header = genuine.head.headers.get_mut("x-signature").unwrap();
        *header = change(header.to_str().unwrap()).parse().unwrap();
        check(&source(), &saved(&genuine), reason, words);
    };
    let (mismatch, undecodable) = ("signature_mismatch", "signature_undecodable");
    let cut = |text: &str| text.split_at(text.len() - 2).0.to_owned();
    with(
        cut,
        mismatch,
        "has 31 bytes, and one of hmac-sha256 has 32: it was cut",
    );
    let more = |text: &str| format!("{text}00");
    with(
        more,
        mismatch,
        "has 33 bytes, and one of hmac-sha256 has 32: there is more",
    );
    let half = |text: &str| text.split_at(text.len() - 1).0.to_owned();
    with(
        half,
        undecodable,
        "has 63 characters, and one of hmac-sha256 has 64 in hex: it was cut",
    );
    let sha1 = |_: &str| format!("v0={}", "0".repeat(40));
    with(
        sha1,
        mismatch,
        "hmac-sha1 makes as many, but does not match either",
    );
}

#[test]
fn a_wrong_time() {
    let genuine = saved(&request(&source(), BODY));
    let late = Now::at(Timestamp::from_second(1_760_000_720).unwrap());
    let explanation = explain(&source(), &genuine, late);
    assert_eq!(explanation.reason, "timestamp_stale");
    assert!(explanation.whole().contains("12m old"), "{explanation:?}");
    let early = Now::at(Timestamp::from_second(1_759_990_000).unwrap());
    let explanation = explain(&source(), &genuine, early);
    assert_eq!(explanation.reason, "timestamp_future");
    let millis = RawScheme {
        timestamp_unit: Some("ms".to_owned()),
        ..scheme()
    };
    let genuine = saved(&request(&source_with(millis, "s3cr3t"), BODY));
    check(
        &source(),
        &genuine,
        "timestamp_unreadable",
        "`timestamp_unit = \"ms\"`",
    );
}

#[test]
fn a_wrong_url() {
    let signed = RawScheme {
        signed: Some("{timestamp}{url}{body}".to_owned()),
        ..scheme()
    };
    let judge = source_with(signed.clone(), "s3cr3t");
    let signer = {
        let secret = Secret::new(b"s3cr3t".to_vec());
        let secrets = [Labelled {
            label: Arc::from("main"),
            secret,
        }];
        let url = Some("https://h/erp".to_owned());
        let context = Context {
            secrets: &secrets,
            config: &BTreeMap::new(),
            url,
        };
        let verifier = Verifier::compile(&RawVerify::Schemes(vec![signed]), &context).unwrap();
        Source {
            verifier,
            ..source()
        }
    };
    mismatch(&signer, &judge, "it matches for the URL https://h/erp");
}

#[test]
fn a_wrong_token() {
    let token = RawScheme {
        algorithm: Some("token".to_owned()),
        signature: vec!["header:Authorization".to_owned()],
        ..RawScheme::default()
    };
    let judge = source_with(token, "s3cr3t");
    let file = format!("POST /erp HTTP/1.1\nAuthorization: Bearer s3cr3t\n\n{BODY}");
    check(&judge, file.as_bytes(), "token_mismatch", "set `prefix`");
}

#[test]
fn each_element_of_a_batch_is_shown() {
    let split = Split::new(vec![Place::parse("json:/events").unwrap()], 10);
    let source = Source {
        split: Some(split),
        event_id: ["json:/id", "digest"]
            .map(|it| Expr::parse(it).unwrap())
            .into(),
        ..source()
    };
    let body = r#"{"events":[{"id":"a","type":"x/y"},{"n":1}]}"#;
    let file = saved(&request(&source, body));
    let explanation = check(&source, &file, "accepted", "of 2 events");
    let [first, second] = explanation.events.as_slice() else {
        panic!("{explanation:?}");
    };
    assert_eq!(first.event_id.as_deref(), Some("a"));
    assert_eq!(first.routing_key, "erp.x.y");
    assert!(second.event_id.as_ref().unwrap().ends_with("/1"));
    let line: serde_json::Value = serde_json::from_str(&explanation.to_json("f")).unwrap();
    assert_eq!(line["events"][1]["bytes"], 7);

    let file = saved(&request(&source, r#"{"events":7}"#));
    let refused = check(
        &source,
        &file,
        "schema_violated",
        "/events: must be an array",
    );
    assert_eq!(refused.status, 422);
    let alone = Source {
        split: None,
        ..source
    };
    let file = saved(&request(&alone, body));
    assert!(check(&alone, &file, "accepted", "main").events.is_empty());
}

#[test]
fn what_could_not_be_fetched_is_let_through_where_nothing_is_enforced() {
    let fetch = RawFetch {
        url: Some("header:X-Url".to_owned()),
        hosts: vec!["certs.example.com".to_owned()],
        ..RawFetch::default()
    };
    let scheme = RawScheme {
        algorithm: Some("rsa-pkcs1-sha256".to_owned()),
        signature: vec!["header:X-Signature".to_owned()],
        encoding: Some("base64".to_owned()),
        fetch: Some(fetch),
        ..RawScheme::default()
    };
    let strict = source_with(scheme, "");
    let request = b"POST /erp HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
        X-Signature: QUJD\r\nX-Url: https://certs.example.com/a\r\nContent-Length: 2\r\n\r\n{}";
    check(&strict, request, "evidence_unavailable", "--evidence");
    let lenient = Source {
        enforce: false,
        ..strict
    };
    check(&lenient, request, "accepted", "let through because");
}
