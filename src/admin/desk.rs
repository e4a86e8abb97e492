//! The admin listener's paths and what they answer.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::admin::AdminState;
use crate::admin::enroll::{ENROLL_PATH, enrolment};
use crate::admin::health::{checks, is_ready, verbose};
use crate::clock::Now;
use crate::journal::Position;
use crate::metrics::Metrics;
use crate::publisher::{Health as BrokerHealth, ReplayError, Shelf};
use crate::secret::Secret;
use crate::source::{Ack, Source};
use crate::watch::{Kept, Listener, SAVERS_MAX, Saver, Seen, Told};

/// The version of the Prometheus text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
const PROBLEM: &str = "application/problem+json";

/// Where an event is published again.
pub const REPLAY_PATH: &str = "/api/v1/replay";
/// The parameter of `tail` that asks for the requests themselves.
pub const REQUESTS: &str = "requests";
/// A request that changes something has this header. A page in a browser on the same machine
/// cannot add it without asking, and nobody here says yes.
pub const CONSENT: &str = "hookgate-admin";

/// Why nobody is shown whole requests.
const NO_TOKEN: &str = "whole requests may hold credentials that work, and without a token everybody \
     on this machine could read them: configure a token in [admin], and restart";

/// An answer; `tail`'s never ends by itself.
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Answers operators.
pub(crate) struct Desk {
    state: AdminState,
    token: Option<Secret>,
    pub(crate) stop: CancellationToken,
}

impl Desk {
    pub(crate) fn new(state: AdminState, token: Option<Secret>, stop: CancellationToken) -> Self {
        Self { state, token, stop }
    }

    /// No request here has a body that is read.
    pub(crate) async fn answer<B>(&self, request: &Request<B>) -> Answer {
        let path = request.uri().path();
        // Probes come without a token, and learn nothing but one word.
        let public = matches!(path, "/livez" | "/healthz" | "/readyz");
        let may_see = self.may_see(request.headers());
        if !public && !may_see {
            return self.refuse();
        }
        if path == REPLAY_PATH {
            // The request itself is not held over a wait: its body is nobody's to share.
            let (method, headers) = (request.method().clone(), request.headers().clone());
            let query = request.uri().query().map(str::to_owned);
            return self.replay(&method, &headers, query.as_deref()).await;
        }
        if path == ENROLL_PATH {
            let (method, headers) = (request.method().clone(), request.headers().clone());
            let query = request.uri().query().map(str::to_owned);
            return self.enroll(&method, &headers, query.as_deref()).await;
        }
        let known = public
            || matches!(
                path,
                "/metrics" | "/version" | "/api/v1/status" | "/api/v1/tail"
            );
        if !known {
            return problem(StatusCode::NOT_FOUND, "nothing is at this path", None);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let allow = (ALLOW, "GET, HEAD");
            return problem(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path takes GET",
                Some(allow),
            );
        }
        let query = request.uri().query();
        match path {
            "/readyz" => self.ready(query, may_see),
            "/metrics" => self.metrics(),
            "/version" => whole(StatusCode::OK, JSON, version().to_string()),
            "/api/v1/status" => whole(StatusCode::OK, JSON, self.status().to_string()),
            "/api/v1/tail" => self.tail(request.headers(), query),
            // `/livez`: that this is answered is all there is to say.
            _ => whole(StatusCode::OK, TEXT, "ok\n".to_owned()),
        }
    }

    /// Without a token only this machine can ask, but a page in a browser on it may have had its
    /// own name resolved to here ("DNS rebinding"). With one: compared in constant time, so that
    /// nobody learns it byte by byte. Its length is no secret.
    fn may_see(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else {
            return headers.get_all(HOST).iter().all(is_local);
        };
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        let value = value.as_bytes();
        let Some((scheme, presented)) = value.split_at_checked("Bearer ".len()) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(presented.ct_eq(token.expose()))
    }

    fn refuse(&self) -> Answer {
        if self.token.is_none() {
            return problem(
                StatusCode::MISDIRECTED_REQUEST,
                "ask for this by an IP address or as localhost, or configure a token",
                None,
            );
        }
        let challenge = (WWW_AUTHENTICATE, "Bearer realm=\"hookgate admin\"");
        problem(
            StatusCode::UNAUTHORIZED,
            "a bearer token is needed",
            Some(challenge),
        )
    }

    fn ready(&self, query: Option<&str>, may_see: bool) -> Answer {
        let journal = (self.state.journal)();
        let broker = self.broker();
        let draining = self.state.draining.is_cancelled() || self.stop.is_cancelled();
        let needs_broker = self.state.needs_broker();
        let checks = checks(&journal, broker.as_ref(), needs_broker, draining);
        let ready = is_ready(&checks);
        let status = if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let word = if ready { "ok\n" } else { "not ready\n" };
        let mut page = String::new();
        // Why not is said to all who may know; that all is well only to those who ask.
        if may_see && (!ready || parameter(query, "verbose").is_some()) {
            page = verbose(&checks);
        }
        page.push_str(word);
        whole(status, TEXT, page)
    }

