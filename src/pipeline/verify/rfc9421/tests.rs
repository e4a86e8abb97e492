//! Published and foreign signatures, and every way to be refused.
//!
//! `tests/vectors/rfc9421.json` holds those of RFC 9421, appendix B.2, that are of requests, and
//! signatures that PyPI `http-message-signatures` made with the keys of appendix B.1.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use super::*;
use crate::config::raw::{RawMessage, RawScheme, RawVerify};
use crate::pipeline::arrival::{Head, Inbound};
use crate::pipeline::verify::testing::pair;
use crate::pipeline::verify::{Context, Proof, Verifier};
use crate::secret::{Labelled, Secret};

const URL: &str = "https://hooks.example.com/in/erp";

#[derive(Clone, Debug)]
struct Vector {
    id: String,
    accept: bool,
    coverage: String,
    raw: RawScheme,
    secret: String,
    url: String,
    inbound: Inbound,
    now: Timestamp,
}

fn vectors() -> Vec<Vector> {
    let text = include_str!("../../../../tests/vectors/rfc9421.json");
    let list: Vec<Value> = serde_json::from_str(text).unwrap();
    list.iter().map(vector).collect()
}

fn vector(json: &Value) -> Vector {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let verify = &json["verify"];
    let covered = verify["covered"].as_array().unwrap();
    let url = text(&json["url"]).unwrap();
    let (base, query) = match url.split_once('?') {
        Some((base, query)) => (base.to_owned(), Some(query.to_owned())),
        None => (url, None),
    };
    let headers = json["headers"].as_object().unwrap().iter();
    let head = Head {
        method: text(&json["method"]).unwrap().parse().unwrap(),
        path: base.parse::<http::Uri>().unwrap().path().to_owned(),
        query,
        headers: headers
            .map(|(name, value)| {
                let value = value.as_str().unwrap();
                (name.parse().unwrap(), value.parse().unwrap())
            })
            .collect(),
        client_ip: [192, 0, 2, 1].into(),
        request_id: Arc::from("r"),
        certificate: None,
    };
    let body = STANDARD.decode(json["body_base64"].as_str().unwrap());
    Vector {
        id: text(&json["id"]).unwrap(),
        accept: json["expect"] == "accept",
        coverage: text(&json["coverage"]).unwrap_or_default(),
        raw: RawScheme {
            algorithm: Some("rfc9421".to_owned()),
            key: text(&verify["key"]),
            message: RawMessage {
                signature_algorithm: text(&verify["signature_algorithm"]),
                label: text(&verify["label"]),
                covered: covered.iter().filter_map(text).collect(),
                tag: text(&verify["tag"]),
            },
            ..RawScheme::default()
        },
        secret: text(&json["secret"]).unwrap(),
        url: base,
        inbound: Inbound {
            head,
            body: Bytes::from(body.unwrap()),
        },
        now: Timestamp::from_second(json["now_unix"].as_i64().unwrap()).unwrap(),
    }
}

fn compiled(raw: &RawScheme, secrets: &[(&str, &str)], url: &str) -> Result<Verifier, String> {
    let secrets: Vec<Labelled> = secrets
        .iter()
        .map(|(label, secret)| Labelled {
            label: Arc::from(*label),
            secret: Secret::new(secret.as_bytes().to_vec()),
        })
        .collect();
    let context = Context {
        secrets: &secrets,
        config: &BTreeMap::new(),
        url: Some(url.to_owned()).filter(|url| !url.is_empty()),
    };
    let verify = RawVerify::Schemes(vec![raw.clone()]);
    Verifier::compile(&verify, &context).map_err(|problems| {
        let problems = problems.into_iter();
        problems
            .map(|it| it.what)
            .collect::<Vec<String>>()
            .join("; ")
    })
}

impl Vector {
    fn verifier(&self) -> Verifier {
        compiled(&self.raw, &[("main", &self.secret)], &self.url).unwrap()
    }

    fn check(&self) -> Result<Proof, Refusal> {
        let verified = self
            .verifier()
            .verify(self.inbound.clone(), Now::at(self.now));
        verified.map(|it| it.proof).map_err(|(_, refusal)| refusal)
    }

    fn edited(&self, name: &'static str, edit: impl Fn(String) -> String) -> Self {
        let mut changed = self.clone();
        let headers = &mut changed.inbound.head.headers;
        let value = edit(headers[name].to_str().unwrap().to_owned());
        headers.insert(name, value.parse().unwrap());
        changed
    }

