//! `Config` -> [`App`] (everything built, ports bound, nothing served) -> [`App::run`] (serve, then
//! stop in order).
//!
//! Stopping goes the way of a webhook: the edge finishes what it has begun, the publisher settles
//! what is in flight, the journal writes what was handed in, and only then does admin go silent.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, interval, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, AdminError, AdminState};
use crate::clock::Now;
use crate::config::{self, Config, OnDamage};
use crate::delivery::Delivery;
use crate::edge::{BindError, Edge};
use crate::journal::{Journal, OpenError, Options, Position, Records};
use crate::metrics::{Metrics, observe};
use crate::pipeline::Pipeline;
use crate::pipeline::dedupe::{self, Dedupe, IDS_MAX};
use crate::pipeline::limit::InFlight;
use crate::pipeline::route::Routes;
use crate::pipeline::store::{Confirming, Store};
use crate::publisher::Publisher;
use crate::source::Source;
use crate::watch::Watch;

/// Size of the set-aside journal's files: few events ever come there.
const SET_ASIDE_SEGMENT_BYTES: u64 = 4 << 20;
/// How often histograms are emptied into the page's buckets.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// What admin, the publisher and the journal have at least for their end, however long the drain
/// of connections took.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// A gateway with all its parts built.
#[derive(Debug)]
pub struct App {
    edge: Edge,
    admin: Admin,
    admin_state: AdminState,
    pipeline: Arc<Pipeline>,
    publisher: Option<Publisher>,
    journal: Journal,
    set_aside: Journal,
    metrics: Arc<Metrics>,
    watch: Watch,
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

/// Why a gateway ended that nobody had asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} ended; this is a defect, the log says more")]
pub struct PartEnded(&'static str);

impl App {
    /// Opens the journal and binds the listeners. Must be called in a runtime.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub fn build(config: Config) -> Result<Self, StartError> {
        let Config {
            server,
            admin,
            journal,
            broker,
            sources,
        } = config;
        let metrics = Metrics::new(sources.iter().map(|source| &source.name));
        let watch = Watch::new();

        let journal_path = journal.path.clone();
        let set_aside = set_aside_options(&journal);
        let journal = Journal::open(options(&journal, &metrics))?;
        let set_aside = Journal::open(set_aside)?;
        let dedupe = Dedupe::new(IDS_MAX);
        recall(&dedupe, &sources, &journal_path, Now::read())?;
        let waiting = journal.status().waiting;
        #[expect(clippy::cast_precision_loss, reason = "nobody has 2^53 events waiting")]
        metrics.journal.waiting_at_start.set(waiting as f64);

        let (publisher, direct) = match broker {
            None => (None, None),
            Some(broker) => {
                let (publisher, direct) = Publisher::new(
                    &broker,
                    journal.clone(),
                    set_aside.clone(),
                    Arc::clone(&metrics),
                )
                .map_err(StartError::Broker)?;
                (
                    Some(publisher),
                    Some(Arc::new(direct) as Arc<dyn Confirming>),
                )
            }
        };
        let edge = Edge::bind(&server, Arc::clone(&metrics))?;
        let admin = Admin::bind(&admin)?;
        let pipeline = Arc::new(Pipeline {
            routes: Routes::new(&sources),
            in_flight: InFlight::new(
                server.limits.requests_in_flight_max,
                server.limits.bytes_in_flight_max,
            ),
            dedupe,
            store: Store::new(journal.clone(), direct, Arc::clone(&metrics)),
            accept_timeout: server.limits.accept_timeout,
            metrics: Arc::clone(&metrics),
        });
        let admin_state = AdminState {
            sources,
            journal: Arc::new({
                let journal = journal.clone();
                move || journal.status()
            }),
            broker: publisher.as_ref().map(Publisher::health),
            metrics: Arc::clone(&metrics),
            refresh: Arc::new(refresh(&metrics, &set_aside, &pipeline)),
            watch: watch.clone(),
            draining: CancellationToken::new(),
        };
        Ok(Self {
            edge,
            admin,
            admin_state,
            pipeline,
            publisher,
            journal,
            set_aside,
            metrics,
            watch,
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
        self.journal.clone()
    }

    /// Serves until `drain` is cancelled, then stops within `drain_timeout`.
    ///
    /// # Errors
    ///
    /// A part ended that should not have.
    pub async fn run(self, drain: CancellationToken) -> Result<(), PartEnded> {
        let stop_publisher = CancellationToken::new();
        let stop_admin = CancellationToken::new();
        let mut edge = tokio::spawn(self.edge.run(self.pipeline, self.watch, drain.clone()));
        let admin_state = AdminState {
            draining: drain.clone(),
            ..self.admin_state
        };
        let mut admin = tokio::spawn(self.admin.run(admin_state, stop_admin.clone()));
        let mut publisher = tokio::spawn(publish(self.publisher, stop_publisher.clone()));
        let mut upkeep = interval(UPKEEP_EVERY);
        let mut fullness = Fullness::default();
        let ended_early = loop {
            tokio::select! {
                // In this order: once the drain has begun, a part that ends is no surprise.
                biased;
                () = drain.cancelled() => break None,
                _ = &mut edge => break Some("the edge"),
                _ = &mut admin => break Some("the admin listener"),
                _ = &mut publisher => break Some("the publisher"),
                _ = upkeep.tick() => {
                    self.metrics.upkeep();
                    fullness.look(self.journal.status().full);
                }
            }
        };
        drain.cancel();

        let deadline = Instant::now() + self.drain_timeout;
        if !edge.is_finished() && timeout_at(deadline, &mut edge).await.is_err() {
            tracing::warn!("drain_timeout is over: connections still open are cut");
            edge.abort();
        }
        stop_publisher.cancel();
        let deadline = deadline.max(Instant::now() + LAST_WORDS);
        if !publisher.is_finished() && timeout_at(deadline, &mut publisher).await.is_err() {
            tracing::warn!("the publisher did not settle in time; its events stay in the journal");
            publisher.abort();
        }
        self.journal.close().await;
        self.set_aside.close().await;
        stop_admin.cancel();
        if !admin.is_finished() && timeout_at(deadline, &mut admin).await.is_err() {
            admin.abort();
        }
        ended_early.map_or(Ok(()), |part| Err(PartEnded(part)))
    }
}

/// Events of the journal are recognised after a restart, as far as each source's window reaches.
fn recall(
    dedupe: &Dedupe,
    sources: &[Arc<Source>],
    journal_path: &Path,
    now: Now,
) -> Result<(), OpenError> {
    let windows: HashMap<&str, (&Arc<str>, Duration)> = sources
        .iter()
        .filter_map(|source| Some((&*source.name, (&source.name, source.dedupe?))))
        .collect();
    let unreadable = |error| OpenError::Io {
        path: journal_path.to_owned(),
        error,
    };
    for record in Records::read(journal_path, Position(0)).map_err(unreadable)? {
        // What is no delivery is the publisher's to complain about.
        let Ok(delivery) = Delivery::decode(&record.map_err(unreadable)?.payload) else {
            continue;
        };
        let (Some(event_id), Some((source, window))) =
            (&delivery.event_id, windows.get(&*delivery.source))
        else {
            continue;
        };
        let age = now.wall.duration_since(delivery.received_at);
        let age = Duration::try_from(age).unwrap_or_default();
        if let Some(left) = window.checked_sub(age) {
            let issuer = dedupe::issuer(source, delivery.coverage);
            dedupe.recall(&issuer, event_id, delivery.id, now.mono + left);
        }
    }
    Ok(())
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
                "the journal is full: senders are told 503 until the broker takes events, or \
                 journal.max_size or the disk grows"
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
    set_aside: &Journal,
    pipeline: &Arc<Pipeline>,
) -> impl Fn() + Send + Sync + 'static {
    let (metrics, set_aside, pipeline) =
        (Arc::clone(metrics), set_aside.clone(), Arc::clone(pipeline));
    move || {
        #[expect(
            clippy::cast_precision_loss,
            reason = "nobody has 2^53 of anything here"
        )]
        {
            metrics
                .journal
                .set_aside_stored
                .set(events_in(&set_aside) as f64);
            metrics.edge.dedupe_ids.set(pipeline.dedupe.len() as f64);
        }
    }
}

