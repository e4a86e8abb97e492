//! Requests that two HTTP implementations could read differently, directly and behind proxies.
//!
//! The cases are what request smuggling is made of. Directly, each has the answers that it should
//! have, and no bytes that belong to a body are ever taken for a request. Behind nginx and HAProxy,
//! both set to be as lenient as they can be, no input makes more requests here than the proxy
//! thinks it has sent; `/smuggled` is the path that the proxies keep everybody from.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::balance::balance;
use crate::support::eventually::eventually;
use crate::support::figures::Row;
use crate::support::gateway::{Gateway, Metrics, Setup, free_port};
use crate::support::sender::{Sender, Stream, Version};
use crate::support::webhook::Webhook;

/// After so long without a byte nothing more comes: every deadline of the gateway is shorter.
const QUIET: Duration = Duration::from_millis(600);
/// What a case tries to get past the rules.
const SMUGGLED: &str = "POST /smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";

/// One input.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    /// Every status that comes back, in order.
    answers: &'static [u16],
    /// How many requests get as far as the pipeline.
    arrive: u32,
}

fn case(name: &'static str, bytes: impl AsRef<[u8]>, answers: &'static [u16], arrive: u32) -> Case {
    let bytes = bytes.as_ref().to_vec();
    Case {
        name,
        bytes,
        answers,
        arrive,
    }
}

/// A request to the path that takes everything, with header lines and what follows the head.
fn post(lines: &str, rest: &str) -> String {
    format!("POST /front HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n{rest}")
}

/// The same with a transfer coding, a whole chunked body, and a request behind it.
fn coded(lines: &str) -> String {
    post(lines, &format!("5\r\nhello\r\n0\r\n\r\n{SMUGGLED}"))
}

/// A chunked body and a request behind it.
fn chunked(body: &str) -> String {
    post(
        "Transfer-Encoding: chunked\r\n",
        &format!("{body}{SMUGGLED}"),
    )
}

