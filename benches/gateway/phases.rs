//! Each phase from its start to its books: nothing that was accepted may be missing.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::time::{Instant, sleep};

use crate::bare::{self, Message};
use crate::figures::Figures;
use crate::line::Line;
use crate::load::{Load, Loaded, next_load};
use crate::peer::Language;
use crate::plan::{CALM_PER_SECOND, MANY_SOURCES, Phase, Plan, SENDERS, WINDOW};
use crate::process::{Memory, broker_seconds, cpu_seconds, memory_kib};
use crate::report::{Left, Report};
use crate::requests::Requests;
use crate::support::broker::Broker;
use crate::support::eventually::{PATIENCE, eventually};
use crate::support::gateway::{Gateway, Setup};
use crate::support::sender::{Sender, Version};

/// The queue that the gateway publishes to.
const QUEUE: &str = "hookgate-bench";
/// Room for whatever a fast machine stores in one phase.
pub(crate) const JOURNAL: &str = "max_size = \"16GiB\"";
/// Between two looks at what has been published.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What all phases share.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) plan: Plan,
    pub(crate) broker: Broker,
    pub(crate) orders: Arc<Requests>,
    pub(crate) examples: Arc<Requests>,
    /// A gateway with so many events that wait for a broker.
    stored: Option<(Gateway, usize)>,
    /// What it took per second when it got them.
    rate: Option<f64>,
}

impl Bench {
    /// Starts the broker and signs the requests.
    pub(crate) async fn prepare(plan: Plan) -> Result<Self> {
        Ok(Self {
            plan,
            broker: Broker::start().await,
            orders: Arc::new(Requests::orders(1)?),
            examples: Arc::new(Requests::examples()?),
            stored: None,
            rate: None,
        })
    }

    /// Measures one phase once.
    pub(crate) async fn run(&mut self, phase: Phase, report: &mut Report) -> Result<()> {
        let (http1, http2) = (Version::Http1, Version::Http2);
        let (orders, examples) = (Arc::clone(&self.orders), Arc::clone(&self.examples));
        let [many, most] = MANY_SOURCES;
        let figures = match phase {
            Phase::Nginx => self.nginx(&orders, http1).await?,
            Phase::NginxExamples => self.nginx(&examples, http1).await?,
            Phase::NginxHttp2 => self.nginx(&orders, http2).await?,
            Phase::NginxConnections => self.nginx_connections(false).await?,
            Phase::NginxResumed => self.nginx_connections(true).await?,
            Phase::Journal => self.journal().await?,
            Phase::JournalMemory => self.journal_in_memory().await?,
            Phase::JournalExamples => self.edge(&examples, http1, None).await?,
            Phase::JournalHttp2 => self.edge(&orders, http2, None).await?,
            Phase::JournalCalm => self.edge(&orders, http1, Some(CALM_PER_SECOND)).await?,
            Phase::JournalHalf => {
                let rate = self.rate.with_context(|| needs(Phase::Journal))?;
                self.edge(&orders, http1, Some(rate / 2.0)).await?
            }
            Phase::JournalConnections => self.edge_connections(false).await?,
            Phase::JournalResumed => self.edge_connections(true).await?,
            Phase::ManySources => self.sources(many).await?,
            Phase::MostSources => self.sources(most).await?,
            Phase::MillionStored => self.million().await?,
            Phase::JournalPublishing => {
                let (figures, left) = self.journal_publishing().await?;
                report.add_left(left);
                figures
            }
            Phase::BrokerAck => self.broker_ack().await?,
            Phase::Node => self.peer(Language::Node).await?,
            Phase::Python => self.peer(Language::Python).await?,
            Phase::BareNarrow => self.bare(SENDERS, Message::plain()).await?,
            Phase::SameNarrow => self.same(SENDERS).await?,
            Phase::BareWide => self.bare(WINDOW, Message::plain()).await?,
            Phase::SameWide => self.same(WINDOW).await?,
            Phase::Backlog => self.backlog(Phase::Journal).await?,
            Phase::MillionBacklog => self.backlog(Phase::MillionStored).await?,
        };
        report.add(phase, figures);
        Ok(())
    }

    /// The gateway without a broker: it keeps what it takes.
    async fn journal(&mut self) -> Result<Figures> {
        let gateway = self.orders.setup("journal").journal(JOURNAL).start().await;
        refuses(&gateway.sender(), &self.orders).await?;
        let Loaded { figures, answered } = self.load(&gateway, &self.orders).await?;
        self.rate = Some(figures.rate());
        self.stored = Some((gateway, answered));
        Ok(figures)
    }

    /// The gateway, when it has a million events already.
    async fn million(&mut self) -> Result<Figures> {
        let gateway = self.orders.setup("journal").journal(JOURNAL).start().await;
        let before = self.fill(&gateway).await?;
        let loaded = self.load_more(&gateway, &self.orders, before).await?;
        self.stored = Some((gateway, before + loaded.answered));
        Ok(loaded.figures)
    }