/// How many there are, confirmed or not.
fn events_in(journal: &Journal) -> u64 {
    let status = journal.status();
    status.end.0.saturating_sub(status.first.0)
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

fn options(journal: &config::Journal, metrics: &Arc<Metrics>) -> Options {
    let metrics = Arc::clone(metrics);
    Options {
        path: journal.path.clone(),
        bytes_max: journal.bytes_max,
        segment_bytes: config::journal_segment_bytes(journal.bytes_max),
        retain: journal.retain,
        refuse_damage: journal.on_damage == OnDamage::Refuse,
        on_sync: Some(Arc::new(move |took, events| {
            observe(&metrics.journal.sync_duration, took);
            #[expect(
                clippy::cast_precision_loss,
                reason = "a group is at most 1,024 events"
            )]
            metrics.journal.group_events.record(events as f64);
        })),
    }
}

/// Events that the broker refuses for their own sake live in a journal of their own, below the
/// main one's directory. Nobody confirms them, so they are never deleted by themselves.
fn set_aside_options(journal: &config::Journal) -> Options {
    Options {
        path: journal.path.join("set-aside"),
        bytes_max: journal.bytes_max,
        segment_bytes: SET_ASIDE_SEGMENT_BYTES,
        retain: journal.retain,
        refuse_damage: journal.on_damage == OnDamage::Refuse,
        on_sync: None,
    }
}

#[cfg(test)]
mod tests;
