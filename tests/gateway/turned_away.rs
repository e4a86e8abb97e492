//! Every way to be turned away that can be provoked from outside: what the sender reads, what is
//! counted, and that nothing of it was kept.
//!
//! `draining` is in `shutdown`, `body_too_slow` in `slow_peers`. A `defect` cannot be provoked.

use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::support::balance::balance;
use crate::support::broker;
use crate::support::eventually::eventually;
use crate::support::gateway::{Gateway, Setup, source};
use crate::support::proxy::{Mode, Proxy};
use crate::support::sender::{Answer, Version, until_closed};
use crate::support::webhook::{Webhook, unix_now};

const BODY: &[u8] = br#"{"after":"6113728f"}"#;

fn push(id: &str) -> Webhook {
    Webhook::github("/github", "push", id, BODY)
}

/// What every refusal has: a problem document with the label as its code, the request's id in
/// both places, and nothing that was not asked for.
#[track_caller]
fn assert_problem(answer: &Answer, status: u16, code: &str) -> Value {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, status, "{text}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    let problem = answer.json();
    assert_eq!(problem["code"], code, "{text}");
    assert_eq!(problem["status"], status, "{text}");
    for field in ["type", "title", "detail", "instance"] {
        assert!(
            problem[field].as_str().is_some_and(|text| !text.is_empty()),
            "{field}: {text}"
        );
    }
    let id = answer.header("x-request-id").expect("X-Request-Id");
    assert!(
        problem["instance"]
            .as_str()
            .is_some_and(|it| it.contains(id)),
        "{id}: {text}"
    );
    problem
}

/// Counted once under its label, and nothing was accepted, published or stored.
async fn assert_counted(gateway: &Gateway, source: &str, code: &str) {
    eventually("the refusal to be counted", || async {
        match gateway.metrics().await.rejected(source, code) {
            1.0 => Ok(()),
            n => Err(format!("{n} of {code}")),
        }
    })
    .await;
    balance(gateway).await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("hookgate_accepted_total", &[]), 0.0);
    assert_eq!(metrics.sum("hookgate_journal_waiting", &[]), 0.0);
}

/// Sends one webhook to a GitHub source with more lines, and checks all that a refusal is.
async fn refused(lines: &str, webhook: Webhook, status: u16, code: &str) -> Answer {
    let gateway = Setup::new()
        .sources(&source("github", "github", lines))
        .start()
        .await;
    let answer = gateway.send(&webhook).await;
    assert_problem(&answer, status, code);
    assert_counted(&gateway, "github", code).await;
    answer
}

/// The same for a request that a well-behaved client cannot make.
async fn refused_raw(request: &[u8], status: u16, code: &str, source: &str) {
    let gateway = Setup::new().start().await;
    let mut stream = gateway.sender().raw(request).await;
    let answer = Answer::from_raw(&mut stream).await.expect("an answer");
    assert_problem(&answer, status, code);
    // Whatever else the bytes could mean is never read as a request.
    until_closed(&mut stream).await;
    assert_counted(&gateway, source, code).await;
}

#[tokio::test]
async fn no_such_path() {
    let gateway = Setup::new().start().await;
    for path in [
        "/gitlab",
        "/",
        "/github/",
        "/GITHUB",
        "/%67ithub",
        "//github",
        "/x/../github",
    ] {
        let answer = gateway
            .send(&Webhook::github(path, "push", "x", BODY))
            .await;
        assert_problem(&answer, 404, "no_such_path");
    }
    assert_eq!(
        gateway.metrics().await.rejected("_unknown", "no_such_path"),
        7.0
    );
    balance(&gateway).await;
    // Paths are the sender's words: they never become labels.
    let sources = gateway
        .metrics()
        .await
        .values("hookgate_received_total", "source");
    assert_eq!(sources, ["_unknown", "github"]);
}

#[tokio::test]
async fn method_not_allowed() {
    let answer = refused("", push("x").method("PUT"), 405, "method_not_allowed").await;
    assert_eq!(answer.header("allow"), Some("POST"));
}

