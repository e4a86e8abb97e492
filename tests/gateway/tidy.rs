//! The repository's own rules, checked by reading it.
//!
//! Architecture is data here: which module may know what. A finding names file and line.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Module, and what its code must not name. A prefix without a trailing slash is one file with
/// its folder.
const FORBIDDEN: &[(&str, &[&str])] = &[
    // Decides; knows requests and values, neither sockets nor the broker's client.
    (
        "src/pipeline",
        &[
            "hyper::",
            "hyper_util::",
            "lapin::",
            "tokio::net",
            "tokio_rustls",
            "std::net::Tcp",
        ],
    ),
    (
        "src/pipeline",
        &[
            "crate::edge",
            "crate::publisher",
            "crate::fetch",
            "crate::admin",
            "crate::cli",
        ],
    ),
    // Decides by the moment that it is given: I/O code may ask tokio's clock for its deadlines.
    ("src/pipeline", &["Instant::now("]),
    // Stores opaque bytes and positions.
    (
        "src/journal",
        &[
            "hyper::",
            "lapin::",
            "tokio::net",
            "crate::pipeline",
            "crate::publisher",
            "crate::edge",
            "crate::delivery",
            "crate::source",
            "crate::config",
        ],
    ),
    // The two ends meet at the journal, or at one small trait.
    (
        "src/edge",
        &["lapin::", "crate::publisher", "crate::cli", "crate::admin"],
    ),
    (
        "src/publisher",
        &["hyper::", "crate::edge", "crate::cli", "crate::admin"],
    ),
    // Calls whom it is told to, for whoever asks.
    (
        "src/fetch",
        &[
            "lapin::",
            "crate::edge",
            "crate::journal",
            "crate::publisher",
            "crate::admin",
            "crate::cli",
            "crate::source",
        ],
    ),
    // Leaves.
    ("src/clock", &["crate::"]),
    ("src/secret", &["crate::"]),
    (
        "src/delivery",
        &[
            "hyper::",
            "lapin::",
            "crate::edge",
            "crate::journal",
            "crate::publisher",
        ],
    ),
    (
        "src/reject",
        &[
            "hyper::",
            "lapin::",
            "crate::edge",
            "crate::journal",
            "crate::publisher",
        ],
    ),
];

/// What only these files may say.
const ONLY: &[(&[&str], &[&str])] = &[
    (
        &["SystemTime::now(", "Timestamp::now(", "Zoned::now("],
        &["src/clock.rs"],
    ),
    (
        &["StatusCode"],
        &[
            "src/edge",
            "src/reject.rs",
            "src/admin",
            // What presets and handshakes answer is configuration.
            "src/source.rs",
            "src/config",
            "src/pipeline/handshake",
            "src/cli",
            "src/client",
            "src/explain.rs",
        ],
    ),
];

/// Names of leftovers and of things that are nobody's business here, taken apart so that this
/// file may hold them.
fn leftovers() -> [String; 6] {
    [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["XX", "X:"].concat(),
        ["db", "g!("].concat(),
        ["todo", "!("].concat(),
        ["../sh", "ared"].concat(),
    ]
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder with one of these extensions, relative to the root, in order.
fn files(folder: &str, extensions: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if extensions
                .iter()
                .any(|e| path.extension().is_some_and(|there| there == *e))
            {
                let relative = path.strip_prefix(root()).expect("below the root");
                found.push(relative.to_str().expect("UTF-8").to_owned());
            }
        }
    }
    found.sort();
    found
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// All Rust sources.
fn sources() -> Vec<String> {
    ["src", "tests", "benches", "fuzz"]
        .iter()
        .flat_map(|folder| files(folder, &["rs"]))
        .collect()
}

/// Whether a file belongs to a module: `src/edge` is `src/edge.rs` and all below `src/edge/`.
fn is_in(file: &str, module: &str) -> bool {
    file == module
        || file == format!("{module}.rs")
        || file
            .strip_prefix(module)
            .is_some_and(|rest| rest.starts_with('/'))
}

fn is_test(file: &str) -> bool {
    file.starts_with("tests/")
        || file.starts_with("benches/")
        || file.ends_with("/tests.rs")
        || file.contains("/tests/")
}

/// The lines of a file that are code, with their numbers; what follows `#[cfg(test)] mod tests {`
/// is not the product's.
fn code(text: &str) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    let mut cfg_test = false;
    for (n, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        if cfg_test && trimmed.starts_with("mod ") && trimmed.ends_with('{') {
            break;
        }
        cfg_test = trimmed == "#[cfg(test)]";
        if !trimmed.starts_with("//") {
            lines.push((n + 1, line));
        }
    }
    lines
}

