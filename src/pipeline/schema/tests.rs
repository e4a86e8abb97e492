mod shipped;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::folder::{FILES_MAX, SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX};
use super::*;

/// What no message may hold.
const CANARY: &str = "canary-4111111111111111";

fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn load(schema: &Value) -> Result<SchemaSet, Vec<Problem>> {
    let dir = folder(&[("it.json", &schema.to_string())]);
    SchemaSet::load(&dir.path().join("it.json"))
}

#[track_caller]
fn violations(schema: &Value, body: &Value) -> Vec<Violation> {
    load(schema).unwrap().check(None, body).unwrap_err()
}

fn texts(problems: &[Problem]) -> String {
    let texts: Vec<_> = problems
        .iter()
        .map(|problem| {
            assert_eq!(problem.path, ["schema"]);
            format!(
                "{} ({})",
                problem.what,
                problem.help.as_deref().unwrap_or_default()
            )
        })
        .collect();
    texts.join("\n")
}

#[track_caller]
fn check_refused(path: &Path, expected: &[&str]) {
    let problems = texts(&SchemaSet::load(path).unwrap_err());
    for part in expected {
        assert!(problems.contains(part), "{part:?} is not in {problems:?}");
    }
}

#[track_caller]
fn check_schema_refused(schema: &Value, expected: &[&str]) {
    let dir = folder(&[("it.json", &schema.to_string())]);
    check_refused(&dir.path().join("it.json"), expected);
}

fn nested(levels: usize, innermost: Value) -> Value {
    (0..levels).fold(innermost, |inner, _| json!({ "a": inner }))
}

#[test]
fn each_draft_has_its_own_rules() {
    // What a draft says of `exclusiveMaximum`, of items by position, and of `format`.
    let four = "http://json-schema.org/draft-04/schema#";
    let six = "http://json-schema.org/draft-06/schema#";
    let seven = "http://json-schema.org/draft-07/schema#";
    let nineteen = "https://json-schema.org/draft/2019-09/schema";
    let twenty = "https://json-schema.org/draft/2020-12/schema";
    let cases = [
        (
            Some(four),
            json!({"maximum": 3, "exclusiveMaximum": true}),
            json!(3),
            json!(2),
        ),
        (
            Some(six),
            json!({"exclusiveMaximum": 3}),
            json!(3),
            json!(2),
        ),
        (
            Some(seven),
            json!({"if": {"type": "string"}, "then": {"minLength": 2}}),
            json!("x"),
            json!(1),
        ),
        (
            Some(seven),
            json!({"format": "date-time"}),
            json!("today"),
            json!("2026-01-02T03:04:05Z"),
        ),
        (
            Some(nineteen),
            json!({"dependentRequired": {"a": ["b"]}}),
            json!({"a": 1}),
            json!({"a": 1, "b": 1}),
        ),
        (
            Some(nineteen),
            json!({"items": [{"type": "null"}]}),
            json!([1]),
            json!([null, 1]),
        ),
        (
            Some(twenty),
            json!({"prefixItems": [{"type": "null"}]}),
            json!([1]),
            json!([null, 1]),
        ),
        (
            None,
            json!({"prefixItems": [{"type": "null"}], "items": false}),
            json!([null, 1]),
            json!([null]),
        ),
    ];
    for (dialect, mut schema, wrong, right) in cases {
        if let Some(dialect) = dialect {
            schema["$schema"] = json!(dialect);
        }
        let schemas = load(&schema).unwrap();
        assert_eq!(
            schemas.check(None, &right).unwrap().as_deref(),
            Some("it"),
            "{schema}"
        );
        assert!(
            !schemas.check(None, &wrong).unwrap_err().is_empty(),
            "{schema}"
        );
    }
}

#[test]
fn a_format_is_a_remark_since_2019_09() {
    let dialect = "https://json-schema.org/draft/2019-09/schema";
    for schema in [
        json!({"format": "date-time"}),
        json!({"$schema": dialect, "format": "date-time"}),
    ] {
        load(&schema).unwrap().check(None, &json!("today")).unwrap();
    }
}

#[test]
fn a_dialect_that_is_not_known_is_refused() {
    for dialect in [
        json!("http://json-schema.org/draft-03/schema#"),
        json!("https://example.com/mine"),
        json!(7),
    ] {
        check_schema_refused(
            &json!({ "$schema": dialect }),
            &["unknown $schema", "2020-12 are known"],
        );
    }
}

