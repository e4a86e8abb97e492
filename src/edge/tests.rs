use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::config::Certificate;
use crate::edge::connection::HEAD_BYTES_MAX;
use crate::edge::testing::{
    ByHead, Length, Stuck, drain, get, h2_client, limits, read_to_end, read_until,
};
use crate::edge::tls::tests::{certificate, leaf, server, showing};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
/// Longer than anything here takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    identity: Option<Identity>,
    places: Places,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn run<H: Handler>(server: &Server, handler: H) -> Running {
    let metrics = Metrics::new([]);
    let edge = Edge::bind(server, Arc::clone(&metrics), watch::channel(()).1).unwrap();
    let address = edge.local_addrs()[0];
    let identity = edge.front.tls.clone();
    let places = edge.front.places.clone();
    let stop = CancellationToken::new();
    let task = tokio::spawn(edge.run_with(handler, stop.clone()));
    Running {
        address,
        metrics,
        identity,
        places,
        stop,
        task,
    }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn tls(&self, config: ClientConfig, name: &str) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, self.connect().await).await
    }

    /// A line of the metrics' page, as soon as it is there.
    async fn metric(&self, line: &str) {
        eventually(line, || {
            self.metrics.render().contains(&format!("{line}\n"))
        })
        .await;
    }

    async fn ended(self) {
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let came = timeout(PATIENCE, waiting).await;
    assert!(came.is_ok(), "waited in vain for {what}");
}

fn with_tls(certificates: Vec<Certificate>) -> Server {
    server(Some(showing(certificates)), limits())
}

fn client(
    trusted: &Certificate,
    alpn: &[&[u8]],
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(leaf(trusted).clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

// === protocols ===

#[tokio::test]
async fn plain_http1_when_tls_is_off() {
    let running = run(&server(None, limits()), Length);
    let mut client = running.connect().await;
    client.write_all(GET).await.unwrap();
    read_until(&mut client, "0 bytes").await;
    running.metric("hookgate_connections 1").await;
    drop(client);
    running.metric("hookgate_connections 0").await;
}

#[tokio::test]
async fn http1_over_both_versions_of_tls_with_and_without_alpn() {
    let shown = certificate(&["h.example"]);
    let config_of = |alpn: &[&[u8]], version| client(&shown, alpn, &[version]);
    let configs = [
        config_of(&[], &version::TLS12),
        config_of(&[], &version::TLS13),
        config_of(&[b"http/1.1"], &version::TLS12),
        config_of(&[b"http/1.1"], &version::TLS13),
    ];
    let count = configs.len();
    let running = run(&with_tls(vec![certificate_copy(&shown)]), Length);
    for config in configs {
        let mut stream = running.tls(config, "h.example").await.unwrap();
        stream.write_all(GET).await.unwrap();
        read_until(&mut stream, "0 bytes").await;
    }
    let line = format!("hookgate_tls_handshakes_total{{result=\"ok\"}} {count}");
    running.metric(&line).await;
}

fn certificate_copy(certificate: &Certificate) -> Certificate {
    Certificate {
        path: certificate.path.clone(),
        not_after: certificate.not_after,
        certified: Arc::clone(&certificate.certified),
    }
}

#[tokio::test]
async fn http2_by_alpn() {
    let shown = certificate(&["h.example"]);
    for version in [&version::TLS12, &version::TLS13] {
        let config = client(&shown, &[b"h2", b"http/1.1"], &[version]);
        let running = run(&with_tls(vec![certificate_copy(&shown)]), Length);
        let stream = running.tls(config, "h.example").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(tls::H2));
        let (mut sender, _connection) = h2_client(stream).await;
        let response = sender
            .send_request(get("https://h.example/"))
            .await
            .unwrap();
        assert_eq!(drain(response.into_body()).await.unwrap(), b"0 bytes");
    }
}

#[tokio::test]
async fn a_protocol_that_is_not_spoken_here_is_refused() {
    let shown = certificate(&["h.example"]);
    let config = client(&shown, &[b"spdy/3"], BOTH);
    let running = run(&with_tls(vec![certificate_copy(&shown)]), Length);
    assert!(running.tls(config, "h.example").await.is_err());
    running
        .metric("hookgate_tls_handshakes_total{result=\"failed\"} 1")
        .await;
}

#[tokio::test]
async fn http_on_a_tls_port_is_refused() {
    let running = run(&with_tls(vec![certificate(&["h.example"])]), Length);
    let mut client = running.connect().await;
    client.write_all(GET).await.unwrap();
    let answer = read_to_end(&mut client).await;
    assert!(!answer.contains("HTTP"), "{answer}");
    running
        .metric("hookgate_tls_handshakes_total{result=\"failed\"} 1")
        .await;
}

#[tokio::test]
async fn the_certificate_is_chosen_by_sni_and_can_be_replaced_while_serving() {
    let (one, two) = (certificate(&["one.example"]), certificate(&["two.example"]));
    let both = vec![certificate_copy(&one), certificate_copy(&two)];
    let running = run(&with_tls(both), Length);
    for (shown, name) in [(&one, "one.example"), (&two, "two.example")] {
        let stream = running.tls(client(shown, &[], BOTH), name).await.unwrap();
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        assert_eq!(chain, [leaf(shown).clone()]);
    }
    let new = certificate(&["one.example"]);
    let identity = running.identity.clone().unwrap();
    identity.replace(&[certificate_copy(&new)], None).unwrap();
    assert!(
        running
            .tls(client(&one, &[], BOTH), "one.example")
            .await
            .is_err()
    );
    running
        .tls(client(&new, &[], BOTH), "one.example")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_session_is_resumed_without_early_data() {
    let shown = certificate(&["h.example"]);
    let running = run(&with_tls(vec![certificate_copy(&shown)]), Length);
    let mut config = client(&shown, &[], BOTH);
    config.enable_early_data = true;
    for expected in [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed] {
        let mut stream = running.tls(config.clone(), "h.example").await.unwrap();
        stream.write_all(GET).await.unwrap();
        read_until(&mut stream, "0 bytes").await;
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected));
        assert!(!stream.get_ref().1.is_early_data_accepted());
    }
}

