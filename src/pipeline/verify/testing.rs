//! Pairs of keys for tests.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::secret::Secret;

/// A sender of one test.
pub(crate) struct Pair {
    /// As it stands in `secrets`.
    pub(crate) public: String,
    /// In PEM.
    pub(crate) private: Secret,
}

/// Makes a pair for `algorithm`, with the public key written in `form`, both as in a
/// configuration. `None`: an algorithm whose secret both sides have.
pub(crate) fn pair(algorithm: &str, form: &str) -> Option<Pair> {
    let (public, bare, private) = match algorithm {
        "ed25519" => {
            let pair = Ed25519KeyPair::generate().unwrap();
            let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
            let bare = pair.public_key().as_ref().to_vec();
            let private = pair.to_pkcs8v1().unwrap();
            (public.as_ref().to_vec(), bare, private.as_ref().to_vec())
        }
        "ecdsa-p256-sha256" => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
            let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
            let private = pair.to_pkcs8v1().unwrap();
            let public = public.as_ref().to_vec();
            (public.clone(), public, private.as_ref().to_vec())
        }
        "rsa-pkcs1-sha256" => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
            let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
            let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
            let public = public.as_ref().to_vec();
            (public.clone(), public, private.as_ref().to_vec())
        }
        _ => return None,
    };
    let public = match form {
        "pem" => pem("PUBLIC KEY", &public),
        "base64" => STANDARD.encode(bare),
        "hex" => hex::encode(bare),
        "whpk" => format!("whpk_{}", STANDARD.encode(bare)),
        other => panic!("{other}"),
    };
    let private = Secret::new(pem("PRIVATE KEY", &private).into_bytes());
    Some(Pair { public, private })
}

/// RFC 7468.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let lines = lines.join("\n");
    format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
}
