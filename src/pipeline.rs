//! The whole decision about one webhook, on one screen.
//!
//! A request moves through types, each made in exactly one place and consumed by the next:
//!
//! ```text
//! Arrival -> Inbound -> Verified -> Document -> Events -> Delivery -> Fresh -> Receipt
//! ```
//!
//! Most requests are one event; a batch is several, which are kept all or not at all.
//!
//! Nothing here knows hyper, lapin or a socket. Cheap checks come first, and what a stranger can
//! trigger never costs the genuine sender its quota.

pub mod arrival;
pub mod certificate;
pub mod decode;
pub mod dedupe;
pub mod evidence;
pub mod expr;
pub mod handshake;
pub mod limit;
pub mod networks;
pub mod route;
pub mod routing;
pub mod schema;
pub mod split;
pub mod store;
pub mod verify;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::clock::Now;
use crate::delivery::{BatchPlace, Delivery, Lane, REASON_BYTES_MAX, cut};
use crate::metrics::Metrics;
use crate::reject::Reject;
use crate::source::{OnInvalid, Reply, Source};

use arrival::{Arrival, Head, Inbound};
use decode::{Document, Format, Parts};
use dedupe::{Claim, Dedupe, Fresh, Twin};
use evidence::{Action, Asker, Errand, Evidence, Fetching, Hindrance};
use handshake::{Handshake, HandshakeReply, Unconfirmed, enrolment};
use limit::InFlight;
use route::Routes;
use schema::{SchemaSet, VIOLATIONS_MAX, Violation};
use split::{Event, Events, Name, Split};
use store::Store;
use verify::{Refusal, Verified};

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
    /// Who gets what a proof needs from outside.
    pub fetching: Arc<dyn Fetching>,
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
    /// Everything that it brought is safe.
    Accepted(Receipt, Reply),
    /// It brought nothing but copies of events that are safe already.
    Duplicate(Receipt, Reply),
    /// The provider wanted to see who listens.
    Handshake(HandshakeReply),
}

/// What a sender is told of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// One event, under this id.
    Event(Uuid),
    /// A batch.
    Batch {
        /// Its name: see [`BatchPlace`].
        name: Arc<str>,
        /// How many of its events were new.
        stored: usize,
        /// How many were safe already, or came twice in it.
        copies: usize,
    },
}

/// What has been learned about a request on its way, for the log, the metrics and `tail`. Stages
/// fill it in; whatever way the request ends, the account says how far it came.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// The source's name.
    pub source: Option<Arc<str>>,
    /// Whether a refusal is a status and nothing else there.
    pub wants_no_problem: bool,
    /// Length of the body.
    pub body_bytes: usize,
    /// Label of the secret that matched.
    pub key: Option<Arc<str>>,
    /// The batch's name, where the request is one.
    pub batch: Option<String>,
    /// The provider's id. Events of a batch have each their own.
    pub event_id: Option<String>,
    /// The event's type. Events of a batch have each their own.
    pub event_type: Option<String>,
    /// Why the proof failed, where the source lets that through (`enforce = false`).
    pub unproved: Option<Refusal>,
    /// What a person has to do about a handshake.
    pub unconfirmed: Option<String>,
    /// What of it went to quarantine.
    pub quarantined: Option<Quarantined>,
    /// Whether somebody wants to see the request itself, should it be turned away.
    pub wants_request: bool,
    /// The request, where somebody does and it was read.
    pub request: Option<Inbound>,
}

/// What of a request went to quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// How many of its events.
    pub events: usize,
    /// Why the first of them: a label of [`Reject`].
    pub reason: &'static str,
    /// The same for the operator, in words.
    pub detail: String,
}

