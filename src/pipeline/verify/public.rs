//! Signatures that anybody can check and only the sender can make: Ed25519, ECDSA, RSA.
//!
//! What stands in `secrets` is the sender's public key, or a certificate with it.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED,
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING,
    ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RSA_PSS_2048_8192_SHA512, RSA_PSS_SHA512,
    VerificationAlgorithm,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};

use crate::pipeline::verify::key::KeyForm;
use crate::pipeline::verify::private::{SigningKind, is_long_enough};

/// What PEM calls a public key of the form of PKCS #1 (RFC 8017, appendix A.1.1).
const RSA_PUBLIC_KEY: &str = "RSA PUBLIC KEY";

/// What stands before a public key of Standard Webhooks; it is not part of it.
const WHPK: &[u8] = b"whpk_";

/// `algorithm`, where the sender has a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PublicAlgorithm {
    /// RFC 8032.
    Ed25519,
    /// FIPS 186-5 over P-256; a signature is the DER of `r` and `s`.
    EcdsaP256Sha256,
    /// The same curve; a signature is `r` and `s` side by side (RFC 9421, section 3.3.4).
    EcdsaP256Sha256Fixed,
    /// Likewise over P-384.
    EcdsaP384Sha384Fixed,
    /// RFC 8017, section 8.2; keys of 2048 to 8192 bits.
    RsaPkcs1Sha256,
    /// The same with SHA-1: only for Amazon SNS, whose topics sign so until told otherwise.
    RsaPkcs1Sha1,
    /// One of the last two, as a message of Amazon SNS says.
    Sns,
    /// RFC 8017, section 8.1, with a salt as long as the hash.
    RsaPssSha512,
}

/// `key`, for a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PublicForm {
    /// `PUBLIC KEY`, `RSA PUBLIC KEY` or `CERTIFICATE`.
    Pem,
    /// Base64 of the DER, or of the 32 bytes of an Ed25519 key.
    Base64,
    /// Hex of the same.
    Hex,
    /// Base64 after `whpk_`, which may be left out (Standard Webhooks).
    Whpk,
}

/// Whether `secrets` holds public keys with this `algorithm`, or with this `signature_algorithm`.
pub(crate) fn is_public_algorithm(name: &str) -> bool {
    let names = ["rsa-v1_5-sha256", "ecdsa-p384-sha384", "rsa-pss-sha512"];
    let own = [
        PublicAlgorithm::Ed25519,
        PublicAlgorithm::EcdsaP256Sha256,
        PublicAlgorithm::RsaPkcs1Sha256,
    ];
    names.contains(&name) || own.iter().any(|algorithm| algorithm.name() == name)
}

/// A public key, ready for use.
#[derive(Debug)]
pub(super) struct PublicKey(ParsedPublicKey);

impl PublicAlgorithm {
    /// As it is written in `algorithm`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256Sha256 | Self::EcdsaP256Sha256Fixed => "ecdsa-p256-sha256",
            Self::EcdsaP384Sha384Fixed => "ecdsa-p384-sha384",
            Self::RsaPkcs1Sha256 => "rsa-pkcs1-sha256",
            Self::RsaPkcs1Sha1 => "rsa-pkcs1-sha1",
            Self::Sns => "sns",
            Self::RsaPssSha512 => "rsa-pss-sha512",
        }
    }

    /// How long a signature is. `None`: that depends on the key, or on the signature.
    pub(super) fn signature_bytes(self) -> Option<usize> {
        match self {
            Self::Ed25519 | Self::EcdsaP256Sha256Fixed => Some(64),
            Self::EcdsaP384Sha384Fixed => Some(96),
            Self::EcdsaP256Sha256
            | Self::RsaPkcs1Sha256
            | Self::RsaPkcs1Sha1
            | Self::Sns
            | Self::RsaPssSha512 => None,
        }
    }

    /// The key of these bytes: DER as in a certificate (RFC 5280), PKCS #1, or the bare key.
    /// `None`: not a key of this algorithm.
    pub(super) fn public_key(self, bytes: &[u8]) -> Option<PublicKey> {
        let algorithm: &'static dyn VerificationAlgorithm = match self {
            Self::Ed25519 => &ED25519,
            Self::EcdsaP256Sha256 => &ECDSA_P256_SHA256_ASN1,
            Self::EcdsaP256Sha256Fixed => &ECDSA_P256_SHA256_FIXED,
            Self::EcdsaP384Sha384Fixed => &ECDSA_P384_SHA384_FIXED,
            Self::RsaPkcs1Sha256 | Self::Sns => &RSA_PKCS1_2048_8192_SHA256,
            Self::RsaPkcs1Sha1 => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
            Self::RsaPssSha512 => &RSA_PSS_2048_8192_SHA512,
        };
        let key = ParsedPublicKey::new(algorithm, bytes).ok()?;
        let is_rsa = matches!(
            self,
            Self::RsaPkcs1Sha256 | Self::RsaPkcs1Sha1 | Self::Sns | Self::RsaPssSha512
        );
        (!is_rsa || is_long_enough(&key)).then_some(PublicKey(key))
    }

    /// Signs as the sender does, with its private key in PEM.
    ///
    /// # Errors
    ///
    /// What is wrong with the key, in words.
    pub(super) fn sign(self, private_key: &[u8], text: &[u8]) -> Result<Vec<u8>, String> {
        let signing = match self {
            Self::Ed25519 => SigningKind::Ed25519,
            Self::EcdsaP256Sha256 => SigningKind::Ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
            Self::EcdsaP256Sha256Fixed => SigningKind::Ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Self::EcdsaP384Sha384Fixed => SigningKind::Ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
            Self::RsaPkcs1Sha1 => return Err("nobody should sign with SHA-1 any more".to_owned()),
            Self::RsaPkcs1Sha256 | Self::Sns => SigningKind::Rsa(&RSA_PKCS1_SHA256),
            Self::RsaPssSha512 => SigningKind::Rsa(&RSA_PSS_SHA512),
        };
        signing.sign(self.name(), private_key, text)
    }
}

