//! `/api/v1/enroll`: what is enrolled, and the operator's word that a secret may come.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};

use super::desk::{Answer, Desk, JSON, changes, parameter, problem, whole};
use crate::clock::Now;
use crate::pipeline::handshake::enrolment::{Enrolled, Enrolment, Record, WINDOW};
use crate::source::Source;

/// Where secrets are waited for.
pub const ENROLL_PATH: &str = "/api/v1/enroll";

/// What a request asks to be done.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Open { length: Duration, replace: bool },
    Close,
    Forget,
}

impl Desk {
    /// GET lists. POST with `source` and `for_seconds` opens a window (`replace`: the secret that
    /// is there goes as soon as there is a new one); with `close`, it closes that again; with
    /// `forget`, it forgets the secret that came last.
    pub(super) async fn enroll(
        &self,
        method: &Method,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Answer {
        let now = Now::read();
        if matches!(*method, Method::GET | Method::HEAD) {
            let sources = self.sources().iter();
            let list: Vec<Value> = sources
                .filter_map(|source| enrolment(source, now))
                .collect();
            return whole(StatusCode::OK, JSON, Value::from(list).to_string());
        }
        if let Err(refusal) = changes(method, headers, "GET, POST") {
            return *refusal;
        }
        let name = parameter(query, "source").unwrap_or_default();
        let source = self.sources().iter().find(|source| *source.name == *name);
        let Some(source) = source else {
            return problem(StatusCode::NOT_FOUND, &self.no_such(), None);
        };
        let Some(enrolment) = &source.enrolment else {
            let detail = "this source's secrets are configured: only one with secrets = \
                          \"enrolled\" takes them in a handshake";
            return problem(StatusCode::CONFLICT, detail, None);
        };
        let ask = match ask(query) {
            Ok(ask) => ask,
            Err(detail) => return problem(StatusCode::BAD_REQUEST, &detail, None),
        };
        match act(enrolment, ask, now).await {
            Ok(()) => {
                tracing::warn!(source = &*name, ?ask, "an operator's word about its secret");
                let body = self::enrolment(source, now).unwrap_or_default();
                whole(StatusCode::OK, JSON, body.to_string())
            }
            Err(why) => problem(StatusCode::SERVICE_UNAVAILABLE, &why, None),
        }
    }
}

impl Desk {
    /// Which source should have been named.
    fn no_such(&self) -> String {
        let sources = self.sources().iter();
        let names = sources.filter(|source| source.enrolment.is_some());
        let names: Vec<&str> = names.map(|source| &*source.name).collect();
        match names.as_slice() {
            [] => "there is no such source, and none with secrets = \"enrolled\"".to_owned(),
            names => format!(
                "there is no such source; secrets are enrolled for {}",
                names.join(", ")
            ),
        }
    }
}

fn ask(query: Option<&str>) -> Result<Ask, String> {
    if parameter(query, "forget").is_some() {
        return Ok(Ask::Forget);
    }
    if parameter(query, "close").is_some() {
        return Ok(Ask::Close);
    }
    let length = parameter(query, "for_seconds").and_then(|text| text.parse().ok());
    match length.map(Duration::from_secs) {
        Some(length) if WINDOW.contains(&length) => Ok(Ask::Open {
            length,
            replace: parameter(query, "replace").is_some(),
        }),
        _ => Err(format!(
            "for_seconds is needed, from {} to {}",
            WINDOW.start().as_secs(),
            WINDOW.end().as_secs()
        )),
    }
}

/// The disk is waited for where that stops nobody else.
async fn act(enrolment: &Arc<Enrolment>, ask: Ask, now: Now) -> Result<(), String> {
    let enrolment = Arc::clone(enrolment);
    let work = tokio::task::spawn_blocking(move || match ask {
        Ask::Open { length, replace } => enrolment.open(now, length, replace).map(drop),
        Ask::Close => enrolment.close(),
        Ask::Forget => enrolment.forget(),
    });
    match work.await {
        Ok(done) => done.map_err(|error| format!("it cannot be stored: {error}")),
        Err(_panicked) => Err("something went wrong here".to_owned()),
    }
}

/// What may be shown of a source's secrets: never those themselves. `None` where they are
/// configured.
pub(super) fn enrolment(source: &Source, now: Now) -> Option<Value> {
    let enrolment = source.enrolment.as_ref()?;
    let Record {
        captured,
        current,
        former,
        ..
    } = enrolment.record();
    let shown =
        |secret: &Enrolled| json!({ "label": secret.label(), "since": secret.since.to_string() });
    Some(json!({
        "source": &*source.name,
        "captured": captured,
        "current": current.as_ref().map(shown),
        "former": former.as_ref().map(shown),
        "window": enrolment.window(now).map(|window| json!({
            "opened_at": window.opened_at.to_string(),
            "closes_at": window.closes_at.to_string(),
            "replace": window.replace,
        })),
    }))
}
