use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::edge::activity::Protocol;
use crate::edge::testing::{ByHead, read_to_end, served, terms};

/// What the gate's refusals are answered here, to tell them from hyper's.
const OURS: u16 = 418;

/// Sends raw bytes as HTTP/1 and gives what the gate said of each request, one line each; or
/// hyper's status line where hyper refused before.
async fn gate_says(raw: &[u8]) -> String {
    let say = |head: &Parts| {
        let (status, verdict) = match check(head) {
            Ok(()) => (200, format!("pass {}", head.uri.path())),
            Err(Reject::Ambiguous(part)) => (OURS, format!("ambiguous: {part}")),
            Err(reject) => (OURS, reject.label().to_owned()),
        };
        let body = Full::new(Bytes::from(format!("{verdict}\n")));
        Response::builder().status(status).body(body).unwrap()
    };
    let (mut client, serving) = served(Protocol::Http1, &terms(), ByHead(say));
    client.write_all(raw).await.unwrap();
    // The connection is closed when it has been idle for long enough.
    let answers = read_to_end(&mut client).await;
    serving.await.unwrap();
    let verdicts = answers.lines().filter(|line| {
        let status = line.strip_prefix("HTTP/1.1 ");
        let by_hyper =
            status.is_some_and(|status| !status.starts_with("200") && !status.starts_with("418"));
        let by_us = ["pass ", "ambiguous: ", "no_such_path"];
        by_hyper || by_us.iter().any(|verdict| line.starts_with(verdict))
    });
    verdicts.collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn same(name: &str, said: &str, expected: &str) {
    assert!(
        said.starts_with(expected) && (expected.is_empty() == said.is_empty()),
        "{name}: expected {expected:?}, got {said:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn raw_heads() {
    let table: &[(&str, &str, &str)] = &[
        (
            "plain",
            "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
            "pass /a",
        ),
        (
            "port",
            "POST /a HTTP/1.1\r\nHost: h:8443\r\n\r\n",
            "pass /a",
        ),
        (
            "query",
            "POST /a?b=%20..// HTTP/1.1\r\nHost: h\r\n\r\n",
            "pass /a",
        ),
        (
            "chunked",
            "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "pass /a",
        ),
        (
            "Chunked",
            "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
            "pass /a",
        ),
        (
            "gzip, chunked",
            "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "ambiguous: Transfer-Encoding",
        ),
        (
            "identity twice",
            "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "ambiguous: Transfer-Encoding",
        ),
        (
            "chunked twice",
            "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "ambiguous: Transfer-Encoding",
        ),
        (
            "chunked, identity",
            "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "xchunked",
            "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "two lengths",
            "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "length list",
            "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0, 0\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "signed length",
            "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: +0\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "no host",
            "POST /a HTTP/1.1\r\n\r\n",
            "ambiguous: there is no Host",
        ),
        (
            "no host, 1.0",
            "POST /a HTTP/1.0\r\n\r\n",
            "ambiguous: there is no Host",
        ),
        (
            "empty host",
            "POST /a HTTP/1.1\r\nHost:\r\n\r\n",
            "ambiguous: Host is not a host",
        ),
        (
            "host list",
            "POST /a HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "ambiguous: Host is not a host",
        ),
        (
            "host path",
            "POST /a HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "ambiguous: Host is not a host",
        ),
        (
            "two hosts",
            "POST /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "ambiguous: there is more than one Host",
        ),
        (
            "user",
            "POST /a HTTP/1.1\r\nHost: u@h\r\n\r\n",
            "ambiguous: the host has a user",
        ),
        (
            "absolute",
            "POST http://H/a HTTP/1.1\r\nHost: h\r\n\r\n",
            "pass /a",
        ),
        (
            "absolute, other",
            "POST http://evil/a HTTP/1.1\r\nHost: h\r\n\r\n",
            "ambiguous: Host is not the host",
        ),
        (
            "absolute, alone",
            "POST http://h/a HTTP/1.1\r\n\r\n",
            "ambiguous: there is no Host",
        ),
        (
            "absolute, user",
            "POST http://u@h/a HTTP/1.1\r\nHost: h\r\n\r\n",
            "ambiguous: the host has a user",
        ),
        (
            "connect",
            "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n",
            "ambiguous: CONNECT",
        ),
        (
            "asterisk",
            "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
            "no_such_path",
        ),
        (
            "upgrade",
            "POST /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
            "ambiguous: Upgrade",
        ),
        (
            "expect",
            "POST /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n",
            "pass /a",
        ),
        (
            "expect more",
            "POST /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue, more\r\n\r\n",
            "ambiguous: Expect",
        ),
        (
            "expect twice",
            "POST /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nExpect: 100-continue\r\n\r\n",
            "ambiguous: Expect",
        ),
        (
            "underscore",
            "POST /a HTTP/1.1\r\nHost: h\r\nX_Signature: 1\r\n\r\n",
            "ambiguous: a header name",
        ),
        (
            "te underscore",
            "POST /a HTTP/1.1\r\nHost: h\r\nTransfer_Encoding: chunked\r\n\r\n",
            "ambiguous: a header name",
        ),
        (
            "two types",
            "POST /a HTTP/1.1\r\nHost: h\r\nContent-Type: a/b\r\nContent-Type: a/b\r\n\r\n",
            "ambiguous: there is more than one Content-Type",
        ),
        (
            "two codings",
            "POST /a HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Encoding: br\r\n\r\n",
            "ambiguous: there is more than one Content-Encoding",
        ),
        (
            "percent",
            "POST /%61 HTTP/1.1\r\nHost: h\r\n\r\n",
            "no_such_path",
        ),
        (
            "dots",
            "POST /b/../a HTTP/1.1\r\nHost: h\r\n\r\n",
            "no_such_path",
        ),
        (
            "slashes",
            "POST //a HTTP/1.1\r\nHost: h\r\n\r\n",
            "no_such_path",
        ),
        (
            "parameter",
            "POST /a;b HTTP/1.1\r\nHost: h\r\n\r\n",
            "no_such_path",
        ),
        (
            "backslash",
            "POST /a\\b HTTP/1.1\r\nHost: h\r\n\r\n",
            "no_such_path",
        ),
        (
            "space before colon",
            "POST /a HTTP/1.1\r\nHost : h\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "folded",
            "POST /a HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "two spaces",
            "POST  /a HTTP/1.1\r\nHost: h\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "1.0 and chunked",
            "POST /a HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 400",
        ),
        ("h2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
    ];
    for (name, raw, expected) in table {
        let said = gate_says(raw.as_bytes()).await;
        same(name, &said, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_text() {
    let table: &[(&str, &[u8], &str)] = &[
        (
            "nul in value",
            b"POST /a HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "bare cr in value",
            b"POST /a HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "escape in value",
            b"POST /a HTTP/1.1\r\nHost: h\r\nX: \x1b[31m\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "high byte in host",
            b"POST /a HTTP/1.1\r\nHost: h\xff\r\n\r\n",
            "ambiguous: Host",
        ),
        (
            "nul in path",
            b"POST /a\0 HTTP/1.1\r\nHost: h\r\n\r\n",
            "HTTP/1.1 400",
        ),
    ];
    for (name, raw, expected) in table {
        let said = gate_says(raw).await;
        same(name, &said, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_smuggled_request_is_never_served() {
    let table: &[(&str, &str)] = &[
        (
            "length, then chunked",
            "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
        ),
        (
            "chunked, then length",
            "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
        ),
        (
            "upgrade, then bytes",
            "GET /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 45\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
        ),
    ];
    for (name, raw) in table {
        let said = gate_says(raw.as_bytes()).await;
        assert!(!said.contains("smuggled"), "{name}: {said}");
    }
}

fn h2(uri: &str, host: Option<&str>) -> Parts {
    let mut builder = http::Request::builder().version(Version::HTTP_2).uri(uri);
    if let Some(host) = host {
        builder = builder.header(HOST, host);
    }
    builder.body(()).unwrap().into_parts().0
}

#[test]
fn http2_names_its_host_once_or_twice_the_same() {
    assert_eq!(check(&h2("https://h/a", None)), Ok(()));
    assert_eq!(check(&h2("https://h/a", Some("H"))), Ok(()));
    assert_eq!(check(&h2("/a", Some("h"))), Ok(()));
    for head in [h2("https://h/a", Some("evil")), h2("/a", None)] {
        assert!(matches!(check(&head), Err(Reject::Ambiguous(_))));
    }
    let mut chunked = h2("https://h/a", None);
    let value = http::HeaderValue::from_static("chunked");
    chunked.headers.insert(TRANSFER_ENCODING, value);
    assert!(matches!(check(&chunked), Err(Reject::Ambiguous(_))));
}
