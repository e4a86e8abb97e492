use super::*;

fn patience() -> Patience {
    Patience {
        header: Duration::from_secs(5),
        idle: Duration::from_secs(60),
        request: Duration::from_secs(20),
        age: Duration::from_secs(600),
        closing: Duration::from_secs(25),
    }
}

fn after(secs: u64, begin: Instant) -> Instant {
    begin + Duration::from_secs(secs)
}

fn new(protocol: Protocol) -> (Activity, Instant) {
    let now = Instant::now();
    (Activity::new(protocol, patience(), now), now)
}

#[test]
fn the_first_head_is_due_from_the_beginning() {
    let (activity, t0) = new(Protocol::Http1);
    assert_eq!(activity.check(t0), Ok(after(5, t0)));
    activity.read(1, after(3, t0)).unwrap();
    assert_eq!(activity.check(after(3, t0)), Ok(after(5, t0)));
    let slow = Err(Ending::Now("head too slow"));
    assert_eq!(activity.check(after(5, t0)), slow);
}

#[test]
fn between_requests_a_connection_may_idle_but_a_begun_head_is_due() {
    let (activity, t0) = new(Protocol::Http1);
    activity.begin(t0);
    activity.end(after(1, t0), true);
    assert_eq!(activity.check(after(1, t0)), Ok(after(61, t0)));
    let idle = Err(Ending::Gracefully("idle"));
    assert_eq!(activity.check(after(61, t0)), idle);
    activity.read(1, after(30, t0)).unwrap();
    activity.read(1, after(34, t0)).unwrap();
    assert_eq!(activity.check(after(34, t0)), Ok(after(35, t0)));
}

#[test]
fn on_http2_the_preface_and_each_head_are_due_and_only_requests_count_as_use() {
    let (activity, t0) = new(Protocol::Http2);
    activity.read(32, t0).unwrap();
    activity.framed(0, None, t0).unwrap();
    assert_eq!(activity.check(t0), Ok(after(5, t0)));
    activity.read(1, t0).unwrap();
    activity.framed(1, None, t0).unwrap();
    assert_eq!(activity.check(t0), Ok(after(60, t0)));
    activity.begin(t0);
    for secs in [1, 3] {
        activity.framed(2, Some(1), after(secs, t0)).unwrap();
        assert_eq!(activity.check(after(secs, t0)), Ok(after(6, t0)));
    }
    // Another head, of which the beginning came together with the end of the one before.
    activity.framed(3, Some(2), after(4, t0)).unwrap();
    assert_eq!(activity.check(after(4, t0)), Ok(after(9, t0)));
    let slow = Err(Ending::Now("head too slow"));
    assert_eq!(activity.check(after(9, t0)), slow);
    activity.framed(3, None, after(8, t0)).unwrap();
    activity.end(t0, true);
    activity.read(17, after(59, t0)).unwrap();
    activity.framed(4, None, after(59, t0)).unwrap();
    let idle = Err(Ending::Gracefully("idle"));
    assert_eq!(activity.check(after(60, t0)), idle);
}

#[test]
fn requests_that_do_not_get_on_are_cut() {
    let (activity, t0) = new(Protocol::Http2);
    activity.read(100, t0).unwrap();
    activity.framed(2, None, t0).unwrap();
    activity.begin(t0);
    activity.begin(after(10, t0));
    assert_eq!(activity.check(after(10, t0)), Ok(after(30, t0)));
    activity.end(after(20, t0), true);
    assert_eq!(activity.check(after(20, t0)), Ok(after(40, t0)));
    let stuck = Err(Ending::Now("does not get on"));
    assert_eq!(activity.check(after(40, t0)), stuck);
}

#[test]
fn while_busy_it_is_asked_again_before_an_idle_time_that_begins_now_could_end() {
    let now = Instant::now();
    let impatient = Patience {
        idle: Duration::from_secs(3),
        ..patience()
    };
    let activity = Activity::new(Protocol::Http1, impatient, now);
    activity.begin(now);
    assert_eq!(activity.check(now), Ok(after(3, now)));
}

