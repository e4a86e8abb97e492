//! Each way to be refused, each mistake in a configuration, and nothing that panics.

mod certificate;
mod each;
mod mistakes;
mod never_panics;
mod public;
mod refused;
mod remarks;

use super::*;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method};
use jiff::Timestamp;

use crate::config::raw::{RawList, RawScheme};
use crate::pipeline::arrival::Head;
use crate::secret::Secret;

const SECRET: &str = "s3cr3t";
const BODY: &str = r#"{"id":1}"#;
const URL: &str = "https://hooks.example.com/erp";

fn now() -> Timestamp {
    Timestamp::from_second(1_760_000_000).unwrap()
}

fn labelled(label: &str, secret: &[u8]) -> Labelled {
    Labelled {
        label: Arc::from(label),
        secret: Secret::new(secret.to_vec()),
    }
}

/// Everything said: hex HMAC over time and body, in a list.
fn scheme() -> RawScheme {
    let word = |text: &str| Some(text.to_owned());
    RawScheme {
        secrets: Vec::new(),
        algorithm: word("hmac-sha256"),
        signature: vec!["header:X-Signature".to_owned()],
        prefix: None,
        list: Some(RawList {
            separator: word(","),
            assign: word("="),
            pick: word("v1"),
        }),
        encoding: word("hex"),
        key: word("utf8"),
        signed: word("{timestamp}.{body}"),
        timestamp: word("signature:t"),
        timestamp_unit: word("s"),
        tolerance: Some(Duration::from_mins(5)),
        ..RawScheme::default()
    }
}

/// Hex HMAC over the body, with the prefix `sha256=`.
fn plain() -> RawScheme {
    RawScheme {
        prefix: Some("sha256=".to_owned()),
        list: None,
        signed: None,
        timestamp: None,
        timestamp_unit: None,
        tolerance: None,
        ..scheme()
    }
}

fn token() -> RawScheme {
    RawScheme {
        algorithm: Some("token".to_owned()),
        signature: vec!["header:X-Token".to_owned()],
        ..RawScheme::default()
    }
}

fn compile_with(schemes: Vec<RawScheme>, secrets: &[&[u8]]) -> Result<Verifier, Vec<Problem>> {
    let labels = ["new", "old", "older"];
    let secrets: Vec<Labelled> = labels
        .iter()
        .zip(secrets)
        .map(|(label, secret)| labelled(label, secret))
        .collect();
    let config = BTreeMap::from([("account".to_owned(), "a1".to_owned())]);
    let context = Context {
        secrets: &secrets,
        config: &config,
        url: Some(URL.to_owned()),
    };
    Verifier::compile(&RawVerify::Schemes(schemes), &context)
}

fn compile(scheme: RawScheme) -> Verifier {
    compile_with(vec![scheme], &[SECRET.as_bytes()]).unwrap()
}

