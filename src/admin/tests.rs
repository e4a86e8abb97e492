use std::sync::Mutex;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;

use super::*;
use crate::edge::testing::{read_to_end, read_until};
use crate::journal::Position;
use crate::pipeline::arrival::{Head, Inbound};
use crate::pipeline::testing;
use crate::watch::{BACKLOG_MAX, Seen};

struct Running {
    address: SocketAddr,
    watch: Watch,
    metrics: Arc<Metrics>,
    journal: Arc<Mutex<Status>>,
    broker: watch::Sender<BrokerHealth>,
    draining: CancellationToken,
    stop: CancellationToken,
    task: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

fn healthy() -> Status {
    Status {
        first: Position(3),
        cursor: Position(5),
        end: Position(12),
        waiting: 7,
        bytes: 4096,
        segments: 2,
        failed: None,
        full: false,
    }
}

fn run(token: Option<&str>) -> Running {
    run_with(token, Vec::new())
}

fn run_with(token: Option<&str>, sources: Vec<Arc<Source>>) -> Running {
    let admin = config::Admin {
        listen: "127.0.0.1:0".parse().unwrap(),
        token: token.map(|token| Secret::new(token.as_bytes().to_vec())),
    };
    let admin = Admin::bind(&admin).unwrap();
    let address = admin.local_addr().unwrap();
    let (watch, metrics) = (Watch::new(), Metrics::new([]));
    let journal = Arc::new(Mutex::new(healthy()));
    let (broker, health) = watch::channel(BrokerHealth {
        connected: true,
        node: "rabbit-1".to_owned(),
        ..BrokerHealth::default()
    });
    let (draining, stop) = (CancellationToken::new(), CancellationToken::new());
    let (status, refreshed) = (Arc::clone(&journal), Arc::clone(&metrics));
    let directory = tempfile::tempdir().unwrap();
    let state = AdminState {
        since: "2026-01-01T00:00:00.5Z".parse().unwrap(),
        replay: replay(directory.path(), &metrics),
        sources,
        journal: Arc::new(move || status.lock().unwrap().clone()),
        parked: Arc::new(|| 3),
        broker: Some(health),
        metrics: Arc::clone(&metrics),
        refresh: Arc::new(move || refreshed.edge.dedupe_ids.set(42.0)),
        watch: watch.clone(),
        draining: draining.clone(),
    };
    let task = tokio::spawn(admin.run(state, stop.clone()));
    Running {
        address,
        watch,
        metrics,
        journal,
        broker,
        draining,
        stop,
        task,
        _directory: directory,
    }
}

/// Over journals without an event.
fn replay(directory: &std::path::Path, metrics: &Arc<Metrics>) -> Replay {
    let open = |name: &str| {
        let options = crate::journal::Options {
            path: directory.join(name),
            bytes_max: 64 << 20,
            segment_bytes: 8 << 20,
            retain: Duration::ZERO,
            refuse_damage: true,
            reserve_bytes: 0,
            on_sync: None,
        };
        crate::journal::Journal::open(options).unwrap()
    };
    let path = directory.join("set-aside");
    Replay::new(
        open("journal"),
        open("set-aside"),
        &path,
        Arc::clone(metrics),
        &CancellationToken::new(),
    )
    .unwrap()
}

impl Running {
    async fn request(&self, head: &str) -> String {
        self.raw(&format!("{head}\r\nHost: 127.0.0.1")).await
    }

