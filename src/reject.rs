//! Every way to be turned away, and what each reader of it needs to know.
//!
//! One enum answers for status, label, title and log level; the matches stand one under the other
//! so that they can be proofread as a table. The words that a sender sees are here and in
//! `edge/reply.rs`; the reason why a signature did not match is for the operator only.

use std::time::Duration;

use http::{Method, StatusCode};
use tracing::Level;

use crate::pipeline::limit::Overrun;
use crate::pipeline::schema::Violation;
use crate::pipeline::verify::Refusal;

/// Why a request did not become an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Reject {
    /// No source has this path.
    NoSuchPath,
    /// The source takes other methods.
    MethodNotAllowed(Vec<Method>),
    /// The client's address is not on the source's list.
    AddressNotAllowed,
    /// Two HTTP implementations could read this request differently; the text names the part.
    Ambiguous(&'static str),
    /// What came is not the head of an HTTP request.
    HeadMalformed,
    /// The head is longer, or has more fields, than any webhook's.
    HeadTooLarge,
    /// The sender could not prove who it is.
    Unverified(Refusal),
    /// What the proof needs from elsewhere could not be fetched; the text says why.
    EvidenceUnavailable(String),
    /// A handshake without what the source requires of it; the text names the place.
    HandshakeRefused(String),
    /// The body is longer than the source's limit, in bytes.
    BodyTooLarge(usize),
    /// The batch has more events than the source takes, which is so many; or they take more room
    /// together than the journal can give.
    BatchTooLarge(usize),
    /// The body, unpacked, is longer than the source's limit, in bytes.
    BodyUnpacksTooLarge(usize),
    /// The body did not arrive in time.
    BodyTooSlow,
    /// The connection ended, or the body's framing broke, before the body was whole.
    BodyBroken,
    /// The source does not take this `Content-Type`.
    UnsupportedType,
    /// The source does not take this `Content-Encoding`.
    UnsupportedCoding,
    /// Not what its content type says; the text says where.
    Malformed(String),
    /// JSON in which a key is there twice; the text is a JSON Pointer to it.
    DuplicateKey(String),
    /// Well formed, but not what the schema asks for.
    SchemaViolated(Vec<Violation>),
    /// This client address sends too much.
    PeerLimited(Overrun),
    /// This source's verified traffic is over its quota.
    SourceLimited(Overrun),
    /// The journal has no room.
    JournalFull,
    /// So many of this source's events wait for queues that do not take them.
    QueuesFull,
    /// The journal failed and takes nothing more.
    JournalFailed,
    /// The secret that a handshake brought could not be stored; the text says why.
    SecretNotStored(String),
    /// The broker did not confirm (`ack = "broker"`).
    BrokerUnavailable,
    /// Too many requests or bytes are in flight.
    Overloaded,
    /// The event was not safe within `accept_timeout`.
    TooSlow,
    /// The gateway is stopping.
    Draining,
    /// A defect of ours: this request's task panicked.
    Defect,
}

/// Whose doing it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The sender's: it has to change something.
    Sender,
    /// Ours: the sender should try again, unchanged.
    Ours,
}

impl Reject {
    /// Every label, for metrics that exist before the first event.
    pub const LABELS: [&'static str; 29] = [
        "no_such_path",
        "method_not_allowed",
        "address_not_allowed",
        "ambiguous",
        "head_malformed",
        "head_too_large",
        "unverified",
        "evidence_unavailable",
        "handshake_refused",
        "body_too_large",
        "batch_too_large",
        "body_too_slow",
        "body_broken",
        "unsupported_type",
        "unsupported_coding",
        "malformed",
        "duplicate_key",
        "schema_violated",
        "peer_limited",
        "source_limited",
        "journal_full",
        "queues_full",
        "journal_failed",
        "secret_not_stored",
        "broker_unavailable",
        "overloaded",
        "too_slow",
        "draining",
        "defect",
    ];

