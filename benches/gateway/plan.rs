//! What is measured, and for how long.

use std::time::Duration;

/// Connections that send at the same time, each one request after the other.
pub(crate) const SENDERS: usize = 64;
/// Publishes without a confirm, in the gateway (its default) and in the bare publisher.
pub(crate) const WINDOW: usize = 1024;
/// How often everything is measured, one phase after the other, so that a noisy neighbour meets
/// all of them.
pub(crate) const ROUNDS: usize = 2;
/// Requests per second of all senders together where they wait between requests.
pub(crate) const CALM_PER_SECOND: u32 = 1000;

/// How long each phase takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Not measured.
    pub(crate) warm_up: Duration,
    /// Measured.
    pub(crate) duration: Duration,
}

impl Plan {
    /// Five seconds, or two with `QUICK=1`.
    pub(crate) fn from_environment() -> Self {
        let seconds = if is_set("QUICK") { 2 } else { 5 };
        Self {
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(seconds),
        }
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
    /// The same with senders that wait between requests.
    JournalCalm,
    /// The gateway, publishing at the same time what it takes.
    JournalPublishing,
    /// A bare publisher, with as many unconfirmed messages as there are senders.
    BareNarrow,
    /// The gateway, answering when the broker has confirmed.
    BrokerAck,
    /// What one would write by hand in Node, which answers then, too.
    Node,
    /// The same in Python.
    Python,
    /// A bare publisher with the gateway's window.
    BareWide,
    /// The gateway, publishing what `Journal` has stored, while nobody sends.
    Backlog,
}

impl Phase {
    /// All, as they are measured: what is compared stands side by side.
    pub(crate) const IN_TURN: [Self; 10] = [
        Self::Nginx,
        Self::Journal,
        Self::Backlog,
        Self::BareWide,
        Self::JournalCalm,
        Self::JournalPublishing,
        Self::BareNarrow,
        Self::BrokerAck,
        Self::Node,
        Self::Python,
    ];

    /// Whether the command line asks for it: by a part of its name, or by naming none.
    pub(crate) fn is_picked(self) -> bool {
        let mut words = std::env::args()
            .skip(1)
            .filter(|word| !word.starts_with('-'))
            .peekable();
        words.peek().is_none() || words.any(|word| self.name().contains(&word))
    }

    /// In the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx, a constant",
            Self::Journal => "hookgate, ack = journal, no broker",
            Self::JournalCalm => "hookgate, ack = journal, 1,000/s",
            Self::JournalPublishing => "hookgate, ack = journal, publishing",
            Self::BareNarrow => "bare publisher, window 64",
            Self::BrokerAck => "hookgate, ack = broker",
            Self::Node => "fastify, ajv, amqplib on Node",
            Self::Python => "Starlette, uvicorn, aio-pika on Python",
            Self::BareWide => "bare publisher, window 1,024",
            Self::Backlog => "hookgate, publishing a backlog",
        }
    }

    /// What its rate is compared with.
    pub(crate) fn reference(self) -> Option<Self> {
        match self {
            Self::Journal | Self::JournalPublishing => Some(Self::Nginx),
            Self::BrokerAck => Some(Self::BareNarrow),
            Self::Node | Self::Python => Some(Self::BrokerAck),
            Self::Backlog => Some(Self::BareWide),
            Self::Nginx | Self::JournalCalm | Self::BareNarrow | Self::BareWide => None,
        }
    }
}
