//! One request: from hyper's types into the pipeline and back, and into the books exactly once.

use std::future::Future;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::EXPECT;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use ipnet::IpNet;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Level;
use uuid::{NoContext, Uuid};

use crate::clock::Now;
use crate::edge::activity::Protocol;
use crate::edge::client_ip::{NOBODY, client_ip};
use crate::edge::connection::{Handler, Peer};
use crate::edge::gate;
use crate::edge::goes_on::GoesOn;
use crate::edge::linger::skip;
use crate::edge::reply::{Afterwards, X_REQUEST_ID, from_quarantine, reply, without_problem};
use crate::edge::watched::{Exchange, RequestBody};
use crate::metrics::{Metrics, observe};
use crate::pipeline::arrival::{Arrival, Head};
use crate::pipeline::certificate::ClientCertificate;
use crate::pipeline::verify::Refusal;
use crate::pipeline::{Account, Outcome, Pipeline, Receipt};
use crate::reject::{Fault, Reject};
use crate::watch::{Seen, Watch};

/// Longest `X-Request-Id` that is taken over from the sender.
const REQUEST_ID_BYTES_MAX: usize = 64;
/// Longest path in the log, in bytes.
const PATH_BYTES_MAX: usize = 256;
/// Longest id or type of an event in the log, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Longest explanation in the log, in bytes.
const DETAIL_BYTES_MAX: usize = 1024;

/// The pipeline as the edge sees it. One implementation is the pipeline, one in tests decides
/// what it is told to.
pub trait Decide: Send + Sync + 'static {
    /// Takes one webhook as far as safety.
    ///
    /// # Errors
    ///
    /// Every way to be turned away.
    fn decide(
        &self,
        arrival: Arrival<RequestBody>,
        now: Now,
        account: &mut Account,
    ) -> impl Future<Output = Decision> + Send;

    /// What is counted.
    fn metrics(&self) -> &Metrics;
}

/// How a request ended.
pub type Decision = Result<Outcome, Reject>;

