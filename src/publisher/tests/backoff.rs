use std::time::Duration;

use super::super::backoff::{RECONNECT, RETRY};

#[test]
fn doubles_up_to_the_longest_and_stays_there() {
    let delays: Vec<_> = (0..10).map(|failures| RETRY.delay(failures, 1.0)).collect();
    let seconds: Vec<_> = delays.iter().map(Duration::as_secs_f64).collect();
    assert_eq!(
        seconds,
        [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    );
    assert_eq!(RETRY.delay(u32::MAX, 1.0), Duration::from_secs(30));
    assert_eq!(RECONNECT.delay(u32::MAX, 1.0), Duration::from_secs(5));
}

#[test]
fn picks_a_moment_in_the_upper_half() {
    assert_eq!(RETRY.delay(3, 0.0), Duration::from_millis(500));
    assert_eq!(RETRY.delay(3, 0.5), Duration::from_millis(750));
}
