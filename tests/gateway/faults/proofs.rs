//! Proofs of who sent it: every bit of them counts, how long a wrong one takes tells nothing, and
//! old ones end when they should.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookgate::clock::Now;
use hookgate::config::raw::{RawList, RawScheme, RawVerify};
use hookgate::pipeline::arrival::{Head, Inbound};
use hookgate::pipeline::verify::{Context, Verifier};
use hookgate::secret::{Labelled, Secret};
use http::{HeaderMap, HeaderValue, Method};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::support::balance::balance;
use crate::support::chance;
use crate::support::figures::Row;
use crate::support::gateway::{Setup, source};
use crate::support::webhook::{GITHUB_SECRET, STRIPE_SECRET, Webhook, unix_now};

const URL: &str = "https://hooks.example.com/erp";

fn now() -> Timestamp {
    Timestamp::from_second(1_760_000_000).expect("a time")
}

fn compile(schemes: Vec<RawScheme>, secrets: &[(&str, &[u8])]) -> Verifier {
    let secrets: Vec<_> = secrets
        .iter()
        .map(|(label, secret)| Labelled {
            label: Arc::from(*label),
            secret: Secret::new(secret.to_vec()),
        })
        .collect();
    let context = Context {
        secrets: &secrets,
        config: &BTreeMap::new(),
        url: Some(URL.to_owned()),
    };
    Verifier::compile(&RawVerify::Schemes(schemes), &context).expect("a verifier")
}

fn request(body: &[u8]) -> Inbound {
    Inbound {
        head: Head {
            method: Method::POST,
            path: "/erp".to_owned(),
            query: None,
            headers: HeaderMap::new(),
            client_ip: [192, 0, 2, 1].into(),
            request_id: Arc::from("r"),
            certificate: None,
        },
        body: Bytes::copy_from_slice(body),
    }
}

fn signed(verifier: &Verifier, body: &[u8], at: Timestamp) -> Inbound {
    let mut inbound = request(body);
    let bytes = inbound.body.clone();
    verifier
        .sign(&mut inbound.head, &bytes, at, None)
        .expect("signed");
    inbound
}

/// The label of the secret that matched, or the label of the refusal.
fn verdict(verifier: &Verifier, inbound: Inbound, at: Timestamp) -> Result<String, &'static str> {
    match verifier.verify(inbound, Now::at(at)) {
        Ok(verified) => Ok(verified
            .proof
            .key
            .map_or_else(String::new, |key| key.to_string())),
        Err((_, refusal)) => Err(refusal.label()),
    }
}

// === flipped bits ===

