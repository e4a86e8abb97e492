//! Who sent it: `Inbound` -> [`Verified`]. The only constructor of [`Verified`].
//!
//! A scheme parses what was sent (`signature.rs`), computes what a genuine sender would have sent
//! (`template.rs`, `mac.rs`) and compares in constant time (`scheme.rs`), or asks the sender's
//! public key (`public.rs`). Then what else must hold is looked at, and the timestamp, if it is part
//! of what is signed; before a key is fetched, too, so that nobody fetches one for a request that
//! would be refused. The signature is checked over the raw body.

mod assertion;
mod basic;
mod challenge;
mod client_certificate;
mod compile;
mod diagnose;
mod fetched;
mod jwt;
mod key;
mod mac;
mod private;
mod public;
mod refusal;
mod remarks;
mod rfc9421;
mod scheme;
mod sign;
mod signature;
mod sns;
mod stamp;
mod template;
mod url;
pub(crate) mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::authorities::Authorities;
use crate::clock::Now;
use crate::config::problem::Problem;
use crate::config::raw::RawVerify;
use crate::delivery::Coverage;
use crate::pipeline::arrival::Inbound;
use crate::pipeline::evidence::{Evidence, Fetching, Hindrance, Piece};
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::verify::compile::Mistakes;
use crate::pipeline::verify::scheme::{Kind, Proved, Scheme};
use crate::reject::Reject;
use crate::secret::Labelled;

pub(crate) use challenge::ChallengeSigner;
#[cfg(any(test, fuzzing))]
pub(crate) use jwt::fuzz;
pub use jwt::{IssuerKeys, TokenFault, TokenWord};
pub(crate) use public::{PublicForm, is_public_algorithm};
pub use refusal::Refusal;
pub(crate) use remarks::{EventIn, remarks};
pub(crate) use sign::members;
pub use sign::{Draft, Sealed};

/// How one source's sender proves itself.
#[derive(Debug)]
pub struct Verifier {
    /// All must pass. Empty only for `verify = "insecure-none"`.
    schemes: Vec<Scheme>,
    /// Whether a handshake signs what strangers write, without proof.
    signs_for_strangers: bool,
}

/// What a source has besides its `verify` tables.
#[derive(Debug)]
pub struct Context<'a> {
    /// Its secrets; any may match.
    pub secrets: &'a [Labelled],
    /// `[sources.x.config]`.
    pub config: &'a BTreeMap<String, String>,
    /// `server.public_url` with the source's path.
    pub url: Option<String>,
}

/// A request whose sender is known, or one that a source with `enforce = false` lets through all
/// the same.
#[derive(Debug)]
#[expect(
    clippy::manual_non_exhaustive,
    reason = "it is for the rest of this crate, too"
)]
pub struct Verified {
    /// The request.
    pub inbound: Inbound,
    /// What was proved.
    pub proof: Proof,
    /// Nobody outside this module can make one.
    _seal: (),
}

/// What was proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// How much of the body it covers.
    pub coverage: Coverage,
    /// Label of the secret that matched, if there is one to a proof.
    pub key: Option<Arc<str>>,
    /// Why nothing was, where the source lets that through: a word of [`Refusal::LABELS`].
    pub refusal: Option<&'static str>,
}

impl Verifier {
    /// Compiles `verify`.
    ///
    /// # Errors
    ///
    /// All mistakes, with paths relative to the source (`["verify", "signature"]`).
    pub fn compile(raw: &RawVerify, context: &Context<'_>) -> Result<Self, Vec<Problem>> {
        let tables = match raw {
            RawVerify::InsecureNone => {
                return Ok(Self {
                    schemes: Vec::new(),
                    signs_for_strangers: false,
                });
            }
            RawVerify::Schemes(tables) => tables,
        };
        if tables.is_empty() {
            let problem = Problem::error(&["verify"], "there is no way to verify the sender");
            let help = "describe the signature, or spell out `verify = \"insecure-none\"`";
            return Err(vec![problem.help(help)]);
        }
        let is_one = tables.len() == 1;
        let mut schemes = Vec::new();
        let mut problems = Vec::new();
        for (position, raw) in tables.iter().enumerate() {
            match compile::compile(raw, context, !is_one) {
                Ok(scheme) => schemes.push(scheme),
                Err(Mistakes {
                    of_table,
                    of_source,
                }) => {
                    let position = position.to_string();
                    let several: &[&str] = &["verify", &position];
                    let prefix = if is_one { &["verify"] } else { several };
                    problems.extend(of_table.into_iter().map(|problem| problem.under(prefix)));
                    problems.extend(of_source);
                }
            }
        }
        if problems.is_empty() {
            Ok(Self {
                schemes,
                signs_for_strangers: false,
            })
        } else {
            Err(problems)
        }
    }

    /// From now on it proves nobody: for a source whose secret is yet to be enrolled.
    pub(crate) fn forget_keys(&mut self) {
        for scheme in &mut self.schemes {
            scheme.keys.clear();
        }
    }

    /// Whether it proves nothing (`verify = "insecure-none"`).
    pub fn is_insecure(&self) -> bool {
        self.schemes.is_empty()
    }

    /// How much of the body it takes to be proved.
    pub fn coverage(&self) -> Coverage {
        let coverages = self.schemes.iter().map(|scheme| scheme.coverage);
        coverages.fold(Coverage::None, stronger)
    }

    /// How much it proves of a query that is an event. A signature counts for what its text has
    /// of the query; whatever else proves a sender says nothing about it.
    pub(crate) fn query_coverage(&self) -> Coverage {
        let of_schemes = self.schemes.iter().map(Scheme::query_coverage);
        of_schemes.fold(Coverage::None, stronger)
    }

