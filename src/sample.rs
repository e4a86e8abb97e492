//! Webhooks to try things with: real payloads, made fresh and signed as the provider signs.
//!
//! `hookgate send` and `hookgate demo` are made of these.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::pipeline::arrival::{Head, Inbound};
use crate::pipeline::decode::Format;
use crate::pipeline::expr::Expr;
use crate::pipeline::split::Split;
use crate::secret::Secret;
use crate::source::Source;

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");
const XML: HeaderValue = HeaderValue::from_static("text/xml");

/// The form field that JSON is put into where the source names none.
const FIELD: &str = "payload";

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

impl Sample {
    /// What the gateway will see of it.
    pub fn inbound(&self) -> Inbound {
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (&*self.target, None),
        };
        let mut head = head_of(&self.method, path);
        head.query = query;
        head.headers.clone_from(&self.headers);
        Inbound {
            head,
            body: self.body.clone(),
        }
    }
}

/// What a sample is made from.
#[derive(Clone, Debug, Default)]
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
    /// More headers, instead of those of the same names that the sample has. The proof is made
    /// after them.
    pub headers: HeaderMap,
    /// More of the query, as it stands in a URL.
    pub query: Option<String>,
}

/// Makes a request of a fresh event (an id that was never used) and signs it with the source's
/// first secret.
///
/// # Errors
///
/// What cannot be made, in words: no example of this type, or a proof that a shared secret cannot
/// make.
pub fn make(source: &Source, recipe: &Recipe) -> Result<Sample, String> {
    if let Some(enrolment) = &source.enrolment
        && enrolment.verifier().is_none()
    {
        return Err(format!(
            "its secret comes in a handshake, and none has come yet: run `hookgate enroll {}`, then \
             have the provider make its webhook",
            source.name
        ));
    }
    let example = example(source.provider.as_deref(), recipe.event_type.as_deref());
    let (payload, event_type) = match (&recipe.payload, &recipe.event_type) {
        (Some(payload), event_type) => (payload.clone(), event_type.clone()),
        (None, asked) => (
            Bytes::from_static(example.body.as_bytes()),
            asked.clone().or(Some(example.event_type.to_owned())),
        ),
    };
    let methods = &source.methods;
    let with_body = methods.iter().find(|method| **method != Method::GET);
    let (method, payload) = match (with_body, &recipe.query) {
        (Some(method), _) => (method, payload),
        (None, Some(_)) => (&Method::GET, Bytes::new()),
        (None, None) => {
            return Err(
                "it takes its events by GET, in the query, and no example has one: say what is in \
                 it with --query"
                    .to_owned(),
            );
        }
    };
    let mut head = head_of(method, &source.path);
    head.query.clone_from(&recipe.query);
    head.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    head.headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static("hookgate-send"),
    );

    let split = source.split.as_ref().filter(|it| !it.is_of_cloud_events());
    let is_lines = source.reading.format == Format::Lines || split.is_some_and(Split::is_lines);
    let mut json: Option<Value> = serde_json::from_slice(&payload).ok();
    // A single document may stand on several lines.
    let mut changed = is_lines && json.is_some();
    if is_lines && json.is_none() {
        let lines = serde_json::Deserializer::from_slice(&payload).into_iter();
        json = lines.collect::<Result<_, _>>().map(Value::Array).ok();
    }
    let mut is_example = false;
    if let (Some(split), Some(whole)) = (split, &mut json) {
        let wrapped = split.wrap(whole);
        is_example = wrapped && recipe.payload.is_none();
        changed |= wrapped;
    }
    // Of a batch each event is to be a new one.
    let events: Vec<Option<&mut Value>> = match (split, &mut json) {
        (Some(split), Some(whole)) => split.elements_of(whole).into_iter().map(Some).collect(),
        (_, json) => vec![json.as_mut()],
    };
    for mut event in events {
        if is_example && let Some(event) = event.as_deref_mut() {
            let first = [source.event_id.first(), source.event_type.first()];
            first
                .into_iter()
                .flatten()
                .for_each(|place| place.make_room(event));
        }
        // Where the bytes are the id, an example has other ones each time.
        if let (Some(Value::Object(members)), None, true) = (
            event.as_deref_mut(),
            &recipe.payload,
            source.event_id.iter().any(Expr::is_digest),
        ) {
            members.insert("id".to_owned(), Value::from(fresh_id(None)));
            changed = true;
        }
        if let Some(place) = source.event_id.first() {
            let id = fresh_id(place.read(&head, None, event.as_deref()).as_deref());
            changed |= place.put(&mut head, event.as_deref_mut(), &id);
        }
        if let (Some(place), Some(event_type)) = (source.event_type.first(), &event_type)
            && place.read(&head, None, event.as_deref()).as_ref() != Some(event_type)
        {
            let is_asked_for = recipe.event_type.is_some();
            if let (true, Some(event)) = (is_asked_for, event.as_deref_mut()) {
                place.make_room(event);
            }
            let is_put = place.put(&mut head, event, event_type);
            changed |= is_put;
            if is_asked_for && !is_put {
                return Err(no_room_for_type(place));
            }
        }
    }
    if recipe.event_type.is_some() && source.event_type.is_empty() {
        return Err("--type has no place to go: the source has no `event_type`".to_owned());
    }
    let is_json = json.is_some();
    let body = match json {
        Some(json) if changed && is_lines => lines_of_json(&json),
        Some(json) if changed => Bytes::from(json.to_string()),
        _ => payload,
    };
    if is_lines {
        head.headers.insert(header::CONTENT_TYPE, LINES);
    }
    let wrapping = split
        .and_then(Split::form_field)
        .filter(|_| recipe.payload.is_none() || is_json);
    let body = match (wrapping, source.reading.format) {
        (Some(field), _) => in_form(&mut head, field, &body),
        (None, Format::Form) if recipe.payload.is_none() => {
            let field = source.reading.unwrap.as_deref();
            in_form(&mut head, field.unwrap_or(FIELD), &body)
        }
        (None, Format::Form) => {
            head.headers.insert(header::CONTENT_TYPE, FORM);
            body
        }
        (None, Format::Xml) => {
            head.headers.insert(header::CONTENT_TYPE, XML);
            if recipe.payload.is_none() {
                xml_of_json(&body)
            } else {
                body
            }
        }
        _ => body,
    };
    for name in recipe.headers.keys() {
        head.headers.remove(name);
    }
    head.headers.extend(recipe.headers.clone());
    let signing_key = recipe.signing_key.as_ref();
    let verifier = source.verifier();
    let mut body = verifier.seal(&mut head, body, recipe.at, signing_key)?;
    if recipe.spoiled {
        verifier.spoil(&mut head)?;
        body = verifier.spoil_body(&head, body)?;
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

fn head_of(method: &Method, path: &str) -> Head {
    Head {
        method: method.clone(),
        path: path.to_owned(),
        query: None,
        headers: HeaderMap::new(),
        client_ip: std::net::IpAddr::from([127, 0, 0, 1]),
        request_id: Arc::from(""),
        certificate: None,
    }
}

fn no_room_for_type(place: &Expr) -> String {
    let places: Vec<String> = place.places().map(ToString::to_string).collect();
    format!(
        "--type cannot be put where the type stands ({}): give a payload that has it with --file",
        places.join(", ")
    )
}

/// A form with one field, which holds JSON.
fn in_form(head: &mut Head, field: &str, json: &[u8]) -> Bytes {
    head.headers.insert(header::CONTENT_TYPE, FORM);
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.append_pair(field, &String::from_utf8_lossy(json));
    Bytes::from(body.finish())
}

/// JSON lines: the elements of a list, or what is none as the only line.
fn lines_of_json(json: &Value) -> Bytes {
    let lines = json
        .as_array()
        .map_or(std::slice::from_ref(json), Vec::as_slice);
    let lines = lines.iter().map(|line| format!("{line}\n"));
    Bytes::from(lines.collect::<String>())
}

/// The XML that reads as this JSON, of which every member is an element.
fn xml_of_json(json: &[u8]) -> Bytes {
    fn write(name: &str, value: &Value, xml: &mut String) {
        if let Value::Array(items) = value {
            items.iter().for_each(|item| write(name, item, xml));
            return;
        }
        xml.push_str(&format!("<{name}>"));
        match value {
            Value::Object(members) => members
                .iter()
                .for_each(|(name, value)| write(name, value, xml)),
            Value::String(text) => xml.push_str(&quick_xml::escape::escape(text.as_str())),
            other => xml.push_str(&other.to_string()),
        }
        xml.push_str(&format!("</{name}>"));
    }
    let json: Value = serde_json::from_slice(json).unwrap_or_default();
    let mut xml = String::new();
    for (name, value) in json.as_object().into_iter().flatten() {
        write(name, value, &mut xml);
    }
    Bytes::from(xml)
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
    // What its XML reads as.
    Example {
        provider: "wechat-plain",
        event_type: "text",
        body: r#"{"xml":{"ToUserName":"gh_a1b2c3d4e5f6","FromUserName":"oA1bC2dE3fG4","CreateTime":"1760000000","MsgType":"text","Content":"Hello & welcome","MsgId":"1234567890123456"}}"#,
    },
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
