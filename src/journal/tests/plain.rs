//! What a caller sees on a good day, on a real disk where that matters.

use std::os::unix::fs::PermissionsExt;

use super::disk::FaultDisk;
use super::support::*;
use crate::journal::handover::Bounds;
use crate::journal::*;

fn real(dir: &tempfile::TempDir) -> Options {
    Options {
        path: dir.path().join("data/journal"),
        ..options()
    }
}

#[tokio::test]
async fn what_was_appended_is_read_in_order_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(real(&dir)).unwrap();
    for number in 0..100 {
        assert_eq!(append(&journal, &payload(number, 40)), Ok(Position(number)));
    }
    journal.close().await;
    assert_eq!(append(&journal, b"late"), Err(AppendError::Closed));

    let journal = Journal::open(real(&dir)).unwrap();
    assert_eq!(
        *journal.recovery(),
        Recovery {
            records: 100,
            ..Recovery::default()
        }
    );
    let mut reader = journal.read_from(Position(7));
    for number in 7..100 {
        let record = reader.next().await.unwrap().unwrap();
        let expected = Record {
            position: Position(number),
            at: at(),
            payload: payload(number, 40).into(),
        };
        assert_eq!(record, expected);
    }
    assert_eq!(append(&journal, b"next"), Ok(Position(100)));
    assert_eq!(reader.next().await.unwrap().unwrap().payload, "next");
    journal.close().await;
    assert_eq!(reader.next().await.unwrap(), None);
}

#[tokio::test]
async fn files_are_for_the_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(real(&dir)).unwrap();
    append(&journal, b"a").unwrap();
    journal.close().await;
    let path = real(&dir).path;
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for entry in path.read_dir().unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn a_second_open_is_told_that_it_is_the_second() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(real(&dir)).unwrap();
    let error = Journal::open(real(&dir)).unwrap_err();
    assert!(
        matches!(&error, OpenError::Locked(path) if *path == real(&dir).path),
        "{error}"
    );
    journal.close().await;
    drop(Journal::open(real(&dir)).unwrap());
    drop(Journal::open(real(&dir)).unwrap());
}

#[tokio::test]
async fn a_reader_waits_for_the_next_record() {
    let disk = FaultDisk::default();
    let journal = open(&disk);
    let mut reader = journal.read_from(Position(0));
    assert_eq!(reader.try_next().unwrap(), None);
    let waiting = tokio::spawn(async move { reader.next().await.unwrap().unwrap() });
    tokio::task::yield_now().await;
    append(&journal, b"a").unwrap();
    assert_eq!(waiting.await.unwrap().payload, "a");
}

#[tokio::test]
async fn a_reader_that_keeps_up_does_not_read_the_disk() {
    let disk = FaultDisk::default();
    let journal = open(&disk);
    let reads = disk.reads();
    let mut reader = journal.read_from(Position(0));
    for number in 0..200 {
        append(&journal, &payload(number, 50)).unwrap();
        assert_eq!(
            reader.next().await.unwrap().unwrap().position,
            Position(number)
        );
        journal.confirm_until(Position(number + 1));
    }
    assert!(journal.status().segments > 3);
    assert_eq!(disk.reads(), reads);
}

#[tokio::test]
async fn a_reader_that_is_behind_goes_from_disk_to_memory() {
    let disk = FaultDisk::default();
    let tuning = Tuning {
        ring_records_max: 10,
        ..tuning()
    };
    let journal = open_on(&disk, options(), tuning).unwrap();
    for number in 0..300 {
        append(&journal, &payload(number, 50)).unwrap();
    }
    let reads = disk.reads();
    for begin in [0, 1, 17, 150, 289, 290, 299] {
        let mut reader = journal.read_from(Position(begin));
        for number in begin..300 {
            assert_eq!(
                reader.next().await.unwrap().unwrap().payload,
                payload(number, 50)
            );
        }
        assert_eq!(reader.try_next().unwrap(), None);
    }
    let segments = journal.status().segments as u64;
    assert!(
        disk.reads() - reads <= 7 * segments,
        "{} reads",
        disk.reads() - reads
    );
}

#[tokio::test]
async fn a_reader_behind_the_first_segment_begins_with_what_is_there() {
    let disk = FaultDisk::default();
    let options = Options {
        retain: Duration::ZERO,
        ..options()
    };
    let tuning = Tuning {
        ring_records_max: 1,
        tidy_every: Duration::ZERO,
        ..tuning()
    };
    let journal = open_on(&disk, options, tuning).unwrap();
    for number in 0..100 {
        append(&journal, &payload(number, 50)).unwrap();
    }
    let mut reader = journal.read_from(Position(0));
    assert_eq!(reader.next().await.unwrap().unwrap().position, Position(0));
    journal.confirm_until(Position(90));
    // 22 records to a segment.
    let first = Position(88);
    until(|| journal.status().first == first);
    // What was read ahead is still given; what is given is never out of order.
    let mut last = 0;
    while let Some(record) = reader.try_next().unwrap() {
        assert!(record.position.0 > last);
        last = record.position.0;
    }
    assert_eq!(last, 99);
    let mut late = journal.read_from(Position(0));
    assert_eq!(late.next().await.unwrap().unwrap().position, first);
}