    fn metrics(&self) -> Answer {
        let status = (self.state.journal)();
        let journal = &self.state.metrics.journal;
        journal.waiting.set(gauge(status.waiting));
        journal.bytes.set(gauge(status.bytes));
        let segments = u64::try_from(status.segments).unwrap_or(u64::MAX);
        journal.segments.set(gauge(segments));
        journal
            .failed
            .set(gauge(u64::from(status.failed.is_some())));
        (self.state.refresh)();
        whole(StatusCode::OK, METRICS_TYPE, self.state.metrics.render())
    }

    fn status(&self) -> Value {
        let (journal, now) = ((self.state.journal)(), Now::read());
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "since": format!("{:.0}", self.state.since),
            "draining": self.state.draining.is_cancelled(),
            "sources": self.sources_shown(now),
            "journal": {
                "first": journal.first.0,
                "cursor": journal.cursor.0,
                "end": journal.end.0,
                "waiting": journal.waiting,
                "bytes": journal.bytes,
                "segments": journal.segments,
                "full": journal.full,
                "failed": journal.failed.as_deref(),
                "parked": (self.state.parked)(),
                "set_aside": self.state.replay.set_aside(),
            },
            "broker": self.broker(),
        })
    }

    fn sources_shown(&self, now: Now) -> Vec<Value> {
        let metrics = &self.state.metrics;
        let sources = self.state.sources.iter();
        sources
            .map(|source| of_source(source, metrics, now))
            .collect()
    }

    fn broker(&self) -> Option<BrokerHealth> {
        let broker = self.state.broker.as_ref()?;
        Some(broker.borrow().clone())
    }

    pub(super) fn sources(&self) -> &[Arc<Source>] {
        &self.state.sources
    }

    /// Takes one event up again: `position`, and `set_aside` for one that was.
    async fn replay(&self, method: &Method, headers: &HeaderMap, query: Option<&str>) -> Answer {
        if let Err(refusal) = changes(method, headers, "POST") {
            return *refusal;
        }
        let position = parameter(query, "position").and_then(|text| text.parse().ok());
        let Some(position) = position.map(Position) else {
            let detail = "position=N is needed";
            return problem(StatusCode::BAD_REQUEST, detail, None);
        };
        let shelf = match parameter(query, "set_aside") {
            Some(_) => Shelf::SetAside,
            None => Shelf::Journal,
        };
        match self.state.replay.again(shelf, position).await {
            Ok(id) => {
                tracing::info!(%id, position = position.0, ?shelf, "an event is published again");
                let body = json!({ "message_id": id.to_string() });
                whole(StatusCode::ACCEPTED, JSON, body.to_string())
            }
            Err(error) => {
                let status = match &error {
                    ReplayError::Absent(_) => StatusCode::NOT_FOUND,
                    ReplayError::Waiting(_) | ReplayError::NoEvent(..) => StatusCode::CONFLICT,
                    ReplayError::Unreadable(_) | ReplayError::Refused(_) => {
                        StatusCode::SERVICE_UNAVAILABLE
                    }
                };
                problem(status, &error.to_string(), None)
            }
        }
    }

    /// One JSON object per line and event, for as long as both sides like. A reader that is too
    /// slow is told how many it missed. With `requests`, what is turned away is in it, as it came:
    /// that may hold credentials that work, so nobody gets it who has no token; any account of this
    /// machine can ask a listener without one.
    fn tail(&self, headers: &HeaderMap, query: Option<&str>) -> Answer {
        let sources = parameter(query, "source");
        let sources: Option<Vec<String>> =
            sources.map(|list| list.split(',').map(str::to_owned).collect());
        let is_known = |name: &String| self.sources().iter().any(|source| *source.name == **name);
        if !sources.iter().flatten().all(is_known) {
            let detail = "source=NAME,NAME of configured sources is needed, or nothing";
            return problem(StatusCode::NOT_FOUND, detail, None);
        }
        let mut saver = None;
        if parameter(query, REQUESTS).is_some() {
            if self.token.is_none() {
                return problem(StatusCode::FORBIDDEN, NO_TOKEN, None);
            }
            if !headers.contains_key(CONSENT) {
                return no_consent();
            }
            saver = self.state.watch.save();
            if saver.is_none() {
                let detail = format!("{SAVERS_MAX} others save requests, and no more can");
                return problem(StatusCode::CONFLICT, &detail, None);
            }
        }
        let tail = Tail {
            listener: self.state.watch.listen(),
            sources,
            saver,
            stop: self.stop.clone(),
        };
        let lines = stream::unfold(tail, |mut tail| async move {
            let line = tail.next().await?;
            Some((Ok(Frame::data(line)), tail))
        });
        answer(StatusCode::OK, LINES, StreamBody::new(lines).boxed_unsync())
    }
}

