//! The elements are the sender's bytes, whatever stands around them.

use http::{HeaderMap, Method};
use serde_json::json;

use super::*;
use crate::delivery::Coverage;
use crate::pipeline::arrival::{Head, Inbound};
use crate::pipeline::decode::{Format, Reading, decode};
use crate::pipeline::verify::Verified;

fn document(content_type: &'static str, body: &str, needs_tree: bool) -> Document {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", content_type.parse().unwrap());
    headers.insert("x-id", "d1".parse().unwrap());
    let head = Head {
        method: Method::POST,
        path: "/".to_owned(),
        query: None,
        headers,
        client_ip: [192, 0, 2, 1].into(),
        request_id: Arc::from("r"),
        certificate: None,
    };
    let body = Bytes::copy_from_slice(body.as_bytes());
    let verified = Verified::unproved(Inbound { head, body });
    decode(verified, &reading(Format::Auto), needs_tree, |_| Ok(())).unwrap()
}

fn reading(format: Format) -> Reading {
    Reading {
        format,
        duplicate_keys: DuplicateKeys::Allow,
        unwrap: None,
        codings: Vec::new(),
        unpacked_bytes_max: 1 << 20,
        query_coverage: Coverage::None,
    }
}

fn split(places: &[&str]) -> Split {
    let places = places.iter().map(|place| Place::parse(place).unwrap());
    Split::new(places.collect(), 3)
}

fn open(places: &[&str], body: &str) -> Result<Events, Reject> {
    let document = document("application/json", body, true);
    split(places).open(document, DuplicateKeys::Reject)
}

fn bodies(events: &Events) -> Vec<&str> {
    let bodies = events.list.iter();
    bodies
        .map(|event| std::str::from_utf8(&event.body).unwrap())
        .collect()
}

#[track_caller]
fn check(places: &[&str], body: &str, expected: &[&str]) {
    let events = open(places, body).unwrap();
    assert_eq!(events.flaw, None, "{body}");
    assert_eq!(bodies(&events), expected);
    for event in &events.list {
        let text = std::str::from_utf8(&event.body).unwrap();
        let read = decode::json_in_field("", text, DuplicateKeys::Reject).unwrap();
        assert_eq!(event.json, Some(read), "the tree is another's");
        let whole = events.document.verified.inbound.body.as_ptr_range();
        assert!(whole.contains(&event.body.as_ptr()), "a copy");
    }
    // The same bytes where nobody looks into them.
    let unread = document("application/json", body, false);
    let unread = split(places).open(unread, DuplicateKeys::Reject).unwrap();
    assert_eq!(bodies(&unread), expected);
}

