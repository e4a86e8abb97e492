//! Lines of the log that strangers can bring about as often as they like: one now and then, with
//! the number of those that were left out.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// One line in so much time.
const EVERY: Duration = Duration::from_secs(10);

/// One kind of line.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    /// How many lines were left out since the last one, when it is time for another at `now`.
    pub fn is_due(&self, now: Instant) -> Option<u64> {
        let mut said = self.lock();
        if said.last.is_some_and(|last| now < last + EVERY) {
            said.left_out = said.left_out.saturating_add(1);
            return None;
        }
        said.last = Some(now);
        Some(std::mem::take(&mut said.left_out))
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        // Nothing under this lock can panic half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_now_and_then_that_counts_the_others() {
        let (seldom, now) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.is_due(now), Some(0));
        assert_eq!(seldom.is_due(now), None);
        assert_eq!(seldom.is_due(now + EVERY / 2), None);
        assert_eq!(seldom.is_due(now + EVERY), Some(2));
        assert_eq!(seldom.is_due(now + 2 * EVERY), Some(0));
    }
}
