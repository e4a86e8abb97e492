//! What is measured, and for how long.

use std::time::Duration;

/// Connections that send at the same time, each one request after the other.
pub(crate) const SENDERS: usize = 64;
/// Publishes without a confirm, in the gateway (its default) and in the bare publisher.
pub(crate) const WINDOW: usize = 1024;
/// Requests per second of all senders together, far from any limit.
pub(crate) const CALM_PER_SECOND: f64 = 1000.0;
/// Sources where there are many.
pub(crate) const MANY_SOURCES: [usize; 2] = [100, 10_000];
/// Events where there are many: the most ids that one gateway recognises.
pub(crate) const MANY_EVENTS: usize = 1_000_000;

/// How long each phase takes, and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Not measured.
    pub(crate) warm_up: Duration,
    /// Measured.
    pub(crate) duration: Duration,
    /// How often everything is measured, one phase after the other, so that a noisy neighbour meets
    /// all of them.
    pub(crate) rounds: usize,
    /// Only what is compared with others.
    is_quick: bool,
}

impl Plan {
    /// Two rounds of five seconds, or with `QUICK=1` one of two.
    pub(crate) fn from_environment() -> Self {
        let is_quick = is_set("QUICK");
        let (seconds, rounds) = if is_quick { (2, 1) } else { (5, 2) };
        Self {
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(seconds),
            rounds,
            is_quick,
        }
    }

    /// So long, where nothing is measured.
    pub(crate) fn unmeasured(self, duration: Duration) -> Self {
        Self {
            warm_up: Duration::ZERO,
            duration,
            ..self
        }
    }

    /// The phases of a round, in their order.
    pub(crate) fn phases(&self, round: usize) -> impl Iterator<Item = Phase> {
        let is_quick = self.is_quick;
        Phase::IN_TURN
            .into_iter()
            .filter(move |phase| phase.is_picked())
            .filter(move |phase| !(is_quick && phase.is_long()))
            .filter(move |phase| round == 1 || !phase.is_once())
    }
}

/// Whether a variable of the environment says yes.
pub(crate) fn is_set(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| !value.is_empty() && value != "0")
}

/// One kind of load on one program. The order is that of the table: each after what it is
/// compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// nginx answers a constant.
    Nginx,
    /// The gateway, without a broker.
    Journal,
    /// The same with a journal in memory.
    JournalMemory,
    /// The gateway under a load far from its limit.
    JournalCalm,
    /// The gateway under half of what it took before.
    JournalHalf,
    /// The gateway, publishing at the same time what it takes.
    JournalPublishing,
    /// nginx and GitHub's own examples.
    NginxExamples,
    /// The gateway and GitHub's own examples.
    JournalExamples,
    /// nginx over HTTP/2.
    NginxHttp2,
    /// The gateway over HTTP/2.
    JournalHttp2,
    /// nginx, a connection for each request.
    NginxConnections,
    /// The gateway, a connection for each webhook.
    JournalConnections,
    /// nginx, a connection for each request, resumed.
    NginxResumed,
    /// The gateway, a connection for each webhook, resumed.
    JournalResumed,
    /// The gateway with 100 sources.
    ManySources,
    /// The gateway with 10,000 sources.
    MostSources,
    /// The gateway that has a million events already, and their ids.
    MillionStored,
    /// A bare publisher, with as many unconfirmed messages as there are senders.
    BareNarrow,
    /// The same with messages like the gateway's.
    SameNarrow,
    /// The gateway, answering when the broker has confirmed.
    BrokerAck,
    /// What one would write by hand in Node, which answers then, too.
    Node,
    /// The same in Python.
    Python,
    /// A bare publisher with the gateway's window.
    BareWide,
    /// The same with messages like the gateway's.
    SameWide,
    /// The gateway, publishing what `Journal` has stored, while nobody sends.
    Backlog,
    /// The same with what `MillionStored` has stored.
    MillionBacklog,
}

impl Phase {
    /// All, as they are measured: what is compared stands side by side.
    const IN_TURN: [Self; 26] = [
        Self::Nginx,
        Self::Journal,
        Self::Backlog,
        Self::SameWide,
        Self::BareWide,
        Self::JournalMemory,
        Self::JournalCalm,
        Self::JournalHalf,
        Self::JournalPublishing,
        Self::NginxExamples,
        Self::JournalExamples,
        Self::NginxHttp2,
        Self::JournalHttp2,
        Self::NginxConnections,
        Self::JournalConnections,
        Self::NginxResumed,
        Self::JournalResumed,
        Self::ManySources,
        Self::MostSources,
        Self::BareNarrow,
        Self::SameNarrow,
        Self::BrokerAck,
        Self::Node,
        Self::Python,
        Self::MillionStored,
        Self::MillionBacklog,
    ];

