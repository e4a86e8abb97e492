//! Three nodes: a leader is killed, a quorum is lost, the network is cut.
//!
//! A quorum queue without its quorum says nothing at all: neither a confirm nor a refusal. Only
//! the confirms' deadline tells.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::support::balance::balance;
use crate::support::cluster::{Cluster, MAJORITY, Partition};
use crate::support::eventually::PATIENCE;
use crate::support::figures::{self, Row};
use crate::support::gateway::{Gateway, Setup};
use crate::support::load::{self, Ledger, Load};
use crate::support::namespace;

/// Longest time without a confirm when a leader is killed.
const STALL_MAX: Duration = Duration::from_secs(10);
/// From the moment that the cluster is whole again to the last confirm.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// Between two events of one sender: 200 a second in all, which leaves the processors to nodes
/// that start.
const PACE: Duration = Duration::from_millis(15);

#[test]
fn of_three_nodes() {
    namespace::run("faults::cluster::of_three_nodes", || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let cluster = Cluster::start().await;
            the_leader_is_killed_again_and_again(&cluster).await;
            the_quorum_is_lost(&cluster).await;
            the_network_is_cut(&cluster).await;
        });
    });
}

/// A gateway that knows all nodes, and its one quorum queue.
async fn gateway(cluster: &Cluster, queue: &str) -> Gateway {
    let gateway = Setup::new()
        .brokers_at(&cluster.addresses())
        .broker_lines("confirm_timeout = \"3s\"")
        .no_queues()
        .queue(queue, "#", "quorum")
        .sources(&load::sources())
        .start()
        .await;
    let load = Load::start(&gateway.sender(), 0);
    load.more(1).await;
    load.stop().await.assert_none_refused();
    cluster.node(0).settle(queue).await;
    cluster.until_whole(queue).await;
    gateway
}

async fn published(gateway: &Gateway) -> f64 {
    let metrics = gateway.metrics().await;
    metrics.sum("hookgate_published_total", &[])
}

/// The longest time without a confirm until so many more events are confirmed.
async fn longest_stall(gateway: &Gateway, more: f64) -> Duration {
    let mut seen = published(gateway).await;
    let goal = seen + more;
    let mut since = Instant::now();
    let mut longest = Duration::ZERO;
    while seen < goal {
        sleep(Duration::from_millis(10)).await;
        let now = published(gateway).await;
        longest = longest.max(since.elapsed());
        assert!(longest < PATIENCE, "no confirm for {longest:?}");
        if now > seen {
            seen = now;
            since = Instant::now();
        }
    }
    longest
}

async fn the_leader_is_killed_again_and_again(cluster: &Cluster) {
    let kills = figures::count(5, 100);
    let queue = "leader";
    let gateway = gateway(cluster, queue).await;
    let mut longest = Duration::ZERO;
    let load = Load::start_paced(&gateway.sender(), 1_000, PACE);
    for _ in 0..kills {
        load.more(50).await;
        let leader = cluster.node(cluster.leader_of(queue).await);
        let (stall, ()) = tokio::join!(longest_stall(&gateway, 200.0), leader.kill9());
        longest = longest.max(stall);
        leader.start_again().await;
        cluster.until_whole(queue).await;
    }
    let ledger = load.stop().await;
    ledger.assert_none_refused();
    assert_eq!(ledger.unanswered, 0);
    gateway.until_all_published().await;
    let consumer = cluster.node(0).consume(queue).await;
    let messages = ledger.arrived_in(&consumer).await;
    ledger.assert_delivered(&messages);
    balance(&gateway).await;
    assert!(longest <= STALL_MAX, "{longest:?} without a confirm");
    Row::new("P2")
        .saw("kills", kills)
        .saw("events", ledger.len())
        .saw("lost", 0)
        .saw("longest stall", format_args!("{longest:.2?}"))
        .write();
}

