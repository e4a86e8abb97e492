//! Secrets that a provider sends in its handshake: Asana, Notion.
//!
//! Whoever sends such a handshake first decides whose events are taken from then on. So one is
//! listened to only while an operator has opened a window, only once, and what it brought stays
//! until an operator opens another. Everything else is refused like a wrong signature.
//!
//! This is the decision; where secrets are kept is behind [`Keep`].

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use subtle::ConstantTimeEq as _;
use tokio::time::{Instant, timeout_at};

use crate::clock::Now;
use crate::config::raw::RawVerify;
use crate::pipeline::arrival::Inbound;
use crate::pipeline::expr::Found;
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::handshake::{Handshake, HandshakeReply, at};
use crate::pipeline::verify::{Context, Refusal, Verifier};
use crate::reject::Reject;
use crate::secret::{Labelled, Secret};

/// How long a window may be open.
pub const WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// How long a former secret counts at least beside the one that came after it: time to notice that
/// somebody else was faster than the provider, and to forget it.
pub const OVERLAP: Duration = Duration::from_hours(1);

/// How long a secret may be, in bytes: too short could be guessed, too long is none.
pub const SECRET_BYTES: RangeInclusive<usize> = 16..=256;

/// What is known of one source's secrets. All of it is kept, so that a restart changes nothing.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// How many secrets there have been.
    pub captured: u64,
    /// The secret that came last.
    pub current: Option<Enrolled>,
    /// The one before, until the current one has verified something, and for [`OVERLAP`] at least.
    pub former: Option<Enrolled>,
    /// While the next one is waited for.
    pub window: Option<Window>,
}

/// A secret that came in a handshake.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// 1 for the source's first.
    pub number: u64,
    /// When it came.
    pub since: Timestamp,
    /// What it is.
    pub secret: Secret,
}

/// When a handshake is listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Since when.
    pub opened_at: Timestamp,
    /// Until when.
    pub closes_at: Timestamp,
    /// Whether the former secret goes as soon as there is a new one.
    pub replace: bool,
}

/// Puts records where they survive a crash.
pub trait Keep: std::fmt::Debug + Send + Sync {
    /// Returns when the record is safe.
    ///
    /// # Errors
    ///
    /// What the system said; then what was kept before still is.
    fn keep(&self, source: &str, record: &Record) -> io::Result<()>;
}

/// Why a secret was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// Nobody waits for one.
    #[error("nobody has opened a window for it")]
    Closed,
    /// It is not one.
    #[error("a secret is {} to {} printable characters", SECRET_BYTES.start(), SECRET_BYTES.end())]
    Unfit,
    /// It could not be kept.
    #[error("it cannot be stored: {0}")]
    Disk(#[from] io::Error),
}

/// The secrets of one source that come in handshakes.
#[derive(Debug)]
pub struct Enrolment {
    source: Arc<str>,
    recipe: Recipe,
    /// Held while a change is made safe, so that changes come one after another; readers do not
    /// wait for the disk.
    keeper: Mutex<Option<Arc<dyn Keep>>>,
    state: RwLock<State>,
}

/// The right to change something, with the keeper that makes it safe.
type Turn<'a> = MutexGuard<'a, Option<Arc<dyn Keep>>>;

/// What a verifier is made of, once there is a secret.
#[derive(Debug)]
struct Recipe {
    verify: RawVerify,
    config: BTreeMap<String, String>,
    url: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct State {
    record: Record,
    /// The window's end by the clock that nobody sets.
    closes: Option<Instant>,
    verifier: Option<Arc<Verifier>>,
}

impl Enrolled {
    /// What it is called in logs, metrics and messages.
    pub fn label(&self) -> String {
        format!("enrolled-{}", self.number)
    }

    fn labelled(&self) -> Labelled {
        Labelled {
            label: Arc::from(self.label()),
            secret: self.secret.clone(),
        }
    }
}

impl Enrolment {
    /// Nothing is enrolled yet. `context` is that of the source, without its secrets.
    pub fn new(source: Arc<str>, verify: RawVerify, context: &Context<'_>) -> Self {
        Self {
            source,
            recipe: Recipe {
                verify,
                config: context.config.clone(),
                url: context.url.clone(),
            },
            keeper: Mutex::new(None),
            state: RwLock::new(State::default()),
        }
    }

