//! What is signed: `signed = "{timestamp}.{body}"`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use crate::config::problem::Problem;
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::expr::{Found, Place};
use crate::pipeline::verify::refusal::Refusal;
use crate::pipeline::verify::sns;
use crate::pipeline::verify::words::{config_value, did_you_mean};

/// A compiled template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

/// One piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Literal(String),
    Body,
    /// CRC-32 (IEEE) of the body, in decimal.
    BodyCrc32,
    /// SHA-256 of the body, in lower-case hex.
    BodySha256Hex,
    Timestamp,
    Method,
    /// The configured URL with the request's query.
    Url(UrlForm),
    Secret,
    /// Every form field, sorted by name, names and values without separators; a value that
    /// repeats under one name counts once.
    FormSorted,
    /// What Amazon SNS signs.
    Sns,
    /// Values, sorted by their bytes.
    Sort(Vec<Self>),
    Value {
        place: Place,
        optional: bool,
    },
}

/// How the URL is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UrlForm {
    AsIs,
    /// With the escapes undone that HubSpot undoes before it signs.
    HubSpot,
}

/// What a template can ask for.
#[derive(Debug)]
pub(super) struct Given<'a> {
    pub(super) facts: &'a Facts<'a>,
    pub(super) timestamp: Option<&'a [u8]>,
    pub(super) secret: &'a [u8],
    pub(super) url: Option<&'a str>,
}

const WORDS: [&str; 15] = [
    "body",
    "body|crc32",
    "body|sha256hex",
    "timestamp",
    "method",
    "url",
    "url|hubspot",
    "secret",
    "form_sorted",
    "sort(a,b)",
    "header:NAME",
    "query:NAME",
    "form:NAME",
    "json:/pointer",
    "config:NAME",
];

impl Template {
    /// What Amazon SNS signs, which no text describes.
    pub(super) fn sns() -> Self {
        Self(vec![Part::Sns])
    }

    /// Compiles a template. `{{` and `}}` stand for braces.
    pub(super) fn parse(text: &str, config: &BTreeMap<String, String>) -> Result<Self, Problem> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
            literal.push_str(before);
            if let Some(tail) = from.strip_prefix("{{") {
                literal.push('{');
                rest = tail;
            } else if let Some(tail) = from.strip_prefix("}}") {
                literal.push('}');
                rest = tail;
            } else if let Some((word, tail)) =
                from.strip_prefix('{').and_then(|from| from.split_once('}'))
            {
                match part(word, config)? {
                    // A constant is as good as text that was written there.
                    Part::Literal(value) => literal.push_str(&value),
                    part => {
                        push_literal(&mut parts, &mut literal);
                        parts.push(part);
                    }
                }
                rest = tail;
            } else if from.starts_with('{') {
                let what = "a `{` without its `}`; a brace itself is written `{{`";
                return Err(Problem::here(what));
            } else {
                let what = "a `}` without its `{`; a brace itself is written `}}`";
                return Err(Problem::here(what));
            }
        }
        literal.push_str(rest);
        push_literal(&mut parts, &mut literal);
        Ok(Self(parts))
    }

    /// Whether a part, also inside `sort(...)`, satisfies `test`.
    pub(super) fn any(&self, test: impl Fn(&Part) -> bool) -> bool {
        self.parts().any(test)
    }

    /// Its parts in their order, `sort(...)` as one.
    pub(super) fn top(&self) -> &[Part] {
        &self.0
    }

    /// Its parts, those inside `sort(...)` too.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.0.iter().flat_map(|part| match part {
            Part::Sort(parts) => parts.as_slice(),
            part => std::slice::from_ref(part),
        })
    }

    /// Whether what stands at a place cannot be changed without changing the text.
    pub(super) fn covers(&self, place: &Place) -> bool {
        self.any(|part| match (part, place) {
            (Part::Value { place: value, .. }, place) if value == place => true,
            (Part::Body | Part::BodySha256Hex, Place::Json(_) | Place::Form(_)) => true,
            (Part::FormSorted, Place::Form(_)) => true,
            (Part::Sns, Place::Json(pointer)) => sns::covers(pointer),
            (Part::Url(_), Place::Query(_)) => true,
            _ => false,
        })
    }

    /// Two neighbours between which nothing marks the border: cut elsewhere, the same text is
    /// that of other values. A header or query value may not hold the text that follows it, see
    /// [`ensure_apart`]; values from the body may.
    pub(super) fn loose_border(&self) -> Option<(String, String)> {
        let mut before: Option<&Part> = None;
        for part in &self.0 {
            if let Part::Sort(parts) = part {
                let mut names = parts.iter().filter_map(Part::free);
                if let (Some(one), Some(other)) = (names.next(), names.next()) {
                    return Some((one, other));
                }
            }
            match (before.and_then(Part::free), part.free()) {
                (Some(before), Some(after)) => return Some((before, after)),
                (None, Some(_)) => before = Some(part),
                // What has a shape of its own is a border, and text is one for who may not hold
                // it.
                (_, None) => before = before.filter(|before| before.may_hold(part)),
            }
        }
        None
    }

    /// Feeds the text to `sink`, piece by piece; the body is never copied.
    pub(super) fn feed(
        &self,
        given: &Given<'_>,
        mut sink: impl FnMut(&[u8]),
    ) -> Result<(), Refusal> {
        let mut parts = self.0.iter().peekable();
        while let Some(part) = parts.next() {
            match part {
                Part::Body => sink(given.facts.body),
                Part::Value {
                    place: Place::Header(_) | Place::Query(_),
                    ..
                } => {
                    let text = part.text(given)?;
                    if let Some(Part::Literal(border)) = parts.peek() {
                        ensure_apart(part, &text, border)?;
                    }
                    sink(&text);
                }
                part => sink(&part.text(given)?),
            }
        }
        Ok(())
    }

    /// The text, where it is the same for every request: literals and the configured URL.
    pub(super) fn constant(&self, url: Option<&str>) -> Option<String> {
        let texts = self.0.iter().map(|part| match part {
            Part::Literal(text) => Some(text.as_str()),
            Part::Url(UrlForm::AsIs) => url,
            _ => None,
        });
        texts.collect()
    }

    /// The text as a whole, for what is small.
    pub(super) fn render(&self, given: &Given<'_>) -> Result<Vec<u8>, Refusal> {
        let mut text = Vec::new();
        self.feed(given, |piece| text.extend_from_slice(piece))?;
        Ok(text)
    }
}

