//! Keyed hashes. A key is worked in once, when the configuration is compiled; each request
//! works on a copy.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// `algorithm`, where it is one that signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// RFC 2104.
    HmacSha1,
    HmacSha256,
    HmacSha384,
    HmacSha512,
    /// A plain hash over a text that holds the secret: what old schemes did before HMAC.
    PlainSha1,
    PlainSha256,
}

/// A hash with its key in it.
#[derive(Clone)]
pub(super) enum Mac {
    HmacSha1(Hmac<Sha1>),
    HmacSha256(Hmac<Sha256>),
    HmacSha384(Hmac<Sha384>),
    HmacSha512(Hmac<Sha512>),
    PlainSha1(Sha1),
    PlainSha256(Sha256),
}

impl Algorithm {
    /// Whether the secret is in the signed text instead of in the key.
    pub(super) fn is_plain(self) -> bool {
        matches!(self, Self::PlainSha1 | Self::PlainSha256)
    }

    /// How long a signature is.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::HmacSha1 | Self::PlainSha1 => 20,
            Self::HmacSha256 | Self::PlainSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
        }
    }

    /// Works the key in. `None` is for keys that the algorithm cannot take; HMAC takes any.
    pub(super) fn keyed(self, key: &[u8]) -> Option<Mac> {
        Some(match self {
            Self::HmacSha1 => Mac::HmacSha1(Hmac::new_from_slice(key).ok()?),
            Self::HmacSha256 => Mac::HmacSha256(Hmac::new_from_slice(key).ok()?),
            Self::HmacSha384 => Mac::HmacSha384(Hmac::new_from_slice(key).ok()?),
            Self::HmacSha512 => Mac::HmacSha512(Hmac::new_from_slice(key).ok()?),
            Self::PlainSha1 => Mac::PlainSha1(Sha1::new()),
            Self::PlainSha256 => Mac::PlainSha256(Sha256::new()),
        })
    }
}

impl Mac {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::HmacSha1(mac) => mac.update(bytes),
            Self::HmacSha256(mac) => mac.update(bytes),
            Self::HmacSha384(mac) => mac.update(bytes),
            Self::HmacSha512(mac) => mac.update(bytes),
            Self::PlainSha1(hash) => hash.update(bytes),
            Self::PlainSha256(hash) => hash.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        match self {
            Self::HmacSha1(mac) => mac.finalize().into_bytes().to_vec(),
            Self::HmacSha256(mac) => mac.finalize().into_bytes().to_vec(),
            Self::HmacSha384(mac) => mac.finalize().into_bytes().to_vec(),
            Self::HmacSha512(mac) => mac.finalize().into_bytes().to_vec(),
            Self::PlainSha1(hash) => hash.finalize().to_vec(),
            Self::PlainSha256(hash) => hash.finalize().to_vec(),
        }
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[keyed]")
    }
}
