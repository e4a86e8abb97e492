//! The soak from its start to its books.
//!
//! Two gateways publish to one broker. The *mortal* one is killed and restarted; the *steady* one
//! meets every other fault and must live to the end, so that its memory and descriptors tell.
//! Senders and the consumer keep books that the gateways have no part in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::Pid;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::faults::{Brokers, Chronicle, Deck, Fault, Gateways, Happened, Side};
use super::ledger::{Counts, Ledger};
use super::probe::{self, Descriptors, Sample, Samples, waiting_in};
use super::queue::{self, QUEUE};
use super::strace::Injection;
use super::traffic;
use crate::support::balance;
use crate::support::broker::Broker;
use crate::support::eventually::eventually;
use crate::support::gateway::{Gateway, Setup, metrics_at};
use crate::support::proxy::Proxy;
use crate::support::sender::Sender;

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// How long there is load.
    pub(crate) length: Duration,
    /// Of the dice.
    pub(crate) seed: u64,
    /// The faults to choose from.
    pub(crate) faults: Vec<Fault>,
}

/// How far it is, for people who wait.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// Since the load began.
    pub(crate) elapsed: Duration,
    pub(crate) counts: Counts,
    pub(crate) sample: Sample,
    pub(crate) faults: usize,
    /// Those that last.
    pub(crate) now: Vec<Fault>,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) plan: Plan,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) chronicle: Vec<Happened>,
    /// The books of each gateway: whether they balance, and how not.
    pub(crate) balances: Vec<(&'static str, Result<(), String>)>,
    /// Descriptors of the steady gateway before the load and after it.
    pub(crate) descriptors: (Descriptors, Descriptors),
    /// From the end of the load until everything had been published.
    pub(crate) drained_in: Duration,
    /// What ended that should not have, and how.
    pub(crate) trouble: Vec<String>,
}

/// A freshly declared quorum queue that is killed within about a second never comes back
/// (RabbitMQ 3.10): the first fault waits for that time.
const SETTLE: Duration = Duration::from_millis(1500);
/// Until everything is published once all faults are over. An event that was refused often waits
/// 30 s for its next try.
const DRAIN_MAX: Duration = Duration::from_secs(120);
/// Until the last requests of all senders are answered.
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(90);
/// For the books of a quiet gateway.
const BALANCE_MAX: Duration = Duration::from_secs(10);
/// How long a gateway keeps a connection without a request; `idle_timeout` below says the same.
const IDLE: Duration = Duration::from_secs(5);
/// Between two looks while waiting for one of these.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What a gateway may keep open after the load that it had not open before, however many faults
/// there were: the segment that is read, what the broker's client makes once when it first loses a
/// connection, the probe's own connection.
pub(crate) const DESCRIPTORS_SPARE: usize = 8;