#[track_caller]
fn assert_none(findings: &[String], rule: &str) {
    let mut text = String::new();
    for finding in findings {
        let _infallible = write!(text, "\n  {finding}");
    }
    assert!(findings.is_empty(), "{rule}:{text}");
}

#[test]
fn modules_know_only_what_they_may() {
    let mut findings = Vec::new();
    for file in files("src", &["rs"]).iter().filter(|file| !is_test(file)) {
        let text = read(file);
        for (module, words) in FORBIDDEN.iter().filter(|(module, _)| is_in(file, module)) {
            for (n, line) in code(&text) {
                for word in words.iter().filter(|word| line.contains(**word)) {
                    findings.push(format!("{file}:{n}: {module} must not name `{word}`"));
                }
            }
        }
    }
    assert_none(&findings, "the direction of dependencies");
}

#[test]
fn some_words_are_said_in_one_place_only() {
    let mut findings = Vec::new();
    for file in files("src", &["rs"]).iter().filter(|file| !is_test(file)) {
        let text = read(file);
        for (words, places) in ONLY {
            if places
                .iter()
                .any(|place| is_in(file, place.trim_end_matches(".rs")))
            {
                continue;
            }
            for (n, line) in code(&text) {
                for word in words.iter().filter(|word| line.contains(**word)) {
                    findings.push(format!("{file}:{n}: `{word}` belongs to {places:?}"));
                }
            }
        }
    }
    assert_none(&findings, "one place for time, one for statuses");
}

#[test]
fn every_file_says_what_it_is_for() {
    let findings: Vec<_> = sources()
        .into_iter()
        // Unit tests are about the module that they stand under.
        .filter(|file| !is_test(file) || file.starts_with("tests/"))
        .filter(|file| !read(file).trim_start().starts_with("//! "))
        .map(|file| format!("{file}:1: begins without `//!`"))
        .collect();
    assert_none(&findings, "a module doc in each file");
}

#[test]
fn every_file_is_named_by_a_mod() {
    let all = sources();
    let known: BTreeSet<PathBuf> = all.iter().map(PathBuf::from).collect();
    let roots = ["src/lib.rs", "src/main.rs", "tests/gateway/main.rs"];
    let mut named: BTreeSet<PathBuf> = roots.iter().map(PathBuf::from).collect();
    for file in &all {
        let path = Path::new(file);
        // Children of `lib.rs` and `main.rs` stand beside them, of `x.rs` below `x/`.
        let folder = if roots.contains(&file.as_str()) {
            path.parent().expect("a folder").to_owned()
        } else {
            path.with_extension("")
        };
        for (_, line) in code(&format!("{}\n", read(file).replace("mod tests {", ""))) {
            let declared = line.trim().strip_suffix(';').and_then(|line| {
                let (before, name) = line.rsplit_once("mod ")?;
                (before.is_empty() || before.starts_with("pub")).then_some(name)
            });
            if let Some(name) = declared {
                named.insert(folder.join(format!("{name}.rs")));
            }
        }
    }
    let findings: Vec<_> = known
        .difference(&named)
        .filter(|path| path.starts_with("src") || path.starts_with("tests/gateway"))
        .map(|path| {
            format!(
                "{}:1: no `mod` names it, so it is not compiled",
                path.display()
            )
        })
        .collect();
    assert_none(&findings, "no file is left out");
}

#[test]
fn sources_are_ascii_and_finished() {
    let leftovers = leftovers();
    let mut findings = Vec::new();
    for file in sources() {
        for (n, line) in read(&file).lines().enumerate() {
            let at = n + 1;
            if let Some(odd) = line.chars().find(|c| !c.is_ascii()) {
                findings.push(format!("{file}:{at}: {odd:?} is not ASCII"));
            }
            for word in leftovers.iter().filter(|word| line.contains(word.as_str())) {
                findings.push(format!("{file}:{at}: `{word}`"));
            }
        }
    }
    assert_none(&findings, "ASCII, and nothing left over");
}

/// What stands at the top level, beside dotfiles: what its users see first stays small.
#[test]
fn the_top_level_stays_small() {
    let allowed = [
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "Makefile",
        "README.md",
        "benches",
        "data",
        "deploy",
        "examples",
        "fuzz",
        "gateway.toml",
        // Seeds of failures that were found once; proptest wants them here.
        "proptest-regressions",
        "schemas",
        "src",
        "target",
        "tests",
    ];
    let entries = std::fs::read_dir(root()).expect("the root");
    let findings: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .filter(|name| !name.starts_with('.') && !allowed.contains(&name.as_str()))
        .map(|name| format!("{name}:1: does not belong at the top level"))
        .collect();
    assert_none(&findings, "the top level");
}

