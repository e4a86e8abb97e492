//! What each stage of the pipeline costs on one thread, and the whole of it without sockets.
//!
//! `cargo bench --bench pipeline` for the figures, `-- receive` for some of them.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a program for developers: it may stop where it stands"
)]

#[path = "gateway/order.rs"]
mod order;
#[expect(dead_code, reason = "tests need more of it")]
#[path = "../tests/gateway/support/webhook.rs"]
mod webhook;

#[path = "pipeline/setting.rs"]
mod setting;

use std::hint::black_box;
use std::sync::mpsc::sync_channel;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use http_body_util::Full;
use tokio::runtime::Runtime;

use hookgate::clock::Now;
use hookgate::pipeline::arrival::Arrival;
use hookgate::pipeline::decode::decode;
use hookgate::pipeline::{Account, Outcome, Pipeline};

use setting::{Setting, arrival, delivery, inbound, verified};

/// As many events at once as the load of `make bench` has senders.
const AT_ONCE: usize = 64;

criterion_group!(stages, verify, decode_and_check, encode, journal, receive);
criterion_main!(stages);

fn verify(c: &mut Criterion) {
    let setting = Setting::new();
    let source = setting.source("journal");
    let mut group = c.benchmark_group("verify");
    for kib in [1, 10] {
        let inbound = inbound(source, kib * order::KIB);
        group.throughput(Throughput::Bytes(inbound.body.len() as u64));
        group.bench_function(format!("HMAC-SHA256, {kib} KiB"), |b| {
            let now = Now::read();
            b.iter_batched(
                || inbound.clone(),
                |inbound| source.verifier.verify(inbound, now).is_ok(),
                BatchSize::SmallInput,
            );
        });
    }
}

fn decode_and_check(c: &mut Criterion) {
    let setting = Setting::new();
    let source = setting.source("journal");
    let inbound = inbound(source, order::KIB);
    c.bench_function("decode/1 KiB", |b| {
        b.iter_batched(
            || verified(source, &inbound),
            |verified| decode(verified, &source.reading, true, |_bytes| Ok(())).expect("JSON"),
            BatchSize::SmallInput,
        );
    });
    let document = decode(
        verified(source, &inbound),
        &source.reading,
        true,
        |_bytes| Ok(()),
    )
    .expect("JSON");
    let json = document.json.expect("a tree");
    let schemas = source.schemas.as_ref().expect("a schema");
    c.bench_function("schema/1 KiB", |b| {
        b.iter(|| {
            schemas
                .check(Some(order::EVENT_TYPE), black_box(&json))
                .expect("an order")
        });
    });
}

fn encode(c: &mut Criterion) {
    let delivery = delivery();
    c.bench_function("encode/1 KiB", |b| b.iter(|| black_box(&delivery).encode()));
}

fn journal(c: &mut Criterion) {
    let setting = Setting::new();
    let journal = setting.journal();
    let payload = delivery().encode();
    let at = Now::read().wall;
    let mut group = c.benchmark_group("journal");
    for events in [1, AT_ONCE] {
        let (tell, told) = sync_channel(events);
        group.throughput(Throughput::Elements(events as u64));
        group.bench_function(format!("append and sync, {events} at once"), |b| {
            b.iter(|| {
                for _ in 0..events {
                    let tell = tell.clone();
                    let done = move |fate| tell.send(fate).expect("the bench waits");
                    journal.append(payload.clone(), at, Box::new(done));
                }
                for _ in 0..events {
                    told.recv().expect("an answer").expect("stored");
                }
            });
        });
    }
}

fn receive(c: &mut Criterion) {
    let setting = Setting::new();
    let runtime = Runtime::new().expect("a runtime");
    let pipeline = setting.pipeline();
    let mut group = c.benchmark_group("receive");
    for (ack, events) in [("broker", 1), ("journal", 1), ("journal", AT_ONCE)] {
        let name = match ack {
            "broker" => "without storing".to_owned(),
            _ => format!("with the journal, {events} at once"),
        };
        let template = inbound(setting.source(ack), order::KIB);
        group.throughput(Throughput::Elements(events as u64));
        group.bench_function(name, |b| {
            b.iter_batched(
                || (0..events).map(|_| arrival(&template)).collect::<Vec<_>>(),
                |arrivals| {
                    let each = arrivals
                        .into_iter()
                        .map(|arrival| accept(&pipeline, arrival));
                    runtime.block_on(join_all(each))
                },
                BatchSize::SmallInput,
            );
        });
    }
}

async fn accept(pipeline: &Pipeline, arrival: Arrival<Full<Bytes>>) {
    let mut account = Account::default();
    match pipeline.receive(arrival, Now::read(), &mut account).await {
        Ok(Outcome::Accepted(..)) => {}
        other => panic!("{other:?}"),
    }
}
