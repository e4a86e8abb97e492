//! Why a token is not taken, for the operator only.

use std::time::Duration;

use crate::pipeline::verify::refusal::{Refusal, plain};

/// Why a token is not taken. Holds nothing of the token but short words that are shown escaped:
/// its algorithm, the name of its key, its issuer and its audience.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// It is no token in compact form; the text says what is wrong.
    #[error("this is no JWT: {0}")]
    Malformed(&'static str),
    /// Not one of the source's `algorithms`.
    #[error("the token is signed with `{0}`, which `algorithms` does not name")]
    Algorithm(String),
    /// It asks for an extension (RFC 7515, section 4.1.11).
    #[error("the token's header has `{0}`, which is not supported")]
    Extension(&'static str),
    /// No key goes by that name, and none without a name fits.
    #[error("no key for this token: its `kid` is {0}")]
    KeyUnknown(String),
    /// No key makes this signature.
    #[error("the token's signature does not hold (keys tried: {0})")]
    Signature(usize),
    /// A claim that has to be there is not.
    #[error("the token has no claim `{0}`")]
    ClaimAbsent(String),
    /// A time that is no whole number of seconds since 1970, or one beyond the year 9999.
    #[error("the token's `{0}` is not a Unix time in whole seconds")]
    Time(&'static str),
    /// `exp` is past.
    #[error("the token expired {} ago", plain(.0))]
    Expired(Duration),
    /// `nbf` or `iat` is in the future.
    #[error("the token's `{claim}` is {} in the future: check both clocks", plain(.ahead))]
    Early {
        /// Which.
        claim: &'static str,
        /// How far.
        ahead: Duration,
    },
    /// `iat` is too long ago.
    #[error("the token is {} old, at most {} are allowed", plain(.age), plain(.max))]
    Old {
        /// How old.
        age: Duration,
        /// How old it may be.
        max: Duration,
    },
    /// Another `iss`.
    #[error("the token's issuer is {0}")]
    Issuer(String),
    /// Another `aud`.
    #[error("the token is for another audience: {0}")]
    Audience(String),
    /// A claim has another value than the configuration asks for.
    #[error("the token's claim `{0}` is not what `claims` asks for")]
    Claim(String),
    /// The body is not the one that was signed for.
    #[error("the token's `{0}` is not the SHA-256 of this body")]
    Body(String),
    /// The request line is not the one that was signed for.
    #[error("the token's `{0}` is not the hash of this method, path and query")]
    Query(String),
    /// The issuer says that this token does not count (RFC 7662).
    #[error("the authorization server says that the token is not active")]
    Inactive,
}

impl TokenFault {
    /// The word in the metric `hookgate_refusals_total{reason}` and in `explain --json`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "token_malformed",
            Self::Algorithm(_) => "token_algorithm",
            Self::Extension(_) => "token_extension",
            Self::KeyUnknown(_) => "token_key_unknown",
            Self::Signature(_) => "token_signature",
            Self::ClaimAbsent(_) => "token_claim_absent",
            Self::Time(_) => "token_time",
            Self::Expired(_) => "token_expired",
            Self::Early { .. } => "token_early",
            Self::Old { .. } => "token_old",
            Self::Issuer(_) => "token_issuer",
            Self::Audience(_) => "token_audience",
            Self::Claim(_) => "token_claim",
            Self::Body(_) => "token_body",
            Self::Query(_) => "token_query",
            Self::Inactive => "token_inactive",
        }
    }
}

impl From<TokenFault> for Refusal {
    fn from(fault: TokenFault) -> Self {
        Self::BadToken(fault)
    }
}
