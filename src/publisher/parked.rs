//! Events whose queues do not take them: moved out of everybody's way, and tried again and again.
//!
//! A full queue that refuses, an event that no queue is bound for, a quorum queue without its
//! majority: such an event may have to wait for days. In the journal it would hold the cursor,
//! and with it the disk and all events behind it, which would be published again after a restart.
//! So it is moved into a journal of its source's own, a lot, in the folder `parked`, and leaves
//! the other sources alone. A lot has a [`super::feed`] of its own, which tries it turn by turn.
//! When it holds its share of what the journal may, no more events of its source are accepted, while
//! those of the others are. It has room for twice as much as the journal: for those that were
//! accepted already, however many they are, and for turns. A lot that is empty goes.
//!
//! A record of a lot is, all numbers little-endian:
//!
//! ```text
//! u8   version    1
//! u32  attempts   how often it was published
//! [u8] delivery   as the journal had it, see `delivery`
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio::task::spawn_blocking;

use crate::journal::{AppendError, Journal, OpenError, Options};

/// Most lots at once: sources of which something is parked.
pub(super) const LOTS_MAX: usize = 4096;

/// A lot has room for all that the journal could hold of its source, and as much again: for its
/// share, and for what is stored again before it is let go.
const ROOM: u64 = 2;
/// When a lot holds this part of what the journal may, no more of its source is accepted; a smaller
/// part when there are more lots, so that all of them do not hold much more than the journal may.
const SHARES_MIN: usize = 8;
/// How often lots that are empty are looked for.
pub(super) const TIDY_EVERY: Duration = Duration::from_secs(60);

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 5;

/// All lots of a gateway. Clones share them.
#[derive(Clone, Debug)]
pub struct Parked(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What each lot is opened with; the path is the folder of all.
    options: Options,
    /// What the journal may hold.
    journal_bytes_max: u64,
    /// By the names of their folders. Held for moments only, never while the disk takes its time.
    lots: Mutex<BTreeMap<String, Lot>>,
    /// One lot is made, or ended, at a time.
    opening: tokio::sync::Mutex<()>,
    /// How many there are.
    count: watch::Sender<usize>,
}

/// A source's.
#[derive(Debug)]
struct Lot {
    journal: Journal,
    /// Each event on its way into it has a share of this, until it is there or refused.
    arrivals: Arc<()>,
    /// It is being closed, or failed while it was: nothing comes into it any more.
    ending: bool,
}

