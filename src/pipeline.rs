//! The whole decision about one webhook, on one screen.
//!
//! A request moves through types, each made in exactly one place and consumed by the next:
//!
//! ```text
//! Arrival -> Inbound -> Verified -> Document -> Delivery -> Fresh -> Receipt
//! ```
//!
//! Nothing here knows hyper, lapin or a socket. Cheap checks come first, and what a stranger can
//! trigger never costs the genuine sender its quota.

pub mod arrival;
pub mod decode;
pub mod dedupe;
pub mod expr;
pub mod handshake;
pub mod limit;
pub mod route;
pub mod routing;
pub mod schema;
pub mod store;
pub mod verify;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use tokio::time::Instant;
use uuid::Uuid;

use crate::clock::Now;
use crate::delivery::{Delivery, Lane};
use crate::metrics::Metrics;
use crate::reject::Reject;
use crate::source::{OnInvalid, Reply, Source};

use arrival::{Arrival, Head, Inbound};
use decode::Document;
use dedupe::{Claim, Dedupe, Fresh};
use handshake::HandshakeReply;
use limit::InFlight;
use route::Routes;
use schema::Violation;
use store::Store;
use verify::Verified;

/// Longest id and type of an event, in bytes. A longer one counts as absent: the table of ids and
/// the headers of a message have no room for it.
const NAME_BYTES_MAX: usize = 1024;

/// Everything that a decision needs.
#[derive(Debug)]
pub struct Pipeline {
    /// Sources by path.
    pub routes: Routes,
    /// Requests and bytes at once.
    pub in_flight: InFlight,
    /// Event ids seen.
    pub dedupe: Dedupe,
    /// Where events become safe.
    pub store: Store,
    /// From the whole body to the event being safe.
    pub accept_timeout: Duration,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// How a request ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The event is safe, under this id.
    Accepted(Uuid, Reply),
    /// A copy of an event that is safe already, under this id.
    Duplicate(Uuid, Reply),
    /// The provider wanted to see who listens.
    Handshake(HandshakeReply),
}

/// What has been learned about a request on its way, for the log, the metrics and `tail`. Stages
/// fill it in; whatever way the request ends, the account says how far it came.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// The source's name.
    pub source: Option<Arc<str>>,
    /// Length of the body.
    pub body_bytes: usize,
    /// Label of the secret that matched.
    pub key: Option<Arc<str>>,
    /// The provider's id.
    pub event_id: Option<String>,
    /// The event's type.
    pub event_type: Option<String>,
    /// Why the proof failed, where the source lets that through (`enforce = false`).
    pub unproved: Option<String>,
    /// Why it went to quarantine.
    pub quarantined: Option<String>,
}

/// What a document says of its event.
#[derive(Debug)]
pub(crate) struct Findings {
    event_id: Option<String>,
    event_type: Option<String>,
    /// The schema that it satisfies, if there is one for its type, or how it does not.
    pub(crate) schema: Result<Option<Arc<str>>, Vec<Violation>>,
}

impl Outcome {
    /// The word in the log and in `tail`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Accepted(..) => "accepted",
            Self::Duplicate(..) => "duplicate",
            Self::Handshake(_) => "handshake",
        }
    }
}

impl Pipeline {
    /// Takes one webhook as far as safety.
    ///
    /// # Errors
    ///
    /// Every way to be turned away.
    pub async fn receive<B: Body<Data = Bytes>>(
        &self,
        arrival: Arrival<B>,
        now: Now,
        account: &mut Account,
    ) -> Result<Outcome, Reject> {
        let source = self.routes.find(&arrival.head)?;
        account.source = Some(Arc::clone(&source.name));
        source.admit(&arrival.head, now.mono)?;
        let mut place = self.in_flight.admit(arrival.head.client_ip)?;
        let inbound = arrival
            .read(source.body, |bytes| place.make_room(bytes))
            .await?;
        account.body_bytes = inbound.body.len();
        // A slow body has had a deadline of its own, and must not have used up the next one.
        let whole_at = Now::read().mono;

        if let Some(reply) = handshake::answer_anybody(&source.handshakes, &inbound) {
            return Ok(Outcome::Handshake(reply));
        }
        let verified = source.verify(inbound, now, account, &self.metrics)?;
        if let Some(reply) = handshake::answer_verified(&source.handshakes, &verified) {
            return Ok(Outcome::Handshake(reply));
        }
        source.takes_event(&verified.inbound.head)?;
        source.spend()?;
        let document = decode::decode(
            verified,
            source.format,
            source.duplicate_keys,
            source.needs_tree(),
        )?;
        let delivery = source.check(document, now, account)?;
        self.keep(source, delivery, whole_at).await
    }

    /// Stores an event once, however many copies of it arrive.
    async fn keep(
        &self,
        source: &Source,
        delivery: Delivery,
        whole_at: Instant,
    ) -> Result<Outcome, Reject> {
        let reply = source.reply.clone();
        let deadline = whole_at + self.accept_timeout;
        loop {
            let claim = match (&delivery.event_id, source.dedupe) {
                (Some(id), Some(window)) => {
                    let issuer = dedupe::issuer(&delivery.source, delivery.coverage);
                    self.dedupe.claim(&issuer, id, window, whole_at)
                }
                _ => Claim::Fresh(Fresh::unclaimed()),
            };
            match claim {
                Claim::Seen(id) => return Ok(Outcome::Duplicate(id, reply)),
                Claim::Pending(twin) => {
                    let fate = tokio::time::timeout_at(deadline, twin.fate()).await;
                    match fate {
                        Ok(Some(id)) => return Ok(Outcome::Duplicate(id, reply)),
                        // The first copy did not make it: this one tries in its place.
                        Ok(None) => {}
                        Err(_elapsed) => return Err(Reject::TooSlow),
                    }
                }
                Claim::Fresh(fresh) => {
                    let id = self
                        .store
                        .keep(source.ack, delivery, fresh, deadline)
                        .await?;
                    return Ok(Outcome::Accepted(id, reply));
                }
            }
        }
    }
}

