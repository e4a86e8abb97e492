//! How a body may have been changed between the sender's signing and us.

use std::borrow::Cow;

use super::Variant;
use super::rewrite::{Escapes, Layout, rewrite};
use crate::pipeline::expr::facts::Facts;

/// U+FEFF in UTF-8, which some editors put in front.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

const LAYOUTS: [(Layout, &str); 5] = [
    (Layout::Kept, ""),
    (Layout::Compact, "written without white space"),
    (
        Layout::Spaced,
        "written in one line with spaces after `,` and `:`",
    ),
    (Layout::Indented(2), "indented by 2"),
    (Layout::Indented(4), "indented by 4"),
];

const ESCAPES: [(Escapes, &str); 6] = [
    (Escapes::Kept, ""),
    (
        Escapes::Least,
        "not escaped (no `\\uXXXX` for what is not ASCII, no `\\/`)",
    ),
    (
        Escapes::Html,
        "escaped for HTML (`\\u003c`, as Go and Rails write it)",
    ),
    (Escapes::Ascii, "escaped to ASCII (`\\u00e9`)"),
    (Escapes::AsciiCapitals, "escaped to ASCII (`\\u00E9`)"),
    (
        Escapes::AsciiAndSlash,
        "escaped to ASCII (`\\u00e9`) and with `\\/`",
    ),
];

/// The bodies that the sender may have signed instead, in words that follow "it matches". Made
/// one at a time, because a body may be long.
pub(super) fn variants<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = Variant<'a>> {
    let marked = marked(facts.body);
    let ends = ends(facts.body);
    let lines = std::str::from_utf8(facts.body).ok().map(line_ends);
    marked
        .chain(ends)
        .chain(lines.into_iter().flatten())
        .chain(latin_1(facts.body))
        .chain(rewritten(facts))
        .chain(sorted(facts))
        .chain(forms(facts.body))
        .chain(payloads(facts))
}

fn marked(body: &[u8]) -> impl Iterator<Item = Variant<'_>> {
    let bare = body.strip_prefix(BYTE_ORDER_MARK);
    std::iter::once_with(move || match bare {
        Some(bare) => (
            "without the byte order mark (EF BB BF) in front of the body: an editor added it"
                .to_owned(),
            Cow::Borrowed(bare),
        ),
        None => (
            "with a byte order mark (EF BB BF) in front of the body, which got lost".to_owned(),
            [BYTE_ORDER_MARK, body].concat().into(),
        ),
    })
}

fn ends(body: &[u8]) -> impl Iterator<Item = Variant<'_>> {
    let one_less = body.strip_suffix(b"\n");
    let one_less = one_less.map(|body| body.strip_suffix(b"\r").unwrap_or(body));
    let shorter = [one_less, Some(body.trim_ascii_end())]
        .into_iter()
        .flatten();
    let shorter = shorter.filter(|shorter| shorter.len() != body.len());
    let shorter = shorter.map(|shorter| {
        let what = "without the newline at the end of the body: an editor or `curl --data @file` \
                    added or kept it";
        (what.to_owned(), Cow::Borrowed(shorter))
    });
    let longer = ["\n", "\r\n"].into_iter().map(move |end| {
        let what = "with a newline at the end of the body, which got lost";
        (what.to_owned(), [body, end.as_bytes()].concat().into())
    });
    shorter.chain(longer)
}

fn line_ends(text: &str) -> impl Iterator<Item = Variant<'_>> {
    let unix = move || text.replace("\r\n", "\n");
    let dos = move || unix().replace('\n', "\r\n");
    let bare = std::iter::once_with(move || {
        let what = "with LF line ends, but the body has CRLF";
        (what.to_owned(), unix().into_bytes().into())
    });
    bare.chain(std::iter::once_with(move || {
        let what = "with CRLF line ends, but the body has LF";
        (what.to_owned(), dos().into_bytes().into())
    }))
}

