//! The whole decision over a real journal: what no stage can show alone.

use std::convert::Infallible;

use futures_util::StreamExt as _;
use http::{HeaderMap, Method};
use http_body_util::Full;
use tempfile::TempDir;

use super::*;
use crate::journal::Journal;
use crate::pipeline::verify::Refusal;
use crate::sample::{Recipe, make};

mod batches;
mod sending;

/// A pipeline with one source, called `shop` mostly.
pub(crate) struct Setup {
    pub(crate) pipeline: Pipeline,
    pub(crate) shop: Arc<Source>,
    journal: Journal,
    _directory: TempDir,
}

fn setup(limits: &str, shop: &str) -> Setup {
    setup_with("", limits, shop, None)
}

/// The same with a `[broker]`, which is not the one that is asked.
fn setup_with(
    broker: &str,
    limits: &str,
    shop: &str,
    confirming: Option<Arc<dyn store::Confirming>>,
) -> Setup {
    let text = format!(
        "[server]\ntls = \"off\"\n[server.limits]\n{limits}\n{broker}\n\
         [sources.shop]\nsecrets = [{{ value = \"s3cr3t\" }}]\n{shop}"
    );
    match open_with(&text, "", confirming) {
        Ok(setup) => setup,
        Err(problems) => panic!("{problems}"),
    }
}

/// A pipeline with the source of a whole configuration, and `secret` in every environment
/// variable; what is wrong with it otherwise.
pub(crate) fn open(text: &str, secret: &str) -> Result<Setup, String> {
    open_with(text, secret, None)
}

fn open_with(
    text: &str,
    secret: &str,
    confirming: Option<Arc<dyn store::Confirming>>,
) -> Result<Setup, String> {
    let directory = tempfile::tempdir().unwrap();
    let config = testing::load(directory.path(), text, secret)?;
    let (pipeline, journal) = testing::pipeline_with(directory.path(), &config, confirming);
    Ok(Setup {
        pipeline,
        journal,
        shop: Arc::clone(config.sources.first().unwrap()),
        _directory: directory,
    })
}

const GITHUB: &str = "provider = \"github\"";

impl Setup {
    /// What the provider would send.
    fn genuine(&self) -> (Head, Bytes) {
        let recipe = Recipe {
            at: Now::read().wall,
            ..Recipe::default()
        };
        let sample = make(&self.shop, &recipe).unwrap();
        (head(sample.method, None, sample.headers), sample.body)
    }

    async fn receive<B: Body<Data = Bytes>>(&self, head: Head, body: B) -> Result<Outcome, Reject> {
        let mut account = Account::default();
        let arrival = Arrival { head, body };
        let decision = self.pipeline.receive(arrival, Now::read(), &mut account);
        decision.await
    }
}

fn head(method: Method, query: Option<&str>, headers: HeaderMap) -> Head {
    Head {
        method,
        path: "/shop".to_owned(),
        query: query.map(str::to_owned),
        headers,
        client_ip: [192, 0, 2, 1].into(),
        request_id: Arc::from("r"),
        certificate: None,
    }
}

/// A body of unknown length that comes after a while.
fn slow(bytes: Bytes, pause: Duration) -> impl Body<Data = Bytes, Error = Infallible> {
    http_body_util::StreamBody::new(futures_util::stream::once(async move {
        tokio::time::sleep(pause).await;
        Ok(http_body::Frame::data(bytes))
    }))
}

#[tokio::test]
async fn a_slow_body_does_not_use_up_the_time_for_storing_it() {
    let setup = setup("accept_timeout = \"200ms\"", GITHUB);
    let (head, body) = setup.genuine();
    let outcome = setup.receive(head, slow(body, Duration::from_millis(400)));
    let outcome = outcome.await.unwrap();
    assert!(matches!(outcome, Outcome::Accepted(..)), "{outcome:?}");
}

/// A body of which so much comes, and then nothing more.
fn stalled(bytes: Vec<u8>) -> impl Body<Data = Bytes, Error = Infallible> {
    let frame = Ok(http_body::Frame::data(Bytes::from(bytes)));
    let stream = futures_util::stream::iter([frame]).chain(futures_util::stream::pending());
    http_body_util::StreamBody::new(stream)
}

/// What a genuine request is answered while another one's body stalls.
async fn beside(stalled: impl Body<Data = Bytes>) -> Result<Outcome, Reject> {
    let setup = setup("max_bytes_in_flight = \"1MiB\"", GITHUB);
    let (head, body) = setup.genuine();
    tokio::select! {
        biased;
        decision = setup.receive(head.clone(), stalled) => panic!("{decision:?}"),
        decision = setup.receive(head, Full::new(body)) => decision,
    }
}

#[tokio::test]
async fn a_body_takes_room_as_it_comes_and_none_before() {
    beside(stalled(Vec::new())).await.unwrap();
    let much = vec![b' '; (1 << 20) - 10];
    assert_eq!(beside(stalled(much)).await.unwrap_err(), Reject::Overloaded);
}

