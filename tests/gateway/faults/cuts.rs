//! The connection to the broker is cut, half-closed and stalled at random bytes under load.

use tokio::time::Instant;

use crate::support::arrivals::Arrivals;
use crate::support::balance::balance;
use crate::support::broker;
use crate::support::chance;
use crate::support::eventually::eventually;
use crate::support::figures::{self, Row};
use crate::support::gateway::Setup;
use crate::support::load::{self, Load};
use crate::support::proxy::{Cut, Proxy};

/// Publishes without a confirm: what one cut may have published again.
const IN_FLIGHT_MAX: u64 = 64;
/// A cut comes within so many bytes: some dozens of messages, torn anywhere.
const BYTES_MAX: usize = 40_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_random_bytes_under_load() {
    let cuts = figures::count(60, 300);
    let broker = broker::shared().await;
    let proxy = Proxy::start(broker.address()).await;
    let gateway = Setup::new()
        .broker_at(proxy.address())
        .broker_lines(&format!(
            "confirm_timeout = \"1s\"\nmax_in_flight = {IN_FLIGHT_MAX}"
        ))
        .sources(&load::sources())
        .start()
        .await;
    let queue = gateway.consume(broker).await;
    let mut arrivals = Arrivals::default();
    let mut random = chance::dice();
    let begun = Instant::now();
    let load = Load::start(&gateway.sender(), 0);
    for cut in [Cut::Close, Cut::Reset, Cut::HalfClose, Cut::Stall]
        .into_iter()
        .cycle()
        .take(usize::try_from(cuts).expect("a count"))
    {
        // A connection that never carried a confirm counts as one more failure in a row, and the
        // pauses between them grow.
        arrivals.add(&queue.taken().await);
        let connected = proxy.accepted();
        proxy.cut_after(random.usize(0..BYTES_MAX), cut);
        eventually("the gateway to connect again", || async {
            if proxy.accepted() > connected {
                Ok(())
            } else {
                Err(format!("it does not after {cut:?}"))
            }
        })
        .await;
    }
    let ledger = load.stop().await;
    let seconds = begun.elapsed().as_secs().max(1);
    ledger.assert_none_refused();
    assert_eq!(ledger.unanswered, 0);
    ledger.all_arrived(&queue, &mut arrivals).await;
    gateway.until_all_published().await;
    arrivals.add(&queue.take());
    arrivals.assert_complete(&ledger);
    let duplicates = arrivals.duplicates();
    assert!(duplicates > 0, "no cut was in the middle of anything");
    assert!(
        duplicates <= u64::from(cuts) * IN_FLIGHT_MAX,
        "{duplicates} duplicates of {cuts} cuts"
    );
    balance(&gateway).await;
    Row::new("P1")
        .saw("cuts", cuts)
        .saw("seconds", seconds)
        .saw("events", ledger.len())
        .saw("lost", 0)
        .saw("duplicates", duplicates)
        .write();
}
