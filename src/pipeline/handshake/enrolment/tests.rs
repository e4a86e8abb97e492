//! Windows and secrets over a keeper in memory; time is a value.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::*;
use crate::config::raw::RawScheme;
use crate::pipeline::arrival::Head;

const FIRST: &[u8] = b"first-secret-of-asana";
const SECOND: &[u8] = b"second-secret-of-asana";
const MINUTE: Duration = Duration::from_secs(60);

/// Keeps the last record, or fails.
#[derive(Debug, Default)]
struct Memory {
    kept: Mutex<Vec<Record>>,
    is_broken: AtomicBool,
}

impl Keep for Memory {
    fn keep(&self, source: &str, record: &Record) -> io::Result<()> {
        assert_eq!(source, "asana");
        if self.is_broken.load(Ordering::Relaxed) {
            return Err(io::Error::other("full"));
        }
        self.kept.lock().unwrap().push(record.clone());
        Ok(())
    }
}

impl Memory {
    fn last(&self) -> Record {
        self.kept
            .lock()
            .unwrap()
            .last()
            .cloned()
            .unwrap_or_default()
    }
}

fn enrolment() -> Enrolment {
    let scheme = RawScheme {
        algorithm: Some("hmac-sha256".to_owned()),
        signature: vec!["header:X-Hook-Signature".to_owned()],
        ..RawScheme::default()
    };
    let context = Context {
        secrets: &[],
        config: &BTreeMap::new(),
        url: None,
    };
    Enrolment::new(
        Arc::from("asana"),
        RawVerify::Schemes(vec![scheme]),
        &context,
    )
}

fn at(seconds: i64) -> Now {
    Now::at(Timestamp::from_second(1_760_000_000 + seconds).unwrap())
}

/// The same moment by the clock that nobody sets, plus some time by both.
fn after(now: Now, length: Duration) -> Now {
    Now {
        wall: now.wall + length,
        mono: now.mono + length,
    }
}

fn set_up() -> (Enrolment, Arc<Memory>, Now) {
    let (enrolment, memory, now) = (enrolment(), Arc::new(Memory::default()), at(0));
    let keeper = Arc::clone(&memory) as Arc<dyn Keep>;
    enrolment.recall(Record::default(), keeper, now).unwrap();
    (enrolment, memory, now)
}

/// Opens a window and captures.
fn enrol(enrolment: &Enrolment, secret: &[u8], now: Now, replace: bool) {
    enrolment.open(now, MINUTE, replace).unwrap();
    assert!(enrolment.capture(secret, now).unwrap());
}

/// The label of the secret that proves a request signed with `secret`.
fn proved(enrolment: &Enrolment, secret: &[u8]) -> Option<String> {
    let signer = self::enrolment();
    let record = Record {
        current: Some(Enrolled {
            number: 1,
            since: Timestamp::UNIX_EPOCH,
            secret: Secret::new(secret.to_vec()),
        }),
        ..Record::default()
    };
    signer
        .recall(record, Arc::new(Memory::default()), at(0))
        .unwrap();
    let mut head = Head {
        method: Method::POST,
        path: "/".to_owned(),
        query: None,
        headers: HeaderMap::new(),
        client_ip: [192, 0, 2, 1].into(),
        request_id: Arc::from("r"),
        certificate: None,
    };
    let body = Bytes::from_static(b"{}");
    let signer = signer.verifier().unwrap();
    signer.sign(&mut head, &body, at(0).wall, None).unwrap();
    let verified = enrolment.verifier()?.verify(Inbound { head, body }, at(0));
    Some(verified.ok()?.proof.key.unwrap().to_string())
}

#[test]
fn nothing_is_taken_without_a_window() {
    let (enrolment, memory, now) = set_up();
    assert!(enrolment.expects(FIRST, now).is_err());
    let refused = enrolment.capture(FIRST, now).unwrap_err();
    assert!(matches!(refused, NotTaken::Closed));
    assert!(enrolment.verifier().is_none());
    assert!(memory.kept.lock().unwrap().is_empty());
}

#[test]
fn a_window_takes_one_secret_and_closes() {
    let (enrolment, memory, now) = set_up();
    enrol(&enrolment, FIRST, now, false);
    assert_eq!(proved(&enrolment, FIRST).as_deref(), Some("enrolled-1"));
    assert_eq!(proved(&enrolment, SECOND), None);
    let refused = enrolment.capture(SECOND, now).unwrap_err();
    assert!(matches!(refused, NotTaken::Closed), "it is frozen");
    // Its provider did not get the answer and asks again.
    let again = enrolment.capture(FIRST, after(now, 2 * MINUTE));
    assert!(!again.unwrap(), "it is there already");
    let kept = memory.last();
    assert_eq!((kept.captured, kept.window), (1, None));
    assert_eq!(kept.current.unwrap().secret.expose(), FIRST);
}

