//! Publishing again what was published or set aside: the event is appended to the journal once
//! more, under its own message id, and goes the way of any other.
//!
//! That works alike whether a gateway runs or not, keeps the promises of the way that it goes
//! (stored before it is said to be, published at least once), and consumers recognise the copy by
//! its `message_id`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::set_aside::{SetAside, decode_mark, encode_mark};
use crate::delivery::Delivery;
use crate::journal::{AppendError, Journal, OpenError, Position, Records};
use crate::metrics::Metrics;

/// Where an event is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shelf {
    /// The journal: one that was published and is still kept.
    Journal,
    /// Those that were set aside.
    SetAside,
}

/// Appends events again. Clones share it.
#[derive(Clone)]
pub struct Replay(Arc<Inner>);

struct Inner {
    journal: Journal,
    set_aside: Journal,
    metrics: Arc<Metrics>,
    /// Positions in the set-aside journal, from its cursor on, that hold no event any more: those
    /// that were replayed, and the marks that say so.
    gone: Mutex<BTreeSet<u64>>,
}

/// Why an event was not replayed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// There is nothing at this position, or nothing any more.
    #[error("there is no event at position {0}")]
    Absent(u64),
    /// It was not published yet, and will be by itself.
    #[error("the event at position {0} waits for the broker and will be published by itself")]
    Waiting(u64),
    /// What is stored there is no event that this program can read.
    #[error("the record at position {0} is no event: {1}")]
    NoEvent(u64, String),
    /// It cannot be read.
    #[error("reading the journal: {0}")]
    Unreadable(String),
    /// The journal does not take it now.
    #[error(transparent)]
    Refused(#[from] AppendError),
}

impl Replay {
    /// Looks through the set-aside journal, which is open as `set_aside` and lies at `path`, for
    /// marks of earlier replays. `stop` ends that.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn new(
        journal: Journal,
        set_aside: Journal,
        path: &Path,
        metrics: Arc<Metrics>,
        stop: &CancellationToken,
    ) -> Result<Self, OpenError> {
        let unreadable = |error| OpenError::Io {
            path: path.to_owned(),
            error,
        };
        let mut gone = BTreeSet::new();
        let records = Records::read(path, set_aside.status().cursor);
        for record in records.map_err(unreadable)? {
            if stop.is_cancelled() {
                return Err(OpenError::Stopped);
            }
            let record = record.map_err(unreadable)?;
            if let Some(replayed) = decode_mark(&record.payload) {
                gone.extend([replayed.0, record.position.0]);
            }
        }
        Ok(Self(Arc::new(Inner {
            journal,
            set_aside,
            metrics,
            gone: Mutex::new(gone),
        })))
    }

    /// Events that are set aside and were not replayed.
    pub fn set_aside(&self) -> u64 {
        let status = self.0.set_aside.status();
        let gone = self.0.gone.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = u64::try_from(gone.range(status.cursor.0..).count()).unwrap_or(u64::MAX);
        status.waiting.saturating_sub(gone)
    }

    /// Appends an event to the journal again; comes back with its message id when it is on stable
    /// storage there.
    ///
    /// # Errors
    ///
    /// See [`ReplayError`].
    pub async fn again(&self, shelf: Shelf, position: Position) -> Result<Uuid, ReplayError> {
        let this = self.clone();
        // Whoever asked may go away. What has begun is finished, for the books and the marks.
        let again = tokio::spawn(async move { this.again_to_its_end(shelf, position).await });
        again
            .await
            .unwrap_or_else(|error| Err(ReplayError::Unreadable(error.to_string())))
    }

    async fn again_to_its_end(
        &self,
        shelf: Shelf,
        position: Position,
    ) -> Result<Uuid, ReplayError> {
        let stored = match shelf {
            Shelf::Journal => self.published(position).await?,
            Shelf::SetAside => self.refused(position).await?,
        };
        let unfit = |error| ReplayError::NoEvent(position.0, format!("{error}"));
        let id = Delivery::decode(&stored).map_err(unfit)?.id;
        append(&self.0.journal, stored).await?;
        self.0.metrics.publisher.replayed.increment(1);
        if shelf == Shelf::SetAside {
            self.mark(position).await;
        }
        Ok(id)
    }

    async fn published(&self, position: Position) -> Result<Bytes, ReplayError> {
        if position >= self.0.journal.status().cursor {
            return Err(ReplayError::Waiting(position.0));
        }
        read(&self.0.journal, position).await
    }

    async fn refused(&self, position: Position) -> Result<Bytes, ReplayError> {
        let absent = ReplayError::Absent(position.0);
        let is_gone = {
            let gone = self.0.gone.lock().unwrap_or_else(PoisonError::into_inner);
            gone.contains(&position.0)
        };
        if is_gone || position < self.0.set_aside.status().cursor {
            return Err(absent);
        }
        let stored = read(&self.0.set_aside, position).await?;
        SetAside::decode(&stored)
            .map(|aside| aside.delivery)
            .ok_or(absent)
    }

    /// The event is in the journal: from now on it is not set aside any more. A crash before this
    /// is on the disk has it listed, and perhaps replayed, once more.
    async fn mark(&self, position: Position) {
        let mark = match append(&self.0.set_aside, encode_mark(position)).await {
            Ok(mark) => Some(mark.0),
            // When it is full, moving the cursor is what makes room.
            Err(error) => {
                tracing::warn!(
                    position = position.0,
                    %error,
                    "an event was replayed, and may be listed as set aside again after a restart"
                );
                None
            }
        };
        let mut gone = self.0.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.extend([Some(position.0), mark].into_iter().flatten());
        let mut cursor = self.0.set_aside.status().cursor.0;
        while gone.remove(&cursor) {
            cursor += 1;
        }
        self.0.set_aside.confirm_until(Position(cursor));
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay")
            .field("journal", &self.0.journal)
            .finish_non_exhaustive()
    }
}

async fn read(journal: &Journal, position: Position) -> Result<Bytes, ReplayError> {
    let absent = ReplayError::Absent(position.0);
    // The reader would wait for a record that is still to come.
    if position >= journal.status().end {
        return Err(absent);
    }
    let record = journal.read_from(position).next().await;
    let record = record.map_err(|error| ReplayError::Unreadable(error.to_string()))?;
    let record = record.filter(|record| record.position == position);
    record.map(|record| record.payload).ok_or(absent)
}

async fn append(journal: &Journal, payload: Bytes) -> Result<Position, AppendError> {
    let (tell, told) = oneshot::channel();
    let now: Timestamp = crate::clock::Now::read().wall;
    journal.append(payload, now, Box::new(move |fate| drop(tell.send(fate))));
    told.await.unwrap_or(Err(AppendError::Closed))
}
