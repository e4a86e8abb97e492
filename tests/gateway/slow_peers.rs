//! Peers that are slow, idle or too many: each is dropped at its deadline, and the others never
//! notice.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::support::balance::balance;
use crate::support::eventually::{PATIENCE, eventually};
use crate::support::frames::{HEADERS, frame, hello, post, whole};
use crate::support::gateway::{Gateway, Setup};
use crate::support::sender::{Answer, Stream, Version, until_closed};
use crate::support::webhook::Webhook;

/// The deadline under test; the others stay at their defaults of seconds.
const DEADLINE: &str = "300ms";

/// How early a deadline may strike by the clocks' rounding, and the time after which it was not
/// the one under test.
const EARLY: Duration = Duration::from_millis(200);
const LATE: Duration = Duration::from_millis(3500);

fn webhook(id: &str) -> Webhook {
    Webhook::github("/github", "push", id, br#"{"after":"6113728f"}"#)
}

#[track_caller]
fn assert_struck(after: Duration) {
    assert!(after > EARLY, "closed after {after:?}");
    assert!(after < LATE, "closed only after {after:?}");
}

async fn assert_serves(gateway: &Gateway, id: &str) {
    assert_eq!(gateway.send(&webhook(id)).await.status, 202);
}

#[tokio::test]
async fn a_silent_tls_handshake() {
    let gateway = Setup::new()
        .limits(&format!("handshake_timeout = \"{DEADLINE}\""))
        .start()
        .await;
    let mut silent: Box<dyn Stream> = Box::new(gateway.sender().tcp().await.unwrap());
    let mut half = gateway.sender().tcp().await.unwrap();
    // The beginning of a ClientHello record.
    half.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01])
        .await
        .unwrap();
    let mut half: Box<dyn Stream> = Box::new(half);
    assert_serves(&gateway, "meanwhile").await;
    let (silent, half) = tokio::join!(until_closed(&mut silent), until_closed(&mut half));
    assert!(silent.0 < LATE && half.0 < LATE, "{silent:?} {half:?}");
    eventually("both to be counted", || async {
        let metrics = gateway.metrics().await;
        match metrics.sum("hookgate_tls_handshakes_total", &[("result", "timeout")]) {
            2.0 => Ok(()),
            n => Err(format!("{n}")),
        }
    })
    .await;
    assert_serves(&gateway, "after").await;
    balance(&gateway).await;
}

#[tokio::test]
async fn a_slow_head() {
    let gateway = Setup::new()
        .limits(&format!("header_timeout = \"{DEADLINE}\""))
        .start()
        .await;
    let mut stream = gateway
        .sender()
        .raw(b"POST /github HTTP/1.1\r\nHost: local")
        .await;
    let (after, _) = until_closed(&mut stream).await;
    assert_struck(after);
    assert_serves(&gateway, "after").await;
    balance(&gateway).await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_after_its_handshake() {
    let gateway = Setup::new()
        .limits(&format!("header_timeout = \"{DEADLINE}\""))
        .start()
        .await;
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let mut stream = gateway.sender().stream(&[alpn]).await.unwrap();
        let (after, _) = until_closed(&mut stream).await;
        assert_struck(after);
    }
    assert_serves(&gateway, "after").await;
    balance(&gateway).await;
}

#[tokio::test]
async fn a_head_that_is_not_ended_over_http2() {
    let gateway = Setup::new()
        .limits(&format!("header_timeout = \"{DEADLINE}\""))
        .start()
        .await;
    let begun = frame(HEADERS, 0, 1, &post(&[]));
    let cut_short = whole(1)[..20].to_vec();
    for head in [begun, cut_short] {
        let mut stream = gateway.sender().stream(&[b"h2"]).await.unwrap();
        let bytes = [hello(&[]), head].concat();
        stream.write_all(&bytes).await.unwrap();
        stream.flush().await.unwrap();
        let (after, _) = until_closed(&mut stream).await;
        assert_struck(after);
    }
    balance(&gateway).await;
}

/// Operators' pages are asked for by programs that may hang.
#[tokio::test]
async fn a_reader_of_the_admin_listener_that_does_not_read() {
    let gateway = Setup::new().start().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(gateway.admin_address()).await.unwrap();
    let pages = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    // Soon nothing more is taken, because nothing can be answered.
    let asking = async { while stream.write_all(&pages).await.is_ok() {} };
    let cut = tokio::time::timeout(PATIENCE, asking).await;
    assert!(cut.is_ok(), "it was never cut");
    assert_eq!(gateway.admin("/livez").await.status, 200);
}

