//! Files, as they are after a crash and after somebody touched them.

use jiff::Timestamp;

use super::*;

fn record() -> Record {
    let moment = |seconds| Timestamp::from_second(seconds).unwrap();
    let secret = |number, text: &str| Enrolled {
        number,
        since: moment(1_760_000_000),
        secret: Secret::new(text.as_bytes().to_vec()),
    };
    Record {
        captured: 2,
        current: Some(secret(2, "new-secret-of-asana")),
        former: Some(secret(1, "old-secret-of-asana")),
        window: Some(Window {
            opened_at: moment(1_760_000_000),
            closes_at: moment(1_760_000_600),
            replace: true,
        }),
    }
}

#[test]
fn what_is_kept_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let folder = Folder::of(&directory.path().join("journal"));
    assert!(folder.read("asana").unwrap().is_none());
    for kept in [record(), Record::default()] {
        folder.keep("asana", &kept).unwrap();
        let read = folder.read("asana").unwrap().unwrap();
        assert_eq!(*text(&read), *text(&kept));
        assert_eq!(read.window, kept.window);
    }
}

#[test]
fn only_its_owner_may_read_it() {
    let directory = tempfile::tempdir().unwrap();
    let folder = Folder::of(directory.path());
    // What a crash left may have been anybody's.
    folder.make().unwrap();
    let beside = folder.0.join(".asana.new");
    fs::write(&beside, "torn").unwrap();
    fs::set_permissions(&beside, Permissions::from_mode(0o666)).unwrap();
    folder.keep("asana", &record()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.file("asana")), 0o600);
    assert_eq!(mode(&folder.0), 0o700);
    let names: Vec<_> = fs::read_dir(&folder.0).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn a_damaged_file_is_no_record_and_shows_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let folder = Folder::of(directory.path());
    folder.keep("asana", &record()).unwrap();
    let whole = fs::read(folder.file("asana")).unwrap();
    // The newline at the end may go.
    for end in 0..whole.len() - 1 {
        fs::write(folder.file("asana"), &whole[..end]).unwrap();
        let error = folder.read("asana").unwrap_err().to_string();
        assert_eq!(error, "it is not as it was written", "{end}");
    }
}