    fn covers(&self, part: &str) -> bool {
        let input = self.inbound.head.headers["signature-input"].to_str();
        input.unwrap().contains(part)
    }

    #[track_caller]
    fn refused(&self, what: &str) {
        if let Ok(proof) = self.check() {
            panic!("{}: still {proof:?} after a change of {what}", self.id);
        }
    }
}

fn accepted() -> impl Iterator<Item = Vector> {
    vectors().into_iter().filter(|vector| vector.accept)
}

#[test]
fn signatures_of_others_are_decided_as_they_should() {
    let mut algorithms = std::collections::BTreeSet::new();
    for vector in vectors() {
        let proof = vector.check();
        assert_eq!(proof.is_ok(), vector.accept, "{}: {proof:?}", vector.id);
        if let Ok(proof) = proof {
            assert_eq!(proof.coverage.to_string(), vector.coverage, "{}", vector.id);
            algorithms.insert(vector.raw.message.signature_algorithm);
        }
    }
    assert_eq!(algorithms.len(), 5, "{algorithms:?}");
}

#[test]
fn one_changed_byte_anywhere_is_refused() {
    for vector in accepted() {
        let has_body = vector.coverage == "full";
        for position in (0..vector.inbound.body.len()).filter(|_| has_body) {
            let mut changed = vector.clone();
            let mut body = vector.inbound.body.to_vec();
            body[position] ^= 1;
            changed.inbound.body = body.into();
            changed.refused("the body");
        }
        for (name, from, to) in [
            ("signature", "=:", "=:0"),
            ("signature-input", "created=1", "created=2"),
            ("signature-input", "created=", "expires="),
            ("signature-input", "keyid=\"t", "keyid=\"u"),
        ] {
            let changed = vector.edited(name, |value| value.replace(from, to));
            changed.refused(to);
        }
        let length = vector.inbound.head.headers["signature"].len();
        for position in length - 20..length - 4 {
            let changed = vector.edited("signature", |value| {
                let mut value = value.into_bytes();
                value[position] = if value[position] == b'A' { b'B' } else { b'A' };
                String::from_utf8(value).unwrap()
            });
            if changed.inbound.head.headers != vector.inbound.head.headers {
                changed.refused("the signature");
            }
        }
        let mut other = vector.clone();
        other.url = other.url.replace("example.com", "example.org");
        if ["@authority", "@target-uri"]
            .iter()
            .any(|part| vector.covers(part))
        {
            other.refused("the host");
        }
        if vector.covers("@target-uri") || vector.covers("@query") {
            let mut other = vector.clone();
            other.inbound.head.query = Some("Pet=cat&var=1&a=2".to_owned());
            other.refused("the query");
        }
        if vector.covers("@method") {
            let mut other = vector.clone();
            other.inbound.head.method = http::Method::PATCH;
            other.refused("the method");
        }
    }
}

#[test]
fn the_host_that_a_request_claims_says_nothing() {
    let vector = vectors().into_iter().find(|it| it.id == "b26").unwrap();
    vector
        .edited("host", |_| "evil.example".to_owned())
        .check()
        .unwrap();
}

#[test]
fn a_signature_is_refused_before_and_after_its_time() {
    for vector in accepted() {
        for (seconds, label) in [(-400, "timestamp_future"), (400, "timestamp_stale")] {
            let mut moved = vector.clone();
            moved.now += jiff::SignedDuration::from_secs(seconds);
            let refusal = moved.check().unwrap_err();
            let expected = if vector.covers("expires=") && seconds > 0 {
                "signature_expired"
            } else {
                label
            };
            assert_eq!(refusal.label(), expected, "{}", vector.id);
        }
        let mut unchecked = vector.clone();
        unchecked.raw.tolerance = Some(Duration::ZERO);
        unchecked.now -= jiff::SignedDuration::from_secs(400);
        unchecked.check().unwrap();
    }
}

fn raw() -> RawScheme {
    RawScheme {
        algorithm: Some("rfc9421".to_owned()),
        message: RawMessage {
            signature_algorithm: Some("hmac-sha256".to_owned()),
            ..RawMessage::default()
        },
        ..RawScheme::default()
    }
}