/// Framing: where one request ends and the next begins.
fn framing() -> Vec<Case> {
    let hidden = SMUGGLED.len();
    let length = format!("Content-Length: {hidden}\r\n");
    vec![
        case("plain", post(&length, SMUGGLED), &[202], 1),
        case(
            "pipelined",
            post("Content-Length: 2\r\n", "{}") + &post("Content-Length: 2\r\n", "{}"),
            &[202, 202],
            2,
        ),
        case(
            "coding obfuscated",
            coded("Transfer-Encoding: xchunked\r\n"),
            &[400],
            0,
        ),
        case(
            "coding chunked, identity",
            coded("Transfer-Encoding: chunked, identity\r\n"),
            &[400],
            0,
        ),
        case(
            "coding after a vertical tab",
            coded("Transfer-Encoding: \x0bchunked\r\n"),
            &[400],
            0,
        ),
        case(
            "coding gzip, chunked",
            coded("Transfer-Encoding: gzip, chunked\r\n"),
            &[400],
            0,
        ),
        case(
            "coding identity and chunked",
            coded("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"),
            &[400],
            0,
        ),
        case(
            "coding chunked and chunked",
            coded("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            &[400],
            0,
        ),
        case(
            "coding with a parameter",
            coded("Transfer-Encoding: chunked;q=1\r\n"),
            &[400],
            0,
        ),
        case("coding empty", coded("Transfer-Encoding:\r\n"), &[400], 0),
        case(
            "coding with an underscore",
            coded("Transfer_Encoding: chunked\r\nContent-Length: 5\r\n"),
            &[400],
            0,
        ),
        case(
            "coding with a space before the colon",
            coded("Transfer-Encoding : chunked\r\n"),
            &[400],
            0,
        ),
        case(
            "coding on a folded line",
            coded("A: b\r\n Transfer-Encoding: chunked\r\n"),
            &[400],
            0,
        ),
        case(
            "coding folded",
            coded("Transfer-Encoding:\r\n chunked\r\n"),
            &[400],
            0,
        ),
        case(
            "coding in HTTP/1.0",
            "POST /front HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            &[400],
            0,
        ),
        case(
            "length, then coding",
            coded(&format!("{length}Transfer-Encoding: chunked\r\n")),
            &[202],
            1,
        ),
        case(
            "coding, then length",
            coded(&format!("Transfer-Encoding: chunked\r\n{length}")),
            &[202],
            1,
        ),
        case(
            "CL.TE",
            post(
                "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
                &format!("0\r\n\r\n{SMUGGLED}"),
            ),
            &[202],
            1,
        ),
        case(
            "TE.CL",
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
                &format!("{hidden:x}\r\n{SMUGGLED}\r\n0\r\n\r\n"),
            ),
            &[202],
            1,
        ),
        case(
            "lengths differ",
            post("Content-Length: 0\r\nContent-Length: 70\r\n", SMUGGLED),
            &[400],
            0,
        ),
        case(
            "length in a list",
            post("Content-Length: 5, 5\r\n", "hello"),
            &[400],
            0,
        ),
        case(
            "length with a sign",
            post("Content-Length: +5\r\n", "hello"),
            &[400],
            0,
        ),
        case(
            "length below nothing",
            post("Content-Length: -5\r\n", SMUGGLED),
            &[400],
            0,
        ),
        case(
            "length in hexadecimal",
            post("Content-Length: 0x5\r\n", "hello"),
            &[400],
            0,
        ),
        case(
            "length of 2^64",
            post("Content-Length: 18446744073709551616\r\n", SMUGGLED),
            &[400],
            0,
        ),
        case(
            "length of 2^63",
            post("Content-Length: 9223372036854775808\r\n", SMUGGLED),
            &[413],
            1,
        ),
        case(
            "length empty",
            post("Content-Length:\r\n", SMUGGLED),
            &[400],
            0,
        ),
        case(
            "length twice the same",
            post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
            &[202],
            1,
        ),
        case(
            "chunk size ends with a bare LF",
            chunked("5\nhello\r\n0\r\n\r\n"),
            &[400],
            1,
        ),
        case(
            "chunk extension with a bare LF",
            chunked("5;a\nbc\r\nhello\r\n0\r\n\r\n"),
            &[400],
            1,
        ),
        case(
            "chunk size overflows",
            chunked("fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
            &[400],
            1,
        ),
        case(
            "chunk size with 0x",
            chunked("0x5\r\nhello\r\n0\r\n\r\n"),
            &[400],
            1,
        ),
        case(
            "chunk size below nothing",
            chunked("-5\r\nhello\r\n0\r\n\r\n"),
            &[400],
            1,
        ),
        case(
            "chunk longer than it says",
            chunked("3\r\nhello\r\n0\r\n\r\n"),
            &[400],
            1,
        ),
        case(
            "chunk extension of 20 KB",
            chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(20_000))),
            &[400],
            1,
        ),
        case(
            "200 trailers",
            chunked(&format!("0\r\n{}\r\n", "A: b\r\n".repeat(200))),
            &[400],
            1,
        ),
        case(
            "3 trailers",
            chunked("5\r\nhello\r\n0\r\nAuthorization: x\r\nContent-Length: 5\r\nX: y\r\n\r\n"),
            &[400],
            1,
        ),
        case(
            "a request where trailers are",
            post(
                "Transfer-Encoding: chunked\r\n",
                &format!("0\r\n{SMUGGLED}"),
            ),
            &[400],
            1,
        ),
        case(
            "HTTP/1.0 with a body up to the end",
            format!("POST /front HTTP/1.0\r\nHost: localhost\r\n\r\n{SMUGGLED}"),
            &[202],
            1,
        ),
        case(
            "HTTP/1.0 kept alive",
            format!(
                "POST /front HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n{length}\r\n{SMUGGLED}"
            ),
            &[202],
            1,
        ),
        case(
            "a GET with a body",
            format!("GET /front HTTP/1.1\r\nHost: localhost\r\n{length}\r\n{SMUGGLED}"),
            &[405],
            1,
        ),
        case(
            "a body too long, then a request",
            post(
                "Content-Length: 70000\r\n",
                &(SMUGGLED.repeat(70_000 / hidden) + &"x".repeat(70_000 % hidden) + SMUGGLED),
            ),
            &[413],
            1,
        ),
        case(
            "a body that nobody reads",
            format!("POST /nothing HTTP/1.1\r\nHost: localhost\r\n{length}\r\n{SMUGGLED}"),
            &[404],
            1,
        ),
        case(
            "a body that is never asked for",
            post(&format!("Expect: 100-continue\r\n{length}"), SMUGGLED),
            &[100, 202],
            1,
        ),
        case(
            "another expectation",
            post(&format!("Expect: 200-ok\r\n{length}"), SMUGGLED),
            &[400],
            0,
        ),
    ]
}

