//! A disk whose syncs fail, that is full, that hangs: nothing acknowledged is lost, senders are told
//! 503, and what cannot be mended while running ends the process.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep};

use crate::support::balance::balance;
use crate::support::eventually::eventually;
use crate::support::figures::{Row, count};
use crate::support::gateway::{Gateway, Setup};
use crate::support::sender::{Answer, Client, Stream, Version};
use crate::support::storage::{SmallDisk, Tracer, assert_all, assert_kept, event_ids, tampered};
use crate::support::webhook::Webhook;

/// Readiness tells of a failure at the latest after this.
const READINESS: Duration = Duration::from_millis(100);
/// Events are taken at the latest so long after there is room.
const RESUMES: Duration = Duration::from_secs(2);

/// A webhook with a body of about so many bytes.
fn webhook(id: &str, bytes: usize) -> Webhook {
    let body = format!(r#"{{"id":"{id}","pad":"{}"}}"#, "x".repeat(bytes));
    Webhook::github("/github", "push", id, body.as_bytes())
}

fn code(answer: &Answer) -> String {
    answer.json()["code"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Sends events until one is turned away; adds the ids of the others.
async fn until_refused(
    client: &mut Client,
    round: u32,
    bytes: usize,
    acknowledged: &mut Vec<String>,
) -> Answer {
    for n in 0..200 {
        let id = format!("{round}-{n}");
        let answer = client.send(&webhook(&id, bytes)).await.expect("an answer");
        if answer.status != 202 {
            return answer;
        }
        acknowledged.push(id);
    }
    panic!("200 events, and none was turned away");
}

/// A request whose body is half sent, and the other half.
async fn half_sent(gateway: &Gateway, id: &str) -> (Box<dyn Stream>, Vec<u8>) {
    let webhook = webhook(id, 10);
    let mut stream = gateway.sender().raw(&webhook.http1_head()).await;
    let (first, second) = webhook.body.split_at(8);
    stream.write_all(first).await.expect("write");
    stream.flush().await.expect("flush");
    gateway.until_request_is_under_way().await;
    (stream, second.to_vec())
}

/// Asks until the gateway says that it is not ready, and fails if it says so too late. What the
/// answer takes does not count, when it was asked does.
async fn assert_not_ready_soon(gateway: &Gateway) -> Duration {
    let failed = Instant::now();
    loop {
        let asked = failed.elapsed();
        if gateway.admin("/readyz").await.status != 200 {
            return asked;
        }
        assert!(asked <= READINESS, "ready {asked:?} after the failure");
    }
}

/// What holds from the failure to the end: no 2xx, not ready, the request under way is answered,
/// the books balance, and the process ends with a reason.
async fn assert_fails_and_ends(
    gateway: &mut Gateway,
    failed: &Answer,
    under_way: (Box<dyn Stream>, Vec<u8>),
    reason: &str,
) -> Duration {
    assert_eq!(failed.status, 503);
    assert_eq!(code(failed), "journal_failed");
    assert!(failed.header("retry-after").is_some());
    let not_ready = assert_not_ready_soon(gateway).await;
    balance(gateway).await;
    let (mut stream, rest) = under_way;
    stream.write_all(&rest).await.expect("write");
    stream.flush().await.expect("flush");
    let answer = Answer::from_raw(&mut stream).await.expect("an answer");
    assert_eq!(
        (answer.status, code(&answer).as_str()),
        (503, "journal_failed")
    );
    let status = gateway.ended().await;
    let log = gateway.log();
    assert_eq!(status.code(), Some(1), "{log}");
    let last = log.lines().last().unwrap_or_default();
    assert!(last.starts_with("hookgate: the journal failed"), "{last}");
    assert!(last.contains(reason), "{last}");
    not_ready
}

/// The nth sync of the writer fails, for every n up to 50, in as many lives of one journal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_failed_sync_ends_the_process() {
    let syncs = count(50, 50);
    let mut gateway = Setup::new().plain().prepare();
    let mut acknowledged = Vec::new();
    let mut before_ready = 0;
    let mut slowest = Duration::ZERO;
    for n in 1..=syncs {
        let inject = format!("inject=fdatasync:error=EIO:when={n}");
        gateway.launch_under(&tampered("trace=fdatasync", &inject));
        if let Some(status) = gateway.ready_or_ended().await {
            // The start syncs too: then it does not come up.
            assert_eq!(status.code(), Some(73), "{}", gateway.log());
            before_ready += 1;
            continue;
        }
        let under_way = half_sent(&gateway, &format!("half-{n}")).await;
        let mut client = gateway.connect(Version::Http1).await;
        let failed = until_refused(&mut client, n, 10, &mut acknowledged).await;
        let not_ready =
            assert_fails_and_ends(&mut gateway, &failed, under_way, "cannot sync").await;
        slowest = slowest.max(not_ready);
    }
    assert!(before_ready <= 5, "{before_ready} starts failed");
    assert!(acknowledged.len() > 1000, "{} events", acknowledged.len());
    gateway.start().await;
    balance(&gateway).await;
    assert_kept(&gateway, &acknowledged).await;
    Row::new("J4.sync")
        .saw("failed syncs", syncs)
        .saw("of them at the start", before_ready)
        .saw("acknowledged afterwards", 0)
        .saw("lost", 0)
        .saw("ready for at most ms", slowest.as_millis())
        .saw("exit codes", "1 and 73")
        .write();
}

/// Attaches to a gateway that is ready, and lets calls fail from then on.
async fn fail_from_now_on(gateway: &Gateway, calls: &str) -> tokio::process::Child {
    let pid = gateway.pid().as_raw_nonzero().to_string();
    let (trace, inject) = (
        format!("trace={calls}"),
        format!("inject={calls}:error=EIO"),
    );
    let mut tracer = tokio::process::Command::new("strace")
        .args([
            "-f",
            "-qqq",
            "-o",
            "/dev/null",
            "-e",
            &trace,
            "-e",
            &inject,
            "-p",
            &pid,
        ])
        .kill_on_drop(true)
        .spawn()
        .expect("strace: run deploy/install-dependencies.sh");
    eventually("strace to attach to every thread", || {
        let ended = tracer.try_wait().expect("wait");
        let tasks = format!("/proc/{pid}/task");
        async move {
            assert!(ended.is_none(), "strace ended: {ended:?}");
            for task in std::fs::read_dir(tasks).expect("tasks") {
                let path = task.expect("task").path().join("status");
                let status = std::fs::read_to_string(path).unwrap_or_default();
                if status.lines().any(|line| line == "TracerPid:\t0") {
                    return Err("a thread is not traced".to_owned());
                }
            }
            Ok(())
        }
    })
    .await;
    tracer
}

/// A new segment is on stable storage, name and all, or the journal has failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_segment_that_cannot_be_made_safe_ends_the_process() {
    let mut gateway = Setup::new()
        .plain()
        .journal("max_size = \"8MiB\"")
        .start()
        .await;
    let mut acknowledged = Vec::new();
    let calls = [
        ("fsync", "cannot sync"),
        ("rename,renameat,renameat2", "cannot create"),
    ];
    for (round, (call, reason)) in calls.into_iter().enumerate() {
        let under_way = half_sent(&gateway, &format!("half-{call}")).await;
        let mut tracer = fail_from_now_on(&gateway, call).await;
        let mut client = gateway.connect(Version::Http1).await;
        let round = u32::try_from(round).expect("small");
        let failed = until_refused(&mut client, round, 300_000, &mut acknowledged).await;
        assert_fails_and_ends(&mut gateway, &failed, under_way, reason).await;
        tracer.wait().await.expect("strace");
        gateway.start().await;
        balance(&gateway).await;
        assert_kept(&gateway, &acknowledged).await;
    }
    Row::new("J4.names")
        .saw("failed", "sync of the directory, rename")
        .saw("acknowledged afterwards", 0)
        .saw("lost", 0)
        .write();
}

/// A disk that does not answer: senders are told 503 in time, and a signal still ends the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_holds_no_signal_up() {
    const HANGS: Duration = Duration::from_secs(600);
    // The drain and all last words.
    const ENDS: Duration = Duration::from_secs(8);
    let mut gateway = Setup::new()
        .plain()
        .limits("accept_timeout = \"300ms\"\ndrain_timeout = \"1s\"")
        .prepare();
    let inject = format!("inject=fdatasync:delay_enter={}:when=8+", HANGS.as_micros());
    gateway
        .start_under(&tampered("trace=fdatasync", &inject))
        .await;
    let mut acknowledged = Vec::new();
    let mut client = gateway.connect(Version::Http1).await;
    let refused = until_refused(&mut client, 0, 10, &mut acknowledged).await;
    assert_eq!((refused.status, code(&refused).as_str()), (503, "too_slow"));
    let tracer = Tracer::of(&gateway);
    let before = Instant::now();
    gateway.term();
    eventually("its last line", || async {
        let says = |line: &str| line.starts_with("hookgate: the journal's disk does not answer");
        if gateway.log().lines().any(says) {
            Ok(())
        } else {
            Err(gateway.log())
        }
    })
    .await;
    let took = before.elapsed();
    assert!(took < ENDS, "{took:?}");
    // A process is gone only once its last call is.
    drop(tracer);
    let status = gateway.ended().await;
    assert_eq!(status.code(), Some(1), "{}", gateway.log());
    gateway.start().await;
    balance(&gateway).await;
    assert_kept(&gateway, &acknowledged).await;
    Row::new("J4.hang")
        .saw("ends after s", format!("{:.1}", took.as_secs_f64()))
        .saw("lost", 0)
        .write();
}