/// A request signed here.
fn signed(edit: impl FnOnce(&mut RawScheme)) -> Vector {
    let mut vector = accepted().next().unwrap();
    vector.raw = raw();
    edit(&mut vector.raw);
    vector.secret = "s3cr3t".to_owned();
    vector.url = URL.to_owned();
    vector.inbound.head.headers.clear();
    let verifier = vector.verifier();
    let Inbound { head, body } = &mut vector.inbound;
    verifier.sign(head, body, vector.now, None).unwrap();
    vector
}

#[track_caller]
fn label(vector: &Vector) -> &'static str {
    vector.check().unwrap_err().label()
}

#[test]
fn what_is_signed_here_is_genuine_by_every_algorithm() {
    for (own, made) in [
        ("hmac-sha256", None),
        ("ed25519", Some("ed25519")),
        ("ecdsa-p256-sha256", Some("ecdsa-p256-sha256")),
        ("rsa-pss-sha512", Some("rsa-pkcs1-sha256")),
        ("rsa-v1_5-sha256", Some("rsa-pkcs1-sha256")),
    ] {
        let mut raw = raw();
        raw.message.signature_algorithm = Some(own.to_owned());
        raw.message.tag = Some("webhook".to_owned());
        raw.message.label = Some("main".to_owned());
        let pair = made.and_then(|made| pair(made, "pem"));
        let secret = pair.as_ref().map_or("s3cr3t", |pair| &pair.public);
        let verifier = compiled(&raw, &[("k1", secret)], URL).unwrap();
        let Inbound { mut head, body } = signed(|_| {}).inbound;
        let now = Timestamp::from_second(1_760_000_000).unwrap();
        let private = pair.as_ref().map(|pair| &pair.private);
        verifier.sign(&mut head, &body, now, private).unwrap();
        let input = head.headers["signature-input"].to_str().unwrap();
        assert!(input.starts_with("main=("), "{input}");
        assert!(input.contains(";keyid=\"k1\""), "{input}");
        let proof = verifier
            .verify(Inbound { head, body }, Now::at(now))
            .unwrap();
        assert_eq!(proof.proof.key.as_deref(), Some("k1"));
    }
}

#[test]
fn a_spoiled_signature_is_well_formed_and_wrong() {
    let mut vector = signed(|_| {});
    vector.check().unwrap();
    vector.verifier().spoil(&mut vector.inbound.head).unwrap();
    assert_eq!(label(&vector), "signature_mismatch");
}

#[test]
fn what_must_be_covered_cannot_be_left_out() {
    let weak = signed(|raw| raw.message.covered = vec!["@method".to_owned()]);
    weak.check().unwrap();
    let asked = Vector { raw: raw(), ..weak };
    assert_eq!(
        asked.check().unwrap_err(),
        Refusal::NotCovered("\"@target-uri\"".to_owned())
    );
}

#[test]
fn the_request_does_not_choose_the_algorithm() {
    let vector = signed(|_| {});
    let other = vector.edited("signature-input", |it| it.replace("hmac-sha256", "ed25519"));
    assert_eq!(label(&other), "parameter_mismatch");
}

#[test]
fn a_digest_must_be_there_and_hold() {
    let vector = signed(|_| {});
    let mut changed = vector.clone();
    changed.inbound.body = Bytes::from_static(b"{}");
    assert_eq!(label(&changed), "digest_mismatch");
    // Signed, but by a hash that proves nothing.
    let mut md5 = vector;
    md5.inbound.head.headers.clear();
    let digest = "md5=:1B2M2Y8AsgTpgAmY7PhCfg==:".parse().unwrap();
    md5.inbound.head.headers.insert("content-digest", digest);
    let verifier = md5.verifier();
    let Inbound { head, body } = &mut md5.inbound;
    verifier.sign(head, body, md5.now, None).unwrap();
    assert_eq!(label(&md5), "digest_mismatch");
}

