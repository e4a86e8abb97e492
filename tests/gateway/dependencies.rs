//! What may be in the program, by the lists of `.deny.toml`: bans, least versions, licences,
//! sources.
//!
//! `make deny` asks cargo-deny about the same lists. It takes minutes to build, so every change is
//! held against them here, by what `cargo tree` and `Cargo.lock` say. Known holes that are younger
//! than the lists are nobody's business here: that needs a database from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use toml::{Table, Value};

use crate::support::figures::Row;

/// The two platforms of `.deny.toml`; a crate of either counts.
const ARGUMENTS: [&str; 11] = [
    "tree",
    "--locked",
    "--workspace",
    "--edges=normal,build,dev",
    "--target=x86_64-unknown-linux-gnu",
    "--target=aarch64-unknown-linux-gnu",
    "--prefix=none",
    "--no-dedupe",
    "--quiet",
    "--format",
    "{p}|{l}",
];

const OUR_OWN: [&str; 2] = ["hookgate", "hookgate-fuzz"];

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: Version,
    licence: String,
}

/// Major, minor, patch.
type Version = (u64, u64, u64);

/// An entry of `bans.deny`: a crate, or its versions before one.
#[derive(Debug)]
struct Ban {
    name: String,
    before: Option<Version>,
    /// Not banned, but at most one version of it may be there.
    only_one: bool,
    reason: String,
}

#[test]
fn dependencies_are_those_that_may_be() {
    let rules = read("../../.deny.toml");
    let packages = packages();
    assert!(packages.len() > 100, "cargo tree says little: {packages:?}");
    let bans = bans(&rules);
    let mut findings = banned(&packages, &bans);
    findings.extend(unlicensed(&packages, &rules));
    findings.extend(from_elsewhere(&read("../../Cargo.lock")));
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    Row::new("X18.lists")
        .saw("packages", packages.len())
        .saw("bans and least versions", bans.len())
        .saw("findings", findings.len())
        .write();
}

fn read(path: &str) -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/gateway")
        .join(path);
    let text = std::fs::read_to_string(&path).expect("a file of this repository");
    text.parse().expect("TOML")
}

/// What is built, for tests and fuzz targets too.
fn packages() -> BTreeSet<Package> {
    let output = Command::new(env!("CARGO"))
        .args(ARGUMENTS)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree: {errors}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().filter_map(package).collect()
}

/// A line like `h2 v0.4.20|MIT`, or `serde_derive v1.0.228 (proc-macro)|MIT OR Apache-2.0`.
fn package(line: &str) -> Option<Package> {
    let (package, licence) = line.split_once('|')?;
    let mut words = package.split(' ');
    Some(Package {
        name: words.next()?.to_owned(),
        version: version(words.next()?.strip_prefix('v')?),
        licence: licence.trim().to_owned(),
    })
}

/// What comes after `-` or `+` does not count.
fn version(text: &str) -> Version {
    let numbers = text.split(['-', '+']).next().expect("a first part");
    let mut numbers = numbers
        .split('.')
        .map(|number| number.parse().expect("a number"));
    let mut next = || numbers.next().unwrap_or_default();
    (next(), next(), next())
}

fn list<'t>(table: &'t Table, section: &str, key: &str) -> &'t [Value] {
    let value = table.get(section).and_then(|section| section.get(key));
    value.and_then(Value::as_array).expect("a list")
}

fn text<'t>(value: &'t Value, key: &str) -> &'t str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

// === bans ===

fn bans(rules: &Table) -> Vec<Ban> {
    let entries = list(rules, "bans", "deny").iter();
    let ban = |entry: &Value| {
        let spec = text(entry, "crate");
        let (name, before) = match spec.split_once(':') {
            None => (spec, None),
            Some((name, versions)) => {
                let before = versions.strip_prefix('<').expect("only `<` is used");
                (name, Some(version(before)))
            }
        };
        Ban {
            name: name.to_owned(),
            before,
            only_one: entry.get("deny-multiple-versions").is_some(),
            reason: text(entry, "reason").to_owned(),
        }
    };
    entries.map(ban).collect()
}

