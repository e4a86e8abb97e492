//! Requests that a provider sends to see who listens: answered by rule, never published.
//!
//! A rule says how to tell such a request (`match`, `one_of`, `has`, `absent`), what must hold so
//! that it is answered (`require`, the signature), and the answer. One that has all the marks and
//! lacks what is required is refused with 403; any other goes its way as an event.

mod confirm;
pub mod enrolment;
mod reply;

use std::collections::BTreeMap;

use http::{HeaderMap, Method};
use subtle::ConstantTimeEq as _;

use crate::config::locate::is_secret_key;
use crate::config::problem::Problem;
use crate::config::raw::RawHandshake;
use crate::delivery::Coverage;
use crate::pipeline::arrival::{Head, Inbound};
use crate::pipeline::decode::{Kind, kind_of};
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::expr::{Found, Place};
use crate::pipeline::handshake::confirm::Confirm;
use crate::pipeline::handshake::reply::ReplyTemplate;
use crate::pipeline::verify::words::config_value;
use crate::pipeline::verify::{Context, Verified, Verifier};
use crate::reject::Reject;

pub use confirm::Unconfirmed;

/// Longest value of a request that is echoed, in bytes. A request with a longer one is no
/// handshake.
pub const ECHO_BYTES_MAX: usize = 512;

/// A compiled rule.
#[derive(Debug)]
pub struct Handshake {
    method: Option<Method>,
    path: Option<String>,
    equals: Vec<(Place, String)>,
    one_of: Vec<(Place, Vec<String>)>,
    has: Vec<Place>,
    absent: Vec<Place>,
    require: Vec<(Place, String)>,
    capture: Option<Place>,
    needs_proof: bool,
    reply: ReplyTemplate,
    confirm: Option<Confirm>,
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
    /// More header fields, none that belongs to the connection or that the edge writes itself.
    pub headers: HeaderMap,
    /// Body; always empty for HEAD.
    pub body: String,
}

