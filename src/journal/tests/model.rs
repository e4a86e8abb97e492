//! Random histories against a list in memory.

use proptest::collection::vec;
use proptest::prelude::*;

use super::disk::FaultDisk;
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
            tidy_every: Duration::ZERO,
            ..tuning()
        };
        Journal::open_on(Arc::new(disk.clone()), options.clone(), tuning).unwrap()
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
