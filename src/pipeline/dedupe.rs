//! Recognises an event that came before.
//!
//! A claim has three states. `Fresh` belongs to the copy that is being stored; it becomes "seen"
//! only once the event is safe, and frees its key when dropped before that. A second copy that
//! arrives meanwhile gets the first one's [`Twin`]: it waits for its fate, so that neither answer
//! is early.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::delivery::{Coverage, Origin};

/// Most event ids remembered; the oldest make room, which shortens the window: see
/// [`Dedupe::horizon`].
pub const IDS_MAX: usize = 1_000_000;

/// What one source's provider calls one event: the first half of a SHA-256 over both names, so that
/// a table that is full has a known size, some 105 MiB, whatever senders call their events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key([u8; 16]);

/// Whose ids they are: a source's, but those without a proof (`enforce = false`) for themselves.
/// Else whoever can guess an id could have the genuine event taken for a copy, and lost.
pub fn issuer(source: &Arc<str>, coverage: Coverage) -> Arc<str> {
    match coverage {
        Coverage::Full | Coverage::Fields | Coverage::Token => Arc::clone(source),
        // No source has a blank in its name.
        Coverage::None => Arc::from(format!("{source} unproved")),
    }
}

/// Whose ids a CloudEvent's are: unique only together with its `source`.
pub fn issuer_of(source: &Arc<str>, coverage: Coverage, origin: Option<&Origin>) -> Arc<str> {
    let issuer = issuer(source, coverage);
    match origin {
        None => issuer,
        // An issuer has no control character in it, whatever the CloudEvent says.
        Some(origin) => Arc::from(format!("{issuer}\0{}", origin.source)),
    }
}

#[derive(Debug)]
enum State {
    /// Being stored; the channel tells how that ends. `None` until then.
    Pending(watch::Receiver<Option<Uuid>>),
    /// Safe, under the gateway's id.
    Seen(Uuid),
}

#[derive(Debug, Default)]
struct Table {
    states: HashMap<Key, State>,
    /// Seen keys, oldest first. Windows differ per source, so each has its own end.
    ages: VecDeque<(Instant, Key)>,
}

/// The ids of events within each source's window.
#[derive(Clone, Debug)]
pub struct Dedupe {
    table: Arc<Mutex<Table>>,
    ids_max: usize,
}

/// What is known of one event's id.
#[derive(Debug)]
pub enum Claim {
    /// New: store it, then call [`Fresh::commit`].
    Fresh(Fresh),
    /// The same id stands earlier in the same batch.
    Again,
    /// Safe already, under this id.
    Seen(Uuid),
}

/// The right to store an event. Dropped without [`Fresh::commit`], the id is free again.
#[derive(Debug)]
#[must_use = "commit it once the event is safe"]
pub struct Fresh {
    /// `None` when the source has no ids to remember.
    claim: Option<(Dedupe, Key, watch::Sender<Option<Uuid>>, Instant)>,
}

/// The wait for the copy that came first.
#[derive(Debug)]
pub struct Twin(watch::Receiver<Option<Uuid>>);

impl Dedupe {
    /// An empty table of at most `ids_max` ids.
    pub fn new(ids_max: usize) -> Self {
        Self {
            table: Arc::default(),
            ids_max,
        }
    }

