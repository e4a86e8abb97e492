//! What would become of a saved request, and exactly why: `hookgate explain`.
//!
//! The same stages as in `pipeline.rs`, by the same code, without what has a memory: limits,
//! duplicates, the journal.

mod elsewhere;
mod folder;
mod saved;

use std::sync::Arc;

use futures_util::FutureExt as _;
use http::StatusCode;
use serde::Serialize;
use serde_json::json;

use crate::clock::Now;
use crate::delivery::Coverage;
use crate::explain::saved::Saved;
use crate::pipeline::arrival::Inbound;
use crate::pipeline::certificate::ClientCertificate;
use crate::pipeline::evidence::{Evidence, Fetching, Hindrance, Nowhere};
use crate::pipeline::handshake::enrolment::{self, NotTaken, Offer};
use crate::pipeline::handshake::{self, Handshake, HandshakeReply, Unconfirmed};
use crate::pipeline::schema::VIOLATIONS_MAX;
use crate::pipeline::split::{Events, Name};
use crate::pipeline::verify::{Proof, Verified};
use crate::reject::Reject;
use crate::source::{OnInvalid, Source};

pub use elsewhere::Neighbours;
pub use folder::Folder;

/// For a source by itself.
const NOBODY: Neighbours<'static> = Neighbours {
    sources: &[],
    paths: &[],
};

/// What would become of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// In one word.
    pub verdict: Verdict,
    /// What the sender would be answered; 0 where there is no request to answer.
    pub status: u16,
    /// A label of [`Reject`], for an unverified request that of its
    /// [refusal](crate::pipeline::verify::Refusal), or one of `accepted`, `quarantined`,
    /// `handshake`, `unreadable`.
    pub reason: &'static str,
    /// Why, in words.
    pub detail: String,
    /// What else a person should know and do.
    pub remarks: Vec<String>,
    /// What would become of each event of a batch; empty for a request that is none.
    pub events: Vec<Element>,
}

/// What would become of one event of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Element {
    /// Its place, from 0.
    pub index: usize,
    /// The id by which copies of it are recognised.
    pub event_id: Option<String>,
    /// Its type.
    pub event_type: Option<String>,
    /// The routing key of its message.
    pub routing_key: String,
    /// How long its message is.
    pub bytes: usize,
    /// `accepted`, `quarantined` or `schema_violated`.
    pub reason: &'static str,
    /// The schema that it satisfies, or how it does not.
    pub detail: Option<String>,
}

/// The outcome in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It would be stored and published.
    Accept,
    /// It would be turned away.
    Reject,
    /// It would be answered by rule.
    Handshake,
}

impl Verdict {
    /// The word in `explain --json`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Handshake => "handshake",
        }
    }
}

impl Explanation {
    /// One line of `explain --json`, about the request in `file`.
    pub fn to_json(&self, file: &str) -> String {
        let Self {
            verdict,
            status,
            reason,
            events,
            ..
        } = self;
        let (verdict, detail) = (verdict.label(), self.whole());
        let mut line = json!({
            "file": file, "verdict": verdict, "status": status, "reason": reason, "detail": detail
        });
        if let (false, Some(line)) = (events.is_empty(), line.as_object_mut()) {
            line.insert("events".to_owned(), json!(events));
        }
        line.to_string()
    }

    /// The detail with all remarks.
    pub fn whole(&self) -> String {
        let remarks = self.remarks.iter().map(String::as_str);
        let all: Vec<&str> = std::iter::once(&*self.detail).chain(remarks).collect();
        all.join("; ")
    }

    /// A file that could not be read, or a request that cannot be judged here, and why.
    pub fn unread(detail: String) -> Self {
        Self::unreadable(0, detail)
    }

    fn unreadable(status: u16, detail: String) -> Self {
        Self {
            verdict: Verdict::Reject,
            status,
            reason: "unreadable",
            detail,
            remarks: Vec::new(),
            events: Vec::new(),
        }
    }

    fn reject(reject: &Reject) -> Self {
        let reason = match reject {
            Reject::Unverified(refusal) => refusal.label(),
            other => other.label(),
        };
        let status = reject.status().as_u16();
        Self {
            verdict: Verdict::Reject,
            status,
            reason,
            detail: reject.detail(),
            remarks: Vec::new(),
            events: Vec::new(),
        }
    }
}