// === deadlines and limits ===

#[tokio::test]
async fn a_handshake_that_does_not_come_is_cut() {
    let short = Limits {
        handshake_timeout: Duration::from_millis(50),
        ..limits()
    };
    let tls = Some(showing(vec![certificate(&["h.example"])]));
    let running = run(&server(tls, short), Length);
    // Nothing; the header of a record; half a ClientHello.
    for sent in [
        &b""[..],
        b"\x16\x03\x01",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ] {
        let mut client = running.connect().await;
        client.write_all(sent).await.unwrap();
        let answer = timeout(PATIENCE, read_to_end(&mut client)).await.unwrap();
        assert_eq!(answer, "");
    }
    running
        .metric("hookgate_tls_handshakes_total{result=\"timeout\"} 3")
        .await;
    running.metric("hookgate_connections 0").await;
}

#[tokio::test]
async fn header_timeout_begins_after_the_handshake() {
    let short = Limits {
        header_timeout: Duration::from_millis(50),
        ..limits()
    };
    let shown = certificate(&["h.example"]);
    let tls = Some(showing(vec![certificate_copy(&shown)]));
    let running = run(&server(tls, short), Length);
    for alpn in [&b"http/1.1"[..], b"h2"] {
        let config = client(&shown, &[alpn], BOTH);
        let mut stream = running.tls(config, "h.example").await.unwrap();
        stream.write_all(b"P").await.unwrap();
        timeout(PATIENCE, read_to_end(&mut stream)).await.unwrap();
    }
    running.metric("hookgate_connections 0").await;
}

