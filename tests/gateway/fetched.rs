//! Proofs that need something from elsewhere: a server of our own plays Amazon, PayPal and Azure, on
//! loopback, with certificates by an authority of our own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use serde_json::{Value, json};

use crate::support::balance::balance;
use crate::support::broker;
use crate::support::elsewhere::{Authority, Elsewhere, answer};
use crate::support::eventually::eventually;
use crate::support::gateway::{Gateway, Setup, said};
use crate::support::webhook::Webhook;

const SNS: &str = "sns.eu-central-1.amazonaws.com";
const PAYPAL: &str = "api.paypal.com";
const AZURE: &str = "rp-eastus2.eventgrid.azure.net";
const PAYPAL_NAME: &str = "messageverificationcerts.paypal.com";
const TOPIC: &str = "arn:aws:sns:eu-central-1:123456789012:orders";
const CERTIFICATE: &str = "/SimpleNotificationService-0123456789abcdef.pem";

/// Amazon, PayPal and Azure at once.
struct Provider {
    elsewhere: Elsewhere,
    authority: Authority,
    /// What signs, and its certificate with those that vouch for it.
    key: RsaKeyPair,
    chain: String,
    /// What was asked for.
    asked: Arc<Mutex<Vec<String>>>,
    is_down: Arc<AtomicBool>,
}

impl Provider {
    async fn start() -> Self {
        let authority = Authority::new();
        let signing = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("key");
        let chain = authority.certify(&[PAYPAL_NAME], &signing).pem();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let is_down: Arc<AtomicBool> = Arc::default();
        let names = [SNS, PAYPAL, AZURE];
        let elsewhere = Elsewhere::start(&authority, &names, {
            let (chain, asked) = (chain.clone(), Arc::clone(&asked));
            let is_down = Arc::clone(&is_down);
            move |line, _| {
                asked.lock().expect("asked").push(line.to_owned());
                let status = if is_down.load(Ordering::SeqCst) {
                    "500 Internal Server Error"
                } else {
                    "200 OK"
                };
                answer(status, &chain)
            }
        })
        .await;
        Self {
            elsewhere,
            authority,
            key: RsaKeyPair::from_pkcs8(&signing.serialize_der()).expect("RSA"),
            chain,
            asked,
            is_down,
        }
    }

    /// What the gateway has to know to take this for Amazon and PayPal.
    fn setup(&self, more: &str) -> Setup {
        let address = self.elsewhere.address;
        let sources = format!(
            "[fetch]\nca = \"provider.pem\"\nallow_private = [\"127.0.0.0/8\"]\n\
             resolve = {{ \"{SNS}\" = \"{address}\", \"{PAYPAL}\" = \"{address}\", \
             \"{AZURE}\" = \"{address}\" }}\n\
             [sources.aws]\nprovider = \"sns\"\n{more}\n\
             [sources.aws.config]\ntopics = [\"{TOPIC}\"]\n\
             [sources.paypal]\nprovider = \"paypal-cert-url\"\n\
             [sources.paypal.config]\nwebhook_id = \"WH-1\"\n\
             [sources.azure]\nprovider = \"eventgrid\"\nsecrets = [{{ value = \"t0ken\" }}]\n{more}\n"
        );
        Setup::new()
            .file("provider.pem", self.authority.pem.as_bytes())
            .sources(&sources)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("asked").clone()
    }

