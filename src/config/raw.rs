//! One source as written, before anything is compiled.
//!
//! The built-in providers (`src/providers/NAME.toml`) are written in exactly this grammar, so a
//! preset is a [`RawSource`] that a user's own keys are laid over.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::pipeline::limit::Rate;

/// `[sources.NAME]`. `None` and empty mean "not said": the preset or the default applies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawSource {
    /// Name of a built-in provider.
    pub provider: Option<String>,
    /// Path of the URL; `/NAME` when not said.
    pub path: Option<String>,
    /// Methods taken.
    pub methods: Option<Vec<String>>,
    /// How the sender proves itself; several must all pass.
    pub verify: Option<RawVerify>,
    /// Handshake rules, tried in order.
    pub handshakes: Vec<RawHandshake>,
    /// What else a preset's templates ask for: `{config:NAME}`.
    pub config: BTreeMap<String, String>,
    /// Where the provider's event id stands.
    pub event_id: Option<Vec<String>>,
    /// Where the event's type stands.
    pub event_type: Option<Vec<String>>,
    /// `auto`, `json`, `form` or `raw`.
    pub format: Option<String>,
    /// `reject` or `allow`.
    pub duplicate_keys: Option<String>,
    /// A schema file, or a folder of them.
    pub schema: Option<String>,
    /// `reject` or `quarantine`.
    pub on_invalid: Option<String>,
    /// Limit on verified traffic.
    pub rate_limit: Option<Rate>,
    /// Limit per client address, before verification.
    pub peer_rate_limit: Option<Rate>,
    /// Routing key template.
    pub routing_key: Option<String>,
    /// `journal` or `broker`.
    pub ack: Option<String>,
    /// The window in which an event id is recognised.
    pub dedupe: Option<Window>,
    /// `false`: verify and count, but let through.
    pub enforce: Option<bool>,
    /// Request headers to copy into the message.
    pub forward_headers: Option<Vec<String>>,
    /// CIDRs that may send.
    pub allow_ips: Option<Vec<String>>,
    /// Longest body, in bytes.
    pub max_body: Option<u64>,
    /// What an accepted event is answered.
    pub reply: Option<RawReply>,
    /// For `hookgate providers`: who this is.
    pub about: Option<RawAbout>,
}

/// `dedupe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// `dedupe = false`.
    Off,
    /// `dedupe = "24h"`.
    For(Duration),
}

/// `verify`.
#[derive(Clone, Debug, PartialEq)]
pub enum RawVerify {
    /// `verify = "insecure-none"`.
    InsecureNone,
    /// `[sources.x.verify]` or `[[sources.x.verify]]`.
    Schemes(Vec<RawScheme>),
}

/// One table under `verify`. The words are those of `gateway.toml`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawScheme {
    /// Labels of the source's secrets that count here; all of them when not said.
    pub secrets: Vec<String>,
    /// `hmac-sha256` and so on.
    pub algorithm: Option<String>,
    /// Where the signature or the token stands; any of them.
    pub signature: Vec<String>,
    /// Literal text before the signature.
    pub prefix: Option<String>,
    /// How to take a list apart.
    pub list: Option<RawList>,
    /// `hex`, `base64` or `base64url`.
    pub encoding: Option<String>,
    /// How a secret becomes a key.
    pub key: Option<String>,
    /// What is signed.
    pub signed: Option<String>,
    /// Where the timestamp stands.
    pub timestamp: Option<String>,
    /// `s`, `ms` or `rfc3339`.
    pub timestamp_unit: Option<String>,
    /// How far the timestamp may be off, either way; zero: not checked.
    pub tolerance: Option<Duration>,
    /// `"header:Box-Signature-Version == 1"`.
    pub assert: Vec<String>,
}

/// `list`, for `t=1,v1=abc,v1=def`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawList {
    /// Between items.
    pub separator: Option<String>,
    /// Between an item's name and its value.
    pub assign: Option<String>,
    /// The name whose values are signatures.
    pub pick: Option<String>,
}

/// `[[sources.x.handshake]]`: a request that is answered by rule and never published.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawHandshake {
    /// Method it comes with; any of the source's when not said.
    pub method: Option<String>,
    /// Expressions that must be there with this value.
    pub equals: BTreeMap<String, String>,
    /// Expressions that must be there.
    pub has: Vec<String>,
    /// Whether the signature must hold first; `true` when not said.
    pub verify: Option<bool>,
    /// The answer.
    pub reply: RawReply,
}

/// `reply`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawReply {
    /// Status, 200 to 299.
    pub status: Option<u16>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// Body; in a handshake a template (`{json:/challenge}`), else as it stands.
    pub body: Option<String>,
}

/// `[about]` of a built-in provider.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawAbout {
    /// The provider's name as people write it.
    pub title: String,
    /// Its page on webhooks.
    pub docs: String,
    /// What an operator does there, a line each.
    pub setup: Vec<String>,
}
