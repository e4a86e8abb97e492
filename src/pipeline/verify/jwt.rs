//! Signed tokens: JWT (RFC 7519) in compact form (RFC 7515), as OIDC and OAuth 2.0 carry them.
//!
//! The order is fixed and does not depend on the token: its form, then its algorithm against the
//! source's own list, then the signature with a key that was made for that algorithm, and only then
//! what the claims say. A header's `jwk`, `jku`, `x5u` and `x5c` are never looked at, and `kid`
//! only chooses among keys that are already here. Several tokens in one request must all hold
//! (Microsoft Graph sends one for each of its applications).

mod algorithm;
mod claims;
mod compile;
mod diagnose;
mod fault;
#[cfg(any(test, fuzzing))]
#[expect(
    clippy::expect_used,
    reason = "a target says by a panic that it found something"
)]
pub(crate) mod fuzz;
mod gather;
mod introspection;
mod jwks;
mod key;
mod query_hash;
mod remote;
mod sign;
mod token;

use std::sync::Arc;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::clock::Now;
use crate::pipeline::evidence::Piece;
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::verify::key::Encoding;
use crate::pipeline::verify::refusal::Refusal;
use crate::pipeline::verify::signature::Signature;

pub(in crate::pipeline::verify) use algorithm::TokenAlgorithm;
use claims::Rules;
pub(in crate::pipeline::verify) use compile::compile;
pub use fault::TokenFault;
use introspection::Introspection;
pub use introspection::TokenWord;
use key::TokenKey;
pub use remote::IssuerKeys;
use remote::Remote;
use token::Token;

/// What stands for the key of a token that somebody else vouches for.
const INTROSPECTION: &str = "introspection";

/// What a table with `algorithm = "jwt"` asks of a token.
#[derive(Debug)]
pub(super) struct Jwt {
    /// The only ones that count, whatever a token says of itself.
    algorithms: Vec<TokenAlgorithm>,
    /// Keys of `secrets`.
    fixed: Vec<TokenKey>,
    /// What else is known of the issuer.
    origin: Origin,
    rules: Rules,
    body_hash: Option<BodyHash>,
    query_hash: Option<query_hash::QueryHash>,
}

/// Whose word counts besides the keys of `secrets`.
#[derive(Debug)]
enum Origin {
    /// Nobody's.
    Fixed,
    /// Keys that the issuer publishes.
    Jwks(Remote),
    /// The authorization server's, about each token.
    Introspection(Introspection),
}

/// `body_hash`: a claim with the SHA-256 of the body, which ties the token to this one request.
#[derive(Debug)]
struct BodyHash {
    claim: String,
    encoding: Encoding,
}

impl Jwt {
    /// Whether a token covers the body.
    pub(super) fn covers_body(&self) -> bool {
        self.body_hash.is_some()
    }

    /// Whether a token covers the query: its fields, not how they are written.
    pub(super) fn covers_query(&self) -> bool {
        self.query_hash.is_some()
    }

    /// Whether a secret proves anything here, if only who we are to those who vouch for tokens.
    pub(super) fn uses(&self, label: &str) -> bool {
        matches!(self.origin, Origin::Introspection(_))
            || self.fixed.iter().any(|key| *key.label == *label)
    }

    /// The label of the key that the first token is signed with. Every token must hold.
    pub(super) fn check(
        &self,
        signature: &Signature,
        facts: &Facts<'_>,
        evidence: Option<&Piece>,
        now: Now,
    ) -> Result<Arc<str>, Refusal> {
        if let Origin::Introspection(_) = &self.origin {
            return self.check_word(signature, facts, evidence, now);
        }
        let mut first = None;
        for sent in signature.each_sent(facts)? {
            let token = Token::parse(&sent.text)?;
            let signed = self.check_signature(&token, evidence);
            if let Ok(_) | Err(Refusal::NoEvidence) = &signed {
                // Nobody fetched keys for a token that does not count whoever signed it.
                self.rules.check(&token.claims, now.wall)?;
            }
            let label = signed?;
            self.check_hashes(&token.claims, facts)?;
            first.get_or_insert(label);
        }
        first.ok_or_else(|| Refusal::Absent(signature.to_string()))
    }

    fn check_word(
        &self,
        signature: &Signature,
        facts: &Facts<'_>,
        evidence: Option<&Piece>,
        now: Now,
    ) -> Result<Arc<str>, Refusal> {
        gather::single(signature, facts)?;
        let Some(Piece::Word(TokenWord(word))) = evidence else {
            return Err(Refusal::NoEvidence);
        };
        let claims = word.as_ref().ok_or(TokenFault::Inactive)?;
        self.rules.check(claims, now.wall)?;
        self.check_hashes(claims, facts)?;
        Ok(Arc::from(INTROSPECTION))
    }

    fn check_signature(
        &self,
        token: &Token<'_>,
        evidence: Option<&Piece>,
    ) -> Result<Arc<str>, Refusal> {
        let algorithm = self.algorithm(token)?;
        let fetched = match evidence {
            Some(Piece::Keys(keys)) => Some(keys),
            _ => None,
        };
        let keys = self
            .fixed
            .iter()
            .chain(fetched.into_iter().flat_map(IssuerKeys::iter));
        let candidates = keys.filter(|key| key.is_for(algorithm, token.kid.as_deref()));
        let mut tried = 0;
        for key in candidates {
            tried += 1;
            if key.verifies(algorithm, token.signed, &token.signature) {
                return Ok(Arc::clone(&key.label));
            }
        }
        Err(match (tried, fetched, &self.origin) {
            (_, None, Origin::Jwks(_)) => Refusal::NoEvidence,
            (0, ..) => TokenFault::KeyUnknown(token.shown_kid()).into(),
            (tried, ..) => TokenFault::Signature(tried).into(),
        })
    }

    /// The token's algorithm, if it is one of ours.
    fn algorithm(&self, token: &Token<'_>) -> Result<TokenAlgorithm, TokenFault> {
        let mut own = self.algorithms.iter();
        let found = own.find(|own| own.name() == token.algorithm).copied();
        found.ok_or_else(|| TokenFault::Algorithm(token.shown_algorithm()))
    }

    fn check_hashes(
        &self,
        claims: &Map<String, Value>,
        facts: &Facts<'_>,
    ) -> Result<(), TokenFault> {
        if let Some(BodyHash { claim, encoding }) = &self.body_hash {
            let hash = claims.get(claim).and_then(Value::as_str);
            let hash = hash.ok_or_else(|| TokenFault::ClaimAbsent(claim.clone()))?;
            let hash = encoding.decode(hash.as_bytes()).unwrap_or_default();
            if !bool::from(hash.ct_eq(&Sha256::digest(facts.body))) {
                return Err(TokenFault::Body(claim.clone()));
            }
        }
        match &self.query_hash {
            Some(query_hash) => query_hash.check(claims, facts.head),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
