use http::HeaderValue;

use super::*;

/// The load balancer and the network that it stands in.
const TRUSTED: [&str; 3] = ["10.0.0.0/8", "192.0.2.1/32", "2001:db8:ffff::/48"];
/// The peer of every case that is about headers: trusted.
const PEER: &str = "10.0.0.9";

#[track_caller]
fn check(peer: &str, fields: &[(&'static str, &str)], expected: &str) {
    let trusted: Vec<IpNet> = TRUSTED.iter().map(|net| net.parse().unwrap()).collect();
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let said = client_ip(peer.parse().unwrap(), &headers, &trusted);
    assert_eq!(said, expected.parse::<IpAddr>().unwrap(), "{fields:?}");
}

#[test]
fn a_peer_that_is_not_trusted_is_the_client_whatever_it_says() {
    check("203.0.113.5", &[], "203.0.113.5");
    check(
        "203.0.113.5",
        &[("x-forwarded-for", "1.2.3.4")],
        "203.0.113.5",
    );
    check(
        "203.0.113.5",
        &[("forwarded", "for=1.2.3.4")],
        "203.0.113.5",
    );
    check(
        "::ffff:203.0.113.5",
        &[("forwarded", "for=1.2.3.4")],
        "203.0.113.5",
    );
    check(
        "2001:db8::5",
        &[("x-forwarded-for", "10.0.0.1")],
        "2001:db8::5",
    );
}

#[test]
fn x_forwarded_for() {
    let says = |value: &str, expected: &str| check(PEER, &[("x-forwarded-for", value)], expected);
    says("203.0.113.5", "203.0.113.5");
    says(" 203.0.113.5 ", "203.0.113.5");
    // What the client wrote stands left of what the proxy added.
    says("1.2.3.4, 203.0.113.5", "203.0.113.5");
    says("10.0.0.1, 203.0.113.5", "203.0.113.5");
    says("garbage, 203.0.113.5", "203.0.113.5");
    // Proxies of ours are walked over.
    says("1.2.3.4, 203.0.113.5, 192.0.2.1, 10.1.1.1", "203.0.113.5");
    says("10.1.1.1, 10.2.2.2", "10.1.1.1");
    // What makes no sense ends the walk at the proxy that said it.
    says("203.0.113.5, garbage", PEER);
    says("203.0.113.5, unknown, 10.1.1.1", "10.1.1.1");
    says("", PEER);
    says("203.0.113.5,", PEER);
    // Ports and brackets.
    says("203.0.113.5:1234", "203.0.113.5");
    says("2001:db8::7", "2001:db8::7");
    says("[2001:db8::7]", "2001:db8::7");
    says("[2001:db8::7]:443", "2001:db8::7");
    says("[2001:db8::7", PEER);
    says("[203.0.113.5]", "203.0.113.5");
    says("::ffff:203.0.113.5", "203.0.113.5");
    says("203.0.113.5:99999", PEER);
    says("203.0.113.005", PEER);
}

#[test]
fn several_fields_are_one_list() {
    let fields = [
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-for", "203.0.113.5"),
    ];
    check(PEER, &fields, "203.0.113.5");
    let fields = [
        ("x-forwarded-for", "203.0.113.5"),
        ("x-forwarded-for", "\u{e9}"),
    ];
    check(PEER, &fields, PEER);
}

#[test]
fn forwarded() {
    let says = |value: &str, expected: &str| check(PEER, &[("forwarded", value)], expected);
    says("for=203.0.113.5", "203.0.113.5");
    says("For=203.0.113.5;proto=https;by=10.0.0.9", "203.0.113.5");
    says("proto=https; for = 203.0.113.5", "203.0.113.5");
    says("for=1.2.3.4, for=203.0.113.5", "203.0.113.5");
    says(
        "for=1.2.3.4, for=203.0.113.5;host=h, for=192.0.2.1",
        "203.0.113.5",
    );
    says("for=\"203.0.113.5:4711\"", "203.0.113.5");
    says("for=\"[2001:db8::7]\"", "2001:db8::7");
    says("for=\"[2001:db8::7]:4711\"", "2001:db8::7");
    // Separators inside of quotes separate nothing.
    says("host=\"a, for=1.2.3.4\"; for=203.0.113.5", "203.0.113.5");
    says("for=203.0.113.5;host=\"a\\\", for=1.2.3.4\"", "203.0.113.5");
    says("host=\"open, for=203.0.113.5", PEER);
    // Obfuscated, unknown, absent, ambiguous.
    says("for=_hidden", PEER);
    says("for=unknown", PEER);
    says("for=203.0.113.5, for=_hidden, for=10.1.1.1", "10.1.1.1");
    says("proto=https", PEER);
    says("for=1.2.3.4;for=203.0.113.5", PEER);
    says("for=", PEER);
    says("for=203.0.113.5\"", PEER);
    says("", PEER);
}

#[test]
fn two_fields_that_disagree_are_both_hearsay() {
    let forwarded = |for_node| ("forwarded", for_node);
    let customary = ("x-forwarded-for", "203.0.113.5");
    check(
        PEER,
        &[forwarded("for=203.0.113.5"), customary],
        "203.0.113.5",
    );
    check(PEER, &[forwarded("for=1.2.3.4"), customary], "0.0.0.0");
    check(PEER, &[forwarded(""), customary], "0.0.0.0");
}
