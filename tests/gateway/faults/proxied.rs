//! Who the client is, as told by proxies: believed from those that are trusted only.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::eventually::{PATIENCE, eventually};
use crate::support::figures::Row;
use crate::support::gateway::{Gateway, Setup, free_port};
use crate::support::sender::{Answer, Sender, Stream, Version};
use crate::support::webhook::Webhook;

/// The load balancer of these tests: trusted.
const PROXY: &str = "127.0.0.1";
/// Whom a proxy does not name.
const NOBODY: &str = "0.0.0.0";
/// Somebody on the same machine who is not.
const STRANGER: &str = "127.0.0.2";
/// Somebody who comes through a real proxy.
const CUSTOMER: &str = "127.0.0.3";

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\", \"2001:db8:ffff::/48\"]";

/// What a request is found out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// It came to the pipeline, from this client.
    From(&'static str),
    /// Its connection was closed, without a word of ours or with "bad request".
    Closed,
}
use Seen::{Closed, From};

struct Case {
    name: &'static str,
    peer: &'static str,
    /// What the connection begins with.
    header: Vec<u8>,
    /// Header lines of the request.
    lines: &'static str,
    seen: Seen,
}

fn case(
    name: &'static str,
    peer: &'static str,
    header: &[u8],
    lines: &'static str,
    seen: Seen,
) -> Case {
    Case {
        name,
        peer,
        header: header.to_vec(),
        lines,
        seen,
    }
}

/// Header lines from the trusted proxy, without the PROXY protocol.
fn says(name: &'static str, lines: &'static str, client: &'static str) -> Case {
    case(name, PROXY, b"", lines, From(client))
}

/// Version 2 with any content.
fn v2(version_and_command: u8, family_and_transport: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).expect("length").to_be_bytes();
    let fixed = [version_and_command, family_and_transport];
    [b"\r\n\r\n\0\r\nQUIT\n", &fixed[..], &length, block].concat()
}

fn v2_of(client: &str, more: &[u8]) -> Vec<u8> {
    match client.parse().expect("address") {
        IpAddr::V4(ip) => {
            let block = [
                &ip.octets()[..],
                &[198, 51, 100, 7],
                &[18, 103, 1, 187],
                more,
            ];
            v2(0x21, 0x11, &block.concat())
        }
        IpAddr::V6(ip) => {
            let block = [&ip.octets()[..], &[0; 16], &[18, 103, 1, 187], more];
            v2(0x21, 0x21, &block.concat())
        }
    }
}

fn v1_of(client: &str) -> Vec<u8> {
    let family = if client.contains(':') { "TCP6" } else { "TCP4" };
    let to = if client.contains(':') {
        "::1"
    } else {
        "198.51.100.7"
    };
    format!("PROXY {family} {client} {to} 4711 443\r\n").into_bytes()
}

async fn connect(peer: &str, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("socket");
    let local = SocketAddr::new(peer.parse().expect("address"), 0);
    socket.bind(local).expect("an address of loopback");
    let connecting = socket.connect(address);
    let connected = timeout(PATIENCE, connecting).await;
    connected.expect("in time").expect("connection")
}

/// A request that nobody has signed: it is turned away with 401, and the log says who sent it.
fn request(id: &str, lines: &str) -> Vec<u8> {
    format!(
        "POST /github HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: {id}\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\n{lines}\r\n{{}}"
    )
    .into_bytes()
}

/// The client of a request, by the log.
fn client_of(log: &str, id: &str) -> Option<String> {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let mut lines = lines.filter(|line: &serde_json::Value| {
        let fields = line.get("fields").unwrap_or(line);
        fields["request_id"] == id
    });
    let line = lines.next()?;
    let fields = line.get("fields").unwrap_or(&line);
    fields["client_ip"].as_str().map(str::to_owned)
}

/// Sends each case's request and compares what was seen.
async fn check(gateway: &Gateway, cases: &[Case]) {
    for (n, case) in cases.iter().enumerate() {
        let id = format!("case-{n}-{}", gateway.address().port());
        let mut stream = connect(case.peer, gateway.address()).await;
        let bytes = [case.header.as_slice(), &request(&id, case.lines)].concat();
        // It may be closed before all is written.
        drop(stream.write_all(&bytes).await);
        let mut stream: Box<dyn Stream> = Box::new(stream);
        let status = Answer::from_raw(&mut stream).await.map(|it| it.status);
        let seen = match status {
            Some(401) => client_of(&gateway.log(), &id),
            None | Some(400) => None,
            Some(other) => panic!("{}: answered {other}", case.name),
        };
        let expected = match case.seen {
            From(client) => Some(client.to_owned()),
            Closed => None,
        };
        assert_eq!(seen, expected, "{} ({status:?})", case.name);
    }
}