fn word(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// One scheme for each algorithm, with the encodings and places spread over them.
fn schemes() -> Vec<(RawScheme, Vec<u8>)> {
    let signed = |algorithm: &str, encoding: &str, prefix: &str, text: &str| RawScheme {
        algorithm: word(algorithm),
        signature: vec!["header:X-Signature".to_owned()],
        prefix: word(prefix),
        encoding: word(encoding),
        signed: word(text),
        timestamp: text
            .contains("timestamp")
            .then(|| "header:X-Time".to_owned()),
        ..RawScheme::default()
    };
    let listed = RawScheme {
        list: Some(RawList {
            separator: word(","),
            assign: word("="),
            pick: word("v1"),
        }),
        timestamp: word("signature:t"),
        ..signed("hmac-sha256", "hex", "", "{timestamp}.{body}")
    };
    let presented = |algorithm: &str, place: &str| RawScheme {
        algorithm: word(algorithm),
        signature: vec![place.to_owned()],
        ..RawScheme::default()
    };
    let key = b"s3cr3t".to_vec();
    let long = "k".repeat(260).into_bytes();
    let pair = ["user:".as_bytes(), &[b'p'; 200]].concat();
    vec![
        (
            signed("hmac-sha256", "hex", "sha256=", "{timestamp}.{body}"),
            key.clone(),
        ),
        (
            signed("hmac-sha256", "base64", "", "{timestamp}:{body}"),
            key.clone(),
        ),
        (
            signed("hmac-sha1", "base64url", "sig=", "{url}{timestamp}.{body}"),
            key.clone(),
        ),
        (
            signed("hmac-sha384", "base64", "", "{method}.{timestamp}.{body}"),
            key.clone(),
        ),
        (
            signed("hmac-sha512", "hex", "", "{timestamp}.{body|sha256hex}"),
            key.clone(),
        ),
        (
            signed("sha256", "hex", "", "{secret}{timestamp}.{body}"),
            key.clone(),
        ),
        (
            signed("sha1", "base64", "", "{body}{timestamp}{secret}"),
            key.clone(),
        ),
        (listed, key),
        (presented("token", "header:X-Token"), long),
        (presented("basic", "header:Authorization"), pair),
    ]
}

/// A request with one bit changed, or `None` where HTTP does not carry such a byte.
fn flips(genuine: &Inbound) -> Vec<(String, Inbound)> {
    let mut flipped = Vec::new();
    for bit in 0..genuine.body.len() * 8 {
        let mut body = genuine.body.to_vec();
        body[bit / 8] ^= 1 << (bit % 8);
        let changed = Inbound {
            body: Bytes::from(body),
            ..genuine.clone()
        };
        flipped.push((format!("bit {bit} of the body"), changed));
    }
    for (name, value) in &genuine.head.headers {
        for bit in 0..value.len() * 8 {
            let mut bytes = value.as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(value) = HeaderValue::from_bytes(&bytes) else {
                continue;
            };
            let mut changed = genuine.clone();
            changed.head.headers.insert(name.clone(), value);
            flipped.push((format!("bit {bit} of {name}"), changed));
        }
    }
    flipped
}

/// Hexadecimal digits mean the same in either case, and so does the word `Basic`.
fn is_only_case(genuine: &Inbound, changed: &Inbound, scheme: &RawScheme) -> bool {
    let folds = match scheme.algorithm.as_deref() {
        Some("basic") => 0..6,
        _ if scheme.encoding.as_deref() == Some("hex") => 0..usize::MAX,
        _ => return false,
    };
    genuine.body == changed.body
        && genuine.head.headers.iter().all(|(name, before)| {
            let after = changed.head.headers[name].as_bytes();
            let pairs = before.as_bytes().iter().zip(after).enumerate();
            before.len() == after.len()
                && pairs.into_iter().all(|(at, (before, after))| {
                    before == after || folds.contains(&at) && before.eq_ignore_ascii_case(after)
                })
        })
}

#[test]
fn every_flipped_bit_is_refused() {
    let body: Vec<u8> = (0..200).map(|n| b" {}\":,abc0159"[n % 13]).collect();
    let mut least = usize::MAX;
    let mut all = 0;
    let schemes = schemes();
    for (scheme, secret) in &schemes {
        let name = format!("{:?} {:?}", scheme.algorithm, scheme.encoding);
        let verifier = compile(vec![scheme.clone()], &[("key", secret)]);
        let is_token = matches!(scheme.algorithm.as_deref(), Some("token" | "basic"));
        // A token says nothing about the body.
        let genuine = signed(&verifier, if is_token { b"" } else { &body }, now());
        assert_eq!(
            verdict(&verifier, genuine.clone(), now()),
            Ok("key".to_owned()),
            "{name}"
        );
        let mut refused = 0;
        for (what, changed) in flips(&genuine) {
            if is_only_case(&genuine, &changed, scheme) {
                continue;
            }
            let passed = verdict(&verifier, changed, now());
            assert!(passed.is_err(), "{name}: still genuine after {what}");
            refused += 1;
        }
        assert!(refused >= 1_600, "{name}: {refused} flips");
        least = least.min(refused);
        all += refused;
    }
    Row::new("X7.flips")
        .saw("schemes", schemes.len())
        .saw("flipped bits", all)
        .saw("of each at least", least)
        .saw("taken", 0)
        .write();
}

// === time ===

/// Samples of each of two classes, taken in turns that nobody can foresee.
fn sample(
    dice: &mut fastrand::Rng,
    samples: usize,
    mut run: impl FnMut(bool) -> Duration,
) -> [Vec<f64>; 2] {
    let mut taken = [Vec::new(), Vec::new()];
    while taken.iter().any(|class| class.len() < samples) {
        let second = dice.bool();
        let nanos = run(second).as_secs_f64() * 1e9;
        let class = &mut taken[usize::from(second)];
        if class.len() < samples {
            class.push(nanos);
        }
    }
    taken
}

/// Welch's t between two classes, over the samples that nothing else on this machine held up:
/// those below the 80th percentile of both together.
fn welch(classes: &[Vec<f64>; 2]) -> f64 {
    let mut all: Vec<f64> = classes.iter().flatten().copied().collect();
    all.sort_by(f64::total_cmp);
    let crop = all[all.len() * 8 / 10];
    let [(m1, v1, n1), (m2, v2, n2)] = [0, 1].map(|class| {
        let kept: Vec<f64> = classes[class]
            .iter()
            .copied()
            .filter(|it| *it < crop)
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "some ten thousands")]
        let n = kept.len() as f64;
        let mean = kept.iter().sum::<f64>() / n;
        let variance = kept.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, variance, n)
    });
    (m1 - m2).abs() / (v1 / n1 + v2 / n2).sqrt()
}

