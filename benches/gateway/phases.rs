//! Each phase from its start to its books: nothing that was accepted may be missing.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use lapin::types::AMQPValue;
use tokio::time::{Instant, sleep};

use crate::bare;
use crate::figures::Figures;
use crate::load::{Loaded, Requests, load};
use crate::nginx::Nginx;
use crate::order;
use crate::peer::{Language, Peer, Target};
use crate::plan::{CALM_PER_SECOND, Phase, Plan, SENDERS, WINDOW};
use crate::process::{cpu_seconds, peak_mib};
use crate::report::{Left, Report};
use crate::support::broker::Broker;
use crate::support::eventually::{PATIENCE, eventually};
use crate::support::gateway::{Gateway, Setup, source};
use crate::support::sender::Sender;
use crate::support::webhook::Webhook;

/// The queue that the gateway publishes to.
const QUEUE: &str = "hookgate-bench";
/// The peers' queue, of the same kind.
const PEERS_QUEUE: &str = "hookgate-bench-peers";
/// The file with what the bodies must look like.
const SCHEMA: &str = "order.json";
/// Room for whatever a fast machine stores in one phase.
const JOURNAL: &str = "max_size = \"16GiB\"";
/// Between two looks at what has been published.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What all phases share.
#[derive(Debug)]
pub(crate) struct Bench {
    plan: Plan,
    broker: Broker,
    requests: Arc<Requests>,
    /// A gateway with so many events that wait for a broker.
    stored: Option<(Gateway, usize)>,
}

impl Bench {
    /// Starts the broker and signs the requests.
    pub(crate) async fn prepare(plan: Plan) -> Self {
        let requests = Arc::new(Requests::signed());
        Self {
            plan,
            broker: Broker::start().await,
            requests,
            stored: None,
        }
    }

    /// Measures one phase once.
    pub(crate) async fn run(&mut self, phase: Phase, report: &mut Report) -> Result<()> {
        let figures = match phase {
            Phase::Nginx => self.nginx().await?,
            Phase::Journal => self.journal().await?,
            Phase::JournalCalm => self.journal_calm().await?,
            Phase::JournalPublishing => {
                let (figures, left) = self.journal_publishing().await?;
                report.add_left(left);
                figures
            }
            Phase::BareNarrow => self.bare(SENDERS).await?,
            Phase::BrokerAck => self.broker_ack().await?,
            Phase::Node => self.peer(Language::Node).await?,
            Phase::Python => self.peer(Language::Python).await?,
            Phase::BareWide => self.bare(WINDOW).await?,
            Phase::Backlog => self.backlog().await?,
        };
        report.add(phase, figures);
        Ok(())
    }

    /// nginx, with the certificate that the gateways have.
    async fn nginx(&self) -> Result<Figures> {
        let identity = Setup::new().prepare();
        let nginx = Nginx::start(identity.directory()).await?;
        let to = Sender::tls(nginx.address(), &identity.directory().join("ca.pem"));
        let loaded = load(&to, nginx.pid(), &self.requests, &self.plan, None).await?;
        Ok(loaded.figures)
    }

    /// The gateway without a broker: it keeps what it takes.
    async fn journal(&mut self) -> Result<Figures> {
        let gateway = setup("journal").start().await;
        refuses(&gateway.sender()).await?;
        let Loaded { figures, answered } = self.load(&gateway, None).await?;
        self.stored = Some((gateway, answered));
        Ok(figures)
    }

    /// The same gateway, with a broker from now on.
    async fn backlog(&mut self) -> Result<Figures> {
        let Some((mut gateway, stored)) = self.stored.take() else {
            bail!(
                "nothing was stored before: measure `{}` too",
                Phase::Journal.name()
            );
        };
        let exchange = gateway.exchange().to_owned();
        let url = self.broker.url();
        gateway.edit(|text| {
            format!(
                "{text}\n[broker]\nexchange = \"{exchange}\"\nurls = [{{ value = \"{url}\" }}]\n\
                 max_in_flight = {WINDOW}\n[[broker.queues]]\nname = \"{QUEUE}\"\n\
                 bind = [\"#\"]\ntype = \"quorum\"\n"
            )
        });
        gateway.restart().await;
        let pid = pid(&gateway);
        let (start, before) = (Instant::now(), published(&gateway).await);
        let cpu_before = cpu_seconds(pid)?;
        published_all(&gateway, stored).await?;
        let figures = Figures {
            events: stored - before,
            seconds: start.elapsed().as_secs_f64(),
            cpu_seconds: Some(cpu_seconds(pid)? - cpu_before),
            peak_mib: Some(peak_mib(pid)?),
            ..Figures::default()
        };
        self.arrived(QUEUE, stored).await?;
        Ok(figures)
    }

    /// The gateway without a broker, under a load far from its limit.
    async fn journal_calm(&self) -> Result<Figures> {
        let gateway = setup("journal").start().await;
        Ok(self.load(&gateway, Some(CALM_PER_SECOND)).await?.figures)
    }

    /// The gateway, which stores and publishes at the same time.
    async fn journal_publishing(&self) -> Result<(Figures, Left)> {
        let gateway = self.with_broker(setup("journal")).start().await;
        let loaded = self.load(&gateway, None).await?;
        let start = Instant::now();
        let left = loaded.answered.saturating_sub(published(&gateway).await);
        published_all(&gateway, loaded.answered).await?;
        let left = Left {
            events: left,
            seconds: start.elapsed().as_secs_f64(),
        };
        self.arrived(QUEUE, loaded.answered).await?;
        Ok((loaded.figures, left))
    }