#[test]
fn a_violation_says_where_and_what() {
    let schema = json!({
        "type": "object",
        "required": ["ref"],
        "properties": {
            "size": {"type": "integer", "maximum": 9},
            "kind": {"enum": ["a", "b"]},
            "a/b": {"items": {"pattern": "^x"}},
            "either": {"type": ["string", "null"]},
        },
        "additionalProperties": false,
    });
    let body = json!({"size": 10, "kind": "c", "a/b": ["x", "y"], "either": 1, "u": 1, "v": 1, "w": 1, "x": 1});
    let mut found: Vec<_> = violations(&schema, &body)
        .iter()
        .map(ToString::to_string)
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            r#"/a~1b/1: must match the pattern "^x""#,
            r#"/either: must be of type null or string"#,
            r#"/kind: must be one of ["a","b"]"#,
            "/size: must be at most 9",
            r#"the body: "ref" is required"#,
            r#"the body: may not have the properties "u", "v", "w" and 1 more"#,
        ]
    );
}

#[test]
fn the_alternative_that_was_meant_is_reported() {
    let by_type = json!({"anyOf": [{"type": "null"}, {"type": "object", "required": ["id"]}]});
    assert_eq!(
        violations(&by_type, &json!({}))[0].detail,
        r#""id" is required"#
    );
    assert_eq!(
        violations(&by_type, &json!(1))[0].detail,
        "must match one of 2 alternatives"
    );
    let by_constant = json!({"oneOf": [
        {"properties": {"kind": {"const": "a"}, "size": {"type": "integer"}}},
        {"properties": {"kind": {"const": "b"}, "size": {"type": "string"}}},
    ]});
    let found = violations(&by_constant, &json!({"kind": "b", "size": 1}));
    assert_eq!(found[0].to_string(), "/size: must be of type string");
}

#[test]
fn values_are_never_in_a_violation() {
    let schemas = [
        json!({"type": "integer"}),
        json!({"type": ["integer", "null"]}),
        json!({"const": "x"}),
        json!({"enum": ["x"]}),
        json!({"pattern": "^x"}),
        json!({"maxLength": 1}),
        json!({"minLength": 1000}),
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "format": "date-time"}),
        json!({"not": {"type": "string"}}),
        json!({"anyOf": [{"type": "null"}, {"maxLength": 2}, {"const": "y"}]}),
        json!({"oneOf": [{"type": "null"}, {"maxLength": 2}, {"const": "y"}]}),
        json!({"oneOf": [true, true]}),
        json!({"if": true, "then": {"type": "null"}}),
        json!(false),
    ];
    for schema in schemas {
        for (schema, body) in [
            (schema.clone(), json!(CANARY)),
            (
                json!({"properties": {"a": schema.clone()}}),
                json!({"a": CANARY}),
            ),
            (json!({"items": schema.clone()}), json!([CANARY])),
            (json!({"contains": schema.clone()}), json!([CANARY])),
            (
                json!({"anyOf": [{"properties": {"a": schema}}]}),
                json!({"a": CANARY}),
            ),
        ] {
            let found = violations(&schema, &body);
            assert!(
                !format!("{found:?}").contains(CANARY),
                "{schema}: {found:?}"
            );
        }
    }
    for schema in [
        json!({"uniqueItems": true}),
        json!({"maxItems": 1}),
        json!({"prefixItems": [true], "items": false}),
        json!({"prefixItems": [true], "unevaluatedItems": false}),
        json!({"prefixItems": [true], "unevaluatedItems": {"type": "null"}}),
    ] {
        let found = violations(&schema, &json!([CANARY, CANARY]));
        assert!(
            !format!("{found:?}").contains(CANARY),
            "{schema}: {found:?}"
        );
    }
    // A name is neither a value nor needed when names themselves are what is wrong.
    let found = violations(
        &json!({"propertyNames": {"maxLength": 3}}),
        &json!({ CANARY: 1 }),
    );
    assert_eq!(
        found[0].to_string(),
        "the body: has a property whose name must have at most 3 characters"
    );
}

