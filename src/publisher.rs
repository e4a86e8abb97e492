//! From the journal to RabbitMQ: publish, wait for proof, move the cursor.
//!
//! ```text
//! journal -> feed -> link: lane, lane -> broker
//!             ^                            |
//!             +--- reports <--- confirms --+
//!
//! lot -> feed -> link of all lots -> broker
//! ```
//!
//! The [`feed`] reads the journal in order and hands each event to the link of its source; a link
//! keeps one connection, with a channel per exchange, and publishes without waiting for the
//! confirms, as many at once as are allowed. An event is let go only on its own proof (see
//! [`pairing`]), and the cursor moves over the contiguous prefix of such events (see [`window`]).
//! What its queue does not take is moved out of the others' way (see [`parked`]), and goes over a
//! connection of its own, on which confirms may stay away without harm to others. So each event is
//! published at least once, under the same `message_id` every time, and in the order of the journal
//! per source while nothing fails.
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
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::journal::Journal;
use crate::metrics::{Metrics, WayMetrics};
use crate::secret::Labelled;

use amqp::Amqp;
use broker::Broker;
use direct::{Door, Gate};
use feed::{Feed, LOT_BYTES_MAX, LOT_EVENTS_MAX, Turns};
use health::Board;
use item::Item;
use link::{Bounds, Link, Ports};
use message::Shape;
use parked::{LOTS_MAX, TIDY_EVERY};
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
    links: Links<Amqp>,
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
    links: Links<B>,
    feeds: Feeds,
    board: Board,
    direct: Direct,
}

/// The connections.
struct Links<B: Broker> {
    /// Of the journal, and of senders who wait.
    main: Vec<Link<B>>,
    /// Of all lots: made when there is one.
    lots: Link<B>,
}

/// What every feed is made of.
struct Feeds {
    journal: Journal,
    sidings: Sidings,
    /// The ways to the links of the journal.
    links: Vec<mpsc::Sender<Box<Item>>>,
    /// The way to the link of the lots.
    lots_link: Vec<mpsc::Sender<Box<Item>>>,
    events_max: usize,
    bytes_max: usize,
    metrics: Arc<Metrics>,
}

impl Feeds {
    /// The feed of the journal.
    fn main(&self) -> Feed {
        let (events_max, bytes_max) = (self.events_max, self.bytes_max);
        self.of(&self.journal, &self.links, events_max, bytes_max, None)
    }

    /// The feed of a lot.
    fn of_lot(&self, lot: &Journal) -> Feed {
        let turns = Some(Turns::default());
        let link = &self.lots_link;
        self.of(lot, link, LOT_EVENTS_MAX, LOT_BYTES_MAX, turns)
    }