    /// The gateway, which answers when the broker has confirmed.
    async fn broker_ack(&self) -> Result<Figures> {
        let gateway = self.with_broker(setup("broker")).start().await;
        let loaded = self.load(&gateway, None).await?;
        self.arrived(QUEUE, loaded.answered).await?;
        Ok(loaded.figures)
    }

    /// A peer, which answers when the broker has confirmed.
    async fn peer(&self, language: Language) -> Result<Figures> {
        let kind = AMQPValue::LongString("quorum".into());
        let arguments = [("x-queue-type", kind)];
        self.broker
            .declare(PEERS_QUEUE, &arguments, bare::EXCHANGE, PEERS_QUEUE)
            .await;
        let target = Target {
            broker: &self.broker,
            exchange: bare::EXCHANGE,
            queue: PEERS_QUEUE,
        };
        let files = Setup::new()
            .file(SCHEMA, order::SCHEMA.as_bytes())
            .prepare();
        let directory = files.directory();
        let peer = Peer::start(language, directory, &directory.join(SCHEMA), target).await?;
        let to = Sender::tls(peer.address(), &directory.join("ca.pem"));
        refuses(&to).await?;
        let loaded = load(&to, peer.pid(), &self.requests, &self.plan, None).await?;
        self.arrived(PEERS_QUEUE, loaded.answered).await?;
        Ok(loaded.figures)
    }

    async fn bare(&self, window: usize) -> Result<Figures> {
        bare::publish(&self.broker, &self.plan, &self.requests.bodies(), window).await
    }

    fn with_broker(&self, setup: Setup) -> Setup {
        setup
            .broker(&self.broker)
            .broker_lines(&format!("max_in_flight = {WINDOW}"))
            .no_queues()
            .queue(QUEUE, "#", "quorum")
    }

    /// Loads a gateway that was just started, and makes sure that it counts what we count.
    async fn load(&self, gateway: &Gateway, per_second: Option<u32>) -> Result<Loaded> {
        let pid = pid(gateway);
        let mut loaded = load(
            &gateway.sender(),
            pid,
            &self.requests,
            &self.plan,
            per_second,
        )
        .await?;
        loaded.figures.peak_mib = Some(peak_mib(pid)?);
        let metrics = gateway.metrics().await;
        let accepted = metrics.sum("hookgate_accepted_total", &[]);
        let ours = loaded.answered;
        ensure!(
            whole(accepted) == ours,
            "{ours} events were answered 202, it counted {accepted}"
        );
        Ok(loaded)
    }

    /// Makes sure that so many events are in a queue, and empties it.
    async fn arrived(&self, queue: &str, events: usize) -> Result<()> {
        let there = eventually("all accepted events to be in the queue", || async {
            let depth = self.broker.depth(queue).await?;
            let there = usize::try_from(depth).map_err(|error| error.to_string())?;
            if there < events {
                Err(format!("{there} of {events} are there"))
            } else {
                Ok(there)
            }
        })
        .await;
        ensure!(
            there == events,
            "{events} events became {there} messages, and nothing had failed"
        );
        self.broker.purge(queue).await;
        Ok(())
    }
}

fn setup(ack: &str) -> Setup {
    let lines = format!("schema = \"{SCHEMA}\"\nack = \"{ack}\"\n");
    Setup::new()
        .journal(JOURNAL)
        .file(SCHEMA, order::SCHEMA.as_bytes())
        .sources(&source("github", "github", &lines))
}

/// Makes sure that a program checks what it is measured checking: proof and schema.
async fn refuses(to: &Sender) -> Result<()> {
    let good = order::order(0, order::KIB);
    let forged = Webhook::github("/github", order::EVENT_TYPE, "forged", &good)
        .with("X-Hub-Signature-256", &format!("sha256={}", "0".repeat(64)));
    let shapeless = Webhook::github("/github", order::EVENT_TYPE, "shapeless", b"{}");
    for (webhook, expected) in [(forged, 401), (shapeless, 422)] {
        let status = to.send(&webhook).await.status;
        ensure!(
            status == expected,
            "answered {status} where {expected} was due"
        );
    }
    Ok(())
}

/// Waits until the broker has confirmed so many events. Gives up when nothing moves.
async fn published_all(gateway: &Gateway, events: usize) -> Result<()> {
    let (mut last, mut moved) = (0, Instant::now());
    loop {
        let now = published(gateway).await;
        if now >= events {
            return Ok(());
        }
        if now > last {
            (last, moved) = (now, Instant::now());
        }
        if moved.elapsed() > PATIENCE {
            bail!("{now} of {events} events were published, and no more for {PATIENCE:?}");
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn published(gateway: &Gateway) -> usize {
    whole(gateway.metrics().await.sum("hookgate_published_total", &[]))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a counter is a whole number and never below zero"
)]
fn whole(counter: f64) -> usize {
    counter as usize
}

fn pid(gateway: &Gateway) -> u32 {
    gateway.pid().as_raw_nonzero().get().unsigned_abs()
}