#[tokio::test]
async fn the_cursor_survives_a_close_and_is_not_needed() {
    let disk = FaultDisk::default();
    let journal = open(&disk);
    for number in 0..20 {
        append(&journal, &payload(number, 50)).unwrap();
    }
    journal.confirm_until(Position(13));
    journal.confirm_until(Position(5));
    journal.close().await;
    let cursor = Path::new(DIR).join("cursor");
    let good = disk.bytes(&cursor);

    let journal = open(&disk);
    assert_eq!(journal.status().cursor, Position(13));
    journal.confirm_until(Position(u64::MAX));
    assert_eq!(journal.status().cursor, Position(20));
    journal.close().await;

    // Rolled back.
    disk.put(&cursor, &good);
    let journal = open(&disk);
    assert_eq!(journal.status().cursor, Position(13));
    journal.close().await;

    for flipped in 0..good.len() {
        let mut bad = good.clone();
        bad[flipped] ^= 4;
        disk.put(&cursor, &bad);
        let journal = open(&disk);
        assert_eq!(journal.status().cursor, Position(0));
        assert_eq!(read_all(&journal, 0).len(), 20);
        journal.close().await;
    }
    disk.put(&cursor, &good[..20]);
    drop(open(&disk));
    disk.delete(&cursor);
    let journal = open(&disk);
    assert_eq!(journal.status().cursor, Position(0));
}

#[tokio::test]
async fn the_cursor_is_stored_without_a_close() {
    let disk = FaultDisk::default();
    let journal = open(&disk);
    for number in 0..20 {
        append(&journal, &payload(number, 50)).unwrap();
    }
    journal.confirm_until(Position(13));
    until(|| {
        disk.log()
            .iter()
            .filter(|call| *call == "rename to cursor")
            .count()
            > 1
    });
    let journal = open(&disk.after_kill());
    assert_eq!(journal.status().cursor, Position(13));
}

#[tokio::test]
async fn many_records_share_one_sync() {
    let synced = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&synced);
    let on_sync: SyncObserver = Arc::new(move |_, records| seen.lock().unwrap().push(records));
    let disk = FaultDisk::default();
    let options = Options {
        on_sync: Some(on_sync),
        segment_bytes: 1 << 16,
        ..options()
    };
    let journal = open_on(&disk, options, tuning()).unwrap();
    // While the first answer is being given, the others queue up.
    let clone = journal.clone();
    let (tell, answers) = std::sync::mpsc::channel();
    let first: Completion = Box::new(move |_| {
        for number in 0..16 {
            tell.send(begin(&clone, &payload(number, 1))).unwrap();
        }
    });
    journal.append(Bytes::from_static(b"first"), at(), first);
    let answers: Vec<_> = answers.iter().collect();
    for (answer, position) in answers.into_iter().zip(1..) {
        assert_eq!(answer.wait(), Ok(Position(position)));
    }
    assert_eq!(*synced.lock().unwrap(), [1, 8, 8]);
}

#[tokio::test]
async fn the_queue_has_a_bound() {
    let disk = FaultDisk::default();
    let tuning = Tuning {
        handover: Bounds {
            queue_records_max: 3,
            ..tuning().handover
        },
        ..tuning()
    };
    let journal = open_on(&disk, options(), tuning).unwrap();
    let clone = journal.clone();
    let (tell, answers) = std::sync::mpsc::channel();
    let first: Completion = Box::new(move |_| {
        for number in 0..5 {
            tell.send(begin(&clone, &payload(number, 1))).unwrap();
        }
    });
    journal.append(Bytes::from_static(b"first"), at(), first);
    let fates: Vec<_> = answers.iter().map(Answer::wait).collect();
    let busy = Err(AppendError::Busy);
    let taken = [Ok(Position(1)), Ok(Position(2)), Ok(Position(3))];
    assert_eq!(fates, [&taken[..], &[busy.clone(), busy]].concat());
}

#[tokio::test]
async fn lengths_have_a_bound_and_it_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        bytes_max: 1 << 30,
        segment_bytes: 1 << 20,
        ..real(&dir)
    };
    let journal = Journal::open(options.clone()).unwrap();
    let longest = vec![7; 64 << 20];
    assert_eq!(append(&journal, b""), Ok(Position(0)));
    assert_eq!(append(&journal, &longest), Ok(Position(1)));
    assert_eq!(
        append(&journal, &vec![7; (64 << 20) + 1]),
        Err(AppendError::TooLarge)
    );
    assert_eq!(append(&journal, b"after"), Ok(Position(2)));
    journal.close().await;
    let journal = Journal::open(options).unwrap();
    let records = read_all(&journal, 0);
    assert_eq!(records.len(), 3);
    assert!(records[1].1 == longest && records[2].1 == b"after");
}