/// What a document says of one of its events.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) event_id: Option<String>,
    pub(crate) event_type: Option<String>,
    /// The schema that it satisfies, if there is one for its type, or what is wrong with it.
    pub(crate) schema: Result<Option<Arc<str>>, Reject>,
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

    /// How many events are new, and how many are copies.
    pub fn events(&self) -> (usize, usize) {
        match self {
            Self::Accepted(Receipt::Event(_), _) => (1, 0),
            Self::Duplicate(Receipt::Event(_), _) => (0, 1),
            Self::Accepted(Receipt::Batch { stored, copies, .. }, _)
            | Self::Duplicate(Receipt::Batch { stored, copies, .. }, _) => (*stored, *copies),
            Self::Handshake(_) => (0, 0),
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
        account.wants_no_problem = !source.problems;
        source.admit(&arrival.head, now.mono)?;
        let mut place = self.in_flight.admit(arrival.head.client_ip)?;
        let inbound = arrival
            .read(source.body, |bytes| place.make_room(bytes))
            .await?;
        account.body_bytes = inbound.body.len();
        if account.wants_request {
            account.request = Some(inbound.clone());
        }
        // A slow body has had a deadline of its own, and must not have used up the next one.
        let whole_at = Now::read().mono;
        let deadline = whole_at + self.accept_timeout;

        if let Some(offer) = enrolment::offer(&source.handshakes, &inbound) {
            let reply = enrolment::take(offer, source.enrolment.as_ref(), now, deadline).await?;
            return Ok(Outcome::Handshake(reply));
        }
        if let Some(reply) = source.answer_anybody(&inbound)? {
            return Ok(Outcome::Handshake(reply));
        }
        let evidence = self.gather(source, &inbound, now, whole_at).await?;
        let verified = source.verify(inbound, &evidence, now, account, &self.metrics)?;
        if let Some(enrolment) = &source.enrolment {
            enrolment::settle(enrolment, verified.proof.key.as_deref(), now, deadline).await;
        }
        if let Some((rule, reply)) = handshake::answer_verified(&source.handshakes, &verified)? {
            let reply = self.confirm(source, rule, reply, &verified, deadline, account);
            return reply.await.map(Outcome::Handshake);
        }
        source.takes_event(&verified.inbound.head)?;
        source.spend()?;
        let make_room = |bytes| place.make_room(bytes);
        let document = source.decode(verified, source.needs_tree(), make_room)?;
        let events = source.split(document)?;
        place.make_room(events.extra_bytes(source.copied_bytes(events.head())))?;
        let batch = events.name(&source.event_id);
        account.batch = batch.as_ref().map(|name| name.text().to_string());
        let make_room = |bytes| place.make_room(bytes);
        let deliveries = source.check(events, batch.as_ref(), now, account, make_room)?;
        let batch = batch.map(|name| Arc::clone(name.text()));
        self.keep(source, deliveries, batch, whole_at).await
    }

    /// Gets what the proof needs from outside, if it needs anything.
    async fn gather(
        &self,
        source: &Source,
        inbound: &Inbound,
        now: Now,
        whole_at: Instant,
    ) -> Result<Evidence, Reject> {
        if !source.verifier.needs_evidence() {
            return Ok(Evidence::none());
        }
        let gathering = source
            .verifier
            .gather(inbound, &source.name, &*self.fetching, now);
        let gathered = timeout_at(whole_at + self.accept_timeout, gathering).await;
        match gathered.unwrap_or(Err(Hindrance::TooSlow)) {
            Ok(evidence) => Ok(evidence),
            Err(hindrance @ (Hindrance::Unfetched { .. } | Hindrance::TooSlow))
                if source.enforce =>
            {
                Err(Reject::from(hindrance))
            }
            // Without evidence, verifying comes to the same refusal, and counts it.
            Err(_) => Ok(Evidence::none()),
        }
    }

    /// Finishes a handshake that is finished by calling somebody, or leaves that to a person.
    /// Gives what it is answered.
    async fn confirm(
        &self,
        source: &Source,
        rule: &Handshake,
        reply: HandshakeReply,
        verified: &Verified,
        deadline: Instant,
        account: &mut Account,
    ) -> Result<HandshakeReply, Reject> {
        let Some(Unconfirmed {
            target,
            url,
            is_proved,
            instead_of_body,
        }) = rule.unconfirmed(verified, source.confirms)?
        else {
            return Ok(reply);
        };
        if !is_proved {
            // Let through (`enforce = false`), but nobody is called for a stranger.
            tracing::warn!(source = %source.name, url, "a subscription that nothing proves waits for a person to open this URL");
            account.unconfirmed = Some(format!(
                "nothing proves it; to be confirmed by opening {url}, if you asked for it"
            ));
            return Ok(reply);
        }
        if !source.confirms {
            tracing::warn!(source = %source.name, url, "a subscription waits for a person to open this URL");
            account.unconfirmed = Some(format!("to be confirmed by opening {url}"));
            return Ok(reply);
        }
        let shown = target.to_string();
        let errand = Errand::get(&source.name, target).by(Action::GetNow);
        let errand = errand.asked_by(Asker::Known);
        if instead_of_body {
            self.fetching.fetch_later(errand);
            return Ok(reply.without_body());
        }
        let calling = self.fetching.fetch(errand);
        match timeout_at(deadline, calling).await {
            Ok(Ok(_confirmed)) => {
                tracing::info!(source = %source.name, url = shown, "a subscription is confirmed");
                Ok(reply)
            }
            Ok(Err(why)) => Err(Reject::EvidenceUnavailable(format!("{shown}: {why}"))),
            Err(_elapsed) => Err(Reject::TooSlow),
        }
    }

    /// Stores a request's events once, however many copies of them arrive: all that are new, or
    /// none.
    async fn keep(
        &self,
        source: &Source,
        deliveries: Vec<Delivery>,
        batch: Option<Arc<str>>,
        whole_at: Instant,
    ) -> Result<Outcome, Reject> {
        let deadline = whole_at + self.accept_timeout;
        let claims = loop {
            let twin = match self.claim(source, &deliveries, whole_at) {
                Ok(claims) => break claims,
                Err(twin) => twin,
            };
            // The table knows how it went. If the first copy did not make it, this one tries in
            // its place.
            let fate = timeout_at(deadline, twin.fate()).await;
            if fate.is_err() {
                return Err(Reject::TooSlow);
            }
        };
        let (mut new, mut seen) = (Vec::new(), None);
        let all = deliveries.len();
        for (delivery, claim) in deliveries.into_iter().zip(claims) {
            match claim {
                Claim::Fresh(fresh) => new.push((delivery, fresh)),
                Claim::Seen(id) => seen = seen.or(Some(id)),
                Claim::Again => {}
            }
        }
        let stored = new.len();
        let is_quarantined = |(delivery, _): &&(Delivery, Fresh)| delivery.lane != Lane::Main;
        let quarantined = new.iter().filter(is_quarantined).count();
        let id = new.first().map(|(delivery, _)| delivery.id).or(seen);
        self.store.keep(source.ack, new, deadline).await?;
        if quarantined > 0 {
            let metrics = self.metrics.source(Some(&source.name));
            metrics.quarantined.add(quarantined);
        }
        let receipt = match batch {
            None => Receipt::Event(id.unwrap_or_default()),
            Some(name) => Receipt::Batch {
                name,
                stored,
                copies: all - stored,
            },
        };
        let reply = source.reply.clone();
        Ok(if stored == 0 && all > 0 {
            Outcome::Duplicate(receipt, reply)
        } else {
            Outcome::Accepted(receipt, reply)
        })
    }

    fn claim(
        &self,
        source: &Source,
        deliveries: &[Delivery],
        now: Instant,
    ) -> Result<Vec<Claim>, Twin> {
        let Some(window) = source.dedupe else {
            let unclaimed = |_: &Delivery| Claim::Fresh(Fresh::unclaimed());
            return Ok(deliveries.iter().map(unclaimed).collect());
        };
        let name = |delivery: &Delivery| {
            let origin = delivery.origin.as_ref();
            let issuer = dedupe::issuer_of(&delivery.source, delivery.coverage, origin);
            Some((issuer, delivery.event_id.clone()?))
        };
        let names: Vec<_> = deliveries.iter().map(name).collect();
        self.dedupe.claim(&names, window, now)
    }
}

