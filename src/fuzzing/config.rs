//! Configurations and provider files: any bytes give a configuration or mistakes in words.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;

use jiff::Timestamp;

use super::{Input, files, repository, scratch, vectors};
use crate::config::surroundings::Surroundings;
use crate::config::{Config, parse_provider};

const PROVIDER: u8 = 1;

/// Part of what every variable of the environment holds.
const CANARY: &str = "CANARY";

/// Where the configuration is written. What it includes is not there.
fn file() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| scratch("config").join("gateway.toml"))
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut add = |kind: u8, text: Vec<u8>| seeds.push([vec![kind], text].concat());
    for provider in crate::providers::names() {
        let text = crate::providers::text(&provider).expect("a provider's file");
        add(PROVIDER, text.as_bytes().to_vec());
    }
    let mut paths = files(&repository("tests/configs"), "toml");
    paths.push(repository("gateway.toml"));
    for path in paths {
        add(0, std::fs::read(path).expect("a configuration"));
    }
    seeds
}

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.byte() == PROVIDER {
        let text = String::from_utf8_lossy(input.rest());
        if let Err(problems) = parse_provider(&text) {
            assert!(!problems.is_empty());
        }
        return;
    }
    std::fs::write(file(), input.rest()).expect("a configuration");
    // The directory of credentials is shown, and is no secret.
    let is_secret = |name: &str| name.len() < 64 && name != "CREDENTIALS_DIRECTORY";
    let variable =
        move |name: &str| is_secret(name).then(|| OsString::from(format!("{CANARY}-{name}")));
    let now = Timestamp::from_second(vectors::SIGNED_AT).expect("a time");
    let surroundings = Surroundings::new(variable, Some(1024), now);
    match Config::load_in(file(), &surroundings) {
        Ok(loaded) => {
            assert_eq!(loaded.config.sources.len(), loaded.summaries.len());
            let shown = format!("{:?}", loaded.config);
            assert!(
                !shown.contains(CANARY) || input_says_it(data),
                "a secret is shown"
            );
        }
        Err(invalid) => {
            assert!(invalid.problems.iter().any(|problem| problem.is_error()));
            let shown = invalid.to_string();
            assert!(
                !shown.contains(CANARY) || input_says_it(data),
                "a secret is shown: {shown}"
            );
        }
    }
}

/// Whether the canary is the configuration's own word.
fn input_says_it(data: &[u8]) -> bool {
    data.windows(CANARY.len())
        .any(|word| word == CANARY.as_bytes())
}