    fn sign(&self, text: &[u8]) -> String {
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                text,
                &mut signature,
            )
            .expect("signed");
        STANDARD.encode(signature)
    }

    /// A message of SNS with these members besides the usual ones.
    fn message(&self, kind: &str, id: &str, more: &Value) -> Webhook {
        let mut message = json!({
            "Type": kind, "MessageId": id, "TopicArn": TOPIC, "Message": "{\"order\": 17}",
            "Timestamp": Timestamp::from_second(crate::support::webhook::unix_now())
                .expect("now").to_string(),
            "SignatureVersion": "2",
            "SigningCertURL": format!("https://{SNS}{CERTIFICATE}"),
        });
        let members = message.as_object_mut().expect("an object");
        members.extend(more.as_object().expect("an object").clone());
        let mut names = vec![
            "Message",
            "MessageId",
            "SubscribeURL",
            "Subject",
            "Timestamp",
        ];
        names.extend(["Token", "TopicArn", "Type"]);
        let mut text = String::new();
        for name in names {
            if let Some(value) = message.get(name).and_then(Value::as_str) {
                text.push_str(&format!("{name}\n{value}\n"));
            }
        }
        message["Signature"] = self.sign(text.as_bytes()).into();
        Webhook::bare("/aws", message.to_string().as_bytes())
            .with("Content-Type", "text/plain; charset=UTF-8")
            .with("x-amz-sns-message-type", kind)
    }

    fn subscription(&self) -> Webhook {
        let url = format!("https://{SNS}/?Action=ConfirmSubscription&Token=2336");
        let more = json!({ "SubscribeURL": url, "Token": "2336" });
        self.message("SubscriptionConfirmation", "s-1", &more)
    }
}

async fn status(gateway: &Gateway, webhook: &Webhook) -> u16 {
    gateway.send(webhook).await.status
}

#[tokio::test]
async fn sns_subscribes_and_notifies() {
    let provider = Provider::start().await;
    let broker = broker::shared().await;
    let gateway = provider
        .setup("confirm = true")
        .broker(broker)
        .start()
        .await;
    let queue = gateway.consume(broker).await;

    let answer = gateway.send(&provider.subscription()).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let certificate = format!("GET {CERTIFICATE} HTTP/1.1");
    let confirmed = "GET /?Action=ConfirmSubscription&Token=2336 HTTP/1.1".to_owned();
    assert_eq!(provider.asked(), [certificate.clone(), confirmed.clone()]);

    let subject = json!({ "Subject": "An order" });
    let notification = provider.message("Notification", "m-1", &subject);
    let answer = gateway.send(&notification).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let again = gateway.send(&notification).await;
    assert_eq!(again.header("hookgate-duplicate"), Some("true"));
    let messages = queue.wait_for(1).await;
    assert_eq!(messages[0].body, notification.body);
    assert_eq!(messages[0].routing_key, "aws.Notification");
    assert_eq!(provider.asked().len(), 2, "the certificate is kept");

    // Somebody else's topic, whose messages SNS signs, too.
    let theirs = json!({ "TopicArn": "arn:aws:sns:eu-central-1:999999999999:orders" });
    let theirs = provider.message("Notification", "m-2", &theirs);
    assert_eq!(status(&gateway, &theirs).await, 401);
    let mut changed = notification.clone();
    let text = String::from_utf8(changed.body).expect("text");
    changed.body = text.replace("17", "18").into_bytes();
    assert_eq!(status(&gateway, &changed).await, 401);

    // What could not be fetched is not the sender's fault, and what is known still is.
    provider.is_down.store(true, Ordering::SeqCst);
    let other =
        json!({ "SigningCertURL": format!("https://{SNS}/SimpleNotificationService-b.pem") });
    let unknown = provider.message("Notification", "m-3", &other);
    let answer = gateway.send(&unknown).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("5"));
    let known = provider.message("Notification", "m-4", &json!({}));
    assert_eq!(status(&gateway, &known).await, 200);
    assert_eq!(status(&gateway, &provider.subscription()).await, 503);

    let metrics = gateway.metrics().await;
    let fetched = |outcome| {
        let labels = [("source", "aws"), ("outcome", outcome)];
        metrics.sum("hookgate_fetches_total", &labels)
    };
    assert!((fetched("ok") - 2.0).abs() < f64::EPSILON);
    assert!((fetched("status") - 2.0).abs() < f64::EPSILON);
    queue.wait_for(2).await;
    balance(&gateway).await;
}

#[tokio::test]
async fn a_subscription_waits_for_a_person_unless_the_source_says_otherwise() {
    let provider = Provider::start().await;
    let gateway = provider.setup("").start().await;
    assert_eq!(status(&gateway, &provider.subscription()).await, 200);
    assert_eq!(
        provider.asked().len(),
        1,
        "the certificate, and nothing else"
    );
    let log = gateway.log();
    let url = format!("https://{SNS}/?Action=ConfirmSubscription&Token=2336");
    assert!(log.contains(&url), "{log}");
    balance(&gateway).await;
}