impl Decide for Pipeline {
    async fn decide(
        &self,
        arrival: Arrival<RequestBody>,
        now: Now,
        account: &mut Account,
    ) -> Decision {
        self.receive(arrival, now, account).await
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// Hands requests to the pipeline.
#[derive(Debug)]
pub struct Gateway<D>(Arc<Shared<D>>);

#[derive(Debug)]
struct Shared<D> {
    pipeline: Arc<D>,
    watch: Watch,
    trusted_proxies: Vec<IpNet>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What the books say about a request, known before the pipeline sees it.
#[derive(Debug)]
struct Entry {
    now: Now,
    request_id: Arc<str>,
    client_ip: IpAddr,
    certificate: Option<Arc<ClientCertificate>>,
    /// This and what follows is absent where there was no head to be read.
    method: Option<Method>,
    path: Option<String>,
    version: Version,
    exchange: Option<Arc<Exchange>>,
}

impl<D: Decide> Gateway<D> {
    /// `tasks` owns what is begun here; after `stop`, new requests are turned away.
    pub fn new(
        pipeline: Arc<D>,
        watch: Watch,
        trusted_proxies: Vec<IpNet>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(Shared {
            pipeline,
            watch,
            trusted_proxies,
            tasks,
            stop,
        }))
    }
}

impl<D> Clone for Gateway<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D: Decide> Handler for Gateway<D> {
    /// A sender that hangs up makes hyper drop this future. What has begun goes on without it, so
    /// that an event is stored or not, and counted, whoever is still there to be told. A panic
    /// costs this request, and not its connection with all the others on it.
    async fn handle(self, request: Request<RequestBody>, peer: Peer) -> Response<Full<Bytes>> {
        let shared = self.0;
        let version = request.version();
        let tasks = shared.tasks.clone();
        let work = AssertUnwindSafe(shared.take(request, peer)).catch_unwind();
        let done = if version >= Version::HTTP_2 {
            // Many share this connection: beside each other, not one after the other.
            tasks.spawn(work).await.ok().and_then(Result::ok)
        } else {
            GoesOn::new(work, tasks).await.ok()
        };
        // The pipeline's panics are caught: this was one before it or after it.
        done.unwrap_or_else(|| {
            let request_id = Uuid::new_v4().to_string();
            reply(
                &Err(Reject::Defect),
                &request_id,
                afterwards(version, false),
            )
        })
    }

    fn refuse(&self, reject: Reject, peer: Peer) -> Response<Full<Bytes>> {
        let shared = &self.0;
        let ticket = Ticket::new(shared);
        let entry = entry_without_head(peer);
        shared.settle(&entry, &Account::default(), &Err(reject), ticket)
    }
}

/// A request's place in the books: in flight until it is dropped, and counted once. One that a
/// panic of ours ended is counted as such.
struct Ticket<D: Decide>(Option<Arc<Shared<D>>>);

impl<D: Decide> Ticket<D> {
    fn new(shared: &Arc<Shared<D>>) -> Self {
        shared.metrics().edge.requests_in_flight.increment(1.0);
        Self(Some(Arc::clone(shared)))
    }

    fn settle(mut self, at: Timestamp, account: &Account, decision: &Decision, duration: Duration) {
        if let Some(shared) = self.0.take() {
            shared.metrics().edge.requests_in_flight.decrement(1.0);
            shared.count(at, account, decision, duration);
        }
    }
}

impl<D: Decide> Drop for Ticket<D> {
    fn drop(&mut self) {
        let Some(shared) = self.0.take() else {
            return;
        };
        shared.metrics().edge.requests_in_flight.decrement(1.0);
        if std::thread::panicking() {
            let now = Now::read().wall;
            shared.count(
                now,
                &Account::default(),
                &Err(Reject::Defect),
                Duration::ZERO,
            );
        }
    }
}

impl<D: Decide> Shared<D> {
    /// One request, from its head to its answer and its place in the books.
    async fn take(
        self: Arc<Self>,
        request: Request<RequestBody>,
        peer: Peer,
    ) -> Response<Full<Bytes>> {
        let ticket = Ticket::new(&self);
        let (head, body) = request.into_parts();
        let entry = self.entry(&head, &body, peer);
        let mut account = Account {
            wants_request: self.watch.is_saving(),
            ..Account::default()
        };
        if let Err(reject) = self.may_enter(&head) {
            return self.settle(&entry, &account, &Err(reject), ticket);
        }
        let arrival = Arrival {
            head: entry.head(head),
            body,
        };
        let skippable = skippable(&arrival);
        let decision = self.decide(arrival, entry.now, &mut account).await;
        if let Some(exchange) = skippable {
            if ends_connection(&decision) {
                drop(exchange.rest());
            } else {
                skip(&exchange).await;
            }
        }
        self.settle(&entry, &account, &decision, ticket)
    }

    fn client_ip(&self, headers: &HeaderMap, peer: &Peer) -> IpAddr {
        let address = peer.address.ip();
        if peer.may_forward {
            client_ip(address, headers, &self.trusted_proxies)
        } else {
            NOBODY
        }
    }

    fn entry(&self, head: &Parts, body: &RequestBody, peer: Peer) -> Entry {
        let now = Now::read();
        Entry {
            now,
            request_id: request_id(&head.headers, now),
            client_ip: self.client_ip(&head.headers, &peer),
            certificate: peer.certificate,
            method: Some(head.method.clone()),
            path: Some(shortened(head.uri.path(), PATH_BYTES_MAX)),
            version: head.version,
            exchange: Some(Arc::clone(body.exchange())),
        }
    }

    fn may_enter(&self, head: &Parts) -> Result<(), Reject> {
        if self.stop.is_cancelled() {
            return Err(Reject::Draining);
        }
        gate::check(head)
    }

    /// A panic is a defect of ours and costs this request only. What it said is in the log, by
    /// the panic hook; the sender learns nothing.
    async fn decide(
        &self,
        arrival: Arrival<RequestBody>,
        now: Now,
        account: &mut Account,
    ) -> Decision {
        AssertUnwindSafe(self.pipeline.decide(arrival, now, account))
            .catch_unwind()
            .await
            .unwrap_or(Err(Reject::Defect))
    }

    /// Makes the answer and the entry in the books.
    fn settle(
        &self,
        entry: &Entry,
        account: &Account,
        decision: &Decision,
        ticket: Ticket<D>,
    ) -> Response<Full<Bytes>> {
        let exchange = entry.exchange.as_ref();
        let may_go_on =
            exchange.is_some_and(|exchange| exchange.body_ended()) && !ends_connection(decision);
        let afterwards = afterwards(entry.version, may_go_on);
        let response = reply(decision, &entry.request_id, afterwards);
        let response = if account.wants_no_problem {
            without_problem(response)
        } else {
            response
        };
        let response = match decision {
            Ok(Outcome::Accepted(..)) if account.quarantined.is_some() => from_quarantine(response),
            _ => response,
        };
        let duration = entry.now.mono.elapsed();
        ticket.settle(entry.now.wall, account, decision, duration);
        log(entry, account, decision, response.status(), duration);
        let status = response.status();
        let request = account.request.as_ref();
        let request = request.filter(|_| is_unproved_or_refused(account, decision));
        self.watch
            .tell(request, || seen(entry, account, decision, status, duration));
        response
    }

    /// Counts a request as received in the same moment as how it ended, so that the books balance
    /// whenever they are read.
    fn count(&self, at: Timestamp, account: &Account, decision: &Decision, duration: Duration) {
        let metrics = self.metrics();
        let name = account.source.as_deref();
        let source = metrics.source(name);
        source.received.increment(1);
        match decision {
            Ok(Outcome::Accepted(..)) => source.accepted.increment(1),
            Ok(Outcome::Duplicate(..)) => source.duplicate.increment(1),
            Ok(Outcome::Handshake(_)) => source.handshake.increment(1),
            Err(reject) => metrics.rejected(name, reject),
        }
        if let Ok(outcome) = decision {
            source.took(outcome.events());
            if account.unproved.is_some() && matches!(outcome, Outcome::Accepted(..)) {
                source.unverified.add(1);
            }
        }
        observe(&source.duration, duration);
        if account.body_bytes > 0 {
            #[expect(clippy::cast_precision_loss, reason = "bodies are shorter than 2^53")]
            source.body_bytes.record(account.body_bytes as f64);
        }
        if let (Some(source), Some(key)) = (name, account.key.as_deref()) {
            metrics.secret_used(source, key, at);
        }
    }

    fn metrics(&self) -> &Metrics {
        self.pipeline.metrics()
    }
}

impl Entry {
    fn head(&self, head: Parts) -> Head {
        Head {
            method: head.method,
            path: head.uri.path().to_owned(),
            query: head.uri.query().map(str::to_owned),
            headers: head.headers,
            client_ip: self.client_ip,
            request_id: Arc::clone(&self.request_id),
            certificate: self.certificate.clone(),
        }
    }
}

/// The sender's id for the request if it is harmless, else one of ours.
fn request_id(headers: &HeaderMap, now: Now) -> Arc<str> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let mut ids = headers.get_all(X_REQUEST_ID).iter();
    if let (Some(id), None) = (ids.next(), ids.next())
        && (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
        && id.as_bytes().iter().all(plain)
        && let Ok(id) = id.to_str()
    {
        return Arc::from(id);
    }
    let seconds = u64::try_from(now.wall.as_second()).unwrap_or_default();
    let nanos = u32::try_from(now.wall.subsec_nanosecond()).unwrap_or_default();
    let id = Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanos));
    Arc::from(id.to_string())
}

