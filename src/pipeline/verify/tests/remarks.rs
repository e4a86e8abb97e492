//! What is no mistake, and weaker than it looks.

use super::*;
use crate::config::raw::RawMessage;

fn said(tables: Vec<RawScheme>) -> Vec<String> {
    said_of(tables, EventIn::Body)
}

fn said_of(tables: Vec<RawScheme>, event: EventIn) -> Vec<String> {
    let remarks = remarks(&RawVerify::Schemes(tables), &BTreeMap::new(), event);
    let shown = remarks
        .iter()
        .map(|it| format!("{} {}", it.path.join("."), it.what));
    shown.collect()
}

#[track_caller]
fn one(tables: Vec<RawScheme>, beginning: &str) {
    let said = said(tables);
    let [remark] = said.as_slice() else {
        panic!("{said:?}");
    };
    assert!(remark.starts_with(beginning), "{remark}");
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "what a configuration says is optional"
)]
fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_signature_that_holds_for_any_body() {
    let bare = RawScheme {
        signed: text("{method}{url}"),
        ..plain()
    };
    one(
        vec![bare.clone()],
        "verify.signed the signature does not cover the body",
    );
    // Where every event is a GET, there is no body to be covered.
    let none = said_of(vec![bare.clone()], EventIn::Query);
    assert_eq!(none, Vec::<String>::new());
    let hashed = RawScheme {
        assert: vec!["query:sha == {body|sha256hex}".to_owned()],
        ..bare
    };
    assert_eq!(said(vec![hashed]), Vec::<String>::new());
    let message = |covered: &[&str]| RawScheme {
        algorithm: text("rfc9421"),
        message: RawMessage {
            covered: covered.iter().map(|&it| it.to_owned()).collect(),
            ..RawMessage::default()
        },
        ..RawScheme::default()
    };
    one(
        vec![message(&["@method"])],
        "verify.covered the signature does not cover the body",
    );
    assert_eq!(said(vec![message(&[])]), Vec::<String>::new());
    assert_eq!(
        said(vec![message(&["content-digest"])]),
        Vec::<String>::new()
    );
}

#[test]
fn tables_that_prove_the_same() {
    let of = |labels: &[&str], table: RawScheme| RawScheme {
        secrets: labels.iter().map(|&it| it.to_owned()).collect(),
        ..table
    };
    let tables = vec![of(&["a", "b"], plain()), of(&["b", "a"], token())];
    one(
        tables,
        "verify.1 this table and the one at 0 take the same secrets",
    );
    let tables = vec![of(&["a"], plain()), of(&["b"], token())];
    assert_eq!(said(tables), Vec::<String>::new());
    let certificate = RawScheme {
        algorithm: text("client-certificate"),
        ..RawScheme::default()
    };
    let tables = vec![of(&["a"], plain()), certificate];
    assert_eq!(said(tables), Vec::<String>::new());
}
