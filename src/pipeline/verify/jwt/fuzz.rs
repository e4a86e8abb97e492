//! What is fuzzed here: tokens, sets of keys, answers of an authorization server.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jiff::Timestamp;

use super::algorithm::{KeyKind, TokenAlgorithm};
use super::claims::{LEEWAY_DEFAULT, Rules};
use super::token::Token;
use super::{introspection, jwks};
use crate::fuzzing::{Input, vectors};
use crate::pipeline::evidence::Document;

const TOKEN: u8 = 0;
const KEYS: u8 = 1;
const WORD: u8 = 2;

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let seed = |kind: u8, text: &str| [&[kind], text.as_bytes()].concat();
    let mut seeds = vec![
        seed(
            WORD,
            r#"{"active":true,"aud":["a"],"exp":1760000000,"scope":"a b"}"#,
        ),
        seed(WORD, r#"{"active":false}"#),
        seed(TOKEN, "eyJhbGciOiJub25lIn0.e30."),
        seed(
            KEYS,
            r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
        ),
    ];
    for vector in vectors::all() {
        let request = String::from_utf8_lossy(&vector.request);
        let words = request.split(|c: char| c.is_whitespace() || c == '"');
        seeds.extend(
            words
                .filter(|it| it.starts_with("eyJ"))
                .map(|it| seed(TOKEN, it)),
        );
        if vector.secret.starts_with('{') {
            seeds.push(seed(KEYS, &vector.secret));
        }
    }
    seeds
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() {
        TOKEN => token(input.rest()),
        KEYS => keys(input.rest()),
        _ => word(input.rest()),
    }
}

/// Whatever is taken for a token can be written in that one way only.
fn token(text: &[u8]) {
    let Ok(token) = Token::parse(text) else {
        return;
    };
    let signature = URL_SAFE_NO_PAD.encode(&token.signature);
    assert_eq!([token.signed, b".", signature.as_bytes()].concat(), text);
    assert!(!token.shown_kid().contains(char::is_control));
    let rules = Rules {
        issuers: Vec::new(),
        audiences: vec!["a".to_owned()],
        leeway: LEEWAY_DEFAULT,
        age_max: None,
        is_endless: false,
        claims: Vec::new(),
    };
    if rules.check(&token.claims, Timestamp::UNIX_EPOCH).is_ok() {
        assert!(token.claims.contains_key("exp") && token.claims.contains_key("aud"));
    }
}

/// A key that is taken is for something, never for a shared secret, and signs nothing by chance.
fn keys(text: &[u8]) {
    let Ok(keys) = jwks::read(text, &Arc::from("jwks"), &TokenAlgorithm::ALL) else {
        return;
    };
    assert!((1..=jwks::KEYS_MAX).contains(&keys.len()));
    for key in keys {
        let algorithm = key.algorithm().expect("a key without a use");
        assert_ne!(algorithm.kind(), KeyKind::Shared);
        assert!(key.is_for(algorithm, None));
        assert!(!key.verifies(algorithm, b"text", &[0; 64]));
        assert!(key.sign_shared(b"text").is_none());
    }
}

fn word(text: &[u8]) {
    let document = Document {
        body: Bytes::copy_from_slice(text),
        max_age: None,
    };
    if let Ok(word) = introspection::word(&document)
        && let Some(claims) = word.0
    {
        assert_eq!(claims.get("active"), Some(&true.into()));
    }
}
