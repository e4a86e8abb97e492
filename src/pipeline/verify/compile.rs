//! One table of `verify` as written -> [`Scheme`], with every mistake at once.

mod belonging;
mod coverage;
mod fetch;
mod keys;
mod place;
mod signed;
mod stamp;

use crate::config::problem::Problem;
use crate::config::raw::RawScheme;
use crate::delivery::Coverage;
use crate::pipeline::verify::Context;
use crate::pipeline::verify::assertion::Assertion;
use crate::pipeline::verify::jwt;
use crate::pipeline::verify::mac::Algorithm;
use crate::pipeline::verify::public::PublicAlgorithm;
use crate::pipeline::verify::scheme::{Kind, Scheme};
use crate::pipeline::verify::template::{Part, Template};
use crate::pipeline::verify::words::{did_you_mean, one_of};

pub(super) use coverage::coverage;
pub(super) use keys::counted;

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

/// What is fetched when the configuration does not say.
const CERTIFICATE: &str = "certificate";

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
        if let (Some(signature), Some(template)) = (&signature, &template) {
            self.ensure_can_hold(signature, template);
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

    fn algorithm(&mut self, text: Option<&str>) -> Option<Asked> {
        let names: Vec<&str> = ALGORITHMS.iter().map(|(name, _)| *name).collect();
        match text {
            None => self.wrong("algorithm", "`algorithm` is missing", one_of(&names)),
            Some(text) => return self.word("algorithm", Some(text), &ALGORITHMS),
        }
        None
    }
}
