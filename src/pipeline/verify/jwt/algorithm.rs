//! `alg` (RFC 7518, section 3.1; RFC 8037), as the list of a source names it.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, VerificationAlgorithm,
};

use crate::pipeline::verify::mac::Algorithm as MacAlgorithm;
use crate::pipeline::verify::private::SigningKind;

/// How a token is signed. There is no `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pipeline::verify) enum TokenAlgorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

/// What a key is. Every algorithm takes keys of one kind only, so a public key can never be used
/// as a shared secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Shared,
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl TokenAlgorithm {
    pub(super) const ALL: [Self; 12] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
    ];

    /// As it stands in a token. Case counts.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(super) fn kind(self) -> KeyKind {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => KeyKind::Shared,
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => {
                KeyKind::Rsa
            }
            Self::Es256 => KeyKind::P256,
            Self::Es384 => KeyKind::P384,
            Self::EdDsa => KeyKind::Ed25519,
        }
    }

    /// The hash of a shared secret's algorithm. `None`: keys come in pairs.
    pub(super) fn mac(self) -> Option<MacAlgorithm> {
        match self {
            Self::Hs256 => Some(MacAlgorithm::HmacSha256),
            Self::Hs384 => Some(MacAlgorithm::HmacSha384),
            Self::Hs512 => Some(MacAlgorithm::HmacSha512),
            _ => None,
        }
    }

    /// `None`: both sides have the same secret. A signature of ECDSA is `r` and `s` side by side
    /// (RFC 7518, section 3.4), and never DER.
    pub(super) fn verification(self) -> Option<&'static dyn VerificationAlgorithm> {
        Some(match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => return None,
            Self::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &RSA_PSS_2048_8192_SHA512,
            Self::Es256 => &ECDSA_P256_SHA256_FIXED,
            Self::Es384 => &ECDSA_P384_SHA384_FIXED,
            Self::EdDsa => &ED25519,
        })
    }

    /// Signs as the issuer does, with its private key in PEM.
    ///
    /// # Errors
    ///
    /// What is wrong with the key, in words.
    pub(super) fn sign(self, private_key: &[u8], text: &[u8]) -> Result<Vec<u8>, String> {
        let signing = match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => {
                return Err(format!("{} is made with the shared secret", self.name()));
            }
            Self::Rs256 => SigningKind::Rsa(&RSA_PKCS1_SHA256),
            Self::Rs384 => SigningKind::Rsa(&RSA_PKCS1_SHA384),
            Self::Rs512 => SigningKind::Rsa(&RSA_PKCS1_SHA512),
            Self::Ps256 => SigningKind::Rsa(&RSA_PSS_SHA256),
            Self::Ps384 => SigningKind::Rsa(&RSA_PSS_SHA384),
            Self::Ps512 => SigningKind::Rsa(&RSA_PSS_SHA512),
            Self::Es256 => SigningKind::Ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Self::Es384 => SigningKind::Ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
            Self::EdDsa => SigningKind::Ed25519,
        };
        signing.sign(self.name(), private_key, text)
    }
}
