//! Bodies, heads and bombs at their limits: how much memory each costs.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::balance::balance;
use crate::support::eventually::eventually;
use crate::support::figures::Row;
use crate::support::gateway::{Gateway, Setup, source};
use crate::support::sender::{Answer, Sender, Version};
use crate::support::usage::{Usage, mib};
use crate::support::webhook::Webhook;

/// Longest body here, in bytes.
const LIMIT: usize = 256 * 1024;
/// Longest head, in bytes, and most of its fields.
const HEAD: usize = 16 * 1024;
const FIELDS: usize = 64;
/// How many of each are sent at once.
const AT_ONCE: u32 = 20;
/// What each of them may add to the memory, from the first case to the last: its body, its copies
/// while it is stored, buffers for framing and TLS, and what the allocator keeps of all of that.
const EACH_MAX: u64 = 4 << 20;
/// A request that is answered at all is answered within this.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// One kind of request.
struct Case {
    name: &'static str,
    send: Send,
    /// The status, and the label of the refusal.
    status: u16,
    label: &'static str,
}

/// How it is sent.
enum Send {
    /// By a client, over this HTTP.
    Client(Version, Webhook),
    /// As bytes, over HTTP/1.1: the beginning, and what follows it for as long as it is taken.
    Raw(Vec<u8>, Vec<u8>),
}

/// A genuine webhook with this body.
fn genuine(body: &[u8]) -> Webhook {
    Webhook::github("/github", "push", "0", body)
}

/// A JSON string of so many bytes.
fn text(bytes: usize) -> Vec<u8> {
    let mut body = vec![b'x'; bytes];
    body[0] = b'"';
    body[bytes - 1] = b'"';
    body
}

