//! Five times what the gateway can take: it sheds, and recovers.
//!
//! What it can take is made small by a disk that takes its time for each sync, so that whoever
//! sends has the processor to send five times as much.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep};

use crate::support::balance::balance;
use crate::support::broker;
use crate::support::figures::{Row, count};
use crate::support::gateway::{Gateway, Setup, said};
use crate::support::sender::{Sender, Version};
use crate::support::usage::{Usage, mib};
use crate::support::webhook::Webhook;

/// Requests that the gateway takes at once, and what one sync takes.
const IN_FLIGHT: u32 = 16;
const SYNC_DELAY: Duration = Duration::from_millis(50);
/// How much more is offered than it can take.
const TIMES: u32 = 5;
/// So many that those who wait for an answer do not slow the others down.
const SENDERS: u32 = 2 * TIMES * IN_FLIGHT;
/// Senders of one address: its share of what is in flight is a quarter.
const PER_ADDRESS: u32 = 4;
/// Of what was accepted.
const P99_MAX: Duration = Duration::from_secs(1);
/// From the end of the overload to nobody being turned away.
const NORMAL_WITHIN: Duration = Duration::from_secs(5);
/// So many in a row are normal.
const NORMAL: u32 = 20;
/// Of memory, from the second quarter of the overload to its last.
const GROWTH_MAX: u64 = 4 << 20;

/// What senders saw.
#[derive(Debug, Default)]
struct Seen {
    offered: usize,
    accepted: Vec<(String, Duration)>,
    shed: usize,
    wrong: Vec<String>,
}

/// Makes every sync of the journal's thread slow, until it is dropped.
async fn slow_disk(gateway: &Gateway) -> Child {
    let tasks = format!("/proc/{}/task", gateway.pid().as_raw_nonzero());
    let is_journal = |name: &str| {
        let comm = std::fs::read_to_string(format!("{tasks}/{name}/comm"));
        comm.is_ok_and(|comm| comm.trim() == "journal")
    };
    let names = std::fs::read_dir(&tasks).expect("tasks");
    let mut names = names.map(|entry| entry.expect("entry").file_name().into_string());
    let thread = names.find_map(|name| name.ok().filter(|name| is_journal(name)));
    let inject = format!(
        "inject=fdatasync,fsync:delay_exit={}",
        SYNC_DELAY.as_micros()
    );
    let tracer = Command::new("strace")
        .args(["-qq", "-e", "trace=fdatasync,fsync", "-e", &inject])
        .args(["-p", &thread.expect("the journal's thread")])
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("strace: run deploy/install-dependencies.sh test");
    // It has begun when a request takes as long as a sync.
    crate::support::eventually::eventually("the disk to be slow", || async {
        let begin = Instant::now();
        let id = format!("{}", fastrand::u64(..));
        let webhook = Webhook::github("/github", "push", &id, b"{}");
        let answer = gateway.send(&webhook).await;
        if answer.status == 202 && begin.elapsed() >= SYNC_DELAY {
            Ok(())
        } else {
            Err(format!("{} after {:?}", answer.status, begin.elapsed()))
        }
    })
    .await;
    tracer
}

/// One sender over one connection: as fast as answers come, or at a pace of its own.
async fn send(sender: Sender, name: String, mut pace: Option<Interval>, until: Instant) -> Seen {
    let mut seen = Seen::default();
    let mut client = sender.connect(Version::Http1).await.expect("connection");
    while Instant::now() < until {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        seen.offered += 1;
        let id = format!("{name}-{}", seen.offered);
        let webhook = Webhook::github("/github", "push", &id, b"{\"a\":1}");
        let begin = Instant::now();
        match client.send(&webhook).await {
            Ok(answer) if answer.status == 202 => seen.accepted.push((id, begin.elapsed())),
            Ok(answer)
                if matches!(answer.status, 503 | 429) && answer.header("retry-after").is_some() =>
            {
                seen.shed += 1;
                if pace.is_none() {
                    sleep(SYNC_DELAY).await;
                }
            }
            Ok(answer) => seen.wrong.push(format!("{answer:?}")),
            Err(error) => {
                seen.wrong.push(error);
                return seen;
            }
        }
    }
    seen
}

/// So many senders for so long, at a pace of all together.
async fn load(
    gateway: &Gateway,
    name: &str,
    senders: u32,
    per_second: Option<u32>,
    lasts: Duration,
) -> Seen {
    let until = Instant::now() + lasts;
    let mut tasks = JoinSet::new();
    for n in 0..senders {
        let sender = gateway.sender().from(n / PER_ADDRESS);
        // Everybody's moment is another one.
        let pace = per_second.map(|rate| {
            let every = Duration::from_secs(1) / rate.max(1);
            let mut pace = interval_at(Instant::now() + every * n, every * senders);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            pace
        });
        tasks.spawn(send(sender, format!("{name}-{n}"), pace, until));
    }
    let mut all = Seen::default();
    for seen in tasks.join_all().await {
        all.offered += seen.offered;
        all.accepted.extend(seen.accepted);
        all.shed += seen.shed;
        all.wrong.extend(seen.wrong);
    }
    all
}

