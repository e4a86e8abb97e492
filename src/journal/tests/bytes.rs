//! Bytes that are cut, flipped and misplaced: never a panic, never a record that was not written.

use std::path::Path;

use super::disk::FaultDisk;
use super::support::*;
use crate::journal::frame::{self, Decoded, Frame, Seed};
use crate::journal::*;

const SEED: [u8; 16] = [9; 16];

fn encoded(position: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let length = frame::frame_bytes(payload.len()).unwrap();
    let frame = Frame {
        position,
        durable: position,
        at: at(),
        payload,
    };
    frame::encode(&mut bytes, Seed::new(SEED, 1), length, &frame);
    bytes
}

#[test]
fn a_record_is_read_as_it_was_written() {
    for payload in [&b""[..], b"a", &[0; 1000]] {
        let bytes = [encoded(7, payload), b"rest".to_vec()].concat();
        let frame = Frame {
            position: 7,
            durable: 7,
            at: at(),
            payload,
        };
        let expected = Decoded::Record(frame, bytes.len() - 4);
        assert_eq!(frame::decode(Seed::new(SEED, 1), &bytes), expected);
    }
}

#[test]
fn a_prefix_of_a_record_says_how_much_is_missing() {
    let bytes = encoded(7, b"payload");
    for cut in 0..bytes.len() {
        let needed = if cut < frame::HEAD_BYTES {
            frame::HEAD_BYTES
        } else {
            bytes.len()
        };
        let decoded = frame::decode(Seed::new(SEED, 1), &bytes[..cut]);
        assert_eq!(decoded, Decoded::Incomplete(needed));
    }
}

#[test]
fn a_flipped_bit_is_no_record() {
    let bytes = encoded(7, b"payload");
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let decoded = frame::decode(Seed::new(SEED, 1), &bad);
        assert!(!matches!(decoded, Decoded::Record(..)), "bit {bit}");
    }
}

#[test]
fn a_record_of_another_log_or_segment_is_no_record() {
    let bytes = encoded(7, b"payload");
    assert_eq!(frame::decode(Seed::new(SEED, 2), &bytes), Decoded::Bad);
    assert_eq!(frame::decode(Seed::new([8; 16], 1), &bytes), Decoded::Bad);
    assert_eq!(frame::decode(Seed::new(SEED, 1), &[0; 4096]), Decoded::Bad);
    assert_eq!(
        frame::decode(Seed::new(SEED, 1), &[0xff; 4096]),
        Decoded::Bad
    );
}

/// A journal of `records` records that was killed, each record a write of its own.
fn killed(records: u64) -> FaultDisk {
    let disk = FaultDisk::default();
    let journal = open(&disk);
    for number in 0..records {
        append(&journal, &payload(number, 20)).unwrap();
    }
    let killed = disk.after_kill();
    drop(journal);
    killed
}

fn refused(disk: &FaultDisk) -> Option<String> {
    let options = Options {
        refuse_damage: true,
        ..options()
    };
    match open_on(disk, options, tuning()) {
        Ok(_) => None,
        Err(OpenError::Damaged(why)) => Some(why),
        Err(other) => panic!("{other}"),
    }
}

/// Records that are there, each checked to be one that was written.
fn survivors(journal: &Journal) -> Vec<u64> {
    let records = read_all(journal, 0);
    for (position, bytes) in &records {
        assert_eq!(*bytes, payload(*position, 20));
    }
    records.into_iter().map(|(position, _)| position).collect()
}

/// The file, how long it is up to the last record, and how long a record is.
fn single_segment(disk: &FaultDisk) -> (Vec<u8>, usize, usize) {
    let frame = encoded(0, &payload(0, 20)).len();
    (disk.bytes(&segment_path(0)), 64 + 10 * frame, frame)
}

