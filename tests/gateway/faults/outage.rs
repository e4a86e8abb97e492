//! The broker is away for long: memory stays, the journal grows, all is delivered afterwards.

use crate::support::arrivals::Arrivals;
use crate::support::balance::balance;
use crate::support::broker;
use crate::support::figures::{self, Row};
use crate::support::gateway::Setup;
use crate::support::load;
use crate::support::process::resident_bytes;
use crate::support::proxy::{Cut, Mode, Proxy};

/// Senders at the same time, each with a source of its own.
const LANES: usize = 16;
/// Events over each lane before memory is measured for the first time.
const WARM_UP: u64 = 100;
/// What memory may grow by, however many events wait.
const GROWTH_MAX: u64 = 64 * 1024 * 1024;
/// Between two looks at memory, this many times over the outage.
const LOOKS: u64 = 10;

/// Ids that are remembered to recognise duplicates take memory whether there is a broker or not,
/// up to a bound of their own; here they would hide what waiting events take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn for_very_many_events() {
    let events = u64::from(figures::count(50_000, 1_000_000));
    let broker = broker::shared().await;
    let proxy = Proxy::start(broker.address()).await;
    let gateway = Setup::new()
        .plain()
        .broker_at(proxy.address())
        .journal("max_size = \"4GiB\"")
        .sources(&load::lanes(LANES, "dedupe = false"))
        .start()
        .await;
    let queue = gateway.consume(broker).await;
    let sender = gateway.sender();
    let mut ledger = load::rush(&sender, LANES, 0, WARM_UP).await;
    gateway.until_all_published().await;
    let before = resident_bytes(gateway.pid());

    let each = events / u64::try_from(LANES).expect("a count") / LOOKS;
    let mut most = before;
    for look in 0..LOOKS {
        // First nobody listens, then nobody answers.
        let mode = if look < LOOKS / 2 {
            Mode::Refuse
        } else {
            Mode::Stall
        };
        proxy.set(mode);
        if look == 0 {
            proxy.cut(Cut::Reset);
        }
        ledger.add(load::rush(&sender, LANES, WARM_UP + look * each, each).await);
        most = most.max(resident_bytes(gateway.pid()));
    }
    ledger.assert_none_refused();
    assert_eq!(ledger.unanswered, 0);
    let waiting = gateway.waiting().await;
    let growth = most - before;
    assert!(
        growth <= GROWTH_MAX,
        "{growth} bytes more with {waiting} events waiting"
    );

    proxy.cut(Cut::Reset);
    proxy.set(Mode::Forward);
    let mut arrivals = Arrivals::default();
    ledger.all_arrived(&queue, &mut arrivals).await;
    arrivals.assert_complete(&ledger);
    arrivals.assert_in_order(&ledger);
    gateway.until_all_published().await;
    let most = most.max(resident_bytes(gateway.pid()));
    let drained = most - before;
    assert!(drained <= GROWTH_MAX, "{drained} bytes more when drained");
    balance(&gateway).await;
    Row::new("P9")
        .saw("events", waiting)
        .saw("lost", 0)
        .saw("MiB more", drained / 1024 / 1024)
        .write();
}
