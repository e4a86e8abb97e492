//! Bodies of every format and coding, what expressions find in them, and what schemas say of them
//! without repeating a value.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;

use super::{Input, files, repository};
use crate::delivery::Coverage;
use crate::pipeline::arrival::{Head, Inbound};
use crate::pipeline::decode::coding::CODINGS;
use crate::pipeline::decode::{
    Coding, DuplicateKeys, Format, Parts, Reading, decode, json_in_field,
};
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::expr::{Expr, Found};
use crate::pipeline::schema::{SchemaSet, VIOLATIONS_MAX};
use crate::pipeline::split::{ELEMENTS_MAX_DEFAULT, Events, Place, Split};
use crate::pipeline::verify::Verified;
use crate::reject::Reject;

/// Begins every text of a body that a schema looks at.
const CANARY: &str = "CANARY";

const FORMATS: [Format; 7] = [
    Format::Auto,
    Format::Json,
    Format::Form,
    Format::Raw,
    Format::Xml,
    Format::Lines,
    Format::CloudEvents,
];

const TYPES: [Option<&str>; 9] = [
    None,
    Some("application/json"),
    Some("application/x-www-form-urlencoded"),
    Some("application/cloudevents+json; charset=utf-8"),
    Some("text/plain"),
    Some("multipart/form-data; boundary=b"),
    Some("text/xml"),
    Some("application/x-ndjson"),
    Some("application/cloudevents-batch+json"),
];

/// Longest body that a coded one may unpack to here.
const UNPACKED_BYTES_MAX: usize = 256 * 1024;

const PACKED_GZIP: &str = "1f8b0800000000000203ab562aa92c4855b252ca2f4a492dd24b2e4a4d2c494d51d251ca4c010aa61a2ad502008d69c7a422000000";
const PACKED_DEFLATE: &str =
    "78daab562aa92c4855b252ca2f4a492dd24b2e4a4d2c494d51d251ca4c010aa61a2ad50200cb040af0";
const PACKED_BROTLI: &str =
    "8b10807b2274797065223a226f726465722e63726561746564222c226964223a226531227d03";
