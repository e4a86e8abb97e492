//! One table of `verify` as written -> [`Scheme`], with every mistake at once.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::config::problem::Problem;
use crate::config::raw::{RawList, RawScheme};
use crate::delivery::Coverage;
use crate::pipeline::expr::{Header, Place};
use crate::pipeline::verify::Context;
use crate::pipeline::verify::assertion::Assertion;
use crate::pipeline::verify::key::{Encoding, KeyForm};
use crate::pipeline::verify::mac::Algorithm;
use crate::pipeline::verify::public::{PublicAlgorithm, PublicForm};
use crate::pipeline::verify::scheme::{Key, Kind, Method, Ready, Scheme, Signing};
use crate::pipeline::verify::signature::{List, Named, Signature, Spot};
use crate::pipeline::verify::stamp::{Stamp, StampSpot, TOLERANCE_DEFAULT, Unit};
use crate::pipeline::verify::template::{Part, Template};
use crate::pipeline::verify::words::{did_you_mean, one_of};
use crate::secret::Labelled;

/// What `algorithm` takes.
const ALGORITHMS: [(&str, Asked); 11] = [
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
    ("token", Asked::Token),
    ("basic", Asked::Basic),
];

/// What `algorithm` will take.
const ALGORITHMS_LATER: [&str; 2] = ["jwt", "client-certificate"];

/// What is signed when the configuration does not say.
const SIGNED_DEFAULT: &str = "{body}";

/// Where `basic` looks when the configuration does not say.
const BASIC_DEFAULT: &str = "header:Authorization";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Signed(Algorithm),
    Public(PublicAlgorithm),
    Token,
    Basic,
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

struct Compiler<'a> {
    context: &'a Context<'a>,
    mistakes: Mistakes,
}

