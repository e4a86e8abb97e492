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
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::clock::Now;
use crate::config;
use crate::fetch::call::Calling;
use crate::fetch::table::{Answer, Next, Table};
use crate::metrics::Metrics;
use crate::pipeline::evidence::{Action, Document, Errand, Fetching, Unfetched};

/// How long something newer is waited for where what came before will do.
const PATIENCE: Duration = Duration::from_secs(1);

/// When an errand that nobody waits for is run: so long after it was given, then after each
/// failure. Whoever is to be called has had our answer by then; and one who was not ready gets
/// another try.
const LATER: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
];

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

    /// Calls at once, or after each of `waits` until it goes well.
    fn begin_shared(
        &self,
        errand: Errand,
        waits: &'static [Duration],
        tell: watch::Sender<Option<Answer>>,
    ) {
        let shared = Arc::clone(&self.shared);
        // Before the call is begun: it may end before it is.
        let owed = (!waits.is_empty()).then(|| Owed::new(errand.clone()));
        self.begin(async move {
            let answer = match owed {
                None => landed(shared.call(&errand)).await,
                Some(owed) => shared.call_later(owed, waits).await,
            };
            let answer = shared.table().land(&errand, answer, Instant::now());
            tell.send_replace(Some(answer));
        });
    }
}

impl Fetching for Fetcher {
    fn fetch(&self, errand: Errand) -> BoxFuture<'static, Answer> {
        let fetcher = self.clone();
        Box::pin(async move {
            let bytes_max = errand.bytes_max;
            let mut wait = match fetcher.next(&errand, &[]) {
                Next::Known(answer) => return fitting(answer, bytes_max),
                Next::Wait(wait) => wait,
            };
            if let Some(stale) = fetcher.stale(&errand) {
                let waited = timeout(PATIENCE, wait.wait_for(Option::is_some)).await;
                if waited.is_err() {
                    return fitting(Ok(stale), bytes_max);
                }
            }
            let landed = wait.wait_for(Option::is_some).await;
            match landed.as_deref() {
                Ok(Some(answer)) => fitting(answer.clone(), bytes_max),
                _ => Err(Unfetched::Broken("the call was given up".to_owned())),
            }
        })
    }

    fn fetch_later(&self, errand: Errand) {
        if let Next::Known(Err(why)) = self.next(&errand, &LATER) {
            give_up(&errand, &why);
        }
    }
}

impl Fetcher {
    /// What to do about an errand; begins the call where one is needed, after `waits` if there are
    /// any.
    fn next(&self, errand: &Errand, waits: &'static [Duration]) -> Next {
        let (tell, wait) = watch::channel(None);
        let next = match errand.action {
            // Each is a question of its own.
            Action::Post { .. } => self.shared.table().admit(errand, Instant::now()),
            Action::Get | Action::GetNow => self.shared.table().ask(errand, &wait, Instant::now()),
        };
        match next {
            Some(Next::Known(Err(Unfetched::TooMany))) => {
                self.shared.count(errand, Err(&Unfetched::TooMany));
                Next::Known(Err(Unfetched::TooMany))
            }
            Some(next) => next,
            None => {
                self.begin_shared(errand.clone(), waits, tell);
                Next::Wait(wait)
            }
        }
    }

    /// What would do, if what is waited for does not come.
    fn stale(&self, errand: &Errand) -> Option<Document> {
        let takes_kept = matches!(errand.action, Action::Get);
        let mut table = takes_kept.then(|| self.shared.table())?;
        table.stale(&errand.target, Instant::now())
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

/// What has nothing in it of what is asked for is no answer.
fn holding(document: Document, errand: &Errand) -> Answer {
    let now = Now::read().wall;
    match errand
        .holds
        .as_ref()
        .map(|it| it.check(&document.body, now))
    {
        Some(Err(what)) => Err(Unfetched::Broken(what)),
        None | Some(Ok(())) => Ok(document),
    }
}

/// A defect of ours in a call ends that call only: it lands like any other.
async fn landed(call: impl Future<Output = Answer>) -> Answer {
    let call = AssertUnwindSafe(call).catch_unwind();
    let defect = |_panic| Err(Unfetched::Broken("a defect of ours".to_owned()));
    call.await.unwrap_or_else(defect)
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        locked(&self.table)
    }

    async fn call(&self, errand: &Errand) -> Result<Document, Unfetched> {
        let answer = self.calling.call(errand).await;
        let answer = answer.and_then(|document| holding(document, errand));
        self.count(errand, answer.as_ref().map(drop));
        answer
    }

    /// Calls after each of these waits, until it goes well.
    async fn call_later(&self, mut owed: Owed, waits: &[Duration]) -> Answer {
        for wait in waits {
            sleep(*wait).await;
            match landed(self.call(&owed.errand)).await {
                Ok(document) => {
                    owed.pay();
                    return Ok(document);
                }
                Err(why) => owed.why = Some(why),
            }
        }
        Err(owed.why.clone().unwrap_or(Unfetched::TooSlow))
    }

    fn count(&self, errand: &Errand, outcome: Result<(), &Unfetched>) {
        let (source, url) = (&errand.source, &errand.target);
        let label = match outcome {
            Ok(()) => {
                tracing::debug!(%source, %url, "fetched");
                "ok"
            }
            // Strangers choose how often.
            Err(why @ Unfetched::TooMany) => {
                tracing::debug!(%source, %url, error = %why, "not fetched");
                why.label()
            }
            Err(why) => {
                tracing::warn!(%source, %url, error = %why, "could not be fetched");
                why.label()
            }
        };
        self.metrics.fetched(source, label);
    }
}

/// A call that nobody waits for, and that was promised by our answer. Dropped before it went well,
/// at the gateway's end too, it is left to a person.
struct Owed {
    errand: Errand,
    is_paid: bool,
    /// Why it has not gone well yet; `None`: it was not tried.
    why: Option<Unfetched>,
}

impl Owed {
    fn new(errand: Errand) -> Self {
        Self {
            errand,
            is_paid: false,
            why: None,
        }
    }

    fn pay(&mut self) {
        self.is_paid = true;
        let (source, url) = (&self.errand.source, &self.errand.target);
        tracing::info!(%source, %url, "a subscription is confirmed");
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        match &self.why {
            _ if self.is_paid => {}
            Some(why) => give_up(&self.errand, why),
            None => give_up(&self.errand, &"the gateway stops before it is called"),
        }
    }
}

/// What nobody waited for is left to a person, who has to know the whole URL.
fn give_up(errand: &Errand, why: &dyn fmt::Display) {
    let url = errand.target.url();
    tracing::warn!(source = %errand.source, url, error = %why, "a subscription waits for a person to open this URL");
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