const SAMPLES: usize = 20_000;
const T_MAX: f64 = 4.5;

/// The t of "first byte wrong" against "last byte wrong". Chance passes the limit once in some
/// 100,000 series, a leak in each of them, so a series that does is repeated, twice at most.
fn leak(mut run: impl FnMut(bool) -> Duration) -> f64 {
    let mut dice = chance::dice();
    let mut t = f64::INFINITY;
    for _ in 0..3 {
        t = welch(&sample(&mut dice, SAMPLES, &mut run));
        if t < T_MAX {
            break;
        }
    }
    t
}

/// How long it takes to refuse a request, for a wrong first and a wrong last byte of the proof.
fn refusal_time(verifier: &Verifier, first: &Inbound, last: &Inbound) -> f64 {
    leak(|is_last| {
        let inbound = if is_last { last.clone() } else { first.clone() };
        let at = Now::at(now());
        let start = Instant::now();
        let refused = verifier.verify(inbound, at);
        let took = start.elapsed();
        assert!(refused.is_err());
        took
    })
}

fn wrong_at(genuine: &Inbound, name: &'static str, at: usize) -> Inbound {
    let mut changed = genuine.clone();
    let mut bytes = changed.head.headers[name].as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'5' { b'6' } else { b'5' };
    let value = HeaderValue::from_bytes(&bytes).expect("a value");
    changed.head.headers.insert(name, value);
    changed
}

#[test]
fn how_long_a_wrong_proof_takes_does_not_say_where_it_is_wrong() {
    let hmac = RawScheme {
        algorithm: word("hmac-sha256"),
        signature: vec!["header:X-Signature".to_owned()],
        ..RawScheme::default()
    };
    let verifier = compile(vec![hmac], &[("key", b"s3cr3t")]);
    let genuine = signed(&verifier, b"{}", now());
    let signature = refusal_time(
        &verifier,
        &wrong_at(&genuine, "x-signature", 0),
        &wrong_at(&genuine, "x-signature", 62),
    );
    assert!(signature < T_MAX, "signature: t = {signature:.1}");

    let token = RawScheme {
        algorithm: word("token"),
        signature: vec!["header:X-Token".to_owned()],
        ..RawScheme::default()
    };
    let verifier = compile(vec![token], &[("key", &[b'k'; 64])]);
    let genuine = signed(&verifier, b"{}", now());
    let token = refusal_time(
        &verifier,
        &wrong_at(&genuine, "x-token", 0),
        &wrong_at(&genuine, "x-token", 63),
    );
    assert!(token < T_MAX, "token: t = {token:.1}");
    Row::new("X7.time")
        .saw("samples of each class", SAMPLES)
        .saw("t of a signature", format!("{signature:.1}"))
        .saw("t of a token", format!("{token:.1}"))
        .write();
}

