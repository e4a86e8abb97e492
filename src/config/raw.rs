//! One source as written, before anything is compiled.
//!
//! The built-in providers (`src/providers/NAME.toml`) are written in exactly this grammar, so a
//! preset is a [`RawSource`] that a user's own keys are laid over.

mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::pipeline::limit::Rate;

pub use token::{RawIntrospection, RawToken};

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
    /// The names behind `config:` in its texts: what it asks of `config`.
    pub config_asked: BTreeSet<String>,
    /// Where an array of events stands, each of which becomes a message.
    pub split: Option<Vec<String>>,
    /// Most elements of such an array.
    pub max_elements: Option<u64>,
    /// Where the provider's event id stands.
    pub event_id: Option<Vec<String>>,
    /// Where the event's type stands.
    pub event_type: Option<Vec<String>>,
    /// `auto`, `json`, `form`, `xml`, `ndjson`, `cloudevents` or `raw`.
    pub format: Option<String>,
    /// `form:NAME`: the form field whose JSON is the document.
    pub unwrap: Option<String>,
    /// Codings of bodies that are taken: `gzip`, `deflate`, `br`, `zstd`.
    pub content_encodings: Option<Vec<String>>,
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
    /// `true`: finish handshakes by calling what they name; a person does it otherwise.
    pub confirm: Option<bool>,
    /// Request headers to copy into the message.
    pub forward_headers: Option<Vec<String>>,
    /// Networks that may send.
    pub allow_ips: Option<Vec<RawRange>>,
    /// Longest body, in bytes.
    pub max_body: Option<u64>,
    /// What an accepted event is answered.
    pub reply: Option<RawReply>,
    /// `false`: who is turned away gets a status and nothing else.
    pub problems: Option<bool>,
    /// For `hookgate providers`: who this is.
    pub about: Option<RawAbout>,
}

/// Stands for a value under `config` until the operator writes the right one.
pub(crate) const TO_CHANGE: &str = "CHANGE-ME";

/// The same where it is an address.
pub(crate) const URL_TO_CHANGE: &str = "https://change-me.example";

/// What `hookgate init` writes for the operator to change.
pub(crate) const PUBLIC_URL_TO_CHANGE: &str = "https://hooks.example.com";

/// An element of `allow_ips`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawRange {
    /// `"192.0.2.0/24"`.
    Network(String),
    /// `{ file = "ranges.json", pointer = "/hooks" }`.
    File {
        /// The path, relative to the configuration file.
        file: String,
        /// Where networks stand in JSON; none when the file has one in each line.
        pointers: Vec<String>,
    },
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
    /// Where the key is fetched from, if it is.
    pub fetch: Option<RawFetch>,
    /// What a token must say, for `algorithm = "jwt"`.
    pub token: RawToken,
    /// How else the sender may write `{url}`: `no_port`, `default_port`.
    pub url_variants: Vec<String>,
    /// What else `rfc9421` is told.
    pub message: RawMessage,
    /// What `client-certificate` is told.
    pub holder: RawHolder,
}

impl RawScheme {
    /// Whether there is nothing to verify with unless the source has `secrets`.
    pub fn needs_secrets(&self) -> bool {
        match self.algorithm.as_deref() {
            _ if self.fetch.is_some() => false,
            Some("client-certificate" | "sns") => false,
            Some("jwt") => self.token.jwks.is_none(),
            _ => true,
        }
    }
}

/// `fetch` in a table under `verify`: the request says where the key is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawFetch {
    /// Where the URL stands in the request.
    pub url: Option<String>,
    /// Hosts that it may name.
    pub hosts: Vec<String>,
    /// Path that it may name; one `*` stands for what changes.
    pub path: Option<String>,
    /// What is there: `certificate`, or `json:/pointer` to a shared key.
    pub holds: Option<String>,
    /// Names that a certificate may be for; none: whatever a listed host has.
    pub names: Vec<String>,
}