impl HandshakeReply {
    /// The same, with nothing said in it.
    #[must_use]
    pub fn without_body(self) -> Self {
        Self {
            body: String::new(),
            ..self
        }
    }
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
        let equals = pairs("match", &raw.equals, context.config, &mut problems);
        let one_of = pairs("one_of", &raw.one_of, context.config, &mut problems)
            .into_iter()
            .map(|(place, list)| (place, words(&list)))
            .collect();
        let has = places("has", &raw.has, &mut problems);
        let absent = places("absent", &raw.absent, &mut problems);
        let require = pairs("require", &raw.require, context.config, &mut problems);
        if raw.method.is_none()
            && raw.equals.is_empty()
            && raw.one_of.is_empty()
            && raw.has.is_empty()
        {
            let problem = Problem::error(&["match"], "every request would be this handshake");
            problems.push(problem.help("say how to tell it: `method`, `match`, `one_of` or `has`"));
        }
        let needs_proof = raw.verify.unwrap_or(true);
        let capture = raw
            .capture
            .as_deref()
            .and_then(|text| capture(text, needs_proof, &mut problems));
        if raw.path.is_some() && (needs_proof || method.is_none()) {
            let what = "a rule with a `path` of its own needs a `method` and `verify = false`";
            let problem = Problem::error(&["path"], what);
            problems.push(problem.help("events, and what proves them, come to the source's path"));
        }
        let reply = match ReplyTemplate::compile(&raw.reply, context, verifier) {
            Ok(reply) => Some(reply),
            Err(wrong) => {
                problems.extend(wrong.into_iter().map(|problem| problem.under(&["reply"])));
                None
            }
        };
        let confirm = raw.confirm.as_ref();
        let confirm = confirm.map(|raw| Confirm::compile(raw, needs_proof));
        let confirm = confirm.transpose().unwrap_or_else(|wrong| {
            problems.extend(wrong);
            None
        });
        match reply {
            Some(reply) if problems.is_empty() => Ok(Self {
                method,
                path: raw.path.clone(),
                equals,
                one_of,
                has,
                absent,
                require,
                capture,
                needs_proof,
                reply,
                confirm,
                marks: marks(raw),
            }),
            _ => Err(problems),
        }
    }

    /// Whether the signature must hold before the answer is given.
    pub fn needs_proof(&self) -> bool {
        self.needs_proof
    }

    /// The path that this handshake comes to, where that is not the source's.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Whether it brings the secret that events are signed with.
    pub fn captures(&self) -> bool {
        self.capture.is_some()
    }

    /// What a request must have to be this handshake, for a person: `method POST, json:/type = x`.
    pub fn marks(&self) -> &str {
        &self.marks
    }

    /// Whether the answer holds our signature.
    pub fn signs(&self) -> bool {
        self.reply.signs()
    }

    /// Whether strangers are answered with our signature on what they wrote.
    pub fn signs_for_strangers(&self) -> bool {
        !self.needs_proof && self.reply.signs()
    }

    /// The answer, if this request is the handshake and has what is required.
    pub fn answer(&self, inbound: &Inbound) -> Option<HandshakeReply> {
        let facts = self.recognise(inbound)?;
        if self.unmet(&facts).is_some() {
            return None;
        }
        let mut reply = self.reply.render(&facts)?;
        if inbound.head.method == Method::HEAD {
            reply.body.clear();
        }
        Some(reply)
    }

    /// Why this request is refused, though it is the handshake.
    pub fn refusal(&self, inbound: &Inbound) -> Option<Reject> {
        if self.require.is_empty() {
            return None;
        }
        let facts = self.recognise(inbound)?;
        let place = self.unmet(&facts)?;
        Some(Reject::HandshakeRefused(place.to_string()))
    }

    /// The request's values, if it has the marks.
    fn recognise<'a>(&self, inbound: &'a Inbound) -> Option<Facts<'a>> {
        // Any text can be read as a form: an event must not pass for a handshake because a text in
        // it looks like a field.
        if self.wants_form() && !kind_of(&inbound.head.headers).is_some_and(Kind::is_form) {
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
        let one_of = |(place, values): &(Place, Vec<String>)| {
            values.iter().any(|value| holds(&facts, place, value))
        };
        let is_there = |place: &Place| matches!(facts.find(place), Ok(Found::Once(_)));
        let is_absent = |place: &Place| facts.is_there(place) == Ok(false);
        let equals = |(place, value): &(Place, String)| holds(&facts, place, value);
        let matches = self.equals.iter().all(equals)
            && self.one_of.iter().all(one_of)
            && self.absent.iter().all(is_absent)
            && self.has.iter().all(is_there);
        matches.then_some(facts)
    }

    /// The first place that does not hold what is required of it.
    fn unmet(&self, facts: &Facts<'_>) -> Option<&Place> {
        let mut required = self.require.iter();
        let unmet = required.find(|(place, value)| !holds(facts, place, value));
        unmet.map(|(place, _)| place)
    }

    fn wants_form(&self) -> bool {
        let equals = self.equals.iter().chain(&self.require);
        let mut places = equals
            .map(|(place, _)| place)
            .chain(self.one_of.iter().map(|(place, _)| place))
            .chain(self.has.iter().chain(&self.absent).chain(&self.capture));
        places.any(|place| matches!(place, Place::Form(_)))
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

/// Whether exactly this stands there, and once. How long it takes tells nothing of the value.
fn holds(facts: &Facts<'_>, place: &Place, value: &str) -> bool {
    match facts.find(place) {
        Ok(Found::Once(found)) => bool::from(found.ct_eq(value.as_bytes())),
        Ok(Found::Absent | Found::Twice) | Err(_) => false,
    }
}

// === compiling the parts ===

fn pairs(
    key: &str,
    raw: &BTreeMap<String, String>,
    config: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> Vec<(Place, String)> {
    let mut pairs = Vec::new();
    for (place, value) in raw {
        let parsed = Place::parse(place).map_err(Problem::from);
        match parsed.and_then(|place| Ok((place, constant(value, config)?))) {
            Ok(pair) => pairs.push(pair),
            Err(problem) => problems.push(problem.under(&[key, place])),
        }
    }
    pairs
}

fn places(key: &str, raw: &[String], problems: &mut Vec<Problem>) -> Vec<Place> {
    let mut places = Vec::new();
    for (position, place) in raw.iter().enumerate() {
        match Place::parse(place) {
            Ok(place) => places.push(place),
            Err(what) => problems.push(Problem::error(&[key, &position.to_string()], what)),
        }
    }
    places
}

/// Where the secret stands. Never in the query: queries end up in logs on the way.
fn capture(text: &str, needs_proof: bool, problems: &mut Vec<Problem>) -> Option<Place> {
    if needs_proof {
        let problem = Problem::error(
            &["capture"],
            "nothing can be proved before there is a secret",
        );
        problems.push(problem.help("write `verify = false`; only an open window lets it in"));
    }
    match Place::parse(text) {
        Ok(Place::Query(_)) => {
            let what = format!("`{text}` would show the secret in every log on the way");
            let problem = Problem::error(&["capture"], what);
            problems.push(problem.help("write header:NAME, form:NAME or json:/pointer"));
            None
        }
        Ok(place) => Some(place),
        Err(what) => {
            problems.push(Problem::error(&["capture"], what));
            None
        }
    }
}

/// A list in one text: separated by commas, spaces or both.
fn words(list: &str) -> Vec<String> {
    let words = list.split([',', ' ']).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// What a request must have to be this handshake, in the words of the rule.
fn marks(raw: &RawHandshake) -> String {
    let method = raw.method.iter().map(|method| format!("method {method}"));
    let path = raw.path.iter().map(|path| format!("path {path}"));
    let equals = raw.equals.iter().map(|(place, value)| {
        // What stands under such a name may be a shared word, which nobody is told.
        if is_secret_key(place) {
            format!("{place} as configured")
        } else {
            format!("{place} = {value}")
        }
    });
    let one_of = raw.one_of.keys();
    let one_of = one_of.map(|place| format!("{place} one of those configured"));
    let has = raw.has.iter().map(|place| format!("with {place}"));
    let absent = raw.absent.iter().map(|place| format!("without {place}"));
    let required = raw.require.keys();
    let required = required.map(|place| format!("{place} as required"));
    let marks: Vec<String> = method
        .chain(path)
        .chain(equals)
        .chain(one_of)
        .chain(has)
        .chain(absent)
        .chain(required)
        .collect();
    marks.join(", ")
}

// === the rules of a source ===

/// The rules for a path: where a rule has this one for its own, such rules alone.
fn at<'a>(rules: &'a [Handshake], path: &'a str) -> impl Iterator<Item = &'a Handshake> {
    let is_own = is_own_path(rules, path);
    rules.iter().filter(move |rule| {
        let own = rule.path.as_deref();
        if is_own {
            own == Some(path)
        } else {
            own.is_none()
        }
    })
}

/// Whether this is the path of handshakes only, to which no event comes.
pub fn is_own_path(rules: &[Handshake], path: &str) -> bool {
    rules.iter().any(|rule| rule.path.as_deref() == Some(path))
}

/// Whether a request may come in with this method: one that brings events, or one that a rule
/// asks for.
///
/// # Errors
///
/// [`Reject::MethodNotAllowed`] with all that may.
pub fn admit(events: &[Method], rules: &[Handshake], head: &Head) -> Result<(), Reject> {
    let takes_events = !is_own_path(rules, &head.path);
    if takes_events && events.contains(&head.method) {
        return Ok(());
    }
    let of_rules = || at(rules, &head.path).filter_map(|rule| rule.method.as_ref());
    if of_rules().any(|method| *method == head.method) {
        return Ok(());
    }
    let mut allowed: Vec<Method> = Vec::new();
    let events = if takes_events { events } else { &[] };
    for method in events.iter().chain(of_rules()) {
        if !allowed.contains(method) {
            allowed.push(method.clone());
        }
    }
    Err(Reject::MethodNotAllowed(allowed))
}

/// The first answer of a source's rules that need no proof.
///
/// # Errors
///
/// A handshake without what is required; and a request that can be nothing else than a handshake
/// and was none, so that nobody has to look at its signature.
pub fn answer_anybody(
    events: &[Method],
    rules: &[Handshake],
    inbound: &Inbound,
) -> Result<Option<HandshakeReply>, Reject> {
    let head = &inbound.head;
    let open = || at(rules, &head.path).filter(|rule| !rule.needs_proof && rule.capture.is_none());
    if let Some(reply) = open().find_map(|rule| rule.answer(inbound)) {
        return Ok(Some(reply));
    }
    if let Some(refusal) = open().find_map(|rule| rule.refusal(inbound)) {
        return Err(refusal);
    }
    if is_own_path(rules, &head.path) {
        return Err(Reject::NoSuchPath);
    }
    let comes_with = |rule: &Handshake| rule.method.as_ref().is_none_or(|it| *it == head.method);
    let is_hopeful = events.contains(&head.method)
        || at(rules, &head.path).any(|rule| rule.needs_proof && comes_with(rule));
    if is_hopeful {
        Ok(None)
    } else {
        Err(Reject::MethodNotAllowed(events.to_vec()))
    }
}

/// The first answer of the rules that need proof, and the rule. A request that was let through without one
/// (`enforce = false`) is never answered with a signature: the sender could choose a text that is
/// an event, and present it later.
///
/// # Errors
///
/// A handshake without what is required.
pub fn answer_verified<'a>(
    rules: &'a [Handshake],
    verified: &'a Verified,
) -> Result<Option<(&'a Handshake, HandshakeReply)>, Reject> {
    let is_proved = verified.proof.coverage != Coverage::None;
    let inbound = &verified.inbound;
    let proved = || {
        at(rules, &inbound.head.path)
            .filter(|rule| rule.needs_proof && (is_proved || !rule.reply.signs()))
    };
    let answer = |rule: &'a Handshake| Some((rule, rule.answer(inbound)?));
    if let Some(answered) = proved().find_map(answer) {
        return Ok(Some(answered));
    }
    proved()
        .find_map(|rule| rule.refusal(inbound))
        .map_or(Ok(None), Err)
}

fn is_plain(value: &str) -> bool {
    value
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// A value as written, or `{config:NAME}`.
fn constant(value: &str, config: &BTreeMap<String, String>) -> Result<String, Problem> {
    match value
        .strip_prefix("{config:")
        .and_then(|rest| rest.strip_suffix('}'))
    {
        None => Ok(value.to_owned()),
        Some(name) => config_value(config, name).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests;