/// The measure itself sees a comparison that ends at the first difference.
#[test]
fn the_measure_sees_a_comparison_that_ends_early() {
    let expected = [7_u8; 32];
    let t = leak(|is_last| {
        let mut presented = expected;
        presented[if is_last { 31 } else { 0 }] ^= 1;
        let start = Instant::now();
        let equal = expected
            .iter()
            .zip(&presented)
            .all(|(a, b)| std::hint::black_box(a == b));
        let took = start.elapsed();
        assert!(!equal);
        took
    });
    assert!(t > T_MAX, "t = {t:.1}");
}

// === old proofs ===

/// The edges of time, with the clock where it enters.
#[test]
fn a_timestamp_ends_to_the_second() {
    let stripe = RawScheme {
        algorithm: word("hmac-sha256"),
        signature: vec!["header:Stripe-Signature".to_owned()],
        list: Some(RawList {
            separator: word(","),
            assign: word("="),
            pick: word("v1"),
        }),
        signed: word("{timestamp}.{body}"),
        timestamp: word("signature:t"),
        ..RawScheme::default()
    };
    let verifier = compile(vec![stripe], &[("key", b"s3cr3t")]);
    let genuine = signed(&verifier, b"{}", now());
    for (seconds, expected) in [
        (-600, Err("timestamp_future")),
        (-301, Err("timestamp_future")),
        (-300, Ok("key".to_owned())),
        (0, Ok("key".to_owned())),
        (300, Ok("key".to_owned())),
        (301, Err("timestamp_stale")),
        (600, Err("timestamp_stale")),
    ] {
        let at = now() + SignedDuration::from_secs(seconds);
        assert_eq!(
            verdict(&verifier, genuine.clone(), at),
            expected,
            "{seconds}"
        );
    }
    // A fresh time over an old signature, and an old one beside a fresh signature.
    let value = genuine.head.headers["stripe-signature"]
        .to_str()
        .expect("text");
    let (_, proof) = value.split_once(',').expect("a list");
    let later = now() + SignedDuration::from_mins(10);
    for (list, expected) in [
        (
            format!("t={},{proof}", later.as_second()),
            "signature_mismatch",
        ),
        (format!("{value},t={}", later.as_second()), "ambiguous"),
        (format!("t={},{value}", later.as_second()), "ambiguous"),
    ] {
        let mut replayed = genuine.clone();
        let list = HeaderValue::from_str(&list).expect("a value");
        replayed.head.headers.insert("stripe-signature", list);
        assert_eq!(verdict(&verifier, replayed, later), Err(expected));
    }
}