#[test]
fn an_element_is_what_stands_between_the_commas() {
    check(
        &["json:"],
        " [ {\"a\" : 1.0e2 , \"b\":\"\\u00e9,]\"}\r\n, [2],\"x\" ] \r\n",
        &["{\"a\" : 1.0e2 , \"b\":\"\\u00e9,]\"}", "[2]", "\"x\""],
    );
    check(&["json:/events"], r#"{"events":[{ }],"n":[1]}"#, &["{ }"]);
    check(
        &["json:/a/1/b~1c"],
        r#"{"a":[0,{"b/c":[1, 2]}]}"#,
        &["1", "2"],
    );
    check(&["json:/events"], r#"{"events":[]}"#, &[]);
}

#[test]
fn of_a_key_that_is_there_twice_the_last_one_counts() {
    check(&["json:/e"], r#"{"e":[1],"e":[2]}"#, &["2"]);
    check(&["json:/e"], r#"{"e":1,"e":[2]}"#, &["2"]);
}

/// `serde_json` reads this name as its own, if it is let.
#[test]
fn a_name_that_serde_json_keeps_for_itself_is_a_name_like_others() {
    let odd = r#"{"$serde_json::private::RawValue":"[1]"}"#;
    let events = open(&["json:/e"], &format!(r#"{{"e":{odd}}}"#)).unwrap();
    assert!(events.flaw.is_some());
    check(&["json:/e"], &format!(r#"{{"e":[{odd}]}}"#), &[odd]);
}

#[test]
fn the_first_place_that_has_an_array_counts() {
    let places = ["json:/eventNotifications", "json:"];
    check(&places, r#"{"eventNotifications":[1]}"#, &["1"]);
    check(&places, "[2]", &["2"]);
}

#[test]
fn a_body_without_the_array_is_one_event_with_a_flaw() {
    for body in [r#"{"events":{}}"#, r#"{"other":[]}"#, "[1]", "7", "null"] {
        let events = open(&["json:/events"], body).unwrap();
        assert_eq!(bodies(&events), [body]);
        let Some(Reject::SchemaViolated(violations)) = events.flaw else {
            panic!("{events:?}");
        };
        let flaw = &violations[0];
        assert_eq!(flaw.pointer, "/events");
        assert!(flaw.detail.contains("body member /events"), "{flaw}");
        assert!(events.batch.is_none());
    }
}

#[test]
fn more_elements_than_are_taken_are_refused() {
    assert!(open(&["json:"], "[1,2,3]").is_ok());
    let four = open(&["json:"], "[1,2,3,4]");
    assert_eq!(four.unwrap_err(), Reject::BatchTooLarge(3));
}

fn open_form(body: &str) -> Result<Events, Reject> {
    let document = document("application/x-www-form-urlencoded", body, true);
    split(&["form:mandrill_events"]).open(document, DuplicateKeys::Reject)
}

#[test]
fn a_form_field_holds_the_array() {
    let events = open_form("a=1&mandrill_events=%5B%7B%22_id%22+%3A%222%22%7D%2C3%5D").unwrap();
    assert_eq!(bodies(&events), [r#"{"_id" :"2"}"#, "3"]);
    assert_eq!(events.list[0].json, Some(json!({"_id": "2"})));
    let violation = Violation {
        pointer: "/_id".to_owned(),
        detail: String::new(),
    };
    assert_eq!(
        events.locate(0, violation).pointer,
        "/mandrill_events/0/_id"
    );

    let broken = open_form("mandrill_events=%5B1%2C").unwrap_err();
    assert!(matches!(broken, Reject::Malformed(_)), "{broken:?}");
    let twice = open_form("mandrill_events=%5B%7B%22a%22%3A1%2C%22a%22%3A2%7D%5D").unwrap_err();
    assert_eq!(
        twice,
        Reject::DuplicateKey("/mandrill_events/0/a".to_owned())
    );
    // Two of them: two readers could use different ones.
    let ambiguous = open_form("mandrill_events=%5B%5D&mandrill_events=%5B1%5D").unwrap();
    assert!(ambiguous.flaw.is_some());
}

fn exprs(texts: &[&str]) -> Vec<Expr> {
    texts
        .iter()
        .map(|text| Expr::parse(text).unwrap())
        .collect()
}

#[test]
fn a_value_is_the_events_own_or_that_of_all_of_them() {
    let events = open(
        &["json:/entry"],
        r#"{"object":"page","entry":[{"id":1,"field":"feed"},{}]}"#,
    )
    .unwrap();
    let read = |places: &[&str]| {
        let each = events.list.iter();
        each.map(|event| events.read(event, &exprs(places)))
            .collect::<Vec<_>>()
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(read(&["json:/id"]), [text("1"), None]);
    assert_eq!(read(&["json:/id", "header:x-id"]), [text("1"), text("d1")]);
    assert_eq!(
        read(&["{batch:/object}.{json:/field}", "batch:/object"]),
        [text("page.feed"), text("page")]
    );
    let ids = exprs(&["header:x-id", "batch:/object", "digest", "json:/id"]);
    let own = |index: usize| events.own_id(&events.list[index], &ids);
    assert_eq!(
        (own(0), own(1)),
        (text("1"), None),
        "what is of all is no id of one"
    );
}

#[test]
fn a_batch_is_called_after_its_sender_s_id_or_after_its_bytes_where_that_is_asked() {
    let name = |body: &str, texts: &[&str]| {
        let events = open(&["json:/events"], body).unwrap();
        events.name(&exprs(texts)).unwrap()
    };
    let body = r#"{"id":"B7","events":[1]}"#;
    let said = |text: &str| Name::Said(Arc::from(text));
    assert_eq!(name(body, &["json:/id", "header:x-id"]), said("d1"));
    assert_eq!(name(body, &["batch:/id", "digest"]), said("B7"));
    let unnamed = name(body, &["json:/id"]);
    assert_eq!(unnamed, Name::Request(Arc::from("r")));
    assert_eq!(unnamed.of_element(0), None);
    let digest = name(body, &["json:/id", "digest"]);
    let hex = "22f427715a28acbe099a8df92f92f5f5";
    assert_eq!(digest, said(hex), "the beginning of its SHA-256");
    assert_eq!(digest.of_element(3), Some(format!("{hex}/3")));
    let other = name(r#"{"id":"B7","events":[2]}"#, &["digest"]);
    assert_ne!(other, digest);
}

/// A body that is no form has no fields, whatever stands in it; in one that came packed, or in
/// parts, they are found.
#[test]
fn a_field_is_one_of_the_form_that_was_read() {
    let split = split(&["form:events"]);
    assert!(split.needs_tree());
    let json = document("application/json", r#"{"a":"&events=[1]&"}"#, true);
    let events = split.open(json, DuplicateKeys::Reject).unwrap();
    assert!(events.flaw.is_some(), "{events:?}");
    let parts = "--b\r\nContent-Disposition: form-data; name=events\r\n\r\n[1, 2]\r\n--b--\r\n";
    let parts = document("multipart/form-data; boundary=b", parts, true);
    let events = split.open(parts, DuplicateKeys::Reject).unwrap();
    assert_eq!(bodies(&events), ["1", "2"], "{:?}", events.flaw);
}

/// They keep it in memory when the body is gone.
#[test]
fn a_text_that_elements_are_slices_of_is_charged_where_it_is_not_the_body() {
    let extra = |events: Events| events.extra_bytes(10) - events.list.len() * (EVENT_BYTES + 10);
    assert_eq!(extra(open(&["json:"], "[1, 2]").unwrap()), 0);
    assert_eq!(extra(open_form("mandrill_events=[1,%202]").unwrap()), 6);
    let form = document(
        "application/x-www-form-urlencoded",
        "payload=[1,%20%202]",
        true,
    );
    let reading = Reading {
        unwrap: Some("payload".to_owned()),
        ..reading(Format::Auto)
    };
    let unwrapped = decode(form.verified, &reading, false, |_| Ok(())).unwrap();
    let events = split(&["json:"]).open(unwrapped, DuplicateKeys::Reject);
    assert_eq!(extra(events.unwrap()), 7);
}

#[test]
fn an_example_becomes_a_batch_of_one_unless_it_is_one() {
    let example = r#"{"id":1,"a":0}"#;
    for (places, example, expected) in [
        (
            &["json:/a/b"][..],
            example,
            r#"{"a":{"b":[{"id":1,"a":0}]}}"#,
        ),
        (&["json:"], example, r#"[{"id":1,"a":0}]"#),
        (&["form:x"], example, r#"[{"id":1,"a":0}]"#),
        (&["json:/a", "json:"], "[]", "[]"),
    ] {
        let whole = split(places).wrap(example);
        assert_eq!(whole, expected);
        let whole = serde_json::from_str(&whole).unwrap();
        assert!(split(places).events_of(&whole).len() <= 1);
    }
}

#[test]
fn what_is_no_place_of_an_array_is_said_to_be_none() {
    for text in [
        "",
        "events",
        "/events",
        "json:events",
        "form:",
        "header:X",
        "lines:",
    ] {
        let why = Place::parse(text).unwrap_err();
        assert!(why.contains("`json:/pointer`"), "{text}: {why}");
    }
}

/// Else its elements would have no meaning that a schema could be held against.
#[test]
fn a_form_that_looks_like_an_array_is_none() {
    for needs_tree in [true, false] {
        let form = document("application/x-www-form-urlencoded", "[1]", needs_tree);
        let events = split(&["json:"]).open(form, DuplicateKeys::Reject).unwrap();
        assert!(events.flaw.is_some());
    }
}

#[test]
fn each_line_is_an_event() {
    let body = "{\"n\":1}\r\n\n [2] \n";
    for needs_tree in [true, false] {
        let lines = document("application/x-ndjson", body, needs_tree);
        let events = split(&["json:", "lines"]).open(lines, DuplicateKeys::Reject);
        let events = events.unwrap();
        assert_eq!(events.list.len(), 2, "{:?}", events.flaw);
        let trimmed: Vec<_> = bodies(&events).iter().map(|line| line.trim()).collect();
        assert_eq!(trimmed, [r#"{"n":1}"#, "[2]"]);
        let trees: Vec<_> = events.list.iter().map(|event| event.json.clone()).collect();
        let expected = [json!({"n": 1}), json!([2])].map(|tree| needs_tree.then_some(tree));
        assert_eq!(trees, expected);
    }
    let many = document("application/x-ndjson", "1\n2\n3\n4\n", false);
    let many = split(&["lines"]).open(many, DuplicateKeys::Reject);
    assert_eq!(many.unwrap_err(), Reject::BatchTooLarge(3));
}

#[test]
fn each_cloud_event_of_a_batch_says_itself_what_it_is() {
    let body = r#"[{"specversion":"1.0","id":"1","source":"/a","type":"t","data":{"n":1}}]"#;
    let mut read = document("application/cloudevents-batch+json", body, true);
    read = decode(read.verified, &reading(Format::CloudEvents), true, |_| {
        Ok(())
    })
    .unwrap();
    let events = split(&["json:"]).open(read, DuplicateKeys::Reject).unwrap();
    let event = &events.list[0];
    let cloud = event.cloud.as_ref().unwrap();
    assert_eq!(
        (&*cloud.id, &*cloud.event_type, &*cloud.origin.source),
        ("1", "t", "/a")
    );
    assert_eq!(events.json(event), Some(&json!({"n": 1})));
    assert_eq!(bodies(&events), [body.trim_matches(['[', ']'])]);
}

#[test]
fn without_a_split_only_a_batch_of_cloud_events_is_one() {
    let split = Split::new(vec![Place::CloudEvents], 3);
    let event = r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","data":[7]}"#;
    let open = |content_type, body: &str| {
        let read = document(content_type, body, true);
        let reading = reading(Format::CloudEvents);
        let read = decode(read.verified, &reading, true, |_| Ok(())).unwrap();
        split.open(read, DuplicateKeys::Reject).unwrap()
    };
    let many = open(
        "application/cloudevents-batch+json",
        &format!("[{event},{event}]"),
    );
    assert_eq!(bodies(&many), [event, event]);
    assert!(many.batch.is_some());
    for content_type in ["application/cloudevents+json", "application/json"] {
        let one = open(content_type, event);
        assert_eq!(bodies(&one), [event]);
        assert!(one.batch.is_none() && one.flaw.is_none());
    }
}
