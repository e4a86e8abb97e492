//! What is known, what is on its way, and what each source may still ask for. Everything in it has
//! a bound.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::pipeline::evidence::{Action, Asker, Document, Errand, Origin, Target, Unfetched};
use crate::pipeline::limit::Rate;
use crate::pipeline::limit::bucket::Bucket;

/// Most documents that are kept.
pub(super) const DOCUMENTS_MAX: usize = 256;

/// Most failures that are remembered.
pub(super) const FAILURES_MAX: usize = 1_024;

/// Most calls at once for one source.
pub(super) const CALLS_MAX: usize = 32;

/// And most of them for strangers: the others are for who is known.
pub(super) const STRANGERS_CALLS_MAX: usize = 24;

/// How long a document is given without being fetched again, when its owner does not say.
const FRESH_DEFAULT: Duration = Duration::from_hours(1);

/// And at least and at most, whatever its owner says. What is kept here changes its name when it
/// changes.
const FRESH_MIN: Duration = Duration::from_secs(60);
const FRESH_MAX: Duration = Duration::from_hours(24);

/// How long a document is given that cannot be had again.
const STALE_MAX: Duration = Duration::from_hours(7 * 24);

/// How long a failure is remembered.
pub(super) const FAILURE_KEPT: Duration = Duration::from_secs(15);

/// What requests may make a source fetch that it does not have: so many at once, and then one
/// every second. Genuine senders name one URL for months.
pub(super) const STRANGERS: Rate = Rate {
    count: NonZeroU32::MIN,
    period: Duration::from_secs(1),
    burst: NonZeroU32::new(20).unwrap(),
};

/// How many questions about tokens that are not known strangers may make a source ask: a genuine
/// sender has a new token every few minutes.
pub(super) const QUESTIONS: Rate = Rate {
    count: NonZeroU32::new(50).unwrap(),
    period: Duration::from_secs(1),
    burst: NonZeroU32::new(100).unwrap(),
};

/// What became of a call.
pub(super) type Answer = Result<Document, Unfetched>;

/// What to do about an errand that needs no new call.
#[derive(Debug)]
pub(super) enum Next {
    /// It is known.
    Known(Answer),
    /// Somebody else's call is on its way.
    Wait(watch::Receiver<Option<Answer>>),
}

#[derive(Debug, Default)]
pub(super) struct Table {
    kept: HashMap<Target, Kept>,
    failed: HashMap<Target, Failed>,
    /// What is on its way to be kept, and what was asked for now.
    flying: HashMap<(Target, bool), watch::Receiver<Option<Answer>>>,
    /// By source: these are configured, so there are only so many.
    sources: HashMap<Arc<str>, Allowance>,
}

#[derive(Debug)]
struct Kept {
    document: Document,
    fresh_until: Instant,
    stale_until: Instant,
    used: Instant,
}

#[derive(Debug)]
struct Failed {
    why: Unfetched,
    until: Instant,
}

#[derive(Debug)]
struct Allowance {
    strangers: Bucket,
    questions: Bucket,
    calls: usize,
    /// How many of these are for strangers.
    strange_calls: usize,
}

impl Table {
    /// What to do about a GET. `None`: it is on its way by `wait`, and the caller makes the call.
    pub(super) fn ask(
        &mut self,
        errand: &Errand,
        wait: &watch::Receiver<Option<Answer>>,
        now: Instant,
    ) -> Option<Next> {
        let keeps = matches!(errand.action, Action::Get);
        if keeps && let Some(answer) = self.known(&errand.target, now) {
            return Some(Next::Known(answer));
        }
        let flight = (errand.target.clone(), keeps);
        if let Some(other) = self.flying.get(&flight) {
            return Some(Next::Wait(other.clone()));
        }
        if let Some(refused) = self.admit(errand, now) {
            let stale = self.stale(&errand.target, now);
            return Some(stale.map_or(refused, |document| Next::Known(Ok(document))));
        }
        self.flying.insert(flight, wait.clone());
        None
    }

    /// Takes one of the source's calls. `None`: it may be made.
    pub(super) fn admit(&mut self, errand: &Errand, now: Instant) -> Option<Next> {
        let source = Arc::clone(&errand.source);
        let allowance = self.sources.entry(source).or_insert(Allowance {
            strangers: Bucket::new(now),
            questions: Bucket::new(now),
            calls: 0,
            strange_calls: 0,
        });
        if allowance.admits(errand, now) {
            None
        } else {
            Some(Next::Known(Err(Unfetched::TooMany)))
        }
    }

