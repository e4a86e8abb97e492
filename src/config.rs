//! What the program needs, from what the user wrote: parsed, resolved, compiled. No later code
//! meets a value that "must be set".

pub mod diagnostic;
pub mod problem;
pub mod raw;
pub mod surroundings;

// In the order in which a configuration passes through them.
mod broker;
mod compile;
mod fetch;
mod load;
pub(crate) mod locate;
mod preset;
mod reader;
mod secrets;
mod server;
mod source;
mod tls;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::authorities::Authorities;
pub use crate::config::broker::journal_segment_bytes;
pub use crate::config::compile::ranges::{Ranges, RangesError, Stamp};
use crate::config::diagnostic::Diagnostic;
pub use crate::config::preset::parse as parse_provider;
pub(crate) use crate::config::reader::did_you_mean;
use crate::config::surroundings::Surroundings;
pub use crate::config::tls::files::{Files, Fingerprint, Material, Snapshot, Unusable, Verifier};
pub use crate::config::tls::stamps::Stamps;
use crate::secret::{Labelled, Secret};
use crate::source::Source;

/// A duration as configurations have it, `"90m"`; `None` for anything else.
pub fn parse_duration(text: &str) -> Option<Duration> {
    value::duration(text).ok()
}

/// A whole configuration. That it loaded means that it will run.
#[derive(Debug)]
pub struct Config {
    /// `[server]`.
    pub server: Server,
    /// `[admin]`.
    pub admin: Admin,
    /// `[journal]`.
    pub journal: Journal,
    /// `[broker]`; `None`: the journal is the only store.
    pub broker: Option<Broker>,
    /// `[fetch]`.
    pub fetch: Fetch,
    /// `[sources.*]`, by name.
    pub sources: Vec<Arc<Source>>,
}

/// The part of a configuration that says where events are, and how to reach who has them open.
#[derive(Debug)]
pub struct Storage {
    /// `[admin]`.
    pub admin: Admin,
    /// `[journal]`.
    pub journal: Journal,
}

/// `[server]`.
#[derive(Debug)]
pub struct Server {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// What providers were told, without a path; some sign it.
    pub public_url: Option<String>,
    /// Networks whose `Forwarded` and `X-Forwarded-For` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether their connections begin with a PROXY header.
    pub proxy_protocol: bool,
    /// `None` is `tls = "off"`.
    pub tls: Option<Tls>,
    /// `[server.limits]`.
    pub limits: Limits,
}

/// `[server.tls]`.
#[derive(Debug)]
pub struct Tls {
    /// What is shown to clients.
    pub shown: Shown,
    /// What to do about a name that no certificate is for.
    pub unknown_name: UnknownName,
    /// What certificates of clients are checked against; `None`: they are not asked for one.
    pub clients: Option<Clients>,
    /// Where all that came from.
    pub files: Files,
    /// What the files were like then.
    pub fingerprint: Fingerprint,
}

/// What is shown to clients.
#[derive(Debug)]
pub enum Shown {
    /// Certificates from files, the first also for names that no other one has.
    Certificates(Vec<Certificate>),
    /// Made at start, for development.
    SelfSigned,
}

/// `server.tls.unknown_name`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownName {
    /// Show the first certificate.
    #[default]
    First,
    /// End the handshake.
    Refuse,
}

/// `server.tls.client_ca` and `client_crl`, loaded and checked against each other.
#[derive(Clone, Debug)]
pub struct Clients {
    /// The files of authorities and lists, and when the first of each ends.
    pub ends: Vec<(PathBuf, Timestamp)>,
    /// Decides about certificates.
    pub verifier: Verifier,
}

/// One certificate chain with its key, loaded and checked against each other.
#[derive(Debug)]
pub struct Certificate {
    /// Where it came from.
    pub path: PathBuf,
    /// When it ends.
    pub not_after: Timestamp,
    /// The chain and the key, ready to sign.
    pub certified: Arc<rustls::sign::CertifiedKey>,
}

/// `[server.limits]`. Every one is enforced; what happens at each is in `README.md`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections.
    pub connections_max: usize,
    /// Open connections per client address (IPv6 by /64).
    pub connections_per_peer_max: usize,
    /// Requests between their head and their answer.
    pub requests_in_flight_max: usize,
    /// Body bytes of those requests.
    pub bytes_in_flight_max: usize,
    /// Longest body of a source that does not say.
    pub body_bytes_max: usize,
    /// From accepted to TLS established.
    pub handshake_timeout: Duration,
    /// From the first byte of a head, or from TLS established, to its end.
    pub header_timeout: Duration,
    /// From the head to the last byte of the body.
    pub body_timeout: Duration,
    /// Between two requests on a connection.
    pub idle_timeout: Duration,
    /// From the whole body to the event being safe.
    pub accept_timeout: Duration,
    /// From SIGTERM to the end.
    pub drain_timeout: Duration,
}

/// `[admin]`.
#[derive(Debug)]
pub struct Admin {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// What a caller must present as a bearer token.
    pub token: Option<Secret>,
}

