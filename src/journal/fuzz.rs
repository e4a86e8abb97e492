//! Directories as a disk may give them back: any bytes in place of segments and cursor, and such
//! that have sound checksums and make no sense. Whatever is there, it is read, opened and mended
//! without a panic; and what was mended once is sound.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a target says by a panic what it has found"
)]

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use super::cursor::Cursor;
use super::disk::RealDisk;
use super::frame::{self, Frame, Seed};
use super::segment::{self, Header};
use super::{
    AppendError, Completion, Contents, Journal, OpenError, Options, Position, Records, Tuning,
};
use crate::fuzzing::{Input, scratch};

/// The writer answers within this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// What an input does to the directory that it makes.
mod step {
    pub(super) const SEGMENT: u8 = 0;
    pub(super) const HEADER: u8 = 1;
    pub(super) const RECORD: u8 = 2;
    pub(super) const BYTES: u8 = 3;
    pub(super) const ZEROS: u8 = 4;
    pub(super) const FLIP: u8 = 5;
    pub(super) const CUT: u8 = 6;
    pub(super) const CURSOR: u8 = 7;
    pub(super) const CURSOR_BYTES: u8 = 8;
    pub(super) const STEPS: u8 = 9;
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let whole: &[u8] = &[
        step::SEGMENT,
        0,
        step::HEADER,
        0,
        0,
        0,
        0, //
        step::RECORD,
        0,
        0,
        9,
        3,
        b'a',
        b'b',
        b'c', //
        step::RECORD,
        1,
        1,
        9,
        0, //
        step::SEGMENT,
        0,
        step::HEADER,
        2,
        2,
        0,
        0, //
        step::RECORD,
        2,
        2,
        9,
        1,
        b'd', //
        step::RECORD,
        3,
        2,
        9,
        1,
        b'e', //
    ];
    let ends: [&[u8]; 8] = [
        &[],
        &[step::ZEROS, 9],
        &[step::BYTES, 3, 1, 2, 3],
        &[step::FLIP, 100, 0, 1],
        &[step::CUT, 90, 0],
        &[step::CURSOR, 2, 4, 0],
        &[
            step::CURSOR,
            1,
            255,
            255,
            255,
            255,
            255,
            255,
            255,
            255,
            127,
            0,
        ],
        // Sound checksums on what nobody wrote: the last position there is, the last time.
        &[
            step::RECORD,
            200,
            4,
            215,
            0,
            step::RECORD,
            200,
            200,
            216,
            0,
            step::CURSOR_BYTES,
            1,
            7,
        ],
    ];
    let mut seeds: Vec<Vec<u8>> = ends.iter().map(|end| [whole, end].concat()).collect();
    seeds.push([step::SEGMENT, 0, step::HEADER, 200, 200, 1, 1].to_vec());
    seeds
}

pub(crate) fn run(data: &[u8]) {
    let dir = scratch("journal");
    lay_out(&dir, data);

    if let Ok(contents) = Contents::verify(&dir) {
        assert!(contents.first <= contents.end);
    }
    let records = Records::read(&dir, Position(0)).expect("a folder that can be read");
    for record in records {
        drop(record.expect("a file that can be read"));
    }
    drop(open(&dir, true));

    match open(&dir, false) {
        Ok(journal) => {
            let mut expected = read_all(&journal);
            if let Some(stored) = append(&journal) {
                expected.push(stored);
                assert_eq!(read_all(&journal), expected);
                journal.confirm_until(Position(stored));
            }
            drop(journal);
            // What was mended is sound, and stays what it is.
            let journal = open(&dir, true).expect("a journal that was closed well");
            assert_eq!(read_all(&journal), expected);
        }
        // Of a later version.
        Err(OpenError::Damaged(_)) => {}
        Err(other) => panic!("{other}"),
    }
    fs::remove_dir_all(&dir).expect("no more scratch folder");
}

fn open(dir: &Path, refuse_damage: bool) -> Result<Journal, OpenError> {
    let options = Options {
        path: dir.to_owned(),
        bytes_max: 1 << 20,
        segment_bytes: 4096,
        retain: Duration::from_secs(1 << 40),
        refuse_damage,
        reserve_bytes: 0,
        on_sync: None,
    };
    let tuning = Tuning {
        ahead_bytes: 512,
        mark_bytes: 512,
        ..Tuning::default()
    };
    Journal::open_on(Arc::new(RealDisk), options, tuning, &mut |_, _| {
        ControlFlow::Continue(())
    })
}

