//! The hand-over through every interleaving of its threads: those who append, the writer, whoever
//! closes. It is the product's own code over a lock that tries them all, and that never ends a wait
//! by itself: a wake-up that is lost is a thread that sleeps for ever, and found.

use std::sync::atomic::{AtomicU64, Ordering};

use loom::sync::{Condvar, Mutex, MutexGuard};
use loom::thread;

use super::figures::{Row, release};
use super::support::at;
use crate::journal::handover::{Bounds, Desk, Entry, Handover, Monitor, Pending, Work};
use crate::journal::*;

#[derive(Debug)]
struct LoomMonitor<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Monitor for LoomMonitor<T> {
    type Value = T;
    type Guard<'a>
        = MutexGuard<'a, T>
    where
        T: 'a;

    fn new(value: T) -> Self {
        Self {
            value: Mutex::new(value),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> Self::Guard<'_> {
        self.value.lock().unwrap()
    }

    /// Nobody is saved by a time that runs out.
    fn wait<'a>(&'a self, guard: Self::Guard<'a>, _patience: Duration) -> Self::Guard<'a> {
        self.changed.wait(guard).unwrap()
    }

    fn notify(&self) {
        self.changed.notify_one();
    }
}

/// What the threads of one interleaving share.
#[derive(Clone)]
struct Table {
    handover: Arc<Handover<LoomMonitor<Desk>>>,
    /// In the order in which they came. Not the model's business, so an ordinary lock.
    answers: Arc<std::sync::Mutex<Vec<Result<u64, AppendError>>>>,
}

/// Records in one write: three need two.
const TOGETHER: usize = 2;

impl Table {
    fn new() -> Self {
        let bounds = Bounds {
            queue_records_max: 8,
            queue_bytes_max: 1000,
            batch_records_max: TOGETHER,
            batch_bytes_max: 1000,
        };
        Self {
            handover: Arc::new(Handover::new(bounds)),
            answers: Arc::default(),
        }
    }

    fn append(&self) {
        let answers = Arc::clone(&self.answers);
        let done: Completion = Box::new(move |fate| {
            let fate = fate.map(|position| position.0);
            answers.lock().unwrap().push(fate);
        });
        let entry = Entry {
            payload: Bytes::new(),
            frame_bytes: 32,
        };
        self.handover.push(Pending::new(vec![entry], at(), done));
    }

    /// A thread that appends one record.
    fn appender(&self) -> thread::JoinHandle<()> {
        let table = self.clone();
        thread::spawn(move || table.append())
    }

    fn next(&self) -> Work {
        let hour = Duration::from_secs(3600);
        self.handover.next(u64::MAX, Instant::now() + hour)
    }

    fn answers(&self) -> Vec<Result<u64, AppendError>> {
        self.answers.lock().unwrap().clone()
    }
}

/// Tries every interleaving; gives how many there were.
fn all(threads: impl Fn() + Sync + Send + 'static) -> u64 {
    try_out(None, threads)
}

/// Tries every interleaving in which a thread is interrupted at most so often where it could have
/// gone on.
fn try_out(interruptions_max: Option<usize>, threads: impl Fn() + Sync + Send + 'static) -> u64 {
    let tried = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&tried);
    let mut model = loom::model::Builder::new();
    model.preemption_bound = interruptions_max;
    model.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        threads();
    });
    tried.load(Ordering::Relaxed)
}

/// The writer's loop over a disk that always works, until so many are answered.
fn write(table: &Table, answers: usize) -> u64 {
    let (mut next, mut writes) = (0, 0);
    while table.answers().len() < answers {
        let Work::Write(batch) = table.next() else {
            continue;
        };
        assert!((1..=TOGETHER).contains(&batch.len()));
        writes += 1;
        for pending in batch {
            pending.answer(Ok(Position(next)));
            next += 1;
        }
    }
    writes
}

/// Nobody closes meanwhile: that would wake a writer that sleeps though there is work.
fn write_three(table: &Table, appenders: Vec<thread::JoinHandle<()>>) {
    let writes = write(table, 3);
    assert!((2..=3).contains(&writes), "{writes}");
    assert_eq!(table.answers(), [Ok(0), Ok(1), Ok(2)]);
    for appender in appenders {
        appender.join().unwrap();
    }
}

