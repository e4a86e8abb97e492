//! The answer: a status, header fields and a body, the latter two with values of the request.

use std::collections::BTreeMap;

use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sha2::{Digest as _, Sha256};

use crate::config::problem::Problem;
use crate::config::raw::RawReply;
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::expr::{Found, Place};
use crate::pipeline::handshake::{ECHO_BYTES_MAX, HandshakeReply, constant};
use crate::pipeline::verify::{ChallengeSigner, Context, Verifier};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// What a placeholder begins with. Any other brace is text: the body is often JSON.
const PLACEHOLDERS: [&str; 7] = [
    "{json:",
    "{query:",
    "{header:",
    "{form:",
    "{config:",
    "{hmac-",
    "{sha256-hex(",
];

/// Ends a placeholder whose value is answered signed as events are: Zoom, X, Braintree.
const SIGNED: &str = "|signed";

/// The function that needs no secret.
const SHA256_HEX: &str = "sha256-hex";

/// Fields that are the connection's (RFC 9110, section 7.6.1), that frame the answer, or that the
/// edge writes itself.
const HEADERS_TAKEN: [HeaderName; 16] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    CONTENT_LENGTH,
    HOST,
    CONTENT_TYPE,
    CACHE_CONTROL,
    DATE,
    HeaderName::from_static("x-request-id"),
    X_CONTENT_TYPE_OPTIONS,
];

/// A compiled `reply`.
#[derive(Debug)]
pub(super) struct ReplyTemplate {
    status: StatusCode,
    content_type: String,
    is_json: bool,
    headers: Vec<(HeaderName, Vec<Part>)>,
    body: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Literal(String),
    Echo(Place),
    Signed(Place, ChallengeSigner),
    /// SHA-256 in hex.
    Hashed(Place),
}

impl ReplyTemplate {
    pub(super) fn compile(
        raw: &RawReply,
        context: &Context<'_>,
        verifier: &Verifier,
    ) -> Result<Self, Vec<Problem>> {
        let parser = Parser { context, verifier };
        let mut problems = Vec::new();
        let code = raw.status.unwrap_or(200);
        let status = StatusCode::from_u16(code)
            .ok()
            .filter(StatusCode::is_success);
        if status.is_none() {
            let problem = Problem::error(&["status"], format!("{code} does not say yes"));
            problems.push(problem.help("write 200 to 299"));
        }
        let mut headers = Vec::new();
        for (name, template) in &raw.headers {
            let parsed = header_name(name).map_err(Problem::from);
            match parsed.and_then(|name| Ok((name, parser.parse(template)?))) {
                Ok(header) => headers.push(header),
                Err(problem) => problems.push(problem.under(&["headers", name])),
            }
        }
        let body = parser.parse(raw.body.as_deref().unwrap_or_default());
        let body = body.unwrap_or_else(|problem| {
            problems.push(problem.under(&["body"]));
            Vec::new()
        });
        let content_type = raw.content_type.clone().unwrap_or_else(|| TEXT.to_owned());
        let is_json = content_type.starts_with(JSON);
        let echoes = body.iter().any(|part| !matches!(part, Part::Literal(_)));
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
                headers,
                body,
            }),
            _ => Err(problems),
        }
    }

    /// Whether our signature is part of it.
    pub(super) fn signs(&self) -> bool {
        let of_headers = self.headers.iter().flat_map(|(_, parts)| parts);
        let mut parts = self.body.iter().chain(of_headers);
        parts.any(|part| matches!(part, Part::Signed(..)))
    }

    /// `None` when a value is not there or cannot be repeated.
    pub(super) fn render(&self, facts: &Facts<'_>) -> Option<HandshakeReply> {
        let mut headers = HeaderMap::new();
        for (name, parts) in &self.headers {
            let value = text(parts, facts, false).filter(|value| value.is_ascii())?;
            headers.insert(name, HeaderValue::from_str(&value).ok()?);
        }
        Some(HandshakeReply {
            status: self.status,
            content_type: self.content_type.clone(),
            headers,
            body: text(&self.body, facts, self.is_json)?,
        })
    }
}

/// The parts together; in JSON, values are written as they stand in a string.
fn text(parts: &[Part], facts: &Facts<'_>, is_json: bool) -> Option<String> {
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Literal(literal) => text.push_str(literal),
            Part::Echo(place) => {
                let value = short_text(facts, place)?;
                text.push_str(&if is_json { escaped(&value) } else { value });
            }
            Part::Signed(place, signer) => {
                text.push_str(&signer.sign(&short_text(facts, place)?)?);
            }
            Part::Hashed(place) => text.push_str(&sha256_hex(&short_text(facts, place)?)),
        }
    }
    Some(text)
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

fn sha256_hex(value: &str) -> String {
    hex::encode(Sha256::digest(value))
}

/// A name that a rule may set. A cookie would be a stranger's, too.
fn header_name(name: &str) -> Result<HeaderName, String> {
    let Ok(header) = HeaderName::try_from(name) else {
        return Err(format!("`{name}` cannot be a header's name"));
    };
    if header == SET_COOKIE || HEADERS_TAKEN.contains(&header) {
        return Err(format!("`{name}` is not for a handshake to set"));
    }
    Ok(header)
}

/// Reads templates.
struct Parser<'a> {
    context: &'a Context<'a>,
    verifier: &'a Verifier,
}

impl Parser<'_> {
    fn parse(&self, text: &str) -> Result<Vec<Part>, Problem> {
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
                return Err(Problem::here(format!("`{from}` lacks its `}}`")));
            };
            parts.push(Part::Literal(literal.to_owned()));
            parts.push(self.part(placeholder.trim_start_matches('{'))?);
            rest = tail;
        }
    }

    fn part(&self, expression: &str) -> Result<Part, Problem> {
        if expression.starts_with("config:") {
            return self.config(expression).map(Part::Literal);
        }
        if let Some(call) = expression.strip_suffix(')') {
            let (function, arguments) = call.split_once('(').unwrap_or((call, ""));
            return self.call(function, arguments);
        }
        match expression.strip_suffix(SIGNED) {
            None => Ok(Part::Echo(Place::parse(expression)?)),
            Some(expression) => {
                let signer = self
                    .verifier
                    .challenge_signer()
                    .ok_or_else(|| Problem::here("`|signed` needs a scheme that signs"))?;
                Ok(Part::Signed(Place::parse(expression)?, signer))
            }
        }
    }

    /// `sha256-hex(VALUE)`, or `hmac-sha256-base64(KEY, VALUE)` and its like.
    fn call(&self, function: &str, arguments: &str) -> Result<Part, Problem> {
        if function == SHA256_HEX {
            return match arguments.trim() {
                value if value.starts_with("config:") => {
                    let value = self.config(value)?;
                    Ok(Part::Literal(sha256_hex(&value)))
                }
                place => Ok(Part::Hashed(Place::parse(place)?)),
            };
        }
        let Some((key, place)) = arguments.split_once(',') else {
            return Err(Problem::here(format!(
                "`{function}` takes a key and a value: {function}(secret, query:challenge)"
            )));
        };
        let secrets = self.context.secrets;
        let signer = ChallengeSigner::of_function(function, key.trim(), secrets)?;
        Ok(Part::Signed(Place::parse(place.trim())?, signer))
    }

    fn config(&self, expression: &str) -> Result<String, Problem> {
        let config: &BTreeMap<String, String> = self.context.config;
        constant(&format!("{{{expression}}}"), config)
    }
}
