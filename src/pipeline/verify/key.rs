//! How a secret becomes a key: `key = "utf8"` and so on.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Standard alphabet, padded or not: secrets are pasted by people.
const BASE64_LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// URL-safe alphabet, padded or not.
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What stands before a Standard Webhooks secret; it is not part of the key.
const WHSEC: &[u8] = b"whsec_";

/// `key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyForm {
    /// Its bytes as they are.
    Utf8,
    Hex,
    Base64,
    /// Base64 after `whsec_`, which may be left out (Standard Webhooks).
    Whsec,
    /// The SHA-1 of its bytes.
    Sha1,
    /// The SHA-256 of its bytes.
    Sha256,
}

impl KeyForm {
    pub(super) const ALL: [(&'static str, Self); 6] = [
        ("utf8", Self::Utf8),
        ("hex", Self::Hex),
        ("base64", Self::Base64),
        ("whsec", Self::Whsec),
        ("sha1(utf8)", Self::Sha1),
        ("sha256(utf8)", Self::Sha256),
    ];

    /// The word for it.
    pub(super) fn name(self) -> &'static str {
        let known = Self::ALL.iter().find(|(_, form)| *form == self);
        known.map_or("expected", |(name, _)| name)
    }

    /// What a secret in this form looks like.
    pub(super) fn looks(self) -> &'static str {
        match self {
            Self::Utf8 | Self::Sha1 | Self::Sha256 => "any text but an empty one",
            Self::Hex => {
                "hex is an even number of the digits 0 to 9 and a to f, and nothing else; \
                 `key = \"utf8\"` takes any text"
            }
            Self::Base64 => {
                "base64 is letters, digits, `+` and `/`, with or without `=` at the end; \
                 `key = \"utf8\"` takes any text"
            }
            Self::Whsec => {
                "whsec is `whsec_` and then base64: letters, digits, `+` and `/`, with or without \
                 `=` at the end; `key = \"utf8\"` takes any text"
            }
        }
    }

    /// The key. `None`: the secret is not written in this form.
    pub(super) fn key(self, secret: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let key = match self {
            Self::Utf8 => secret.to_vec(),
            Self::Hex => hex::decode(secret).ok()?,
            Self::Base64 => BASE64_LENIENT.decode(secret).ok()?,
            Self::Whsec => BASE64_LENIENT
                .decode(secret.strip_prefix(WHSEC).unwrap_or(secret))
                .ok()?,
            Self::Sha1 => Sha1::digest(secret).to_vec(),
            Self::Sha256 => Sha256::digest(secret).to_vec(),
        };
        Some(Zeroizing::new(key)).filter(|key| !key.is_empty())
    }
}

/// `encoding`: how a signature's bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Either case.
    Hex,
    /// Standard alphabet, padded, nothing else.
    Base64,
    /// URL-safe alphabet, padded or not.
    Base64Url,
}

impl Encoding {
    pub(super) const ALL: [(&'static str, Self); 3] = [
        ("hex", Self::Hex),
        ("base64", Self::Base64),
        ("base64url", Self::Base64Url),
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hex => "hex",
            Self::Base64 => "base64",
            Self::Base64Url => "base64url",
        }
    }

    /// Whether a text has none but its letters, be it of any length.
    pub(super) fn is_written_in(self, text: &[u8]) -> bool {
        text.iter().all(|byte| match self {
            Self::Hex => byte.is_ascii_hexdigit(),
            Self::Base64 => byte.is_ascii_alphanumeric() || b"+/=".contains(byte),
            Self::Base64Url => byte.is_ascii_alphanumeric() || b"-_=".contains(byte),
        })
    }

    pub(super) fn decode(self, text: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Hex => hex::decode(text).ok(),
            Self::Base64 => base64::engine::general_purpose::STANDARD.decode(text).ok(),
            Self::Base64Url => BASE64_URL.decode(text).ok(),
        }
    }

    pub(super) fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => hex::encode(bytes),
            Self::Base64 => base64::engine::general_purpose::STANDARD.encode(bytes),
            Self::Base64Url => BASE64_URL.encode(bytes),
        }
    }
}