/// Heads: characters, lengths, names and versions.
fn heads() -> Vec<Case> {
    let five = "Content-Length: 5\r\n";
    let hello = |lines: &str| post(&format!("{lines}{five}"), "hello");
    let raw = |lines: &[u8]| {
        let mut bytes = b"POST /front HTTP/1.1\r\nHost: localhost\r\n".to_vec();
        bytes.extend(lines);
        bytes.extend(b"Content-Length: 5\r\n\r\nhello");
        bytes
    };
    let line = |line: &str| format!("{line}\r\nHost: localhost\r\n{five}\r\nhello");
    vec![
        case(
            "bare LFs",
            hello("A: b\r\n").replace("\r\n", "\n"),
            &[202],
            1,
        ),
        case("bare CR", hello("A: b\rc\r\n"), &[400], 0),
        case("NUL", raw(b"A: b\0c\r\n"), &[400], 0),
        case("ESC", raw(b"A: b\x1bc\r\n"), &[400], 0),
        case(
            "bytes above 127 in a value",
            raw(b"A: \x80\xff\r\n"),
            &[202],
            1,
        ),
        case(
            "a byte above 127 in the path",
            b"POST /fr\xffnt HTTP/1.1\r\nHost: localhost\r\n\r\n",
            &[400],
            0,
        ),
        case("a line without a colon", hello("nothing\r\n"), &[400], 0),
        case(
            "empty lines before the request",
            format!("\r\n\r\n{}", hello("")),
            &[202],
            1,
        ),
        case("65 fields", hello(&"A: b\r\n".repeat(63)), &[431], 0),
        case(
            "a head of 17 KB",
            hello(&format!("A: {}\r\n", "b".repeat(17_000))),
            &[431],
            0,
        ),
        case(
            "a path of 70 KB",
            line(&format!("POST /{} HTTP/1.1", "a".repeat(70_000))),
            &[431],
            0,
        ),
        case(
            "HTTP/2's preface",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            &[],
            0,
        ),
        case("HTTP/1.2", line("POST /front HTTP/1.2"), &[400], 0),
        case("HTTP/0.9", "POST /front\r\n", &[400], 0),
        case(
            "no Host",
            format!("POST /front HTTP/1.1\r\n{five}\r\nhello"),
            &[400],
            0,
        ),
        case("two Hosts", hello("Host: elsewhere\r\n"), &[400], 0),
        case(
            "a user before the Host",
            format!("POST /front HTTP/1.1\r\nHost: a@localhost\r\n{five}\r\nhello"),
            &[400],
            0,
        ),
        case(
            "another host in the URI",
            line("POST http://elsewhere/front HTTP/1.1"),
            &[400],
            0,
        ),
        case(
            "the same host in the URI",
            line("POST http://localhost/front HTTP/1.1"),
            &[202],
            1,
        ),
        case(
            "a path that could become another",
            line("POST /a/../../front/%2e%2e/%00c HTTP/1.1"),
            &[404],
            1,
        ),
        case(
            "a path with an encoded slash",
            line("POST /front%2f..%2fsmuggled HTTP/1.1"),
            &[404],
            1,
        ),
        case(
            "CONNECT",
            format!("CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n{SMUGGLED}"),
            &[400],
            0,
        ),
        case(
            "two Content-Types",
            hello("Content-Type: a/b\r\nContent-Type: c/d\r\n"),
            &[400],
            0,
        ),
        case(
            "upgrade to h2c, then a request",
            post(
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
                SMUGGLED,
            ),
            &[400],
            0,
        ),
    ]
}

