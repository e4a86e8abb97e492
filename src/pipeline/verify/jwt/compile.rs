//! The words about tokens in a `verify` table -> [`Jwt`], with every mistake at once.

use std::sync::Arc;
use std::time::Duration;

use super::algorithm::{KeyKind, TokenAlgorithm};
use super::claims::{ClaimRule, LEEWAY_DEFAULT, Rules};
use super::introspection::CACHE_DEFAULT;
use super::key::{Material, TokenKey};
use super::query_hash::QueryHash;
use super::{BodyHash, Introspection, Jwt, Origin, Remote, jwks};
use crate::config::problem::Problem;
use crate::config::raw::RawScheme;
use crate::pipeline::evidence::Target;
use crate::pipeline::verify::Context;
use crate::pipeline::verify::compile::{Mistakes, counted};
use crate::pipeline::verify::key::{Encoding, KeyForm};
use crate::pipeline::verify::public::PublicForm;
use crate::pipeline::verify::template::{Part, Template, UrlForm};
use crate::pipeline::verify::words::did_you_mean;
use crate::secret::Labelled;

/// `audience = "any"`: nobody looks at `aud`.
const AUDIENCE_ANY: &str = "any";

/// Widest leeway. More would keep tokens alive that have ended.
const LEEWAY_MAX: Duration = Duration::from_mins(10);

/// Compiles what a table says of tokens. `lenient` lets a secret pass by that is no key of a token,
/// because another table may use it.
pub(in crate::pipeline::verify) fn compile(
    raw: &RawScheme,
    context: &Context<'_>,
    lenient: bool,
    mistakes: &mut Mistakes,
) -> Option<Jwt> {
    let mut compiler = Compiler {
        raw,
        context,
        mistakes,
    };
    let algorithms = compiler.algorithms();
    compiler.ensure_unsaid(&algorithms);
    let rules = compiler.rules();
    let body_hash = compiler.body_hash();
    let query_hash = raw.token.query_hash.clone().map(QueryHash::new);
    let (fixed, origin) = if raw.token.introspection.is_some() {
        (Vec::new(), compiler.introspection())
    } else {
        (
            compiler.keys(&algorithms, lenient),
            compiler.jwks(&algorithms),
        )
    };
    compiler.ensure_bounded();
    Some(Jwt {
        algorithms,
        fixed,
        origin: origin?,
        rules,
        body_hash,
        query_hash,
    })
}

struct Compiler<'a> {
    raw: &'a RawScheme,
    context: &'a Context<'a>,
    mistakes: &'a mut Mistakes,
}

impl<'a> Compiler<'a> {
    fn wrong(&mut self, path: &[&str], what: impl Into<String>, help: impl Into<String>) {
        let problem = Problem::error(path, what).help(help);
        self.mistakes.of_table.push(problem);
    }

    /// The allow-list. Shared secrets and pairs of keys never stand in one list: a key must not be
    /// taken for one of the other kind.
    fn algorithms(&mut self) -> Vec<TokenAlgorithm> {
        let names: Vec<&str> = TokenAlgorithm::ALL.iter().map(|it| it.name()).collect();
        if self.raw.token.algorithms.is_empty() && self.raw.token.introspection.is_none() {
            self.wrong(
                &["algorithms"],
                "`algorithms` is missing: what a token says of itself does not count",
                "for example `algorithms = [\"RS256\"]`, as the issuer documents it",
            );
        }
        let mut algorithms = Vec::new();
        for (position, name) in self.raw.token.algorithms.iter().enumerate() {
            match TokenAlgorithm::ALL.iter().find(|it| it.name() == name) {
                Some(algorithm) => algorithms.push(*algorithm),
                None => self.wrong(
                    &["algorithms", &position.to_string()],
                    format!("`{name}` is not known here"),
                    did_you_mean(name, &names),
                ),
            }
        }
        let is_shared = |algorithm: &TokenAlgorithm| algorithm.kind() == KeyKind::Shared;
        let shared = algorithms.iter().filter(|it| is_shared(it)).count();
        if shared > 0 && shared < algorithms.len() {
            self.wrong(
                &["algorithms"],
                "shared secrets and public keys stand in one list, so one could be taken for the \
                 other",
                "write a table of its own for the algorithms that begin with HS",
            );
        }
        if shared > 0 && self.raw.token.jwks.is_some() {
            self.wrong(
                &["jwks"],
                "a shared secret is never published",
                "leave `jwks` out, or name other `algorithms`",
            );
        }
        algorithms
    }

