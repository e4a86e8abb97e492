//! The fields of HTTP message signatures: `Signature-Input`, `Signature`, `Content-Digest`, and
//! whatever fields they cover. What is signed here holds here.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;

use super::{Input, vectors};
use crate::clock::Now;
use crate::config::raw::{RawMessage, RawScheme, RawVerify};
use crate::pipeline::arrival::{Head, Inbound};
use crate::pipeline::verify::{Context, Refusal, Verifier};
use crate::secret::{Labelled, Secret};

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let own = vectors::all().into_iter().filter(|it| it.file == "rfc9421");
    let seed = |vector: vectors::Vector| {
        let head = String::from_utf8_lossy(&vector.request).replace('\r', "");
        let (line, rest) = head.split_once('\n').unwrap_or_default();
        let query = line.split([' ', '?']).nth(2).unwrap_or_default();
        let covered = "@method\t@target-uri\t\"content-digest\";key=\"sha-256\"\tx-odd";
        format!("{covered}\n\n\n{query}\n{rest}").into_bytes()
    };
    own.map(seed).collect()
}

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let covered = input.line();
    let mut word = || Some(input.line()).filter(|line| !line.is_empty());
    let raw = RawScheme {
        algorithm: Some("rfc9421".to_owned()),
        message: RawMessage {
            signature_algorithm: Some("hmac-sha256".to_owned()),
            covered: covered
                .split('\t')
                .filter(|it| !it.is_empty())
                .map(str::to_owned)
                .collect(),
            label: word(),
            tag: word(),
        },
        ..RawScheme::default()
    };
    let query = word();
    let secrets = [Labelled {
        label: Arc::from("main"),
        secret: Secret::new(b"s3cr3t".to_vec()),
    }];
    let context = Context {
        secrets: &secrets,
        config: &BTreeMap::new(),
        url: Some("https://hooks.example.com/in".to_owned()),
    };
    let Ok(verifier) = Verifier::compile(&RawVerify::Schemes(vec![raw]), &context) else {
        return;
    };
    let mut request = inbound(query, input);
    let now = Now::at(Timestamp::from_second(vectors::SIGNED_AT).expect("a time"));
    drop(verifier.signature_base(&request));
    if let Err((inbound, refusal)) = verifier.verify(request.clone(), now) {
        drop(verifier.diagnose(&inbound, now, &refusal));
    }
    let Inbound { head, body } = &mut request;
    // A signature that covers the fields of another one does not survive taking its place.
    let covers_itself = covered.contains("signature");
    if verifier.sign(head, body, now.wall, None).is_ok() && !covers_itself {
        match verifier.verify(request, now) {
            // The digest was there already, and is of something else.
            Ok(_) | Err((_, Refusal::Digest | Refusal::Undecodable { .. })) => {}
            Err((_, refusal)) => lost(&refusal),
        }
    }
}

#[expect(clippy::panic, reason = "a target says by a panic what it found")]
fn lost(refusal: &Refusal) {
    panic!("signed here, and refused: {refusal}");
}

/// Header fields up to an empty line, then the body.
pub(super) fn inbound(query: Option<String>, mut input: Input<'_>) -> Inbound {
    let mut headers = HeaderMap::new();
    while !input.is_empty() {
        let line = input.line();
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        if let (Ok(name), Ok(value)) = (
            HeaderName::try_from(name.trim()),
            HeaderValue::try_from(value.trim()),
        ) {
            headers.append(name, value);
        }
    }
    let head = Head {
        method: Method::POST,
        path: "/in".to_owned(),
        query,
        headers,
        client_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        request_id: Arc::from("fuzz"),
        certificate: None,
    };
    Inbound {
        head,
        body: Bytes::copy_from_slice(input.rest()),
    }
}
