//! Every kind of body, and every reason not to take one.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use serde_json::json;

use super::*;
use crate::pipeline::arrival::Head;

fn inbound(content_type: Option<&str>, body: &[u8]) -> Inbound {
    let mut headers = HeaderMap::new();
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
    }
    let head = Head {
        method: Method::POST,
        path: "/".to_owned(),
        query: None,
        headers,
        client_ip: [192, 0, 2, 1].into(),
        request_id: Arc::from("r"),
    };
    Inbound {
        head,
        body: Bytes::copy_from_slice(body),
    }
}

fn run(inbound: &Inbound, format: Format) -> Result<Option<Value>, Reject> {
    let verified = Verified::unproved(inbound.clone());
    decode(verified, format, true).map(|document| document.json)
}

#[test]
fn the_content_type_decides() {
    let json = Some(json!({"a": 1}));
    for content_type in [
        None,
        Some("application/json"),
        Some("Application/JSON; charset=utf-8"),
        Some("text/json"),
        Some("application/cloudevents+json"),
    ] {
        assert_eq!(
            run(&inbound(content_type, br#"{"a":1}"#), Format::Auto),
            Ok(json.clone())
        );
    }
    for content_type in ["text/plain", "multipart/form-data", "", "application/json5"] {
        let rejected = run(&inbound(Some(content_type), br#"{"a":1}"#), Format::Auto);
        assert_eq!(rejected, Err(Reject::UnsupportedType), "{content_type}");
    }
    assert_eq!(
        run(&inbound(Some("text/plain"), br#"{"a":1}"#), Format::Json),
        Ok(json)
    );
    assert_eq!(
        run(&inbound(Some("text/plain"), b"\xff"), Format::Raw),
        Ok(None)
    );
}

#[test]
fn a_form_becomes_an_object() {
    let form = Some("application/x-www-form-urlencoded");
    let body = br#"a=1&b=x+y&a=2&a=3&payload=%7B%22type%22%3A%22push%22%7D"#;
    let expected = json!({"a": ["1", "2", "3"], "b": "x y", "payload": {"type": "push"}});
    assert_eq!(run(&inbound(form, body), Format::Auto), Ok(Some(expected)));
    let expected = json!({"payload": "{not json"});
    assert_eq!(
        run(&inbound(None, b"payload=%7Bnot+json"), Format::Form),
        Ok(Some(expected))
    );
}

#[test]
fn a_coded_body_is_not_taken() {
    for (coding, taken) in [
        ("identity", true),
        ("gzip", false),
        ("identity, gzip", false),
    ] {
        let mut request = inbound(Some("application/json"), b"{}");
        request
            .head
            .headers
            .insert(CONTENT_ENCODING, coding.parse().unwrap());
        assert_eq!(run(&request, Format::Auto).is_ok(), taken, "{coding}");
    }
}

/// With and without a tree: the same bodies are taken, with the same words for the others.
#[track_caller]
fn malformed(body: &[u8], words: &str) {
    for needs_tree in [true, false] {
        let verified = Verified::unproved(inbound(None, body));
        match decode(verified, Format::Json, needs_tree) {
            Err(Reject::Malformed(place)) => assert_eq!(place, words),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_malformed_is_told_by_its_place_and_never_by_its_content() {
    malformed(b"", "it is empty");
    malformed(b"\xff{}", "it is not UTF-8");
    malformed(b"\xef\xbb\xbf{}", "it begins with a byte order mark");
    malformed(b"{\n  \"a\": secret\n}", "line 2, column 8: expected value");
    malformed(b"{\"a\":1", "line 1, column 6: EOF while parsing an object");
    malformed(b"{} {}", "line 1, column 4: trailing characters");
    malformed(b"[1e999]", "line 1, column 6: number out of range");
    malformed(b"{1:2}", "line 1, column 2: key must be a string");
    let lone = r#"["\ud800"]"#;
    malformed(
        lone.as_bytes(),
        "line 1, column 9: unexpected end of hex escape",
    );
    let deep = "[".repeat(1_000);
    malformed(
        deep.as_bytes(),
        "line 1, column 128: recursion limit exceeded",
    );
}

#[test]
fn what_is_only_checked_is_not_kept() {
    let body = br#"{"a":[1,-2,3.5,true,null,"x\u00e9"],"b":{}}"#;
    let verified = Verified::unproved(inbound(None, body));
    assert_eq!(decode(verified, Format::Json, false).unwrap().json, None);
}
