//! Limits hold at their edge, and tables stay within their bound.

use tokio::time::Instant;

use super::*;
use crate::clock::Now;

const MINUTE: Duration = Duration::from_mins(1);

fn rate(count: u32, burst: u32) -> Rate {
    Rate {
        count: NonZeroU32::new(count).unwrap(),
        period: Duration::from_hours(1),
        burst: NonZeroU32::new(burst).unwrap(),
    }
}

#[test]
fn the_burst_is_taken_and_the_next_is_told_when() {
    let limit = SourceLimit::new(Arc::from("stripe"), rate(60, 3));
    for _ in 0..3 {
        limit.spend().unwrap();
    }
    let Err(Reject::SourceLimited(overrun)) = limit.spend() else {
        panic!("a fourth event passed a burst of three");
    };
    assert!(overrun.retry_after <= MINUTE && overrun.retry_after > MINUTE / 2);
    assert_eq!(&*overrun.policy, "stripe");
}

#[test]
fn one_peer_does_not_spend_for_another() {
    let limit = PeerLimit::new(Arc::from("x"), rate(60, 1));
    let now = Now::read().mono;
    limit.spend(address(1), now).unwrap();
    limit.spend(address(1), now).unwrap_err();
    limit.spend(address(2), now).unwrap();
}

#[test]
fn an_ipv6_network_is_one_peer_and_a_mapped_address_is_its_ipv4() {
    let limit = PeerLimit::new(Arc::from("x"), rate(60, 1));
    let now = Now::read().mono;
    let spend = |address: &str| limit.spend(address.parse().unwrap(), now);
    spend("2001:db8::1").unwrap();
    spend("2001:db8::ffff:2").unwrap_err();
    spend("2001:db8:0:1::1").unwrap();
    assert_eq!(
        network_of("::ffff:192.0.2.1".parse().unwrap()),
        IpAddr::from([192, 0, 2, 1])
    );
}

const PEERS: usize = 128;

/// A full table in which nobody's allowance is whole.
fn full(start: Instant) -> PeerLimit {
    let limit = PeerLimit::with_peers_max(Arc::from("x"), rate(60, 2), PEERS);
    for peer in 0..PEERS {
        limit.spend(stranger(peer), start).unwrap();
    }
    limit
}

fn stranger(number: usize) -> IpAddr {
    IpAddr::from(u32::try_from(number).unwrap().to_be_bytes())
}

#[test]
fn a_flood_of_addresses_cannot_grow_the_table_past_its_bound() {
    let start = Now::read().mono;
    let limit = full(start);
    let newcomers = (PEERS..10_000).map(stranger);
    let taken = newcomers
        .filter(|&peer| limit.spend(peer, start).is_ok())
        .count();
    assert_eq!(taken, 2, "newcomers have one burst together");
    assert_eq!(limit.peers(), PEERS);
}

#[test]
fn in_a_full_table_those_who_are_known_keep_their_own_allowance() {
    let start = Now::read().mono;
    let limit = full(start);
    for peer in PEERS..PEERS + 10 {
        drop(limit.spend(stranger(peer), start));
    }
    limit.spend(stranger(PEERS + 10), start).unwrap_err();
    for peer in 0..PEERS {
        limit.spend(stranger(peer), start).unwrap();
        limit.spend(stranger(peer), start).unwrap_err();
    }
}

#[test]
fn in_a_full_table_a_newcomer_gets_the_place_of_one_whose_allowance_is_whole() {
    let start = Now::read().mono;
    let limit = full(start);
    let later = start + MINUTE;
    // One that is not whole: it had nothing left.
    limit.spend(stranger(5), start).unwrap();
    for peer in PEERS..2 * PEERS - 1 {
        limit.spend(stranger(peer), later).unwrap();
        limit.spend(stranger(peer), later).unwrap();
        limit.spend(stranger(peer), later).unwrap_err();
    }
    assert_eq!(limit.peers(), PEERS);
    limit.spend(stranger(5), later).unwrap();
    limit.spend(stranger(5), later).unwrap_err();
}

#[test]
fn those_who_have_all_of_their_allowance_again_are_forgotten() {
    const MANY: usize = 10_000;
    let start = Now::read().mono;
    let limit = PeerLimit::new(Arc::from("x"), rate(60, 2));
    for peer in 0..MANY {
        limit.spend(stranger(peer), start).unwrap();
    }
    assert_eq!(limit.peers(), MANY);
    let later = start + MINUTE;
    // Two that are not: one had nothing left, one comes only now.
    limit.spend(stranger(5), start).unwrap();
    for _ in 0..MANY {
        drop(limit.spend(stranger(MANY), later));
    }
    assert_eq!(limit.peers(), 2);
    assert!(limit.room() <= MANY / 4, "{}", limit.room());
    for peer in [5, MANY] {
        drop(limit.spend(stranger(peer), later));
        limit.spend(stranger(peer), later).unwrap_err();
    }
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

#[test]
fn places_come_back_when_the_request_is_over() {
    let in_flight = InFlight::new(2, 100);
    let mut first = in_flight.admit(address(1)).unwrap();
    first.make_room(20).unwrap();
    first.make_room(40).unwrap();
    let mut second = in_flight.admit(address(2)).unwrap();
    assert_eq!(second.make_room(60), Err(Reject::Overloaded), "bytes");
    second.make_room(40).unwrap();
    let third = in_flight.admit(address(3));
    assert_eq!(third.unwrap_err(), Reject::Overloaded, "requests");
    drop((first, second));
    in_flight.admit(address(1)).unwrap().make_room(100).unwrap();
    assert!(in_flight.peers.lock().is_empty());
}

#[test]
fn no_address_has_all_places() {
    let in_flight = InFlight::new(8, 100);
    let _two = [1, 1].map(|last| in_flight.admit(address(last)).unwrap());
    let third = in_flight.admit(address(1));
    assert_eq!(third.unwrap_err(), Reject::Overloaded);
    drop(in_flight.admit(address(2)).unwrap());
}

#[test]
fn no_address_has_all_the_room_but_for_a_single_body() {
    let in_flight = InFlight::new(100, 100);
    let mut first = in_flight.admit(address(1)).unwrap();
    first.make_room(30).unwrap();
    let mut second = in_flight.admit(address(1)).unwrap();
    assert_eq!(second.make_room(1), Err(Reject::Overloaded));
    let mut other = in_flight.admit(address(2)).unwrap();
    other.make_room(20).unwrap();
    first.make_room(20).unwrap();
    drop(first);
    second.make_room(5).unwrap();
    let mut third = in_flight.admit(address(1)).unwrap();
    third.make_room(20).unwrap();
    assert_eq!(third.make_room(1), Err(Reject::Overloaded));
    drop((second, third, other));
    assert!(in_flight.peers.lock().is_empty());
}