/// Explains what the gateway would do with `request`, a raw HTTP/1.1 request as saved from the
/// wire, if it came to `source` at `now`.
pub fn explain(source: &Source, request: &[u8], now: Now) -> Explanation {
    explain_with(source, request, None, &Nowhere, now)
}

/// The same for a connection that has shown a certificate, which no request holds, and with what
/// the gateway would fetch. `at_hand` must have it at once: nobody waits.
pub fn explain_with(
    source: &Source,
    request: &[u8],
    certificate: Option<Arc<ClientCertificate>>,
    at_hand: &dyn Fetching,
    now: Now,
) -> Explanation {
    match saved::read(request) {
        Ok(saved) => of_saved(source, &NOBODY, saved, certificate, at_hand, now),
        Err(detail) => Explanation::unreadable(StatusCode::BAD_REQUEST.as_u16(), detail),
    }
}

/// The same for one of several sources. A request goes by its path, so it may be another one that
/// judges it. Where the proof fails, it is said whether another source would have taken it.
pub fn explain_among(
    source: &Source,
    neighbours: &Neighbours<'_>,
    request: &[u8],
    certificate: Option<Arc<ClientCertificate>>,
    at_hand: &dyn Fetching,
    now: Now,
) -> Explanation {
    let Ok(saved) = saved::read(request) else {
        return explain_with(source, request, certificate, at_hand, now);
    };
    let judge = match neighbours.judge(source, &saved.inbound.head.path) {
        Ok(judge) => judge,
        Err(absent) => return Explanation::unread(absent),
    };
    let mut explanation = of_saved(judge, neighbours, saved, certificate, at_hand, now);
    if judge.name != source.name {
        let (judge, own) = (&judge.name, &source.path);
        let judge = format!(
            "this is what the source {judge} says, which listens at the path of the request; {} \
             listens at {own}",
            source.name
        );
        explanation.remarks.insert(0, judge);
    }
    explanation
}

fn of_saved(
    source: &Source,
    neighbours: &Neighbours<'_>,
    saved: Saved,
    certificate: Option<Arc<ClientCertificate>>,
    at_hand: &dyn Fetching,
    now: Now,
) -> Explanation {
    let Saved {
        mut inbound,
        mut remarks,
    } = saved;
    inbound.head.certificate = certificate;
    if !source.allow_ips.is_anyone() {
        remarks.push("a file does not say who sent it, so `allow_ips` is not checked".to_owned());
    }
    let asked_for = inbound.head.path.clone();
    let is_heard = source.listens_at(&asked_for);
    if !is_heard {
        inbound.head.path.clone_from(&source.path);
    }
    let mut explanation = decide(source, neighbours, inbound, at_hand, now, &mut remarks);
    explanation.remarks.append(&mut remarks);
    if is_heard {
        return explanation;
    }
    let there = format!(
        "sent to {}, where {} listens, it would be: {} ({} {}): {}",
        source.path,
        source.name,
        explanation.verdict.label(),
        explanation.status,
        explanation.reason,
        explanation.detail,
    );
    let mut nowhere = Explanation::reject(&Reject::NoSuchPath);
    nowhere.detail = format!("{}: {asked_for}", nowhere.detail);
    nowhere.remarks = vec![there];
    nowhere.remarks.append(&mut explanation.remarks);
    nowhere
}