    /// The metric label, the `code` of the problem document, and the word in the log.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoSuchPath => "no_such_path",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::AddressNotAllowed => "address_not_allowed",
            Self::Ambiguous(_) => "ambiguous",
            Self::HeadMalformed => "head_malformed",
            Self::HeadTooLarge => "head_too_large",
            Self::Unverified(_) => "unverified",
            Self::EvidenceUnavailable(_) => "evidence_unavailable",
            Self::HandshakeRefused(_) => "handshake_refused",
            Self::BodyTooLarge(_) | Self::BodyUnpacksTooLarge(_) => "body_too_large",
            Self::BatchTooLarge(_) => "batch_too_large",
            Self::BodyTooSlow => "body_too_slow",
            Self::BodyBroken => "body_broken",
            Self::UnsupportedType => "unsupported_type",
            Self::UnsupportedCoding => "unsupported_coding",
            Self::Malformed(_) => "malformed",
            Self::DuplicateKey(_) => "duplicate_key",
            Self::SchemaViolated(_) => "schema_violated",
            Self::PeerLimited(_) => "peer_limited",
            Self::SourceLimited(_) => "source_limited",
            Self::JournalFull => "journal_full",
            Self::QueuesFull => "queues_full",
            Self::JournalFailed => "journal_failed",
            Self::SecretNotStored(_) => "secret_not_stored",
            Self::BrokerUnavailable => "broker_unavailable",
            Self::Overloaded => "overloaded",
            Self::TooSlow => "too_slow",
            Self::Draining => "draining",
            Self::Defect => "defect",
        }
    }

    /// The status line, by the table in `README.md`. Our own trouble is always 5xx, because
    /// several providers delete an endpoint that answers 4xx.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchPath => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::AddressNotAllowed | Self::HandshakeRefused(_) => StatusCode::FORBIDDEN,
            Self::Unverified(_) => StatusCode::UNAUTHORIZED,
            Self::BodyTooLarge(_) | Self::BodyUnpacksTooLarge(_) | Self::BatchTooLarge(_) => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Ambiguous(_)
            | Self::HeadMalformed
            | Self::BodyBroken
            | Self::Malformed(_)
            | Self::DuplicateKey(_) => StatusCode::BAD_REQUEST,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UnsupportedType | Self::UnsupportedCoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::SchemaViolated(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::PeerLimited(_) | Self::SourceLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::EvidenceUnavailable(_)
            | Self::JournalFull
            | Self::QueuesFull
            | Self::JournalFailed
            | Self::SecretNotStored(_)
            | Self::BrokerUnavailable
            | Self::Overloaded
            | Self::TooSlow
            | Self::Draining
            | Self::Defect => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Whose doing it was.
    pub fn fault(&self) -> Fault {
        if self.status().is_server_error() {
            Fault::Ours
        } else {
            Fault::Sender
        }
    }

    /// A sender's mistake is at most `info`; `error` means that somebody must act.
    pub fn level(&self) -> Level {
        match self {
            Self::JournalFull
            | Self::QueuesFull
            | Self::JournalFailed
            | Self::SecretNotStored(_)
            | Self::Defect => Level::ERROR,
            Self::EvidenceUnavailable(_)
            | Self::BrokerUnavailable
            | Self::Overloaded
            | Self::TooSlow => Level::WARN,
            Self::NoSuchPath
            | Self::MethodNotAllowed(_)
            | Self::AddressNotAllowed
            | Self::Ambiguous(_)
            | Self::HeadMalformed
            | Self::HeadTooLarge
            | Self::Unverified(_)
            | Self::HandshakeRefused(_)
            | Self::BodyTooLarge(_)
            | Self::BatchTooLarge(_)
            | Self::BodyUnpacksTooLarge(_)
            | Self::BodyTooSlow
            | Self::BodyBroken
            | Self::UnsupportedType
            | Self::UnsupportedCoding
            | Self::Malformed(_)
            | Self::DuplicateKey(_)
            | Self::SchemaViolated(_)
            | Self::PeerLimited(_)
            | Self::SourceLimited(_)
            | Self::Draining => Level::INFO,
        }
    }

    /// When to try again, where trying again makes sense.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::PeerLimited(overrun) | Self::SourceLimited(overrun) => Some(overrun.retry_after),
            Self::JournalFull
            | Self::QueuesFull
            | Self::JournalFailed
            | Self::SecretNotStored(_)
            | Self::Defect => Some(Duration::from_secs(30)),
            Self::EvidenceUnavailable(_) | Self::BrokerUnavailable | Self::Draining => {
                Some(Duration::from_secs(5))
            }
            Self::Overloaded | Self::TooSlow => Some(Duration::from_secs(2)),
            Self::NoSuchPath
            | Self::MethodNotAllowed(_)
            | Self::AddressNotAllowed
            | Self::Ambiguous(_)
            | Self::HeadMalformed
            | Self::HeadTooLarge
            | Self::Unverified(_)
            | Self::HandshakeRefused(_)
            | Self::BodyTooLarge(_)
            | Self::BatchTooLarge(_)
            | Self::BodyUnpacksTooLarge(_)
            | Self::BodyTooSlow
            | Self::BodyBroken
            | Self::UnsupportedType
            | Self::UnsupportedCoding
            | Self::Malformed(_)
            | Self::DuplicateKey(_)
            | Self::SchemaViolated(_) => None,
        }
    }

    /// What the sender is told. For a failed proof it is always the same text, so that nobody
    /// learns which part was wrong.
    pub fn told(&self) -> String {
        match self {
            Self::NoSuchPath => "nothing listens at this path".to_owned(),
            Self::MethodNotAllowed(allowed) => {
                format!(
                    "this path takes {}",
                    join(allowed.iter().map(Method::as_str))
                )
            }
            Self::AddressNotAllowed => "this address may not send here".to_owned(),
            Self::Ambiguous(part) => format!("the request is ambiguous: {part}"),
            Self::HeadMalformed => "this is not the head of an HTTP request".to_owned(),
            Self::HeadTooLarge => "the head of the request is too long".to_owned(),
            Self::Unverified(_) => "the sender could not be verified".to_owned(),
            Self::HandshakeRefused(_) => "this handshake is not for us".to_owned(),
            Self::BodyTooLarge(max) => format!("the body is longer than {max} bytes"),
            Self::BatchTooLarge(max) => {
                format!("the batch has more than {max} events, or they take too much room together")
            }
            Self::BodyUnpacksTooLarge(max) => {
                format!("the body unpacks to more than {max} bytes")
            }
            Self::BodyTooSlow => "the body did not arrive in time".to_owned(),
            Self::BodyBroken => "the body ended before it was whole".to_owned(),
            Self::UnsupportedType => "this content type is not taken here".to_owned(),
            Self::UnsupportedCoding => "this content coding is not taken here".to_owned(),
            Self::Malformed(place) => format!("the body is malformed: {place}"),
            Self::DuplicateKey(pointer) => {
                format!("the body has a key twice: {}", pointer.escape_debug())
            }
            Self::SchemaViolated(_) => "the body does not satisfy the schema".to_owned(),
            Self::PeerLimited(_) => "too many requests from this address".to_owned(),
            Self::SourceLimited(_) => "this source is over its quota".to_owned(),
            Self::EvidenceUnavailable(_)
            | Self::JournalFull
            | Self::QueuesFull
            | Self::JournalFailed
            | Self::SecretNotStored(_)
            | Self::BrokerUnavailable
            | Self::Overloaded
            | Self::TooSlow => "cannot take events right now; send it again".to_owned(),
            Self::Draining => "shutting down; send it again".to_owned(),
            Self::Defect => "something went wrong here".to_owned(),
        }
    }

    /// What the operator is told, in the log, in `tail` and by `explain`.
    pub fn detail(&self) -> String {
        match self {
            Self::Unverified(refusal) => refusal.to_string(),
            Self::EvidenceUnavailable(why) => format!("what the proof needs is missing: {why}"),
            Self::HandshakeRefused(place) => {
                format!("a handshake, but {place} is not what the source requires")
            }
            Self::SchemaViolated(violations) => join(violations.iter().map(Violation::to_string)),
            Self::JournalFull => "the journal is full: see `hookgate journal status`".to_owned(),
            Self::QueuesFull => {
                "too many of this source's events are parked, because their queues do not take \
                 them: see `hookgate journal list --parked`"
                    .to_owned()
            }
            Self::JournalFailed => {
                "the journal failed: the first error is in the log; mend the disk and restart"
                    .to_owned()
            }
            Self::SecretNotStored(why) => format!("the secret of a handshake: {why}"),
            Self::BrokerUnavailable => "the broker did not confirm in time".to_owned(),
            Self::Overloaded => {
                "max_requests_in_flight or max_bytes_in_flight, or one client's quarter of it, is \
                 used up"
                    .to_owned()
            }
            Self::TooSlow => "not stored within accept_timeout".to_owned(),
            Self::NoSuchPath
            | Self::MethodNotAllowed(_)
            | Self::AddressNotAllowed
            | Self::Ambiguous(_)
            | Self::HeadMalformed
            | Self::HeadTooLarge
            | Self::BodyTooLarge(_)
            | Self::BatchTooLarge(_)
            | Self::BodyUnpacksTooLarge(_)
            | Self::BodyTooSlow
            | Self::BodyBroken
            | Self::UnsupportedType
            | Self::UnsupportedCoding
            | Self::Malformed(_)
            | Self::DuplicateKey(_)
            | Self::PeerLimited(_)
            | Self::SourceLimited(_)
            | Self::Draining
            | Self::Defect => self.told(),
        }
    }
}

fn join(items: impl Iterator<Item = impl AsRef<str>>) -> String {
    items.fold(String::new(), |mut out, item| {
        if !out.is_empty() {
            out.push_str(", ");
        }
        out.push_str(item.as_ref());
        out
    })
}