    /// Whether the command line asks for it: by a part of its name, or by naming none.
    fn is_picked(self) -> bool {
        is_asked_for(self.name())
    }

    /// Whether it is left out when there is little time.
    fn is_long(self) -> bool {
        matches!(
            self,
            Self::JournalCalm
                | Self::JournalPublishing
                | Self::ManySources
                | Self::MostSources
                | Self::MillionStored
                | Self::MillionBacklog
        )
    }

    /// Whether the first round has it alone.
    fn is_once(self) -> bool {
        matches!(self, Self::MillionStored | Self::MillionBacklog)
    }

    /// Whether it is the broker's work, too.
    pub(crate) fn publishes(self) -> bool {
        matches!(
            self,
            Self::BareNarrow
                | Self::BareWide
                | Self::SameNarrow
                | Self::SameWide
                | Self::BrokerAck
                | Self::JournalPublishing
                | Self::Node
                | Self::Python
                | Self::Backlog
                | Self::MillionBacklog
        )
    }

    /// In the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx, a constant",
            Self::Journal => "hookgate, ack = journal, no broker",
            Self::JournalMemory => "hookgate, journal in memory",
            Self::JournalCalm => "hookgate, ack = journal, 1,000/s",
            Self::JournalHalf => "hookgate, half of its rate",
            Self::JournalPublishing => "hookgate, ack = journal, publishing",
            Self::NginxExamples => "nginx, GitHub's examples",
            Self::JournalExamples => "hookgate, GitHub's examples",
            Self::NginxHttp2 => "nginx, HTTP/2",
            Self::JournalHttp2 => "hookgate, HTTP/2",
            Self::NginxConnections => "nginx, new connections",
            Self::JournalConnections => "hookgate, new connections",
            Self::NginxResumed => "nginx, resumed connections",
            Self::JournalResumed => "hookgate, resumed connections",
            Self::ManySources => "hookgate, 100 sources",
            Self::MostSources => "hookgate, 10,000 sources",
            Self::MillionStored => "hookgate, 1,000,000 events stored",
            Self::BareNarrow => "bare publisher, window 64",
            Self::SameNarrow => "bare publisher, our headers, 64",
            Self::BrokerAck => "hookgate, ack = broker",
            Self::Node => "fastify, ajv, amqplib on Node",
            Self::Python => "Starlette, uvicorn, aio-pika",
            Self::BareWide => "bare publisher, window 1,024",
            Self::SameWide => "bare publisher, our headers, 1,024",
            Self::Backlog => "hookgate, publishing a backlog",
            Self::MillionBacklog => "hookgate, publishing 1,000,000",
        }
    }

    /// What its rate is compared with.
    pub(crate) fn reference(self) -> Option<Self> {
        match self {
            Self::Journal | Self::JournalMemory | Self::JournalPublishing => Some(Self::Nginx),
            Self::JournalExamples => Some(Self::NginxExamples),
            Self::JournalHttp2 => Some(Self::NginxHttp2),
            Self::JournalConnections => Some(Self::NginxConnections),
            Self::JournalResumed => Some(Self::NginxResumed),
            Self::ManySources | Self::MostSources | Self::MillionStored => Some(Self::Journal),
            Self::SameNarrow | Self::BrokerAck => Some(Self::BareNarrow),
            Self::Node | Self::Python => Some(Self::BrokerAck),
            Self::SameWide | Self::Backlog | Self::MillionBacklog => Some(Self::BareWide),
            Self::Nginx
            | Self::NginxExamples
            | Self::NginxHttp2
            | Self::NginxConnections
            | Self::NginxResumed
            | Self::JournalCalm
            | Self::JournalHalf
            | Self::BareNarrow
            | Self::BareWide => None,
        }
    }
}

/// Whether something is asked for, by a part of its name, or by naming nothing: words on the command
/// line, or with commas between them in `PHASE`.
pub(crate) fn is_asked_for(name: &str) -> bool {
    let named = std::env::var("PHASE").unwrap_or_default();
    let named = named.split(',').map(|word| word.trim().to_owned());
    let mut words = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .chain(named.filter(|word| !word.is_empty()))
        .peekable();
    words.peek().is_none() || words.any(|word| name.contains(&word))
}