fn banned(packages: &BTreeSet<Package>, bans: &[Ban]) -> Vec<String> {
    let mut findings = Vec::new();
    for ban in bans {
        let mut versions: BTreeSet<Version> = packages
            .iter()
            .filter(|package| package.name == ban.name)
            .map(|package| package.version)
            .collect();
        if ban.only_one {
            if versions.len() > 1 {
                findings.push(format!("{}: {versions:?} in one program", ban.name));
            }
            continue;
        }
        versions.retain(|version| ban.before.is_none_or(|before| *version < before));
        if !versions.is_empty() {
            findings.push(format!("{} {versions:?}: {}", ban.name, ban.reason));
        }
    }
    findings
}

// === sources ===

fn from_elsewhere(lock: &Table) -> Vec<String> {
    let packages = lock.get("package").and_then(Value::as_array);
    let packages = packages.expect("a list of packages").iter();
    let is_known = |package: &&Value| match package.get("source").and_then(Value::as_str) {
        Some(source) => source == REGISTRY && package.get("checksum").is_some(),
        None => OUR_OWN.contains(&text(package, "name")),
    };
    let strangers = packages.filter(|package| !is_known(package));
    strangers
        .map(|package| format!("{}: not from crates.io", text(package, "name")))
        .collect()
}

// === licences ===

fn unlicensed(packages: &BTreeSet<Package>, rules: &Table) -> Vec<String> {
    let words = |values: &[Value]| -> BTreeSet<String> {
        let words = values.iter().filter_map(Value::as_str);
        words.map(str::to_owned).collect()
    };
    let allowed = words(list(rules, "licenses", "allow"));
    let exceptions: BTreeMap<&str, BTreeSet<String>> = list(rules, "licenses", "exceptions")
        .iter()
        .map(|entry| {
            let more = entry
                .get("allow")
                .and_then(Value::as_array)
                .expect("a list");
            (text(entry, "crate"), &allowed | &words(more))
        })
        .collect();
    let refused = packages.iter().filter(|package| {
        let allowed = exceptions.get(&*package.name).unwrap_or(&allowed);
        !is_allowed(&package.licence, allowed)
    });
    refused
        .map(|package| format!("{}: the licence is `{}`", package.name, package.licence))
        .collect()
}

/// An SPDX expression, or the older `A/B`. `AND` binds more tightly than `OR`.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = &words[..];
    let any = any(&mut rest, allowed);
    any && rest.is_empty()
}

fn any(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut holds = all(words, allowed);
    while let ["OR", rest @ ..] = words {
        *words = rest;
        holds |= all(words, allowed);
    }
    holds
}

fn all(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut holds = one(words, allowed);
    while let ["AND", rest @ ..] = words {
        *words = rest;
        holds &= one(words, allowed);
    }
    holds
}

fn one(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    match words {
        ["(", rest @ ..] => {
            *words = rest;
            let holds = any(words, allowed);
            let [")", rest @ ..] = words else {
                return false;
            };
            *words = rest;
            holds
        }
        // With an exception it is another licence.
        [_, "WITH", _, rest @ ..] => {
            *words = rest;
            false
        }
        [licence, rest @ ..] => {
            *words = rest;
            allowed.contains(*licence)
        }
        [] => false,
    }
}

#[test]
fn licences_are_read_as_they_are_meant() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "ISC".to_owned()]);
    for good in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/Apache-2.0",
        "(ISC OR GPL-3.0) AND MIT",
        "GPL-3.0 AND ISC OR MIT",
        "Apache-2.0 WITH LLVM-exception OR MIT",
    ] {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "(MIT OR ISC) AND GPL-3.0",
        "MIT WITH something",
        "(GPL-3.0 OR MIT",
        "MIT ISC",
    ] {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}

#[test]
fn what_is_banned_is_found() {
    let rules: Table = r#"
        [bans]
        deny = [
            { crate = "ring", reason = "one provider" },
            { crate = "h2:<0.4.20", reason = "a hole" },
            { crate = "http", deny-multiple-versions = true },
        ]
    "#
    .parse()
    .expect("TOML");
    let found = |lines: &[&str]| {
        let packages = lines.iter().filter_map(|line| package(line)).collect();
        banned(&packages, &bans(&rules)).len()
    };
    assert_eq!(found(&["h2 v0.4.20|MIT", "http v1.5.0|MIT", ""]), 0);
    assert_eq!(found(&["ring v0.17.0+x (proc-macro)|MIT"]), 1);
    assert_eq!(found(&["h2 v0.4.19|MIT", "h2 v0.3.30|MIT"]), 1);
    assert_eq!(found(&["http v1.5.0|MIT", "http v0.2.0|MIT"]), 1);
}