    /// Claims the ids of one request's events for `window` from `now`: all of them, in their
    /// order, or none. So two requests with the same ids never wait for each other, in whatever
    /// order they have them. A name is an issuer with its id; `None` is an event without an id, which is always new.
    ///
    /// # Errors
    ///
    /// A copy of one of them is being stored: wait for its fate, then claim again.
    pub fn claim(
        &self,
        names: &[Option<(Arc<str>, String)>],
        window: Duration,
        now: Instant,
    ) -> Result<Vec<Claim>, Twin> {
        let keys: Vec<Option<Key>> = names
            .iter()
            .map(|name| name.as_ref().map(|(issuer, id)| Key::new(issuer, id)))
            .collect();
        let mut table = self.lock();
        table.forget_until(now);
        for key in keys.iter().flatten() {
            if let Some(State::Pending(fate)) = table.states.get(key) {
                return Err(Twin(fate.clone()));
            }
        }
        let forget_at = now + window;
        let claim = |key: Option<Key>| {
            let Some(key) = key else {
                return Claim::Fresh(Fresh::unclaimed());
            };
            match table.states.get(&key) {
                Some(State::Seen(id)) => Claim::Seen(*id),
                // None was when this began.
                Some(State::Pending(_)) => Claim::Again,
                None => {
                    let (tell, fate) = watch::channel(None);
                    table.states.insert(key, State::Pending(fate));
                    Claim::Fresh(Fresh {
                        claim: Some((self.clone(), key, tell, forget_at)),
                    })
                }
            }
        };
        Ok(keys.into_iter().map(claim).collect())
    }

    /// Remembers an event that was made safe before this process began, until `forget_at`. To be
    /// called in the order in which the events came.
    pub fn recall(&self, issuer: &Arc<str>, event_id: &str, id: Uuid, forget_at: Instant) {
        let key = Key::new(issuer, event_id);
        let mut table = self.lock();
        if table.states.contains_key(&key) {
            return;
        }
        table.make_room(self.ids_max);
        table.states.insert(key, State::Seen(id));
        table.ages.push_back((forget_at, key));
    }

    /// The gateway's id of the oldest event in a table that is full, so that events from before
    /// it are forgotten whatever their source's window says.
    pub fn horizon(&self) -> Option<Uuid> {
        let table = self.lock();
        if table.ages.len() < self.ids_max {
            return None;
        }
        let (_, key) = table.ages.front()?;
        match table.states.get(key)? {
            State::Seen(id) => Some(*id),
            State::Pending(_) => None,
        }
    }

    /// How many ids are remembered.
    pub fn len(&self) -> usize {
        self.lock().states.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        // Nothing under this lock can panic half way through a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Key {
    fn new(issuer: &str, event_id: &str) -> Self {
        // Its length, so that no end of an issuer passes for the beginning of an id.
        let length = u64::try_from(issuer.len()).unwrap_or(u64::MAX);
        let names = Sha256::new()
            .chain_update(length.to_le_bytes())
            .chain_update(issuer)
            .chain_update(event_id);
        let mut half = [0; 16];
        half.iter_mut()
            .zip(names.finalize())
            .for_each(|(to, from)| *to = from);
        Self(half)
    }
}

impl Table {
    /// Drops ids whose window has passed. Ids are queued in the order in which they were seen, so
    /// a long window can hold back a shorter one behind it; it is then remembered for longer.
    fn forget_until(&mut self, now: Instant) {
        while self
            .ages
            .front()
            .is_some_and(|(forget_at, _)| *forget_at <= now)
        {
            self.forget_oldest();
        }
    }

    fn make_room(&mut self, ids_max: usize) {
        while self.ages.len() >= ids_max {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.ages.pop_front() {
            self.states.remove(&key);
        }
    }
}

impl Fresh {
    /// A claim for an event that has no id to recognise it by.
    pub fn unclaimed() -> Self {
        Self { claim: None }
    }

    /// The event is safe under `id`: from now on its copies are duplicates.
    pub fn commit(mut self, id: Uuid) {
        let Some((dedupe, key, tell, forget_at)) = self.claim.take() else {
            return;
        };
        let mut table = dedupe.lock();
        table.make_room(dedupe.ids_max);
        table.states.insert(key, State::Seen(id));
        table.ages.push_back((forget_at, key));
        drop(table);
        tell.send_replace(Some(id));
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some((dedupe, key, _, _)) = self.claim.take() {
            dedupe.lock().states.remove(&key);
        }
    }
}

impl Twin {
    /// The id under which the first copy is safe, or `None` when it did not make it: then this
    /// copy is to be claimed again.
    pub async fn fate(mut self) -> Option<Uuid> {
        let fate = self.0.wait_for(Option::is_some).await.ok()?;
        *fate
    }
}

#[cfg(test)]
mod tests;
