//! Who sent it, when proxies stand between.
//!
//! A client may write whatever it likes into `Forwarded` and `X-Forwarded-For`; each proxy adds
//! its own peer at the right end. So hops are read from the right, for as long as the hop that
//! told us is one of `trusted_proxies`, and the first address that is not trusted is the client.
//! What stands left of it is hearsay.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};
use ipnet::IpNet;

/// An address that nobody has.
pub(crate) const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's address: the socket's, or what trusted proxies say.
///
/// When both header fields are there and disagree, one of them was not written by the proxy, and
/// nobody can tell which: then neither is believed, and the client has no address. It is not the
/// proxy's, which `allow_ips` may hold: then whoever adds a `Forwarded` of their own would be
/// allowed.
pub fn client_ip(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let peer = peer.to_canonical();
    if !is_trusted(peer, trusted) {
        return peer;
    }
    let standard = joined(headers, &FORWARDED)
        .map(|value| first_untrusted(peer, forwarded_hops(&value), trusted));
    let customary = joined(headers, &X_FORWARDED_FOR)
        .map(|value| first_untrusted(peer, x_forwarded_for_hops(&value), trusted));
    match (standard, customary) {
        (None, None) => peer,
        (Some(client), None) | (None, Some(client)) => client,
        (Some(one), Some(other)) if one == other => one,
        (Some(_), Some(_)) => NOBODY,
    }
}

/// Whether an address is one of `trusted_proxies`.
pub fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|network| network.contains(&address))
}

/// Several fields of one name are one list, in order (RFC 9110, section 5.3). A field that is not
/// text is kept as an unreadable hop, so that it cannot hide what stands right of it.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut list: Option<String> = None;
    for value in headers.get_all(name) {
        let value = value.to_str().unwrap_or("unknown");
        match &mut list {
            None => list = Some(value.to_owned()),
            Some(list) => {
                list.push(',');
                list.push_str(value);
            }
        }
    }
    list
}

/// Walks hops from the right. `None` is a hop that hides its address or makes no sense; then the
/// last proxy that is known stands for the client.
fn first_untrusted(
    peer: IpAddr,
    hops_from_right: impl Iterator<Item = Option<IpAddr>>,
    trusted: &[IpNet],
) -> IpAddr {
    let mut known = peer;
    for hop in hops_from_right {
        let Some(address) = hop else {
            return known;
        };
        known = address;
        if !is_trusted(address, trusted) {
            return known;
        }
    }
    known
}

fn x_forwarded_for_hops(value: &str) -> impl Iterator<Item = Option<IpAddr>> {
    value.rsplit(',').map(|hop| address(hop.trim()))
}

/// `Forwarded: for=192.0.2.60;proto=https, for="[2001:db8::1]:4711"` (RFC 7239, section 4).
fn forwarded_hops(value: &str) -> impl Iterator<Item = Option<IpAddr>> {
    // A quote that is never closed makes the whole list unreadable.
    let elements = split_unquoted(value, ',').unwrap_or_else(|| vec![""]);
    elements.into_iter().rev().map(for_node)
}

/// The address in an element's `for`, if it is there once.
fn for_node(element: &str) -> Option<IpAddr> {
    let mut node = None;
    for pair in split_unquoted(element, ';')? {
        let Some((name, value)) = pair.split_once('=') else {
            continue;
        };
        if name.trim().eq_ignore_ascii_case("for") {
            if node.is_some() {
                return None;
            }
            node = Some(value.trim());
        }
    }
    let node = node?;
    let bare = node
        .strip_prefix('"')
        .and_then(|node| node.strip_suffix('"'))
        .unwrap_or(node);
    address(bare)
}

/// Splits at a separator that does not stand in a quoted string. `None` when a quote stays open.
fn split_unquoted(text: &str, separator: char) -> Option<Vec<&str>> {
    let mut quoted = false;
    let mut escaped = false;
    let parts = text.split(|c: char| {
        let escapes = quoted && !escaped && c == '\\';
        if c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = escapes;
        c == separator && !quoted
    });
    let parts = parts.collect();
    (!quoted).then_some(parts)
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(hop: &str) -> Option<IpAddr> {
    let bare = hop
        .strip_prefix('[')
        .and_then(|hop| hop.strip_suffix(']'))
        .unwrap_or(hop);
    bare.parse()
        .ok()
        .or_else(|| hop.parse().ok().map(|hop: SocketAddr| hop.ip()))
        .map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests;
