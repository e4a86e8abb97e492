//! Cut and flipped everywhere. A tail that is cut is recovered; bytes that were on stable storage
//! and changed are refused or set aside, as `on_damage` says; never is anything taken for a record
//! that was not written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::chance;
use super::disk::FaultDisk;
use super::figures::{Row, count};
use super::support::*;
use crate::journal::*;

/// A journal that was killed, and what is in it.
struct Killed {
    disk: FaultDisk,
    payloads: Vec<Vec<u8>>,
}

/// `together`: records in one write.
fn killed(records: u64, together: u64, random: &mut fastrand::Rng) -> Killed {
    let disk = FaultDisk::default();
    let options = Options {
        segment_bytes: 64 * 1024,
        ..options()
    };
    let journal = open_on(&disk, options, tuning()).unwrap();
    let payloads: Vec<_> = (0..records)
        .map(|number| payload(number, random.usize(..120)))
        .collect();
    for group in payloads.chunks(usize::try_from(together).unwrap()) {
        let answers: Vec<_> = group
            .iter()
            .map(|payload| begin(&journal, payload))
            .collect();
        for answer in answers {
            answer.wait().unwrap();
        }
    }
    let killed = disk.after_kill();
    drop(journal);
    Killed {
        disk: killed,
        payloads,
    }
}

impl Killed {
    /// Opens without a thread to write; gives the records that are then there. Fails if one was not
    /// written so.
    #[track_caller]
    fn recover(
        &self,
        disk: &FaultDisk,
        refuse: bool,
        when: &str,
    ) -> Result<(Recovery, Vec<u64>), OpenError> {
        let dir = Path::new(DIR);
        let nobody: &mut survey::Witness<'_> = &mut |_| ControlFlow::Continue(());
        let recovered = recovery::mend(disk, dir, refuse, tuning().mark_bytes, nobody)?;
        let mut positions = Vec::new();
        for record in Records::read_on(Arc::new(disk.clone()), dir, Position(0)).unwrap() {
            let record = record.unwrap();
            let written = &self.payloads[usize::try_from(record.position.0).unwrap()];
            assert_eq!(record.payload[..], written[..], "{when}: a wrong accept");
            positions.push(record.position.0);
        }
        Ok((recovered.report, positions))
    }

    /// Where each record ends, in a journal of one segment.
    fn ends(&self) -> Vec<usize> {
        let mut end = 64;
        let ends = self.payloads.iter().map(|payload| {
            end += 32 + payload.len();
            end
        });
        ends.collect()
    }
}

#[test]
fn a_tail_cut_at_every_byte_is_recovered() {
    let journals = count(20, 200);
    let mut random = chance::dice();
    let (mut cuts, mut records) = (0, 0);
    for round in 0..journals {
        let together = [1, 3, 8][usize::try_from(round % 3).unwrap()];
        let killed = killed(50, together, &mut random);
        let path = segment_path(0);
        let bytes = killed.disk.bytes(&path);
        let ends = killed.ends();
        let last = *ends.last().unwrap();
        assert!(bytes[last..].iter().all(|byte| *byte == 0));
        for cut in 64..=last {
            let disk = killed.disk.after_kill();
            disk.put(&path, &bytes[..cut]);
            let (report, kept) = killed.recover(&disk, true, "cut").unwrap();
            let whole = ends.partition_point(|end| *end <= cut) as u64;
            assert_eq!(kept, (0..whole).collect::<Vec<_>>(), "cut at {cut}");
            assert!(report.set_aside.is_empty());
            cuts += 1;
        }
        records += killed.payloads.len();
    }
    Row::new("J3.tails")
        .saw("records", records)
        .saw("tails cut", cuts)
        .saw("wrongly accepted or refused", 0)
        .write();
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let positions = count(10_000, 100_000);
    let mut random = chance::dice();
    let mut refused = 0;
    let mut killed = several(&mut random);
    for flipped in 0..positions {
        if flipped % 500 == 0 {
            killed = several(&mut random);
        }
        let segments = &killed.segments;
        let path = &segments[random.usize(..segments.len())];
        let byte = random.usize(..killed.bytes[path].len());
        for bit in 0..8 {
            refused += killed.flip(path, byte, bit);
        }
    }
    assert!(
        refused > positions,
        "{refused} refused: most were in the middle"
    );
    Row::new("J3.flips")
        .saw("bits flipped", u64::from(positions) * 8)
        .saw("refused or set aside", refused)
        .saw("wrongly accepted", 0)
        .write();
}

