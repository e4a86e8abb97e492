//! HTTP/2 floods: memory, processor time and a good client beside each.
//!
//! Whatever a peer sends without asking for anything, its connection ends: by h2's own bounds, by
//! ours on bytes and frames without a completed request, or by a deadline.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::support::balance::balance;
use crate::support::eventually::eventually;
use crate::support::figures::Row;
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, PADDED, PING, PRIORITY, begin, field, frame, hello,
    indexed, post, remembered, reset, settings, whole, window,
};
use crate::support::gateway::{Gateway, Setup};
use crate::support::sender::{Sender, Version};
use crate::support::steady::Steady;
use crate::support::usage::{Usage, mib};

/// Connections of each attack.
const CONNECTIONS: u32 = 50;
/// What one attacker sends at most; the gateway has to end it long before.
const BYTES_MAX: usize = 64 << 20;
/// What one attack may add, while it lasts, to the memory that as many honest requests at once took:
/// 16 MiB, and half as much again because what a build without optimisation keeps of a request is
/// larger.
const GROWTH_MAX: u64 = 24 << 20;
/// How often honest requests are measured: how much the allocator takes for them is chance, too.
const REFERENCES: u32 = 3;
/// Processor time that one attack may cost, of a build without optimisation.
const PROCESSOR_MAX: Duration = Duration::from_secs(5);
/// An attacker that says nothing more is cut at a deadline of the configuration below, and one
/// that does not read after ten seconds.
const CUT_WITHIN: Duration = Duration::from_secs(20);
/// Requests a second of the good client.
const GOOD: u32 = 20;

/// Makes the n-th part of what is sent; nothing when that was all.
type Part = fn(u32) -> Vec<u8>;

/// What is said first, and then for as long as the connection lasts.
struct Attack {
    name: &'static str,
    settings: &'static [(u16, u32)],
    part: Part,
    /// Whether the attacker reads what comes back.
    reads: bool,
}

/// The identifier of the n-th stream that a client opens.
fn stream(n: u32) -> u32 {
    2 * n + 1
}

fn first(n: u32, bytes: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    if n == 0 { bytes() } else { Vec::new() }
}

/// An endless body.
fn body(n: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    if n == 0 {
        begin(1)
    } else {
        frame(DATA, flags, 1, payload)
    }
}

/// A head that never ends.
fn head(n: u32, more: &[u8]) -> Vec<u8> {
    if n == 0 {
        frame(HEADERS, 0, 1, &post(&[]))
    } else {
        frame(CONTINUATION, 0, 1, more)
    }
}

const ENABLE_PUSH: u16 = 0x2;
const HEADER_TABLE_SIZE: u16 = 0x1;
const INITIAL_WINDOW_SIZE: u16 = 0x4;