    /// What is about other proofs would be ignored in silence.
    fn ensure_unsaid(&mut self, algorithms: &[TokenAlgorithm]) {
        let is_shared = algorithms.iter().any(|it| it.kind() == KeyKind::Shared);
        let raw = self.raw;
        let said = [
            ("signed", raw.signed.is_some()),
            ("timestamp", raw.timestamp.is_some()),
            ("timestamp_unit", raw.timestamp_unit.is_some()),
            ("list", raw.list.is_some()),
            ("key", raw.key.is_some() && !is_shared),
            (
                "encoding",
                raw.encoding.is_some() && raw.token.body_hash.is_none(),
            ),
        ];
        for (key, _) in said.into_iter().filter(|(_, said)| *said) {
            self.wrong(
                &[key],
                format!("`{key}` says nothing about a token"),
                "leave it out",
            );
        }
    }

    fn rules(&mut self) -> Rules {
        let token = &self.raw.token;
        let issuers = self.constants("issuer", &token.issuer);
        let is_any =
            token.audience.len() == 1 && token.audience.iter().all(|it| it == AUDIENCE_ANY);
        if token.audience.is_empty() {
            self.wrong(
                &["audience"],
                "`audience` is missing: a token that was made for somebody else would count",
                "write the `aud` that the issuer puts into tokens for you; `audience = \"any\"` \
                 takes all of them",
            );
        }
        let audiences = if is_any {
            Vec::new()
        } else {
            self.constants("audience", &token.audience)
        };
        let mut claims = Vec::new();
        for (claim, values) in &token.claims {
            let mut own = Vec::new();
            for value in values {
                own.extend(self.constant(&["claims", claim], value));
            }
            claims.push(ClaimRule::new(claim, own));
        }
        let leeway = self.raw.tolerance.unwrap_or(LEEWAY_DEFAULT);
        if leeway > LEEWAY_MAX {
            self.wrong(
                &["tolerance"],
                "a token would count more than ten minutes after its end",
                "`tolerance` is how far two clocks may be apart; how old a token may be is `max_age`",
            );
        }
        Rules {
            issuers,
            audiences,
            leeway,
            age_max: token.max_age,
            // Who is asked about a token knows when it ends.
            is_endless: token.expires == Some(false) || token.introspection.is_some(),
            claims,
        }
    }

    fn body_hash(&mut self) -> Option<BodyHash> {
        let claim = self.raw.token.body_hash.clone()?;
        let text = self.raw.encoding.as_deref();
        let known = Encoding::ALL;
        let found = match text {
            None => known.first(),
            Some(text) => known.iter().find(|(name, _)| *name == text),
        };
        if found.is_none() {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            let text = text.unwrap_or_default();
            self.wrong(
                &["encoding"],
                format!("`{text}` is not known here"),
                did_you_mean(text, &names),
            );
        }
        found.map(|(_, encoding)| BodyHash {
            claim,
            encoding: *encoding,
        })
    }

    /// A token without an end is as good as the secret itself, unless it is good for one body only.
    fn ensure_bounded(&mut self) {
        if self.raw.token.expires == Some(false) && self.raw.token.body_hash.is_none() {
            self.wrong(
                &["expires"],
                "who sees one token without an end could send anything for ever",
                "leave `expires` out, or bind tokens to a body: `body_hash = \"CLAIM\"`",
            );
        }
    }

    fn constants(&mut self, key: &str, texts: &[String]) -> Vec<String> {
        let mut constants = Vec::new();
        for (position, text) in texts.iter().enumerate() {
            constants.extend(self.constant(&[key, &position.to_string()], text));
        }
        constants
    }

    /// A text with `{config:NAME}` and `{url}` in it, which are known before any request.
    fn constant(&mut self, path: &[&str], text: &str) -> Option<String> {
        let result = constant(text, self.context);
        result
            .map_err(|problem| self.mistakes.of_table.push(problem.under(path)))
            .ok()
    }

    /// Where the issuer publishes its keys.
    fn jwks(&mut self, algorithms: &[TokenAlgorithm]) -> Option<Origin> {
        let Some(jwks) = &self.raw.token.jwks else {
            return Some(Origin::Fixed);
        };
        let target = self.target(&["jwks"], jwks)?;
        Some(Origin::Jwks(Remote::new(target, algorithms)))
    }

    /// Whom to ask. Of the secrets that count, there is one: ours there.
    fn introspection(&mut self) -> Option<Origin> {
        let raw = self.raw.token.introspection.clone().unwrap_or_default();
        let example = "for example `introspection = { url = \"https://login.example/introspect\", \
                       client_id = \"hookgate\" }`";
        for (key, is_there) in [
            ("url", raw.url.is_some()),
            ("client_id", raw.client_id.is_some()),
        ] {
            if !is_there {
                self.wrong(&["introspection"], format!("`{key}` is missing"), example);
            }
        }
        let said = [
            ("jwks", self.raw.token.jwks.is_some()),
            ("algorithms", !self.raw.token.algorithms.is_empty()),
            ("expires", self.raw.token.expires.is_some()),
        ];
        for (key, _) in said.into_iter().filter(|(_, said)| *said) {
            let what = format!("`{key}` says nothing about a token that is asked about");
            self.wrong(&[key], what, "leave it out, or `introspection`");
        }
        let counted = self.counted();
        let [(_, secret)] = counted.as_slice() else {
            let what = "the secret of `client_id` has to be the only one that counts here";
            let help = "name it by its label: `secrets = [\"introspection\"]`";
            self.wrong(&["introspection"], what, help);
            return None;
        };
        let target = self.target(&["introspection", "url"], &raw.url?)?;
        let client_id = self.constant(&["introspection", "client_id"], &raw.client_id?)?;
        let secret = secret.secret.expose();
        let cache = raw.cache.unwrap_or(CACHE_DEFAULT);
        Introspection::new(target, &client_id, secret, cache).map(Origin::Introspection)
    }