// === what a source does at each stage ===

impl Source {
    fn admit(&self, head: &Head, now: Instant) -> Result<(), Reject> {
        handshake::admit(&self.methods, &self.handshakes, head)?;
        if !self.allow_ips.admits(head.client_ip) {
            return Err(Reject::AddressNotAllowed);
        }
        self.peer_limit
            .as_ref()
            .map_or(Ok(()), |limit| limit.spend(head.client_ip, now))
    }

    /// What a request is answered before anything is proved.
    pub(crate) fn answer_anybody(
        &self,
        inbound: &Inbound,
    ) -> Result<Option<HandshakeReply>, Reject> {
        handshake::answer_anybody(&self.methods, &self.handshakes, inbound)
    }

    /// Methods that are there for handshakes only bring no events.
    pub(crate) fn takes_event(&self, head: &Head) -> Result<(), Reject> {
        if self.methods.contains(&head.method) {
            Ok(())
        } else {
            Err(Reject::MethodNotAllowed(self.methods.clone()))
        }
    }

    fn verify(
        &self,
        inbound: Inbound,
        evidence: &Evidence,
        now: Now,
        account: &mut Account,
        metrics: &Metrics,
    ) -> Result<Verified, Reject> {
        match self.verifier().verify_with(inbound, evidence, now) {
            Ok(verified) => {
                account.key.clone_from(&verified.proof.key);
                Ok(verified)
            }
            Err((_, refusal)) if self.enforce => Err(Reject::from(refusal)),
            Err((inbound, refusal)) => {
                // Nobody is turned away, so nobody else counts it.
                metrics.refused(Some(&self.name), refusal.label());
                let mut verified = Verified::unproved(inbound);
                verified.proof.refusal = Some(refusal.label());
                account.unproved = Some(refusal);
                Ok(verified)
            }
        }
    }