/// Whoever asks X's challenge gets a signature on what they wrote.
#[tokio::test]
async fn an_answered_challenge_is_no_event() {
    const FORM: &str = "application/x-www-form-urlencoded";
    let setup = setup("", "provider = \"x\"");
    for (text, content_type) in [("cmd=stop", FORM), ("17", "application/json")] {
        let query: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("crc_token", text)
            .finish();
        let ask = head(Method::GET, Some(&query), HeaderMap::new());
        let answered = setup.receive(ask, Full::new(Bytes::new())).await.unwrap();
        let Outcome::Handshake(answer) = answered else {
            panic!("{answered:?}");
        };
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        let signature = answer["response_token"].as_str().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-twitter-webhooks-signature", signature.parse().unwrap());
        headers.insert("content-type", content_type.parse().unwrap());
        let forged = setup.receive(head(Method::POST, None, headers), Full::new(text.into()));
        let reject = forged.await.unwrap_err();
        assert_eq!(reject, Reject::Unverified(Refusal::Challenge), "{text}");
    }
    let (head, body) = setup.genuine();
    setup.receive(head, Full::new(body)).await.unwrap();
}

#[tokio::test]
async fn events_with_an_empty_id_are_no_copies_of_each_other() {
    let shop = "event_id = \"header:X-Id\"\n[sources.shop.verify]\nalgorithm = \"token\"\n\
                signature = \"header:X-Token\"";
    let setup = setup("", shop);
    let mut headers = HeaderMap::new();
    headers.insert("x-token", "s3cr3t".parse().unwrap());
    headers.insert("x-id", "".parse().unwrap());
    for body in ["1", "2"] {
        let outcome = setup.receive(
            head(Method::POST, None, headers.clone()),
            Full::new(body.into()),
        );
        let outcome = outcome.await.unwrap();
        assert!(matches!(outcome, Outcome::Accepted(..)), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_sample_comes_with_a_method_that_the_source_takes() {
    let setup = setup("", &format!("{GITHUB}\nmethods = [\"PUT\"]"));
    let (head, body) = setup.genuine();
    setup.receive(head, Full::new(body)).await.unwrap();
}

#[tokio::test]
async fn ids_and_types_of_absurd_length_are_not_kept() {
    let shop = "verify = \"insecure-none\"\nevent_id = \"json:/id\"\nevent_type = \"json:/type\"";
    let setup = setup("", shop);
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    for (length, kept) in [(NAME_BYTES_MAX, true), (NAME_BYTES_MAX + 1, false)] {
        let name = "n".repeat(length);
        let body = format!(r#"{{"id":"{name}","type":"{name}"}}"#);
        let arrival = Arrival {
            head: head(Method::POST, None, headers.clone()),
            body: Full::new(Bytes::from(body)),
        };
        let mut account = Account::default();
        let decision = setup.pipeline.receive(arrival, Now::read(), &mut account);
        assert!(matches!(decision.await, Ok(Outcome::Accepted(..))));
        assert_eq!(account.event_id.is_some(), kept);
        assert_eq!(account.event_type.is_some(), kept);
        assert_eq!(setup.pipeline.dedupe.len(), 1, "only the short one");
    }
}

#[tokio::test]
async fn what_cannot_be_fetched_is_our_trouble_and_what_must_not_be_is_the_senders() {
    let verify = "[sources.shop.verify]\nalgorithm = \"rsa-pkcs1-sha256\"\n\
                  signature = \"header:X-Signature\"\nencoding = \"base64\"\n\
                  fetch = { url = \"header:X-Url\", hosts = [\"certs.example.com\"] }";
    let request = |url: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("x-signature", "QUJD".parse().unwrap());
        headers.insert("x-url", url.parse().unwrap());
        headers.insert("content-type", "application/json".parse().unwrap());
        head(Method::POST, None, headers)
    };
    let (listed, other) = ("https://certs.example.com/a", "https://evil.example/a");
    let body = || Full::new(Bytes::from_static(b"{}"));
    let strict = setup("", verify);
    // Nothing is fetched in this test.
    let reject = strict.receive(request(listed), body()).await.unwrap_err();
    let why = "https://certs.example.com/a: nothing is fetched here".to_owned();
    assert_eq!(reject, Reject::EvidenceUnavailable(why));
    let reject = strict.receive(request(other), body()).await.unwrap_err();
    let Reject::Unverified(refusal) = reject else {
        panic!("{reject:?}");
    };
    assert_eq!(refusal.label(), "url_not_allowed");

    let lenient = setup("", &format!("enforce = false\n{verify}"));
    for url in [listed, other] {
        let outcome = lenient.receive(request(url), body()).await.unwrap();
        assert!(matches!(outcome, Outcome::Accepted(..)), "{outcome:?}");
    }
}

/// Has the same for everybody.
#[derive(Debug)]
struct Has(&'static [u8]);

impl Fetching for Has {
    fn fetch(
        &self,
        _errand: Errand,
    ) -> futures_util::future::BoxFuture<'static, Result<evidence::Document, evidence::Unfetched>>
    {
        let body = Bytes::from_static(self.0);
        let document = evidence::Document {
            body,
            max_age: None,
        };
        Box::pin(std::future::ready(Ok(document)))
    }
}

/// Remembers what it is to call later.
#[derive(Debug, Default)]
struct Later(std::sync::Mutex<Vec<String>>);

impl Fetching for Later {
    fn fetch(
        &self,
        errand: Errand,
    ) -> futures_util::future::BoxFuture<'static, Result<evidence::Document, evidence::Unfetched>>
    {
        evidence::Nowhere.fetch(errand)
    }

    fn fetch_later(&self, errand: Errand) {
        self.0.lock().unwrap().push(errand.target.url());
    }
}

#[tokio::test]
async fn event_grid_is_called_after_an_answer_without_its_echo_where_the_source_says_so() {
    let url = "https://rp-eastus2.eventgrid.azure.net:553/eventsubscriptions/es/validate?id=B";
    let validation = |data: Value| {
        let body = serde_json::json!([{ "id": "1", "data": data }]);
        Full::new(Bytes::from(body.to_string()))
    };
    let whole = || serde_json::json!({ "validationCode": "c-1", "validationUrl": url });
    let old = || serde_json::json!({ "validationCode": "c-1" });
    let echo = r#"{"validationResponse":"c-1"}"#;
    for (lines, code, data, body, called) in [
        ("", "s3cr3t", whole(), echo, None),
        ("confirm = true", "s3cr3t", whole(), "", Some(url)),
        ("confirm = true", "s3cr3t", old(), echo, None),
        // Nobody is called for a stranger.
        (
            "confirm = true\nenforce = false",
            "wrong",
            whole(),
            echo,
            None,
        ),
    ] {
        let mut setup = setup("", &format!("provider = \"eventgrid\"\n{lines}"));
        let later = Arc::new(Later::default());
        setup.pipeline.fetching = Arc::clone(&later) as Arc<dyn Fetching>;
        let mut headers = HeaderMap::new();
        headers.insert("aeg-event-type", "SubscriptionValidation".parse().unwrap());
        let query = format!("code={code}");
        let request = head(Method::POST, Some(&query), headers);
        let outcome = setup.receive(request, validation(data)).await.unwrap();
        let Outcome::Handshake(reply) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(
            (reply.status.as_u16(), &*reply.body),
            (200, body),
            "{lines}"
        );
        let asked = later.0.lock().unwrap();
        assert_eq!(asked.first().map(String::as_str), called, "{lines}");
    }
}

#[tokio::test]
async fn a_key_that_is_none_is_not_the_senders_fault() {
    let verify = "[sources.shop.verify]\nalgorithm = \"rsa-pkcs1-sha256\"\n\
                  signature = \"header:X-Signature\"\nencoding = \"base64\"\n\
                  fetch = { url = \"header:X-Url\", hosts = [\"certs.example.com\"] }";
    let mut setup = setup("", verify);
    setup.pipeline.fetching = Arc::new(Has(b"<html>"));
    let mut headers = HeaderMap::new();
    headers.insert("x-signature", "QUJD".parse().unwrap());
    headers.insert("x-url", "https://certs.example.com/a".parse().unwrap());
    headers.insert("content-type", "application/json".parse().unwrap());
    let request = head(Method::POST, None, headers);
    let reject = setup.receive(request, Full::new(Bytes::from_static(b"{}")));
    let reject = reject.await.unwrap_err();
    assert!(
        matches!(reject, Reject::EvidenceUnavailable(_)),
        "{reject:?}"
    );
}

#[tokio::test]
async fn a_subscription_that_nothing_proves_is_told_to_a_person() {
    let shop = "provider = \"sns\"\nenforce = false\nconfirm = true\n\
                config = { topics = [\"arn\"] }";
    let setup = setup("", shop);
    let url = "https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription";
    let body = format!(r#"{{"Type":"SubscriptionConfirmation","SubscribeURL":"{url}"}}"#);
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "text/plain".parse().unwrap());
    let arrival = Arrival {
        head: head(Method::POST, None, headers),
        body: Full::new(Bytes::from(body)),
    };
    let mut account = Account::default();
    let decision = setup
        .pipeline
        .receive(arrival, Now::read(), &mut account)
        .await;
    assert!(
        matches!(decision, Ok(Outcome::Handshake(_))),
        "{decision:?}"
    );
    let told = account.unconfirmed.unwrap();
    assert!(
        told.contains(url) && told.contains("nothing proves it"),
        "{told}"
    );
}
