//! `Config` -> [`App`] (everything built, ports bound, nothing served) -> [`App::run`] (serve, then
//! stop in order).
//!
//! Stopping goes the way of a webhook: the edge finishes what it has begun, the publisher settles
//! what is in flight, the journal writes what was handed in, and only then does admin go silent.
//!
//! A journal that fails is a reason to stop, in the same order and with an error: nobody is told
//! 2xx any more, what is in flight is settled, and whoever supervises the process starts another,
//! which begins with what is really on the disk. Events that wait in the journal are left to that
//! one, because this one could not store that they were published.

mod allow_ips;
mod recall;
mod stores;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, interval, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::admin::{Admin, AdminError, AdminState};
use crate::clock::Now;
use crate::config::Config;
use crate::edge::{BindError, Edge};
use crate::enrolled::{self, Folder};
use crate::fetch::Fetcher;
use crate::journal::{Journal, OpenError};
use crate::last_used::LastUsed;
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::pipeline::dedupe::{Dedupe, IDS_MAX};
use crate::pipeline::limit::InFlight;
use crate::pipeline::route::Routes;
use crate::pipeline::store::{Confirming, Store};
use crate::publisher::{Parked, Publisher, Replay};
use crate::shutdown::Orders;
use crate::watch::Watch;

use allow_ips::Reloader;
use recall::Recall;

pub use stores::Stores;

/// How often histograms are emptied into the page's buckets.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// What admin and the publisher have at least for their end, however long the drain of
/// connections took.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// What the journal's disk has after that.
const LAST_SYNC: Duration = Duration::from_secs(1);

/// A gateway with all its parts built.
#[derive(Debug)]
pub struct App {
    edge: Edge,
    admin: Admin,
    admin_state: AdminState,
    pipeline: Arc<Pipeline>,
    publisher: Option<Publisher>,
    stores: Stores,
    metrics: Arc<Metrics>,
    watch: Watch,
    reloader: Reloader,
    last_used: LastUsed,
    drain_timeout: Duration,
}

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal.
    #[error("opening the journal: {0}")]
    Journal(#[from] OpenError),
    /// An address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Admin's address.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The broker's settings.
    #[error("[broker]: {0}")]
    Broker(String),
}

/// Why a gateway ended otherwise than it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// A part that should not have.
    #[error("{0} ended; this is a defect, the log says more")]
    Part(&'static str),
    /// The first failed write or sync is the last.
    #[error(
        "the journal failed, so nothing more could be acknowledged: {0}; all that was acknowledged \
         before is kept. see to the disk, then start again"
    )]
    Journal(Arc<str>),
    /// The journal could not be closed in time. Whoever waits for its threads waits for the disk.
    #[error("the journal's disk does not answer; ending without it. what was acknowledged is kept")]
    DiskHangs,
}

