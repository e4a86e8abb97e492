//! What stands in a `verify` table and beside it: templates, expressions, lists, routing keys,
//! handshakes. Whatever compiles also signs, verifies and answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use jiff::Timestamp;

use super::message::inbound;
use super::{Input, vectors};
use crate::clock::Now;
use crate::config::raw::{RawHandshake, RawList, RawReply, RawScheme, RawVerify};
use crate::pipeline::arrival::Inbound;
use crate::pipeline::expr::Expr;
use crate::pipeline::handshake::enrolment::offer;
use crate::pipeline::handshake::{Handshake, answer_anybody, answer_verified};
use crate::pipeline::routing::{KEY_BYTES_MAX, RoutingKey};
use crate::pipeline::verify::{Context, Verifier};
use crate::secret::{Labelled, Secret};

/// Lines of an input before the headers and the body.
const LINES: usize = 17;

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for provider in crate::providers::names() {
        let text = crate::providers::text(&provider).expect("a provider's file");
        let raw = crate::config::parse_provider(text).expect("a provider without mistakes");
        let Some(RawVerify::Schemes(schemes)) = raw.verify else {
            continue;
        };
        for scheme in schemes {
            seeds.push(seed(&scheme, raw.handshakes.first()));
        }
    }
    seeds
}

fn seed(scheme: &RawScheme, handshake: Option<&RawHandshake>) -> Vec<u8> {
    let word = |text: &Option<String>| text.clone().unwrap_or_default();
    let list = scheme.list.clone().unwrap_or_default();
    let handshake = handshake.cloned().unwrap_or_default();
    let (place, value) = handshake.equals.into_iter().next().unwrap_or_default();
    let lines: [String; LINES] = [
        word(&scheme.algorithm),
        scheme.signature.join(" "),
        word(&scheme.prefix),
        word(&list.separator),
        word(&list.assign),
        word(&list.pick),
        word(&scheme.encoding),
        word(&scheme.key),
        word(&scheme.signed),
        word(&scheme.timestamp),
        word(&scheme.timestamp_unit),
        scheme.assert.join("\t"),
        place,
        value,
        handshake.has.join(" "),
        word(&handshake.reply.body),
        "shop.{type}".to_owned(),
    ];
    let request = "X-Signature: t=1760000000,v1=abcd\n\n{\"id\":1}";
    format!("{}\n{request}", lines.join("\n")).into_bytes()
}

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut word = || Some(input.line()).filter(|line| !line.is_empty());
    let scheme = RawScheme {
        algorithm: word(),
        signature: several(word(), ' '),
        prefix: word(),
        list: Some(RawList {
            separator: word(),
            assign: word(),
            pick: word(),
        })
        .filter(|list| *list != RawList::default()),
        encoding: word(),
        key: word(),
        signed: word(),
        timestamp: word(),
        timestamp_unit: word(),
        tolerance: Some(Duration::from_mins(5)),
        assert: several(word(), '\t'),
        ..RawScheme::default()
    };
    let (place, value) = (word(), word().unwrap_or_default());
    let handshake = RawHandshake {
        method: None,
        equals: place
            .into_iter()
            .map(|place| (place, value.clone()))
            .collect(),
        has: several(word(), ' '),
        verify: Some(data.len().is_multiple_of(2)),
        reply: RawReply {
            body: word(),
            ..RawReply::default()
        },
        ..RawHandshake::default()
    };
    let routing_key = word().unwrap_or_default();
    let request = inbound(Some("a=1&b=%32".to_owned()), input);

    if let Ok(key) = RoutingKey::parse(&routing_key) {
        let key = key.render("shop", Some(&value));
        assert!(key.len() <= KEY_BYTES_MAX);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        assert!(key.chars().all(plain), "{key:?}");
    }
    for text in &handshake.has {
        if let Ok(expression) = Expr::parse(text) {
            let json = serde_json::from_slice(&request.body).ok();
            drop(expression.read(&request.head, json.as_ref(), json.as_ref()));
        }
    }
    check(scheme, &handshake, request);
}

fn several(line: Option<String>, separator: char) -> Vec<String> {
    let line = line.unwrap_or_default();
    let words = line.split(separator).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

fn check(scheme: RawScheme, handshake: &RawHandshake, mut request: Inbound) {
    let secrets = [Labelled {
        label: Arc::from("main"),
        secret: Secret::new(b"c2VjcmV0".to_vec()),
    }];
    let context = Context {
        secrets: &secrets,
        config: &BTreeMap::from([("account".to_owned(), "a1".to_owned())]),
        url: Some("https://hooks.example.com/in".to_owned()),
    };
    let Ok(verifier) = Verifier::compile(&RawVerify::Schemes(vec![scheme]), &context) else {
        return;
    };
    // The same words where they mean something else.
    let other = RawHandshake {
        method: Some("POST".to_owned()),
        one_of: handshake.equals.clone(),
        absent: handshake.has.clone(),
        require: handshake.equals.clone(),
        capture: handshake.has.first().cloned(),
        verify: handshake.verify,
        reply: RawReply {
            headers: BTreeMap::from([("X-Echo".to_owned(), body_of(handshake))]),
            ..RawReply::default()
        },
        ..RawHandshake::default()
    };
    let rules = [handshake, &other].map(|raw| Handshake::compile(raw, &context, &verifier));
    let rules: Vec<Handshake> = rules.into_iter().flatten().collect();
    let now = Now::at(Timestamp::from_second(vectors::SIGNED_AT).expect("a time"));
    drop(offer(&rules, &request));
    drop(answer_anybody(&[Method::POST], &rules, &request));
    if let Err((inbound, refusal)) = verifier.verify(request.clone(), now) {
        drop(verifier.diagnose(&inbound, now, &refusal));
        drop(verifier.tried(&inbound, now, &refusal));
    }
    if verifier
        .sign(&mut request.head, &request.body, now.wall, None)
        .is_ok()
        && let Ok(verified) = verifier.verify(request, now)
    {
        drop(answer_verified(&rules, &verified));
    }
}

fn body_of(handshake: &RawHandshake) -> String {
    handshake.reply.body.clone().unwrap_or_default()
}
