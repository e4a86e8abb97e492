//! What a link does about everything that a broker does.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::super::broker::{Failure, Notice};
use super::super::wire::REFUSING_AGE;
use super::delivery;
use super::script::{Published, Reply, Rig, Script, answer};
use crate::delivery::Lane;

const PUBLISHED: &str = "hookgate_published_total{parked=\"no\"}";

fn poison() -> Failure {
    Failure::coded(Some(406), "PRECONDITION_FAILED - too large (406)")
}

fn missing() -> Failure {
    Failure::coded(Some(404), "NOT_FOUND - no exchange 'hookgate' (404)")
}

fn gone() -> Failure {
    Failure::new("connection reset by peer")
}

/// Acknowledges everything.
fn ack(_: &Published) -> Reply {
    Reply::Ack
}

/// Does something with one event, and acknowledges the others.
fn with(number: u64, reply: Reply) -> impl FnMut(&Published) -> Reply + Send + 'static {
    move |published| {
        if published.number == number {
            reply.clone()
        } else {
            Reply::Ack
        }
    }
}

#[tokio::test(start_paused = true)]
async fn publishes_in_order_and_as_many_at_once_as_allowed() {
    let script = Script::new(ack);
    let mut rig = Rig::new(&script);
    rig.store(0..100).await;
    let all: Vec<_> = (0..100).collect();
    assert_eq!(rig.reports(100).await, all);
    assert_eq!(script.numbers(), all);
    assert_eq!(script.in_flight_max(), 8);
    assert_eq!(rig.metric(PUBLISHED), 100.0);
    assert_eq!(rig.attempts("ack"), 100.0);
    assert_eq!(rig.metric("hookgate_broker_connected"), 1.0);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(rig.metric("hookgate_publish_in_flight"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn bytes_in_flight_are_bounded_but_one_event_always_goes() {
    let script = Script::new(ack);
    let mut rig = Rig::new(&script);
    for number in 0..4 {
        let mut large = delivery(number);
        large.body = vec![b'x'; 5000].into();
        rig.store_this(number, large).await;
    }
    rig.reports(4).await;
    assert_eq!(script.in_flight_max(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_broker_does_not_take_is_tried_again_and_stops_nobody() {
    for (reply, result) in [(Reply::Nack, "nack"), (Reply::Return, "returned")] {
        let mut refusals = 3;
        let script = Script::new(move |published: &Published| {
            if published.number == 2 && refusals > 0 {
                refusals -= 1;
                return reply.clone();
            }
            Reply::Ack
        });
        let mut rig = Rig::new(&script);
        rig.store(0..20).await;
        let first: Vec<_> = (0..20).filter(|number| *number != 2).collect();
        assert_eq!(rig.reports(19).await, first);
        assert_eq!(rig.reports(1).await, [2]);
        let tries = script.published();
        let tries: Vec<_> = tries.iter().filter(|one| one.number == 2).collect();
        let attempts: Vec<_> = tries.iter().map(|one| one.attempt).collect();
        assert_eq!(attempts, [1, 2, 3, 4]);
        let waits: Vec<_> = tries.windows(2).map(|two| two[1].at - two[0].at).collect();
        assert!(waits.is_sorted(), "{waits:?}");
        assert_eq!(rig.attempts(result), 3.0);
        assert_eq!(script.dials().len(), 1);
        rig.assert_no_report();
    }
}

/// As RabbitMQ does after the leader of a quorum queue has died.
#[tokio::test(start_paused = true)]
async fn a_channel_that_refuses_everything_is_left_for_another() {
    let script = Script::new(|published: &Published| match published.channel {
        1 if published.number == 0 => Reply::Ack,
        1 if published.number == 4 => Reply::Silence,
        1 => Reply::Nack,
        _ => Reply::Ack,
    });
    let mut rig = Rig::new(&script);
    rig.store(0..1).await;
    assert_eq!(rig.reports(1).await, [0]);
    // A young channel that refuses is given time.
    sleep(REFUSING_AGE).await;
    let begin = Instant::now();
    rig.store(1..8).await;
    assert_eq!(rig.reports(7).await, [1, 2, 3, 4, 5, 6, 7]);
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert_eq!(script.opens(), [false, false]);
    assert_eq!(script.dials().len(), 1);
    rig.assert_no_report();
}

#[tokio::test(start_paused = true)]
async fn a_confirm_that_does_not_come_costs_the_connection_and_no_event() {
    let mut silent = true;
    let script = Script::new(move |published: &Published| {
        if published.number == 3 && std::mem::take(&mut silent) {
            return Reply::Silence;
        }
        Reply::Ack
    });
    let mut rig = Rig::new(&script);
    let begin = Instant::now();
    rig.store(0..6).await;
    assert_eq!(rig.reports(6).await, [0, 1, 2, 3, 4, 5]);
    assert_eq!(script.dials().len(), 2);
    let waited = begin.elapsed();
    assert!(waited > Duration::from_secs(10) && waited < Duration::from_secs(12));
    assert_eq!(rig.attempts("timeout"), 1.0);
    assert_eq!(rig.metric("hookgate_broker_reconnects_total"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_costs_no_event_and_no_order() {
    let mut cuts = 3;
    let script = Script::new(move |published: &Published| {
        if published.number % 10 == 7 && cuts > 0 {
            cuts -= 1;
            return Reply::EndConnection(gone());
        }
        Reply::Ack
    });
    let mut rig = Rig::new(&script);
    rig.store(0..50).await;
    let all: Vec<_> = (0..50).collect();
    assert_eq!(rig.reports(50).await, all);
    let mut seen = Vec::new();
    for number in script.numbers() {
        if !seen.contains(&number) {
            seen.push(number);
        }
    }
    assert_eq!(seen, all, "order of first appearances");
    assert_eq!(script.dials().len(), 4);
    rig.assert_no_report();
}

#[tokio::test(start_paused = true)]
async fn a_poisoned_event_is_found_and_refused_and_stops_nobody() {
    for end in [Reply::CloseChannel(poison()), {
        Reply::EndConnection(Failure::coded(Some(501), "FRAME_ERROR (501)"))
    }] {
        let script = Script::new(with(13, end));
        let mut rig = Rig::new(&script);
        let begin = Instant::now();
        rig.store(0..60).await;
        let mut published = Vec::new();
        let mut refused = Vec::new();
        for _ in 0..60 {
            match rig.report().await {
                (number, None) => published.push(number),
                (number, Some(reason)) => refused.push((number, reason)),
            }
        }
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].0, 13);
        assert!(refused[0].1.contains("0"), "{refused:?}");
        published.sort_unstable();
        assert!(published.into_iter().eq((0..60).filter(|&one| one != 13)));
        assert!(begin.elapsed() < Duration::from_secs(30));
        let tries = script.numbers();
        let tries = tries.iter().filter(|number| **number == 13).count();
        assert_eq!(tries, 4, "once in the crowd, three times alone");
        rig.assert_no_report();
    }
}

#[tokio::test(start_paused = true)]
async fn a_poisoned_event_of_one_exchange_leaves_the_other_alone() {
    let script = Script::new(with(1, Reply::CloseChannel(poison())));
    let mut rig = Rig::new(&script);
    let mut invalid = delivery(1);
    invalid.lane = Lane::Quarantine("/id is absent".to_owned());
    rig.store_this(1, invalid).await;
    rig.store(2..40).await;
    for _ in 1..40 {
        rig.report().await;
    }
    let published = script.published();
    let main = published.iter().filter(|one| one.exchange == "hookgate");
    let mut channels: Vec<_> = main.map(|one| one.channel).collect();
    assert_eq!(channels.len(), 38, "each once");
    channels.dedup();
    assert_eq!(channels.len(), 1);
    assert_eq!(script.dials().len(), 1);
    // One for each exchange, and one after each of the first two strikes.
    assert_eq!(script.opens(), [false, false, true, true]);
}

#[tokio::test(start_paused = true)]
async fn a_missing_exchange_is_nobodys_fault() {
    let script = Script::new(|_: &Published| Reply::CloseChannel(missing()));
    let mut rig = Rig::new(&script);
    rig.store(0..20).await;
    let health = rig.until(|health| health.last_error.is_some()).await;
    assert!(health.last_error.unwrap().contains("NOT_FOUND"));
    sleep(Duration::from_secs(300)).await;
    rig.assert_no_report();
    let opens = script.opens().len();
    assert!(opens < 125, "{opens} channels in 300 s");
    script.now(ack);
    let all: Vec<_> = (0..20).collect();
    assert_eq!(rig.reports(20).await, all);
    assert_eq!(script.dials().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn connections_that_die_without_an_answer_are_tried_with_one_event_at_a_time() {
    let script = Script::new(with(3, Reply::EndConnection(gone())));
    let mut rig = Rig::new(&script);
    rig.store(0..8).await;
    assert_eq!(rig.reports(7).await, [0, 1, 2, 4, 5, 6, 7]);
    sleep(Duration::from_secs(120)).await;
    rig.assert_no_report();
    script.now(ack);
    assert_eq!(rig.reports(1).await, [3], "a lost connection is no refusal");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_published_and_nothing_is_late_while_the_broker_blocks() {
    let script = Script::new(|_: &Published| Reply::Silence);
    let mut rig = Rig::new(&script);
    rig.connected().await;
    rig.store(0..3).await;
    sleep(Duration::from_secs(1)).await;
    script.say(Notice::Blocked("low on disk".to_owned())).await;
    rig.until(|health| health.blocked).await;
    assert_eq!(rig.metric("hookgate_broker_blocked"), 1.0);
    let refused = answer(rig.ask(99)).await;
    assert!(refused.is_err());
    rig.store(3..6).await;
    sleep(Duration::from_secs(120)).await;
    assert_eq!(script.numbers(), [0, 1, 2]);
    assert_eq!(script.dials().len(), 1);

    script.now(ack);
    script.say(Notice::Unblocked).await;
    assert_eq!(rig.reports(3).await, [3, 4, 5]);
    assert_eq!(rig.metric("hookgate_broker_blocked"), 0.0);
    // The three that were silent are late ten seconds after the end of it.
    assert_eq!(rig.reports(3).await, [0, 1, 2]);
    assert_eq!(script.dials().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_the_broker_blocks_does_not_wait() {
    let script = Script::new(|_: &Published| Reply::Silence);
    let mut rig = Rig::new(&script);
    rig.connected().await;
    rig.store(0..3).await;
    script.say(Notice::Blocked("low on disk".to_owned())).await;
    rig.until(|health| health.blocked).await;
    rig.stop.cancel();
    let ended = timeout(Duration::from_secs(3), &mut rig.task).await;
    ended.unwrap().unwrap();
    assert_eq!(rig.metric("hookgate_broker_blocked"), 0.0);
    assert_eq!(rig.metric("hookgate_broker_connected"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn the_time_that_a_channel_takes_to_open_makes_no_event_late() {
    // More than a confirm may take. Several times, because what a link looks at first is random.
    const SLOW: Duration = Duration::from_secs(11);
    for _ in 0..10 {
        let script = Script::new(ack);
        script.open_slowly(SLOW);
        let mut rig = Rig::new(&script);
        rig.store(0..3).await;
        assert_eq!(rig.reports(3).await, [0, 1, 2]);
        // The other exchange's channel, while this one waits for answers.
        rig.store(3..5).await;
        sleep(Duration::from_millis(1)).await;
        let mut invalid = delivery(5);
        invalid.lane = Lane::Quarantine("/id is absent".to_owned());
        rig.store_this(5, invalid).await;
        assert_eq!(rig.reports(3).await, [3, 4, 5]);
        assert_eq!(script.dials().len(), 1);
        assert_eq!(rig.attempts("timeout"), 0.0);
    }
}

#[tokio::test(start_paused = true)]
async fn publishes_that_do_not_leave_the_socket_cost_the_connection() {
    let script = Script::new(|_: &Published| Reply::Silence);
    let mut rig = Rig::new(&script);
    rig.connected().await;
    script.stop_writing();
    rig.store(0..3).await;
    let begin = Instant::now();
    rig.until(|health| health.last_error.is_some()).await;
    let waited = begin.elapsed();
    assert!(waited > Duration::from_secs(5) && waited < Duration::from_secs(6));
    script.now(ack);
    assert_eq!(rig.reports(3).await, [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn nodes_are_tried_in_turn_and_later_and_later() {
    let script = Script::new(ack);
    script.refuse((0..8).map(|_| gone()));
    let mut rig = Rig::with_nodes(&script, &["amqp://a", "amqp://b"]);
    rig.store(0..3).await;
    rig.reports(3).await;
    let dials = script.dials();
    let nodes: Vec<_> = dials.iter().map(|(node, _)| node.as_str()).collect();
    assert_eq!(nodes[..4], ["a:5672", "b:5672", "a:5672", "b:5672"]);
    let waits: Vec<_> = dials.windows(2).map(|two| two[1].1 - two[0].1).collect();
    assert_eq!(waits[0], Duration::ZERO, "the other node is tried at once");
    assert!(waits[7] >= Duration::from_millis(800), "{waits:?}");
    let health = rig.until(|health| health.connected).await;
    assert_eq!(health.node, "a:5672");
    assert_eq!(health.last_error.as_deref(), Some(gone().text.as_str()));
}

#[tokio::test(start_paused = true)]
async fn a_connection_of_no_use_does_not_reset_the_delay() {
    let script = Script::new(|_: &Published| Reply::EndConnection(gone()));
    let rig = Rig::new(&script);
    rig.store(0..3).await;
    sleep(Duration::from_secs(60)).await;
    let dials = script.dials().len();
    assert!(dials < 28, "{dials} connections in a minute");
}

#[tokio::test(start_paused = true)]
async fn one_who_waits_is_answered_by_the_confirm() {
    let script = Script::new(ack);
    let mut rig = Rig::new(&script);
    rig.connected().await;
    assert_eq!(answer(rig.ask(1)).await, Ok(()));
    assert_eq!(rig.metric(PUBLISHED), 1.0);
    rig.assert_no_report();
}

#[tokio::test(start_paused = true)]
async fn one_who_waits_is_told_of_every_trouble_once_and_it_is_not_tried_again() {
    for reply in [
        Reply::Nack,
        Reply::Return,
        Reply::Silence,
        Reply::CloseChannel(poison()),
        Reply::EndConnection(gone()),
    ] {
        let script = Script::new(with(1, reply));
        let mut rig = Rig::new(&script);
        rig.connected().await;
        rig.store(5..8).await;
        assert!(answer(rig.ask(1)).await.is_err());
        assert_eq!(rig.reports(3).await, [5, 6, 7]);
        sleep(Duration::from_secs(60)).await;
        let tries = script.numbers();
        assert_eq!(tries.iter().filter(|number| **number == 1).count(), 1);
        assert_eq!(rig.metric(PUBLISHED), 3.0);
    }
}

#[tokio::test(start_paused = true)]
async fn one_who_waits_is_refused_at_once_without_a_connection() {
    let script = Script::new(ack);
    script.refuse((0..50).map(|_| gone()));
    let mut rig = Rig::new(&script);
    rig.until(|health| health.last_error.is_some()).await;
    let begin = Instant::now();
    assert!(answer(rig.ask(1)).await.is_err());
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn more_than_fit_are_refused_at_once_and_the_others_in_time() {
    let script = Script::new(|_: &Published| Reply::Silence);
    let mut rig = Rig::new(&script);
    rig.connected().await;
    let begin = Instant::now();
    let asked: Vec<_> = (0..100).map(|number| rig.ask(number)).collect();
    for told in asked {
        assert!(answer(told).await.is_err());
    }
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_secs(10) && waited < Duration::from_secs(11));
    assert!(script.published().len() <= 8);
}

#[tokio::test(start_paused = true)]
async fn a_stop_settles_what_is_in_flight_and_takes_no_more() {
    let script = Script::new(ack);
    let mut rig = Rig::new(&script);
    rig.connected().await;
    rig.store(0..200).await;
    let (number, _) = rig.report().await;
    assert_eq!(number, 0);
    rig.stop.cancel();
    timeout(Duration::from_secs(1), &mut rig.task)
        .await
        .unwrap()
        .unwrap();
    let published = script.published().len();
    assert!(published < 200);
    assert_eq!(rig.reports(published - 1).await.len(), published - 1);
    assert_eq!(script.closed_well(), 1);
    assert!(answer(rig.ask(999)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_confirms_no_longer_than_they_may_take() {
    let script = Script::new(|_: &Published| Reply::Silence);
    let mut rig = Rig::new(&script);
    rig.connected().await;
    let told = rig.ask(1);
    rig.store(2..4).await;
    sleep(Duration::from_secs(1)).await;
    rig.stop.cancel();
    let begin = Instant::now();
    assert!(answer(told).await.is_err());
    (&mut rig.task).await.unwrap();
    assert!(begin.elapsed() <= Duration::from_secs(11));
    rig.assert_no_report();
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_dropped_answers_those_who_wait() {
    let script = Script::new(|_: &Published| Reply::Silence);
    let mut rig = Rig::new(&script);
    rig.connected().await;
    let in_flight = rig.ask(1);
    sleep(Duration::from_secs(1)).await;
    let queued = rig.ask(2);
    rig.task.abort();
    assert!(answer(in_flight).await.is_err());
    assert!(answer(queued).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stop_without_a_connection_is_at_once() {
    let script = Script::new(ack);
    script.refuse((0..50).map(|_| gone()));
    let mut rig = Rig::new(&script);
    rig.store(0..3).await;
    rig.until(|health| health.last_error.is_some()).await;
    rig.stop.cancel();
    let ended = timeout(Duration::from_millis(10), &mut rig.task).await;
    ended.unwrap().unwrap();
}
