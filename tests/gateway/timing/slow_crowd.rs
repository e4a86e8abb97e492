//! Thousands of slow clients beside a good one.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::support::balance::balance;
use crate::support::eventually::eventually;
use crate::support::figures::{Row, count};
use crate::support::gateway::{Gateway, Setup, source};
use crate::support::sender::{Stream, Version};
use crate::support::steady::Steady;
use crate::support::usage::{Usage, mib};
use crate::support::webhook::Webhook;

/// How many of each kind.
const SLOW_HEADS: u32 = 2_000;
const SLOW_BODIES: u32 = 2_000;
const HALF_HANDSHAKES: u32 = 500;
const SLOW_READERS: u32 = 200;
/// Of one address, below `max_connections_per_peer`.
const PER_ADDRESS: u32 = 200;
/// How much later than its deadline a connection may end.
const LATE_MAX: Duration = Duration::from_secs(1);
/// Between two bytes of one that drips.
const DRIP: Duration = Duration::from_secs(5);
/// The good client: requests a second, and what it should notice.
const GOOD: u32 = 50;
const P99_MAX: Duration = Duration::from_millis(250);
/// Of memory, for each of the crowd. Most of it is TLS.
const EACH_MAX: u64 = 64 << 10;
/// Connections that are made at once: a queue of handshakes would be a test of something else.
const AT_ONCE: usize = 8;
/// What an answer to a slow reader has: more than sockets hold.
const LOUD_BYTES: usize = 60_000;

#[derive(Clone, Copy, Debug)]
enum Kind {
    SlowHead,
    SlowBody,
    HalfHandshake,
    SlowReader,
}

/// Connects and sends the first bytes; gives the stream, and what is sent now and then.
async fn enter(gateway: &Gateway, n: u32, kind: Kind) -> (Box<dyn Stream>, &'static [u8]) {
    let sender = gateway.sender().from(n / PER_ADDRESS);
    let mut stream: Box<dyn Stream> = match kind {
        Kind::HalfHandshake => Box::new(sender.tcp().await.expect("a connection")),
        Kind::SlowHead | Kind::SlowBody => {
            sender.stream(&[b"http/1.1"]).await.expect("a connection")
        }
        Kind::SlowReader => {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.set_recv_buffer_size(4096).expect("little room");
            let tcp = socket.connect(gateway.address()).await;
            let tcp = tcp.expect("a connection");
            sender.over(tcp, &[b"http/1.1"]).await.expect("TLS")
        }
    };
    let (first, more): (Vec<u8>, &[u8]) = match kind {
        Kind::SlowHead => (b"POST /github HTTP/1.1\r\nHost: h\r\nA: ".to_vec(), b"b"),
        Kind::SlowBody => {
            let webhook = Webhook::github("/github", "push", &format!("slow-{n}"), &[b' '; 1000]);
            (webhook.http1_head(), b" ")
        }
        // The beginning of a ClientHello, and more of it.
        Kind::HalfHandshake => (vec![22, 3, 1, 2, 0, 1, 0, 1, 252], b"\x03"),
        Kind::SlowReader => (Webhook::bare("/loud", b"{}").http1().repeat(20), b""),
    };
    stream.write_all(&first).await.expect("write");
    stream.flush().await.expect("flush");
    (stream, more)
}

/// What one more TLS connection takes while others are made.
async fn handshake(gateway: &Gateway) -> Duration {
    const SAMPLE: u32 = 30;
    let connect = |_| async move {
        let mut streams = Vec::new();
        for _ in 0..SAMPLE {
            streams.push(gateway.sender().stream(&[b"http/1.1"]).await);
        }
        streams
    };
    let begin = Instant::now();
    let all = futures_util::future::join_all((0..4).map(connect)).await;
    let took = begin.elapsed();
    drop(all);
    took / (4 * SAMPLE)
}

