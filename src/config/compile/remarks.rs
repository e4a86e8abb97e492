//! What is no mistake, but worth a word.

use std::sync::Arc;

use crate::config::Summary;
use crate::config::compile::Compiler;
use crate::config::raw::{RawHandshake, RawVerify, TO_CHANGE, URL_TO_CHANGE, Window};
use crate::config::secrets::Listed;
use crate::config::value::{Shown, quote};
use crate::pipeline::decode::Format;
use crate::pipeline::verify::{self, EventIn, Verifier};
use crate::secret::Labelled;

/// A secret shorter than this, in bytes, is tried out in no time.
const SECRET_BYTES_MIN: usize = 8;

/// What stands before a secret and is no part of it.
const WHSEC: &[u8] = b"whsec_";

impl Compiler<'_> {
    pub(super) fn shout_insecure(&self) {
        self.reporter.warning(
            &["verify"],
            format!(
                "ANYONE CAN SEND TO `{}`: verify = \"insecure-none\" proves nothing about a sender",
                self.name
            ),
            "describe the sender's signature in [sources.NAME.verify], or choose a provider"
                .replace("NAME", &self.name),
        );
        if !matches!(self.secrets, Listed::Absent) {
            self.reporter.warning(
                &["secrets"],
                "these secrets are not used, because of verify = \"insecure-none\"",
                "take them out, or `verify`",
            );
        }
    }

    /// Settings that are no mistake, but do not do what somebody may expect.
    pub(super) fn remark(&self) {
        if let Some(own) = &self.own_verify {
            for remark in verify::remarks(own, &self.raw.config, self.event_in()) {
                self.reporter.push(remark);
            }
        }
        for (name, value) in &self.raw.config {
            if value == TO_CHANGE || value == URL_TO_CHANGE {
                self.reporter.warning(
                    &["config", name],
                    format!("`config.{name}` is still {}", quote(value)),
                    "write your own value",
                );
            }
        }
        if self.raw.enforce == Some(false) {
            self.reporter.warning(
                &["enforce"],
                format!("source `{}` lets through what it cannot verify", self.name),
                "fine for finding out what would be refused; then write enforce = true",
            );
        }
        let confirms = |rule: &RawHandshake| rule.confirm.is_some();
        if self.raw.confirm == Some(true) && !self.raw.handshakes.iter().any(confirms) {
            self.reporter.warning(
                &["confirm"],
                "`confirm` does nothing: no handshake of this source names a URL to call",
                "take it out, or write confirm = { url = ..., hosts = [...] } in the handshake",
            );
        }
        let fetches = |verify: &RawVerify| match verify {
            RawVerify::Schemes(schemes) => schemes.iter().all(|scheme| scheme.fetch.is_some()),
            RawVerify::InsecureNone => false,
        };
        if self.raw.verify.as_ref().is_some_and(fetches) && !matches!(self.secrets, Listed::Absent)
        {
            self.reporter.warning(
                &["secrets"],
                "these secrets are not used: the key is fetched from where the request says",
                "take them out",
            );
        }
        let asks = |verify: &RawVerify| match verify {
            RawVerify::Schemes(schemes) => {
                schemes.iter().any(|it| it.token.introspection.is_some())
            }
            RawVerify::InsecureNone => false,
        };
        if self.raw.verify.as_ref().is_some_and(asks) && self.raw.peer_rate_limit.is_none() {
            self.reporter.warning(
                &["verify"],
                "whoever sends a made-up token makes the gateway ask the authorization server \
                 about it",
                "write `peer_rate_limit`, such as \"10/s\": then one address cannot use up what \
                 may be asked for the source",
            );
        }
        if let Some(Window::For(window)) = self.raw.dedupe {
            // A CloudEvent says its id by itself.
            if self.raw.event_id.is_none() && self.format() != Format::CloudEvents {
                self.reporter.warning(
                    &["dedupe"],
                    "`dedupe` does nothing without `event_id`",
                    "say where the sender's id stands: event_id = \"header:X-Event-Id\"",
                );
            }
            if window > self.shared.retain {
                self.reporter.warning(
                    &["dedupe"],
                    format!(
                        "after a restart, only the ids of the last {} are known",
                        Shown(self.shared.retain)
                    ),
                    "make `retain` in [journal] as long as this window",
                );
            }
        }
    }

    /// Where its events stand.
    fn event_in(&self) -> EventIn {
        match self.raw.methods.as_deref() {
            Some([only]) if only == "GET" => EventIn::Query,
            _ => EventIn::Body,
        }
    }

    /// Secrets that somebody could guess. Public keys are never so short.
    pub(super) fn remark_short(&self, verifier: &Verifier) {
        if verifier.is_insecure() {
            return;
        }
        for (index, Labelled { label, secret }) in self.known_secrets().iter().enumerate() {
            let secret = secret.expose();
            if secret == TO_CHANGE.as_bytes() {
                self.reporter.warning(
                    &["secrets", &index.to_string()],
                    format!("the secret {} is still \"{TO_CHANGE}\"", quote(label)),
                    "write the one that the provider has",
                );
            }
            let secret = secret.strip_prefix(WHSEC).unwrap_or(secret);
            if secret.len() < SECRET_BYTES_MIN {
                self.reporter.warning(
                    &["secrets", &index.to_string()],
                    format!(
                        "the secret {} has fewer than {SECRET_BYTES_MIN} bytes, so it can be guessed",
                        quote(label)
                    ),
                    "make a long one at the provider, such as `openssl rand -hex 32` prints; or look \
                     whether all of it is there",
                );
            }
        }
    }

    /// Secrets that prove nothing: somebody believes that they do.
    pub(super) fn remark_unused(&self, verifier: &Verifier) {
        if verifier.is_insecure() {
            return;
        }
        for (index, secret) in self.known_secrets().iter().enumerate() {
            if !verifier.uses(&secret.label) {
                self.reporter.warning(
                    &["secrets", &index.to_string()],
                    format!("no `verify` table uses the secret {}", quote(&secret.label)),
                    "take it out, or name it in the `secrets` of the table that it is for",
                );
            }
        }
    }

    /// What `check` shows of it.
    pub(super) fn summary(&self) -> Summary {
        let (verification, is_insecure) = match &self.raw.verify {
            Some(RawVerify::Schemes(schemes)) => {
                let algorithms = schemes
                    .iter()
                    .map(|it| it.algorithm.as_deref().unwrap_or("?"));
                (algorithms.collect::<Vec<&str>>().join(" and "), false)
            }
            Some(RawVerify::InsecureNone) => ("NONE".to_owned(), true),
            None => (String::new(), false),
        };
        let secrets = match &self.secrets {
            Listed::Enrolled => vec![Arc::from("enrolled")],
            _ => self
                .known_secrets()
                .iter()
                .map(|it| Arc::clone(&it.label))
                .collect(),
        };
        Summary {
            name: Arc::clone(&self.name),
            path: self
                .raw
                .path
                .clone()
                .unwrap_or_else(|| format!("/{}", self.name)),
            provider: self.raw.provider.clone(),
            verification,
            is_insecure,
            secrets,
            schema: self.raw.schema.clone(),
            ack: self.raw.ack.clone().unwrap_or_else(|| "journal".to_owned()),
            enforce: self.raw.enforce.unwrap_or(true),
            calls: Vec::new(),
        }
    }
}