    /// The same with a host of its own.
    async fn raw(&self, head: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!("{head}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await
    }

    /// The status and the body.
    async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.request(&format!("GET {path} HTTP/1.1")).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    async fn tail(&self, query: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!("GET /api/v1/tail{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(
            head.contains("content-type: application/x-ndjson"),
            "{head}"
        );
        stream
    }

    fn tell(&self, source: Option<&str>, request_id: &str) {
        self.watch.tell(None, || seen(source, request_id));
    }
}

fn seen(source: Option<&str>, request_id: &str) -> Seen {
    Seen {
        at: "2026-01-01T00:00:00Z".to_owned(),
        source: source.map(Arc::from),
        outcome: "accepted",
        status: 202,
        reason: None,
        detail: None,
        request_id: Arc::from(request_id),
        message_id: None,
        event_id: None,
        event_type: Some("a\nb".to_owned()),
        batch: None,
        events: None,
        copies: None,
        quarantined: None,
        key: None,
        client_ip: "192.0.2.1".parse().unwrap(),
        method: "POST".to_owned(),
        path: "/shop".to_owned(),
        bytes: 5,
        duration_ms: 0.5,
    }
}

#[tokio::test]
async fn alive_is_whoever_answers() {
    let running = run(None);
    for path in ["/livez", "/healthz"] {
        assert_eq!(running.get(path).await, (200, "ok\n".to_owned()));
    }
}

#[tokio::test]
async fn ready_follows_the_journal_the_broker_and_draining() {
    let running = run(None);
    assert_eq!(running.get("/readyz").await, (200, "ok\n".to_owned()));
    let well = "[+]journal ok\n[+]broker ok\nok\n";
    assert_eq!(running.get("/readyz?verbose").await, (200, well.to_owned()));

    running
        .broker
        .send_modify(|broker| broker.connected = false);
    let waiting = "[+]journal ok\n[!]broker not connected: events wait in the journal\nok\n";
    assert_eq!(
        running.get("/readyz?verbose=1").await,
        (200, waiting.to_owned())
    );

    running.journal.lock().unwrap().full = true;
    let (status, page) = running.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(
        page.starts_with("[-]journal full\n") && page.ends_with("not ready\n"),
        "{page}"
    );

    running.journal.lock().unwrap().full = false;
    running.draining.cancel();
    let (status, page) = running.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(page.contains("[-]draining\n"), "{page}");
}

#[tokio::test]
async fn the_metrics_page_has_the_journals_gauges_and_what_refresh_sets() {
    let running = run(None);
    running.metrics.edge.connections.set(7.0);
    let (status, page) = running.get("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "hookgate_connections 7\n",
        "hookgate_journal_waiting 7\n",
        "hookgate_journal_bytes 4096\n",
        "hookgate_journal_segments 2\n",
        "hookgate_journal_failed 0\n",
        "hookgate_dedupe_ids 42\n",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
}

#[tokio::test]
async fn status_and_version_are_json() {
    let running = run(None);
    let (_, page) = running.get("/version").await;
    let version: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let (_, page) = running.get("/api/v1/status").await;
    let status: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(status["journal"]["waiting"], 7);
    assert_eq!(status["broker"]["node"], "rabbit-1");
    assert_eq!(status["sources"], serde_json::json!([]));
    assert_eq!(status["draining"], false);
}

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    let running = run(None);
    for (head, status) in [
        ("GET / HTTP/1.1", "404"),
        ("GET /livez/ HTTP/1.1", "404"),
        ("GET /api/v1/../v1/status HTTP/1.1", "404"),
        ("POST /metrics HTTP/1.1", "405"),
    ] {
        let answer = running.request(head).await;
        let line = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&line), "{answer}");
        assert!(
            answer.contains("content-type: application/problem+json"),
            "{answer}"
        );
    }
    let answer = running.request("HEAD /livez HTTP/1.1").await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn the_token_guards_everything_but_health() {
    let running = run(Some("s3cret"));
    for path in ["/livez", "/healthz", "/readyz"] {
        assert_eq!(running.get(path).await.0, 200, "{path}");
    }
    for path in [
        "/metrics",
        "/version",
        "/api/v1/status",
        "/api/v1/tail",
        "/nothing",
    ] {
        assert_eq!(running.get(path).await.0, 401, "{path}");
    }
    let answer = running.request("GET /version HTTP/1.1").await;
    assert!(answer.contains("www-authenticate: Bearer"), "{answer}");
    let as_ = |value: &str| format!("GET /version HTTP/1.1\r\nAuthorization: {value}");
    for value in ["Bearer s3cret", "bearer s3cret"] {
        let answer = running.request(&as_(value)).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{value}: {answer}");
    }
    let twice = "Bearer s3cret\r\nAuthorization: Bearer s3cret";
    let wrong = [
        "Bearer s3creT",
        "Bearer s3cre",
        "Bearer s3cret1",
        "Bearer",
        "Bearer ",
        "Basic s3cret",
        "s3cret",
        "",
        twice,
    ];
    for value in wrong {
        let answer = running.request(&as_(value)).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{value}: {answer}");
    }
}

#[tokio::test]
async fn tail_shows_events_as_they_come() {
    let running = run(None);
    let mut tail = running.tail("").await;
    running.tell(Some("shop"), "req-1");
    let line = read_until(&mut tail, "\n\r\n").await;
    let json = line.lines().find(|line| line.starts_with('{')).unwrap();
    let event: Value = serde_json::from_str(json).unwrap();
    assert_eq!(event["source"], "shop");
    assert_eq!(event["request_id"], "req-1");
    assert_eq!(event["event_type"], "a\nb");
    running.tell(None, "req-2");
    read_until(&mut tail, "req-2").await;
}

#[tokio::test]
async fn tail_can_be_of_some_sources() {
    let directory = tempfile::tempdir().unwrap();
    let source = |name: &str| format!("[sources.{name}]\nverify = \"insecure-none\"\n");
    let text = ["shop", "bank", "other"].map(source).concat();
    let text = format!("[server]\ntls = \"off\"\n{text}");
    let sources = testing::config(directory.path(), &text).sources;
    let running = run_with(None, sources);
    let (status, detail) = running.get("/api/v1/tail?source=shop,bnak").await;
    assert_eq!(status, 404, "{detail}");
    let mut tail = running.tail("?source=shop,b%61nk").await;
    running.tell(Some("other"), "req-1");
    running.tell(None, "req-2");
    running.tell(Some("bank"), "req-3");
    running.tell(Some("shop"), "req-4");
    let lines = read_until(&mut tail, "req-4").await;
    assert!(lines.contains("req-3"), "{lines}");
    assert!(
        !lines.contains("req-1") && !lines.contains("req-2"),
        "{lines}"
    );
}

#[tokio::test]
async fn a_slow_reader_of_tail_is_told_how_much_it_missed() {
    let running = run(None);
    let mut tail = running.tail("").await;
    // Without a break for the server: on one thread, it hears of them all at once.
    for index in 0..BACKLOG_MAX + 100 {
        running.tell(Some("shop"), &format!("req-{index}"));
    }
    read_until(&mut tail, "{\"dropped\":100}\n").await;
}

#[tokio::test]
async fn a_request_is_shown_to_who_asks_for_it_and_to_nobody_else() {
    let running = run(Some("s3cret"));
    let begin = async |query: &str, more: &str| {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let head = format!(
            "GET /api/v1/tail{query} HTTP/1.1\r\nHost: localhost\r\n\
             Authorization: Bearer s3cret\r\n{more}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let head = read_until(&mut stream, "\r\n\r\n").await;
        (stream, head)
    };
    let (_, head) = begin("?requests=1", "").await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    let (mut plain, _) = begin("", "").await;
    let (mut saving, _) = begin("?requests=1", "Hookgate-Admin: 1\r\n").await;
    let head = Head {
        method: http::Method::POST,
        path: "/shop".to_owned(),
        query: None,
        headers: http::HeaderMap::new(),
        client_ip: running.address.ip(),
        request_id: Arc::from(""),
        certificate: None,
    };
    let body = bytes::Bytes::from_static(b"{}");
    let inbound = Inbound { head, body };
    let seen = || seen(Some("shop"), "req-1");
    running.watch.tell(Some(&inbound), seen);
    let line = read_until(&mut saving, "}\n").await;
    // POST /
    assert!(line.contains("\"request\":\"UE9TVCAv"), "{line}");
    let line = read_until(&mut plain, "}\n").await;
    assert!(
        line.contains("req-1") && !line.contains("\"request\""),
        "{line}"
    );
}

/// They may hold credentials that work, and any account of the machine could ask.
#[tokio::test]
async fn without_a_token_nobody_is_shown_a_request() {
    let running = run(None);
    let answer = running
        .request("GET /api/v1/tail?requests=1 HTTP/1.1\r\nHookgate-Admin: 1")
        .await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("configure a token in [admin]"), "{answer}");
    assert!(!running.watch.is_saving());
}

#[tokio::test]
async fn a_stop_ends_tail_and_the_run() {
    let running = run(None);
    let mut tail = running.tail("").await;
    running.stop.cancel();
    assert_eq!(read_to_end(&mut tail).await, "0\r\n\r\n");
    running.task.await.unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn nothing_is_built_while_nobody_listens() {
    let running = run(None);
    running.watch.tell(None, || panic!("built for nobody"));
    let tail = running.tail("").await;
    running.tell(None, "req-1");
    drop(tail);
}

#[tokio::test(start_paused = true)]
async fn a_silent_operator_is_cut() {
    let running = run(None);
    let begin = tokio::time::Instant::now();
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET /livez HT").await.unwrap();
    read_to_end(&mut stream).await;
    assert!(begin.elapsed() >= HEADER_TIMEOUT);
}

#[tokio::test]
async fn a_name_that_a_browser_resolved_to_here_sees_nothing() {
    let ask = |path: &str, host: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nA: b");
    let running = run(None);
    running.journal.lock().unwrap().full = true;
    for host in [
        "evil.example",
        "localhost.evil.example:9090",
        "127.0.0.1.evil.example",
        "",
    ] {
        let answer = running.raw(&ask("/metrics", host)).await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{host}: {answer}");
        let answer = running.raw(&ask("/readyz", host)).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.ends_with("\r\n\r\nnot ready\n"), "{answer}");
    }
    for host in [
        "localhost",
        "LOCALHOST:9090",
        "127.0.0.1:9090",
        "[::1]:9090",
        "192.0.2.7",
    ] {
        let answer = running.raw(&ask("/metrics", host)).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
    }
}

#[tokio::test]
async fn with_a_token_only_its_owner_learns_why_it_is_not_ready() {
    let running = run(Some("s3cret"));
    running.journal.lock().unwrap().full = true;
    let not_ready = (503, "not ready\n".to_owned());
    assert_eq!(running.get("/readyz").await, not_ready);
    assert_eq!(running.get("/readyz?verbose").await, not_ready);
    let head = "GET /readyz HTTP/1.1\r\nAuthorization: Bearer s3cret";
    let answer = running.request(head).await;
    assert!(answer.contains("[-]journal full\n"), "{answer}");
}

#[tokio::test]
async fn an_event_is_replayed_only_by_someone_who_means_it() {
    let running = run(None);
    let ask = async |head: &str| {
        let answer = running.request(head).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
    };
    let path = "/api/v1/replay?position=3";
    assert_eq!(ask(&format!("GET {path} HTTP/1.1")).await.0, "405");
    // What a page in a browser could send.
    assert_eq!(ask(&format!("POST {path} HTTP/1.1")).await.0, "403");
    let meant = "HTTP/1.1\r\nHookgate-Admin: 1";
    assert_eq!(ask(&format!("POST /api/v1/replay {meant}")).await.0, "400");
    let (status, body) = ask(&format!("POST {path} {meant}")).await;
    assert_eq!(status, "409");
    assert!(body.contains("waits for the broker"), "{body}");
    let (status, body) = ask(&format!("POST {path}&set_aside {meant}")).await;
    assert_eq!(status, "404");
    assert!(body.contains("no event at position 3"), "{body}");
}
