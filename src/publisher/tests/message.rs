use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::super::message::{Message, Shape};
use super::{config, delivery};
use crate::delivery::{Delivery, Lane, Origin};

fn message(delivery: &Delivery) -> Result<Message, String> {
    Shape::new(&config()).unwrap().message(delivery, 1)
}

fn headers(message: &Message) -> FieldTable {
    message.properties.headers().clone().unwrap()
}

fn text(table: &FieldTable, name: &str) -> Option<String> {
    let value = table.inner().get(name)?.as_long_string()?;
    Some(String::from_utf8(value.as_bytes().to_vec()).unwrap())
}

fn short(value: Option<&ShortString>) -> Option<&str> {
    value.map(ShortString::as_str)
}

#[test]
fn is_what_the_contract_says() {
    let mut full = delivery(7);
    full.schema = Some("order".into());
    full.content_encoding = Some("gzip".to_owned());
    full.traceparent = Some("00-a-b-01".to_owned());
    full.tracestate = Some("x=y".to_owned());
    full.forwarded = vec![("http_stripe_signature".to_owned(), "t=1".to_owned())];
    let message = message(&full).unwrap();
    assert_eq!(message.exchange.as_str(), "hookgate");
    assert_eq!(message.routing_key.as_str(), "shop.order.paid");
    assert_eq!(message.body, full.body);

    let properties = &message.properties;
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert_eq!(
        short(properties.content_type().as_ref()),
        Some("application/json")
    );
    assert_eq!(short(properties.content_encoding().as_ref()), Some("gzip"));
    assert_eq!(
        short(properties.message_id().as_ref()),
        Some("00000000-0000-0000-0000-000000000007")
    );
    assert_eq!(*properties.timestamp(), Some(1_760_000_000));
    assert_eq!(short(properties.kind().as_ref()), Some("order.paid"));
    assert_eq!(short(properties.app_id().as_ref()), Some("hookgate"));
    assert_eq!(*properties.user_id(), None);
    assert_eq!(*properties.expiration(), None);

    let table = headers(&message);
    let attempt = table.inner().get("hookgate_attempt");
    assert_eq!(attempt, Some(&AMQPValue::LongUInt(1)));
    let mut texts: Vec<_> = table.inner().keys().map(ShortString::as_str).collect();
    texts.retain(|name| *name != "hookgate_attempt");
    let shown: Vec<_> = texts
        .into_iter()
        .map(|name| format!("{name}={}", text(&table, name).unwrap()))
        .collect();
    assert_eq!(
        shown,
        [
            "cloudEvents_id=evt-7",
            "cloudEvents_source=/hookgate/shop",
            "cloudEvents_specversion=1.0",
            "cloudEvents_time=2025-10-09T08:53:20.123456Z",
            "cloudEvents_type=order.paid",
            "hookgate_client_ip=2001:db8::7",
            "hookgate_event_id=evt-7",
            "hookgate_key=2026",
            "hookgate_received_at=2025-10-09T08:53:20.123456Z",
            "hookgate_request_id=r-1",
            "hookgate_schema=order",
            "hookgate_source=shop",
            "hookgate_verified=full",
            "http_stripe_signature=t=1",
            "traceparent=00-a-b-01",
            "tracestate=x=y",
        ]
    );
}

#[test]
fn a_quarantined_one_goes_elsewhere_with_its_reason() {
    let mut invalid = delivery(7);
    invalid.lane = Lane::Quarantine("/id is absent".to_owned());
    let message = message(&invalid).unwrap();
    assert_eq!(message.exchange.as_str(), "hookgate.quarantine");
    assert_eq!(message.routing_key.as_str(), "shop.order.paid");
    let reason = text(&headers(&message), "hookgate_quarantine");
    assert_eq!(reason.as_deref(), Some("/id is absent"));
}

#[test]
fn cloudevents_have_an_id_and_a_type_even_if_the_provider_has_none() {
    let mut bare = delivery(7);
    bare.event_id = None;
    bare.event_type = Some(String::new());
    let table = headers(&message(&bare).unwrap());
    let id = text(&table, "cloudEvents_id");
    assert_eq!(id.as_deref(), Some("00000000-0000-0000-0000-000000000007"));
    let kind = text(&table, "cloudEvents_type");
    assert_eq!(kind.as_deref(), Some("shop.event"));
    bare.event_type = Some("a\nb".to_owned());
    let table = headers(&message(&bare).unwrap());
    assert_eq!(text(&table, "cloudEvents_type").as_deref(), Some("a_b"));
}

