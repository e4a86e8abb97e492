//! Webhooks to try things with: real payloads, made fresh and signed as the provider signs.
//!
//! `hookgate send` and `hookgate demo` are made of these.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::pipeline::arrival::{Head, Inbound};
use crate::pipeline::decode::Format;
use crate::pipeline::expr::{Expr, Place, Said};
use crate::pipeline::split::Split;
use crate::pipeline::verify::{Draft, members};
use crate::secret::Secret;
use crate::source::Source;

const FORM: &str = "application/x-www-form-urlencoded";
const LINES: &str = "application/x-ndjson";
const XML: &str = "text/xml";

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
    /// The places in it where something was written, for people, if it was a given payload.
    pub written: Vec<String>,
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
    /// The payload, which is sent as it is, but for what proves its sender; the provider's
    /// example, with an id of its own each time, when not said.
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
    /// The query as it stands in a URL; more of it where a proof goes there.
    pub query: Option<String>,
}

/// Makes a request and signs it with the source's first secret. The example becomes a fresh event
/// (an id that was never used), of what is given nothing is made up.
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
    let methods = &source.methods;
    let with_body = methods.iter().find(|method| **method != Method::GET);
    let (method, payload) = match (with_body, &recipe.query) {
        (Some(method), _) => (method, recipe.payload.clone()),
        (None, Some(_)) => (&Method::GET, Some(Bytes::new())),
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
    is_of_type(&mut head, "application/json");
    head.headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static("hookgate-send"),
    );

    let mut written = Vec::new();
    let is_example = payload.is_none();
    let body = match payload {
        None => example_body(source, recipe, &mut head)?,
        Some(payload) => {
            if let Some(content_type) = content_type(source) {
                is_of_type(&mut head, content_type);
            }
            // Beside the payload stands the id of this delivery.
            if let Some(place) = source.event_id.first()
                && matches!(place.places().next(), Some(Place::Header(_)))
            {
                place.put(&mut head, None, &fresh_id(None));
            }
            match &recipe.event_type {
                None => payload,
                Some(event_type) => {
                    let typed = with_type(source, &mut head, &payload, event_type)?;
                    if typed != payload {
                        written.push("its type".to_owned());
                    }
                    typed
                }
            }
        }
    };
    if recipe.event_type.is_some() && source.event_type.is_empty() {
        return Err("--type has no place to go: the source has no `event_type`".to_owned());
    }
    for name in recipe.headers.keys() {
        head.headers.remove(name);
    }
    head.headers.extend(recipe.headers.clone());
    let signing_key = recipe.signing_key.as_ref();
    let verifier = source.verifier();
    let sealed = verifier.seal(&mut head, body, recipe.at, signing_key)?;
    let mut body = sealed.body;
    if !is_example {
        written.extend(sealed.written);
    }
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
        written,
    })
}

/// What a source's events are, where it does not leave that to them.
fn content_type(source: &Source) -> Option<&'static str> {
    let split = split_of(source);
    match source.reading.format {
        Format::Lines => Some(LINES),
        _ if split.is_some_and(Split::is_lines) => Some(LINES),
        Format::Form => Some(FORM),
        _ if split.and_then(Split::form_field).is_some() => Some(FORM),
        Format::Xml => Some(XML),
        Format::Auto | Format::Json | Format::CloudEvents | Format::Raw => None,
    }
}

fn split_of(source: &Source) -> Option<&Split> {
    source.split.as_ref().filter(|it| !it.is_of_cloud_events())
}

/// The example, as an event of its own and in the form that the source takes. Its keys stay in
/// their order: sorted ones would look as if a program had parsed and written them.
fn example_body(source: &Source, recipe: &Recipe, head: &mut Head) -> Result<Bytes, String> {
    let example = example(source.provider.as_deref(), recipe.event_type.as_deref());
    let split = split_of(source);
    let (mut text, mut is_bare) = (example.body.trim_end().to_owned(), false);
    if let Some(split) = split {
        let batch = split.wrap(&text);
        is_bare = batch != text;
        text = batch;
    }
    let is_xml = source.reading.format == Format::Xml;
    if is_xml && root(&text).is_none() {
        let places = source.event_id.iter().chain(&source.event_type);
        let root = places.filter_map(Expr::outermost).next();
        let root = Value::from(root.as_deref().unwrap_or("event"));
        text = format!("{{{root}:{text}}}");
        is_bare = true;
    }
    if source.reading.format == Format::CloudEvents {
        let event_type = recipe.event_type.as_deref().unwrap_or(example.event_type);
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", &fresh_id(None)),
            ("ce-source", "/hookgate/send"),
            ("ce-type", event_type),
        ] {
            let value = HeaderValue::try_from(value);
            let value = value.map_err(|_odd| "no header can have this type".to_owned())?;
            head.headers.insert(name, value);
        }
    }
    let places = [source.event_id.first(), source.event_type.first()];
    for event in events_of(split, &text) {
        let mut draft = Draft {
            text: &mut text,
            event: &event,
        };
        if is_bare {
            for place in places.into_iter().flatten() {
                place.make_room(&mut draft);
            }
        }
        // Where the bytes are the id, an example has other ones each time.
        if source.event_id.iter().any(Expr::is_digest) {
            draft.put("/id", &fresh_id(None));
        }
        if let Some(place) = source.event_id.first()
            && place.read(head, None, None).is_none()
        {
            let old = read(place, head, &draft);
            place.put(head, Some(&mut draft), &fresh_id(old.as_deref()));
        }
        match &recipe.event_type {
            Some(event_type) => put_type(source, head, &mut draft, event_type)?,
            None => {
                if let Some(place) = source.event_type.first()
                    && read(place, head, &draft).is_none()
                {
                    place.put(head, Some(&mut draft), example.event_type);
                }
            }
        }
    }
    let content_type = recipe.headers.get(header::CONTENT_TYPE);
    let is_form = content_type.is_some_and(|it| it.as_bytes().starts_with(FORM.as_bytes()));
    let unwrap = source.reading.unwrap.as_deref();
    let of_split = split.and_then(Split::form_field);
    Ok(match (of_split, self::content_type(source)) {
        (Some(field), _) => in_form(head, field, text.as_bytes()),
        (None, Some(FORM)) => in_form(head, unwrap.unwrap_or(FIELD), text.as_bytes()),
        (None, None) if is_form && let Some(field) = unwrap => {
            in_form(head, field, text.as_bytes())
        }
        (None, Some(LINES)) => {
            is_of_type(head, LINES);
            Bytes::from(format!("{text}\n"))
        }
        (None, Some(_)) => {
            is_of_type(head, XML);
            Bytes::from(xml_of_json(&text))
        }
        (None, None) => Bytes::from(text),
    })
}