impl Parked {
    /// Opens the lots that there are; those that are empty go. `options` are each lot's, but for
    /// `path`, the folder of all, and `bytes_max`, what the journal may hold. `see` is shown each
    /// delivery, encoded, with the moment at which it was accepted, and says whether to go on.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(
        options: Options,
        see: &mut dyn FnMut(Timestamp, &[u8]) -> ControlFlow<()>,
    ) -> Result<Self, OpenError> {
        let journal_bytes_max = options.bytes_max;
        let options = Options {
            bytes_max: journal_bytes_max.saturating_mul(ROOM),
            ..options
        };
        let mut lots = BTreeMap::new();
        for folder in folders(&options.path).map_err(|error| OpenError::Io {
            path: options.path.clone(),
            error,
        })? {
            let Some(name) = folder.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let options = Options {
                path: folder.clone(),
                ..options.clone()
            };
            let lot = Journal::open_before(options, &mut |at, record| {
                see(at, record.get(HEAD_BYTES..).unwrap_or_default())
            })?;
            if is_empty(&lot) {
                drop(lot);
                remove(&folder);
            } else {
                lots.insert(name.to_owned(), Lot::new(lot));
            }
        }
        let count = watch::Sender::new(lots.len());
        Ok(Self(Arc::new(Inner {
            options,
            journal_bytes_max,
            lots: Mutex::new(lots),
            opening: tokio::sync::Mutex::default(),
            count,
        })))
    }

    /// Events that wait in all lots.
    pub fn waiting(&self) -> u64 {
        let lots = self.lock();
        lots.values().map(|lot| lot.journal.status().waiting).sum()
    }

    /// Whether a source's lot holds its share, and no more of that source is to be accepted.
    pub fn is_full(&self, source: &str) -> bool {
        if *self.0.count.borrow() == 0 {
            return false;
        }
        let lots = self.lock();
        let shares = u64::try_from(lots.len().max(SHARES_MIN)).unwrap_or(u64::MAX);
        let lot = lots.get(&folder_name(source));
        lot.is_some_and(|lot| {
            let status = lot.journal.status();
            // Files hold events that are gone, too, until the next time that they are tidied.
            let stored = status.end.0.saturating_sub(status.first.0).max(1);
            let waiting_bytes = status.bytes.saturating_mul(status.waiting) / stored;
            waiting_bytes > self.0.journal_bytes_max / shares
        })
    }

    /// Why one of them takes nothing more, if that is so.
    pub fn failed(&self) -> Option<Arc<str>> {
        let lots = self.lock();
        lots.values().find_map(|lot| lot.journal.status().failed)
    }

    /// All lots, for whoever closes them.
    pub fn journals(&self) -> Vec<Journal> {
        let lots = self.lock();
        lots.values().map(|lot| lot.journal.clone()).collect()
    }

    /// Tells whenever there are more lots, or fewer.
    pub(super) fn watch(&self) -> watch::Receiver<usize> {
        self.0.count.subscribe()
    }

    /// Those that need a feed, by name. One that ends or has failed needs none: it may be closed,
    /// and a feed of it would be over at once, again and again.
    pub(super) fn lots(&self) -> Vec<(String, Journal)> {
        let lots = self.lock();
        lots.iter()
            .filter(|(_, lot)| !lot.ending && lot.journal.status().failed.is_none())
            .map(|(name, lot)| (name.clone(), lot.journal.clone()))
            .collect()
    }

    /// Moves an event into its source's lot: comes back when it is on stable storage there.
    ///
    /// # Errors
    ///
    /// Why it is not, for the log.
    pub(super) async fn park(
        &self,
        source: &str,
        at: Timestamp,
        attempts: u32,
        delivery: &[u8],
    ) -> Result<(), String> {
        let record = encode(attempts, delivery);
        let (lot, arrival) = self.lot(folder_name(source)).await?;
        let (tell, told) = oneshot::channel();
        let done = Box::new(move |fate| {
            drop(arrival);
            drop(tell.send(fate));
        });
        lot.append(record, at, done);
        let fate = told.await.unwrap_or(Err(AppendError::Closed));
        fate.map(drop).map_err(|error| error.to_string())
    }

    /// Ends the lots that are empty: each has a thread, files and a share of the room. Whoever
    /// parks something in one meanwhile waits for its end, and gets the next one.
    pub(super) async fn tidy(&self) {
        let names: Vec<String> = self.lock().keys().cloned().collect();
        for name in names {
            let _one_at_a_time = self.0.opening.lock().await;
            let ending = self.lock().get_mut(&name).and_then(Lot::end);
            let Some(lot) = ending else { continue };
            lot.close().await;
            // One that failed stays, so that it is seen.
            if lot.status().failed.is_some() || !is_empty(&lot) {
                continue;
            }
            self.lock().remove(&name);
            drop(lot);
            let folder = self.0.options.path.join(&name);
            // A panic in it is none of ours; what it left goes at the next start.
            drop(spawn_blocking(move || remove(&folder)).await);
            self.0.count.send_replace(self.lock().len());
        }
    }

    /// The lot of this name, made if there is none yet, and a share of its `arrivals`.
    async fn lot(&self, name: String) -> Result<(Journal, Arc<()>), String> {
        let stays = |lot: &&Lot| !lot.ending;
        let known = self.lock().get(&name).filter(stays).map(Lot::enter);
        if let Some(lot) = known {
            return Ok(lot);
        }
        let _one_at_a_time = self.0.opening.lock().await;
        // One that was ending and is there still has failed, and says so.
        let known = self.lock().get(&name).map(Lot::enter);
        if let Some(lot) = known {
            return Ok(lot);
        }
        if self.lock().len() >= LOTS_MAX {
            return Err(format!("there are {LOTS_MAX} already"));
        }
        self.open_lot(name).await
    }

    /// Only for whoever holds `opening`.
    async fn open_lot(&self, name: String) -> Result<(Journal, Arc<()>), String> {
        let options = Options {
            path: self.0.options.path.join(&name),
            ..self.0.options.clone()
        };
        let opened = spawn_blocking(move || Journal::open(options)).await;
        let opened = opened.map_err(|error| error.to_string())?;
        let lot = Lot::new(opened.map_err(|error| error.to_string())?);
        let entered = lot.enter();
        let count = {
            let mut lots = self.lock();
            lots.insert(name, lot);
            lots.len()
        };
        self.0.count.send_replace(count);
        Ok(entered)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Lot>> {
        self.0.lots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a record of a lot: how often it was published, and the encoded delivery; `None` for
    /// what is none.
    pub fn decode(stored: &Bytes) -> Option<(u32, Bytes)> {
        let (&[version, a, b, c, d], _) = stored.split_first_chunk::<HEAD_BYTES>()?;
        let attempts = u32::from_le_bytes([a, b, c, d]);
        (version == VERSION).then(|| (attempts, stored.slice(HEAD_BYTES..)))
    }
}

impl Lot {
    fn new(journal: Journal) -> Self {
        Self {
            journal,
            arrivals: Arc::default(),
            ending: false,
        }
    }

    /// For whoever is about to append.
    fn enter(&self) -> (Journal, Arc<()>) {
        (self.journal.clone(), Arc::clone(&self.arrivals))
    }

    /// If nothing is in it, nor on its way into it: nothing comes any more, and it is to be closed.
    /// What came in before the close would be published by this lot's feed, and by the next one's.
    fn end(&mut self) -> Option<Journal> {
        // In this order: what is no longer on its way is there.
        let is_used = Arc::strong_count(&self.arrivals) > 1 || !is_empty(&self.journal);
        if is_used || self.ending || self.journal.status().failed.is_some() {
            return None;
        }
        self.ending = true;
        Some(self.journal.clone())
    }
}

/// A lot without an event that waits, and without damaged files that somebody may want to see.
fn is_empty(lot: &Journal) -> bool {
    lot.status().waiting == 0 && lot.recovery().set_aside.is_empty()
}

/// One that cannot be removed does no harm but take up its room.
fn remove(folder: &Path) {
    if let Err(error) = Journal::remove(folder) {
        tracing::warn!(%error, "an empty lot of parked events stays on the disk");
    }
}

/// Where the lots of a journal are.
pub fn folder(journal: &Path) -> PathBuf {
    journal.join("parked")
}

/// The folders of the lots below `path`, in order; none if there is no such path.
///
/// # Errors
///
/// It cannot be read.
pub fn folders(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

fn encode(attempts: u32, delivery: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + delivery.len());
    out.put_u8(VERSION);
    out.put_u32_le(attempts);
    out.put_slice(delivery);
    out.freeze()
}

/// A source's name, which is a plain word. A journal that somebody else wrote may hold any text,
/// so anything else is spelled out.
fn folder_name(source: &str) -> String {
    const PLAIN_BYTES_MAX: usize = 100;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !source.is_empty() && source.len() <= PLAIN_BYTES_MAX && source.bytes().all(is_plain) {
        return source.to_owned();
    }
    format!("+{:08x}", crc32c::crc32c(source.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_a_plain_name() {
        assert_eq!(folder_name("git_hub-2"), "git_hub-2");
        for odd in ["", "..", "a/b", "a.b", "x\0", "e\u{301}", &"a".repeat(101)] {
            let name = folder_name(odd);
            assert!(name.starts_with('+') && name.len() == 9, "{name}");
        }
        assert_ne!(folder_name("a/b"), folder_name("a/c"));
    }

    #[test]
    fn records_are_read_as_written() {
        let stored = encode(7, b"delivery");
        let read = Parked::decode(&stored);
        assert_eq!(read, Some((7, Bytes::from_static(b"delivery"))));
        assert_eq!(Parked::decode(&Bytes::from_static(b"\x01abc")), None);
        assert_eq!(Parked::decode(&Bytes::from_static(b"\x02abcdef")), None);
    }

    #[tokio::test]
    async fn who_opens_the_lots_is_shown_what_is_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            path: dir.path().join("parked"),
            bytes_max: 8 << 20,
            segment_bytes: 1 << 20,
            retain: Duration::ZERO,
            refuse_damage: true,
            reserve_bytes: 0,
            on_sync: None,
        };
        let open = || {
            let mut seen = Vec::new();
            let parked = Parked::open(options.clone(), &mut |at, event| {
                seen.push((at, event.to_vec()));
                ControlFlow::Continue(())
            });
            (parked.unwrap(), seen)
        };
        let (parked, seen) = open();
        assert_eq!(seen, []);
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        parked.park("github", at, 3, b"an event").await.unwrap();
        for lot in parked.journals() {
            lot.close().await;
        }
        drop(parked);
        assert_eq!(open().1, [(at, b"an event".to_vec())]);
    }
}
