//! One copy is stored, the others get its receipt, and a failure frees the id.

use super::*;

const WINDOW: Duration = Duration::from_mins(1);
const ID: Uuid = Uuid::from_u128(7);

/// What is known of one id of a source, by itself.
fn claim_of(dedupe: &Dedupe, issuer: &Arc<str>, id: &str, now: Instant) -> Result<Claim, Twin> {
    let mut claims = dedupe.claim(&[Some((Arc::clone(issuer), id.to_owned()))], WINDOW, now)?;
    Ok(claims.remove(0))
}

fn claim(dedupe: &Dedupe, id: &str, now: Instant) -> Result<Claim, Twin> {
    claim_of(dedupe, &Arc::from("stripe"), id, now)
}

fn fresh(dedupe: &Dedupe, id: &str, now: Instant) -> Fresh {
    match claim(dedupe, id, now) {
        Ok(Claim::Fresh(fresh)) => fresh,
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
        Ok(Claim::Seen(ID))
    ));
    fresh(&dedupe, "a", start + WINDOW).commit(ID);
}

#[tokio::test]
async fn the_same_id_of_another_source_is_another_event() {
    let dedupe = Dedupe::new(10);
    let start = Instant::now();
    fresh(&dedupe, "a", start).commit(ID);
    let other = claim_of(&dedupe, &Arc::from("github"), "a", start);
    assert!(matches!(other, Ok(Claim::Fresh(_))));
}

#[tokio::test]
async fn a_twin_waits_for_the_first_copys_fate() {
    let dedupe = Dedupe::new(10);
    let start = Instant::now();
    let first = fresh(&dedupe, "a", start);
    let (Err(twin), Err(late)) = (claim(&dedupe, "a", start), claim(&dedupe, "a", start)) else {
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
    let Err(twin) = claim(&dedupe, "a", start) else {
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
    assert!(matches!(claim(&dedupe, "c", start), Ok(Claim::Seen(_))));
    drop(fresh(&dedupe, "a", start));
}

#[tokio::test]
async fn an_event_from_before_a_restart_is_recognised_until_its_window_ends() {
    let dedupe = Dedupe::new(10);
    let start = Instant::now();
    dedupe.recall(&Arc::from("stripe"), "a", ID, start + WINDOW / 2);
    assert!(matches!(claim(&dedupe, "a", start), Ok(Claim::Seen(ID))));
    drop(fresh(&dedupe, "a", start + WINDOW / 2));
}

#[tokio::test]
async fn what_was_not_proved_does_not_speak_for_the_source() {
    let dedupe = Dedupe::new(10);
    let start = Instant::now();
    let shop = Arc::from("shop");
    let stranger = claim_of(&dedupe, &issuer(&shop, Coverage::None), "a", start);
    let Ok(Claim::Fresh(stranger)) = stranger else {
        panic!("{stranger:?}");
    };
    stranger.commit(ID);
    let genuine = claim_of(&dedupe, &issuer(&shop, Coverage::Full), "a", start);
    assert!(matches!(genuine, Ok(Claim::Fresh(_))), "{genuine:?}");
}

#[test]
fn a_cloudevents_id_is_one_of_its_source() {
    let shop: Arc<str> = Arc::from("shop");
    let of = |source: Option<&str>| {
        let origin = source.map(|source| Origin {
            source: source.to_owned(),
            subject: None,
            time: None,
        });
        issuer_of(&shop, Coverage::Full, origin.as_ref())
    };
    assert_eq!(of(None), issuer(&shop, Coverage::Full));
    assert_eq!(of(Some("/a")), of(Some("/a")));
    assert_ne!(of(Some("/a")), of(Some("/b")));
    assert_ne!(of(Some("/a")), of(None));
    let unproved = Origin {
        source: "/a".to_owned(),
        subject: None,
        time: None,
    };
    let unproved = issuer_of(&shop, Coverage::None, Some(&unproved));
    assert_ne!(of(Some("unproved /a")), unproved);
}

#[tokio::test]
async fn no_end_of_an_issuer_is_the_beginning_of_an_id() {
    let dedupe = Dedupe::new(10);
    let start = Instant::now();
    let Ok(Claim::Fresh(first)) = claim_of(&dedupe, &Arc::from("/a"), "b\0c", start) else {
        panic!("it is new");
    };
    first.commit(ID);
    let other = claim_of(&dedupe, &Arc::from("/a\0b"), "c", start);
    assert!(matches!(other, Ok(Claim::Fresh(_))), "{other:?}");
}

#[tokio::test]
async fn every_byte_of_a_long_id_counts() {
    let dedupe = Dedupe::new(10);
    let start = Instant::now();
    let long = "x".repeat(1 << 20);
    fresh(&dedupe, &long, start).commit(ID);
    assert!(matches!(claim(&dedupe, &long, start), Ok(Claim::Seen(ID))));
    drop(fresh(&dedupe, &format!("{long}y"), start));
}

/// The claims on several ids, in letters: new, seen, the same again.
fn claim_all(dedupe: &Dedupe, ids: &[&str], now: Instant) -> Result<(String, Vec<Fresh>), Twin> {
    let name = |id: &&str| Some((Arc::from("stripe"), (*id).to_owned()));
    let names: Vec<_> = ids.iter().map(name).collect();
    let claims = dedupe.claim(&names, WINDOW, now)?;
    let (mut letters, mut fresh) = (String::new(), Vec::new());
    for claim in claims {
        letters.push(match claim {
            Claim::Fresh(right) => {
                fresh.push(right);
                'n'
            }
            Claim::Seen(_) => 's',
            Claim::Again => 'a',
        });
    }
    Ok((letters, fresh))
}

#[tokio::test]
async fn the_new_ones_of_a_batch_are_told_from_those_that_were_seen() {
    let dedupe = Dedupe::new(10);
    let start = Instant::now();
    fresh(&dedupe, "b", start).commit(ID);
    let (letters, fresh) = claim_all(&dedupe, &["a", "b", "c", "a"], start).unwrap();
    assert_eq!(letters, "nsna");
    fresh.into_iter().for_each(|fresh| fresh.commit(ID));
    let (letters, _) = claim_all(&dedupe, &["a", "b", "c"], start).unwrap();
    assert_eq!(letters, "sss");
}

/// Else two batches with the same ids in another order would wait for each other.
#[tokio::test]
async fn a_batch_with_a_twin_on_its_way_claims_nothing() {
    let dedupe = Dedupe::new(10);
    let start = Instant::now();
    let first = fresh(&dedupe, "b", start);
    let twin = claim_all(&dedupe, &["a", "b"], start).unwrap_err();
    drop(fresh(&dedupe, "a", start));
    drop(first);
    assert_eq!(twin.fate().await, None);
    let (letters, _fresh) = claim_all(&dedupe, &["a", "b"], start).unwrap();
    assert_eq!(letters, "nn");
}
