//! Every preset compiles, says what people need, and stands up to its vectors.

mod fetched;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use super::*;
use crate::authorities::Authorities;
use crate::clock::Now;
use crate::config::raw::{Evidence, RawSource, RawVerify};
use crate::delivery::Coverage;
use crate::pipeline::arrival::{Head, Inbound};
use crate::pipeline::decode::{DuplicateKeys, Format, Reading, decode};
use crate::pipeline::expr::Expr;
use crate::pipeline::split::{ELEMENTS_MAX_DEFAULT, Place, Split};
use crate::pipeline::verify::Verified;
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
    authorities: Authorities,
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
            certificate: None,
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
            authorities: fetched::authorities(json),
        }
    }

    fn verifier(&self, source: &RawSource) -> Verifier {
        let secrets: Vec<Labelled> = self.secrets.iter().map(|secret| labelled(secret)).collect();
        let context = Context {
            secrets: &secrets,
            config: &self.config,
            url: Some(self.url.clone()),
        };
        let mut verifier = Verifier::compile(source.verify.as_ref().unwrap(), &context).unwrap();
        verifier.believe(&self.authorities);
        verifier
    }

    /// The same with a public key whose private key is known, where the proof is made with one.
    fn with_own_pair(mut self, source: &RawSource) -> (Self, Option<Secret>) {
        let Some(RawVerify::Schemes(schemes)) = &source.verify else {
            return (self, None);
        };
        let word = |word: &Option<String>| word.clone().unwrap_or_default();
        // A token's algorithm has a pair by another name.
        let signed_with = schemes[0].token.algorithms.first().map(String::as_str);
        let pair = match signed_with {
            Some("RS256") => pair("rsa-pkcs1-sha256", "pem"),
            Some("ES256") => pair("ecdsa-p256-sha256", "pem"),
            _ => pair(&word(&schemes[0].algorithm), &word(&schemes[0].key)),
        };
        let Some(pair) = pair else {
            return (self, None);
        };
        self.secrets = vec![pair.public];
        (self, Some(pair.private))
    }

    fn check(&self, source: &RawSource) -> Result<Proof, Refusal> {
        let now = Now::at(self.now);
        let verifier = self.verifier(source);
        let evidence = fetched::evidence(self, &verifier, now);
        match verifier.verify_with(self.inbound.clone(), &evidence, now) {
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
        for place in source.split.into_iter().flatten() {
            Place::parse(&place).unwrap_or_else(|what| panic!("{file}: {what}"));
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

/// `tests/gateway/sdk.rs` runs every case of the table that this reads.
fn providers_with_an_sdk() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/cases.toml");
    let table: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let name = |case: &toml::Value| case["provider"].as_str().unwrap().to_owned();
    let cases = table["case"].as_array().unwrap().iter();
    let own = cases.filter(|case| case.get("library").is_none());
    own.map(name).collect()
}

#[test]
fn the_evidence_is_what_there_is() {
    let with_an_sdk = providers_with_an_sdk();
    each_preset(|file, source| {
        let is_published = read_json(file).iter().any(|json| json["published"] == true);
        let has_an_sdk = with_an_sdk.iter().any(|name| name == file);
        let wanted = match (is_published, has_an_sdk) {
            (true, true) => vec![Evidence::Published, Evidence::Sdk],
            (true, false) => vec![Evidence::Published],
            (false, true) => vec![Evidence::Sdk],
            (false, false) => vec![Evidence::Recipe],
        };
        let said = source.about.unwrap_or_default().evidence;
        assert_eq!(said, wanted, "`evidence` under [about] in {file}.toml");
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
                        // Of a list, one element is enough.
                        let name = name.replace('*', "0");
                        let signature = json.pointer(&name).unwrap().as_str().unwrap();
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
        if fetched::is(&source) {
            return;
        }
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
        if fetched::is(&source) {
            return;
        }
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
        if fetched::is(&source) {
            return;
        }
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
        FILES.len() - fetched::FILES.len() - 6,
        "only adyen-item, braintree, Mailgun's two, msgraph and msgraph-rich carry the proof in the body"
    );
}

#[test]
fn another_url_is_refused_where_it_is_signed() {
    let mut signed = 0;
    each_preset(|file, source| {
        let Some(RawVerify::Schemes(schemes)) = &source.verify else {
            panic!("{file} has no scheme");
        };
        let template = schemes[0].signed.clone().unwrap_or_default();
        if !template.contains("{url") {
            return;
        }
        signed += 1;
        for vector in vectors(file).into_iter().filter(|vector| vector.accept) {
            let mut other = vector.clone();
            other.url = vector.url.replacen("https://", "https://x", 1);
            assert_ne!(other.url, vector.url, "{}", vector.id);
            refused(&other, &source, "the host");
            let mut other = vector.clone();
            other.url.push('x');
            refused(&other, &source, "the path");
            let mut other = vector.clone();
            let query = vector.inbound.head.query.clone().unwrap_or_default();
            other.inbound.head.query = Some(format!("{query}&x=1"));
            refused(&other, &source, "the query");
        }
    });
    assert!(signed >= 6, "{signed}");
}

#[test]
fn a_changed_timestamp_is_refused() {
    let mut signed = 0;
    each_preset(|file, source| {
        let Some(RawVerify::Schemes(schemes)) = &source.verify else {
            panic!("{file} has no scheme");
        };
        let place = schemes[0].timestamp.clone().unwrap_or_default();
        let header = match place.split_once(':') {
            Some(("header", name)) => name.to_owned(),
            Some(("signature", _)) => {
                let places = signature_places(&source);
                places[0].strip_prefix("header:").unwrap().to_owned()
            }
            _ => return,
        };
        signed += 1;
        for vector in vectors(file).into_iter().filter(|vector| vector.accept) {
            // A second later, as whoever sends an event again would have it.
            let value = &vector.inbound.head.headers[&header];
            let value = value.to_str().unwrap().to_owned();
            let mut changed = value.clone().into_bytes();
            let digits = value
                .bytes()
                .position(|byte| byte.is_ascii_digit())
                .unwrap();
            let length = changed[digits..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            let last = digits + length - 1;
            changed[last] = other_byte(changed[last]);
            refused(
                &with_header(&vector, &header, &changed),
                &source,
                "the timestamp",
            );
        }
    });
    assert!(signed >= 20, "{signed}");
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

mod handshakes;

/// What is read of each element of a batch: its id and its type.
fn elements(provider: &str, body: &str) -> Vec<(Option<String>, Option<String>)> {
    let source = reader::read(text(provider).unwrap());
    let exprs = |texts: Option<Vec<String>>| -> Vec<Expr> {
        let texts = texts.into_iter().flatten();
        texts.map(|text| Expr::parse(&text).unwrap()).collect()
    };
    let places = source.split.unwrap();
    let places = places.iter().map(|place| Place::parse(place).unwrap());
    let split = Split::new(places.collect(), ELEMENTS_MAX_DEFAULT);
    let is_form = source.format.as_deref() == Some("form");
    let format = if is_form { Format::Form } else { Format::Json };
    let mut vector = vectors(provider).remove(0);
    vector.inbound.body = Bytes::copy_from_slice(body.as_bytes());
    let verified = Verified::unproved(vector.inbound);
    let reading = Reading {
        format,
        duplicate_keys: DuplicateKeys::Reject,
        unwrap: None,
        codings: Vec::new(),
        unpacked_bytes_max: 1 << 20,
        query_coverage: Coverage::None,
    };
    let document = decode(verified, &reading, true, |_| Ok(())).unwrap();
    let events = split.open(document, DuplicateKeys::Reject).unwrap();
    assert_eq!(events.flaw, None, "{provider}");
    let (ids, types) = (exprs(source.event_id), exprs(source.event_type));
    let read = events.list.iter();
    let read = read.map(|event| (events.own_id(event, &ids), events.read(event, &types)));
    read.collect()
}

/// The body of the first vector that is to be accepted.
fn accepted_body(provider: &str) -> String {
    let mut vectors = vectors(provider).into_iter();
    let vector = vectors.find(|vector| vector.accept).unwrap();
    String::from_utf8(vector.inbound.body.to_vec()).unwrap()
}

#[test]
fn elements_of_batches_have_their_own_ids_and_types() {
    let pair = |id: &str, kind: &str| {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        (text(id), text(kind))
    };
    let of_vector = |provider: &str| elements(provider, &accepted_body(provider));
    assert_eq!(
        of_vector("sendgrid"),
        [pair(
            "ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",
            "dropped"
        )]
    );
    for hubspot in ["hubspot_v1", "hubspot_v3"] {
        assert_eq!(
            of_vector(hubspot),
            [pair("1.12345.1564113600000", "contact.creation")]
        );
    }
    assert_eq!(of_vector("gocardless"), [pair("EV1", "payouts.paid_out")]);
    assert_eq!(of_vector("eventgrid"), []);
    assert_eq!(of_vector("mandrill"), []);
    for (provider, body, expected) in [
        (
            "eventgrid",
            r#"[{"id":"1","eventType":"a"},{"id":"2","eventType":"b"}]"#,
            vec![pair("1", "a"), pair("2", "b")],
        ),
        (
            "quickbooks",
            r#"[{"id":"1","type":"qbo.invoice.created.v1"}]"#,
            vec![pair("1", "qbo.invoice.created.v1")],
        ),
        (
            "quickbooks",
            r#"{"eventNotifications":[{"realmId":"1"},{"realmId":"2"}]}"#,
            vec![pair("", ""), pair("", "")],
        ),
        (
            "mandrill",
            "mandrill_events=%5B%7B%22event%22%3A%22send%22%2C%22_id%22%3A%22e%22%2C%22ts%22%3A7%7D%5D",
            vec![pair("", "send")],
        ),
        (
            "meta",
            r#"{"object":"page","entry":[{"id":"1","changes":[{"field":"feed"}]},{"id":"1","messaging":[]}]}"#,
            vec![pair("", "page.feed"), pair("", "page")],
        ),
        (
            "line",
            r#"{"destination":"U","events":[{"type":"message","webhookEventId":"01F"}]}"#,
            vec![pair("01F", "message")],
        ),
        ("line", r#"{"destination":"U","events":[]}"#, vec![]),
        (
            "xero",
            r#"{"events":[{"resourceId":"r","eventDateUtc":"d","eventType":"UPDATE","eventCategory":"INVOICE"}]}"#,
            vec![pair("r.d.UPDATE", "INVOICE.UPDATE")],
        ),
    ] {
        assert_eq!(elements(provider, body), expected, "{provider}");
    }
}

/// Such a method would bring events: those of handshakes are said by their rules.
#[test]
fn no_preset_takes_events_by_a_safe_method() {
    each_preset(|file, source| {
        let methods = source.methods.unwrap_or_default();
        assert!(methods.iter().all(|it| it != "GET"), "{file}: {methods:?}");
    });
}

/// The keys of all of Microsoft's tenants sign for the accounts of consumers, too.
#[test]
fn who_asks_for_one_tenant_asks_for_its_keys() {
    let place = "{config:tenant}";
    let mut found = 0;
    each_preset(|name, source| {
        let Some(RawVerify::Schemes(schemes)) = &source.verify else {
            return;
        };
        for token in schemes.iter().map(|scheme| &scheme.token) {
            if token.issuer.iter().any(|issuer| issuer.contains(place)) {
                found += 1;
                let jwks = token.jwks.as_deref();
                assert!(jwks.is_some_and(|jwks| jwks.contains(place)), "{name}");
            }
        }
    });
    assert_eq!(found, 3);
}
