//! What a `verify` table with `algorithm = "jwt"` says besides, as written.

use std::collections::BTreeMap;
use std::time::Duration;

/// The words about signed tokens. `None` and empty mean "not said".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawToken {
    /// The only algorithms that count: `RS256` and so on.
    pub algorithms: Vec<String>,
    /// Where the issuer publishes its keys.
    pub jwks: Option<String>,
    /// Who issues tokens; any of them.
    pub issuer: Vec<String>,
    /// For whom they are; any of them, or the word `any`.
    pub audience: Vec<String>,
    /// How long ago a token may have been issued.
    pub max_age: Option<Duration>,
    /// `false`: a token without an end counts too.
    pub expires: Option<bool>,
    /// Claims, each with the values that it may have.
    pub claims: BTreeMap<String, Vec<String>>,
    /// The claim with the SHA-256 of the body.
    pub body_hash: Option<String>,
    /// The claim with the hash of method, path and query.
    pub query_hash: Option<String>,
    /// Whom to ask about each token.
    pub introspection: Option<RawIntrospection>,
}

/// `introspection` (RFC 7662).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawIntrospection {
    /// The endpoint.
    pub url: Option<String>,
    /// Who we are there; our secret stands in `secrets`.
    pub client_id: Option<String>,
    /// How long an answer counts at most.
    pub cache: Option<Duration>,
}

impl RawToken {
    /// What is said of tokens, by its key: an algorithm without tokens has no use for it.
    pub fn said(&self) -> Vec<&'static str> {
        let said = [
            ("algorithms", !self.algorithms.is_empty()),
            ("jwks", self.jwks.is_some()),
            ("issuer", !self.issuer.is_empty()),
            ("audience", !self.audience.is_empty()),
            ("max_age", self.max_age.is_some()),
            ("expires", self.expires.is_some()),
            ("claims", !self.claims.is_empty()),
            ("body_hash", self.body_hash.is_some()),
            ("query_hash", self.query_hash.is_some()),
            ("introspection", self.introspection.is_some()),
        ];
        let said = said.into_iter().filter(|(_, said)| *said);
        said.map(|(key, _)| key).collect()
    }

    /// The user's words over the provider's. `claims` are added, one by one.
    #[must_use]
    pub fn over(self, preset: Self) -> Self {
        let said = |user: Vec<String>, preset| if user.is_empty() { preset } else { user };
        let mut claims = preset.claims;
        claims.extend(self.claims);
        Self {
            algorithms: said(self.algorithms, preset.algorithms),
            jwks: self.jwks.or(preset.jwks),
            issuer: said(self.issuer, preset.issuer),
            audience: said(self.audience, preset.audience),
            max_age: self.max_age.or(preset.max_age),
            expires: self.expires.or(preset.expires),
            claims,
            body_hash: self.body_hash.or(preset.body_hash),
            query_hash: self.query_hash.or(preset.query_hash),
            introspection: self.introspection.or(preset.introspection),
        }
    }
}
