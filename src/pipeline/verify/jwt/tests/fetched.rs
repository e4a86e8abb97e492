//! Keys and answers that come from elsewhere.

use std::sync::Mutex;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::super::remote::COOL_DOWN;
use super::*;
use crate::config::raw::RawIntrospection;
use crate::pipeline::evidence::{
    Action, Asker, Document, Errand, Fetching, Hindrance, Nowhere, Unfetched,
};

/// Somebody at the other end: says what it is told to, when it is told to.
#[derive(Debug)]
struct Elsewhere {
    says: Mutex<Result<String, Unfetched>>,
    asked: Mutex<Vec<String>>,
    askers: Mutex<Vec<Asker>>,
    may_answer: Arc<Semaphore>,
}

impl Elsewhere {
    fn saying(says: impl Into<String>) -> Self {
        Self {
            says: Mutex::new(Ok(says.into())),
            asked: Mutex::default(),
            askers: Mutex::default(),
            may_answer: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
        }
    }

    fn say(&self, says: Result<String, Unfetched>) {
        *self.says.lock().unwrap() = says;
    }

    /// What was asked since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl Fetching for Elsewhere {
    fn fetch(&self, errand: Errand) -> BoxFuture<'static, Result<Document, Unfetched>> {
        let question = match &errand.action {
            Action::Get => "get".to_owned(),
            Action::GetNow => "get now".to_owned(),
            Action::Post {
                form,
                authorization,
            } => {
                let authorization = authorization.as_ref().unwrap().to_str().unwrap();
                format!("{} {authorization}", String::from_utf8_lossy(form))
            }
        };
        self.asked.lock().unwrap().push(question);
        self.askers.lock().unwrap().push(errand.asker);
        let answer = self.says.lock().unwrap().clone().map(|body| Document {
            body: Bytes::from(body),
            max_age: None,
        });
        let may_answer = Arc::clone(&self.may_answer);
        Box::pin(async move {
            drop(may_answer.acquire().await.unwrap());
            answer
        })
    }
}

fn set(keys: &[&IssuerKey]) -> String {
    let keys: Vec<&Value> = keys.iter().map(|key| &key.jwk).collect();
    json!({ "keys": keys }).to_string()
}

fn fetching_verifier() -> Verifier {
    let mut table = table(&["RS256", "ES256"]);
    table.token.jwks = Some("https://issuer.example/jwks.json".to_owned());
    compile(table, &[]).unwrap()
}

fn later(seconds: u64) -> Now {
    let mut moment = Now::at(now());
    // Monotonic time passes; the tokens stay as fresh as they are.
    moment.mono += Duration::from_secs(seconds);
    moment
}

/// The label of the refusal, or `unfetched`.
async fn judge_with(
    verifier: &Verifier,
    elsewhere: &dyn Fetching,
    token: &str,
    now: Now,
) -> Result<(), &'static str> {
    let inbound = request(&format!("Bearer {token}"));
    judge_request(verifier, elsewhere, inbound, now).await
}

async fn judge_request(
    verifier: &Verifier,
    elsewhere: &dyn Fetching,
    inbound: Inbound,
    now: Now,
) -> Result<(), &'static str> {
    let source = Arc::from("x");
    match verifier.gather(&inbound, &source, elsewhere, now).await {
        Ok(evidence) => match verifier.verify_with(inbound, &evidence, now) {
            Ok(_) => Ok(()),
            Err((_, refusal)) => Err(refusal.label()),
        },
        Err(Hindrance::Unfetched { .. }) => Err("unfetched"),
        Err(Hindrance::Refused(refusal)) => Err(refusal.label()),
        Err(Hindrance::TooSlow) => Err("too slow"),
    }
}

#[tokio::test]
async fn until_the_keys_are_there_it_is_never_the_senders_fault() {
    let (verifier, key) = (fetching_verifier(), IssuerKey::ec());
    let elsewhere = Elsewhere::saying("");
    elsewhere.say(Err(Unfetched::Status(500)));
    let token = key.token(&good());
    assert_eq!(
        judge_with(&verifier, &elsewhere, &token, later(0)).await,
        Err("unfetched")
    );
    assert_eq!(
        judge_with(&verifier, &Nowhere, &token, later(0)).await,
        Err("unfetched")
    );
    elsewhere.say(Ok(set(&[key])));
    assert_eq!(
        judge_with(&verifier, &elsewhere, &token, later(1)).await,
        Ok(())
    );
    assert_eq!(elsewhere.asked(), ["get", "get"]);
}

