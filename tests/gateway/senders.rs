//! Senders that prove themselves otherwise than by a secret's HMAC in a header of their own.

use rcgen::{
    CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};

use crate::support::balance::balance;
use crate::support::broker;
use crate::support::eventually::eventually;
use crate::support::gateway::{Gateway, Setup, erp, said};
use crate::support::sender::Version;
use crate::support::webhook::{Webhook, unix_now};

const BODY: &[u8] = br#"{"id": "evt-1", "name": "order.created"}"#;

/// A certificate of a partner in PEM, and its key.
fn partner(name: &str, authority: &Issuer<'_, KeyPair>) -> (String, String) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().expect("key");
    let certificate = params.signed_by(&key, authority).expect("certificate");
    (certificate.pem(), key.serialize_pem())
}

#[tokio::test]
async fn a_message_signature_and_a_certificate_together() {
    let broker = broker::shared().await;
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "partners");
    let key = KeyPair::generate().expect("key");
    let authority = CertifiedIssuer::self_signed(params, key).expect("authority");
    let sources = r#"
[sources.partner]
secrets = [{ value = "partner-secret", label = "2026" }]
event_id = "json:/id"
allow_ips = { file = "partners.txt" }

[[sources.partner.verify]]
algorithm = "rfc9421"
signature_algorithm = "hmac-sha256"
secrets = ["2026"]

[[sources.partner.verify]]
algorithm = "client-certificate"
san = ["dns:partner.example"]

[sources.far]
secrets = [{ value = "partner-secret" }]
allow_ips = { file = "ranges.json", pointer = "/prefixes/*/cidr" }

[sources.far.verify]
algorithm = "rfc9421"
signature_algorithm = "hmac-sha256"
"#;
    let gateway = Setup::new()
        .broker(broker)
        .file("partners.pem", authority.pem().as_bytes())
        .file("partners.txt", b"# the office\n192.0.2.0/24\n127.0.0.0/8\n")
        .file(
            "ranges.json",
            br#"{"prefixes": [{"cidr": "203.0.113.0/24"}]}"#,
        )
        .server("public_url = \"https://hooks.example.com\"")
        .tls("client_ca = \"partners.pem\"")
        .sources(sources)
        .start()
        .await;
    let queue = gateway.consume(broker).await;
    let url = "https://hooks.example.com/partner";
    let webhook = Webhook::message("/partner", url, "partner-secret", unix_now(), BODY);
    let (own, own_key) = partner("partner.example", &authority);
    let (other, other_key) = partner("other.example", &authority);
    let genuine = gateway.sender().showing(&own, &own_key);
    for version in [Version::Http1, Version::Http2] {
        let mut client = genuine.connect(version).await.expect("a connection");
        let answer = client.send(&webhook).await.expect("an answer");
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    let messages = queue.wait_for(1).await;
    assert_eq!(messages[0].body, BODY);
    assert_eq!(messages[0].must("hookgate_verified"), "full");
    assert_eq!(messages[0].must("hookgate_key"), "2026");

    let mut changed = webhook.clone();
    changed.body.push(b' ');
    let elsewhere = Webhook::message(
        "/partner",
        "https://evil.example/partner",
        "partner-secret",
        unix_now(),
        BODY,
    );
    let far = Webhook::message(
        "/far",
        "https://hooks.example.com/far",
        "partner-secret",
        unix_now(),
        BODY,
    );
    for (sender, webhook, status) in [
        (&gateway.sender(), &webhook, 401),
        (&gateway.sender().showing(&other, &other_key), &webhook, 401),
        (&genuine, &changed, 401),
        (&genuine, &elsewhere, 401),
        (&genuine, &far, 403),
    ] {
        let answer = sender.send(webhook).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    // The file names other networks, then what are none, and these are left alone.
    let put = async |ranges: &str, said: &str, status: u16| {
        let file = gateway.directory().join("ranges.json");
        std::fs::write(file, ranges).expect("a file");
        gateway.hang_up();
        eventually(said, async || {
            let log = gateway.log();
            log.contains(said).then_some(()).ok_or(log)
        })
        .await;
        assert_eq!(genuine.send(&far).await.status, status, "{said}");
    };
    let here = r#"{"prefixes": [{"cidr": "127.0.0.0/8"}]}"#;
    put(here, "the files of allow_ips were read again", 202).await;
    put("{}", "the networks of before stay in use", 202).await;
    put(here, "the files of allow_ips were read again", 202).await;
    // The command can do all of that, too.
    let at = |name: &str| gateway.directory().join(name).display().to_string();
    std::fs::write(at("own.pem"), &own).expect("a certificate");
    std::fs::write(at("own.key"), &own_key).expect("a key");
    let (shown, key) = (at("own.pem"), at("own.key"));
    let identity = ["--client-certificate", &shown, "--client-key", &key];
    let sent = gateway
        .cli(&[&["send", "partner"], &identity[..]].concat())
        .await;
    assert!(sent.status.success(), "{}", said(&sent));
    let lonely = gateway.cli(&["send", "partner"]).await;
    assert!(said(&lonely).contains("401"), "{}", said(&lonely));

    let metrics = gateway.metrics().await;
    for (reason, count) in [
        ("certificate_absent", 2.0),
        ("certificate_mismatch", 1.0),
        ("digest_mismatch", 1.0),
        ("signature_mismatch", 1.0),
    ] {
        let labels = [("source", "partner"), ("reason", reason)];
        assert_eq!(
            metrics.sum("hookgate_refusals_total", &labels),
            count,
            "{reason}"
        );
    }
    balance(&gateway).await;
}

#[tokio::test]
async fn a_restart_remembers_when_a_secret_was_last_used() {
    let mut gateway = Setup::new().sources(&erp("")).start().await;
    let webhook = Webhook::erp("/erp", unix_now(), "e-1", BODY);
    assert_eq!(gateway.send(&webhook).await.status, 202);
    let secret = async |gateway: &Gateway| {
        let status = gateway.admin("/api/v1/status").await.json();
        let sources = status["sources"].as_array().expect("sources").clone();
        let erp = sources.into_iter().find(|it| it["name"] == "erp");
        erp.expect("the source")["secrets"][0].clone()
    };
    let before = secret(&gateway).await;
    assert!(
        before["uses"] == 1 && before["last_used"].is_string(),
        "{before}"
    );
    gateway.restart().await;
    let after = secret(&gateway).await;
    assert_eq!(after["last_used"], before["last_used"]);
    assert_eq!(after["uses"], 0);
}
