//! Every preset compiles, says what people need, and stands up to its vectors.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use super::*;
use crate::clock::Now;
use crate::config::raw::{RawSource, RawVerify};
use crate::delivery::Coverage;
use crate::pipeline::arrival::{Head, Inbound};
use crate::pipeline::expr::Expr;
use crate::pipeline::handshake::Handshake;
use crate::pipeline::verify::testing::pair;
use crate::pipeline::verify::{Context, Proof, Refusal, Verifier};
use crate::secret::{Labelled, Secret};

/// One request with what is to become of it.
#[derive(Clone)]
struct Vector {
    id: String,
    accept: bool,
    secrets: Vec<String>,
    config: BTreeMap<String, String>,
    url: String,
    inbound: Inbound,
    now: Timestamp,
}

impl Vector {
    fn read(json: &Value) -> Self {
        Self {
            accept: json["expect"] == "accept",
            now: Timestamp::from_second(json["now_unix"].as_i64().unwrap()).unwrap(),
            ..Self::read_request(json)
        }
    }

    fn read_request(json: &Value) -> Self {
        let text = |key: &str| json[key].as_str().unwrap().to_owned();
        let mut secrets = vec![text("secret")];
        secrets.extend(
            json["extra_secrets"]
                .as_array()
                .into_iter()
                .flatten()
                .map(string),
        );
        let config = json["config"].as_object().into_iter().flatten();
        let url: http::Uri = text("url").parse().unwrap();
        let headers = json["headers"].as_object().unwrap().iter();
        let head = Head {
            method: text("method").parse().unwrap(),
            path: url.path().to_owned(),
            query: url.query().map(str::to_owned),
            headers: headers
                .map(|(name, value)| (name.parse().unwrap(), string(value).parse().unwrap()))
                .collect(),
            client_ip: [192, 0, 2, 1].into(),
            request_id: Arc::from("r"),
        };
        let body = Bytes::from(STANDARD.decode(text("body_base64")).unwrap());
        Self {
            id: text("id"),
            accept: false,
            secrets,
            config: config
                .map(|(key, value)| (key.clone(), string(value)))
                .collect(),
            url: text("url").split('?').next().unwrap().to_owned(),
            inbound: Inbound { head, body },
            now: Timestamp::UNIX_EPOCH,
        }
    }

    fn verifier(&self, source: &RawSource) -> Verifier {
        let secrets: Vec<Labelled> = self.secrets.iter().map(|secret| labelled(secret)).collect();
        let context = Context {
            secrets: &secrets,
            config: &self.config,
            url: Some(self.url.clone()),
        };
        Verifier::compile(source.verify.as_ref().unwrap(), &context).unwrap()
    }

    /// The same with a public key whose private key is known, where the proof is made with one.
    fn with_own_pair(mut self, source: &RawSource) -> (Self, Option<Secret>) {
        let Some(RawVerify::Schemes(schemes)) = &source.verify else {
            return (self, None);
        };
        let word = |word: &Option<String>| word.clone().unwrap_or_default();
        let pair = pair(&word(&schemes[0].algorithm), &word(&schemes[0].key));
        let Some(pair) = pair else {
            return (self, None);
        };
        self.secrets = vec![pair.public];
        (self, Some(pair.private))
    }

    fn check(&self, source: &RawSource) -> Result<Proof, Refusal> {
        let now = Now::at(self.now);
        match self.verifier(source).verify(self.inbound.clone(), now) {
            Ok(verified) => Ok(verified.proof),
            Err((_, refusal)) => Err(refusal),
        }
    }
}

