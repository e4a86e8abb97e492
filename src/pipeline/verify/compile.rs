//! One table of `verify` as written -> [`Scheme`], with every mistake at once.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::authorities::Authorities;
use crate::config::problem::Problem;
use crate::config::raw::{RawFetch, RawList, RawScheme};
use crate::delivery::Coverage;
use crate::pipeline::evidence::{Holds, Hosts};
use crate::pipeline::expr::{Header, Place};
use crate::pipeline::verify::Context;
use crate::pipeline::verify::assertion::Assertion;
use crate::pipeline::verify::fetched::{FetchedKey, PathPattern};
use crate::pipeline::verify::jwt;
use crate::pipeline::verify::key::{Encoding, KeyForm};
use crate::pipeline::verify::mac::Algorithm;
use crate::pipeline::verify::public::{PublicAlgorithm, PublicForm};
use crate::pipeline::verify::scheme::{Key, Kind, Method, Ready, Scheme, Signing};
use crate::pipeline::verify::signature::{List, Named, Signature, Spot};
use crate::pipeline::verify::sns;
use crate::pipeline::verify::stamp::{Stamp, StampSpot, TOLERANCE_DEFAULT, Unit};
use crate::pipeline::verify::template::{Part, Template};
use crate::pipeline::verify::url::UrlVariant;
use crate::pipeline::verify::words::{config_value, did_you_mean, one_of};
use crate::secret::Labelled;

/// What `algorithm` takes.
const ALGORITHMS: [(&str, Asked); 15] = [
    ("hmac-sha256", Asked::Signed(Algorithm::HmacSha256)),
    ("hmac-sha1", Asked::Signed(Algorithm::HmacSha1)),
    ("hmac-sha384", Asked::Signed(Algorithm::HmacSha384)),
    ("hmac-sha512", Asked::Signed(Algorithm::HmacSha512)),
    ("sha256", Asked::Signed(Algorithm::PlainSha256)),
    ("sha1", Asked::Signed(Algorithm::PlainSha1)),
    ("ed25519", Asked::Public(PublicAlgorithm::Ed25519)),
    (
        "ecdsa-p256-sha256",
        Asked::Public(PublicAlgorithm::EcdsaP256Sha256),
    ),
    (
        "rsa-pkcs1-sha256",
        Asked::Public(PublicAlgorithm::RsaPkcs1Sha256),
    ),
    ("sns", Asked::Sns),
    ("token", Asked::Token),
    ("basic", Asked::Basic),
    ("jwt", Asked::Jwt),
    ("rfc9421", Asked::Message),
    ("client-certificate", Asked::Certificate),
];

/// What is signed when the configuration does not say.
const SIGNED_DEFAULT: &str = "{body}";

/// What is fetched when the configuration does not say.
const CERTIFICATE: &str = "certificate";

/// Where `basic` looks when the configuration does not say.
const BASIC_DEFAULT: &str = "header:Authorization";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Signed(Algorithm),
    Public(PublicAlgorithm),
    Sns,
    Token,
    Basic,
    Jwt,
    Message,
    Certificate,
}

/// What is wrong with one table.
#[derive(Debug, Default)]
pub(super) struct Mistakes {
    /// With paths relative to the table.
    pub(super) of_table: Vec<Problem>,
    /// With paths relative to the source: the secrets.
    pub(super) of_source: Vec<Problem>,
}

/// Compiles one table. `lenient` lets a secret pass by that is not written in this table's form,
/// because another table may use it.
pub(super) fn compile(
    raw: &RawScheme,
    context: &Context<'_>,
    lenient: bool,
) -> Result<Scheme, Mistakes> {
    let mut compiler = Compiler {
        context,
        mistakes: Mistakes::default(),
    };
    let scheme = compiler.scheme(raw, lenient);
    let Mistakes {
        of_table,
        of_source,
    } = &compiler.mistakes;
    match scheme {
        Some(scheme) if of_table.is_empty() && of_source.is_empty() => Ok(scheme),
        _ => Err(compiler.mistakes),
    }
}

