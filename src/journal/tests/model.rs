//! Random histories against a list in memory, and some of them against a second opinion: a database
//! that shares nothing with us. It says nothing about disks, which other tests do; it says that the
//! list is what a store of records in order is thought to be.

use proptest::collection::vec;
use proptest::prelude::*;

use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase as _, TableDefinition};

use super::chance;
use super::disk::FaultDisk;
use super::figures::{Row, count};
use super::support::*;
use crate::journal::*;

#[derive(Clone, Debug)]
enum Step {
    /// Append records of these lengths, all at once.
    Append(Vec<usize>),
    /// Confirm so many more.
    Confirm(u64),
    /// Read from here, in hundredths of what there is.
    Read(u64),
    Close,
    Kill,
    LosePower(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => vec(0..400_usize, 1..12).prop_map(Step::Append),
        1 => vec(2000..5000_usize, 1..3).prop_map(Step::Append),
        4 => (0..30_u64).prop_map(Step::Confirm),
        3 => (0..100_u64).prop_map(Step::Read),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        2 => any::<u64>().prop_map(Step::LosePower),
    ]
}

struct World {
    disk: FaultDisk,
    journal: Journal,
    options: Options,
    /// By position: every one was acknowledged.
    records: Vec<Vec<u8>>,
    confirmed: u64,
}

impl World {
    fn new(options: Options) -> Self {
        let disk = FaultDisk::default();
        let journal = Self::open(&disk, &options);
        Self {
            disk,
            journal,
            options,
            records: Vec::new(),
            confirmed: 0,
        }
    }

    fn open(disk: &FaultDisk, options: &Options) -> Journal {
        let tuning = Tuning {
            ring_records_max: 7,
            tidy_every: Duration::from_micros(500),
            ..tuning()
        };
        open_on(disk, options.clone(), tuning).unwrap()
    }