#[test]
fn items_and_values_are_compared_as_they_are() {
    // Errors hold `null` for every value; comparisons must not.
    let unique = load(&json!({"uniqueItems": true})).unwrap();
    unique
        .check(None, &json!([1, 2, "1", [1], {"a": 1}]))
        .unwrap();
    unique.check(None, &json!([1, 2, 1.0])).unwrap_err();
    let named = load(&json!({"propertyNames": {"enum": ["a", "b"]}})).unwrap();
    named.check(None, &json!({"a": 1, "b": 2})).unwrap();
    named.check(None, &json!({"a": 1, "c": 2})).unwrap_err();
    let constant = load(&json!({"const": {"a": [1]}})).unwrap();
    constant.check(None, &json!({"a": [1.0]})).unwrap();
    constant.check(None, &json!({"a": [2]})).unwrap_err();
}

#[test]
fn at_most_twenty_violations_are_reported() {
    let schema = json!({"items": {"type": "string"}});
    let found = violations(&schema, &Value::from_iter(0..1000));
    assert_eq!(found.len(), VIOLATIONS_MAX);
    assert_eq!(found[19].pointer, "/19");
    let wrapped = json!({"anyOf": [{"items": {"type": "string"}}]});
    assert_eq!(
        violations(&wrapped, &Value::from_iter(0..1000)).len(),
        VIOLATIONS_MAX
    );
}

#[test]
fn what_is_wrong_in_too_many_ways_is_still_located_or_at_least_reported() {
    let items = json!({"items": {"type": "string"}});
    let found = violations(&items, &Value::from_iter(0..200_000));
    assert_eq!(
        found,
        [Violation {
            pointer: "/0".into(),
            detail: "must be of type string".into()
        }]
    );

    // Three ways to fail at each of 120 levels: 3^120 errors, if nobody stopped.
    let again = json!({"$ref": "#"});
    let schema = json!({"type": "object", "properties": {"a": {"anyOf": [again, again, {"allOf": [again]}]}}});
    assert_eq!(
        violations(&schema, &nested(120, json!(1))),
        [Violation::unlocated()]
    );
    load(&schema)
        .unwrap()
        .check(None, &nested(120, json!({})))
        .unwrap();

    // A long name before many errors: 400 GB of pointers, if nobody stopped.
    let schema = json!({"additionalProperties": {"items": {"type": "string"}}});
    let body = json!({ "k".repeat(500_000): Value::from_iter(0..800_000) });
    let found = violations(&schema, &body);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].pointer, "", "the name is too long for a pointer");
}

#[test]
fn a_pointer_is_cut_between_names() {
    let schema = json!({"type": "object", "additionalProperties": {"$ref": "#"}});
    let name = "n".repeat(300);
    let found = violations(&schema, &json!({ &name: { &name: 1 } }));
    assert_eq!(found[0].pointer, format!("/{name}"));
    let found = violations(&schema, &json!({"a\n\u{1b}[31m": 1}));
    assert_eq!(found[0].pointer, "/a\n\u{1b}[31m");
    assert_eq!(
        found[0].to_string(),
        r"/a\n\u{1b}[31m: must be of type object"
    );
}

#[test]
fn patterns_that_invite_backtracking_end() {
    let almost = format!("{}!", "a".repeat(100_000));
    for pattern in ["^(a+)+$", "^(a|aa)+$", "^(.*a){25}$", "^([a-z]+)*$"] {
        let schema = load(&json!({ "pattern": pattern })).unwrap();
        schema.check(None, &json!(almost)).unwrap_err();
        let by_name = load(&json!({"patternProperties": { pattern: false }})).unwrap();
        by_name.check(None, &json!({ almost.as_str(): 1 })).unwrap();
    }
}

#[test]
fn patterns_that_are_not_linear_are_refused() {
    for pattern in [
        "^(?=a)b",
        "(?<!a)b",
        r"(a)\1",
        "(",
        "((a{1000}){1000}){1000}",
    ] {
        check_schema_refused(
            &json!({"properties": {"a": { "pattern": pattern }}}),
            &["it.json", "/properties/a/pattern"],
        );
    }
    check_schema_refused(&json!({"pattern": "(?=a)"}), &["look-around"]);
    check_schema_refused(&json!({"pattern": "("}), &["a bracket without its partner"]);
}

