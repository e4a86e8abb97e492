//! From the path of a key to its place in a file, without showing the secrets that stand around it.

use std::cell::{OnceCell, RefCell};
use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::config::diagnostic::Place;
use crate::config::reader::At;

/// Keys of a secret reference that do not hold the secret itself.
const REFERENCE_KEYS: [&str; 4] = ["env", "file", "credential", "label"];

/// Longer words before a `=` may be anything, such as a part of a key in base64.
const KEY_BYTES_MAX: usize = 40;

/// What stands for a secret, or for a word of it. How long the secret is is nobody's business.
const MASK: &str = "******";

/// The text of one file.
#[derive(Debug)]
pub(crate) struct Text {
    /// Its path, as a person knows it.
    pub(crate) shown: String,
    /// The directory that relative paths in it start from.
    pub(crate) directory: PathBuf,
    /// What it holds.
    pub(crate) text: String,
}

/// One file, parsed as far as it can be.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    /// The file.
    pub(crate) source: &'a Text,
    /// Its tables, with the place of each key and value.
    pub(crate) root: Spanned<DeTable<'a>>,
    /// Where it is not TOML.
    pub(crate) errors: Vec<toml::de::Error>,
    /// What nobody knows the meaning of, and may be a secret.
    unknown: RefCell<Vec<Range<usize>>>,
    /// The text with its secrets masked, made when the first place is shown.
    masked: OnceCell<Masked>,
}

impl<'a> Document<'a> {
    /// Parses a file.
    pub(crate) fn parse(source: &'a Text) -> Self {
        let (root, errors) = DeTable::parse_recoverable(&source.text);
        Self {
            source,
            root,
            errors,
            unknown: RefCell::default(),
            masked: OnceCell::new(),
        }
    }

    /// Whether it is not TOML.
    pub(crate) fn is_broken(&self) -> bool {
        !self.errors.is_empty()
    }

    /// The place of a key; of the nearest one above it when it is not there.
    pub(crate) fn locate(&self, path: &[String], at: At) -> Option<Range<usize>> {
        let (key, value, whole) = self.find(path)?;
        if at == At::Unknown {
            value_secrets(value, true, &mut self.unknown.borrow_mut());
        }
        // A table under its own header is best shown by that header, not by all its lines.
        let by_key = at != At::Value || !whole;
        Some(if by_key && !value.get_ref().is_table() {
            key.span()
        } else {
            value.span()
        })
    }

    /// The nearest key with its value, and whether it is the one that was looked for.
    fn find(
        &self,
        path: &[String],
    ) -> Option<(&Spanned<DeString<'a>>, &Spanned<DeValue<'a>>, bool)> {
        let mut keys = path.iter();
        let first = keys.next()?;
        let (mut key, mut value) = self.root.get_ref().get_key_value(first.as_str())?;
        let mut whole = true;
        for step in keys {
            match value.get_ref() {
                DeValue::Table(table) => match table.get_key_value(step.as_str()) {
                    Some((inner_key, inner)) => (key, value) = (inner_key, inner),
                    None => whole = false,
                },
                DeValue::Array(array) => {
                    match step.parse().ok().and_then(|index: usize| array.get(index)) {
                        Some(inner) => value = inner,
                        None => whole = false,
                    }
                }
                DeValue::String(_)
                | DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                // One value may stand for a list of one.
                | DeValue::Datetime(_) => whole = step == "0",
            }
            if !whole {
                break;
            }
        }
        Some((key, value, whole))
    }

