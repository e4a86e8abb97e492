//! `alg` (RFC 7518, section 3.1; RFC 8037), as the list of a source names it.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, ED25519, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair, VerificationAlgorithm,
};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use crate::pipeline::verify::mac::Algorithm as MacAlgorithm;

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

    /// Signs as the issuer does, with its private key in PEM (PKCS #8, or what OpenSSL writes).
    pub(super) fn sign(self, private_key: &[u8], text: &[u8]) -> Result<Vec<u8>, String> {
        let key = PrivateKeyDer::from_pem_slice(private_key)
            .map_err(|error| format!("the signing key is no private key in PEM: {error}"))?;
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => {
                Err(format!("{} is made with the shared secret", self.name()))
            }
            Self::Rs256 => self.sign_rsa(&RSA_PKCS1_SHA256, &key, text),
            Self::Rs384 => self.sign_rsa(&RSA_PKCS1_SHA384, &key, text),
            Self::Rs512 => self.sign_rsa(&RSA_PKCS1_SHA512, &key, text),
            Self::Ps256 => self.sign_rsa(&RSA_PSS_SHA256, &key, text),
            Self::Ps384 => self.sign_rsa(&RSA_PSS_SHA384, &key, text),
            Self::Ps512 => self.sign_rsa(&RSA_PSS_SHA512, &key, text),
            Self::Es256 => self.sign_ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, &key, text),
            Self::Es384 => self.sign_ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, &key, text),
            Self::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_der());
                let pair = pair.map_err(|_rejected| self.unfit())?;
                Ok(pair.sign(text).as_ref().to_vec())
            }
        }
    }

    fn sign_rsa(
        self,
        padding: &'static dyn RsaEncoding,
        key: &PrivateKeyDer<'_>,
        text: &[u8],
    ) -> Result<Vec<u8>, String> {
        let pair = match key {
            PrivateKeyDer::Pkcs1(_) => RsaKeyPair::from_der(key.secret_der()),
            _ => RsaKeyPair::from_pkcs8(key.secret_der()),
        };
        let pair = pair.map_err(|_rejected| self.unfit())?;
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(padding, &SystemRandom::new(), text, &mut signature)
            .map_err(|_unspecified| "signing failed".to_owned())?;
        Ok(signature)
    }

    fn sign_ecdsa(
        self,
        algorithm: &'static EcdsaSigningAlgorithm,
        key: &PrivateKeyDer<'_>,
        text: &[u8],
    ) -> Result<Vec<u8>, String> {
        let pair = EcdsaKeyPair::from_private_key_der(algorithm, key.secret_der());
        let pair = pair.map_err(|_rejected| self.unfit())?;
        let signature = pair.sign(&SystemRandom::new(), text);
        let signature = signature.map_err(|_unspecified| "signing failed".to_owned())?;
        Ok(signature.as_ref().to_vec())
    }

    fn unfit(self) -> String {
        format!("the signing key is not one for {}", self.name())
    }
}
