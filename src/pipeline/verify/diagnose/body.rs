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

const ESCAPES: [(Escapes, &str); 5] = [
    (Escapes::Kept, ""),
    (
        Escapes::Least,
        "not escaped (no `\\uXXXX` for what is not ASCII, no `\\/`)",
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
        .chain(rewritten(facts))
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
    let trimmed = Some(body.trim_ascii_end()).filter(|trimmed| trimmed.len() != body.len());
    let trimmed = trimmed.map(|trimmed| {
        let what = "without the newline at the end of the body: an editor or `curl --data @file` \
                    added or kept it";
        (what.to_owned(), Cow::Borrowed(trimmed))
    });
    let longer = ["\n", "\r\n"].into_iter().map(move |end| {
        let what = "with a newline at the end of the body, which got lost";
        (what.to_owned(), [body, end.as_bytes()].concat().into())
    });
    trimmed.into_iter().chain(longer)
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