#[tokio::test]
async fn a_slow_body() {
    let gateway = Setup::new()
        .limits(&format!("body_timeout = \"{DEADLINE}\""))
        .start()
        .await;
    let mut stream = gateway.sender().raw(&webhook("slow").http1_head()).await;
    stream.write_all(b"{\"a").await.unwrap();
    stream.flush().await.unwrap();
    assert_serves(&gateway, "meanwhile").await;
    let answer = Answer::from_raw(&mut stream).await.expect("an answer");
    assert_eq!(answer.status, 408);
    assert_eq!(answer.json()["code"], "body_too_slow");
    until_closed(&mut stream).await;
    assert_eq!(
        gateway.metrics().await.rejected("github", "body_too_slow"),
        1.0
    );
    balance(&gateway).await;
}

#[tokio::test]
async fn a_body_that_drips_for_ever_is_slow_too() {
    let gateway = Setup::new()
        .limits(&format!("body_timeout = \"{DEADLINE}\""))
        .start()
        .await;
    let mut stream = gateway.sender().raw(&webhook("drip").http1_head()).await;
    let dripping = async {
        let mut drip = tokio::time::interval(Duration::from_millis(50));
        loop {
            drip.tick().await;
            if stream.write_all(b" ").await.is_err() || stream.flush().await.is_err() {
                return;
            }
            let mut byte = [0];
            let answered = tokio::time::timeout(Duration::from_millis(5), stream.read(&mut byte));
            if answered.await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(LATE, dripping)
        .await
        .expect("it is cut off");
    eventually("it to be counted", || async {
        match gateway.metrics().await.rejected("github", "body_too_slow") {
            1.0 => Ok(()),
            n => Err(format!("{n}")),
        }
    })
    .await;
    balance(&gateway).await;
}

#[tokio::test]
async fn an_idle_connection() {
    let gateway = Setup::new().limits("idle_timeout = \"1s\"").start().await;
    let mut stream = gateway.sender().raw(&webhook("once").http1()).await;
    assert_eq!(
        Answer::from_raw(&mut stream)
            .await
            .expect("an answer")
            .status,
        202
    );
    let (after, _) = until_closed(&mut stream).await;
    assert!(after < LATE, "closed only after {after:?}");

    let mut two = gateway.connect(Version::Http2).await;
    assert_eq!(two.send(&webhook("h2")).await.unwrap().status, 202);
    eventually("the HTTP/2 connection to be closed", || {
        let closed = two.is_closed();
        async move {
            if closed {
                Ok(())
            } else {
                Err("open".to_owned())
            }
        }
    })
    .await;
    balance(&gateway).await;
}

#[tokio::test]
async fn too_many_connections() {
    let gateway = Setup::new().limits("max_connections = 4").start().await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(gateway.sender().stream(&[b"http/1.1"]).await.unwrap());
    }
    // One more waits or is closed; it is never served while the others are there.
    let refused = tokio::time::timeout(Duration::from_millis(500), async {
        gateway.sender().stream(&[b"http/1.1"]).await
    })
    .await;
    assert!(
        !matches!(refused, Ok(Ok(_))),
        "a fifth connection was served"
    );
    drop(held);
    eventually("a place", || async {
        let mut client = gateway.sender().connect(Version::Http1).await?;
        let answer = client.send(&webhook("place")).await?;
        if answer.status == 202 || answer.header("hookgate-duplicate").is_some() {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    })
    .await;
    balance(&gateway).await;
}

#[tokio::test]
async fn too_many_connections_from_one_peer() {
    let gateway = Setup::new()
        .limits("max_connections_per_peer = 2")
        .start()
        .await;
    let _one = gateway.sender().stream(&[b"http/1.1"]).await.unwrap();
    let _two = gateway.sender().stream(&[b"http/1.1"]).await.unwrap();
    assert!(
        gateway.sender().stream(&[b"http/1.1"]).await.is_err(),
        "a third was served"
    );
    let metrics = gateway.metrics().await;
    assert!(metrics.sum("hookgate_connections_refused_total", &[("limit", "peer")]) >= 1.0);
}