/// The names in a text that look like metrics: `hookgate_` and more, not as part of a longer
/// word.
fn metric_names(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.split(|c: char| !is_name(c))
        .filter(|word| {
            word.strip_prefix("hookgate_")
                .is_some_and(|rest| !rest.is_empty())
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn metrics_are_documented_and_documented_metrics_exist() {
    let there = metric_names(
        &code(&read("src/metrics.rs"))
            .iter()
            .map(|(_, line)| *line)
            .collect::<Vec<_>>()
            .join("\n"),
    );
    let pages = ["README.md", "deploy/metrics.md", "deploy/reliability.md"];
    let documents: String = pages
        .iter()
        .filter_map(|page| std::fs::read_to_string(root().join(page)).ok())
        .collect();
    let documented = metric_names(&documents);
    let mut findings: Vec<_> = there
        .difference(&documented)
        .map(|name| format!("src/metrics.rs: `{name}` is in neither of {pages:?}"))
        .collect();
    // Names of message headers begin alike.
    let looks_like_a_metric = |name: &&String| {
        ["_total", "_seconds", "_bytes", "_bucket", "_sum", "_count"]
            .iter()
            .any(|suffix| name.ends_with(suffix))
    };
    findings.extend(
        documented
            .iter()
            .filter(looks_like_a_metric)
            .filter(|name| !there.contains(*name) && !there.contains(base_of_series(name)))
            .map(|name| format!("{pages:?}: `{name}` is not in src/metrics.rs")),
    );
    assert_none(&findings, "metrics and their documentation");
}

/// A histogram has series of its own.
fn base_of_series(name: &str) -> &str {
    ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name)
}

/// The words in double quotes after each `key=`, `key!=`, `key=~`, taken apart at `|`.
fn label_values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let quoted = text.split(key).skip(1).filter_map(|rest| {
        let (operator, rest) = rest.split_once('"')?;
        let value = rest.split_once('"')?.0;
        matches!(operator, "=" | "!=" | "=~" | "!~").then_some(value)
    });
    quoted.flat_map(|value| value.split('|')).collect()
}

/// An alert that names nothing that exists never goes off, and nobody notices.
#[test]
fn alerts_name_what_exists_and_have_a_section() {
    use hookgate::pipeline::verify::Refusal;
    use hookgate::reject::Reject;

    let (rules, page) = (read("deploy/alerts.yml"), read("deploy/reliability.md"));
    let metrics = metric_names(&read("src/metrics.rs"));
    let mut findings: Vec<_> = metric_names(&rules)
        .iter()
        .filter(|name| !metrics.contains(*name) && !metrics.contains(base_of_series(name)))
        .map(|name| format!("deploy/alerts.yml: `{name}` is not in src/metrics.rs"))
        .collect();
    let reasons: BTreeSet<_> = Reject::LABELS.into_iter().chain(Refusal::LABELS).collect();
    let unknown = |reason: &&str| !reasons.contains(reason);
    findings.extend(
        [&rules, &page]
            .into_iter()
            .flat_map(|text| label_values(text, "reason"))
            .filter(unknown)
            .map(|reason| format!("deploy/alerts.yml or reliability.md: no reason \"{reason}\"")),
    );
    let results = read("src/metrics.rs");
    findings.extend(
        label_values(&rules, "result")
            .into_iter()
            .filter(|result| !results.contains(&format!("\"{result}\"")))
            .map(|result| format!("deploy/alerts.yml: no result \"{result}\"")),
    );
    let sections: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' '))
        .map(|title| {
            title
                .to_lowercase()
                .replace(' ', "-")
                .replace([',', '?'], "")
        })
        .collect();
    let links = rules.split("deploy/reliability.md#").skip(1);
    let links = links.chain(page.split("](#").skip(1));
    findings.extend(
        links
            .filter_map(|rest| rest.split([')', '\n']).next())
            .filter(|link| !sections.contains(*link))
            .map(|link| format!("deploy/reliability.md: there is no section #{link}")),
    );
    let alerts = rules.matches("- alert: ").count();
    let runbooks = rules.matches("runbook: deploy/reliability.md#").count();
    if alerts != runbooks {
        findings.push(format!(
            "deploy/alerts.yml: {alerts} alerts, and {runbooks} with a runbook"
        ));
    }
    assert_none(&findings, "alerts and the operator's page");
}

#[test]
fn every_reject_label_has_a_test() {
    // Those that nothing outside can provoke.
    let unprovokable = ["defect"];
    let tests: String = files("tests/gateway", &["rs"])
        .iter()
        .map(|file| read(file))
        .collect();
    let findings: Vec<_> = hookgate::reject::Reject::LABELS
        .iter()
        .filter(|label| !unprovokable.contains(label))
        .filter(|label| !tests.contains(&format!("\"{label}\"")))
        .map(|label| format!("src/reject.rs: no end-to-end test names \"{label}\""))
        .collect();
    assert_none(&findings, "each way to be turned away is tested");
}
