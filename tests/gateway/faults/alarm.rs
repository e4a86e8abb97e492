//! The broker raises its memory alarm while webhooks come in: nothing hangs, nothing is lost.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::support::arrivals::Arrivals;
use crate::support::balance::balance;
use crate::support::broker;
use crate::support::chance;
use crate::support::eventually::eventually;
use crate::support::figures::{self, Row};
use crate::support::gateway::{Gateway, Setup};
use crate::support::load::{self, Load};

/// However long the broker does not read, the gateway ends in this time.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Waits until the gateway says that it is blocked, or not any more. It is ready all the time.
async fn until_blocked(gateway: &Gateway, blocked: bool) {
    eventually("the gateway to say how the broker is", || async {
        let page = gateway.admin("/readyz?verbose").await;
        let text = String::from_utf8_lossy(&page.body).into_owned();
        let metric = gateway.metrics().await.sum("hookgate_broker_blocked", &[]);
        let said = text.contains("broker blocked");
        let counted = metric == 1.0;
        if page.status == 200 && said == blocked && counted == blocked {
            Ok(())
        } else {
            Err(format!("{} {text} {metric}", page.status))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raised_again_and_again_under_load() {
    let alarms = figures::count(10, 20);
    let seconds = if figures::release() { 5..20 } else { 0..2 };
    let broker = broker::breakable().await;
    let mut gateway = Setup::new()
        .broker(&broker)
        .sources(&load::sources())
        .start()
        .await;
    let queue = gateway.consume(&broker).await;
    let mut arrivals = Arrivals::default();
    let mut random = chance::dice();
    let mut slowest_stop = Duration::ZERO;
    let load = Load::start(&gateway.sender(), 0);
    for alarm in 0..alarms {
        load.more(30).await;
        broker.block().await;
        until_blocked(&gateway, true).await;
        // Senders do not notice.
        load.more(50).await;
        sleep(Duration::from_secs(random.u64(seconds.clone()))).await;
        if alarm % 2 == 0 {
            // A broker that does not read cannot hold up the end, nor the next start.
            let begun = Instant::now();
            gateway.term();
            let status = gateway.ended().await;
            slowest_stop = slowest_stop.max(begun.elapsed());
            assert_eq!(status.code(), Some(0), "{}", gateway.log());
            gateway.start().await;
            load.more(30).await;
            until_blocked(&gateway, true).await;
        }
        broker.unblock().await;
        until_blocked(&gateway, false).await;
        arrivals.add(&queue.taken().await);
    }
    let ledger = load.stop().await;
    ledger.assert_none_refused_but_by_draining();
    ledger.all_arrived(&queue, &mut arrivals).await;
    arrivals.assert_complete(&ledger);
    gateway.until_all_published().await;
    balance(&gateway).await;
    assert!(slowest_stop <= STOP_MAX, "{slowest_stop:?}");
    Row::new("P4")
        .saw("alarms", alarms)
        .saw("events", ledger.len())
        .saw("lost", 0)
        .saw("slowest stop", format_args!("{slowest_stop:.1?}"))
        .write();
}
