use super::*;

fn at(text: &str, span: Range<usize>) -> Diagnostic {
    let place = Place::new("x.toml".to_owned(), text, span);
    Diagnostic {
        problem: Problem::error(&["b"], "it is wrong"),
        place: Some(place),
    }
}

#[test]
fn columns_count_characters() {
    let text = "a = 1\n\u{e9} = \u{4e2d}x\nc = 3\n";
    let start = text.find('x').unwrap();
    let shown = at(text, start..start + 1);
    let snippet = shown.place.as_ref().unwrap().snippet.as_ref().unwrap();
    assert_eq!((snippet.line, snippet.column), (2, 6));
    assert_eq!(snippet.text.get(snippet.span.clone()), Some("x"));
    assert!(shown.to_string().contains("x.toml:2:6"), "{shown}");
}

#[test]
fn of_a_long_value_the_first_line_is_shown() {
    let text = "a = [\n  1,\n]\n";
    let shown = at(text, 4..text.len() - 1);
    let snippet = shown.place.unwrap().snippet.unwrap();
    assert_eq!(
        (snippet.line, snippet.text.get(snippet.span.clone())),
        (1, Some("["))
    );
}

#[test]
fn the_end_of_a_file_is_a_place() {
    for text in ["", "a", "a\n"] {
        let shown = at(text, text.len()..text.len()).to_string();
        assert!(shown.starts_with("error: it is wrong"), "{shown}");
    }
}

#[test]
fn a_span_that_is_not_in_the_text_has_no_line() {
    assert_eq!(at("a", 5..9).place.unwrap().snippet, None);
    assert_eq!(at("\u{e9}", 1..2).place.unwrap().snippet, None);
}

#[test]
fn a_long_help_is_wrapped() {
    let wrapped = wrap(&"word ".repeat(100));
    assert!(
        wrapped
            .lines()
            .all(|line| line.chars().count() <= HELP_CHARS_MAX)
    );
    assert_eq!(wrapped.split_whitespace().count(), 100);
    assert_eq!(wrap("a b"), "a b");
}