impl Compiler<'_> {
    fn wrong(&mut self, key: &str, what: impl Into<String>, help: impl Into<String>) {
        self.mistakes
            .of_table
            .push(Problem::error(&[key], what).help(help));
    }

    /// The result, or nothing and a problem at `key`.
    fn take<T>(&mut self, key: &str, result: Result<T, String>) -> Option<T> {
        result
            .map_err(|what| self.mistakes.of_table.push(Problem::error(&[key], what)))
            .ok()
    }

    fn word<T: Copy>(&mut self, key: &str, text: Option<&str>, known: &[(&str, T)]) -> Option<T> {
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
        let signature = self.signature(raw, asked);
        let asserts: Vec<Assertion> = raw
            .assert
            .iter()
            .filter_map(|text| self.take("assert", Assertion::parse(text, self.context.config)))
            .collect();
        let (kind, template) = match asked {
            Some(Asked::Token) => (Some(Kind::Token), None),
            Some(Asked::Basic) => (Some(Kind::Basic), None),
            Some(Asked::Signed(algorithm)) => self.signing(raw, Some(algorithm)),
            Some(Asked::Public(algorithm)) => self.public_signing(raw, algorithm),
            // Most tables are about a signature, and what is said of one can be judged.
            None => self.signing(raw, None),
        };
        let is_token = matches!(kind, Some(Kind::Token | Kind::Basic));
        if is_token {
            self.ensure_unsaid(raw);
        }
        let template = template.as_ref();
        let stamp = if is_token && raw.timestamp.is_some() {
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
        let keys = kind
            .as_ref()
            .filter(|_| judges_keys)
            .map(|kind| self.keys(kind, &raw.secrets, lenient));
        let coverage = coverage(template, &asserts);
        let url = self.context.url.clone();
        Some(Scheme {
            kind: kind?,
            signature: signature?,
            stamp,
            asserts,
            coverage,
            keys: keys?,
            url,
        })
    }

    fn algorithm(&mut self, text: Option<&str>) -> Option<Asked> {
        let names: Vec<&str> = ALGORITHMS.iter().map(|(name, _)| *name).collect();
        match text {
            None => self.wrong("algorithm", "`algorithm` is missing", one_of(&names)),
            Some(text) if ALGORITHMS_LATER.contains(&text) => {
                self.wrong(
                    "algorithm",
                    format!("`{text}` is not available yet"),
                    one_of(&names),
                );
            }
            Some(text) => return self.word("algorithm", Some(text), &ALGORITHMS),
        }
        None
    }

    fn signature(&mut self, raw: &RawScheme, asked: Option<Asked>) -> Option<Signature> {
        let mut spots = Vec::new();
        for text in &raw.signature {
            spots.extend(self.take("signature", spot(text)));
        }
        if raw.signature.is_empty() {
            if asked == Some(Asked::Basic) {
                spots.extend(self.take("signature", spot(BASIC_DEFAULT)));
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
                        let value = self.context.config.get(name).cloned();
                        let missing = format!("`config` does not have `{name}`");
                        self.take("list", value.ok_or(missing))?
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
    fn keys(&mut self, kind: &Kind, labels: &[String], lenient: bool) -> Vec<Key> {
        let mut keys = Vec::new();
        let mut unfit = Vec::new();
        let known = |label: &String| self.context.secrets.iter().any(|it| *it.label == **label);
        let unknown: Vec<String> = labels.iter().filter(|it| !known(it)).cloned().collect();
        for label in unknown {
            let known: Vec<&str> = self.context.secrets.iter().map(|it| &*it.label).collect();
            let help = did_you_mean(&label, &known);
            self.wrong(
                "secrets",
                format!("no secret has the label `{label}`"),
                help,
            );
        }
        let lenient = lenient && labels.is_empty();
        let counts = |labelled: &Labelled| {
            labels.is_empty() || labels.iter().any(|label| **label == *labelled.label)
        };
        let all = self.context.secrets.iter().enumerate();
        for (position, labelled) in all.filter(|(_, labelled)| counts(labelled)) {
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
    let is_public = |signing: &Signing| matches!(signing.method, Method::Public { .. });
    let takes_public = matches!(kind, Kind::Signed(signing) if is_public(signing));
    if !takes_public && PublicForm::is_written_as_public(secret) {
        return Err(unfit(
            "is a public key, which anybody may know",
            "use the `algorithm` that the provider signs with, or say in `secrets` of each table \
             which of them count there",
        ));
    }
    match kind {
        Kind::Signed(signing) => {
            let badly_written = |name, help| Unfit {
                what: format!("is not written as {name}"),
                help,
            };
            match signing.method {
                Method::Shared { algorithm, form } => {
                    let key = form.key(secret);
                    let key = key.ok_or_else(|| badly_written(form.name(), form.looks()))?;
                    let mac = algorithm.keyed(&key);
                    mac.map(|mac| Ready::Mac(Box::new(mac)))
                        .ok_or_else(|| unfit("cannot be used as a key", "use another `algorithm`"))
                }
                Method::Public { algorithm, form } => {
                    let key = form.key(secret);
                    let key = key.ok_or_else(|| badly_written(form.name(), form.looks()))?;
                    let public = algorithm.public_key(&key);
                    public.map(|key| Ready::Public(Box::new(key))).ok_or_else(|| {
                        let help = "copy the whole key from the provider's page, or use another \
                                    `algorithm`";
                        unfit(&format!("is no public key for {}", algorithm.name()), help)
                    })
                }
            }
        }
        Kind::Basic if !secret.contains(&b':') => Err(unfit(
            "is not of the form `USER:PASSWORD`",
            "write both into one secret, with a colon between them",
        )),
        Kind::Token | Kind::Basic => Ok(Ready::Hash(Sha256::digest(secret).into())),
    }
}

/// How much of the body the proof covers. A checksum that is no cryptographic hash covers nothing
/// by itself, so it counts like a field.
fn coverage(template: Option<&Template>, asserts: &[Assertion]) -> Coverage {
    let Some(template) = template else {
        return Coverage::Token;
    };
    let is_body = |part: &Part| matches!(part, Part::Body | Part::BodySha256Hex);
    let is_field = |part: &Part| {
        matches!(
            part,
            Part::BodyCrc32
                | Part::FormSorted
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