/// So much of it, in chunks.
fn chunked(webhook: &Webhook, chunk: usize) -> Vec<u8> {
    let head = String::from_utf8(webhook.http1_head()).expect("text");
    let length = format!("Content-Length: {}\r\n", webhook.body.len());
    let mut bytes = head
        .replace(&length, "Transfer-Encoding: chunked\r\n")
        .into_bytes();
    for part in webhook.body.chunks(chunk) {
        bytes.extend(format!("{:x}\r\n", part.len()).bytes());
        bytes.extend(part);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

/// The head of an endless body.
fn endless() -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n")
}

fn post(lines: &str) -> Vec<u8> {
    format!("POST /github HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n").into_bytes()
}

fn open(lines: &str) -> Vec<u8> {
    format!("POST /github HTTP/1.1\r\nHost: localhost\r\n{lines}").into_bytes()
}

/// A genuine webhook whose head has so many bytes in all.
fn with_head_of(bytes: usize) -> Vec<u8> {
    let bare = genuine(b"{}").with("A", "").http1_head().len();
    genuine(b"{}").with("A", &"b".repeat(bytes - bare)).http1()
}

/// A genuine webhook with so many fields.
fn with_fields(fields: usize) -> Vec<u8> {
    let mut webhook = genuine(b"{}");
    // `Host` and `Content-Length` come to it.
    for n in webhook.headers.len() + 2..fields {
        webhook = webhook.with(&format!("A-{n}"), "b");
    }
    webhook.http1()
}

/// A body of a gibibyte of nothing as gzip would have it, nested or not; nobody unpacks it.
fn bomb(coding: &str) -> Webhook {
    genuine(&text(1024)).with("Content-Encoding", coding)
}

fn cases() -> Vec<Case> {
    let case = |name, send, status, label| Case {
        name,
        send,
        status,
        label,
    };
    let raw = |name, begin: Vec<u8>, more: &[u8], status, label| {
        case(name, Send::Raw(begin, more.to_vec()), status, label)
    };
    let (one, two) = (Version::Http1, Version::Http2);
    let client = |name, version, webhook, status, label| {
        case(name, Send::Client(version, webhook), status, label)
    };
    let announced = |length: &str| post(&format!("Content-Length: {length}\r\n"));
    let (largest, too_large) = (text(LIMIT), text(LIMIT + 1));
    vec![
        // Bodies, announced.
        client("a body at the limit", one, genuine(&largest), 202, ""),
        client(
            "one byte more",
            one,
            genuine(&too_large),
            413,
            "body_too_large",
        ),
        client(
            "four times as much",
            one,
            genuine(&text(4 * LIMIT)),
            413,
            "body_too_large",
        ),
        raw(
            "one byte more, announced",
            announced(&(LIMIT + 1).to_string()),
            b"",
            413,
            "body_too_large",
        ),
        raw(
            "2^32 announced",
            announced("4294967296"),
            b"",
            413,
            "body_too_large",
        ),
        raw(
            "2^63 announced",
            announced("9223372036854775808"),
            b"",
            413,
            "body_too_large",
        ),
        raw(
            "2^64 announced",
            announced("18446744073709551616"),
            b"",
            400,
            "head_malformed",
        ),
        raw(
            "2^63 announced, and sent",
            announced("9223372036854775808"),
            &[b'x'; 65_536],
            413,
            "body_too_large",
        ),
        raw(
            "announced and asked for",
            post("Content-Length: 9999999\r\nExpect: 100-continue\r\n"),
            b"",
            413,
            "body_too_large",
        ),
        raw(
            "announced and not sent",
            announced("1000"),
            b"",
            408,
            "body_too_slow",
        ),
        // Bodies, not announced.
        raw(
            "chunks up to the limit",
            chunked(&genuine(&largest), 16_384),
            b"",
            202,
            "",
        ),
        raw(
            "chunks of 256 bytes up to the limit",
            chunked(&genuine(&largest), 256),
            b"",
            202,
            "",
        ),
        raw(
            "chunks one byte beyond",
            chunked(&genuine(&too_large), 16_384),
            b"",
            413,
            "body_too_large",
        ),
        raw(
            "chunks without end",
            endless(),
            &[&b"10000\r\n"[..], &[b'x'; 65_536], b"\r\n"].concat(),
            413,
            "body_too_large",
        ),
        raw(
            "short chunks without end",
            endless(),
            &[&b"40\r\n"[..], &[b'x'; 64], b"\r\n"].concat().repeat(1000),
            413,
            "body_too_large",
        ),
        raw(
            "a chunk of 2^60",
            [&endless()[..], b"1000000000000000\r\n"].concat(),
            &[b'x'; 65_536],
            413,
            "body_too_large",
        ),
        raw(
            "an extension without end",
            [&endless()[..], b"1;"].concat(),
            &[b'a'; 65_536],
            400,
            "body_broken",
        ),
        raw(
            "a chunk size without end",
            endless(),
            &[b'0'; 65_536],
            400,
            "body_broken",
        ),
        raw(
            "trailers without end",
            [&endless()[..], b"0\r\n"].concat(),
            &b"A: b\r\n".repeat(1000),
            400,
            "body_broken",
        ),
        raw(
            "a trailer without end",
            [&endless()[..], b"0\r\nA: "].concat(),
            &[b'b'; 65_536],
            400,
            "body_broken",
        ),
        // Heads.
        raw(
            "as many fields as may be",
            with_fields(FIELDS),
            b"",
            202,
            "",
        ),
        raw(
            "one more",
            with_fields(FIELDS + 1),
            b"",
            431,
            "head_too_large",
        ),
        raw("a head at the limit", with_head_of(HEAD), b"", 202, ""),
        raw(
            "one byte more of a head",
            with_head_of(HEAD + 1),
            b"",
            431,
            "head_too_large",
        ),
        raw(
            "fields without end",
            open(""),
            &b"A: b\r\n".repeat(1000),
            431,
            "head_too_large",
        ),
        raw(
            "a field without end",
            open("A: "),
            &[b'b'; 65_536],
            431,
            "head_too_large",
        ),
        raw(
            "a name without end",
            open("A"),
            &[b'a'; 65_536],
            431,
            "head_too_large",
        ),
        raw(
            "a path without end",
            b"POST /".to_vec(),
            &[b'a'; 65_536],
            431,
            "head_too_large",
        ),
        raw(
            "a method without end",
            b"P".to_vec(),
            &[b'P'; 65_536],
            431,
            "head_too_large",
        ),
        client(
            "a path of 10 KB",
            one,
            Webhook::bare(&format!("/{}", "a".repeat(10_000)), b""),
            404,
            "no_such_path",
        ),
        client(
            "a query of 10 KB",
            one,
            Webhook::github(
                &format!("/github?{}", "a".repeat(10_000)),
                "push",
                "0",
                b"{}",
            ),
            202,
            "",
        ),
        client(
            "a request id of 10 KB",
            one,
            genuine(b"{}").with("X-Request-Id", &"a".repeat(10_000)),
            202,
            "",
        ),
        client(
            "an event id of 10 KB",
            one,
            genuine(b"{}").with("X-GitHub-Delivery", &"a".repeat(10_000)),
            202,
            "",
        ),
        // Bombs.
        client("gzip", one, bomb("gzip"), 415, "unsupported_coding"),
        client(
            "gzip twice",
            one,
            bomb("gzip, gzip"),
            415,
            "unsupported_coding",
        ),
        client("brotli", one, bomb("br"), 415, "unsupported_coding"),
        client(
            "JSON, 100,000 deep",
            one,
            genuine(&b"[".repeat(100_000)),
            400,
            "malformed",
        ),
        client(
            "a number of 200 KB",
            one,
            genuine(&[b"0.", &b"1".repeat(200_000)[..]].concat()),
            202,
            "",
        ),
        client(
            "200 KB of escapes",
            one,
            genuine(&[b"\"", &b"\\u0000".repeat(33_000)[..], b"\""].concat()),
            202,
            "",
        ),
        // HTTP/2.
        client(
            "HTTP/2: a body at the limit",
            two,
            genuine(&largest),
            202,
            "",
        ),
        client(
            "HTTP/2: one byte more",
            two,
            genuine(&too_large),
            413,
            "body_too_large",
        ),
        client(
            "HTTP/2: four times as much",
            two,
            genuine(&text(4 * LIMIT)),
            413,
            "body_too_large",
        ),
        client(
            "HTTP/2: a path of 10 KB",
            two,
            Webhook::bare(&format!("/{}", "a".repeat(10_000)), b""),
            404,
            "no_such_path",
        ),
        // h2 answers this one alone, so nobody here can count it.
        client(
            "HTTP/2: a head of 17 KB",
            two,
            genuine(b"{}").with("A", &"b".repeat(17_000)),
            431,
            "",
        ),
    ]
}

/// Sends one; gives its status.
async fn one(sender: &Sender, case: &Case, n: u32) -> u16 {
    match &case.send {
        Send::Client(version, webhook) => {
            let id = "X-GitHub-Delivery";
            let long = webhook
                .headers
                .iter()
                .any(|(name, value)| name == id && value.len() > 1);
            // Each is an event of its own.
            let webhook = if long {
                webhook.clone()
            } else {
                webhook.clone().with(id, &unique(n))
            };
            let mut client = sender.connect(*version).await.expect("a connection");
            client.send(&webhook).await.expect("an answer").status
        }
        Send::Raw(begin, more) => {
            let mut stream = sender.stream(&[b"http/1.1"]).await.expect("a connection");
            let begin = String::from_utf8_lossy(begin).replace(
                "X-GitHub-Delivery: 0",
                &format!("X-GitHub-Delivery: {}", n % 10),
            );
            drop(stream.write_all(begin.as_bytes()).await);
            drop(stream.flush().await);
            if !more.is_empty() {
                let (mut read, mut write) = tokio::io::split(stream);
                let sending = async {
                    while write.write_all(more).await.is_ok() {}
                    std::future::pending::<()>().await;
                };
                let mut first = [0; 12];
                tokio::select! {
                    () = sending => {}
                    came = read.read_exact(&mut first) => { came.expect("an answer"); }
                }
                let text = String::from_utf8_lossy(&first[9..]).into_owned();
                return text.parse().expect("a status");
            }
            Answer::from_raw(&mut stream)
                .await
                .expect("an answer")
                .status
        }
    }
}

fn unique(n: u32) -> String {
    format!("{n}-{}", fastrand::u64(..))
}

/// Sends many at once; gives how far memory went above `floor`.
async fn many(gateway: &Gateway, case: &'static Case, floor: u64) -> u64 {
    let usage = Usage::of(gateway.pid());
    usage.forget_peak();
    let before = gateway.metrics().await;
    let mut tasks = JoinSet::new();
    for n in 0..AT_ONCE {
        let sender = gateway.sender().from(n);
        tasks.spawn(async move {
            let answered = timeout(ANSWERED_WITHIN, one(&sender, case, n)).await;
            let status = answered.unwrap_or_else(|late| panic!("{}: {late}", case.name));
            assert_eq!(status, case.status, "{}", case.name);
        });
    }
    tasks.join_all().await;
    let name = if case.label.is_empty() {
        "hookgate_accepted_total"
    } else {
        "hookgate_rejected_total"
    };
    let labels = [("reason", case.label)];
    let labels = if case.label.is_empty() {
        &[][..]
    } else {
        &labels[..]
    };
    if case.status != 431 || !case.label.is_empty() {
        eventually(case.name, || async {
            let all = gateway.metrics().await.sum(name, labels) - before.sum(name, labels);
            let copies = gateway.metrics().await.sum("hookgate_duplicate_total", &[])
                - before.sum("hookgate_duplicate_total", &[]);
            let booked = if case.label.is_empty() {
                all + copies
            } else {
                all
            };
            if booked == f64::from(AT_ONCE) {
                Ok(())
            } else {
                Err(format!("{booked} booked"))
            }
        })
        .await;
    }
    usage.peak().saturating_sub(floor)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_costs_more_memory_than_its_limit() {
    let limit = format!("max_body = \"{}KiB\"", LIMIT / 1024);
    let gateway = Setup::new()
        .limits("body_timeout = \"5s\"\nheader_timeout = \"2s\"")
        .sources(&source("github", "github", &limit))
        .start()
        .await;
    let cases: &'static [Case] = Vec::leak(cases());
    assert!(cases.len() >= 40, "{} cases", cases.len());
    // As many connections with something small, so that what is measured is size.
    let small: &'static Case = Box::leak(Box::new(Case {
        name: "something small",
        send: Send::Client(Version::Http1, genuine(b"{}")),
        status: 202,
        label: "",
    }));
    many(&gateway, small, 0).await;
    let floor = Usage::of(gateway.pid()).resident();
    let mut most = (0, "");
    for case in cases {
        let growth = many(&gateway, case, floor).await / u64::from(AT_ONCE);
        most = most.max((growth, case.name));
    }
    assert!(most.0 <= EACH_MAX, "{most:?}, of {EACH_MAX}");
    balance(&gateway).await;
    Row::new("X4")
        .saw("kinds of request", cases.len())
        .saw("of each at once", AT_ONCE)
        .saw("longest body", mib(LIMIT as u64))
        .saw("most memory for one", mib(most.0))
        .saw("by", most.1)
        .write();
}
