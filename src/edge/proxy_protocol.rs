//! The PROXY protocol, versions 1 and 2: who a load balancer speaks for, before TLS begins.
//!
//! Pure: bytes go in, and out comes the header with its length, or that more is needed, or that
//! this is none. The rules are those of HAProxy's `proxy-protocol.txt`. Where that leaves a choice,
//! this is strict: what has two readings is no header.
//!
//! ```text
//! 1: PROXY TCP4 192.0.2.1 198.51.100.7 4711 443 CR LF         also TCP6, UNKNOWN
//! 2: 0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A | 2 and command | family and transport | length, 16 bits
//!    | source address | destination address | source port | destination port | more, passed over
//! ```

pub(crate) mod read;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header of version 1, with its end of line. It is what the longest addresses need.
const V1_BYTES_MAX: usize = 107;
/// Longest header of version 2. It could say 64 KiB; what load balancers add (names, TLS details,
/// identifiers) is some hundred bytes.
pub const V2_BYTES_MAX: usize = 4096;

const V1_PREFIX: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const V2_FIXED_BYTES: usize = 16;

/// Two addresses and two ports.
const INET_BYTES: usize = 4 + 4 + 2 + 2;
const INET6_BYTES: usize = 16 + 16 + 2 + 2;
/// Two paths.
const UNIX_BYTES: usize = 108 + 108;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A whole header.
    Header {
        /// Who it is about.
        origin: Origin,
        /// Its length; what follows is not the header's.
        bytes: usize,
    },
    /// The beginning of one: every byte so far belongs to it.
    NeedMore,
    /// No header, and why.
    Bad(&'static str),
}

/// Who is at the other end of a connection that a proxy made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This client.
    Client(SocketAddr),
    /// The proxy itself, which looks whether we are there; or somebody it cannot name.
    Nobody,
}

/// Reads a header at the beginning of `bytes`.
pub fn parse(bytes: &[u8]) -> Parsed {
    let parsed = if begins_alike(bytes, V2_SIGNATURE) {
        v2(bytes)
    } else if begins_alike(bytes, V1_PREFIX) {
        v1(bytes)
    } else {
        Err("it does not begin with a PROXY header")
    };
    match parsed {
        Ok(Some((origin, bytes))) => Parsed::Header { origin, bytes },
        Ok(None) => Parsed::NeedMore,
        Err(why) => Parsed::Bad(why),
    }
}

/// Whether one is how the other begins.
fn begins_alike(bytes: &[u8], expected: &[u8]) -> bool {
    bytes.iter().zip(expected).all(|(is, should)| is == should)
}

/// A header with its length; `None`: it is not whole yet.
type Found = Result<Option<(Origin, usize)>, &'static str>;

// === version 1 ===

fn v1(bytes: &[u8]) -> Found {
    let line = bytes.get(..V1_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = line.iter().position(|&byte| matches!(byte, b'\r' | b'\n')) else {
        if line.len() == V1_BYTES_MAX {
            return Err("its line does not end");
        }
        return Ok(None);
    };
    let (line, rest) = line.split_at(end);
    match rest {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if bytes.len() < V1_BYTES_MAX => return Ok(None),
        _ => return Err("its line does not end with CR and LF"),
    }
    let line = std::str::from_utf8(line)
        .ok()
        .filter(|line| line.is_ascii());
    let line = line.ok_or("its line is not ASCII")?;
    Ok(Some((v1_origin(line)?, end + 2)))
}

fn v1_origin(line: &str) -> Result<Origin, &'static str> {
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap_or_default();
    if word() != "PROXY" {
        return Err("it does not begin with a PROXY header");
    }
    let family = word();
    if family == "UNKNOWN" {
        // Whatever else stands in the line is not to be looked at.
        return Ok(Origin::Nobody);
    }
    let (source, destination) = (word(), word());
    let (source_port, destination_port) = (word(), word());
    if words.next().is_some() {
        return Err("there is more in its line than addresses and ports");
    }
    let address: fn(&str) -> Option<IpAddr> = match family {
        "TCP4" => |text| text.parse().ok().map(IpAddr::V4),
        "TCP6" => |text| text.parse().ok().map(IpAddr::V6),
        _ => return Err("it names neither TCP4 nor TCP6 nor UNKNOWN"),
    };
    let (Some(source), Some(_)) = (address(source), address(destination)) else {
        return Err("it has no two addresses of its family");
    };
    let (Some(source_port), Some(_)) = (port(source_port), port(destination_port)) else {
        return Err("it has no two ports");
    };
    Ok(client(source, source_port))
}