#[tokio::test]
async fn the_last_clone_may_be_dropped_anywhere() {
    let disk = FaultDisk::default();
    let journal = open(&disk);
    let clone = journal.clone();
    let answer = begin(&journal, b"a");
    journal.append(
        Bytes::from_static(b"b"),
        at(),
        Box::new(move |_| drop(clone)),
    );
    drop(journal);
    assert_eq!(answer.wait(), Ok(Position(0)));
    until(|| open_on(&disk, options(), tuning()).is_ok());
    assert_eq!(read_all(&open(&disk), 0).len(), 2);
}

#[tokio::test]
async fn a_panic_of_a_caller_stops_nothing_and_one_of_ours_answers_everybody() {
    let disk = FaultDisk::default();
    let journal = open(&disk);
    journal.append(
        Bytes::from_static(b"a"),
        at(),
        Box::new(|_| panic!("as meant")),
    );
    assert_eq!(append(&journal, b"b"), Ok(Position(1)));
    journal.close().await;

    let on_sync: SyncObserver = Arc::new(|_, _| panic!("as meant"));
    let options = Options {
        on_sync: Some(on_sync),
        ..options()
    };
    let journal = open_on(&disk, options, tuning()).unwrap();
    assert!(matches!(
        append(&journal, b"c"),
        Err(AppendError::Failed(_))
    ));
    until(|| journal.status().failed.is_some());
    let failed = journal.status().failed.unwrap();
    assert_eq!(journal.failure().await, failed);
    assert_eq!(&*failed, "the writer panicked: as meant");
    assert_eq!(append(&journal, b"d"), Err(AppendError::Failed(failed)));
    // Whoever runs it learns that its thread is gone.
    journal.closed().await;
}

#[tokio::test]
async fn the_command_line_looks_without_touching() {
    let dir = tempfile::tempdir().unwrap();
    let options = real(&dir);
    let journal = Journal::open(options.clone()).unwrap();
    for number in 0..100 {
        append(&journal, &payload(number, 40)).unwrap();
    }
    // The gateway still runs.
    let contents = Contents::verify(&options.path).unwrap();
    assert!(contents.is_sound());
    assert_eq!((contents.first, contents.end), (Position(0), Position(100)));
    assert_eq!(contents.segments.len(), journal.status().segments);
    for from in [0, 1, 42, 99, 100] {
        let records: Vec<_> = Records::read(&options.path, Position(from))
            .unwrap()
            .collect();
        assert_eq!(records.len() as u64, 100 - from);
        if let Some(record) = records.first() {
            assert_eq!(record.as_ref().unwrap().position, Position(from));
        }
    }
}

/// Whoever wants the records at the start need not read the disk again for them.
#[test]
fn a_witness_sees_every_record_while_it_is_recovered() {
    let disk = FaultDisk::default();
    let journal = open(&disk);
    for number in 0..50 {
        append(&journal, &payload(number, 100)).unwrap();
    }
    drop(journal);
    let reads = |seen: &mut Vec<Vec<u8>>| {
        let disk = Arc::new(disk.after_kill());
        let opened = Journal::open_on(
            Arc::<FaultDisk>::clone(&disk),
            options(),
            tuning(),
            &mut |when, record| {
                assert_eq!(when, at());
                seen.push(record.to_vec());
                ControlFlow::Continue(())
            },
        );
        drop(opened.unwrap());
        disk.reads()
    };
    let mut seen = Vec::new();
    let with = reads(&mut seen);
    assert_eq!(seen, (0..50).map(|n| payload(n, 100)).collect::<Vec<_>>());
    let without = disk.after_kill();
    drop(open(&without));
    assert_eq!(with, without.reads());
}

#[test]
fn a_witness_can_end_the_opening_before_anything_is_changed() {
    let disk = FaultDisk::default();
    let journal = open(&disk);
    for number in 0..50 {
        append(&journal, &payload(number, 100)).unwrap();
    }
    let disk = disk.after_kill();
    let mut seen = 0;
    let opened = Journal::open_on(Arc::new(disk.clone()), options(), tuning(), &mut |_, _| {
        seen += 1;
        if seen == 20 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert!(matches!(opened, Err(OpenError::Stopped)));
    assert_eq!((seen, disk.calls()), (20, 0));
    assert_eq!(read_all(&open(&disk), 0).len(), 50);
}

/// The writer hangs in its disk, and nobody waits for it: neither who closes, nor who drops.
#[tokio::test]
async fn a_disk_that_hangs_holds_nobody_up() {
    let (release, hang) = std::sync::mpsc::channel::<()>();
    let hang = Mutex::new(hang);
    let options = Options {
        on_sync: Some(Arc::new(move |_, _| {
            hang.lock().unwrap().recv().unwrap_err();
        })),
        ..options()
    };
    let disk = FaultDisk::default();
    let journal = open_on(&disk, options, tuning()).unwrap();
    let answer = begin(&journal, b"a");
    let deadline = Instant::now() + Duration::from_millis(50);
    assert_eq!(journal.close_by(deadline).await, Err(DiskHangs));
    drop(journal);
    drop(release);
    assert_eq!(answer.wait(), Ok(Position(0)));
}
