//! Bodies of every format, from the socket to the queue.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use lapin::types::ShortString;

use crate::support::balance::balance;
use crate::support::broker::{self, Message};
use crate::support::gateway::{Gateway, Setup, source};
use crate::support::webhook::{ERP_SECRET, Webhook, hex, hmac_sha256};

/// A source whose sender signs `signed` with the usual secret, in hexadecimal.
fn signing(name: &str, signed: &str, more: &str) -> String {
    format!(
        "[sources.{name}]\nsecrets = [{{ value = \"{ERP_SECRET}\", label = \"{name}\" }}]\n\
         event_id = \"header:X-Event-Id\"\n{more}\n[sources.{name}.verify]\n\
         algorithm = \"hmac-sha256\"\nsignature = \"header:X-Signature\"\nsigned = \"{signed}\"\n\n"
    )
}

fn signed(path: &str, content_type: &str, body: &[u8]) -> Webhook {
    let proof = hex(&hmac_sha256(ERP_SECRET.as_bytes(), body));
    Webhook::bare(path, body)
        .with("Content-Type", content_type)
        .with("X-Signature", &proof)
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn property(value: Option<&ShortString>) -> &str {
    value.map(ShortString::as_str).unwrap_or_default()
}

const BY_TYPE: &str = "event_type = [\"json:/event/name\", \"form:type\"]";

#[tokio::test]
async fn every_format_arrives_as_it_came() {
    let broker = broker::shared().await;
    let push = r#"{"type":"object","required":["ref"]}"#;
    let github = source("github", "github", "schema = \"push.json\"");
    let cloud = "[sources.cloud]\nprovider = \"cloudevents-http-webhook\"\n\
                 secrets = [{ value = \"cloud-token-17\", label = \"cloud\" }]\n\n";
    let mail = format!(
        "[sources.mail]\nprovider = \"mailgun-routes\"\n\
         secrets = [{{ value = \"{ERP_SECRET}\", label = \"mail\" }}]\n\n"
    );
    let erp = format!("{BY_TYPE}\ncontent_encodings = [\"gzip\"]\nschema = \"named.json\"");
    let query = format!("{BY_TYPE}\nmethods = [\"GET\", \"DELETE\"]");
    let named = r#"{"type":"object","required":["event"]}"#;
    let sources = [
        github,
        cloud.to_owned(),
        mail,
        signing("erp", "{body}", &erp),
        signing("query", "{url}{body}", &query),
    ];
    let gateway = Setup::new()
        .broker(broker)
        .server("public_url = \"https://hooks.example.com\"")
        .file("push.json", push.as_bytes())
        .file("named.json", named.as_bytes())
        .sources(&sources.concat())
        .start()
        .await;
    let queue = gateway.consume(broker).await;
    let mut arrived = 0;
    let mut through = async |webhook: &Webhook| -> Message {
        let answer = gateway.send(webhook).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!((200..300).contains(&answer.status), "{webhook:?}: {text}");
        arrived += 1;
        queue.wait_for(arrived).await.remove(arrived - 1)
    };

    // A form around JSON: the schema sees the JSON, consumers the form.
    let body = b"payload=%7B%22ref%22%3A%22refs%2Fheads%2Fmain%22%7D";
    let form = Webhook::github("/github", "push", "f1", body)
        .with("Content-Type", "application/x-www-form-urlencoded");
    let message = through(&form).await;
    assert_eq!(message.body, body);
    assert_eq!(message.routing_key, "github.push");
    assert_eq!(message.must("hookgate_schema"), "push");

    // Coded, XML and lines: one source, whose schema sees them all alike.
    let json = br#"{"event":{"name":"paid"}}"#;
    let packed = signed("/erp", "application/json", &gzip(json)).with("Content-Encoding", "gzip");
    let message = through(&packed).await;
    assert_eq!(message.body, gzip(json));
    assert_eq!(message.routing_key, "erp.paid");
    assert_eq!(
        property(message.properties.content_encoding().as_ref()),
        "gzip"
    );
    let xml = b"<?xml version=\"1.0\"?><event><name>shipped</name></event>";
    let message = through(&signed("/erp", "text/xml", xml)).await;
    assert_eq!(message.routing_key, "erp.shipped");
    assert_eq!(message.body, xml);
    let lines = b"{\"event\":1}\n{\"event\":2}\n";
    let message = through(&signed("/erp", "application/x-ndjson", lines)).await;
    assert_eq!(message.body, lines);

    // A multipart form with a file, signed by fields of it.
    let token = hex(&hmac_sha256(ERP_SECRET.as_bytes(), b"1760000000t0k3n"));
    let mut body = String::new();
    for (field, value) in [
        ("name=timestamp", "1760000000"),
        ("name=token", "t0k3n"),
        ("name=signature", token.as_str()),
        (
            "name=\"attachment-1\"; filename=\"a.txt\"\r\nContent-Type: text/plain",
            "hello",
        ),
    ] {
        body.push_str(&format!(
            "--x1\r\nContent-Disposition: form-data; {field}\r\n\r\n{value}\r\n"
        ));
    }
    body.push_str("--x1--\r\n");
    let mail = Webhook::bare("/mail", body.as_bytes())
        .with("Content-Type", "multipart/form-data; boundary=x1");
    let message = through(&mail).await;
    assert_eq!(message.body, body.as_bytes());
    assert_eq!(message.must("hookgate_verified"), "fields");

    // A CloudEvent in header fields: the message says what it says, with the same id from two.
    let event = Webhook::bare("/cloud", b"{}")
        .with("Authorization", "Bearer cloud-token-17")
        .with("ce-specversion", "1.0")
        .with("ce-id", "7")
        .with("ce-type", "com.example.paid")
        .with("ce-subject", "cart%207");
    for from in ["/shop/a", "/shop/b"] {
        let message = through(&event.clone().with("ce-source", from)).await;
        assert_eq!(message.routing_key, "cloud.com.example.paid");
        for (name, value) in [("id", "7"), ("source", from), ("subject", "cart 7")] {
            assert_eq!(message.must(&format!("cloudEvents_{name}")), value);
        }
    }

    // A GET: the query is the event, and what is signed covers it.
    let get = signed("/query?type=sms&from=%2B49", "text/plain", b"").method("GET");
    let url = b"https://hooks.example.com/query?type=sms&from=%2B49";
    let get = get.with(
        "X-Signature",
        &hex(&hmac_sha256(ERP_SECRET.as_bytes(), url)),
    );
    let message = through(&get).await;
    assert_eq!(message.body, b"type=sms&from=%2B49");
    assert_eq!(message.routing_key, "query.sms");
    let content_type = property(message.properties.content_type().as_ref()).to_owned();
    assert_eq!(content_type, "application/x-www-form-urlencoded");

    balance(&gateway).await;
    turned_away(&gateway).await;
    balance(&gateway).await;
}

/// What is not, each in its way.
async fn turned_away(gateway: &Gateway) {
    let bomb = signed("/erp", "application/json", &gzip(&vec![b' '; 8 << 20]));
    let doctype = b"<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><event>&x;</event>";
    let json = br#"{"event":{}}"#;
    for (webhook, status, words) in [
        (
            bomb.with("Content-Encoding", "gzip"),
            413,
            "unpacks to more than 1048576 bytes",
        ),
        (
            signed("/erp", "application/json", json).with("Content-Encoding", "zstd"),
            415,
            "content coding",
        ),
        (
            signed("/erp", "application/json", json).with("Content-Encoding", "gzip, gzip"),
            415,
            "content coding",
        ),
        (
            signed("/erp", "text/xml", doctype),
            400,
            "line 1, column 1: a document type declaration is not taken",
        ),
        (
            signed("/erp", "application/x-ndjson", b"{\"event\":1}\n{}"),
            422,
            "/1",
        ),
        (
            Webhook::github("/github", "push", "f2", b"payload=%7B")
                .with("Content-Type", "application/x-www-form-urlencoded"),
            400,
            "form field `payload`: line 1, column 1",
        ),
        (
            Webhook::bare("/cloud", b"{}")
                .with("Authorization", "Bearer cloud-token-17")
                .with("ce-specversion", "1.0"),
            400,
            "the CloudEvent has no `id`",
        ),
        (signed("/erp", "text/plain", b"").method("GET"), 405, "POST"),
    ] {
        let answer = gateway.send(&webhook).await;
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, status, "{webhook:?}: {text}");
        assert!(text.contains(words), "{text}");
    }
}