/// Keys of a table with `algorithm = "rfc9421"`; they stand beside the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawMessage {
    /// How signatures are made, in the words of the RFC's registry.
    pub signature_algorithm: Option<String>,
    /// The label of the signature that counts; any when not said.
    pub label: Option<String>,
    /// What must be signed, at least.
    pub covered: Vec<String>,
    /// The signature's parameter `tag`; any when not said.
    pub tag: Option<String>,
}

/// Keys of a table with `algorithm = "client-certificate"`: exact values, of each key one of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawHolder {
    /// `CN=partner, O=Partner Inc.`
    pub subject: Vec<String>,
    /// `dns:partner.example`, `email:`, `uri:` or `ip:`.
    pub san: Vec<String>,
    /// The authority's name, as `subject`.
    pub issuer: Vec<String>,
    /// SHA-256 of the certificate, in hex.
    pub fingerprint: Vec<String>,
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
    /// Path it comes to, where that is not the source's.
    pub path: Option<String>,
    /// Expressions that must be there with this value.
    pub equals: BTreeMap<String, String>,
    /// Expressions that must be there with one of these values, in one text.
    pub one_of: BTreeMap<String, String>,
    /// Expressions that must be there.
    pub has: Vec<String>,
    /// Expressions that must not be there.
    pub absent: Vec<String>,
    /// Expressions without whose value the handshake is refused.
    pub require: BTreeMap<String, String>,
    /// Where the secret stands that the handshake brings.
    pub capture: Option<String>,
    /// Whether the signature must hold first; `true` when not said.
    pub verify: Option<bool>,
    /// The answer.
    pub reply: RawReply,
    /// What is to be called besides.
    pub confirm: Option<RawConfirm>,
}

/// The name of a value of `config` that stands behind `config:`, where a text goes on: it ends
/// before white space, a brace, a parenthesis or a comma.
pub(crate) fn config_name(text: &str) -> &str {
    let ends = |c: char| c.is_whitespace() || "{}(),".contains(c);
    text.split(ends).next().unwrap_or_default()
}

/// `confirm` in a handshake: it is finished by calling a URL.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawConfirm {
    /// Where the URL stands in the request.
    pub url: Option<String>,
    /// Hosts that it may name.
    pub hosts: Vec<String>,
    /// `true`: the answer's body finishes it, too, and is left out where the URL is called.
    pub instead_of_body: Option<bool>,
}

/// `reply`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawReply {
    /// Status, 200 to 299.
    pub status: Option<u16>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// More header fields, templates as the body; in a handshake only.
    pub headers: BTreeMap<String, String>,
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
    /// What an operator does there, a line each. `NAME` stands for the source's name.
    pub setup: Vec<String>,
    /// Which events to choose there, where there is a choice.
    pub events: Option<String>,
    /// How it is known that the scheme is the provider's own.
    pub evidence: Vec<Evidence>,
    /// How long it waits for an answer.
    pub deadline: Option<String>,
    /// What it does when the answer is not a good one, up to giving up.
    pub retries: Option<String>,
    /// Whether one can ask it to send an event again.
    pub redelivery: Option<String>,
    /// How its secret is changed, where that is not as with everybody else.
    pub rotation: Option<String>,
    /// Those of the keys before whose words nobody has checked against the provider's own.
    pub unverified: Vec<String>,
    /// Those of which the provider's documentation was read, and says nothing.
    pub unsaid: Vec<String>,
    /// Where the words under a key stand, if not on the page of `docs`.
    pub pages: BTreeMap<String, String>,
}

/// What shows that a built-in provider's scheme is right. Tests keep these words true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The provider, or the standard, published a signed example, and it passes.
    Published,
    /// What the provider's own SDK signs passes, or that SDK takes what `hookgate send` signs.
    Sdk,
    /// Built from a description alone: the provider's page, or what others wrote.
    Recipe,
}

impl Evidence {
    /// The word in `evidence`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Sdk => "sdk",
            Self::Recipe => "recipe",
        }
    }
}
