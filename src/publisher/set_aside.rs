//! Events that the broker refuses for their own sake: kept, with the reason, where they stop
//! nobody.
//!
//! They are records of a journal of their own, in the folder `set-aside` of the journal. A record
//! is, all numbers little-endian:
//!
//! ```text
//! u8   version    1
//! u64  position   where it stood in the journal
//! u16  length     of the reason
//! [u8] reason     UTF-8
//! [u8] delivery   as the journal had it, see `delivery`
//! ```
//!
//! or a mark that says that another one was replayed, and is set aside no more:
//!
//! ```text
//! u8   version    2
//! u64  position   of that one, in this journal
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::backoff::RETRY;
use crate::journal::{AppendError, Journal, Position, Record};

const VERSION: u8 = 1;
const MARK_VERSION: u8 = 2;
const HEAD_BYTES: usize = 11;
const MARK_BYTES: usize = 9;
/// Longest reason that is kept.
const REASON_BYTES_MAX: usize = 4096;
/// How long the disk has when the gateway stops.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// What a record of the set-aside journal holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where it stood in the journal.
    pub position: Position,
    /// Why it cannot be published.
    pub reason: String,
    /// The encoded delivery.
    pub delivery: Bytes,
}

/// Where the set-aside journal of a journal is.
pub fn folder(journal: &Path) -> PathBuf {
    journal.join("set-aside")
}

impl SetAside {
    /// Bytes for the set-aside journal.
    pub fn encode(&self) -> Bytes {
        let reason = crate::delivery::cut(&self.reason, REASON_BYTES_MAX);
        let length = u16::try_from(reason.len()).unwrap_or_default();
        let mut out = BytesMut::with_capacity(HEAD_BYTES + reason.len() + self.delivery.len());
        out.put_u8(VERSION);
        out.put_u64_le(self.position.0);
        out.put_u16_le(length);
        out.put_slice(reason.as_bytes());
        out.put_slice(&self.delivery);
        out.freeze()
    }

    /// Reads what [`Self::encode`] wrote; `None` for anything else.
    pub fn decode(stored: &Bytes) -> Option<Self> {
        let (head, rest) = stored.split_first_chunk::<HEAD_BYTES>()?;
        let (&[version], head) = head.split_first_chunk::<1>()?;
        let (&position, head) = head.split_first_chunk::<8>()?;
        let length = usize::from(u16::from_le_bytes(head.try_into().ok()?));
        let reason = str::from_utf8(rest.get(..length)?).ok()?;
        (version == VERSION).then(|| Self {
            position: Position(u64::from_le_bytes(position)),
            reason: reason.to_owned(),
            delivery: stored.slice(HEAD_BYTES + length..),
        })
    }
}

/// A mark: the event at this position was replayed.
pub(super) fn encode_mark(position: Position) -> Bytes {
    let mut out = BytesMut::with_capacity(MARK_BYTES);
    out.put_u8(MARK_VERSION);
    out.put_u64_le(position.0);
    out.freeze()
}

/// Reads what [`encode_mark`] wrote; `None` for anything else.
pub fn decode_mark(stored: &Bytes) -> Option<Position> {
    let &[version, ref position @ ..] = <&[u8; MARK_BYTES]>::try_from(&**stored).ok()?;
    (version == MARK_VERSION).then(|| Position(u64::from_le_bytes(*position)))
}

/// Sets a record aside, and comes back when that is on stable storage, however long it takes.
pub(super) async fn set_aside(journal: &Journal, record: &Record, reason: &str) {
    let stored = SetAside {
        position: record.position,
        reason: reason.to_owned(),
        delivery: record.payload.clone(),
    };
    let stored = stored.encode();
    let mut failures = 0u32;
    while let Err(error) = append(journal, stored.clone(), record).await {
        failures = failures.saturating_add(1);
        tracing::error!(
            position = record.position.0,
            %error,
            "an event that cannot be published cannot be set aside either; it stays in the journal"
        );
        sleep(RETRY.delay(failures, fastrand::f64())).await;
    }
    tracing::error!(
        position = record.position.0,
        reason,
        "an event cannot be published and was set aside"
    );
}

async fn append(journal: &Journal, stored: Bytes, record: &Record) -> Result<(), AppendError> {
    let (tell, told) = oneshot::channel();
    let done = Box::new(move |fate| drop(tell.send(fate)));
    journal.append(stored, record.at, done);
    match told.await {
        Ok(fate) => fate.map(drop),
        Err(_dropped) => Err(AppendError::Closed),
    }
}