fn push_literal(parts: &mut Vec<Part>, literal: &mut String) {
    if !literal.is_empty() {
        parts.push(Part::Literal(std::mem::take(literal)));
    }
}

fn part(word: &str, config: &BTreeMap<String, String>) -> Result<Part, Problem> {
    Ok(match word {
        "body" => Part::Body,
        "body|crc32" => Part::BodyCrc32,
        "body|sha256hex" => Part::BodySha256Hex,
        "timestamp" => Part::Timestamp,
        "method" => Part::Method,
        "url" => Part::Url(UrlForm::AsIs),
        "url|hubspot" => Part::Url(UrlForm::HubSpot),
        "secret" => Part::Secret,
        "form_sorted" => Part::FormSorted,
        _ => return part_with_argument(word, config),
    })
}

fn part_with_argument(word: &str, config: &BTreeMap<String, String>) -> Result<Part, Problem> {
    if let Some(list) = word
        .strip_prefix("sort(")
        .and_then(|list| list.strip_suffix(')'))
    {
        let items = list.split(',').map(|item| part(item.trim(), config));
        return items.collect::<Result<_, _>>().map(Part::Sort);
    }
    if let Some(name) = word.strip_prefix("config:") {
        return config_value(config, name).map(|value| Part::Literal(value.to_owned()));
    }
    let (expression, optional) = match word.strip_suffix('?') {
        Some(expression) => (expression, true),
        None => (word, false),
    };
    if !expression.contains(':') {
        let help = did_you_mean(word, &WORDS);
        return Err(Problem::here(format!("`{{{word}}}` is not known; {help}")));
    }
    let place = Place::parse(expression)?;
    Ok(Part::Value { place, optional })
}

impl Part {
    /// What it is called, if it is a text of any length that a sender chooses.
    fn free(&self) -> Option<String> {
        match self {
            Self::Body => Some("the body".to_owned()),
            Self::Url(_) => Some("the query".to_owned()),
            Self::FormSorted => Some("the form".to_owned()),
            Self::Value { place, .. } => Some(place.to_string()),
            Self::Literal(_)
            | Self::BodyCrc32
            | Self::BodySha256Hex
            | Self::Timestamp
            | Self::Method
            | Self::Secret
            | Self::Sns
            | Self::Sort(_) => None,
        }
    }