/// As in Microsoft's documentation of the handshake.
fn validation(url: &str) -> Webhook {
    let event = json!([{
        "id": "2d1781af-3a4c-4d7c-bd0c-e34b19da4e66",
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "data": { "validationCode": "512d38b6", "validationUrl": url },
    }]);
    Webhook::bare("/azure?code=t0ken", event.to_string().as_bytes())
        .with("aeg-event-type", "SubscriptionValidation")
}

#[tokio::test]
async fn event_grid_is_answered_by_an_echo_or_called_afterwards() {
    let provider = Provider::start().await;
    let path = "/eventsubscriptions/es/validate?id=B2E3&token=1A";
    let genuine = validation(&format!("https://{AZURE}:553{path}"));
    let echoing = provider.setup("").start().await;
    let echoed = echoing.send(&genuine).await;
    assert_eq!(echoed.json(), json!({ "validationResponse": "512d38b6" }));
    assert!(provider.asked().is_empty());

    let calling = provider.setup("confirm = true").start().await;
    let elsewhere = validation(&format!("https://{AZURE}{path}"));
    assert_eq!(status(&calling, &elsewhere).await, 401, "another port");
    let answer = calling.send(&genuine).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert!(provider.asked().is_empty(), "the answer comes first");
    let called = format!("GET {path} HTTP/1.1");
    eventually("the call", async || {
        let asked = provider.asked();
        let is_called = asked == [called.clone()];
        is_called.then_some(()).ok_or_else(|| format!("{asked:?}"))
    })
    .await;
    balance(&calling).await;
}

#[tokio::test]
async fn paypal_is_known_by_the_certificate_that_it_names() {
    let provider = Provider::start().await;
    let broker = broker::shared().await;
    let gateway = provider.setup("").broker(broker).start().await;
    let queue = gateway.consume(broker).await;
    let body = br#"{"id":"WH-EVENT-1","event_type":"PAYMENT.CAPTURE.COMPLETED"}"#;
    // IEEE, of these bytes.
    let text = format!("t-1|2025-10-09T08:53:20Z|WH-1|{}", crc32(body));
    let webhook = Webhook::bare("/paypal", body)
        .with("PayPal-Transmission-Id", "t-1")
        .with("PayPal-Transmission-Time", "2025-10-09T08:53:20Z")
        .with("PayPal-Auth-Algo", "SHA256withRSA")
        .with(
            "PayPal-Cert-Url",
            &format!("https://{PAYPAL}/v1/notifications/certs/CERT-1"),
        )
        .with("PayPal-Transmission-Sig", &provider.sign(text.as_bytes()));
    let answer = gateway.send(&webhook).await;
    assert_eq!(
        answer.status,
        202,
        "{}\n{}",
        said_by(&answer.body),
        gateway.log()
    );
    let messages = queue.wait_for(1).await;
    assert_eq!(messages[0].routing_key, "paypal.PAYMENT.CAPTURE.COMPLETED");

    // The same, told offline.
    let request = gateway.directory().join("request");
    std::fs::write(&request, webhook.http1()).expect("a file");
    let folder = gateway.directory().join("evidence");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("CERT-1"), &provider.chain).expect("a file");
    let request = request.to_str().expect("path");
    let folder = folder.to_str().expect("path");
    let explain = ["explain", "--source", "paypal"];
    let alone = gateway.cli(&[&explain[..], &[request]].concat()).await;
    let words = said(&alone);
    assert!(
        words.contains("evidence_unavailable") && words.contains("--evidence"),
        "{words}"
    );
    let with = gateway
        .cli(&[&explain[..], &["--evidence", folder, request]].concat())
        .await;
    let words = said(&with);
    assert!(
        with.status.success() && words.contains("accepted"),
        "{words}"
    );
    let checked = said(&gateway.cli(&["check"]).await);
    assert!(
        checked.contains("paypal may call api.paypal.com"),
        "{checked}"
    );
}

fn said_by(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let mask = (crc & 1).wrapping_neg();
            crc = (crc >> 1) ^ (0xEDB8_8320 & mask);
        }
    }
    !crc
}
