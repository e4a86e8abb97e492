//! Tables whose keys strangers choose: how long they get, what they take, how long a look takes.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use hookgate::pipeline::dedupe::{Claim, Dedupe, IDS_MAX};
use hookgate::pipeline::limit::{PEERS_MAX, PeerLimit, Rate};
use tokio::time::Instant;
use uuid::Uuid;

use crate::support::figures::Row;
use crate::support::gateway::{Setup, source};
use crate::support::sender::Version;
use crate::support::webhook::Webhook;

const ADDRESSES: u64 = 1_000_000;
const MIB: u64 = 1 << 20;

/// Resident bytes of this process; tests of this folder run one at a time.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages = statm.split(' ').nth(1).expect("resident");
    pages.parse::<u64>().expect("pages") * 4096
}

/// An address of the network with this number, and of this host in it.
fn address(network: u64, host: u64) -> IpAddr {
    let network = u128::from(0x2001_0db8_0000_0000 | network);
    IpAddr::V6(Ipv6Addr::from_bits(network << 64 | u128::from(host)))
}

fn limit() -> PeerLimit {
    let rate = Rate {
        count: NonZeroU32::new(60).expect("a number"),
        period: Duration::from_hours(1),
        burst: NonZeroU32::new(10).expect("a number"),
    };
    PeerLimit::new(Arc::from("shop"), rate)
}

/// A million networks: the table stops at its bound, and those who were there first keep what is
/// theirs. A look never costs more than a few places.
#[test]
fn a_million_addresses() {
    let limit = limit();
    let before = resident();
    let now = Instant::now();
    let mut looks = Vec::with_capacity(usize::try_from(ADDRESSES).expect("a count"));
    let before_looks = resident();
    for network in 0..ADDRESSES {
        let peer = address(network, 1);
        let start = Instant::now();
        let taken = limit.spend(peer, now).is_ok();
        looks.push(start.elapsed());
        assert!(taken || network >= 65_536, "network {network}");
    }
    let grown = resident().saturating_sub(before.max(before_looks) + ADDRESSES * 16);
    assert_eq!(limit.peers(), PEERS_MAX);
    assert!(grown <= 32 * MIB, "{} KiB", grown / 1024);
    // The first ones have nine left of ten, whatever the other million did.
    for network in 0..1000 {
        for _ in 0..9 {
            limit
                .spend(address(network, 2), now)
                .expect("its own allowance");
        }
        limit
            .spend(address(network, 3), now)
            .expect_err("no more than that");
    }
    // Once all are whole again, newcomers get places of their own.
    let later = now + Duration::from_hours(1);
    for network in 2_000_000..2_000_100 {
        for host in 0..10 {
            limit.spend(address(network, host), later).expect("a place");
        }
        limit
            .spend(address(network, 0), later)
            .expect_err("a burst of ten");
    }
    // Each of those requests forgot another that was whole.
    assert!(limit.peers() <= PEERS_MAX - 1000, "{}", limit.peers());

    let mut full = looks.split_off(PEERS_MAX);
    full.sort_unstable();
    let p99 = full[full.len() * 99 / 100];
    // No optimised build, and a machine with other things to do.
    assert!(p99 < Duration::from_micros(100), "{p99:?}");
    Row::new("X9.addresses")
        .saw("networks", ADDRESSES)
        .saw("remembered", PEERS_MAX)
        .saw("grown by KiB", grown / 1024)
        .saw(
            "p99 of a look in a full table, not optimised",
            format!("{p99:?}"),
        )
        .write();
}

#[test]
fn a_million_addresses_of_one_network_are_one() {
    let limit = limit();
    let now = Instant::now();
    let hosts = 0..ADDRESSES;
    let taken = hosts
        .filter(|&host| {
            limit
                .spend(address(7, host.reverse_bits() | host), now)
                .is_ok()
        })
        .count();
    assert_eq!((taken, limit.peers()), (10, 1));
    Row::new("X9.network")
        .saw("addresses of one network", ADDRESSES)
        .saw("remembered", limit.peers())
        .write();
}

/// More ids than are remembered: the oldest make room, and the table knows how far it reaches.
#[test]
fn more_event_ids_than_are_remembered() {
    let more = 50_000_u32;
    let ids = u32::try_from(IDS_MAX).expect("a count") + more;
    let dedupe = Dedupe::new(IDS_MAX);
    let issuer: Arc<str> = Arc::from("shop");
    let now = Instant::now();
    let window = Duration::from_hours(24);
    let claim = |n: u32| {
        let id = format!("evt_{n:032}");
        let claims = dedupe.claim(&[Some((Arc::clone(&issuer), id))], window, now);
        claims.expect("nobody else stores it").remove(0)
    };
    let before = resident();
    for n in 0..ids {
        match claim(n) {
            Claim::Fresh(fresh) => fresh.commit(Uuid::from_u128(u128::from(n))),
            other => panic!("{n} is {other:?}"),
        }
        if n == 1000 {
            assert_eq!(dedupe.horizon(), None, "there is room");
        }
    }
    let grown = resident().saturating_sub(before);
    assert_eq!(dedupe.len(), IDS_MAX);
    assert_eq!(dedupe.horizon(), Some(Uuid::from_u128(u128::from(more))));
    for (n, known) in [(0, false), (more - 1, false), (more, true), (ids - 1, true)] {
        let claim = claim(n);
        assert_eq!(matches!(claim, Claim::Seen(_)), known, "{n}");
    }
    assert!(grown <= 192 * MIB, "{} MiB", grown / MIB);
    Row::new("X9.ids")
        .saw("event ids", ids)
        .saw("remembered", IDS_MAX)
        .saw("grown by MiB", grown / MIB)
        .write();
}

/// Paths, methods, agents and ids of strangers make no key anywhere: the page of metrics has as
/// many lines after them as before, and the process is as large.
#[tokio::test]
async fn random_requests_make_no_keys() {
    let gateway = Setup::new()
        .sources(&source(
            "github",
            "github",
            "peer_rate_limit = \"100000/s\"",
        ))
        .start()
        .await;
    let lines = async || {
        let page = gateway.admin("/metrics").await.body;
        let page = String::from_utf8(page).expect("text");
        let names = page.lines().filter(|line| !line.starts_with('#'));
        let names = names.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()));
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let mut client = gateway.connect(Version::Http2).await;
    let mut storm = async |n: u32| {
        let odd = Webhook::bare(&format!("/path-{n}/x?q={n}"), b"{}")
            .with("User-Agent", &format!("agent-{n}"));
        assert_eq!(client.send(&odd).await.expect("an answer").status, 404);
        let unproved = Webhook::bare("/github", b"{}")
            .with("X-GitHub-Event", &format!("type-{n}"))
            .with("X-GitHub-Delivery", &format!("id-{n}"));
        assert_eq!(client.send(&unproved).await.expect("an answer").status, 401);
        let method = odd.method(&format!("M{n}"));
        assert_eq!(client.send(&method).await.expect("an answer").status, 404);
    };
    storm(0).await;
    let before = lines().await;
    for n in 1..1000 {
        storm(n).await;
    }
    let after = lines().await;
    assert_eq!(
        after.difference(&before).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
    assert_eq!(gateway.metrics().await.sum("hookgate_dedupe_ids", &[]), 0.0);
    Row::new("X9.keys")
        .saw("random requests", 3000)
        .saw("keys", 0)
        .write();
}
