//! The publisher by itself, with a journal of its own, over any broker: for more events than HTTP
//! would bring in reasonable time.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookgate::config::{self, Topology};
use hookgate::delivery::{Coverage, Delivery, Lane};
use hookgate::journal::{Journal, Options, Position};
use hookgate::metrics::Metrics as Registry;
use hookgate::publisher::{Parked, Publisher, SetAside, Sidings};
use hookgate::secret::{Labelled, Secret};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::broker::amqp_url;
use super::eventually::eventually;
use super::gateway::Metrics;

/// Events handed to the journal at once: less than its queue holds.
const STORED_AT_ONCE: usize = 4000;

/// A publisher at work.
#[derive(Debug)]
pub(crate) struct Publishing {
    _directory: TempDir,
    journal: Journal,
    sidings: Sidings,
    metrics: Arc<Registry>,
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

/// `[broker]` with all its defaults.
pub(crate) fn settings(broker: SocketAddr, exchange: &str) -> config::Broker {
    config::Broker {
        urls: vec![Labelled {
            label: Arc::from("urls"),
            secret: Secret::new(amqp_url(broker).into_bytes()),
        }],
        exchange: exchange.to_owned(),
        topology: Topology::Ignore,
        connections: 1,
        in_flight_max: 1024,
        confirm_timeout: Duration::from_secs(10),
        cloudevents: Some("cloudEvents_".to_owned()),
        queues: Vec::new(),
    }
}

/// An event of a source, with this number for an id.
pub(crate) fn event(number: u32, source: &str, routing_key: &str) -> Delivery {
    Delivery {
        id: Uuid::from_u128(u128::from(number)),
        source: Arc::from(source),
        event_id: Some(number.to_string()),
        event_type: Some("test".to_owned()),
        origin: None,
        received_at: Timestamp::UNIX_EPOCH,
        client_ip: [127, 0, 0, 1].into(),
        request_id: Arc::from("r"),
        coverage: Coverage::Full,
        key: None,
        unverified: None,
        schema: None,
        batch: None,
        lane: Lane::Main,
        routing_key: routing_key.to_owned(),
        content_type: Some("application/json".to_owned()),
        content_encoding: None,
        traceparent: None,
        tracestate: None,
        forwarded: Vec::new(),
        body: Bytes::from(format!("{{\"n\":{number}}}")),
    }
}

impl Publishing {
    /// Starts with an empty journal.
    pub(crate) fn start(settings: &config::Broker) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("hookgate-test-")
            .tempdir()
            .expect("directory");
        let options = |name: &str| Options {
            path: directory.path().join(name),
            bytes_max: 1 << 30,
            segment_bytes: 16 << 20,
            retain: Duration::ZERO,
            refuse_damage: true,
            reserve_bytes: 0,
            on_sync: None,
        };
        let journal = Journal::open(options("journal")).expect("journal");
        let sidings = Sidings {
            set_aside: Journal::open(options("journal/set-aside")).expect("journal"),
            parked: Parked::open(options("journal/parked"), &mut |_, _| {
                ControlFlow::Continue(())
            })
            .expect("journals"),
        };
        let metrics = Registry::new([]);
        let (publisher, _) = Publisher::new(
            settings,
            journal.clone(),
            sidings.clone(),
            Arc::clone(&metrics),
        )
        .expect("settings");
        let stop = CancellationToken::new();
        let task = tokio::spawn(publisher.run(stop.clone()));
        Self {
            _directory: directory,
            journal,
            sidings,
            metrics,
            stop,
            task,
        }
    }

    /// Stores events; comes back when they are on stable storage.
    pub(crate) async fn store(&self, events: &[Delivery]) {
        let records: Vec<_> = events.iter().map(Delivery::encode).collect();
        self.store_records(&records).await;
    }

    /// The same with records that may be no events.
    pub(crate) async fn store_records(&self, records: &[Bytes]) {
        for some in records.chunks(STORED_AT_ONCE) {
            let (tell, mut told) = mpsc::channel(some.len());
            for record in some {
                let tell = tell.clone();
                let done = Box::new(move |fate| tell.try_send(fate).expect("room"));
                self.journal
                    .append(record.clone(), Timestamp::UNIX_EPOCH, done);
            }
            drop(tell);
            while let Some(fate) = told.recv().await {
                fate.expect("stored");
            }
        }
    }

    /// Events that wait, in the journal or beside it.
    pub(crate) fn waiting(&self) -> u64 {
        self.journal.status().waiting + self.sidings.parked.waiting()
    }

    /// Waits until the publisher has let go of every event.
    pub(crate) async fn until_published(&self) {
        eventually("everything to be published", || async {
            match self.waiting() {
                0 => Ok(()),
                waiting => Err(format!("{waiting} wait\n{}", self.metrics.render())),
            }
        })
        .await;
    }

    /// All metrics at this moment.
    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::parse(&self.metrics.render())
    }

    /// How often a publish ended so.
    pub(crate) fn attempts(&self, result: &str) -> f64 {
        let name = "hookgate_publish_attempts_total";
        self.metrics().sum(name, &[("result", result)])
    }

    /// Events that wait because their queues do not take them.
    pub(crate) fn parked(&self) -> u64 {
        self.sidings.parked.waiting()
    }

    /// Events that were set aside.
    pub(crate) async fn set_aside(&self) -> Vec<SetAside> {
        let count = self.sidings.set_aside.status().end.0;
        let mut reader = self.sidings.set_aside.read_from(Position(0));
        let mut all = Vec::new();
        for _ in 0..count {
            let record = reader.next().await.expect("a disk").expect("a record");
            all.push(SetAside::decode(&record.payload).expect("one that was set aside"));
        }
        all
    }

    /// Ends it in good order.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("no error");
        self.journal.close().await;
        self.sidings.set_aside.close().await;
        for lot in self.sidings.parked.journals() {
            lot.close().await;
        }
    }
}
