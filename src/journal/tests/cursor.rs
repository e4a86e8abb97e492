//! The cursor file is an optimisation: whatever becomes of it, records are published again and none
//! is lost.

use std::path::PathBuf;

use super::chance;
use super::disk::FaultDisk;
use super::figures::{Row, count};
use super::support::*;
use crate::journal::*;

fn file() -> PathBuf {
    PathBuf::from(DIR).join("cursor")
}

/// What is done to the file. `older`: what it once was.
fn spoil(disk: &FaultDisk, older: &[Vec<u8>], random: &mut fastrand::Rng) -> &'static str {
    let mut bytes = disk.bytes(&file());
    match random.u8(..7) {
        0 => {
            disk.delete(&file());
            return "deleted";
        }
        1 => {
            let one = random.usize(..bytes.len());
            bytes[one] ^= 1 << random.u8(..8);
            disk.put(&file(), &bytes);
            return "a bit flipped";
        }
        2 => {
            bytes.truncate(random.usize(..bytes.len()));
            disk.put(&file(), &bytes);
            return "cut";
        }
        3 => {
            random.fill(&mut bytes);
            disk.put(&file(), &bytes);
            return "noise";
        }
        4 => {
            bytes.fill(0);
            disk.put(&file(), &bytes);
            return "zeros";
        }
        5 => {
            // A sound file of another log, and far ahead.
            let foreign = FaultDisk::default();
            let journal = open(&foreign);
            for number in 0..200 {
                append(&journal, &payload(number, 1)).unwrap();
            }
            journal.confirm_until(Position(200));
            drop(journal);
            disk.put(&file(), &foreign.bytes(&file()));
            return "of another journal";
        }
        _ => {}
    }
    disk.put(&file(), &older[random.usize(..older.len())]);
    "rolled back"
}

#[test]
fn a_spoilt_cursor_costs_duplicates_only() {
    let rounds = count(1_000, 10_000);
    let mut random = chance::dice();
    let mut disk = FaultDisk::default();
    // A cursor of its own in every life, the latest last.
    let mut older: Vec<Vec<u8>> = Vec::new();
    let mut end = 0;
    let mut confirmed = 0;
    let mut again = 0;
    for round in 0..rounds {
        // So small that what is confirmed is soon deleted.
        let options = Options {
            bytes_max: 8 * 1024,
            ..options()
        };
        let journal = open_on(&disk, options, tuning()).unwrap();
        let cursor = journal.status().cursor.0;
        assert!(
            cursor <= confirmed,
            "round {round}: {cursor}, not {confirmed}"
        );
        assert!(journal.recovery().set_aside.is_empty());
        again += confirmed - cursor;
        // Everything that was not confirmed, in order: nothing is lost.
        let records = read_all(&journal, cursor);
        let positions: Vec<u64> = records.iter().map(|(position, _)| *position).collect();
        assert_eq!(
            positions,
            (cursor..end).collect::<Vec<_>>(),
            "round {round}"
        );
        for (position, bytes) in &records {
            assert_eq!(*bytes, payload(*position, 20), "round {round}");
        }
        for _ in 0..random.u64(1..6) {
            match append(&journal, &payload(end, 20)) {
                Ok(position) => assert_eq!(position, Position(end)),
                // Nothing is deleted that was rolled back.
                Err(AppendError::Full) => break,
                Err(error) => panic!("round {round}: {error}"),
            }
            end += 1;
        }
        confirmed = random.u64(confirmed.max(end.saturating_sub(20))..=end);
        journal.confirm_until(Position(confirmed));
        drop(journal);
        older.push(disk.bytes(&file()));
        if older.len() > 30 {
            older.remove(0);
        }
        disk = disk.after_kill();
        let how = spoil(&disk, &older, &mut random);
        if how == "deleted" {
            older.truncate(1);
        }
    }
    assert!(again > u64::from(rounds), "{again}");
    Row::new("J7")
        .saw("cursor files spoilt", rounds)
        .saw("lost", 0)
        .saw("published again", again)
        .write();
}

#[test]
fn what_is_settled_behind_the_cursor_does_not_wait() {
    let disk = FaultDisk::default();
    let journal = open(&disk);
    for number in 0..10 {
        append(&journal, &payload(number, 20)).unwrap();
    }
    journal.confirm_with(Position(2), 5);
    assert_eq!(journal.status().waiting, 3);
    // The same cursor, and one more.
    journal.confirm_with(Position(2), 6);
    assert_eq!(journal.status().waiting, 2);
    append(&journal, &payload(10, 20)).unwrap();
    assert_eq!(journal.status().waiting, 3);
    journal.confirm_with(Position(10), 0);
    assert_eq!(journal.status().waiting, 1);
    // It is not stored: after a kill all from the cursor on are read again.
    journal.confirm_with(Position(10), 1);
    assert_eq!(journal.status().waiting, 0);
    drop(journal);
    assert_eq!(open(&disk).status().waiting, 1);
}
