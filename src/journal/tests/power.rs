//! Power is lost at every call of random histories, many times over, and the next life begins on
//! what is left. Whatever was acknowledged by then is there, in order and byte for byte; nothing is
//! there that was not handed in, and nothing twice; no such accident is mistaken for damage.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;

use super::chance;
use super::disk::{FaultDisk, Image, Names};
use super::figures::{Row, count};
use super::support::*;
use crate::journal::*;

/// What a real disk writes as a whole.
const SECTOR: usize = 512;
/// Lives on one disk, each on what a loss of power left of the one before.
const LIVES: u32 = 4;

/// What is known of one disk.
#[derive(Debug, Default)]
struct Ledger {
    /// By number: everything that was ever handed in.
    payloads: Vec<Vec<u8>>,
    /// By position: the number, and after how many calls of this life it was known to be safe.
    safe: BTreeMap<u64, (u64, u64)>,
    /// After so many calls of this life, everything before this position was confirmed.
    confirmed: Vec<(u64, u64)>,
}

fn strict() -> Options {
    Options {
        refuse_damage: true,
        bytes_max: 8 * 1024,
        segment_bytes: 1024,
        ..options()
    }
}

impl Ledger {
    /// One life of a process on a disk. Gives how many new segments it began.
    fn live(&mut self, disk: &FaultDisk, random: &mut fastrand::Rng) {
        disk.keep_moments();
        let tuning = Tuning {
            tidy_every: Duration::from_micros(500),
            ..tuning()
        };
        let retain = if random.bool() {
            Duration::ZERO
        } else {
            options().retain
        };
        let options = Options { retain, ..strict() };
        let journal = open_on(disk, options, tuning).unwrap();
        // What it shows once is not to be lost later.
        let opened = disk.calls();
        for (position, payload) in read_all(&journal, 0) {
            let number = number(&payload);
            self.safe.entry(position).or_insert((number, opened));
        }
        for _ in 0..random.u32(3..12) {
            self.append(&journal, disk, random);
            if random.bool() {
                let status = journal.status();
                let cursor = random.u64(status.cursor.0..=status.end.0);
                self.confirmed.push((disk.calls(), cursor));
                journal.confirm_until(Position(cursor));
            }
        }
        drop(journal);
    }

    /// Appends some records at once, some of them in groups.
    fn append(&mut self, journal: &Journal, disk: &FaultDisk, random: &mut fastrand::Rng) {
        let (tell, answers) = mpsc::channel();
        for _ in 0..random.u32(1..8) {
            let number = self.payloads.len() as u64;
            let size = if random.u8(..4) == 0 {
                random.u64(2..6)
            } else {
                1
            };
            let mut group: Vec<Bytes> = (0..size).map(|_| self.make(random)).collect();
            let (tell, disk) = (tell.clone(), disk.clone());
            let numbers = number..number + size;
            let done: Completion =
                Box::new(move |fate| tell.send((numbers, fate, disk.calls())).unwrap());
            match group.pop() {
                Some(alone) if group.is_empty() => journal.append(alone, at(), done),
                last => {
                    group.extend(last);
                    journal.append_group(group, at(), done);
                }
            }
        }
        drop(tell);
        for (numbers, fate, calls) in answers {
            match fate {
                Ok(first) => {
                    for (number, position) in numbers.zip(first.0..) {
                        assert_eq!(self.safe.insert(position, (number, calls)), None);
                    }
                }
                Err(error) => assert!(
                    matches!(error, AppendError::Full | AppendError::TooLarge),
                    "{error}"
                ),
            }
        }
    }

    /// The next payload.
    fn make(&mut self, random: &mut fastrand::Rng) -> Bytes {
        let number = self.payloads.len() as u64;
        let length = if random.u8(..8) == 0 {
            random.usize(600..1500)
        } else {
            random.usize(..100)
        };
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(8 + length, 0);
        random.fill(&mut payload[8..]);
        self.payloads.push(payload.clone());
        Bytes::from(payload)
    }