#[test]
fn a_peer_that_does_not_read_is_cut() {
    let (activity, t0) = new(Protocol::Http1);
    activity.begin(t0);
    activity.write_blocked(after(1, t0));
    activity.write_blocked(after(5, t0));
    assert_eq!(activity.check(after(5, t0)), Ok(after(11, t0)));
    let stalled = Err(Ending::Now("does not read"));
    assert_eq!(activity.check(after(11, t0)), stalled);
    activity.write_moved();
    assert_eq!(activity.check(after(11, t0)), Ok(after(20, t0)));
}

#[test]
fn an_old_connection_ends_and_one_that_does_not_end_is_cut() {
    let (activity, t0) = new(Protocol::Http2);
    let preface = usize::try_from(PREFACE_BYTES).unwrap();
    activity.read(preface, t0).unwrap();
    activity.framed(0, None, t0).unwrap();
    activity.begin(after(599, t0));
    assert_eq!(activity.check(after(599, t0)), Ok(after(600, t0)));
    let old = Err(Ending::Gracefully("has lived"));
    assert_eq!(activity.check(after(600, t0)), old);
    assert!(!activity.is_last_answer(after(600, t0)), "GOAWAY says it");
    activity.closing(after(600, t0));
    activity.begin(after(620, t0));
    assert_eq!(activity.check(after(620, t0)), Ok(after(625, t0)));
    let stuck = Err(Ending::Now("does not close"));
    assert_eq!(activity.check(after(625, t0)), stuck);
}

#[test]
fn an_old_connection_of_http1_ends_with_an_answer() {
    let (activity, t0) = new(Protocol::Http1);
    activity.begin(after(599, t0));
    assert!(!activity.is_last_answer(after(599, t0)));
    activity.end(after(599, t0), true);
    assert!(activity.check(after(601, t0)).is_ok(), "and not before one");
    activity.begin(after(602, t0));
    assert!(activity.is_last_answer(after(602, t0)));
}

#[test]
fn ages_differ_by_lot() {
    let limits = crate::edge::testing::limits();
    assert_eq!(Patience::new(&limits, 0.0).age, AGE_MAX);
    assert_eq!(Patience::new(&limits, 1.0).age, AGE_MAX - AGE_JITTER);
}

#[test]
fn bytes_must_lead_to_requests() {
    let (activity, now) = new(Protocol::Http2);
    let most = usize::try_from(OVERHEAD_BYTES_MAX).unwrap();
    activity.read(most, now).unwrap();
    assert_eq!(activity.read(1, now), Err(Flood));
    activity.begin(now);
    activity.end(now, true);
    activity.read(most, now).unwrap();
    // A body that somebody reads pays for itself and for its framing.
    activity.body_read(1000);
    activity.read(8000, now).unwrap();
    assert_eq!(activity.read(1, now), Err(Flood));
}

#[test]
fn frames_must_lead_to_requests() {
    let (activity, now) = new(Protocol::Http2);
    activity.framed(FRAMES_MAX, None, now).unwrap();
    activity.begin(now);
    activity.end(now, true);
    activity.framed(2 * FRAMES_MAX, None, now).unwrap();
    let flood = activity.framed(2 * FRAMES_MAX + 1, None, now);
    assert_eq!(flood, Err(Flood));
}

#[test]
fn a_connection_has_so_many_requests() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (activity, now) = new(protocol);
        for _ in 1..REQUESTS_MAX {
            activity.begin(now);
            assert!(!activity.is_last_answer(now));
            activity.end(now, true);
        }
        assert!(activity.check(now).is_ok());
        activity.begin(now);
        assert_eq!(activity.is_last_answer(now), protocol == Protocol::Http1);
        assert_eq!(activity.check(now).is_err(), protocol == Protocol::Http2);
        activity.closing(now);
        assert!(activity.check(now).is_ok());
    }
}

#[test]
fn what_nobody_asked_for_is_known_until_the_next_head() {
    let (activity, now) = new(Protocol::Http1);
    assert!(activity.unasked());
    activity.begin(now);
    activity.flushed();
    assert!(!activity.unasked());
    activity.end(now, true);
    assert!(!activity.unasked());
    activity.flushed();
    assert!(activity.unasked());
}

#[test]
fn what_was_left_unread_is_remembered() {
    let (activity, now) = new(Protocol::Http1);
    activity.begin(now);
    activity.end(now, true);
    assert!(!activity.left_unread());
    activity.begin(now);
    activity.end(now, false);
    assert!(activity.left_unread());
}
