//! `hookgate check --broker`: what a start would find.

use super::amqp::{Amqp, AmqpConnection, declare, in_time};
use super::broker::{Connection as _, Failure};
use super::message::quarantine_name;
use super::topology::Step;
use super::urls::Node;
use crate::config::{Broker, Topology};

const NOT_FOUND: u16 = 404;

/// One thing that a start would find.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What it is, in a line.
    pub text: String,
    /// Whether publishing would fail because of it.
    pub blocks: bool,
}

/// Connects to each node and looks at exchanges and queues without making any.
///
/// What it returns are findings: a node that does not answer, something that is missing or
/// different. None means that all is as configured. Bindings cannot be looked
/// at over AMQP.
///
/// # Errors
///
/// No node could be used at all, and why.
pub async fn check(config: &Broker) -> Result<Vec<Finding>, String> {
    let nodes: Vec<_> = config
        .urls
        .iter()
        .map(Node::parse)
        .collect::<Result<_, _>>()?;
    let amqp = Amqp::new(config)?;
    let mut findings = Vec::new();
    let mut usable = None;
    for node in &nodes {
        match amqp.dial(node).await {
            // Another node may do.
            Err(failure) => findings.push(Finding {
                text: format!("{}: {failure}", node.address()),
                blocks: false,
            }),
            Ok(connection) if usable.is_none() => usable = Some((node, connection)),
            Ok(connection) => connection.close().await,
        }
    }
    let Some((node, mut connection)) = usable else {
        let texts: Vec<String> = findings.into_iter().map(|finding| finding.text).collect();
        return Err(texts.join("; "));
    };
    for step in amqp.steps() {
        let Some(blocks) = importance(step, config) else {
            continue;
        };
        match look(&mut connection, step, config.topology).await {
            Ok(()) => {}
            Err(failure) if connection.is_up() => findings.push(Finding {
                blocks: blocks(&failure),
                text: failure.text,
            }),
            Err(failure) => return Err(format!("{}: {failure}", node.address())),
        }
    }
    connection.close().await;
    Ok(findings)
}

/// Whether a thing is looked at, and then whether publishing would fail because of what is wrong
/// with it.
fn importance(step: &Step, config: &Broker) -> Option<fn(&Failure) -> bool> {
    match (config.topology, step) {
        // What is missing is made at the start.
        (Topology::Declare, _) => Some(|failure| failure.code != Some(NOT_FOUND)),
        (Topology::Check, _) => Some(|_| true),
        // Nothing can be published without it.
        (Topology::Ignore, Step::Exchange { name, .. }) if name.as_str() == config.exchange => {
            Some(|_| true)
        }
        // Only `on_invalid = "quarantine"` needs it.
        (Topology::Ignore, Step::Exchange { name, .. })
            if name.as_str() == quarantine_name(&config.exchange) =>
        {
            Some(|_| false)
        }
        (Topology::Ignore, _) => None,
    }
}

/// What is wrong with one thing. A refusal closes the channel, so each gets its own.
async fn look(
    connection: &mut AmqpConnection,
    step: &Step,
    topology: Topology,
) -> Result<(), Failure> {
    let channel = connection.channel().await?;
    match in_time(declare(&channel, step, true)).await {
        Ok(()) => {}
        Err(failure) if topology == Topology::Declare && failure.code == Some(NOT_FOUND) => {
            let text = format!("{step}: not there yet; it is declared at the start");
            return Err(Failure::coded(failure.code, text));
        }
        Err(failure) => return Err(step.trouble(&failure)),
    }
    let declares = topology == Topology::Declare && !matches!(step, Step::Bind { .. });
    if declares {
        // It is there, so this makes nothing: it compares.
        let same = in_time(declare(&channel, step, false)).await;
        same.map_err(|failure| step.trouble(&failure))?;
    }
    Ok(())
}
