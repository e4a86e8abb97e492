use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Mutex;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tracing_subscriber::EnvFilter;

use super::*;
use crate::edge::activity::Protocol;
use crate::edge::testing::{
    drain, get, h2_client, peer, post_fed, read_to_end, read_until, served, terms,
};
use crate::pipeline::arrival::BodyBounds;
use crate::pipeline::handshake::HandshakeReply;
use crate::pipeline::limit::{Overrun, Rate};
use crate::pipeline::verify::Refusal;
use crate::source::Reply;
use crate::telemetry::tests::Sink;
use crate::telemetry::{Format, subscriber};

const GET: &[u8] = b"GET /shop HTTP/1.1\r\nHost: h\r\n\r\n";
const POST: &[u8] = b"POST /shop HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";

/// A pipeline that does what it is told to.
struct Scripted {
    act: Act,
    metrics: Arc<Metrics>,
    begun: Notify,
    go_on: Notify,
    heads: Mutex<Vec<Head>>,
}

/// How long they wait for each other.
const MEET_WITHIN: Duration = Duration::from_secs(10);

enum Act {
    /// Decides without reading the body.
    Say(Decision),
    /// Reads the body, then decides.
    Read(Decision),
    /// Panics after it knows the source.
    Panic,
    /// Waits to be told to go on; panics at `/panic`.
    Wait,
    /// Keeps its thread busy until so many do.
    Meet(usize),
}