#[tokio::test]
async fn address_not_allowed() {
    let lines = "allow_ips = [\"203.0.113.0/24\", \"2001:db8::/32\"]";
    refused(lines, push("x"), 403, "address_not_allowed").await;
}

#[tokio::test]
async fn ambiguous_two_hosts() {
    let request = b"POST /github HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 2\r\n\r\n{}";
    refused_raw(request, 400, "ambiguous", "_unknown").await;
}

#[tokio::test]
async fn ambiguous_no_host() {
    let request = b"POST /github HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}";
    refused_raw(request, 400, "ambiguous", "_unknown").await;
}

#[tokio::test]
async fn ambiguous_transfer_coding() {
    let request = b"POST /github HTTP/1.1\r\nHost: a\r\n\
                    Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    refused_raw(request, 400, "ambiguous", "_unknown").await;
}

#[tokio::test]
async fn a_smuggled_request_is_never_served() {
    let gateway = Setup::new().start().await;
    let inner = push("smuggled").http1();
    let mut outer = b"POST /github HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\
                      Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        .to_vec();
    outer.extend_from_slice(&inner);
    let mut stream = gateway.sender().raw(&outer).await;
    until_closed(&mut stream).await;
    balance(&gateway).await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("hookgate_accepted_total", &[]), 0.0);
    assert!(metrics.sum("hookgate_received_total", &[]) <= 1.0);
}

/// All failed proofs: absent, wrong, of another body, stale. The sender reads one text for all.
#[tokio::test]
async fn unverified() {
    let sources = [
        source("github", "github", ""),
        source("stripe", "stripe", ""),
    ]
    .concat();
    let gateway = Setup::new().sources(&sources).start().await;
    let signed = push("x");
    let another = Webhook {
        body: b"{}".to_vec(),
        ..signed.clone()
    };
    let stripe_body = br#"{"id":"evt_1","type":"invoice.paid"}"#;
    let stale = unix_now() - 3600;
    let early = unix_now() + 3600;
    let attempts = [
        signed.clone().without("X-Hub-Signature-256"),
        signed.clone().with("X-Hub-Signature-256", ""),
        signed.clone().with("X-Hub-Signature-256", "sha256="),
        signed
            .clone()
            .with("X-Hub-Signature-256", &format!("sha256={}", "0".repeat(64))),
        signed
            .clone()
            .with("X-Hub-Signature-256", "sha256=not-hexadecimal"),
        another,
        Webhook::stripe("/stripe", stale, stripe_body),
        Webhook::stripe("/stripe", early, stripe_body),
        Webhook::stripe("/stripe", unix_now(), stripe_body).without("Stripe-Signature"),
    ];
    let mut texts = Vec::new();
    for attempt in &attempts {
        let problem = assert_problem(&gateway.send(attempt).await, 401, "unverified");
        texts.push((problem["title"].clone(), problem["detail"].clone()));
    }
    texts.dedup();
    assert_eq!(
        texts.len(),
        1,
        "the sender learns what was wrong: {texts:?}"
    );
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.rejected("github", "unverified"), 6.0);
    assert_eq!(metrics.rejected("stripe", "unverified"), 3.0);
    assert_eq!(metrics.sum("hookgate_refusals_total", &[]), 9.0);
    assert_eq!(metrics.sum("hookgate_journal_waiting", &[]), 0.0);
    balance(&gateway).await;
    // What was right stays a secret in the log, too.
    let proof = &signed
        .headers
        .iter()
        .find(|(name, _)| name == "X-Hub-Signature-256")
        .unwrap()
        .1;
    assert!(
        !gateway.log().contains(proof.trim_start_matches("sha256=")),
        "a whole signature"
    );
}

#[tokio::test]
async fn body_too_large() {
    let body = vec![b' '; 2000];
    let webhook = Webhook::github("/github", "push", "x", &body);
    refused("max_body = \"1KiB\"", webhook, 413, "body_too_large").await;
}

/// A source whose longest body is 1 MiB; GitHub's preset has more.
fn one_mebibyte() -> Setup {
    Setup::new().sources(&source("github", "github", "max_body = \"1MiB\""))
}

