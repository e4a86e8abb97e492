use super::*;
use crate::config::tests::{CANARY, Corpus};

#[track_caller]
fn run(folder: &'static str, name: &str, style: Style) -> (bool, String) {
    let corpus = Corpus::new(folder);
    let mut out = Vec::new();
    let code = check_in(&corpus.path(name), &corpus.surroundings(), style, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(!text.contains(CANARY), "{text}");
    (
        code,
        text.replace(
            &format!("{}/", corpus.path("").display()).replace("//", "/"),
            "",
        ),
    )
}

const JSON: Style = Style {
    json: true,
    coloured: false,
};

#[test]
fn a_good_configuration_is_a_table_of_sources() {
    let (code, text) = run("good", "kitchen-sink.toml", Style::default());
    assert!(code);
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let github = [
        "github",
        "/github",
        "github",
        "hmac-sha256",
        "GITHUB_SECRET",
        "-",
        "journal",
    ];
    assert!(rows.contains(&github.to_vec()), "{text}");
    assert!(
        text.ends_with("kitchen-sink.toml is good: 2 sources, 0 warnings\n"),
        "{text}"
    );
}

#[test]
fn what_proves_nothing_is_shouted() {
    let (code, text) = run("good", "warnings.toml", Style::default());
    assert!(code);
    assert!(
        text.contains("!!! open takes anything from anyone"),
        "{text}"
    );
    assert!(text.contains("NONE (not enforced)"), "{text}");
}

#[test]
fn a_bad_configuration_says_why_and_fails() {
    let (code, text) = run("bad", "many-with-warnings.toml", Style::default());
    assert!(!code);
    assert!(text.contains("error: the routing key"), "{text}");
    assert!(
        text.ends_with("is not good: 1 error, 5 warnings\n"),
        "{text}"
    );
}

#[test]
fn colours_come_only_when_asked_for() {
    let (_, plain) = run("bad", "ack-word.toml", Style::default());
    let (_, coloured) = run(
        "bad",
        "ack-word.toml",
        Style {
            json: false,
            coloured: true,
        },
    );
    assert!(!plain.contains('\u{1b}'));
    assert!(coloured.contains('\u{1b}'));
}

#[test]
fn a_machine_gets_places_and_sources() {
    let (code, text) = run("bad", "ack-word.toml", JSON);
    assert!(!code);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["good"], false);
    let problem = &report["problems"][0];
    assert_eq!(problem["file"], "ack-word.toml");
    assert_eq!(
        (&problem["line"], &problem["column"]),
        (&json!(7), &json!(7))
    );
    assert_eq!(problem["key"], "sources.github.ack");

    let (code, text) = run("good", "warnings.toml", JSON);
    assert!(code);
    let report: Value = serde_json::from_str(&text).unwrap();
    let sources = report["sources"].as_array().unwrap();
    let insecure = sources.iter().filter(|source| source["insecure"] == true);
    assert_eq!(insecure.count(), 1);
    assert_eq!(report["errors"], 0);
}
