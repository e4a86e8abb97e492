//! What the stages are measured with: a configuration, a signed order, and what becomes of it.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::Full;
use tempfile::TempDir;
use uuid::Uuid;

use hookgate::clock::Now;
use hookgate::config::Config;
use hookgate::delivery::{Coverage, Delivery, Lane};
use hookgate::journal::{Journal, Options};
use hookgate::metrics::Metrics;
use hookgate::pipeline::Pipeline;
use hookgate::pipeline::arrival::{Arrival, Head, Inbound};
use hookgate::pipeline::dedupe::{Dedupe, IDS_MAX};
use hookgate::pipeline::evidence::Nowhere;
use hookgate::pipeline::limit::InFlight;
use hookgate::pipeline::route::Routes;
use hookgate::pipeline::store::{Confirmed, Confirming, Store};
use hookgate::pipeline::verify::Verified;
use hookgate::source::Source;

use crate::order;
use crate::webhook::{GITHUB_SECRET, Webhook};

/// A configuration in a directory of its own.
pub(crate) struct Setting {
    directory: TempDir,
    pub(crate) config: Config,
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
    /// Two sources that differ in what they wait for, `journal` and `broker`.
    pub(crate) fn new() -> Self {
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

    /// One of them.
    pub(crate) fn source(&self, name: &str) -> &Arc<Source> {
        let mut sources = self.config.sources.iter();
        sources
            .find(|source| &*source.name == name)
            .expect("a source")
    }

    /// A journal of its own.
    pub(crate) fn journal(&self) -> Journal {
        let options = Options {
            path: self.directory.path().join("journal"),
            bytes_max: 16 << 30,
            segment_bytes: 64 << 20,
            retain: Duration::ZERO,
            refuse_damage: true,
            reserve_bytes: 0,
            on_sync: None,
        };
        Journal::open(options).expect("journal")
    }

    /// The decision over both.
    pub(crate) fn pipeline(&self) -> Pipeline {
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
pub(crate) fn inbound(source: &Source, bytes: usize) -> Inbound {
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
pub(crate) fn arrival(template: &Inbound) -> Arrival<Full<Bytes>> {
    let Inbound { mut head, body } = template.clone();
    let id = HeaderValue::try_from(Uuid::now_v7().to_string()).expect("an id");
    head.headers.insert("x-github-delivery", id);
    Arrival {
        head,
        body: Full::new(body),
    }
}

/// The same, after its proof held.
pub(crate) fn verified(source: &Source, inbound: &Inbound) -> Verified {
    match source.verifier.verify(inbound.clone(), Now::read()) {
        Ok(verified) => verified,
        Err((_, refusal)) => panic!("{refusal}"),
    }
}

/// What is made of it.
pub(crate) fn delivery() -> Delivery {
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
        unverified: None,
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
