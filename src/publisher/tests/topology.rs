use super::super::broker::Failure;
use super::super::topology::{Step, plan};
use super::config;
use crate::config::QueueKind;

#[test]
fn everything_is_declared_in_an_order_that_works() {
    let mut config = config();
    config.queues[0].kind = QueueKind::Stream;
    let steps: Vec<_> = plan(&config).unwrap().iter().map(show).collect();
    assert_eq!(
        steps,
        [
            "exchange hookgate.unrouted Fanout {}",
            "queue hookgate.unrouted {x-delivery-limit=2147483647,x-queue-type=quorum}",
            "binding of queue hookgate.unrouted to exchange hookgate.unrouted by \"\"",
            "exchange hookgate Topic {alternate-exchange=hookgate.unrouted}",
            "exchange hookgate.quarantine Topic {}",
            "queue hookgate.quarantine {x-delivery-limit=2147483647,x-queue-type=quorum}",
            "binding of queue hookgate.quarantine to exchange hookgate.quarantine by \"#\"",
            "queue orders {x-queue-type=stream}",
            "binding of queue orders to exchange hookgate by \"shop.#\"",
        ]
    );
}

fn show(step: &Step) -> String {
    let table = |table: &lapin::types::FieldTable| {
        let entries = table
            .inner()
            .iter()
            .map(|(name, value)| match value.as_long_string() {
                Some(text) => format!("{name}={}", String::from_utf8_lossy(text.as_bytes())),
                None => format!("{name}={}", value.as_long_int().unwrap()),
            });
        format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
    };
    match step {
        Step::Exchange {
            kind, arguments, ..
        } => format!("{step} {kind:?} {}", table(arguments)),
        Step::Queue { arguments, .. } => format!("{step} {}", table(arguments)),
        Step::Bind { .. } => step.to_string(),
    }
}

#[test]
fn names_that_amqp_cannot_carry_are_refused() {
    let mut config = config();
    config.exchange = "x".repeat(250);
    let error = plan(&config).unwrap_err();
    assert_eq!(
        error,
        "broker.exchange is 259 bytes long, AMQP carries at most 255"
    );
}

#[test]
fn a_difference_says_what_to_do() {
    let steps = plan(&config()).unwrap();
    let said = "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange'";
    let trouble = steps[3].trouble(&Failure::coded(Some(406), said));
    assert_eq!(trouble.code, Some(406));
    for part in ["exchange hookgate:", "delete it", "policy", said] {
        assert!(trouble.text.contains(part), "{}", trouble.text);
    }
    let trouble = steps[7].trouble(&Failure::coded(Some(404), "NOT_FOUND - no queue"));
    assert!(trouble.text.starts_with("queue orders: it is not there"));
    let trouble = steps[0].trouble(&Failure::new("timeout"));
    assert_eq!(trouble.text, "exchange hookgate.unrouted: timeout");
}