/// For a head that could not be read.
fn entry_without_head(peer: Peer) -> Entry {
    let now = Now::read();
    Entry {
        now,
        request_id: request_id(&HeaderMap::new(), now),
        client_ip: peer.address.ip(),
        certificate: peer.certificate,
        method: None,
        path: None,
        version: Version::HTTP_11,
        exchange: None,
    }
}

/// The exchange of a request whose body may be read over if nobody wants it: over HTTP/1, and only
/// if the sender does not wait to be asked for it.
fn skippable(arrival: &Arrival<RequestBody>) -> Option<Arc<Exchange>> {
    let exchange = arrival.body.exchange();
    if exchange.protocol() == Protocol::Http2 || arrival.head.headers.contains_key(EXPECT) {
        return None;
    }
    exchange.keep_rest();
    Some(Arc::clone(exchange))
}

/// After these the rest of what was sent cannot be trusted to be a request.
fn ends_connection(decision: &Decision) -> bool {
    matches!(
        decision,
        Err(Reject::Ambiguous(_)
            | Reject::BodyTooLarge(_)
            | Reject::BodyTooSlow
            | Reject::BodyBroken)
    )
}

/// HTTP/2 has a stream per request, and no word for closing the connection in an answer.
fn afterwards(version: Version, may_go_on: bool) -> Afterwards {
    if may_go_on || version >= Version::HTTP_2 {
        Afterwards::Open
    } else {
        Afterwards::Close
    }
}

