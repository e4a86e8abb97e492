//! What a sender writes, or an operator forwards, never becomes an AMQP name or property with a
//! meaning for the broker.

use serde_json::json;

use crate::support::balance::balance;
use crate::support::broker::{self, Message};
use crate::support::figures::Row;
use crate::support::gateway::{Setup, cli, erp, said, source};
use crate::support::sender::Version;
use crate::support::webhook::{Webhook, unix_now};

/// Request headers with the names of what RabbitMQ acts on, and of properties.
const NAMES: [&str; 16] = [
    "CC",
    "BCC",
    "cc",
    "x-death",
    "x-first-death-queue",
    "x-delay",
    "x-match",
    "x-message-ttl",
    "user-id",
    "user_id",
    "expiration",
    "reply-to",
    "priority",
    "delivery-mode",
    "cluster-id",
    "hookgate_source",
];

/// Everything that a message's table may hold.
#[track_caller]
fn assert_harmless(message: &Message) {
    for name in message.header_names() {
        let ours = ["hookgate_", "cloudEvents_", "http_"];
        let known = ours.iter().any(|prefix| name.starts_with(prefix))
            || matches!(name.as_str(), "traceparent" | "tracestate");
        assert!(known, "{name}");
        assert!(name.len() <= 255 && name.is_ascii(), "{name}");
    }
    let properties = &message.properties;
    assert_eq!(*properties.user_id(), None);
    assert_eq!(*properties.expiration(), None);
    assert_eq!(*properties.reply_to(), None);
    assert_eq!(*properties.correlation_id(), None);
    assert_eq!(*properties.priority(), None);
    assert_eq!(*properties.cluster_id(), None);
    assert_eq!(*properties.delivery_mode(), Some(2));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    assert!(
        message.routing_key.chars().all(plain),
        "{}",
        message.routing_key
    );
    assert!((1..=255).contains(&message.routing_key.len()));
}

/// Each name in all its spellings is forwarded under a prefix, and a queue that such a header
/// names gets nothing.
#[tokio::test]
async fn forwarded_headers_have_no_meaning_for_the_broker() {
    let broker = broker::shared().await;
    let forwarded = NAMES
        .iter()
        .filter(|name| **name != "cc" && **name != "user_id");
    let longest = format!("X-{}", "n".repeat(198));
    let list: Vec<_> = forwarded
        .map(|name| (*name).to_owned())
        .chain([longest.clone()])
        .collect();
    let lines = format!("forward_headers = {}", json!(list));
    let gateway = Setup::new()
        .broker(broker)
        .sources(&source("github", "github", &lines))
        .start()
        .await;
    let queue = gateway.consume(broker).await;
    let victim = format!("{}-victim", gateway.exchange());
    broker
        .declare(&victim, &[], gateway.exchange(), "nobody.sends.this")
        .await;
    let mut client = gateway.connect(Version::Http1).await;
    let mut sent = 0;
    let values = [
        victim.clone(),
        format!("[\"{victim}\"]"),
        "guest".to_owned(),
        "0".to_owned(),
    ];
    for value in &values {
        for spelling in [str::to_owned, str::to_uppercase, str::to_lowercase] {
            let id = format!("id-{sent}");
            let mut webhook = Webhook::github("/github", "push", &id, b"{}");
            for name in NAMES.iter().filter(|name| !name.contains('_')) {
                webhook = webhook.with(&spelling(name), value);
            }
            webhook = webhook.with(&longest, value);
            let answer = client.send(&webhook).await.expect("an answer");
            assert_eq!(answer.status, 202, "{answer:?}");
            sent += 1;
        }
    }
    let messages = queue.wait_for(sent).await;
    for message in &messages {
        assert_harmless(message);
        assert_eq!(message.routing_key, "github.push");
        for name in [
            "http_cc",
            "http_bcc",
            "http_x_death",
            "http_user_id",
            "http_expiration",
        ] {
            assert!(values.contains(&message.must(name)), "{name}");
        }
        message.must(&format!("http_x_{}", "n".repeat(198)));
    }
    assert_eq!(
        broker.depth(&victim).await,
        Ok(0),
        "a copy went where a header said"
    );
    assert_eq!(messages.len(), sent);
    balance(&gateway).await;
    Row::new("Q.headers")
        .saw("messages", sent)
        .saw("headers with a meaning", 0)
        .write();
}