    /// Whether it may hold the text that is to set it apart from what follows.
    fn may_hold(&self, border: &Self) -> bool {
        let is_text = matches!(border, Self::Literal(_));
        let from_body = matches!(
            self,
            Self::Value {
                place: Place::Form(_) | Place::Json(_),
                ..
            }
        );
        is_text && from_body
    }

    fn text<'a>(&'a self, given: &'a Given<'_>) -> Result<Cow<'a, [u8]>, Refusal> {
        Ok(match self {
            Self::Literal(text) => Cow::Borrowed(text.as_bytes()),
            Self::Body => Cow::Borrowed(given.facts.body),
            Self::BodyCrc32 => Cow::Owned(crc32(given.facts.body).to_string().into_bytes()),
            Self::BodySha256Hex => {
                Cow::Owned(hex::encode(Sha256::digest(given.facts.body)).into_bytes())
            }
            Self::Timestamp => Cow::Borrowed(given.timestamp.unwrap_or_default()),
            Self::Method => Cow::Borrowed(given.facts.head.method.as_str().as_bytes()),
            Self::Url(form) => Cow::Owned(form.url(given).into_bytes()),
            Self::Secret => Cow::Borrowed(given.secret),
            Self::Sns => Cow::Owned(sns::text(given.facts)?),
            Self::FormSorted => Cow::Owned(form_sorted(given.facts.form()?)),
            Self::Sort(parts) => {
                let texts = parts.iter().map(|part| part.text(given));
                let mut texts = texts.collect::<Result<Vec<_>, _>>()?;
                texts.sort_unstable();
                Cow::Owned(texts.concat())
            }
            Self::Value { place, optional } => match given.facts.find(place)? {
                Found::Once(text) => text,
                Found::Absent if *optional => Cow::Borrowed(b"".as_slice()),
                Found::Absent => return Err(Refusal::FieldAbsent(place.to_string())),
                Found::Twice => return Err(Refusal::Ambiguous(place.to_string())),
            },
        })
    }
}

/// Refuses a value that holds the text by which it is set apart from the next one. Otherwise
/// `{header:id}.{timestamp}.{body}` of one genuine event could be cut at other places, and a part
/// of its body be passed off as an event with a fresh timestamp.
fn ensure_apart(part: &Part, text: &[u8], border: &str) -> Result<(), Refusal> {
    let holds_border = text
        .windows(border.len())
        .any(|window| window == border.as_bytes());
    match part {
        Part::Value { place, .. } if holds_border => Err(Refusal::FieldUnsafe(place.to_string())),
        _ => Ok(()),
    }
}

impl UrlForm {
    fn url(self, given: &Given<'_>) -> String {
        let mut url = given.url.unwrap_or_default().to_owned();
        if let Some(query) = &given.facts.head.query {
            url.push('?');
            url.push_str(query);
        }
        match self {
            Self::AsIs => url,
            Self::HubSpot => HUBSPOT_ESCAPES
                .iter()
                .fold(url, |url, (escape, character)| {
                    url.replace(escape, character)
                        .replace(&escape.to_ascii_lowercase(), character)
                }),
        }
    }
}

/// HubSpot's "validating requests" page, signature v3: undone before signing.
const HUBSPOT_ESCAPES: [(&str, &str); 12] = [
    ("%3A", ":"),
    ("%2F", "/"),
    ("%3F", "?"),
    ("%40", "@"),
    ("%21", "!"),
    ("%24", "$"),
    ("%27", "'"),
    ("%28", "("),
    ("%29", ")"),
    ("%2A", "*"),
    ("%2C", ","),
    ("%3B", ";"),
];

fn form_sorted(fields: &[(String, String)]) -> Vec<u8> {
    let fields: BTreeSet<(&str, &str)> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    fields.iter().fold(Vec::new(), |mut text, (name, value)| {
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(value.as_bytes());
        text
    })
}

/// CRC-32 as in IEEE 802.3 and zlib, bit by bit: it is used over bodies of a few kilobytes.
fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xEDB8_8320;
    let crc = bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ POLYNOMIAL
            } else {
                crc >> 1
            }
        })
    });
    !crc
}
