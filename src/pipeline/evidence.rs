//! What a proof needs from outside the request: certificates, key sets, the word of an
//! authorisation server.
//!
//! The decision itself reads no network. A verifier says what it needs, whoever implements
//! [`Fetching`] gets it, and the decision is made with the [`Evidence`] at hand. Only a [`Target`]
//! can be fetched, and only a list of hosts, or the configuration itself, makes one: a URL in a
//! request leads nowhere else.

mod holds;
mod hosts;
mod target;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderValue;

use crate::pipeline::verify::{IssuerKeys, Refusal, TokenWord};
use crate::reject::Reject;

pub use holds::Holds;
pub(crate) use holds::{certificates, in_force, text_at};
pub use hosts::{Hosts, NotAllowed};
pub use target::{NoTarget, Origin, Target};

/// Longest document when a use does not need more, in bytes: a certificate with its chain, or a
/// set of keys, is far below.
pub const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

/// Who fetches. One implementation calls hosts, one reads a folder, one in tests says what it is
/// told to.
pub trait Fetching: fmt::Debug + Send + Sync {
    /// Runs an errand. What has begun goes on when the caller stops waiting, so that the next
    /// caller finds it done.
    ///
    /// The future's error says why there is no document. It is never the sender's fault.
    fn fetch(&self, errand: Errand) -> BoxFuture<'static, Result<Document, Unfetched>>;

    /// Runs an errand once its asker has had time to be answered, and again for a while until it
    /// goes well. Nobody waits for it: what becomes of it is counted, and in the log. Who only has
    /// what is at hand calls nobody.
    fn fetch_later(&self, _errand: Errand) {}
}

/// One thing to be fetched.
#[derive(Clone, Debug)]
pub struct Errand {
    /// The source that it is for; a label of what is counted.
    pub source: Arc<str>,
    /// From where.
    pub target: Target,
    /// How.
    pub action: Action,
    /// Whose doing it is.
    pub asker: Asker,
    /// What has to be in it. An answer without that is none, and replaces none that has it.
    pub holds: Option<Holds>,
    /// Longest answer, in bytes.
    pub bytes_max: usize,
}

/// Who makes it necessary that something is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The configuration, or a sender who has proved something.
    Known,
    /// Whoever sends a request: what strangers can make the gateway call is limited.
    Stranger,
}

/// How something is fetched. Only status 200 is an answer; nothing is ever redirected.
#[derive(Clone)]
pub enum Action {
    /// GET, kept and given again while it is fresh; once it is not, and cannot be had again, for
    /// some time all the same. A failure is remembered for a short while.
    Get,
    /// GET, never from what was kept: for whoever keeps what came of it, and for what takes
    /// effect by being called. Who asks while another one waits gets the same answer.
    GetNow,
    /// POST of a form, never kept.
    Post {
        /// `application/x-www-form-urlencoded`.
        form: Bytes,
        /// `Authorization`, if there is to be one.
        authorization: Option<HeaderValue>,
    },
}

impl Errand {
    /// A GET of at most [`DOCUMENT_BYTES_MAX`], kept.
    pub fn get(source: &Arc<str>, target: Target) -> Self {
        let asker = match target.origin() {
            Origin::Configuration => Asker::Known,
            Origin::Request => Asker::Stranger,
        };
        Self {
            source: Arc::clone(source),
            target,
            action: Action::Get,
            asker,
            holds: None,
            bytes_max: DOCUMENT_BYTES_MAX,
        }
    }

    /// The same, done in another way.
    #[must_use]
    pub fn by(self, action: Action) -> Self {
        Self { action, ..self }
    }

    /// The same for somebody else.
    #[must_use]
    pub fn asked_by(self, asker: Asker) -> Self {
        Self { asker, ..self }
    }

    /// The same, if this is in it.
    #[must_use]
    pub fn holding(self, holds: Holds) -> Self {
        Self {
            holds: Some(holds),
            ..self
        }
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A form may hold a token, and so may the header.
        f.write_str(match self {
            Self::Get => "Get",
            Self::GetNow => "GetNow",
            Self::Post { .. } => "Post",
        })
    }
}

/// What was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its bytes.
    pub body: Bytes,
    /// How long its owner says that it stays good (`Cache-Control: max-age`, RFC 9111).
    pub max_age: Option<Duration>,
}