/// One reader of `/api/v1/tail`.
struct Tail {
    listener: Listener,
    /// `None`: all of them, and what no source was found for.
    sources: Option<Vec<String>>,
    /// There for who wants the requests themselves.
    saver: Option<Saver>,
    stop: CancellationToken,
}

impl Tail {
    /// The next line; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let heard = tokio::select! {
                heard = self.listener.recv() => heard,
                () = self.stop.cancelled() => return None,
            };
            let line = match heard {
                Ok(told) if self.wants(&told.seen) => self.line(&told)?,
                Ok(_) => continue,
                Err(RecvError::Lagged(missed)) => json!({ "dropped": missed }).to_string(),
                Err(RecvError::Closed) => return None,
            };
            return Some(Bytes::from(line + "\n"));
        }
    }

    fn line(&self, told: &Told) -> Option<String> {
        let Some(request) = told.request.as_ref().filter(|_| self.saver.is_some()) else {
            return serde_json::to_string(&told.seen).ok();
        };
        let mut line = serde_json::to_value(&told.seen).ok()?;
        let (key, value) = match request {
            Kept::Whole(whole) => ("request", STANDARD.encode(&whole.bytes)),
            Kept::Not(why) => ("unsaved", (*why).to_owned()),
        };
        line.as_object_mut()?.insert(key.to_owned(), value.into());
        Some(line.to_string())
    }

    fn wants(&self, seen: &Seen) -> bool {
        let Some(sources) = &self.sources else {
            return true;
        };
        let source = seen.source.as_deref();
        source.is_some_and(|source| sources.iter().any(|wanted| wanted == source))
    }
}

/// Whether a host is an address, or the one name that no resolver is asked for.
fn is_local(host: &HeaderValue) -> bool {
    let Ok(host) = Authority::try_from(host.as_bytes()) else {
        return false;
    };
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is for people and graphs"
)]
fn gauge(count: u64) -> f64 {
    count as f64
}

fn version() -> Value {
    json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") })
}

/// What is counted is counted since the process began.
fn of_source(source: &Source, metrics: &Metrics, now: Now) -> Value {
    let counted = metrics.source(Some(&source.name));
    let secrets = metrics.secret_uses(&source.name).into_iter().map(|secret| {
        json!({
            "label": secret.label,
            "uses": secret.uses,
            "last_used": secret.last_used.map(|at| at.to_string()),
        })
    });
    json!({
        "name": &*source.name,
        "provider": source.provider,
        "path": source.path,
        "methods": source.methods.iter().map(Method::as_str).collect::<Vec<_>>(),
        "enforce": source.enforce,
        "unverified": counted.unverified.count(),
        "quarantined": counted.quarantined.count(),
        "schema": source.schemas.is_some(),
        "enrolment": enrolment(source, now),
        "dedupe_seconds": source.dedupe.map(|window| window.as_secs()),
        "ack": match source.ack {
            Ack::Journal => "journal",
            Ack::Broker => "broker",
        },
        "secrets": secrets.collect::<Vec<_>>(),
    })
}

/// Whether a request may change something: it is a POST, and has the header that no page in a
/// browser can add.
pub(super) fn changes(
    method: &Method,
    headers: &HeaderMap,
    allowed: &'static str,
) -> Result<(), Box<Answer>> {
    if method != Method::POST {
        let detail = format!("this path takes {allowed}");
        let allow = Some((ALLOW, allowed));
        let refusal = problem(StatusCode::METHOD_NOT_ALLOWED, &detail, allow);
        return Err(Box::new(refusal));
    }
    if !headers.contains_key(CONSENT) {
        return Err(Box::new(no_consent()));
    }
    Ok(())
}

fn no_consent() -> Answer {
    let detail = "the header Hookgate-Admin: 1 is needed";
    problem(StatusCode::FORBIDDEN, detail, None)
}

/// A parameter's value, percent-decoded; empty when only its name is there.
pub(super) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    form_urlencoded::parse(query?.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

pub(super) fn problem(
    status: StatusCode,
    detail: &str,
    field: Option<(http::HeaderName, &'static str)>,
) -> Answer {
    let problem = json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
    });
    let mut response = whole(status, PROBLEM, problem.to_string());
    if let Some((name, value)) = field {
        let headers = response.headers_mut();
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

pub(super) fn whole(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    answer(
        status,
        content_type,
        Full::new(Bytes::from(body)).boxed_unsync(),
    )
}

fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: UnsyncBoxBody<Bytes, Infallible>,
) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