#[test]
fn a_window_ends_by_either_clock() {
    let (enrolment, _, now) = set_up();
    enrolment.open(now, MINUTE, false).unwrap();
    let almost = after(now, MINUTE - Duration::from_millis(1));
    assert!(enrolment.window(almost).is_some());
    assert!(enrolment.window(after(now, MINUTE)).is_none());
    let only_mono = Now {
        wall: now.wall,
        ..after(now, MINUTE)
    };
    let only_wall = Now {
        mono: now.mono,
        ..after(now, MINUTE)
    };
    for moment in [only_mono, only_wall] {
        let refused = enrolment.capture(FIRST, moment).unwrap_err();
        assert!(matches!(refused, NotTaken::Closed));
    }
}

#[test]
fn an_operator_closes_a_window_and_what_is_enrolled_stays() {
    let (enrolment, memory, now) = set_up();
    enrol(&enrolment, FIRST, now, false);
    enrolment.open(now, MINUTE, false).unwrap();
    enrolment.close().unwrap();
    assert_eq!(enrolment.window(now), None);
    assert_eq!(memory.last().window, None, "after a restart, too");
    let refused = enrolment.capture(SECOND, now).unwrap_err();
    assert!(matches!(refused, NotTaken::Closed), "{refused:?}");
    assert_eq!(proved(&enrolment, FIRST).as_deref(), Some("enrolled-1"));
}

#[test]
fn a_restart_keeps_secrets_and_what_is_left_of_the_window() {
    let (before, memory, now) = set_up();
    enrol(&before, FIRST, now, false);
    before.open(now, MINUTE, false).unwrap();
    for (seconds, is_open) in [
        (0, true),
        (59, true),
        (60, false),
        (-1, false),
        (99_999, false),
    ] {
        let (enrolment, now) = (enrolment(), at(seconds));
        let keeper = Arc::clone(&memory) as Arc<dyn Keep>;
        enrolment.recall(memory.last(), keeper, now).unwrap();
        assert_eq!(enrolment.window(now).is_some(), is_open, "{seconds}");
        assert_eq!(proved(&enrolment, FIRST).as_deref(), Some("enrolled-1"));
    }
}

#[test]
fn the_former_secret_counts_until_the_new_one_has_verified_something() {
    let (enrolment, memory, now) = set_up();
    enrol(&enrolment, FIRST, now, false);
    enrol(&enrolment, SECOND, now, false);
    for (secret, label, supersedes) in [(FIRST, "enrolled-1", false), (SECOND, "enrolled-2", true)]
    {
        let found = proved(&enrolment, secret);
        assert_eq!(found.as_deref(), Some(label));
        let moment = after(now, OVERLAP);
        assert_eq!(enrolment.supersedes(found.as_deref(), moment), supersedes);
        let soon = after(now, OVERLAP - MINUTE);
        assert!(!enrolment.supersedes(found.as_deref(), soon), "{label}");
        assert!(!enrolment.retire(found.as_deref(), soon).unwrap());
    }
    assert!(memory.last().former.is_some());
    let moment = after(now, OVERLAP);
    assert!(enrolment.retire(Some("enrolled-2"), moment).unwrap());
    assert_eq!(proved(&enrolment, FIRST), None);
    assert!(!enrolment.supersedes(Some("enrolled-2"), moment));
    assert!(memory.last().former.is_none());
}

/// A stranger was faster than the provider.
#[test]
fn forgetting_steps_back_to_the_former_secret_while_there_is_one() {
    let (enrolment, memory, now) = set_up();
    enrol(&enrolment, FIRST, now, false);
    enrol(&enrolment, SECOND, now, false);
    enrolment.forget().unwrap();
    assert_eq!(proved(&enrolment, SECOND), None);
    assert_eq!(proved(&enrolment, FIRST).as_deref(), Some("enrolled-1"));
    let kept = memory.last();
    assert_eq!((kept.captured, kept.former.is_some()), (2, false));
    assert_eq!(kept.current.unwrap().number, 1);
    enrolment.forget().unwrap();
    assert!(enrolment.verifier().is_none());
    assert!(memory.last().current.is_none());
}

/// An event that the second secret has proved is settled after the third has come.
#[test]
fn who_was_superseded_meanwhile_retires_nobody() {
    let (enrolment, _, now) = set_up();
    enrol(&enrolment, FIRST, now, false);
    enrol(&enrolment, SECOND, now, false);
    let moment = after(now, OVERLAP);
    assert!(enrolment.supersedes(Some("enrolled-2"), moment));
    enrol(&enrolment, b"third-secret-of-asana", moment, false);
    assert!(!enrolment.retire(Some("enrolled-2"), moment).unwrap());
    assert_eq!(proved(&enrolment, SECOND).as_deref(), Some("enrolled-2"));
}