/// Types, ids and content types at and beyond what AMQP carries, in one byte and in several.
#[tokio::test]
async fn values_at_the_borders_of_short_strings() {
    let broker = broker::shared().await;
    let gateway = Setup::new()
        .broker(broker)
        .sources(
            &[
                erp("forward_headers = [\"X-Long\"]"),
                source("github", "github", ""),
            ]
            .concat(),
        )
        .start()
        .await;
    let queue = gateway.consume(broker).await;
    let mut client = gateway.connect(Version::Http1).await;
    let mut kinds: Vec<String> = [
        "a b#*",
        "#",
        "*.#",
        "..",
        "a/../b",
        "\r\nCC: x",
        "\0",
        "\u{202e}x",
    ]
    .map(str::to_owned)
    .into();
    for unit in ["t", "\u{e9}", "\u{20ac}", "\u{1f980}"] {
        for bytes in [250, 251, 252, 254, 255, 256, 257, 1024] {
            let whole = unit.repeat(bytes / unit.len());
            let rest = "t".repeat(bytes % unit.len());
            kinds.push(format!("{rest}{whole}"));
        }
    }
    for (n, kind) in kinds.iter().enumerate() {
        let body = json!({"event": {"name": kind}, "n": n}).to_string();
        // As long as the type: the id is a header's value, so in visible ASCII.
        let id = format!("{n}-{}", "i".repeat(kind.len()));
        let content_type = format!(
            "application/json; p={}",
            "p".repeat(kind.len().saturating_sub(20))
        );
        let webhook = Webhook::erp("/erp", unix_now(), &id, body.as_bytes())
            .with("Content-Type", &content_type)
            .with("X-Long", &"v".repeat(kind.len() * 8))
            .with("traceparent", &"0".repeat(kind.len()))
            .with("tracestate", &"s".repeat(kind.len()));
        let answer = client.send(&webhook).await.expect("an answer");
        assert_eq!(answer.status, 202, "{kind:?}: {answer:?}");
    }
    let messages = queue.wait_for(kinds.len()).await;
    for message in &messages {
        assert_harmless(message);
        let body = message.json();
        let kind = body["event"]["name"].as_str().expect("a type");
        assert!(
            message.routing_key.starts_with("erp."),
            "{}",
            message.routing_key
        );
        let property = message
            .properties
            .kind()
            .as_ref()
            .map(|kind| kind.as_str().to_owned());
        let expected = (kind.len() <= 255).then(|| kind.to_owned());
        assert_eq!(property, expected, "{} bytes", kind.len());
        let content_type = message.properties.content_type().is_some();
        assert_eq!(
            content_type,
            kind.len().max(20) <= 255,
            "{} bytes",
            kind.len()
        );
    }
    balance(&gateway).await;
    Row::new("Q.values")
        .saw("values", kinds.len())
        .saw("changed or lost", 0)
        .write();
}

/// Bodies around the size of a frame, byte for byte.
#[tokio::test]
async fn bodies_around_the_size_of_a_frame() {
    let broker = broker::shared().await;
    let gateway = Setup::new()
        .broker(broker)
        .sources(&source("github", "github", "format = \"raw\""))
        .start()
        .await;
    let queue = gateway.consume(broker).await;
    let sizes = [0, 1, 131_063, 131_064, 131_065, 131_072, 262_128, 1 << 20];
    for (n, size) in sizes.iter().enumerate() {
        let body: Vec<u8> = (0..*size).map(|at| b"\0\xce\r\n\xff{}\""[at % 8]).collect();
        let webhook = Webhook::github("/github", "push", &format!("{n}"), &body);
        assert_eq!(gateway.send(&webhook).await.status, 202, "{size}");
        let messages = queue.wait_for(n + 1).await;
        assert!(messages[n].body == body, "{size} bytes were changed");
    }
    balance(&gateway).await;
}

/// What an operator may not write: names and keys with a meaning of their own.
#[tokio::test]
async fn names_that_are_refused() {
    let sources = [
        "../x",
        "a.b.#",
        "a*",
        "#",
        "a b",
        "\\u0000",
        "\\U0001F980",
        "",
        "A",
    ];
    let keys = [
        "{type}",
        "#.{type}",
        "a.*",
        "a b",
        "\\u00e9.{type}",
        "{source}{",
        "",
    ];
    let headers = [
        "CC: x",
        "a b",
        "",
        "\\u0000",
        "Authorization",
        "Cookie",
        "n(n)",
    ];
    let long = "n".repeat(201);
    let mut refused = 0;
    let mut check = async |lines: String| {
        let gateway = Setup::new().sources(&lines).prepare();
        let output = cli(
            &["check", "-c", gateway.config().to_str().expect("path")],
            &[],
        )
        .await;
        assert_eq!(output.status.code(), Some(78), "{lines}: {}", said(&output));
        assert!(!said(&output).contains("panicked"), "{}", said(&output));
        refused += 1;
    };
    for name in sources {
        check(source(&format!("\"{name}\""), "github", "")).await;
    }
    for key in keys {
        check(source(
            "github",
            "github",
            &format!("routing_key = \"{key}\""),
        ))
        .await;
    }
    for header in headers.into_iter().chain([long.as_str()]) {
        check(source(
            "github",
            "github",
            &format!("forward_headers = [\"{header}\"]"),
        ))
        .await;
    }
    let queues = ["amq.x", "", "\\u0000"];
    for name in queues {
        let gateway = Setup::new().prepare();
        let lines = format!(
            "\n[broker]\nurls = [{{ value = \"amqp://127.0.0.1\" }}]\nexchange = \"{name}\"\n"
        );
        gateway.edit(|text| text + &lines);
        let output = gateway.cli(&["check"]).await;
        assert_eq!(output.status.code(), Some(78), "{name}: {}", said(&output));
    }
    Row::new("Q.names")
        .saw("refused", refused + queues.len())
        .write();
}
