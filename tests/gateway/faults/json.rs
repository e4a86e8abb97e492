//! What is JSON and what is not, decided exactly, and delivered byte for byte.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::balance::balance;
use crate::support::broker;
use crate::support::figures::Row;
use crate::support::gateway::{Gateway, Setup, source};
use crate::support::sender::{Answer, Client, Version};
use crate::support::webhook::Webhook;

/// A body and what becomes of it.
#[derive(Debug)]
struct Case {
    name: String,
    body: Vec<u8>,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Taken,
    Malformed,
    /// A key is there twice: taken only where that is allowed.
    Twice(&'static str),
}
use Fate::{Malformed, Taken, Twice};

/// What the suite leaves to the implementation, and hookgate takes: numbers that lose precision
/// but stay finite, and texts whose bytes are valid as the package has them. All others of its
/// kind are refused: numbers without a value, lone surrogates, byte order marks, UTF-16, depth.
const TAKEN_OF_OURS: [&str; 15] = [
    "i_number_double_huge_neg_exp",
    "i_number_real_underflow",
    "i_number_too_big_neg_int",
    "i_number_too_big_pos_int",
    "i_number_very_big_negative_int",
    "i_string_UTF-8_invalid_sequence",
    "i_string_UTF8_surrogate_U+D800",
    "i_string_invalid_utf-8",
    "i_string_iso_latin_1",
    "i_string_lone_utf8_continuation_byte",
    "i_string_not_in_unicode_range",
    "i_string_overlong_sequence_2_bytes",
    "i_string_overlong_sequence_6_bytes",
    "i_string_overlong_sequence_6_bytes_null",
    "i_string_truncated-utf-8",
];

/// Those of the suite that are JSON but have a key twice.
const TWICE: [&str; 2] = [
    "y_object_duplicated_key",
    "y_object_duplicated_key_and_value",
];

fn suite() -> Vec<Case> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/json/suite.json");
    let text = std::fs::read_to_string(path).expect("the suite");
    let cases: Vec<BTreeMap<String, Value>> = serde_json::from_str(&text).expect("JSON");
    cases.iter().map(from_suite).collect()
}

fn from_suite(case: &BTreeMap<String, Value>) -> Case {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let name = text(&case["name"]);
    let body = match case.get("input") {
        Some(input) => text(input),
        None => {
            let times = case["repeat"][1].as_u64().expect("a count");
            let repeated = text(&case["repeat"][0]).repeat(times.try_into().expect("a count"));
            repeated + &case.get("then").map(text).unwrap_or_default()
        }
    };
    let fate = match name.as_bytes()[0] {
        _ if TWICE.contains(&name.as_str()) => Twice("/a"),
        b'y' => Taken,
        b'i' if TAKEN_OF_OURS.contains(&name.as_str()) => Taken,
        _ => Malformed,
    };
    Case {
        name,
        body: body.into_bytes(),
        fate,
    }
}

/// Sequences that are not UTF-8: lone and missing continuations, overlong forms, surrogates, beyond
/// U+10FFFF, bytes that never occur.
const NOT_UTF_8: [&[u8]; 24] = [
    b"\x80",
    b"\xbf\xbf",
    b"\xc0\x80",
    b"\xc0\xaf",
    b"\xc1\xbf",
    b"\xc2",
    b"\xc3(",
    b"\xe0\x80\xaf",
    b"\xe0\x9f\xbf",
    b"\xe2\x82",
    b"\xe2(\xa1",
    b"\xe2\x82(",
    b"\xe6\x97\xa5\xd1\x88\xfa",
    b"\xed\xa0\x80",
    b"\xed\xa0\x80\xed\xb0\x80",
    b"\xed\xbf\xbf",
    b"\xf0\x80\x80\xaf",
    b"\xf0\x9f\x98",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xfc\x80\x80\x80\x80\x80",
    b"\xfe",
    b"\xff",
];