    /// A secret for finding mistakes in a configuration that has none yet. Nothing is verified
    /// with it.
    pub fn stand_in() -> Labelled {
        Labelled {
            label: Arc::from("enrolled"),
            secret: Secret::new(vec![b'0'; 32]),
        }
    }

    /// Goes on where an earlier process stopped. From now on changes are kept by `keeper`. A
    /// window that the clock was set back over is closed.
    ///
    /// # Errors
    ///
    /// The kept secrets do not fit the source's scheme any more.
    pub fn recall(
        &self,
        mut record: Record,
        keeper: Arc<dyn Keep>,
        now: Now,
    ) -> Result<(), &'static str> {
        let left = record
            .window
            .filter(|window| window.opened_at <= now.wall)
            .and_then(|window| time_left(&window, now.wall));
        if left.is_none() {
            record.window = None;
        }
        let closes = left.map(|left| now.mono + left.min(*WINDOW.end()));
        let verifier = self.recipe.verifier(&record);
        let fits = verifier.is_some() || record.current.is_none();
        *self.turn() = Some(keeper);
        self.set(State {
            record,
            closes,
            verifier,
        });
        if fits {
            Ok(())
        } else {
            Err("the enrolled secret does not fit the source's `verify` any more")
        }
    }

    /// What verifies events now; `None` before anything is enrolled.
    pub fn verifier(&self) -> Option<Arc<Verifier>> {
        self.read(|state| state.verifier.clone())
    }

    /// What is known, for those who may know. Its secrets are for nobody to show.
    pub fn record(&self) -> Record {
        self.read(|state| state.record.clone())
    }

    /// The window that is open now.
    pub fn window(&self, now: Now) -> Option<Window> {
        self.read(|state| state.window(now))
    }

    /// Listens for a secret from now on, for so long.
    ///
    /// # Errors
    ///
    /// It could not be kept.
    pub fn open(&self, now: Now, length: Duration, replace: bool) -> io::Result<Window> {
        let length = length.clamp(*WINDOW.start(), *WINDOW.end());
        let window = Window {
            opened_at: now.wall,
            closes_at: now.wall + length,
            replace,
        };
        self.change(|state| {
            state.record.window = Some(window);
            state.closes = Some(now.mono + length);
        })?;
        Ok(window)
    }

    /// Listens no longer. Secrets that are there stay. Waits for the disk.
    ///
    /// # Errors
    ///
    /// It could not be kept; the window is still open.
    pub fn close(&self) -> io::Result<()> {
        self.change(|state| {
            state.record.window = None;
            state.closes = None;
        })
    }

    /// Whether a handshake with this secret would be answered now.
    ///
    /// # Errors
    ///
    /// See [`NotTaken`].
    pub fn expects(&self, secret: &[u8], now: Now) -> Result<(), NotTaken> {
        self.read(|state| state.awaits(secret, now)).map(drop)
    }

    /// Takes a secret, and closes the window; false for the one that is there already. What was
    /// enrolled before still counts until it can [go](Enrolment::supersedes), unless the window
    /// was opened to replace it. Waits for the disk.
    ///
    /// # Errors
    ///
    /// See [`NotTaken`]; then nothing has changed.
    pub fn capture(&self, secret: &[u8], now: Now) -> Result<bool, NotTaken> {
        let turn = self.turn();
        let state = self.read(State::clone);
        let Some(window) = state.awaits(secret, now)? else {
            return Ok(false);
        };
        let number = state.record.captured + 1;
        let former = state.record.current.filter(|_| !window.replace);
        let record = Record {
            captured: number,
            current: Some(Enrolled {
                number,
                since: now.wall,
                secret: Secret::new(secret.to_vec()),
            }),
            former,
            window: None,
        };
        let verifier = self.recipe.verifier(&record).ok_or(NotTaken::Unfit)?;
        self.store(&turn, &record)?;
        self.set(State {
            record,
            closes: None,
            verifier: Some(verifier),
        });
        Ok(true)
    }

