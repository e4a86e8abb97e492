//! What the TLS side takes and refuses; certificates of clients; new certificates under load.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use crate::support::eventually::{PATIENCE, eventually};
use crate::support::figures::{Row, count, release};
use crate::support::gateway::{Gateway, Setup};

/// Longer than a busy machine takes for a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// Both versions.
const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

// === certificates ===

/// Somebody who signs.
type Authority = CertifiedIssuer<'static, KeyPair>;

/// A chain and its key, in PEM.
#[derive(Clone, Debug)]
struct Pair {
    chain: String,
    key: String,
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn authority(name: &str) -> Authority {
    let key = KeyPair::generate().expect("key");
    CertifiedIssuer::self_signed(authority_params(name), key).expect("authority")
}

/// A certificate of a server.
fn for_names(names: &[&str], issuer: &Authority) -> Pair {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let params = CertificateParams::new(names).expect("parameters");
    signed(&params, issuer)
}

/// A certificate of a client.
fn client_params(name: &str, serial: u64) -> CertificateParams {
    let mut params = named(name);
    params.serial_number = Some(SerialNumber::from(serial));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn signed(params: &CertificateParams, issuer: &Authority) -> Pair {
    let key = KeyPair::generate().expect("key");
    let certificate = params.signed_by(&key, issuer).expect("certificate");
    Pair {
        chain: certificate.pem(),
        key: key.serialize_pem(),
    }
}

/// What an authority has revoked, in a list that ends with a year.
fn revoked(issuer: &Authority, serials: &[SerialNumber], until: i32) -> String {
    let revoked = serials.iter().map(|serial| RevokedCertParams {
        serial_number: serial.clone(),
        revocation_time: date_time_ymd(2020, 1, 1),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(until, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = params.signed_by(issuer).expect("list");
    list.pem().expect("PEM")
}

/// The first certificate of a chain, as it is sent.
fn leaf(pair: &Pair) -> Vec<u8> {
    let leaf = CertificateDer::from_pem_slice(pair.chain.as_bytes()).expect("a certificate");
    leaf.to_vec()
}

// === clients ===

/// A client that believes one authority, and shows a certificate if it has one.
fn client(
    roots: &Authority,
    alpn: &[&[u8]],
    versions: &[&'static SupportedProtocolVersion],
    own: Option<&Pair>,
) -> Arc<ClientConfig> {
    let mut store = RootCertStore::empty();
    store.add(roots.der().clone()).expect("root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(store);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = CertificateDer::pem_slice_iter(pair.chain.as_bytes());
            let chain = chain.collect::<Result<_, _>>().expect("chain");
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("key");
            builder.with_client_auth_cert(chain, key).expect("client")
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // Each handshake is one.
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// What became of a client.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It was answered with this status, over the protocol that ALPN chose.
    Answered(u16, Option<String>),
    /// It was sent away; by rustls's name for the alert.
    Refused(String),
}

fn answered(alpn: Option<&str>) -> Fate {
    Fate::Answered(404, alpn.map(str::to_owned))
}

/// Connects, asks for a path that no source has, and reads what comes. `reshape` changes the
/// client's first flight.
async fn attempt(
    address: SocketAddr,
    config: Arc<ClientConfig>,
    name: &str,
    reshape: impl Fn(Vec<u8>) -> Vec<u8>,
) -> Fate {
    let trying = try_once(address, config, name, reshape);
    match timeout(PATIENCE, trying).await {
        Ok(Ok(fate)) => fate,
        Ok(Err(error)) => Fate::Refused(error.to_string()),
        Err(elapsed) => panic!("neither an answer nor an end: {elapsed}"),
    }
}

async fn try_once(
    address: SocketAddr,
    config: Arc<ClientConfig>,
    name: &str,
    reshape: impl Fn(Vec<u8>) -> Vec<u8>,
) -> std::io::Result<Fate> {
    let mut tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut tls = ClientConnection::new(config, name).expect("a client");
    let mut is_first = true;
    let mut has_asked = false;
    let mut said = Vec::new();
    loop {
        let mut flight = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut flight)?;
        }
        if is_first {
            flight = reshape(flight);
            is_first = false;
        }
        // A server that has had enough may have gone already, and has said why.
        let written = tcp.write_all(&flight).await;
        if !tls.is_handshaking() && !has_asked && written.is_ok() {
            has_asked = true;
            if tls.alpn_protocol() == Some(b"h2") {
                // The server's preface comes by itself.
                std::io::Write::write_all(
                    &mut tls.writer(),
                    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
                )?;
            } else {
                std::io::Write::write_all(
                    &mut tls.writer(),
                    b"POST /nobody HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                )?;
            }
            continue;
        }
        let mut bytes = vec![0; 16 * 1024];
        let read = tcp.read(&mut bytes).await?;
        let mut came = bytes.get(..read).unwrap_or_default();
        if came.is_empty() {
            return Ok(Fate::Refused("closed".to_owned()));
        }
        while !came.is_empty() {
            tls.read_tls(&mut came)?;
            match tls.process_new_packets() {
                Ok(state) => {
                    let mut plain = vec![0; state.plaintext_bytes_to_read()];
                    std::io::Read::read_exact(&mut tls.reader(), &mut plain)?;
                    said.extend_from_slice(&plain);
                }
                Err(error) => return Ok(Fate::Refused(error.to_string())),
            }
        }
        let alpn = tls
            .alpn_protocol()
            .map(|it| String::from_utf8_lossy(it).into_owned());
        if said.starts_with(b"HTTP/1.1 404") {
            return Ok(Fate::Answered(404, alpn));
        }
        // The SETTINGS that HTTP/2 begins with.
        if alpn.as_deref() == Some("h2") && said.get(3) == Some(&4) {
            return Ok(Fate::Answered(404, alpn));
        }
    }
}

/// As it is.
fn same(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// The same content in records of so many bytes.
fn in_records(bytes: &[u8], size: usize) -> Vec<u8> {
    let content = &bytes[5..];
    let mut records = Vec::new();
    for piece in content.chunks(size) {
        records.extend_from_slice(&bytes[..3]);
        let length = u16::try_from(piece.len()).expect("a record's length");
        records.extend_from_slice(&length.to_be_bytes());
        records.extend_from_slice(piece);
    }
    records
}

// === bytes by hand ===

/// A ClientHello for TLS 1.2, in which the server's certificate comes in the clear.
struct Hello {
    version: u16,
    ciphers: Vec<u16>,
    compressions: Vec<u8>,
    extensions: Vec<(u16, Vec<u8>)>,
}

const SERVER_NAME: u16 = 0;
const EARLY_DATA: u16 = 42;

impl Hello {
    fn new() -> Self {
        Self {
            version: 0x0303,
            // ECDHE, ECDSA, AES-128-GCM; and the word that renegotiation is safe.
            ciphers: vec![0xc02b, 0x00ff],
            compressions: vec![0],
            extensions: vec![
                (10, vec![0, 4, 0, 29, 0, 23]),
                (11, vec![1, 0]),
                (13, vec![0, 4, 4, 3, 8, 4]),
                // Extended master secret.
                (23, Vec::new()),
            ],
        }
    }

    fn version(mut self, version: u16) -> Self {
        self.version = version;
        self
    }

    fn ciphers(mut self, ciphers: &[u16]) -> Self {
        self.ciphers = ciphers.to_vec();
        self
    }

    fn compressions(mut self, compressions: &[u8]) -> Self {
        self.compressions = compressions.to_vec();
        self
    }

    fn with(mut self, extension: u16, content: Vec<u8>) -> Self {
        self.extensions.push((extension, content));
        self
    }

    fn name(self, name: &[u8]) -> Self {
        let length = u16::try_from(name.len()).expect("a name's length");
        let entry = [&[0][..], &length.to_be_bytes(), name].concat();
        let list = u16::try_from(entry.len()).expect("a list's length");
        self.with(SERVER_NAME, [&list.to_be_bytes()[..], &entry].concat())
    }

    /// For TLS 1.3, with a key that is as good as any.
    fn with_tls13(self) -> Self {
        let key = [&[0, 36, 0, 29, 0, 32][..], &[9; 32]].concat();
        let mut hello = self
            .with(43, vec![2, 3, 4])
            .with(45, vec![1, 1])
            .with(51, key);
        hello.ciphers.push(0x1301);
        hello
    }

    /// The handshake message.
    fn message(&self) -> Vec<u8> {
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend_from_slice(&[7; 32]);
        body.push(0);
        let ciphers: Vec<u8> = self
            .ciphers
            .iter()
            .flat_map(|it| it.to_be_bytes())
            .collect();
        body.extend(two(&ciphers));
        body.push(u8::try_from(self.compressions.len()).expect("length"));
        body.extend_from_slice(&self.compressions);
        let mut extensions = Vec::new();
        for (kind, content) in &self.extensions {
            extensions.extend_from_slice(&kind.to_be_bytes());
            extensions.extend(two(content));
        }
        if !extensions.is_empty() {
            body.extend(two(&extensions));
        }
        let length = u32::try_from(body.len()).expect("length").to_be_bytes();
        [&[1][..], &length[1..], &body].concat()
    }

    fn record(&self) -> Vec<u8> {
        [&[22, 3, 1][..], &two(&self.message())].concat()
    }
}

/// Bytes after their length in two bytes.
fn two(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("length").to_be_bytes();
    [&length[..], bytes].concat()
}

/// What a server does with bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reaction {
    /// Closed, with this alert or none.
    Alert(Option<u8>),
    /// Closed when the time for a handshake was over.
    Late,
    /// It goes on with the handshake and shows this certificate.
    Shows(&'static str),
}
use Reaction::{Alert, Late, Shows};

const HANDSHAKE_FAILURE: u8 = 40;
const ILLEGAL_PARAMETER: u8 = 47;
const ACCESS_DENIED: u8 = 49;
const DECODE_ERROR: u8 = 50;
const PROTOCOL_VERSION: u8 = 70;
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// Sends bytes and reads what comes until the server goes or shows one of `known`.
async fn react(address: SocketAddr, bytes: &[u8], known: &[(&'static str, Vec<u8>)]) -> Reaction {
    let mut tcp = TcpStream::connect(address).await.expect("connection");
    let start = Instant::now();
    // It may be closed before all is written.
    drop(tcp.write_all(bytes).await);
    let mut said = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let reading = timeout(PATIENCE, tcp.read(&mut chunk));
        let read = reading.await.expect("an answer or the end").unwrap_or(0);
        said.extend_from_slice(&chunk[..read]);
        let is_shown = |der: &[u8]| said.windows(der.len()).any(|window| window == der);
        if let Some((name, _)) = known.iter().find(|(_, der)| is_shown(der)) {
            return Shows(name);
        }
        if read == 0 {
            let is_late = said.is_empty() && start.elapsed() >= HANDSHAKE_TIMEOUT;
            return if is_late { Late } else { Alert(alert(&said)) };
        }
    }
}

/// The last alert in the clear among records.
fn alert(mut records: &[u8]) -> Option<u8> {
    let mut found = None;
    while let [kind, _, _, high, low, rest @ ..] = records {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (content, next) = rest.split_at_checked(length)?;
        if let (21, [_level, description]) = (kind, content) {
            found = Some(*description);
        }
        records = next;
    }
    found
}

// === the tests ===

/// A gateway with two certificates, and who signed them.
async fn two_certificates(more: &str) -> (Gateway, Authority, Pair, Pair) {
    let issuer = authority("issuer");
    let first = for_names(&["localhost", "first.example"], &issuer);
    let wild = for_names(&["*.wild.example"], &issuer);
    let gateway = Setup::new()
        .file("cert.pem", first.chain.as_bytes())
        .file("key.pem", first.key.as_bytes())
        .file("ca.pem", issuer.pem().as_bytes())
        .file("wild.pem", wild.chain.as_bytes())
        .file("wild.key", wild.key.as_bytes())
        .tls(&format!(
            "certificates = [{{ cert = \"wild.pem\", key = \"wild.key\" }}]\n{more}"
        ))
        .limits("handshake_timeout = \"3s\"")
        .start()
        .await;
    (gateway, issuer, first, wild)
}

#[tokio::test]
async fn handshakes_of_every_kind() {
    let (gateway, issuer, first, wild) = two_certificates("").await;
    let address = gateway.address();
    let mut cases = 0;

    // Clients in good order, and what ALPN makes of them.
    let h1: &[u8] = b"http/1.1";
    let alpn: [(&[&[u8]], Fate); 5] = [
        (&[], answered(None)),
        (&[h1], answered(Some("http/1.1"))),
        (&[b"h2"], answered(Some("h2"))),
        (&[h1, b"h2"], answered(Some("h2"))),
        (&[b"spdy/3", h1], answered(Some("http/1.1"))),
    ];
    for versions in [&BOTH[..1], &BOTH[1..]] {
        for (offered, expected) in &alpn {
            let config = client(&issuer, offered, versions, None);
            let fate = attempt(address, config, "localhost", same).await;
            assert_eq!(fate, *expected, "{offered:?}");
            cases += 1;
        }
    }
    // A hello in pieces: one byte per record, and one byte per write of three.
    for size in [1, 3, 100] {
        let config = client(&issuer, &[h1], BOTH, None);
        let fate = attempt(address, config, "localhost", |it| in_records(&it, size)).await;
        assert_eq!(fate, answered(Some("http/1.1")), "records of {size}");
        cases += 1;
    }

    // Bytes by hand.
    let known = [("first", leaf(&first)), ("wild", leaf(&wild))];
    let long = format!("{}.example", "a.".repeat(123) + "aa");
    assert_eq!(long.len(), 256);
    let long = &long.as_bytes()[1..];
    let hello = Hello::new;
    let record = |kind: u8, content: &[u8]| [&[kind, 3, 3][..], &two(content)].concat();
    let oversized = record(22, &vec![0; 16 * 1024 + 2048 + 1]);
    let lying = record(22, b"\x01\xff\xff\xff\x03\x03");
    let flood = [lying.clone(), record(22, &[0; 8 * 1024]).repeat(100)].concat();
    let early = [
        hello().with_tls13().with(EARLY_DATA, Vec::new()).record(),
        record(20, &[1]),
        record(23, &[0x5a; 300]),
    ];
    let raw: Vec<(&str, Vec<u8>, Reaction)> = vec![
        ("no name", hello().record(), Shows("first")),
        (
            "its name",
            hello().name(b"first.example").record(),
            Shows("first"),
        ),
        (
            "in capitals",
            hello().name(b"FIRST.example").record(),
            Shows("first"),
        ),
        (
            "by wildcard",
            hello().name(b"a.wild.example").record(),
            Shows("wild"),
        ),
        (
            "above the wildcard",
            hello().name(b"wild.example").record(),
            Shows("first"),
        ),
        (
            "below the wildcard",
            hello().name(b"a.b.wild.example").record(),
            Shows("first"),
        ),
        (
            "an unknown name",
            hello().name(b"unknown.example").record(),
            Shows("first"),
        ),
        (
            "an address for a name",
            hello().name(b"127.0.0.1").record(),
            Shows("first"),
        ),
        (
            "an IPv6 address for a name",
            hello().name(b"::1").record(),
            Shows("first"),
        ),
        (
            "255 bytes",
            hello().name(long).record(),
            Alert(Some(ILLEGAL_PARAMETER)),
        ),
        (
            "an empty name",
            hello().name(b"").record(),
            Alert(Some(DECODE_ERROR)),
        ),
        (
            "a name with NUL",
            hello().name(b"first\0.example").record(),
            Alert(Some(ILLEGAL_PARAMETER)),
        ),
        (
            "SSL 2",
            b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80".to_vec(),
            Alert(Some(DECODE_ERROR)),
        ),
        (
            "SSL 3",
            hello().version(0x0300).record(),
            Alert(Some(PROTOCOL_VERSION)),
        ),
        (
            "TLS 1.0",
            hello().version(0x0301).record(),
            Alert(Some(PROTOCOL_VERSION)),
        ),
        (
            "TLS 1.1",
            hello().version(0x0302).record(),
            Alert(Some(PROTOCOL_VERSION)),
        ),
        (
            "TLS 1.1 among versions",
            hello().with(43, vec![2, 3, 2]).record(),
            Alert(Some(PROTOCOL_VERSION)),
        ),
        (
            "RC4 and 3DES only",
            hello().ciphers(&[0x0005, 0x000a]).record(),
            Alert(Some(HANDSHAKE_FAILURE)),
        ),
        (
            "CBC only",
            hello().ciphers(&[0xc009, 0xc013, 0x002f]).record(),
            Alert(Some(HANDSHAKE_FAILURE)),
        ),
        (
            "without forward secrecy",
            hello().ciphers(&[0x009c]).record(),
            Alert(Some(HANDSHAKE_FAILURE)),
        ),
        (
            "compression only",
            hello().compressions(&[1]).record(),
            Alert(Some(ILLEGAL_PARAMETER)),
        ),
        (
            "compression offered",
            hello().compressions(&[1, 0]).record(),
            Shows("first"),
        ),
        (
            "an unknown protocol",
            hello().with(16, b"\x00\x07\x06spdy/3".to_vec()).record(),
            Alert(Some(NO_APPLICATION_PROTOCOL)),
        ),
        (
            "a protocol without a name",
            hello().with(16, b"\x00\x01\x00".to_vec()).record(),
            Alert(Some(DECODE_ERROR)),
        ),
        (
            "a record of more than 16 KiB",
            oversized,
            Alert(Some(DECODE_ERROR)),
        ),
        ("a hello of 16 MiB begun", flood, Alert(None)),
        ("a hello of 16 MiB announced", lying, Alert(None)),
        ("nothing", Vec::new(), Late),
        ("half a hello", hello().record()[..40].to_vec(), Late),
        ("early data", early.concat(), Alert(None)),
        (
            "two hellos",
            [hello().record(), hello().record()].concat(),
            Shows("first"),
        ),
        (
            "data before a handshake",
            record(23, b"GET / HTTP/1.1"),
            Alert(None),
        ),
        (
            "a record of no kind",
            record(99, b"x"),
            Alert(Some(DECODE_ERROR)),
        ),
        (
            "HTTP",
            b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
            Alert(Some(DECODE_ERROR)),
        ),
    ];
    let mut differ = String::new();
    for (name, bytes, expected) in &raw {
        let seen = react(address, bytes, &known).await;
        if seen != *expected {
            writeln!(differ, "{name}: {seen:?} instead of {expected:?}").expect("text");
        }
    }
    assert!(differ.is_empty(), "{differ}");
    cases += raw.len();

    // The same with names that nobody has refused.
    let (strict, ..) = two_certificates("unknown_name = \"refuse\"").await;
    for (name, bytes) in [
        ("no name", hello().record()),
        ("an unknown name", hello().name(b"unknown.example").record()),
        ("an address", hello().name(b"127.0.0.1").record()),
    ] {
        let seen = react(strict.address(), &bytes, &[]).await;
        assert_eq!(seen, Alert(Some(ACCESS_DENIED)), "{name}");
        cases += 1;
    }
    drop(strict);
    // Whatever they did, nobody who is in good order notices.
    let config = client(&issuer, &[h1], BOTH, None);
    let fate = attempt(address, config, "localhost", same).await;
    assert_eq!(fate, answered(Some("http/1.1")));
    Row::new("X13.handshakes").saw("cases", cases).write();
}

#[tokio::test]
async fn certificates_of_clients() {
    let (partners, others) = (authority("partners"), authority("others"));
    let server = for_names(&["localhost"], &partners);
    let mut past = client_params("past", 2);
    past.not_before = date_time_ymd(2020, 1, 1);
    past.not_after = date_time_ymd(2021, 1, 1);
    let middle_key = KeyPair::generate().expect("key");
    let middle = CertifiedIssuer::signed_by(authority_params("middle"), middle_key, &partners);
    let middle = middle.expect("an authority in between");
    let mut by_middle = signed(&client_params("by middle", 5), &middle);
    by_middle.chain.push_str(&middle.pem());
    let mut for_servers = client_params("server", 6);
    for_servers.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let right = signed(&client_params("right", 1), &partners);
    let gone = signed(&client_params("gone", 3), &partners);

    let gateway = Setup::new()
        .file("cert.pem", server.chain.as_bytes())
        .file("key.pem", server.key.as_bytes())
        .file("ca.pem", partners.pem().as_bytes())
        .file("ended.pem", revoked(&partners, &[], 2021).as_bytes())
        .file(
            "revoked.pem",
            revoked(&partners, &[3.into()], 2090).as_bytes(),
        )
        .file("middle.pem", revoked(&middle, &[], 2090).as_bytes())
        .tls(
            "client_ca = \"ca.pem\"\nclient_crl = [\"ended.pem\", \"revoked.pem\", \"middle.pem\"]",
        )
        .start()
        .await;
    let mut cases = 0;
    let mut check = async |name: &str, own: Option<&Pair>, is_let_in: bool| {
        for versions in [&BOTH[..1], &BOTH[1..]] {
            let config = client(&partners, &[b"http/1.1"], versions, own);
            let fate = attempt(gateway.address(), config, "localhost", same).await;
            let seen = fate == answered(Some("http/1.1"));
            assert_eq!(seen, is_let_in, "{name}: {fate:?}");
            cases += 1;
        }
    };
    check("none", None, true).await;
    check("right", Some(&right), true).await;
    check("by an authority in between", Some(&by_middle), true).await;
    check("expired", Some(&signed(&past, &partners)), false).await;
    check("revoked", Some(&gone), false).await;
    check(
        "of another authority",
        Some(&signed(&client_params("x", 1), &others)),
        false,
    )
    .await;
    check("for servers", Some(&signed(&for_servers, &partners)), false).await;
    let lonely = signed(&client_params("lonely", 5), &middle);
    check("without the one in between", Some(&lonely), false).await;

    // The log says who it was.
    let log = gateway.log();
    assert!(log.contains(r#""certificate":"CN=right""#), "{log}");
    assert!(log.contains(r#""certificate":"CN=by middle""#));

    // Revoked while serving: the next connection is refused, whatever was agreed before.
    let revoke = |serials: &[SerialNumber], until| {
        let list = revoked(&partners, serials, until);
        std::fs::write(gateway.directory().join("revoked.pem"), list).expect("list");
    };
    revoke(&[1.into(), 3.into()], 2090);
    reloads(&gateway, 1, 0, true).await;
    check("revoked while serving", Some(&right), false).await;
    check("still good", Some(&by_middle), true).await;
    // The authority in between loses its own certificate.
    let (_, read) = x509_parser::parse_x509_certificate(middle.der()).expect("certificate");
    revoke(&[read.raw_serial().to_vec().into()], 2090);
    reloads(&gateway, 2, 0, true).await;
    check("its authority revoked", Some(&by_middle), false).await;
    check("no longer revoked", Some(&right), true).await;
    // Nobody knows what an authority has revoked since its list ended.
    revoke(&[], 2021);
    reloads(&gateway, 3, 0, true).await;
    check("the list has ended", Some(&right), false).await;
    check("none, as before", None, true).await;
    Row::new("X13.clients").saw("cases", cases).write();
}

/// Waits until so many changes of files were taken and refused; asks for a look if `asks`.
async fn reloads(gateway: &Gateway, ok: u32, failed: u32, asks: bool) {
    if asks {
        gateway.hang_up();
    }
    eventually("the files to be read", || async {
        let metrics = gateway.metrics().await;
        let seen =
            |result| metrics.sum("hookgate_certificate_reloads_total", &[("result", result)]);
        let seen = (seen("ok"), seen("failed"));
        if seen == (f64::from(ok), f64::from(failed)) {
            Ok(())
        } else {
            Err(format!("{seen:?} instead of {ok} and {failed}"))
        }
    })
    .await;
}

/// Handshakes one after the other, until they are stopped; how many, and those that failed.
struct Shakers {
    stop: tokio::sync::watch::Sender<bool>,
    tasks: JoinSet<(u32, Vec<String>)>,
}

impl Shakers {
    /// `rate` per second in all.
    fn start(address: SocketAddr, config: &Arc<ClientConfig>, rate: u32) -> Self {
        const AT_ONCE: u32 = 5;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut tasks = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (config, stopped) = (Arc::clone(config), stopped.clone());
            tasks.spawn(async move {
                let mut ticks = interval(Duration::from_secs(1) * AT_ONCE / rate);
                let (mut done, mut failed) = (0, Vec::new());
                while !*stopped.borrow() {
                    ticks.tick().await;
                    done += 1;
                    match attempt(address, Arc::clone(&config), "localhost", same).await {
                        Fate::Answered(..) => {}
                        Fate::Refused(why) => failed.push(why),
                    }
                }
                (done, failed)
            });
        }
        Self { stop, tasks }
    }

    async fn stop(self) -> (u32, Vec<String>) {
        self.stop.send_replace(true);
        let mut all = (0, Vec::new());
        for (done, failed) in self.tasks.join_all().await {
            all.0 += done;
            all.1.extend(failed);
        }
        all
    }
}

#[tokio::test]
async fn new_certificates_under_load() {
    const RATE: u32 = 50;
    let issuer = authority("issuer");
    let [a, b, c] = ["a", "b", "c"].map(|name| for_names(&["localhost", name], &issuer));
    let gateway = Setup::new()
        .file("cert.pem", a.chain.as_bytes())
        .file("key.pem", a.key.as_bytes())
        .file("ca.pem", issuer.pem().as_bytes())
        .start()
        .await;
    let config = client(&issuer, &[b"http/1.1"], BOTH, None);
    let shakers = Shakers::start(gateway.address(), &config, RATE);
    let start = Instant::now();
    let put = |cert: &str, key: &str| {
        std::fs::write(gateway.directory().join("cert.pem"), cert).expect("certificate");
        std::fs::write(gateway.directory().join("key.pem"), key).expect("key");
    };
    let half = b.chain.split_at(b.chain.len() / 2).0;
    // Good, bad in some way, good, bad in another.
    let mut rounds = 0;
    let (mut ok, mut failed) = (0, 0);
    while ok + failed < count(200, 2_000) {
        let bad: [(&str, &str); 4] = [
            (half, &b.key),
            (&c.chain, &a.key),
            ("", &a.key),
            (&a.chain, "no key"),
        ];
        put(&b.chain, &b.key);
        ok += 1;
        reloads(&gateway, ok, failed, true).await;
        let (cert, key) = bad[rounds % bad.len()];
        put(cert, key);
        failed += 1;
        reloads(&gateway, ok, failed, true).await;
        let shown = react(
            gateway.address(),
            &Hello::new().record(),
            &[("b", leaf(&b))],
        )
        .await;
        assert_eq!(shown, Shows("b"));
        put(&c.chain, &c.key);
        ok += 1;
        reloads(&gateway, ok, failed, true).await;
        rounds += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    let (handshakes, wrong) = shakers.stop().await;
    assert_eq!(wrong, Vec::<String>::new());
    let rate = f64::from(handshakes) / seconds;
    assert!(rate > f64::from(RATE) / 2.0, "{handshakes} in {seconds} s");
    // One line for each that could not be used, and none for the others.
    let said = gateway.log();
    let said = said
        .lines()
        .filter(|line| line.contains("\"level\":\"ERROR\""));
    assert_eq!(said.count(), usize::try_from(failed).expect("a count"));
    Row::new("X13.reloads")
        .saw("changes", ok + failed)
        .saw("of them bad", failed)
        .saw("handshakes", handshakes)
        .saw("per second", format!("{rate:.0}"))
        .saw("failed", wrong.len())
        .write();
}

/// Without a signal, as certificates are renewed: by Kubernetes, which renames a link above them.
#[tokio::test]
async fn new_certificates_are_noticed() {
    let issuer = authority("issuer");
    let [a, b] = ["a", "b"].map(|name| for_names(&["localhost", name], &issuer));
    let link = |folder: &Path, to: &str, name: &str| {
        let temporary = folder.join("temporary");
        std::os::unix::fs::symlink(to, &temporary).expect("link");
        std::fs::rename(temporary, folder.join(name)).expect("rename");
    };
    let mut gateway = Setup::new()
        .file("..1/cert.pem", a.chain.as_bytes())
        .file("..1/key.pem", a.key.as_bytes())
        .file("..2/cert.pem", b.chain.as_bytes())
        .file("..2/key.pem", b.key.as_bytes())
        .prepare();
    let folder = gateway.directory().to_owned();
    link(&folder, "..1", "..data");
    link(&folder, "..data/cert.pem", "cert.pem");
    link(&folder, "..data/key.pem", "key.pem");
    std::fs::write(folder.join("ca.pem"), issuer.pem()).expect("authority");
    gateway.start().await;
    let known = [("a", leaf(&a)), ("b", leaf(&b))];
    let hello = Hello::new().name(b"localhost").record();
    let shown = || react(gateway.address(), &hello, &known);
    assert_eq!(shown().await, Shows("a"));
    link(&folder, "..2", "..data");
    let start = Instant::now();
    reloads(&gateway, 1, 0, false).await;
    let took = start.elapsed();
    assert_eq!(shown().await, Shows("b"));
    let ends = "hookgate_certificate_not_after_timestamp_seconds";
    assert!(gateway.metrics().await.sum(ends, &[]) > 0.0);
    Row::new("X13.noticed")
        .saw("after", format!("{:.1} s", took.as_secs_f64()))
        .write();
}

#[tokio::test]
async fn half_handshakes_leave_nothing_behind() {
    let issuer = authority("issuer");
    let server = for_names(&["localhost"], &issuer);
    let crowd = count(1_000, 10_000);
    let gateway = Setup::new()
        .file("cert.pem", server.chain.as_bytes())
        .file("key.pem", server.key.as_bytes())
        .file("ca.pem", issuer.pem().as_bytes())
        .limits(
            "max_connections = 12000\nmax_connections_per_peer = 12000\n\
             handshake_timeout = \"3s\"",
        )
        .start()
        .await;
    let config = client(&issuer, &[b"http/1.1"], BOTH, None);
    let hellos = [
        Vec::new(),
        b"\x16\x03\x01\x02".to_vec(),
        Hello::new().record(),
        Hello::new().with_tls13().record(),
    ];
    let mut held = Vec::new();
    for n in 0..usize::try_from(crowd).expect("a count") {
        let mut tcp = TcpStream::connect(gateway.address())
            .await
            .expect("connection");
        tcp.write_all(&hellos[n % hellos.len()])
            .await
            .expect("write");
        held.push(tcp);
    }
    // Meanwhile the good are served at once.
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let start = Instant::now();
        let fate = attempt(gateway.address(), Arc::clone(&config), "localhost", same).await;
        assert_eq!(fate, answered(Some("http/1.1")));
        slowest = slowest.max(start.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let start = Instant::now();
    eventually("all to be gone", || async {
        match gateway.metrics().await.sum("hookgate_connections", &[]) {
            0.0 => Ok(()),
            n => Err(format!("{n} connections")),
        }
    })
    .await;
    assert!(
        start.elapsed() < Duration::from_secs(3 + 2),
        "{:?}",
        start.elapsed()
    );
    drop(held);
    Row::new("X13.half")
        .saw("half handshakes", crowd)
        .saw(
            "slowest good one meanwhile",
            format!("{} ms", slowest.as_millis()),
        )
        .saw("left", 0)
        .write();
}

/// Runs a scanner; gives what it said.
async fn scan(program: &str, arguments: &[&str]) -> String {
    let running = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match timeout(Duration::from_secs(600), running).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            panic!("{program}: {error}; deploy/install-dependencies.sh test installs it")
        }
        Err(elapsed) => panic!("{program} does not end: {elapsed}"),
    };
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn scanners_find_nothing() {
    let gateway = Setup::new().start().await;
    let target = gateway.address().to_string();
    let said = scan("sslscan", &["--no-colour", &target]).await;
    for line in [
        "SSLv2     disabled",
        "SSLv3     disabled",
        "TLSv1.0   disabled",
        "TLSv1.1   disabled",
        "TLSv1.2   enabled",
        "TLSv1.3   enabled",
        "Session renegotiation not supported",
        "TLSv1.3 not vulnerable to heartbleed",
        "TLSv1.2 not vulnerable to heartbleed",
    ] {
        assert!(said.contains(line), "no \"{line}\" in:\n{said}");
    }
    let ciphers = said.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let is_cipher = matches!(words.next(), Some("Preferred" | "Accepted"));
        is_cipher.then(|| words.nth(3).expect("a cipher").to_owned())
    });
    let mut ciphers: Vec<String> = ciphers.collect();
    ciphers.sort();
    let expected = [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
    ];
    assert_eq!(ciphers, expected, "{said}");
    let row = Row::new("X13.scan").saw("sslscan: ciphers", ciphers.len());
    if !release() {
        row.write();
        return;
    }
    let file = gateway.directory().join("testssl.json");
    let json = file.to_str().expect("path");
    let arguments = [
        "--quiet",
        "--warnings",
        "off",
        "--severity",
        "MEDIUM",
        "--jsonfile",
        json,
        &target,
    ];
    let said = scan("testssl", &arguments).await;
    let findings = std::fs::read(&file).unwrap_or_else(|error| panic!("{error}:\n{said}"));
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&findings).expect("findings");
    let ours = findings.iter().filter(|finding| {
        let id = finding["id"].as_str().unwrap_or_default();
        // The certificate is of nobody's authority; and what the scanner cannot do is no finding.
        !id.starts_with("cert") && finding["severity"] != "WARN"
    });
    let ours: Vec<_> = ours.collect();
    assert!(ours.is_empty(), "{ours:#?}");
    row.saw("testssl: findings of MEDIUM or more", ours.len())
        .write();
}