#[test]
fn fields_that_cannot_be_read_or_told_are_refused() {
    let vector = signed(|_| {});
    let input = |from: &str, to: &str| {
        label(&vector.edited("signature-input", |value| value.replace(from, to)))
    };
    assert_eq!(input("(", "(("), "signature_undecodable");
    assert_eq!(
        input("created=1", "created=\"1\";x=1"),
        "signature_undecodable"
    );
    assert_eq!(input("\"@method\"", "\"@status\""), "component_unsupported");
    assert_eq!(
        input("\"@method\"", "\"@method\";req"),
        "component_unsupported"
    );
    assert_eq!(
        input("\"@method\"", "\"x-odd\";tr"),
        "component_unsupported"
    );
    assert_eq!(
        input("\"@method\"", "\"x-odd\";sf"),
        "component_unsupported"
    );
    assert_eq!(input("\"@method\"", "\"X-Odd\""), "component_unsupported");
    assert_eq!(input("\"@method\"", "\"@method\" \"@method\""), "ambiguous");
    assert_eq!(
        input("\"@method\"", "\"@method\" \"x-odd\""),
        "field_absent"
    );
    assert_eq!(input("sig1", "sig2"), "signature_absent");
    let mut absent = vector.clone();
    absent.inbound.head.headers.remove("signature");
    assert_eq!(label(&absent), "signature_absent");
    let many: Vec<String> = (0..17).map(|n| format!("s{n}=()")).collect();
    let many = vector.edited("signature-input", |_| many.join(", "));
    assert_eq!(label(&many), "signatures_too_many");
    let long = "\"@path\" ".repeat(65);
    assert_eq!(input("\"@method\"", &long), "signatures_too_many");
}

/// Each may read a whole field, so what counts is how many there are in all.
#[test]
fn components_are_counted_over_all_signatures() {
    let vector = signed(|_| {});
    let many = |signatures: usize, components: usize| {
        let list = (0..components).map(|n| format!("\"a\";key=\"k{n}\""));
        let list = list.collect::<Vec<_>>().join(" ");
        let inputs = (0..signatures).map(|n| format!("s{n}=({list})"));
        let others = (0..signatures).map(|n| format!("s{n}=:AAAA:"));
        let (inputs, others) = (
            inputs.collect::<Vec<_>>().join(", "),
            others.collect::<Vec<_>>().join(", "),
        );
        vector
            .edited("signature-input", |own| format!("{own}, {inputs}"))
            .edited("signature", |own| format!("{own}, {others}"))
    };
    let refusal = many(15, 5).check().unwrap_err();
    assert_eq!(refusal, Refusal::TooMany(64));
    assert_eq!(
        refusal.to_string(),
        "more than 64 signatures, or parts that they cover"
    );
    many(15, 4).check().unwrap();
}

#[test]
fn a_query_counts_as_far_as_every_signature_covers_it() {
    for (covered, expected) in [
        (&[][..], Coverage::Full),
        (&["@method", "@request-target"][..], Coverage::Full),
        (&["@query"][..], Coverage::Full),
        (&["\"@query-param\";name=\"id\""][..], Coverage::Fields),
        (&["@method", "@path", "content-digest"][..], Coverage::None),
    ] {
        let mut raw = raw();
        raw.message.covered = covered.iter().map(|&it| it.to_owned()).collect();
        let verifier = compiled(&raw, &[("main", "s3cr3t")], URL).unwrap();
        assert_eq!(verifier.query_coverage(), expected, "{covered:?}");
    }
}

#[test]
fn a_repeated_query_parameter_is_ambiguous() {
    let mut vector = signed(|raw| {
        raw.message.covered = vec!["@method".to_owned()];
    });
    vector.inbound.head.query = Some("id=1&id=2".to_owned());
    let vector = vector.edited("signature-input", |value| {
        value.replace("\"@method\"", "\"@method\" \"@query-param\";name=\"id\"")
    });
    assert_eq!(label(&vector), "ambiguous");
}

#[test]
fn one_of_several_signatures_is_enough_and_a_label_or_tag_chooses() {
    let vector = signed(|_| {});
    let headers = &vector.inbound.head.headers;
    let (input, signature) = (
        headers["signature-input"].clone(),
        headers["signature"].clone(),
    );
    let join = |own: &http::HeaderValue, other: &str| format!("{other}, {}", own.to_str().unwrap());
    let several = vector
        .edited("signature-input", |_| {
            join(&input, "proxy=(\"@method\");created=1")
        })
        .edited("signature", |_| join(&signature, "proxy=:AAAA:"));
    several.check().unwrap();
    let mut labelled = several.clone();
    labelled.raw.message.label = Some("proxy".to_owned());
    assert_eq!(label(&labelled), "not_covered");
    labelled.raw.message.label = Some("sig1".to_owned());
    labelled.check().unwrap();
    let mut tagged = several;
    tagged.raw.message.tag = Some("webhook".to_owned());
    assert_eq!(label(&tagged), "parameter_mismatch");
}