    /// Whether the secret of this label, which has just verified something, has been there for
    /// long enough that the former one can go: see [`Enrolment::retire`].
    pub fn supersedes(&self, label: Option<&str>, now: Now) -> bool {
        self.read(|state| state.supersedes(label, now))
    }

    /// Lets the former secret go, if the one of this label [supersedes](Enrolment::supersedes) it
    /// still, and nobody else is changing something; says whether it went. Waits for the disk.
    ///
    /// # Errors
    ///
    /// It is still on the disk. It verifies nothing any more until a restart.
    pub fn retire(&self, label: Option<&str>, now: Now) -> io::Result<bool> {
        let turn = match self.keeper.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(false),
        };
        let mut state = self.read(State::clone);
        if !state.supersedes(label, now) {
            return Ok(false);
        }
        state.record.former = None;
        state.verifier = self.recipe.verifier(&state.record);
        let record = state.record.clone();
        self.set(state);
        self.store(&turn, &record)?;
        Ok(true)
    }

    /// Forgets the secret that came last, and closes the window. The former one, where there still
    /// is one, counts alone again. Waits for the disk.
    ///
    /// # Errors
    ///
    /// Nothing is forgotten.
    pub fn forget(&self) -> io::Result<()> {
        self.change(|state| {
            let record = Record {
                captured: state.record.captured,
                current: state.record.former.take(),
                ..Record::default()
            };
            *state = State {
                verifier: self.recipe.verifier(&record),
                record,
                closes: None,
            };
        })
    }

    fn change(&self, change: impl FnOnce(&mut State)) -> io::Result<()> {
        let turn = self.turn();
        let mut state = self.read(State::clone);
        change(&mut state);
        self.store(&turn, &state.record)?;
        self.set(state);
        Ok(())
    }

    fn store(&self, turn: &Turn<'_>, record: &Record) -> io::Result<()> {
        match turn.as_ref() {
            Some(keeper) => keeper.keep(&self.source, record),
            None => Err(io::Error::other("nobody keeps it")),
        }
    }

    /// A panic leaves nothing half done here: every change is one assignment.
    fn turn(&self) -> Turn<'_> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl State {
    fn supersedes(&self, label: Option<&str>, now: Now) -> bool {
        let Some(current) = &self.record.current else {
            return false;
        };
        self.record.former.is_some()
            && label == Some(&*current.label())
            && Duration::try_from(now.wall.duration_since(current.since))
                .is_ok_and(|age| age >= OVERLAP)
    }

    /// By both clocks: neither one that stands still nor one that is set back keeps it open.
    fn window(&self, now: Now) -> Option<Window> {
        let window = self.record.window?;
        let is_open = self.closes.is_some_and(|closes| now.mono < closes)
            && time_left(&window, now.wall).is_some();
        is_open.then_some(window)
    }

    /// The window that lets this secret in. `None` for the one that is enrolled: its provider did
    /// not get our answer, and asks again.
    fn awaits(&self, secret: &[u8], now: Now) -> Result<Option<Window>, NotTaken> {
        let current = self.record.current.as_ref();
        if current.is_some_and(|current| bool::from(current.secret.expose().ct_eq(secret))) {
            return Ok(None);
        }
        let window = self.window(now).ok_or(NotTaken::Closed)?;
        let is_printable = secret.iter().all(u8::is_ascii_graphic);
        if is_printable && SECRET_BYTES.contains(&secret.len()) {
            Ok(Some(window))
        } else {
            Err(NotTaken::Unfit)
        }
    }
}

fn time_left(window: &Window, now: Timestamp) -> Option<Duration> {
    let left: SignedDuration = window.closes_at.duration_since(now);
    Duration::try_from(left).ok().filter(|left| !left.is_zero())
}