    /// The place of a key that an earlier one bears, too: its name, and the line of the first.
    /// Only for keys that begin a line, for headers and for words that we know; what else looks
    /// like a key may be a secret.
    pub(crate) fn duplicate(&self, span: &Range<usize>) -> Option<(String, Option<usize>)> {
        let text = &self.source.text;
        let before = text.get(..span.start)?;
        let key = text.get(span.clone())?;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = text.get(line_start..)?.lines().next()?;
        let is_header = line.trim_start().starts_with('[');
        let is_first = before.get(line_start..)?.trim().is_empty();
        let shown = line.get(..plain_bytes(line))?;
        if !(is_header || is_first) || span.end - line_start > shown.len() {
            let is_known = key == "value" || REFERENCE_KEYS.contains(&key);
            return is_known.then(|| (key.to_owned(), None));
        }
        let number = before.matches('\n').count();
        let earlier: Vec<&str> = text.lines().take(number).collect();
        let first = if is_header {
            earlier.iter().position(|other| other.trim() == line.trim())
        } else {
            self.first_in_table(key, &earlier)
        };
        Some((key.to_owned(), first.map(|index| index + 1)))
    }

    /// The line, counted from 0, where a key stands that would belong after these lines: in the
    /// same part of the file, or where its table began.
    fn first_in_table(&self, key: &str, earlier: &[&str]) -> Option<usize> {
        let header = earlier.iter().rposition(|line| line.starts_with('['));
        let own = earlier.get(header.map_or(0, |header| header + 1)..)?;
        let is_same = |line: &&str| line.split_once('=').is_some_and(|(it, _)| it.trim() == key);
        if let Some(index) = own.iter().position(is_same) {
            return Some(index + header.map_or(0, |header| header + 1));
        }
        let mut path = header_keys(earlier.get(header?)?);
        path.push(key.to_owned());
        let (found, _, whole) = self.find(&path)?;
        let before = self.source.text.get(..found.span().start)?;
        let line = before.matches('\n').count();
        (whole && line < earlier.len()).then_some(line)
    }

    /// A place that can be shown: one line, its secrets masked.
    pub(crate) fn place(&self, span: Option<Range<usize>>) -> Place {
        let Some(span) = span else {
            return Place {
                file: self.source.shown.clone(),
                snippet: None,
            };
        };
        let masked = self.masked.get_or_init(|| self.mask());
        Place::new(self.source.shown.clone(), &masked.text, masked.span(span))
    }

    /// The text with everything masked that is, or may be, a secret.
    fn mask(&self) -> Masked {
        let text = &self.source.text;
        if !self.errors.is_empty() {
            // What a broken file means is anybody's guess, so no value is shown.
            return mask(text, &guarded_spans(text), "\"'[]{},= \t\r\n");
        }
        let mut spans = self.unknown.borrow().clone();
        table_secrets(self.root.get_ref(), false, &mut spans);
        let inner: Vec<Range<usize>> = spans.into_iter().map(|it| undelimited(text, it)).collect();
        mask(text, &inner, "\r\n")
    }
}

fn table_secrets(table: &DeTable<'_>, in_secret: bool, spans: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        let key: &str = key.get_ref();
        let is_reference = in_secret && REFERENCE_KEYS.contains(&key);
        let is_secret = (in_secret || is_secret_key(key)) && !is_reference;
        value_secrets(value, is_secret, spans);
    }
}

fn value_secrets(value: &Spanned<DeValue<'_>>, in_secret: bool, spans: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => table_secrets(table, in_secret, spans),
        DeValue::Array(array) => {
            array
                .iter()
                .for_each(|item| value_secrets(item, in_secret, spans));
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {
            if in_secret {
                spans.push(value.span());
            }
        }
    }
}

/// Keys whose values are secrets, also where a user put them by mistake.
pub(crate) fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    matches!(key.as_str(), "value" | "url" | "urls")
        || ["secret", "token", "passw", "credential"]
            .iter()
            .any(|part| key.contains(part))
}

/// All of a broken file but what looks like a header or like the key of its line.
fn guarded_spans(text: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut open = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        match open {
            Some(delimiter) => {
                spans.push(start..end);
                if line.contains(delimiter) {
                    open = None;
                }
            }
            None => {
                spans.push(start + plain_bytes(line)..end);
                open = ["\"\"\"", "'''"]
                    .into_iter()
                    .find(|mark| line.matches(mark).count() == 1);
            }
        }
        start = end;
    }
    spans
}

