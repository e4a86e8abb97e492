use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2 with any content.
fn v2_header(version_and_command: u8, family_and_transport: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    let fixed = [version_and_command, family_and_transport];
    [V2, &fixed, &length, block].concat()
}

/// Version 2 as a load balancer writes it.
fn v2_of(source: SocketAddr, destination: SocketAddr, more: &[u8]) -> Vec<u8> {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let block = [
        &octets(source.ip()),
        &octets(destination.ip()),
        &source.port().to_be_bytes()[..],
        &destination.port().to_be_bytes(),
        more,
    ]
    .concat();
    let family = if source.is_ipv4() { 0x11 } else { 0x21 };
    v2_header(0x21, family, &block)
}

fn v1_of(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    let ports = (source.port(), destination.port());
    format!("PROXY {family} {from} {to} {} {}\r\n", ports.0, ports.1).into_bytes()
}

#[track_caller]
fn is_client(header: &[u8], client: &str) {
    let origin = Origin::Client(client.parse().unwrap());
    let bytes = header.len();
    assert_eq!(parse(header), Parsed::Header { origin, bytes });
}

#[track_caller]
fn is_nobody(header: &[u8]) {
    let (origin, bytes) = (Origin::Nobody, header.len());
    assert_eq!(parse(header), Parsed::Header { origin, bytes });
}

#[track_caller]
fn is_bad(header: &[u8]) {
    let shown = header.escape_ascii();
    assert!(matches!(parse(header), Parsed::Bad(_)), "{shown}");
}

#[test]
fn version_1() {
    is_client(
        b"PROXY TCP4 192.0.2.1 198.51.100.7 4711 443\r\n",
        "192.0.2.1:4711",
    );
    is_client(
        b"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n",
        "255.255.255.255:65535",
    );
    is_client(b"PROXY TCP6 2001:db8::1 ::1 0 443\r\n", "[2001:db8::1]:0");
    is_client(b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "192.0.2.1:1");
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let line = format!("PROXY TCP6 {longest} {longest} 65535 65535\r\n");
    is_client(line.as_bytes(), &format!("[{longest}]:65535"));
    is_nobody(b"PROXY UNKNOWN\r\n");
    is_nobody(b"PROXY UNKNOWN whatever \x01 \"stands\" here\r\n");
    let longest = format!("PROXY UNKNOWN {longest} {longest} 65535 65535\r\n");
    assert_eq!(longest.len(), V1_BYTES_MAX);
    is_nobody(longest.as_bytes());
}

#[test]
fn what_is_no_version_1() {
    let bad: [&[u8]; 30] = [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2\r\n",
        b"PROXY TCP4\r\n",
        b"PROXY \r\n",
        b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 2001:db8::1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 ::1 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 ::1 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        b"PROXY TCP6 [::1] ::1 1 2\r\n",
        b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 0x2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r ",
        b"PROXY TCP4 192.0.2.1\r192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 \xb2\r\n",
    ];
    for header in bad {
        is_bad(header);
    }
    // Not a byte more is waited for than the longest header has.
    let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
    assert_eq!(parse(&endless[..V1_BYTES_MAX - 1]), Parsed::NeedMore);
    is_bad(&endless[..V1_BYTES_MAX]);
    let ends_too_late = [&endless[..V1_BYTES_MAX - 1], b"\r\n"].concat();
    is_bad(&ends_too_late);
}

#[test]
fn version_2() {
    let to: SocketAddr = "198.51.100.7:443".parse().unwrap();
    is_client(
        &v2_of("192.0.2.1:4711".parse().unwrap(), to, b""),
        "192.0.2.1:4711",
    );
    let to6: SocketAddr = "[::1]:443".parse().unwrap();
    is_client(
        &v2_of("[2001:db8::1]:9".parse().unwrap(), to6, b""),
        "[2001:db8::1]:9",
    );
    is_client(
        &v2_of("[::ffff:192.0.2.1]:9".parse().unwrap(), to6, b""),
        "192.0.2.1:9",
    );
    // What comes after the addresses is passed over, sensible or not.
    let alpn = b"\x01\x00\x02h2\x20\x00\x05\x01\x00\x00\x00\x00";
    is_client(
        &v2_of("192.0.2.1:1".parse().unwrap(), to, alpn),
        "192.0.2.1:1",
    );
    is_client(
        &v2_of("192.0.2.1:1".parse().unwrap(), to, &[0xff; 7]),
        "192.0.2.1:1",
    );
    // The proxy itself: nothing else is looked at.
    is_nobody(&v2_header(0x20, 0x00, b""));
    is_nobody(&v2_header(0x20, 0x11, b"short"));
    is_nobody(&v2_header(0x20, 0xff, b""));
    // What has no address of this kind.
    is_nobody(&v2_header(0x21, 0x00, b""));
    is_nobody(&v2_header(0x21, 0x00, &[7; 30]));
    is_nobody(&v2_header(0x21, 0x10, &[7; INET_BYTES]));
    is_nobody(&v2_header(0x21, 0x12, &[7; INET_BYTES]));
    is_nobody(&v2_header(0x21, 0x22, &[7; INET6_BYTES]));
    is_nobody(&v2_header(0x21, 0x31, &[7; UNIX_BYTES]));
    let bomb = vec![4; V2_BYTES_MAX - V2_FIXED_BYTES];
    is_nobody(&v2_header(0x21, 0x00, &bomb));
}