// === what a source does at each stage ===

impl Source {
    fn admit(&self, head: &Head, now: Instant) -> Result<(), Reject> {
        if !self.methods.contains(&head.method) {
            return Err(Reject::MethodNotAllowed(self.methods.clone()));
        }
        let allowed = self.allow_ips.is_empty()
            || self
                .allow_ips
                .iter()
                .any(|network| network.contains(&head.client_ip));
        if !allowed {
            return Err(Reject::AddressNotAllowed);
        }
        self.peer_limit
            .as_ref()
            .map_or(Ok(()), |limit| limit.spend(head.client_ip, now))
    }

    /// Methods that are there for handshakes only (GET, HEAD, OPTIONS) bring no events.
    pub(crate) fn takes_event(&self, head: &Head) -> Result<(), Reject> {
        if !head.method.is_safe() {
            return Ok(());
        }
        let events = self
            .methods
            .iter()
            .filter(|method| !method.is_safe())
            .cloned();
        Err(Reject::MethodNotAllowed(events.collect()))
    }

    fn verify(
        &self,
        inbound: Inbound,
        now: Now,
        account: &mut Account,
        metrics: &Metrics,
    ) -> Result<Verified, Reject> {
        match self.verifier.verify(inbound, now) {
            Ok(verified) => {
                account.key.clone_from(&verified.proof.key);
                Ok(verified)
            }
            Err((_, refusal)) if self.enforce => Err(Reject::Unverified(refusal)),
            Err((inbound, refusal)) => {
                // Nobody is turned away, so nobody else counts it.
                metrics.refused(Some(&self.name), refusal.label());
                account.unproved = Some(refusal.to_string());
                Ok(Verified::unproved(inbound))
            }
        }
    }

    fn spend(&self) -> Result<(), Reject> {
        self.limit.as_ref().map_or(Ok(()), |limit| limit.spend())
    }

    /// Whether anybody reads the body's meaning, or only whether it has one.
    pub fn needs_tree(&self) -> bool {
        self.schemas.is_some()
            || self
                .event_id
                .iter()
                .chain(&self.event_type)
                .any(expr::Expr::needs_json)
    }

    /// Reads what a document says of its event, and holds it against the schema of its type.
    pub(crate) fn judge(&self, document: &Document) -> Findings {
        let (head, json) = (&document.verified.inbound.head, document.json.as_ref());
        let name = |places: &[expr::Expr]| {
            let read = places.iter().find_map(|place| place.read(head, json));
            read.filter(|name| name.len() <= NAME_BYTES_MAX)
        };
        let event_type = name(&self.event_type);
        let schema = match (&self.schemas, json) {
            (Some(schemas), Some(json)) => schemas.check(event_type.as_deref(), json),
            (None, _) | (_, None) => Ok(None),
        };
        Findings {
            event_id: name(&self.event_id),
            event_type,
            schema,
        }
    }

    fn check(
        &self,
        document: Document,
        now: Now,
        account: &mut Account,
    ) -> Result<Delivery, Reject> {
        let Findings {
            event_id,
            event_type,
            schema: checked,
        } = self.judge(&document);
        account.event_id = event_id;
        account.event_type = event_type;
        let (schema, lane) = match (checked, self.on_invalid) {
            (Ok(schema), _) => (schema, Lane::Main),
            (Err(violations), OnInvalid::Reject) => return Err(Reject::SchemaViolated(violations)),
            (Err(violations), OnInvalid::Quarantine) => {
                let reason = Reject::SchemaViolated(violations).detail();
                account.quarantined = Some(reason.clone());
                (None, Lane::Quarantine(reason))
            }
        };
        Ok(self.delivery(document.verified, schema, lane, now, account))
    }

    fn delivery(
        &self,
        verified: Verified,
        schema: Option<Arc<str>>,
        lane: Lane,
        now: Now,
        account: &Account,
    ) -> Delivery {
        let Verified {
            inbound: Inbound { head, body },
            proof,
            ..
        } = verified;
        let header = |name: &str| {
            head.headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let forwarded = self.forward_headers.iter().filter_map(|(name, renamed)| {
            header(name.as_str()).map(|value| (renamed.clone(), value))
        });
        Delivery {
            id: Uuid::new_v7(uuid::Timestamp::from_unix(
                uuid::NoContext,
                u64::try_from(now.wall.as_second()).unwrap_or_default(),
                u32::try_from(now.wall.subsec_nanosecond()).unwrap_or_default(),
            )),
            source: Arc::clone(&self.name),
            event_id: account.event_id.clone(),
            event_type: account.event_type.clone(),
            received_at: now.wall,
            client_ip: head.client_ip,
            request_id: Arc::clone(&head.request_id),
            coverage: proof.coverage,
            key: proof.key,
            schema,
            lane,
            routing_key: self
                .routing_key
                .render(&self.name, account.event_type.as_deref()),
            content_type: header("content-type"),
            content_encoding: header("content-encoding"),
            traceparent: header("traceparent"),
            tracestate: header("tracestate"),
            forwarded: forwarded.collect(),
            body,
        }
    }
}

#[cfg(test)]
mod tests;