/// The announced length alone is enough; nobody waits for the bytes.
#[tokio::test]
async fn body_too_large_by_its_announcement() {
    let request = b"POST /github HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999\r\n\r\n";
    refused_raw(request, 413, "body_too_large", "github").await;
}

#[tokio::test]
async fn body_too_large_without_an_announcement() {
    let mut request =
        b"POST /github HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..40 {
        request.extend_from_slice(b"8000\r\n");
        request.extend_from_slice(&[b' '; 0x8000]);
        request.extend_from_slice(b"\r\n");
    }
    let gateway = one_mebibyte().start().await;
    let mut stream = gateway.sender().stream(&[b"http/1.1"]).await.unwrap();
    // The gateway may close while we still write.
    drop(stream.write_all(&request).await);
    drop(stream.flush().await);
    drop(until_closed(&mut stream).await);
    assert_counted(&gateway, "github", "body_too_large").await;
}

#[tokio::test]
async fn body_broken() {
    let gateway = Setup::new().start().await;
    let mut stream = gateway.sender().raw(&push("x").http1_head()).await;
    stream.write_all(b"{\"a").await.unwrap();
    stream.flush().await.unwrap();
    gateway.until_request_is_under_way().await;
    drop(stream);
    // The sender is gone; the books hold its request all the same.
    assert_counted(&gateway, "github", "body_broken").await;

    let chunks = b"POST /github HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    let mut stream = gateway.sender().raw(chunks).await;
    if let Some(answer) = Answer::from_raw(&mut stream).await {
        assert_problem(&answer, 400, "body_broken");
    }
    balance(&gateway).await;
}

#[tokio::test]
async fn unsupported_type() {
    let webhook = push("x").with("Content-Type", "application/octet-stream");
    refused("", webhook, 415, "unsupported_type").await;
}

#[tokio::test]
async fn unsupported_coding() {
    refused(
        "",
        push("x").with("Content-Encoding", "gzip"),
        415,
        "unsupported_coding",
    )
    .await;
}