    /// Whether a secret proves anything here.
    pub(crate) fn uses(&self, label: &str) -> bool {
        self.schemes.iter().any(|scheme| match &scheme.kind {
            Kind::Jwt(jwt) => jwt.uses(label),
            _ => scheme.keys.iter().any(|key| *key.label == *label),
        })
    }

    /// Whose certificates are believed where keys are fetched; those of this machine's authorities
    /// when not said.
    pub fn believe(&mut self, authorities: &Authorities) {
        let fetched = self.schemes.iter_mut().filter_map(|it| it.fetched.as_mut());
        fetched.for_each(|fetched| fetched.authorities = authorities.clone());
    }

    /// The hosts that keys are fetched from, as configured.
    pub fn hosts(&self) -> impl Iterator<Item = String> {
        let fetched = self.schemes.iter().filter_map(|it| it.fetched.as_ref());
        let tokens = self.schemes.iter().filter_map(|it| match &it.kind {
            Kind::Jwt(jwt) => jwt.target(),
            _ => None,
        });
        fetched
            .flat_map(|fetched| fetched.hosts.names())
            .chain(tokens.map(|target| target.host().to_owned()))
    }

    /// Whether deciding needs anything from outside the request.
    pub fn needs_evidence(&self) -> bool {
        self.schemes.iter().any(Scheme::needs_evidence)
    }

    /// Begins to fetch what the first request will need, without waiting for it.
    pub fn warm(&self, source: &Arc<str>, fetching: &dyn Fetching) {
        for scheme in &self.schemes {
            if let Kind::Jwt(jwt) = &scheme.kind {
                jwt.warm(source, fetching);
            }
        }
    }

    /// Gets what [`Verifier::verify`] needs from outside the request: nothing for most sources,
    /// and nothing for a request that would be refused without it.
    ///
    /// # Errors
    ///
    /// See [`Hindrance`].
    pub async fn gather(
        &self,
        inbound: &Inbound,
        source: &Arc<str>,
        fetching: &dyn Fetching,
        now: Now,
    ) -> Result<Evidence, Hindrance> {
        for scheme in self.schemes.iter().filter(|it| !it.needs_evidence()) {
            scheme.check(&Facts::of(inbound), None, now)?;
        }
        let mut pieces = Vec::with_capacity(self.schemes.len());
        for scheme in &self.schemes {
            // What is asked for is found out first: nothing of the request is borrowed while
            // somebody else is waited for.
            if let Kind::Jwt(jwt) = &scheme.kind {
                let signature = &scheme.signature;
                let gathering = jwt.gather(signature, inbound, source, fetching, now);
                pieces.push(gathering.await?);
                continue;
            }
            let errand = scheme.errand(&Facts::of(inbound), source, now)?;
            pieces.push(match errand {
                None => None,
                Some(errand) => {
                    let url = errand.target.to_string();
                    let fetched = fetching.fetch(errand).await;
                    let fetched = fetched.map_err(|why| Hindrance::Unfetched { url, why })?;
                    Some(Piece::Document(fetched))
                }
            });
        }
        Ok(Evidence::of(pieces))
    }

    /// Decides who sent it, by the request alone. Gives it back with the reason when it is not
    /// proved.
    ///
    /// # Errors
    ///
    /// As [`Verifier::verify_with`]; always one where evidence is needed.
    #[expect(
        clippy::result_large_err,
        reason = "the request is handed back, not given up"
    )]
    pub fn verify(&self, inbound: Inbound, now: Now) -> Result<Verified, (Inbound, Refusal)> {
        self.verify_with(inbound, &Evidence::none(), now)
    }

    /// The same, with what [`Verifier::gather`] got.
    ///
    /// # Errors
    ///
    /// The first scheme's [`Refusal`] that does not pass.
    #[expect(
        clippy::result_large_err,
        reason = "the request is handed back, not given up"
    )]
    pub fn verify_with(
        &self,
        inbound: Inbound,
        evidence: &Evidence,
        now: Now,
    ) -> Result<Verified, (Inbound, Refusal)> {
        match self.prove(&inbound, evidence, now) {
            Ok(proof) => Ok(Verified {
                inbound,
                proof,
                _seal: (),
            }),
            Err(refusal) => Err((inbound, refusal)),
        }
    }

    fn prove(&self, inbound: &Inbound, evidence: &Evidence, now: Now) -> Result<Proof, Refusal> {
        let facts = Facts::of(inbound);
        let mut proof = Proof {
            coverage: Coverage::None,
            key: None,
            refusal: None,
        };
        for (position, scheme) in self.schemes.iter().enumerate() {
            let Proved { key, coverage } = scheme.check(&facts, evidence.piece(position), now)?;
            if self.signs_for_strangers {
                scheme.ensure_no_challenge(&facts)?;
            }
            proof.coverage = stronger(proof.coverage, coverage);
            proof.key = proof.key.or(key);
        }
        Ok(proof)
    }
}

impl Verified {
    /// For a source with `enforce = false`: the proof failed, and is marked as nothing proved.
    pub fn unproved(inbound: Inbound) -> Self {
        let proof = Proof {
            coverage: Coverage::None,
            key: None,
            refusal: None,
        };
        Self {
            inbound,
            proof,
            _seal: (),
        }
    }
}

impl From<Refusal> for Reject {
    /// What is fetched is somebody else's: that it is of no use is not the sender's fault.
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Evidence(_) => Self::EvidenceUnavailable(refusal.to_string()),
            other => Self::Unverified(other),
        }
    }
}

fn stronger(a: Coverage, b: Coverage) -> Coverage {
    let ranked = [Coverage::Full, Coverage::Fields, Coverage::Token];
    ranked
        .into_iter()
        .find(|&rank| a == rank || b == rank)
        .unwrap_or(Coverage::None)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
