//! The stages, each with its inputs made before it is counted.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use hookgate::clock::Now;
use hookgate::delivery::Delivery;
use hookgate::edge::activity::{Patience, Protocol};
use hookgate::edge::connection::{Peer, Terms, serve};
use hookgate::edge::reply::{Afterwards, reply};
use hookgate::edge::request::Gateway;
use hookgate::pipeline::decode::decode;
use hookgate::pipeline::{Account, Outcome, Pipeline, Receipt};
use hookgate::telemetry::{FILTER, Format, subscriber};
use hookgate::watch::Watch;

use crate::order;
use crate::setting::{Setting, arrival, delivery, inbound, verified};
use crate::webhook::Webhook;

/// So many events are counted together.
pub(crate) const EVENTS: u64 = 20;

/// Something that is done for every event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The proof.
    Verify,
    /// JSON to a tree.
    Decode,
    /// The tree against its schema.
    Schema,
    /// The whole decision.
    Decide,
    /// The record for the journal.
    Encode,
    /// The record from the journal.
    Record,
    /// The answer.
    Answer,
    /// Everything on a connection.
    Request,
}

impl Stage {
    /// All, in the order in which they are counted.
    pub(crate) const ALL: [Self; 8] = [
        Self::Verify,
        Self::Decode,
        Self::Schema,
        Self::Decide,
        Self::Encode,
        Self::Record,
        Self::Answer,
        Self::Request,
    ];

    /// In the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Decode => "decode",
            Self::Schema => "schema",
            Self::Decide => "decide",
            Self::Encode => "encode a record",
            Self::Record => "decode a record",
            Self::Answer => "answer",
            Self::Request => "request",
        }
    }

    /// The same in more words.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Verify => "HMAC-SHA256 of the body, compared with the header",
            Self::Decode => "the body's JSON to a tree",
            Self::Schema => "the tree against `schemas/order.json`",
            Self::Decide => "the whole pipeline, with a broker that confirms at once",
            Self::Encode => "a delivery to the bytes that the journal stores",
            Self::Record => "and back, for the publisher",
            Self::Answer => "a receipt to a response",
            Self::Request => "HTTP/1.1 in memory: parse, decide, log, count, answer; without TLS",
        }
    }
}

/// Runs every stage once for what is set up at first use, and once more to be counted.
pub(crate) fn run() {
    let setting = Setting::new();
    let bed = Bed {
        pipeline: Arc::new(setting.pipeline()),
        setting,
        runtime: Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime"),
    };
    for stage in Stage::ALL {
        prepare(stage, &bed)();
        counted_by_callgrind(&mut *prepare(stage, &bed));
    }
}

/// What all stages stand on.
struct Bed {
    setting: Setting,
    pipeline: Arc<Pipeline>,
    runtime: Runtime,
}

#[inline(never)]
fn counted_by_callgrind(work: &mut dyn FnMut()) {
    work();
    // So that this is no jump to `work`, after which callgrind would not see the end of this.
    black_box(());
}

/// Calls `stage` with one input after the other.
fn each<'a, T: 'a, R>(make: impl Fn() -> T, stage: impl Fn(T) -> R + 'a) -> Box<dyn FnMut() + 'a> {
    let mut inputs: Vec<T> = (0..EVENTS).map(|_| make()).collect();
    Box::new(move || {
        for input in inputs.drain(..) {
            black_box(stage(black_box(input)));
        }
    })
}

fn prepare(stage: Stage, bed: &Bed) -> Box<dyn FnMut() + '_> {
    let Bed {
        setting,
        pipeline,
        runtime,
    } = bed;
    let source = setting.source("broker");
    let order = inbound(source, order::KIB);
    let now = Now::read();
    match stage {
        Stage::Verify => each(
            || order.clone(),
            move |order| source.verifier.verify(order, now).is_ok(),
        ),
        Stage::Decode => each(
            || verified(source, &order),
            |verified| decode(verified, &source.reading, true, |_| Ok(())).expect("JSON"),
        ),
        Stage::Schema => {
            let schemas = source.schemas.as_ref().expect("a schema");
            let verified = verified(source, &order);
            let document = decode(verified, &source.reading, true, |_| Ok(())).expect("JSON");
            let json = document.json.expect("a tree");
            each(
                || (),
                move |()| {
                    schemas
                        .check(Some(order::EVENT_TYPE), &json)
                        .expect("valid")
                },
            )
        }
        Stage::Decide => each(
            || arrival(&order),
            move |arrival| {
                let mut account = Account::default();
                let deciding = pipeline.receive(arrival, now, &mut account);
                runtime.block_on(deciding).expect("accepted")
            },
        ),
        Stage::Encode => each(delivery, |delivery| delivery.encode()),
        Stage::Record => each(
            || delivery().encode(),
            |record: Bytes| Delivery::decode(&record).expect("a delivery"),
        ),
        Stage::Answer => {
            let outcome = Outcome::Accepted(Receipt::Event(delivery().id), source.reply.clone());
            let decision = Ok(outcome);
            each(
                || (),
                move |()| reply(&decision, "0190-request", Afterwards::Open),
            )
        }
        Stage::Request => {
            let mut connection = Connection::new(bed);
            let requests: Vec<Vec<u8>> = (0..EVENTS).map(|_| request()).collect();
            Box::new(move || {
                for request in &requests {
                    runtime.block_on(connection.ask(request));
                }
            })
        }
    }
}

/// A new order, as it comes.
fn request() -> Vec<u8> {
    let id = delivery().id.to_string();
    let body = order::order(1, order::KIB);
    Webhook::github("/broker", order::EVENT_TYPE, &id, &body).http1()
}

/// The sender's end of a connection to a gateway in this process.
struct Connection {
    stream: DuplexStream,
    answer: Vec<u8>,
    /// The log goes where it costs nothing to write it.
    _log: tracing::subscriber::DefaultGuard,
}

impl Connection {
    fn new(bed: &Bed) -> Self {
        let filter = EnvFilter::new(FILTER);
        let log = subscriber(Format::Json, filter, std::io::sink).set_default();
        let (stream, other_end) = duplex(64 * order::KIB);
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let gateway = Gateway::new(
            Arc::clone(&bed.pipeline),
            Watch::new(),
            Vec::new(),
            tasks.clone(),
            stop.clone(),
        );
        let terms = Terms {
            patience: Patience::new(&bed.setting.config.server.limits, 0.0),
            tasks,
            stop,
        };
        let peer = Peer {
            address: SocketAddr::from(([127, 0, 0, 1], 4711)),
            may_forward: false,
            certificate: None,
        };
        drop(bed.runtime.spawn(async move {
            serve(other_end, Protocol::Http1, &terms, gateway, peer).await;
        }));
        Self {
            stream,
            answer: Vec::with_capacity(4 * order::KIB),
            _log: log,
        }
    }

    /// Sends a request and waits for its answer, which comes in one piece.
    async fn ask(&mut self, request: &[u8]) {
        self.stream.write_all(request).await.expect("taken");
        self.answer.clear();
        self.stream
            .read_buf(&mut self.answer)
            .await
            .expect("an answer");
        assert!(self.answer.starts_with(b"HTTP/1.1 202 "), "not accepted");
    }
}
