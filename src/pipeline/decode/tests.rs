//! Every kind of body, and every reason not to take one.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use serde_json::json;

use super::*;
use crate::pipeline::arrival::{Head, Inbound};

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
        certificate: None,
    };
    Inbound {
        head,
        body: Bytes::copy_from_slice(body),
    }
}

fn reading(format: Format) -> Reading {
    Reading {
        format,
        duplicate_keys: DuplicateKeys::Reject,
        unwrap: None,
        codings: Vec::new(),
        unpacked_bytes_max: 100_000,
        query_coverage: Coverage::Fields,
    }
}

fn read(inbound: &Inbound, reading: &Reading) -> Result<Document, Reject> {
    let verified = Verified::unproved(inbound.clone());
    decode(verified, reading, true, |_bytes| Ok(()))
}

fn run(inbound: &Inbound, format: Format) -> Result<Option<Value>, Reject> {
    read(inbound, &reading(format)).map(|document| document.json)
}

/// By the rules for a kind of body, with or without a tree.
fn decode_as(
    verified: Verified,
    format: Format,
    duplicate_keys: DuplicateKeys,
    needs_tree: bool,
) -> Result<Document, Reject> {
    let reading = Reading {
        duplicate_keys,
        unwrap: Some("payload".to_owned()),
        ..reading(format)
    };
    decode(verified, &reading, needs_tree, |_bytes| Ok(()))
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
    for content_type in ["text/plain", "multipart/mixed", "", "application/json5"] {
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

const FORM: Option<&str> = Some("application/x-www-form-urlencoded");

#[test]
fn a_form_becomes_an_object() {
    let body = br#"a=1&b=x+y&a=2&a=3&payload=%7B%22type%22%3A%22push%22%7D"#;
    let payload = r#"{"type":"push"}"#;
    let expected = json!({"a": ["1", "2", "3"], "b": "x y", "payload": payload});
    let request = inbound(FORM, body);
    assert_eq!(run(&request, Format::Auto), Ok(Some(expected.clone())));
    let document = read(&inbound(None, body), &reading(Format::Form)).unwrap();
    assert_eq!(document.fields(), Some(&expected));
    assert_eq!(document.read_as, "a form with 3 fields");
    assert_eq!(document.text, None);
}

#[test]
fn a_document_is_taken_out_of_a_form_where_it_is_in_one() {
    let reading = Reading {
        unwrap: Some("payload".to_owned()),
        ..reading(Format::Auto)
    };
    let push = br#"a=1&payload=%7B%22type%22%3A%22push%22%7D"#;
    let document = read(&inbound(FORM, push), &reading).unwrap();
    assert_eq!(document.json, Some(json!({"type": "push"})));
    assert_eq!(document.fields().unwrap()["a"], "1");
    assert_eq!(document.text.as_deref(), Some(&br#"{"type":"push"}"#[..]));
    assert_eq!(document.read_as, "a form, JSON in its field `payload`");
    let json = inbound(Some("application/json"), br#"{"payload":"{}"}"#);
    let document = read(&json, &reading).unwrap();
    assert_eq!(document.json, Some(json!({"payload": "{}"})));
    assert_eq!(document.fields(), None);
    let command = read(&inbound(FORM, b"command=%2Fdeploy"), &reading).unwrap();
    assert_eq!(command.json, Some(json!({"command": "/deploy"})));
    for (body, why) in [
        (
            "payload=%7B",
            "line 1, column 1: EOF while parsing an object",
        ),
        ("payload=", "it is empty"),
        ("payload=1&payload=2", "is a file, or there twice"),
    ] {
        match read(&inbound(FORM, body.as_bytes()), &reading) {
            Err(Reject::Malformed(place)) => {
                assert!(place.starts_with("form field `payload`"), "{place}");
                assert!(place.ends_with(why), "{place}");
            }
            other => panic!("{body}: {other:?}"),
        }
    }
}

#[test]
fn a_multipart_form_is_a_form_whose_files_are_described() {
    let body = "--b\r\nContent-Disposition: form-data; name=\"to\"\r\n\r\na@b.c\r\n\
                --b\r\nContent-Disposition: form-data; name=\"doc\"; filename=\"x.pdf\"\r\n\
                Content-Type: application/pdf\r\n\r\n%PDF\r\n\r\n--b--\r\n";
    let request = inbound(Some("multipart/form-data; boundary=b"), body.as_bytes());
    let file = json!({"filename": "x.pdf", "content_type": "application/pdf", "size": 6});
    for format in [Format::Auto, Format::Form] {
        let document = read(&request, &reading(format)).unwrap();
        assert_eq!(
            document.fields(),
            Some(&json!({"to": "a@b.c", "doc": file}))
        );
    }
    let other = inbound(Some("multipart/form-data; boundary=c"), body.as_bytes());
    let rejected = run(&other, Format::Auto);
    let why = "it does not begin with its boundary".to_owned();
    assert_eq!(rejected, Err(Reject::Malformed(why)));
}

#[test]
fn xml_becomes_an_object_of_its_root() {
    let body = b"\xef\xbb\xbf<xml><MsgId>7</MsgId></xml>";
    let expected = Some(json!({"xml": {"MsgId": "7"}}));
    for content_type in [
        "text/xml",
        "application/xml; charset=utf-8",
        "application/soap+xml",
    ] {
        assert_eq!(
            run(&inbound(Some(content_type), body), Format::Auto),
            Ok(expected.clone())
        );
    }
    assert_eq!(run(&inbound(None, body), Format::Xml), Ok(expected));
}

#[test]
fn each_line_is_a_document_with_its_place() {
    let body = b"{\"a\":1}\r\n\n  \n[2]\n{\"a\":\n";
    let request = inbound(Some("application/x-ndjson"), body);
    let place = "line 5, column 5: EOF while parsing a value".to_owned();
    assert_eq!(run(&request, Format::Auto), Err(Reject::Malformed(place)));
    let request = inbound(None, body.strip_suffix(b"{\"a\":\n").unwrap());
    let document = read(&request, &reading(Format::Lines)).unwrap();
    assert_eq!(document.json, Some(json!([{"a": 1}, [2]])));
    let Parts::Lines(ranges) = &document.parts else {
        panic!("{document:?}");
    };
    let text = document.text.unwrap();
    let parts: Vec<&[u8]> = ranges.iter().map(|range| &text[range.clone()]).collect();
    assert_eq!(parts, [&b"{\"a\":1}\r"[..], b"[2]"]);
    let twice = run(&inbound(None, b"{}\n{\"a\":1,\"a\":2}"), Format::Lines);
    assert_eq!(twice, Err(Reject::DuplicateKey("/1/a".to_owned())));
    let empty = "it has no line but empty ones".to_owned();
    assert_eq!(
        run(&inbound(None, b" \n\r\n"), Format::Lines),
        Err(Reject::Malformed(empty))
    );
}

#[test]
fn the_query_of_a_get_becomes_a_form() {
    let mut request = inbound(Some("application/json"), b"");
    request.head.method = Method::GET;
    request.head.query = Some("id=7&type=sms%20in".to_owned());
    for format in [Format::Auto, Format::Json, Format::Form] {
        let document = read(&request, &reading(format)).unwrap();
        assert_eq!(
            document.fields(),
            Some(&json!({"id": "7", "type": "sms in"}))
        );
        let Inbound { head, body } = &document.verified.inbound;
        assert_eq!(body.as_ref(), b"id=7&type=sms%20in");
        assert_eq!(head.headers[CONTENT_TYPE], FORM.unwrap());
        // What was not proved stays so.
        assert_eq!(document.verified.proof.coverage, Coverage::None);
    }
    let raw = read(&request, &reading(Format::Raw)).unwrap();
    assert_eq!(raw.verified.inbound.body.as_ref(), b"id=7&type=sms%20in");
    request.body = Bytes::from_static(b"x");
    assert_eq!(
        run(&request, Format::Auto),
        Err(Reject::Ambiguous("a GET with a body"))
    );
    request.body = Bytes::new();
    request.head.query = None;
    assert_eq!(
        run(&request, Format::Auto),
        Err(Reject::Malformed("it is empty".to_owned()))
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
        match decode_as(verified, Format::Json, DuplicateKeys::Reject, needs_tree) {
            Err(Reject::Malformed(place)) => assert_eq!(place, words),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_coded_body_is_unpacked_where_the_source_takes_its_coding() {
    let packed = coding::testing::gzip(br#"{"a":1}"#);
    let mut request = inbound(Some("application/json"), &packed);
    let headers = &mut request.head.headers;
    headers.insert(CONTENT_ENCODING, "gzip".parse().unwrap());
    let taking = |codings| Reading {
        codings,
        ..reading(Format::Auto)
    };
    let document = read(&request, &taking(vec![Coding::Gzip])).unwrap();
    assert_eq!(document.json, Some(json!({"a": 1})));
    assert_eq!(document.text.as_deref(), Some(&br#"{"a":1}"#[..]));
    assert_eq!(document.verified.inbound.body, packed);
    assert_eq!(document.read_as, "gzip of 7 bytes, JSON");
    let other = read(&request, &taking(vec![Coding::Zstd]));
    assert_eq!(other.unwrap_err(), Reject::UnsupportedCoding);
    let small = Reading {
        unpacked_bytes_max: 6,
        ..taking(vec![Coding::Gzip])
    };
    assert_eq!(
        read(&request, &small).unwrap_err(),
        Reject::BodyUnpacksTooLarge(6)
    );
    let verified = Verified::unproved(request);
    let full = decode(verified, &taking(vec![Coding::Gzip]), true, |_| {
        Err(Reject::Overloaded)
    });
    assert_eq!(full.unwrap_err(), Reject::Overloaded);
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
    let document = decode_as(verified, Format::Json, DuplicateKeys::Reject, false);
    assert_eq!(document.unwrap().json, None);
}

/// With and without a tree: refused with this pointer, and taken where that is allowed.
#[track_caller]
fn twice(format: Format, body: &str, pointer: &str) {
    for needs_tree in [true, false] {
        let verify = || Verified::unproved(inbound(None, body.as_bytes()));
        match decode_as(verify(), format, DuplicateKeys::Reject, needs_tree) {
            Err(Reject::DuplicateKey(place)) => assert_eq!(place, pointer, "{body}"),
            other => panic!("{body}: {other:?}"),
        }
        decode_as(verify(), format, DuplicateKeys::Allow, needs_tree).unwrap();
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
    twice(Format::Form, form, "/b");
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
            decode_as(verified, Format::Json, DuplicateKeys::Reject, needs_tree).unwrap();
        }
    }
}

#[test]
fn where_a_key_may_be_there_twice_the_last_one_counts() {
    let body = br#"{"a":1,"b":2,"\u0061":3}"#;
    let verified = Verified::unproved(inbound(None, body));
    let document = decode_as(verified, Format::Json, DuplicateKeys::Allow, true).unwrap();
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
            decode_as(verify(), Format::Json, DuplicateKeys::Reject, false).unwrap();
            let document = decode_as(verify(), Format::Json, DuplicateKeys::Reject, true).unwrap();
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
