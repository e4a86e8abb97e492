//! The answer's body: text with values of the request in it.

use std::collections::BTreeMap;

use http::StatusCode;

use crate::config::problem::Problem;
use crate::config::raw::RawReply;
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::expr::{Found, Place};
use crate::pipeline::handshake::{ECHO_BYTES_MAX, HandshakeReply, constant};
use crate::pipeline::verify::{ChallengeSigner, Verifier};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// What a placeholder begins with. Any other brace is text: the body is often JSON.
const PLACEHOLDERS: [&str; 5] = ["{json:", "{query:", "{header:", "{form:", "{config:"];

/// Ends a placeholder whose value is answered signed: Zoom, X.
const SIGNED: &str = "|signed";

/// A compiled `reply`.
#[derive(Debug)]
pub(super) struct ReplyTemplate {
    status: StatusCode,
    content_type: String,
    is_json: bool,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Literal(String),
    Echo(Place),
    Signed(Place, ChallengeSigner),
}

impl ReplyTemplate {
    pub(super) fn compile(
        raw: &RawReply,
        config: &BTreeMap<String, String>,
        verifier: &Verifier,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let code = raw.status.unwrap_or(200);
        let status = StatusCode::from_u16(code)
            .ok()
            .filter(StatusCode::is_success);
        if status.is_none() {
            let problem = Problem::error(&["status"], format!("{code} does not say yes"));
            problems.push(problem.help("write 200 to 299"));
        }
        let parts = parse(raw.body.as_deref().unwrap_or_default(), config, verifier);
        let parts = parts.unwrap_or_else(|what| {
            problems.push(Problem::error(&["body"], what));
            Vec::new()
        });
        let content_type = raw.content_type.clone().unwrap_or_else(|| TEXT.to_owned());
        let is_json = content_type.starts_with(JSON);
        let echoes = parts.iter().any(|part| !matches!(part, Part::Literal(_)));
        if echoes && !is_json && !content_type.starts_with("text/plain") {
            let what = format!("`{content_type}` could make a browser run what a stranger wrote");
            let problem = Problem::error(&["content_type"], what);
            problems.push(problem.help(format!("write `text/plain` or `{JSON}`")));
        }
        match status {
            Some(status) if problems.is_empty() => Ok(Self {
                status,
                content_type,
                is_json,
                parts,
            }),
            _ => Err(problems),
        }
    }

    /// Whether our signature is part of it.
    pub(super) fn signs(&self) -> bool {
        let mut parts = self.parts.iter();
        parts.any(|part| matches!(part, Part::Signed(..)))
    }

    /// `None` when a value is not there or cannot be repeated.
    pub(super) fn render(&self, facts: &Facts<'_>) -> Option<HandshakeReply> {
        let mut body = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => body.push_str(text),
                Part::Echo(place) => {
                    let value = short_text(facts, place)?;
                    body.push_str(&if self.is_json { escaped(&value) } else { value });
                }
                Part::Signed(place, signer) => {
                    body.push_str(&signer.sign(&short_text(facts, place)?)?);
                }
            }
        }
        Some(HandshakeReply {
            status: self.status,
            content_type: self.content_type.clone(),
            body,
        })
    }
}

fn short_text(facts: &Facts<'_>, place: &Place) -> Option<String> {
    match facts.find(place) {
        Ok(Found::Once(value)) if value.len() <= ECHO_BYTES_MAX => {
            std::str::from_utf8(&value).ok().map(str::to_owned)
        }
        Ok(Found::Once(_) | Found::Absent | Found::Twice) | Err(_) => None,
    }
}

/// As it stands between the quotes of a JSON string.
fn escaped(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    let inner = quoted
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or_default().to_owned()
}

fn parse(
    text: &str,
    config: &BTreeMap<String, String>,
    verifier: &Verifier,
) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let next = PLACEHOLDERS
            .iter()
            .filter_map(|placeholder| rest.find(placeholder))
            .min();
        let Some((literal, from)) = next.and_then(|next| rest.split_at_checked(next)) else {
            parts.push(Part::Literal(rest.to_owned()));
            return Ok(parts);
        };
        let Some((placeholder, tail)) = from.split_once('}') else {
            return Err(format!("`{from}` lacks its `}}`"));
        };
        parts.push(Part::Literal(literal.to_owned()));
        parts.push(part(placeholder, config, verifier)?);
        rest = tail;
    }
}

fn part(
    placeholder: &str,
    config: &BTreeMap<String, String>,
    verifier: &Verifier,
) -> Result<Part, String> {
    if placeholder.starts_with("{config:") {
        return constant(&format!("{placeholder}}}"), config).map(Part::Literal);
    }
    let expression = placeholder.trim_start_matches('{');
    match expression.strip_suffix(SIGNED) {
        None => Place::parse(expression).map(Part::Echo),
        Some(expression) => {
            let signer = verifier
                .challenge_signer()
                .ok_or("`|signed` needs a scheme that signs")?;
            Place::parse(expression).map(|place| Part::Signed(place, signer))
        }
    }
}
