//! The decisions on values, and the links against a scripted broker with paused time.

mod backoff;
mod feed;
mod link;
mod lots;
mod message;
mod pairing;
mod panics;
mod replay;
mod script;
mod set_aside;
mod topology;
mod urls;
mod whole;
mod window;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use crate::config::{Broker, Queue, QueueKind, Topology};
use crate::delivery::{Coverage, Delivery, Lane};
use crate::secret::{Labelled, Secret};

fn url(text: &str) -> Labelled {
    Labelled {
        label: Arc::from("AMQP_URL"),
        secret: Secret::new(text.as_bytes().to_vec()),
    }
}

fn config() -> Broker {
    Broker {
        urls: vec![url("amqp://guest:hunter2@localhost:5672")],
        exchange: "hookgate".to_owned(),
        topology: Topology::Declare,
        connections: 1,
        in_flight_max: 8,
        confirm_timeout: Duration::from_secs(10),
        cloudevents: Some("cloudEvents_".to_owned()),
        queues: vec![Queue {
            name: "orders".to_owned(),
            bind: vec!["shop.#".to_owned()],
            kind: QueueKind::Quorum,
        }],
    }
}

/// The delivery of a number.
fn delivery(number: u64) -> Delivery {
    Delivery {
        id: Uuid::from_u128(u128::from(number)),
        source: Arc::from("shop"),
        event_id: Some(format!("evt-{number}")),
        event_type: Some("order.paid".to_owned()),
        origin: None,
        received_at: Timestamp::from_microsecond(1_760_000_000_123_456).unwrap(),
        client_ip: "2001:db8::7".parse().unwrap(),
        request_id: Arc::from("r-1"),
        coverage: Coverage::Full,
        key: Some(Arc::from("2026")),
        unverified: None,
        schema: None,
        batch: None,
        lane: Lane::Main,
        routing_key: "shop.order.paid".to_owned(),
        content_type: Some("application/json".to_owned()),
        content_encoding: None,
        traceparent: None,
        tracestate: None,
        forwarded: Vec::new(),
        body: Bytes::from(number.to_string()),
    }
}
