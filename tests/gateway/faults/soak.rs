//! A short soak: the same parts as `make soak`, and what makes its verdict fail.

use std::sync::Arc;
use std::time::Duration;

#[path = "../../../benches/soak/parts.rs"]
mod parts;

use crate::support::chance;
use parts::faults::{Fault, Side};
use parts::ledger::Ledger;
use parts::plot;
use parts::probe::{Descriptors, Sample};
use parts::report::Report;
use parts::run::{Outcome, Plan, run};
use parts::statistics::{floors, line};

const LENGTH: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_one_holds() {
    let plan = Plan {
        length: LENGTH,
        seed: chance::dice().get_seed(),
        faults: vec![
            Fault::GatewayKilled,
            Fault::GatewayRestarted,
            Fault::ClientsReset,
            Fault::BrokerReset,
            Fault::BrokerStalled,
            Fault::QueueRefuses,
        ],
    };
    let mut last = None;
    let outcome = run(plan, |progress| last = Some(progress.clone())).await;
    let last = last.expect("it told how far it is");
    assert!(last.elapsed >= LENGTH && last.now.is_empty(), "{last:?}");
    assert!(last.counts.acknowledged > 0 && last.sample.memory_mib > 0.0);
    assert_eq!(last.faults, outcome.chronicle.len());
    let report = Report::new(&outcome);
    assert!(report.holds(), "{}", report.text());
    for side in [Side::Gateway, Side::Broker] {
        let of_side = outcome
            .chronicle
            .iter()
            .filter(|one| one.fault.side() == side);
        assert!(of_side.count() > 0, "no fault of {side:?} in {LENGTH:?}");
    }
    let picture = plot::svg(&report);
    for one in &outcome.chronicle {
        assert!(picture.contains(&one.fault.to_string()), "{picture}");
    }
    assert_eq!(report.json()["counts"]["lost"], 0);
}

fn sockets(count: usize) -> Descriptors {
    Descriptors([("socket".to_owned(), count)].into())
}

/// A run in which all went well.
fn good() -> Outcome {
    let ledger = Ledger::default();
    let number = ledger.number();
    ledger.sends(number, b"body", true);
    ledger.acknowledged(number, Duration::from_millis(3));
    ledger.arrived("soak-1", "a", b"body", false);
    let length = Duration::from_secs(7200);
    let samples = (0..7200).map(|second| Sample {
        at: f64::from(second),
        // Up and down, and as low as ever.
        memory_mib: 50.0 + f64::from(second % 7),
        ..Sample::default()
    });
    Outcome {
        plan: Plan {
            length,
            seed: 1,
            faults: Fault::ALL.to_vec(),
        },
        ledger: Arc::new(ledger),
        samples: samples.collect(),
        chronicle: Vec::new(),
        balances: vec![("steady", Ok(()))],
        descriptors: (sockets(20), sockets(22)),
        drained_in: Duration::ZERO,
        trouble: Vec::new(),
    }
}

#[track_caller]
fn fails(outcome: &Outcome, promise: &str) {
    let report = Report::new(outcome);
    let failed: Vec<_> = report.checks.iter().filter(|check| !check.holds).collect();
    assert_eq!(failed.len(), 1, "{}", report.text());
    assert_eq!(failed[0].promise, promise);
    assert!(!report.holds());
}

#[test]
fn a_good_run_holds() {
    let outcome = good();
    let report = Report::new(&outcome);
    assert!(report.holds(), "{}", report.text());
}

#[test]
fn an_acknowledged_event_that_did_not_arrive_is_lost() {
    let outcome = good();
    let number = outcome.ledger.number();
    outcome.ledger.sends(number, b"lost", true);
    outcome.ledger.acknowledged(number, Duration::ZERO);
    fails(&outcome, "everything acknowledged was delivered");
}

#[test]
fn a_changed_byte_and_a_message_that_nobody_sent_are_found() {
    let outcome = good();
    outcome.ledger.arrived("soak-1", "a", b"bodY", false);
    fails(&outcome, "byte for byte, and nothing else");
    let outcome = good();
    outcome.ledger.arrived("forged-2", "b", b"body", false);
    fails(&outcome, "byte for byte, and nothing else");
}

#[test]
fn a_copy_under_another_message_id_is_found() {
    let outcome = good();
    outcome.ledger.arrived("soak-1", "b", b"body", false);
    fails(&outcome, "copies have the event's message id");
}

#[test]
fn books_that_do_not_balance_a_leak_and_an_early_end_are_found() {
    let mut outcome = good();
    outcome.balances = vec![("steady", Err("2 taken, 1 placed".to_owned()))];
    fails(&outcome, "the books balance");

    let mut outcome = good();
    for sample in &mut outcome.samples {
        sample.memory_mib += sample.at / 3600.0 * 1.5;
    }
    fails(&outcome, "memory is bounded and level");

    // At once, and in less than the hour from which on a slope is judged.
    let mut outcome = good();
    outcome.plan.length = Duration::from_secs(2000);
    for sample in &mut outcome.samples[1500..] {
        sample.memory_mib += 20.0;
    }
    fails(&outcome, "memory is bounded and level");

    let mut outcome = good();
    outcome.plan.length = Duration::from_secs(60);
    outcome.samples[30].memory_mib = 200.0;
    fails(&outcome, "memory is bounded and level");

    let mut outcome = good();
    outcome.descriptors = (sockets(20), sockets(29));
    fails(&outcome, "descriptors are given back");

    let mut outcome = good();
    outcome.trouble = vec!["the steady gateway ended".to_owned()];
    fails(&outcome, "nothing ends that should not");

    let outcome = good();
    outcome
        .ledger
        .misjudged("forged was answered 202".to_owned());
    fails(
        &outcome,
        "our trouble is never the sender's fault, forged is never taken",
    );
}

#[test]
fn lines_and_floors_are_as_by_hand() {
    let points = [(0.0, 1.0), (1.0, 3.0), (2.0, 5.0), (3.0, 7.0)];
    let exact = line(&points).expect("a line");
    assert!((exact.slope - 2.0).abs() < 1e-9 && exact.error < 1e-9);
    // By hand: means 1 and 2, slope 1/2, what is left over 1.5, over one degree and a spread of 2.
    let rough = line(&[(0.0, 1.0), (1.0, 3.0), (2.0, 2.0)]).expect("a line");
    assert!((rough.slope - 0.5).abs() < 1e-9);
    assert!((rough.error - 0.75f64.sqrt()).abs() < 1e-9);
    assert_eq!(line(&points[..2]), None);
    assert_eq!(
        floors(
            &[(0.0, 5.0), (1.0, 2.0), (2.5, 9.0), (3.0, 8.0), (4.0, 1.0)],
            2.0
        ),
        [(1.0, 2.0), (3.0, 8.0), (4.0, 1.0)]
    );
}