#[test]
fn nothing_is_fetched() {
    for uri in [
        "http://127.0.0.1:1/a.json",
        "https://example.com/a.json",
        "file:///etc/passwd",
        "//example.com/a.json",
        "urn:example:a",
        "ftp://example.com/a",
        "data:application/json,1",
    ] {
        check_schema_refused(
            &json!({ "$ref": uri }),
            &["it.json", uri, "nothing is fetched"],
        );
        check_schema_refused(
            &json!({"properties": {"a": {"$ref": format!("{uri}#/b")}}}),
            &[uri],
        );
    }
    for path in [
        "/etc/passwd",
        "../it.json",
        "/here/../it.json",
        "sub/it.json",
        "%2e%2e/it.json",
        "..%2fit.json",
    ] {
        let problems = texts(&load(&json!({ "$ref": path })).unwrap_err());
        assert!(problems.contains("it.json: "), "{path}: {problems}");
    }
    check_schema_refused(
        &json!({"$ref": "no.json"}),
        &["$ref to no.json", "cannot be read"],
    );
    check_schema_refused(&json!({"$ref": "#/$defs/no"}), &["it.json", "/$defs/no"]);
    check_schema_refused(&json!({"$ref": "#no"}), &["it.json", "no"]);
}

#[test]
fn a_schema_may_refer_to_files_of_its_folder() {
    let dir = folder(&[
        (
            "a.json",
            r#"{"properties": {"id": {"$ref": "common.json#/$defs/id"}}}"#,
        ),
        (
            "b.json",
            r#"{"$id": "https://example.com/s/b.json", "items": {"$ref": "common"}}"#,
        ),
        (
            "common.json",
            r#"{"$id": "https://example.com/s/common", "type": "integer", "$defs": {"id": {"type": "string"}}}"#,
        ),
    ]);
    let schemas = SchemaSet::load(dir.path()).unwrap();
    schemas.check(Some("a"), &json!({"id": "x"})).unwrap();
    schemas.check(Some("a"), &json!({"id": 1})).unwrap_err();
    schemas.check(Some("b"), &json!([1])).unwrap();
    schemas.check(Some("b"), &json!(["x"])).unwrap_err();
    // The same for one file.
    let alone = SchemaSet::load(&dir.path().join("a.json")).unwrap();
    alone.check(Some("a"), &json!({"id": 1})).unwrap_err();
}

#[test]
fn a_schema_may_refer_to_itself() {
    let tree = load(&json!({
        "type": "object",
        "properties": {"a": {"$ref": "#"}, "n": {"type": "integer"}},
    }))
    .unwrap();
    tree.check(None, &nested(120, json!({"n": 1}))).unwrap();
    let found = tree
        .check(None, &nested(120, json!({"n": "x"})))
        .unwrap_err();
    assert_eq!(found[0].pointer, format!("{}/n", "/a".repeat(120)));
    for schema in [
        json!({"$ref": ""}),
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"anyOf": [{"$ref": "#"}, {"type": "string"}]}),
        json!({"not": {"$ref": "#"}}),
        json!({"$ref": "it.json"}),
        json!({"$dynamicAnchor": "x", "allOf": [{"$dynamicRef": "#x"}]}),
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
    ] {
        // Whatever it means, it ends.
        drop(load(&schema).map(|schemas| schemas.check(None, &nested(120, json!(1)))));
    }
}

#[test]
fn the_deepest_schema_and_the_deepest_body_fit_a_stack() {
    let wrap: [fn(Value) -> Value; 3] = [
        |inner| json!({"not": inner}),
        |inner| json!({"if": inner}),
        |inner| json!({"allOf": [inner]}),
    ];
    for wrap in wrap {
        let mut schema = json!({"properties": {"a": {"$ref": "#"}}});
        loop {
            let more = wrap(schema.clone());
            if load(&more).is_err() {
                break;
            }
            schema = more;
        }
        let schemas = load(&schema).unwrap();
        drop(schemas.check(None, &nested(126, json!(1))));
    }
}