#[test]
fn a_keyid_is_the_label_of_the_secret_that_counts() {
    let vector = signed(|_| {});
    let check = |secrets: &[(&str, &str)]| {
        let verifier = compiled(&vector.raw, secrets, URL).unwrap();
        let verified = verifier.verify(vector.inbound.clone(), Now::at(vector.now));
        verified
            .map(|it| it.proof.key)
            .map_err(|(_, refusal)| refusal)
    };
    // Signed with the label `main`.
    assert_eq!(
        check(&[("main", "s3cr3t"), ("old", "x")])
            .unwrap()
            .as_deref(),
        Some("main")
    );
    assert_eq!(
        check(&[("main", "x"), ("old", "s3cr3t")]),
        Err(Refusal::Mismatch(1))
    );
    assert_eq!(
        check(&[("a", "x"), ("b", "s3cr3t")]).unwrap().as_deref(),
        Some("b")
    );
}

#[test]
fn mistakes_are_told() {
    let mistake = |edit: fn(&mut RawScheme)| {
        let mut raw = raw();
        edit(&mut raw);
        compiled(&raw, &[("main", "s3cr3t")], URL).unwrap_err()
    };
    let without = mistake(|raw| raw.message.signature_algorithm = None);
    assert!(without.contains("must not choose"), "{without}");
    let unknown = mistake(|raw| raw.message.signature_algorithm = Some("none".to_owned()));
    assert!(unknown.contains("`none`"), "{unknown}");
    let odd = mistake(|raw| raw.message.covered = vec!["@status".to_owned()]);
    assert!(odd.contains("@status"), "{odd}");
    let twice = mistake(|raw| raw.message.covered = vec!["date".to_owned(), "date".to_owned()]);
    assert!(twice.contains("twice"), "{twice}");
    let foreign = mistake(|raw| raw.signed = Some("{body}".to_owned()));
    assert!(
        foreign.contains("says nothing about `rfc9421`"),
        "{foreign}"
    );
    let label = mistake(|raw| raw.message.label = Some("Sig 1".to_owned()));
    assert!(label.contains("can have this label"), "{label}");
    let tag = mistake(|raw| raw.message.tag = Some("a\nb".to_owned()));
    assert!(tag.contains("can have this tag"), "{tag}");
    let nowhere = compiled(&raw(), &[("main", "s3cr3t")], "").unwrap_err();
    assert!(nowhere.contains("address"), "{nowhere}");
    let none = compiled(&raw(), &[], URL).unwrap_err();
    assert!(none.contains("no secret"), "{none}");
}

#[test]
fn what_is_signed_is_shown_without_secrets() {
    let vector = signed(|raw| {
        raw.message.covered = ["@authority", "authorization", "content-digest"]
            .map(str::to_owned)
            .to_vec();
    });
    let shown = vector.verifier().signature_base(&vector.inbound).unwrap();
    assert!(
        shown.contains("\"@authority\": hooks.example.com"),
        "{shown}"
    );
    assert!(shown.contains("\"authorization\": (not shown)"), "{shown}");
    assert!(
        shown.contains("\"@signature-params\": (\"@authority\""),
        "{shown}"
    );
    assert!(!shown.contains("s3cr3t"), "{shown}");
}

#[test]
fn of_a_query_only_the_length_is_shown_and_of_a_signature_nothing() {
    let mut vector = signed(|_| {});
    vector.inbound.head.query = Some("reset=q1w2e3".to_owned());
    let parts = "\"@query\" \"@target-uri\" \"@request-target\" \"@query-param\";name=\"reset\" \
                 \"signature\";key=\"sig1\" \"x-passwd\"";
    let vector = vector.edited("signature-input", |_| format!("sig1=({parts});created=1"));
    let mut inbound = vector.inbound.clone();
    let password = "q1w2e3".parse().unwrap();
    inbound.head.headers.insert("x-passwd", password);
    let shown = vector.verifier().signature_base(&inbound).unwrap();
    assert!(shown.contains("\"@query\": (13 bytes)"), "{shown}");
    assert!(
        shown.contains("\"@query-param\";name=\"reset\": (6 bytes)"),
        "{shown}"
    );
    assert!(!shown.contains("q1w2e3"), "{shown}");
    let signature = inbound.head.headers["signature"].to_str().unwrap();
    let (_, signature) = signature.split_once('=').unwrap();
    assert!(!shown.contains(signature), "{shown}");
}