fn inbound(headers: &[(&str, &str)], body: &str) -> Inbound {
    let headers = headers
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
    let mut map = http::HeaderMap::new();
    for (name, value) in headers {
        map.append(name, value);
    }
    let head = Head {
        method: Method::POST,
        path: "/erp".to_owned(),
        query: None,
        headers: map,
        client_ip: [192, 0, 2, 1].into(),
        request_id: Arc::from("r"),
        certificate: None,
    };
    Inbound {
        head,
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

fn signed(verifier: &Verifier, mut inbound: Inbound) -> Inbound {
    verifier
        .sign(&mut inbound.head, &inbound.body, now(), None)
        .unwrap();
    inbound
}

fn verify(verifier: &Verifier, inbound: Inbound) -> Result<Proof, Refusal> {
    match verifier.verify(inbound, Now::at(now())) {
        Ok(verified) => Ok(verified.proof),
        Err((_, refusal)) => Err(refusal),
    }
}

#[test]
fn any_secret_may_match_and_its_label_is_known() {
    let old = compile_with(vec![plain()], &[b"old"]).unwrap();
    let both = compile_with(vec![plain()], &[b"new", b"old"]).unwrap();
    let proof = verify(&both, signed(&old, inbound(&[], BODY))).unwrap();
    assert_eq!(proof.key.as_deref(), Some("old"));
    assert_eq!(proof.coverage, Coverage::Full);
}

#[test]
fn any_signature_of_a_list_may_match_and_only_the_picked_name_counts() {
    let verifier = compile(scheme());
    let genuine = signed(&verifier, inbound(&[], BODY));
    let value = genuine.head.headers["x-signature"]
        .to_str()
        .unwrap()
        .to_owned();
    let (time, good) = value.split_once(",v1=").unwrap();
    let check = |value: &str| verify(&verifier, inbound(&[("X-Signature", value)], BODY));
    check(&format!(
        "{time}, v1=nothex, v1={}, v1={good}",
        "0".repeat(64)
    ))
    .unwrap();
    check(&format!("{time},v1={}", good.to_uppercase())).unwrap();
    assert_eq!(
        check(&format!("{time},v0={good}")).unwrap_err().label(),
        "signature_not_listed"
    );
}

#[test]
fn coverage_follows_from_what_is_signed() {
    for (signed, coverage) in [
        ("{timestamp}.{body}", Coverage::Full),
        ("{timestamp}.{body|sha256hex}", Coverage::Full),
        ("{timestamp}.{body|crc32}", Coverage::Fields),
        ("{timestamp}.{form_sorted}", Coverage::Fields),
        ("{timestamp}.{json:/id}", Coverage::Fields),
        ("{timestamp}.{url}", Coverage::Token),
    ] {
        let verifier = compile(RawScheme {
            signed: Some(signed.to_owned()),
            ..scheme()
        });
        let proof = verify(&verifier, signed_request(&verifier)).unwrap();
        assert_eq!(proof.coverage, coverage, "{signed}");
    }
    let verifier = compile(token());
    assert_eq!(
        verify(&verifier, signed_request(&verifier))
            .unwrap()
            .coverage,
        Coverage::Token
    );
}

fn signed_request(verifier: &Verifier) -> Inbound {
    signed(verifier, inbound(&[], BODY))
}

#[test]
fn several_schemes_must_all_pass() {
    let verifier = compile_with(vec![plain(), token()], &[SECRET.as_bytes()]).unwrap();
    let mut request = signed_request(&verifier);
    assert_eq!(
        verify(&verifier, request.clone()).unwrap().coverage,
        Coverage::Full
    );
    request.head.headers.remove("x-token");
    assert_eq!(
        verify(&verifier, request).unwrap_err().label(),
        "signature_absent"
    );
}

#[test]
fn insecure_none_proves_nothing() {
    let context = Context {
        secrets: &[],
        config: &BTreeMap::new(),
        url: None,
    };
    let verifier = Verifier::compile(&RawVerify::InsecureNone, &context).unwrap();
    assert!(verifier.is_insecure());
    let proof = verify(&verifier, inbound(&[], BODY)).unwrap();
    assert_eq!(
        proof,
        Proof {
            coverage: Coverage::None,
            key: None,
            refusal: None
        }
    );
    assert!(!compile(plain()).is_insecure());
}

#[test]
fn every_piece_of_a_template_is_what_it_says() {
    for (template, text) in [
        ("{{{method}}}:{body}", r#"{POST}:{"id":1}"#),
        ("{url}", "https://hooks.example.com/erp?b=2&a=1"),
        ("{query:a}{query:z?}{header:X-Id}{json:/id}", "1e11"),
        (
            "{body|sha256hex}",
            "037c9214eef74cc3887f3a4f085b4e17d76280dafd273b0ee160c09c4ba1cfd4",
        ),
        ("{body|crc32}", "1147009221"),
        ("{config:account}-{timestamp}", "a1-17"),
        ("{sort(secret,query:b,query:a,timestamp)}", "1172s"),
    ] {
        let config = BTreeMap::from([("account".to_owned(), "a1".to_owned())]);
        let parsed = template::Template::parse(template, &config).unwrap();
        let mut request = inbound(&[("X-Id", "e1")], BODY);
        request.head.query = Some("b=2&a=1".to_owned());
        let facts = Facts::of(&request);
        let (timestamp, secret) = (Some(&b"17"[..]), &b"s"[..]);
        let given = template::Given {
            facts: &facts,
            timestamp,
            secret,
            url: Some(URL),
        };
        let rendered = String::from_utf8(parsed.render(&given).unwrap()).unwrap();
        assert_eq!(rendered, text, "{template}");
    }
}

#[test]
fn hubspot_undoes_some_escapes_of_the_url_in_either_case() {
    let parsed = template::Template::parse("{url|hubspot}", &BTreeMap::new()).unwrap();
    let mut request = inbound(&[], BODY);
    request.head.query = Some("u=https%3A%2f%2Fa.b%2F%20c".to_owned());
    let facts = Facts::of(&request);
    let given = template::Given {
        facts: &facts,
        timestamp: None,
        secret: b"",
        url: Some(URL),
    };
    let rendered = parsed.render(&given).unwrap();
    assert_eq!(rendered, format!("{URL}?u=https://a.b/%20c").into_bytes());
}

#[test]
fn a_timestamp_may_stand_in_whatever_is_signed() {
    for (timestamp, signed) in [
        ("query:at", "{url}{body}"),
        ("query:at", "{query:at}{body}"),
        ("header:X-Time", "{header:X-Time}{body}"),
        ("header:X-Time", "{timestamp}{body}"),
    ] {
        let verifier = compile(RawScheme {
            list: None,
            timestamp: Some(timestamp.to_owned()),
            signed: Some(signed.to_owned()),
            ..scheme()
        });
        let request = signed_request(&verifier);
        verify(&verifier, request.clone()).unwrap();
        let later = Now::at(now() + jiff::SignedDuration::from_hours(1));
        let (_, refusal) = verifier.verify(request, later).unwrap_err();
        assert_eq!(refusal.label(), "timestamp_stale", "{timestamp} {signed}");
    }
}

/// A token travels with every request, so whoever sees one must not be able to sign with it.
#[test]
fn a_table_takes_only_the_secrets_that_it_names() {
    let named = |scheme: RawScheme, label: &str| RawScheme {
        secrets: vec![label.to_owned()],
        ..scheme
    };
    let tables = vec![named(plain(), "new"), named(token(), "old")];
    let verifier = compile_with(tables, &[b"key", b"token"]).unwrap();
    let genuine = signed_request(&verifier);
    assert_eq!(genuine.head.headers["x-token"], "token");
    verify(&verifier, genuine.clone()).unwrap();

    let with_token = compile_with(vec![plain()], &[b"token"]).unwrap();
    let mut forged = signed_request(&with_token);
    let token = genuine.head.headers["x-token"].clone();
    forged.head.headers.insert("x-token", token);
    assert_eq!(
        verify(&verifier, forged.clone()).unwrap_err().label(),
        "signature_mismatch"
    );
    let shared = compile_with(vec![plain(), self::token()], &[b"key", b"token"]).unwrap();
    verify(&shared, forged).unwrap();
}

#[test]
fn a_border_that_can_be_moved_is_remarked_upon() {
    for (signed, loose) in [
        ("{body}", None),
        ("{timestamp}.{body}", None),
        ("{timestamp}{body}", None),
        ("{header:A}.{timestamp}.{body}", None),
        ("{header:A}:{query:b}", None),
        ("{method}{url}", None),
        ("{secret}{body}", None),
        ("{json:/a}", None),
        ("{json:/a}{timestamp}", None),
        ("x{sort(secret,query:a)}", None),
        (
            "{json:/a}{json:/b}",
            Some("body member /a and body member /b"),
        ),
        (
            "{json:/a}:{json:/b}",
            Some("body member /a and body member /b"),
        ),
        ("{form:a}:1:{header:B}", Some("form field a and header B")),
        ("{header:A}{body}", Some("header A and the body")),
        ("{url}{body}", Some("the query and the body")),
        ("{body}{form_sorted}", Some("the body and the form")),
        (
            "{sort(secret,query:a,query:b)}",
            Some("query parameter a and query parameter b"),
        ),
    ] {
        let table = RawScheme {
            signed: Some(signed.to_owned()),
            ..plain()
        };
        let raw = RawVerify::Schemes(vec![table]);
        let mut remarks = remarks(&raw, &BTreeMap::new(), EventIn::Body);
        remarks.retain(|remark| remark.what.contains("apart"));
        match (remarks.as_slice(), loose) {
            ([], None) => {}
            ([remark], Some(words)) => {
                assert!(remark.what.contains(words), "{signed}: {}", remark.what);
                assert_eq!(remark.path, ["verify", "signed"]);
            }
            _ => panic!("{signed}: {remarks:?}"),
        }
    }
}

#[test]
fn a_url_may_be_written_with_its_port_where_that_is_said() {
    let bare = RawScheme {
        signed: Some("{url}{body}".to_owned()),
        ..plain()
    };
    let either = RawScheme {
        url_variants: vec!["no_port".to_owned(), "default_port".to_owned()],
        ..bare.clone()
    };
    let at = |scheme: &RawScheme, url: &str| {
        let secrets = [labelled("new", SECRET.as_bytes())];
        let context = Context {
            secrets: &secrets,
            config: &BTreeMap::new(),
            url: Some(url.to_owned()),
        };
        Verifier::compile(&RawVerify::Schemes(vec![scheme.clone()]), &context).unwrap()
    };
    let (plain, ported) = ("https://a.example/erp", "https://a.example:443/erp");
    for (own, signer) in [(plain, ported), (ported, plain)] {
        let request = signed(&at(&bare, signer), inbound(&[], BODY));
        verify(&at(&either, own), request.clone()).unwrap();
        let refusal = verify(&at(&bare, own), request).unwrap_err();
        assert_eq!(refusal.label(), "signature_mismatch");
    }
    let idle = RawScheme {
        signed: None,
        ..either
    };
    let problems = compile_with(vec![idle], &[SECRET.as_bytes()]).unwrap_err();
    assert_eq!(problems[0].path, ["verify", "url_variants"]);
}