/// Without the PROXY protocol: what stands in header fields.
fn header_cases() -> Vec<Case> {
    let from_stranger =
        |name, header: &[u8], lines, seen| case(name, STRANGER, header, lines, seen);
    let address: Vec<u8> = v2_of("203.0.113.5", b"");
    vec![
        says("nothing", "", PROXY),
        says("one hop", "X-Forwarded-For: 203.0.113.5\r\n", "203.0.113.5"),
        says(
            "a spoofed hop left of it",
            "X-Forwarded-For: 10.0.0.1, 203.0.113.5\r\n",
            "203.0.113.5",
        ),
        says(
            "trusted hops are walked over",
            "X-Forwarded-For: 1.2.3.4, 203.0.113.5, 10.9.9.9\r\n",
            "203.0.113.5",
        ),
        says(
            "only trusted hops",
            "X-Forwarded-For: 10.1.1.1, 10.2.2.2\r\n",
            "10.1.1.1",
        ),
        says("IPv6", "X-Forwarded-For: 2001:db8::7\r\n", "2001:db8::7"),
        says(
            "IPv6 with a port",
            "X-Forwarded-For: [2001:db8::7]:443\r\n",
            "2001:db8::7",
        ),
        says(
            "IPv4 with a port",
            "X-Forwarded-For: 203.0.113.5:99\r\n",
            "203.0.113.5",
        ),
        says(
            "IPv4 written as IPv6",
            "X-Forwarded-For: ::ffff:203.0.113.5\r\n",
            "203.0.113.5",
        ),
        says(
            "no address",
            "X-Forwarded-For: 203.0.113.5, nobody\r\n",
            PROXY,
        ),
        says(
            "a list across lines",
            "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 203.0.113.5\r\n",
            "203.0.113.5",
        ),
        says(
            "trusted hops across lines",
            "X-Forwarded-For: 203.0.113.5\r\nX-Forwarded-For: 10.1.1.1\r\n",
            "203.0.113.5",
        ),
        says(
            "Forwarded",
            "Forwarded: for=203.0.113.5;proto=https\r\n",
            "203.0.113.5",
        ),
        says(
            "Forwarded, IPv6",
            "Forwarded: for=\"[2001:db8::7]:4711\"\r\n",
            "2001:db8::7",
        ),
        says(
            "Forwarded, obfuscated",
            "Forwarded: for=203.0.113.5, for=_hidden\r\n",
            PROXY,
        ),
        says("Forwarded, unknown", "Forwarded: for=unknown\r\n", PROXY),
        says(
            "Forwarded across lines",
            "Forwarded: for=1.2.3.4\r\nForwarded: for=203.0.113.5, for=10.1.1.1\r\n",
            "203.0.113.5",
        ),
        says(
            "Forwarded with a list in quotes",
            "Forwarded: host=\"a, for=1.2.3.4\";for=203.0.113.5\r\n",
            "203.0.113.5",
        ),
        says(
            "both and the same",
            "Forwarded: for=203.0.113.5\r\nX-Forwarded-For: 203.0.113.5\r\n",
            "203.0.113.5",
        ),
        says(
            "both, and they differ",
            "Forwarded: for=1.2.3.4\r\nX-Forwarded-For: 203.0.113.5\r\n",
            "0.0.0.0",
        ),
        from_stranger(
            "a stranger's X-Forwarded-For",
            b"",
            "X-Forwarded-For: 10.0.0.1\r\n",
            From(STRANGER),
        ),
        from_stranger(
            "a stranger's Forwarded",
            b"",
            "Forwarded: for=127.0.0.1\r\n",
            From(STRANGER),
        ),
        case(
            "version 1 on a listener without",
            PROXY,
            &v1_of("203.0.113.5"),
            "",
            Closed,
        ),
        case(
            "version 2 on a listener without",
            PROXY,
            &address,
            "",
            Closed,
        ),
        from_stranger("a stranger's PROXY header", &address, "", Closed),
    ]
}

