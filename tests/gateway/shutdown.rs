//! SIGTERM: what is under way is finished, and what is new is turned away. Under load, and at
//! any moment, in `faults`.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use tokio::io::AsyncWriteExt;

use crate::support::balance::balance;
use crate::support::eventually::eventually;
use crate::support::gateway::{Gateway, Setup, source};
use crate::support::sender::{Answer, Stream};
use crate::support::webhook::Webhook;

/// A request whose body is half sent, and the other half.
async fn half_sent(gateway: &Gateway) -> (Box<dyn Stream>, Vec<u8>) {
    let webhook = Webhook::github("/github", "push", "half", br#"{"after":"6113728f"}"#);
    let mut stream = gateway.sender().raw(&webhook.http1_head()).await;
    let (first, second) = webhook.body.split_at(8);
    stream.write_all(first).await.unwrap();
    stream.flush().await.unwrap();
    gateway.until_request_is_under_way().await;
    (stream, second.to_vec())
}

#[tokio::test]
async fn what_is_under_way_is_answered() {
    let mut gateway = Setup::new().start().await;
    let (mut stream, rest) = half_sent(&gateway).await;
    gateway.term();
    eventually("the listener to close", || async {
        match gateway.sender().tcp().await {
            Ok(_) => Err("it still accepts".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await;
    stream.write_all(&rest).await.unwrap();
    stream.flush().await.unwrap();
    let answer = Answer::from_raw(&mut stream).await.expect("an answer");
    assert_eq!(answer.status, 202);
    let status = gateway.ended().await;
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
    gateway.start().await;
    assert_eq!(
        gateway
            .metrics()
            .await
            .sum("hookgate_journal_waiting_at_start", &[]),
        1.0
    );
    balance(&gateway).await;
}

#[tokio::test]
async fn a_second_signal_aborts() {
    let mut gateway = Setup::new().limits("body_timeout = \"60s\"").start().await;
    let (_stream, _rest) = half_sent(&gateway).await;
    gateway.term();
    eventually("the drain to begin", || async {
        match gateway.sender().tcp().await {
            Ok(_) => Err("it still accepts".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await;
    let before = tokio::time::Instant::now();
    gateway.term();
    let status = gateway.ended().await;
    assert!(!status.success(), "{status:?}");
    // Far below `drain_timeout`.
    assert!(before.elapsed().as_secs() < 15, "{:?}", before.elapsed());
}

#[tokio::test]
async fn the_drain_has_an_end() {
    let mut gateway = Setup::new()
        .limits("body_timeout = \"60s\"\ndrain_timeout = \"500ms\"")
        .start()
        .await;
    let (_stream, _rest) = half_sent(&gateway).await;
    let before = tokio::time::Instant::now();
    gateway.term();
    gateway.ended().await;
    assert!(before.elapsed().as_secs() < 15, "{:?}", before.elapsed());
}

/// Puts a pipe in the place of a file: whoever reads it waits for as long as somebody may write.
fn make_hang(file: &Path) {
    let pipe = file.with_extension("pipe");
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, &pipe, FileType::Fifo, mode, 0).expect("a pipe");
    std::fs::rename(pipe, file).expect("rename");
}

/// Waits until it is being read.
async fn until_read(pipe: &Path) -> OwnedFd {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    eventually("the pipe to be read", || async {
        open(pipe, flags, Mode::empty()).map_err(|error| error.to_string())
    })
    .await
}

/// As those of a network's file system do that is away.
#[tokio::test]
async fn files_that_hang_do_not_hold_up_the_end() {
    let ranges = "allow_ips = [{ file = \"ranges.txt\" }]";
    let mut gateway = Setup::new()
        .sources(&source("github", "github", ranges))
        .file("ranges.txt", b"192.0.2.0/24\n")
        .start()
        .await;
    let mut hanging = Vec::new();
    for name in ["ranges.txt", "cert.pem"] {
        let file = gateway.directory().join(name);
        make_hang(&file);
        hanging.push(until_read(&file).await);
    }
    let before = tokio::time::Instant::now();
    gateway.term();
    let status = gateway.ended().await;
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
    // Far below `drain_timeout`.
    assert!(before.elapsed().as_secs() < 15, "{:?}", before.elapsed());
    drop(hanging);
}
