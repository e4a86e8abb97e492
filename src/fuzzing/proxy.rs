//! PROXY headers, versions 1 and 2: whatever comes first on a connection of a load balancer.

use crate::edge::proxy_protocol::{Parsed, V2_BYTES_MAX, parse};

const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = [
        b"PROXY TCP4 192.0.2.1 198.51.100.7 4711 443\r\n".as_slice(),
        b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n",
        b"PROXY UNKNOWN\r\n",
        b"GET / HTTP/1.1\r\n",
    ]
    .map(<[u8]>::to_vec)
    .into();
    let inet = [192, 0, 2, 1, 198, 51, 100, 7, 0x12, 0x67, 1, 0xbb];
    // Version and command, family and transport, length: PROXY over TCP, LOCAL, one with more.
    for (fixed, rest) in [
        ([0x21, 0x11, 0, 12], inet.to_vec()),
        ([0x20, 0x00, 0, 0], Vec::new()),
        ([0x21, 0x21, 0, 36], vec![0; 36]),
        (
            [0x21, 0x11, 0, 16],
            [inet.as_slice(), &[4, 0, 1, 0]].concat(),
        ),
    ] {
        seeds.push([V2_SIGNATURE, &fixed, &rest].concat());
    }
    seeds
}

pub(super) fn run(data: &[u8]) {
    let parsed = parse(data);
    match parsed {
        Parsed::Header { bytes, .. } => {
            assert!(bytes <= data.len() && bytes <= V2_BYTES_MAX, "{parsed:?}");
            // What follows is not the header's and changes nothing in it.
            let header = data.get(..bytes).expect("it was read");
            assert_eq!(parse(header), parsed);
            for end in 0..bytes {
                let part = data.get(..end).expect("a part");
                assert_eq!(parse(part), Parsed::NeedMore, "{end}");
            }
        }
        Parsed::NeedMore => assert!(data.len() < V2_BYTES_MAX, "{} bytes", data.len()),
        Parsed::Bad(_) => {}
    }
}