pub(super) struct Compiler<'a> {
    context: &'a Context<'a>,
    mistakes: Mistakes,
}

impl Compiler<'_> {
    pub(super) fn wrong(&mut self, key: &str, what: impl Into<String>, help: impl Into<String>) {
        self.mistakes
            .of_table
            .push(Problem::error(&[key], what).help(help));
    }

    /// The result, or nothing and a problem at `key`.
    pub(super) fn take<T>(
        &mut self,
        key: &str,
        result: Result<T, impl Into<Problem>>,
    ) -> Option<T> {
        result
            .map_err(|problem| self.mistakes.of_table.push(problem.into().under(&[key])))
            .ok()
    }

    pub(super) fn word<T: Copy>(
        &mut self,
        key: &str,
        text: Option<&str>,
        known: &[(&str, T)],
    ) -> Option<T> {
        let Some(text) = text else {
            return known.first().map(|(_, default)| *default);
        };
        let found = known
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            self.wrong(
                key,
                format!("`{text}` is not known here"),
                did_you_mean(text, &names),
            );
        }
        found
    }

    fn scheme(&mut self, raw: &RawScheme, lenient: bool) -> Option<Scheme> {
        let asked = self.algorithm(raw.algorithm.as_deref());
        self.ensure_belonging(raw, asked);
        self.ensure_no_claims(raw, asked);
        match asked {
            Some(Asked::Message) => self.message(raw, lenient),
            Some(Asked::Certificate) => Some(self.certificate(raw)),
            asked => self.value(raw, asked, lenient),
        }
    }

    pub(super) fn asserts(&mut self, raw: &RawScheme) -> Vec<Assertion> {
        let parse = |text: &String| {
            let parsed = Assertion::parse(text, self.context.config);
            self.take("assert", parsed)
        };
        raw.assert.iter().filter_map(parse).collect()
    }

    /// The source's address, as its sender was told.
    pub(super) fn url(&self) -> Option<&str> {
        self.context.url.as_deref()
    }

    /// Reports what is said of another algorithm: it would be ignored in silence.
    fn ensure_belonging(&mut self, raw: &RawScheme, asked: Option<Asked>) {
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

    /// A table about what stands somewhere in the request.
    fn value(&mut self, raw: &RawScheme, asked: Option<Asked>, lenient: bool) -> Option<Scheme> {
        let signature = self.signature(raw, asked);
        let asserts = self.asserts(raw);
        let (kind, template) = match asked {
            Some(Asked::Jwt) => {
                let jwt = jwt::compile(raw, self.context, lenient, &mut self.mistakes);
                (jwt.map(|jwt| Kind::Jwt(Box::new(jwt))), None)
            }
            Some(Asked::Token) => (Some(Kind::Token), None),
            Some(Asked::Basic) => (Some(Kind::Basic), None),
            Some(Asked::Signed(algorithm)) => self.signing(raw, Some(algorithm)),
            Some(Asked::Public(algorithm)) => self.public_signing(raw, algorithm),
            Some(Asked::Sns) => self.sns_signing(raw),
            // Most tables are about a signature, and what is said of one can be judged.
            _ => self.signing(raw, None),
        };
        let is_token = matches!(kind, Some(Kind::Token | Kind::Basic));
        if is_token {
            self.ensure_unsaid(raw);
        }
        let is_jwt = asked == Some(Asked::Jwt);
        let template = template.as_ref();
        let stamp = if is_jwt || is_token && raw.timestamp.is_some() {
            None
        } else {
            self.stamp(raw, template)
        };
        let wants_url = |template: &Template| template.any(|part| matches!(part, Part::Url(_)));
        if template.is_some_and(wants_url) && self.context.url.is_none() {
            self.wrong(
                "signed",
                "`{url}` needs to know the address that the provider was given",
                "set `public_url` under `[server]`",
            );
        }
        // Whether there have to be secrets is up to the algorithm.
        let judges_keys = asked.is_some() || !self.context.secrets.is_empty();
        let fetched = raw.fetch.as_ref().map(|fetch| {
            self.ensure_no_own_key(raw);
            self.fetched(fetch, asked)
        });
        if asked == Some(Asked::Sns) {
            self.ensure_topic(raw, &asserts);
        }
        let keys = match (&kind, &fetched) {
            (_, Some(_)) => Some(Vec::new()),
            // Only its certificates are keys, and they are fetched.
            (Some(_), None) if asked == Some(Asked::Sns) => Some(Vec::new()),
            // It holds its own, each made for the algorithms of the table.
            (Some(Kind::Jwt(_)), None) => Some(Vec::new()),
            (Some(kind), None) if judges_keys => Some(self.keys(kind, &raw.secrets, lenient)),
            _ => None,
        };
        let other_urls = self.other_urls(raw, template.is_some_and(wants_url));
        let coverage = match &kind {
            Some(Kind::Jwt(jwt)) if jwt.covers_body() => Coverage::Full,
            _ => coverage(template, &asserts),
        };
        let url = self.context.url.clone();
        Some(Scheme {
            kind: kind?,
            signature: signature?,
            stamp,
            asserts,
            coverage,
            keys: keys?,
            fetched: match fetched {
                None => None,
                Some(fetched) => Some(fetched?),
            },
            url,
            other_urls,
        })
    }

    /// Where the key is fetched, there is no other.
    fn ensure_no_own_key(&mut self, raw: &RawScheme) {
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
    fn ensure_topic(&mut self, raw: &RawScheme, asserts: &[Assertion]) {
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

    fn other_urls(&mut self, raw: &RawScheme, signs_url: bool) -> Vec<String> {
        if !raw.url_variants.is_empty() && !signs_url {
            self.wrong(
                "url_variants",
                "the URL is not part of what is signed",
                "leave it out, or put `{url}` into `signed`",
            );
        }
        let mut urls = Vec::new();
        for word in &raw.url_variants {
            let variant = self.word("url_variants", Some(word), &UrlVariant::ALL);
            let url = self.context.url.as_deref();
            urls.extend(variant.zip(url).and_then(|(variant, url)| variant.of(url)));
        }
        urls
    }

    fn algorithm(&mut self, text: Option<&str>) -> Option<Asked> {
        let names: Vec<&str> = ALGORITHMS.iter().map(|(name, _)| *name).collect();
        match text {
            None => self.wrong("algorithm", "`algorithm` is missing", one_of(&names)),
            Some(text) => return self.word("algorithm", Some(text), &ALGORITHMS),
        }
        None
    }

    fn signature(&mut self, raw: &RawScheme, asked: Option<Asked>) -> Option<Signature> {
        let mut spots = Vec::new();
        for text in &raw.signature {
            let spot = match text.strip_prefix("json:").filter(|it| it.contains("/*")) {
                Some(pointer) if matches!(asked, Some(Asked::Token | Asked::Jwt)) => each(pointer),
                _ => spot(text),
            };
            spots.extend(self.take("signature", spot));
        }
        let is_each = |spot: &Spot| matches!(spot, Spot::Each { .. });
        let is_plain = spots.len() == 1 && raw.list.is_none() && raw.prefix.is_none();
        if spots.iter().any(is_each) && !is_plain {
            self.wrong(
                "signature",
                "every element of a list has to be right, so nothing else can stand beside it",
                "name one place, without `list` and `prefix`",
            );
        }
        if raw.signature.is_empty() {
            if asked == Some(Asked::Basic) {
                spots.extend(self.take("signature", spot(BASIC_DEFAULT)));
            } else if asked == Some(Asked::Sns) {
                spots.extend(self.take("signature", spot(sns::SIGNATURE)));
            } else {
                self.wrong(
                    "signature",
                    "`signature` is missing: nobody knows where the proof stands",
                    "for example `signature = \"header:X-Signature\"`",
                );
            }
        }
        let list = match &raw.list {
            None => None,
            Some(raw) => Some(self.list(raw)?),
        };
        let prefix = raw.prefix.clone().unwrap_or_default();
        (!spots.is_empty()).then_some(Signature {
            spots,
            list,
            prefix,
        })
    }

    fn list(&mut self, raw: &RawList) -> Option<List> {
        let example = "for example `list = { separator = \",\", assign = \"=\", pick = \"v1\" }`";
        let Some(separator) = raw
            .separator
            .clone()
            .filter(|separator| !separator.is_empty())
        else {
            self.wrong("list", "`separator` is missing", example);
            return None;
        };
        let named = match (&raw.assign, &raw.pick) {
            (None, None) => None,
            (Some(assign), Some(pick)) if !assign.is_empty() && !pick.is_empty() => {
                let pick = match pick.strip_prefix("config:") {
                    None => pick.clone(),
                    Some(name) => {
                        let value = config_value(self.context.config, name);
                        self.take("list", value)?.to_owned()
                    }
                };
                Some(Named {
                    assign: assign.clone(),
                    pick,
                })
            }
            _ => {
                self.wrong(
                    "list",
                    "`assign` and `pick` go together, and are not empty",
                    example,
                );
                return None;
            }
        };
        Some(List { separator, named })
    }

    /// What is signed and how, and the template also when the rest makes no sense. One mistake
    /// keeps the table from compiling, so anything may stand in for a word that is not known.
    fn signing(
        &mut self,
        raw: &RawScheme,
        algorithm: Option<Algorithm>,
    ) -> (Option<Kind>, Option<Template>) {
        let form = self.word("key", raw.key.as_deref(), &KeyForm::ALL);
        let method = Method::Shared {
            algorithm: algorithm.unwrap_or(Algorithm::HmacSha256),
            form: form.unwrap_or(KeyForm::Utf8),
        };
        let (kind, template) = self.signed(raw, method);
        let has_secret = template
            .as_ref()
            .is_none_or(|template| template.any(|part| matches!(part, Part::Secret)));
        if algorithm.is_some_and(Algorithm::is_plain) && !has_secret {
            self.wrong(
                "signed",
                "a plain hash without `{secret}` could be made by anybody",
                "put `{secret}` where the provider puts it, or use an `hmac-` algorithm",
            );
        }
        (kind, template)
    }

    /// The same for a sender with a key of its own.
    fn public_signing(
        &mut self,
        raw: &RawScheme,
        algorithm: PublicAlgorithm,
    ) -> (Option<Kind>, Option<Template>) {
        let form = self.word("key", raw.key.as_deref(), &PublicForm::ALL);
        let form = form.unwrap_or(PublicForm::Pem);
        let (kind, template) = self.signed(raw, Method::Public { algorithm, form });
        let has_secret = |template: &Template| template.any(|part| matches!(part, Part::Secret));
        if template.as_ref().is_some_and(has_secret) {
            self.wrong(
                "signed",
                format!("with {} there is no secret to be signed", algorithm.name()),
                "leave `{secret}` out",
            );
        }
        (kind, template)
    }

    /// The same for Amazon SNS, which has its own way with everything.
    fn sns_signing(&mut self, raw: &RawScheme) -> (Option<Kind>, Option<Template>) {
        let said = [
            ("signed", raw.signed.is_some()),
            ("encoding", raw.encoding.is_some()),
            ("key", raw.key.is_some()),
        ];
        for (key, _) in said.into_iter().filter(|(_, said)| *said) {
            let what = format!("`{key}` is not for `sns`, which says it itself");
            self.wrong(key, what, "leave it out");
        }
        let signing = Signing {
            method: Method::Public {
                algorithm: PublicAlgorithm::Sns,
                form: PublicForm::Pem,
            },
            encoding: Encoding::Base64,
            template: Template::sns(),
        };
        (Some(Kind::Signed(signing)), Some(Template::sns()))
    }

    /// Where the key is fetched from. What is wrong with it is a problem at `fetch`.
    fn fetched(&mut self, raw: &RawFetch, asked: Option<Asked>) -> Option<FetchedKey> {
        let example = "for example `fetch = { url = \"header:X-Cert-Url\", hosts = \
                       [\"certs.example.com\"] }`";
        let url = match &raw.url {
            Some(text) => self.take("fetch", Place::parse(text)),
            None => {
                let what = "`url` is missing: nobody knows where the request names the key";
                self.wrong("fetch", what, example);
                None
            }
        };
        if raw.hosts.is_empty() {
            let what = "`hosts` is missing: a request could name any";
            self.wrong("fetch", what, example);
        }
        let hosts = Hosts::parse(&raw.hosts).map_err(|(_, what)| what);
        let hosts = self.take("fetch", hosts);
        let path = raw.path.as_deref().map(PathPattern::parse).transpose();
        let path = self.take("fetch", path)?.unwrap_or_default();
        let holds = match raw.holds.as_deref() {
            None | Some(CERTIFICATE) => Holds::Certificate,
            Some(text) => match Place::parse(text) {
                Ok(Place::Json(pointer)) => Holds::Json(pointer),
                _ => {
                    let what = format!("`holds` cannot be `{text}`");
                    let help = "it can be `certificate`, or `json:/pointer` to a shared key";
                    self.wrong("fetch", what, help);
                    return None;
                }
            },
        };
        let fits = match asked {
            Some(Asked::Public(_) | Asked::Sns) => holds == Holds::Certificate,
            Some(Asked::Signed(_)) => holds != Holds::Certificate,
            Some(
                Asked::Token | Asked::Basic | Asked::Jwt | Asked::Message | Asked::Certificate,
            ) => false,
            None => true,
        };
        if !fits {
            let what = "what is fetched is no key for this `algorithm`";
            let help = "a certificate is for `rsa-pkcs1-sha256` and its like, `holds = \
                        \"json:/pointer\"` for `hmac-` algorithms";
            self.wrong("fetch", what, help);
        }
        if !raw.names.is_empty() && holds != Holds::Certificate {
            let what = "`names` are for certificates";
            self.wrong("fetch", what, "leave them out");
        }
        Some(FetchedKey {
            url: url?,
            hosts: hosts?,
            path,
            holds,
            names: raw.names.clone(),
            authorities: Authorities::with(Vec::new()),
        })
    }

    fn signed(&mut self, raw: &RawScheme, method: Method) -> (Option<Kind>, Option<Template>) {
        let encoding = self.word("encoding", raw.encoding.as_deref(), &Encoding::ALL);
        let text = raw.signed.as_deref().unwrap_or(SIGNED_DEFAULT);
        let Some(template) = self.take("signed", Template::parse(text, self.context.config)) else {
            return (None, None);
        };
        if !template.any(|part| !matches!(part, Part::Literal(_) | Part::Secret)) {
            self.wrong(
                "signed",
                "nothing of the request is signed, so one signature would fit every request",
                "for example `signed = \"{body}\"`",
            );
        }
        if template.any(|part| matches!(part, Part::Timestamp)) && raw.timestamp.is_none() {
            self.wrong(
                "signed",
                "`{timestamp}` is signed, but nobody knows where it stands",
                "for example `timestamp = \"header:X-Timestamp\"`",
            );
        }
        let signing = Signing {
            method,
            encoding: encoding.unwrap_or(Encoding::Hex),
            template: template.clone(),
        };
        (Some(Kind::Signed(signing)), Some(template))
    }

    /// A token is not a signature: what is about signatures would be ignored in silence.
    fn ensure_unsaid(&mut self, raw: &RawScheme) {
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
    fn ensure_no_claims(&mut self, raw: &RawScheme, asked: Option<Asked>) {
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

    fn stamp(&mut self, raw: &RawScheme, template: Option<&Template>) -> Option<Stamp> {
        let tolerance = raw.tolerance.filter(|tolerance| !tolerance.is_zero());
        let Some(text) = &raw.timestamp else {
            if tolerance.is_some() {
                self.wrong(
                    "tolerance",
                    "a tolerance without a `timestamp`",
                    "say where the timestamp stands, or leave `tolerance` out",
                );
            }
            return None;
        };
        let unit = self.word("timestamp_unit", raw.timestamp_unit.as_deref(), &Unit::ALL);
        let spot = self.stamp_spot(text, raw);
        let (template, unit, spot) = (template?, unit?, spot?);
        let interpolated = template.any(|part| matches!(part, Part::Timestamp));
        let covered =
            interpolated || matches!(&spot, StampSpot::At(place) if template.covers(place));
        if covered {
            let tolerance = match raw.tolerance {
                None => Some(TOLERANCE_DEFAULT),
                Some(_) => tolerance,
            };
            return Some(Stamp {
                spot,
                unit,
                tolerance,
            });
        }
        if tolerance.is_some() {
            self.wrong(
                "tolerance",
                "the timestamp is not part of what is signed, so anybody could put a fresh one",
                "put `{timestamp}` into `signed`, or leave `tolerance` out",
            );
        }
        // Unsigned and unchecked: whatever it says must not matter.
        None
    }

    fn stamp_spot(&mut self, text: &str, raw: &RawScheme) -> Option<StampSpot> {
        let Some(key) = text.strip_prefix("signature:") else {
            return self.take("timestamp", Place::parse(text).map(StampSpot::At));
        };
        let is_named = raw.list.as_ref().is_some_and(|list| list.assign.is_some());
        if !is_named {
            self.wrong(
                "timestamp",
                format!("`{text}` is an item of the signature's list, and there is no such list"),
                "for example `list = { separator = \",\", assign = \"=\", pick = \"v1\" }`",
            );
        } else if raw.signature.len() > 1 {
            self.wrong(
                "timestamp",
                format!("`{text}` could stand at several places"),
                "name one place in `signature`",
            );
        } else {
            return Some(StampSpot::Item(key.to_owned()));
        }
        None
    }

    /// The source's secrets as keys; of `labels`, if there are any, only those.
    pub(super) fn keys(&mut self, kind: &Kind, labels: &[String], lenient: bool) -> Vec<Key> {
        let mut keys = Vec::new();
        let mut unfit = Vec::new();
        let lenient = lenient && labels.is_empty();
        for (position, labelled) in counted(self.context, labels, &mut self.mistakes) {
            match ready(kind, labelled) {
                Ok(ready) => keys.push(Key {
                    label: Arc::clone(&labelled.label),
                    secret: labelled.secret.clone(),
                    ready,
                }),
                Err(Unfit { what, help }) => {
                    let path = ["secrets", &position.to_string()];
                    let what = format!("the secret `{}` {what}", labelled.label);
                    unfit.push(Problem::error(&path, what).help(help));
                }
            }
        }
        if self.context.secrets.is_empty() {
            let problem = Problem::error(&["secrets"], "there is no secret to verify with");
            let help = "for example `secrets = [{ env = \"WEBHOOK_SECRET\" }]`";
            self.mistakes.of_source.push(problem.help(help));
        }
        if keys.is_empty() || !lenient {
            self.mistakes.of_source.append(&mut unfit);
        }
        keys
    }
}

/// The secrets that count in a table, with their positions: of `labels`, if there are any, only
/// those. A label that no secret has is a mistake.
pub(super) fn counted<'c>(
    context: &Context<'c>,
    labels: &[String],
    mistakes: &mut Mistakes,
) -> Vec<(usize, &'c Labelled)> {
    let all = context.secrets;
    let known: Vec<&str> = all.iter().map(|it| &*it.label).collect();
    for label in labels.iter().filter(|it| !known.contains(&it.as_str())) {
        let problem = Problem::error(&["secrets"], format!("no secret has the label `{label}`"));
        let problem = problem.help(did_you_mean(label, &known));
        mistakes.of_table.push(problem);
    }
    let counts = |it: &Labelled| labels.is_empty() || labels.iter().any(|l| **l == *it.label);
    let all = all.iter().enumerate();
    all.filter(|(_, labelled)| counts(labelled)).collect()
}

fn spot(text: &str) -> Result<Spot, String> {
    if let Some(written) = text.strip_prefix("header*:") {
        let header = Header::parse(written)?;
        let prefix = header.name.as_str().to_owned();
        return Ok(Spot::HeadersLike {
            prefix,
            written: header.written,
        });
    }
    Place::parse(text).map(Spot::At)
}

/// `/value/*/clientState`.
fn each(pointer: &str) -> Result<Spot, String> {
    match pointer.split_once("/*") {
        Some((list, member))
            if !member.contains('*') && (member.is_empty() || member.starts_with('/')) =>
        {
            Ok(Spot::Each {
                list: list.to_owned(),
                member: member.to_owned(),
            })
        }
        _ => Err(format!(
            "`{pointer}`: one `*` stands for every element of one list"
        )),
    }
}

/// Why a secret cannot be used. Says nothing of the secret itself.
struct Unfit {
    what: String,
    help: &'static str,
}

fn ready(kind: &Kind, labelled: &Labelled) -> Result<Ready, Unfit> {
    let unfit = |what: &str, help| Unfit {
        what: what.to_owned(),
        help,
    };
    let secret = labelled.secret.expose();
    if secret.is_empty() {
        return Err(unfit("is empty", "take it from the provider's settings"));
    }
    let method = match kind {
        Kind::Signed(signing) => Some(signing.method),
        Kind::Message(message) => Some(message.method),
        Kind::Token | Kind::Basic | Kind::Jwt(_) | Kind::Certificate(_) => None,
    };
    let takes_public = matches!(method, Some(Method::Public { .. }));
    if !takes_public && PublicForm::is_written_as_public(secret) {
        return Err(unfit(
            "is a public key, which anybody may know",
            "use the `algorithm` that the provider signs with, or say in `secrets` of each table \
             which of them count there",
        ));
    }
    let badly_written = |name, help| Unfit {
        what: format!("is not written as {name}"),
        help,
    };
    match (kind, method) {
        (_, Some(Method::Shared { algorithm, form })) => {
            let key = form.key(secret);
            let key = key.ok_or_else(|| badly_written(form.name(), form.looks()))?;
            let mac = algorithm.keyed(&key);
            mac.map(|mac| Ready::Mac(Box::new(mac)))
                .ok_or_else(|| unfit("cannot be used as a key", "use another `algorithm`"))
        }
        (_, Some(Method::Public { algorithm, form })) => {
            let key = form.key(secret);
            let key = key.ok_or_else(|| badly_written(form.name(), form.looks()))?;
            let public = algorithm.public_key(&key);
            public
                .map(|key| Ready::Public(Box::new(key)))
                .ok_or_else(|| {
                    let help = "copy the whole key from the provider's page, or use another \
                            `algorithm`";
                    unfit(&format!("is no public key for {}", algorithm.name()), help)
                })
        }
        (Kind::Basic, None) if !secret.contains(&b':') => Err(unfit(
            "is not of the form `USER:PASSWORD`",
            "write both into one secret, with a colon between them",
        )),
        (_, None) => Ok(Ready::Hash(Sha256::digest(secret).into())),
    }
}

/// How much of the body the proof covers. A checksum that is no cryptographic hash covers nothing
/// by itself, so it counts like a field.
pub(super) fn coverage(template: Option<&Template>, asserts: &[Assertion]) -> Coverage {
    let Some(template) = template else {
        return Coverage::Token;
    };
    let is_body = |part: &Part| matches!(part, Part::Body | Part::BodySha256Hex);
    let is_field = |part: &Part| {
        matches!(
            part,
            Part::BodyCrc32
                | Part::FormSorted
                | Part::Sns
                | Part::Value {
                    place: Place::Form(_) | Place::Json(_),
                    ..
                }
        )
    };
    if template.any(is_body)
        || asserts
            .iter()
            .any(|assert| assert.extends_to_body(template))
    {
        Coverage::Full
    } else if template.any(is_field) {
        Coverage::Fields
    } else {
        Coverage::Token
    }
}
