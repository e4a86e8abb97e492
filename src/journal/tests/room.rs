//! No room, and room again.

use super::chance;
use super::disk::FaultDisk;
use super::figures::{Row, count};
use super::support::*;
use crate::journal::*;

/// Appends until there is no room. Gives how many were taken.
fn fill(journal: &Journal, begin: u64) -> u64 {
    for number in begin.. {
        match append(journal, &payload(number, 100)) {
            Ok(position) => assert_eq!(position, Position(number)),
            Err(AppendError::Full) => return number - begin,
            Err(other) => panic!("{other}"),
        }
    }
    unreachable!()
}

#[test]
fn a_full_journal_takes_records_again_once_old_ones_are_confirmed() {
    let disk = FaultDisk::default();
    let options = Options {
        bytes_max: 16 * 1024,
        ..options()
    };
    let journal = open_on(&disk, options, tuning()).unwrap();
    let taken = fill(&journal, 0);
    assert!(taken > 90, "{taken}");
    let status = journal.status();
    assert!(
        status.full && status.failed.is_none() && status.bytes <= 16 * 1024,
        "{status:?}"
    );
    assert!(disk.used() <= 16 * 1024 + 56, "{} bytes", disk.used());
    assert_eq!(append(&journal, &payload(0, 100)), Err(AppendError::Full));

    // Not a whole segment yet.
    journal.confirm_until(Position(2));
    assert!(journal.status().full);
    assert_eq!(append(&journal, &payload(0, 100)), Err(AppendError::Full));
    // Without an append: readiness depends on it.
    journal.confirm_until(Position(taken / 2));
    until(|| !journal.status().full);
    assert!(fill(&journal, taken) > 30);
    assert!(journal.status().first.0 <= taken / 2);

    // Everything, so that even the segment in use has to go.
    journal.confirm_until(journal.status().end);
    let end = journal.status().end.0;
    assert!(fill(&journal, end) > 90);
    assert_eq!(
        read_all(&journal, end).len() as u64,
        journal.status().end.0 - end
    );
}

#[test]
fn a_small_record_is_taken_where_a_large_one_is_not() {
    let disk = FaultDisk::default();
    let options = Options {
        bytes_max: 16 * 1024,
        ..options()
    };
    let journal = open_on(&disk, options, tuning()).unwrap();
    for number in 0..20 {
        append(&journal, &payload(number, 100)).unwrap();
    }
    journal.confirm_until(Position(20));
    assert_eq!(append(&journal, &[0; 20_000]), Err(AppendError::Full));
    // What could never fit makes nobody delete, and the journal is not full for it.
    assert_eq!(journal.status().first, Position(0));
    assert!(!journal.status().full);
    assert_eq!(append(&journal, &[0; 5_000]), Ok(Position(20)));
    assert_eq!(append(&journal, &[0; 100]), Ok(Position(21)));
}

#[test]
fn a_full_journal_stays_full_though_a_smaller_record_still_fits() {
    let disk = FaultDisk::default();
    let options = Options {
        bytes_max: 16 * 1024,
        ..options()
    };
    let journal = open_on(&disk, options, tuning()).unwrap();
    while append(&journal, &[0; 1000]).is_ok() {}
    assert!(journal.status().full);
    append(&journal, &[0; 10]).unwrap();
    assert!(journal.status().full);
    journal.confirm_until(journal.status().end);
    until(|| !journal.status().full);
}

#[test]
fn a_full_disk_is_no_failure() {
    let disk = FaultDisk::default();
    let journal = open(&disk);
    let mut end = 0;
    for round in 1..=20_u64 {
        disk.set_size(Some(
            disk.used() + 4000 + usize::try_from(round).unwrap() * 37,
        ));
        end += fill(&journal, end);
        let status = journal.status();
        assert!(status.full && status.failed.is_none(), "{status:?}");
        assert_eq!(status.end.0, end);
        // Space is back, and nobody appends.
        disk.set_size(None);
        until(|| !journal.status().full);
        append(&journal, &payload(end, 100)).unwrap();
        end += 1;
    }
    let killed = disk.after_kill();
    drop(journal);
    for disk in [disk, killed] {
        let options = Options {
            refuse_damage: true,
            ..options()
        };
        let journal = open_on(&disk, options, tuning()).unwrap();
        let records = read_all(&journal, 0);
        assert_eq!(records.len() as u64, end);
        assert!(
            records
                .iter()
                .all(|(position, bytes)| *bytes == payload(*position, 100))
        );
    }
}

#[test]
fn a_full_disk_makes_confirmed_segments_go_before_their_time() {
    let disk = FaultDisk::default();
    let journal = open(&disk);
    disk.set_size(Some(20_000));
    let end = fill(&journal, 0);
    assert_eq!(journal.status().first, Position(0));
    journal.confirm_until(Position(end / 2));
    until(|| !journal.status().full);
    assert!(fill(&journal, end) > 20);
    assert!(journal.status().first > Position(0));
}