    fn of(
        &self,
        journal: &Journal,
        links: &[mpsc::Sender<Box<Item>>],
        events_max: usize,
        bytes_max: usize,
        turns: Option<Turns>,
    ) -> Feed {
        Feed {
            journal: journal.clone(),
            set_aside: self.sidings.set_aside.clone(),
            parked: self.sidings.parked.clone(),
            links: links.to_vec(),
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
    // `fed_max` events are all that are unsettled, so the way is never full.
    let link = |lamp, way: &WayMetrics, bounds: Bounds, fed_max| {
        let (feed, fed) = mpsc::channel::<Box<Item>>(fed_max);
        let (queue, direct) = mpsc::channel::<Box<Item>>(bounds.in_flight_max);
        let gate = Arc::new(Gate::default());
        let door = Door {
            gate: Arc::clone(&gate),
            queue,
        };
        let ports = Ports {
            feed: fed,
            direct,
            gate,
            lamp,
            way: way.clone(),
            metrics: Arc::clone(&metrics),
        };
        let (broker, nodes) = (Arc::clone(broker), Arc::clone(&nodes));
        let link = Link::new(broker, nodes, shape.clone(), bounds, ports);
        (link, feed, door)
    };
    let mut main = Vec::with_capacity(connections);
    let mut feeds = Vec::with_capacity(connections);
    let mut doors = Vec::with_capacity(connections);
    for index in 0..connections {
        let way = &metrics.publisher.main;
        let (link, feed, door) = link(board.lamp(index), way, bounds, events_max);
        main.push(link);
        feeds.push(feed);
        doors.push(door);
    }
    // As wide as all lots together: each has a window of its own, and no lot that is stuck takes
    // another's place.
    let of_lots = Bounds {
        in_flight_max: LOT_EVENTS_MAX * LOTS_MAX,
        bytes_max: LOT_BYTES_MAX * LOTS_MAX,
        ..bounds
    };
    // Nobody is to look at its lamp: what is parked is told by numbers of its own.
    let (lamp, way) = (Board::new(1).lamp(0), &metrics.publisher.parked);
    let (lots, lots_feed, _) = link(lamp, way, of_lots, LOT_EVENTS_MAX * LOTS_MAX);
    let feeds = Feeds {
        journal,
        sidings,
        links: feeds,
        lots_link: vec![lots_feed],
        events_max,
        bytes_max,
        metrics,
    };
    Ok(Parts {
        links: Links { main, lots },
        feeds,
        board,
        direct: Direct::new(doors, config.confirm_timeout),
    })
}

async fn run<B: Broker>(
    links: Links<B>,
    mut feeds: Feeds,
    stop: CancellationToken,
) -> std::io::Result<()> {
    // A lot's feed says which one it was, if it ended well.
    type Task = Option<String>;
    // The feed stops the links too, and nobody else.
    let stop = stop.child_token();
    // Dropping this ends them with it.
    let mut tasks: JoinSet<Task> = JoinSet::new();
    let run_link = |link: Link<B>| {
        let ended = link.run(stop.clone());
        async move {
            ended.await;
            None
        }
    };
    for link in links.main {
        tasks.spawn(run_link(link));
    }
    let mut lots_link = Some(links.lots);
    let mut feed = pin!(feeds.main().run(stop.clone()));
    let mut lots = feeds.sidings.parked.watch();
    lots.mark_changed();
    let mut fed = HashSet::new();
    let mut tidying = interval(TIDY_EVERY);
    tidying.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let outcome = loop {
        tokio::select! {
            outcome = &mut feed => break outcome,
            Some(ended) = tasks.join_next() => {
                if let Some(lot) = pass_on_panic(ended) {
                    // There may be another of its name already.
                    fed.remove(&lot);
                    lots.mark_changed();
                }
            }
            Ok(()) = lots.changed(), if !stop.is_cancelled() => {
                for (name, lot) in feeds.sidings.parked.lots() {
                    if let Some(link) = lots_link.take() {
                        tasks.spawn(run_link(link));
                    }
                    if fed.insert(name.clone()) {
                        let feed = feeds.of_lot(&lot).run(stop.child_token());
                        tasks.spawn(async move { complain(name, feed.await) });
                    }
                }
            }
            _ = tidying.tick() => {
                let parked = feeds.sidings.parked.clone();
                tasks.spawn(async move {
                    parked.tidy().await;
                    None
                });
            }
        }
    };
    feeds.links.clear();
    feeds.lots_link.clear();
    drop(lots_link);
    while let Some(ended) = tasks.join_next().await {
        pass_on_panic(ended);
    }
    outcome
}

/// A lot that cannot be read stops nobody else, and is not tried again. Gives the name of one that
/// ended well.
fn complain(lot: String, fed: std::io::Result<()>) -> Option<String> {
    let Err(error) = fed else {
        return Some(lot);
    };
    tracing::error!(
        lot,
        %error,
        "parked events cannot be read, and wait until the gateway is started again: mend the \
         disk first"
    );
    None
}

/// A link that panicked leaves its events stuck: that is the end of the publisher.
fn pass_on_panic<T>(ended: Result<Option<T>, JoinError>) -> Option<T> {
    match ended {
        Ok(told) => told,
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(_cancelled) => None,
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("connections", &self.links.main.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