const PACKED_ZSTD: &str =
    "28b52ffd20221101007b2274797065223a226f726465722e63726561746564222c226964223a226531227d";

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
                seeds.push([&[0, 1, schema, kind, 0, 0], body.as_slice()].concat());
            }
        }
    }
    let mut seed = |format, content_type, coding, body: &[u8]| {
        seeds.push([&[format, content_type, 0, 0, 1, coding], body].concat());
    };
    seed(2, 2, 0, b"payload=%7B%22id%22%3A1%7D&a=1&a=2&%ff=%c3%28");
    seed(
        0,
        5,
        0,
        b"--b\r\nContent-Disposition: form-data; name=\"payload\"\r\n\r\n{\"id\":1}\r\n\
          --b\r\nContent-Disposition: form-data; name=a; filename*=UTF-8''%c3%a9\r\n\
          Content-Type: text/plain\r\n\r\nx\r\n--b--\r\n",
    );
    let xml =
        "<?xml version='1.0'?><!-- c --><a b=\"&#x62;\"><c>&lt;</c><c><![CDATA[d]]></c><e/></a>";
    seed(0, 6, 0, xml.as_bytes());
    seed(0, 6, 0, b"<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>");
    seed(0, 7, 0, b"{\"id\":1}\n\n[2]\r\n");
    let event = br#"{"specversion":"1.0","id":"1","type":"t","source":"/s","data":{"id":1}}"#;
    seed(6, 3, 0, event);
    seed(6, 8, 0, &[b"[", event.as_slice(), b"]"].concat());
    // `{"type":"order.created","id":"e1"}` in every coding.
    for (coding, packed) in [
        (1, PACKED_GZIP),
        (2, PACKED_DEFLATE),
        (3, PACKED_BROTLI),
        (4, PACKED_ZSTD),
    ] {
        seed(1, 1, coding, &hex::decode(packed).expect("hexadecimal"));
    }
    seeds
}

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let format = *input.choose(&FORMATS);
    let content_type = *input.choose(&TYPES);
    let (schemas, types) = input.choose(schemas());
    let event_type = input.choose(types);
    let keys = *input.choose(&[DuplicateKeys::Reject, DuplicateKeys::Allow]);
    let coding = usize::from(input.byte()).checked_sub(1);
    let coding = coding.and_then(|index| CODINGS.get(index % CODINGS.len()));
    let inbound = inbound(content_type, coding.map(|(name, _)| *name), input.rest());
    before_its_sender_is_known(&inbound);

    let reading = Reading {
        format,
        duplicate_keys: keys,
        unwrap: Some("payload".to_owned()),
        codings: CODINGS.map(|(_, coding): (_, Coding)| coding).to_vec(),
        unpacked_bytes_max: UNPACKED_BYTES_MAX,
        query_coverage: Coverage::None,
    };
    let decode = |needs_tree| {
        let mut unpacked = 0;
        decode(
            Verified::unproved(inbound.clone()),
            &reading,
            needs_tree,
            |bytes| {
                unpacked += bytes;
                assert!(unpacked <= UNPACKED_BYTES_MAX);
                Ok(())
            },
        )
    };
    let (checked, read) = (decode(false), decode(true));
    // Whether a body is taken must not depend on whether somebody looks into it.
    assert_eq!(checked.is_ok(), read.is_ok(), "{checked:?} {read:?}");
    let (Ok(checked), Ok(document)) = (checked, read) else {
        return;
    };
    // What is never looked at is never split.
    if format != Format::Raw
        && let Ok(copy) = decode(true)
    {
        let split = split();
        let (copy, checked) = (split.open(copy, keys), split.open(checked, keys));
        assert_elements(copy, checked, keys);
    }
    let head = &document.verified.inbound.head;
    assert_eq!(document.verified.inbound.body, inbound.body);
    if let (Parts::Lines(ranges), Some(text)) = (&document.parts, &document.text) {
        let documents = document.json.as_ref().and_then(Value::as_array);
        assert_eq!(documents.map(Vec::len), Some(ranges.len()));
        for range in ranges {
            assert!(text.get(range.clone()).is_some_and(|line| !line.is_empty()));
        }
    }
    for text in EXPRESSIONS {
        let expression = Expr::parse(text).expect("an expression");
        let found = expression.read(head, document.fields(), document.json.as_ref());
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

fn split() -> Split {
    let places = [
        "json:/events",
        "json:",
        "json:/0/a~1b",
        "lines",
        "form:payload",
    ];
    let places = places.map(|place| Place::parse(place).expect("a place"));
    Split::new(places.into(), ELEMENTS_MAX_DEFAULT)
}

/// Each element is JSON that means what its tree says, and where no tree was asked for the same
/// elements are found.
fn assert_elements(
    read: Result<Events, Reject>,
    checked: Result<Events, Reject>,
    keys: DuplicateKeys,
) {
    assert_eq!(read.is_ok(), checked.is_ok());
    let (Ok(read), Ok(checked)) = (read, checked) else {
        return;
    };
    assert_eq!(read.flaw, checked.flaw);
    let bodies = |events: &Events| {
        let bodies = events.list.iter().map(|event| event.body.clone());
        bodies.collect::<Vec<_>>()
    };
    assert_eq!(bodies(&read), bodies(&checked));
    if read.batch.is_none() {
        return;
    }
    for event in read.list.iter().filter(|event| event.cloud.is_none()) {
        let text = std::str::from_utf8(&event.body).expect("text");
        let again = json_in_field("element", text, keys);
        assert_eq!(again.as_ref().ok(), read.json(event), "{text}");
    }
}

/// What verification reads of any body.
fn before_its_sender_is_known(inbound: &Inbound) {
    let facts = Facts::of(inbound);
    for text in EXPRESSIONS {
        let expression = Expr::parse(text).expect("an expression");
        for place in expression.places() {
            if let Ok(Found::Once(value)) = facts.find(place) {
                assert!(value.len() <= inbound.body.len() * 3 + 64);
            }
        }
    }
}

fn inbound(
    content_type: Option<&'static str>,
    coding: Option<&'static str>,
    body: &[u8],
) -> Inbound {
    let mut headers = HeaderMap::new();
    if let Some(coding) = coding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
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
        certificate: None,
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