#[test]
fn what_came_as_a_cloudevent_keeps_what_it_says_of_itself() {
    let mut delivery = delivery(7);
    delivery.origin = Some(Origin {
        source: "/shop".to_owned(),
        subject: Some("cart\n7".to_owned()),
        time: Some("2026-01-02T03:04:05Z".to_owned()),
    });
    let table = headers(&message(&delivery).unwrap());
    for (name, value) in [
        ("source", "/shop"),
        ("subject", "cart_7"),
        ("time", "2026-01-02T03:04:05Z"),
        ("id", "evt-7"),
    ] {
        let found = text(&table, &format!("cloudEvents_{name}"));
        assert_eq!(found.as_deref(), Some(value), "{name}");
    }
}

#[test]
fn cloudevents_can_be_renamed_and_left_out() {
    let mut config = config();
    config.cloudevents = Some("ce-".to_owned());
    let of = |config| Shape::new(&config).unwrap().message(&delivery(1), 3);
    let table = headers(&of(config.clone()).unwrap());
    assert_eq!(text(&table, "ce-specversion").as_deref(), Some("1.0"));
    config.cloudevents = None;
    let table = headers(&of(config).unwrap());
    let mut names = table.inner().keys().map(ShortString::as_str);
    assert!(names.all(|name| name.starts_with("hookgate_")));
    let attempt = table.inner().get("hookgate_attempt");
    assert_eq!(attempt, Some(&AMQPValue::LongUInt(3)));
}

#[test]
fn only_forwarded_names_become_headers_and_none_that_the_broker_acts_on() {
    let mut hostile = delivery(7);
    let names = ["CC", "BCC", "x-death", "user-id", "http_cc", "x-delay", ""];
    hostile.forwarded = names
        .iter()
        .map(|name| ((*name).to_owned(), "victim".to_owned()))
        .collect();
    hostile
        .forwarded
        .push((format!("http_{}", "n".repeat(251)), "256 bytes".to_owned()));
    hostile
        .forwarded
        .push((format!("http_{}", "n".repeat(250)), "255 bytes".to_owned()));
    let table = headers(&message(&hostile).unwrap());
    assert_eq!(text(&table, "http_cc").as_deref(), Some("victim"));
    for name in names.iter().filter(|name| **name != "http_cc") {
        assert!(!table.inner().contains_key(*name), "{name}");
    }
    let long: Vec<_> = table
        .inner()
        .keys()
        .filter(|name| name.as_str().len() > 200)
        .collect();
    assert_eq!(long.len(), 1);
}

#[test]
fn forwarded_headers_that_are_too_long_are_left_out() {
    let mut long = delivery(7);
    long.forwarded = vec![("http_a".to_owned(), "v".repeat(70_000))];
    let table = headers(&message(&long).unwrap());
    assert!(!table.inner().contains_key("http_a"));
    assert!(table.inner().contains_key("hookgate_source"));
    long.forwarded[0].1 = "v".repeat(60_000);
    let table = headers(&message(&long).unwrap());
    assert!(table.inner().contains_key("http_a"));
}

#[test]
fn what_can_never_be_a_message_says_why() {
    let mut long = delivery(7);
    long.routing_key = "r".repeat(255);
    assert!(message(&long).is_ok());
    long.routing_key = "r".repeat(256);
    assert_eq!(
        message(&long).unwrap_err(),
        "routing key is 256 bytes long, AMQP carries at most 255"
    );
    let mut long = delivery(7);
    long.event_id = Some("e".repeat(66_000));
    let error = message(&long).unwrap_err();
    assert!(error.contains("at most 65536"), "{error}");
}

#[test]
fn properties_that_do_not_fit_are_left_out() {
    let mut long = delivery(7);
    long.event_type = Some("t".repeat(256));
    long.content_type = Some("c".repeat(256));
    let message = message(&long).unwrap();
    assert_eq!(*message.properties.kind(), None);
    assert_eq!(*message.properties.content_type(), None);
    let kind = text(&headers(&message), "cloudEvents_type");
    assert_eq!(kind, Some("t".repeat(256)), "the header has it");
}