    fn spend(&self) -> Result<(), Reject> {
        self.limit.as_ref().map_or(Ok(()), |limit| limit.spend())
    }

    /// Whether anybody reads the body's meaning, or only whether it has one.
    pub fn needs_tree(&self) -> bool {
        // Each CloudEvent of a batch says itself what it is.
        self.schemas.is_some()
            || self.reading.format == Format::CloudEvents
            || self.split.as_ref().is_some_and(Split::needs_tree)
            || self
                .event_id
                .iter()
                .chain(&self.event_type)
                .any(expr::Expr::needs_json)
    }

    /// Reads the body. Where the provider would not send a refused event again, what cannot be
    /// read goes on, with the reason.
    pub(crate) fn decode(
        &self,
        verified: Verified,
        needs_tree: bool,
        make_room: impl FnMut(usize) -> Result<(), Reject>,
    ) -> Result<Document, Reject> {
        match self.on_invalid {
            OnInvalid::Reject => decode::decode(verified, &self.reading, needs_tree, make_room),
            OnInvalid::Quarantine => {
                decode::decode_anyway(verified, &self.reading, needs_tree, make_room)
            }
        }
    }

    /// Takes the events out of a document.
    pub(crate) fn split(&self, document: Document) -> Result<Events, Reject> {
        match (&self.split, self.on_invalid) {
            (None, _) => Ok(Events::one(document)),
            (Some(split), OnInvalid::Reject) => split.open(document, self.reading.duplicate_keys),
            (Some(split), OnInvalid::Quarantine) => {
                Ok(split.open_anyway(document, self.reading.duplicate_keys))
            }
        }
    }