/// `[journal]`.
#[derive(Clone, Debug)]
pub struct Journal {
    /// The directory.
    pub path: PathBuf,
    /// Full at this many bytes.
    pub bytes_max: u64,
    /// How long published events are kept.
    pub retain: Duration,
    /// What to do about damage that is not a torn tail.
    pub on_damage: OnDamage,
}

/// `journal.on_damage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// Keep what verifies, move the damaged file away, be loud, serve on.
    SetAside,
    /// Do not start.
    Refuse,
}

/// `[broker]`.
#[derive(Clone, Debug)]
pub struct Broker {
    /// Nodes of one cluster, tried in turn. A URL holds a password, so it is a secret.
    pub urls: Vec<Labelled>,
    /// The topic exchange.
    pub exchange: String,
    /// Who makes exchanges and queues.
    pub topology: Topology,
    /// Connections to publish over.
    pub connections: usize,
    /// Publishes without a confirm, per connection.
    pub in_flight_max: usize,
    /// A confirm later than this counts as lost.
    pub confirm_timeout: Duration,
    /// Prefix of the CloudEvents headers; `None` is `"off"`.
    pub cloudevents: Option<String>,
    /// `[[broker.queues]]`.
    pub queues: Vec<Queue>,
}

/// `broker.topology`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// The gateway makes what is missing.
    Declare,
    /// The gateway makes sure that all is there.
    Check,
    /// The gateway trusts that it is.
    Ignore,
}

/// `[[broker.queues]]`.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Binding keys on the exchange.
    pub bind: Vec<String>,
    /// What kind of queue.
    pub kind: QueueKind,
}

/// `type` of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// Replicated; the default.
    Quorum,
    /// On one node.
    Classic,
    /// A stream.
    Stream,
}

/// `[fetch]`: what holds for everything that the gateway itself fetches.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// From looking a name up to the last byte.
    pub timeout: Duration,
    /// Networks that may be called besides the internet.
    pub allow_private: Vec<IpNet>,
    /// Where these hosts are, whatever port their URLs name, instead of looking them up. They
    /// must prove to be these hosts all the same.
    pub resolve: BTreeMap<String, SocketAddr>,
    /// Whose certificates are believed.
    pub authorities: Authorities,
}

/// What `check` shows of one source.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Its name.
    pub name: Arc<str>,
    /// Its path.
    pub path: String,
    /// The built-in provider it was made from.
    pub provider: Option<String>,
    /// Its algorithms, in words.
    pub verification: String,
    /// Whether it takes anything from anyone.
    pub is_insecure: bool,
    /// Labels of its secrets.
    pub secrets: Vec<Arc<str>>,
    /// Its schemas, as written.
    pub schema: Option<String>,
    /// When an event counts as safe, as written.
    pub ack: String,
    /// Whether what cannot be verified is refused.
    pub enforce: bool,
    /// Hosts that a request may make the gateway call.
    pub calls: Vec<String>,
}

/// A configuration that loaded, with what an operator should know.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What the gateway can run with, but an operator should know.
    pub warnings: Vec<Diagnostic>,
    /// One for each of `config.sources`, in their order.
    pub summaries: Vec<Summary>,
}

/// What of a configuration a command needs that looks at one source.
#[derive(Debug)]
pub struct Excerpt {
    /// The configuration. Sources whose secrets are not there, say, are left out; so may be what
    /// the broker, `[admin]` and TLS need.
    pub config: Config,
    /// Name and path of every source, those too that are left out.
    pub paths: Vec<(String, String)>,
}

/// Everything that is wrong with a configuration, and what else was noticed.
#[derive(Debug, thiserror::Error)]
pub struct Invalid {
    /// At least one of them is an error; each knows its place.
    pub problems: Vec<Diagnostic>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}\n")?;
        }
        let errors = self
            .problems
            .iter()
            .filter(|problem| problem.is_error())
            .count();
        let noun = if errors == 1 { "mistake" } else { "mistakes" };
        write!(f, "the configuration has {errors} {noun}")
    }
}

impl Config {
    /// Reads, resolves and compiles a configuration and what it includes, with the environment of
    /// this process.
    ///
    /// # Errors
    ///
    /// All mistakes at once; where a file is not even TOML, only those of that kind.
    pub fn load(path: &Path) -> Result<Loaded, Invalid> {
        Self::load_in(path, &Surroundings::of_process())
    }

    /// The same, with another environment.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn load_in(path: &Path, surroundings: &Surroundings) -> Result<Loaded, Invalid> {
        load::load(path, surroundings)
    }

    /// Reads it for one source: nothing is asked of the others, of the broker, of `[admin]` and of
    /// the certificates.
    ///
    /// # Errors
    ///
    /// Mistakes in that source, or in what is not a source's.
    pub fn load_for(path: &Path, source: &str) -> Result<Excerpt, Invalid> {
        load::load_for(path, source, &Surroundings::of_process())
    }
}

impl Storage {
    /// Reads `[journal]` and `[admin]` of a configuration, and looks at nothing else in it: events
    /// can be looked into where the sources' secrets are not.
    ///
    /// # Errors
    ///
    /// All mistakes in them; a file that is not TOML.
    pub fn load(path: &Path) -> Result<Self, Invalid> {
        load::storage(path, &Surroundings::of_process())
    }
}

#[cfg(test)]
pub(crate) mod tests;
