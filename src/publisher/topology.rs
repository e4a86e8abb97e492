//! Exchanges and queues: which ones there must be, and what to do when they differ. Pure.
//!
//! ```text
//! EXCHANGE (topic) -----------> the configured queues
//!    | alternate exchange: what no queue is bound for is kept
//!    v
//! EXCHANGE.unrouted (fanout) -> EXCHANGE.unrouted (quorum)
//!
//! EXCHANGE.quarantine (topic) -> EXCHANGE.quarantine (quorum), bound for everything
//! ```
//!
//! RabbitMQ 4 drops a message of a quorum queue that came back to it twenty times; RabbitMQ 3
//! never does. In our own two queues people look at events, which counts as a delivery each time,
//! so they are declared with a limit that nobody reaches. The configured queues are declared
//! plainly, as their consumers may declare them too; their limit is a policy's to set.

use std::fmt;

use lapin::ExchangeKind;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use super::broker::Failure;
use super::message::{name, quarantine_name, unrouted_name};
use crate::config::{Broker, QueueKind};

const PRECONDITION_FAILED: u16 = 406;
const NOT_FOUND: u16 = 404;
const ACCESS_REFUSED: u16 = 403;

/// Deliveries after which a message is dropped: the largest number that AMQP's integer holds. A
/// policy can still set a lower one; `-1` for none is refused by RabbitMQ 3.
const DELIVERIES_MAX: i32 = i32::MAX;

/// One thing to declare or to check.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Exchange {
        name: ShortString,
        kind: ExchangeKind,
        arguments: FieldTable,
    },
    Queue {
        name: ShortString,
        arguments: FieldTable,
    },
    Bind {
        queue: ShortString,
        exchange: ShortString,
        key: ShortString,
    },
}

/// Everything that a configuration needs, in the order in which it can be declared.
///
/// # Errors
///
/// A name that AMQP cannot carry.
pub(super) fn plan(config: &Broker) -> Result<Vec<Step>, String> {
    let exchange = name("broker.exchange", config.exchange.clone())?;
    let unrouted = name("broker.exchange", unrouted_name(&config.exchange))?;
    let quarantine = name("broker.exchange", quarantine_name(&config.exchange))?;

    let mut alternate = FieldTable::default();
    alternate.insert(
        name("argument", "alternate-exchange".to_owned())?,
        AMQPValue::LongString(LongString::from(unrouted.as_str())),
    );
    let mut steps = vec![
        Step::exchange(&unrouted, ExchangeKind::Fanout, FieldTable::default()),
        Step::own_queue(&unrouted)?,
        Step::bind(&unrouted, &unrouted, "")?,
        Step::exchange(&exchange, ExchangeKind::Topic, alternate),
        Step::exchange(&quarantine, ExchangeKind::Topic, FieldTable::default()),
        Step::own_queue(&quarantine)?,
        Step::bind(&quarantine, &quarantine, "#")?,
    ];
    for queue in &config.queues {
        let queue_name = name("a queue's name", queue.name.clone())?;
        steps.push(Step::queue(&queue_name, queue.kind)?);
        for key in &queue.bind {
            steps.push(Step::bind(&queue_name, &exchange, key)?);
        }
    }
    Ok(steps)
}

impl Step {
    fn exchange(name: &ShortString, kind: ExchangeKind, arguments: FieldTable) -> Self {
        Self::Exchange {
            name: name.clone(),
            kind,
            arguments,
        }
    }

    fn queue(queue: &ShortString, kind: QueueKind) -> Result<Self, String> {
        let kind = match kind {
            QueueKind::Quorum => "quorum",
            QueueKind::Classic => "classic",
            QueueKind::Stream => "stream",
        };
        let mut arguments = FieldTable::default();
        arguments.insert(
            name("argument", "x-queue-type".to_owned())?,
            AMQPValue::LongString(LongString::from(kind)),
        );
        Ok(Self::Queue {
            name: queue.clone(),
            arguments,
        })
    }

    /// A queue that holds events until somebody looks at them.
    fn own_queue(queue: &ShortString) -> Result<Self, String> {
        let mut step = Self::queue(queue, QueueKind::Quorum)?;
        if let Self::Queue { arguments, .. } = &mut step {
            let limit = AMQPValue::LongInt(DELIVERIES_MAX);
            arguments.insert(name("argument", "x-delivery-limit".to_owned())?, limit);
        }
        Ok(step)
    }

    fn bind(queue: &ShortString, exchange: &ShortString, key: &str) -> Result<Self, String> {
        Ok(Self::Bind {
            queue: queue.clone(),
            exchange: exchange.clone(),
            key: name("a binding key", key.to_owned())?,
        })
    }

    /// What to tell an operator when the broker refuses this step.
    pub(super) fn trouble(&self, failure: &Failure) -> Failure {
        let advice = match (failure.code, self) {
            (Some(PRECONDITION_FAILED), Self::Exchange { name, .. }) => format!(
                "it exists with other properties: delete it once (rabbitmqctl or the management \
                 page) and it is declared anew, or set topology = \"check\" and give it an \
                 alternate exchange by a policy: {{\"alternate-exchange\": \"{}\"}}",
                unrouted_name(name.as_str())
            ),
            (Some(PRECONDITION_FAILED), Self::Queue { .. }) => {
                "it exists with other properties: set its type in [[broker.queues]] to what it is, \
                 or drain and delete it and it is declared anew"
                    .to_owned()
            }
            (Some(NOT_FOUND), _) => {
                "it is not there: declare it, or set topology = \"declare\"".to_owned()
            }
            (Some(ACCESS_REFUSED), _) => {
                "the user needs the permissions configure and write (and read on the exchange, to \
                 bind), or set topology = \"check\" and declare it as another user"
                    .to_owned()
            }
            _ => return Failure::coded(failure.code, format_args!("{self}: {failure}")),
        };
        Failure {
            code: failure.code,
            text: format!("{self}: {advice} ({failure})"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange { name, .. } => write!(f, "exchange {name}"),
            Self::Queue { name, .. } => write!(f, "queue {name}"),
            Self::Bind {
                queue,
                exchange,
                key,
            } => write!(
                f,
                "binding of queue {queue} to exchange {exchange} by \"{key}\""
            ),
        }
    }
}