#[tokio::test]
async fn a_known_key_costs_no_fetch_and_a_glance_does_not_wait() {
    let (verifier, key) = (fetching_verifier(), IssuerKey::ec());
    let elsewhere = Elsewhere::saying(set(&[key]));
    let token = key.token(&good());
    for seconds in 0..60 {
        judge_with(&verifier, &elsewhere, &token, later(seconds))
            .await
            .unwrap();
    }
    assert_eq!(elsewhere.asked(), ["get"]);
    // Nobody answers any more, and nobody waits.
    elsewhere.may_answer.forget_permits(Semaphore::MAX_PERMITS);
    let judged = judge_with(&verifier, &elsewhere, &token, later(61)).now_or_never();
    assert_eq!(judged, Some(Ok(())));
    assert_eq!(elsewhere.asked(), ["get"]);
    // After a long silence the word of whoever fetches is waited for.
    let judged = judge_with(&verifier, &elsewhere, &token, later(3700)).now_or_never();
    assert_eq!(judged, None);
}

#[tokio::test]
async fn keys_stay_good_when_they_cannot_be_fetched_again() {
    let (verifier, key) = (fetching_verifier(), IssuerKey::ec());
    let elsewhere = Elsewhere::saying(set(&[key]));
    let token = key.token(&good());
    judge_with(&verifier, &elsewhere, &token, later(0))
        .await
        .unwrap();
    for broken in [
        Err(Unfetched::Status(500)),
        Ok("<html>".to_owned()),
        Ok("{\"keys\":[]}".to_owned()),
    ] {
        elsewhere.say(broken);
        judge_with(&verifier, &elsewhere, &token, later(600))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_once_per_cool_down() {
    let (old, new) = (IssuerKey::ec(), IssuerKey::new_ec("e2"));
    let verifier = fetching_verifier();
    let elsewhere = Elsewhere::saying(set(&[old]));
    judge_with(&verifier, &elsewhere, &old.token(&good()), later(0))
        .await
        .unwrap();
    assert_eq!(elsewhere.asked(), ["get"]);

    let cool_down = COOL_DOWN.as_secs();
    let token = new.token(&good());
    for seconds in [10, 11, 20, 9 + cool_down] {
        let judged = judge_with(&verifier, &elsewhere, &token, later(seconds)).await;
        assert_eq!(judged, Err("token_key_unknown"));
    }
    assert_eq!(elsewhere.asked(), ["get now"]);

    elsewhere.say(Ok(set(&[old, &new])));
    let moment = later(10 + cool_down);
    assert_eq!(
        judge_with(&verifier, &elsewhere, &token, moment).await,
        Ok(())
    );
    assert_eq!(
        judge_with(&verifier, &elsewhere, &old.token(&good()), moment).await,
        Ok(())
    );
    assert_eq!(elsewhere.asked(), ["get now"]);

    // Withdrawn.
    elsewhere.say(Ok(set(&[&new])));
    judge_with(&verifier, &elsewhere, &token, later(200))
        .await
        .unwrap();
    let judged = judge_with(&verifier, &elsewhere, &old.token(&good()), later(201)).await;
    assert_eq!(judged, Err("token_key_unknown"));
}

#[tokio::test]
async fn many_requests_with_a_new_key_share_one_fetch() {
    let (old, new) = (IssuerKey::ec(), IssuerKey::new_ec("e2"));
    let verifier = fetching_verifier();
    let elsewhere = Elsewhere::saying(set(&[old]));
    judge_with(&verifier, &elsewhere, &old.token(&good()), later(0))
        .await
        .unwrap();
    elsewhere.asked();
    elsewhere.say(Ok(set(&[old, &new])));
    let token = new.token(&good());
    let all = (0..100).map(|_| judge_with(&verifier, &elsewhere, &token, later(1)));
    assert!(join_all(all).await.iter().all(Result::is_ok));
    assert_eq!(elsewhere.asked(), ["get now"]);
}

#[tokio::test]
async fn a_new_key_while_nobody_answers_is_our_fault_and_is_asked_for_once() {
    let (old, new) = (IssuerKey::ec(), IssuerKey::new_ec("e2"));
    let verifier = fetching_verifier();
    let elsewhere = Elsewhere::saying(set(&[old]));
    judge_with(&verifier, &elsewhere, &old.token(&good()), later(0))
        .await
        .unwrap();
    elsewhere.asked();
    elsewhere.say(Err(Unfetched::TooSlow));
    for seconds in 1..20 {
        let judged = judge_with(&verifier, &elsewhere, &new.token(&good()), later(seconds)).await;
        assert_eq!(judged, Err("unfetched"));
        judge_with(&verifier, &elsewhere, &old.token(&good()), later(seconds))
            .await
            .unwrap();
    }
    assert_eq!(elsewhere.asked(), ["get now"]);
}

#[tokio::test]
async fn a_set_that_is_none_is_not_believed_for_long() {
    let (verifier, key) = (fetching_verifier(), IssuerKey::ec());
    let elsewhere = Elsewhere::saying("<html>not here</html>");
    let token = key.token(&good());
    for seconds in 0..3 {
        let judged = judge_with(&verifier, &elsewhere, &token, later(seconds)).await;
        assert_eq!(judged, Err("unfetched"));
    }
    elsewhere.say(Ok(set(&[key])));
    let moment = later(COOL_DOWN.as_secs());
    assert_eq!(
        judge_with(&verifier, &elsewhere, &token, moment).await,
        Ok(())
    );
    assert_eq!(elsewhere.asked(), ["get", "get now"]);
}

#[tokio::test]
async fn what_would_not_count_anyway_makes_nobody_fetch() {
    let verifier = fetching_verifier();
    let elsewhere = Elsewhere::saying(set(&[IssuerKey::ec()]));
    for (token, label) in [
        ("x".to_owned(), "token_malformed"),
        (
            IssuerKey::ec().sign(r#"{"alg":"none"}"#, "{}"),
            "token_algorithm",
        ),
        (
            IssuerKey::ec().token(&with("exp", json!(1))),
            "token_expired",
        ),
        (
            IssuerKey::ec().token(&with("aud", json!("x"))),
            "token_audience",
        ),
        (
            IssuerKey::ec().token(&with("email", json!("x"))),
            "token_claim",
        ),
    ] {
        let judged = judge_with(&verifier, &elsewhere, &token, later(0)).await;
        assert_eq!(judged, Err(label));
        // The gateway goes on without evidence, and comes to the same refusal.
        assert_eq!(refused(&verifier, &token), label);
    }
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn a_key_of_the_configuration_needs_no_fetch() {
    let key = IssuerKey::ec();
    let mut table = table(&["ES256"]);
    table.token.jwks = Some("https://issuer.example/jwks.json".to_owned());
    let verifier = compile(table, &[&key.jwk.to_string()]).unwrap();
    let elsewhere = Elsewhere::saying("");
    assert_eq!(
        judge_with(&verifier, &elsewhere, &key.token(&good()), later(0)).await,
        Ok(())
    );
    assert!(elsewhere.asked().is_empty());
}

/// A key without a `kid` is for every token, and not every token is its owner's.
#[tokio::test]
async fn a_key_of_the_configuration_hides_none_that_is_published() {
    let (own, published) = (IssuerKey::ec(), IssuerKey::new_ec("e2"));
    let mut table = table(&["ES256"]);
    table.token.jwks = Some("https://issuer.example/jwks.json".to_owned());
    let verifier = compile(table, &[&own.public]).unwrap();
    let elsewhere = Elsewhere::saying(set(&[&published]));
    let token = published.token(&good());
    assert_eq!(refused(&verifier, &token), "evidence_absent");
    let judged = judge_with(&verifier, &elsewhere, &token, later(0)).await;
    assert_eq!(judged, Ok(()));
    assert_eq!(elsewhere.asked(), ["get"]);
    let judged = judge_with(&verifier, &elsewhere, &own.token(&good()), later(0)).await;
    assert_eq!(judged, Ok(()));
    assert!(elsewhere.asked().is_empty());
}

/// Who signs bodies does not issue tokens, unless the table says so.
#[tokio::test]
async fn beside_published_keys_the_secrets_of_another_table_count_only_by_name() {
    let (issuer, sender) = (IssuerKey::ec(), IssuerKey::new_ec("e2"));
    let tables = |labels: &[&str]| {
        let mut tokens = table(&["ES256"]);
        tokens.token.jwks = Some("https://issuer.example/jwks.json".to_owned());
        tokens.secrets = labels.iter().map(|&it| it.to_owned()).collect();
        let bodies = RawScheme {
            algorithm: Some("ecdsa-p256-sha256".to_owned()),
            signature: vec!["header:X-Signature".to_owned()],
            ..RawScheme::default()
        };
        compile_all(vec![tokens, bodies], &[&sender.public]).unwrap()
    };
    let elsewhere = Elsewhere::saying(set(&[issuer]));
    for (labels, expected) in [(&[][..], Err("token_key_unknown")), (&["0"][..], Ok(()))] {
        let verifier = tables(labels);
        let mut inbound = request("");
        let private = Some(&sender.private);
        let signed = verifier.sign(&mut inbound.head, b"{}", now(), private);
        signed.unwrap();
        let token = format!("Bearer {}", sender.token(&good()));
        let headers = &mut inbound.head.headers;
        headers.insert("authorization", token.parse().unwrap());
        let judged = judge_request(&verifier, &elsewhere, inbound, later(0)).await;
        assert_eq!(judged, expected, "{labels:?}");
    }
}

/// A table whose keys are not at hand any more fails without them, and need not be the one that
/// failed.
#[test]
fn the_mistake_is_looked_for_in_the_table_that_failed() {
    let mut tokens = table(&["ES256"]);
    tokens.token.jwks = Some("https://issuer.example/jwks.json".to_owned());
    let bodies = RawScheme {
        algorithm: Some("hmac-sha256".to_owned()),
        signature: vec!["header:X-Signature".to_owned()],
        encoding: Some("hex".to_owned()),
        ..RawScheme::default()
    };
    let verifier = compile_all(vec![tokens, bodies], &["s3cr3t"]).unwrap();
    let mut inbound = request(&format!("Bearer {}", IssuerKey::ec().token(&good())));
    let headers = &mut inbound.head.headers;
    headers.insert("x-signature", "ab".repeat(20).parse().unwrap());
    let said = verifier
        .diagnose(&inbound, later(0), &Refusal::Mismatch(1))
        .unwrap();
    assert!(said.contains("one of hmac-sha256 has 32"), "{said}");
    let tried = verifier
        .tried(&inbound, later(0), &Refusal::Mismatch(1))
        .unwrap();
    assert!(tried.starts_with("tried: `0` as utf8"), "{tried}");
}

fn asking_verifier() -> Verifier {
    let mut table = table(&[]);
    table.token.issuer = Vec::new();
    table.token.claims = BTreeMap::from([("scope".to_owned(), vec!["hooks".to_owned()])]);
    table.token.introspection = Some(RawIntrospection {
        url: Some("https://login.example/introspect".to_owned()),
        client_id: Some("gate way".to_owned()),
        cache: None,
    });
    compile(table, &["s3:cret"]).unwrap()
}

fn active() -> Value {
    json!({"active": true, "aud": AUDIENCE, "scope": "openid hooks", "exp": SECONDS + 100})
}

#[tokio::test]
async fn a_token_is_asked_about_once_while_its_answer_counts() {
    let verifier = asking_verifier();
    let elsewhere = Elsewhere::saying(active().to_string());
    let all = (0..50).map(|_| judge_with(&verifier, &elsewhere, "a/b+c==", later(0)));
    assert!(join_all(all).await.iter().all(Result::is_ok));
    assert_eq!(
        judge_with(&verifier, &elsewhere, "a/b+c==", later(59)).await,
        Ok(())
    );
    assert_eq!(
        elsewhere.asked(),
        ["token=a%2Fb%2Bc%3D%3D&token_type_hint=access_token Basic Z2F0ZSt3YXk6czMlM0FjcmV0"]
    );
    elsewhere.say(Ok(json!({"active": false}).to_string()));
    for seconds in [60, 61, 69] {
        let judged = judge_with(&verifier, &elsewhere, "a/b+c==", later(seconds)).await;
        assert_eq!(judged, Err("token_inactive"));
    }
    assert_eq!(elsewhere.asked().len(), 1);
    elsewhere.say(Ok(active().to_string()));
    assert_eq!(
        judge_with(&verifier, &elsewhere, "a/b+c==", later(70)).await,
        Ok(())
    );
}

#[tokio::test]
async fn what_the_server_says_of_a_token_is_held_against_the_rules() {
    for (claim, value, expected) in [
        ("aud", json!("other"), Err("token_audience")),
        ("scope", json!("openid"), Err("token_claim")),
        ("exp", json!(SECONDS - 100), Err("token_expired")),
        ("exp", Value::Null, Ok(())),
        ("active", json!("true"), Err("unfetched")),
        ("active", Value::Null, Err("unfetched")),
    ] {
        let mut answer = active();
        answer[claim] = value;
        if answer[claim].is_null() {
            answer.as_object_mut().unwrap().remove(claim);
        }
        let elsewhere = Elsewhere::saying(answer.to_string());
        let judged = judge_with(&asking_verifier(), &elsewhere, "token", later(0)).await;
        assert_eq!(judged, expected, "{answer}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_our_fault_and_is_left_alone_for_a_moment() {
    let verifier = asking_verifier();
    let elsewhere = Elsewhere::saying("");
    elsewhere.say(Err(Unfetched::TooSlow));
    for seconds in 0..2 {
        let judged = judge_with(&verifier, &elsewhere, "token", later(seconds)).await;
        assert_eq!(judged, Err("unfetched"));
    }
    assert_eq!(elsewhere.asked().len(), 1);
    elsewhere.say(Ok(active().to_string()));
    assert_eq!(
        judge_with(&verifier, &elsewhere, "token", later(2)).await,
        Ok(())
    );
    assert_eq!(
        judge_with(&verifier, &elsewhere, "to ken", later(2)).await,
        Err("token_malformed")
    );
}

#[tokio::test]
async fn strangers_with_many_tokens_do_not_fill_the_memory() {
    let verifier = asking_verifier();
    let elsewhere = Elsewhere::saying(json!({"active": false}).to_string());
    let begun = Instant::now();
    for number in 0..5_000 {
        let judged = judge_with(&verifier, &elsewhere, &format!("t{number}"), later(0)).await;
        assert_eq!(judged, Err("token_inactive"));
    }
    assert!(begun.elapsed() < Duration::from_secs(30));
}

/// Whoever asked may have gone before the answer came.
#[tokio::test]
async fn an_answer_that_nobody_waited_for_counts_no_longer_than_any_other() {
    let verifier = asking_verifier();
    let elsewhere = Elsewhere::saying(active().to_string());
    elsewhere.may_answer.forget_permits(Semaphore::MAX_PERMITS);
    let gone = judge_with(&verifier, &elsewhere, "token", later(0)).now_or_never();
    assert_eq!(gone, None);
    elsewhere.may_answer.add_permits(10);
    elsewhere.say(Ok(json!({"active": false}).to_string()));
    for (seconds, expected) in [(30, Ok(())), (3_600, Err("token_inactive"))] {
        let judged = judge_with(&verifier, &elsewhere, "token", later(seconds)).await;
        assert_eq!(judged, expected, "{seconds}");
    }
    assert_eq!(elsewhere.asked().len(), 2);
}

#[tokio::test]
async fn what_was_not_asked_is_not_remembered() {
    let verifier = asking_verifier();
    let elsewhere = Elsewhere::saying("");
    elsewhere.say(Err(Unfetched::TooMany));
    let judged = judge_with(&verifier, &elsewhere, "token", later(0)).await;
    assert_eq!(judged, Err("unfetched"));
    elsewhere.say(Ok(active().to_string()));
    let judged = judge_with(&verifier, &elsewhere, "token", later(0)).await;
    assert_eq!(judged, Ok(()));
}

#[tokio::test]
async fn made_up_tokens_push_no_good_one_out_and_cost_it_nothing() {
    let verifier = asking_verifier();
    let elsewhere = Elsewhere::saying(active().to_string());
    // So many tokens take a while.
    let begun = later(0);
    let after = |seconds| {
        let mut moment = begun;
        moment.mono += Duration::from_secs(seconds);
        moment
    };
    judge_with(&verifier, &elsewhere, "good", after(0))
        .await
        .unwrap();
    elsewhere.say(Ok(json!({"active": false}).to_string()));
    for number in 0..5_000 {
        let token = format!("t{number}");
        let judged = judge_with(&verifier, &elsewhere, &token, after(1)).await;
        assert_eq!(judged, Err("token_inactive"));
    }
    elsewhere.say(Ok(active().to_string()));
    elsewhere.asked();
    assert_eq!(
        judge_with(&verifier, &elsewhere, "good", after(59)).await,
        Ok(())
    );
    assert!(elsewhere.asked().is_empty());
    assert_eq!(
        judge_with(&verifier, &elsewhere, "good", after(60)).await,
        Ok(())
    );
    let askers = elsewhere.askers.lock().unwrap();
    let (last, others) = askers.split_last().unwrap();
    assert_eq!(*last, Asker::Known);
    assert!(others.iter().all(|asker| *asker == Asker::Stranger));
}
