//! The disk fails at every call in turn, and power is lost there. Whatever was acknowledged is
//! there afterwards, in order; nothing is there that was not handed in; everybody is answered; and
//! no such accident is mistaken for damage.
//!
//! `JOURNAL_CRASH_ROUNDS` sets how many losses of power are tried per call.

use std::collections::BTreeMap;

use super::disk::FaultDisk;
use super::support::*;
use crate::journal::*;

/// Records of the workload; a few segments' worth.
const RECORDS: u64 = 48;

/// What happened in one life of a process.
#[derive(Clone, Debug, Default)]
struct Life {
    acknowledged: BTreeMap<u64, Vec<u8>>,
    confirmed: u64,
}

fn rounds() -> u64 {
    let rounds = std::env::var("JOURNAL_CRASH_ROUNDS").ok();
    rounds.map_or(4, |rounds| rounds.parse().unwrap())
}

fn strict() -> Options {
    Options {
        refuse_damage: true,
        bytes_max: 8 * 1024,
        segment_bytes: 1024,
        ..options()
    }
}

/// Appends, some at a time, and confirms, so that segments are begun and deleted. `salt` makes
/// payloads differ between lives.
fn live(disk: &FaultDisk, salt: u64, before: &Life) -> Life {
    let mut life = before.clone();
    let Ok(journal) = open_on(disk, strict(), tuning()) else {
        return life;
    };
    let mut number = salt * 1000;
    let last = number + RECORDS;
    let mut failed = false;
    while number < last {
        // 1, 5, 2, 6, 3, 7, 4 records at a time; some payloads span sectors.
        let together = (number * 5 % 7 + 1).min(last - number);
        let length = |number: u64| if number.is_multiple_of(11) { 700 } else { 60 };
        let numbers = number..number + together;
        let payloads: Vec<_> = numbers
            .map(|number| payload(number, length(number)))
            .collect();
        let answers: Vec<_> = payloads
            .iter()
            .map(|payload| begin(&journal, payload))
            .collect();
        for (payload, answer) in payloads.into_iter().zip(answers) {
            match answer.wait() {
                Ok(position) => {
                    assert!(!failed, "acknowledged after a failure");
                    life.acknowledged.insert(position.0, payload);
                }
                Err(AppendError::Failed(_)) => failed = true,
                Err(AppendError::Full) => {}
                Err(other) => panic!("{other}"),
            }
        }
        number += together;
        life.confirmed = journal.status().end.0.saturating_sub(6).max(life.confirmed);
        journal.confirm_until(Position(life.confirmed));
    }
    life
}

/// Opens what a crash left, and compares.
#[track_caller]
fn check(disk: &FaultDisk, life: &Life, when: &str) {
    let journal = match open_on(disk, strict(), tuning()) {
        Ok(journal) => journal,
        Err(error) => panic!("{when}: does not open: {error}"),
    };
    let found: BTreeMap<u64, Vec<u8>> = read_all(&journal, 0).into_iter().collect();
    for (position, payload) in &life.acknowledged {
        if *position >= life.confirmed {
            assert_eq!(
                found.get(position),
                Some(payload),
                "{when}: position {position}"
            );
        }
    }
    assert!(journal.status().cursor.0 <= life.confirmed, "{when}");
    for (position, payload) in &found {
        // An unacknowledged record may be there, whole.
        let whole = payload.len() == 8 + 60 || payload.len() == 8 + 700;
        assert!(
            whole && payload[8..].iter().all(|byte| *byte == b'.'),
            "{when}"
        );
        if let Some(acknowledged) = life.acknowledged.get(position) {
            assert_eq!(payload, acknowledged, "{when}");
        }
    }
    assert_eq!(journal.recovery().missing, 0, "{when}");
    append(&journal, &payload(0, 60)).unwrap();
}

fn calls() -> u64 {
    let disk = FaultDisk::default();
    let life = live(&disk, 0, &Life::default());
    assert_eq!(life.acknowledged.len() as u64, RECORDS);
    let log = disk.log();
    for call in [
        "remove 0000000000000000.wal",
        "rename to cursor",
        "cut 0000000000000000.tmp",
    ] {
        assert!(
            log.iter().any(|other| other == call),
            "the workload has no {call}: {log:?}"
        );
    }
    disk.calls()
}

#[test]
fn a_failure_at_any_call_and_then_a_loss_of_power() {
    let mut random = fastrand::Rng::with_seed(1);
    for call in 1..=calls() {
        for on in [false, true] {
            let disk = FaultDisk::default();
            disk.fail_at(call, on);
            let life = live(&disk, 0, &Life::default());
            let last = disk.log().pop();
            check(
                &disk.after_kill(),
                &life,
                &format!("call {call}, {on}, killed; {last:?}"),
            );
            for round in 0..rounds() {
                let after = disk.after_power_loss(&mut random);
                let when = format!("call {call}, {on}, power lost, round {round}; {last:?}");
                check(&after, &life, &when);
            }
        }
    }
}

