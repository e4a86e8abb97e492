//! Limits hold at their edge, and tables stay within their bound.

use super::*;

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
    assert!(overrun.retry_after > Duration::from_secs(50), "{overrun:?}");
    assert!(overrun.retry_after <= Duration::from_mins(1), "{overrun:?}");
}

#[test]
fn one_peer_does_not_spend_for_another() {
    let limit = PeerLimit::new(Arc::from("x"), rate(60, 1));
    limit.spend("192.0.2.1".parse().unwrap()).unwrap();
    limit.spend("192.0.2.1".parse().unwrap()).unwrap_err();
    limit.spend("192.0.2.2".parse().unwrap()).unwrap();
}

#[test]
fn an_ipv6_network_is_one_peer_and_a_mapped_address_is_its_ipv4() {
    let limit = PeerLimit::new(Arc::from("x"), rate(60, 1));
    limit.spend("2001:db8::1".parse().unwrap()).unwrap();
    limit
        .spend("2001:db8::ffff:2".parse().unwrap())
        .unwrap_err();
    limit.spend("2001:db8:0:1::1".parse().unwrap()).unwrap();
    assert_eq!(
        network_of("::ffff:192.0.2.1".parse().unwrap()),
        IpAddr::from([192, 0, 2, 1])
    );
}

#[test]
fn a_flood_of_addresses_cannot_grow_the_table_past_its_bound() {
    const PEERS: usize = 128;
    let limit = PeerLimit::with_peers_max(Arc::from("x"), rate(60, 2), PEERS);
    let mut taken = 0;
    for address in 0..10_000_u32 {
        if limit.spend(IpAddr::from(address.to_be_bytes())).is_ok() {
            taken += 1;
        }
        assert!(limit.peers() <= PEERS, "{} peers", limit.peers());
    }
    assert!(taken <= PEERS + 2, "{taken} strangers passed");
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
