//! How a token may have been copied, or sent, wrongly. Only what stands around the secret is shown.

use super::PREFIX_SHOWN_BYTES_MAX;
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::verify::basic;
use crate::pipeline::verify::scheme::{Key, Kind, Scheme};

/// A beginning of a secret that is no accident, in bytes.
const CUT_BYTES_MIN: usize = 8;

impl Scheme {
    /// How what was sent differs from a secret.
    pub(super) fn token_mistake(&self, facts: &Facts<'_>) -> Option<String> {
        let sent = self.signature.sent(facts).ok()?;
        let texts = sent.iter().filter_map(|sent| match self.kind {
            Kind::Basic => basic::credentials(&sent.text),
            _ => Some(sent.text.to_vec()),
        });
        let texts: Vec<Vec<u8>> = texts.collect();
        let mut keys = self.keys.iter();
        keys.find_map(|key| texts.iter().find_map(|text| self.difference(key, text)))
    }

    fn difference(&self, key: &Key, sent: &[u8]) -> Option<String> {
        let (secret, label) = (key.secret.expose(), &key.label);
        let prefix = &self.signature.prefix;
        let around = "white space or quotes around";
        if bare(secret) != secret && bare(secret) == bare(sent) {
            return Some(format!(
                "it matches without the {around} the secret `{label}`: they are not part of it"
            ));
        }
        if bare(sent) == secret {
            return Some(format!(
                "it is the secret `{label}` with {around}: the sender has to leave them out"
            ));
        }
        if !prefix.is_empty() && secret.strip_prefix(prefix.as_bytes()) == Some(sent) {
            return Some(format!(
                "it matches without `{prefix}` at the beginning of the secret `{label}`: that is \
                 the `prefix`, and not part of it"
            ));
        }
        if let Some(before) = sent
            .strip_suffix(secret)
            .filter(|before| !before.is_empty())
        {
            let shown = std::str::from_utf8(before).ok();
            let shown = shown.filter(|shown| shown.len() <= PREFIX_SHOWN_BYTES_MAX);
            let shown = shown.map_or(String::new(), |shown| format!(", `{shown}`"));
            return Some(format!(
                "the secret `{label}` stands at the end of what was sent: set `prefix` to what \
                 comes before it{shown}"
            ));
        }
        if sent.eq_ignore_ascii_case(secret) {
            return Some(format!(
                "it is the secret `{label}` but for capital and small letters"
            ));
        }
        if sent.len() >= CUT_BYTES_MIN && secret.starts_with(sent) {
            return Some(format!(
                "it is the beginning of the secret `{label}`: it was cut"
            ));
        }
        if secret.len() >= CUT_BYTES_MIN && sent.starts_with(secret) {
            return Some(format!("it is the secret `{label}` with more behind it"));
        }
        None
    }

    /// Why something is no `Basic` with user and password.
    pub(super) fn basic_mistake(&self, facts: &Facts<'_>) -> Option<String> {
        let sent = self.signature.sent(facts).ok()?;
        let text = &sent.first()?.text;
        let is_plain = |text: &[u8]| {
            self.keys
                .iter()
                .any(|key| *bare(text) == *key.secret.expose())
        };
        let after = text.split_at_checked("Basic ".len()).map(|(_, rest)| rest);
        if is_plain(text) || after.is_some_and(is_plain) {
            let what = "user and password stand there as they are: they have to be in base64";
            return Some(what.to_owned());
        }
        let with_word = [b"Basic ", bare(text)].concat();
        let is_alone = basic::credentials(&with_word).is_some();
        is_alone.then(|| "the word `Basic` is missing before it".to_owned())
    }

    /// What stands where a prefix should, and does not begin with it.
    pub(super) fn other_prefix(&self, facts: &Facts<'_>) -> Option<String> {
        let bare_spots = self.signature.without_prefix();
        let sent = bare_spots.sent(facts).ok()?;
        let text = &sent.first()?.text;
        let prefix = &self.signature.prefix;
        let is_secret = |key: &&Key| bare(text) == key.secret.expose();
        if let (Kind::Token, Some(key)) = (&self.kind, self.keys.iter().find(is_secret)) {
            return Some(format!(
                "it is the secret `{}` alone: the sender has to write `{prefix}` before it, or \
                 `prefix` has to be \"\"",
                key.label
            ));
        }
        let beginning = text.get(..prefix.len()).unwrap_or_default();
        if beginning.eq_ignore_ascii_case(prefix.as_bytes()) {
            let beginning = String::from_utf8_lossy(beginning);
            return Some(format!(
                "it begins with `{beginning}`: capital and small letters count"
            ));
        }
        Some(match super::beginning(text) {
            Some((beginning, _)) => format!("it begins with `{beginning}`"),
            None => format!(
                "it has no prefix: the sender leaves `{prefix}` out, or `prefix` has to be \"\""
            ),
        })
    }
}

/// A text without what is easily copied along with it.
fn bare(text: &[u8]) -> &[u8] {
    match text.trim_ascii() {
        [first @ (b'"' | b'\''), inner @ .., last] if first == last => inner.trim_ascii(),
        trimmed => trimmed,
    }
}
