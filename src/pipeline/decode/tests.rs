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
    decode(verified, format, DuplicateKeys::Reject, true).map(|document| document.json)
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
        match decode(verified, Format::Json, DuplicateKeys::Reject, needs_tree) {
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
    let document = decode(verified, Format::Json, DuplicateKeys::Reject, false);
    assert_eq!(document.unwrap().json, None);
}

/// With and without a tree: refused with this pointer, and taken where that is allowed.
#[track_caller]
fn twice(format: Format, body: &str, pointer: &str) {
    for needs_tree in [true, false] {
        let verify = || Verified::unproved(inbound(None, body.as_bytes()));
        match decode(verify(), format, DuplicateKeys::Reject, needs_tree) {
            Err(Reject::DuplicateKey(place)) => assert_eq!(place, pointer, "{body}"),
            other => panic!("{body}: {other:?}"),
        }
        decode(verify(), format, DuplicateKeys::Allow, needs_tree).unwrap();
    }
}

#[test]
fn a_key_that_is_there_twice_is_told_by_its_pointer() {
    for (body, pointer) in [
        (r#"{"a":1,"a":1}"#, "/a"),
        (r#"{"a":1,"\u0061":2}"#, "/a"),
        (r#"{"":1,"b":{},"":2}"#, "/"),
        (r#"{"x":[0,{"y":{"k":1,"l":2,"k":3}}]}"#, "/x/1/y/k"),
        (r#"[[[{"a/b":1,"a\/b":2}]]]"#, "/0/0/0/a~1b"),
        (r#"{"~":{"m":0,"m":{}}}"#, "/~0/m"),
        ("{\"\\ud83d\\ude00\":1,\"\u{1f600}\":2}", "/\u{1f600}"),
        (r#"{"a":{"b":1,"b":2},"a":3}"#, "/a/b"),
    ] {
        twice(Format::Json, body, pointer);
    }
    let (open, close) = (r#"{"k":"#.repeat(100), "}".repeat(100));
    let deep = format!(r#"{open}{{"x":0,"x":0}}{close}"#);
    twice(Format::Json, &deep, &format!("{}/x", "/k".repeat(100)));
    let long = "n".repeat(400);
    let nested = format!(r#"{{"{long}":{{"{long}":{{"x":0,"x":0}}}}}}"#);
    twice(Format::Json, &nested, &format!("/{long}"));
    let form = "a=1&a=2&payload=%7B%22b%22%3A1%2C%22b%22%3A2%7D";
    twice(Format::Form, form, "/payload/b");
}

#[test]
fn keys_that_only_look_alike_are_different_ones() {
    for body in [
        r#"{"a":1,"A":2}"#,
        r#"{"a":{"a":{"a":1}},"b":{"a":1}}"#,
        r#"[{"a":1},{"a":1}]"#,
        "{\"\u{e9}\":1,\"e\u{301}\":2}",
        r#"{"a":"a","b":"a"}"#,
        r#"{"a":1,"a\u0000":2}"#,
        r#"{"1":1,"01":2}"#,
    ] {
        for needs_tree in [true, false] {
            let verified = Verified::unproved(inbound(None, body.as_bytes()));
            decode(verified, Format::Json, DuplicateKeys::Reject, needs_tree).unwrap();
        }
    }
}

#[test]
fn where_a_key_may_be_there_twice_the_last_one_counts() {
    let body = br#"{"a":1,"b":2,"\u0061":3}"#;
    let verified = Verified::unproved(inbound(None, body));
    let document = decode(verified, Format::Json, DuplicateKeys::Allow, true).unwrap();
    assert_eq!(document.json, Some(json!({"a": 3, "b": 2})));
}

/// `serde_json` has names of its own for values that are not JSON; in a body they are names.
#[test]
fn no_name_in_a_body_has_a_meaning_for_the_parser() {
    for name in [
        "$serde_json::private::RawValue",
        "$serde_json::private::Number",
    ] {
        for inner in [r#""{\"a\":1}""#, r#""12""#, "5", "{}"] {
            let body = format!(r#"{{"{name}":{inner}}}"#);
            let verify = || Verified::unproved(inbound(None, body.as_bytes()));
            decode(verify(), Format::Json, DuplicateKeys::Reject, false).unwrap();
            let document = decode(verify(), Format::Json, DuplicateKeys::Reject, true).unwrap();
            let members = document.json.unwrap();
            let inner: Value = serde_json::from_str(inner).unwrap();
            assert_eq!(members.as_object().unwrap()[name], inner, "{body}");
            assert_eq!(json::tree(body.as_bytes()), Some(members));
        }
    }
}

#[test]
fn a_tree_is_what_serde_json_makes_of_the_same_text() {
    for body in [
        "null",
        "[1,-1,1.5,1e3,-0,0.0,18446744073709551615,18446744073709551616,1e-400]",
        r#"{"a":[true,false,null,"x\n\u00e9\ud83d\ude00"],"b":{"c":{}},"d":[]}"#,
        r#"" ""#,
    ] {
        let expected: Value = serde_json::from_str(body).unwrap();
        assert_eq!(json::tree(body.as_bytes()), Some(expected), "{body}");
    }
}