const TEXTS: [(&str, Fate); 46] = [
    // Numbers.
    ("[1e400]", Malformed),
    ("[-1e400]", Malformed),
    ("[1e-400]", Taken),
    ("[-0]", Taken),
    ("[-0.0e-0]", Taken),
    ("[18446744073709551616]", Taken),
    ("[0.1234567890123456789012345678901234567890]", Taken),
    ("[01]", Malformed),
    ("[+1]", Malformed),
    ("[.5]", Malformed),
    ("[1.]", Malformed),
    ("[0x1]", Malformed),
    ("[NaN]", Malformed),
    ("[Infinity]", Malformed),
    // Surrogates.
    (r#"["\ud83d\ude00"]"#, Taken),
    (r#"["\ud83d"]"#, Malformed),
    (r#"["\ude00"]"#, Malformed),
    (r#"["\ude00\ud83d"]"#, Malformed),
    (r#"["\ud83d\u0041"]"#, Malformed),
    (r#"{"\ud83d":1}"#, Malformed),
    // Texts.
    ("[\"\u{ffff}\u{10ffff}\u{7f}\u{2028}\"]", Taken),
    (r#"["\u0000\/\b\f"]"#, Taken),
    ("[\"\u{1f}\"]", Malformed),
    ("[\"\0\"]", Malformed),
    ("[\"a\nb\"]", Malformed),
    (r#"["\x41"]"#, Malformed),
    ("['a']", Malformed),
    // Around values.
    ("\u{feff}{}", Malformed),
    (" \t\r\n5\n", Taken),
    ("\"text\"", Taken),
    ("null", Taken),
    ("{}{}", Malformed),
    ("{}\0", Malformed),
    ("\u{b}{}", Malformed),
    ("\u{a0}{}", Malformed),
    ("\u{1e}{}\n", Malformed),
    ("[1,]", Malformed),
    ("{/* */}", Malformed),
    ("{a:1}", Malformed),
    (r#"{"$serde_json::private::RawValue":"{"}"#, Taken),
    (r#"{"__proto__":{"constructor":1}}"#, Taken),
    // The same key twice.
    (r#"{"a":1,"a":1}"#, Twice("/a")),
    (r#"{"a":1,"\u0061":2}"#, Twice("/a")),
    (r#"[{"b":{"c":1,"d":[],"c":{}}}]"#, Twice("/0/b/c")),
    (r#"{"":0,"":0}"#, Twice("/")),
    (r#"{"x/~":{"k":1,"k":1},"x/~":1}"#, Twice("/x~1~0/k")),
];

fn bytes() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, body: Vec<u8>, fate| cases.push(Case { name, body, fate });
    for (n, sequence) in NOT_UTF_8.iter().enumerate() {
        add(
            format!("not_utf_8_{n}"),
            [b"[\"", *sequence, b"\"]"].concat(),
            Malformed,
        );
    }
    add(
        "key_is_not_utf_8".to_owned(),
        b"{\"\xff\":1}".to_vec(),
        Malformed,
    );
    for (n, (text, fate)) in TEXTS.iter().enumerate() {
        add(format!("text_{n}"), text.as_bytes().to_vec(), *fate);
    }
    // 127 levels are the deepest that are taken.
    for (depth, fate) in [(127, Taken), (128, Malformed), (129, Malformed)] {
        let lists = "[".repeat(depth) + &"]".repeat(depth);
        add(format!("lists_{depth}"), lists.into_bytes(), fate);
        let objects = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        add(format!("objects_{depth}"), objects.into_bytes(), fate);
    }
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    add("lists_100000".to_owned(), deep.into_bytes(), Malformed);
    for (name, big_endian, mark) in [
        ("be", true, false),
        ("be_mark", true, true),
        ("le", false, false),
        ("le_mark", false, true),
    ] {
        let text = if mark { "\u{feff}{}" } else { "{}" };
        let units = text.encode_utf16().flat_map(|unit| match big_endian {
            true => unit.to_be_bytes(),
            false => unit.to_le_bytes(),
        });
        add(format!("utf_16_{name}"), units.collect(), Malformed);
    }
    cases
}

/// The same bodies to three sources: one where nobody looks into them, one with a schema, and one
/// where a key may be there twice.
fn sources() -> String {
    [
        source("checked", "github", "format = \"json\""),
        source("tree", "github", "format = \"json\"\nschema = \"any.json\""),
        source(
            "allow",
            "github",
            "format = \"json\"\nduplicate_keys = \"allow\"\nschema = \"any.json\"",
        ),
    ]
    .concat()
}

fn webhook(source: &str, case: &Case) -> Webhook {
    Webhook::github(&format!("/{source}"), "push", &case.name, &case.body)
}

#[track_caller]
fn assert_fate(source: &str, case: &Case, answer: &Answer) {
    let said = String::from_utf8_lossy(&answer.body);
    let what = format!("{source} {}: {} {said}", case.name, answer.status);
    match case.fate {
        Twice(_) if source == "allow" => assert_eq!(answer.status, 202, "{what}"),
        Taken => assert_eq!(answer.status, 202, "{what}"),
        Malformed => {
            assert_eq!(answer.status, 400, "{what}");
            assert_eq!(answer.json()["code"], "malformed", "{what}");
        }
        Twice(pointer) => {
            assert_eq!(answer.status, 400, "{what}");
            let problem = answer.json();
            assert_eq!(problem["code"], "duplicate_key", "{what}");
            let detail = problem["detail"].as_str().expect("detail");
            assert!(detail.ends_with(&format!(" {pointer}")), "{what}");
        }
    }
}

async fn send(client: &mut Client, gateway: &Gateway, webhook: &Webhook) -> Answer {
    if client.is_closed() {
        *client = gateway.connect(Version::Http1).await;
    }
    client.send(webhook).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_body_is_decided_exactly_and_delivered_as_it_was_signed() {
    let broker = broker::shared().await;
    let gateway = Setup::new()
        .broker(broker)
        .file("any.json", b"true")
        .sources(&sources())
        .start()
        .await;
    let queue = gateway.consume(broker).await;
    let (suite, bytes) = (suite(), bytes());
    assert_eq!(suite.len(), 318);
    let names: BTreeSet<_> = suite.iter().chain(&bytes).map(|case| &case.name).collect();
    assert_eq!(names.len(), suite.len() + bytes.len(), "a name for each");

    let mut client = gateway.connect(Version::Http1).await;
    let mut signed = BTreeMap::new();
    for case in suite.iter().chain(&bytes) {
        for source in ["checked", "tree", "allow"] {
            let webhook = webhook(source, case);
            let answer = send(&mut client, &gateway, &webhook).await;
            assert_fate(source, case, &answer);
            if answer.status == 202 {
                let digest = Sha256::digest(&case.body);
                signed.insert((source.to_owned(), case.name.clone()), digest);
            }
        }
    }
    let messages = queue.wait_for(signed.len()).await;
    assert_eq!(messages.len(), signed.len());
    for message in &messages {
        let event = (
            message.must("hookgate_source"),
            message.must("hookgate_event_id"),
        );
        let digest = signed.remove(&event).expect("sent once");
        assert_eq!(
            digest,
            Sha256::digest(&message.body),
            "{event:?} was changed"
        );
    }
    balance(&gateway).await;
    Row::new("X5")
        .saw("cases of the suite", suite.len())
        .saw("cases of bytes", bytes.len())
        .saw("bodies delivered, all identical", messages.len())
        .write();
}

/// A number of ten million digits is refused by its length, or costs no more than reading it.
#[tokio::test]
async fn a_number_of_ten_million_digits() {
    let sources = [
        source("small", "github", "max_body = \"1MiB\""),
        source("large", "github", "max_body = \"16MiB\""),
    ]
    .concat();
    let gateway = Setup::new()
        .limits("accept_timeout = \"30s\"")
        .sources(&sources)
        .start()
        .await;
    let digits = |before: &str| format!("[{before}{}]", "7".repeat(10_000_000)).into_bytes();
    for (source, before, status) in [("small", "", 413), ("large", "", 400), ("large", "0.", 202)] {
        let webhook = Webhook::github(&format!("/{source}"), "push", before, &digits(before));
        let answer = gateway.send(&webhook).await;
        assert_eq!(answer.status, status, "{source} {before}");
    }
    balance(&gateway).await;
}
