//! A model of the broker and of lapin's bookkeeping: whatever it does, no unroutable event comes
//! out as safe.

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;
use uuid::Uuid;

use super::super::broker::{Receipt, Returned};
use super::super::pairing::{Pairing, Verdict};

fn id(number: usize) -> Uuid {
    Uuid::from_u128(number as u128)
}

fn returned(number: usize) -> Returned {
    Returned {
        id: Some(id(number)),
    }
}

#[test]
fn a_plain_ack_is_safe_and_a_nack_is_not() {
    let round = [(id(1), Receipt::Ack(None)), (id(2), Receipt::Nack(None))];
    assert_eq!(
        Pairing::default().judge(&round),
        [Verdict::Safe, Verdict::Nacked]
    );
}

#[test]
fn the_own_return_with_the_own_ack() {
    let round = [(id(1), Receipt::Ack(Some(returned(1))))];
    assert_eq!(Pairing::default().judge(&round), [Verdict::Returned]);
}

#[test]
fn a_return_that_came_with_another_ack_in_the_same_round() {
    let round = [
        (id(1), Receipt::Ack(None)),
        (id(2), Receipt::Ack(Some(returned(1)))),
    ];
    assert_eq!(
        Pairing::default().judge(&round),
        [Verdict::Returned, Verdict::Unknown]
    );
}

#[test]
fn a_return_that_came_with_another_ack_in_an_earlier_round() {
    let mut pairing = Pairing::default();
    let first = [(id(2), Receipt::Ack(Some(returned(1))))];
    assert_eq!(pairing.judge(&first), [Verdict::Unknown]);
    let second = [(id(1), Receipt::Ack(None))];
    assert_eq!(pairing.judge(&second), [Verdict::Returned]);
    assert_eq!(pairing.judge(&second), [Verdict::Safe], "its next attempt");
}

#[test]
fn a_return_without_an_id_proves_nothing() {
    let round = [(id(1), Receipt::Ack(Some(Returned { id: None })))];
    assert_eq!(Pairing::default().judge(&round), [Verdict::Unknown]);
}

/// What the broker sends.
#[derive(Clone, Debug)]
enum Frame {
    Return(usize),
    Ack(usize),
    /// All up to this one, in the order of a hash map.
    AckUpTo(Vec<usize>),
}

/// A burst of publishes as the broker answers it: an unroutable one is returned before it is
/// acknowledged; acknowledgements come in any order, alone or together.
fn burst() -> impl Strategy<Value = (Vec<bool>, Vec<Frame>, Vec<usize>)> {
    let unroutable = prop::collection::vec(any::<bool>(), 1..40);
    (unroutable, any::<u64>()).prop_map(|(unroutable, seed)| {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut frames = Vec::new();
        let mut routed: VecDeque<usize> = VecDeque::new();
        let mut open: Vec<usize> = Vec::new();
        let mut next = 0;
        while next < unroutable.len() || !open.is_empty() {
            if next < unroutable.len() && random.bool() {
                if unroutable[next] {
                    frames.push(Frame::Return(next));
                }
                routed.push_back(next);
                open.push(next);
                next += 1;
            } else if !open.is_empty() {
                if random.u8(..) < 160 {
                    let one = open.swap_remove(random.usize(..open.len()));
                    frames.push(Frame::Ack(one));
                } else {
                    let last = open[random.usize(..open.len())];
                    let mut together: Vec<_> =
                        open.iter().copied().filter(|&one| one <= last).collect();
                    open.retain(|one| *one > last);
                    random.shuffle(&mut together);
                    frames.push(Frame::AckUpTo(together));
                }
            }
        }
        let cuts = (0..6).map(|_| random.usize(..=frames.len())).collect();
        (unroutable, frames, cuts)
    })
}

/// lapin 4.12: a queue of returned messages per channel, whose head goes to whichever confirm is
/// completed next. Gives the confirms in the order in which they become ready.
fn lapin(frames: &[Frame]) -> Vec<(usize, Receipt)> {
    let mut returns = VecDeque::new();
    let mut confirms = Vec::new();
    for frame in frames {
        let acked = match frame {
            Frame::Return(one) => {
                returns.push_back(*one);
                continue;
            }
            Frame::Ack(one) => vec![*one],
            Frame::AckUpTo(many) => many.clone(),
        };
        for one in acked {
            let head = returns.pop_front().map(returned);
            confirms.push((one, Receipt::Ack(head)));
        }
    }
    confirms
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn no_unroutable_event_comes_out_as_safe((unroutable, frames, mut cuts) in burst()) {
        let confirms = lapin(&frames);
        prop_assert_eq!(confirms.len(), unroutable.len());
        cuts.extend([0, confirms.len()]);
        cuts.retain(|&cut| cut <= confirms.len());
        cuts.sort_unstable();
        let mut pairing = Pairing::default();
        let mut verdicts = HashMap::new();
        for cut in cuts.windows(2) {
            let mut round: Vec<_> = confirms[cut[0]..cut[1]].to_vec();
            // They are collected in any order.
            round.reverse();
            let round: Vec<_> = round.into_iter().map(|(one, receipt)| (id(one), receipt)).collect();
            for ((one, _), verdict) in round.iter().zip(pairing.judge(&round)) {
                verdicts.insert(*one, verdict);
            }
        }
        for (one, unroutable) in unroutable.iter().enumerate() {
            if *unroutable {
                prop_assert_ne!(verdicts[&id(one)], Verdict::Safe, "event {}", one);
            }
        }
        if !unroutable.contains(&true) {
            prop_assert!(verdicts.values().all(|verdict| *verdict == Verdict::Safe));
        }
    }
}
