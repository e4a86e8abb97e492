//! What can be said of a built-in provider: its file's own words, and what follows from them.

use std::sync::Arc;

use toml::Table;

use crate::cli::{Exit, Failure};
use crate::config::parse_provider;
use crate::config::raw::{
    RawAbout, RawHandshake, RawReply, RawSource, RawVerify, TO_CHANGE, URL_TO_CHANGE,
};
use crate::delivery::Coverage;
use crate::pipeline::verify::{Context, Verifier};
use crate::providers;
use crate::secret::{Labelled, Secret};

/// What is printed where nobody has found anything yet.
const NOT_FOUND: &str = "not found out yet; see the provider's page";

/// What is printed where the provider's documentation was read for it, in vain.
const UNSAID: &str = "the provider's documentation does not say";

/// How a secret is changed at a provider that has no ways of its own.
const ROTATION: &str = "Put the new secret beside the old one in `secrets` and restart, change it there, and take the old one \
     out when nothing is signed with it any more.";

/// How the name of a variable ends that holds a public key.
pub(in crate::cli) const PUBLIC_KEY: &str = "PUBLIC_KEY";

/// Written in every form that a secret or a public key can have: one of them compiles.
pub(in crate::cli) const STAND_INS: [&str; 6] = [
    // Text, hex and base64 at once.
    "4cbf5d9a7a9ff3dc1a2f3e4d5c6b7a8990a1b2c3d4e5f60718293a4b5c6d7e8f",
    "user:password",
    "1I+BenyMg+x189a1CxOtXyCM4Fb7ESkYr+SNWhbbpW4=",
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEeb7WN92afVdedR4tECkz5h7TGH5IeD35xImf5yXUHGtXt+2umWP7UL4roF34aH6kehQl1KLLLxVwnbmxjtVcGA==",
    RSA,
    EC,
];

/// Of nobody: its private half was thrown away.
const RSA: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAyg4yunR2uSqmHex/Rc3s
9YH5783BB29X0BU/0mCRM3ZaU4uEmLBQ/IxjWAYdRW65jqpdYo0c2hbKb8ceGcK1
gfp5/C/wjCzS5DzO98zojbQyUyC/2EYKn+4yo053cnVninkXnVkMJd6JVinNhjHk
S0zI9Z0DcJfXTG+w7pbbir1zJeslM1eZtXPTyBkPmaDIb1sFE/DXSNp+pxazJqtz
6LH5U2YKDkn/nWBTb4PeoOp/UEHci3RJFDC7B4moTOV3amFOTqXOmaeqKfWHZ8Va
ho2Xvn6K8BZe9dQqLLoO1oWQNZ8++CUaNSTluT0WWmqGmWz183BHNiENGJEnrTKE
1wIDAQAB
-----END PUBLIC KEY-----
";

/// Of nobody.
const EC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEeb7WN92afVdedR4tECkz5h7TGH5I
eD35xImf5yXUHGtXt+2umWP7UL4roF34aH6kehQl1KLLLxVwnbmxjtVcGA==
-----END PUBLIC KEY-----
";

/// A built-in provider.
pub(in crate::cli) struct Provider {
    /// As one writes it.
    pub(in crate::cli) name: String,
    about: RawAbout,
    /// Its file.
    pub(super) text: &'static str,
    raw: RawSource,
    /// The same, key by key.
    keys: Table,
    /// What the operator has to put under `config`.
    config: Vec<String>,
}

impl Provider {
    /// Finds a provider.
    ///
    /// # Errors
    ///
    /// There is no such; the words say which one may have been meant.
    pub(in crate::cli) fn find(name: &str) -> Result<Self, Failure> {
        let name = name.trim();
        let text = providers::text(name).ok_or_else(|| unknown(name))?;
        // A test keeps the built-in files without mistakes.
        let raw = parse_provider(text).unwrap_or_default();
        let asked = raw.config_asked.iter();
        let asked = asked.filter(|key| !raw.config.contains_key(*key));
        Ok(Self {
            name: name.replace('_', "-"),
            about: raw.about.clone().unwrap_or_default(),
            text,
            keys: text.parse().unwrap_or_default(),
            config: asked.cloned().collect(),
            raw,
        })
    }

