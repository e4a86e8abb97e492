//! JSON written again token by token: other white space, other escapes, the same members in the
//! same order with the same digits. Parsing it into values would lose all of that.

use std::iter::Peekable;
use std::str::Chars;

/// White space between tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// As it is.
    Kept,
    /// `{"a":1,"b":2}`
    Compact,
    /// `{"a": 1, "b": 2}`
    Spaced,
    /// By so many spaces.
    Indented(usize),
}

/// How strings are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escapes {
    /// As they are.
    Kept,
    /// Only what has to be escaped.
    Least,
    /// Also what means something in HTML or ends a line in JavaScript, as `\u003c`.
    Html,
    /// Also what is not ASCII, as `\u00e9`.
    Ascii,
    /// The same with capitals, as `\u00E9`.
    AsciiCapitals,
    /// The same, and `/` as `\/`.
    AsciiAndSlash,
}

/// Valid JSON, written otherwise.
pub(super) fn rewrite(json: &str, layout: Layout, escapes: Escapes) -> String {
    let mut out = String::with_capacity(json.len());
    let mut depth = 0_usize;
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => string(&mut chars, escapes, &mut out),
            c if layout == Layout::Kept => out.push(c),
            c if is_space(c) => {}
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|next| is_space(*next)).is_some() {}
                if chars.peek().is_some_and(|next| !matches!(next, '}' | ']')) {
                    depth += 1;
                    layout.break_line(&mut out, depth);
                } else {
                    out.extend(chars.next());
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                layout.break_line(&mut out, depth);
                out.push(c);
            }
            ',' if layout == Layout::Spaced => out.push_str(", "),
            ',' => {
                out.push(',');
                layout.break_line(&mut out, depth);
            }
            ':' if layout == Layout::Compact => out.push(':'),
            ':' => out.push_str(": "),
            c => out.push(c),
        }
    }
    out
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

impl Layout {
    fn break_line(self, out: &mut String, depth: usize) {
        if let Self::Indented(spaces) = self {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', depth.saturating_mul(spaces)));
        }
    }
}

/// The rest of a string, from after its first quote.
fn string(chars: &mut Peekable<Chars<'_>>, escapes: Escapes, out: &mut String) {
    out.push('"');
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                out.push('"');
                return;
            }
            '\\' => escaped(chars, escapes, out),
            c => plain(c, escapes, out),
        }
    }
}

/// The rest of an escape, from after its backslash.
fn escaped(chars: &mut Peekable<Chars<'_>>, escapes: Escapes, out: &mut String) {
    if escapes != Escapes::Kept {
        let mut ahead = chars.clone();
        let letter = match ahead.next() {
            Some('/') => Some('/'),
            Some('u') => code_point(&mut ahead).filter(|c| is_free(*c)),
            _ => None,
        };
        if let Some(letter) = letter {
            *chars = ahead;
            plain(letter, escapes, out);
            return;
        }
    }
    out.push('\\');
    out.extend(chars.next());
}

/// Whether a character may stand in a string without an escape (RFC 8259, section 7).
fn is_free(c: char) -> bool {
    !matches!(c, '"' | '\\' | '\0'..='\u{1f}')
}

/// A character that may stand as it is.
fn plain(c: char, escapes: Escapes, out: &mut String) {
    match (escapes, c) {
        (Escapes::Html, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') => unicode(c, escapes, out),
        (Escapes::Kept | Escapes::Least | Escapes::Html, c) => out.push(c),
        (Escapes::AsciiAndSlash, '/') => out.push_str("\\/"),
        (_, c) if c.is_ascii() => out.push(c),
        (_, c) => unicode(c, escapes, out),
    }
}

/// `\uXXXX`, once or twice.
fn unicode(c: char, escapes: Escapes, out: &mut String) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        out.push_str("\\u");
        let digits = [12, 8, 4, 0].map(|shift| u32::from(*unit >> shift) & 0xf);
        let digits = digits.into_iter().filter_map(|it| char::from_digit(it, 16));
        out.extend(digits.map(|digit| match escapes {
            Escapes::AsciiCapitals => digit.to_ascii_uppercase(),
            _ => digit,
        }));
    }
}

/// The character of `\uXXXX`, or of two that are a surrogate pair; from after the first `u`.
fn code_point(chars: &mut Peekable<Chars<'_>>) -> Option<char> {
    let first = unit(chars)?;
    if let Some(c) = char::from_u32(u32::from(first)) {
        return Some(c);
    }
    let is_pair = chars.next() == Some('\\') && chars.next() == Some('u');
    let second = is_pair.then(|| unit(chars)).flatten()?;
    char::decode_utf16([first, second]).next()?.ok()
}

/// Four hexadecimal digits.
fn unit(chars: &mut Peekable<Chars<'_>>) -> Option<u16> {
    let mut unit = 0_u16;
    for _ in 0..4 {
        let digit = u16::try_from(chars.next()?.to_digit(16)?).ok()?;
        unit = unit.checked_mul(16)?.checked_add(digit)?;
    }
    Some(unit)
}

#[cfg(test)]
mod tests;