/// How much of a line is no value for sure.
fn plain_bytes(line: &str) -> usize {
    let is_key = |byte: u8| byte.is_ascii_alphanumeric() || b"_-. ".contains(&byte);
    if line.starts_with('[')
        && line
            .trim_end()
            .bytes()
            .all(|byte| is_key(byte) || b"[]".contains(&byte))
    {
        return line.len();
    }
    match line.split_once('=') {
        Some((key, _)) if key.len() <= KEY_BYTES_MAX && key.bytes().all(is_key) => key.len() + 1,
        _ => 0,
    }
}

/// The keys of `[a.b]`, where they are bare.
fn header_keys(line: &str) -> Vec<String> {
    let inner = line
        .trim()
        .trim_start_matches('[')
        .split(']')
        .next()
        .unwrap_or_default();
    inner.split('.').map(|key| key.trim().to_owned()).collect()
}

/// A value without the quotes around it, which may be shown; those within may not.
fn undelimited(text: &str, span: Range<usize>) -> Range<usize> {
    let value = text.get(span.clone()).unwrap_or_default();
    for delimiter in ["\"\"\"", "'''", "\"", "'"] {
        let inner = value
            .strip_prefix(delimiter)
            .and_then(|rest| rest.strip_suffix(delimiter));
        if let Some(inner) = inner {
            let start = span.start + delimiter.len();
            return start..start + inner.len();
        }
    }
    span
}

/// A text without its secrets.
#[derive(Debug)]
struct Masked {
    text: String,
    /// What was masked, in the order of the text.
    runs: Vec<Run>,
}

/// Letters in a row that are masked: their bytes in the file, and those that stand for them.
#[derive(Debug)]
struct Run {
    original: Range<usize>,
    masked: Range<usize>,
}

impl Masked {
    /// A span of the file, in the masked text. What begins or ends within a secret holds all of it.
    fn span(&self, original: Range<usize>) -> Range<usize> {
        let start = self.offset(original.start, |run| run.masked.start);
        let end = self.offset(original.end, |run| run.masked.end);
        start..end.max(start)
    }

    fn offset(&self, original: usize, within: impl Fn(&Run) -> usize) -> usize {
        let before = self
            .runs
            .partition_point(|run| run.original.start < original);
        match before.checked_sub(1).and_then(|last| self.runs.get(last)) {
            None => original,
            Some(run) if original < run.original.end => within(run),
            Some(run) => run
                .masked
                .end
                .saturating_add(original.saturating_sub(run.original.end)),
        }
    }
}

/// The text with every letter of these spans masked, but for those shown: with the same lines.
fn mask(text: &str, spans: &[Range<usize>], shown: &str) -> Masked {
    let mut spans: Vec<&Range<usize>> = spans.iter().collect();
    spans.sort_by_key(|span| span.start);
    let mut spans = spans.into_iter().peekable();
    let mut masked = Masked {
        text: String::with_capacity(text.len()),
        runs: Vec::new(),
    };
    for (offset, letter) in text.char_indices() {
        while spans.next_if(|span| span.end <= offset).is_some() {}
        let hidden = spans.peek().is_some_and(|span| span.contains(&offset));
        if !hidden || shown.contains(letter) {
            masked.text.push(letter);
            continue;
        }
        let end = offset + letter.len_utf8();
        match masked.runs.last_mut() {
            Some(run) if run.original.end == offset => run.original.end = end,
            _ => {
                let start = masked.text.len();
                masked.text.push_str(MASK);
                masked.runs.push(Run {
                    original: offset..end,
                    masked: start..masked.text.len(),
                });
            }
        }
    }
    masked
}

#[cfg(test)]
mod tests;
