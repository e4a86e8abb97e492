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

use std::hint::black_box;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::Full;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use uuid::Uuid;

use hookgate::clock::Now;
use hookgate::config::Config;
use hookgate::delivery::{Coverage, Delivery, Lane};
use hookgate::journal::{Journal, Options};
use hookgate::metrics::Metrics;
use hookgate::pipeline::arrival::{Arrival, Head, Inbound};
use hookgate::pipeline::decode::decode;
use hookgate::pipeline::dedupe::{Dedupe, IDS_MAX};
use hookgate::pipeline::evidence::Nowhere;
use hookgate::pipeline::limit::InFlight;
use hookgate::pipeline::route::Routes;
use hookgate::pipeline::store::{Confirmed, Confirming, Store};
use hookgate::pipeline::verify::Verified;
use hookgate::pipeline::{Account, Outcome, Pipeline};
use hookgate::source::Source;

use webhook::{GITHUB_SECRET, Webhook};

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

// === what is measured with ===

/// A configuration in a directory of its own.
struct Setting {
    directory: TempDir,
    config: Config,
}

/// Confirms everything at once, so that what is left is the decision.
struct Confirms;

impl Confirming for Confirms {
    fn publish(&self, delivery: Delivery, done: Confirmed) {
        black_box(delivery);
        done(Ok(()));
    }
}

impl Setting {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("gateway.toml");
        std::fs::write(directory.path().join("order.json"), order::SCHEMA).expect("schema");
        let source = |ack: &str| {
            format!(
                "[sources.{ack}]\nprovider = \"github\"\nack = \"{ack}\"\nschema = \"order.json\"\n\
                 secrets = [{{ value = \"{GITHUB_SECRET}\" }}]\n"
            )
        };
        // Nobody connects to the broker; `ack = "broker"` asks for one in the configuration.
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\n[server.tls]\nself_signed = true\n\
             [broker]\nurls = [{{ value = \"amqp://127.0.0.1\" }}]\n{}{}",
            source("journal"),
            source("broker")
        );
        std::fs::write(&path, text).expect("configuration");
        let config = match Config::load(&path) {
            Ok(loaded) => loaded.config,
            Err(invalid) => panic!("{invalid}"),
        };
        Self { directory, config }
    }

    fn source(&self, name: &str) -> &Arc<Source> {
        let mut sources = self.config.sources.iter();
        sources
            .find(|source| &*source.name == name)
            .expect("a source")
    }

    fn journal(&self) -> Journal {
        let options = Options {
            path: self.directory.path().join("journal"),
            bytes_max: 16 << 30,
            segment_bytes: 64 << 20,
            retain: Duration::ZERO,
            refuse_damage: true,
            on_sync: None,
        };
        Journal::open(options).expect("journal")
    }

    fn pipeline(&self) -> Pipeline {
        let sources = &self.config.sources;
        let limits = &self.config.server.limits;
        let metrics = Metrics::new(sources.iter().map(|source| &source.name));
        let broker: Arc<dyn Confirming> = Arc::new(Confirms);
        Pipeline {
            routes: Routes::new(sources),
            in_flight: InFlight::new(limits.requests_in_flight_max, limits.bytes_in_flight_max),
            dedupe: Dedupe::new(IDS_MAX),
            fetching: Arc::new(Nowhere),
            store: Store::new(self.journal(), Some(broker), Arc::clone(&metrics)),
            accept_timeout: limits.accept_timeout,
            metrics,
        }
    }
}

/// A signed order for a source.
fn inbound(source: &Source, bytes: usize) -> Inbound {
    let body = order::order(1, bytes);
    let webhook = Webhook::github(&source.path, order::EVENT_TYPE, "id", &body);
    let mut headers = HeaderMap::new();
    for (name, value) in &webhook.headers {
        let name = HeaderName::try_from(name).expect("a name");
        headers.insert(name, HeaderValue::try_from(value).expect("a value"));
    }
    let head = Head {
        method: Method::POST,
        path: source.path.clone(),
        query: None,
        headers,
        client_ip: [127, 0, 0, 1].into(),
        request_id: Arc::from("01890a5d-ac96-774b-bcce-b302099a8057"),
        certificate: None,
    };
    Inbound {
        head,
        body: webhook.body.into(),
    }
}

/// The same once more, as another event. GitHub's proof does not cover its id.
fn arrival(template: &Inbound) -> Arrival<Full<Bytes>> {
    let Inbound { mut head, body } = template.clone();
    let id = HeaderValue::try_from(Uuid::now_v7().to_string()).expect("an id");
    head.headers.insert("x-github-delivery", id);
    Arrival {
        head,
        body: Full::new(body),
    }
}

fn verified(source: &Source, inbound: &Inbound) -> Verified {
    match source.verifier.verify(inbound.clone(), Now::read()) {
        Ok(verified) => verified,
        Err((_, refusal)) => panic!("{refusal}"),
    }
}

fn delivery() -> Delivery {
    Delivery {
        id: Uuid::now_v7(),
        source: Arc::from("github"),
        event_id: Some("01890a5d-ac96-774b-bcce-b302099a8057".to_owned()),
        event_type: Some(order::EVENT_TYPE.to_owned()),
        origin: None,
        received_at: Now::read().wall,
        client_ip: [127, 0, 0, 1].into(),
        request_id: Arc::from("01890a5d-ac96-774b-bcce-b302099a8057"),
        coverage: Coverage::Full,
        key: Some(Arc::from("2026")),
        schema: Some(Arc::from("order")),
        batch: None,
        lane: Lane::Main,
        routing_key: "github.order.created".to_owned(),
        content_type: Some("application/json".to_owned()),
        content_encoding: None,
        traceparent: None,
        tracestate: None,
        forwarded: Vec::new(),
        body: order::order(1, order::KIB).into(),
    }
}
