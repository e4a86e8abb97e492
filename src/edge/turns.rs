//! Turns at the costly part of a handshake.
//!
//! A burst of new connections would otherwise be computed all at once, and requests on open
//! connections would wait behind thousands of signatures. With turns, at most so many handshakes
//! stand in line for a processor; the rest wait aside, in order, under their own deadlines.
//!
//! A turn lasts from the whole ClientHello to our answer to it. Who has not said hello, or is slow
//! to go on, holds none: otherwise a few slow strangers would hold all of them.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// Handshakes that are computed before others get a processor: some ten milliseconds of work.
pub const TURNS_MAX: usize = 64;

/// Turns. Clones share them.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Semaphore>);

impl Turns {
    /// So many at once.
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Semaphore::new(max)))
    }

    /// Runs the first step of `work` in a turn, and the rest of it outside.
    pub async fn take<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        let first = {
            // The semaphore is never closed; work goes on in either case.
            let _turn = self.0.acquire().await;
            // Behind those who have a processor to themselves already.
            yield_now().await;
            poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await
        };
        match first {
            Poll::Ready(output) => output,
            Poll::Pending => work.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::task::JoinSet;
    use tokio::time::{sleep, timeout};

    use super::*;

    /// One step of work that notes how many stand in line, and then a long wait for a client.
    async fn handshake(steps: Arc<AtomicUsize>) {
        steps.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_secs(5)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_holds_no_turn() {
        let turns = Turns::new(2);
        let steps = Arc::new(AtomicUsize::new(0));
        let mut crowd = JoinSet::new();
        for _ in 0..100 {
            let (turns, steps) = (turns.clone(), Arc::clone(&steps));
            crowd.spawn(async move { turns.take(handshake(steps)).await });
        }
        // As long as somebody is ready no time passes, so nobody waits for one of the slow.
        for _ in 0..1_000 {
            yield_now().await;
        }
        assert_eq!(steps.load(Ordering::SeqCst), 100);
        crowd.join_all().await;
    }

    #[tokio::test]
    async fn who_is_at_work_already_waits_for_so_many_steps_only() {
        const CROWD: usize = 1_000;
        let turns = Turns::new(4);
        let steps = Arc::new(AtomicUsize::new(0));
        let mut crowd = JoinSet::new();
        for _ in 0..CROWD {
            let (turns, steps) = (turns.clone(), Arc::clone(&steps));
            crowd.spawn(async move {
                turns
                    .take(async { steps.fetch_add(1, Ordering::SeqCst) })
                    .await
            });
        }
        // All have come and stand in line.
        yield_now().await;
        let mut longest = 0;
        let mut before = steps.load(Ordering::SeqCst);
        while before < CROWD {
            yield_now().await;
            let now = steps.load(Ordering::SeqCst);
            longest = longest.max(now - before);
            before = now;
        }
        assert!(
            (1..=8).contains(&longest),
            "{longest} steps between two looks"
        );
        crowd.join_all().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_given_back_by_who_gives_up() {
        let turns = Turns::new(1);
        let held = turns.0.acquire().await.unwrap();
        let given_up = timeout(Duration::from_secs(1), turns.take(async {})).await;
        given_up.unwrap_err();
        drop(held);
        turns.take(async {}).await;
    }
}