#[tokio::test]
async fn malformed() {
    let webhook = Webhook::github("/github", "push", "x", br#"{"after": "#);
    refused("", webhook, 400, "malformed").await;
}

#[tokio::test]
async fn schema_violated() {
    let schema = br#"{"type":"object","required":["after"],
        "properties":{"token":{"type":"integer"},"after":{"type":"string"}}}"#;
    let lines = "schema = \"push.json\"";
    let gateway = Setup::new()
        .file("push.json", schema)
        .sources(&source("github", "github", lines))
        .start()
        .await;
    let body = br#"{"token":"a-value-of-the-sender"}"#;
    let answer = gateway
        .send(&Webhook::github("/github", "push", "x", body))
        .await;
    let problem = assert_problem(&answer, 422, "schema_violated");
    let errors = problem["errors"].as_array().expect("errors");
    let pointers: Vec<_> = errors
        .iter()
        .filter_map(|error| error["pointer"].as_str())
        .collect();
    assert!(pointers.contains(&"/token"), "{problem}");
    assert_eq!(errors.len(), 2, "{problem}");
    for error in errors {
        assert!(
            error["detail"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{problem}"
        );
    }
    assert!(
        !problem.to_string().contains("a-value-of-the-sender"),
        "{problem}"
    );
    assert_counted(&gateway, "github", "schema_violated").await;
}

#[track_caller]
fn assert_limited(answer: &Answer, code: &str) {
    assert_problem(answer, 429, code);
    let seconds: u64 = answer
        .header("retry-after")
        .expect("Retry-After")
        .parse()
        .expect("seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");
    for name in ["ratelimit", "ratelimit-policy"] {
        assert!(answer.header(name).is_some(), "{name}: {answer:?}");
    }
}

#[tokio::test]
async fn source_limited() {
    let lines = "rate_limit = { rate = \"1/m\", burst = 2 }";
    let gateway = Setup::new()
        .sources(&source("github", "github", lines))
        .start()
        .await;
    let mut client = gateway.connect(Version::Http1).await;
    // What a stranger sends does not count.
    let forged = push("f").with("X-Hub-Signature-256", &format!("sha256={}", "0".repeat(64)));
    for _ in 0..5 {
        assert_eq!(client.send(&forged).await.unwrap().status, 401);
    }
    for id in ["a", "b"] {
        assert_eq!(client.send(&push(id)).await.unwrap().status, 202);
    }
    assert_limited(&client.send(&push("c")).await.unwrap(), "source_limited");
    assert_eq!(
        gateway.metrics().await.rejected("github", "source_limited"),
        1.0
    );
    balance(&gateway).await;
}

#[tokio::test]
async fn peer_limited() {
    let lines = "peer_rate_limit = { rate = \"1/m\", burst = 2 }";
    let gateway = Setup::new()
        .sources(&source("github", "github", lines))
        .start()
        .await;
    for id in ["a", "b"] {
        assert_eq!(gateway.send(&push(id)).await.status, 202);
    }
    assert_limited(&gateway.send(&push("c")).await, "peer_limited");
    assert_eq!(
        gateway.metrics().await.rejected("github", "peer_limited"),
        1.0
    );
    balance(&gateway).await;
}

#[track_caller]
fn assert_ours(answer: &Answer, code: &str) {
    assert_problem(answer, 503, code);
    let seconds: u64 = answer
        .header("retry-after")
        .expect("Retry-After")
        .parse()
        .expect("seconds");
    assert!(seconds >= 1);
}

#[tokio::test]
async fn journal_full_and_room_again() {
    let broker = broker::shared().await;
    let proxy = Proxy::start(broker.address()).await;
    proxy.set(Mode::Refuse);
    let gateway = Setup::new()
        .broker_at(proxy.address())
        .journal("max_size = \"8MiB\"\nretain = \"1s\"")
        .start()
        .await;
    let mut body = br#"{"pad":""#.to_vec();
    body.resize(500_000, b'x');
    body.extend_from_slice(br#""}"#);
    let mut client = gateway.connect(Version::Http1).await;
    let mut accepted = 0;
    let full = loop {
        let id = format!("{accepted}");
        let answer = client
            .send(&Webhook::github("/github", "push", &id, &body))
            .await
            .unwrap();
        if answer.status != 202 {
            break answer;
        }
        accepted += 1;
        assert!(accepted < 40, "the journal has no end");
    };
    assert_ours(&full, "journal_full");
    assert!(accepted > 0, "nothing fits");
    assert!(gateway.metrics().await.rejected("github", "journal_full") >= 1.0);

    proxy.set(Mode::Forward);
    gateway.consume(broker).await.wait_for(accepted).await;
    eventually("room", || async {
        let answer = gateway.send(&push("room")).await;
        if answer.status == 503 {
            Err(format!("{answer:?}"))
        } else {
            Ok(())
        }
    })
    .await;
    balance(&gateway).await;
}

/// One failed sync, and nothing is acknowledged any more: what a second sync would say about the
/// bytes of the first is not to be believed.
#[tokio::test]
async fn journal_failed() {
    let mut gateway = Setup::new().start().await;
    assert_eq!(gateway.send(&push("before")).await.status, 202);
    let pid = gateway.pid().as_raw_nonzero().to_string();
    let mut tracer = tokio::process::Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=fsync,fdatasync,sync_file_range"])
        .args([
            "-e",
            "inject=fsync,fdatasync,sync_file_range:error=EIO",
            "-p",
            &pid,
        ])
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("strace: run deploy/install-dependencies.sh");
    let mut n = 0;
    let failed = eventually("a sync to fail", || {
        n += 1;
        let webhook = push(&format!("{n}"));
        let gateway = &gateway;
        async move {
            let answer = gateway.send(&webhook).await;
            if answer.status == 202 {
                Err("still accepted".to_owned())
            } else {
                Ok(answer)
            }
        }
    })
    .await;
    assert_ours(&failed, "journal_failed");
    // Whoever supervises the process starts another.
    let status = gateway.ended().await;
    assert_eq!(status.code(), Some(1), "{}", gateway.log());
    tracer.wait().await.unwrap();
    gateway.start().await;
    assert_eq!(gateway.send(&push("mended")).await.status, 202);
    balance(&gateway).await;
}

async fn with_ack_broker(confirm: &str, accept: &str, code: &str) {
    let broker = broker::shared().await;
    let proxy = Proxy::start(broker.address()).await;
    let gateway = Setup::new()
        .broker_at(proxy.address())
        .broker_lines(&format!("confirm_timeout = \"{confirm}\""))
        .limits(&format!("accept_timeout = \"{accept}\""))
        .sources(&source("github", "github", "ack = \"broker\""))
        .start()
        .await;
    // Connected, and confirms come.
    eventually("the broker to confirm", || async {
        let answer = gateway.send(&push("first")).await;
        if answer.status == 503 {
            Err(format!("{answer:?}"))
        } else {
            Ok(())
        }
    })
    .await;
    let before = gateway.metrics().await.rejected("github", code);
    proxy.set(Mode::Stall);
    assert_ours(&gateway.send(&push("second")).await, code);
    assert_eq!(
        gateway.metrics().await.rejected("github", code),
        before + 1.0
    );
    proxy.set(Mode::Forward);
    balance(&gateway).await;
}

#[tokio::test]
async fn broker_unavailable() {
    with_ack_broker("1s", "10s", "broker_unavailable").await;
}

#[tokio::test]
async fn too_slow() {
    with_ack_broker("10s", "300ms", "too_slow").await;
}

#[tokio::test]
async fn overloaded() {
    let gateway = Setup::new()
        .limits("max_requests_in_flight = 1")
        .start()
        .await;
    let mut held = gateway.sender().raw(&push("held").http1_head()).await;
    gateway.until_request_is_under_way().await;
    assert_ours(&gateway.send(&push("one more")).await, "overloaded");
    held.write_all(BODY).await.unwrap();
    held.flush().await.unwrap();
    assert_eq!(
        Answer::from_raw(&mut held).await.expect("an answer").status,
        202
    );
    assert_eq!(
        gateway.metrics().await.rejected("github", "overloaded"),
        1.0
    );
    balance(&gateway).await;
}

#[tokio::test]
async fn overloaded_by_bytes() {
    let gateway = one_mebibyte()
        .limits("max_bytes_in_flight = \"1MiB\"")
        .start()
        .await;
    let body = vec![b' '; 900_000];
    let large = Webhook::github("/github", "push", "large", &body);
    // All of it but its last byte: room is taken as bytes come.
    let whole = large.http1();
    let other = gateway.sender().from(1);
    let mut held = Vec::new();
    for wait in 1..20 {
        let mut stream = gateway.sender().stream(&[b"http/1.1"]).await.unwrap();
        stream.write_all(&whole[..whole.len() - 1]).await.unwrap();
        stream.flush().await.unwrap();
        held = vec![stream];
        gateway.until_request_is_under_way().await;
        // What has not been read by then may be what is refused: then once more, with more time.
        tokio::time::sleep(wait * Duration::from_millis(100)).await;
        let answer = other.send(&large).await;
        if answer.status == 503 {
            assert_ours(&answer, "overloaded");
            break;
        }
        held.clear();
    }
    assert!(!held.is_empty(), "the bytes were never claimed");
    // There is room for a small one, but not of the address that has more than its share.
    assert_eq!(other.send(&push("small")).await.status, 202);
    assert_ours(&gateway.send(&push("small too")).await, "overloaded");
}

/// Not a verdict of the pipeline: the head itself is refused.
#[tokio::test]
async fn a_head_that_is_too_large() {
    let gateway = Setup::new().start().await;
    let webhook = push("x").with("X-Long", &"x".repeat(100_000));
    let mut stream = gateway.sender().stream(&[b"http/1.1"]).await.unwrap();
    drop(stream.write_all(&webhook.http1()).await);
    drop(stream.flush().await);
    if let Some(answer) = Answer::from_raw(&mut stream).await {
        assert_problem(&answer, 431, "head_too_large");
    }
    balance(&gateway).await;
    assert_eq!(
        gateway.metrics().await.sum("hookgate_accepted_total", &[]),
        0.0
    );
    assert_eq!(gateway.send(&push("small")).await.status, 202);
}