    /// A call has ended. Gives what its callers are told.
    pub(super) fn land(&mut self, errand: &Errand, answer: Answer, now: Instant) -> Answer {
        if let Some(allowance) = self.sources.get_mut(&errand.source) {
            allowance.land(errand);
        }
        let keeps = match errand.action {
            Action::Get => true,
            Action::GetNow => false,
            Action::Post { .. } => return answer,
        };
        self.flying.remove(&(errand.target.clone(), keeps));
        if !keeps {
            // Whoever asks for what is kept should hear the news, too.
            if let Ok(document) = &answer
                && self.kept.contains_key(&errand.target)
            {
                self.keep(&errand.target, document.clone(), now);
            }
            return answer;
        }
        match answer {
            Ok(document) => {
                self.keep(&errand.target, document.clone(), now);
                Ok(document)
            }
            Err(why) => {
                self.remember(&errand.target, why.clone(), now);
                self.stale(&errand.target, now).ok_or(why)
            }
        }
    }

    fn known(&mut self, target: &Target, now: Instant) -> Option<Answer> {
        if let Some(kept) = self.kept.get_mut(target)
            && now < kept.fresh_until
        {
            kept.used = now;
            return Some(Ok(kept.document.clone()));
        }
        let failed = self.failed.get(target).filter(|it| now < it.until)?;
        let why = failed.why.clone();
        Some(self.stale(target, now).ok_or(why))
    }

    /// What came a while ago, for who cannot have anything newer.
    pub(super) fn stale(&mut self, target: &Target, now: Instant) -> Option<Document> {
        let kept = self.kept.get_mut(target)?;
        kept.used = now;
        (now < kept.stale_until).then(|| kept.document.clone())
    }

    fn keep(&mut self, target: &Target, document: Document, now: Instant) {
        self.failed.remove(target);
        if self.kept.len() >= DOCUMENTS_MAX && !self.kept.contains_key(target) {
            // What strangers have named goes first.
            let oldest = self.kept.iter().min_by_key(|(target, kept)| {
                let is_configured = target.origin() == Origin::Configuration;
                (is_configured, kept.used)
            });
            let oldest = oldest.map(|(target, _)| target.clone());
            oldest.and_then(|target| self.kept.remove(&target));
        }
        let fresh = document.max_age.unwrap_or(FRESH_DEFAULT);
        let kept = Kept {
            document,
            fresh_until: now + fresh.clamp(FRESH_MIN, FRESH_MAX),
            stale_until: now + STALE_MAX,
            used: now,
        };
        self.kept.insert(target.clone(), kept);
    }

    fn remember(&mut self, target: &Target, why: Unfetched, now: Instant) {
        if self.failed.len() >= FAILURES_MAX {
            self.failed.retain(|_, failed| now < failed.until);
        }
        if self.failed.len() >= FAILURES_MAX {
            let first = self.failed.iter().min_by_key(|(_, failed)| failed.until);
            let first = first.map(|(target, _)| target.clone());
            first.and_then(|target| self.failed.remove(&target));
        }
        let until = now + FAILURE_KEPT;
        self.failed.insert(target.clone(), Failed { why, until });
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        (self.kept.len(), self.failed.len(), self.flying.len())
    }
}

impl Allowance {
    /// Takes one of the calls, if there is one for who asks.
    fn admits(&mut self, errand: &Errand, now: Instant) -> bool {
        if self.calls >= CALLS_MAX {
            return false;
        }
        if errand.asker == Asker::Stranger {
            let (bucket, rate) = match errand.action {
                Action::Get | Action::GetNow => (&mut self.strangers, STRANGERS),
                Action::Post { .. } => (&mut self.questions, QUESTIONS),
            };
            if self.strange_calls >= STRANGERS_CALLS_MAX || bucket.spend(rate, now).is_err() {
                return false;
            }
            self.strange_calls += 1;
        }
        self.calls += 1;
        true
    }

    fn land(&mut self, errand: &Errand) {
        self.calls = self.calls.saturating_sub(1);
        if errand.asker == Asker::Stranger {
            self.strange_calls = self.strange_calls.saturating_sub(1);
        }
    }
}