/// JSON in every layout with every way to write strings: who changes one often changes the other.
fn rewritten<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = Variant<'a>> {
    let bare = facts
        .body
        .strip_prefix(BYTE_ORDER_MARK)
        .unwrap_or(facts.body);
    // A value is nested 128 deep at most: indenting what is as deep as it is long would never end.
    let is_json = serde_json::from_slice::<serde_json::Value>(bare).is_ok();
    let text = std::str::from_utf8(bare).ok().filter(|_| is_json);
    text.into_iter().flat_map(|text| {
        LAYOUTS.into_iter().flat_map(move |(layout, laid)| {
            ESCAPES.into_iter().map(move |(escapes, escaped)| {
                let and = if laid.is_empty() || escaped.is_empty() {
                    ""
                } else {
                    " and "
                };
                let what = format!(
                    "with the JSON {laid}{and}{escaped}: something parsed the body and wrote it \
                     again"
                );
                (what, rewrite(text, layout, escapes).into_bytes().into())
            })
        })
    })
}

/// Each character as one byte, also where the bytes of UTF-8 were taken for characters.
fn latin_1(body: &[u8]) -> impl Iterator<Item = Variant<'_>> {
    let text = std::str::from_utf8(body)
        .ok()
        .filter(|text| !text.is_ascii());
    let bytes = text.and_then(|text| {
        let bytes = text.chars().map(|c| u8::try_from(u32::from(c)).ok());
        bytes.collect::<Option<Vec<u8>>>()
    });
    bytes.into_iter().map(|bytes| {
        let what = "with each character as one byte (ISO 8859-1): something changed the character \
                    encoding";
        (what.to_owned(), bytes.into())
    })
}

/// JSON with the members of every object in the order of their keys, as some sign it.
fn sorted<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = Variant<'a>> {
    let sorted = facts.json().ok().map(ToString::to_string);
    let layouts = [Layout::Compact, Layout::Spaced];
    sorted.into_iter().flat_map(move |sorted| {
        layouts.into_iter().flat_map(move |layout| {
            let sorted = sorted.clone();
            [Escapes::Least, Escapes::Ascii]
                .into_iter()
                .map(move |escapes| {
                    let what = "with the JSON's keys in alphabetical order";
                    let body = rewrite(&sorted, layout, escapes).into_bytes();
                    (what.to_owned(), body.into())
                })
        })
    })
}

/// A form with the same fields, written otherwise.
fn forms(body: &[u8]) -> impl Iterator<Item = Variant<'_>> {
    let text = std::str::from_utf8(body).ok();
    let text = text.filter(|text| text.contains('=') && !text.contains(char::is_whitespace));
    text.into_iter().flat_map(|text| {
        let again: String = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form_urlencoded::parse(text.as_bytes()))
            .finish();
        let others = [
            text.replace("%20", "+"),
            text.replace('+', "%20"),
            again.replace('+', "%20"),
            again,
        ];
        others.into_iter().map(|body| {
            let what = "with the form's escapes written otherwise (`+` or `%20`): something \
                        parsed the form and wrote it again";
            (what.to_owned(), body.into_bytes().into())
        })
    })
}

/// Whether JSON looks as if a program had written it again that sorts keys: what order they had is
/// lost, and with it any hope that the signature holds.
pub(super) fn written_again(facts: &Facts<'_>) -> Option<String> {
    const KEYS_MIN: usize = 4;
    let json = facts.json().ok()?;
    let text = std::str::from_utf8(facts.body).ok()?;
    let again = json.to_string();
    let is_sorted = rewrite(text, Layout::Compact, Escapes::Least)
        == rewrite(&again, Layout::Compact, Escapes::Least);
    (is_sorted && keys(json) >= KEYS_MIN).then(|| {
        "the keys of every object stand in alphabetical order, as a program writes them that \
         parsed the body: the order that was signed would be lost"
            .to_owned()
    })
}

/// How many members the objects of a value have.
fn keys(json: &serde_json::Value) -> usize {
    match json {
        serde_json::Value::Object(members) => {
            members.len() + members.values().map(keys).sum::<usize>()
        }
        serde_json::Value::Array(items) => items.iter().map(keys).sum(),
        _ => 0,
    }
}

fn payloads<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = Variant<'a>> {
    let fields = facts.form().into_iter().flat_map(|fields| fields.iter());
    fields
        .filter(|(name, _)| name == "payload")
        .map(|(_, value)| {
            let what = "for the form's `payload` field alone: the sender signs the field, not the \
                        body (`signed = \"{form:payload}\"`)";
            (what.to_owned(), Cow::Borrowed(value.as_bytes()))
        })
}
