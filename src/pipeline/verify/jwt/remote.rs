//! Keys that the issuer publishes: what is known of them, and when somebody has to ask again.
//!
//! Whoever fetches knows how long a set stays good and gives an old one where there is no newer.
//! Here is what came of it, ready for use, so that a request waits for the network only when
//! nothing is known yet, or when it names a key that nobody has heard of.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::time::Instant;

use super::algorithm::TokenAlgorithm;
use super::jwks;
use super::key::TokenKey;
use crate::pipeline::evidence::{Action, Document, Errand, Fetching, Hindrance, Target, Unfetched};

/// How often it is asked in passing whether there is a newer set.
const GLANCE_EVERY: Duration = Duration::from_mins(1);

/// After so long without any word, a request waits for one: nobody sent anything in the meantime,
/// and keys may have been withdrawn.
const SILENCE_MAX: Duration = Duration::from_hours(1);

/// How long a key that nobody has heard of is no reason to fetch the set again.
pub(super) const COOL_DOWN: Duration = Duration::from_secs(30);

/// What the keys are called in messages and metrics.
const LABEL: &str = "jwks";

/// Keys at a URL.
pub(super) struct Remote {
    target: Target,
    algorithms: Vec<TokenAlgorithm>,
    label: Arc<str>,
    known: ArcSwapOption<Known>,
    /// The last fetch that would not take what was kept, and when it began.
    forced: Mutex<Option<(Instant, Forced)>>,
}

type Forced = Shared<BoxFuture<'static, Result<Document, Unfetched>>>;

/// A set as it was last heard of.
struct Known {
    body: Bytes,
    keys: IssuerKeys,
    heard: Instant,
}

/// The keys of an issuer at one moment.
#[derive(Clone)]
pub struct IssuerKeys(Arc<Vec<TokenKey>>);

/// What has to be done before a request can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing.
    Judge,
    /// Ask whether there is a newer set, without waiting.
    Glance,
    /// Wait for the set.
    Wait,
    /// Wait for a set that nobody has kept.
    Force,
}

impl Remote {
    pub(super) fn new(target: Target, algorithms: &[TokenAlgorithm]) -> Self {
        Self {
            target,
            algorithms: algorithms.to_vec(),
            label: Arc::from(LABEL),
            known: ArcSwapOption::empty(),
            forced: Mutex::default(),
        }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// What was last heard, for whoever may not ask.
    pub(super) fn last(&self) -> Option<IssuerKeys> {
        self.known.load().as_ref().map(|known| known.keys.clone())
    }

    /// Begins the first fetch, without waiting.
    pub(super) fn warm(&self, source: &Arc<str>, fetching: &dyn Fetching) {
        drop(
            fetching
                .fetch(self.errand(source, Action::Get))
                .now_or_never(),
        );
    }

    /// The keys to judge a request by; `fits` says whether those known so far will do.
    ///
    /// # Errors
    ///
    /// There are none, or none that fit, and they could not be fetched.
    pub(super) async fn keys(
        &self,
        fits: impl Fn(&[TokenKey]) -> bool,
        source: &Arc<str>,
        fetching: &dyn Fetching,
        now: Instant,
    ) -> Result<IssuerKeys, Hindrance> {
        let known = self.known.load_full();
        let unfetched = |why| Hindrance::Unfetched {
            url: self.target.to_string(),
            why,
        };
        match self.step(known.as_deref(), fits, now) {
            Step::Judge => {}
            Step::Glance => {
                let glance = fetching.fetch(self.errand(source, Action::Get));
                if let Some(Ok(document)) = glance.now_or_never() {
                    // What is known is good enough if this is not.
                    drop(self.learn(document, now));
                }
            }
            Step::Wait => {
                let fetched = fetching.fetch(self.errand(source, Action::Get)).await;
                let learned = fetched.and_then(|document| self.learn(document, now));
                learned.map_err(unfetched)?;
            }
            Step::Force => {
                let forced = self.forced(source, fetching, now);
                let learned = forced.await.and_then(|document| self.learn(document, now));
                learned.map_err(unfetched)?;
            }
        }
        let nothing = || unfetched(Unfetched::Offline);
        self.last().ok_or_else(nothing)
    }

    fn step(
        &self,
        known: Option<&Known>,
        fits: impl Fn(&[TokenKey]) -> bool,
        now: Instant,
    ) -> Step {
        let Some(known) = known else {
            // What was kept is of no use when a fetch was forced and nothing is known still.
            let is_first = self.lock().is_none();
            return if is_first { Step::Wait } else { Step::Force };
        };
        let silence = now.saturating_duration_since(known.heard);
        if !fits(&known.keys.0) {
            Step::Force
        } else if silence > SILENCE_MAX {
            Step::Wait
        } else if silence > GLANCE_EVERY {
            Step::Glance
        } else {
            Step::Judge
        }
    }

    /// The fetch of this cool-down, which is under way, or over, or begins now. Whoever asks gets
    /// the same answer.
    fn forced(&self, source: &Arc<str>, fetching: &dyn Fetching, now: Instant) -> Forced {
        let mut last = self.lock();
        if let Some((begun, forced)) = last.as_ref()
            && now.saturating_duration_since(*begun) < COOL_DOWN
        {
            return forced.clone();
        }
        let forced = fetching.fetch(self.errand(source, Action::GetNow)).shared();
        *last = Some((now, forced.clone()));
        forced
    }

    /// Takes a set over.
    fn learn(&self, document: Document, now: Instant) -> Result<(), Unfetched> {
        let known = self.known.load();
        let same = known.as_ref().filter(|known| known.body == document.body);
        let keys = match same {
            Some(known) => known.keys.clone(),
            None => match jwks::read(&document.body, &self.label, &self.algorithms) {
                Ok(keys) => IssuerKeys(Arc::new(keys)),
                Err(what) => {
                    self.lock().get_or_insert_with(|| {
                        let broken = Err(Unfetched::Broken(what.to_owned()));
                        (now, std::future::ready(broken).boxed().shared())
                    });
                    return Err(Unfetched::Broken(what.to_owned()));
                }
            },
        };
        let heard = now.max(same.map_or(now, |known| known.heard));
        self.known.store(Some(Arc::new(Known {
            body: document.body,
            keys,
            heard,
        })));
        Ok(())
    }

    fn errand(&self, source: &Arc<str>, action: Action) -> Errand {
        Errand::get(source, self.target.clone()).by(action)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Instant, Forced)>> {
        self.forced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IssuerKeys {
    pub(super) fn iter(&self) -> impl Iterator<Item = &TokenKey> {
        self.0.iter()
    }
}

impl fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter()).finish()
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}
