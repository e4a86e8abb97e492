//! Which keys are taken, and for what.

use super::*;
use crate::pipeline::verify;

#[test]
fn keys_that_are_not_for_these_tokens_are_left_out() {
    let of = |changes: Value| {
        let mut jwk = IssuerKey::rsa().jwk.clone();
        for (name, value) in changes.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        jwk
    };
    let cases = [
        ("for encryption", of(json!({"use": "enc"}))),
        ("for signing only", of(json!({"key_ops": ["sign"]}))),
        ("for another algorithm", of(json!({"alg": "RS512"}))),
        ("for HS256", of(json!({"alg": "HS256"}))),
        ("another kind", of(json!({"kty": "EC"}))),
        (
            "a shared secret",
            json!({"kty": "oct", "k": "AAAA", "kid": "r1"}),
        ),
        ("a private key", of(json!({"d": "AAAA"}))),
        ("no number", of(json!({"n": "!"}))),
        ("no exponent", of(json!({"e": ""}))),
        ("too short", of(json!({"n": part([0xff; 128])}))),
        ("padded", of(json!({"e": "AQAB="}))),
        ("not a table", json!("r1")),
    ];
    for (name, jwk) in cases {
        let alone = json!({ "keys": [jwk] }).to_string();
        assert!(compile(table(&["RS256"]), &[&alone]).is_err(), "{name}");
        let beside = json!({ "keys": [jwk, IssuerKey::ec().jwk] }).to_string();
        let verifier = compile(table(&["RS256", "ES256"]), &[&beside]).unwrap();
        let label = refused(&verifier, &IssuerKey::rsa().token(&good()));
        assert_eq!(label, "token_key_unknown", "{name}");
        judge(&verifier, &IssuerKey::ec().token(&good())).unwrap();
    }
}

#[test]
fn points_off_the_curve_are_no_keys() {
    for (x, y) in [
        ([0; 32], [0; 32]),
        ([1; 32], [1; 32]),
        ([0xff; 32], [0xff; 32]),
    ] {
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": part(x), "y": part(y)});
        assert!(compile(table(&["ES256"]), &[&jwk.to_string()]).is_err());
    }
}

#[test]
fn a_set_with_more_keys_than_anybody_has_is_not_read() {
    let keys = vec![IssuerKey::rsa().jwk.clone(); super::super::jwks::KEYS_MAX + 1];
    let problems = compile(table(&["RS256"]), &[&json!({ "keys": keys }).to_string()]).unwrap_err();
    assert!(problems[0].what.contains("more keys"), "{problems:?}");
}

#[test]
fn keys_are_taken_in_every_form() {
    let key = IssuerKey::rsa();
    let token = key.token(&good());
    for form in [
        key.jwk.to_string(),
        json!({"keys": [key.jwk]}).to_string(),
        key.public.clone(),
    ] {
        let verifier = compile(table(&["RS256"]), &[&form]).unwrap();
        judge(&verifier, &token).unwrap();
    }
}

#[test]
fn during_a_rotation_either_key_lets_in() {
    let (old, new) = (IssuerKey::new_ec("old"), IssuerKey::new_ec("new"));
    let verifier = compile(table(&["ES256"]), &[&old.public, &new.jwk.to_string()]).unwrap();
    for (key, label) in [(&old, "0"), (&new, "1")] {
        let inbound = request(&format!("Bearer {}", key.token(&good())));
        let verified = verifier.verify(inbound, Now::at(now())).unwrap();
        assert_eq!(verified.proof.key.as_deref(), Some(label));
    }
}

#[test]
fn shared_secrets_are_never_mixed_up_with_public_keys() {
    let public = IssuerKey::rsa().public.clone();
    let jwk = IssuerKey::rsa().jwk.to_string();
    for (algorithms, secret, path) in [
        (&["HS256"][..], public.as_str(), &["secrets", "0"][..]),
        (&["HS256"], jwk.as_str(), &["secrets", "0"]),
        (&["RS256"], "a shared secret", &["secrets", "0"]),
        (
            &["RS256", "HS256"],
            public.as_str(),
            &["verify", "algorithms"],
        ),
        (&["none"], public.as_str(), &["verify", "algorithms", "0"]),
        (&[], public.as_str(), &["verify", "algorithms"]),
    ] {
        let problems = compile(table(algorithms), &[secret]).unwrap_err();
        assert_eq!(problems[0].path, path, "{problems:?}");
    }
}

#[test]
fn words_that_make_no_sense_are_said() {
    type Change = fn(&mut RawScheme);
    let change = |change: Change| {
        let mut table = table(&["RS256"]);
        change(&mut table);
        compile(table, &[&published()]).unwrap_err()
    };
    let cases: [(Change, &str); 9] = [
        (|table| table.signed = Some("{body}".to_owned()), "signed"),
        (
            |table| table.timestamp = Some("header:X".to_owned()),
            "timestamp",
        ),
        (|table| table.key = Some("hex".to_owned()), "key"),
        (|table| table.encoding = Some("hex".to_owned()), "encoding"),
        (
            |table| table.token.jwks = Some("http://x.example/k".to_owned()),
            "jwks",
        ),
        (|table| table.token.jwks = Some("{body}".to_owned()), "jwks"),
        (
            |table| table.token.issuer = vec!["{config:no}".to_owned()],
            "issuer",
        ),
        (
            |table| table.tolerance = Some(std::time::Duration::from_hours(1)),
            "tolerance",
        ),
        (|table| table.secrets = vec!["no".to_owned()], "secrets"),
    ];
    for (make, key) in cases {
        let problems = change(make);
        assert_eq!(problems[0].path[..2], ["verify", key], "{problems:?}");
        assert!(!problems[0].what.is_empty());
    }
}

#[test]
fn claims_beside_another_algorithm_are_said() {
    let mut table = table(&["RS256"]);
    table.algorithm = Some("token".to_owned());
    let problems = compile(table, &["secret"]).unwrap_err();
    let keys: Vec<&str> = problems.iter().map(|it| it.path[1].as_str()).collect();
    assert_eq!(keys, ["algorithms", "issuer", "audience", "claims"]);
}

#[test]
fn tokens_for_anybody_are_remarked() {
    let remarks = |table: RawScheme| {
        let raw = RawVerify::Schemes(vec![table]);
        verify::remarks(&raw, &BTreeMap::new(), verify::EventIn::Body)
    };
    let mut table = table(&["RS256"]);
    table.token.jwks = Some("https://issuer.example/jwks.json".to_owned());
    table.token.audience = vec!["any".to_owned()];
    assert!(remarks(table.clone()).is_empty());
    table.token.claims.clear();
    let found = remarks(table);
    assert_eq!(found[0].path, ["verify", "audience"]);
}
