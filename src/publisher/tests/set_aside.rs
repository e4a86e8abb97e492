use bytes::Bytes;

use super::super::set_aside::SetAside;
use crate::journal::Position;

fn record() -> SetAside {
    SetAside {
        position: Position(77),
        reason: "PRECONDITION_FAILED - too large".to_owned(),
        delivery: Bytes::from_static(b"\x01abc"),
    }
}

#[test]
fn comes_back_as_it_was() {
    assert_eq!(SetAside::decode(&record().encode()), Some(record()));
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let mut long = record();
    long.reason = "\u{20ac}".repeat(100_000);
    let back = SetAside::decode(&long.encode()).unwrap();
    assert_eq!(back.reason, "\u{20ac}".repeat(1365));
    assert_eq!(back.delivery, long.delivery);
}

#[test]
fn anything_else_is_not_one() {
    let stored = record().encode();
    let delivery_at = stored.len() - 4;
    for cut in 0..delivery_at {
        assert_eq!(SetAside::decode(&stored.slice(..cut)), None, "{cut}");
    }
    let mut newer = stored.to_vec();
    newer[0] = 2;
    assert_eq!(SetAside::decode(&Bytes::from(newer)), None);
}
