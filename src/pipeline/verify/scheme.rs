//! One compiled table of `verify`: parse, compute, compare, look at the time.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::clock::Now;
use crate::delivery::Coverage;
use crate::pipeline::evidence::{Errand, Piece};
use crate::pipeline::expr::Place;
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::verify::assertion::Assertion;
use crate::pipeline::verify::basic;
use crate::pipeline::verify::client_certificate::Holder;
use crate::pipeline::verify::fetched::FetchedKey;
use crate::pipeline::verify::jwt::Jwt;
use crate::pipeline::verify::key::{Encoding, KeyForm};
use crate::pipeline::verify::mac::{Algorithm, Mac};
use crate::pipeline::verify::public::{PublicAlgorithm, PublicForm, PublicKey};
use crate::pipeline::verify::refusal::Refusal;
use crate::pipeline::verify::rfc9421::Message;
use crate::pipeline::verify::signature::{Sent, Signature};
use crate::pipeline::verify::sns;
use crate::pipeline::verify::stamp::Stamp;
use crate::pipeline::verify::template::{Given, Part, Template};
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
    /// Where the key comes from, if it is none of these.
    pub(super) fetched: Option<FetchedKey>,
    /// The configured URL, without a query.
    pub(super) url: Option<String>,
    /// How else its sender may write it.
    pub(super) other_urls: Vec<String>,
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
    /// A token that its issuer signed.
    Jwt(Box<Jwt>),
    /// An HTTP message signature.
    Message(Box<Message>),
    /// The connection's certificate.
    Certificate(Holder),
}

/// What one table proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proved {
    /// Label of the secret that matched, where a secret proves it.
    pub(super) key: Option<Arc<str>>,
    /// How much of the body the proof covers.
    pub(super) coverage: Coverage,
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

impl Method {
    /// The method for this request, where that is for the request to say.
    fn of(self, facts: &Facts<'_>) -> Result<Self, Refusal> {
        match self {
            Self::Public {
                algorithm: PublicAlgorithm::Sns,
                form,
            } => Ok(Self::Public {
                algorithm: sns::algorithm(facts)?,
                form,
            }),
            Self::Public { .. } | Self::Shared { .. } => Ok(self),
        }
    }
}

impl Scheme {
    /// Whether it needs anything from outside the request.
    pub(super) fn needs_evidence(&self) -> bool {
        match &self.kind {
            Kind::Jwt(jwt) => jwt.needs_evidence(),
            _ => self.fetched.is_some(),
        }
    }

    /// What has to be fetched to check this request. A request that would be refused whatever
    /// comes makes nobody fetch anything.
    pub(super) fn errand(
        &self,
        facts: &Facts<'_>,
        source: &Arc<str>,
        now: Now,
    ) -> Result<Option<Errand>, Refusal> {
        let Some(fetched) = &self.fetched else {
            return Ok(None);
        };
        let errand = fetched.errand(facts, source)?;
        self.decode(&self.signature.sent(facts)?)?;
        let timestamp = self.timestamp(facts)?;
        let given = self.given(facts, timestamp.as_deref());
        self.ensure_rest(&given, now)?;
        Ok(Some(errand))
    }

    /// Whether the request is proved, and by what.
    pub(super) fn check(
        &self,
        facts: &Facts<'_>,
        evidence: Option<&Piece>,
        now: Now,
    ) -> Result<Proved, Refusal> {
        let key = match &self.kind {
            Kind::Message(message) => return message.check(self, facts, now),
            Kind::Certificate(holder) => {
                holder.check(facts.head)?;
                self.ensure_asserted(facts)?;
                None
            }
            Kind::Jwt(jwt) => {
                let key = jwt.check(&self.signature, facts, evidence, now)?;
                self.ensure_asserted(facts)?;
                Some(key)
            }
            Kind::Signed(_) | Kind::Token | Kind::Basic => {
                Some(self.check_value(facts, evidence, now)?)
            }
        };
        Ok(Proved {
            key,
            coverage: self.coverage,
        })
    }

    /// The assertions of a proof that has no text of its own.
    pub(super) fn ensure_asserted(&self, facts: &Facts<'_>) -> Result<(), Refusal> {
        let given = self.given(facts, None);
        let mut asserts = self.asserts.iter();
        asserts.try_for_each(|assertion| assertion.check(&given))
    }

    /// The label of the secret that matches what stands somewhere in the request.
    fn check_value(
        &self,
        facts: &Facts<'_>,
        evidence: Option<&Piece>,
        now: Now,
    ) -> Result<Arc<str>, Refusal> {
        let sent = self.signature.sent(facts)?;
        let presented = self.decode(&sent)?;
        let timestamp = self.timestamp(facts)?;
        let mut given = self.given(facts, timestamp.as_deref());
        let fetched;
        let keys = match &self.fetched {
            None => self.keys.as_slice(),
            Some(by) => {
                fetched = [self.fetched_key(by, facts, evidence, now)?];
                &fetched
            }
        };

        let mut matched = self.compare(keys, &presented, &mut given);
        for url in &self.other_urls {
            if matched.is_ok() {
                break;
            }
            given.url = Some(url);
            matched = self.compare(keys, &presented, &mut given);
        }
        let matched = Arc::clone(matched?);

        self.ensure_rest(&given, now)?;
        Ok(matched)
    }

