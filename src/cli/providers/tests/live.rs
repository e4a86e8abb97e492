//! Every provider's source as it is recommended: sent to as `hookgate send` does, through the whole
//! decision, and answered.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::json;

use super::all;
use crate::cli::providers::{Provider, STAND_INS};
use crate::clock::Now;
use crate::config::raw::RawVerify;
use crate::edge::reply::{Afterwards, reply};
use crate::pipeline::arrival::{Arrival, Head};
use crate::pipeline::tests::{Setup, open};
use crate::pipeline::verify::testing::pair;
use crate::pipeline::{Account, Outcome, Receipt};
use crate::reject::Reject;
use crate::sample::{Recipe, Sample, make};
use crate::secret::Secret;

/// Answers that a provider wants so and not otherwise: status, content type, body.
const WANTED: &[(&str, u16, Option<&str>, &str)] = &[
    (
        "adyen-header",
        200,
        Some("text/plain; charset=utf-8"),
        "[accepted]",
    ),
    (
        "adyen-item",
        200,
        Some("text/plain; charset=utf-8"),
        "[accepted]",
    ),
    ("bigcommerce", 200, None, ""),
    ("cloudevents-http-webhook", 202, None, ""),
    ("discord", 204, None, ""),
    ("quickbooks", 200, None, ""),
    ("shopify", 200, None, ""),
    ("slack", 200, None, ""),
    ("telegram", 200, None, ""),
    ("twilio-form", 200, None, ""),
    ("twilio-json", 200, None, ""),
    (
        "wechat-plain",
        200,
        Some("text/plain; charset=utf-8"),
        "success",
    ),
    ("xero", 200, None, ""),
];

/// Providers that `hookgate send` cannot play, with the words in which it says why.
const UNSIGNED: &[(&str, &str)] = &[
    ("asana", "hookgate enroll asana"),
    ("connectwise", "--signing-key FILE"),
    ("eventgrid-entra", "the issuer's private key"),
    ("eventgrid-entra-cloudevents", "the issuer's private key"),
    ("fusionauth", "the issuer's private key"),
    ("msgraph-rich", "the issuer's private key"),
    ("notion", "hookgate enroll notion"),
    ("oidc", "the issuer's private key"),
    ("paypal-cert-url", "--signing-key FILE"),
    ("plaid", "the issuer's private key"),
    ("pubsub", "the issuer's private key"),
    ("sns", "explain --evidence"),
];

/// A source of a provider in a pipeline, with its sender's private key if there is one.
fn live(provider: &Provider) -> (Setup, Option<Secret>) {
    let text = format!(
        "[server]\ntls = \"off\"\npublic_url = \"https://hooks.example.com\"\n{}",
        provider.block()
    );
    let pair = match &provider.raw().verify {
        Some(RawVerify::Schemes(schemes)) => schemes
            .iter()
            .filter(|it| it.fetch.is_none())
            .find_map(|scheme| {
                pair(
                    scheme.algorithm.as_deref()?,
                    scheme.key.as_deref().unwrap_or_default(),
                )
            }),
        _ => None,
    };
    if let Some(pair) = pair {
        let setup = open(&text, &pair.public).unwrap_or_else(|what| panic!("{what}"));
        return (setup, Some(pair.private));
    }
    let setup = STAND_INS.iter().find_map(|secret| open(&text, secret).ok());
    let setup = setup.unwrap_or_else(|| panic!("no secret for\n{text}"));
    (setup, None)
}

