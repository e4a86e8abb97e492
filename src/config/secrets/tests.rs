use jiff::Timestamp;
use std::ffi::OsString;
use std::fs;

use super::*;
use crate::config::reader::{Problems, Sink};
use toml::de::DeTable;

/// What a reference gives: label and secret, or `None`.
fn resolve(reference: &str) -> Option<(String, Vec<u8>)> {
    resolve_as(reference, Privacy::Secret).0
}

/// The secret with its label, and what is said of it.
fn resolve_as(reference: &str, privacy: Privacy) -> (Option<(String, Vec<u8>)>, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("unix"), "of-file\n").unwrap();
    fs::write(directory.path().join("dos"), "of-file\r\n").unwrap();
    fs::write(directory.path().join("two"), "of-file\n\n").unwrap();
    fs::write(directory.path().join("long"), vec![b'x'; 70_000]).unwrap();
    let credentials = directory.path().to_path_buf();
    let surroundings = Surroundings::new(
        move |name| match name {
            "TOKEN" => Some(OsString::from("of-variable\n")),
            "CREDENTIALS_DIRECTORY" => Some(credentials.clone().into_os_string()),
            _ => None,
        },
        None,
        Timestamp::UNIX_EPOCH,
    );
    let text = format!("x = {reference}");
    let root = DeTable::parse(&text).unwrap();
    let problems = Problems::default();
    let secret = {
        let mut table = Table::root(
            root.get_ref(),
            Sink {
                file: 0,
                problems: &problems,
            },
        );
        let vault = Vault {
            directory: directory.path(),
            surroundings: &surroundings,
        };
        let node = table.get("x");
        node.and_then(|node| vault.resolve_as(&node, privacy))
    };
    let secret = secret.map(|it| (it.label.to_string(), it.secret.expose().to_vec()));
    let said = problems.into_found().into_iter();
    (secret, said.map(|found| found.problem.what).collect())
}

#[track_caller]
fn check(reference: &str, label: &str, secret: &str) {
    let expected = Some((label.to_owned(), secret.as_bytes().to_vec()));
    assert_eq!(resolve(reference), expected, "{reference}");
}

#[test]
fn each_kind_of_reference_gives_its_secret_and_its_name() {
    check("{ env = \"TOKEN\" }", "TOKEN", "of-variable\n");
    check("{ file = \"unix\" }", "unix", "of-file");
    check("{ credential = \"dos\" }", "dos", "of-file");
    check("{ value = \"here\" }", "inline", "here");
    check(
        "{ env = \"TOKEN\", label = \"2026 spring\" }",
        "2026 spring",
        "of-variable\n",
    );
}

#[test]
fn only_one_newline_is_no_part_of_a_secret() {
    check("{ file = \"two\" }", "two", "of-file\n");
}

#[test]
fn what_is_no_reference_gives_nothing() {
    for reference in [
        "\"plain\"",
        "{}",
        "{ env = \"ABSENT\" }",
        "{ env = \"A=B\" }",
        "{ env = \"TOKEN\", file = \"unix\" }",
        "{ file = \"absent\" }",
        "{ file = \".\" }",
        "{ file = \"long\" }",
        "{ value = \"\" }",
        "{ env = 5 }",
    ] {
        assert_eq!(resolve(reference), None, "{reference}");
    }
}

#[test]
fn a_public_key_is_no_secret_in_the_open() {
    let warns = |reference: &str, privacy| !resolve_as(reference, privacy).1.is_empty();
    assert!(warns("{ value = \"s3cr3t\" }", Privacy::Secret));
    assert!(!warns("{ value = \"7b1a\" }", Privacy::Public));
    assert!(!warns("{ value = \"whpk_7b1a\" }", Privacy::Secret));
}
