//! From the journal to RabbitMQ: publish, wait for proof, move the cursor.
//!
//! ```text
//! journal -> feed -> link: lane, lane -> broker
//!             ^                            |
//!             +--- reports <--- confirms --+
//! ```
//!
//! The [`feed`] reads the journal in order and hands each event to the link of its source; a link
//! keeps one connection, with a channel per exchange, and publishes without waiting for the
//! confirms, as many at once as are allowed. An event is let go only on its own proof (see
//! [`pairing`]), and the cursor moves over the contiguous prefix of such events (see [`window`]).
//! So each event is published at least once, under the same `message_id` every time, and in the
//! order of the journal per source while nothing fails.
//!
//! Events whose senders wait (`ack = "broker"`) come in by [`Direct`] and are tried once.
//!
//! This module cannot make a delivery, and knows neither HTTP nor sources.

mod amqp;
mod backoff;
mod broker;
mod check;
mod confirms;
mod direct;
mod feed;
mod health;
mod item;
mod lane;
mod link;
mod message;
mod preview;
mod pairing;
mod set_aside;
mod topology;
mod urls;
mod window;
mod wire;

use std::fmt;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::secret::Labelled;

use amqp::Amqp;
use broker::Broker;
use direct::{Door, Gate};
use feed::Feed;
use health::Board;
use item::Item;
use link::{Bounds, Link, Ports};
use message::Shape;
use urls::Node;
use window::Window;

pub use check::{Finding, check};
pub use direct::Direct;
pub use health::Health;
pub use preview::{preview, printable};
pub use set_aside::SetAside;

/// Most body bytes in flight on one connection, and most bytes of journal records in memory per
/// connection.
const BYTES_IN_FLIGHT_MAX: usize = 16 * 1024 * 1024;

/// Moves events from the journal to the broker.
pub struct Publisher {
    links: Vec<Link<Amqp>>,
    feed: Feed,
    board: Board,
}

impl Publisher {
    /// Prepares everything; nothing is connected before [`Publisher::run`].
    ///
    /// `set_aside` is a journal of its own, for events that can never be published: see
    /// [`SetAside`].
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration, for people.
    pub fn new(
        config: &config::Broker,
        journal: Journal,
        set_aside: Journal,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Direct), String> {
        let broker = Arc::new(Amqp::new(config)?);
        let parts = assemble(config, &broker, journal, set_aside, metrics)?;
        let Parts {
            links,
            feed,
            board,
            direct,
        } = parts;
        let publisher = Self { links, feed, board };
        Ok((publisher, direct))
    }

    /// How it is, now and later.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.board.watch()
    }

    /// Publishes until `stop`; then takes no more from the journal, gives what is in flight its
    /// confirm timeout, moves the cursor and closes the connections. It may be dropped at any
    /// time: what is not confirmed stays in the journal, and senders who wait are answered.
    ///
    /// # Errors
    ///
    /// The journal cannot be read.
    pub async fn run(self, stop: CancellationToken) -> std::io::Result<()> {
        run(self.links, self.feed, stop).await
    }
}

/// Whether a broker URL can be used; says what is wrong with it, without quoting it.
///
/// # Errors
///
/// A text for people.
pub fn check_url(url: &Labelled) -> Result<(), String> {
    Node::parse(url).map(drop)
}

/// A publisher over any broker, taken apart.
struct Parts<B: Broker> {
    links: Vec<Link<B>>,
    feed: Feed,
    board: Board,
    direct: Direct,
}

fn assemble<B: Broker>(
    config: &config::Broker,
    broker: &Arc<B>,
    journal: Journal,
    set_aside: Journal,
    metrics: Arc<Metrics>,
) -> Result<Parts<B>, String> {
    let nodes: Vec<_> = config
        .urls
        .iter()
        .map(Node::parse)
        .collect::<Result<_, _>>()?;
    if nodes.is_empty() {
        return Err("broker.urls is empty: name at least one node".to_owned());
    }
    let nodes: Arc<[Node]> = nodes.into();
    let shape = Shape::new(config)?;
    let connections = config.connections.max(1);
    let bounds = Bounds {
        in_flight_max: config.in_flight_max.max(1),
        bytes_max: BYTES_IN_FLIGHT_MAX,
        confirm_timeout: config.confirm_timeout,
    };
    let events_max = bounds.in_flight_max.saturating_mul(connections);
    let bytes_max = BYTES_IN_FLIGHT_MAX.saturating_mul(connections);
    let board = Board::new(connections);
    // Each unsettled event of the window gets one report, so neither of these is ever full.
    let (report, reports) = mpsc::channel(events_max);
    let mut links = Vec::with_capacity(connections);
    let mut feeds = Vec::with_capacity(connections);
    let mut doors = Vec::with_capacity(connections);
    for index in 0..connections {
        let (feed, fed) = mpsc::channel::<Box<Item>>(events_max);
        let (queue, direct) = mpsc::channel::<Box<Item>>(bounds.in_flight_max);
        let gate = Arc::new(Gate::default());
        feeds.push(feed);
        doors.push(Door {
            gate: Arc::clone(&gate),
            queue,
        });
        let ports = Ports {
            feed: fed,
            direct,
            gate,
            reports: report.clone(),
            lamp: board.lamp(index),
            metrics: Arc::clone(&metrics),
        };
        links.push(Link::new(
            Arc::clone(broker),
            Arc::clone(&nodes),
            shape.clone(),
            bounds,
            ports,
        ));
    }
    let window = Window::new(journal.status().cursor, events_max, bytes_max);
    let feed = Feed {
        journal,
        set_aside,
        links: feeds,
        reports,
        window,
        metrics,
    };
    Ok(Parts {
        links,
        feed,
        board,
        direct: Direct::new(doors, config.confirm_timeout),
    })
}

async fn run<B: Broker>(
    links: Vec<Link<B>>,
    feed: Feed,
    stop: CancellationToken,
) -> std::io::Result<()> {
    // The feed stops the links too, and nobody else.
    let stop = stop.child_token();
    // Dropping this ends them with it.
    let mut tasks = JoinSet::new();
    for link in links {
        tasks.spawn(link.run(stop.clone()));
    }
    let mut feed = pin!(feed.run(stop));
    let outcome = loop {
        tokio::select! {
            outcome = &mut feed => break outcome,
            Some(ended) = tasks.join_next() => pass_on_panic(ended),
        }
    };
    while let Some(ended) = tasks.join_next().await {
        pass_on_panic(ended);
    }
    outcome
}

/// A link that panicked leaves its events stuck: that is the end of the publisher.
fn pass_on_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        resume_unwind(error.into_panic());
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("connections", &self.links.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