/// Why there is no document. Always our trouble: 503, and the sender tries again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfetched {
    /// No address for the name.
    #[error("the name {0} has no address")]
    Unresolved(String),
    /// The name has only addresses that are not to be called.
    #[error(
        "{host} is at {address}, which is not an address on the internet: if that is meant, list \
         its network in `allow_private` of [fetch]"
    )]
    AddressNotAllowed {
        /// The name.
        host: String,
        /// The first of its addresses.
        address: std::net::IpAddr,
    },
    /// Nobody there, or not to be reached.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// A certificate that is not believed, or no TLS at all.
    #[error("no trusted TLS connection: {0}")]
    Untrusted(String),
    /// Another status than 200.
    #[error("it answers {0}")]
    Status(u16),
    /// Longer than so many bytes.
    #[error("it is longer than {0} bytes")]
    TooLarge(usize),
    /// Not whole in time.
    #[error("it did not come in time")]
    TooSlow,
    /// The answer is no HTTP, or ended early.
    #[error("the answer is broken: {0}")]
    Broken(String),
    /// So much is asked for at once that this was not begun.
    #[error("too much is being fetched for this source already")]
    TooMany,
    /// Nobody here calls anybody.
    #[error("nothing is fetched here")]
    Offline,
}

impl Unfetched {
    /// Every label, and `ok`.
    pub const OUTCOMES: [&'static str; 11] = [
        "ok",
        "unresolved",
        "address_not_allowed",
        "unreachable",
        "untrusted",
        "status",
        "too_large",
        "too_slow",
        "broken",
        "too_many",
        "offline",
    ];

    /// The word in the metric `hookgate_fetches_total{outcome}`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unresolved(_) => "unresolved",
            Self::AddressNotAllowed { .. } => "address_not_allowed",
            Self::Unreachable(_) => "unreachable",
            Self::Untrusted(_) => "untrusted",
            Self::Status(_) => "status",
            Self::TooLarge(_) => "too_large",
            Self::TooSlow => "too_slow",
            Self::Broken(_) => "broken",
            Self::TooMany => "too_many",
            Self::Offline => "offline",
        }
    }
}

/// What was gathered for one request: a piece for each scheme that needs one.
#[derive(Clone, Debug, Default)]
pub struct Evidence(Vec<Option<Piece>>);

/// What one scheme needs from outside.
#[derive(Clone, Debug)]
pub enum Piece {
    /// The bytes that are at the URL.
    Document(Document),
    /// The keys of an issuer of tokens.
    Keys(IssuerKeys),
    /// What an authorization server says of a token.
    Word(TokenWord),
}

impl Evidence {
    /// For a verifier that needs none. Costs nothing.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Pieces in the order of the verifier's schemes.
    pub(crate) fn of(pieces: Vec<Option<Piece>>) -> Self {
        Self(pieces)
    }

    /// The piece for the scheme at this position.
    pub(crate) fn piece(&self, position: usize) -> Option<&Piece> {
        self.0.get(position)?.as_ref()
    }
}

/// Why evidence could not be gathered.
#[derive(Clone, Debug, PartialEq)]
pub enum Hindrance {
    /// The request does not even deserve it, or asks for what is not allowed: the sender's fault.
    Refused(Refusal),
    /// It could not be fetched: ours.
    Unfetched {
        /// From where.
        url: String,
        /// Why.
        why: Unfetched,
    },
    /// Not all of it came within `accept_timeout`: ours.
    TooSlow,
}

impl From<Refusal> for Hindrance {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Hindrance> for Reject {
    fn from(hindrance: Hindrance) -> Self {
        match hindrance {
            Hindrance::Refused(refusal) => Self::from(refusal),
            Hindrance::Unfetched { url, why } => Self::EvidenceUnavailable(format!("{url}: {why}")),
            Hindrance::TooSlow => Self::TooSlow,
        }
    }
}

/// Fetches nothing: for sources that need nothing, and where no network may be read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nowhere;

impl Fetching for Nowhere {
    fn fetch(&self, _errand: Errand) -> BoxFuture<'static, Result<Document, Unfetched>> {
        Box::pin(std::future::ready(Err(Unfetched::Offline)))
    }
}

#[cfg(test)]
mod tests;
