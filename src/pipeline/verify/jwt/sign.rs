//! The other side: a token as the issuer would make it, for `hookgate send`, the demo and tests.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::claims::Claim;
use super::{Jwt, Origin, query_hash};
use crate::pipeline::arrival::Head;
use crate::secret::Secret;

/// How long a token that is made here counts, in seconds.
const LIFE_SECONDS: i64 = 300;

impl Jwt {
    /// A token for this request, issued at `at`: with the shared secret or with `private_key` in
    /// PEM, the counterpart of the first public key. Its claims are those that the source asks for.
    ///
    /// # Errors
    ///
    /// A key that is missing or does not fit, in words.
    pub(in crate::pipeline::verify) fn issue(
        &self,
        head: &Head,
        body: &[u8],
        at: Timestamp,
        private_key: Option<&Secret>,
    ) -> Result<String, String> {
        if let Origin::Introspection(_) = self.origin {
            return Err(
                "only the authorization server can issue such a token: get one there, and send it \
                 with `curl`"
                    .to_owned(),
            );
        }
        let first = self.fixed.first();
        let algorithm = first
            .and_then(|key| key.algorithm())
            .or(self.algorithms.first().copied())
            .ok_or("there is no algorithm to sign with")?;
        let header = match first.and_then(|key| key.kid.as_deref()) {
            Some(kid) => json!({"alg": algorithm.name(), "typ": "JWT", "kid": kid}),
            None => json!({"alg": algorithm.name(), "typ": "JWT"}),
        };
        let claims = Value::Object(self.claims(head, body, at));
        let text = format!("{}.{}", encoded(&header), encoded(&claims));
        let shared = first.and_then(|key| key.sign_shared(text.as_bytes()));
        let signature = match (shared, private_key) {
            (Some((_, signature)), _) => signature,
            (None, Some(private_key)) => algorithm.sign(private_key.expose(), text.as_bytes())?,
            (None, None) => {
                let where_to = match self.origin {
                    Origin::Jwks(_) => {
                        "have its public key found in the key set (`resolve` in [fetch])"
                    }
                    _ => "put its public key into `secrets`",
                };
                return Err(format!(
                    "{} is made with the issuer's private key, and here is only the public one: to \
                     play the issuer, make a pair of your own, {where_to}, and give the private \
                     key with --signing-key FILE",
                    algorithm.name()
                ));
            }
        };
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn claims(&self, head: &Head, body: &[u8], at: Timestamp) -> Map<String, Value> {
        let issued = at.as_second();
        let mut claims = Map::new();
        for rule in &self.rules.claims {
            if let (Some(Claim::Named(name)), Some(value)) =
                (rule.claims.first(), rule.values.first())
            {
                claims.insert(name.clone(), json!(value));
            }
        }
        for (name, values) in [("iss", &self.rules.issuers), ("aud", &self.rules.audiences)] {
            if let Some(value) = values.first() {
                claims.insert(name.to_owned(), json!(value));
            }
        }
        claims.insert("iat".to_owned(), json!(issued));
        claims.insert("exp".to_owned(), json!(issued.saturating_add(LIFE_SECONDS)));
        if let Some(hash) = &self.body_hash {
            let value = hash.encoding.encode(&Sha256::digest(body));
            claims.insert(hash.claim.clone(), json!(value));
        }
        if let Some(hash) = &self.query_hash {
            claims.insert(hash.claim().to_owned(), json!(query_hash::hash(head)));
        }
        claims
    }
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}