/// A disk that does not answer before it is told to.
#[derive(Debug)]
struct Stuck(Mutex<std::sync::mpsc::Receiver<()>>);

impl Keep for Stuck {
    fn keep(&self, _source: &str, _record: &Record) -> io::Result<()> {
        let told = self.0.lock().unwrap().recv();
        told.map_err(io::Error::other)
    }
}

#[tokio::test]
async fn nobody_waits_for_the_disk_to_let_a_secret_go() {
    let (enrolment, _, now) = set_up();
    enrol(&enrolment, FIRST, now, false);
    enrol(&enrolment, SECOND, now, false);
    let moment = after(now, OVERLAP);
    {
        let _changing = enrolment.turn();
        assert!(!enrolment.retire(Some("enrolled-2"), moment).unwrap());
    }
    let (release, stuck) = std::sync::mpsc::channel();
    let record = enrolment.record();
    let keeper = Arc::new(Stuck(Mutex::new(stuck)));
    enrolment.recall(record, keeper, now).unwrap();
    let enrolment = Arc::new(enrolment);
    let settling = settle(&enrolment, Some("enrolled-2"), moment, Instant::now());
    let waited = tokio::time::timeout(Duration::from_secs(10), settling).await;
    drop(release);
    waited.unwrap();
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_said_to_be_the_journals_fault() {
    let (enrolment, memory, now) = set_up();
    enrolment.open(now, MINUTE, false).unwrap();
    memory.is_broken.store(true, Ordering::Relaxed);
    let offer = Offer {
        secret: Secret::new(FIRST.to_vec()),
        reply: HandshakeReply {
            status: http::StatusCode::OK,
            content_type: String::new(),
            headers: HeaderMap::new(),
            body: String::new(),
        },
    };
    let deadline = Instant::now() + MINUTE;
    let taken = take(offer, Some(&Arc::new(enrolment)), now, deadline).await;
    let why = "it cannot be stored: full".to_owned();
    assert_eq!(taken.unwrap_err(), Reject::SecretNotStored(why));
}

#[test]
fn a_window_to_replace_leaves_no_former_secret() {
    let (enrolment, memory, now) = set_up();
    enrol(&enrolment, FIRST, now, false);
    enrolment.open(now, MINUTE, true).unwrap();
    assert!(
        proved(&enrolment, FIRST).is_some(),
        "until there is a new one"
    );
    enrolment.capture(SECOND, now).unwrap();
    assert_eq!(proved(&enrolment, FIRST), None);
    assert!(memory.last().former.is_none());
}

#[test]
fn what_is_forgotten_proves_nothing() {
    let (enrolment, memory, now) = set_up();
    enrol(&enrolment, FIRST, now, false);
    enrolment.open(now, MINUTE, false).unwrap();
    enrolment.forget().unwrap();
    assert!(enrolment.verifier().is_none() && enrolment.window(now).is_none());
    assert!(memory.last().current.is_none());
    // A label never means two secrets.
    enrol(&enrolment, SECOND, now, false);
    assert_eq!(proved(&enrolment, SECOND).as_deref(), Some("enrolled-2"));
}

#[test]
fn only_what_can_be_a_secret_is_taken_and_the_window_stays_open() {
    let (enrolment, _, now) = set_up();
    enrolment.open(now, MINUTE, false).unwrap();
    let (short, long) = (SECRET_BYTES.start() - 1, SECRET_BYTES.end() + 1);
    for unfit in [
        vec![b's'; short],
        vec![b's'; long],
        b"sixteen and more \n".to_vec(),
    ] {
        let refused = enrolment.capture(&unfit, now).unwrap_err();
        assert!(matches!(refused, NotTaken::Unfit));
    }
    for fit in [short + 1, long - 1] {
        enrol(&enrolment, &vec![b's'; fit], now, false);
    }
}

#[test]
fn what_is_not_safe_is_not_taken() {
    let (enrolment, memory, now) = set_up();
    enrolment.open(now, MINUTE, false).unwrap();
    memory.is_broken.store(true, Ordering::Relaxed);
    let refused = enrolment.capture(FIRST, now).unwrap_err();
    assert!(matches!(refused, NotTaken::Disk(_)));
    assert!(enrolment.verifier().is_none());
    assert!(enrolment.window(now).is_some(), "the provider tries again");
    memory.is_broken.store(false, Ordering::Relaxed);
    enrolment.capture(FIRST, now).unwrap();
}

#[test]
fn no_secret_is_shown() {
    let (enrolment, _, now) = set_up();
    enrol(&enrolment, FIRST, now, false);
    let shown = format!("{enrolment:?} {:?}", enrolment.record());
    assert!(!shown.contains("first-secret"), "{shown}");
}