impl App {
    /// Opens the journal and binds the listeners. Must be called in a runtime. A large journal
    /// takes its time; `orders.drain` ends that, see [`OpenError::Stopped`].
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub fn build(config: Config, orders: &Orders) -> Result<Self, StartError> {
        let Config {
            server,
            admin,
            journal,
            broker,
            fetch,
            sources,
        } = config;
        let metrics = Metrics::new(sources.iter().map(|source| &source.name));
        for source in &sources {
            for label in &source.secret_labels {
                metrics.secret_known(&source.name, label);
            }
        }
        let watch = Watch::new();

        for why in enrolled::recall(&Folder::of(&journal.path), &sources, Now::read()) {
            tracing::error!("{why}");
        }
        let dedupe = Dedupe::new(IDS_MAX);
        let dedupe_window = sources.iter().filter_map(|source| source.dedupe).max();
        let recall = Recall::new(&dedupe, &sources, Now::read());
        let stores = Stores::open(&journal, &metrics, &orders.drain, &mut |at, record| {
            recall.see(at, record);
        })?;
        let replay = stores.replay(&journal, Arc::clone(&metrics), &orders.drain)?;
        let journal_path = journal.path;
        let Stores { journal, sidings } = stores.clone();
        let waiting = journal.status().waiting + sidings.parked.waiting();
        #[expect(clippy::cast_precision_loss, reason = "nobody has 2^53 events waiting")]
        metrics.journal.waiting_at_start.set(waiting as f64);

        let (publisher, direct) = match broker {
            None => (None, None),
            Some(broker) => {
                let (publisher, direct) = Publisher::new(
                    &broker,
                    journal.clone(),
                    sidings.clone(),
                    Arc::clone(&metrics),
                )
                .map_err(StartError::Broker)?;
                (
                    Some(publisher),
                    Some(Arc::new(direct) as Arc<dyn Confirming>),
                )
            }
        };
        // The journal's directory is there, and nobody else's, by now.
        let last_used = LastUsed::recall(&journal_path, &sources, &metrics);
        let reloader = Reloader::new(&sources, orders.reload.subscribe());
        let edge = Edge::bind(&server, Arc::clone(&metrics), orders.reload.subscribe())?;
        let admin = Admin::bind(&admin)?;
        let pipeline = Arc::new(Pipeline {
            routes: Routes::new(&sources),
            in_flight: InFlight::new(
                server.limits.requests_in_flight_max,
                server.limits.bytes_in_flight_max,
            ),
            dedupe,
            fetching: Arc::new(Fetcher::new(&fetch, Arc::clone(&metrics))),
            store: Store::new(journal.clone(), direct, Arc::clone(&metrics)).refusing(Arc::new({
                let parked = sidings.parked.clone();
                move |source| parked.is_full(source)
            })),
            accept_timeout: server.limits.accept_timeout,
            metrics: Arc::clone(&metrics),
        });
        let admin_state = AdminState {
            since: Now::read().wall,
            sources,
            journal: Arc::new({
                let parked = sidings.parked.clone();
                move || {
                    let mut status = journal.status();
                    status.waiting += parked.waiting();
                    status
                }
            }),
            parked: Arc::new({
                let parked = sidings.parked.clone();
                move || parked.waiting()
            }),
            broker: publisher.as_ref().map(Publisher::health),
            metrics: Arc::clone(&metrics),
            refresh: Arc::new(refresh(
                &metrics,
                &sidings.parked,
                &replay,
                &pipeline,
                dedupe_window,
            )),
            watch: watch.clone(),
            replay,
            draining: CancellationToken::new(),
        };
        Ok(Self {
            edge,
            admin,
            admin_state,
            pipeline,
            publisher,
            stores,
            metrics,
            watch,
            reloader,
            last_used,
            drain_timeout: server.limits.drain_timeout,
        })
    }

    /// Where webhooks are taken.
    pub fn edge_addrs(&self) -> Vec<SocketAddr> {
        self.edge.local_addrs()
    }

    /// Where admin listens.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn admin_addr(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// What is seen as it happens.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// The journal, for whoever wants to read along.
    pub fn journal(&self) -> Journal {
        self.stores.journal.clone()
    }