fn recipe(signing_key: Option<&Secret>) -> Recipe {
    Recipe {
        at: Now::read().wall,
        signing_key: signing_key.cloned(),
        ..Recipe::default()
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

async fn send(setup: &Setup, sample: &Sample) -> (Result<Outcome, Reject>, Account, Answer) {
    let (path, query) = match sample.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (sample.target.as_str(), None),
    };
    let head = Head {
        method: sample.method.clone(),
        path: path.to_owned(),
        query: query.map(str::to_owned),
        headers: sample.headers.clone(),
        client_ip: [192, 0, 2, 1].into(),
        request_id: "r".into(),
        certificate: None,
    };
    let body = Full::new(sample.body.clone());
    let mut account = Account::default();
    let arrival = Arrival { head, body };
    let decision = setup.pipeline.receive(arrival, Now::read(), &mut account);
    let decision = decision.await;
    let answer: Response<Full<Bytes>> = reply(&decision, "r", Afterwards::Open);
    let (head, mut body) = answer.into_parts();
    // One frame has all of it; an empty body has none.
    let frame = body.frame().await.map(|frame| frame.unwrap().into_data());
    let answer = Answer {
        status: head.status,
        headers: head.headers,
        body: frame.map(Result::unwrap).unwrap_or_default(),
    };
    (decision, account, answer)
}

#[tokio::test]
async fn what_is_sent_in_its_name_is_taken_and_answered_as_it_wants() {
    for provider in all() {
        let name = provider.name.as_str();
        let (setup, private_key) = live(&provider);
        let sample = match make(&setup.shop, &recipe(private_key.as_ref())) {
            Ok(sample) => sample,
            Err(words) => {
                let unsigned = UNSIGNED.iter().find(|(unsigned, _)| *unsigned == name);
                let (_, wanted) = unsigned.unwrap_or_else(|| panic!("{name}: {words}"));
                assert!(words.contains(wanted), "{name}: {words}");
                continue;
            }
        };
        let (decision, account, answer) = send(&setup, &sample).await;
        let Ok(Outcome::Accepted(receipt, _)) = decision else {
            panic!("{name}: {decision:?}");
        };
        assert_eq!(account.quarantined, None, "{name}");
        let content_type = answer.headers.get("content-type");
        let content_type = content_type.map(|value| value.to_str().unwrap());
        let text = std::str::from_utf8(&answer.body).unwrap();
        let said = (answer.status.as_u16(), content_type, text);
        if let Some((_, status, content_type, body)) =
            WANTED.iter().find(|(wanted, ..)| *wanted == name)
        {
            assert_eq!(said, (*status, *content_type, *body), "{name}");
        }
        let (wanted, what) = match receipt {
            Receipt::Event(id) => (
                json!({ "status": "accepted", "id": id.to_string() }),
                "the event's id as JSON",
            ),
            Receipt::Batch { name, .. } => (
                json!({ "status": "accepted", "batch": name.to_string(), "events": 1, "duplicates": 0 }),
                "the batch's name and counts as JSON",
            ),
        };
        let shown = match (text, answer.status) {
            ("", StatusCode::NO_CONTENT) => "204".to_owned(),
            ("", status) => format!("{}, empty", status.as_u16()),
            (text, status) if serde_json::from_str(text).ok() == Some(wanted) => {
                format!("{}, {what}", status.as_u16())
            }
            (text, status) => format!("{}, `{text}`", status.as_u16()),
        };
        assert_eq!(shown, provider.answer(), "{name}: the page says otherwise");
        assert!(!answer.headers.contains_key("set-cookie"), "{name}");

        // A copy must not look like something else to the provider.
        let (decision, _, again) = send(&setup, &sample).await;
        assert!(decision.is_ok(), "{name}: {decision:?}");
        assert_eq!(again.status, answer.status, "{name}");
        assert_eq!(again.body.is_empty(), answer.body.is_empty(), "{name}");
    }
    let names: Vec<String> = all().into_iter().map(|provider| provider.name).collect();
    for (wanted, ..) in WANTED {
        assert!(names.iter().any(|name| name == wanted), "no {wanted}");
    }
}

#[tokio::test]
async fn a_spoiled_proof_in_its_name_is_refused() {
    for provider in all() {
        let (setup, private_key) = live(&provider);
        let spoiled = Recipe {
            spoiled: true,
            ..recipe(private_key.as_ref())
        };
        let Ok(sample) = make(&setup.shop, &spoiled) else {
            continue;
        };
        let (decision, _, answer) = send(&setup, &sample).await;
        let name = &provider.name;
        assert!(
            matches!(decision, Err(Reject::Unverified(_))),
            "{name}: {decision:?}"
        );
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{name}");
    }
}

/// Where a refusal would be the end of the event, or of the webhook, nothing genuine is refused
/// for what is in it.
#[tokio::test]
async fn what_cannot_be_read_is_kept_where_a_refusal_would_lose_it() {
    let mut kept = 0;
    for provider in all() {
        let (setup, private_key) = live(&provider);
        let broken = Recipe {
            payload: Some(Bytes::from_static(b"{\"a\":\xff")),
            ..recipe(private_key.as_ref())
        };
        // A proof in the body needs a body that can be read.
        let Ok(sample) = make(&setup.shop, &broken) else {
            continue;
        };
        let (decision, account, answer) = send(&setup, &sample).await;
        let name = &provider.name;
        match provider.unfit() {
            "quarantine" => {
                assert!(
                    matches!(decision, Ok(Outcome::Accepted(..))),
                    "{name}: {decision:?}"
                );
                assert!(answer.status.is_success(), "{name}");
                kept += u32::from(account.quarantined.is_some());
            }
            _ => assert_ne!(
                answer.status,
                StatusCode::UNAUTHORIZED,
                "{name}: {decision:?}"
            ),
        }
    }
    assert!(kept > 20, "{kept}");
}
