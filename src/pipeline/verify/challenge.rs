//! Answers a provider's challenge with our secret, as Zoom and X ask for.
//!
//! Whoever answers challenges signs what strangers wrote. Only short texts of letters, digits,
//! `-`, `_` and `=` are signed, and where strangers are answered without proof, an event whose
//! signed text looks like that is refused: `a=b` is a form, and `1` is JSON. So a signed challenge
//! can never be passed off as a signed event.

use crate::pipeline::expr::facts::Facts;
use crate::pipeline::verify::Verifier;
use crate::pipeline::verify::key::Encoding;
use crate::pipeline::verify::mac::Mac;
use crate::pipeline::verify::refusal::Refusal;
use crate::pipeline::verify::scheme::{Kind, Method, Ready, Scheme};
use crate::pipeline::verify::template::Given;

/// Longest challenge that is signed, in bytes.
const CHALLENGE_BYTES_MAX: usize = 128;

/// The first secret with the scheme's algorithm and encoding.
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