    /// What it says for people.
    pub(in crate::cli) fn about(&self) -> &RawAbout {
        &self.about
    }

    #[cfg(test)]
    pub(super) fn raw(&self) -> &RawSource {
        &self.raw
    }

    /// The algorithm, or several.
    pub(super) fn proof(&self) -> String {
        match &self.raw.verify {
            Some(RawVerify::Schemes(schemes)) => {
                let algorithms = schemes.iter().filter_map(|it| it.algorithm.as_deref());
                algorithms.collect::<Vec<_>>().join(" and ")
            }
            Some(RawVerify::InsecureNone) | None => "none".to_owned(),
        }
    }

    /// How much of the body its proof covers. `None`: no stand-in for its secret is good enough.
    pub(super) fn coverage(&self) -> Option<Coverage> {
        self.compile().map(|verifier| verifier.coverage())
    }

    fn compile(&self) -> Option<Verifier> {
        let without = self.compile_with(&[]);
        without.or_else(|| STAND_INS.iter().find_map(|text| self.compile_with(&[text])))
    }

    fn compile_with(&self, secrets: &[&str]) -> Option<Verifier> {
        let secrets: Vec<Labelled> = secrets
            .iter()
            .map(|text| Labelled {
                label: Arc::from("stand-in"),
                secret: Secret::new(text.as_bytes().to_vec()),
            })
            .collect();
        let mut config = self.raw.config.clone();
        let asked = self.config.iter();
        config.extend(asked.map(|key| (key.clone(), self.stand_in(key).to_owned())));
        let context = Context {
            secrets: &secrets,
            config: &config,
            url: Some(format!("https://localhost/{}", self.name)),
        };
        Verifier::compile(self.raw.verify.as_ref()?, &context).ok()
    }

