//! Events that no broker takes, or that their queues do not, among thousands that they do.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use hookgate::config::Topology;
use hookgate::delivery::{Delivery, Lane};
use lapin::ExchangeKind;
use lapin::types::AMQPValue;
use tokio::time::{Instant, sleep};

use crate::support::balance::balance;
use crate::support::broker::{self, Broker, Consumer};
use crate::support::chance;
use crate::support::eventually::eventually;
use crate::support::figures::{Row, count};
use crate::support::gateway::{Gateway, Setup, source, unique_name};
use crate::support::publishing::{Publishing, event, settings};
use crate::support::webhook::Webhook;

/// A queue that refuses what does not fit.
fn at_most(messages: i32) -> [(&'static str, AMQPValue); 2] {
    [
        ("x-max-length", AMQPValue::LongInt(messages)),
        ("x-overflow", AMQPValue::LongString("reject-publish".into())),
    ]
}

fn kind(kind: &'static str) -> [(&'static str, AMQPValue); 1] {
    [("x-queue-type", AMQPValue::LongString(kind.into()))]
}

/// Ids of the events that have arrived.
fn arrived(queue: &Consumer) -> HashSet<String> {
    queue.seen().iter().map(|message| message.id()).collect()
}

async fn until_arrived(queue: &Consumer, events: &[Delivery]) {
    eventually("the events to arrive", || async {
        let there = arrived(queue);
        let missing = events
            .iter()
            .filter(|one| !there.contains(&one.id.to_string()));
        match missing.count() {
            0 => Ok(()),
            missing => Err(format!("{missing} of {} are missing", events.len())),
        }
    })
    .await;
}

// === unroutable ===

