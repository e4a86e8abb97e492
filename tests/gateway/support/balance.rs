//! The books: what came in is what was answered, and what was accepted is somewhere.

use super::eventually::eventually;
use super::gateway::{Gateway, Metrics};

/// Waits until the books of a gateway balance; fails with the two sides if they never do.
///
/// Per source and in requests, `received = accepted + duplicate + rejected + handshake`; over all
/// and in events, `events + late + replayed = published + waiting + set aside - waiting at start`.
/// Late are events that are safe although their sender was told 503; replayed are those that an
/// operator had published again.
pub(crate) async fn balance(gateway: &Gateway) {
    eventually("the books to balance", || async {
        check(&gateway.metrics().await)
    })
    .await;
}

/// Whether the books balance at this moment; says the two sides if they do not.
pub(crate) fn check(metrics: &Metrics) -> Result<(), String> {
    for source in metrics.values("hookgate_received_total", "source") {
        let of = |name: &str| metrics.sum(name, &[("source", &source)]);
        let received = of("hookgate_received_total");
        let answered = of("hookgate_accepted_total")
            + of("hookgate_duplicate_total")
            + of("hookgate_rejected_total")
            + of("hookgate_handshake_total");
        if received != answered {
            return Err(format!(
                "{source}: {received} received, {answered} answered"
            ));
        }
    }
    let all = |name: &str| metrics.sum(name, &[]);
    let taken =
        all("hookgate_events_total") + all("hookgate_late_total") + all("hookgate_replayed_total");
    let placed = all("hookgate_published_total")
        + all("hookgate_journal_waiting")
        + all("hookgate_set_aside")
        - all("hookgate_journal_waiting_at_start");
    if taken == placed {
        Ok(())
    } else {
        Err(format!("{taken} taken, {placed} placed"))
    }
}
