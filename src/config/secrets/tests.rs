use jiff::Timestamp;
use std::ffi::OsString;
use std::fs;

use super::*;
use crate::config::reader::{Problems, Sink};
use toml::de::DeTable;

/// What a reference gives: label and secret, or `None`.
fn resolve(reference: &str) -> Option<(String, Vec<u8>)> {
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
    let secret = vault.resolve(&table.get("x")?)?;
    Some((secret.label.to_string(), secret.secret.expose().to_vec()))
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