impl PublicForm {
    pub(super) const ALL: [(&'static str, Self); 4] = [
        ("pem", Self::Pem),
        ("base64", Self::Base64),
        ("hex", Self::Hex),
        ("whpk", Self::Whpk),
    ];

    /// The word for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pem => "pem",
            Self::Base64 => "base64",
            Self::Hex => "hex",
            Self::Whpk => "whpk",
        }
    }

    /// Whether a text says of itself that it is a public key.
    pub(crate) fn is_written_as_public(text: &[u8]) -> bool {
        Self::Pem.key(text).is_some() || text.trim_ascii().starts_with(WHPK)
    }

    /// What a public key in this form looks like.
    pub(super) fn looks(self) -> &'static str {
        match self {
            Self::Pem => {
                "pem begins with `-----BEGIN PUBLIC KEY-----` or `-----BEGIN CERTIFICATE-----`, \
                 line breaks included; `key = \"base64\"` takes what stands between such lines"
            }
            Self::Base64 => {
                "base64 is letters, digits, `+` and `/`, with or without `=` at the end; \
                 `key = \"pem\"` takes a key between `-----BEGIN` and `-----END` lines"
            }
            Self::Hex => {
                "hex is an even number of the digits 0 to 9 and a to f, and nothing else; \
                 `key = \"base64\"` takes base64"
            }
            Self::Whpk => {
                "whpk is `whpk_` and then base64: letters, digits, `+` and `/`, with or without \
                 `=` at the end"
            }
        }
    }

    /// The bytes of the key. `None`: it is not written in this form.
    pub(super) fn key(self, text: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Pem => pem(text),
            Self::Base64 => decoded(KeyForm::Base64, text.trim_ascii()),
            Self::Hex => decoded(KeyForm::Hex, text.trim_ascii()),
            Self::Whpk => {
                let text = text.trim_ascii();
                decoded(KeyForm::Base64, text.strip_prefix(WHPK).unwrap_or(text))
            }
        }
    }
}

impl PublicKey {
    /// Whether the owner of the key signed this text.
    pub(super) fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        self.0.verify_sig(text, signature).is_ok()
    }
}

fn decoded(form: KeyForm, text: &[u8]) -> Option<Vec<u8>> {
    form.key(text).map(|bytes| bytes.to_vec())
}

/// The only key in a PEM text, as DER.
fn pem(text: &[u8]) -> Option<Vec<u8>> {
    let mut keys = SubjectPublicKeyInfoDer::pem_slice_iter(text);
    match (keys.next(), keys.next()) {
        (Some(Ok(key)), None) => return Some(key.to_vec()),
        // Nobody would notice that only one of them counts: each is a secret of its own.
        (Some(Ok(_)), Some(_)) => return None,
        _ => {}
    }
    if let Ok(certificate) = CertificateDer::from_pem_slice(text) {
        let (_, certificate) = x509_parser::parse_x509_certificate(&certificate).ok()?;
        return Some(certificate.public_key().raw.to_vec());
    }
    let (_, block) = x509_parser::pem::parse_x509_pem(text).ok()?;
    (block.label == RSA_PUBLIC_KEY).then_some(block.contents)
}