/// What was wrong with another proxy, once: a body not read before the connection is used again
/// (RUSTSEC-2025-0037), bytes passed on before an upgrade was granted (RUSTSEC-2026-0033), HTTP/1.0
/// with a transfer coding and several codings (RUSTSEC-2026-0034). The fourth, RUSTSEC-2025-0070, is
/// HTTP/2's and among the floods.
fn known_elsewhere() -> Vec<Case> {
    let length = SMUGGLED.len();
    vec![
        case(
            "RUSTSEC-2025-0037",
            format!(
                "PUT /front HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}{}",
                post("Content-Length: 2\r\n", "{}")
            ),
            &[405, 202],
            2,
        ),
        case(
            "RUSTSEC-2026-0033",
            post(
                "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n",
                SMUGGLED,
            ),
            &[400],
            0,
        ),
        case(
            "RUSTSEC-2026-0034, HTTP/1.0",
            format!(
                "POST /front HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\
                 Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{SMUGGLED}"
            ),
            &[400],
            0,
        ),
        case(
            "RUSTSEC-2026-0034, several",
            coded("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
            &[400],
            0,
        ),
    ]
}

fn all() -> Vec<Case> {
    let mut cases = framing();
    cases.extend(heads());
    cases.extend(known_elsewhere());
    assert!(cases.len() >= 48 + 15 + 4, "{} cases", cases.len());
    cases
}

fn setup() -> Setup {
    let open = |name: &str| {
        format!(
            "[sources.{name}]\nverify = \"insecure-none\"\nformat = \"raw\"\ndedupe = false\n\
             methods = [\"POST\"]\n"
        )
    };
    Setup::new().sources(&(open("front") + &open("smuggled")))
}

/// What the gateway has counted.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Books {
    received: f64,
    /// All but what was refused by its head alone.
    arrived: f64,
    smuggled: f64,
}

impl Books {
    async fn of(gateway: &Gateway) -> Self {
        let metrics: Metrics = gateway.metrics().await;
        let received = metrics.sum("hookgate_received_total", &[]);
        let by_head: f64 = ["ambiguous", "head_malformed", "head_too_large"]
            .iter()
            .map(|reason| metrics.rejected("_unknown", reason))
            .sum();
        Self {
            received,
            arrived: received - by_head,
            smuggled: metrics.sum("hookgate_received_total", &[("source", "smuggled")]),
        }
    }
}

/// Sends everything and gives all that comes back, up to the end or to quiet.
async fn ask(stream: &mut Box<dyn Stream>, bytes: &[u8]) -> Vec<u8> {
    let mut said = Vec::new();
    let (mut read, mut write) = tokio::io::split(stream);
    let sending = async {
        // Whoever refuses may close before all of it is sent.
        drop(write.write_all(bytes).await);
        drop(write.flush().await);
    };
    let reading = async {
        let mut chunk = [0; 4096];
        while let Ok(Ok(n @ 1..)) = timeout(QUIET, read.read(&mut chunk)).await {
            said.extend_from_slice(&chunk[..n]);
        }
    };
    tokio::join!(sending, reading);
    said
}

/// The statuses of a row of answers.
#[track_caller]
fn statuses(name: &str, mut bytes: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    while !bytes.is_empty() {
        let mut space = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut space);
        let text = || String::from_utf8_lossy(bytes).into_owned();
        let Ok(httparse::Status::Complete(length)) = head.parse(bytes) else {
            panic!("{name}: not an answer: {}", text());
        };
        let body = head
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |header| {
                let text = std::str::from_utf8(header.value).expect("text");
                text.parse().expect("a number")
            });
        let status = head.code.expect("a status");
        if status >= 400 {
            assert!(text().contains("\"code\":\""), "{name}: {}", text());
        }
        statuses.push(status);
        bytes = &bytes[(length + body).min(bytes.len())..];
    }
    statuses
}