fn decide(
    source: &Source,
    neighbours: &Neighbours<'_>,
    inbound: Inbound,
    at_hand: &dyn Fetching,
    now: Now,
    remarks: &mut Vec<String>,
) -> Explanation {
    if let Err(reject) = handshake::admit(&source.methods, &source.handshakes, &inbound.head) {
        return Explanation::reject(&reject);
    }
    if inbound.body.len() > source.body.bytes_max {
        return Explanation::reject(&Reject::BodyTooLarge(source.body.bytes_max));
    }
    if let Some(offer) = enrolment::offer(&source.handshakes, &inbound) {
        return offered(source, &offer, now);
    }
    match source.answer_anybody(&inbound) {
        Err(reject) => return Explanation::reject(&reject),
        Ok(None) => {}
        Ok(Some(reply)) => {
            let is_it = |rule: &&Handshake| !rule.needs_proof() && rule.answer(&inbound).is_some();
            return answered(source, source.handshakes.iter().find(is_it), &reply);
        }
    }
    let verifier = source.verifier();
    remarks.extend(verifier.signature_base(&inbound));
    let evidence = match gather(source, &inbound, at_hand, now) {
        Ok(evidence) => evidence,
        Err(reject) => {
            remarks.push(
                "`explain` fetches nothing: save what is there into a folder, under the last part \
                 of its path, and give that with --evidence"
                    .to_owned(),
            );
            if source.enforce {
                return Explanation::reject(&reject);
            }
            // Verifying comes to a refusal, which is let through.
            Evidence::none()
        }
    };
    let verified = match verifier.verify_with(inbound, &evidence, now) {
        Ok(verified) => verified,
        Err((inbound, refusal)) => {
            let found: Vec<String> = [
                verifier.diagnose(&inbound, now, &refusal),
                elsewhere::other_provider(source, &inbound.head.headers, &refusal),
                neighbours.would_take(source, &inbound, now),
            ]
            .into_iter()
            .flatten()
            .collect();
            if found.is_empty() {
                remarks.extend(verifier.at_a_loss(&inbound, now, &refusal));
            }
            remarks.extend(found);
            remarks.extend(verifier.tried(&inbound, now, &refusal));
            if source.enforce {
                return Explanation::reject(&Reject::from(refusal));
            }
            remarks.push(format!(
                "let through because `enforce = false`, although {refusal}"
            ));
            Verified::unproved(inbound)
        }
    };
    match handshake::answer_verified(&source.handshakes, &verified) {
        Err(reject) => return Explanation::reject(&reject),
        Ok(None) => {}
        Ok(Some((rule, mut reply))) => {
            match rule.unconfirmed(&verified, source.confirms) {
                Err(refusal) => return Explanation::reject(&Reject::from(refusal)),
                Ok(None) => {}
                Ok(Some(unconfirmed)) => {
                    remarks.push(confirmation(source, &unconfirmed));
                    if unconfirmed.instead_of_body {
                        reply = reply.without_body();
                    }
                }
            }
            return answered(source, Some(rule), &reply);
        }
    }
    if let Err(reject) = source.takes_event(&verified.inbound.head) {
        return Explanation::reject(&reject);
    }
    // A single request has all the room there is.
    let document = source.decode(verified, true, |_bytes| Ok(()));
    let events = document.and_then(|document| source.split(document));
    match events {
        Ok(events) => {
            let proof = in_words(source, &events.document.verified.proof);
            let read_as = match &events.document.flaw {
                Some(_) => proof,
                None => format!("{proof}; read as {}", events.document.read_as),
            };
            judge(source, &events, read_as)
        }
        Err(reject) => Explanation::reject(&reject),
    }
}

/// What was proved of an event that has been read: only then it is known where it stands.
fn in_words(source: &Source, proof: &Proof) -> String {
    match (source.verifier().is_insecure(), &proof.key) {
        (true, _) => "nothing is verified (`insecure-none`)".to_owned(),
        (false, None) if proof.coverage == Coverage::None => "nothing was proved".to_owned(),
        (false, None) => "verified by the client's certificate".to_owned(),
        (false, Some(key)) => {
            let coverage = proof.coverage;
            format!("verified with the secret `{key}`, body coverage: {coverage}")
        }
    }
}

/// Who is called because of a handshake, or has to be called by a person.
fn confirmation(source: &Source, unconfirmed: &Unconfirmed) -> String {
    let url = &unconfirmed.url;
    if unconfirmed.instead_of_body {
        format!("after that, the gateway calls {url}")
    } else if source.confirms && unconfirmed.is_proved {
        format!("before that, the gateway calls {url}")
    } else {
        format!("and a person has to open {url}")
    }
}

/// What is at hand of what the proof needs; our trouble where it is not.
fn gather(
    source: &Source,
    inbound: &Inbound,
    at_hand: &dyn Fetching,
    now: Now,
) -> Result<Evidence, Reject> {
    let gathering = source.verifier.gather(inbound, &source.name, at_hand, now);
    match gathering.now_or_never() {
        Some(Ok(evidence)) => Ok(evidence),
        // Verifying comes to the same refusal.
        Some(Err(Hindrance::Refused(_))) => Ok(Evidence::none()),
        Some(Err(hindrance)) => Err(Reject::from(hindrance)),
        None => Err(Reject::TooSlow),
    }
}