/// While something is broken, senders are served and events wait; afterwards all of them are
/// published within a minute.
struct Trouble<'a> {
    gateway: &'a Gateway,
    load: Load,
}

impl<'a> Trouble<'a> {
    fn begin(gateway: &'a Gateway, from: u64) -> Self {
        let load = Load::start_paced(&gateway.sender(), from, PACE);
        Self { gateway, load }
    }

    /// Waits until events have waited in vain, and for a while more.
    async fn lasts(&self, a_while: Duration) {
        let begun = Instant::now();
        self.load.more(200).await;
        let waiting = self.gateway.waiting().await;
        assert!(waiting > 0.0, "everything is confirmed");
        sleep(a_while.saturating_sub(begun.elapsed())).await;
        self.load.more(50).await;
    }

    /// Gives how long it took until all was published.
    async fn ends(self, ledger: &mut Ledger) -> Duration {
        let begun = Instant::now();
        ledger.add(self.load.stop().await);
        let drained = async {
            while self.gateway.waiting().await > 0.0 {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let in_time = timeout(DRAIN_MAX, drained).await;
        let waiting = self.gateway.waiting().await;
        assert!(in_time.is_ok(), "{waiting} wait after {DRAIN_MAX:?}");
        begun.elapsed()
    }
}

async fn all_delivered(cluster: &Cluster, gateway: &Gateway, queue: &str, ledger: &Ledger) {
    ledger.assert_none_refused();
    assert_eq!(ledger.unanswered, 0);
    let consumer = cluster.node(0).consume(queue).await;
    let messages = ledger.arrived_in(&consumer).await;
    ledger.assert_delivered(&messages);
    balance(gateway).await;
}

async fn the_quorum_is_lost(cluster: &Cluster) {
    let times = figures::count(1, 10);
    let queue = "quorum";
    let gateway = gateway(cluster, queue).await;
    let mut ledger = Ledger::default();
    let mut slowest = Duration::ZERO;
    for time in 1..=times {
        let trouble = Trouble::begin(&gateway, u64::from(time) * 1_000_000);
        trouble.load.more(50).await;
        let leader = cluster.leader_of(queue).await;
        let killed: Vec<_> = (0..MAJORITY)
            .map(|n| cluster.node((leader + n) % cluster.addresses().len()))
            .collect();
        for node in &killed {
            node.kill9().await;
        }
        trouble.lasts(Duration::from_secs(10)).await;
        for node in &killed {
            node.start_again().await;
        }
        cluster.until_whole(queue).await;
        slowest = slowest.max(trouble.ends(&mut ledger).await);
    }
    all_delivered(cluster, &gateway, queue, &ledger).await;
    Row::new("P3.quorum")
        .saw("quorum lost", times)
        .saw("events", ledger.len())
        .saw("lost", 0)
        .saw("slowest drain", format_args!("{slowest:.1?}"))
        .write();
}

async fn the_network_is_cut(cluster: &Cluster) {
    let times = figures::count(1, 10);
    let seconds = if figures::release() { 30 } else { 8 };
    let queue = "network";
    let gateway = gateway(cluster, queue).await;
    let mut ledger = Ledger::default();
    let mut slowest = Duration::ZERO;
    for time in 1..=times {
        for (partition, from) in [(Partition::Nodes, 0), (Partition::Clients, 500_000)] {
            let trouble = Trouble::begin(&gateway, u64::from(time) * 1_000_000 + from);
            trouble.load.more(50).await;
            cluster.cut(partition);
            trouble.lasts(Duration::from_secs(seconds)).await;
            cluster.heal();
            slowest = slowest.max(trouble.ends(&mut ledger).await);
        }
    }
    all_delivered(cluster, &gateway, queue, &ledger).await;
    Row::new("P3.network")
        .saw("cuts", times * 2)
        .saw("seconds each", seconds)
        .saw("events", ledger.len())
        .saw("lost", 0)
        .saw("slowest drain", format_args!("{slowest:.1?}"))
        .write();
}
