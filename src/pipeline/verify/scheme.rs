//! One compiled table of `verify`: parse, compute, compare, and only then look at the time.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::clock::Now;
use crate::delivery::Coverage;
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::verify::assertion::Assertion;
use crate::pipeline::verify::basic;
use crate::pipeline::verify::key::{Encoding, KeyForm};
use crate::pipeline::verify::mac::{Algorithm, Mac};
use crate::pipeline::verify::public::{PublicAlgorithm, PublicForm, PublicKey};
use crate::pipeline::verify::refusal::Refusal;
use crate::pipeline::verify::signature::{Sent, Signature};
use crate::pipeline::verify::stamp::Stamp;
use crate::pipeline::verify::template::{Given, Template};
use crate::secret::Secret;

/// One way to prove who sent it.
#[derive(Debug)]
pub(super) struct Scheme {
    pub(super) kind: Kind,
    pub(super) signature: Signature,
    pub(super) stamp: Option<Stamp>,
    pub(super) asserts: Vec<Assertion>,
    pub(super) coverage: Coverage,
    pub(super) keys: Vec<Key>,
    /// The configured URL, without a query.
    pub(super) url: Option<String>,
}

/// What is presented.
#[derive(Debug)]
pub(super) enum Kind {
    /// A signature over a text.
    Signed(Signing),
    /// The secret itself.
    Token,
    /// `USER:PASSWORD` in base64 (RFC 7617).
    Basic,
}

/// What a signature is made of.
#[derive(Debug)]
pub(super) struct Signing {
    pub(super) method: Method,
    pub(super) encoding: Encoding,
    pub(super) template: Template,
}

/// How a text is signed, and how the key for it is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Method {
    /// With a secret that both sides have.
    Shared { algorithm: Algorithm, form: KeyForm },
    /// With the sender's private key; `secrets` holds the public one.
    Public {
        algorithm: PublicAlgorithm,
        form: PublicForm,
    },
}

/// A secret, ready for use.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) label: Arc<str>,
    pub(super) secret: Secret,
    pub(super) ready: Ready,
}

/// What is prepared of a secret when the configuration is compiled.
#[derive(Debug)]
pub(super) enum Ready {
    Mac(Box<Mac>),
    Public(Box<PublicKey>),
    /// SHA-256 of a token: comparing hashes hides the token's length too.
    Hash([u8; 32]),
}

impl Scheme {
    /// The label of the secret that matches.
    pub(super) fn check(&self, facts: &Facts<'_>, now: Now) -> Result<Arc<str>, Refusal> {
        let sent = self.signature.sent(facts)?;
        let presented = self.decode(&sent)?;
        let timestamp = self.timestamp(facts)?;
        let mut given = Given {
            facts,
            timestamp: timestamp.as_deref(),
            secret: b"",
            url: self.url.as_deref(),
        };

        let matched = self.compare(&presented, &mut given)?;

        for assertion in &self.asserts {
            assertion.check(&given)?;
        }
        if let (Some(stamp), Some(text)) = (&self.stamp, &timestamp) {
            stamp.check(text, now.wall)?;
        }
        Ok(Arc::clone(matched))
    }

    pub(super) fn timestamp(&self, facts: &Facts<'_>) -> Result<Option<Vec<u8>>, Refusal> {
        self.stamp
            .as_ref()
            .map(|stamp| stamp.text(&self.signature, facts))
            .transpose()
    }

    /// Compares every secret with everything presented: how long it takes says nothing about
    /// which one was nearly right.
    fn compare<'s, 'f>(
        &'s self,
        presented: &[Vec<u8>],
        given: &mut Given<'f>,
    ) -> Result<&'s Arc<str>, Refusal>
    where
        's: 'f,
    {
        let mut matched = None;
        for key in &self.keys {
            given.secret = key.secret.expose();
            let fits = match (&self.kind, &key.ready) {
                (Kind::Signed(signing), Ready::Public(public)) => {
                    let text = signing.template.render(given)?;
                    // A public key is no secret: stopping at the first match tells nothing.
                    presented.iter().any(|sent| public.verifies(&text, sent))
                }
                _ => {
                    let expected = self.expected(&key.ready, given)?;
                    let equal = |sent: &Vec<u8>| bool::from(expected.ct_eq(sent));
                    presented
                        .iter()
                        .fold(false, |fits, sent| fits | equal(sent))
                }
            };
            if fits && matched.is_none() {
                matched = Some(&key.label);
            }
        }
        matched.ok_or(match self.kind {
            Kind::Signed(_) => Refusal::Mismatch(self.keys.len()),
            Kind::Token | Kind::Basic => Refusal::WrongToken(self.keys.len()),
        })
    }

    /// What a genuine sender presents, given the key that both sides have.
    pub(super) fn expected(&self, ready: &Ready, given: &Given<'_>) -> Result<Vec<u8>, Refusal> {
        match (&self.kind, ready) {
            (Kind::Signed(signing), Ready::Mac(mac)) => {
                let mut mac = Mac::clone(mac);
                signing.template.feed(given, |piece| mac.update(piece))?;
                Ok(mac.finish())
            }
            (_, Ready::Hash(hash)) => Ok(hash.to_vec()),
            // Compiling pairs them; a mismatch proves nothing.
            (Kind::Token | Kind::Basic, Ready::Mac(_)) | (_, Ready::Public(_)) => {
                Err(Refusal::WrongToken(0))
            }
        }
    }

    /// What was presented, as bytes. What cannot be decoded is skipped, unless nothing is left.
    fn decode(&self, sent: &[Sent<'_>]) -> Result<Vec<Vec<u8>>, Refusal> {
        let decoded: Vec<_> = sent
            .iter()
            .filter_map(|sent| self.decode_one(&sent.text))
            .collect();
        match sent.first() {
            Some(first) if decoded.is_empty() => Err(Refusal::Undecodable {
                place: first.place.clone(),
                encoding: match &self.kind {
                    Kind::Signed(signing) => signing.encoding.name(),
                    Kind::Token => "text",
                    Kind::Basic => "`Basic` with user and password in base64",
                },
            }),
            _ => Ok(decoded),
        }
    }

    fn decode_one(&self, text: &[u8]) -> Option<Vec<u8>> {
        match &self.kind {
            Kind::Signed(signing) => signing.encoding.decode(text),
            Kind::Token => Some(Sha256::digest(text).to_vec()),
            Kind::Basic => basic::credentials(text).map(|pair| Sha256::digest(pair).to_vec()),
        }
    }
}