#[test]
fn what_is_no_version_2() {
    let block = [0; UNIX_BYTES];
    for version in [0x00, 0x11, 0x31, 0xf1] {
        is_bad(&v2_header(version, 0x11, &block));
    }
    for command in [0x22, 0x2f] {
        is_bad(&v2_header(command, 0x11, &block));
    }
    for family_and_transport in [0x41, 0xf1, 0x13, 0x1f, 0x23] {
        is_bad(&v2_header(0x21, family_and_transport, &block));
    }
    for (family_and_transport, bytes) in
        [(0x11, INET_BYTES), (0x21, INET6_BYTES), (0x31, UNIX_BYTES)]
    {
        is_bad(&v2_header(0x21, family_and_transport, &block[..bytes - 1]));
        is_bad(&v2_header(0x21, family_and_transport, b""));
    }
    // Known by its length alone: none of it is waited for.
    let bomb = v2_header(0x21, 0x11, &[4; V2_BYTES_MAX - V2_FIXED_BYTES + 1]);
    is_bad(&bomb[..V2_FIXED_BYTES]);
    is_bad(&[V2, b"\x21\x11\xff\xff"].concat());
    // A signature with one wrong byte.
    for at in 0..V2.len() {
        let mut header = v2_header(0x20, 0, b"");
        header[at] ^= 1;
        is_bad(&header);
    }
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
    ]
}

/// A header as a load balancer writes it, and its client.
fn header() -> impl Strategy<Value = (Vec<u8>, SocketAddr)> {
    let ends = (address(), any::<u16>(), address(), any::<u16>());
    (ends, any::<bool>(), vec(any::<u8>(), 0..600)).prop_filter_map(
        "both addresses of one family",
        |((from, from_port, to, to_port), is_v1, more)| {
            let source = SocketAddr::new(from, from_port);
            let destination = SocketAddr::new(to, to_port);
            if source.is_ipv4() != destination.is_ipv4() {
                return None;
            }
            let header = if is_v1 {
                v1_of(source, destination)
            } else {
                v2_of(source, destination, &more)
            };
            Some((header, SocketAddr::new(from.to_canonical(), from_port)))
        },
    )
}

proptest! {
    /// However a header is cut into pieces, and whatever follows it.
    #[test]
    fn a_header_is_read_to_its_end_and_no_further(
        (header, client) in header(),
        rest in vec(any::<u8>(), 0..200),
    ) {
        let bytes = header.len();
        for end in 0..bytes {
            prop_assert_eq!(parse(&header[..end]), Parsed::NeedMore);
        }
        let whole = Parsed::Header { origin: Origin::Client(client), bytes };
        prop_assert_eq!(parse(&header), whole);
        prop_assert_eq!(parse(&[header, rest].concat()), whole);
    }

    /// What is decided does not change when more comes, and something is decided in time.
    #[test]
    fn any_bytes_are_decided_once(
        prefix in prop_oneof![Just(&b""[..]), Just(V2), Just(&b"PROXY "[..]), Just(&b"PROXY TCP6 "[..])],
        bytes in prop_oneof![vec(any::<u8>(), 0..300), vec(0u8..0x40, 0..300)],
    ) {
        let bytes = [prefix, &bytes].concat();
        let mut decided = Parsed::NeedMore;
        for end in 0..=bytes.len() {
            let parsed = parse(&bytes[..end]);
            if decided != Parsed::NeedMore {
                prop_assert_eq!(parsed, decided);
            }
            if let Parsed::Header { bytes, .. } = parsed {
                prop_assert!(bytes <= end);
            }
            decided = parsed;
        }
    }

    /// One byte of a header changed: it is another header of the same length, or none.
    #[test]
    fn a_changed_header_never_reaches_into_what_follows(
        (mut header, _) in header(),
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let whole = header.len();
        let at = at.index(whole);
        let is_length = header[0] == b'\r' && (14..16).contains(&at);
        header[at] = to;
        header.extend_from_slice(b"\x16\x03\x01 and what TLS says");
        if let Parsed::Header { bytes, .. } = parse(&header) {
            prop_assert!(is_length || bytes <= whole, "{bytes} of {whole}");
        }
    }
}

/// How a connection is read: nothing of what follows is lost.
mod reading {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::super::read::{ReadError, read};
    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        (ours.unwrap(), theirs.unwrap().0)
    }

    #[tokio::test]
    async fn in_one_piece_or_byte_by_byte_the_rest_stays() {
        let client: SocketAddr = "192.0.2.1:4711".parse().unwrap();
        let to: SocketAddr = "192.0.2.2:443".parse().unwrap();
        let headers = [v1_of(client, to), v2_of(client, to, &[9; 3_000])];
        for header in headers {
            for is_slow in [false, true] {
                let (mut proxy, mut ours) = pair().await;
                let all = [header.as_slice(), b"\x16\x03\x01"].concat();
                let writing = tokio::spawn(async move {
                    let piece = if is_slow { 1 } else { all.len() };
                    proxy.set_nodelay(true).unwrap();
                    for piece in all.chunks(piece) {
                        proxy.write_all(piece).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                    proxy
                });
                assert_eq!(read(&mut ours).await.unwrap(), Origin::Client(client));
                drop(writing.await.unwrap());
                let mut rest = Vec::new();
                ours.read_to_end(&mut rest).await.unwrap();
                assert_eq!(rest, b"\x16\x03\x01");
            }
        }
    }

    #[tokio::test]
    async fn an_end_or_something_else_is_said() {
        let (proxy, mut ours) = pair().await;
        drop(proxy);
        assert!(matches!(read(&mut ours).await, Err(ReadError::Ended)));
        let (mut proxy, mut ours) = pair().await;
        proxy.write_all(b"PROXY TCP4 192.").await.unwrap();
        drop(proxy);
        assert!(matches!(read(&mut ours).await, Err(ReadError::Ended)));
        let (mut proxy, mut ours) = pair().await;
        proxy.write_all(b"\x16\x03\x01\x02").await.unwrap();
        assert!(matches!(read(&mut ours).await, Err(ReadError::Bad(_))));
    }
}