/// The gateway's memory, once a second.
async fn memory(usage: Usage, seconds: u32) -> Vec<u64> {
    let mut samples = Vec::new();
    for _ in 0..seconds {
        sleep(Duration::from_secs(1)).await;
        samples.push(usage.resident());
    }
    samples
}

/// How long it takes until nobody is turned away any more.
async fn until_normal(gateway: &Gateway) -> Duration {
    let begin = Instant::now();
    let mut client = gateway.connect(Version::Http1).await;
    let (mut in_a_row, mut n) = (0, 0);
    while in_a_row < NORMAL {
        n += 1;
        let id = format!("normal-{n}");
        let webhook = Webhook::github("/github", "push", &id, b"{}");
        let answer = client.send(&webhook).await.expect("an answer");
        in_a_row = if answer.status == 202 {
            in_a_row + 1
        } else {
            0
        };
        assert!(begin.elapsed() < 4 * NORMAL_WITHIN, "{answer:?}");
    }
    begin.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_times_too_much_is_shed_and_forgotten() {
    let limits = format!("max_requests_in_flight = {IN_FLIGHT}");
    // Without a broker, the newest events stay in memory, up to a bound of their own: that would
    // hide what the overload itself takes.
    let broker = broker::shared().await;
    let setup = Setup::new().limits(&limits).broker(broker);
    let mut gateway = setup.start().await;
    let mut disk = slow_disk(&gateway).await;

    let lasts = Duration::from_secs(4);
    let alone = load(&gateway, "alone", IN_FLIGHT, None, lasts).await;
    assert!(alone.wrong.is_empty(), "{:?}", alone.wrong);
    let capacity = u32::try_from(alone.accepted.len()).expect("a number") / 4;
    assert!(capacity > 0, "{alone:?}");

    let seconds = count(30, 120);
    let usage = Usage::of(gateway.pid());
    let lasts = Duration::from_secs(seconds.into());
    let (seen, memory) = tokio::join!(
        load(&gateway, "too-much", SENDERS, Some(TIMES * capacity), lasts),
        memory(usage, seconds)
    );
    let normal = until_normal(&gateway).await;
    assert!(normal <= NORMAL_WITHIN, "{normal:?}");
    assert!(seen.wrong.is_empty(), "{:?}", seen.wrong.first());
    let offered = seen.offered as f64 / f64::from(seconds) / f64::from(capacity);
    assert!(
        seen.shed > 0 && offered > 3.0,
        "{offered:.1} times was offered"
    );

    let mut latencies: Vec<_> = seen.accepted.iter().map(|(_, took)| *took).collect();
    latencies.sort();
    let p99 = latencies[latencies.len() * 99 / 100];
    assert!(p99 <= P99_MAX, "{p99:?}");
    // Who is let in is served: overload does not eat capacity.
    let served = latencies.len() as f64 / f64::from(seconds) / f64::from(capacity);
    assert!(served > 0.5, "only {served:.2} of the capacity was used");

    let mean = |part: &[u64]| part.iter().sum::<u64>() / part.len() as u64;
    let quarter = memory.len() / 4;
    let early = mean(&memory[quarter..2 * quarter]);
    let late = mean(&memory[3 * quarter..]);
    let growth = late.saturating_sub(early);
    assert!(growth <= GROWTH_MAX, "{} became {}", mib(early), mib(late));

    balance(&gateway).await;
    disk.kill().await.expect("the disk is well again");
    gateway.term();
    gateway.ended().await;
    let stored = stored(&gateway).await;
    let lost: Vec<_> = seen
        .accepted
        .iter()
        .chain(&alone.accepted)
        .filter(|(id, _)| !stored.contains(id))
        .collect();
    assert!(lost.is_empty(), "{} lost: {:?}", lost.len(), lost.first());
    Row::new("X15")
        .saw("offered", format!("{offered:.1} times {capacity}/s"))
        .saw("for", format!("{seconds} s"))
        .saw("accepted", latencies.len())
        .saw("their p99", format!("{p99:.0?}"))
        .saw("shed", seen.shed)
        .saw("lost", 0)
        .saw("memory grew by", mib(growth))
        .saw("normal again after", format!("{normal:.1?}"))
        .write();
}

/// The ids of all events in the journal.
async fn stored(gateway: &Gateway) -> BTreeSet<String> {
    let list = ["journal", "list", "--json", "--limit", "10000000"];
    let output = gateway.cli(&list).await;
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).expect("text");
    let id = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
        event["event_id"].as_str().expect("an id").to_owned()
    };
    text.lines().map(id).collect()
}