    /// A URL that is fetched.
    fn target(&mut self, path: &[&str], text: &str) -> Option<Target> {
        let url = self.constant(path, text)?;
        let target = Target::configured(&url);
        target
            .map_err(|why| {
                let help = "for example `https://issuer.example/.well-known/jwks.json`";
                self.wrong(path, format!("this URL cannot be fetched: {why}"), help);
            })
            .ok()
    }

    /// The secrets that count in this table, with their positions.
    fn counted(&mut self) -> Vec<(usize, &'a Labelled)> {
        counted(self.context, &self.raw.secrets, self.mistakes)
    }

    /// Keys of the source's secrets; of those that the table names, if it names any. Where keys are
    /// published too, a secret that is there for another table is none of them.
    fn keys(&mut self, algorithms: &[TokenAlgorithm], lenient: bool) -> Vec<TokenKey> {
        let is_fetched = self.raw.token.jwks.is_some();
        if is_fetched && lenient && self.raw.secrets.is_empty() {
            return Vec::new();
        }
        let counted = self.counted();
        let mut keys = Vec::new();
        let mut unfit = Vec::new();
        for (position, labelled) in counted {
            match self.key(algorithms, labelled) {
                Ok(found) => keys.extend(found),
                Err(what) => {
                    let path = ["secrets", &position.to_string()];
                    let what = format!("the secret `{}` {what}", labelled.label);
                    unfit.push(Problem::error(&path, what));
                }
            }
        }
        if self.context.secrets.is_empty() && !is_fetched {
            let what = "there is no key to verify tokens with";
            let help = "write `jwks = \"https://...\"`, or `secrets` with the issuer's public key";
            self.mistakes
                .of_source
                .push(Problem::error(&["secrets"], what).help(help));
        }
        let may_pass = lenient && self.raw.secrets.is_empty() && !keys.is_empty();
        if !may_pass && !algorithms.is_empty() {
            self.mistakes.of_source.append(&mut unfit);
        }
        keys
    }

    fn key(
        &self,
        algorithms: &[TokenAlgorithm],
        labelled: &Labelled,
    ) -> Result<Vec<TokenKey>, String> {
        let secret = labelled.secret.expose();
        let label = || Arc::clone(&labelled.label);
        let is_json = secret.trim_ascii_start().starts_with(b"{");
        if algorithms.iter().any(|it| it.kind() == KeyKind::Shared) {
            if PublicForm::is_written_as_public(secret) || is_json {
                return Err("is a public key, which anybody may know".to_owned());
            }
            let form = self.raw.key.as_deref();
            let form = KeyForm::ALL
                .iter()
                .find(|(name, _)| form.is_none_or(|it| it == *name));
            let Some((name, form)) = form else {
                return Err("cannot be read: `key` is not known here".to_owned());
            };
            let key = form
                .key(secret)
                .filter(|key| !key.is_empty())
                .ok_or_else(|| format!("is not written as {name}"))?;
            return Ok(Vec::from_iter(TokenKey::shared(label(), &key, algorithms)));
        }
        if is_json {
            return jwks::read(secret, &label(), algorithms)
                .map_err(|what| format!("is no set of keys: {what}"));
        }
        let spki = PublicForm::Pem.key(secret).ok_or(
            "is no public key: it is neither PEM (`-----BEGIN PUBLIC KEY-----`) nor a JWK or a set \
             of them",
        )?;
        let key = TokenKey::public(label(), None, &Material::Spki(spki), algorithms);
        key.map(|key| vec![key])
            .ok_or_else(|| "is no public key for any of `algorithms`".to_owned())
    }
}

/// A text with `{config:NAME}` and `{url}` filled in.
fn constant(text: &str, context: &Context<'_>) -> Result<String, Problem> {
    let template = Template::parse(text, context.config)?;
    let is_known = |part: &Part| matches!(part, Part::Literal(_) | Part::Url(UrlForm::AsIs));
    if template.any(|part| !is_known(part)) {
        let what = "only `{config:NAME}` and `{url}` are known before a request comes";
        return Err(Problem::here(what));
    }
    let constant = template.constant(context.url.as_deref());
    constant.ok_or_else(|| Problem::here("`{url}` needs `public_url` under `[server]`"))
}