    /// Reads what a request says of one of its events, and holds it against the schema of its
    /// type. `batch`: the name of the batch, after which an event without an id of its own is
    /// called.
    pub(crate) fn judge(
        &self,
        events: &Events,
        batch: Option<&Name>,
        (index, event): (usize, &Event),
    ) -> Findings {
        let is_short = |name: &String| name.len() <= NAME_BYTES_MAX;
        let (own_id, event_type) = match events.cloud_event(event) {
            Some(own) => (Some(own.id.clone()), Some(own.event_type.clone())),
            None => {
                let of_head = events.document.event.as_ref();
                let of_head = of_head.map(|event| event.event_type.clone());
                let event_type = events.read(event, &self.event_type).filter(is_short);
                let own_id = events.own_id(event, &self.event_id).filter(is_short);
                (own_id, event_type.or(of_head))
            }
        };
        let event_id = own_id.or_else(|| batch?.of_element(index));
        let schema = match (&events.flaw, &self.schemas, events.json(event)) {
            (Some(flaw), ..) => Err(flaw.clone()),
            (None, Some(schemas), Some(json)) => {
                check_parts(schemas, events.parts(), event_type.as_deref(), json)
                    .map_err(Reject::SchemaViolated)
            }
            (None, None, _) | (None, _, None) => Ok(None),
        };
        Findings {
            event_id,
            event_type,
            schema,
        }
    }

    /// Decides about every event of a request: all of them are taken, or none. `make_room` is
    /// asked for what each event of a batch has for itself.
    fn check(
        &self,
        events: Events,
        batch: Option<&Name>,
        now: Now,
        account: &mut Account,
        mut make_room: impl FnMut(usize) -> Result<(), Reject>,
    ) -> Result<Vec<Delivery>, Reject> {
        let mut checked = Vec::with_capacity(events.list.len());
        let mut violations = Vec::new();
        for (index, event) in events.list.iter().enumerate() {
            let findings = self.judge(&events, batch, (index, event));
            if batch.is_none() {
                account.event_id.clone_from(&findings.event_id);
                account.event_type.clone_from(&findings.event_type);
            }
            let (schema, lane) = match (findings.schema, self.on_invalid) {
                (Ok(schema), _) => (schema, Lane::Main),
                (Err(Reject::SchemaViolated(found)), OnInvalid::Reject) => {
                    let found = found.into_iter();
                    violations.extend(found.map(|found| events.locate(index, found)));
                    if violations.len() >= VIOLATIONS_MAX {
                        break;
                    }
                    continue;
                }
                (Err(reject), OnInvalid::Reject) => return Err(reject),
                (Err(reject), OnInvalid::Quarantine) => {
                    let reason = cut(&reject.detail(), REASON_BYTES_MAX).to_owned();
                    let none = || Quarantined {
                        events: 0,
                        reason: reject.label(),
                        detail: reason.clone(),
                    };
                    account.quarantined.get_or_insert_with(none).events += 1;
                    (None, Lane::Quarantine(reason))
                }
            };
            let (event_id, event_type) = (findings.event_id, findings.event_type);
            if batch.is_some() {
                let reason = match &lane {
                    Lane::Main => 0,
                    Lane::Quarantine(reason) => reason.len(),
                };
                let names =
                    [&event_id, &event_type].map(|name| name.as_ref().map_or(0, String::len));
                make_room(names.iter().sum::<usize>() + reason)?;
            }
            checked.push((event_id, event_type, schema, lane));
        }
        if !violations.is_empty() {
            return Err(Reject::SchemaViolated(violations));
        }
        let size = number(events.list.len());
        let Events { document, list, .. } = events;
        let Document {
            verified,
            event: whole,
            ..
        } = document;
        let deliveries = list.into_iter().zip(checked).enumerate();
        let deliveries = deliveries.map(|(index, (event, checked))| {
            let (event_id, event_type, schema, lane) = checked;
            let delivery = self.delivery(&verified, event.body, now);
            let cloud = event.cloud.as_ref().or(whole.as_ref());
            let element_type = match &event.cloud {
                Some(_) => CLOUD_EVENT_TYPE,
                None => ELEMENT_TYPE,
            };
            Delivery {
                routing_key: self.routing_key.render(&self.name, event_type.as_deref()),
                event_id,
                event_type,
                origin: cloud.map(|event| event.origin.clone()),
                schema,
                lane,
                ..match batch {
                    None => delivery,
                    Some(name) => Delivery {
                        batch: Some(BatchPlace {
                            name: Arc::clone(name.text()),
                            index: number(index),
                            size,
                        }),
                        // An element is JSON, whatever it came in.
                        content_type: Some(element_type.to_owned()),
                        content_encoding: None,
                        ..delivery
                    },
                }
            }
        });
        Ok(deliveries.collect())
    }

