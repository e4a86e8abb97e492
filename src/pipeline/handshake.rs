//! Requests that a provider sends to see who listens: answered by rule, never published.

mod reply;

use std::collections::BTreeMap;

use http::Method;
use subtle::ConstantTimeEq as _;

use crate::config::locate::is_secret_key;
use crate::config::problem::Problem;
use crate::config::raw::RawHandshake;
use crate::delivery::Coverage;
use crate::pipeline::arrival::Inbound;
use crate::pipeline::decode::{Kind, kind_of};
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::expr::{Found, Place};
use crate::pipeline::handshake::reply::ReplyTemplate;
use crate::pipeline::verify::{Context, Verified, Verifier};

/// Longest value of a request that is echoed, in bytes. A request with a longer one is no
/// handshake.
pub const ECHO_BYTES_MAX: usize = 512;

/// A compiled rule.
#[derive(Debug)]
pub struct Handshake {
    method: Option<Method>,
    equals: Vec<(Place, String)>,
    has: Vec<Place>,
    needs_proof: bool,
    reply: ReplyTemplate,
    marks: String,
}

/// What a handshake is answered. The edge adds `X-Content-Type-Options: nosniff`, because the
/// body may repeat what a stranger wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeReply {
    /// 200 to 299.
    pub status: http::StatusCode,
    /// `Content-Type`.
    pub content_type: String,
    /// Body.
    pub body: String,
}

impl Handshake {
    /// Compiles a rule. `context` has what `{config:NAME}` asks for, `verifier` the secret that
    /// `{...|signed}` answers a challenge with.
    ///
    /// # Errors
    ///
    /// All mistakes, with paths relative to the rule.
    pub fn compile(
        raw: &RawHandshake,
        context: &Context<'_>,
        verifier: &Verifier,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let method = raw
            .method
            .as_deref()
            .and_then(|text| match Method::try_from(text) {
                Ok(method) => Some(method),
                Err(_) => {
                    problems.push(Problem::error(
                        &["method"],
                        format!("`{text}` is no method"),
                    ));
                    None
                }
            });
        let mut equals = Vec::new();
        for (place, value) in &raw.equals {
            match Place::parse(place)
                .and_then(|place| Ok((place, constant(value, context.config)?)))
            {
                Ok(pair) => equals.push(pair),
                Err(what) => problems.push(Problem::error(&["match", place], what)),
            }
        }
        let mut has = Vec::new();
        for (position, place) in raw.has.iter().enumerate() {
            match Place::parse(place) {
                Ok(place) => has.push(place),
                Err(what) => problems.push(Problem::error(&["has", &position.to_string()], what)),
            }
        }
        if raw.method.is_none() && raw.equals.is_empty() && raw.has.is_empty() {
            let problem = Problem::error(&["match"], "every request would be this handshake");
            problems.push(problem.help("say how to tell it: `method`, `match` or `has`"));
        }
        let reply = match ReplyTemplate::compile(&raw.reply, context.config, verifier) {
            Ok(reply) => Some(reply),
            Err(wrong) => {
                problems.extend(wrong.into_iter().map(|problem| problem.under(&["reply"])));
                None
            }
        };
        let needs_proof = raw.verify.unwrap_or(true);
        match reply {
            Some(reply) if problems.is_empty() => Ok(Self {
                method,
                equals,
                has,
                needs_proof,
                reply,
                marks: marks(raw),
            }),
            _ => Err(problems),
        }
    }

    /// Whether the signature must hold before the answer is given.
    pub fn needs_proof(&self) -> bool {
        self.needs_proof
    }

    /// What a request must have to be this handshake, for a person: `method POST, json:/type = x`.
    pub fn marks(&self) -> &str {
        &self.marks
    }

    /// Whether strangers are answered with our signature on what they wrote.
    pub fn signs_for_strangers(&self) -> bool {
        !self.needs_proof && self.reply.signs()
    }

    /// The answer, if this request is the handshake.
    pub fn answer(&self, inbound: &Inbound) -> Option<HandshakeReply> {
        // Any text can be read as a form: an event must not pass for a handshake because a text in
        // it looks like a field.
        let mut places = self.equals.iter().map(|(place, _)| place).chain(&self.has);
        let wants_form = places.any(|place| matches!(place, Place::Form(_)));
        if wants_form && kind_of(&inbound.head.headers) != Some(Kind::Form) {
            return None;
        }
        let is_other = self
            .method
            .as_ref()
            .is_some_and(|method| *method != inbound.head.method);
        if is_other || !self.may_match(&inbound.body) {
            return None;
        }
        let facts = Facts::of(inbound);
        let equals = |(place, value): &(Place, String)| match facts.find(place) {
            Ok(Found::Once(found)) => bool::from(found.ct_eq(value.as_bytes())),
            Ok(Found::Absent | Found::Twice) | Err(_) => false,
        };
        let is_there = |place: &Place| matches!(facts.find(place), Ok(Found::Once(_)));
        let matches = self.equals.iter().all(equals) && self.has.iter().all(is_there);
        if matches {
            self.reply.render(&facts)
        } else {
            None
        }
    }

    /// Whether it is worth decoding the body: every event of the source comes by here, and few
    /// are handshakes. Nobody writes the words that a rule looks for with JSON escapes.
    fn may_match(&self, body: &[u8]) -> bool {
        let mut wanted = self
            .equals
            .iter()
            .filter(|(place, _)| matches!(place, Place::Json(_)));
        match (wanted.next(), std::str::from_utf8(body)) {
            (None, _) => true,
            (Some(_), Err(_)) => false,
            (Some((_, value)), Ok(text)) => !is_plain(value) || text.contains(value.as_str()),
        }
    }
}

/// What a request must have to be this handshake, in the words of the rule.
fn marks(raw: &RawHandshake) -> String {
    let method = raw.method.iter().map(|method| format!("method {method}"));
    let equals = raw.equals.iter().map(|(place, value)| {
        // What stands under such a name may be a shared word, which nobody is told.
        if is_secret_key(place) {
            format!("{place} as configured")
        } else {
            format!("{place} = {value}")
        }
    });
    let has = raw.has.iter().map(|place| format!("with {place}"));
    let marks: Vec<String> = method.chain(equals).chain(has).collect();
    marks.join(", ")
}

/// The first answer of a source's rules that need no proof.
pub fn answer_anybody(rules: &[Handshake], inbound: &Inbound) -> Option<HandshakeReply> {
    rules
        .iter()
        .filter(|rule| !rule.needs_proof)
        .find_map(|rule| rule.answer(inbound))
}

/// The first answer of the rules that need proof. A request that was let through without one
/// (`enforce = false`) is never answered with a signature: the sender could choose a text that is
/// an event, and present it later.
pub fn answer_verified(rules: &[Handshake], verified: &Verified) -> Option<HandshakeReply> {
    let is_proved = verified.proof.coverage != Coverage::None;
    rules
        .iter()
        .filter(|rule| rule.needs_proof && (is_proved || !rule.reply.signs()))
        .find_map(|rule| rule.answer(&verified.inbound))
}

fn is_plain(value: &str) -> bool {
    value
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// A value as written, or `{config:NAME}`.
fn constant(value: &str, config: &BTreeMap<String, String>) -> Result<String, String> {
    match value
        .strip_prefix("{config:")
        .and_then(|rest| rest.strip_suffix('}'))
    {
        None => Ok(value.to_owned()),
        Some(name) => config
            .get(name)
            .cloned()
            .ok_or_else(|| format!("`{value}` asks for `{name}`, which `config` does not have")),
    }
}

#[cfg(test)]
mod tests;