/// What a rule answers.
fn answered(source: &Source, rule: Option<&Handshake>, reply: &HandshakeReply) -> Explanation {
    let whose = match &source.provider {
        Some(provider) => format!("the handshake of {provider}"),
        None => "a handshake".to_owned(),
    };
    let HandshakeReply { status, body, .. } = reply;
    let given = match body.len() {
        0 => format!("{} and no body", status.as_u16()),
        bytes => format!("{} and a body of {bytes} bytes", status.as_u16()),
    };
    let marks = rule.map_or("", Handshake::marks);
    Explanation {
        verdict: Verdict::Handshake,
        status: status.as_u16(),
        reason: "handshake",
        detail: format!("{whose} ({marks}): answered with {given}, nothing is published"),
        remarks: Vec::new(),
        events: Vec::new(),
    }
}

/// A handshake that brings a secret: taken while a window is open.
fn offered(source: &Source, offer: &Offer, now: Now) -> Explanation {
    let expected = match &source.enrolment {
        Some(enrolment) => enrolment.expects(offer.secret.expose(), now),
        None => Err(NotTaken::Closed),
    };
    if let Err(why) = expected {
        return Explanation::reject(&enrolment::refused(&why));
    }
    let rule = source.handshakes.iter().find(|rule| rule.captures());
    let mut explanation = answered(source, rule, &offer.reply);
    let brings = "it brings the secret that events are signed with".to_owned();
    explanation.remarks.push(brings);
    explanation
}

/// Holds every event against its schema.
fn judge(source: &Source, events: &Events, proof: String) -> Explanation {
    let batch = events.name(&source.event_id);
    let mut violations = Vec::new();
    let mut quarantined = None;
    let mut schema = None;
    let mut elements = Vec::new();
    for (index, event) in events.list.iter().enumerate() {
        let found = source.judge(events, batch.as_ref(), (index, event));
        let (reason, detail) = match (found.schema, source.on_invalid) {
            (Ok(None), _) => ("accepted", None),
            (Ok(Some(name)), _) => {
                let holds = format!("schema {name} holds");
                schema = Some(holds.clone());
                ("accepted", Some(holds))
            }
            (Err(Reject::SchemaViolated(found)), OnInvalid::Reject) => {
                let own = Reject::SchemaViolated(found.clone());
                let located = found.into_iter().map(|found| events.locate(index, found));
                violations.extend(located);
                (own.label(), Some(own.detail()))
            }
            (Err(reject), OnInvalid::Reject) => return Explanation::reject(&reject),
            (Err(reject), OnInvalid::Quarantine) => {
                let why = reject.detail();
                quarantined = quarantined.or(Some(why.clone()));
                ("quarantined", Some(why))
            }
        };
        elements.push(Element {
            index,
            routing_key: source
                .routing_key
                .render(&source.name, found.event_type.as_deref()),
            event_id: found.event_id,
            event_type: found.event_type,
            bytes: event.body.len(),
            reason,
            detail,
        });
    }
    let mut parts = Vec::new();
    if let Some(batch) = &batch {
        let count = elements.len();
        let plural = if count == 1 { "" } else { "s" };
        let batch = match batch {
            Name::Said(name) => format!("the batch `{}`", name.escape_debug()),
            Name::Request(_) => "a batch".to_owned(),
        };
        parts.push(proof);
        parts.push(format!("{batch} of {count} event{plural}"));
    } else {
        let only = elements.drain(..).next();
        let (kind, id) = only.map_or((None, None), |it| (it.event_type, it.event_id));
        let named = [("type", kind), ("id", id)].into_iter();
        let named = named.filter_map(|(what, name)| Some((what, name?)));
        let named = named.map(|(what, name)| format!(", {what} {}", name.escape_debug()));
        parts.push(proof + &named.collect::<String>());
        parts.extend(schema);
    }
    let reason = match &quarantined {
        Some(why) => {
            parts.push(format!("goes to the quarantine: {why}"));
            "quarantined"
        }
        None => "accepted",
    };
    let decided = if violations.is_empty() {
        Explanation {
            verdict: Verdict::Accept,
            status: source.reply.status.as_u16(),
            reason,
            detail: parts.join("; "),
            remarks: Vec::new(),
            events: Vec::new(),
        }
    } else {
        violations.truncate(VIOLATIONS_MAX);
        Explanation::reject(&Reject::SchemaViolated(violations))
    };
    Explanation {
        events: elements,
        ..decided
    }
}

#[cfg(test)]
mod tests;