/// A journal of several small segments.
struct Several {
    killed: Killed,
    segments: Vec<PathBuf>,
    bytes: BTreeMap<PathBuf, Vec<u8>>,
    /// By segment: where its last write begins, and where its records end.
    last_write: BTreeMap<PathBuf, (usize, usize)>,
}

fn several(random: &mut fastrand::Rng) -> Several {
    let disk = FaultDisk::default();
    let options = Options {
        segment_bytes: 512,
        ..options()
    };
    let journal = open_on(&disk, options, tuning()).unwrap();
    let payloads: Vec<_> = (0..24)
        .map(|number| payload(number, random.usize(..80)))
        .collect();
    for payload in &payloads {
        append(&journal, payload).unwrap();
    }
    let killed = Killed {
        disk: disk.after_kill(),
        payloads,
    };
    drop(journal);
    let segments = segment_paths(&killed.disk);
    assert!(segments.len() > 3);
    let mut bytes = BTreeMap::new();
    let mut last_write = BTreeMap::new();
    let mut number = 0;
    for path in &segments {
        let file = killed.disk.bytes(path);
        let (mut before, mut end) = (64, 64);
        while end + 4 <= file.len() {
            let length = u32::from_le_bytes(file[end..end + 4].try_into().unwrap());
            if length == 0 {
                break;
            }
            before = end;
            end += usize::try_from(length).unwrap();
            number += 1;
        }
        last_write.insert(path.clone(), (before, end));
        bytes.insert(path.clone(), file);
    }
    assert_eq!(number, killed.payloads.len());
    Several {
        killed,
        segments,
        bytes,
        last_write,
    }
}

impl Several {
    /// Flips a bit; gives 1 if that is damage.
    fn flip(&self, path: &PathBuf, byte: usize, bit: u32) -> u32 {
        let when = format!("{}, byte {byte}, bit {bit}", path.display());
        let mut bad = self.bytes[path].clone();
        bad[byte] ^= 1 << bit;
        let disk = self.killed.disk.after_kill();
        disk.put(path, &bad);
        let is_last = Some(path) == self.segments.last();
        let (last_write, _) = self.last_write[path];
        // Only the last write of all may be torn, and what follows it.
        let is_damage = !is_last || byte < last_write;

        let all = self.killed.payloads.len();
        let outcome = self.killed.recover(&disk, true, &when);
        match &outcome {
            Ok((_, kept)) => {
                assert!(!is_damage, "{when}: accepted");
                assert!(kept.len() + 1 >= all, "{when}: {kept:?}");
            }
            Err(OpenError::Damaged(_)) => {
                assert!(is_damage, "{when}: refused");
                assert_eq!(disk.bytes(path), bad, "{when}: refused, and yet touched");
            }
            Err(error) => panic!("{when}: {error}"),
        }
        // Half of them are enough to see that the rest is kept.
        if is_damage && bit.is_multiple_of(2) {
            let (report, kept) = self.killed.recover(&disk, false, &when).unwrap();
            assert_eq!(report.set_aside.len(), 1, "{when}");
            assert_eq!(disk.bytes(&report.set_aside[0].file), bad, "{when}");
            assert!(kept.len() + 1 >= all, "{when}: {kept:?}");
            // And there is nothing to mend the next time.
            let (report, again) = self.killed.recover(&disk, true, &when).unwrap();
            assert!(report.set_aside.is_empty(), "{when}");
            assert_eq!(again, kept, "{when}");
        }
        u32::from(is_damage)
    }
}
