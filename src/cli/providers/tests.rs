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
    assert!(words("GitHub").contains("\"GitHub\"; it is written `github`"));
    assert!(words("Stripe").contains("it is written `stripe`"));
    for name in ["whatsapp", "Facebook"] {
        assert!(words(name).contains("there is `meta`; "), "{name}");
    }
    assert_eq!(
        words(""),
        "there is no provider \"\"; `hookgate providers` lists them"
    );
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

fn shown(name: &str) -> String {
    let mut out = Vec::new();
    let provider = Provider::find(name).unwrap_or_else(|failure| panic!("{failure:?}"));
    show(&provider, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn says(name: &str, words: &str) {
    let said = shown(name);
    assert!(said.contains(words), "{said}");
}

#[test]
fn the_steps_say_the_sources_name() {
    for provider in all() {
        for step in provider.steps() {
            assert!(!step.contains("NAME"), "{step}");
        }
    }
    says("asana", "hookgate enroll asana --for 10m");
    says("meta", "[sources.meta.config]");
}

#[test]
fn which_events_to_choose_is_a_step() {
    for name in ["github", "slack", "meta", "stripe", "gitlab-token", "jira"] {
        let provider = Provider::find(name).unwrap_or_else(|_| panic!("{name}"));
        let events = provider.about().events.clone().unwrap();
        assert!(shown(name).contains(&format!(". {events}\n")), "{name}");
    }
}

#[test]
fn a_claim_says_where_it_stands_and_a_gap_why_it_is_one() {
    says(
        "plaid",
        "retries    For up to 24 h, after everything but 200: first after 30 s, then after pauses \
         4 times as long each. None while the endpoint has refused more than 90 % within 24 h. \
         (https://plaid.com/docs/api/webhooks/)\n",
    );
    says(
        "cal-com",
        "retries    the provider's documentation does not say\n",
    );
    says(
        "mollie-next",
        "retries    not found out yet; see the provider's page\n",
    );
    for provider in all() {
        for key in provider.about().pages.keys() {
            let page = &provider.about().pages[key];
            assert!(page.starts_with("https://"), "{}: {page}", provider.name);
        }
    }
}

#[test]
fn a_handshake_that_has_to_be_confirmed_is_not_answered_by_itself() {
    says("sns", "finished with `confirm = true`, else by you");
    says("sns", "\nconfirm = true ");
    says("slack", ": answered by itself\n");
    assert!(!shown("sns").contains("answered by itself"));
    assert!(!shown("slack").contains("confirm = true"));
}

/// `confirm = true` would switch off the echo that works by itself.
#[test]
fn a_handshake_that_may_be_confirmed_is_answered_by_itself() {
    for name in ["eventgrid", "eventgrid-entra"] {
        says(name, ": answered by itself\n");
        assert!(!shown(name).contains("\nconfirm = true"), "{name}");
    }
}

#[test]
fn whether_copies_are_recognised_is_said() {
    says(
        "github",
        "copies     recognised by header:X-GitHub-Delivery\n",
    );
    says(
        "zoom",
        "copies     not recognised: no id in its events is known\n",
    );
    says("meta", "copies     recognised by a digest of the body\n");
}

#[test]
fn no_variable_says_its_kind_twice() {
    let variable = |name: &str| {
        let provider = Provider::find(name).unwrap_or_else(|_| panic!("{name}"));
        provider.variable().unwrap()
    };
    assert_eq!(variable("gitlab-token"), "GITLAB_TOKEN");
    assert_eq!(variable("telegram"), "TELEGRAM_TOKEN");
    assert_eq!(variable("github"), "GITHUB_SECRET");
}