// === the log line and what `tail` sees ===

/// Cuts at a character, and says so.
fn shortened(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let (kept, _) = text.split_at(end);
    format!("{kept}...")
}

fn name(text: Option<&String>) -> Option<String> {
    text.map(|text| shortened(text, NAME_BYTES_MAX))
}

/// Whose certificate the client has shown.
fn certificate(entry: &Entry) -> Option<String> {
    let certificate = entry.certificate.as_ref()?;
    Some(shortened(&certificate.subject, NAME_BYTES_MAX))
}

/// Whether a person may want to know what was wrong with a request.
fn is_unproved_or_refused(account: &Account, decision: &Decision) -> bool {
    match decision {
        Ok(_) => account.unproved.is_some(),
        Err(reject) => reject.fault() == Fault::Sender,
    }
}

fn outcome(account: &Account, decision: &Decision) -> &'static str {
    match decision {
        Ok(Outcome::Accepted(..)) if account.quarantined.is_some() => "quarantined",
        Ok(Outcome::Accepted(..)) if account.unproved.is_some() => "unverified",
        Ok(outcome) => outcome.label(),
        Err(_) => "rejected",
    }
}

/// Why it was not simply accepted, in a word.
fn reason(account: &Account, decision: &Decision) -> Option<&'static str> {
    match decision {
        Err(reject) => Some(reject.label()),
        Ok(_) => {
            let quarantined = account.quarantined.as_ref().map(|it| it.reason);
            quarantined.or_else(|| account.unproved.as_ref().map(Refusal::label))
        }
    }
}

fn quarantined(account: &Account, decision: &Decision) -> Option<usize> {
    let quarantined = account.quarantined.as_ref().filter(|_| decision.is_ok());
    quarantined.map(|it| it.events)
}

fn message_id(decision: &Decision) -> Option<Uuid> {
    match decision {
        Ok(
            Outcome::Accepted(Receipt::Event(id), _) | Outcome::Duplicate(Receipt::Event(id), _),
        ) => Some(*id),
        Ok(_) | Err(_) => None,
    }
}

/// How many events of a batch are new, and how many had come before.
fn batch(decision: &Decision) -> (Option<usize>, Option<usize>) {
    match decision {
        Ok(
            Outcome::Accepted(Receipt::Batch { stored, copies, .. }, _)
            | Outcome::Duplicate(Receipt::Batch { stored, copies, .. }, _),
        ) => (Some(*stored), Some(*copies)),
        Ok(_) | Err(_) => (None, None),
    }
}

