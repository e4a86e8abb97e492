//! Publishes on their way, and the answers to them as they come.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use futures_util::task::AtomicWaker;

use super::broker::{Answer, Failure, Receipt};

/// The publishes of one channel, each under a number.
pub(super) struct Confirms {
    waiting: FuturesUnordered<Numbered>,
    answers: Vec<Answered>,
    woken: Arc<Woken>,
}

/// The number of a publish, and what became of it.
pub(super) type Answered = (u64, Result<Receipt, Failure>);

impl Confirms {
    pub(super) fn new() -> Self {
        Self {
            waiting: FuturesUnordered::new(),
            answers: Vec::new(),
            woken: Arc::default(),
        }
    }

    /// Sends a publish on its way: it leaves before any that is pushed later.
    pub(super) fn push(&mut self, number: u64, mut answer: Answer) {
        // This poll only makes it leave. The set polls it again, with a waker that counts.
        let mut context = Context::from_waker(Waker::noop());
        match answer.as_mut().poll(&mut context) {
            Poll::Ready(result) => self.answers.push((number, result)),
            Poll::Pending => self.waiting.push(Numbered { number, answer }),
        }
    }

    /// Collects every answer that is there, not only some: see [`super::pairing`]. True if there
    /// are any; they are fetched with [`Self::take`].
    ///
    /// A future that is not ready although more could be collected must have woken its waker
    /// already. So the set is polled until it is pending without having done that.
    pub(super) fn poll_all(&mut self, context: &Context<'_>) -> bool {
        self.woken.task.register(context.waker());
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut context = Context::from_waker(&waker);
        loop {
            self.woken.flag.store(false, Ordering::Release);
            match self.waiting.poll_next_unpin(&mut context) {
                Poll::Ready(Some(answer)) => self.answers.push(answer),
                Poll::Pending if self.woken.flag.load(Ordering::Acquire) => {}
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        !self.answers.is_empty()
    }

    /// What [`Self::poll_all`] collected.
    pub(super) fn take(&mut self) -> Vec<Answered> {
        std::mem::take(&mut self.answers)
    }
}

impl fmt::Debug for Confirms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirms")
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

struct Numbered {
    number: u64,
    answer: Answer,
}

impl Future for Numbered {
    type Output = Answered;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answered> {
        let number = self.number;
        self.answer
            .as_mut()
            .poll(context)
            .map(|result| (number, result))
    }
}

/// Remembers that it was woken, and wakes the task.
#[derive(Default)]
struct Woken {
    flag: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.flag.store(true, Ordering::Release);
        self.task.wake();
    }
}