#[test]
fn confirmed_segments_are_kept_as_long_as_asked() {
    let age = |retain: Duration| {
        let disk = FaultDisk::default();
        let options = Options {
            retain,
            ..options()
        };
        let tuning = Tuning {
            tidy_every: Duration::ZERO,
            ..tuning()
        };
        let journal = open_on(&disk, options, tuning).unwrap();
        for number in 0..100 {
            append(&journal, &payload(number, 100)).unwrap();
        }
        (disk, journal)
    };
    // The records are of 2023.
    let (_disk, journal) = age(Duration::from_secs(3600));
    assert_eq!(journal.status().first, Position(0));
    journal.confirm_until(Position(50));
    until(|| journal.status().first > Position(30));
    assert!(journal.status().first <= Position(50));

    let (disk, journal) = age(Duration::from_secs(100 * 365 * 86_400));
    journal.confirm_until(Position(50));
    until(|| {
        disk.log()
            .iter()
            .filter(|call| *call == "rename to cursor")
            .count()
            > 1
    });
    append(&journal, b"after the chores").unwrap();
    assert_eq!(journal.status().first, Position(0));
}

/// The system may take a part of a write before it finds the disk full; so the next record goes
/// where that part was.
#[test]
fn the_disk_is_full_at_any_write_after_any_part_of_it() {
    const WRITES: u64 = 50;
    let mut random = chance::dice();
    let lengths = count(4_095, 4_095);
    let mut refused = 0;
    for bytes in 1..=u64::from(lengths) {
        let disk = FaultDisk::default();
        let options = Options {
            segment_bytes: 8 * 1024,
            refuse_damage: true,
            ..options()
        };
        let journal = open_on(&disk, options.clone(), tuning()).unwrap();
        disk.full_at(bytes % WRITES + 1, usize::try_from(bytes).unwrap());
        let mut taken = Vec::new();
        let mut after = 0;
        while after < 3 {
            let length = if random.u8(..4) == 0 { 5_000 } else { 100 };
            let payload = payload(taken.len() as u64, random.usize(..length));
            match append(&journal, &payload) {
                Ok(position) => {
                    assert_eq!(position.0, taken.len() as u64, "{bytes}");
                    taken.push(payload);
                }
                Err(error) => {
                    assert_eq!(error, AppendError::Full, "{bytes}");
                    refused += 1;
                    until(|| !journal.status().full);
                }
            }
            after += u32::from(!disk.will_be_full());
        }
        assert_eq!(journal.status().failed, None);
        for disk in [disk.after_kill(), disk.after_power_loss(&mut random)] {
            let journal = open_on(&disk, options.clone(), tuning()).unwrap();
            let records = read_all(&journal, 0)
                .into_iter()
                .map(|(_, payload)| payload);
            assert_eq!(records.collect::<Vec<_>>(), taken, "{bytes}");
        }
    }
    Row::new("J5.in_memory")
        .saw("writes cut short", lengths)
        .saw("events refused", refused)
        .saw("lost", 0)
        .write();
}

/// A small neighbour on the same disk leaves a large one what that one needs.
#[test]
fn a_reserve_is_left_for_a_neighbour() {
    let disk = FaultDisk::default();
    disk.set_size(Some(30_000));
    disk.say_free();
    let neighbourly = Options {
        reserve_bytes: 20_000,
        ..options()
    };
    let journal = open_on(&disk, neighbourly, tuning()).unwrap();
    let taken = fill(&journal, 0);
    let status = journal.status();
    assert!(status.full && status.failed.is_none(), "{status:?}");
    let used = disk.used();
    assert!((8_000..=10_000).contains(&used), "{used}");
    // The large one goes on where the small one stopped.
    drop(journal);
    let journal = open_on(&disk, options(), tuning()).unwrap();
    assert!(fill(&journal, taken) > 100);
}

/// Records leave room on the disk, so that the next start may copy what verifies of a damaged
/// segment.
#[test]
fn a_reserve_is_left_for_the_next_start() {
    let begin = |reserve_segments| {
        let disk = FaultDisk::default();
        disk.set_size(Some(30_000));
        disk.say_free();
        let tuning = Tuning {
            reserve_segments,
            ..tuning()
        };
        let journal = open_on(&disk, options(), tuning.clone()).unwrap();
        let taken = fill(&journal, 0);
        let status = journal.status();
        assert!(status.full && status.failed.is_none(), "{status:?}");
        assert!(taken > 100, "{taken}");
        let killed = disk.after_kill();
        let damaged = segment_paths(&killed)[1].clone();
        let mut bytes = killed.bytes(&damaged);
        bytes[100] ^= 1;
        killed.put(&damaged, &bytes);
        (killed.used(), open_on(&killed, options(), tuning), taken)
    };
    let (used, opened, taken) = begin(2);
    assert!(used <= 30_000 - 2 * 2048, "{used}");
    let journal = opened.unwrap();
    assert_eq!(read_all(&journal, 0).len() as u64, taken - 1);
    // But for zeros that were written ahead, it is full still.
    assert!(fill(&journal, taken) < 10);

    // Without one, the disk is too full to begin.
    let (used, opened, _) = begin(0);
    assert!(used > 30_000 - 2048, "{used}");
    assert!(matches!(opened, Err(OpenError::Io { .. })));
}
