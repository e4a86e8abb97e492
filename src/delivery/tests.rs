//! Stored bytes come back as they were; damaged ones never panic.

use super::*;

fn full() -> Delivery {
    Delivery {
        id: Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001),
        source: Arc::from("github"),
        event_id: Some("72d3162e".to_owned()),
        event_type: Some("push".to_owned()),
        origin: Some(Origin {
            source: "/shop".to_owned(),
            subject: Some("cart 7".to_owned()),
            time: Some("2026-01-02T03:04:05Z".to_owned()),
        }),
        received_at: Timestamp::from_microsecond(1_760_000_000_123_456).unwrap(),
        client_ip: "2001:db8::7".parse().unwrap(),
        request_id: Arc::from("r-1"),
        coverage: Coverage::Full,
        key: Some(Arc::from("2026")),
        unverified: Some(Arc::from("signature_mismatch")),
        schema: Some(Arc::from("push")),
        batch: Some(BatchPlace {
            name: Arc::from("b-1"),
            index: 2,
            size: 3,
        }),
        lane: Lane::Quarantine("schema: /a is absent".to_owned()),
        routing_key: "github.push".to_owned(),
        content_type: Some("application/json".to_owned()),
        content_encoding: Some("gzip".to_owned()),
        traceparent: Some("00-a-b-01".to_owned()),
        tracestate: Some("x=y".to_owned()),
        forwarded: vec![("http_x_a".to_owned(), "1\n2".to_owned())],
        body: Bytes::from_static(b"{\"a\":1}"),
    }
}

fn bare() -> Delivery {
    Delivery {
        event_id: None,
        event_type: None,
        origin: None,
        key: None,
        unverified: None,
        schema: None,
        batch: None,
        lane: Lane::Main,
        content_type: None,
        content_encoding: None,
        traceparent: None,
        tracestate: None,
        forwarded: Vec::new(),
        body: Bytes::new(),
        ..full()
    }
}

#[test]
fn comes_back_as_it_was() {
    for delivery in [full(), bare()] {
        assert_eq!(Delivery::decode(&delivery.encode()), Ok(delivery));
    }
}

#[test]
fn every_prefix_and_every_flipped_byte_is_read_without_panic() {
    let stored = full().encode();
    for cut in 0..stored.len() {
        if let Ok(delivery) = Delivery::decode(&stored.slice(..cut)) {
            panic!("a prefix of {cut} bytes decoded to {delivery:?}");
        }
        let mut flipped = stored.to_vec();
        flipped[cut] ^= 0xff;
        // Some flips are other valid deliveries: the journal's checksum tells them apart.
        drop(Delivery::decode(&Bytes::from(flipped)));
    }
}

#[test]
fn an_unknown_field_is_skipped_and_a_newer_version_is_named() {
    let mut newer = full().encode().to_vec();
    newer.extend([200, 2, 0, 0, 0, b'h', b'i']);
    assert_eq!(Delivery::decode(&Bytes::from(newer)), Ok(full()));
    let error = Delivery::decode(&Bytes::from_static(&[9])).unwrap_err();
    assert_eq!(error, DecodeError::Version(9));
}

#[test]
fn texts_are_cut_between_characters() {
    assert_eq!(cut("abc", 5), "abc");
    assert_eq!(cut("abc", 2), "ab");
    assert_eq!(cut("a\u{20ac}b", 3), "a");
    assert_eq!(cut("a\u{20ac}b", 4), "a\u{20ac}");
    assert_eq!(cut("", 0), "");
}
