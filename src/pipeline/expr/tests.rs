//! One check per kind of place, and each way not to be one value.

use std::sync::Arc;

use http::{HeaderMap, Method};
use serde_json::json;

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
    }
}

#[track_caller]
fn check(expression: &str, expected: Option<&str>) {
    let json =
        json!({"id": 7, "on": true, "type": "t", "none": null, "list": [1], "a": {"b/c": "x"}});
    let expression = Expr::parse(expression).unwrap();
    assert_eq!(expression.read(&head(), Some(&json)).as_deref(), expected);
    if expression.needs_json() {
        assert_eq!(expression.read(&head(), None), None);
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
    let mut head = head();
    head.headers
        .insert("content-type", "application/json".parse().unwrap());
    let field = Expr::parse("form:type").unwrap();
    assert_eq!(field.read(&head, Some(&json!({"type": "t"}))), None);
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
