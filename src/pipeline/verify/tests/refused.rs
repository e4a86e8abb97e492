//! One test per reason to refuse, each with the label that metrics and `explain` show.

use std::collections::HashSet;

use super::*;

/// A request that is signed and then changed.
#[track_caller]
fn check(scheme: RawScheme, change: impl FnOnce(&mut Inbound), label: &str) {
    let verifier = compile(scheme);
    let mut request = signed_request(&verifier);
    verify(&verifier, request.clone()).unwrap();
    change(&mut request);
    let refusal = verify(&verifier, request).unwrap_err();
    assert_eq!(refusal.label(), label, "{refusal}");
    assert!(Refusal::LABELS.contains(&label));
}

fn set(name: &'static str, value: &'static str) -> impl FnOnce(&mut Inbound) {
    move |request| drop(request.head.headers.insert(name, value.parse().unwrap()))
}

fn remove(name: &'static str) -> impl FnOnce(&mut Inbound) {
    move |request| drop(request.head.headers.remove(name))
}

fn repeat(name: &'static str) -> impl FnOnce(&mut Inbound) {
    move |request| {
        let value = request.head.headers[name].clone();
        request.head.headers.append(name, value);
    }
}

#[test]
fn labels_are_distinct() {
    assert_eq!(HashSet::from(Refusal::LABELS).len(), Refusal::LABELS.len());
}

#[test]
fn signature() {
    check(plain(), remove("x-signature"), "signature_absent");
    check(plain(), repeat("x-signature"), "ambiguous");
    check(plain(), set("x-signature", "abcd"), "signature_prefix");
    check(
        plain(),
        set("x-signature", "SHA256=abcd"),
        "signature_prefix",
    );
    check(
        plain(),
        set("x-signature", "sha256=xyz"),
        "signature_undecodable",
    );
    check(
        plain(),
        set("x-signature", "sha256=abcd"),
        "signature_mismatch",
    );
    check(plain(), set("x-signature", "sha256="), "signature_mismatch");
    check(
        plain(),
        |request| request.body = Bytes::from("{}"),
        "signature_mismatch",
    );
    check(
        scheme(),
        set("x-signature", "t=1,v2=abcd"),
        "signature_not_listed",
    );
}

#[test]
fn more_signatures_than_are_compared() {
    let verifier = compile(scheme());
    let value = format!("t=1{}", ",v1=00".repeat(17));
    let request = inbound(&[("X-Signature", &value)], BODY);
    assert_eq!(
        verify(&verifier, request).unwrap_err().label(),
        "signatures_too_many"
    );
}

#[test]
fn several_places_are_one_list() {
    let signature = vec!["header:X-First".to_owned(), "header:X-Second".to_owned()];
    let both = compile(RawScheme {
        signature,
        ..plain()
    });
    let one = compile(RawScheme {
        signature: vec!["header:X-Second".to_owned()],
        ..plain()
    });
    let mut request = signed_request(&one);
    verify(&both, request.clone()).unwrap();
    request
        .head
        .headers
        .insert("x-first", "sha256=00".parse().unwrap());
    verify(&both, request.clone()).unwrap();
    request
        .head
        .headers
        .append("x-first", "sha256=00".parse().unwrap());
    assert_eq!(verify(&both, request).unwrap_err().label(), "ambiguous");
}

#[test]
fn timestamp() {
    let header = RawScheme {
        list: None,
        timestamp: Some("header:X-Time".to_owned()),
        ..scheme()
    };
    check(header.clone(), remove("x-time"), "timestamp_absent");
    check(header.clone(), repeat("x-time"), "ambiguous");
    check(header, set("x-time", "1760000000.0"), "signature_mismatch");
    for text in [
        "-1",
        "+1760000000",
        " 1760000000",
        "17600000000000000000000",
        "now",
        "",
    ] {
        let stamped = stamped_by_hand(text);
        assert_eq!(
            stamped.unwrap_err().label(),
            "timestamp_unreadable",
            "{text:?}"
        );
    }
    assert_eq!(
        stamped_by_hand("1759999699").unwrap_err().label(),
        "timestamp_stale"
    );
    assert_eq!(
        stamped_by_hand("1760000301").unwrap_err().label(),
        "timestamp_future"
    );
    stamped_by_hand("1759999700").unwrap();
}

/// A genuine signature over any text as the timestamp.
fn stamped_by_hand(timestamp: &str) -> Result<Proof, Refusal> {
    let verifier = compile(scheme());
    let request = inbound(&[], BODY);
    let facts = Facts::of(&request);
    let given = template::Given {
        facts: &facts,
        timestamp: Some(timestamp.as_bytes()),
        secret: SECRET.as_bytes(),
        url: None,
    };
    let scheme = &verifier.schemes[0];
    let signature = hex::encode(scheme.expected(&scheme.keys[0].ready, &given).unwrap());
    let value = format!("t={timestamp},v1={signature}");
    verify(&verifier, inbound(&[("X-Signature", &value)], BODY))
}

#[test]
fn a_second_timestamp_in_the_list() {
    let verifier = compile(scheme());
    let request = inbound(&[("X-Signature", "t=1,t=2,v1=00")], BODY);
    assert_eq!(verify(&verifier, request).unwrap_err().label(), "ambiguous");
    let request = inbound(&[("X-Signature", "v1=00")], BODY);
    assert_eq!(
        verify(&verifier, request).unwrap_err().label(),
        "timestamp_absent"
    );
}

#[test]
fn an_unsigned_timestamp_does_not_matter() {
    let uncovered = RawScheme {
        timestamp: Some("header:X-Time".to_owned()),
        tolerance: Some(Duration::ZERO),
        ..plain()
    };
    let verifier = compile(uncovered);
    let mut request = signed_request(&verifier);
    request
        .head
        .headers
        .insert("x-time", "never".parse().unwrap());
    verify(&verifier, request).unwrap();
}

