//! Starting on a large journal: about as fast as its bytes can be read and summed up, in bounded
//! memory, and a signal does not wait for it.

use std::ops::Range;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use hookgate::delivery::{Coverage, Delivery, Lane};
use hookgate::journal::{Journal, Options};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::support::balance::balance;
use crate::support::figures::{Row, count};
use crate::support::gateway::{Gateway, Setup};

/// What a start may take of memory.
const RESIDENT_MAX_MIB: u64 = 300;
/// A start takes this many times as long as reading the journal's bytes and summing them up does in
/// the same run and build, and a little for the rest of it.
const RATIO_MAX: u32 = 16;
const REST: Duration = Duration::from_secs(1);

/// A journal of so many events with bodies of 2 or 4 KiB. Gives its bytes.
async fn fill(path: &Path, events: u32, body: usize) -> u64 {
    let options = Options {
        path: path.to_owned(),
        bytes_max: 16 << 30,
        segment_bytes: 64 << 20,
        retain: Duration::from_secs(86_400),
        refuse_damage: true,
        reserve_bytes: 0,
        on_sync: None,
    };
    let journal = Journal::open(options).expect("a journal");
    let received_at = hookgate::clock::Now::read().wall;
    let body = Bytes::from(vec![b'.'; body]);
    for group in groups(events) {
        let (tell, told) = mpsc::channel();
        for n in group.clone() {
            let delivery = Delivery {
                id: Uuid::from_u128(u128::from(n)),
                source: "github".into(),
                event_id: Some(format!("f0e1d2c3-0000-4000-8000-{n:012}")),
                event_type: Some("push".to_owned()),
                origin: None,
                received_at,
                client_ip: [127, 0, 0, 1].into(),
                request_id: "0".into(),
                coverage: Coverage::Full,
                key: None,
                unverified: None,
                schema: None,
                batch: None,
                lane: Lane::Main,
                routing_key: "github.push".to_owned(),
                content_type: Some("application/json".to_owned()),
                content_encoding: None,
                traceparent: None,
                tracestate: None,
                forwarded: Vec::new(),
                body: body.clone(),
            };
            let tell = tell.clone();
            let done = Box::new(move |fate| drop(tell.send(fate)));
            journal.append(delivery.encode(), received_at, done);
        }
        drop(tell);
        for fate in told {
            fate.expect("stored");
        }
    }
    let bytes = journal.status().bytes;
    journal.close().await;
    bytes
}

fn groups(events: u32) -> impl Iterator<Item = Range<u32>> {
    let starts = (0..events).step_by(1_000);
    starts.map(move |start| start..events.min(start + 1_000))
}

/// What it takes to read every byte of a journal and sum it up.
fn read_and_sum_up(path: &Path) -> Duration {
    use std::io::Read as _;
    let before = Instant::now();
    let mut buffer = vec![0; 256 * 1024];
    let mut sum = 0;
    for entry in std::fs::read_dir(path).expect("journal") {
        let path = entry.expect("entry").path();
        if path.extension().is_none_or(|extension| extension != "wal") {
            continue;
        }
        let mut file = std::fs::File::open(path).expect("segment");
        loop {
            let n = file.read(&mut buffer).expect("read");
            if n == 0 {
                break;
            }
            sum = crc32c::crc32c_append(sum, &buffer[..n]);
        }
    }
    assert_ne!(sum, 0);
    before.elapsed()
}

/// The most memory that it had so far.
fn peak_mib(gateway: &Gateway) -> u64 {
    let path = format!("/proc/{}/status", gateway.pid().as_raw_nonzero());
    let status = std::fs::read_to_string(path).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.expect("VmHWM").parse::<u64>().expect("a number") / 1024
}

/// What it read so far, from files and from elsewhere.
fn bytes_read(gateway: &Gateway) -> u64 {
    let path = format!("/proc/{}/io", gateway.pid().as_raw_nonzero());
    let counts = std::fs::read_to_string(path).expect("io");
    let count = counts.lines().find_map(|line| line.strip_prefix("rchar: "));
    count.expect("rchar").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_journal_is_opened_fast_and_in_little_memory() {
    let events = count(100_000, 1_000_000);
    let body = usize::try_from(count(1_800, 4_000)).expect("small");
    let mut gateway = Setup::new()
        .plain()
        .journal("max_size = \"16GiB\"")
        .prepare();
    let journal = gateway.directory().join("journal");
    let bytes = fill(&journal, events, body).await;
    let reference = read_and_sum_up(&journal);

    // A signal while it is being read ends the start, with nothing done.
    gateway.launch();
    sleep(reference / 2).await;
    let before = Instant::now();
    gateway.term();
    let status = gateway.ended().await;
    let stopped = before.elapsed();
    let log = gateway.log();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(
        log.contains("stopped while the journal was being read"),
        "{log}"
    );
    assert!(stopped < Duration::from_millis(500), "{stopped:?}");

    let before = Instant::now();
    gateway.start().await;
    let took = before.elapsed();
    let limit = reference * RATIO_MAX + REST;
    assert!(took <= limit, "{took:?} to start, {reference:?} to read");
    let read = bytes_read(&gateway);
    assert!(
        read < bytes + bytes / 10,
        "{read} bytes read of {bytes}: more than once"
    );
    let peak = peak_mib(&gateway);
    assert!(peak <= RESIDENT_MAX_MIB, "{peak} MiB resident");
    let waiting = gateway.metrics().await.sum("hookgate_journal_waiting", &[]);
    assert_eq!(waiting, f64::from(events));
    // What was read is recognised.
    let known = gateway.metrics().await.sum("hookgate_dedupe_ids", &[]);
    assert_eq!(known, f64::from(events));
    balance(&gateway).await;
    let times = took.as_secs_f64() / reference.as_secs_f64();
    Row::new("J12")
        .saw("events", events)
        .saw("MiB", bytes >> 20)
        .saw("start s", format!("{:.2}", took.as_secs_f64()))
        .saw("times reading and summing up", format!("{times:.1}"))
        .saw("MiB read", read >> 20)
        .saw("peak MiB", peak)
        .saw("ended by a signal after ms", stopped.as_millis())
        .write();
}