    /// How many bytes of a request's head each of its events gets a copy of.
    fn copied_bytes(&self, head: &Head) -> usize {
        let names = self.forward_headers.iter().map(|(name, _)| name.as_str());
        let values = names
            .chain(COPIED_HEADERS)
            .filter_map(|name| head.headers.get(name));
        values.map(http::HeaderValue::len).sum()
    }

    /// What is the same for every event of a request, around the bytes of one.
    fn delivery(&self, verified: &Verified, body: Bytes, now: Now) -> Delivery {
        let Verified {
            inbound: Inbound { head, .. },
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
        let [content_type, content_encoding, traceparent, tracestate] = COPIED_HEADERS.map(header);
        Delivery {
            id: Uuid::new_v7(uuid::Timestamp::from_unix(
                uuid::NoContext,
                u64::try_from(now.wall.as_second()).unwrap_or_default(),
                u32::try_from(now.wall.subsec_nanosecond()).unwrap_or_default(),
            )),
            source: Arc::clone(&self.name),
            event_id: None,
            event_type: None,
            origin: None,
            received_at: now.wall,
            client_ip: head.client_ip,
            request_id: Arc::clone(&head.request_id),
            coverage: proof.coverage,
            key: proof.key.clone(),
            unverified: proof.refusal.map(Arc::from),
            schema: None,
            batch: None,
            lane: Lane::Main,
            routing_key: String::new(),
            content_type,
            content_encoding,
            traceparent,
            tracestate,
            forwarded: forwarded.collect(),
            body,
        }
    }
}

/// Headers that a message always has.
const COPIED_HEADERS: [&str; 4] = [
    "content-type",
    "content-encoding",
    "traceparent",
    "tracestate",
];

/// What an element of a batch is.
const ELEMENT_TYPE: &str = "application/json";

/// What an element of a batch of CloudEvents is.
const CLOUD_EVENT_TYPE: &str = "application/cloudevents+json";

/// A place in a batch, of which configuration allows far fewer.
fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// Holds a document against the schema of its type, or every part of it: lines share the type,
/// CloudEvents have each their own.
fn check_parts(
    schemas: &SchemaSet,
    parts: &Parts,
    event_type: Option<&str>,
    json: &Value,
) -> Result<Option<Arc<str>>, Vec<Violation>> {
    // A batch of CloudEvents has become as many events.
    let Parts::Lines(_) = parts else {
        return schemas.check(event_type, json);
    };
    let mut name = None;
    let list = json.as_array().map(Vec::as_slice).unwrap_or_default();
    for (index, part) in list.iter().enumerate() {
        name = schemas.check(event_type, part).map_err(|violations| {
            let under = |it: Violation| Violation {
                pointer: format!("/{index}{}", it.pointer),
                ..it
            };
            violations.into_iter().map(under).collect::<Vec<_>>()
        })?;
    }
    Ok(name)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) mod tests;
