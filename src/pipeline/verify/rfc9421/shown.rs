//! What is signed, for a person.

use super::{Message, Request};
use crate::pipeline::expr::facts::Facts;

/// Most bytes of a value that are shown.
const SHOWN_BYTES_MAX: usize = 200;

/// Words in the names of fields whose value may prove who somebody is.
const SECRET_WORDS: [&str; 7] = [
    "auth",
    "cookie",
    "key",
    "passw",
    "secret",
    "signature",
    "token",
];

impl Message {
    /// The base of the first signature that may be meant, a line each. `None`: there is none.
    pub(in crate::pipeline::verify) fn shown(&self, facts: &Facts<'_>) -> Option<Vec<String>> {
        let signed = self.candidates(facts).ok()?.into_iter().next()?;
        let request = Request {
            facts,
            address: &self.address,
        };
        let line = |component: &super::Component| {
            let is_secret = component.field().is_some_and(|field| {
                let mut words = SECRET_WORDS.iter();
                words.any(|word| field.as_str().contains(word))
            });
            let value = match component.value(&request) {
                Ok(_) if is_secret => "(not shown)".to_owned(),
                // What stands in the query is the sender's and its users'.
                Ok(value) if component.is_of_query() => format!("({} bytes)", value.len()),
                Ok(value) => cut(&String::from_utf8_lossy(&value)),
                Err(refusal) => format!("({refusal})"),
            };
            format!("{}: {value}", component.written())
        };
        let mut lines: Vec<String> = signed.components.iter().map(line).collect();
        lines.push(format!("\"@signature-params\": {}", cut(&signed.written)));
        Some(lines)
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_BYTES_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
    }
}
