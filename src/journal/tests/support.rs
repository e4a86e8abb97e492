//! What the tests have in common.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use super::disk::FaultDisk;
use crate::journal::handover::Bounds;
use crate::journal::*;

pub(super) const DIR: &str = "/journal";

/// Long enough for a slow machine, short enough to see what hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Seconds since 1970 in every test record.
pub(super) const AT: i64 = 1_700_000_000;

pub(super) fn at() -> Timestamp {
    Timestamp::from_second(AT).unwrap()
}

/// Options for a small journal at [`DIR`].
pub(super) fn options() -> Options {
    Options {
        path: PathBuf::from(DIR),
        bytes_max: 1024 * 1024,
        segment_bytes: 2048,
        retain: Duration::from_secs(100 * 365 * 86_400),
        refuse_damage: false,
        reserve_bytes: 0,
        on_sync: None,
    }
}

pub(super) fn tuning() -> Tuning {
    let usual = Tuning::default();
    Tuning {
        handover: Bounds {
            batch_records_max: 8,
            ..usual.handover
        },
        ahead_bytes: 512,
        mark_bytes: 512,
        cursor_every: Duration::from_millis(1),
        retry_every: Duration::from_millis(1),
        probe_bytes: 512,
        reserve_segments: 0,
        ..usual
    }
}

pub(super) fn open(disk: &FaultDisk) -> Journal {
    open_on(disk, options(), tuning()).unwrap()
}

pub(super) fn open_on(
    disk: &FaultDisk,
    options: Options,
    tuning: Tuning,
) -> Result<Journal, OpenError> {
    let disk = Arc::new(disk.clone());
    Journal::open_on(disk, options, tuning, &mut |_, _| ControlFlow::Continue(()))
}

/// The path of the segment with this sequence.
pub(super) fn segment_path(sequence: u64) -> PathBuf {
    segment::path(Path::new(DIR), sequence)
}

/// The paths of all segments, in order.
pub(super) fn segment_paths(disk: &FaultDisk) -> Vec<PathBuf> {
    let is_segment = |path: &PathBuf| {
        path.parent() == Some(Path::new(DIR)) && path.extension().is_some_and(|e| e == "wal")
    };
    disk.paths().into_iter().filter(is_segment).collect()
}

/// An answer that is waited for.
pub(super) struct Answer(mpsc::Receiver<Result<Position, AppendError>>);

impl Answer {
    #[track_caller]
    pub(super) fn wait(self) -> Result<Position, AppendError> {
        self.0
            .recv_timeout(PATIENCE)
            .expect("the waiter was never answered")
    }
}

pub(super) fn begin(journal: &Journal, payload: &[u8]) -> Answer {
    let (tell, answer) = mpsc::sync_channel(2);
    let done: Completion = Box::new(move |fate| tell.send(fate).unwrap());
    journal.append(Bytes::copy_from_slice(payload), at(), done);
    Answer(answer)
}

pub(super) fn begin_group(journal: &Journal, payloads: Vec<Bytes>) -> Answer {
    let (tell, answer) = mpsc::sync_channel(2);
    let done: Completion = Box::new(move |fate| tell.send(fate).unwrap());
    journal.append_group(payloads, at(), done);
    Answer(answer)
}

pub(super) fn append(journal: &Journal, payload: &[u8]) -> Result<Position, AppendError> {
    begin(journal, payload).wait()
}

/// Everything that is there from `position` on.
pub(super) fn read_all(journal: &Journal, position: u64) -> Vec<(u64, Vec<u8>)> {
    let mut reader = journal.read_from(Position(position));
    let mut records = Vec::new();
    while let Some(record) = reader.try_next().unwrap() {
        records.push((record.position.0, record.payload.to_vec()));
    }
    records
}

/// A payload that tells which it is, of some length.
pub(super) fn payload(number: u64, length: usize) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(payload.len() + length, b'.');
    payload
}

/// Waits until something is so.
pub(super) fn until(mut condition: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < patience, "it never came to be so");
        std::thread::yield_now();
    }
}
