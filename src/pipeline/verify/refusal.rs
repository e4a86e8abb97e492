//! Why a proof failed, for the operator only.

use std::time::Duration;

use crate::pipeline::evidence::NotAllowed;
use crate::pipeline::expr::facts::Unreadable;
use crate::pipeline::verify::jwt::TokenFault;

/// Why a proof failed. The sender gets one text for all; no variant holds a secret, a signature
/// or anything of the body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No signature or token at any of the places.
    #[error("no signature: {0} is absent")]
    Absent(String),
    /// Something that counts is there twice.
    #[error("{0} is there more than once, so it is ambiguous")]
    Ambiguous(String),
    /// The signature does not begin with its prefix.
    #[error("{place} does not begin with `{prefix}`")]
    Prefix {
        /// Where it stands.
        place: String,
        /// What it should begin with.
        prefix: String,
    },
    /// The list holds no item of the name whose values are signatures.
    #[error("{place} holds no `{pick}` item")]
    NotListed {
        /// Where the list stands.
        place: String,
        /// The name.
        pick: String,
    },
    /// The signature's text is not in its encoding.
    #[error("{place} is not {encoding}")]
    Undecodable {
        /// Where it stands.
        place: String,
        /// `hex`, `base64` and so on.
        encoding: &'static str,
    },
    /// More than is looked at.
    #[error("more than {0} signatures, or parts that they cover")]
    TooMany(usize),
    /// Something that is signed is not there.
    #[error("{0} is absent, and the signature covers it")]
    FieldAbsent(String),
    /// A signed value holds what separates it from the next one, so that the border between them
    /// could be moved.
    #[error("{0} holds the separator that follows it in what is signed")]
    FieldUnsafe(String),
    /// The body cannot be read as the proof needs it.
    #[error("the proof needs values from the body, and it is not {0}")]
    BodyUnreadable(&'static str),
    /// The request names a URL that is not to be called.
    #[error("{place} names a URL that is not called: {why}")]
    UrlNotAllowed {
        /// Where it stands.
        place: String,
        /// What is wrong with it.
        why: NotAllowed,
    },
    /// What the proof needs from elsewhere is not there.
    #[error("what the proof needs from elsewhere could not be fetched")]
    NoEvidence,
    /// What was fetched proves nothing.
    #[error("what was fetched is of no use: {0}")]
    Evidence(String),
    /// No secret makes this signature.
    #[error("no configured secret makes this signature ({0} tried)")]
    Mismatch(usize),
    /// No secret is this token.
    #[error("the token is no configured secret ({0} tried)")]
    WrongToken(usize),
    /// A signed token does not count.
    #[error(transparent)]
    BadToken(TokenFault),
    /// The signature is genuine, but could be our own answer to a challenge.
    #[error("what is signed could be a challenge, and those are signed for anybody")]
    Challenge,
    /// The signature leaves out something that it must cover.
    #[error("the signature does not cover {0}")]
    NotCovered(String),
    /// The signature covers something that is not known, or cannot be told for sure.
    #[error("what the signature covers is not taken: {0}")]
    Unsupported(String),
    /// A signature's parameter is not what it must be.
    #[error("the signature's parameter `{name}` is not `{wanted}`")]
    Parameter {
        /// Which parameter.
        name: &'static str,
        /// What the configuration says.
        wanted: String,
    },
    /// The signature is genuine, and the body another one.
    #[error("header Content-Digest is not the SHA-256 or SHA-512 of the body")]
    Digest,
    /// The signature is genuine, and says itself that it is over.
    #[error("the signature expired {} ago", plain(.0))]
    Expired(Duration),
    /// The connection has shown no certificate.
    #[error("the client has shown no certificate")]
    CertificateAbsent,
    /// The certificate is somebody else's.
    #[error("the client's certificate has another `{0}`")]
    CertificateOther(&'static str),
    /// The source waits for a secret that nobody has enrolled.
    #[error("no secret is enrolled yet: `hookgate enroll` opens a window for one")]
    NotEnrolled,
    /// A handshake that brings a secret, and nobody waits for one.
    #[error("a handshake with a secret, and no window is open for one: see `hookgate enroll`")]
    EnrolmentClosed,
    /// A handshake that brings what cannot be a secret.
    #[error("a handshake with a secret that is too short, too long, or not of printable ASCII")]
    EnrolmentUnfit,
    /// An assertion does not hold.
    #[error("the assertion `{0}` does not hold")]
    Asserted(String),
    /// No timestamp.
    #[error("no timestamp: {0} is absent")]
    TimestampAbsent(String),
    /// The timestamp is not in its unit.
    #[error("the timestamp in {place} is not {unit}")]
    TimestampUnreadable {
        /// Where it stands.
        place: String,
        /// What it should be.
        unit: &'static str,
    },
    /// The signature is genuine but old.
    #[error("the timestamp is {} old, at most {} are allowed", plain(.age), plain(.tolerance))]
    Stale {
        /// How old.
        age: Duration,
        /// How old it may be.
        tolerance: Duration,
    },
    /// The signature is genuine but from the future.
    #[error(
        "the timestamp is {} in the future, at most {} are allowed: check both clocks",
        plain(.ahead),
        plain(.tolerance)
    )]
    Future {
        /// How far ahead.
        ahead: Duration,
        /// How far ahead it may be.
        tolerance: Duration,
    },
}

