//! An allowance that fills up by itself.

use std::time::Duration;

use tokio::time::Instant;

use crate::pipeline::limit::Rate;

/// What is left of an allowance, told by the moment at which it will be whole again (the generic
/// cell rate algorithm, ITU-T I.371): one number, and nothing to be done while nobody spends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    whole_at: Instant,
}

impl Bucket {
    /// A whole one.
    pub(crate) fn new(now: Instant) -> Self {
        Self { whole_at: now }
    }

    /// Whether nothing is missing, so that it is as good as a new one.
    pub(crate) fn is_whole(self, now: Instant) -> bool {
        self.whole_at <= now
    }

    /// Takes one. Else tells how long until there is one.
    pub(crate) fn spend(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let whole_at = self.whole_at.max(now) + rate.interval();
        let missing = whole_at.saturating_duration_since(now);
        match missing.checked_sub(rate.interval().saturating_mul(rate.burst.get())) {
            None | Some(Duration::ZERO) => {
                self.whole_at = whole_at;
                Ok(())
            }
            Some(wait) => Err(wait),
        }
    }
}
