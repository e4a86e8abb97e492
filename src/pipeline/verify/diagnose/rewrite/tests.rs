use super::*;

#[track_caller]
fn check(json: &str, layout: Layout, escapes: Escapes, expected: &str) {
    assert_eq!(rewrite(json, layout, escapes), expected);
}

#[test]
fn members_keep_their_order_and_numbers_their_digits() {
    let json = "{ \"z\" : 1.0 ,\r\n\t\"a\":1e2, \"z\": [ ], \"b\": [{\"y\": -0}, { }] }";
    let compact = r#"{"z":1.0,"a":1e2,"z":[],"b":[{"y":-0},{}]}"#;
    let spaced = r#"{"z": 1.0, "a": 1e2, "z": [], "b": [{"y": -0}, {}]}"#;
    check(json, Layout::Kept, Escapes::Kept, json);
    check(json, Layout::Compact, Escapes::Kept, compact);
    check(json, Layout::Spaced, Escapes::Kept, spaced);
    check(compact, Layout::Spaced, Escapes::Kept, spaced);
    check(spaced, Layout::Compact, Escapes::Kept, compact);
    let indented = "{\n \"z\": 1.0,\n \"b\": [\n  {}\n ]\n}";
    check(
        r#"{"z":1.0,"b":[{}]}"#,
        Layout::Indented(1),
        Escapes::Kept,
        indented,
    );
}

#[test]
fn what_looks_like_a_token_within_a_string_is_none() {
    let json = r#"{"a, b: {": "\\\" , : [ \\"}"#;
    let expected = r#"{"a, b: {":"\\\" , : [ \\"}"#;
    check(json, Layout::Compact, Escapes::Least, expected);
}

#[test]
fn strings_are_escaped_and_not() {
    let plain = r#"{"gr\u001fUS": "a/b F \n\"", "x": "E"}"#
        .replace('U', "\u{fc}")
        .replace('S', "\u{df}")
        .replace('F', "\u{1f600}")
        .replace('E', "\u{20ac}");
    let ascii = r#"{"gr\u001f\u00fc\u00df": "a/b \ud83d\ude00 \n\"", "x": "\u20ac"}"#;
    check(&plain, Layout::Kept, Escapes::Ascii, ascii);
    check(ascii, Layout::Kept, Escapes::Least, &plain);
    check(ascii, Layout::Kept, Escapes::Ascii, ascii);
    let capitals = r#"["\u20AC/"]"#;
    check(
        "[\"\u{20ac}/\"]",
        Layout::Kept,
        Escapes::AsciiCapitals,
        capitals,
    );
    check(capitals, Layout::Kept, Escapes::Ascii, r#"["\u20ac/"]"#);
    let slashed = r#"["\u20ac\/"]"#;
    check(capitals, Layout::Kept, Escapes::AsciiAndSlash, slashed);
    check(slashed, Layout::Kept, Escapes::Least, "[\"\u{20ac}/\"]");
    check(slashed, Layout::Kept, Escapes::Kept, slashed);
}

#[test]
fn an_escape_that_stands_for_no_character_is_kept() {
    for json in [r#"["\ud83d"]"#, r#"["\ud83dx"]"#, r#"["\udc00\u0041"]"#] {
        let kept = rewrite(json, Layout::Kept, Escapes::Least);
        assert!(kept.starts_with(r#"["\ud"#), "{kept}");
    }
    let kept = r#"["\u0000\u0022\u005c\t"]"#;
    check(kept, Layout::Kept, Escapes::Least, kept);
}

#[test]
fn torn_json_does_no_harm() {
    let json = r#"{"a": [1, "\u00e9\ud83d\ude00"]}"#;
    for end in 0..json.len() {
        for escapes in [Escapes::Kept, Escapes::Least, Escapes::Ascii] {
            rewrite(json.get(..end).unwrap(), Layout::Spaced, escapes);
        }
    }
}