/// A small disk is filled by somebody else, again and again; the gateway is killed and started on a
/// full one, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_and_room_is_noticed() {
    let fills = count(20, 200);
    let mut gateway = Setup::new()
        .plain()
        // Four segments make room for each other on the disk, and three more are its reserve.
        .journal("max_size = \"40MiB\"")
        .prepare();
    let disk = SmallDisk::mount(&gateway.directory().join("journal"), 64);
    gateway.start_under(&disk.wrapper()).await;
    let mut acknowledged = Vec::new();
    let mut slowest = Duration::ZERO;
    for round in 0..fills {
        let mut client = gateway.connect(Version::Http1).await;
        disk.fill();
        let full = until_refused(&mut client, round, 100_000, &mut acknowledged).await;
        assert_eq!((full.status, code(&full).as_str()), (503, "journal_full"));
        assert!(full.header("retry-after").is_some());
        assert_ne!(gateway.admin("/readyz").await.status, 200);
        if round % 7 == 6 {
            gateway.kill9();
            gateway.launch_under(&disk.wrapper());
            eventually("a gateway on a full disk", || async {
                gateway.sender().tcp().await.map(drop)
            })
            .await;
            client = gateway.connect(Version::Http1).await;
            let full = until_refused(&mut client, 1000 + round, 100_000, &mut acknowledged).await;
            assert_eq!(full.status, 503);
        }
        disk.free();
        let free = Instant::now();
        let id = format!("room-{round}");
        loop {
            let asked = free.elapsed();
            let answer = client.send(&webhook(&id, 10)).await.expect("an answer");
            if answer.status == 202 {
                slowest = slowest.max(asked);
                acknowledged.push(id);
                break;
            }
            assert!(asked <= RESUMES, "no room {asked:?} after there was some");
            sleep(Duration::from_millis(10)).await;
        }
    }
    balance(&gateway).await;
    gateway.kill9();
    assert_all(&event_ids(disk.path()).await, &acknowledged);
    gateway.start_under(&disk.wrapper()).await;
    balance(&gateway).await;
    Row::new("J5.tmpfs")
        .saw("fills", fills)
        .saw("lost", 0)
        .saw("taken again after ms", slowest.as_millis())
        .write();
}

/// The system says that the disk is full at some writes, and not at the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_finds_no_room_costs_one_answer() {
    let mut gateway = Setup::new().plain().prepare();
    // The first ones of each thread are those of the start, and zeros written ahead.
    let inject = "inject=pwrite64:error=ENOSPC:when=40+23";
    gateway
        .start_under(&tampered("trace=pwrite64", inject))
        .await;
    let mut client = gateway.connect(Version::Http1).await;
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    for round in 0.. {
        let full = until_refused(&mut client, round, 10, &mut acknowledged).await;
        assert_eq!((full.status, code(&full).as_str()), (503, "journal_full"));
        refused += 1;
        if refused == 20 {
            break;
        }
        // The next write that is tried is not an event's, and may be one of those that fail.
        eventually("room", || async {
            match gateway.admin("/readyz").await.status {
                200 => Ok(()),
                status => Err(format!("{status}")),
            }
        })
        .await;
    }
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
    balance(&gateway).await;
    gateway.kill9();
    gateway.start().await;
    assert_kept(&gateway, &acknowledged).await;
    Row::new("J5.writes")
        .saw("writes without room", refused)
        .saw("lost", 0)
        .write();
}
