//! How a source's bodies are read, and which methods bring them.

use std::collections::HashSet;

use http::Method;

use crate::config::compile::Compiler;
use crate::config::raw::RawVerify;
use crate::config::reader::{did_you_mean, enumerate};
use crate::config::value::{Wrong, quote};
use crate::delivery::Coverage;
use crate::pipeline::decode::coding::CODINGS;
use crate::pipeline::decode::{Coding, DuplicateKeys, Format, Reading};
use crate::pipeline::expr::Place;
use crate::pipeline::verify::Verifier;

/// Methods that an event may come with.
const METHODS_EVENT: [&str; 5] = ["POST", "PUT", "PATCH", "DELETE", "GET"];

/// Algorithms whose proof is the secret itself.
const ALGORITHMS_TOKEN: [&str; 3] = ["token", "basic", "jwt"];

impl Compiler<'_> {
    pub(super) fn reading(&self, bytes_max: usize, verifier: Option<&Verifier>) -> Reading {
        let format = self.format();
        Reading {
            format,
            duplicate_keys: match self.raw.duplicate_keys.as_deref() {
                Some("allow") => DuplicateKeys::Allow,
                _ => DuplicateKeys::Reject,
            },
            unwrap: self.unwrap(),
            codings: self.codings(format, bytes_max),
            unpacked_bytes_max: bytes_max,
            query_coverage: verifier.map_or(Coverage::None, Verifier::query_coverage),
        }
    }

    pub(super) fn format(&self) -> Format {
        match self.raw.format.as_deref() {
            Some("json") => Format::Json,
            Some("form") => Format::Form,
            Some("xml") => Format::Xml,
            Some("ndjson") => Format::Lines,
            Some("cloudevents") => Format::CloudEvents,
            Some("raw") => Format::Raw,
            _ => Format::Auto,
        }
    }

    /// `form:NAME`. It does nothing where a `format` takes no forms: a provider's preset may have it.
    fn unwrap(&self) -> Option<String> {
        let written = self.raw.unwrap.as_ref()?;
        if let Ok(Place::Form(name)) = Place::parse(written) {
            return Some(name);
        }
        let what = format!("{} is no field of a form", quote(written));
        let help = "write unwrap = \"form:NAME\": where a form has this field, the JSON in it is \
                    what schemas and json:/pointer see";
        self.reporter.error(&["unwrap"], Wrong::new(what, help));
        None
    }

    fn codings(&self, format: Format, bytes_max: usize) -> Vec<Coding> {
        let written = self.raw.content_encodings.as_deref().unwrap_or_default();
        let names = CODINGS.map(|(name, _)| name);
        let mut codings = Vec::new();
        for (index, word) in written.iter().enumerate() {
            match Coding::parse(word) {
                Some(coding) => codings.push(coding),
                None => self.reporter.error(
                    &["content_encodings", &index.to_string()],
                    Wrong::new(
                        format!("{} is no content coding that is known here", quote(word)),
                        format!(
                            "{}it can be {}",
                            did_you_mean(word, &names),
                            enumerate(&names, "`", "or")
                        ),
                    ),
                ),
            }
        }
        if codings.is_empty() {
            return codings;
        }
        if format == Format::Raw {
            self.reporter.error(
                &["content_encodings"],
                Wrong::new(
                    "format = \"raw\" takes any bytes, coded or not, and unpacks nothing",
                    "take out `content_encodings`, or `format`",
                ),
            );
        }
        // What came and what it unpacks to are in flight at once.
        let both = bytes_max.saturating_mul(2);
        if both > self.shared.limits.bytes_in_flight_max {
            self.reporter.error(
                &["content_encodings"],
                Wrong::new(
                    "twice `max_body`, for a body and what it unpacks to, is more than \
                     max_bytes_in_flight",
                    "make `max_body` smaller, or max_bytes_in_flight in [server.limits] larger",
                ),
            );
        }
        codings
    }

    /// Those that events come with; a handshake says its own.
    pub(super) fn methods(&self, verifier: Option<&Verifier>) -> Vec<Method> {
        let default = ["POST".to_owned()];
        let written = self.raw.methods.as_deref().unwrap_or(&default);
        let mut events = Vec::new();
        for (index, word) in written.iter().enumerate() {
            let index = index.to_string();
            if METHODS_EVENT.contains(&word.as_str()) {
                if word == "GET" {
                    self.mind_queries(&index, verifier);
                }
                events.extend(Method::from_bytes(word.as_bytes()));
                continue;
            }
            let help = format!(
                "{}an event can come with {}; a handshake says its own `method`",
                did_you_mean(&word.to_ascii_uppercase(), &METHODS_EVENT),
                enumerate(&METHODS_EVENT, "`", "or")
            );
            self.reporter.error(
                &["methods", &index],
                Wrong::new(format!("the method {} is not taken", quote(word)), help),
            );
        }
        let mut seen = HashSet::new();
        events.retain(|method: &Method| seen.insert(method.clone()));
        events
    }

    /// A GET brings its event in the query, which must be proved and must hold no secret.
    fn mind_queries(&self, index: &str, verifier: Option<&Verifier>) {
        let place = ["methods", index];
        let is_unproved = |verifier: &&Verifier| {
            !verifier.is_insecure() && verifier.query_coverage() == Coverage::None
        };
        if verifier.filter(is_unproved).is_some() {
            self.reporter.error(
                &place,
                Wrong::new(
                    "a GET brings its event in the query, of which the signature covers nothing",
                    "take out `GET`: a handshake says its own `method`; or verify by what is signed \
                     with {url} or {query:NAME}",
                ),
            );
        }
        let Some(RawVerify::Schemes(schemes)) = &self.raw.verify else {
            return;
        };
        let is_token = schemes.iter().any(|scheme| {
            let algorithm = scheme.algorithm.as_deref().unwrap_or_default();
            let mut places = scheme.signature.iter();
            ALGORITHMS_TOKEN.contains(&algorithm) && places.any(|it| it.starts_with("query:"))
        });
        if is_token {
            self.reporter.error(
                &place,
                Wrong::new(
                    "a GET brings its event in the query, and with it the token that stands there",
                    "let the sender present its token in a header, or take out `GET`",
                ),
            );
        }
    }
}
