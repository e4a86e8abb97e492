//! A token in every element of a list: `json:/value/*/state`.

use super::*;

fn each(place: &str) -> RawScheme {
    RawScheme {
        signature: vec![place.to_owned()],
        ..token()
    }
}

fn check(place: &str, body: &str) -> Result<Option<String>, &'static str> {
    let verifier = compile_with(vec![each(place)], &[b"one", b"two"]).unwrap();
    let proof = verify(&verifier, inbound(&[], body));
    proof
        .map(|proof| proof.key.map(|key| key.to_string()))
        .map_err(|refusal| refusal.label())
}

#[test]
fn every_element_must_have_a_token_that_is_known() {
    let check = |body: &str| check("json:/value/*/state", body);
    let new = Ok(Some("new".to_owned()));
    assert_eq!(check(r#"{"value": [{"state": "one"}]}"#), new);
    assert_eq!(
        check(r#"{"value": [{"state": "one"}, {"state": "two"}]}"#),
        new
    );
    for (body, label) in [
        (
            r#"{"value": [{"state": "one"}, {"state": "x"}]}"#,
            "token_mismatch",
        ),
        (
            r#"{"value": [{"state": "x"}, {"state": "one"}]}"#,
            "token_mismatch",
        ),
        (r#"{"value": [{"state": "one"}, {}]}"#, "signature_absent"),
        (
            r#"{"value": [{"state": "one"}, {"state": null}]}"#,
            "signature_absent",
        ),
        (r#"{"value": []}"#, "signature_absent"),
        (r#"{"value": {"state": "one"}}"#, "signature_absent"),
        ("{}", "signature_absent"),
        ("state=one", "body_unreadable"),
    ] {
        assert_eq!(check(body), Err(label), "{body}");
    }
    let many = format!(
        "{{\"value\": [{}{{\"state\": \"one\"}}]}}",
        "{},".repeat(1_000)
    );
    assert_eq!(check(&many), Err("signatures_too_many"));
}

#[test]
fn a_list_can_be_the_body_and_its_elements_the_tokens() {
    let new = Ok(Some("new".to_owned()));
    assert_eq!(check("json:/*/a/b", r#"[{"a": {"b": "one"}}]"#), new);
    assert_eq!(
        check("json:/tokens/*", r#"{"tokens": ["one", "two"]}"#),
        new
    );
}

#[test]
fn nothing_else_can_stand_beside_it() {
    let problem = |scheme: RawScheme| {
        let problems = compile_with(vec![scheme], &[b"one"]).unwrap_err();
        problems[0].what.clone()
    };
    let two = RawScheme {
        signature: vec!["json:/a/*/b".to_owned(), "header:X".to_owned()],
        ..token()
    };
    assert!(problem(two).contains("nothing else"));
    assert!(problem(each("json:/a/*/b/*/c")).contains("one `*`"));
    assert!(problem(each("json:/a/*b")).contains("one `*`"));
}

#[test]
fn it_cannot_be_signed_here() {
    let verifier = compile_with(vec![each("json:/value/*/state")], &[b"one"]).unwrap();
    let mut inbound = inbound(&[], BODY);
    let what = verifier.sign(&mut inbound.head, &inbound.body, now(), None);
    assert!(what.unwrap_err().contains("in the body"));
}