/// Sends a byte now and then until the gateway ends the connection; gives how long that took.
async fn drip(mut stream: Box<dyn Stream>, more: &[u8]) -> Duration {
    let begin = Instant::now();
    let mut byte = [0; 1];
    loop {
        // Whatever comes is the end, or an answer that announces it.
        let over = timeout(DRIP, stream.read(&mut byte)).await.is_ok();
        if over || stream.write_all(more).await.is_err() || stream.flush().await.is_err() {
            return begin.elapsed();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_client_does_not_notice_thousands_of_slow_ones() {
    let watched = Duration::from_secs(count(10, 60).into());
    let limits = ["handshake", "header", "body"].map(|what| format!("{what}_timeout = \"299s\"\n"));
    let loud = format!(
        "[sources.loud]\nverify = \"insecure-none\"\nformat = \"raw\"\ndedupe = false\n\
         reply = {{ status = 200, body = \"{}\" }}\n",
        "x".repeat(LOUD_BYTES)
    );
    let sources = source("github", "github", "") + &loud;
    let gateway = Setup::new().limits(&limits.concat()).sources(&sources);
    let mut gateway = gateway.start().await;
    // The deadline of everything: long enough for all of them to be there at once.
    let deadline = (SLOW_HEADS + SLOW_BODIES) * handshake(&gateway).await + watched;
    let deadline = Duration::from_secs(deadline.as_secs() * 3 / 2 + 10);
    gateway.edit(|text| text.replace("299s", &format!("{}s", deadline.as_secs())));
    gateway.restart().await;
    let usage = Usage::of(gateway.pid());
    let before = usage.resident();

    let reference = Steady::start(&gateway.sender(), Version::Http1, GOOD).await;
    sleep(Duration::from_secs(3)).await;
    let alone = reference.stop().await.p99();

    let gateway = Arc::new(gateway);
    let mut entering = JoinSet::new();
    let kinds = [
        (Kind::SlowHead, SLOW_HEADS),
        (Kind::SlowBody, SLOW_BODIES),
        (Kind::HalfHandshake, HALF_HANDSHAKES),
        (Kind::SlowReader, SLOW_READERS),
    ];
    let crowd = kinds
        .iter()
        .flat_map(|(kind, how_many)| (0..*how_many).map(|_| *kind));
    let mut dripping = JoinSet::new();
    let mut readers = Vec::new();
    let begin = Instant::now();
    for (n, kind) in (1..).zip(crowd) {
        let gateway = Arc::clone(&gateway);
        entering.spawn(async move { (kind, enter(&gateway, n, kind).await) });
        if entering.len() >= AT_ONCE
            && let Some(entered) = entering.join_next().await
        {
            seat(entered.expect("it enters"), &mut dripping, &mut readers);
        }
    }
    for entered in entering.join_all().await {
        seat(entered, &mut dripping, &mut readers);
    }
    let entered_in = begin.elapsed();
    let all = SLOW_HEADS + SLOW_BODIES + HALF_HANDSHAKES + SLOW_READERS;
    let there = gateway.metrics().await.sum("hookgate_connections", &[]);
    assert_eq!(there, f64::from(all), "some are gone after {entered_in:?}");
    let each = usage.resident().saturating_sub(before) / u64::from(all);

    let good = Steady::start(&gateway.sender(), Version::Http1, GOOD).await;
    sleep(watched).await;
    let good = good.stop().await;
    good.assert_no_errors();
    let p99 = good.p99();
    assert!(p99 < P99_MAX, "{p99:?} beside them, {alone:?} alone");

    let mut latest = Duration::ZERO;
    while let Some(lasted) = dripping.join_next().await {
        latest = latest.max(lasted.expect("a client"));
    }
    assert!(latest <= deadline + LATE_MAX, "{latest:?}");
    eventually("nobody to be left", || async {
        match gateway.metrics().await.sum("hookgate_connections", &[]) {
            0.0 => Ok(()),
            n => Err(format!("{n} left")),
        }
    })
    .await;
    drop(readers);
    assert!(each <= EACH_MAX, "{each} bytes for each");
    balance(&gateway).await;
    Row::new("X2")
        .saw("slow clients", all)
        .saw("all there after", format!("{entered_in:.0?}"))
        .saw("good client's p99", format!("{p99:.1?}"))
        .saw("alone", format!("{alone:.1?}"))
        .saw("its errors", 0)
        .saw(
            "last one gone after",
            format!("{latest:.1?} of {deadline:?}"),
        )
        .saw("memory for each", format!("{} KiB", each / 1024))
        .saw("in all", mib(each * u64::from(all)))
        .write();
}

/// Lets one that has entered do what it came for. Who does not read only stays.
fn seat(
    (kind, (stream, more)): (Kind, (Box<dyn Stream>, &'static [u8])),
    dripping: &mut JoinSet<Duration>,
    readers: &mut Vec<Box<dyn Stream>>,
) {
    match kind {
        Kind::SlowReader => readers.push(stream),
        Kind::SlowHead | Kind::SlowBody | Kind::HalfHandshake => {
            dripping.spawn(drip(stream, more));
        }
    }
}
