use super::super::window::{SLOTS_MAX, Window};
use crate::journal::Position;

fn window(events_max: usize, bytes_max: usize) -> Window {
    Window::new(Position(10), events_max, bytes_max)
}

#[test]
fn the_cursor_moves_over_the_contiguous_prefix_in_every_order_of_five() {
    for order in permutations(&[10, 11, 12, 13, 14]) {
        let mut window = window(5, 1000);
        for position in 10..15 {
            assert!(window.take(Position(position), 1));
        }
        let mut settled = Vec::new();
        for &position in &order {
            window.settle(Position(position));
            settled.push(position);
            let prefix = (10..15).take_while(|position| settled.contains(position));
            let expected = Position(10 + prefix.count() as u64);
            assert_eq!(window.cursor(), expected, "{order:?} up to {position}");
        }
    }
}

fn permutations(values: &[u64]) -> Vec<Vec<u64>> {
    if values.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (index, &value) in values.iter().enumerate() {
        let mut rest = values.to_vec();
        rest.remove(index);
        for mut tail in permutations(&rest) {
            tail.insert(0, value);
            all.push(tail);
        }
    }
    all
}

#[test]
fn no_more_are_taken_than_may_be_unsettled() {
    let mut window = window(3, 1000);
    for position in 10..13 {
        assert!(window.has_room());
        assert!(window.take(Position(position), 1));
    }
    assert!(!window.has_room());
    window.settle(Position(11));
    assert!(window.has_room());
    assert_eq!(window.cursor(), Position(10));
}

#[test]
fn one_stuck_event_stops_the_others_only_after_very_many() {
    let mut window = window(3, 1000);
    assert!(window.take(Position(10), 1));
    let mut end = 11;
    while window.has_room() {
        assert!(window.take(Position(end), 1));
        window.settle(Position(end));
        end += 1;
    }
    assert_eq!(end, 10 + SLOTS_MAX as u64);
    assert_eq!(window.cursor(), Position(10));
    window.settle(Position(10));
    assert!(window.has_room());
    assert_eq!(window.cursor(), Position(end));
}

#[test]
fn bytes_are_bounded_but_one_event_always_fits() {
    let mut window = window(100, 1000);
    assert!(window.has_room());
    assert!(window.take(Position(10), 5000));
    assert!(!window.has_room());
    window.settle(Position(10));
    assert!(window.take(Position(11), 600));
    assert!(window.has_room());
    assert!(window.take(Position(12), 600));
    assert!(!window.has_room());
    window.settle(Position(12));
    assert!(window.has_room(), "its bytes are free although 11 is not");
}

#[test]
fn gaps_and_repeats_do_no_harm() {
    let mut window = window(100, 1000);
    assert!(window.take(Position(17), 1));
    assert_eq!(window.cursor(), Position(17));
    assert!(!window.take(Position(17), 1), "taken before");
    assert!(window.take(Position(1_000_000), 1));
    window.settle(Position(18));
    window.settle(Position(17));
    window.settle(Position(17));
    assert_eq!(window.cursor(), Position(1_000_000));
    window.settle(Position(1_000_000));
    assert_eq!(window.cursor(), Position(1_000_001));
}