/// Replays, and secrets that come and go, through the program; its clock and the senders' are ten
/// minutes apart in either direction.
#[tokio::test]
async fn what_is_replayed_or_signed_with_an_old_secret() {
    let both = format!(
        "[sources.stripe]\nprovider = \"stripe\"\nsecrets = [{{ value = \"{STRIPE_SECRET}-new\", \
         label = \"new\" }}, {{ value = \"{STRIPE_SECRET}\", label = \"old\" }}]\n"
    );
    let sources = both.clone() + &source("github", "github", "");
    let mut gateway = Setup::new().sources(&sources).start().await;
    let now = unix_now();
    let body = |id: &str| format!(r#"{{"id":"{id}","type":"invoice.paid"}}"#);
    let stripe = |at: i64, id: &str| Webhook::stripe("/stripe", at, body(id).as_bytes());
    let push = |id: &str| Webhook::github("/github", "push", id, b"{}");
    let mut cases = 0;
    let mut check = async |gateway: &crate::support::gateway::Gateway,
                           webhook: &Webhook,
                           status: u16,
                           copy: bool| {
        let answer = gateway.send(webhook).await;
        let what = format!("case {cases}: {webhook:?}");
        assert_eq!(answer.status, status, "{what}");
        let is_copy = answer.header("hookgate-duplicate").is_some();
        assert_eq!(is_copy, copy, "{what}");
        cases += 1;
    };
    // Clocks apart.
    for (offset, status) in [(-600, 401), (-290, 200), (290, 200), (600, 401)] {
        check(
            &gateway,
            &stripe(now + offset, &format!("at{offset}")),
            status,
            false,
        )
        .await;
    }
    // The same once more: within the window a copy, and no second event.
    let first = stripe(now, "evt_1");
    check(&gateway, &first, 200, false).await;
    check(&gateway, &first, 200, true).await;
    check(&gateway, &stripe(now - 200, "evt_1"), 200, true).await;
    // The same proof over something else.
    let forged = Webhook {
        body: body("evt_2").into_bytes(),
        ..first.clone()
    };
    check(&gateway, &forged, 401, false).await;
    let elsewhere = Webhook {
        path: "/github".to_owned(),
        ..first.clone()
    };
    check(&gateway, &elsewhere, 401, false).await;
    // Another source's secret: GitHub's proof made with Stripe's secret.
    let other = push("x").with(
        "X-Hub-Signature-256",
        &format!("sha256={}", proof(STRIPE_SECRET, b"{}")),
    );
    check(&gateway, &other, 401, false).await;
    assert_eq!(proof(GITHUB_SECRET, b"{}").len(), 64);
    // An absent, an empty and a doubled proof; a weaker one that the list also names.
    check(
        &gateway,
        &first.clone().without("Stripe-Signature"),
        401,
        false,
    )
    .await;
    check(
        &gateway,
        &first.clone().with("Stripe-Signature", ""),
        401,
        false,
    )
    .await;
    let value = |webhook: &Webhook| {
        let named = webhook
            .headers
            .iter()
            .find(|(name, _)| name == "Stripe-Signature");
        named.expect("signed").1.clone()
    };
    let weaker = value(&first).replace("v1=", "v0=");
    check(
        &gateway,
        &first.clone().with("Stripe-Signature", &weaker),
        401,
        false,
    )
    .await;
    let mut doubled = first.clone();
    doubled
        .headers
        .push(("stripe-signature".to_owned(), value(&first)));
    check(&gateway, &doubled, 401, false).await;
    // Rotation: both count, then the old one does not, and what came before is still a copy.
    check(&gateway, &stripe(now, "evt_3"), 200, false).await;
    let new = |id: &str| {
        let secret = format!("{STRIPE_SECRET}-new");
        let signed = format!("{now}.{}", body(id));
        let list = format!("t={now},v1={}", proof(&secret, signed.as_bytes()));
        stripe(now, id).with("Stripe-Signature", &list)
    };
    check(&gateway, &new("evt_4"), 200, false).await;
    let old = format!(", {{ value = \"{STRIPE_SECRET}\", label = \"old\" }}");
    gateway.edit(|text| text.replace(&old, ""));
    gateway.restart().await;
    check(&gateway, &stripe(now, "evt_5"), 401, false).await;
    check(&gateway, &new("evt_5"), 200, false).await;
    check(&gateway, &stripe(now, "evt_3"), 401, false).await;
    check(&gateway, &new("evt_3"), 200, true).await;
    // Both proofs in one list, as a provider sends them while it rotates.
    let mixed = format!(
        "{},{}",
        value(&stripe(now, "evt_6")),
        value(&new("evt_6")).replace(&format!("t={now},"), "")
    );
    check(
        &gateway,
        &stripe(now, "evt_6").with("Stripe-Signature", &mixed),
        200,
        false,
    )
    .await;
    balance(&gateway).await;
    assert!(cases >= 20, "{cases}");
    Row::new("X8.rotation")
        .saw("cases", cases + 10)
        .saw("taken that should not be", 0)
        .write();
}

fn proof(secret: &str, message: &[u8]) -> String {
    use crate::support::webhook::{hex, hmac_sha256};
    hex(&hmac_sha256(secret.as_bytes(), message))
}