/// Decimal, without a sign or leading zeros.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_short = text == "0" || !text.starts_with('0');
    text.parse().ok().filter(|_| is_plain && is_short)
}

// === version 2 ===

fn v2(bytes: &[u8]) -> Found {
    let Some((fixed, rest)) = bytes.split_at_checked(V2_FIXED_BYTES) else {
        return Ok(None);
    };
    let &[.., version_and_command, family_and_transport, high, low] = fixed else {
        return Ok(None);
    };
    if version_and_command >> 4 != 2 {
        return Err("its version is neither 1 nor 2");
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    let end = V2_FIXED_BYTES + length;
    if end > V2_BYTES_MAX {
        return Err("it is longer than 4096 bytes");
    }
    let origin = match version_and_command & 0x0f {
        // The proxy's own connection: what it says of addresses is not to be looked at.
        0 => None,
        1 => Some(kind(family_and_transport, length)?),
        _ => return Err("its command is neither LOCAL nor PROXY"),
    };
    let Some(block) = rest.get(..length) else {
        return Ok(None);
    };
    let origin = match origin {
        Some(Kind::Inet) => inet(block),
        Some(Kind::Inet6) => inet6(block),
        Some(Kind::Other) | None => Some(Origin::Nobody),
    };
    // The length was checked with the kind.
    let origin = origin.ok_or("it is too short for its addresses")?;
    Ok(Some((origin, end)))
}

#[derive(Clone, Copy)]
enum Kind {
    Inet,
    Inet6,
    /// A socket of the machine, datagrams, or something that the proxy does not know.
    Other,
}

/// What kind of addresses there are, if there is room for them.
fn kind(family_and_transport: u8, length: usize) -> Result<Kind, &'static str> {
    let transport = family_and_transport & 0x0f;
    if transport > 2 {
        return Err("its transport is not known");
    }
    let is_stream = transport == 1;
    let (kind, bytes) = match family_and_transport >> 4 {
        0 => (Kind::Other, 0),
        1 => (Kind::Inet, INET_BYTES),
        2 => (Kind::Inet6, INET6_BYTES),
        3 => (Kind::Other, UNIX_BYTES),
        _ => return Err("its family is not known"),
    };
    if length < bytes {
        return Err("it is too short for its addresses");
    }
    // A datagram has no connection that could have been passed on.
    Ok(if is_stream { kind } else { Kind::Other })
}

fn inet(block: &[u8]) -> Option<Origin> {
    let (source, rest) = block.split_first_chunk::<4>()?;
    let (_destination, rest) = rest.split_first_chunk::<4>()?;
    let (port, _) = rest.split_first_chunk::<2>()?;
    let source = IpAddr::V4(Ipv4Addr::from(*source));
    Some(client(source, u16::from_be_bytes(*port)))
}

fn inet6(block: &[u8]) -> Option<Origin> {
    let (source, rest) = block.split_first_chunk::<16>()?;
    let (_destination, rest) = rest.split_first_chunk::<16>()?;
    let (port, _) = rest.split_first_chunk::<2>()?;
    let source = IpAddr::V6(Ipv6Addr::from(*source));
    Some(client(source, u16::from_be_bytes(*port)))
}

/// An IPv4 client is one in either way of writing it.
fn client(source: IpAddr, port: u16) -> Origin {
    Origin::Client(SocketAddr::new(source.to_canonical(), port))
}

#[cfg(test)]
mod tests;
