//! What is written in a table and is about something else than its algorithm: it would be ignored
//! in silence.

use crate::config::raw::RawScheme;
use crate::pipeline::verify::assertion::Assertion;
use crate::pipeline::verify::compile::{Asked, CERTIFICATE, Compiler};
use crate::pipeline::verify::sns;

impl Compiler<'_> {
    /// Reports what is said of another algorithm: it would be ignored in silence.
    pub(super) fn ensure_belonging(&mut self, raw: &RawScheme, asked: Option<Asked>) {
        let Some(asked) = asked else {
            return;
        };
        let (message, holder) = (&raw.message, &raw.holder);
        let of_message = [
            ("signature_algorithm", message.signature_algorithm.is_some()),
            ("label", message.label.is_some()),
            ("covered", !message.covered.is_empty()),
            ("tag", message.tag.is_some()),
        ];
        let of_holder = [
            ("subject", !holder.subject.is_empty()),
            ("san", !holder.san.is_empty()),
            ("fingerprint", !holder.fingerprint.is_empty()),
        ];
        let of_value = [
            ("signature", !raw.signature.is_empty()),
            ("prefix", raw.prefix.is_some()),
            ("list", raw.list.is_some()),
            ("encoding", raw.encoding.is_some()),
            ("signed", raw.signed.is_some()),
            ("timestamp", raw.timestamp.is_some()),
            ("timestamp_unit", raw.timestamp_unit.is_some()),
            ("url_variants", !raw.url_variants.is_empty()),
        ];
        let of_secrets = [
            ("secrets", !raw.secrets.is_empty()),
            ("key", raw.key.is_some()),
            ("tolerance", raw.tolerance.is_some()),
        ];
        // Of other algorithms, what is fetched is judged with what it is to be a key for.
        let of_fetch = [("fetch", raw.fetch.is_some())];
        let (is_message, is_holder) = (asked == Asked::Message, asked == Asked::Certificate);
        let is_value = !is_message && !is_holder;
        let foreign = std::iter::empty()
            .chain(of_message.into_iter().filter(|_| !is_message))
            .chain(of_holder.into_iter().filter(|_| !is_holder))
            .chain(of_value.into_iter().chain(of_fetch).filter(|_| !is_value))
            .chain(of_secrets.into_iter().filter(|_| is_holder));
        for (key, _) in foreign.filter(|(_, said)| *said) {
            let algorithm = raw.algorithm.as_deref().unwrap_or_default();
            self.wrong(
                key,
                format!("`{key}` says nothing about `{algorithm}`"),
                "leave it out",
            );
        }
    }

    /// Where the key is fetched, there is no other.
    pub(super) fn ensure_no_own_key(&mut self, raw: &RawScheme) {
        let holds = raw.fetch.as_ref().and_then(|fetch| fetch.holds.as_deref());
        // A shared key that stands in JSON is written in some form, too.
        let is_certificate = holds.is_none_or(|holds| holds == CERTIFICATE);
        let said = [
            ("secrets", !raw.secrets.is_empty()),
            ("key", raw.key.is_some() && is_certificate),
        ];
        for (key, _) in said.into_iter().filter(|(_, said)| *said) {
            let what = format!("`{key}` says nothing about a key that is fetched");
            self.wrong(key, what, "leave it out, or `fetch`");
        }
    }

    /// Whoever has an account with Amazon has topics, and SNS signs for all of them.
    pub(super) fn ensure_topic(&mut self, raw: &RawScheme, asserts: &[Assertion]) {
        if raw.fetch.is_none() {
            self.wrong(
                "algorithm",
                "`sns` without `fetch`: nobody knows where its certificates are",
                "write provider = \"sns\", or [sources.NAME.verify.fetch] with url and hosts",
            );
        }
        // One that makes no sense has been reported.
        let all_known = asserts.len() == raw.assert.len();
        if all_known && !asserts.iter().any(|assert| assert.pins(sns::TOPIC)) {
            self.wrong(
                "algorithm",
                "`sns` without its topics: anybody with an account at Amazon could send",
                "say which: assert = [\"json:/TopicArn in arn:aws:sns:REGION:ACCOUNT:TOPIC\"]",
            );
        }
    }

    /// A token is not a signature: what is about signatures would be ignored in silence.
    pub(super) fn ensure_unsaid(&mut self, raw: &RawScheme) {
        let said = [
            ("signed", raw.signed.is_some()),
            ("encoding", raw.encoding.is_some()),
            ("timestamp", raw.timestamp.is_some()),
            ("key", raw.key.as_deref().is_some_and(|key| key != "utf8")),
        ];
        for (key, _) in said.into_iter().filter(|(_, said)| *said) {
            self.wrong(
                key,
                format!("`{key}` says nothing about a token"),
                "leave it out",
            );
        }
    }

    /// What is about the claims of a token would be ignored in silence.
    pub(super) fn ensure_no_claims(&mut self, raw: &RawScheme, asked: Option<Asked>) {
        let counts = |key: &str| match asked {
            Some(Asked::Jwt) => true,
            // A certificate has an issuer too.
            Some(Asked::Certificate) => key == "issuer",
            _ => false,
        };
        for key in raw.token.said().into_iter().filter(|key| !counts(key)) {
            self.wrong(
                key,
                format!("`{key}` is about tokens that their issuer signed"),
                "leave it out, or write `algorithm = \"jwt\"`",
            );
        }
    }
}
