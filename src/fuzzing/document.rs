//! Bodies: JSON and forms, what expressions find in them, and what schemas say of them without
//! repeating a value.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;

use super::{Input, files, repository};
use crate::pipeline::arrival::{Head, Inbound};
use crate::pipeline::decode::{DuplicateKeys, Format, decode};
use crate::pipeline::expr::Expr;
use crate::pipeline::schema::{SchemaSet, VIOLATIONS_MAX};
use crate::pipeline::verify::Verified;

/// Begins every text of a body that a schema looks at.
const CANARY: &str = "CANARY";

const FORMATS: [Format; 4] = [Format::Auto, Format::Json, Format::Form, Format::Raw];

const TYPES: [Option<&str>; 5] = [
    None,
    Some("application/json"),
    Some("application/x-www-form-urlencoded"),
    Some("application/cloudevents+json; charset=utf-8"),
    Some("text/plain"),
];

const EXPRESSIONS: [&str; 6] = [
    "json:/id",
    "json:/a/0/~0~1",
    "form:payload",
    "form:a",
    "query:id",
    "header:Content-Type",
];

/// The schemas that ship, with the types of events that they know.
fn schemas() -> &'static [(SchemaSet, Vec<String>)] {
    static SCHEMAS: OnceLock<Vec<(SchemaSet, Vec<String>)>> = OnceLock::new();
    SCHEMAS.get_or_init(|| {
        let folders =
            ["github", "shopify", "slack", "stripe"].map(|name| format!("schemas/{name}"));
        let mut sets: Vec<_> = folders.iter().map(|folder| load(folder)).collect();
        sets.push(load("schemas/order.json"));
        sets
    })
}

fn load(path: &str) -> (SchemaSet, Vec<String>) {
    let path = repository(path);
    let types = if path.is_dir() {
        files(&path, "json")
    } else {
        vec![path.clone()]
    };
    let types = types.iter().filter_map(|file| file.file_stem());
    let types = types.map(|name| name.to_string_lossy().into_owned());
    let set = SchemaSet::load(&path).expect("the schemas that ship are sound");
    (set, types.collect())
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for path in files(&repository("tests/payloads"), "json") {
        let body = std::fs::read(path).expect("a payload");
        for schema in 0..5 {
            for kind in 0..3 {
                seeds.push([&[0, 1, schema, kind, 0], body.as_slice()].concat());
            }
        }
    }
    let form = b"payload=%7B%22id%22%3A1%7D&a=1&a=2&%ff=%c3%28".as_slice();
    seeds.push([&[2, 2, 0, 0, 1], form].concat());
    seeds
}

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let format = *input.choose(&FORMATS);
    let content_type = *input.choose(&TYPES);
    let (schemas, types) = input.choose(schemas());
    let event_type = input.choose(types);
    let keys = *input.choose(&[DuplicateKeys::Reject, DuplicateKeys::Allow]);
    let inbound = inbound(content_type, input.rest());

    let checked = decode(Verified::unproved(inbound.clone()), format, keys, false);
    let read = decode(Verified::unproved(inbound), format, keys, true);
    // Whether a body is taken must not depend on whether somebody looks into it.
    assert_eq!(checked.is_ok(), read.is_ok(), "{checked:?} {read:?}");
    let Ok(document) = read else {
        return;
    };
    let head = &document.verified.inbound.head;
    for text in EXPRESSIONS {
        let expression = Expr::parse(text).expect("an expression");
        let found = expression.read(head, document.json.as_ref());
        assert!(found.is_none_or(|found| !found.is_empty()));
    }
    if let Some(mut json) = document.json {
        mark(&mut json);
        if let Err(violations) = schemas.check(Some(event_type), &json) {
            assert!((1..=VIOLATIONS_MAX).contains(&violations.len()));
            for violation in violations {
                let shown = violation.to_string();
                assert!(!shown.contains(CANARY), "a value is shown: {shown}");
                assert!(!shown.contains(char::is_control), "{shown:?}");
            }
        }
    }
}

fn inbound(content_type: Option<&'static str>, body: &[u8]) -> Inbound {
    let mut headers = HeaderMap::new();
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    let head = Head {
        method: Method::POST,
        path: "/in".to_owned(),
        query: Some("id=%31".to_owned()),
        headers,
        client_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        request_id: Arc::from("fuzz"),
    };
    Inbound {
        head,
        body: Bytes::copy_from_slice(body),
    }
}

/// Puts the canary into every text. Names stay: they may be shown.
fn mark(value: &mut Value) {
    match value {
        Value::String(text) => text.insert_str(0, CANARY),
        Value::Array(items) => items.iter_mut().for_each(mark),
        Value::Object(members) => members.values_mut().for_each(mark),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