#[test]
fn a_timestamp_in_the_body_is_covered_by_it() {
    let json = RawScheme {
        timestamp: Some("json:/at".to_owned()),
        timestamp_unit: Some("ms".to_owned()),
        ..plain()
    };
    let verifier = compile(json);
    let check = |body: &str| verify(&verifier, signed(&verifier, inbound(&[], body)));
    check(r#"{"at":1760000000000}"#).unwrap();
    check(r#"{"at":"1760000000000"}"#).unwrap();
    assert_eq!(
        check(r#"{"at":1750000000000}"#).unwrap_err().label(),
        "timestamp_stale"
    );
}

#[test]
fn a_body_that_the_proof_cannot_be_read_from() {
    let signature = vec!["json:/signature".to_owned()];
    let verifier = compile(RawScheme {
        signature,
        signed: Some("{json:/id}".to_owned()),
        ..plain()
    });
    let refusal = verify(&verifier, inbound(&[], "not json")).unwrap_err();
    assert_eq!(refusal.label(), "body_unreadable");
    let form = vec!["form:signature".to_owned()];
    let verifier = compile(RawScheme {
        signature: form,
        signed: Some("{form:id}".to_owned()),
        ..plain()
    });
    let refusal = verify(&verifier, inbound(&[], &"a=1&".repeat(3_000))).unwrap_err();
    assert_eq!(refusal.label(), "body_unreadable");
}

#[test]
fn signed_fields() {
    let with_id = RawScheme {
        signed: Some("{header:X-Id}.{body}".to_owned()),
        ..plain()
    };
    check(with_id.clone(), remove("x-id"), "field_absent");
    check(with_id.clone(), repeat("x-id"), "ambiguous");
    check(with_id, set("x-id", "other"), "signature_mismatch");
}

/// What is signed of the genuine event reads the same when it is cut at another dot, which is in
/// its body; the forged event would be a part of that body.
#[test]
fn a_separator_inside_a_signed_field_cannot_move_the_border() {
    let with_id = RawScheme {
        signed: Some("{header:X-Id}.{timestamp}.{body}".to_owned()),
        list: None,
        timestamp: Some("header:X-Time".to_owned()),
        ..scheme()
    };
    let verifier = compile(with_id);
    let evil = r#"{"note":"x.1760000000.{}"}"#;
    let genuine = signed(&verifier, inbound(&[("X-Id", "m1")], evil));
    verify(&verifier, genuine.clone()).unwrap();
    let mut forged = genuine;
    let id = r#"m1.1760000000.{"note":"x"#;
    forged.head.headers.insert("x-id", id.parse().unwrap());
    forged.body = Bytes::from("{}\"}");
    assert_eq!(
        verify(&verifier, forged).unwrap_err().label(),
        "field_unsafe"
    );
}

#[test]
fn assertions() {
    let assert = |text: &str| RawScheme {
        assert: vec![text.to_owned()],
        ..plain()
    };
    check(
        assert("header:X-Version == 1"),
        set("x-version", "2"),
        "assertion_failed",
    );
    check(
        assert("header:X-Version == 1"),
        remove("x-version"),
        "assertion_failed",
    );
    check(
        assert("header:X-Version == 1"),
        repeat("x-version"),
        "ambiguous",
    );
    check(
        assert("header:X-Other absent"),
        set("x-other", "1"),
        "assertion_failed",
    );
    let verifier = compile(assert("json:/items/1 absent"));
    let check = |body: &str| verify(&verifier, signed(&verifier, inbound(&[], body)));
    check(r#"{"items":[{}]}"#).unwrap();
    assert_eq!(
        check(r#"{"items":[{},{}]}"#).unwrap_err().label(),
        "assertion_failed"
    );
}

#[test]
fn tokens() {
    check(token(), set("x-token", "s3cr3"), "token_mismatch");
    check(token(), set("x-token", "s3cr3t2"), "token_mismatch");
    check(token(), remove("x-token"), "signature_absent");
    let basic = RawScheme {
        algorithm: Some("basic".to_owned()),
        ..RawScheme::default()
    };
    let verifier = compile_with(vec![basic], &[b"user:pa:ss"]).unwrap();
    let check = |value: &str| verify(&verifier, inbound(&[("Authorization", value)], BODY));
    check("basic dXNlcjpwYTpzcw==").unwrap();
    assert_eq!(
        check("Basic dXNlcjpwYTpzcA==").unwrap_err().label(),
        "token_mismatch"
    );
    assert_eq!(
        check("Bearer dXNlcjpwYTpzcw==").unwrap_err().label(),
        "signature_undecodable"
    );
}

/// An operator reads these; they must not carry what an attacker or a log reader could use.
#[test]
fn refusals_and_verifiers_show_no_secret() {
    let verifier = compile(scheme());
    let refusal = verify(&verifier, inbound(&[("X-Signature", "t=1,v1=00")], BODY)).unwrap_err();
    for shown in [
        format!("{verifier:?}"),
        format!("{refusal:?}"),
        refusal.to_string(),
    ] {
        assert!(!shown.contains(SECRET), "{shown}");
    }
    assert_eq!(
        refusal.to_string(),
        "no configured secret makes this signature (1 tried)"
    );
    let stale = Refusal::Stale {
        age: Duration::from_secs(3_725),
        tolerance: Duration::from_mins(5),
    };
    assert_eq!(
        stale.to_string(),
        "the timestamp is 1h 2m 5s old, at most 5m are allowed"
    );
}