    /// A gateway that has stored something, with a broker from now on.
    async fn backlog(&mut self, of: Phase) -> Result<Figures> {
        let Some((mut gateway, stored)) = self.stored.take() else {
            bail!(needs(of));
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
        // To connect and to declare takes its time once, however long the backlog.
        published_all(&gateway, 1).await?;
        let (start, before) = (Instant::now(), published(&gateway).await);
        let (cpu_before, broker_before) = (cpu_seconds(pid)?, broker_seconds()?);
        published_all(&gateway, stored).await?;
        let figures = Figures {
            events: stored - before,
            seconds: start.elapsed().as_secs_f64(),
            cpu_seconds: Some(cpu_seconds(pid)? - cpu_before),
            broker_seconds: Some(broker_seconds()? - broker_before),
            peak_mib: Some(memory_kib(pid, Memory::Peak)? / 1024.0),
            ..Figures::default()
        };
        self.arrived(QUEUE, stored).await?;
        Ok(figures)
    }

    /// The gateway, which stores and publishes at the same time.
    async fn journal_publishing(&self) -> Result<(Figures, Left)> {
        let gateway = self.with_broker("journal").start().await;
        let loaded = self.load(&gateway, &self.orders).await?;
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
        let gateway = self.with_broker("broker").start().await;
        let loaded = self.load(&gateway, &self.orders).await?;
        self.arrived(QUEUE, loaded.answered).await?;
        Ok(loaded.figures)
    }

    async fn bare(&self, window: usize, message: Message) -> Result<Figures> {
        bare::publish(&self.broker, &self.plan, &self.orders, window, message).await
    }

    /// The same with messages like the gateway's, which go where its own do.
    async fn same(&self, window: usize) -> Result<Figures> {
        let figures = self.bare(window, self.message().await?).await;
        self.broker.purge(QUEUE).await;
        figures
    }

    /// What the gateway publishes when it has accepted an event, without the body.
    async fn message(&self) -> Result<Message> {
        let gateway = self.with_broker("broker").start().await;
        let mut lines = Line::open(&gateway.sender(), Version::Http1, 1).await?;
        let request = self.orders.round(0, 1).next().context("no requests")?;
        let line = lines.first_mut().context("no line")?;
        let id = format!("{:08x}-0000-4000-8000-000000000000", next_load());
        line.exchange(request, &id).await?;
        Message::of_first(&self.broker, QUEUE).await
    }

    fn with_broker(&self, ack: &str) -> Setup {
        self.orders
            .setup(ack)
            .journal(JOURNAL)
            .broker(&self.broker)
            .broker_lines(&format!("max_in_flight = {WINDOW}"))
            .no_queues()
            .queue(QUEUE, "#", "quorum")
    }

    /// Loads a gateway that was just started, as fast as it answers.
    async fn load(&self, gateway: &Gateway, requests: &Arc<Requests>) -> Result<Loaded> {
        self.load_more(gateway, requests, 0).await
    }

    /// The same with one that has accepted so many events before.
    pub(crate) async fn load_more(
        &self,
        gateway: &Gateway,
        requests: &Arc<Requests>,
        before: usize,
    ) -> Result<Loaded> {
        let load = Load {
            to: &gateway.sender(),
            pid: pid(gateway),
            requests,
            version: Version::Http1,
            per_second: None,
        };
        let loaded = load.run(&self.plan).await?;
        counted(gateway, loaded, before).await
    }

    /// Makes sure that so many events are in a queue, and empties it.
    pub(crate) async fn arrived(&self, queue: &str, events: usize) -> Result<()> {
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

/// Makes sure that a gateway has counted what we have, and says how much memory it took.
pub(crate) async fn counted(
    gateway: &Gateway,
    mut loaded: Loaded,
    before: usize,
) -> Result<Loaded> {
    let pid = pid(gateway);
    loaded.figures.peak_mib = Some(memory_kib(pid, Memory::Peak)? / 1024.0);
    let metrics = gateway.metrics().await;
    let accepted = whole(metrics.sum("hookgate_accepted_total", &[]));
    let ours = before + loaded.answered;
    ensure!(
        accepted == ours,
        "{ours} events were answered 202, it counted {accepted}"
    );
    Ok(loaded)
}

/// Makes sure that a program checks what it is measured checking: proof and schema.
pub(crate) async fn refuses(to: &Sender, requests: &Requests) -> Result<()> {
    for (webhook, expected) in requests.wrong()? {
        let status = to.send(&webhook).await.status;
        ensure!(
            status == expected,
            "answered {status} where {expected} was due"
        );
    }
    Ok(())
}

fn needs(phase: Phase) -> String {
    format!("nothing was stored before: measure `{}` too", phase.name())
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

/// The gateway's process.
pub(crate) fn pid(gateway: &Gateway) -> u32 {
    gateway.pid().as_raw_nonzero().get().unsigned_abs()
}