#[test]
fn schemas_have_bounds() {
    let deep = |levels: usize| format!("{}true{}", r#"{"not":"#.repeat(levels), "}".repeat(levels));
    let dir = folder(&[
        ("fits.json", &deep(SCHEMA_DEPTH_MAX)),
        ("deep.json", &deep(SCHEMA_DEPTH_MAX + 1)),
        ("deeper.json", &deep(10_000)),
        (
            "long.json",
            &" ".repeat(usize::try_from(SCHEMA_BYTES_MAX).unwrap() + 1),
        ),
    ]);
    SchemaSet::load(&dir.path().join("fits.json")).unwrap();
    check_refused(&dir.path().join("deep.json"), &["deeper than 64 levels"]);
    check_refused(&dir.path().join("deeper.json"), &["deeper than 64 levels"]);
    check_refused(
        &dir.path().join("long.json"),
        &["longer than 2097152 bytes"],
    );

    let dir = folder(&[]);
    for n in 0..=FILES_MAX {
        fs::write(dir.path().join(format!("{n}.json")), "{}").unwrap();
    }
    check_refused(dir.path(), &["more than 1024 schemas"]);
}

#[test]
fn what_is_not_a_schema_is_refused() {
    for (text, expected) in [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("\u{feff}{}", "is not JSON"),
        ("[]", "is not a schema"),
        ("\"object\"", "is not a schema"),
        (r#"{"type": "objekt"}"#, "at /type"),
        (
            r#"{"properties": {"a": {"maximum": "9"}}}"#,
            "at /properties/a/maximum",
        ),
        (r#"{"required": "a"}"#, "at /required"),
    ] {
        let dir = folder(&[("it.json", text)]);
        check_refused(&dir.path().join("it.json"), &["it.json", expected]);
    }
    check_refused(
        Path::new("/nowhere/it.json"),
        &["/nowhere/it.json", "cannot be read"],
    );
}

#[test]
fn a_folder_has_a_schema_for_each_type() {
    let dir = folder(&[
        ("orders.create.json", r#"{"required": ["id"]}"#),
        ("a_b.json", "false"),
        (".hidden", "not json"),
    ]);
    let schemas = SchemaSet::load(dir.path()).unwrap();
    let checked = |event_type, body: &Value| schemas.check(event_type, body);
    assert_eq!(
        checked(Some("orders/create"), &json!({"id": 1}))
            .unwrap()
            .as_deref(),
        Some("orders.create")
    );
    assert_eq!(
        checked(Some("orders/create"), &json!({}))
            .unwrap_err()
            .len(),
        1
    );
    assert_eq!(
        checked(Some("a b"), &json!({})).unwrap_err()[0].detail,
        "must not be there"
    );
    for other in [
        None,
        Some("orders/paid"),
        Some("orders/create.json"),
        Some("../orders.create"),
        Some(""),
    ] {
        assert_eq!(checked(other, &json!(1)).unwrap(), None, "{other:?}");
    }

    fs::write(dir.path().join("default.json"), r#"{"type": "object"}"#).unwrap();
    let schemas = SchemaSet::load(dir.path()).unwrap();
    for other in [None, Some("orders/paid"), Some("default")] {
        assert_eq!(
            schemas.check(other, &json!({})).unwrap().as_deref(),
            Some("default")
        );
        schemas.check(other, &json!(1)).unwrap_err();
    }
    assert!(format!("{schemas:?}").contains("orders.create"));
}

#[test]
fn one_file_is_for_all_types() {
    let schemas = load(&json!({"type": "object"})).unwrap();
    for event_type in [None, Some("it"), Some("other")] {
        assert_eq!(
            schemas.check(event_type, &json!({})).unwrap().as_deref(),
            Some("it")
        );
        schemas.check(event_type, &json!(1)).unwrap_err();
    }
}

#[test]
fn one_file_may_have_any_name() {
    let dir = folder(&[(
        "a sch\u{e9}ma.v1",
        r##"{"$ref": "#/$defs/a", "$defs": {"a": true}}"##,
    )]);
    let schemas = SchemaSet::load(&dir.path().join("a sch\u{e9}ma.v1")).unwrap();
    let name = schemas.check(None, &json!(1)).unwrap();
    assert_eq!(name.as_deref(), Some("a_sch_ma"));
}

#[test]
fn all_mistakes_of_a_folder_are_reported_at_once() {
    let dir = folder(&[
        ("README.md", "# Schemas"),
        ("a b.json", "{}"),
        ("good.json", "{}"),
    ]);
    fs::create_dir(dir.path().join("sub")).unwrap();
    check_refused(
        dir.path(),
        &[
            "README.md: is not a .json file",
            "call it a_b.json",
            "sub: is not",
        ],
    );
    let dir = folder(&[
        ("a.json", "{"),
        ("b.json", r#"{"type": 1}"#),
        ("good.json", "{}"),
    ]);
    fs::create_dir(dir.path().join("c.json")).unwrap();
    check_refused(
        dir.path(),
        &[
            "a.json: is not JSON",
            "b.json: at /type",
            "c.json: is not a file",
        ],
    );
    check_refused(folder(&[]).path(), &["has no schema"]);
}
