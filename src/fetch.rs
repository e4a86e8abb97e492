//! The one client for everything that the gateway itself fetches: certificates, key sets, the word
//! of an authorisation server, confirmations of subscriptions.
//!
//! It calls what a [`Target`](crate::pipeline::evidence::Target) names and nothing else: `https`
//! only, by name, at the listed port; it looks the name up itself, refuses every address that is
//! not on the internet unless the operator lists it, and connects to exactly the address that it
//! checked. No redirects, no proxies, one deadline, a cap on what is read.
//!
//! One call at a time is made for a URL, whoever asks; what came is kept for a while, and so is
//! that nothing came. What strangers can make it call, by naming URLs that nobody has asked for
//! before, is limited for each source, so that it is no use for attacking the hosts on its lists.

mod address;
mod call;
mod table;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config;
use crate::fetch::call::Calling;
use crate::fetch::table::{Answer, Next, Table};
use crate::metrics::Metrics;
use crate::pipeline::evidence::{Action, Document, Errand, Fetching, Unfetched};

/// Fetches. Clones share what they keep. What is on its way ends with the last of them.
#[derive(Clone)]
pub struct Fetcher {
    shared: Arc<Shared>,
    calls: Arc<Mutex<JoinSet<()>>>,
}

#[derive(Debug)]
struct Shared {
    calling: Calling,
    table: Mutex<Table>,
    metrics: Arc<Metrics>,
}

impl Fetcher {
    /// By `[fetch]`. Reads nothing yet.
    pub fn new(config: &config::Fetch, metrics: Arc<Metrics>) -> Self {
        Self {
            shared: Arc::new(Shared {
                calling: Calling::new(config),
                table: Mutex::default(),
                metrics,
            }),
            calls: Arc::default(),
        }
    }

    /// Runs a call to its end, whoever still waits for it.
    fn begin(&self, call: impl Future<Output = ()> + Send + 'static) {
        let mut calls = locked(&self.calls);
        while calls.try_join_next().is_some() {}
        calls.spawn(call);
    }

    fn begin_shared(&self, errand: Errand, tell: watch::Sender<Option<Answer>>) {
        let shared = Arc::clone(&self.shared);
        self.begin(async move {
            let answer = shared.call(&errand).await;
            let keeps = matches!(errand.action, Action::Get);
            let mut table = shared.table();
            let answer = table.land(&errand, answer, keeps, Instant::now());
            drop(table);
            tell.send_replace(Some(answer));
        });
    }
}

impl Fetching for Fetcher {
    fn fetch(&self, errand: Errand) -> BoxFuture<'static, Answer> {
        let fetcher = self.clone();
        Box::pin(async move {
            let bytes_max = errand.bytes_max;
            let mut wait = match fetcher.next(errand) {
                Next::Known(answer) => return fitting(answer, bytes_max),
                Next::Wait(wait) => wait,
            };
            let landed = wait.wait_for(Option::is_some).await;
            match landed.as_deref() {
                Ok(Some(answer)) => fitting(answer.clone(), bytes_max),
                _ => Err(Unfetched::Broken("the call was given up".to_owned())),
            }
        })
    }
}

impl Fetcher {
    /// What to do about an errand; begins the call where one is needed.
    fn next(&self, errand: Errand) -> Next {
        let (tell, wait) = watch::channel(None);
        let next = match errand.action {
            // Each is a question of its own.
            Action::Post { .. } => self.shared.table().admit(&errand, Instant::now()),
            Action::Get | Action::GetNow => self.shared.table().ask(&errand, &wait, Instant::now()),
        };
        match next {
            Some(Next::Known(Err(Unfetched::TooMany))) => {
                self.shared.count(&errand, Err(&Unfetched::TooMany));
                Next::Known(Err(Unfetched::TooMany))
            }
            Some(next) => next,
            None => {
                self.begin_shared(errand, tell);
                Next::Wait(wait)
            }
        }
    }
}

/// Another use may have asked for more than this one takes.
fn fitting(answer: Answer, bytes_max: usize) -> Answer {
    answer.and_then(|document| {
        if document.body.len() > bytes_max {
            Err(Unfetched::TooLarge(bytes_max))
        } else {
            Ok(document)
        }
    })
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        locked(&self.table)
    }

    async fn call(&self, errand: &Errand) -> Result<Document, Unfetched> {
        let answer = self.calling.call(errand).await;
        self.count(errand, answer.as_ref().map(drop));
        answer
    }

    fn count(&self, errand: &Errand, outcome: Result<(), &Unfetched>) {
        let (source, url) = (&errand.source, &errand.target);
        let label = match outcome {
            Ok(()) => {
                tracing::debug!(%source, %url, "fetched");
                "ok"
            }
            Err(why) => {
                tracing::warn!(%source, %url, error = %why, "could not be fetched");
                why.label()
            }
        };
        self.metrics.fetched(source, label);
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