/// A given payload with the type that it is to have.
fn with_type(
    source: &Source,
    head: &mut Head,
    payload: &Bytes,
    event_type: &str,
) -> Result<Bytes, String> {
    let given = std::str::from_utf8(payload).unwrap_or_default();
    let mut text = given.to_owned();
    for event in events_of(split_of(source), given) {
        let mut draft = Draft {
            text: &mut text,
            event: &event,
        };
        put_type(source, head, &mut draft, event_type)?;
    }
    Ok(match text == given {
        true => payload.clone(),
        false => Bytes::from(text),
    })
}

/// Gives an event the type that was asked for.
fn put_type(
    source: &Source,
    head: &mut Head,
    draft: &mut Draft<'_>,
    event_type: &str,
) -> Result<(), String> {
    let Some(place) = source.event_type.first() else {
        return Ok(());
    };
    if read(place, head, draft).as_deref() == Some(event_type) {
        return Ok(());
    }
    place.make_room(draft);
    place.put(head, Some(draft), event_type);
    match read(place, head, draft).as_deref() {
        Some(there) if there == event_type => Ok(()),
        _ => Err(no_room_for_type(place)),
    }
}

/// What an expression finds in a draft.
fn read(place: &Expr, head: &Head, draft: &Draft<'_>) -> Option<String> {
    let whole: Option<Value> = serde_json::from_str(draft.text).ok();
    let said = Said {
        head,
        form: None,
        json: whole.as_ref(),
        body: None,
    };
    let event = whole.as_ref().and_then(|it| it.pointer(draft.event));
    place.read_in(said, event)
}

/// Pointers to the events in a text.
fn events_of(split: Option<&Split>, text: &str) -> Vec<String> {
    let whole: Option<Value> = serde_json::from_str(text).ok();
    match (split, whole) {
        (Some(split), Some(whole)) => split.events_of(&whole),
        _ => vec![String::new()],
    }
}

fn is_of_type(head: &mut Head, content_type: &'static str) {
    let value = HeaderValue::from_static(content_type);
    head.headers.insert(header::CONTENT_TYPE, value);
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
    is_of_type(head, FORM);
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.append_pair(field, &String::from_utf8_lossy(json));
    Bytes::from(body.finish())
}

/// The name of the element that an XML document of this JSON would have outermost; `None` where it
/// would have several.
fn root(json: &str) -> Option<String> {
    match members(json)?.as_slice() {
        [(name, value)] if !value.get().starts_with('[') => Some(name.clone()),
        _ => None,
    }
}

/// The XML that reads as this JSON: members are elements, those called `@NAME` attributes.
fn xml_of_json(json: &str) -> String {
    fn escaped(json: &str) -> String {
        let text: String = serde_json::from_str(json).unwrap_or_else(|_other| json.to_owned());
        quick_xml::escape::escape(text).into_owned()
    }
    fn write(name: &str, json: &str, xml: &mut String) {
        if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(json) {
            items.iter().for_each(|item| write(name, item.get(), xml));
            return;
        }
        xml.push_str(&format!("<{name}"));
        let members = members(json);
        for (name, value) in members.iter().flatten() {
            if let Some(attribute) = name.strip_prefix('@') {
                xml.push_str(&format!(" {attribute}=\"{}\"", escaped(value.get())));
            }
        }
        xml.push('>');
        match members {
            None => xml.push_str(&escaped(json)),
            Some(members) => {
                for (name, value) in members {
                    match name.as_str() {
                        "#text" => xml.push_str(&escaped(value.get())),
                        attribute if attribute.starts_with('@') => {}
                        name => write(name, value.get(), xml),
                    }
                }
            }
        }
        xml.push_str(&format!("</{name}>"));
    }
    let mut xml = String::new();
    for (name, value) in members(json).into_iter().flatten() {
        write(&name, value.get(), &mut xml);
    }
    xml
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
    Example {
        provider: "meta",
        event_type: "page.feed",
        body: r#"{"object":"page","entry":[{"id":"110001112223334","time":1760000000,"changes":[{"field":"feed","value":{"item":"status","verb":"add","post_id":"110001112223334_1","message":"Hello"}}]}]}"#,
    },
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
