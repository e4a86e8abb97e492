//! One event is one line in the log, whatever strangers write.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::balance::balance;
use crate::support::chance;
use crate::support::figures::Row;
use crate::support::gateway::{Gateway, Setup, erp, source};
use crate::support::sender::{Answer, Version};
use crate::support::webhook::{Webhook, unix_now};

/// What means something to a terminal, to a reader of lines, or to a reader of JSON.
const FRAGMENTS: [&str; 28] = [
    "\n",
    "\r\n",
    "\r",
    "\0",
    "\u{1b}[2J\u{1b}[H",
    "\u{1b}]0;title\u{7}",
    "\u{1b}[31m",
    "\u{9b}31m",
    "\u{90}q\u{9c}",
    "\u{85}",
    "\u{7f}\u{8}\u{8}",
    "\u{b}\u{c}",
    "\u{2028}",
    "\u{2029}",
    "\u{202e}txt.exe",
    "\u{2066}\u{2069}",
    "\u{feff}",
    "\u{1f980}\u{fffd}",
    "\"}\n{\"level\":\"ERROR\",\"message\":\"forged\"}",
    "\\\"\\n\\u000a",
    "%0d%0a%1b%5b2J",
    "\n2026-11-23T00:00:00Z ERROR hookgate::access: forged",
    "\t\tforged=1",
    "${jndi:ldap://x.invalid/a}",
    "'; DROP TABLE logs; --",
    "<script>alert(1)</script>",
    "{} {:?} %s %n",
    "request_id=\"x\" outcome=\"accepted\"",
];

const STRINGS: usize = 500;

/// Each fragment alone, ten thousand times a letter, then any of them together.
fn hostile() -> Vec<String> {
    let mut dice = chance::dice();
    let mut strings: Vec<String> = FRAGMENTS.map(str::to_owned).into();
    strings.push("A".repeat(10_000));
    strings.push("\u{1b}".repeat(5_000));
    while strings.len() < STRINGS {
        let pieces = dice.usize(1..6);
        let pieces = (0..pieces).map(|_| FRAGMENTS[dice.usize(..FRAGMENTS.len())]);
        strings.push(pieces.collect());
    }
    strings
}

/// As bytes of a header: what HTTP carries there, with bytes that are no text among them.
fn header(text: &str) -> Vec<u8> {
    let carried = |byte: &u8| *byte == b'\t' || (*byte >= 0x20 && *byte != 0x7f);
    let bytes = text.bytes().filter(carried).take(1_500);
    b"\xff\xfe".iter().copied().chain(bytes).collect()
}

/// As a part of a path: what is not visible ASCII as escapes.
fn path(text: &str) -> String {
    let mut path = String::new();
    for byte in text.bytes().take(1_000) {
        let plain = byte.is_ascii_alphanumeric() || b"'$&*+,;=:@!~._-".contains(&byte);
        if plain {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02x}"));
        }
    }
    path
}

/// A webhook as bytes, with headers that are no text.
fn raw(webhook: &Webhook, headers: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let bytes = webhook.http1();
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("a head")
        + 2;
    let (head, rest) = bytes.split_at(end);
    let mut request = head.to_vec();
    for (name, value) in headers {
        request.extend_from_slice(name.as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(rest);
    request
}

/// Four requests with each string, in every place that a stranger writes; gives the ids that they
/// are known by, with what they were answered.
async fn send(gateway: &Gateway) -> BTreeMap<String, u16> {
    use tokio::io::AsyncWriteExt;

    let sender = gateway.sender();
    let open = async || sender.stream(&[b"http/1.1"]).await.expect("connection");
    let mut stream = open().await;
    let mut answered = BTreeMap::new();
    for (n, text) in hostile().iter().enumerate() {
        let body = json!({"event": {"name": text}, "n": n}).to_string();
        // A new id each time, and as much of the string as it carries.
        let printable: String = text
            .chars()
            .filter(|c| (' '..='~').contains(c))
            .take(900)
            .collect();
        let event = Webhook::erp(
            "/erp",
            unix_now(),
            &format!("{n} {printable}"),
            body.as_bytes(),
        );
        let keys = json!({"event": {"name": "x", text: {text: 1}}, text: text}).to_string();
        let invalid = Webhook::erp("/strict", unix_now(), &format!("k{n}"), keys.as_bytes());
        let twice = format!("{{{0}:1,{0}:2}}", Value::from(text.as_str()));
        let twice = Webhook::erp("/erp", unix_now(), &format!("t{n}"), twice.as_bytes());
        let lost = Webhook::bare(&format!("/x{}?q={}", path(text), path(text)), b"{}");
        for (kind, webhook) in [("e", event), ("k", invalid), ("t", twice), ("l", lost)] {
            let id = format!("line-{kind}-{n}");
            let webhook = webhook.with("X-Request-Id", &id);
            let headers = [
                ("User-Agent", header(text)),
                ("X-GitHub-Event", header(text)),
                ("Referer", header(text)),
                ("X-Forwarded-For", header(text)),
            ];
            stream
                .write_all(&raw(&webhook, &headers))
                .await
                .expect("write");
            stream.flush().await.expect("flush");
            let answer = Answer::from_raw(&mut stream).await.expect("an answer");
            assert_eq!(answer.header("x-request-id"), Some(id.as_str()), "{text:?}");
            // After a body that nobody wanted there is nothing more to say on a connection.
            if answer.header("connection") == Some("close") {
                stream = open().await;
            }
            answered.insert(id, answer.status);
        }
    }
    answered
}

fn setup() -> Setup {
    let schema = br#"{"additionalProperties":false,"properties":{"event":{"properties":{},
        "additionalProperties":{"additionalProperties":{"type":"string"}}}}}"#;
    let strict = erp("schema = \"strict.json\"").replace("sources.erp", "sources.strict");
    Setup::new()
        .limits("header_timeout = \"20s\"")
        .file("strict.json", schema)
        .sources(&[erp(""), strict].concat())
}

