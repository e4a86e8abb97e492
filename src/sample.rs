//! Webhooks to try things with: real payloads, made fresh and signed as the provider signs.
//!
//! `hookgate send` and `hookgate demo` are made of these.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::pipeline::arrival::Head;
use crate::secret::Secret;
use crate::source::Source;

/// A request that is ready to be sent.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The first method that the source takes events with.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// Its headers, the proof among them.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// What a sample is made from.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The payload; the provider's example when not said.
    pub payload: Option<Bytes>,
    /// The event's type; the example's own when not said.
    pub event_type: Option<String>,
    /// The moment that it is signed for.
    pub at: Timestamp,
    /// Whether to spoil the signature.
    pub spoiled: bool,
    /// The sender's private key in PEM, where a signature needs one.
    pub signing_key: Option<Secret>,
}

/// Makes a request of a fresh event (an id that was never used) and signs it with the source's
/// first secret.
///
/// # Errors
///
/// What cannot be made, in words: no example of this type, or a proof that a shared secret cannot
/// make.
pub fn make(source: &Source, recipe: &Recipe) -> Result<Sample, String> {
    let example = example(source.provider.as_deref(), recipe.event_type.as_deref());
    let (payload, event_type) = match (&recipe.payload, &recipe.event_type) {
        (Some(payload), event_type) => (payload.clone(), event_type.clone()),
        (None, asked) => (
            Bytes::from_static(example.body.as_bytes()),
            asked.clone().or(Some(example.event_type.to_owned())),
        ),
    };
    let mut head = Head {
        method: source
            .methods
            .iter()
            .find(|method| !method.is_safe())
            .cloned()
            .unwrap_or(Method::POST),
        path: source.path.clone(),
        query: None,
        headers: HeaderMap::new(),
        client_ip: std::net::IpAddr::from([127, 0, 0, 1]),
        request_id: Arc::from(""),
    };
    head.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    head.headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static("hookgate-send"),
    );

    let mut json: Option<Value> = serde_json::from_slice(&payload).ok();
    let mut changed = false;
    if let Some(place) = source.event_id.first() {
        let id = fresh_id(place.read(&head, json.as_ref()).as_deref());
        changed |= place.put(&mut head, json.as_mut(), &id);
    }
    if let (Some(place), Some(event_type)) = (source.event_type.first(), &event_type)
        && place.read(&head, json.as_ref()).as_ref() != Some(event_type)
    {
        changed |= place.put(&mut head, json.as_mut(), event_type);
    }
    let body = match json {
        Some(json) if changed => Bytes::from(json.to_string()),
        _ => payload,
    };
    let signing_key = recipe.signing_key.as_ref();
    source
        .verifier
        .sign(&mut head, &body, recipe.at, signing_key)?;
    if recipe.spoiled {
        source.verifier.spoil(&mut head)?;
    }
    let target = match &head.query {
        Some(query) => format!("{}?{query}", head.path),
        None => head.path,
    };
    Ok(Sample {
        method: head.method,
        target,
        headers: head.headers,
        body,
    })
}

/// An id like the one in the example, as providers' schemas want it: the same prefix (`evt_`, `Ev`),
/// and behind it other letters where there were letters, other digits where there were digits. A
/// UUID when there is too little to change.
fn fresh_id(like: Option<&str>) -> String {
    const VARIED_MIN: usize = 8;
    let like = like.unwrap_or_default();
    let prefix = like.rfind('_').map_or_else(
        || like.chars().take_while(char::is_ascii_alphabetic).count(),
        |underscore| underscore + 1,
    );
    let varied = like
        .chars()
        .skip(prefix)
        .filter(char::is_ascii_alphanumeric)
        .count();
    if varied < VARIED_MIN {
        return Uuid::new_v4().to_string();
    }
    let fresh = |(position, c): (usize, char)| match c {
        _ if position < prefix => c,
        // Letters that hexadecimal has, too.
        'a'..='z' => fastrand::char('a'..='f'),
        'A'..='Z' => fastrand::char('A'..='F'),
        '0'..='9' => fastrand::char('0'..='9'),
        other => other,
    };
    like.chars().enumerate().map(fresh).collect()
}

struct Example {
    provider: &'static str,
    event_type: &'static str,
    body: &'static str,
}

macro_rules! example {
    ($provider:literal, $event_type:literal, $file:literal) => {
        Example {
            provider: $provider,
            event_type: $event_type,
            body: include_str!(concat!("../tests/payloads/", $file)),
        }
    };
}

/// The first of a provider is its usual one; the very last is for sources of no provider.
const EXAMPLES: &[Example] = &[
    example!("github", "push", "github/valid/push--branch_created.json"),
    example!(
        "github",
        "pull_request",
        "github/valid/pull_request--opened.json"
    ),
    example!("github", "issues", "github/valid/issues--opened.json"),
    example!("github", "ping", "github/valid/ping--repository.json"),
    example!(
        "stripe",
        "invoice.paid",
        "stripe/valid/invoice.paid--subscription_cycle.json"
    ),
    example!(
        "shopify",
        "orders/create",
        "shopify/valid/orders.create--published_sample.json"
    ),
    example!(
        "slack",
        "app_mention",
        "slack/valid/app_mention--in_channel.json"
    ),
    example!(
        "",
        "order.created",
        "orders/valid/order.created--two_items.json"
    ),
];

fn example(provider: Option<&str>, event_type: Option<&str>) -> &'static Example {
    const FALLBACK: Example = Example {
        provider: "",
        event_type: "example",
        body: "{}",
    };
    let provider = provider.unwrap_or_default();
    let of_provider = || {
        EXAMPLES
            .iter()
            .filter(|example| example.provider == provider)
    };
    of_provider()
        .find(|example| Some(example.event_type) == event_type)
        .or_else(|| of_provider().next())
        .or_else(|| EXAMPLES.last())
        .unwrap_or(&FALLBACK)
}