    /// Compares what is left when power is lost before a call.
    #[track_caller]
    fn check(&self, image: Image, call: u64) {
        let disk = FaultDisk::from(image);
        let dir = Path::new(DIR);
        let nobody: &mut survey::Witness<'_> = &mut |_| ControlFlow::Continue(());
        let recovered = match recovery::mend(&disk, dir, true, tuning().mark_bytes, nobody) {
            Ok(recovered) => recovered,
            Err(error) => panic!("before call {call}: does not open: {error}"),
        };
        let confirmed = self.confirmed.iter().filter(|(calls, _)| *calls < call);
        let confirmed = confirmed.map(|(_, cursor)| *cursor).max().unwrap_or(0);
        let records = Records::read_on(Arc::new(disk), dir, Position(0)).unwrap();
        let mut found = BTreeMap::new();
        let mut last = None;
        for record in records {
            let record = record.unwrap();
            let number = number(&record.payload);
            let handed_in = usize::try_from(number)
                .ok()
                .and_then(|n| self.payloads.get(n));
            assert_eq!(
                handed_in.map(|p| &p[..]),
                Some(&record.payload[..]),
                "invented"
            );
            assert!(last < Some(number), "{number} twice, or not in order");
            last = Some(number);
            found.insert(record.position.0, number);
        }
        for (position, (number, calls)) in &self.safe {
            if *calls >= call {
                continue;
            }
            assert!(recovered.next > *position, "a position is given again");
            match found.get(position) {
                Some(other) => assert_eq!(other, number, "before call {call}: at {position}"),
                None => assert!(
                    *position < confirmed,
                    "before call {call}: {position} is lost"
                ),
            }
        }
        assert!(
            recovered.cursor <= confirmed,
            "before call {call}: {}",
            recovered.cursor
        );
        assert_eq!(recovered.report.missing, 0, "before call {call}");
        assert_eq!(recovered.report.set_aside, []);
    }

    /// What is known when power was lost before a call, and another life begins.
    fn after(&mut self, call: u64) {
        self.safe.retain(|_, (_, calls)| *calls < call);
        for (_, calls) in self.safe.values_mut() {
            *calls = 0;
        }
        self.confirmed.retain(|(calls, _)| *calls < call);
        for (calls, _) in &mut self.confirmed {
            *calls = 0;
        }
    }
}

fn number(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload[..8].try_into().unwrap())
}

/// Gives how many losses of power there were, and how many records were acknowledged.
fn histories(sector: usize, points: u32) -> (u32, u64) {
    let mut random = chance::dice();
    let mut done = 0;
    let mut acknowledged = 0;
    while done < points {
        let mut ledger = Ledger::default();
        let mut disk = FaultDisk::with_sectors(sector);
        for _ in 0..LIVES {
            ledger.live(&disk, &mut random);
            acknowledged += ledger.safe.len() as u64;
            let moments = disk.moments();
            for moment in &moments {
                for _ in 0..2 {
                    let image = moment.image.after_power_loss(&mut random, Names::Some);
                    ledger.check(image, moment.call);
                    done += 1;
                }
            }
            let moment = &moments[random.usize(..moments.len())];
            let image = moment.image.after_power_loss(&mut random, Names::Some);
            ledger.after(moment.call);
            disk = FaultDisk::from(image);
        }
    }
    (done, acknowledged)
}

#[test]
fn power_is_lost_anywhere() {
    let (points, acknowledged) = histories(SECTOR, count(60_000, 3_000_000));
    assert!(acknowledged > u64::from(points / 20), "{acknowledged}");
    Row::new("J2.sectors_of_512")
        .saw("losses of power", points)
        .saw("acknowledged and lost", 0)
        .saw("invented", 0)
        .write();
}

/// Tears most records, and headers too.
#[test]
fn power_is_lost_anywhere_and_sectors_are_small() {
    let (points, acknowledged) = histories(64, count(40_000, 2_000_000));
    assert!(acknowledged > u64::from(points / 20), "{acknowledged}");
    Row::new("J2.sectors_of_64")
        .saw("losses of power", points)
        .saw("acknowledged and lost", 0)
        .saw("invented", 0)
        .write();
}

/// A new segment's name is on stable storage before anything in it is acknowledged: of all changes
/// of names that were not synced, none survives.
#[test]
fn names_that_were_not_synced_are_lost() {
    let rollovers = count(500, 5_000);
    let mut random = chance::dice();
    let mut seen = 0;
    while seen < rollovers {
        let mut ledger = Ledger::default();
        let disk = FaultDisk::with_sectors(SECTOR);
        ledger.live(&disk, &mut random);
        for moment in disk.moments() {
            let image = moment.image.after_power_loss(&mut random, Names::None);
            ledger.check(image, moment.call);
        }
        let begun = |call: &&String| call.starts_with("rename to") && call.ends_with(".wal");
        seen += u32::try_from(disk.log().iter().filter(begun).count()).unwrap();
    }
    Row::new("J6")
        .saw("segments begun", seen)
        .saw("acknowledged and lost", 0)
        .write();
}