    pub(super) fn given<'a>(
        &'a self,
        facts: &'a Facts<'a>,
        timestamp: Option<&'a [u8]>,
    ) -> Given<'a> {
        Given {
            facts,
            timestamp,
            secret: b"",
            url: self.url.as_deref(),
        }
    }

    /// What must also hold.
    fn ensure_rest(&self, given: &Given<'_>, now: Now) -> Result<(), Refusal> {
        for assertion in &self.asserts {
            assertion.check(given)?;
        }
        if let (Some(stamp), Some(text)) = (&self.stamp, given.timestamp) {
            stamp.check(text, now.wall)?;
        }
        Ok(())
    }

    fn fetched_key(
        &self,
        by: &FetchedKey,
        facts: &Facts<'_>,
        evidence: Option<&Piece>,
        now: Now,
    ) -> Result<Key, Refusal> {
        // The same refusals again that kept it from being fetched.
        self.errand(facts, &Arc::from(""), now)?;
        let Kind::Signed(signing) = &self.kind else {
            return Err(Refusal::NoEvidence);
        };
        match evidence {
            Some(Piece::Document(document)) => by.key(document, signing.method.of(facts)?, now),
            Some(Piece::Keys(_) | Piece::Word(_)) | None => Err(Refusal::NoEvidence),
        }
    }

    /// How much of the query the proof covers.
    pub(super) fn query_coverage(&self) -> Coverage {
        let signing = match &self.kind {
            Kind::Signed(signing) => signing,
            Kind::Message(message) => return message.query_coverage(),
            Kind::Jwt(jwt) if jwt.covers_query() => return Coverage::Fields,
            Kind::Token | Kind::Basic | Kind::Jwt(_) | Kind::Certificate(_) => {
                return Coverage::Token;
            }
        };
        let has_url = |part: &Part| matches!(part, Part::Url(_));
        let has_value = |part: &Part| {
            matches!(
                part,
                Part::Value {
                    place: Place::Query(_),
                    ..
                }
            )
        };
        if signing.template.any(has_url) {
            Coverage::Full
        } else if signing.template.any(has_value) {
            Coverage::Fields
        } else {
            Coverage::None
        }
    }

    pub(super) fn timestamp(&self, facts: &Facts<'_>) -> Result<Option<Vec<u8>>, Refusal> {
        self.stamp
            .as_ref()
            .map(|stamp| stamp.text(&self.signature, facts))
            .transpose()
    }

    /// Compares every secret with everything presented: how long it takes says nothing about
    /// which one was nearly right.
    fn compare<'f>(
        &'f self,
        keys: &'f [Key],
        presented: &[Vec<u8>],
        given: &mut Given<'f>,
    ) -> Result<&'f Arc<str>, Refusal> {
        if self.signature.is_each() {
            return self.compare_each(presented);
        }
        let mut matched = None;
        for key in keys {
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
            _ if keys.is_empty() => Refusal::NotEnrolled,
            Kind::Signed(_) => Refusal::Mismatch(keys.len()),
            _ => Refusal::WrongToken(keys.len()),
        })
    }

    /// Compares every token with every secret: each token has to be one of them. The label is that
    /// of the first one.
    fn compare_each(&self, presented: &[Vec<u8>]) -> Result<&Arc<str>, Refusal> {
        let mut first = None;
        let mut all = true;
        for sent in presented {
            let mut matched = None;
            for key in &self.keys {
                let Ready::Hash(hash) = &key.ready else {
                    continue;
                };
                if bool::from(hash.as_slice().ct_eq(sent)) {
                    matched = matched.or(Some(&key.label));
                }
            }
            all &= matched.is_some();
            first = first.or(matched);
        }
        let first = first.filter(|_| all);
        first.ok_or(Refusal::WrongToken(self.keys.len()))
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
            (_, Ready::Mac(_) | Ready::Public(_)) => Err(Refusal::WrongToken(0)),
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
                    Kind::Token | Kind::Jwt(_) => "text",
                    Kind::Basic => "`Basic` with user and password in base64",
                    Kind::Message(_) | Kind::Certificate(_) => "of its form",
                },
            }),
            _ => Ok(decoded),
        }
    }

    fn decode_one(&self, text: &[u8]) -> Option<Vec<u8>> {
        match &self.kind {
            Kind::Signed(signing) => signing.encoding.decode(text),
            Kind::Token | Kind::Jwt(_) => Some(Sha256::digest(text).to_vec()),
            Kind::Basic => basic::credentials(text).map(|pair| Sha256::digest(pair).to_vec()),
            Kind::Message(_) | Kind::Certificate(_) => None,
        }
    }
}
