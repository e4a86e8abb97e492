//! One check per kind of place, and each way not to be one value.

use std::sync::Arc;

use http::{HeaderMap, Method};
use serde_json::json;

use super::facts::{Facts, Unreadable};
use super::*;

fn head() -> Head {
    let mut headers = HeaderMap::new();
    headers.insert("x-id", "e1".parse().unwrap());
    headers.append("x-two", "a".parse().unwrap());
    headers.append("x-two", "b".parse().unwrap());
    headers.insert("x-odd", http::HeaderValue::from_bytes(b"\xff").unwrap());
    Head {
        method: Method::POST,
        path: "/".to_owned(),
        query: Some("a=1%202&b=&c=1&c=2".to_owned()),
        headers,
        client_ip: [192, 0, 2, 1].into(),
        request_id: Arc::from("r"),
        certificate: None,
    }
}

#[track_caller]
fn check(expression: &str, expected: Option<&str>) {
    let json =
        json!({"id": 7, "on": true, "type": "t", "none": null, "list": [1], "a": {"b/c": "x"}});
    let expression = Expr::parse(expression).unwrap();
    assert_eq!(
        expression
            .read(&head(), Some(&json), Some(&json))
            .as_deref(),
        expected
    );
    if expression.needs_json() {
        assert_eq!(expression.read(&head(), None, None), None);
    }
}

#[test]
fn a_value_is_there_once_and_is_text_a_number_or_a_boolean() {
    check("header:X-Id", Some("e1"));
    check("header:X-Two", None);
    check("header:X-Odd", None);
    check("header:X-None", None);
    check("query:a", Some("1 2"));
    check("query:b", None);
    check("query:c", None);
    check("query:d", None);
    check("json:/id", Some("7"));
    check("json:/on", Some("true"));
    check("json:/a/b~1c", Some("x"));
    check("json:/none", None);
    check("json:/list", None);
    check("json:/list/0", Some("1"));
    check("json:/absent", None);
    check("form:type", Some("t"));
}

#[test]
fn a_form_field_is_no_member_of_json() {
    let field = Expr::parse("form:type").unwrap();
    let json = json!({"type": "t"});
    assert_eq!(field.read(&head(), None, Some(&json)), None);
    let member = Expr::parse("json:/type").unwrap();
    assert_eq!(member.read(&head(), Some(&json), None), None);
}

#[test]
fn only_the_body_needs_decoding() {
    for (expression, needs_json) in [
        ("header:a", false),
        ("query:a", false),
        ("form:a", true),
        ("json:/a", true),
    ] {
        assert_eq!(
            Expr::parse(expression).unwrap().needs_json(),
            needs_json,
            "{expression}"
        );
    }
}

#[test]
fn a_template_is_there_when_all_of_its_parts_are() {
    check("{json:/type}.{json:/id}", Some("t.7"));
    check("{header:X-Id}-{json:/a/b~1c}!", Some("e1-x!"));
    check("{json:/type}.{json:/absent}", None);
    check("{json:/type}", Some("t"));
    for (text, why) in [
        ("{json:/a", "without its"),
        ("{a}", "does not say where to look"),
        ("{json:/a}{}", "does not say where to look"),
        ("batch:a", "begins with `/`"),
        ("{digest}.{json:/a}", "does not say where to look"),
    ] {
        let error = Expr::parse(text).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn in_a_batch_each_element_is_read_beside_the_whole() {
    let (whole, event) = (json!({"object": "page", "id": 1}), json!({"id": 2}));
    for (text, expected, is_of_event) in [
        ("json:/id", Some("2"), true),
        ("batch:/id", Some("1"), false),
        ("{batch:/object}/{json:/id}", Some("page/2"), true),
        ("form:object", Some("page"), false),
        ("json:/object", None, true),
        ("header:X-Id", Some("e1"), false),
        // FIPS 180-2, appendix B.1: the beginning of the SHA-256 of `abc`.
        ("digest", Some("ba7816bf8f01cfea414140de5dae2223"), false),
    ] {
        let expression = Expr::parse(text).unwrap();
        let head = head();
        let said = Said {
            head: &head,
            form: Some(&whole),
            json: Some(&whole),
            body: Some(b"abc"),
        };
        let read = expression.read_in(said, Some(&event));
        assert_eq!(read.as_deref(), expected, "{text}");
        assert_eq!(expression.is_of_event(), is_of_event, "{text}");
    }
}

#[test]
fn the_texts_of_a_multipart_form_are_its_fields_and_files_are_not() {
    let mut head = head();
    let content_type = "multipart/form-data; boundary=b";
    head.headers
        .insert("content-type", content_type.parse().unwrap());
    let body = b"--b\r\nContent-Disposition: form-data; name=token\r\n\r\na&b\r\n\
                 --b\r\nContent-Disposition: form-data; name=token; filename=x\r\n\r\nc\r\n--b--";
    let facts = Facts::new(&head, body);
    let token = Place::Form("token".to_owned());
    assert_eq!(
        facts.find(&token),
        Ok(Found::Once(Cow::Borrowed(&b"a&b"[..])))
    );
    // A signature over all fields says nothing of files.
    assert_eq!(facts.form(), Err(Unreadable::Form));
    let facts = Facts::new(&head, b"token=a");
    assert_eq!(facts.find(&token), Err(Unreadable::Form));
}