/// After a failed sync the next process sees, in memory, bytes that the disk does not have. It
/// must not build on them.
#[test]
fn a_failure_then_a_restart_then_a_loss_of_power() {
    let mut random = fastrand::Rng::with_seed(2);
    for call in 1..=calls() {
        let disk = FaultDisk::default();
        disk.fail_at(call, false);
        let first = live(&disk, 0, &Life::default());
        let disk = disk.after_kill();
        let second = live(&disk, 1, &first);
        assert!(second.acknowledged.len() as u64 >= RECORDS, "call {call}");
        for round in 0..rounds() {
            let after = disk.after_power_loss(&mut random);
            check(&after, &second, &format!("call {call}, round {round}"));
        }
    }
}

/// A write for which there was no room leaves nothing that the next one could be confused by.
#[test]
fn a_full_disk_and_then_a_loss_of_power() {
    let mut random = fastrand::Rng::with_seed(5);
    for size in (2500..5000).step_by(30) {
        let disk = FaultDisk::default();
        let mut life = Life::default();
        let options = Options {
            bytes_max: 1 << 20,
            ..strict()
        };
        let journal = open_on(&disk, options, tuning()).unwrap();
        disk.set_size(Some(size));
        for number in 0..18 {
            if number == 9 {
                disk.set_size(None);
                until(|| !journal.status().full);
            }
            // Several lengths, so that some find no room and others do, or need a new segment.
            let payload = payload(number, if number % 3 == 0 { 700 } else { 60 });
            match append(&journal, &payload) {
                Ok(position) => drop(life.acknowledged.insert(position.0, payload)),
                Err(error) => assert_eq!(error, AppendError::Full),
            }
            for round in 0..rounds() {
                let after = disk.after_power_loss(&mut random);
                after.set_size(None);
                check(
                    &after,
                    &life,
                    &format!("size {size}, record {number}, round {round}"),
                );
            }
        }
    }
}

/// Power is lost again while the damage of the first time is being mended.
#[test]
fn a_crash_while_recovering() {
    let mut random = fastrand::Rng::with_seed(3);
    for call in (1..=calls()).step_by(3) {
        let disk = FaultDisk::default();
        disk.fail_at(call, true);
        let life = live(&disk, 0, &Life::default());
        let lost = disk.after_power_loss(&mut random);
        for again in 1..=6 {
            let disk = lost.after_kill();
            disk.fail_at(again, true);
            drop(open_on(&disk, strict(), tuning()));
            check(
                &disk.after_kill(),
                &life,
                &format!("call {call}, then {again}, killed"),
            );
            let after = disk.after_power_loss(&mut random);
            check(
                &after,
                &life,
                &format!("call {call}, then {again}, power lost"),
            );
        }
    }
}

/// The same while a damaged segment is being set aside: what verifies is there afterwards.
#[test]
fn a_crash_while_setting_aside() {
    let mut random = fastrand::Rng::with_seed(4);
    let disk = FaultDisk::default();
    let life = live(&disk, 0, &Life::default());
    let path = segment_paths(&disk)[1].clone();
    let mut bytes = disk.bytes(&path);
    bytes[64 + 50] ^= 1;
    disk.put(&path, &bytes);
    let whole = {
        let journal = open(&disk.after_kill());
        assert_eq!(journal.recovery().set_aside.len(), 1);
        read_all(&journal, 0)
    };
    assert!(whole.len() > 5 && life.acknowledged.len() > whole.len());
    for call in 1..=16 {
        let disk = disk.after_kill();
        disk.fail_at(call, true);
        drop(open_on(&disk, options(), tuning()));
        for after in [disk.after_kill(), disk.after_power_loss(&mut random)] {
            assert_eq!(read_all(&open(&after), 0), whole, "call {call}");
        }
    }
}

#[test]
fn a_failure_is_told_and_latched() {
    let disk = FaultDisk::default();
    let journal = open(&disk);
    append(&journal, b"a").unwrap();
    let sync = disk.calls() + 2;
    disk.fail_at(sync, false);
    let error = append(&journal, b"b").unwrap_err();
    assert!(
        disk.log()[usize::try_from(sync).unwrap() - 1].starts_with("sync"),
        "{:?}",
        disk.log()
    );
    assert!(
        error
            .to_string()
            .contains("cannot sync /journal/0000000000000000.wal"),
        "{error}"
    );
    assert_eq!(append(&journal, b"c").unwrap_err(), error);
    assert!(journal.status().failed.is_some());
    let calls = disk.calls();
    drop(journal);
    assert_eq!(disk.calls(), calls, "a failed journal wrote again");
}

/// A journal in which nothing waits is removed, and power is lost at every call of that: nothing
/// waits afterwards, whatever is left.
#[test]
fn a_journal_that_is_being_removed_brings_nothing_back() {
    let mut random = fastrand::Rng::with_seed(6);
    for call in 1.. {
        let disk = FaultDisk::default();
        let journal = open_on(&disk, strict(), tuning()).unwrap();
        for number in 0..40 {
            append(&journal, &payload(number, 60)).unwrap();
        }
        journal.confirm_until(Position(40));
        drop(journal);
        assert!(segment_paths(&disk).len() > 2);
        disk.fail_at(disk.calls() + call, true);
        let removed = remove_on(&disk, Path::new(DIR));
        for round in 0..rounds() {
            let after = disk.after_power_loss(&mut random);
            let journal = open_on(&after, strict(), tuning()).unwrap();
            assert_eq!(journal.status().waiting, 0, "call {call}, round {round}");
        }
        if removed.is_ok() {
            assert!(call > 5, "{call}");
            assert!(segment_paths(&disk).is_empty());
            break;
        }
    }
}
