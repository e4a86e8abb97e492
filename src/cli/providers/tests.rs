use super::*;

mod live;

fn all() -> Vec<Provider> {
    let names = providers::names();
    let found = names.iter().map(|name| Provider::find(name));
    found
        .map(|provider| provider.unwrap_or_else(|failure| panic!("{failure:?}")))
        .collect()
}

#[test]
fn of_every_provider_it_is_known_how_much_its_proof_covers() {
    for provider in all() {
        assert!(provider.coverage().is_some(), "{}", provider.name);
    }
}

#[test]
fn a_name_that_several_begin_with_is_told_apart() {
    let words = |name: &str| match Provider::find(name) {
        Ok(provider) => panic!("{}", provider.name),
        Err(failure) => failure.message,
    };
    assert!(words("Twilio").contains("there is `twilio-form`, `twilio-json`"));
    assert!(words("githb").contains("did you mean"));
}

#[test]
fn what_nobody_checked_is_shown_so() {
    let mut unverified = 0;
    for provider in all() {
        let mut out = Vec::new();
        show(&provider, &mut out).unwrap();
        let said = String::from_utf8(out).unwrap();
        let name = &provider.name;
        assert!(said.contains(&format!("[sources.{name}]")), "{said}");
        assert_eq!(
            said.matches("(not verified)").count(),
            provider.about().unverified.len(),
            "{said}"
        );
        unverified += provider.about().unverified.len();
        // Sentences, and none of them empty.
        for key in ["deadline", "retries", "redelivery", "rotation"] {
            assert_ne!(provider.claim(key).as_deref(), Some(""), "{name}: {key}");
        }
    }
    assert!(unverified > 0);
}

#[test]
fn the_page_has_a_line_for_each_and_its_columns_line_up() {
    let providers = all();
    let page = page::markdown(&providers);
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), providers.len() + 2);
    let bars = |row: &str| -> Vec<usize> {
        let plain = row.replace("\\|", "xx");
        let chars = plain.chars().enumerate();
        chars.filter(|(_, c)| *c == '|').map(|(at, _)| at).collect()
    };
    for row in &rows {
        assert_eq!(bars(row), bars(rows[0]), "{row}");
    }
}
