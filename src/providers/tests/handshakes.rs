//! Every handshake that is known, and what is nearly one: answered to the byte.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::Full;
use tempfile::TempDir;

use super::*;
use crate::edge::reply::{Afterwards, reply, without_problem};
use crate::edge::testing::drain;
use crate::enrolled::{self, Folder};
use crate::explain::explain_with;
use crate::pipeline::arrival::Arrival;
use crate::pipeline::evidence::Fetching;
use crate::pipeline::{Account, Pipeline, testing};
use crate::source::Source;

/// A request, and a gateway with the source that it is for.
struct Pair {
    id: String,
    inbound: Inbound,
    pipeline: Pipeline,
    source: Arc<Source>,
    /// What would be fetched.
    evidence: Arc<fetched::Has>,
    now: Now,
    _directory: TempDir,
}

impl Pair {
    fn read(json: &Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let provider = string(&json["provider"]);
        let is = |key: &str| json[key] == true;
        let mut secret = string(&json["secret"]);
        let mut signing_key = None;
        if let Some(text) = text(&provider)
            && is("signed")
            && let Some(RawVerify::Schemes(schemes)) = reader::read(text).verify
        {
            let word = |word: &Option<String>| word.clone().unwrap_or_default();
            if let Some(pair) = pair(&word(&schemes[0].algorithm), &word(&schemes[0].key)) {
                (secret, signing_key) = (pair.public, Some(pair.private));
            }
        }
        let text = configuration(json, &provider, &secret);
        let config = testing::config(directory.path(), &text);
        let source = Arc::clone(&config.sources[0]);
        let now = Now::at(Timestamp::from_second(1_760_000_000).unwrap());
        let folder = Folder::of(&directory.path().join("journal"));
        assert!(enrolled::recall(&folder, &config.sources, now).is_empty());
        if is("window") {
            let enrolment = source.enrolment.as_ref().unwrap();
            enrolment
                .open(now, std::time::Duration::from_mins(1), false)
                .unwrap();
        }
        let mut inbound = inbound(json);
        if is("signed") {
            let body = inbound.body.clone();
            let verifier = source.verifier();
            let signed = verifier.sign(&mut inbound.head, &body, now.wall, signing_key.as_ref());
            signed.unwrap();
        }
        let evidence = Arc::new(fetched::Has::of(
            json["evidence"].as_str().unwrap_or_default(),
        ));
        Self {
            id: string(&json["id"]),
            inbound,
            pipeline: Pipeline {
                fetching: Arc::clone(&evidence) as Arc<dyn Fetching>,
                ..testing::pipeline(directory.path(), &config)
            },
            source,
            evidence,
            now,
            _directory: directory,
        }
    }

    /// What the edge would answer.
    async fn answer(&self) -> (u16, HeaderMap, Bytes) {
        let Inbound { head, body } = self.inbound.clone();
        let arrival = Arrival {
            head,
            body: Full::new(body),
        };
        let mut account = Account::default();
        let decision = self.pipeline.receive(arrival, self.now, &mut account).await;
        let mut response = reply(&decision, "r", Afterwards::Open);
        if account.wants_no_problem {
            response = without_problem(response);
        }
        let (head, body) = response.into_parts();
        let body = Bytes::from(drain(body).await.unwrap());
        (head.status.as_u16(), head.headers, body)
    }
}

/// One source, as an operator would write it.
fn configuration(json: &Value, provider: &str, secret: &str) -> String {
    let url: http::Uri = string(&json["url"]).parse().unwrap();
    let mut path = url.path();
    if path.starts_with("/.well-known/") {
        path = "/in/one";
    }
    let mut text = format!(
        "[server]\ntls = \"off\"\npublic_url = \"https://hooks.example.com\"\n[sources.one]\n\
         path = \"{path}\"\n"
    );
    if !provider.is_empty() {
        writeln!(text, "provider = \"{provider}\"").unwrap();
    }
    let is_enrolled = matches!(provider, "asana" | "notion");
    let secrets = match (is_enrolled, secret) {
        (true, _) => "secrets = \"enrolled\"\n".to_owned(),
        (false, "") => String::new(),
        (false, secret) => format!("secrets = [{{ value = {secret:?} }}]\n"),
    };
    writeln!(text, "{secrets}[sources.one.config]").unwrap();
    for (key, value) in json["config"].as_object().into_iter().flatten() {
        writeln!(text, "{key} = {:?}", string(value)).unwrap();
    }
    text + json["rule"].as_str().unwrap_or_default()
}

fn inbound(json: &Value) -> Inbound {
    let mut inbound = Vector::read_request(json).inbound;
    let mut headers = HeaderMap::new();
    // Names that differ in case only are the same header twice.
    for (name, value) in json["headers"].as_object().unwrap() {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_str(&string(value)).unwrap());
    }
    inbound.head.headers = headers;
    inbound
}

#[tokio::test]
async fn handshakes_are_answered_to_the_byte_and_what_is_nearly_one_is_not() {
    for json in &read_json("handshakes") {
        let pair = Pair::read(json);
        let id = &pair.id;
        let expected = u16::try_from(json["status"].as_u64().unwrap()).unwrap();

        let said = explain_with(
            &pair.source,
            &saved(&pair.inbound),
            None,
            &*pair.evidence,
            pair.now,
        );
        assert_eq!(said.status, expected, "{id}: {said:?}");

        let (status, headers, body) = pair.answer().await;
        let shown = String::from_utf8_lossy(&body);
        assert_eq!(status, expected, "{id}: {shown}");
        for (name, value) in json["answer_headers"].as_object().into_iter().flatten() {
            let found: Vec<_> = headers.get_all(name).iter().collect();
            assert_eq!(found, [value.as_str().unwrap()], "{id}: {name}");
        }
        let lacks = json["answer_lacks"].as_array().into_iter().flatten();
        for name in lacks.map(string) {
            assert!(!headers.contains_key(&name), "{id}: {name}");
        }
        match json["answer_base64"].as_str() {
            Some(answer) => assert_eq!(body, STANDARD.decode(answer).unwrap(), "{id}: {shown}"),
            // A problem document, which is the same for all sources.
            None => assert!(
                shown.starts_with(r#"{"type":"urn:hookgate:problem:"#),
                "{id}: {shown}"
            ),
        }
        // What a stranger wrote is never a page.
        let repeats = headers.contains_key("x-content-type-options");
        let is_handshake = said.verdict.label() == "handshake";
        assert_eq!(repeats, is_handshake, "{id}: {said:?}");
    }
}

/// As it came over the wire.
fn saved(inbound: &Inbound) -> Vec<u8> {
    let head = &inbound.head;
    let query = head
        .query
        .as_ref()
        .map_or_else(String::new, |query| format!("?{query}"));
    let mut text = format!("{} {}{query} HTTP/1.1\r\n", head.method, head.path).into_bytes();
    for (name, value) in &head.headers {
        text.extend_from_slice(format!("{name}: {}\r\n", value.to_str().unwrap()).as_bytes());
    }
    [&text[..], b"\r\n", &inbound.body].concat()
}

/// A preset whose handshake nobody tries is a claim.
#[test]
fn each_preset_with_a_handshake_has_one_that_is_tried() {
    let tried: Vec<String> = read_json("handshakes")
        .iter()
        .filter(|json| json["status"].as_u64().unwrap() < 300)
        .map(|json| string(&json["provider"]))
        .collect();
    each_preset(|file, source| {
        let is_tried = tried.iter().any(|provider| provider == file);
        assert!(is_tried || source.handshakes.is_empty(), "{file}");
    });
}
