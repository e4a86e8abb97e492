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
//! What its queue does not take is moved out of the others' way (see [`parked`]). So each event is published at least once, under the same `message_id` every time, and in the
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
mod pairing;
mod parked;
mod preview;
mod replay;
mod set_aside;
mod topology;
mod urls;
mod window;
mod wire;

use std::collections::HashSet;
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
use feed::{Feed, LOT_BYTES_MAX, LOT_EVENTS_MAX, Turns};
use health::Board;
use item::Item;
use link::{Bounds, Link, Ports};
use message::Shape;
use parked::LOTS_MAX;
use urls::Node;
use window::Window;

pub use check::{Finding, check};
pub use direct::Direct;
pub use health::Health;
pub use parked::{Parked, folder as parked_folder, folders as lots_in};
pub use preview::{preview, printable};
pub use replay::{Replay, ReplayError, Shelf};
pub use set_aside::{SetAside, decode_mark, folder as set_aside_folder};

/// Most body bytes in flight on one connection, and most bytes of journal records in memory per
/// connection.
const BYTES_IN_FLIGHT_MAX: usize = 16 * 1024 * 1024;

/// Moves events from the journal to the broker.
pub struct Publisher {
    links: Vec<Link<Amqp>>,
    feeds: Feeds,
    board: Board,
}

/// Where events that cannot be published go.
#[derive(Clone, Debug)]
pub struct Sidings {
    /// Those that the broker refuses for their own sake: see [`SetAside`]. A journal of its own.
    pub set_aside: Journal,
    /// Those that their queues do not take.
    pub parked: Parked,
}

impl Publisher {
    /// Prepares everything; nothing is connected before [`Publisher::run`].
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration, for people.
    pub fn new(
        config: &config::Broker,
        journal: Journal,
        sidings: Sidings,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Direct), String> {
        let broker = Arc::new(Amqp::new(config)?);
        let parts = assemble(config, &broker, journal, sidings, metrics)?;
        let Parts {
            links,
            feeds,
            board,
            direct,
        } = parts;
        let publisher = Self {
            links,
            feeds,
            board,
        };
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
        run(self.links, self.feeds, stop).await
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
    feeds: Feeds,
    board: Board,
    direct: Direct,
}

/// What every feed is made of.
struct Feeds {
    journal: Journal,
    sidings: Sidings,
    links: Vec<mpsc::Sender<Box<Item>>>,
    events_max: usize,
    bytes_max: usize,
    metrics: Arc<Metrics>,
}

impl Feeds {
    /// The feed of the journal.
    fn main(&self) -> Feed {
        self.of(&self.journal, self.events_max, self.bytes_max, None)
    }

    /// The feed of a lot.
    fn of_lot(&self, lot: &Journal) -> Feed {
        let turns = Some(Turns::default());
        self.of(lot, LOT_EVENTS_MAX, LOT_BYTES_MAX, turns)
    }

    fn of(
        &self,
        journal: &Journal,
        events_max: usize,
        bytes_max: usize,
        turns: Option<Turns>,
    ) -> Feed {
        Feed {
            journal: journal.clone(),
            set_aside: self.sidings.set_aside.clone(),
            parked: self.sidings.parked.clone(),
            links: self.links.clone(),
            // Each unsettled event of the window gets one report, so this is never full.
            reports: mpsc::channel(events_max),
            window: Window::new(journal.status().cursor, events_max, bytes_max),
            turns,
            complained_at: None,
            metrics: Arc::clone(&self.metrics),
        }
    }
}

fn assemble<B: Broker>(
    config: &config::Broker,
    broker: &Arc<B>,
    journal: Journal,
    sidings: Sidings,
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
    // Holds every unsettled event of every feed, so it is never full.
    let fed_max = events_max + LOT_EVENTS_MAX * LOTS_MAX;
    let mut links = Vec::with_capacity(connections);
    let mut feeds = Vec::with_capacity(connections);
    let mut doors = Vec::with_capacity(connections);
    for index in 0..connections {
        let (feed, fed) = mpsc::channel::<Box<Item>>(fed_max);
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
    let feeds = Feeds {
        journal,
        sidings,
        links: feeds,
        events_max,
        bytes_max,
        metrics,
    };
    Ok(Parts {
        links,
        feeds,
        board,
        direct: Direct::new(doors, config.confirm_timeout),
    })
}

async fn run<B: Broker>(
    links: Vec<Link<B>>,
    mut feeds: Feeds,
    stop: CancellationToken,
) -> std::io::Result<()> {
    // The feed stops the links too, and nobody else.
    let stop = stop.child_token();
    // Dropping this ends them with it.
    let mut tasks = JoinSet::new();
    for link in links {
        tasks.spawn(link.run(stop.clone()));
    }
    let mut feed = pin!(feeds.main().run(stop.clone()));
    let mut lots = feeds.sidings.parked.watch();
    lots.mark_changed();
    let mut fed = HashSet::new();
    let outcome = loop {
        tokio::select! {
            outcome = &mut feed => break outcome,
            Some(ended) = tasks.join_next() => pass_on_panic(ended),
            Ok(()) = lots.changed() => {
                for (name, lot) in feeds.sidings.parked.lots() {
                    if fed.insert(name.clone()) {
                        let feed = feeds.of_lot(&lot).run(stop.child_token());
                        tasks.spawn(async move { complain(&name, feed.await) });
                    }
                }
            }
        }
    };
    feeds.links.clear();
    while let Some(ended) = tasks.join_next().await {
        pass_on_panic(ended);
    }
    outcome
}

/// A lot that cannot be read stops nobody else.
fn complain(lot: &str, fed: std::io::Result<()>) {
    if let Err(error) = fed {
        tracing::error!(
            lot,
            %error,
            "parked events cannot be read, and wait until the gateway is started again: mend the \
             disk first"
        );
    }
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
