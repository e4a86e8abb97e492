//! SIGTERM: what is under way is finished, and what is new is turned away. Under load, and at
//! any moment, in `faults`.

use tokio::io::AsyncWriteExt;

use crate::support::balance::balance;
use crate::support::eventually::eventually;
use crate::support::gateway::{Gateway, Setup};
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
