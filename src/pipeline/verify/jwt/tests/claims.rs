//! What claims must say.

use std::time::Duration;

use jiff::SignedDuration;

use super::*;

fn at(verifier: &Verifier, claims: &Value, offset: i64) -> Result<(), &'static str> {
    let token = IssuerKey::rsa().token(claims);
    let moment = now() + SignedDuration::from_secs(offset);
    let checked = check(verifier, request(&format!("Bearer {token}")), moment);
    checked.map_err(|refusal| refusal.label())
}

#[test]
fn a_token_counts_from_its_beginning_to_its_end_give_or_take_the_leeway() {
    let claims = with("nbf", json!(SECONDS));
    for (offset, expected) in [
        (-61, Err("token_early")),
        (-60, Ok(())),
        (0, Ok(())),
        (3659, Ok(())),
        (3660, Err("token_expired")),
    ] {
        assert_eq!(at(verifier(), &claims, offset), expected, "{offset}");
    }
    let mut exact = table(&["RS256"]);
    exact.tolerance = Some(Duration::ZERO);
    let exact = compile(exact, &[&published()]).unwrap();
    for (offset, expected) in [
        (-1, Err("token_early")),
        (0, Ok(())),
        (3599, Ok(())),
        (3600, Err("token_expired")),
    ] {
        assert_eq!(at(&exact, &claims, offset), expected, "{offset}");
    }
}

#[test]
fn a_greatest_age_counts_from_the_issue_and_stands_for_an_end() {
    let mut young = table(&["RS256"]);
    young.token.max_age = Some(Duration::from_mins(5));
    let young = compile(young, &[&published()]).unwrap();
    let mut claims = with("iat", json!(SECONDS));
    claims.as_object_mut().unwrap().remove("exp");
    for (offset, expected) in [
        (-61, Err("token_early")),
        (-60, Ok(())),
        (300, Ok(())),
        (301, Err("token_old")),
    ] {
        assert_eq!(at(&young, &claims, offset), expected, "{offset}");
    }
    claims.as_object_mut().unwrap().remove("iat");
    assert_eq!(at(&young, &claims, 0), Err("token_claim_absent"));
    assert_eq!(
        at(&young, &with("exp", json!(SECONDS - 61)), 0),
        Err("token_expired")
    );
}

#[test]
fn a_token_without_an_end_counts_only_where_that_is_written_and_it_binds_a_body() {
    let mut endless = table(&["RS256"]);
    endless.token.expires = Some(false);
    let problems = compile(endless.clone(), &[&published()]).unwrap_err();
    assert_eq!(problems[0].path, ["verify", "expires"]);
    endless.token.body_hash = Some("h".to_owned());
    let endless = compile(endless, &[&published()]).unwrap();
    let hash = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let mut claims = with("exp", Value::Null);
    claims["h"] = json!(hash);
    assert_eq!(at(&endless, &claims, 0), Ok(()));
    claims["h"] = json!(hash.to_uppercase());
    assert_eq!(at(&endless, &claims, 0), Ok(()));
    for other in [
        json!(null),
        json!(1),
        json!(""),
        json!(hash.trim_end_matches("8a")),
        json!("00".repeat(32)),
    ] {
        claims["h"] = other.clone();
        assert!(at(&endless, &claims, 0).is_err(), "{other}");
    }
}

#[test]
fn one_of_several_audiences_and_issuers_is_enough() {
    assert_eq!(
        at(verifier(), &with("aud", json!(["other", AUDIENCE])), 0),
        Ok(())
    );
    let mut table = table(&["RS256"]);
    table.token.issuer = vec!["a".to_owned(), ISSUER.to_owned()];
    table.token.audience = vec!["{url}".to_owned(), "b".to_owned()];
    let verifier = compile(table, &[&published()]).unwrap();
    assert_eq!(at(&verifier, &good(), 0), Ok(()));
    assert_eq!(at(&verifier, &with("iss", json!("a")), 0), Ok(()));
    assert_eq!(at(&verifier, &with("aud", json!("b")), 0), Ok(()));
}

