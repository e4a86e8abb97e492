//! Records that belong together.

use super::chance;
use super::disk::{FaultDisk, Names};
use super::support::*;
use crate::journal::*;

fn group(numbers: std::ops::Range<u64>, length: usize) -> Vec<Bytes> {
    numbers
        .map(|number| payload(number, length).into())
        .collect()
}

fn append_group(journal: &Journal, payloads: Vec<Bytes>) -> Result<Position, AppendError> {
    begin_group(journal, payloads).wait()
}

fn positions(journal: &Journal) -> Vec<u64> {
    let records = read_all(journal, 0);
    records
        .iter()
        .map(|(position, payload)| {
            let (number, _) = payload.split_first_chunk().unwrap();
            assert_eq!(u64::from_be_bytes(*number), *position, "out of order");
            *position
        })
        .collect()
}

#[test]
fn a_group_stands_together_and_survives_a_restart() {
    let disk = FaultDisk::default();
    let journal = open(&disk);
    append(&journal, &payload(0, 10)).unwrap();
    assert_eq!(append_group(&journal, group(1..6, 10)), Ok(Position(1)));
    assert_eq!(append(&journal, &payload(6, 10)), Ok(Position(6)));
    assert_eq!(journal.status().waiting, 7);
    drop(journal);
    assert_eq!(positions(&open(&disk)), [0, 1, 2, 3, 4, 5, 6]);
}

/// More records than one write takes, and more bytes than a segment.
#[test]
fn a_group_is_one_write_in_one_segment_however_long_it_is() {
    let disk = FaultDisk::default();
    let options = Options {
        bytes_max: 64 * 1024,
        segment_bytes: 1024,
        ..options()
    };
    let tuning = tuning();
    let size = tuning.handover.batch_records_max as u64 + 10;
    let journal = open_on(&disk, options, tuning).unwrap();
    append(&journal, &payload(0, 10)).unwrap();
    assert_eq!(
        append_group(&journal, group(1..1 + size, 40)),
        Ok(Position(1))
    );
    append(&journal, &payload(1 + size, 10)).unwrap();
    let paths = segment_paths(&disk);
    let long = paths.iter().filter(|path| disk.bytes(path).len() > 1024);
    assert_eq!(long.count(), 1, "the group is in several segments");
    assert_eq!(positions(&journal).len() as u64, size + 2);
}

#[test]
fn there_is_room_for_all_of_a_group_or_for_none() {
    let disk = FaultDisk::default();
    let options = Options {
        bytes_max: 16 * 1024,
        ..options()
    };
    let journal = open_on(&disk, options, tuning()).unwrap();
    let mut taken = 0;
    while append(&journal, &payload(taken, 100)).is_ok() {
        taken += 1;
    }
    journal.confirm_until(Position(taken));
    let fill = append_group(&journal, group(taken..taken + 40, 100));
    assert_eq!(fill, Ok(Position(taken)));
    let end = taken + 40;
    let end = (end..)
        .find(|number| append(&journal, &payload(*number, 100)).is_err())
        .unwrap();
    // Less than a segment is free, if that.
    let refused = append_group(&journal, group(end..end + 50, 100));
    assert_eq!(refused, Err(AppendError::Full));
    assert_eq!(
        journal.status().end,
        Position(end),
        "a part of it was taken"
    );
}

#[test]
fn what_could_never_be_taken_is_too_large_and_not_busy() {
    let disk = FaultDisk::default();
    let options = Options {
        bytes_max: 16 * 1024,
        ..options()
    };
    let tuning = tuning();
    let too_many = tuning.handover.queue_records_max as u64 + 1;
    let journal = open_on(&disk, options, tuning).unwrap();
    let long = append_group(&journal, group(0..90, 100));
    assert_eq!(long, Err(AppendError::TooLarge));
    let many = append_group(&journal, group(0..too_many, 0));
    assert_eq!(many, Err(AppendError::TooLarge));
    assert_eq!(append_group(&journal, group(0..3, 100)), Ok(Position(0)));
}

/// Power is lost at every call while a group is written, many times: what was acknowledged is
/// there whole. What was not may be there in part, and then a later group takes other positions.
#[test]
fn a_loss_of_power_leaves_all_of_an_acknowledged_group() {
    let mut random = chance::dice();
    let (mut whole, mut in_part) = (0, 0);
    for _ in 0..40 {
        let disk = FaultDisk::with_sectors(64);
        let journal = open(&disk);
        disk.keep_moments();
        append_group(&journal, group(0..6, 50)).unwrap();
        let acknowledged = disk.calls();
        append(&journal, &payload(6, 10)).unwrap();
        drop(journal);
        for moment in disk.moments() {
            let image = moment.image.after_power_loss(&mut random, Names::Some);
            let disk = FaultDisk::from(image);
            let journal = open(&disk);
            let found = positions(&journal).len();
            if moment.call > acknowledged {
                assert!(found >= 6, "{found} of an acknowledged group");
                whole += 1;
            } else if (1..6).contains(&found) {
                in_part += 1;
            }
            let end = journal.status().end;
            let again = append_group(&journal, group(end.0..end.0 + 3, 10));
            assert_eq!(again, Ok(end));
        }
    }
    assert!(whole > 0 && in_part > 0, "{whole} {in_part}");
}
