//! Answers a provider's challenge with our secret, as Zoom and X ask for.
//!
//! Whoever answers challenges signs what strangers wrote. Only short texts of letters, digits,
//! `-`, `_` and `=` are signed, and where strangers are answered without proof, an event whose
//! signed text looks like that is refused: `a=b` is a form, and `1` is JSON. So a signed challenge
//! can never be passed off as a signed event.

use crate::pipeline::expr::facts::Facts;
use crate::pipeline::verify::Verifier;
use crate::pipeline::verify::key::{Encoding, KeyForm};
use crate::pipeline::verify::mac::{Algorithm, Mac};
use crate::pipeline::verify::refusal::Refusal;
use crate::pipeline::verify::scheme::{Kind, Method, Ready, Scheme};
use crate::pipeline::verify::template::Given;
use crate::pipeline::verify::words::one_of;
use crate::secret::Labelled;

/// Longest challenge that is signed, in bytes.
const CHALLENGE_BYTES_MAX: usize = 128;

/// Functions of a reply's template, for challenges that are signed in another way than events.
const FUNCTIONS: [(&str, Algorithm, Encoding); 4] = [
    ("hmac-sha256-hex", Algorithm::HmacSha256, Encoding::Hex),
    (
        "hmac-sha256-base64",
        Algorithm::HmacSha256,
        Encoding::Base64,
    ),
    ("hmac-sha1-hex", Algorithm::HmacSha1, Encoding::Hex),
    ("hmac-sha1-base64", Algorithm::HmacSha1, Encoding::Base64),
];

/// What such a function takes for its key.
const KEYS: [(&str, KeyForm); 3] = [
    ("secret", KeyForm::Utf8),
    ("sha1(secret)", KeyForm::Sha1),
    ("sha256(secret)", KeyForm::Sha256),
];

/// The first secret with an algorithm and an encoding: the scheme's, or a function's.
#[derive(Debug)]
pub(crate) struct ChallengeSigner {
    mac: Box<Mac>,
    encoding: Encoding,
}

impl Verifier {
    /// `None`: nothing of this source signs.
    pub(crate) fn challenge_signer(&self) -> Option<ChallengeSigner> {
        self.schemes
            .iter()
            .find_map(|scheme| match (&scheme.kind, &scheme.keys.first()?.ready) {
                (Kind::Signed(signing), Ready::Mac(mac)) => match signing.method {
                    Method::Shared { algorithm, .. } if !algorithm.is_plain() => {
                        Some(ChallengeSigner {
                            mac: mac.clone(),
                            encoding: signing.encoding,
                        })
                    }
                    Method::Shared { .. } | Method::Public { .. } => None,
                },
                _ => None,
            })
    }
}

impl Verifier {
    /// From now on a text that strangers could have had signed proves nothing.
    pub(crate) fn beware_of_challenges(&mut self) {
        self.signs_for_strangers = true;
    }
}

impl Scheme {
    /// Refuses a request whose signed text is one that [`ChallengeSigner::sign`] signs.
    pub(super) fn ensure_no_challenge(&self, facts: &Facts<'_>) -> Result<(), Refusal> {
        let Kind::Signed(signing) = &self.kind else {
            return Ok(());
        };
        let timestamp = self.timestamp(facts)?;
        let given = Given {
            facts,
            timestamp: timestamp.as_deref(),
            secret: b"",
            url: self.url.as_deref(),
        };
        let mut length = 0;
        let mut is_challenge = true;
        signing.template.feed(&given, |piece| {
            length += piece.len();
            is_challenge &= length <= CHALLENGE_BYTES_MAX && piece.iter().all(is_token);
        })?;
        if is_challenge {
            Err(Refusal::Challenge)
        } else {
            Ok(())
        }
    }
}

impl ChallengeSigner {
    /// By the name of a function and what it takes for its key; says what is wrong with them.
    pub(crate) fn of_function(
        function: &str,
        key: &str,
        secrets: &[Labelled],
    ) -> Result<Self, String> {
        let found = FUNCTIONS.iter().find(|(name, ..)| *name == function);
        let Some((_, algorithm, encoding)) = found else {
            let names = FUNCTIONS.map(|(name, ..)| name);
            return Err(format!("`{function}` is not known; {}", one_of(&names)));
        };
        let Some((_, form)) = KEYS.iter().find(|(name, _)| *name == key) else {
            let names = KEYS.map(|(name, _)| name);
            return Err(format!("`{key}` is no key; {}", one_of(&names)));
        };
        let secret = secrets.first().map(|first| first.secret.expose());
        let key = secret.and_then(|secret| form.key(secret));
        let mac = key.and_then(|key| algorithm.keyed(&key));
        let mac = mac.ok_or_else(|| format!("`{function}` needs a secret"))?;
        Ok(Self {
            mac: Box::new(mac),
            encoding: *encoding,
        })
    }

    /// The signature as text, or `None` for what is no challenge.
    pub(crate) fn sign(&self, challenge: &str) -> Option<String> {
        let is_short = (1..=CHALLENGE_BYTES_MAX).contains(&challenge.len());
        if !is_short || !challenge.as_bytes().iter().all(is_token) {
            return None;
        }
        let mut mac = Mac::clone(&self.mac);
        mac.update(challenge.as_bytes());
        Some(self.encoding.encode(&mac.finish()))
    }
}

fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_=".contains(byte)
}