#[test]
fn any_audience_has_to_be_spelled_out() {
    let mut table = table(&["RS256"]);
    table.token.audience = Vec::new();
    let problems = compile(table.clone(), &[&published()]).unwrap_err();
    assert_eq!(problems[0].path, ["verify", "audience"]);
    table.token.audience = vec!["any".to_owned()];
    let verifier = compile(table, &[&published()]).unwrap();
    assert_eq!(at(&verifier, &with("aud", json!("whoever")), 0), Ok(()));
    assert_eq!(at(&verifier, &with("aud", Value::Null), 0), Ok(()));
}

#[test]
fn claims_are_compared_as_texts_by_elements_and_by_words() {
    let cases = [
        ("n", "7", json!(7), true),
        ("n", "7", json!("7"), true),
        ("n", "7", json!(7.5), false),
        ("roles", "sender", json!(["reader", "sender"]), true),
        ("roles", "sender", json!(["senders"]), false),
        ("roles", "sender", json!("reader sender"), false),
        ("scope", "hooks.write", json!("openid hooks.write"), true),
        ("scope", "hooks.write", json!("hooks.writer"), false),
        ("scp", "hooks.write", json!("hooks.write"), true),
        ("/realm/roles/0", "sender", json!(null), false),
    ];
    for (claim, wanted, value, holds) in cases {
        let mut table = table(&["RS256"]);
        let wanted = vec![wanted.to_owned(), "another".to_owned()];
        table.token.claims = BTreeMap::from([(claim.to_owned(), wanted)]);
        let verifier = compile(table, &[&published()]).unwrap();
        assert_eq!(
            at(&verifier, &with(claim, value.clone()), 0).is_ok(),
            holds,
            "{claim} {value}"
        );
    }
    let mut table = table(&["RS256"]);
    let wanted = vec!["sender".to_owned()];
    table.token.claims = BTreeMap::from([("/realm~1x/roles/1".to_owned(), wanted)]);
    let verifier = compile(table, &[&published()]).unwrap();
    let claims = with("realm/x", json!({"roles": ["reader", "sender"]}));
    assert_eq!(at(&verifier, &claims, 0), Ok(()));
}

/// A person learns what to look at, and nobody learns a secret.
#[test]
fn a_refusal_is_explained() {
    let cases = [
        (
            with("aud", json!("project-b")),
            "`audience` is `https://hooks.example.com/in/x`",
        ),
        (
            with("iss", json!("https://other.example")),
            "another tenant or project",
        ),
        (with("exp", json!(SECONDS - 100)), "--at"),
        (
            with("email", json!("other@example.com")),
            "`push@project.example`",
        ),
        (with("exp", Value::Null), "max_age"),
    ];
    for (claims, said) in cases {
        let inbound = request(&format!("Bearer {}", IssuerKey::rsa().token(&claims)));
        let (inbound, refusal) = verifier().verify(inbound, Now::at(now())).unwrap_err();
        let hint = verifier()
            .diagnose(&inbound, Now::at(now()), &refusal)
            .unwrap();
        assert!(hint.contains(said), "{hint}");
    }
    let unknown = IssuerKey::new_rsa("r9").token(&good());
    let opaque = "ya29.opaque".replace('.', "");
    for (token, said) in [
        (
            unknown,
            "`https://issuer.example`; 3 keys are known: `r1`, `e1`, `d1`",
        ),
        (opaque, "introspection"),
        (
            IssuerKey::rsa().sign(r#"{"alg":"PS256"}"#, "{}"),
            "RS256, ES256, EdDSA",
        ),
    ] {
        let inbound = request(&format!("Bearer {token}"));
        let (inbound, refusal) = verifier().verify(inbound, Now::at(now())).unwrap_err();
        let hint = verifier()
            .diagnose(&inbound, Now::at(now()), &refusal)
            .unwrap();
        assert!(hint.contains(said), "{hint}");
    }
}
