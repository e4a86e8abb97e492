//! One copy is stored, the others get its receipt, and a failure frees the id.

use super::*;

const WINDOW: Duration = Duration::from_mins(1);
const ID: Uuid = Uuid::from_u128(7);

fn claim(dedupe: &Dedupe, id: &str, now: Instant) -> Claim {
    dedupe.claim(&Arc::from("stripe"), id, WINDOW, now)
}

fn fresh(dedupe: &Dedupe, id: &str, now: Instant) -> Fresh {
    match claim(dedupe, id, now) {
        Claim::Fresh(fresh) => fresh,
        other => panic!("{id} is {other:?}"),
    }
}

#[tokio::test]
async fn a_copy_is_recognised_until_the_window_ends() {
    let dedupe = Dedupe::new(10);
    let start = Instant::now();
    fresh(&dedupe, "a", start).commit(ID);
    assert!(matches!(
        claim(&dedupe, "a", start + WINDOW / 2),
        Claim::Seen(ID)
    ));
    fresh(&dedupe, "a", start + WINDOW).commit(ID);
}

#[tokio::test]
async fn the_same_id_of_another_source_is_another_event() {
    let dedupe = Dedupe::new(10);
    let start = Instant::now();
    fresh(&dedupe, "a", start).commit(ID);
    let other = dedupe.claim(&Arc::from("github"), "a", WINDOW, start);
    assert!(matches!(other, Claim::Fresh(_)));
}

#[tokio::test]
async fn a_twin_waits_for_the_first_copys_fate() {
    let dedupe = Dedupe::new(10);
    let start = Instant::now();
    let first = fresh(&dedupe, "a", start);
    let (Claim::Pending(twin), Claim::Pending(late)) =
        (claim(&dedupe, "a", start), claim(&dedupe, "a", start))
    else {
        panic!("the second copy did not find the first");
    };
    first.commit(ID);
    assert_eq!(twin.fate().await, Some(ID));
    assert_eq!(late.fate().await, Some(ID));
}

#[tokio::test]
async fn a_failure_frees_the_id_and_tells_the_twin() {
    let dedupe = Dedupe::new(10);
    let start = Instant::now();
    let first = fresh(&dedupe, "a", start);
    let Claim::Pending(twin) = claim(&dedupe, "a", start) else {
        panic!("the second copy did not find the first");
    };
    drop(first);
    assert_eq!(twin.fate().await, None);
    drop(fresh(&dedupe, "a", start));
    assert!(dedupe.is_empty());
}

#[tokio::test]
async fn the_oldest_id_makes_room() {
    let dedupe = Dedupe::new(2);
    let start = Instant::now();
    fresh(&dedupe, "z", start).commit(ID);
    assert_eq!(dedupe.horizon(), None, "there is room");
    for id in ["a", "b", "c"] {
        fresh(&dedupe, id, start).commit(ID);
    }
    assert_eq!(dedupe.len(), 2);
    assert_eq!(dedupe.horizon(), Some(ID));
    assert!(matches!(claim(&dedupe, "c", start), Claim::Seen(_)));
    drop(fresh(&dedupe, "a", start));
}

#[tokio::test]
async fn an_event_from_before_a_restart_is_recognised_until_its_window_ends() {
    let dedupe = Dedupe::new(10);
    let start = Instant::now();
    dedupe.recall(&Arc::from("stripe"), "a", ID, start + WINDOW / 2);
    assert!(matches!(claim(&dedupe, "a", start), Claim::Seen(ID)));
    drop(fresh(&dedupe, "a", start + WINDOW / 2));
}

#[tokio::test]
async fn what_was_not_proved_does_not_speak_for_the_source() {
    let dedupe = Dedupe::new(10);
    let start = Instant::now();
    let shop = Arc::from("shop");
    let stranger = dedupe.claim(&issuer(&shop, Coverage::None), "a", WINDOW, start);
    let Claim::Fresh(stranger) = stranger else {
        panic!("{stranger:?}");
    };
    stranger.commit(ID);
    let genuine = dedupe.claim(&issuer(&shop, Coverage::Full), "a", WINDOW, start);
    assert!(matches!(genuine, Claim::Fresh(_)), "{genuine:?}");
}

#[tokio::test]
async fn every_byte_of_a_long_id_counts() {
    let dedupe = Dedupe::new(10);
    let start = Instant::now();
    let long = "x".repeat(1 << 20);
    fresh(&dedupe, &long, start).commit(ID);
    assert!(matches!(claim(&dedupe, &long, start), Claim::Seen(ID)));
    drop(fresh(&dedupe, &format!("{long}y"), start));
}