/// With it.
fn proxy_cases() -> Vec<Case> {
    let told = |name, header: Vec<u8>, seen| case(name, PROXY, &header, "", seen);
    let spoof = "X-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\n";
    let twice = [v1_of("203.0.113.5"), v1_of("203.0.113.6")].concat();
    let tlv = [&[0x20, 1, 0][..], &[7; 256], &[4, 0, 3, 0, 0, 0]].concat();
    vec![
        told("1, IPv4", v1_of("203.0.113.5"), From("203.0.113.5")),
        told("1, IPv6", v1_of("2001:db8::7"), From("2001:db8::7")),
        told(
            "1, IPv4 written as IPv6",
            v1_of("::ffff:203.0.113.5"),
            From("203.0.113.5"),
        ),
        told("1, unknown", b"PROXY UNKNOWN\r\n".to_vec(), From(NOBODY)),
        told("2, IPv4", v2_of("203.0.113.5", b""), From("203.0.113.5")),
        told("2, IPv6", v2_of("2001:db8::7", b""), From("2001:db8::7")),
        told("2, the proxy itself", v2(0x20, 0, b""), From(NOBODY)),
        told(
            "2, a socket of the machine",
            v2(0x21, 0x31, &[7; 216]),
            From(NOBODY),
        ),
        told(
            "2, with more",
            v2_of("203.0.113.5", &tlv),
            From("203.0.113.5"),
        ),
        told(
            "2, with more than is taken",
            v2_of("203.0.113.5", &[4; 5_000]),
            Closed,
        ),
        told(
            "2, 64 KiB announced",
            [&v2(0x21, 0x11, b"")[..14], &[0xff, 0xff]].concat(),
            Closed,
        ),
        told(
            "2, too short for its addresses",
            v2(0x21, 0x11, &[1; 11]),
            Closed,
        ),
        told("2, another version", v2(0x31, 0x11, &[1; 12]), Closed),
        told(
            "1, a line that does not end",
            [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat(),
            Closed,
        ),
        told(
            "1, ends with LF alone",
            b"PROXY TCP4 203.0.113.5 192.0.2.1 1 2\n".to_vec(),
            Closed,
        ),
        told("none", Vec::new(), Closed),
        told("twice", twice, Closed),
        case(
            "spoofed behind 1",
            PROXY,
            &v1_of("203.0.113.5"),
            spoof,
            From("203.0.113.5"),
        ),
        case(
            "spoofed behind 2",
            PROXY,
            &v2_of("203.0.113.5", b""),
            spoof,
            From("203.0.113.5"),
        ),
        case(
            "spoofed behind nobody",
            PROXY,
            b"PROXY UNKNOWN\r\n",
            spoof,
            From(NOBODY),
        ),
        case(
            "spoofed behind the proxy itself",
            PROXY,
            &v2(0x20, 0, b""),
            spoof,
            From(NOBODY),
        ),
        case(
            "another trusted proxy behind it",
            PROXY,
            &v2_of("10.7.7.7", b""),
            "X-Forwarded-For: 1.2.3.4, 203.0.113.5\r\n",
            From("203.0.113.5"),
        ),
        case(
            "a stranger's header",
            STRANGER,
            &v1_of("203.0.113.5"),
            "",
            Closed,
        ),
        case(
            "a stranger's header, 2",
            STRANGER,
            &v2_of("10.0.0.1", b""),
            "",
            Closed,
        ),
        case("a stranger without", STRANGER, b"", spoof, From(STRANGER)),
    ]
}

#[tokio::test]
async fn who_the_client_is() {
    let headers = Setup::new().plain().server(TRUSTED).start().await;
    let cases = header_cases();
    check(&headers, &cases).await;
    let proxied = Setup::new()
        .plain()
        .server(TRUSTED)
        .server("proxy_protocol = \"v1v2\"")
        .limits("handshake_timeout = \"1s\"")
        .start()
        .await;
    let more = proxy_cases();
    check(&proxied, &more).await;

    // A header that stops half way is closed with the handshake's deadline, or with its connection.
    for end in [0, 1, 5, 12, 16, 20, 27] {
        let mut stream = connect(PROXY, proxied.address()).await;
        let header = v2_of("203.0.113.5", b"");
        stream.write_all(&header[..end]).await.expect("write");
        let mut rest = Vec::new();
        let closed = timeout(Duration::from_secs(5), stream.read_to_end(&mut rest));
        drop(closed.await.expect("closed in time"));
        assert!(rest.is_empty());
    }
    let metrics = proxied.metrics().await;
    let timeouts = metrics.sum("hookgate_proxy_headers_total", &[("result", "timeout")]);
    assert_eq!(timeouts, 7.0);
    Row::new("X10.cases")
        .saw("cases", cases.len() + more.len() + 7)
        .saw("spoofed", 0)
        .write();
}

#[tokio::test]
async fn connections_count_for_the_client_and_not_for_the_proxy() {
    let gateway = Setup::new()
        .plain()
        .server(TRUSTED)
        .server("proxy_protocol = \"v1v2\"")
        .limits("max_connections_per_peer = 2")
        .start()
        .await;
    let open = async |client: &str| {
        let mut stream = connect(PROXY, gateway.address()).await;
        let header = v2_of(client, b"");
        let request = request("count", "");
        drop(stream.write_all(&[header, request].concat()).await);
        let mut stream: Box<dyn Stream> = Box::new(stream);
        let answer = Answer::from_raw(&mut stream).await;
        (stream, answer.map(|answer| answer.status))
    };
    let mut kept = Vec::new();
    for client in [
        "203.0.113.5",
        "203.0.113.5",
        "203.0.113.6",
        "203.0.113.6",
        "203.0.113.7",
    ] {
        let (stream, status) = open(client).await;
        assert_eq!(status, Some(401), "{client}");
        kept.push(stream);
    }
    let (_, status) = open("203.0.113.5").await;
    assert_eq!(status, None);
    let refused = gateway.metrics().await;
    let refused = refused.sum("hookgate_connections_refused_total", &[("limit", "peer")]);
    assert_eq!(refused, 1.0);
    kept.remove(0);
    eventually("a place to be free", || async {
        let (stream, status) = open("203.0.113.5").await;
        drop(stream);
        status.map(|_| ()).ok_or_else(|| "still full".to_owned())
    })
    .await;
}

#[tokio::test]
async fn the_header_comes_before_tls_and_ends_where_tls_begins() {
    let gateway = Setup::new()
        .server(TRUSTED)
        .server("proxy_protocol = \"v1v2\"")
        .start()
        .await;
    let headers = [v1_of("203.0.113.5"), v2_of("203.0.113.5", &[4; 3_000])];
    for header in headers {
        for is_slow in [false, true] {
            let relay = Relay::start(gateway.address(), header.clone(), is_slow).await;
            let ca = gateway.directory().join("ca.pem");
            let sender = Sender::tls(relay.address, &ca);
            for version in [Version::Http1, Version::Http2] {
                let mut client = sender.connect(version).await.expect("connection");
                let id = format!("tls-{}-{is_slow}-{version:?}", header.len());
                let webhook = Webhook::bare("/github", b"{}").with("X-Request-Id", &id);
                let answer = client.send(&webhook).await.expect("answer");
                assert_eq!(answer.status, 401);
                assert_eq!(
                    client_of(&gateway.log(), &id).as_deref(),
                    Some("203.0.113.5")
                );
            }
        }
    }
    // Without a header, not even TLS is spoken.
    let refused = gateway.sender().stream(&[b"http/1.1"]).await;
    assert!(refused.is_err());
}

/// Passes connections on, with a header first: byte by byte, or in one write with what follows.
struct Relay {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Relay {
    async fn start(to: SocketAddr, header: Vec<u8>, is_slow: bool) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("listener");
        let address = listener.local_addr().expect("address");
        let task = tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.expect("accept");
                let mut far = connect(PROXY, to).await;
                far.set_nodelay(true).expect("nodelay");
                if is_slow {
                    for byte in &header {
                        far.write_all(&[*byte]).await.expect("write");
                    }
                } else {
                    let mut hello = vec![0; 4096];
                    let read = near.read(&mut hello).await.expect("a ClientHello");
                    let both = [header.as_slice(), &hello[..read]].concat();
                    far.write_all(&both).await.expect("write");
                }
                tokio::spawn(async move {
                    drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
                });
            }
        });
        Self { address, task }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === real proxies ===