fn attacks() -> [Attack; 20] {
    let attack = |name, part: Part| Attack {
        name,
        settings: &[],
        part,
        reads: true,
    };
    [
        attack("rapid reset", |n| {
            [begin(stream(n)), reset(stream(n))].concat()
        }),
        attack("rapid reset of whole requests", |n| {
            [whole(stream(n)), reset(stream(n))].concat()
        }),
        attack("made to reset by a window update of 0", |n| {
            [begin(stream(n)), window(stream(n), 0)].concat()
        }),
        attack("made to reset by a window too large", |n| {
            [begin(stream(n)), window(stream(n), 0x7fff_ffff)].concat()
        }),
        attack("made to reset by a body after the end", |n| {
            [whole(stream(n)), frame(DATA, 0, stream(n), b"x")].concat()
        }),
        attack("made to reset by a stream that depends on itself", |n| {
            let itself = [&stream(n).to_be_bytes()[..], &[16]].concat();
            [begin(stream(n)), frame(PRIORITY, 0, stream(n), &itself)].concat()
        }),
        attack("CONTINUATION without end", |n| head(n, &field("a", "b"))),
        attack("empty CONTINUATION without end", |n| head(n, b"")),
        attack("a head that is never ended", |n| {
            first(n, || frame(HEADERS, 0, 1, &post(&[])))
        }),
        attack("heads of 60 KB", |n| {
            let long = "x".repeat(15_000);
            let first = frame(HEADERS, 0, stream(n), &post(&[("a", &long)]));
            let more = frame(CONTINUATION, 0, stream(n), &field("a", &long));
            let last = frame(CONTINUATION, END_HEADERS, stream(n), &field("a", &long));
            [first, more.repeat(2), last].concat()
        }),
        attack("HPACK bomb", |n| {
            let mut block = post(&[]);
            block.extend(remembered("a", &"x".repeat(3_900)));
            block.extend(indexed(62).repeat(4_000));
            frame(HEADERS, END_HEADERS, stream(n), &block)
        }),
        attack("empty DATA", |n| body(n, 0, b"")),
        attack("DATA of one byte", |n| body(n, 0, b" ")),
        attack("DATA that is padding", |n| {
            body(n, PADDED, &[&[255][..], &[0; 255]].concat())
        }),
        attack("SETTINGS", |_| settings(&[(ENABLE_PUSH, 0)])),
        attack("SETTINGS that resize the table", |n| {
            settings(&[(
                HEADER_TABLE_SIZE,
                if n.is_multiple_of(2) { 0 } else { 65_536 },
            )])
        }),
        attack("PING", |_| frame(PING, 0, 0, b"12345678")),
        attack("PRIORITY and unknown frames", |n| {
            let priority = frame(PRIORITY, 0, stream(n), &[0, 0, 0, 0, 16]);
            [priority, frame(0xfa, 0, 0, b"what is this")].concat()
        }),
        attack("300 streams at once", |n| {
            if n < 300 {
                begin(stream(n))
            } else {
                Vec::new()
            }
        }),
        Attack {
            name: "100 answers that nobody reads",
            settings: &[(INITIAL_WINDOW_SIZE, 0)],
            part: |n| {
                if n < 100 {
                    whole(stream(n))
                } else {
                    Vec::new()
                }
            },
            reads: false,
        },
    ]
}

/// Sends parts, many at a time, until the connection or the attack ends.
async fn send(mut write: impl AsyncWriteExt + Unpin, attack: &Attack) {
    const AT_ONCE: usize = 32 * 1024;
    let mut bytes = hello(attack.settings);
    let mut sent = 0;
    let mut n = 0;
    loop {
        let mut over = false;
        while bytes.len() < AT_ONCE && !over {
            let part = (attack.part)(n);
            n += 1;
            over = part.is_empty();
            bytes.extend(part);
        }
        if write.write_all(&bytes).await.is_err() || write.flush().await.is_err() {
            return;
        }
        sent += bytes.len();
        assert!(sent < BYTES_MAX, "{}: it goes on for ever", attack.name);
        if over {
            // What was said is said; only the gateway can end it now.
            return std::future::pending().await;
        }
        bytes.clear();
    }
}

/// One attacker, until the gateway has ended its connection.
async fn strike(sender: Sender, attack: &Attack) {
    let stream = sender.stream(&[b"h2"]).await.expect("a connection");
    let (mut read, write) = tokio::io::split(stream);
    let ended = async {
        let mut chunk = vec![0; 16 * 1024];
        if !attack.reads {
            // Only its end is of interest: it is there after everything else.
            tokio::time::sleep(Duration::from_secs(12)).await;
        }
        while let Ok(1..) = read.read(&mut chunk).await {}
    };
    let strike = async {
        tokio::select! {
            () = ended => {}
            () = async { send(write, attack).await; std::future::pending().await } => {}
        }
    };
    let ended = timeout(CUT_WITHIN, strike).await;
    assert!(ended.is_ok(), "{}: still open", attack.name);
}