#[tokio::test]
async fn too_many_connections_are_closed_at_once_and_counted() {
    let few = Limits {
        connections_max: 2,
        ..limits()
    };
    let running = run(&server(None, few), Length);
    let mut open = [running.connect().await, running.connect().await];
    eventually("two places taken", || running.places.open() == 2).await;
    let mut refused = running.connect().await;
    assert_eq!(read_to_end(&mut refused).await, "");
    running
        .metric("hookgate_connections_refused_total{limit=\"total\"} 1")
        .await;
    for client in &mut open {
        client.write_all(GET).await.unwrap();
        read_until(client, "0 bytes").await;
    }
    drop(open);
    eventually("the places given back", || running.places.open() == 0).await;
    let mut client = running.connect().await;
    client.write_all(GET).await.unwrap();
    read_until(&mut client, "0 bytes").await;
}

#[tokio::test]
async fn too_many_connections_of_one_peer_are_closed_but_not_a_trusted_proxys() {
    let few = Limits {
        connections_per_peer_max: 1,
        ..limits()
    };
    let mut server = server(None, few);
    let running = run(&server, Length);
    let _first = running.connect().await;
    eventually("a place taken", || running.places.open() == 1).await;
    let mut refused = running.connect().await;
    assert_eq!(read_to_end(&mut refused).await, "");
    running
        .metric("hookgate_connections_refused_total{limit=\"peer\"} 1")
        .await;

    server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let running = run(&server, Length);
    let _first = running.connect().await;
    eventually("a place taken", || running.places.open() == 1).await;
    let mut second = running.connect().await;
    second.write_all(GET).await.unwrap();
    read_until(&mut second, "0 bytes").await;
}

