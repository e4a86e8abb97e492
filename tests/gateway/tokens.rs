//! Signed tokens: an issuer of our own, on loopback, publishes its keys and answers questions about
//! tokens. Its tokens are made by code that shares nothing with the product's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::balance::balance;
use crate::support::broker;
use crate::support::elsewhere::{Authority, Elsewhere, answer};
use crate::support::gateway::{Gateway, Setup};
use crate::support::webhook::{Webhook, unix_now};

const HOST: &str = "issuer.example";
const AUDIENCE: &str = "https://hooks.example.com/oidc";

/// A key with its name.
struct Key(&'static str, EcdsaKeyPair);

impl Key {
    fn new(kid: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Self(kid, pair.expect("key"))
    }

    fn jwk(&self) -> Value {
        let point = self.1.public_key().as_ref();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({
            "kty": "EC", "crv": "P-256", "kid": self.0, "use": "sig",
            "x": number(&point[1..33]), "y": number(&point[33..]),
        })
    }

    fn token(&self, claims: &Value) -> String {
        let part = |text: String| URL_SAFE_NO_PAD.encode(text);
        let header = json!({"alg": "ES256", "kid": self.0}).to_string();
        let text = format!("{}.{}", part(header), part(claims.to_string()));
        let signature = self.1.sign(&SystemRandom::new(), text.as_bytes());
        let signature = signature.expect("signature");
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

fn claims() -> Value {
    json!({
        "iss": format!("https://{HOST}"), "aud": AUDIENCE, "sub": "sender",
        "exp": unix_now() + 600,
    })
}

/// The issuer's server.
struct Issuer {
    elsewhere: Elsewhere,
    authority: Authority,
    desk: Desk,
}

#[derive(Clone, Default)]
struct Desk {
    keys: Arc<Mutex<String>>,
    /// Request lines, and bodies where there are any.
    asked: Arc<Mutex<Vec<String>>>,
    is_down: Arc<AtomicBool>,
}

impl Issuer {
    async fn start(keys: &[&Key]) -> Self {
        let authority = Authority::new();
        let desk = Desk::default();
        let elsewhere = Elsewhere::start(&authority, &[HOST], {
            let desk = desk.clone();
            move |line, body| desk.answer(line, body)
        });
        let issuer = Self {
            elsewhere: elsewhere.await,
            authority,
            desk,
        };
        issuer.publish(keys);
        issuer
    }

    fn publish(&self, keys: &[&Key]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        *self.desk.keys.lock().expect("keys") = json!({ "keys": keys }).to_string();
    }

    fn fail(&self, fails: bool) {
        self.desk.is_down.store(fails, Ordering::SeqCst);
    }

    /// What was asked since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.desk.asked.lock().expect("asked"))
    }

    fn setup(&self) -> Setup {
        let address = self.elsewhere.address;
        Setup::new()
            .file("issuer.pem", self.authority.pem.as_bytes())
            .sources(&format!(
                r#"
[fetch]
ca = "issuer.pem"
allow_private = ["127.0.0.0/8"]
resolve = {{ "{HOST}" = "{address}" }}

[sources.oidc]
provider = "oidc"
verify = {{ claims = {{ sub = "sender" }} }}
event_id = "json:/id"
[sources.oidc.config]
issuer = "https://{HOST}"
audience = "{AUDIENCE}"
jwks = "https://{HOST}/keys"

[sources.opaque]
secrets = [{{ value = "our secret", label = "introspection" }}]
[sources.opaque.verify]
algorithm = "jwt"
signature = "header:Authorization"
prefix = "Bearer "
audience = "{AUDIENCE}"
claims = {{ scope = "hooks" }}
introspection = {{ url = "https://{HOST}/introspect", client_id = "hookgate" }}
"#
            ))
    }
}

impl Desk {
    fn answer(&self, line: &str, body: &str) -> String {
        let asked = format!("{line} {body}");
        self.asked.lock().expect("asked").push(asked);
        match (self.is_down.load(Ordering::SeqCst), body.is_empty()) {
            (true, _) => answer("500 Oops", ""),
            (false, true) => answer("200 OK", &self.keys.lock().expect("keys")),
            (false, false) => answer("200 OK", &word(body).to_string()),
        }
    }
}

/// What the authorization server says of a token.
fn word(form: &str) -> Value {
    if form.contains("token=good") {
        json!({"active": true, "aud": AUDIENCE, "scope": "openid hooks"})
    } else {
        json!({"active": false})
    }
}

fn event(path: &str, id: &str, token: &str) -> Webhook {
    let body = json!({ "id": id, "type": "order.paid" }).to_string();
    Webhook::bare(path, body.as_bytes()).with("Authorization", &format!("Bearer {token}"))
}

async fn status(gateway: &Gateway, webhook: &Webhook) -> u16 {
    gateway.send(webhook).await.status
}

#[tokio::test]
async fn keys_rotate_under_load_and_stay_good_while_the_issuer_is_down() {
    let broker = broker::shared().await;
    let (old, new, unknown) = (Key::new("k1"), Key::new("k2"), Key::new("k3"));
    let issuer = Issuer::start(&[&old]).await;
    let gateway = issuer.setup().broker(broker).start().await;
    let queue = gateway.consume(broker).await;

    assert_eq!(
        status(&gateway, &event("/oidc", "e-0", &old.token(&claims()))).await,
        202
    );
    let messages = queue.wait_for(1).await;
    assert_eq!(messages[0].must("hookgate_verified"), "token");
    assert_eq!(messages[0].must("hookgate_key"), "jwks");
    assert_eq!(issuer.asked(), ["GET /keys HTTP/1.1 "]);

    // Half of the senders use the new key at once.
    issuer.publish(&[&old, &new]);
    let (token_1, token_2) = (old.token(&claims()), new.token(&claims()));
    let sender = gateway.sender();
    let mut sending = JoinSet::new();
    for number in 0..40 {
        let token = if number % 2 == 0 { &token_1 } else { &token_2 };
        let webhook = event("/oidc", &format!("r-{number}"), token);
        let sender = sender.clone();
        sending.spawn(async move { sender.send(&webhook).await.status });
    }
    let statuses = sending.join_all().await;
    assert!(statuses.iter().all(|status| *status == 202), "{statuses:?}");
    assert_eq!(
        issuer.asked(),
        ["GET /keys HTTP/1.1 "],
        "one fetch for the new key"
    );

    issuer.fail(true);
    for (id, token) in [("d-1", &token_1), ("d-2", &token_2)] {
        assert_eq!(status(&gateway, &event("/oidc", id, token)).await, 202);
    }
    let mut other = claims();
    other["sub"] = json!("somebody else");
    let mut forged = token_1.clone();
    forged.replace_range(forged.len() - 8..forged.len() - 4, "AAAA");
    for token in [
        unknown.token(&claims()),
        old.token(&other),
        Key::new("k1").token(&claims()),
        forged,
        "no.such.token".to_owned(),
    ] {
        assert_eq!(status(&gateway, &event("/oidc", "x", &token)).await, 401);
    }
    assert!(
        issuer.asked().is_empty(),
        "nobody makes it ask before its time"
    );
    queue.wait_for(43).await;
    balance(&gateway).await;
    let metrics = gateway.metrics().await;
    assert_eq!(
        metrics.sum(
            "hookgate_refusals_total",
            &[("reason", "token_key_unknown")]
        ),
        1.0
    );
    assert_eq!(
        metrics.sum("hookgate_refusals_total", &[("reason", "token_claim")]),
        1.0
    );
}

#[tokio::test]
async fn without_any_keys_the_sender_is_asked_to_try_again() {
    let key = Key::new("k1");
    let issuer = Issuer::start(&[&key]).await;
    issuer.fail(true);
    let gateway = issuer.setup().start().await;
    let answer = gateway
        .send(&event("/oidc", "e-1", &key.token(&claims())))
        .await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(
        gateway
            .metrics()
            .await
            .rejected("oidc", "evidence_unavailable"),
        1.0
    );
    // What would be refused with every key is refused without.
    let mut late = claims();
    late["exp"] = json!(unix_now() - 600);
    assert_eq!(
        status(&gateway, &event("/oidc", "e-2", &key.token(&late))).await,
        401
    );
    balance(&gateway).await;
}

#[tokio::test]
async fn the_authorization_server_is_asked_about_a_token_once() {
    let broker = broker::shared().await;
    let issuer = Issuer::start(&[&Key::new("k1")]).await;
    let gateway = issuer.setup().broker(broker).start().await;
    let queue = gateway.consume(broker).await;
    let sender = gateway.sender();
    let mut sending = JoinSet::new();
    for number in 0..20 {
        let webhook = event("/opaque", &format!("o-{number}"), "good-1");
        let sender = sender.clone();
        sending.spawn(async move { sender.send(&webhook).await.status });
    }
    let statuses = sending.join_all().await;
    assert!(statuses.iter().all(|status| *status == 202), "{statuses:?}");
    let messages = queue.wait_for(20).await;
    assert_eq!(messages[0].must("hookgate_key"), "introspection");
    let about = |asked: Vec<String>| -> Vec<String> {
        asked
            .into_iter()
            .filter(|it| it.starts_with("POST"))
            .collect()
    };
    let asked = about(issuer.asked());
    let question = "POST /introspect HTTP/1.1 token=good-1&token_type_hint=access_token";
    assert_eq!(asked, [question]);

    for _ in 0..3 {
        assert_eq!(status(&gateway, &event("/opaque", "b", "bad-1")).await, 401);
    }
    assert_eq!(about(issuer.asked()).len(), 1);
    issuer.fail(true);
    assert_eq!(
        status(&gateway, &event("/opaque", "o-20", "good-1")).await,
        202
    );
    assert_eq!(
        status(&gateway, &event("/opaque", "c", "good-2")).await,
        503
    );
    assert!(!gateway.log().contains("good-1"), "a token is never logged");
    balance(&gateway).await;
}