/// Runs it, and tells once a second how far it is.
pub(crate) async fn run(plan: Plan, mut tell: impl FnMut(&Progress)) -> Outcome {
    let mut dice = Rng::with_seed(plan.seed);
    let broker = Arc::new(Broker::start().await);
    let proxy = Proxy::start(broker.address()).await;
    let mut steady = setup(proxy.address()).start().await;
    let mortal = setup(proxy.address()).start().await;
    let exchanges = vec![steady.exchange().to_owned(), mortal.exchange().to_owned()];
    let admins = vec![steady.admin_address(), mortal.admin_address()];
    until_connected(&admins).await;
    if plan.faults.iter().any(|fault| fault.needs_strace()) {
        // Better now than in the middle.
        Injection::slow_disk(steady.pid()).await.stop().await;
    }
    let descriptors_before = Descriptors::of(steady.pid());

    let begin = Instant::now();
    let ledger = Arc::new(Ledger::default());
    let samples = Arc::new(Samples::default());
    let chronicle = Arc::new(Chronicle::begin_at(begin));
    // Ends with this function, in whatever way that ends.
    let mut background = JoinSet::new();
    background.spawn(queue::drain(Arc::clone(&broker), Arc::clone(&ledger)));
    background.spawn(probe::watch(
        begin,
        steady.pid(),
        admins.clone(),
        Arc::clone(&ledger),
        Arc::clone(&samples),
    ));

    let (stop_load, load_stopped) = watch::channel(false);
    let mut fronts = Vec::new();
    let mut senders = Vec::new();
    for gateway in [&steady, &mortal] {
        let front = Proxy::start(gateway.address()).await;
        let to = Sender::tls(front.address(), &gateway.directory().join("ca.pem"));
        senders.push(traffic::start(&to, &ledger, &load_stopped, &mut dice));
        fronts.push(front);
    }
    eventually("the first events to arrive", || async {
        match ledger.books().counts.delivered {
            0 => Err("none yet".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    sleep(SETTLE).await;

    let (stop_faults, faults_stopped) = watch::channel(false);
    let gateways = Gateways {
        mortal,
        steady: steady.pid(),
        fronts,
    };
    let brokers = Brokers {
        broker: Arc::clone(&broker),
        proxy,
        exchanges,
    };
    let gateways = tokio::spawn(gateways.suffer(
        Deck::new(Side::Gateway, &plan.faults, dice.fork()),
        Arc::clone(&chronicle),
        faults_stopped.clone(),
    ));
    let brokers = tokio::spawn(brokers.suffer(
        Deck::new(Side::Broker, &plan.faults, dice.fork()),
        Arc::clone(&chronicle),
        faults_stopped,
    ));

    let mut pace = interval(Duration::from_secs(1));
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while begin.elapsed() < plan.length && !gateways.is_finished() && !brokers.is_finished() {
        pace.tick().await;
        tell(&progress(begin, &ledger, &samples, &chronicle));
    }

    let mut trouble = Vec::new();
    stop_faults.send_replace(true);
    let mut gateways = join(gateways, "a gateway", &mut trouble).await;
    // Both stay until all is published.
    let brokers = join(brokers, "the broker", &mut trouble).await;
    stop_load.send_replace(true);
    for tasks in senders {
        if timeout(LAST_ANSWERS_MAX, tasks.join_all()).await.is_err() {
            trouble.push("a sender still waits for its answer".to_owned());
        }
    }
    let load_ended = Instant::now();
    drained(&admins, &ledger).await;
    let drained_in = load_ended.elapsed();
    tell(&progress(begin, &ledger, &samples, &chronicle));

    let mut balances = vec![("steady", balanced(&admins[0]).await)];
    if gateways.is_some() {
        balances.push(("mortal", balanced(&admins[1]).await));
    }
    let descriptors_after = until_idle(steady.pid(), descriptors_before.count()).await;
    // The probe would go on to see processes that end.
    background.shutdown().await;
    end(&mut steady, "steady", &mut trouble).await;
    if let Some(gateways) = &mut gateways {
        end(&mut gateways.mortal, "mortal", &mut trouble).await;
    }
    drop((gateways, brokers));
    let samples = samples.all().clone();
    let chronicle = chronicle.all().clone();
    Outcome {
        plan,
        ledger,
        samples,
        chronicle,
        balances,
        descriptors: (descriptors_before, descriptors_after),
        drained_in,
        trouble,
    }
}

fn setup(broker: SocketAddr) -> Setup {
    Setup::new()
        .broker_at(broker)
        .broker_lines("confirm_timeout = \"2s\"\nmax_in_flight = 256")
        .no_queues()
        .queue(QUEUE, "#", "quorum")
        .limits("body_timeout = \"3s\"\nidle_timeout = \"5s\"")
        // Ids are remembered for a minute, and a restart must find them in the journal.
        .journal("max_size = \"512MiB\"\nretain = \"2m\"")
        .sources(&traffic::sources())
}

async fn until_connected(admins: &[SocketAddr]) {
    for admin in admins {
        eventually("the gateways to be connected", || async {
            let metrics = metrics_at(*admin).await?;
            match metrics.sum("hookgate_broker_connected", &[]) {
                0.0 => Err("not yet".to_owned()),
                _ => Ok(()),
            }
        })
        .await;
    }
}

fn progress(begin: Instant, ledger: &Ledger, samples: &Samples, chronicle: &Chronicle) -> Progress {
    let happened = chronicle.all();
    let now = happened.iter().filter(|fault| fault.to.is_none());
    Progress {
        elapsed: begin.elapsed(),
        counts: ledger.books().counts,
        sample: samples.last(),
        faults: happened.len(),
        now: now.map(|happened| happened.fault).collect(),
    }
}

/// Waits for one side; what it panicked with is trouble.
async fn join<T>(side: JoinHandle<T>, whose: &str, trouble: &mut Vec<String>) -> Option<T> {
    let words = |error: JoinError| match error.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .unwrap_or_else(|| "it panicked".to_owned()),
        Err(error) => error.to_string(),
    };
    side.await
        .map_err(|error| trouble.push(format!("{whose}: {}", words(error))))
        .ok()
}

/// Waits until everything is published and has arrived, or for as long as that may take.
async fn drained(admins: &[SocketAddr], ledger: &Ledger) {
    let deadline = Instant::now() + DRAIN_MAX;
    while Instant::now() < deadline {
        let mut waiting = 0.0;
        for admin in admins {
            waiting += metrics_at(*admin)
                .await
                .map_or(1.0, |metrics| waiting_in(&metrics));
        }
        if waiting == 0.0 && ledger.books().missing().is_empty() {
            return;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Whether a gateway's books balance at last.
async fn balanced(admin: &SocketAddr) -> Result<(), String> {
    let deadline = Instant::now() + BALANCE_MAX;
    loop {
        let metrics = metrics_at(*admin).await;
        let found = metrics.and_then(|metrics| balance::check(&metrics));
        if found.is_ok() || Instant::now() >= deadline {
            return found;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The descriptors of a gateway that nobody sends to any more; waits until they are as many as
/// before, or for as long as idle connections live and a little more.
async fn until_idle(pid: Pid, before: usize) -> Descriptors {
    let deadline = Instant::now() + IDLE * 2;
    loop {
        let now = Descriptors::of(pid);
        if now.count() <= before || Instant::now() >= deadline {
            return now;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Ends a gateway in good order.
async fn end(gateway: &mut Gateway, name: &str, trouble: &mut Vec<String>) {
    if Descriptors::of(gateway.pid()).count() == 0 {
        trouble.push(format!("the {name} gateway had ended before the end"));
        return;
    }
    gateway.term();
    let status = gateway.ended().await;
    if status.code() != Some(0) {
        trouble.push(format!("the {name} gateway ended with {status}"));
    }
}