/// A proxy that ends with the test.
struct Front {
    child: Child,
    _directory: TempDir,
}

impl Front {
    /// Starts `program` on a configuration file in a folder of its own, and waits for its ports.
    async fn start(
        program: &str,
        arguments: impl FnOnce(&Path) -> Vec<String>,
        configuration: &str,
        ports: &[u16],
    ) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let text = configuration.replace("DIRECTORY", &directory.path().display().to_string());
        std::fs::write(directory.path().join("conf"), text).expect("configuration");
        let log = std::fs::File::create(directory.path().join("log")).expect("log");
        let started = Command::new(program)
            .args(arguments(directory.path()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn();
        let child = started.unwrap_or_else(|error| {
            panic!("{program}: {error}; deploy/install-dependencies.sh test installs it")
        });
        let front = Self {
            child,
            _directory: directory,
        };
        for port in ports {
            eventually(program, || async {
                let said = || {
                    let log = front._directory.path().join("log");
                    std::fs::read_to_string(log).unwrap_or_default()
                };
                let reached = TcpStream::connect((PROXY, *port)).await;
                reached
                    .map(drop)
                    .map_err(|error| format!("{error} {}", said()))
            })
            .await;
        }
        front
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Sends through a proxy, as [`CUSTOMER`], and gives the client that the gateway saw.
async fn through(gateway: &Gateway, port: u16, tls: bool, lines: &str) -> String {
    let id = format!("through-{port}-{}", lines.len());
    let stream = connect(
        CUSTOMER,
        SocketAddr::new(PROXY.parse().expect("address"), port),
    )
    .await;
    let mut stream: Box<dyn Stream> = if tls {
        let ca = gateway.directory().join("ca.pem");
        let sender = Sender::tls(gateway.address(), &ca);
        sender.over(stream, &[b"http/1.1"]).await.expect("TLS")
    } else {
        Box::new(stream)
    };
    stream.write_all(&request(&id, lines)).await.expect("write");
    stream.flush().await.expect("flush");
    let answer = Answer::from_raw(&mut stream).await.expect("an answer");
    assert_eq!(answer.status, 401);
    client_of(&gateway.log(), &id).expect("a line in the log")
}

const SPOOFS: [&str; 3] = [
    "",
    "X-Forwarded-For: 10.0.0.1\r\n",
    "X-Forwarded-For: 1.2.3.4, 127.0.0.1\r\n",
];

#[tokio::test]
async fn behind_haproxy_and_nginx() {
    let proxied = "proxy_protocol = \"v1v2\"";
    let tls = Setup::new().server(TRUSTED).server(proxied).start().await;
    let plain = Setup::new().server(TRUSTED).plain().start().await;
    let [one, two, http, web] = [free_port(), free_port(), free_port(), free_port()];
    let haproxy = format!(
        "defaults\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
         listen one\n  mode tcp\n  bind {PROXY}:{one}\n  server g {tls} send-proxy check check-send-proxy inter 100\n\
         listen two\n  mode tcp\n  bind {PROXY}:{two}\n  server g {tls} send-proxy-v2 check check-send-proxy inter 100\n\
         listen http\n  mode http\n  option forwardfor\n  bind {PROXY}:{http}\n  server g {plain}\n",
        tls = tls.address(),
        plain = plain.address(),
    );
    let nginx = format!(
        "daemon off; master_process off; pid DIRECTORY/pid; error_log DIRECTORY/error;\n\
         events {{}}\n\
         http {{ access_log off;\n\
         client_body_temp_path DIRECTORY; proxy_temp_path DIRECTORY; fastcgi_temp_path DIRECTORY;\n\
         uwsgi_temp_path DIRECTORY; scgi_temp_path DIRECTORY;\n\
         server {{ listen {PROXY}:{web}; location / {{ proxy_pass http://{};\n\
         proxy_set_header X-Request-Id $http_x_request_id;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}\n",
        plain.address()
    );
    let conf = |folder: &Path| folder.join("conf").display().to_string();
    let haproxy_arguments = |folder: &Path| vec!["-db".into(), "-f".into(), conf(folder)];
    let nginx_arguments = |folder: &Path| vec!["-c".into(), conf(folder)];
    let _haproxy = Front::start(
        "/usr/sbin/haproxy",
        haproxy_arguments,
        &haproxy,
        &[one, two, http],
    )
    .await;
    let _nginx = Front::start("/usr/sbin/nginx", nginx_arguments, &nginx, &[web]).await;

    let mut seen = 0;
    for lines in SPOOFS {
        for (gateway, port, is_tls) in [
            (&tls, one, true),
            (&tls, two, true),
            (&plain, http, false),
            (&plain, web, false),
        ] {
            assert_eq!(
                through(gateway, port, is_tls, lines).await,
                CUSTOMER,
                "{port} {lines}"
            );
            seen += 1;
        }
    }
    // HAProxy's own looks whether we are there are answered, too.
    eventually("health checks", || async {
        let metrics = tls.metrics().await;
        let ok = metrics.sum("hookgate_proxy_headers_total", &[("result", "ok")]);
        if ok > 10.0 {
            Ok(())
        } else {
            Err(ok.to_string())
        }
    })
    .await;
    Row::new("X10.proxies")
        .saw("requests behind HAProxy and nginx", seen)
        .saw("spoofed", 0)
        .write();
}
