//! Keys, each made for the algorithms that it may be used with and for no other.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::PublicEncryptingKey;
use aws_lc_rs::signature::{ParsedPublicKey, RsaPublicKeyComponents};
use subtle::ConstantTimeEq as _;

use super::algorithm::{KeyKind, TokenAlgorithm};
use crate::pipeline::verify::mac::Mac;
use crate::pipeline::verify::private::is_long_enough;

/// One key of an issuer.
pub(super) struct TokenKey {
    /// What the operator knows it by.
    pub(super) label: Arc<str>,
    /// Only tokens with this `kid`, or without one, are tried with it. `None`: any token.
    pub(super) kid: Option<String>,
    /// Never empty, and all of one kind.
    ready: Vec<(TokenAlgorithm, Ready)>,
}

enum Ready {
    Shared(Box<Mac>),
    Public(Box<ParsedPublicKey>),
}

/// A public key as its bytes, before it is known whether they are one.
#[derive(Debug)]
pub(super) enum Material {
    /// `SubjectPublicKeyInfo` (RFC 5280).
    Spki(Vec<u8>),
    /// Big-endian.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// X9.62, uncompressed.
    Point(KeyKind, Vec<u8>),
    /// RFC 8032.
    Ed25519(Vec<u8>),
}

impl TokenKey {
    /// The shared secret, for those of `algorithms` that take one.
    pub(super) fn shared(
        label: Arc<str>,
        secret: &[u8],
        algorithms: &[TokenAlgorithm],
    ) -> Option<Self> {
        let ready = algorithms.iter().filter_map(|&algorithm| {
            let mac = algorithm.mac()?.keyed(secret)?;
            Some((algorithm, Ready::Shared(Box::new(mac))))
        });
        Self::of(label, None, ready.collect())
    }

    /// A public key, for those of `algorithms` that it fits. `None`: for none of them.
    pub(super) fn public(
        label: Arc<str>,
        kid: Option<String>,
        material: &Material,
        algorithms: &[TokenAlgorithm],
    ) -> Option<Self> {
        let bytes = material.bytes()?;
        let ready = algorithms.iter().filter_map(|&algorithm| {
            let key = ParsedPublicKey::new(algorithm.verification()?, &bytes).ok()?;
            let is_long = algorithm.kind() != KeyKind::Rsa || is_long_enough(&key);
            let is_right = is_long && material.is_of(algorithm.kind());
            is_right.then(|| (algorithm, Ready::Public(Box::new(key))))
        });
        Self::of(label, kid, ready.collect())
    }

    fn of(
        label: Arc<str>,
        kid: Option<String>,
        ready: Vec<(TokenAlgorithm, Ready)>,
    ) -> Option<Self> {
        (!ready.is_empty()).then_some(Self { label, kid, ready })
    }

    /// Whether a token with this algorithm and this `kid` may be signed with it.
    pub(super) fn is_for(&self, algorithm: TokenAlgorithm, kid: Option<&str>) -> bool {
        let is_named = match (&self.kid, kid) {
            (Some(own), Some(kid)) => own == kid,
            (None, _) | (_, None) => true,
        };
        is_named && self.ready.iter().any(|(own, _)| *own == algorithm)
    }

    /// Whether the owner of the key signed this text.
    pub(super) fn verifies(
        &self,
        algorithm: TokenAlgorithm,
        text: &[u8],
        signature: &[u8],
    ) -> bool {
        let mut ready = self.ready.iter();
        match ready.find(|(own, _)| *own == algorithm) {
            Some((_, Ready::Shared(mac))) => {
                let mut mac = Mac::clone(mac);
                mac.update(text);
                mac.finish().ct_eq(signature).into()
            }
            Some((_, Ready::Public(key))) => key.verify_sig(text, signature).is_ok(),
            None => false,
        }
    }

    /// Signs a text with the shared secret. `None`: only the issuer can.
    pub(super) fn sign_shared(&self, text: &[u8]) -> Option<(TokenAlgorithm, Vec<u8>)> {
        self.ready
            .iter()
            .find_map(|(algorithm, ready)| match ready {
                Ready::Shared(mac) => {
                    let mut mac = Mac::clone(mac);
                    mac.update(text);
                    Some((*algorithm, mac.finish()))
                }
                Ready::Public(_) => None,
            })
    }

    /// The first algorithm that it is for.
    pub(super) fn algorithm(&self) -> Option<TokenAlgorithm> {
        self.ready.first().map(|(algorithm, _)| *algorithm)
    }
}

impl Material {
    fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Spki(bytes) | Self::Point(_, bytes) | Self::Ed25519(bytes) => Some(bytes.clone()),
            Self::Rsa { n, e } => {
                let components = RsaPublicKeyComponents { n, e };
                let key: PublicEncryptingKey = components.try_into().ok()?;
                let der: PublicKeyX509Der<'_> = key.as_der().ok()?;
                Some(der.as_ref().to_vec())
            }
        }
    }

    /// Whether it can be a key of this kind at all. What a `SubjectPublicKeyInfo` is, it says itself.
    fn is_of(&self, kind: KeyKind) -> bool {
        match self {
            Self::Spki(_) => kind != KeyKind::Shared,
            Self::Rsa { .. } => kind == KeyKind::Rsa,
            Self::Point(own, _) => kind == *own,
            Self::Ed25519(_) => kind == KeyKind::Ed25519,
        }
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey")
            .field("label", &self.label)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}