/// Bursts of which some find no queue, with no alternate exchange to catch them: not one is let
/// go before there is a queue for it.
async fn unroutable_bursts(queue_kind: &'static str, topology: Topology, bursts: u32) -> u32 {
    const TOGETHER: u32 = 4000;
    let broker = broker::shared().await;
    let name = unique_name();
    broker.declare_exchange(&name, ExchangeKind::Topic).await;
    for (part, exchange_kind) in [
        ("unrouted", ExchangeKind::Fanout),
        ("quarantine", ExchangeKind::Topic),
    ] {
        let name = format!("{name}.{part}");
        broker.declare_exchange(&name, exchange_kind).await;
        broker.declare(&name, &kind("quorum"), &name, "#").await;
    }
    let all = format!("{name}-all");
    broker.declare(&all, &kind(queue_kind), &name, "yes").await;
    let queue = broker.consume(&all).await;
    let mut settings = settings(broker.address(), &name);
    settings.topology = topology;
    settings.in_flight_max = usize::try_from(TOGETHER).expect("a count");
    let publishing = Publishing::start(&settings);
    let mut random = chance::dice();
    let mut events = Vec::new();
    let (mut routable, mut unroutable) = (0, 0);
    for burst in 0..bursts {
        let share = if burst % 2 == 0 { 0.1 } else { 0.5 };
        let numbers = burst * TOGETHER + 1..=(burst + 1) * TOGETHER;
        let some: Vec<_> = numbers
            .map(|number| {
                let key = if random.f64() < share { "no" } else { "yes" };
                event(number, "shop", key)
            })
            .collect();
        unroutable += some.iter().filter(|one| one.routing_key == "no").count();
        routable += some.iter().filter(|one| one.routing_key == "yes").count();
        publishing.store(&some).await;
        queue
            .wait_until("what has a queue", |seen| seen.len() >= routable)
            .await;
        events.extend(some);
    }
    eventually("all that has no queue to be out of the way", || async {
        let published = publishing.metrics().sum("hookgate_published_total", &[]);
        match (publishing.waiting(), publishing.parked()) {
            (waiting, parked) if waiting == parked && parked == unroutable as u64 => Ok(()),
            other => Err(format!("{other:?}, {published} published")),
        }
    })
    .await;
    assert!(publishing.attempts("returned") >= unroutable as f64);
    broker.declare(&all, &kind(queue_kind), &name, "no").await;
    publishing.until_published().await;
    until_arrived(&queue, &events).await;
    publishing.stop().await;
    u32::try_from(unroutable).expect("a count")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_unroutable_event_of_a_burst_is_noticed() {
    let bursts = count(5, 10);
    let classic = unroutable_bursts("classic", Topology::Ignore, bursts).await;
    let quorum = unroutable_bursts("quorum", Topology::Check, bursts).await;
    Row::new("P5.rabbitmq")
        .saw("bursts of 4,000", 2 * bursts)
        .saw("unroutable, classic", classic)
        .saw("unroutable, quorum", quorum)
        .saw("not noticed", 0)
        .write();
}

// === poison ===

/// Longest message that the broker is told to take.
const MESSAGE_BYTES_MAX: u32 = 64 * 1024;

/// Twelve records that can never be published, and what is said of each.
fn poison() -> Vec<(Bytes, &'static str)> {
    let long = || "x".repeat(70_000);
    let large = Bytes::from(vec![b'x'; 100_000]);
    let with = |number: u32, change: &dyn Fn(&mut Delivery)| {
        let mut event = event(1_000_000 + number, "shop", "shop.test");
        change(&mut event);
        event.encode()
    };
    let whole = with(0, &|_| {});
    vec![
        (
            with(1, &|one| one.routing_key = "k".repeat(256)),
            "routing key is 256 bytes long",
        ),
        (
            with(2, &|one| one.routing_key = "\u{e9}".repeat(128)),
            "routing key is 256 bytes long",
        ),
        (with(3, &|one| one.event_id = Some(long())), "headers take"),
        (
            with(4, &|one| one.tracestate = Some(long())),
            "headers take",
        ),
        (
            with(5, &|one| one.schema = Some(long().into())),
            "headers take",
        ),
        (
            with(6, &|one| one.key = Some(long().into())),
            "headers take",
        ),
        (
            with(7, &|one| one.request_id = long().into()),
            "headers take",
        ),
        (
            with(8, &|one| one.body = large.clone()),
            "PRECONDITION_FAILED",
        ),
        (
            with(9, &|one| {
                one.body = large.clone();
                one.lane = Lane::Quarantine("/id is absent".to_owned());
            }),
            "PRECONDITION_FAILED",
        ),
        (Bytes::from_static(b"\x09from the future"), "newer gateway"),
        (whole.slice(..whole.len() - 1), "ends inside a field"),
        (Bytes::from_static(b"\x01"), "is absent"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_stops_nobody() {
    const GOOD: u32 = 10_000;
    const TIME_MAX: Duration = Duration::from_secs(30);
    let broker = broker::breakable().await;
    broker.limit_messages(MESSAGE_BYTES_MAX).await;
    let name = unique_name();
    let mut settings = settings(broker.address(), &name);
    settings.topology = Topology::Declare;
    let publishing = Publishing::start(&settings);
    let all = format!("{name}-all");
    // The exchange is there once the gateway's own queues are.
    drop(broker.consume(&format!("{name}.unrouted")).await);
    broker.declare(&all, &kind("classic"), &name, "#").await;
    let queue = broker.consume(&all).await;

    // Bodies at the edges of a frame are good ones: nothing is wrong with them.
    let frame_max = 131_072;
    let odd = [0, 1, frame_max / 2, 60_000];
    let mut random = chance::dice();
    let good: Vec<_> = (1..=GOOD)
        .map(|number| {
            let mut one = event(number, "shop", "shop.test");
            if number % 500 == 0 {
                let length = *random.choice(&odd).expect("one");
                one.body = vec![b'x'; length.min(MESSAGE_BYTES_MAX as usize)].into();
            }
            one
        })
        .collect();
    let mut records: Vec<_> = good.iter().map(Delivery::encode).collect();
    let poison = poison();
    let mut kinds = 0;
    for (record, _) in &poison {
        kinds += 1;
        records.insert(random.usize(..records.len()), record.clone());
    }
    let begin = Instant::now();
    publishing.store_records(&records).await;
    until_arrived(&queue, &good).await;
    let took = begin.elapsed();
    assert!(took <= TIME_MAX, "{took:?}");
    publishing.until_published().await;

    let aside = publishing.set_aside().await;
    assert_eq!(aside.len(), poison.len());
    for (record, reason) in &poison {
        let one = aside.iter().find(|one| one.delivery == *record);
        let one = one.unwrap_or_else(|| panic!("nothing was set aside for {reason:?}"));
        assert!(one.reason.contains(reason), "{:?}", one.reason);
    }
    let reconnects = publishing
        .metrics()
        .sum("hookgate_broker_reconnects_total", &[]);
    assert!(reconnects <= 3.0, "{reconnects}");
    publishing.stop().await;
    Row::new("P6")
        .saw("kinds", kinds)
        .saw("good", GOOD)
        .saw(
            "all delivered after",
            format!("{:.1} s", took.as_secs_f64()),
        )
        .saw("set aside with reason", aside.len())
        .saw("reconnects", reconnects)
        .write();
    drop(broker);
}

// === queues that are full ===

/// Takes messages out of a queue in small sips until all have come.
async fn sip(broker: &Broker, queue: &str, events: usize) -> HashSet<String> {
    const SIP: usize = 40;
    const PAUSE: Duration = Duration::from_millis(10);
    let connection = broker.connect().await.expect("connection");
    let channel = connection.create_channel().await.expect("channel");
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut ids = HashSet::new();
    while ids.len() < events {
        assert!(Instant::now() < deadline, "{} of {events}", ids.len());
        ids.extend(broker.take(&channel, queue, SIP).await);
        sleep(PAUSE).await;
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_queue_and_a_slow_consumer_lose_nothing() {
    const EVENTS: u32 = 1000;
    let broker = broker::shared().await;
    let name = unique_name();
    broker.declare_exchange(&name, ExchangeKind::Topic).await;
    let small = format!("{name}-small");
    broker.declare(&small, &at_most(100), &name, "#").await;
    let publishing = Publishing::start(&settings(broker.address(), &name));
    let events: Vec<_> = (1..=EVENTS)
        .map(|number| event(number, "shop", "shop.test"))
        .collect();
    publishing.store(&events).await;
    eventually("a nack", || async {
        match publishing.attempts("nack") {
            0.0 => Err("none yet".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    let begin = Instant::now();
    let ids = sip(broker, &small, events.len()).await;
    let took = begin.elapsed();
    publishing.until_published().await;
    let nacks = publishing.attempts("nack");
    publishing.stop().await;
    assert_eq!(ids.len(), events.len());
    Row::new("P8")
        .saw("events", EVENTS)
        .saw("nacks", nacks)
        .saw("delivered", ids.len())
        .saw("after", format!("{:.1} s", took.as_secs_f64()))
        .write();
}

/// One source's queue refuses for as long as it likes. The other's events go by, though there are
/// many times more than may be in flight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_whose_queue_takes_nothing_stops_no_other() {
    const IN_FLIGHT_MAX: usize = 128;
    let each = count(5_000, 20_000);
    let broker = broker::shared().await;
    let name = unique_name();
    broker.declare_exchange(&name, ExchangeKind::Topic).await;
    let (full, free) = (format!("{name}-full"), format!("{name}-free"));
    broker.declare(&full, &at_most(10), &name, "stuck.#").await;
    broker
        .declare(&free, &kind("classic"), &name, "free.#")
        .await;
    let queue = broker.consume(&free).await;
    let mut settings = settings(broker.address(), &name);
    settings.in_flight_max = IN_FLIGHT_MAX;
    let publishing = Publishing::start(&settings);
    let stuck: Vec<_> = (1..=each)
        .map(|number| event(number, "stuck", "stuck.test"))
        .collect();
    let free: Vec<_> = (each + 1..=2 * each)
        .map(|number| event(number, "free", "free.test"))
        .collect();
    let mixed: Vec<_> = stuck
        .iter()
        .zip(&free)
        .flat_map(|(one, other)| [one.clone(), other.clone()])
        .collect();
    let begin = Instant::now();
    publishing.store(&mixed).await;
    until_arrived(&queue, &free).await;
    let took = begin.elapsed();
    // They came in order: nothing of theirs failed.
    let order: Vec<_> = queue.seen().iter().map(|message| message.id()).collect();
    assert!(order.is_sorted(), "out of order");
    eventually("all that is stuck to be out of the way", || async {
        let (waiting, parked) = (publishing.waiting(), publishing.parked());
        // Ten are in the queue.
        if waiting == parked && parked == u64::from(each) - 10 {
            Ok(())
        } else {
            Err(format!("{waiting} wait, {parked} are parked"))
        }
    })
    .await;
    let late = broker.consume(&full).await;
    until_arrived(&late, &stuck).await;
    publishing.until_published().await;
    publishing.stop().await;
    Row::new("P8.stuck")
        .saw("events of a source whose queue takes nothing", each)
        .saw("in flight at most", IN_FLIGHT_MAX)
        .saw("the other's events", each)
        .saw("delivered after", format!("{:.1} s", took.as_secs_f64()))
        .saw("lost", 0)
        .write();
}

fn waiting(metrics: &crate::support::gateway::Metrics) -> (f64, f64) {
    let of = |name: &str| metrics.sum(name, &[]);
    (of("hookgate_journal_waiting"), of("hookgate_parked"))
}

async fn until_waiting(gateway: &Gateway, all: f64, parked: f64) {
    eventually("events to wait where they should", || async {
        let seen = waiting(&gateway.metrics().await);
        if seen == (all, parked) {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await;
}

/// A gateway on this broker with two sources, and their queues: that of `stuck` takes one event and refuses more.
async fn stuck_and_free(setup: Setup, broker: &Broker) -> (Gateway, String, String) {
    let sources = [source("stuck", "github", ""), source("free", "github", "")].concat();
    let gateway = setup.no_queues().sources(&sources).start().await;
    let exchange = gateway.exchange();
    drop(broker.consume(&format!("{exchange}.unrouted")).await);
    let (full, free) = (format!("{exchange}-full"), format!("{exchange}-free"));
    broker
        .declare(&full, &at_most(1), exchange, "stuck.#")
        .await;
    broker
        .declare(&free, &kind("classic"), exchange, "free.#")
        .await;
    (gateway, full, free)
}

/// The same with the program itself, over a restart and a kill; the books balance throughout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_parked_outlives_the_process() {
    const EACH: usize = 60;
    let broker = broker::shared().await;
    let setup = Setup::new()
        .broker(broker)
        .broker_lines("max_in_flight = 16");
    let (mut gateway, full, free) = stuck_and_free(setup, broker).await;
    let queue = broker.consume(&free).await;
    for n in 0..EACH {
        for source in ["stuck", "free"] {
            let id = format!("{source}-{n}");
            let webhook = Webhook::github(&format!("/{source}"), "push", &id, b"{}");
            assert_eq!(gateway.send(&webhook).await.status, 202);
        }
    }
    queue.wait_for(EACH).await;
    let parked = (EACH - 1) as f64;
    until_waiting(&gateway, parked, parked).await;
    balance(&gateway).await;

    gateway.restart().await;
    until_waiting(&gateway, parked, parked).await;
    balance(&gateway).await;

    gateway.kill9();
    gateway.start().await;
    let late = broker.consume(&full).await;
    late.wait_until("all that was parked", |seen| {
        let ids: HashSet<_> = seen.iter().map(|message| message.id()).collect();
        ids.len() >= EACH
    })
    .await;
    until_waiting(&gateway, 0.0, 0.0).await;
    balance(&gateway).await;
    let attempts = late
        .seen()
        .iter()
        .map(|one| one.must("hookgate_attempt"))
        .max();
    assert!(
        attempts.is_some_and(|most| most != "1"),
        "attempts are counted on"
    );
}

/// A lot that is full is the trouble of its own source's senders.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_senders_of_a_stuck_source_are_told_to_wait() {
    const BODY_BYTES: usize = 1_000_000;
    let broker = broker::shared().await;
    let setup = Setup::new().broker(broker).journal("max_size = \"128MiB\"");
    let (gateway, full, free) = stuck_and_free(setup, broker).await;
    let body = format!("{{\"text\":\"{}\"}}", "x".repeat(BODY_BYTES));
    let push = |source: &str, id: &str, body: &str| {
        Webhook::github(&format!("/{source}"), "push", id, body.as_bytes())
    };
    let mut accepted = 0;
    let refused = loop {
        let answer = gateway
            .send(&push("stuck", &accepted.to_string(), &body))
            .await;
        if answer.status != 202 {
            break answer;
        }
        accepted += 1;
        assert!(accepted < 35, "it takes more than the lot holds");
        until_waiting(&gateway, f64::from(accepted - 1), f64::from(accepted - 1)).await;
    };
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.rejected("stuck", "queues_full"), 1.0);
    assert_eq!(gateway.send(&push("free", "a", "{}")).await.status, 202);
    let queue = broker.consume(&free).await;
    queue.wait_for(1).await;
    balance(&gateway).await;

    let late = broker.consume(&full).await;
    late.wait_for(usize::try_from(accepted).expect("a count"))
        .await;
    until_waiting(&gateway, 0.0, 0.0).await;
    assert_eq!(gateway.send(&push("stuck", "z", "{}")).await.status, 202);
    balance(&gateway).await;
}
