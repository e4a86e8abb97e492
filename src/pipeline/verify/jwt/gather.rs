//! What is fetched before tokens are judged.

use std::sync::Arc;

use super::introspection::Introspection;
use super::key::TokenKey;
use super::token::Token;
use super::{Jwt, Origin};
use crate::clock::Now;
use crate::pipeline::arrival::Inbound;
use crate::pipeline::evidence::{Fetching, Hindrance, Piece, Target};
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::verify::refusal::Refusal;
use crate::pipeline::verify::signature::Signature;

impl Jwt {
    /// Whether anything is ever fetched.
    pub(in crate::pipeline::verify) fn needs_evidence(&self) -> bool {
        !matches!(self.origin, Origin::Fixed)
    }

    /// From where, for `check`.
    pub(in crate::pipeline::verify) fn target(&self) -> Option<&Target> {
        match &self.origin {
            Origin::Fixed => None,
            Origin::Jwks(remote) => Some(remote.target()),
            Origin::Introspection(introspection) => Some(introspection.target()),
        }
    }

    /// Begins to fetch what the first request will need.
    pub(in crate::pipeline::verify) fn warm(&self, source: &Arc<str>, fetching: &dyn Fetching) {
        if let Origin::Jwks(remote) = &self.origin {
            remote.warm(source, fetching);
        }
    }

    /// Gets the keys, or the word of the authorization server. Nothing for tokens that would not
    /// count whoever signed them: strangers make nobody fetch with those.
    pub(in crate::pipeline::verify) async fn gather(
        &self,
        signature: &Signature,
        inbound: &Inbound,
        source: &Arc<str>,
        fetching: &dyn Fetching,
        now: Now,
    ) -> Result<Option<Piece>, Hindrance> {
        match &self.origin {
            Origin::Fixed => Ok(None),
            Origin::Jwks(remote) => {
                let wanted = self.wanted(signature, inbound, now)?;
                if wanted.is_empty() {
                    return Ok(None);
                }
                let fits = |keys: &[TokenKey]| {
                    let is_there = |(algorithm, kid): &(_, Option<String>)| {
                        keys.iter()
                            .any(|key| key.is_for(*algorithm, kid.as_deref()))
                    };
                    wanted.iter().all(is_there)
                };
                let keys = remote.keys(fits, source, fetching, now.mono).await?;
                Ok(Some(Piece::Keys(keys)))
            }
            Origin::Introspection(introspection) => {
                let token = single(signature, &Facts::of(inbound))?;
                let word = introspection
                    .ask(&token, source, fetching, now.mono)
                    .await?;
                Ok(Some(Piece::Word(word)))
            }
        }
    }

    /// What keys the tokens ask for that none of the source's own has signed.
    fn wanted(
        &self,
        signature: &Signature,
        inbound: &Inbound,
        now: Now,
    ) -> Result<Vec<Wanted>, Refusal> {
        let facts = Facts::of(inbound);
        let mut wanted = Vec::new();
        for sent in signature.each_sent(&facts)? {
            let token = Token::parse(&sent.text)?;
            let algorithm = self.algorithm(&token)?;
            self.rules.check(&token.claims, now.wall)?;
            // That one is for it says little: a key without a `kid` is for every token.
            let is_own = |key: &TokenKey| {
                key.is_for(algorithm, token.kid.as_deref())
                    && key.verifies(algorithm, token.signed, &token.signature)
            };
            if !self.fixed.iter().any(is_own) {
                wanted.push((algorithm, token.kid));
            }
        }
        Ok(wanted)
    }
}

/// The algorithm and the name of a key.
type Wanted = (super::TokenAlgorithm, Option<String>);

/// The only token of a request.
pub(super) fn single(signature: &Signature, facts: &Facts<'_>) -> Result<Vec<u8>, Refusal> {
    let sent = signature.each_sent(facts)?;
    match sent.as_slice() {
        [only] if Introspection::is_token(&only.text) => Ok(only.text.to_vec()),
        [_] => Err(super::TokenFault::Malformed("it has characters that no token has").into()),
        _ => Err(Refusal::Ambiguous(signature.to_string())),
    }
}