/// The positions of all records, which ascend.
fn read_all(journal: &Journal) -> Vec<u64> {
    let mut reader = journal.read_from(Position(0));
    let mut positions: Vec<u64> = Vec::new();
    while let Some(record) = reader
        .try_next()
        .expect("a journal that opened can be read")
    {
        let position = record.position.0;
        assert!(positions.last().is_none_or(|last| *last < position));
        positions.push(position);
    }
    positions
}

/// The position of one more record; `None` where damage has left none.
fn append(journal: &Journal) -> Option<u64> {
    let (tell, told) = mpsc::sync_channel(1);
    let done: Completion = Box::new(move |fate| drop(tell.send(fate)));
    journal.append(Bytes::from_static(b"more"), Timestamp::UNIX_EPOCH, done);
    match told.recv_timeout(PATIENCE).expect("an answer") {
        Ok(position) => Some(position.0),
        Err(AppendError::Failed(why)) if why.contains("positions are used up") => None,
        Err(other) => panic!("{other}"),
    }
}

/// Writes the directory that an input describes.
fn lay_out(dir: &Path, data: &[u8]) {
    let mut input = Input::new(data);
    let mut sequence = 0;
    let mut log_id = [1; 16];
    let mut file: Vec<u8> = Vec::new();
    let mut begun = false;
    while !input.is_empty() {
        match input.byte() % step::STEPS {
            step::SEGMENT => {
                let left_out = u64::from(input.byte() % 2);
                if begun {
                    put(dir, sequence, &file);
                    sequence += 1 + left_out;
                }
                file.clear();
                begun = true;
            }
            step::HEADER => {
                let (first, previous_end) = (number(&mut input), number(&mut input));
                let mended = input.byte() == 1;
                log_id = [1 + input.byte() % 2; 16];
                let header = Header {
                    sequence,
                    first,
                    previous_end,
                    log_id,
                    mended,
                };
                file.extend(header.encode());
            }
            step::RECORD => {
                let (position, durable) = (number(&mut input), number(&mut input));
                let at = number(&mut input).cast_signed();
                let at = Timestamp::from_microsecond(at).unwrap_or(Timestamp::MAX);
                let length = usize::from(input.byte());
                let payload = input.take(length);
                let frame = Frame {
                    position,
                    durable,
                    at,
                    payload,
                };
                let bytes = frame::frame_bytes(payload.len()).expect("a short payload");
                frame::encode(&mut file, Seed::new(log_id, sequence), bytes, &frame);
            }
            step::BYTES => {
                let length = usize::from(input.byte());
                file.extend_from_slice(input.take(length));
            }
            step::ZEROS => file.resize(file.len() + usize::from(input.byte()), 0),
            step::FLIP => {
                let (at, mask) = (short(&mut input), input.byte());
                if let Some(byte) = file.get_mut(at) {
                    *byte ^= mask;
                }
            }
            step::CUT => file.truncate(short(&mut input)),
            step::CURSOR => {
                let cursor = Cursor {
                    confirmed: number(&mut input),
                    durable: number(&mut input),
                    log_id: [1 + input.byte() % 2; 16],
                };
                cursor.store(&RealDisk, dir).expect("a cursor");
            }
            _ => {
                let length = usize::from(input.byte());
                fs::write(dir.join("cursor"), input.take(length)).expect("a cursor");
            }
        }
    }
    if begun {
        put(dir, sequence, &file);
    }
}

fn put(dir: &Path, sequence: u64, file: &[u8]) {
    fs::write(segment::path(dir, sequence), file).expect("a segment");
}

fn short(input: &mut Input<'_>) -> usize {
    usize::from(input.byte()) + 256 * usize::from(input.byte())
}

/// A small number, one near the ends of its type, or any.
fn number(input: &mut Input<'_>) -> u64 {
    match input.byte() {
        byte @ 0..200 => u64::from(byte),
        byte @ 200..216 => u64::MAX - u64::from(byte - 200),
        byte @ 216..232 => (1 << 63) - 8 + u64::from(byte - 216),
        _ => {
            let mut bytes = [0; 8];
            for (to, from) in bytes.iter_mut().zip(input.take(8)) {
                *to = *from;
            }
            u64::from_le_bytes(bytes)
        }
    }
}
