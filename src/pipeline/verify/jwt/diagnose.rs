//! Why a token that may be genuine does not count: what a person should look at.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::fault::TokenFault;
use super::token::{Token, shown};
use super::{IssuerKeys, Jwt, Origin, jwks};
use crate::pipeline::evidence::Piece;
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::verify::key::Encoding;
use crate::pipeline::verify::signature::Signature;

/// Most `kid`s that are named.
const KIDS_SHOWN_MAX: usize = jwks::KEYS_MAX / 4;

impl Jwt {
    /// What to look at, for the first token that does not count.
    pub(in crate::pipeline::verify) fn mistake(
        &self,
        signature: &Signature,
        facts: &Facts<'_>,
        fault: &TokenFault,
    ) -> Option<String> {
        let sent = signature.each_sent(facts).ok()?;
        let fetched = self.last_keys().map(Piece::Keys);
        let failing = |token: &Token<'_>| self.check_signature(token, fetched.as_ref()).is_err();
        let tokens: Vec<Token<'_>> = sent
            .iter()
            .filter_map(|sent| Token::parse(&sent.text).ok())
            .collect();
        let token = tokens
            .iter()
            .find(|token| failing(token))
            .or(tokens.first());
        match fault {
            TokenFault::Malformed(_) => sent.iter().find_map(|sent| written(&sent.text)),
            TokenFault::Algorithm(_) => {
                let own: Vec<&str> = self.algorithms.iter().map(|own| own.name()).collect();
                Some(format!(
                    "`algorithms` is {}: look up what the issuer signs with, and never follow the \
                     token",
                    own.join(", ")
                ))
            }
            TokenFault::KeyUnknown(_) | TokenFault::Signature(_) => {
                let issuer = token.and_then(|token| token.claims.get("iss")?.as_str());
                let issuer = issuer.map_or_else(
                    || "it names no issuer".to_owned(),
                    |issuer| format!("it says that it is from `{}`", shown(issuer)),
                );
                Some(format!("{issuer}; {}", self.known_keys()))
            }
            TokenFault::Issuer(_) => Some(format!(
                "`issuer` is {}: is it a token of another tenant or project?",
                quoted(&self.rules.issuers)
            )),
            TokenFault::Audience(_) => Some(format!(
                "`audience` is {}: the sender has to ask for tokens for exactly this text",
                quoted(&self.rules.audiences)
            )),
            TokenFault::Claim(claim) => {
                let mut rules = self.rules.claims.iter();
                let rule = rules.find(|rule| rule.written == *claim)?;
                Some(format!("`claims` asks for {}", quoted(&rule.values)))
            }
            TokenFault::Body(claim) => self.other_encoding(token?, claim, facts),
            TokenFault::Expired(_) => Some(
                "a saved request is judged as of its own time with --at, or the sender reuses \
                 tokens"
                    .to_owned(),
            ),
            TokenFault::Old { .. } => {
                Some("a saved request is judged as of its own time with --at".to_owned())
            }
            TokenFault::ClaimAbsent(claim) if claim == "exp" => Some(
                "where the issuer sets no end, `max_age` bounds a token's life from `iat` on"
                    .to_owned(),
            ),
            TokenFault::ClaimAbsent(_)
            | TokenFault::Extension(_)
            | TokenFault::Time(_)
            | TokenFault::Early { .. }
            | TokenFault::Query(_)
            | TokenFault::Inactive => None,
        }
    }

    fn last_keys(&self) -> Option<IssuerKeys> {
        match &self.origin {
            Origin::Jwks(remote) => remote.last(),
            Origin::Fixed | Origin::Introspection(_) => None,
        }
    }

    /// Which keys there are.
    fn known_keys(&self) -> String {
        let fetched = self.last_keys();
        let keys = self
            .fixed
            .iter()
            .chain(fetched.iter().flat_map(IssuerKeys::iter));
        let names: Vec<String> = keys
            .map(|key| match &key.kid {
                Some(kid) => format!("`{}`", shown(kid)),
                None => "without a name".to_owned(),
            })
            .collect();
        match names.get(..KIDS_SHOWN_MAX).unwrap_or(&names) {
            [] => "no key is known".to_owned(),
            [only] if names.len() == 1 => format!("one key is known: {only}"),
            shown => format!("{} keys are known: {}", names.len(), shown.join(", ")),
        }
    }

    fn other_encoding(&self, token: &Token<'_>, claim: &str, facts: &Facts<'_>) -> Option<String> {
        let sent = token.claims.get(claim)?.as_str()?;
        let hash = Sha256::digest(facts.body);
        let own = self.body_hash.as_ref()?.encoding;
        let fits = |encoding: Encoding| {
            encoding.decode(sent.as_bytes()).as_deref() == Some(hash.as_slice())
        };
        let mut others = Encoding::ALL.iter().filter(|(_, other)| *other != own);
        match others.find(|(_, other)| fits(*other)) {
            Some((name, _)) => Some(format!("it matches with `encoding = \"{name}\"`")),
            None if STANDARD.encode(hash).trim_end_matches('=') == sent => {
                Some("it is base64 without its padding".to_owned())
            }
            None => {
                Some("the body was changed on its way, or is not the one of this token".to_owned())
            }
        }
    }
}

/// How something that is no token may have been meant.
fn written(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    if text.trim_matches(['"', '\'']) != text {
        let what = "there are quotes around it, which the sender has to leave out";
        return Some(what.to_owned());
    }
    if text.trim() != text || text.contains(' ') {
        let what = "there is white space in it: should `prefix` be `\"Bearer \"`?";
        return Some(what.to_owned());
    }
    let dots = text.matches('.').count();
    match dots {
        0 => Some(
            "it has no dots, so it may be an opaque token: those are asked about, see \
             `introspection`"
                .to_owned(),
        ),
        4 => Some("it has five parts, so it is encrypted (JWE), which is not supported".to_owned()),
        _ => None,
    }
}

fn quoted(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("`{text}`")).collect();
    quoted.join(" or ")
}