#[test]
fn a_file_cut_anywhere_keeps_what_comes_before_the_cut() {
    let disk = killed(10);
    let (bytes, end, frame) = single_segment(&disk);
    for cut in 64..=bytes.len() {
        let disk = disk.after_kill();
        disk.put(&segment_path(0), &bytes[..cut]);
        assert_eq!(refused(&disk), None, "cut at {cut}");
        let journal = open(&disk);
        let kept = ((cut.min(end) - 64) / frame) as u64;
        assert_eq!(
            survivors(&journal),
            (0..kept).collect::<Vec<_>>(),
            "cut at {cut}"
        );
        assert!(journal.recovery().set_aside.is_empty());
        // It goes on from there, and again after the next start.
        assert_eq!(append(&journal, &payload(kept, 20)), Ok(Position(kept)));
        drop(journal);
        assert_eq!(
            survivors(&open(&disk)),
            (0..=kept).collect::<Vec<_>>(),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_flipped_byte_is_damage_unless_only_the_last_write_has_it() {
    let disk = killed(10);
    let (bytes, end, frame) = single_segment(&disk);
    for flipped in 0..bytes.len() {
        let disk = disk.after_kill();
        let mut bad = bytes.clone();
        bad[flipped] ^= 0x10;
        disk.put(&segment_path(0), &bad);
        let is_damage = flipped < end - frame;
        let why = refused(&disk);
        assert_eq!(why.is_some(), is_damage, "byte {flipped}: {why:?}");
        if let Some(why) = why {
            assert!(
                why.contains("0000000000000000.wal is damaged at byte"),
                "{why}"
            );
        }

        let journal = open(&disk);
        let mut expected: Vec<u64> = (0..10).collect();
        if (64..end).contains(&flipped) {
            expected.remove((flipped - 64) / frame);
        }
        assert_eq!(survivors(&journal), expected, "byte {flipped}");
        assert_eq!(journal.status().waiting, expected.len() as u64);
        let set_aside = &journal.recovery().set_aside;
        assert_eq!(set_aside.len(), usize::from(is_damage), "byte {flipped}");
        for aside in set_aside {
            assert_eq!(disk.bytes(&aside.file), bad);
        }
        // Positions are not given twice, and there is nothing to mend the next time.
        let position = append(&journal, b"next").unwrap();
        let last = *expected.last().unwrap();
        assert_eq!(position.0, last + 1);
        drop(journal);
        assert_eq!(refused(&disk), None, "byte {flipped}");
    }
}

#[test]
fn after_a_close_even_the_last_record_is_known_to_be_missing() {
    let disk = FaultDisk::default();
    let journal = open(&disk);
    for number in 0..3 {
        append(&journal, &payload(number, 20)).unwrap();
    }
    drop(journal);
    let mut bytes = disk.bytes(&segment_path(0));
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end] ^= 1;
    disk.put(&segment_path(0), &bytes);
    let journal = open(&disk);
    assert_eq!(survivors(&journal), [0, 1]);
    assert_eq!(journal.recovery().missing, 1);
    // A cursor beyond the loss must not pass for a confirmation of what comes now.
    assert_eq!(append(&journal, &payload(3, 20)), Ok(Position(3)));
    assert_eq!(survivors(&journal), [0, 1, 3]);
    let mut reader = journal.read_from(Position(2));
    assert_eq!(reader.try_next().unwrap().unwrap().position, Position(3));
}

#[test]
fn damage_in_an_earlier_segment_is_set_aside_and_the_rest_is_read_in_order() {
    let disk = killed(200);
    let segments = segment_paths(&disk);
    assert!(segments.len() > 4);
    let bytes = disk.bytes(&segments[1]);
    let frame = encoded(0, &payload(0, 20)).len();
    for (what, bad) in [
        ("a record in the middle", {
            let mut bad = bytes.clone();
            bad[64 + 3 * frame + 40] ^= 1;
            bad
        }),
        ("a sector of zeros", {
            let mut bad = bytes.clone();
            bad[512..1024].fill(0);
            bad
        }),
        ("the header", {
            let mut bad = bytes.clone();
            bad[20] ^= 1;
            bad
        }),
        ("the end", bytes[..bytes.len() - frame].to_vec()),
        ("all of it", Vec::new()),
        ("another file", disk.bytes(&segments[2])),
    ] {
        let disk = disk.after_kill();
        disk.put(&segments[1], &bad);
        assert!(refused(&disk).is_some(), "{what}");
        assert_eq!(
            disk.bytes(&segments[1]),
            bad,
            "{what}: refused, and yet touched"
        );
        let journal = open(&disk);
        let kept = survivors(&journal);
        // Nothing was confirmed, so what is there is what waits.
        assert_eq!(journal.status().waiting, kept.len() as u64, "{what}");
        assert!(kept.is_sorted(), "{what}");
        let lost = 200 - kept.len();
        let in_segment = (bytes.len() - 64) / frame;
        let expected = match what {
            "a record in the middle" | "the end" => 1..=1,
            "the header" => 0..=0,
            "a sector of zeros" => 512 / frame..=512 / frame + 2,
            _ => in_segment..=in_segment,
        };
        assert!(
            expected.contains(&lost),
            "{what}: {lost} lost, not {expected:?}"
        );
        let aside = &journal.recovery().set_aside;
        assert_eq!(aside.len(), 1, "{what}");
        assert_eq!(aside[0].file.parent(), Some(Path::new("/journal/damaged")));
        assert_eq!(disk.bytes(&aside[0].file), bad);
        drop(journal);
        assert_eq!(refused(&disk), None, "{what}");
        assert_eq!(survivors(&open(&disk)), kept, "{what}");
    }
}

#[test]
fn a_missing_segment_is_noticed() {
    let disk = killed(200);
    let segments = segment_paths(&disk);
    disk.delete(&segments[2]);
    assert!(
        refused(&disk)
            .unwrap()
            .contains("records are missing at the end")
    );
    let journal = open(&disk);
    let kept = survivors(&journal);
    assert!(kept.len() < 200 && kept.contains(&0) && kept.contains(&199));
}

#[test]
fn a_header_of_a_later_version_is_refused_without_a_touch() {
    let disk = killed(3);
    let mut bytes = disk.bytes(&segment_path(0));
    bytes[8] = 2;
    let checksum = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
    disk.put(&segment_path(0), &bytes);
    let error = open_on(&disk, options(), tuning()).unwrap_err();
    assert!(error.to_string().contains("format version 2"), "{error}");
    assert_eq!(disk.bytes(&segment_path(0)), bytes);
}

#[test]
fn a_disk_that_cannot_be_read_is_not_damaged() {
    let disk = killed(3);
    disk.fail_reads(true);
    let error = open_on(&disk, options(), tuning()).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    disk.fail_reads(false);
    assert_eq!(survivors(&open(&disk)), [0, 1, 2]);
}

#[test]
fn what_strangers_send_is_never_taken_for_records() {
    // Payloads that look like records of this very journal, but for the secret log id.
    let disk = FaultDisk::default();
    let journal = open(&disk);
    let mut forged = Vec::new();
    for position in 0..20 {
        forged.extend(encoded(position, b"forged"));
    }
    for _ in 0..3 {
        append(&journal, &forged).unwrap();
    }
    let killed = disk.after_kill();
    let path = segment_paths(&killed)[0].clone();
    let mut bytes = killed.bytes(&path);
    bytes[70] ^= 1;
    killed.put(&path, &bytes);
    let journal = open(&killed);
    for (_, payload) in read_all(&journal, 0) {
        assert_eq!(payload, forged);
    }
}

#[test]
fn a_record_that_changes_under_a_reader_is_an_error_with_instructions() {
    let disk = FaultDisk::default();
    let tuning = Tuning {
        ring_records_max: 0,
        ..tuning()
    };
    let journal = open_on(&disk, options(), tuning).unwrap();
    for number in 0..3 {
        append(&journal, &payload(number, 20)).unwrap();
    }
    let mut bytes = disk.bytes(&segment_path(0));
    bytes[64 + 100] ^= 1;
    disk.put(&segment_path(0), &bytes);
    let mut reader = journal.read_from(Position(0));
    assert_eq!(
        reader.try_next().unwrap_err().kind(),
        std::io::ErrorKind::InvalidData
    );
}

#[test]
fn an_empty_segment_behind_a_loss_stops_no_reader() {
    let disk = killed(3);
    // The next segment was begun, and has no record yet.
    let file = disk.open(&segment_path(0)).unwrap();
    let before = segment::Header::load(&*file, 0).unwrap().unwrap();
    let header = segment::Header {
        sequence: 1,
        first: 3,
        previous_end: 3,
        ..before
    };
    let draft = segment::Draft::begin(&disk, Path::new("/journal"), &header).unwrap();
    draft.finish(&disk).unwrap();
    let (mut bytes, ..) = single_segment(&disk);
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end] ^= 1;
    disk.put(&segment_path(0), &bytes);

    let journal = open(&disk);
    assert_eq!(survivors(&journal), [0, 1]);
    assert_eq!(append(&journal, &payload(3, 20)), Ok(Position(3)));
    assert_eq!(survivors(&journal), [0, 1, 3]);
}

#[test]
fn a_start_has_no_more_files_open_than_it_must() {
    let disk = killed(200);
    assert!(segment_paths(&disk).len() > 4);
    assert_eq!(survivors(&open(&disk)).len(), 200);
    assert!(disk.open_max() <= 3, "{} at once", disk.open_max());
}