/// What a terminal obeys, and what turns text around.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The lines of a log, each without anything harmful in it.
#[track_caller]
fn lines(log: &str) -> Vec<&str> {
    let lines: Vec<_> = log.lines().collect();
    for line in &lines {
        assert!(!line.contains(is_harmful), "{line:?}");
    }
    lines
}

/// The one line about each request.
#[track_caller]
fn one_each<'l>(lines: &[&'l str], answered: &BTreeMap<String, u16>) -> Vec<&'l str> {
    let about: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("hookgate::access"))
        .collect();
    assert_eq!(about.len(), answered.len(), "lines about requests");
    let mut found = Vec::new();
    for id in answered.keys() {
        let quoted = format!("\"{id}\"");
        let mut own = about.iter().filter(|line| line.contains(&quoted));
        let (Some(line), None) = (own.next(), own.next()) else {
            panic!("not one line about {id}");
        };
        found.push(**line);
    }
    found
}

#[track_caller]
fn assert_decided(answered: &BTreeMap<String, u16>) {
    for (id, status) in answered {
        let expected = match id.split('-').nth(1) {
            Some("e") => 202,
            Some("k") => 422,
            Some("t") => 400,
            _ => 404,
        };
        assert_eq!(*status, expected, "{id}");
    }
}

/// Longest value in a line, with the mark that it was cut.
const FIELD_BYTES_MAX: usize = 1024 + "...".len();

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_json() {
    let mut gateway = setup().start().await;
    let answered = send(&gateway).await;
    assert_decided(&answered);
    balance(&gateway).await;
    gateway.term();
    gateway.ended().await;
    let log = gateway.log();
    let lines = lines(&log);
    let mut longest = 0;
    for line in &lines {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for (name, value) in event.as_object().expect("an object") {
            let bytes = value.as_str().map_or(0, str::len);
            assert!(bytes <= FIELD_BYTES_MAX, "{name} has {bytes} bytes: {line}");
            longest = longest.max(bytes);
        }
        assert_ne!(event["level"], "ERROR", "{line}");
        assert_ne!(event["message"], "forged", "{line}");
    }
    one_each(&lines, &answered);
    Row::new("X12.json")
        .saw("strings", STRINGS)
        .saw("requests", answered.len())
        .saw("lines", answered.len())
        .saw("longest value", longest)
        .write();
}

/// On a terminal lines are for people: the same, through a terminal of the test's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_text() {
    let run = [
        "sh",
        "-c",
        "exec script -qefc \"$*\" \"$TERMINAL\" >/dev/null",
        "sh",
    ];
    let terminal = tempfile::NamedTempFile::new().expect("a file");
    let mut gateway = setup()
        .under(&run)
        .environment("TERMINAL", terminal.path().to_str().expect("path"))
        .environment("NO_COLOR", "1")
        .start()
        .await;
    let answered = send(&gateway).await;
    assert_decided(&answered);
    gateway.term();
    gateway.ended().await;
    let shown = std::fs::read_to_string(terminal.path()).expect("text");
    // A terminal ends lines by two characters, and `script` says when it begins and ends.
    let shown = shown.replace("\r\n", "\n");
    let log: Vec<_> = shown
        .lines()
        .filter(|line| !line.starts_with("Script "))
        .collect();
    let log = log.join("\n");
    let lines = lines(&log);
    let own = one_each(&lines, &answered);
    for line in &lines {
        assert!(line.starts_with("20"), "no time at the beginning: {line}");
    }
    let longest = own.iter().map(|line| line.len()).max().expect("lines");
    // Values are quoted and escaped here, which lengthens them.
    assert!(longest < 16 * 1024, "{longest} bytes");
    Row::new("X12.text")
        .saw("strings", STRINGS)
        .saw("requests", answered.len())
        .saw("lines", own.len())
        .write();
}

/// What is not HTTP leaves no line that a stranger wrote.
#[tokio::test]
async fn what_is_no_request_writes_no_line() {
    let mut gateway = Setup::new()
        .sources(&source("github", "github", ""))
        .start()
        .await;
    let requests: [&[u8]; 8] = [
        b"POST /a\nforged HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /a\x1b[2J HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /github HTTP/1.1\r\nHost: a\r\nX: a\r\n\tforged\r\n\r\n",
        b"POST /github HTTP/1.1\r\nHost: a\r\nX\x1b: a\r\n\r\n",
        b"POST /github HTTP/1.1\r\nHost: a\r\nX: a\0forged\r\n\r\n",
        b"POST /github HTTP/1.1\r\nHost: \x1b[2J\r\n\r\n",
        b"\x1b[2J\r\n\r\n",
        b"POST /github?\xff\xfe\x9b31m HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
    ];
    for request in requests {
        let mut stream = gateway.sender().raw(request).await;
        drop(Answer::from_raw(&mut stream).await);
    }
    let mut client = gateway.connect(Version::Http1).await;
    let last = Webhook::github("/github", "push", "last", b"{}");
    assert_eq!(client.send(&last).await.expect("an answer").status, 202);
    gateway.term();
    gateway.ended().await;
    for line in lines(&gateway.log()) {
        let event: Value = serde_json::from_str(line).expect("JSON");
        assert!(!line.contains("forged"), "{line}");
        assert!(event["timestamp"].is_string(), "{line}");
    }
}
