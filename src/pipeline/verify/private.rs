//! Signing as the sender does, with its private key in PEM (PKCS #8, or what OpenSSL writes).

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::PublicEncryptingKey;
use aws_lc_rs::signature::{
    EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, ParsedPublicKey, RsaEncoding, RsaKeyPair,
};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

/// How a private key signs.
#[derive(Clone, Copy)]
pub(super) enum SigningKind {
    Ed25519,
    Ecdsa(&'static EcdsaSigningAlgorithm),
    /// With this padding.
    Rsa(&'static dyn RsaEncoding),
}

impl SigningKind {
    /// Signs a text. `name` is that of the algorithm, for messages.
    ///
    /// # Errors
    ///
    /// What is wrong with the key, in words.
    pub(super) fn sign(
        self,
        name: &str,
        private_key: &[u8],
        text: &[u8],
    ) -> Result<Vec<u8>, String> {
        let key = PrivateKeyDer::from_pem_slice(private_key)
            .map_err(|error| format!("the signing key is no private key in PEM: {error}"))?;
        let der = key.secret_der();
        let unfit = |_rejected| format!("the signing key is not one for {name}");
        let failed = |_unspecified| "signing failed".to_owned();
        match self {
            Self::Ed25519 => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(unfit)?;
                Ok(pair.sign(text).as_ref().to_vec())
            }
            Self::Ecdsa(algorithm) => {
                let pair = EcdsaKeyPair::from_private_key_der(algorithm, der).map_err(unfit)?;
                let signature = pair.sign(&SystemRandom::new(), text).map_err(failed)?;
                Ok(signature.as_ref().to_vec())
            }
            Self::Rsa(padding) => {
                let pair = match &key {
                    PrivateKeyDer::Pkcs1(_) => RsaKeyPair::from_der(der),
                    _ => RsaKeyPair::from_pkcs8(der),
                };
                let pair = pair.map_err(unfit)?;
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &SystemRandom::new(), text, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

/// Whether an RSA key has a length that counts. Otherwise that is looked at only with a signature,
/// and none would ever hold.
pub(super) fn is_long_enough(key: &ParsedPublicKey) -> bool {
    let der: Result<PublicKeyX509Der<'_>, _> = key.as_der();
    der.is_ok_and(|der| PublicEncryptingKey::from_der(der.as_ref()).is_ok())
}
