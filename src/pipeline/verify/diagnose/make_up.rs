//! What was tried, in words: which secrets, and what a signature is made over. Lengths and places
//! rather than values where a value could be anybody's business; never a secret, never a signature.

use jiff::Timestamp;

use crate::clock::Now;
use crate::pipeline::arrival::Inbound;
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::expr::{Found, Place};
use crate::pipeline::verify::refusal::plain;
use crate::pipeline::verify::scheme::{Kind, Method, Scheme};
use crate::pipeline::verify::template::Part;
use crate::pipeline::verify::{Refusal, Verifier};

/// Longest value of a header that is shown.
const VALUE_SHOWN_CHARS_MAX: usize = 64;

impl Verifier {
    /// The secrets that were tried, by label, and what they were tried over, for a proof that no
    /// secret makes.
    pub(crate) fn tried(&self, inbound: &Inbound, now: Now, refusal: &Refusal) -> Option<String> {
        if !matches!(refusal, Refusal::Mismatch(_) | Refusal::WrongToken(_)) {
            return None;
        }
        let facts = Facts::of(inbound);
        let scheme = self.failed(&facts, now)?;
        Some(scheme.tried(&facts, now.wall))
    }
}

impl Scheme {
    fn tried(&self, facts: &Facts<'_>, now: Timestamp) -> String {
        let labels: Vec<String> = self
            .keys
            .iter()
            .map(|key| format!("`{}`", key.label))
            .collect();
        let labels = match labels.as_slice() {
            [] => "what was fetched".to_owned(),
            labels => labels.join(", "),
        };
        let Kind::Signed(signing) = &self.kind else {
            return format!("tried: {labels}");
        };
        let form = match signing.method {
            Method::Shared { form, .. } => form.name(),
            Method::Public { .. } => "a public key",
        };
        let parts = signing.template.top();
        let parts: Vec<String> = parts
            .iter()
            .map(|part| self.describe(part, facts, now))
            .collect();
        format!(
            "tried: {labels} as {form}, {} in {} over {}",
            signing.method.name(),
            signing.encoding.name(),
            parts.join(" + ")
        )
    }

    fn describe(&self, part: &Part, facts: &Facts<'_>, now: Timestamp) -> String {
        match part {
            Part::Literal(text) => format!("`{text}`"),
            Part::Body => format!("the body ({} bytes)", facts.body.len()),
            Part::BodyCrc32 => "the body's CRC-32".to_owned(),
            Part::BodySha256Hex => "the body's SHA-256 in hex".to_owned(),
            Part::Timestamp => self.describe_timestamp(facts, now),
            Part::Method => format!("`{}`", facts.head.method),
            Part::Url(_) => {
                let url = self.url.as_deref().unwrap_or_default();
                let query = facts.head.query.as_ref();
                let and = query.map_or(" without a query", |_| " and the query");
                let or = match self.other_urls.len() {
                    0 => "",
                    _ => " (or as `url_variants` has it)",
                };
                format!("the URL {url}{or}{and}")
            }
            Part::Secret => "the secret".to_owned(),
            Part::Sns => "the fields of the message that SNS signs".to_owned(),
            Part::FormSorted => {
                let fields = facts.form().map_or(0, <[_]>::len);
                format!("the form's {fields} fields by name")
            }
            Part::Sort(parts) => {
                let parts = parts.iter().map(|part| self.describe(part, facts, now));
                format!("sorted({})", parts.collect::<Vec<_>>().join(", "))
            }
            Part::Value { place, .. } => describe_value(place, facts),
        }
    }

    fn describe_timestamp(&self, facts: &Facts<'_>, now: Timestamp) -> String {
        let (Some(stamp), Ok(Some(text))) = (&self.stamp, self.timestamp(facts)) else {
            return "a timestamp that is not there".to_owned();
        };
        let shown = shown(&text);
        let Some(at) = stamp.read(&text) else {
            return format!("the timestamp {shown}");
        };
        let age = now.duration_since(at);
        let off = plain(&age.unsigned_abs());
        let when = if age.is_negative() {
            format!("{off} after the moment of judgement")
        } else {
            format!("{off} before the moment of judgement")
        };
        format!("the timestamp {shown} ({when})")
    }
}

fn describe_value(place: &Place, facts: &Facts<'_>) -> String {
    match facts.find(place) {
        Ok(Found::Once(value)) => match place {
            // Ids, mostly; what stands in the query or the body is the sender's and its users'.
            Place::Header(_) => format!("{place} ({})", shown(&value)),
            Place::Query(_) | Place::Form(_) | Place::Json(_) => {
                format!("{place} ({} bytes)", value.len())
            }
        },
        Ok(Found::Absent | Found::Twice) | Err(_) => format!("{place} (absent)"),
    }
}

fn shown(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let mut shown: String = text.chars().take(VALUE_SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    format!("`{shown}`")
}
