//! Records in order, from a position on. It never writes, and sees only what is on stable storage.
//!
//! A reader that keeps up is served from memory. One that is behind reads files in large pieces, on
//! tokio's threads for blocking work, and remembers where it was.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use super::disk::DiskFile;
use super::frame::Seed;
use super::segment::{self, READ_BYTES, Scanner};
use super::shared::{Progress, Segment, Shared};
use super::{Position, Record};

/// Reads records in order, from a position on; waits for the next at the end.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    /// Nothing before it is wanted.
    position: u64,
    /// Read already.
    ready: VecDeque<Record>,
    /// Where the next is on the disk.
    place: Option<Place>,
}

/// An open segment and how far it was read.
#[derive(Clone, Debug)]
struct Place {
    sequence: u64,
    file: Arc<dyn DiskFile>,
    offset: u64,
    /// The position at which the record at `offset` is at the earliest.
    position: u64,
}

/// What came from the disk.
struct Fetched {
    records: VecDeque<Record>,
    place: Option<Place>,
    /// Nothing before it is left to fetch.
    position: u64,
}

impl Reader {
    pub(super) fn new(shared: &Arc<Shared>, position: u64) -> Self {
        let progress = shared.progress.subscribe();
        let ready = VecDeque::new();
        Self {
            shared: Arc::clone(shared),
            progress,
            position,
            ready,
            place: None,
        }
    }

    /// The next record; waits for one at the end. `None` once the journal is closed and all has
    /// been read. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// What the disk said. `InvalidData` when bytes changed that had been written well: the same
    /// answer comes again until a restart, which sets the damage aside.
    pub async fn next(&mut self) -> io::Result<Option<Record>> {
        loop {
            if let Some(record) = self.take() {
                return Ok(Some(record));
            }
            let progress = *self.progress.borrow_and_update();
            if self.position < progress.end {
                let shared = Arc::clone(&self.shared);
                let (position, place) = (self.position, self.place.clone());
                let fetch = move || fetch(&shared, position, place);
                let fetched = tokio::task::spawn_blocking(fetch)
                    .await
                    .map_err(io::Error::other)?;
                self.accept(fetched?);
            } else if progress.closed || self.progress.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// The next record if it is there already. Reads the disk on the caller's thread.
    ///
    /// # Errors
    ///
    /// As [`Reader::next`].
    pub fn try_next(&mut self) -> io::Result<Option<Record>> {
        loop {
            if let Some(record) = self.take() {
                return Ok(Some(record));
            }
            if self.position >= self.progress.borrow_and_update().end {
                return Ok(None);
            }
            let fetched = fetch(&self.shared, self.position, self.place.clone())?;
            self.accept(fetched);
        }
    }

    /// The next record from memory.
    fn take(&mut self) -> Option<Record> {
        if self.ready.is_empty() {
            self.shared.lock().ring.read(self.position, &mut self.ready);
        }
        let record = self.ready.pop_front()?;
        self.position = record.position.0.saturating_add(1);
        Some(record)
    }

    fn accept(&mut self, fetched: Fetched) {
        self.ready = fetched.records;
        self.place = fetched.place;
        self.position = fetched.position;
    }
}

/// Reads some records from `position` on; none if there is none.
fn fetch(shared: &Shared, position: u64, mut place: Option<Place>) -> io::Result<Fetched> {
    loop {
        let (segment, end) = {
            let state = shared.lock();
            let index = state
                .segments
                .partition_point(|segment| segment.end <= position);
            (state.segments.get(index).cloned(), state.end)
        };
        let Some(segment) = segment else {
            // Positions that a damaged segment left out, at the end of the log.
            let position = position.max(end);
            return Ok(Fetched {
                records: VecDeque::new(),
                place: None,
                position,
            });
        };
        let from = match place.take() {
            Some(place) if place.sequence == segment.sequence && place.position <= position => {
                place
            }
            _ => match open(shared, &segment, position) {
                Ok(place) => place,
                // Deleted since we looked: then the records in it are confirmed.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && is_gone(shared, &segment) =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            },
        };
        return read(shared, &segment, from, position);
    }
}

fn open(shared: &Shared, segment: &Segment, position: u64) -> io::Result<Place> {
    let path = segment::path(&shared.dir, segment.sequence);
    let file = shared.disk.open_to_read(&path)?;
    let offset = segment.seek(position);
    Ok(Place {
        sequence: segment.sequence,
        file,
        offset,
        position: segment.first.min(position),
    })
}

fn is_gone(shared: &Shared, segment: &Segment) -> bool {
    let state = shared.lock();
    state
        .segments
        .iter()
        .all(|other| other.sequence != segment.sequence)
}

/// Reads about [`READ_BYTES`] bytes of records; at least one record, for the segment has one.
fn read(shared: &Shared, segment: &Segment, from: Place, position: u64) -> io::Result<Fetched> {
    let seed = Seed::new(shared.log_id, segment.sequence);
    let Place {
        sequence,
        file,
        offset,
        ..
    } = from;
    let offset = offset.max(segment.seek(position));
    let mut scanner = Scanner::new(Arc::clone(&file), seed, offset, segment.bytes);
    let mut records = VecDeque::new();
    let mut bytes = 0;
    let mut next = position;
    while bytes < READ_BYTES && scanner.offset() < segment.bytes {
        let Some(frame) = scanner.next()? else {
            let path = segment::path(&shared.dir, sequence);
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{}: the record at byte {} changed since it was written; restart to have it \
                     set aside",
                    path.display(),
                    scanner.offset()
                ),
            ));
        };
        if frame.position < position {
            continue;
        }
        bytes += frame.payload.len() + super::frame::HEAD_BYTES;
        next = frame.position.saturating_add(1);
        records.push_back(Record::copy(&frame));
    }
    let place = Place {
        sequence,
        file,
        offset: scanner.offset(),
        position: next,
    };
    // The caller hands them out one by one; its position moves with them. Without any, nothing is
    // left in this segment: after damage an empty one may begin beyond the position.
    let rest = next.max(segment.end);
    let position = records.front().map_or(rest, |record| record.position.0);
    Ok(Fetched {
        records,
        place: Some(place),
        position,
    })
}

impl Record {
    /// A record of its own, so that it does not hold on to what was read with it.
    pub(super) fn copy(frame: &super::frame::Frame<'_>) -> Self {
        Self {
            position: Position(frame.position),
            at: frame.at,
            payload: bytes::Bytes::copy_from_slice(frame.payload),
        }
    }
}