impl Recipe {
    /// `None` without a secret, or with one that is not written as the scheme wants it.
    fn verifier(&self, record: &Record) -> Option<Arc<Verifier>> {
        let all = record.current.iter().chain(&record.former);
        let secrets: Vec<Labelled> = all.map(Enrolled::labelled).collect();
        if secrets.is_empty() {
            return None;
        }
        let context = Context {
            secrets: &secrets,
            config: &self.config,
            url: self.url.clone(),
        };
        let verifier = Verifier::compile(&self.verify, &context);
        verifier.ok().map(Arc::new)
    }
}

// === a request that brings a secret ===

/// A handshake that brings a secret, and its answer for when that has been taken.
#[derive(Debug)]
pub struct Offer {
    /// What it brings.
    pub secret: Secret,
    /// What it is answered.
    pub reply: HandshakeReply,
}

/// What a request offers by the first rule that fits it.
pub fn offer(rules: &[Handshake], inbound: &Inbound) -> Option<Offer> {
    let mut rules = at(rules, &inbound.head.path);
    rules.find_map(|rule| {
        let place = rule.capture.as_ref()?;
        let reply = rule.answer(inbound)?;
        match Facts::of(inbound).find(place) {
            Ok(Found::Once(secret)) => Some(Offer {
                secret: Secret::new(secret.into_owned()),
                reply,
            }),
            Ok(Found::Absent | Found::Twice) | Err(_) => None,
        }
    })
}

/// Takes what is offered, and gives the answer when it is safe.
///
/// # Errors
///
/// Like a wrong signature, unless somebody waits for it; 503 where it cannot be stored.
pub async fn take(
    offer: Offer,
    enrolment: Option<&Arc<Enrolment>>,
    now: Now,
    deadline: Instant,
) -> Result<HandshakeReply, Reject> {
    let Offer { secret, reply } = offer;
    let Some(enrolment) = enrolment else {
        return Err(refused(&NotTaken::Closed));
    };
    // Strangers cost no thread and no turn.
    if let Err(why) = enrolment.expects(secret.expose(), now) {
        return Err(refused(&why));
    }
    let source = &*enrolment.source;
    let taker = Arc::clone(enrolment);
    let work = tokio::task::spawn_blocking(move || taker.capture(secret.expose(), now));
    match timeout_at(deadline, work).await {
        Ok(Ok(Ok(true))) => {
            tracing::warn!(
                source,
                "a secret was enrolled and the window is closed: if nobody set up the provider \
                 just now, forget it with `hookgate enroll --forget`"
            );
            Ok(reply)
        }
        // The provider did not get our answer, and asks again.
        Ok(Ok(Ok(false))) => Ok(reply),
        Ok(Ok(Err(why))) => Err(refused(&why)),
        Ok(Err(_panicked)) => Err(Reject::Defect),
        Err(_elapsed) => Err(Reject::TooSlow),
    }
}

/// What a secret that is not taken is answered.
pub(crate) fn refused(why: &NotTaken) -> Reject {
    match why {
        NotTaken::Closed => Reject::Unverified(Refusal::EnrolmentClosed),
        NotTaken::Unfit => Reject::Unverified(Refusal::EnrolmentUnfit),
        NotTaken::Disk(_) => Reject::SecretNotStored(why.to_string()),
    }
}

/// Lets the former secret go, if this label is that of its successor. Nobody waits for longer than
/// the deadline.
pub async fn settle(enrolment: &Arc<Enrolment>, label: Option<&str>, now: Now, deadline: Instant) {
    if !enrolment.supersedes(label, now) {
        return;
    }
    let taker = Arc::clone(enrolment);
    let label = label.map(str::to_owned);
    let work = tokio::task::spawn_blocking(move || {
        let source = &*taker.source;
        match taker.retire(label.as_deref(), now) {
            Ok(true) => tracing::info!(source, "the former secret has gone: the new one is in use"),
            Ok(false) => {}
            Err(error) => tracing::error!(source, %error, "the former secret is still stored"),
        }
    });
    // It goes on without us, and what it comes to is in the log.
    drop(timeout_at(deadline, work).await);
}

#[cfg(test)]
mod tests;