    /// Serves until `drain` is cancelled, then stops within `drain_timeout` and a little.
    ///
    /// # Errors
    ///
    /// See [`Ended`].
    pub async fn run(self, drain: CancellationToken) -> Result<(), Ended> {
        for source in self.admin_state.sources.iter() {
            source.verifier.warm(&source.name, &*self.pipeline.fetching);
        }
        let stop_publisher = CancellationToken::new();
        let stop_admin = CancellationToken::new();
        let mut edge = tokio::spawn(self.edge.run(self.pipeline, self.watch, drain.clone()));
        let admin_state = AdminState {
            draining: drain.clone(),
            ..self.admin_state
        };
        let mut admin = tokio::spawn(self.admin.run(admin_state, stop_admin.clone()));
        let mut publisher = tokio::spawn(publish(self.publisher, stop_publisher.clone()));
        let reloader = tokio::spawn(self.reloader.run(drain.clone()));
        let stop_keeping = CancellationToken::new();
        let mut last_used = tokio::spawn(self.last_used.run(stop_keeping.clone()));
        let mut upkeep = interval(UPKEEP_EVERY);
        let mut fullness = Fullness::default();
        let ended_early = loop {
            tokio::select! {
                // In this order: once the drain has begun, a part that ends is no surprise.
                biased;
                () = drain.cancelled() => break None,
                ended = self.stores.ended() => break Some(ended),
                _ = &mut edge => break Some(Ended::Part("the edge")),
                _ = &mut admin => break Some(Ended::Part("the admin listener")),
                _ = &mut publisher => break Some(Ended::Part("the publisher")),
                _ = upkeep.tick() => {
                    self.metrics.upkeep();
                    fullness.look(self.stores.journal.status().full);
                    if let Some(reason) = self.stores.sidings.parked.failed() {
                        break Some(Ended::Journal(reason));
                    }
                }
            }
        };
        if let Some(Ended::Journal(_)) = &ended_early {
            tracing::error!("draining, because the journal failed");
        }
        drain.cancel();

        let deadline = Instant::now() + self.drain_timeout;
        if !edge.is_finished() && timeout_at(deadline, &mut edge).await.is_err() {
            tracing::warn!("drain_timeout is over: connections still open are cut");
            edge.abort();
        }
        reloader.abort();
        stop_keeping.cancel();
        stop_publisher.cancel();
        let deadline = deadline.max(Instant::now() + LAST_WORDS);
        if !publisher.is_finished() && timeout_at(deadline, &mut publisher).await.is_err() {
            tracing::warn!("the publisher did not settle in time; its events stay in the journal");
            publisher.abort();
        }
        if timeout_at(deadline, &mut last_used).await.is_err() {
            last_used.abort();
        }
        let stored = self.stores.close_by(deadline + LAST_SYNC).await;
        stop_admin.cancel();
        if !admin.is_finished() && timeout_at(deadline, &mut admin).await.is_err() {
            admin.abort();
        }
        // What became of the disk explains a part that ended for it.
        stored.and(ended_early.map_or(Ok(()), Err))
    }
}

/// Says once that the journal is full, and once that it is not any more.
#[derive(Debug, Default)]
struct Fullness {
    is_full: bool,
}

impl Fullness {
    fn look(&mut self, is_full: bool) {
        if is_full && !self.is_full {
            tracing::error!(
                "the journal is full, by journal.max_size or because its disk has too little \
                 free: senders are told 503 until the broker takes events, or there is more room"
            );
        } else if self.is_full && !is_full {
            tracing::info!("the journal has room again");
        }
        self.is_full = is_full;
    }
}

/// Gauges that nobody keeps are set before the page is read.
fn refresh(
    metrics: &Arc<Metrics>,
    parked: &Parked,
    replay: &Replay,
    pipeline: &Arc<Pipeline>,
    dedupe_window: Option<Duration>,
) -> impl Fn() + Send + Sync + 'static {
    let (metrics, pipeline) = (Arc::clone(metrics), Arc::clone(pipeline));
    let (parked, replay) = (parked.clone(), replay.clone());
    move || {
        #[expect(
            clippy::cast_precision_loss,
            reason = "nobody has 2^53 of anything here"
        )]
        {
            metrics
                .journal
                .set_aside_stored
                .set(replay.set_aside() as f64);
            metrics.journal.parked.set(parked.waiting() as f64);
            metrics.edge.dedupe_ids.set(pipeline.dedupe.len() as f64);
        }
        let horizon = pipeline
            .dedupe
            .horizon()
            .map(|oldest| age(oldest, Now::read()));
        let window = dedupe_window.unwrap_or_default();
        let window = horizon.map_or(window, |horizon| horizon.min(window));
        metrics.edge.dedupe_window.set(window.as_secs_f64());
    }
}

/// How long ago an event was taken; its id tells (RFC 9562, version 7).
fn age(id: Uuid, now: Now) -> Duration {
    let Some(taken_at) = id.get_timestamp() else {
        return Duration::ZERO;
    };
    let (seconds, nanos) = taken_at.to_unix();
    let since_1970 = Duration::try_from(now.wall.duration_since(Timestamp::UNIX_EPOCH));
    let taken_at = Duration::new(seconds, nanos);
    since_1970.unwrap_or_default().saturating_sub(taken_at)
}

async fn publish(publisher: Option<Publisher>, stop: CancellationToken) {
    match publisher {
        None => stop.cancelled().await,
        Some(publisher) => {
            if let Err(error) = publisher.run(stop).await {
                tracing::error!(%error, "the journal cannot be read");
            }
        }
    }
}

#[cfg(test)]
mod tests;
