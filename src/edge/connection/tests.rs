use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::*;
use crate::edge::activity::{AGE_MAX, REQUESTS_MAX, WRITE_STALL_MAX};
use crate::edge::linger::{LINGER_BYTES_MAX, LINGER_MAX};
use crate::edge::testing::{
    ByHead, Length, Stuck, drain, get, h2_client, h2_client_with_window, limits, post_fed,
    read_to_end, read_until, served, served_over, terms,
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
/// The preface and an empty SETTINGS frame.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const H2_PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0pingping";
const H2_SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

/// Time is paused: it jumps to the next deadline as soon as nobody has anything else to do.
#[track_caller]
fn took(since: Instant, expected: Duration) {
    let took = since.elapsed();
    // Timers have a granularity of a millisecond.
    let late = took.checked_sub(expected);
    assert!(
        late.is_some_and(|late| late <= Duration::from_millis(5)),
        "took {took:?} instead of {expected:?}"
    );
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn request_patience() -> Duration {
    terms().patience.request
}

// === HTTP/1 ===

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_cut_after_header_timeout() {
    let (mut client, serving) = served(Protocol::Http1, &terms(), Length);
    let begin = Instant::now();
    assert_eq!(read_to_end(&mut client).await, "");
    serving.await.unwrap();
    took(begin, limits().header_timeout);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_is_cut_after_header_timeout() {
    let (client, serving) = served(Protocol::Http1, &terms(), Length);
    let (_read, mut write) = tokio::io::split(client);
    let begin = Instant::now();
    let dripping = tokio::spawn(async move {
        for byte in GET.iter().cycle() {
            if write.write_all(&[*byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(900)).await;
        }
    });
    serving.await.unwrap();
    took(begin, limits().header_timeout);
    dripping.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_second_head_has_header_timeout_from_its_first_byte() {
    let (mut client, serving) = served(Protocol::Http1, &terms(), Length);
    client.write_all(GET).await.unwrap();
    read_until(&mut client, "0 bytes").await;
    sleep(secs(30)).await;
    client.write_all(b"GET").await.unwrap();
    let begin = Instant::now();
    assert_eq!(read_to_end(&mut client).await, "");
    serving.await.unwrap();
    took(begin, limits().header_timeout);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_idle_timeout() {
    let (mut client, serving) = served(Protocol::Http1, &terms(), Length);
    for _ in 0..3 {
        sleep(secs(1)).await;
        client.write_all(GET).await.unwrap();
        read_until(&mut client, "0 bytes").await;
        sleep(secs(2)).await;
        // Only the first head is due at once.
    }
    let begin = Instant::now() - secs(2);
    assert_eq!(read_to_end(&mut client).await, "");
    serving.await.unwrap();
    took(begin, limits().idle_timeout);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_end_is_cut() {
    let (mut client, serving) = served(Protocol::Http1, &terms(), Stuck);
    let begin = Instant::now();
    client.write_all(GET).await.unwrap();
    assert_eq!(read_to_end(&mut client).await, "");
    serving.await.unwrap();
    took(begin, request_patience());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_past_everybodys_patience_is_cut() {
    let (client, serving) = served(Protocol::Http1, &terms(), Length);
    let (_read, mut write) = tokio::io::split(client);
    let begin = Instant::now();
    let dripping = tokio::spawn(async move {
        let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n";
        write.write_all(head).await.unwrap();
        while write.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(900)).await;
        }
    });
    serving.await.unwrap();
    took(begin, request_patience());
    dripping.await.unwrap();
}

fn long_answer(_head: &http::request::Parts) -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from(vec![b'x'; 100_000])))
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut() {
    let (mut client, serving) = served_over(1024, Protocol::Http1, &terms(), ByHead(long_answer));
    client.write_all(GET).await.unwrap();
    let begin = Instant::now();
    serving.await.unwrap();
    took(begin, WRITE_STALL_MAX);
}

/// Sends and reads until an answer says that it is the last; gives how many came.
async fn until_told_to_close(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    pause: Duration,
) -> u64 {
    for answers in 1.. {
        client.write_all(GET).await.unwrap();
        let answer = read_until(client, "0 bytes").await;
        if answer.contains("connection: close") {
            assert_eq!(read_to_end(client).await, "");
            return answers;
        }
        sleep(pause).await;
    }
    unreachable!("they do not end");
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_ends_with_the_next_answer() {
    let (mut client, serving) = served(Protocol::Http1, &terms(), Length);
    let begin = Instant::now();
    until_told_to_close(&mut client, secs(7)).await;
    serving.await.unwrap();
    let after = begin.elapsed().checked_sub(AGE_MAX);
    assert!(after.is_some_and(|after| after < secs(8)), "{after:?}");
}

/// Also when the answer is ready at once.
#[tokio::test]
async fn the_last_of_very_many_answers_says_so() {
    let (mut client, serving) = served(Protocol::Http1, &terms(), Length);
    let answers = until_told_to_close(&mut client, Duration::ZERO).await;
    assert_eq!(answers, REQUESTS_MAX);
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_head_too_large_is_answered_431() {
    let (mut client, serving) = served(Protocol::Http1, &terms(), Length);
    let padding = "x".repeat(HEAD_BYTES_MAX);
    let head = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {padding}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn too_many_header_fields_are_answered_431() {
    let (mut client, serving) = served(Protocol::Http1, &terms(), Length);
    let fields = "A: b\r\n".repeat(HEADERS_MAX);
    let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_closes_idle_connections_at_once() {
    let terms = terms();
    let (mut client, serving) = served(Protocol::Http1, &terms, Length);
    client.write_all(GET).await.unwrap();
    read_until(&mut client, "0 bytes").await;
    let begin = Instant::now();
    terms.stop.cancel();
    assert_eq!(read_to_end(&mut client).await, "");
    serving.await.unwrap();
    took(begin, Duration::ZERO);
}

/// Answers when told to.
#[derive(Clone, Debug, Default)]
struct WhenTold {
    begun: Arc<Notify>,
    told: Arc<Notify>,
}

impl Handler for WhenTold {
    async fn handle(self, _request: Request<RequestBody>, _peer: Peer) -> Response<Full<Bytes>> {
        self.begun.notify_one();
        self.told.notified().await;
        Response::new(Full::new(Bytes::from_static(b"told")))
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_a_request_end_and_says_that_it_was_the_last() {
    let (terms, handler) = (terms(), WhenTold::default());
    let (mut client, serving) = served(Protocol::Http1, &terms, handler.clone());
    client.write_all(GET).await.unwrap();
    handler.begun.notified().await;
    terms.stop.cancel();
    handler.told.notify_one();
    let answer = read_to_end(&mut client).await;
    assert!(
        answer.contains("connection: close") && answer.ends_with("told"),
        "{answer}"
    );
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_unread_body_is_read_on_for_a_while_so_that_the_answer_arrives() {
    let answer = |_head: &http::request::Parts| {
        let mut response = Response::new(Full::new(Bytes::from_static(b"no")));
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
        response
    };
    let (client, serving) = served(Protocol::Http1, &terms(), ByHead(answer));
    let (mut read, mut write) = tokio::io::split(client);
    let begin = Instant::now();
    let sending = tokio::spawn(async move {
        let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n";
        write.write_all(head).await.unwrap();
        let mut sent = 0;
        while write.write_all(&[b'x'; 1000]).await.is_ok() {
            sent += 1000;
            tokio::task::yield_now().await;
        }
        sent
    });
    let answer = read_to_end(&mut read).await;
    assert!(answer.ends_with("no"), "{answer}");
    took(begin, Duration::ZERO);
    serving.await.unwrap();
    took(begin, LINGER_MAX);
    let sent = sending.await.unwrap();
    assert!(
        (LINGER_BYTES_MAX..2 * LINGER_BYTES_MAX).contains(&sent),
        "{sent}"
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_lingers_for_long() {
    let (mut client, serving) = served(Protocol::Http1, &terms(), ByHead(long_answer));
    let head = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 9\r\n\r\n";
    client.write_all(head).await.unwrap();
    let begin = Instant::now();
    let answer = read_to_end(&mut client).await;
    assert!(answer.ends_with('x'), "{answer}");
    // The client keeps its end open and sends nothing.
    serving.await.unwrap();
    took(begin, LINGER_MAX);
}

// === HTTP/2 ===

#[tokio::test(start_paused = true)]
async fn http2_without_its_whole_preface_is_cut_after_header_timeout() {
    for sent in [&b""[..], b"P", &H2_PREFACE[..24], &H2_PREFACE[..32]] {
        let (mut client, serving) = served(Protocol::Http2, &terms(), Length);
        let begin = Instant::now();
        client.write_all(sent).await.unwrap();
        serving.await.unwrap();
        took(begin, limits().header_timeout);
    }
}

#[tokio::test(start_paused = true)]
async fn http2_that_answers_no_ping_is_cut() {
    let (mut client, serving) = served(Protocol::Http2, &terms(), Length);
    let begin = Instant::now();
    client.write_all(H2_PREFACE).await.unwrap();
    serving.await.unwrap();
    took(begin, PING_EVERY + PING_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn http2_without_a_request_is_closed_after_idle_timeout_though_it_answers_pings() {
    let (client, serving) = served(Protocol::Http2, &terms(), Length);
    let (_sender, connection) = h2_client::<_, Full<Bytes>>(client).await;
    let begin = Instant::now();
    connection.await.unwrap().unwrap();
    serving.await.unwrap();
    took(begin, limits().idle_timeout);
}

#[tokio::test(start_paused = true)]
async fn http2_idles_from_its_last_request_on() {
    let (client, serving) = served(Protocol::Http2, &terms(), Length);
    let (mut sender, connection) = h2_client(client).await;
    let mut begin = Instant::now();
    for _ in 0..3 {
        sleep(secs(50)).await;
        let response = sender.send_request(get("https://h/")).await.unwrap();
        assert_eq!(drain(response.into_body()).await.unwrap(), b"0 bytes");
        begin = Instant::now();
    }
    connection.await.unwrap().unwrap();
    serving.await.unwrap();
    took(begin, limits().idle_timeout);
}

#[tokio::test(start_paused = true)]
async fn http2_with_a_stuck_stream_is_cut() {
    let (client, serving) = served(Protocol::Http2, &terms(), Stuck);
    let (mut sender, _connection) = h2_client(client).await;
    let begin = Instant::now();
    assert!(sender.send_request(get("https://h/")).await.is_err());
    serving.await.unwrap();
    took(begin, request_patience());
}

#[tokio::test(start_paused = true)]
async fn http2_that_opens_no_window_for_its_answer_is_cut() {
    // With a little window the whole answer is handed to h2, and the stream is over for us; then
    // the connection idles, and does not close when asked to.
    let Patience { idle, closing, .. } = terms().patience;
    for (window, expected) in [(0, request_patience()), (1024, idle + closing)] {
        let (client, serving) = served(Protocol::Http2, &terms(), ByHead(long_answer));
        let (mut sender, _connection) = h2_client_with_window(client, window).await;
        let begin = Instant::now();
        // Nobody reads its body, so the window never opens again.
        let response = sender.send_request(get("https://h/")).await.unwrap();
        serving.await.unwrap();
        took(begin, expected);
        drop(response);
    }
}

fn no(_head: &http::request::Parts) -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from_static(b"no")))
}

#[tokio::test(start_paused = true)]
async fn an_unread_http2_body_is_read_on_for_a_while_and_then_reset() {
    for chunk in [&b""[..], &[b'x'; 1000]] {
        let (client, _serving) = served(Protocol::Http2, &terms(), ByHead(no));
        let (mut sender, connection) = h2_client(client).await;
        let (request, feed) = post_fed("https://h/");
        let begin = Instant::now();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(drain(response.into_body()).await.unwrap(), b"no");
        let mut sent = 0;
        if chunk.is_empty() {
            feed.closed().await;
        } else {
            while feed.send(Bytes::from_static(chunk)).await.is_ok() {
                sent += chunk.len();
            }
            // More than is read is only what the window holds.
            let room = LINGER_BYTES_MAX..LINGER_BYTES_MAX + 256 * 1024;
            assert!(room.contains(&sent), "{sent}");
        }
        took(begin, LINGER_MAX);
        // It was one stream's business.
        assert!(!connection.is_finished());
        let (request, _feed) = post_fed("https://h/");
        assert!(sender.send_request(request).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_that_are_read_on_are_no_flood() {
    let (client, _serving) = served(Protocol::Http2, &terms(), ByHead(no));
    let (mut sender, _connection) = h2_client(client).await;
    let mut feeds = Vec::new();
    for _ in 0..5 {
        let (request, feed) = post_fed("https://h/");
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(drain(response.into_body()).await.unwrap(), b"no");
        feeds.push(feed);
    }
    for _ in 0..LINGER_BYTES_MAX / 1024 {
        for feed in &feeds {
            feed.send(Bytes::from_static(&[b'x'; 1024])).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_a_body_that_is_read_on_but_not_for_long() {
    let terms = terms();
    let (client, serving) = served(Protocol::Http2, &terms, ByHead(no));
    let (mut sender, connection) = h2_client(client).await;
    let (request, _feed) = post_fed("https://h/");
    let begin = Instant::now();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(drain(response.into_body()).await.unwrap(), b"no");
    terms.stop.cancel();
    connection.await.unwrap().unwrap();
    serving.await.unwrap();
    terms.tasks.close();
    terms.tasks.wait().await;
    took(begin, LINGER_MAX);
}

#[tokio::test(start_paused = true)]
async fn http2_frames_without_requests_come_to_an_end() {
    for frame in [H2_PING, H2_SETTINGS] {
        let (client, serving) = served(Protocol::Http2, &terms(), Length);
        let (mut read, mut write) = tokio::io::split(client);
        let reading = tokio::spawn(async move { read_to_end(&mut read).await });
        write.write_all(H2_PREFACE).await.unwrap();
        let many = frame.repeat(100);
        let mut sent = 0;
        while write.write_all(&many).await.is_ok() {
            sent += many.len();
            assert!(sent < 4 * 1024 * 1024, "still open after {sent} bytes");
        }
        serving.await.unwrap();
        reading.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_http2_streams_end() {
    let (terms, handler) = (terms(), WhenTold::default());
    let (client, serving) = served(Protocol::Http2, &terms, handler.clone());
    let (mut sender, connection) = h2_client(client).await;
    let answer = tokio::spawn(sender.send_request(get("https://h/")));
    handler.begun.notified().await;
    terms.stop.cancel();
    handler.told.notify_one();
    let response = answer.await.unwrap().unwrap();
    assert_eq!(drain(response.into_body()).await.unwrap(), b"told");
    connection.await.unwrap().unwrap();
    serving.await.unwrap();
    terms.tasks.close();
    terms.tasks.wait().await;
}