impl Decide for Scripted {
    async fn decide(
        &self,
        arrival: Arrival<RequestBody>,
        _now: Now,
        account: &mut Account,
    ) -> Decision {
        let path = arrival.head.path.clone();
        self.heads.lock().unwrap().push(arrival.head.clone());
        account.source = Some(Arc::from("shop"));
        account.key = Some(Arc::from("2026"));
        account.event_type = Some("order\r\n{\"level\":\"ERROR\"}".to_owned());
        account.event_id = Some("\u{1b}[31m\u{e9}".repeat(100));
        match &self.act {
            Act::Say(decision) => decision.clone(),
            Act::Read(decision) => {
                let bounds = BodyBounds {
                    bytes_max: 100,
                    timeout: Duration::from_secs(1),
                };
                account.body_bytes = arrival.read(bounds, |_| Ok(())).await?.body.len();
                decision.clone()
            }
            Act::Panic => panic!("s3cret"),
            Act::Wait if path == "/panic" => panic!("s3cret"),
            Act::Wait => {
                self.begun.notify_one();
                self.go_on.notified().await;
                Ok(accepted())
            }
            Act::Meet(all) => {
                let begun = tokio::time::Instant::now();
                while self.heads.lock().unwrap().len() < *all {
                    if begun.elapsed() > MEET_WITHIN {
                        return Err(Reject::Defect);
                    }
                    std::thread::yield_now();
                }
                Ok(accepted())
            }
        }
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

struct Setup {
    pipeline: Arc<Scripted>,
    watch: Watch,
    gateway: Gateway<Scripted>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

fn setup(act: Act) -> Setup {
    let pipeline = Arc::new(Scripted {
        act,
        metrics: Metrics::new([&Arc::from("shop")]),
        begun: Notify::new(),
        go_on: Notify::new(),
        heads: Mutex::default(),
    });
    let (watch, tasks, stop) = (Watch::new(), TaskTracker::new(), CancellationToken::new());
    let trusted = vec!["192.0.2.0/24".parse().unwrap()];
    let gateway = Gateway::new(
        Arc::clone(&pipeline),
        watch.clone(),
        trusted,
        tasks.clone(),
        stop.clone(),
    );
    Setup {
        pipeline,
        watch,
        gateway,
        tasks,
        stop,
    }
}

impl Setup {
    /// Sends raw bytes over one HTTP/1 connection and gives all that is answered.
    async fn send(&self, raw: &[u8]) -> String {
        let (mut client, serving) = served(Protocol::Http1, &terms(), self.gateway.clone());
        client.write_all(raw).await.unwrap();
        let answer = read_to_end(&mut client).await;
        serving.await.unwrap();
        answer
    }

    /// The counters that are not zero, by name and labels.
    fn books(&self) -> BTreeMap<String, f64> {
        let page = self.pipeline.metrics.render();
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        let values = lines.filter_map(|line| line.rsplit_once(' '));
        values
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .filter(|(name, value)| *value != 0.0 && name.contains("_total"))
            .collect()
    }

    #[track_caller]
    fn check_books(&self, expected: &[&str]) {
        let books: Vec<String> = self.books().into_keys().collect();
        assert_eq!(books, expected);
        assert!(self.books().values().all(|&value| value == 1.0));
        let page = self.pipeline.metrics.render();
        assert!(page.contains("hookgate_requests_in_flight 0\n"), "{page}");
    }
}

fn accepted() -> Outcome {
    Outcome::Accepted(Receipt::Event(Uuid::nil()), reply_202())
}

fn reply_202() -> Reply {
    Reply {
        status: StatusCode::ACCEPTED,
        body: None,
        content_type: None,
    }
}

fn every_decision() -> Vec<Decision> {
    let overrun = || Overrun {
        policy: Arc::from("shop"),
        rate: Rate {
            count: NonZeroU32::MIN,
            period: Duration::from_secs(1),
            burst: NonZeroU32::MIN,
        },
        retry_after: Duration::from_secs(1),
    };
    let handshake = HandshakeReply {
        headers: HeaderMap::new(),
        status: StatusCode::OK,
        content_type: "text/plain".to_owned(),
        body: "challenge".to_owned(),
    };
    let mut decisions = vec![
        Ok(accepted()),
        Ok(Outcome::Duplicate(Receipt::Event(Uuid::nil()), reply_202())),
        Ok(Outcome::Handshake(handshake)),
    ];
    let rejects = [
        Reject::NoSuchPath,
        Reject::MethodNotAllowed(vec![Method::POST]),
        Reject::AddressNotAllowed,
        Reject::Ambiguous("part"),
        Reject::BodyTooLarge(1),
        Reject::BatchTooLarge(1),
        Reject::BodyTooSlow,
        Reject::BodyBroken,
        Reject::UnsupportedType,
        Reject::UnsupportedCoding,
        Reject::Malformed(String::new()),
        Reject::DuplicateKey(String::new()),
        Reject::SchemaViolated(Vec::new()),
        Reject::PeerLimited(overrun()),
        Reject::SourceLimited(overrun()),
        Reject::EvidenceUnavailable(String::new()),
        Reject::JournalFull,
        Reject::QueuesFull,
        Reject::JournalFailed,
        Reject::SecretNotStored(String::new()),
        Reject::BrokerUnavailable,
        Reject::Overloaded,
        Reject::TooSlow,
        Reject::Draining,
        Reject::Defect,
    ];
    decisions.extend(rejects.into_iter().map(Err));
    decisions
}

#[tokio::test(start_paused = true)]
async fn every_decision_is_counted_once() {
    for decision in every_decision() {
        let setup = setup(Act::Say(decision.clone()));
        let answer = setup.send(GET).await;
        let status = reply(&decision, "", Afterwards::Open).status();
        let line = format!("HTTP/1.1 {} ", status.as_u16());
        assert!(answer.starts_with(&line), "{decision:?}: {answer}");
        let used = "hookgate_secret_uses_total{source=\"shop\",secret=\"2026\"}";
        let received = "hookgate_received_total{source=\"shop\"}";
        let ended = match &decision {
            Ok(outcome) => format!("hookgate_{}_total{{source=\"shop\"}}", outcome.label()),
            Err(reject) => format!(
                "hookgate_rejected_total{{source=\"shop\",reason=\"{}\"}}",
                reject.label()
            ),
        };
        let mut expected = vec![ended.as_str(), received, used];
        match &decision {
            Ok(Outcome::Accepted(..)) => expected.push("hookgate_events_total{source=\"shop\"}"),
            Ok(Outcome::Duplicate(..)) => {
                expected.push("hookgate_event_copies_total{source=\"shop\"}");
            }
            Ok(Outcome::Handshake(_)) | Err(_) => {}
        }
        expected.sort_unstable();
        setup.check_books(&expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_proof_is_counted_by_its_reason_and_told_to_nobody_but_the_operator() {
    let refusal = Refusal::Absent("X-Signature".to_owned());
    let setup = setup(Act::Say(Err(Reject::Unverified(refusal))));
    let mut tail = setup.watch.listen();
    let answer = setup.send(GET).await;
    assert!(!answer.contains("X-Signature"), "{answer}");
    let name = "hookgate_refusals_total{source=\"shop\",reason=\"signature_absent\"}";
    assert_eq!(setup.books()[name], 1.0);
    let told = tail.try_recv().unwrap();
    assert_eq!(
        told.seen.detail.as_deref(),
        Some("no signature: X-Signature is absent")
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_one_request_and_says_nothing() {
    let setup = setup(Act::Panic);
    let answer = setup.send(&[GET, GET].concat()).await;
    assert_eq!(answer.matches("HTTP/1.1 503 ").count(), 2, "{answer}");
    assert!(!answer.contains("s3cret"), "{answer}");
    let name = "hookgate_rejected_total{source=\"shop\",reason=\"defect\"}";
    assert_eq!(setup.books()[name], 2.0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_leaves_the_other_streams_of_its_connection_alone() {
    let setup = setup(Act::Wait);
    let (client, _serving) = served(Protocol::Http2, &terms(), setup.gateway.clone());
    let (mut sender, _connection) = h2_client(client).await;
    let slow = sender.send_request(get("http://h/shop"));
    let slow = tokio::spawn(slow);
    setup.pipeline.begun.notified().await;
    for _ in 0..3 {
        let answer = sender.send_request(get("http://h/panic")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()["retry-after"], "30");
    }
    setup.pipeline.go_on.notify_one();
    let answer = slow.await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let name = "hookgate_rejected_total{source=\"shop\",reason=\"defect\"}";
    assert_eq!(setup.books()[name], 3.0);
}

/// One long body must not hold up what else a proxy sends over the same connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn streams_of_one_connection_are_worked_on_at_the_same_time() {
    let setup = setup(Act::Meet(2));
    let (client, _serving) = served(Protocol::Http2, &terms(), setup.gateway.clone());
    let (mut sender, _connection) = h2_client(client).await;
    let answers = [(); 2].map(|()| tokio::spawn(sender.send_request(get("http://h/shop"))));
    for answer in answers {
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
    }
}

/// The last thing that a request does is to say what became of it.
#[tokio::test(start_paused = true)]
async fn a_panic_outside_of_the_pipeline_costs_one_request_too() {
    let subscriber = subscriber(Format::Json, EnvFilter::new("info"), || Broken);
    let _guard = tracing::subscriber::set_default(subscriber);
    // Whether anybody listens to a place in the code is settled when it is reached first, by
    // whichever test that was: it is settled anew.
    let any = setup(Act::Say(Ok(accepted()))).send(GET).await;
    assert!(any.starts_with("HTTP/1.1 "), "{any}");
    tracing::callsite::rebuild_interest_cache();
    let setup = setup(Act::Say(Ok(accepted())));
    let (client, _serving) = served(Protocol::Http2, &terms(), setup.gateway.clone());
    let (mut sender, _connection) = h2_client(client).await;
    for _ in 0..3 {
        let answer = sender.send_request(get("http://h/shop")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()["retry-after"], "30");
        assert!(answer.headers().contains_key(X_REQUEST_ID));
    }
    let page = setup.pipeline.metrics.render();
    assert!(page.contains("hookgate_requests_in_flight 0\n"), "{page}");
    let name = "hookgate_accepted_total{source=\"shop\"}";
    assert_eq!(setup.books()[name], 3.0);
}

/// A log that panics.
struct Broken;

impl std::io::Write for Broken {
    fn write(&mut self, _line: &[u8]) -> std::io::Result<usize> {
        panic!("as meant")
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_panicked_before_it_was_counted_is_counted_as_a_defect() {
    let setup = setup(Act::Panic);
    let ticket = Ticket::new(&setup.gateway.0);
    let panicking = tokio::spawn(async move {
        let _ticket = ticket;
        panic!("as meant");
    });
    assert!(panicking.await.unwrap_err().is_panic());
    setup.check_books(&[
        "hookgate_received_total{source=\"_unknown\"}",
        "hookgate_rejected_total{source=\"_unknown\",reason=\"defect\"}",
    ]);
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_hangs_up_changes_nothing() {
    let setup = setup(Act::Wait);
    let (mut client, serving) = served(Protocol::Http1, &terms(), setup.gateway.clone());
    client.write_all(GET).await.unwrap();
    setup.pipeline.begun.notified().await;
    drop(client);
    serving.await.unwrap();
    assert!(setup.books().is_empty());
    setup.pipeline.go_on.notify_one();
    setup.tasks.close();
    setup.tasks.wait().await;
    let name = "hookgate_accepted_total{source=\"shop\"}";
    assert_eq!(setup.books()[name], 1.0);
}

#[tokio::test(start_paused = true)]
async fn what_the_gate_refuses_never_reaches_the_pipeline() {
    let setup = setup(Act::Say(Ok(accepted())));
    let answer = setup.send(b"GET /shop HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(setup.pipeline.heads.lock().unwrap().is_empty());
    setup.check_books(&[
        "hookgate_received_total{source=\"_unknown\"}",
        "hookgate_rejected_total{source=\"_unknown\",reason=\"ambiguous\"}",
    ]);
}

#[tokio::test(start_paused = true)]
async fn while_draining_new_requests_are_sent_away() {
    let setup = setup(Act::Say(Ok(accepted())));
    setup.stop.cancel();
    let answer = setup.send(GET).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("retry-after: 5"), "{answer}");
    assert!(setup.pipeline.heads.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn http1_is_closed_when_a_body_was_left_unread_and_else_not() {
    let refused = || Err(Reject::AddressNotAllowed);
    let broken = b"POST /shop HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nX\r\n";
    let endless = b"POST /shop HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n";
    let trailer =
        b"POST /shop HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n";
    let announced =
        b"POST /shop HTTP/1.1\r\nHost: h\r\nContent-Length: 9223372036854775807\r\n\r\n";
    let mut endless = endless.to_vec();
    endless.extend_from_slice(&[b'x'; 101]);
    let cases: Vec<(Act, &[u8], u16, bool)> = vec![
        (Act::Read(Ok(accepted())), POST, 202, false),
        (Act::Read(refused()), POST, 403, false),
        (Act::Say(refused()), GET, 403, false),
        (Act::Say(refused()), POST, 403, false),
        (Act::Say(refused()), announced, 403, true),
        (Act::Read(Ok(accepted())), broken, 400, true),
        (Act::Read(Ok(accepted())), &endless, 413, true),
        (Act::Read(Ok(accepted())), trailer, 400, true),
        (Act::Read(Ok(accepted())), announced, 413, true),
    ];
    for (act, raw, status, closed) in cases {
        let answer = setup(act).send(raw).await;
        let line = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&line), "{answer}");
        assert_eq!(answer.contains("connection: close"), closed, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_slow_is_answered_408_and_closed() {
    let setup = setup(Act::Read(Ok(accepted())));
    let raw = b"POST /shop HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhell";
    let answer = setup.send(raw).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_to_continue_with_a_body_that_is_not_wanted() {
    let raw =
        b"POST /shop HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let refusing = setup(Act::Say(Err(Reject::AddressNotAllowed)));
    let answer = refusing.send(raw).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let taking = setup(Act::Read(Ok(accepted())));
    let (mut client, _serving) = served(Protocol::Http1, &terms(), taking.gateway.clone());
    client.write_all(raw).await.unwrap();
    read_until(&mut client, "HTTP/1.1 100 Continue\r\n\r\n").await;
    client.write_all(b"hello").await.unwrap();
    read_until(&mut client, "HTTP/1.1 202 ").await;
}

#[tokio::test(start_paused = true)]
async fn http2_is_never_told_to_close() {
    let setup = setup(Act::Say(Err(Reject::Ambiguous("part"))));
    let (client, _serving) = served(Protocol::Http2, &terms(), setup.gateway.clone());
    let (mut sender, _connection) = h2_client(client).await;
    for _ in 0..2 {
        let response = sender.send_request(get("https://h/shop")).await.unwrap();
        assert_eq!(response.status(), 400);
        assert!(response.headers().get("connection").is_none());
        assert!(!drain(response.into_body()).await.unwrap().is_empty());
    }
}

/// A stream that is reset right after its answer costs many a client the answer.
#[tokio::test(start_paused = true)]
async fn http2_that_is_still_sending_gets_its_answer_and_goes_on() {
    const CHUNK: usize = 50;
    // Announced bytes; chunks before the answer; what it is.
    let cases = [
        (Some(10 * CHUNK), 0, Act::Read(Ok(accepted())), 413),
        (None, 3, Act::Read(Ok(accepted())), 413),
        (None, 1, Act::Read(Ok(accepted())), 408),
        (None, 1, Act::Say(Err(Reject::AddressNotAllowed)), 403),
    ];
    for (announced, before, act, status) in cases {
        let setup = setup(act);
        let (client, _serving) = served(Protocol::Http2, &terms(), setup.gateway.clone());
        let (mut sender, _connection) = h2_client(client).await;
        for _ in 0..2 {
            let (mut request, feed) = post_fed("https://h/shop");
            if let Some(bytes) = announced {
                let length = http::HeaderValue::from(bytes);
                let headers = request.headers_mut();
                headers.insert(http::header::CONTENT_LENGTH, length);
            }
            let chunk = Bytes::from_static(&[b'x'; CHUNK]);
            let answer = tokio::spawn(sender.send_request(request));
            for _ in 0..before {
                feed.send(chunk.clone()).await.unwrap();
            }
            let response = answer.await.unwrap().unwrap();
            assert_eq!(response.status(), status);
            assert!(!drain(response.into_body()).await.unwrap().is_empty());
            for sent in before..10 {
                let going_on = feed.send(chunk.clone()).await;
                assert!(going_on.is_ok(), "{status}: reset after {sent} chunks");
            }
        }
    }
}

async fn answered_id(fields: &str) -> String {
    let setup = setup(Act::Say(Ok(accepted())));
    let raw = format!("GET /shop HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    let answer = setup.send(raw.as_bytes()).await;
    let id = answer
        .lines()
        .find_map(|line| line.strip_prefix("x-request-id: "));
    let id = id.unwrap().to_owned();
    let heads = setup.pipeline.heads.lock().unwrap();
    assert_eq!(&*heads[0].request_id, id);
    id
}

#[tokio::test(start_paused = true)]
async fn a_harmless_request_id_is_kept_and_any_other_replaced() {
    let longest = "x".repeat(REQUEST_ID_BYTES_MAX);
    for id in ["a", "A-1_b.2", &longest] {
        assert_eq!(answered_id(&format!("X-Request-Id: {id}\r\n")).await, id);
    }
    let too_long = format!("X-Request-Id: {longest}x\r\n");
    let cases = [
        "",
        "X-Request-Id:\r\n",
        "X-Request-Id: a b\r\n",
        "X-Request-Id: <script>\r\n",
        "X-Request-Id: a\r\nX-Request-Id: b\r\n",
        &too_long,
    ];
    for fields in cases {
        let id = Uuid::parse_str(&answered_id(fields).await).unwrap();
        assert_eq!(id.get_version_num(), 7, "{fields}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_head_is_handed_on_as_it_came() {
    let setup = setup(Act::Say(Ok(accepted())));
    let raw =
        b"POST /shop?a=%20&b HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1.2.3.4, 203.0.113.5\r\n\r\n";
    setup.send(raw).await;
    let heads = setup.pipeline.heads.lock().unwrap();
    let head = &heads[0];
    assert_eq!(head.method, Method::POST);
    assert_eq!(
        (head.path.as_str(), head.query.as_deref()),
        ("/shop", Some("a=%20&b"))
    );
    assert_eq!(head.headers["x-forwarded-for"], "1.2.3.4, 203.0.113.5");
    // The peer of these tests is a trusted proxy.
    assert_eq!(peer().address.ip().to_string(), "192.0.2.1");
    assert_eq!(head.client_ip.to_string(), "203.0.113.5");
}

#[tokio::test(start_paused = true)]
async fn tail_sees_what_the_log_says() {
    let setup = setup(Act::Read(Ok(accepted())));
    let mut tail = setup.watch.listen();
    setup.send(POST).await;
    let told = tail.try_recv().unwrap();
    assert!(told.request.is_none());
    let seen = &told.seen;
    assert_eq!(seen.source.as_deref(), Some("shop"));
    assert_eq!(
        (seen.outcome, seen.status, seen.reason),
        ("accepted", 202, None)
    );
    assert_eq!(
        seen.message_id.as_deref(),
        Some("00000000-0000-0000-0000-000000000000")
    );
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str(), seen.bytes),
        ("POST", "/shop", 5)
    );
    assert_eq!(seen.key.as_deref(), Some("2026"));
    assert!(seen.event_id.as_ref().unwrap().len() <= NAME_BYTES_MAX + 3);
    assert!(tail.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn one_request_is_one_line_in_the_log() {
    for format in [Format::Json, Format::Text { colour: false }] {
        let sink = Sink::default();
        let writer = sink.clone();
        let filter = EnvFilter::new("info");
        let subscriber = subscriber(format, filter, move || writer.clone());
        let _guard = tracing::subscriber::set_default(subscriber);
        let setup = setup(Act::Read(Err(Reject::JournalFull)));
        let path = format!("/{}", "x".repeat(1000));
        let raw = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nX-Signature: s1gned\r\nContent-Length: 5\r\n\r\nh3llo"
        );
        setup.send(raw.as_bytes()).await;
        let log = sink.text();
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(!log.contains("h3llo") && !log.contains("s1gned"), "{log}");
        assert!(!log.contains('\u{1b}'), "{log}");
        if format != Format::Json {
            continue;
        }
        let line: Value = serde_json::from_str(&log).unwrap();
        assert_eq!(line["target"], "hookgate::access");
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["source"], "shop");
        assert_eq!(line["outcome"], "rejected");
        assert_eq!(line["reason"], "journal_full");
        assert_eq!(line["status"], 503);
        assert_eq!(line["bytes"], 5);
        assert_eq!(line["method"], "POST");
        assert_eq!(line["client_ip"], "192.0.2.1");
        assert_eq!(line["event_type"], "order\r\n{\"level\":\"ERROR\"}");
        assert_eq!(line["path"].as_str().unwrap().len(), PATH_BYTES_MAX + 3);
        assert!(line["duration_ms"].is_number());
        assert!(line["detail"].as_str().unwrap().contains("journal is full"));
    }
}

#[test]
fn texts_are_cut_at_characters() {
    assert_eq!(shortened("abc", 3), "abc");
    assert_eq!(shortened("abcd", 3), "abc...");
    assert_eq!(shortened("ab\u{e9}", 3), "ab...");
    assert_eq!(shortened("\u{1f980}", 3), "...");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_cannot_be_read_is_answered_and_booked_like_everything_else() {
    let fields = "A: b\r\n".repeat(64);
    let many = format!("GET /shop HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(20_000));
    for (raw, status, label) in [
        ("GET /shop HTTP/9\r\n\r\n", 400, "head_malformed"),
        (
            "POST /shop HTTP/1.1\r\nHost : h\r\n\r\n",
            400,
            "head_malformed",
        ),
        (&*many, 431, "head_too_large"),
        (&*long, 431, "head_too_large"),
    ] {
        let setup = setup(Act::Say(Ok(accepted())));
        let answer = setup.send(raw.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        for field in [
            "x-request-id: ",
            "connection: close",
            "date: ",
            "cache-control: no-store",
        ] {
            assert!(head.contains(&format!("\r\n{field}")), "{field}: {head}");
        }
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{head}"
        );
        let problem: Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["code"], label);
        let id = problem["instance"].as_str().unwrap();
        assert!(head.contains(&format!("x-request-id: {id}\r\n")), "{head}");
        setup.check_books(&[
            "hookgate_received_total{source=\"_unknown\"}",
            &format!("hookgate_rejected_total{{source=\"_unknown\",reason=\"{label}\"}}"),
        ]);
        assert!(setup.pipeline.heads.lock().unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_a_head_that_cannot_be_read_arrives_whole() {
    let setup = setup(Act::Say(Ok(accepted())));
    let answers = setup
        .send(&[GET, b"GET\0/ HTTP/1.1\r\n\r\n"].concat())
        .await;
    assert!(answers.starts_with("HTTP/1.1 202 "), "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 400 ").count(), 1, "{answers}");
    assert!(answers.contains("head_malformed"), "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "{answers}");
}

#[tokio::test(start_paused = true)]
async fn who_is_turned_away_keeps_the_connection_if_the_body_is_short() {
    let head = "POST /shop HTTP/1.1\r\nHost: h\r\n";
    let close = "connection: close";
    for (lines, sent, kept) in [
        ("Content-Length: 5\r\n", 5, true),
        ("Content-Length: 65536\r\n", 65_536, true),
        ("Content-Length: 65537\r\n", 65_537, false),
        // What is not sent is not waited for.
        ("Content-Length: 5\r\n", 4, false),
        ("Content-Length: 5\r\nExpect: 100-continue\r\n", 0, false),
    ] {
        let setup = setup(Act::Say(Err(Reject::Overloaded)));
        let (mut client, serving) = served(Protocol::Http1, &terms(), setup.gateway.clone());
        let request = format!("{head}{lines}\r\n{}", "x".repeat(sent));
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = read_until(&mut client, "\"code\":\"overloaded\"").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert_eq!(!answer.contains(close), kept, "{lines}{sent}: {answer}");
        if kept {
            client.write_all(GET).await.unwrap();
            let answer = read_until(&mut client, "overloaded").await;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        }
        drop(client);
        serving.await.unwrap();
    }
}