#[test]
fn three_records_and_two_writes() {
    let tried = all(|| {
        let table = Table::new();
        let both = table.clone();
        let two = thread::spawn(move || {
            both.append();
            both.append();
        });
        let appenders = vec![two, table.appender()];
        write_three(&table, appenders);
    });
    assert!(tried > 100, "{tried}");
    Row::new("J9.records")
        .saw("interleavings of 3 records and 2 writes", tried)
        .saw("lost wake-ups", 0)
        .write();
}

#[test]
fn three_who_append_and_two_writes() {
    let interruptions_max = (!release()).then_some(3);
    let tried = try_out(interruptions_max, || {
        let table = Table::new();
        let appenders = vec![table.appender(), table.appender(), table.appender()];
        write_three(&table, appenders);
    });
    assert!(tried > 100, "{tried}");
    let most = interruptions_max.map_or("any number of".to_owned(), |n| format!("at most {n}"));
    Row::new("J9.waiters")
        .saw("interleavings of 3 waiters and 2 writes", tried)
        .saw("interruptions", most)
        .saw("lost wake-ups", 0)
        .write();
}

#[test]
fn a_close_while_others_append() {
    let tried = all(|| {
        let table = Table::new();
        let appender = table.appender();
        let closer = thread::spawn({
            let table = table.clone();
            move || table.handover.begin_close()
        });
        let mut written = 0;
        loop {
            match table.next() {
                Work::Write(batch) => {
                    for pending in batch {
                        pending.answer(Ok(Position(written)));
                        written += 1;
                    }
                }
                Work::Chores => {}
                Work::Close => break,
            }
        }
        table.handover.finish();
        appender.join().unwrap();
        closer.join().unwrap();
        let expected = if written == 1 {
            Ok(0)
        } else {
            Err(AppendError::Closed)
        };
        assert_eq!(table.answers(), [expected]);
    });
    Row::new("J9.close")
        .saw("interleavings with a close", tried)
        .saw("unanswered", 0)
        .write();
}

#[test]
fn a_failure_while_others_append() {
    let tried = all(|| {
        let table = Table::new();
        let appenders = [table.appender(), table.appender()];
        // As the product's writer does: the first write fails, and the rest with it.
        while table.answers().len() < 2 {
            let Work::Write(batch) = table.next() else {
                continue;
            };
            let (reason, _) = table.handover.fail("a sync".to_owned());
            for pending in batch {
                pending.answer(Err(AppendError::Failed(Arc::clone(&reason))));
            }
            // Whoever is refused at once does not wake the writer.
            if table.handover.failed().is_some() {
                break;
            }
        }
        for appender in appenders {
            appender.join().unwrap();
        }
        table.handover.finish();
        let failed = Err(AppendError::Failed(Arc::from("a sync")));
        assert_eq!(table.answers(), vec![failed; 2]);
    });
    Row::new("J9.failure")
        .saw("interleavings with a failure", tried)
        .saw("acknowledged after it", 0)
        .write();
}

#[test]
fn a_panic_while_others_append() {
    all(|| {
        let table = Table::new();
        let appenders = [table.appender(), table.appender()];
        // As an unwinding leaves it: the batch is dropped, then the last act is done.
        if let Work::Write(batch) = table.next() {
            drop(batch);
        }
        table.handover.fail("a panic".to_owned());
        table.handover.finish();
        for appender in appenders {
            appender.join().unwrap();
        }
        assert_eq!(table.answers().len(), 2);
        assert!(table.answers().iter().all(Result::is_err));
    });
}

/// A cursor that moved is looked after, though nobody appends.
#[test]
fn a_nudge_is_not_lost() {
    all(|| {
        let table = Table::new();
        let cursor = Arc::new(Mutex::new(0));
        let movers: Vec<_> = (0..2)
            .map(|_| {
                let (table, cursor) = (table.clone(), Arc::clone(&cursor));
                thread::spawn(move || {
                    *cursor.lock().unwrap() += 1;
                    table.handover.nudge();
                })
            })
            .collect();
        while *cursor.lock().unwrap() < 2 {
            assert!(matches!(table.next(), Work::Chores));
        }
        for mover in movers {
            mover.join().unwrap();
        }
    });
}