/// Why it was rejected; or what a person has to do about it, why it is in quarantine, and why it
/// would have been rejected, where the source lets that through.
fn detail(account: &Account, decision: &Decision) -> Option<String> {
    let detail = match decision {
        Err(reject) => reject.detail(),
        Ok(_) => {
            let quarantined = account.quarantined.as_ref();
            let unproved = account.unproved.as_ref();
            let all = [
                account.unconfirmed.clone(),
                quarantined.map(|it| it.detail.clone()),
                unproved.map(|refusal| format!("let through although {refusal}")),
            ];
            let all: Vec<String> = all.into_iter().flatten().collect();
            all.join("; ")
        }
    };
    (!detail.is_empty()).then(|| shortened(&detail, DETAIL_BYTES_MAX))
}

fn milliseconds(duration: Duration) -> f64 {
    // Microseconds are fine enough, and keep the line readable.
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// One line per request. Never a body, a secret or a signature; whatever a sender wrote is capped
/// here, and escaped by `telemetry`.
fn log(
    entry: &Entry,
    account: &Account,
    decision: &Decision,
    status: StatusCode,
    duration: Duration,
) {
    let (events, copies) = batch(decision);
    // A level must be known when the program is built, hence one branch for each.
    macro_rules! line {
        ($level:expr) => {
            tracing::event!(
                target: "hookgate::access",
                $level,
                request_id = &*entry.request_id,
                source = account.source.as_deref(),
                outcome = outcome(account, decision),
                reason = reason(account, decision),
                status = status.as_u16(),
                bytes = account.body_bytes,
                duration_ms = milliseconds(duration),
                client_ip = %entry.client_ip,
                certificate = certificate(entry),
                method = entry.method.as_ref().map(Method::as_str),
                path = entry.path,
                event_type = name(account.event_type.as_ref()),
                event_id = name(account.event_id.as_ref()),
                message_id = message_id(decision).map(tracing::field::display),
                batch = name(account.batch.as_ref()),
                events,
                copies,
                quarantined = quarantined(account, decision),
                key = account.key.as_deref(),
                detail = detail(account, decision),
                "request"
            )
        };
    }
    match decision
        .as_ref()
        .map_or_else(Reject::level, |_| Level::INFO)
    {
        Level::ERROR => line!(Level::ERROR),
        Level::WARN => line!(Level::WARN),
        Level::INFO => line!(Level::INFO),
        Level::DEBUG => line!(Level::DEBUG),
        Level::TRACE => line!(Level::TRACE),
    }
}

fn seen(
    entry: &Entry,
    account: &Account,
    decision: &Decision,
    status: StatusCode,
    duration: Duration,
) -> Seen {
    let (events, copies) = batch(decision);
    Seen {
        at: entry.now.wall.to_string(),
        source: account.source.clone(),
        outcome: outcome(account, decision),
        status: status.as_u16(),
        reason: reason(account, decision),
        detail: detail(account, decision),
        request_id: Arc::clone(&entry.request_id),
        message_id: message_id(decision).map(|id| id.to_string()),
        event_id: name(account.event_id.as_ref()),
        event_type: name(account.event_type.as_ref()),
        batch: name(account.batch.as_ref()),
        events,
        copies,
        quarantined: quarantined(account, decision),
        key: account.key.clone(),
        client_ip: entry.client_ip,
        method: entry.method.as_ref().map_or_else(String::new, |method| {
            shortened(method.as_str(), NAME_BYTES_MAX)
        }),
        path: entry.path.clone().unwrap_or_default(),
        bytes: account.body_bytes,
        duration_ms: milliseconds(duration),
    }
}

#[cfg(test)]
mod tests;