#[tokio::test]
async fn an_answer_reaches_a_client_that_is_still_sending() {
    let refuse = |_head: &http::request::Parts| {
        let mut response = http::Response::new(http_body_util::Full::new("no".into()));
        let close = http::HeaderValue::from_static("close");
        response
            .headers_mut()
            .insert(http::header::CONNECTION, close);
        response
    };
    let shown = certificate(&["h.example"]);
    let running = run(&with_tls(vec![certificate_copy(&shown)]), ByHead(refuse));
    let stream = running
        .tls(client(&shown, &[], BOTH), "h.example")
        .await
        .unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let sending = tokio::spawn(async move {
        let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 600000\r\n\r\n";
        write.write_all(head).await?;
        write.write_all(&vec![b'x'; 600_000]).await?;
        write.shutdown().await
    });
    let answer = timeout(PATIENCE, read_to_end(&mut read)).await.unwrap();
    assert!(answer.ends_with("no"), "{answer}");
    sending.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_crowd_of_half_open_and_broken_connections_leaves_nothing_behind() {
    let short = Limits {
        handshake_timeout: Duration::from_millis(200),
        connections_max: 1000,
        connections_per_peer_max: 1000,
        ..limits()
    };
    let shown = certificate(&["h.example"]);
    let tls = Some(showing(vec![certificate_copy(&shown)]));
    let running = run(&server(tls, short), Length);
    let mut crowd = Vec::new();
    for index in 0..150usize {
        let mut client = running.connect().await;
        let garbage = [u8::try_from(index).unwrap(); 64];
        if index % 3 > 0 {
            client.write_all(&garbage[..index % 64]).await.unwrap();
        }
        if index % 3 == 2 {
            client.shutdown().await.unwrap();
        }
        crowd.push(client);
    }
    let mut good = running
        .tls(client(&shown, &[], BOTH), "h.example")
        .await
        .unwrap();
    good.write_all(GET).await.unwrap();
    read_until(&mut good, "0 bytes").await;
    eventually("only the good one left", || running.places.open() == 1).await;
    drop(crowd);
}

// === beginning and end ===

#[tokio::test]
async fn an_address_in_use_is_said_before_anything_is_served() {
    let first = Edge::bind(
        &server(None, limits()),
        Metrics::new([]),
        watch::channel(()).1,
    )
    .unwrap();
    let mut second = server(None, limits());
    second.listen = first.local_addrs();
    let error = Edge::bind(&second, Metrics::new([]), watch::channel(()).1).unwrap_err();
    let said = error.to_string();
    let expected = format!("cannot listen on {}: ", second.listen[0]);
    assert!(said.starts_with(&expected), "{said}");
}

#[tokio::test]
async fn a_stop_ends_listening_and_idle_connections_and_then_the_run() {
    let running = run(&server(None, limits()), Length);
    let mut client = running.connect().await;
    client.write_all(GET).await.unwrap();
    read_until(&mut client, "0 bytes").await;
    running.stop.cancel();
    assert_eq!(read_to_end(&mut client).await, "");
    let address = running.address;
    running.ended().await;
    assert!(TcpStream::connect(address).await.is_err());
}

/// Counts how many are at work, by dropping.
#[derive(Clone, Debug, Default)]
struct AtWork(Arc<AtomicUsize>);

impl Handler for AtWork {
    async fn handle(
        self,
        request: http::Request<watched::RequestBody>,
        peer: Peer,
    ) -> http::Response<http_body_util::Full<bytes::Bytes>> {
        use Ordering::SeqCst;
        self.0.fetch_add(1, SeqCst);
        Stuck.handle(request, peer).await
    }
}

#[tokio::test]
async fn a_run_that_is_dropped_cuts_what_is_left() {
    let handler = AtWork::default();
    let shown = certificate(&["h.example"]);
    let running = run(&with_tls(vec![certificate_copy(&shown)]), handler.clone());
    let mut one = running
        .tls(client(&shown, &[], BOTH), "h.example")
        .await
        .unwrap();
    one.write_all(GET).await.unwrap();
    let two = running
        .tls(client(&shown, &[b"h2"], BOTH), "h.example")
        .await
        .unwrap();
    let (mut sender, _connection) = h2_client(two).await;
    let two = tokio::spawn(sender.send_request(get("https://h.example/")));
    let at_work = || handler.0.load(Ordering::SeqCst);
    eventually("both at work", || at_work() == 2).await;
    running.stop.cancel();
    running.task.abort();
    timeout(PATIENCE, read_to_end(&mut one)).await.unwrap();
    assert!(timeout(PATIENCE, two).await.unwrap().unwrap().is_err());
    eventually("no place taken", || running.places.open() == 0).await;
    // Nobody holds the handler any more but this test.
    eventually("streams ended", || Arc::strong_count(&handler.0) == 1).await;
}

#[tokio::test]
async fn heads_at_the_limit_are_taken() {
    let running = run(&server(None, limits()), Length);
    let mut client = running.connect().await;
    let padding = "x".repeat(HEAD_BYTES_MAX - 100);
    let head = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {padding}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut client, "0 bytes").await;
}

// === defects ===

/// Panics in the loop that accepts, when it is told to.
struct Fragile(Arc<AtomicBool>);

impl Clone for Fragile {
    fn clone(&self) -> Self {
        let breaks = self.0.load(Ordering::SeqCst);
        assert!(!breaks, "as meant");
        Self(Arc::clone(&self.0))
    }
}

impl Handler for Fragile {
    async fn handle(
        self,
        _request: http::Request<watched::RequestBody>,
        _peer: Peer,
    ) -> http::Response<http_body_util::Full<bytes::Bytes>> {
        http::Response::default()
    }
}

#[tokio::test]
async fn an_address_that_nobody_serves_any_more_is_the_end_of_the_edge() {
    let mut server = server(None, limits());
    // The other one would go on alone, and connections are open on both.
    server.listen.push(server.listen[0]);
    let breaks = Arc::new(AtomicBool::new(false));
    let running = run(&server, Fragile(Arc::clone(&breaks)));
    let mut open = running.connect().await;
    open.write_all(GET).await.unwrap();
    read_until(&mut open, "200 OK").await;
    breaks.store(true, Ordering::SeqCst);
    let _last = running.connect().await;
    running.ended().await;
}