async fn direct(setup: Setup) -> usize {
    let limits = "header_timeout = \"300ms\"\nbody_timeout = \"300ms\"\nmax_body = \"64KiB\"";
    let gateway = setup.limits(limits).start().await;
    let cases = all();
    let mut wrong = Vec::new();
    for case in &cases {
        let before = Books::of(&gateway).await;
        let mut stream = gateway
            .sender()
            .stream(&[b"http/1.1"])
            .await
            .expect("a stream");
        let said = ask(&mut stream, &case.bytes).await;
        drop(stream);
        let answers = statuses(case.name, &said);
        let after = Books::of(&gateway).await;
        let informed = answers.iter().filter(|status| **status >= 200).count();
        let (received, arrived) = (
            after.received - before.received,
            after.arrived - before.arrived,
        );
        if answers != case.answers
            || received != informed as f64
            || arrived != f64::from(case.arrive)
            || after.smuggled != 0.0
        {
            wrong.push(format!(
                "{}: answers {answers:?}, received {received}, arrived {arrived}, smuggled {}; \
                 expected {:?} and {} arrived",
                case.name, after.smuggled, case.answers, case.arrive
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    balance(&gateway).await;
    cases.len()
}

#[tokio::test]
async fn each_input_has_its_answers_and_no_body_is_a_request() {
    let (over_tls, plain) = tokio::join!(direct(setup()), direct(setup().plain()));
    Row::new("X1.direct")
        .saw("inputs over TLS", over_tls)
        .saw("without TLS", plain)
        .saw("extra requests", 0)
        .write();
}

// === behind proxies ===

/// A proxy in front of a gateway; it ends when dropped.
struct Front {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
    is_forwarded: fn(&str) -> bool,
}

impl Drop for Front {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Front {
    async fn start(
        command: &mut Command,
        folder: TempDir,
        address: SocketAddr,
        is_forwarded: fn(&str) -> bool,
    ) -> Self {
        let output = std::fs::File::create(folder.path().join("access.log")).expect("log");
        let errors = std::fs::File::create(folder.path().join("stderr")).expect("log");
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .expect("it starts: run deploy/install-dependencies.sh test");
        let front = Self {
            child,
            address,
            folder,
            is_forwarded,
        };
        eventually("the proxy to listen", || async {
            match Sender::plain(address).tcp().await {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("{error}: {}", read(&front.path("stderr")))),
            }
        })
        .await;
        front
    }

    /// As lenient as it can be made: it passes on what it does not understand.
    async fn nginx(gateway: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("directory");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let at = folder.path().display();
        let config = format!(
            r#"
daemon off; master_process off; pid {at}/pid; error_log {at}/stderr;
events {{ worker_connections 256; }}
http {{
    log_format seen '$upstream_status $status "$request"';
    access_log {at}/access.log seen;
    client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
    uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
    client_header_timeout 400ms; client_body_timeout 400ms; keepalive_timeout 400ms;
    ignore_invalid_headers off; underscores_in_headers on; merge_slashes off;
    large_client_header_buffers 4 128k; client_max_body_size 0;
    upstream gateway {{ server {gateway}; keepalive 4; }}
    server {{
        listen {address};
        location /smuggled {{ return 403; }}
        location / {{
            proxy_pass http://gateway; proxy_http_version 1.1; proxy_next_upstream off;
            proxy_set_header Connection ""; proxy_set_header Host $http_host;
            proxy_request_buffering off; proxy_buffering off; proxy_read_timeout 2s;
        }}
    }}
}}
"#
        );
        std::fs::write(folder.path().join("nginx.conf"), config).expect("configuration");
        let mut command = Command::new("nginx");
        command
            .arg("-p")
            .arg(folder.path())
            .args(["-c", "nginx.conf"])
            .args(["-e", "stderr"]);
        Self::start(&mut command, folder, address, |line| {
            !line.starts_with("- ")
        })
        .await
    }

    /// The same.
    async fn haproxy(gateway: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("directory");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = format!(
            r#"
global
    log stdout format raw local0
    maxconn 256
defaults
    mode http
    log global
    log-format "%s %ST %r"
    option accept-invalid-http-request
    retries 0
    timeout connect 2s
    timeout client 400ms
    timeout server 2s
    timeout http-request 400ms
    timeout http-keep-alive 400ms
frontend all
    bind {address}
    http-request deny deny_status 403 if {{ path_beg /smuggled }}
    default_backend gateway
backend gateway
    http-reuse always
    server one {gateway}
"#
        );
        let path = folder.path().join("haproxy.cfg");
        std::fs::write(&path, config).expect("configuration");
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(path);
        Self::start(&mut command, folder, address, |line| {
            !line.starts_with("<NOSRV>")
        })
        .await
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How many requests it says that it has passed on.
    fn forwarded(&self) -> usize {
        let log = read(&self.path("access.log"));
        log.lines().filter(|line| (self.is_forwarded)(line)).count()
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// A good request on a connection of its own must have its own answer: a proxy whose connection to
/// us is out of step gives it somebody else's.
async fn assert_in_step(front: &Front, name: &str, n: usize) {
    let id = format!("good-{n}");
    eventually("the good request to pass", || async {
        let mut client = Sender::plain(front.address).connect(Version::Http1).await?;
        let webhook = Webhook::bare("/front", b"{}").with("X-Request-Id", &id);
        let answer = client.send(&webhook).await?;
        if (answer.status, answer.header("x-request-id")) == (202, Some(&*id)) {
            return Ok(());
        }
        // Its connection to us may just have been closed; anything else is somebody's answer.
        assert!(matches!(answer.status, 502..=504), "{name}: {answer:?}");
        Err(format!("{answer:?}"))
    })
    .await;
}

async fn behind(gateway: &Gateway, front: &Front) -> usize {
    let cases = all();
    for (n, case) in cases.iter().enumerate() {
        let (here, there) = (Books::of(gateway).await, front.forwarded());
        let sender = Sender::plain(front.address);
        let mut stream = sender.stream(&[]).await.expect("a stream");
        ask(&mut stream, &case.bytes).await;
        drop(stream);
        assert_in_step(front, case.name, n).await;
        eventually(case.name, || async {
            let (now, sent) = (Books::of(gateway).await, front.forwarded() - there);
            assert_eq!(now.smuggled, 0.0, "{}", case.name);
            if now.received - here.received <= sent as f64 {
                Ok(())
            } else {
                Err(format!("{here:?}, {now:?}, {sent} sent"))
            }
        })
        .await;
    }
    cases.len()
}

#[tokio::test]
async fn no_input_makes_more_requests_than_the_proxy_has_sent() {
    let behind_nginx = async {
        let gateway = setup().plain().start().await;
        let front = Front::nginx(gateway.address()).await;
        let inputs = behind(&gateway, &front).await;
        balance(&gateway).await;
        (inputs, front.forwarded())
    };
    let behind_haproxy = async {
        let gateway = setup().plain().start().await;
        let front = Front::haproxy(gateway.address()).await;
        let inputs = behind(&gateway, &front).await;
        balance(&gateway).await;
        (inputs, front.forwarded())
    };
    let (nginx, haproxy) = tokio::join!(behind_nginx, behind_haproxy);
    Row::new("X1.proxied")
        .saw("inputs", nginx.0 + haproxy.0)
        .saw("passed on by nginx", nginx.1)
        .saw("by HAProxy", haproxy.1)
        .saw("extra requests", 0)
        .saw("smuggled", 0)
        .write();
}