fn string(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn labelled(secret: &str) -> Labelled {
    Labelled {
        label: Arc::from("test"),
        secret: Secret::new(secret.as_bytes().to_vec()),
    }
}

fn read_json(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/vectors/{file}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn vectors(file: &str) -> Vec<Vector> {
    read_json(file).iter().map(Vector::read).collect()
}

fn each_preset(mut run: impl FnMut(&str, RawSource)) {
    for (file, text) in FILES {
        run(file, reader::read(text));
    }
}

#[test]
fn the_table_lists_every_file_in_order() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/providers");
    let names = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut files: Vec<String> = names
        .filter_map(|name| {
            name.to_str()
                .unwrap()
                .strip_suffix(".toml")
                .map(str::to_owned)
        })
        .collect();
    files.sort();
    let listed: Vec<&str> = FILES.iter().map(|(file, _)| *file).collect();
    assert_eq!(listed, files);
}

#[test]
fn a_name_may_be_written_either_way() {
    assert_eq!(text("standard-webhooks"), text("standard_webhooks"));
    assert!(text("standard-webhooks").is_some());
    assert!(text("nobody").is_none());
    assert!(names().iter().all(|name| text(name).is_some()));
}

#[test]
fn every_preset_tells_people_what_to_do_and_where_things_stand() {
    each_preset(|file, source| {
        let about = source
            .about
            .unwrap_or_else(|| panic!("{file} has no [about]"));
        assert!(!about.title.is_empty() && !about.setup.is_empty(), "{file}");
        assert!(about.docs.starts_with("https://"), "{file}");
        let places = source
            .event_id
            .into_iter()
            .chain(source.event_type)
            .flatten();
        for place in places {
            Expr::parse(&place).unwrap_or_else(|what| panic!("{file}: {what}"));
        }
    });
}

#[test]
fn every_preset_decides_its_vectors() {
    each_preset(|file, source| {
        let vectors = vectors(file);
        assert!(
            vectors.iter().any(|vector| vector.accept),
            "{file} has nothing to accept"
        );
        for vector in vectors {
            let proof = vector.check(&source);
            assert_eq!(proof.is_ok(), vector.accept, "{}: {proof:?}", vector.id);
        }
    });
}

/// The scheme's places of signatures.
fn signature_places(source: &RawSource) -> Vec<String> {
    match &source.verify {
        Some(RawVerify::Schemes(schemes)) => schemes[0].signature.clone(),
        other => panic!("{other:?}"),
    }
}

/// Another character of the same kind, never just the other case.
fn other_byte(byte: u8) -> u8 {
    match byte {
        b'0'..=b'8' | b'a'..=b'y' | b'A'..=b'Y' => byte + 1,
        b'9' => b'0',
        b'z' => b'a',
        _ => b'A',
    }
}

#[track_caller]
fn refused(vector: &Vector, source: &RawSource, what: &str) {
    if let Ok(proof) = vector.check(source) {
        panic!("{}: still {proof:?} after a change of {what}", vector.id);
    }
}

fn with_body(vector: &Vector, body: Vec<u8>) -> Vector {
    let inbound = Inbound {
        head: vector.inbound.head.clone(),
        body: Bytes::from(body),
    };
    Vector {
        inbound,
        ..vector.clone()
    }
}

fn with_header(vector: &Vector, name: &str, value: &[u8]) -> Vector {
    let mut changed = vector.clone();
    let name: http::HeaderName = name.parse().unwrap();
    changed
        .inbound
        .head
        .headers
        .insert(name, value.try_into().unwrap());
    changed
}

/// The value with every signature in it changed: whatever is long without a separator, else the
/// last byte.
fn forge(value: &[u8]) -> Vec<u8> {
    const SIGNATURE_BYTES_MIN: usize = 20;
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    let mut forged = value.to_vec();
    let mut start = 0;
    for run in value.chunk_by(|a, b| is_part(a) == is_part(b)) {
        if run.len() >= SIGNATURE_BYTES_MIN {
            forged[start] = other_byte(forged[start]);
        }
        start += run.len();
    }
    if forged == value {
        let last = forged.last_mut().unwrap();
        *last = other_byte(*last);
    }
    forged
}

#[test]
fn one_changed_byte_of_the_body_is_refused_where_the_proof_covers_it() {
    each_preset(|file, source| {
        for vector in vectors(file).into_iter().filter(|vector| vector.accept) {
            if vector.check(&source).unwrap().coverage != Coverage::Full {
                continue;
            }
            for position in 0..vector.inbound.body.len() {
                let mut body = vector.inbound.body.to_vec();
                body[position] ^= 1;
                refused(&with_body(&vector, body), &source, "the body");
            }
            let longer = [&vector.inbound.body[..], b"\n"].concat();
            refused(&with_body(&vector, longer), &source, "the body's length");
        }
    });
}

#[test]
fn a_changed_signature_is_refused() {
    each_preset(|file, source| {
        for vector in vectors(file).into_iter().filter(|vector| vector.accept) {
            let mut forged = vector.clone();
            for place in signature_places(&source) {
                let (kind, name) = place.split_once(':').unwrap();
                match kind {
                    "query" => {
                        let query = forge(vector.inbound.head.query.as_ref().unwrap().as_bytes());
                        forged.inbound.head.query = Some(String::from_utf8(query).unwrap());
                    }
                    "form" => {
                        let body = String::from_utf8(vector.inbound.body.to_vec()).unwrap();
                        let field = body
                            .split('&')
                            .find(|field| field.starts_with(name))
                            .unwrap();
                        let forgery = String::from_utf8(forge(field.as_bytes())).unwrap();
                        forged = with_body(&forged, body.replace(field, &forgery).into());
                    }
                    "json" => {
                        let json: Value = serde_json::from_slice(&vector.inbound.body).unwrap();
                        let signature = json.pointer(name).unwrap().as_str().unwrap();
                        let forgery = String::from_utf8(forge(signature.as_bytes())).unwrap();
                        let body = String::from_utf8(vector.inbound.body.to_vec()).unwrap();
                        forged = with_body(&forged, body.replace(signature, &forgery).into());
                    }
                    _ => {
                        let headers = vector.inbound.head.headers.iter();
                        let prefix = name.to_ascii_lowercase();
                        for (name, value) in
                            headers.filter(|(h, _)| h.as_str().starts_with(&prefix))
                        {
                            forged = with_header(&forged, name.as_str(), &forge(value.as_bytes()));
                        }
                    }
                }
            }
            refused(&forged, &source, "the signature");
        }
    });
}

#[test]
fn another_secret_is_refused() {
    each_preset(|file, source| {
        for vector in vectors(file).into_iter().filter(|vector| vector.accept) {
            let (mut vector, private_key) = vector.with_own_pair(&source);
            let is_pair = private_key.is_some();
            for secret in vector.secrets.iter_mut().filter(|_| !is_pair) {
                // Near the end, and valid in every form: base64, hex, user and password.
                let mut bytes = std::mem::take(secret).into_bytes();
                let position = bytes.iter().rposition(u8::is_ascii_digit);
                let position = position
                    .or(bytes.iter().rposition(u8::is_ascii_alphabetic))
                    .unwrap();
                bytes[position] = other_byte(bytes[position]);
                *secret = String::from_utf8(bytes).unwrap();
            }
            refused(&vector, &source, "the secret");
        }
    });
}

#[test]
fn a_timestamp_counts_to_the_last_second_of_its_tolerance() {
    each_preset(|file, source| {
        let Some(RawVerify::Schemes(schemes)) = &source.verify else {
            panic!("{file} has no scheme");
        };
        let Some(tolerance) = schemes[0]
            .tolerance
            .filter(|tolerance| !tolerance.is_zero())
        else {
            return;
        };
        for vector in vectors(file)
            .into_iter()
            .filter(|vector| vector.accept)
            .take(1)
        {
            let (mut vector, private_key) = vector.with_own_pair(&source);
            let body = vector.inbound.body.clone();
            let verifier = vector.verifier(&source);
            verifier
                .sign(
                    &mut vector.inbound.head,
                    &body,
                    vector.now,
                    private_key.as_ref(),
                )
                .unwrap();
            let second = jiff::SignedDuration::from_secs(1);
            let tolerance = jiff::SignedDuration::try_from(tolerance).unwrap();
            for (offset, accept) in [
                (tolerance, true),
                (-tolerance, true),
                (tolerance + second, false),
                (-tolerance - second, false),
            ] {
                let moved = Vector {
                    now: vector.now + offset,
                    ..vector.clone()
                };
                assert_eq!(
                    moved.check(&source).is_ok(),
                    accept,
                    "{} {offset}",
                    vector.id
                );
            }
        }
    });
}

#[test]
fn what_is_signed_here_is_genuine_and_every_byte_of_it_counts() {
    let mut signed = 0;
    each_preset(|file, source| {
        let vector = vectors(file)
            .into_iter()
            .find(|vector| vector.accept)
            .unwrap();
        let (mut vector, private_key) = vector.with_own_pair(&source);
        vector.inbound.head.headers.clear();
        vector.inbound.head.query = None;
        let (now, body) = (vector.now, vector.inbound.body.clone());
        let verifier = vector.verifier(&source);
        let Err(what) = verifier.sign(&mut vector.inbound.head, &body, now, private_key.as_ref())
        else {
            signed += 1;
            vector
                .check(&source)
                .unwrap_or_else(|refusal| panic!("{file}: {refusal}"));
            for (name, value) in &vector.inbound.head.headers {
                for position in 0..value.len() {
                    let mut value = value.as_bytes().to_vec();
                    value[position] = other_byte(value[position]);
                    let changed = with_header(&vector, name.as_str(), &value);
                    refused(&changed, &source, name.as_str());
                }
            }
            return;
        };
        assert!(what.contains("in the body"), "{file}: {what}");
    });
    assert_eq!(
        signed,
        FILES.len() - 3,
        "only adyen-item, braintree and mailgun carry the proof in the body"
    );
}

#[test]
fn the_signature_is_looked_at_before_the_timestamp() {
    let source = reader::read(text("stripe").unwrap());
    let mut vector = vectors("stripe")
        .into_iter()
        .find(|vector| vector.accept)
        .unwrap();
    vector.now += jiff::SignedDuration::from_hours(1);
    assert_eq!(
        vector.check(&source).unwrap_err().label(),
        "timestamp_stale"
    );
    let forged = with_body(&vector, b"{}".to_vec());
    assert_eq!(
        forged.check(&source).unwrap_err().label(),
        "signature_mismatch"
    );
}

#[test]
fn handshakes_are_answered_as_their_providers_ask() {
    for json in read_json("handshakes") {
        let (id, provider) = (string(&json["id"]), string(&json["provider"]));
        let source = reader::read(text(&provider).unwrap());
        let vector = Vector::read_request(&json);
        let mut config = vector.config.clone();
        config.insert("verify_token".to_owned(), vector.secrets[0].clone());
        let secrets = [labelled(&vector.secrets[0])];
        let context = Context {
            secrets: &secrets,
            config: &config,
            url: Some(vector.url.clone()),
        };
        let verifier = Verifier::compile(source.verify.as_ref().unwrap(), &context).unwrap();
        let rules: Vec<Handshake> = source
            .handshakes
            .iter()
            .map(|raw| Handshake::compile(raw, &context, &verifier).unwrap())
            .collect();
        let reply = rules.iter().find_map(|rule| rule.answer(&vector.inbound));
        let expected = STANDARD.decode(string(&json["answer_base64"])).unwrap();
        match json["status"].as_u64().unwrap() {
            403 => assert_eq!(reply, None, "{id}"),
            status => {
                let reply = reply.unwrap_or_else(|| panic!("{id} is not answered"));
                assert_eq!(u64::from(reply.status.as_u16()), status, "{id}");
                assert_eq!(reply.body.as_bytes(), expected, "{id}");
                let is_json = reply.body.starts_with('{');
                assert_eq!(
                    reply.content_type.starts_with("application/json"),
                    is_json,
                    "{id}"
                );
            }
        }
    }
}
