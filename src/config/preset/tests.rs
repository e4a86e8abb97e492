use std::collections::BTreeMap;

use super::*;
use crate::config::value::quote;

#[test]
fn every_built_in_provider_is_without_mistakes() {
    for name in providers::names() {
        let raw = parse(providers::text(&name).unwrap())
            .unwrap_or_else(|problems| panic!("{}: {problems:#?}", quote(&name)));
        assert!(!raw.about.unwrap().title.is_empty(), "{name}");
    }
}

#[test]
fn a_provider_says_nothing_that_is_for_the_operator() {
    let text = "path = \"/x\"\nodd = 1\n[about]\ntitle = \"X\"\ndocs = \"x\"\n";
    let problems = parse(text).unwrap_err();
    let whats: Vec<&str> = problems
        .iter()
        .map(|problem| problem.what.as_str())
        .collect();
    assert_eq!(
        whats,
        [
            "a provider without `verify`",
            "a provider does not say `path`",
            "unknown key `odd`"
        ]
    );
}

fn scheme(algorithm: Option<&str>, prefix: Option<&str>, encoding: Option<&str>) -> RawScheme {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    RawScheme {
        algorithm: owned(algorithm),
        prefix: owned(prefix),
        encoding: owned(encoding),
        ..RawScheme::default()
    }
}

#[test]
fn a_scheme_without_an_algorithm_adjusts_and_one_with_it_replaces() {
    let preset = Some(RawVerify::Schemes(vec![scheme(
        Some("token"),
        Some("p="),
        None,
    )]));
    let adjusted = RawVerify::Schemes(vec![scheme(None, None, Some("hex"))]);
    assert_eq!(
        verify_over(Some(adjusted), preset.clone()),
        Some(RawVerify::Schemes(vec![scheme(
            Some("token"),
            Some("p="),
            Some("hex")
        )]))
    );
    let other = RawVerify::Schemes(vec![scheme(Some("basic"), None, None)]);
    assert_eq!(
        verify_over(Some(other.clone()), preset.clone()),
        Some(other)
    );
    assert_eq!(verify_over(None, preset.clone()), preset);
}

/// What the provider's asserts keep out stays out.
#[test]
fn asserts_of_the_user_come_to_those_of_the_provider() {
    let asserting = |assert: &[&str]| {
        RawVerify::Schemes(vec![RawScheme {
            assert: assert.iter().map(|&it| it.to_owned()).collect(),
            ..RawScheme::default()
        }])
    };
    let (own, preset) = (asserting(&["json:/a == 1"]), asserting(&["json:/b == 2"]));
    assert_eq!(
        verify_over(Some(own), Some(preset)),
        Some(asserting(&["json:/b == 2", "json:/a == 1"]))
    );
}

#[test]
fn the_users_keys_win() {
    let text = |text: &str| Some(text.to_owned());
    let preset = RawSource {
        format: text("json"),
        event_id: Some(vec!["header:A".to_owned()]),
        config: [
            ("a".to_owned(), "1".to_owned()),
            ("b".to_owned(), "1".to_owned()),
        ]
        .into(),
        reply: Some(RawReply {
            headers: BTreeMap::new(),
            status: Some(200),
            body: text("ok"),
            content_type: None,
        }),
        ..RawSource::default()
    };
    let user = RawSource {
        format: text("form"),
        config: [("b".to_owned(), "2".to_owned())].into(),
        reply: Some(RawReply {
            headers: BTreeMap::new(),
            status: Some(202),
            body: None,
            content_type: None,
        }),
        ..RawSource::default()
    };
    let merged = lay_over(user, &preset);
    assert_eq!(merged.format, text("form"));
    assert_eq!(merged.event_id, preset.event_id);
    assert_eq!(merged.config["a"], "1");
    assert_eq!(merged.config["b"], "2");
    assert_eq!(
        merged.reply,
        Some(RawReply {
            headers: BTreeMap::new(),
            status: Some(202),
            body: text("ok"),
            content_type: None
        })
    );
}
