//! Who sent it: `Inbound` -> [`Verified`]. The only constructor of [`Verified`].
//!
//! Every scheme has the same three parts in the same order: parse what was sent
//! (`signature.rs`), compute what a genuine sender would have sent (`template.rs`, `mac.rs`),
//! compare in constant time (`scheme.rs`). Only then is the timestamp looked at, and only one that
//! is part of what is signed. The signature is checked over the raw body.

mod assertion;
mod basic;
mod challenge;
mod compile;
mod diagnose;
mod key;
mod mac;
mod public;
mod refusal;
mod remarks;
mod scheme;
mod sign;
mod signature;
mod stamp;
mod template;
pub(crate) mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::Now;
use crate::config::problem::Problem;
use crate::config::raw::RawVerify;
use crate::delivery::Coverage;
use crate::pipeline::arrival::Inbound;
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::verify::compile::Mistakes;
use crate::pipeline::verify::scheme::Scheme;
use crate::reject::Reject;
use crate::secret::Labelled;

pub(crate) use challenge::ChallengeSigner;
pub use refusal::Refusal;
pub(crate) use remarks::remarks;

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
    /// Label of the secret that matched.
    pub key: Option<Arc<str>>,
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

    /// Whether it proves nothing (`verify = "insecure-none"`).
    pub fn is_insecure(&self) -> bool {
        self.schemes.is_empty()
    }

    /// Decides who sent it. Gives the request back with the reason when it is not proved.
    ///
    /// # Errors
    ///
    /// The first scheme's [`Refusal`] that does not pass.
    #[expect(
        clippy::result_large_err,
        reason = "the request is handed back, not given up"
    )]
    pub fn verify(&self, inbound: Inbound, now: Now) -> Result<Verified, (Inbound, Refusal)> {
        match self.prove(&inbound, now) {
            Ok(proof) => Ok(Verified {
                inbound,
                proof,
                _seal: (),
            }),
            Err(refusal) => Err((inbound, refusal)),
        }
    }

    fn prove(&self, inbound: &Inbound, now: Now) -> Result<Proof, Refusal> {
        let facts = Facts::of(inbound);
        let mut proof = Proof {
            coverage: Coverage::None,
            key: None,
        };
        for scheme in &self.schemes {
            let label = scheme.check(&facts, now)?;
            if self.signs_for_strangers {
                scheme.ensure_no_challenge(&facts)?;
            }
            proof.coverage = stronger(proof.coverage, scheme.coverage);
            proof.key.get_or_insert(label);
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
        };
        Self {
            inbound,
            proof,
            _seal: (),
        }
    }
}

impl From<Refusal> for Reject {
    fn from(refusal: Refusal) -> Self {
        Self::Unverified(refusal)
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
