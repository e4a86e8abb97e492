//! Work that goes on when whoever waits for it goes away.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// Polls `work` where it is awaited. Dropped before its end, it moves what is left into a task of
/// its own, owned by `tasks`.
///
/// So the usual case, somebody who waits to the end, costs no task and wakes nobody twice. What
/// panics has ended. Only while the runtime itself ends is the rest dropped.
pub(super) struct GoesOn<F: Future<Output: Send> + Send + 'static> {
    /// `None` once it has ended.
    work: Option<Pin<Box<F>>>,
    tasks: TaskTracker,
}

impl<F: Future<Output: Send> + Send + 'static> GoesOn<F> {
    pub(super) fn new(work: F, tasks: TaskTracker) -> Self {
        Self {
            work: Some(Box::pin(work)),
            tasks,
        }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for GoesOn<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // Taken out meanwhile, so that a panic leaves nothing behind.
        let Some(mut work) = self.work.take() else {
            return Poll::Pending;
        };
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for GoesOn<F> {
    fn drop(&mut self) {
        if let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) {
            // The tracker owns the task; its handle is not needed.
            drop(self.tasks.spawn_on(work, &runtime));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::sync::{Notify, oneshot};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn gives_what_the_work_gives() {
        let tasks = TaskTracker::new();
        let (tell, told) = oneshot::channel();
        let mut going = GoesOn::new(told, tasks.clone());
        assert!((&mut going).now_or_never().is_none());
        tell.send(7).expect("somebody waits");
        assert_eq!((&mut going).await, Ok(7));
        drop(going);
        assert!(tasks.is_empty(), "nothing was left to do");
    }

    #[tokio::test]
    async fn goes_on_when_dropped() {
        let tasks = TaskTracker::new();
        let gate = Arc::new(Notify::new());
        let (tell, told) = oneshot::channel();
        let waiting = Arc::clone(&gate);
        let work = async move {
            waiting.notified().await;
            tell.send(()).expect("somebody waits");
        };
        let mut going = GoesOn::new(work, tasks.clone());
        assert!((&mut going).now_or_never().is_none());
        drop(going);
        assert_eq!(tasks.len(), 1);
        gate.notify_one();
        tasks.close();
        let ended = timeout(Duration::from_secs(10), tasks.wait()).await;
        assert!(ended.is_ok(), "the task never ended");
        told.await.expect("it was done");
    }

    #[tokio::test]
    async fn is_done_even_if_it_was_never_polled() {
        let tasks = TaskTracker::new();
        let (tell, told) = oneshot::channel();
        drop(GoesOn::new(async move { tell.send(7) }, tasks));
        assert_eq!(told.await, Ok(7));
    }

    #[tokio::test]
    async fn what_panicked_is_not_begun_again() {
        let tasks = TaskTracker::new();
        let work = async { panic!("as it happens") };
        let mut going = GoesOn::new(work, tasks.clone());
        let poll = std::panic::AssertUnwindSafe(&mut going).catch_unwind();
        poll.await.expect_err("it panics");
        drop(going);
        assert!(tasks.is_empty());
    }

    #[test]
    fn without_a_runtime_the_rest_is_dropped() {
        drop(GoesOn::new(
            std::future::pending::<()>(),
            TaskTracker::new(),
        ));
    }
}