    fn reopen(&mut self, disk: FaultDisk) {
        self.journal = Self::open(&disk, &self.options);
        self.disk = disk;
        // The last moves of the cursor may be forgotten, and nothing else.
        let status = self.journal.status();
        assert!(status.cursor.0 <= self.confirmed);
        assert!(status.first.0 <= self.confirmed);
        assert_eq!(self.journal.recovery().missing, 0);
        self.confirmed = status.cursor.0;
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Append(lengths) => {
                let numbers = self.records.len() as u64..;
                let payloads = lengths
                    .iter()
                    .zip(numbers)
                    .map(|(n, number)| payload(number, *n));
                let payloads: Vec<_> = payloads.collect();
                let answers: Vec<_> = payloads.iter().map(|p| begin(&self.journal, p)).collect();
                for (payload, answer) in payloads.into_iter().zip(answers) {
                    match answer.wait() {
                        Ok(position) => {
                            assert_eq!(position.0, self.records.len() as u64);
                            self.records.push(payload);
                        }
                        Err(error) => assert_eq!(error, AppendError::Full),
                    }
                }
            }
            Step::Confirm(more) => {
                self.confirmed = (self.confirmed + more).min(self.records.len() as u64);
                self.journal.confirm_until(Position(self.confirmed));
            }
            Step::Read(hundredths) => self.check(self.records.len() as u64 * hundredths / 100),
            Step::Close => {
                let disk = self.disk.clone();
                // The new handle is another disk: the lock of the old journal goes with it.
                let copy = {
                    let journal = std::mem::replace(
                        &mut self.journal,
                        Self::open(&FaultDisk::default(), &self.options),
                    );
                    drop(journal);
                    disk.after_kill()
                };
                let confirmed = self.confirmed;
                self.reopen(copy);
                assert_eq!(self.confirmed, confirmed, "a close stores the cursor");
            }
            Step::Kill => self.reopen(self.disk.after_kill()),
            Step::LosePower(seed) => {
                let mut random = fastrand::Rng::with_seed(*seed);
                self.reopen(self.disk.after_power_loss(&mut random));
            }
        }
        let status = self.journal.status();
        assert_eq!(status.end.0, self.records.len() as u64);
        assert!(status.bytes <= self.options.bytes_max);
    }

    fn check(&self, from: u64) {
        let mut next = None;
        for (position, payload) in read_all(&self.journal, from) {
            // A deletion may make a reader jump, but only over what is confirmed.
            let expected = next.unwrap_or(from);
            assert!(position == expected || (position > expected && position <= self.confirmed));
            assert_eq!(payload, self.records[usize::try_from(position).unwrap()]);
            next = Some(position + 1);
        }
        if from < self.records.len() as u64 {
            assert_eq!(next, Some(self.records.len() as u64));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn a_journal_is_a_list(
        steps in vec(step(), 1..40),
        retain in prop_oneof![Just(Duration::ZERO), Just(options().retain)],
        bytes_max in prop_oneof![Just(24_000_u64), Just(1 << 20)],
    ) {
        let options = Options { retain, bytes_max, refuse_damage: true, ..options() };
        let mut world = World::new(options);
        for step in &steps {
            world.take(step);
        }
        world.check(0);
    }
}

/// The database. Worlds follow each other in it.
struct Oracle {
    database: Database,
    world: u64,
    /// Records of this world that are in it.
    known: usize,
}

/// By world and position.
const RECORDS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("records");

impl Oracle {
    fn new() -> Self {
        let backend = InMemoryBackend::new();
        let database = Database::builder().create_with_backend(backend).unwrap();
        Self {
            database,
            world: 0,
            known: 0,
        }
    }

    fn begin_world(&mut self) {
        self.world += 1;
        self.known = 0;
    }

    /// Takes the records that were acknowledged since, and compares what is to be read.
    fn compare(&mut self, world: &World) {
        let write = self.database.begin_write().unwrap();
        {
            let mut table = write.open_table(RECORDS).unwrap();
            for (payload, position) in world.records[self.known..].iter().zip(self.known as u64..) {
                table.insert((self.world, position), &payload[..]).unwrap();
            }
            self.known = world.records.len();
        }
        write.commit().unwrap();
        let read = self.database.begin_read().unwrap();
        let table = read.open_table(RECORDS).unwrap();
        let unconfirmed = (self.world, world.confirmed)..(self.world, u64::MAX);
        let expected = table.range(unconfirmed).unwrap().map(|entry| {
            let (key, payload) = entry.unwrap();
            (key.value().1, payload.value().to_vec())
        });
        let expected: Vec<_> = expected.collect();
        assert_eq!(read_all(&world.journal, world.confirmed), expected);
    }
}

/// As the other test's, but short.
fn short_step(random: &mut fastrand::Rng) -> Step {
    match random.u8(..40) {
        0..18 => {
            let together = random.usize(1..5);
            Step::Append((0..together).map(|_| random.usize(..150)).collect())
        }
        18 => Step::Append(vec![random.usize(2000..4000)]),
        19..28 => Step::Confirm(random.u64(..20)),
        28..37 => Step::Read(random.u64(80..100)),
        37 => Step::Close,
        38 => Step::Kill,
        _ => Step::LosePower(random.u64(..)),
    }
}

#[test]
fn a_journal_is_a_list_and_a_database() {
    const STEPS: usize = 5;
    const SEQUENCES_OF_A_WORLD: u32 = 25;
    let worlds = count(100_000, 1_000_000) / SEQUENCES_OF_A_WORLD;
    let mut random = chance::dice();
    let mut oracle = Oracle::new();
    let mut compared = 0;
    for number in 0..worlds {
        let retain = if random.bool() {
            Duration::ZERO
        } else {
            options().retain
        };
        let mut world = World::new(Options {
            retain,
            bytes_max: 16_000,
            refuse_damage: true,
            ..options()
        });
        let with_oracle = number.is_multiple_of(10);
        oracle.begin_world();
        for _ in 0..SEQUENCES_OF_A_WORLD {
            for _ in 0..STEPS {
                world.take(&short_step(&mut random));
            }
            if with_oracle {
                oracle.compare(&world);
                compared += 1;
            } else {
                world.check(world.confirmed);
            }
        }
    }
    Row::new("J11")
        .saw("sequences against a list", worlds * SEQUENCES_OF_A_WORLD)
        .saw("of them against redb too", compared)
        .saw("differences", 0)
        .write();
}
