//! Built-in providers: parsed by the reader of `[sources.*]`, laid under what the user wrote.

use std::collections::HashMap;

use toml::de::DeTable;

use crate::config::problem::Problem;
use crate::config::raw::{
    RawFetch, RawHolder, RawMessage, RawReply, RawScheme, RawSource, RawVerify,
};
use crate::config::reader::{Problems, Sink, Table};
use crate::config::source;
use crate::providers;

/// Built-in providers that were asked for, each parsed once.
#[derive(Debug, Default)]
pub(crate) struct Presets(HashMap<String, Option<RawSource>>);

impl Presets {
    /// The provider of this name; `None` when there is no such.
    pub(crate) fn find(&mut self, name: &str) -> Option<&RawSource> {
        if !self.0.contains_key(name) {
            // A test keeps the built-in files without mistakes.
            let parsed = providers::text(name).and_then(|text| parse(text).ok());
            self.0.insert(name.to_owned(), parsed);
        }
        self.0.get(name)?.as_ref()
    }
}

/// Parses the file of a provider.
///
/// # Errors
///
/// All mistakes in it, with paths from its top.
pub fn parse(text: &str) -> Result<RawSource, Vec<Problem>> {
    let root =
        DeTable::parse(text).map_err(|error| vec![Problem::error(&[], error.to_string())])?;
    let problems = Problems::default();
    let mut table = Table::root(
        root.get_ref(),
        Sink {
            file: 0,
            problems: &problems,
        },
    );
    let about = table.require("about", "write [about] with title, docs and setup");
    let mut raw = source::read(&mut table);
    raw.about = about.and_then(|node| node.table()).map(source::about);
    if raw.verify.is_none() {
        table.error("a provider without `verify`".to_owned());
    }
    // These are the operator's to say.
    for (key, is_there) in [
        ("provider", raw.provider.is_some()),
        ("path", raw.path.is_some()),
        ("schema", raw.schema.is_some()),
        ("ack", raw.ack.is_some()),
        ("confirm", raw.confirm.is_some()),
        ("routing_key", raw.routing_key.is_some()),
    ] {
        if is_there {
            table.error(format!("a provider does not say `{key}`"));
        }
    }
    table.finish();
    let found = problems.into_found();
    if found.is_empty() {
        Ok(raw)
    } else {
        Err(found.into_iter().map(|found| found.problem).collect())
    }
}

/// The user's keys over the provider's.
pub(crate) fn lay_over(user: RawSource, preset: &RawSource) -> RawSource {
    let preset = preset.clone();
    let mut config = preset.config;
    config.extend(user.config);
    let mut config_asked = preset.config_asked;
    config_asked.extend(user.config_asked);
    RawSource {
        provider: user.provider,
        path: user.path.or(preset.path),
        methods: user.methods.or(preset.methods),
        verify: verify_over(user.verify, preset.verify),
        handshakes: if user.handshakes.is_empty() {
            preset.handshakes
        } else {
            user.handshakes
        },
        config,
        config_asked,
        split: user.split.or(preset.split),
        max_elements: user.max_elements.or(preset.max_elements),
        event_id: user.event_id.or(preset.event_id),
        event_type: user.event_type.or(preset.event_type),
        format: user.format.or(preset.format),
        unwrap: user.unwrap.or(preset.unwrap),
        content_encodings: user.content_encodings.or(preset.content_encodings),
        duplicate_keys: user.duplicate_keys.or(preset.duplicate_keys),
        schema: user.schema.or(preset.schema),
        on_invalid: user.on_invalid.or(preset.on_invalid),
        rate_limit: user.rate_limit.or(preset.rate_limit),
        peer_rate_limit: user.peer_rate_limit.or(preset.peer_rate_limit),
        routing_key: user.routing_key.or(preset.routing_key),
        ack: user.ack.or(preset.ack),
        dedupe: user.dedupe.or(preset.dedupe),
        enforce: user.enforce.or(preset.enforce),
        confirm: user.confirm.or(preset.confirm),
        forward_headers: user.forward_headers.or(preset.forward_headers),
        allow_ips: user.allow_ips.or(preset.allow_ips),
        max_body: user.max_body.or(preset.max_body),
        reply: match (user.reply, preset.reply) {
            (Some(user), Some(preset)) => Some(reply_over(user, preset)),
            (user, preset) => user.or(preset),
        },
        problems: user.problems.or(preset.problems),
        about: preset.about,
    }
}

/// One table without an algorithm adjusts the provider's only scheme (`tolerance = "10m"`);
/// everything else replaces what the provider says.
fn verify_over(user: Option<RawVerify>, preset: Option<RawVerify>) -> Option<RawVerify> {
    let Some(user) = user else { return preset };
    if let (RawVerify::Schemes(user), Some(RawVerify::Schemes(preset))) = (&user, &preset)
        && let ([user], [preset]) = (user.as_slice(), preset.as_slice())
        && user.algorithm.is_none()
    {
        return Some(RawVerify::Schemes(vec![scheme_over(
            user.clone(),
            preset.clone(),
        )]));
    }
    Some(user)
}

fn scheme_over(user: RawScheme, preset: RawScheme) -> RawScheme {
    let said = |user: Vec<String>, preset| if user.is_empty() { preset } else { user };
    RawScheme {
        secrets: said(user.secrets, preset.secrets),
        algorithm: user.algorithm.or(preset.algorithm),
        signature: said(user.signature, preset.signature),
        prefix: user.prefix.or(preset.prefix),
        list: user.list.or(preset.list),
        encoding: user.encoding.or(preset.encoding),
        key: user.key.or(preset.key),
        signed: user.signed.or(preset.signed),
        timestamp: user.timestamp.or(preset.timestamp),
        timestamp_unit: user.timestamp_unit.or(preset.timestamp_unit),
        tolerance: user.tolerance.or(preset.tolerance),
        // They make sure of things that the provider's signature says nothing about.
        assert: preset.assert.into_iter().chain(user.assert).collect(),
        fetch: match (user.fetch, preset.fetch) {
            (Some(user), Some(preset)) => Some(RawFetch {
                url: user.url.or(preset.url),
                hosts: said(user.hosts, preset.hosts),
                path: user.path.or(preset.path),
                holds: user.holds.or(preset.holds),
                names: said(user.names, preset.names),
            }),
            (user, preset) => user.or(preset),
        },
        token: user.token.over(preset.token),
        url_variants: said(user.url_variants, preset.url_variants),
        message: RawMessage {
            signature_algorithm: user
                .message
                .signature_algorithm
                .or(preset.message.signature_algorithm),
            label: user.message.label.or(preset.message.label),
            covered: said(user.message.covered, preset.message.covered),
            tag: user.message.tag.or(preset.message.tag),
        },
        holder: RawHolder {
            subject: said(user.holder.subject, preset.holder.subject),
            san: said(user.holder.san, preset.holder.san),
            issuer: said(user.holder.issuer, preset.holder.issuer),
            fingerprint: said(user.holder.fingerprint, preset.holder.fingerprint),
        },
    }
}

fn reply_over(user: RawReply, preset: RawReply) -> RawReply {
    RawReply {
        status: user.status.or(preset.status),
        content_type: user.content_type.or(preset.content_type),
        headers: preset.headers,
        body: user.body.or(preset.body),
    }
}

#[cfg(test)]
mod tests;