impl Refusal {
    /// Every label, for metrics that exist before the first event.
    pub const LABELS: [&'static str; 46] = [
        "signature_absent",
        "ambiguous",
        "signature_prefix",
        "signature_not_listed",
        "signature_undecodable",
        "signatures_too_many",
        "field_absent",
        "field_unsafe",
        "body_unreadable",
        "url_not_allowed",
        "evidence_absent",
        "evidence_unusable",
        "signature_mismatch",
        "token_mismatch",
        "challenge",
        "not_covered",
        "component_unsupported",
        "parameter_mismatch",
        "digest_mismatch",
        "signature_expired",
        "certificate_absent",
        "certificate_mismatch",
        "not_enrolled",
        "enrolment_closed",
        "enrolment_unfit",
        "assertion_failed",
        "timestamp_absent",
        "timestamp_unreadable",
        "timestamp_stale",
        "timestamp_future",
        "token_malformed",
        "token_algorithm",
        "token_extension",
        "token_key_unknown",
        "token_signature",
        "token_claim_absent",
        "token_time",
        "token_expired",
        "token_early",
        "token_old",
        "token_issuer",
        "token_audience",
        "token_claim",
        "token_body",
        "token_query",
        "token_inactive",
    ];

    /// The word in the metric `hookgate_refusals_total{reason}` and in `explain --json`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Absent(_) => "signature_absent",
            Self::Ambiguous(_) => "ambiguous",
            Self::Prefix { .. } => "signature_prefix",
            Self::NotListed { .. } => "signature_not_listed",
            Self::Undecodable { .. } => "signature_undecodable",
            Self::TooMany(_) => "signatures_too_many",
            Self::FieldAbsent(_) => "field_absent",
            Self::FieldUnsafe(_) => "field_unsafe",
            Self::BodyUnreadable(_) => "body_unreadable",
            Self::UrlNotAllowed { .. } => "url_not_allowed",
            Self::NoEvidence => "evidence_absent",
            Self::Evidence(_) => "evidence_unusable",
            Self::Mismatch(_) => "signature_mismatch",
            Self::WrongToken(_) => "token_mismatch",
            Self::BadToken(fault) => fault.label(),
            Self::Challenge => "challenge",
            Self::NotCovered(_) => "not_covered",
            Self::Unsupported(_) => "component_unsupported",
            Self::Parameter { .. } => "parameter_mismatch",
            Self::Digest => "digest_mismatch",
            Self::Expired(_) => "signature_expired",
            Self::CertificateAbsent => "certificate_absent",
            Self::CertificateOther(_) => "certificate_mismatch",
            Self::NotEnrolled => "not_enrolled",
            Self::EnrolmentClosed => "enrolment_closed",
            Self::EnrolmentUnfit => "enrolment_unfit",
            Self::Asserted(_) => "assertion_failed",
            Self::TimestampAbsent(_) => "timestamp_absent",
            Self::TimestampUnreadable { .. } => "timestamp_unreadable",
            Self::Stale { .. } => "timestamp_stale",
            Self::Future { .. } => "timestamp_future",
        }
    }
}

impl From<Unreadable> for Refusal {
    fn from(unreadable: Unreadable) -> Self {
        Self::BodyUnreadable(match unreadable {
            Unreadable::Form => "a form of at most 2000 fields",
            Unreadable::Json => "JSON",
        })
    }
}

/// A duration as people say it, in whole seconds: `1h 2m 3s`.
pub(crate) fn plain(duration: &Duration) -> String {
    let seconds = duration.as_secs();
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
    ];
    let mut words: Vec<String> = units
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if !seconds.is_multiple_of(60) || words.is_empty() {
        words.push(format!("{}s", seconds % 60));
    }
    words.join(" ")
}