    /// What of the body the proof covers, in words.
    pub(super) fn covers(&self) -> &'static str {
        match self.coverage() {
            Some(Coverage::Full) => "whole body",
            Some(Coverage::Fields) => "some fields",
            Some(Coverage::Token) => "nothing: it shows who sends, not what",
            Some(Coverage::None) | None => "nothing",
        }
    }

    /// The requests that are answered by rule, in short.
    pub(super) fn handshakes(&self) -> Vec<String> {
        self.raw.handshakes.iter().map(handshake).collect()
    }

    /// Whether a handshake ends only when a URL is called that it names, and not with the answer's
    /// body, too.
    pub(super) fn is_to_be_confirmed(&self) -> bool {
        let rules = self.raw.handshakes.iter();
        let mut confirms = rules.filter_map(|rule| rule.confirm.as_ref());
        confirms.any(|confirm| confirm.instead_of_body != Some(true))
    }

    /// What bodies it sends.
    pub(super) fn takes(&self) -> String {
        let word = |key| self.keys.get(key).and_then(toml::Value::as_str);
        let format = match word("format") {
            None | Some("auto") => "by its content type",
            Some("json") => "JSON",
            Some("form") => "form",
            Some("xml") => "XML",
            Some("ndjson") => "JSON lines",
            Some("cloudevents") => "CloudEvents, or by its content type",
            Some("raw") => "any bytes",
            Some(other) => other,
        };
        match self.raw.split.as_deref() {
            Some(places) => format!("{format}; a batch, split at `{}`", places.join("` or `")),
            None => format.to_owned(),
        }
    }

    /// What a good event is answered.
    pub(super) fn answer(&self) -> String {
        let RawReply { status, body, .. } = self.raw.reply.clone().unwrap_or_default();
        let status = status.unwrap_or(202);
        match body.as_deref() {
            _ if status == 204 => "204".to_owned(),
            None if self.raw.split.is_some() => {
                format!("{status}, the batch's name and counts as JSON")
            }
            None => format!("{status}, the event's id as JSON"),
            Some("") => format!("{status}, empty"),
            Some(body) => format!("{status}, `{body}`"),
        }
    }

    /// What becomes of an event that is genuine, and that no schema or reader takes.
    pub(super) fn unfit(&self) -> &'static str {
        match self.raw.on_invalid.as_deref() {
            Some("quarantine") => "quarantine",
            _ => "refused",
        }
    }

    /// What it claims under one of the keys of `[about]`, whether that was checked, and where it
    /// stands, if not on the provider's page on webhooks.
    pub(super) fn claim(&self, key: &str) -> Option<String> {
        let about = &self.about;
        let said = match key {
            "deadline" => &about.deadline,
            "retries" => &about.retries,
            "redelivery" => &about.redelivery,
            _ => &about.rotation,
        };
        let said = said.as_deref()?;
        let is = |keys: &[String]| keys.iter().any(|it| it == key);
        Some(match about.pages.get(key) {
            _ if is(&about.unverified) => format!("{} (not verified)", said.trim_end_matches('.')),
            Some(page) => format!("{said} ({page})"),
            None => said.to_owned(),
        })
    }

    /// The same, or why there is nothing.
    pub(super) fn answer_to(&self, key: &str) -> String {
        self.claim(key).unwrap_or_else(|| {
            let is_unsaid = self.about.unsaid.iter().any(|it| it == key);
            let words = if is_unsaid { UNSAID } else { NOT_FOUND };
            words.to_owned()
        })
    }

    /// What the operator does there, a line each, for a source of the provider's name.
    pub(in crate::cli) fn steps(&self) -> Vec<String> {
        let steps = self.about.setup.iter().chain(&self.about.events);
        steps.map(|step| step.replace("NAME", &self.name)).collect()
    }

    /// Whether a copy of an event is recognised.
    pub(super) fn tells_copies(&self) -> bool {
        self.raw.event_id.is_some() || self.is_of_cloud_events()
    }

    fn is_of_cloud_events(&self) -> bool {
        self.raw.format.as_deref() == Some("cloudevents")
    }

    /// By what a copy of an event is recognised.
    pub(super) fn copies(&self) -> String {
        match self.raw.event_id.as_deref() {
            Some(places) => {
                let places: Vec<&str> = places.iter().map(|it| in_words(it)).collect();
                format!("recognised by {}", places.join(", else "))
            }
            None if self.is_of_cloud_events() => {
                "recognised by the CloudEvent's `source` and `id`".to_owned()
            }
            None => "not recognised: no id in its events is known".to_owned(),
        }
    }

    pub(super) fn rotation(&self) -> String {
        if self.is_enrolled() {
            return format!(
                "Run `hookgate enroll {} --for 10m` again and make the webhook there anew: the former \
                 secret counts beside the new one for an hour.",
                self.name
            );
        }
        if self.variable().is_none() {
            return "Nothing to do: the keys are fetched, and those of the provider.".to_owned();
        }
        self.claim("rotation")
            .unwrap_or_else(|| ROTATION.to_owned())
    }

    pub(super) fn evidence(&self) -> String {
        let labels = self.about.evidence.iter().map(|evidence| evidence.label());
        labels.collect::<Vec<_>>().join(", ")
    }

    /// The expressions that an event's type is read from.
    pub(super) fn event_type(&self) -> &[String] {
        self.raw.event_type.as_deref().unwrap_or_default()
    }

    /// Whether its secret comes in a handshake.
    pub(in crate::cli) fn is_enrolled(&self) -> bool {
        let mut rules = self.raw.handshakes.iter();
        rules.any(|rule| rule.capture.is_some())
    }

    /// The environment variable that holds its secret; `None` when it needs none, or one that
    /// comes in a handshake.
    pub(in crate::cli) fn variable(&self) -> Option<String> {
        if self.is_enrolled() || self.compile_with(&[]).is_some() {
            return None;
        }
        let kind = match self.proof().as_str() {
            "ed25519" | "ecdsa-p256-sha256" | "rsa-pkcs1-sha256" => PUBLIC_KEY,
            "token" => "TOKEN",
            "basic" => "LOGIN",
            "jwt" if !self.has_shared_key() => PUBLIC_KEY,
            _ => "SECRET",
        };
        let name = self.name.to_uppercase().replace('-', "_");
        // `gitlab-token` has one already.
        let name = name.trim_end_matches(&format!("_{kind}"));
        Some(format!("{name}_{kind}"))
    }

    /// Whether tokens are signed with a secret that both sides have.
    fn has_shared_key(&self) -> bool {
        let Some(RawVerify::Schemes(schemes)) = &self.raw.verify else {
            return false;
        };
        let mut algorithms = schemes.iter().flat_map(|it| &it.token.algorithms);
        algorithms.any(|algorithm| algorithm.starts_with("HS"))
    }

    /// Whether the operator has to put anything into its block.
    pub(in crate::cli) fn has_to_be_changed(&self) -> bool {
        !self.config.is_empty()
    }

    /// A source of this provider for `gateway.toml`.
    pub(in crate::cli) fn block(&self) -> String {
        let name = &self.name;
        let mut block = format!("[sources.{name}]\nprovider = \"{name}\"\n");
        if self.is_enrolled() {
            block.push_str("secrets = \"enrolled\"\n");
        }
        if let Some(variable) = self.variable() {
            block.push_str(&format!("secrets = [{{ env = \"{variable}\" }}]\n"));
        }
        for key in &self.config {
            let value = self.stand_in(key);
            block.push_str(&format!("config.{key} = \"{value}\"\n"));
        }
        if self.is_to_be_confirmed() {
            block.push_str(
                "confirm = true   # the gateway itself calls the URL that a handshake names\n",
            );
        }
        block
    }

    /// What stands for a value that the operator has to know.
    fn stand_in(&self, key: &str) -> &'static str {
        let schemes = match &self.raw.verify {
            Some(RawVerify::Schemes(schemes)) => schemes.as_slice(),
            _ => &[],
        };
        let place = format!("{{config:{key}}}");
        let mut urls = schemes.iter().filter_map(|it| it.token.jwks.as_deref());
        if urls.any(|url| url.starts_with(&place)) {
            URL_TO_CHANGE
        } else {
            TO_CHANGE
        }
    }
}

fn unknown(name: &str) -> Failure {
    let hint = providers::hint(name);
    let message = format!("there is no provider {name:?}; {hint}`hookgate providers` lists them");
    Failure::new(Exit::Usage, message)
}

/// `the digest of the body` for `digest`.
fn in_words(place: &str) -> &str {
    match place {
        "digest" => "a digest of the body",
        place => place,
    }
}

/// `GET` with `query:challenge`.
fn handshake(rule: &RawHandshake) -> String {
    let method = rule.method.as_deref().unwrap_or("any method");
    let path = rule.path.iter().map(|path| format!("the path `{path}`"));
    let mut marks: Vec<String> = path.collect();
    let equals = rule.equals.iter();
    marks.extend(equals.chain(&rule.require).map(|(place, value)| {
        if value.contains('{') {
            format!("`{place}`")
        } else {
            format!("`{place} = {value}`")
        }
    }));
    marks.extend(rule.one_of.keys().map(|place| format!("`{place}`")));
    marks.extend(rule.has.iter().map(|place| format!("`{place}`")));
    marks.dedup();
    if marks.is_empty() {
        return method.to_owned();
    }
    format!("{method} with {}", marks.join(", "))
}
