//! How long to wait before the next attempt. Pure: the caller brings the random number.

use std::time::Duration;

/// Before another connection, and before a channel is opened again.
pub(super) const RECONNECT: Backoff = Backoff {
    first: Duration::from_millis(200),
    longest: Duration::from_secs(5),
};

/// Before an event is published again that the broker did not take.
pub(super) const RETRY: Backoff = Backoff {
    first: Duration::from_millis(250),
    longest: Duration::from_secs(30),
};

/// Delays that double from `first` to `longest`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// The delay after so many failures in a row; none after none. `random` in 0..1 picks a
    /// moment in the upper half, so that gateways that failed together do not come back together.
    pub(super) fn delay(self, failures: u32, random: f64) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let whole = self.first.saturating_mul(factor).min(self.longest);
        whole.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
    }
}
