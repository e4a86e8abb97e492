//! What an old journal holds: stored deliveries, and the messages that are made of them.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use crate::delivery::{BatchPlace, Coverage, Delivery, Lane};
use crate::publisher::preview;

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let full = Delivery {
        id: Uuid::from_u128(1),
        source: Arc::from("shop"),
        event_id: Some("evt_1".to_owned()),
        event_type: Some("orders/create".to_owned()),
        origin: None,
        received_at: Timestamp::UNIX_EPOCH,
        client_ip: [192, 0, 2, 1].into(),
        request_id: Arc::from("r"),
        coverage: Coverage::Full,
        key: Some(Arc::from("2026")),
        unverified: None,
        schema: Some(Arc::from("default")),
        batch: Some(BatchPlace {
            name: Arc::from("b"),
            index: 0,
            size: 1,
        }),
        lane: Lane::Quarantine("/id: is required".to_owned()),
        routing_key: "shop.orders.create".to_owned(),
        content_type: Some("application/json".to_owned()),
        content_encoding: Some("identity".to_owned()),
        traceparent: Some("00-1-2-01".to_owned()),
        tracestate: Some("a=b".to_owned()),
        forwarded: vec![("http_x_a".to_owned(), "1".to_owned())],
        body: Bytes::from_static(b"{}"),
    };
    let bare = Delivery {
        event_id: None,
        event_type: None,
        key: None,
        schema: None,
        batch: None,
        lane: Lane::Main,
        content_type: None,
        content_encoding: None,
        traceparent: None,
        tracestate: None,
        forwarded: Vec::new(),
        ..full.clone()
    };
    vec![full.encode().to_vec(), bare.encode().to_vec()]
}

pub(super) fn run(data: &[u8]) {
    let Ok(delivery) = Delivery::decode(&Bytes::copy_from_slice(data)) else {
        return;
    };
    let again = Delivery::decode(&delivery.encode());
    assert_eq!(again.as_ref(), Ok(&delivery), "what is written is read");
    if let Ok(message) = preview(&delivery) {
        assert!(message.iter().all(|(name, _)| name.len() <= 255));
        assert!(!message.iter().any(|(name, _)| name.starts_with("x-")));
    }
}