/// What an attack did.
struct Seen {
    /// Resident memory before it, in bytes.
    before: u64,
    /// The most resident memory while it lasted, in bytes.
    peak: u64,
    processor: Duration,
    lasted: Duration,
}

/// `others` are connections that stay.
async fn all_at_once(gateway: &Gateway, attack: &'static Attack, others: u32) -> Seen {
    let usage = Usage::of(gateway.pid());
    usage.forget_peak();
    let (memory, processor, begin) = (usage.resident(), usage.processor(), Instant::now());
    let mut attackers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        attackers.spawn(strike(gateway.sender().from(1), attack));
    }
    attackers.join_all().await;
    let lasted = begin.elapsed();
    eventually("the connections to be gone", || async {
        let open = gateway.metrics().await.sum("hookgate_connections", &[]);
        if open == f64::from(others) {
            Ok(())
        } else {
            Err(format!("{}: {open} open", attack.name))
        }
    })
    .await;
    Seen {
        before: memory,
        peak: usage.peak(),
        processor: usage.processor().saturating_sub(processor),
        lasted,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_end_and_nobody_else_notices() {
    let limits = "header_timeout = \"1s\"\nbody_timeout = \"1s\"\naccept_timeout = \"1s\"\n\
                  idle_timeout = \"3s\"";
    let gateway = Setup::new().limits(limits).start().await;
    let attacks: &'static [Attack] = Vec::leak(attacks().into());
    // What as many requests cost at once that nobody would call an attack. Attacks are judged
    // against it: how much of that memory the allocator keeps afterwards is chance.
    let legal: &'static Attack = Box::leak(Box::new(Attack {
        name: "requests that are answered",
        settings: &[],
        part: |n| {
            if n < 100 {
                whole(stream(n))
            } else {
                Vec::new()
            }
        },
        reads: true,
    }));
    let mut reference = all_at_once(&gateway, legal, 0).await;
    for _ in 1..REFERENCES {
        let again = all_at_once(&gateway, legal, 0).await;
        reference.peak = reference.peak.max(again.peak);
        reference.processor = reference.processor.max(again.processor);
    }
    let (mut growth, mut processor, mut slowest) = (0, Duration::ZERO, Duration::ZERO);
    let mut table = String::new();
    for attack in attacks {
        let good = Steady::start(&gateway.sender(), Version::Http2, GOOD).await;
        let seen = all_at_once(&gateway, attack, 1).await;
        let noticed = good.stop().await;
        table.push_str(&format!(
            "{}: +{}, {:.2?} of a core in {:.1?}, good client p99 {:.1?}\n",
            attack.name,
            mib(seen.peak.saturating_sub(seen.before)),
            seen.processor,
            seen.lasted,
            noticed.p99()
        ));
        noticed.assert_no_errors();
        slowest = slowest.max(noticed.p99());
        growth = growth.max(seen.peak.saturating_sub(reference.peak));
        processor = processor.max(seen.processor);
    }
    assert!(growth <= GROWTH_MAX, "{table}");
    assert!(processor <= PROCESSOR_MAX, "{table}");
    // No attack buys much more than as many honest requests would.
    let honest = reference.processor;
    assert!(processor <= 4 * honest, "{honest:?} for requests\n{table}");
    balance(&gateway).await;
    Row::new("X3")
        .saw("attacks", attacks.len())
        .saw("connections each", CONNECTIONS)
        .saw(
            "memory of as many requests at once",
            mib(reference.peak.saturating_sub(reference.before)),
        )
        .saw("beyond it at most", mib(growth))
        .saw("most processor time", format!("{processor:.1?}"))
        .saw("of as many requests", format!("{honest:.1?}"))
        .saw("errors of the good client", 0)
        .saw("its worst p99", format!("{slowest:.0?}"))
        .write();
    // Shown by `--nocapture`.
    #[expect(clippy::print_stderr, reason = "the figures of each attack")]
    {
        eprintln!("{table}");
    }
}
