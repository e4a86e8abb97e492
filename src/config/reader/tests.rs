use super::*;

#[track_caller]
fn check(text: &str, read: impl FnOnce(Table<'_>), expected: &[(&str, &str)]) {
    let root = DeTable::parse(text).unwrap();
    let problems = Problems::default();
    read(Table::root(
        root.get_ref(),
        Sink {
            file: 0,
            problems: &problems,
        },
    ));
    let found: Vec<(String, String)> = problems
        .into_found()
        .into_iter()
        .map(|found| (found.problem.path.join("."), found.problem.what))
        .collect();
    let expected: Vec<(String, String)> = expected
        .iter()
        .map(|&(path, what)| (path.to_owned(), what.to_owned()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn every_mistake_of_a_table_is_reported() {
    check(
        "size = 5\nwait = \"1x\"\nflag = \"yes\"\nlist = [1, \"a\", \"\"]\ntabel = 1\n[inner]\nodd = 1",
        |mut table| {
            assert_eq!(
                table.get("size").and_then(|node| node.size(&(1..=10))),
                None
            );
            let wait = table
                .get("wait")
                .and_then(|node| node.duration(&(Duration::ZERO..=Duration::MAX)));
            assert_eq!(wait, None);
            assert_eq!(table.get("flag").and_then(|node| node.boolean()), None);
            assert_eq!(
                table.get("list").and_then(|node| node.strings()),
                Some(vec!["a".to_owned()])
            );
            assert!(table.get("table").is_none());
            table.section("inner").finish();
            table.finish();
        },
        &[
            (
                "size",
                "`size` must be a size with its unit, such as \"64KiB\", not an integer",
            ),
            ("wait", "\"1x\" is not a duration"),
            ("flag", "`flag` must be `true` or `false`, not a string"),
            ("list.0", "`list` must be a string, not an integer"),
            ("list.2", "`list` is empty"),
            ("inner.odd", "unknown key `odd`"),
            ("tabel", "unknown key `tabel`"),
        ],
    );
}

#[test]
fn numbers_have_bounds() {
    check(
        "a = 0\nb = 0x10\nc = -1\nd = 99999999999999999999999",
        |mut table| {
            assert_eq!(table.get("a").and_then(|node| node.count(&(1..=16))), None);
            assert_eq!(
                table.get("b").and_then(|node| node.count(&(1..=16))),
                Some(16)
            );
            assert_eq!(table.get("c").and_then(|node| node.count(&(1..=16))), None);
            assert_eq!(table.get("d").and_then(|node| node.count(&(1..=16))), None);
        },
        &[
            ("a", "`a` cannot be 0"),
            ("c", "`c` cannot be -1"),
            ("d", "`d` cannot be 99999999999999999999999"),
        ],
    );
}

#[test]
fn suggestions_are_for_slips_only() {
    let keys = ["rate_limit", "routing_key", "secrets"];
    assert_eq!(
        did_you_mean("ratelimit", &keys),
        "did you mean `rate_limit`? "
    );
    assert_eq!(did_you_mean("secret", &keys), "did you mean `secrets`? ");
    assert_eq!(did_you_mean("colour", &keys), "");
    assert_eq!(enumerate(&["a", "b", "c"], "`", "or"), "`a`, `b` or `c`");
}

#[test]
fn no_number_of_warnings_hides_an_error() {
    let problems = Problems::default();
    let sink = Sink {
        file: 0,
        problems: &problems,
    };
    for _ in 0..PROBLEMS_MAX + 5 {
        sink.push(At::Key, Problem::warning(&["a"], "odd"));
    }
    sink.push(At::Key, Problem::error(&["b"], "wrong"));
    let found = problems.into_found();
    assert_eq!(found.len(), PROBLEMS_MAX + 2);
    assert!(
        found
            .iter()
            .any(|found| found.problem.severity == Severity::Error)
    );
    assert_eq!(
        found.last().unwrap().problem.what,
        "5 more warnings are not shown"
    );
}
