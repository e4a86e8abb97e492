//! What would become of a saved request, and exactly why: `hookgate explain`.
//!
//! The same stages as in `pipeline.rs`, by the same code, without what has a memory: limits,
//! duplicates, the journal.

mod saved;

use std::slice;

use http::StatusCode;
use serde_json::json;

use crate::clock::Now;
use crate::explain::saved::Saved;
use crate::pipeline::arrival::Inbound;
use crate::pipeline::decode::{Document, decode};
use crate::pipeline::handshake::{self, Handshake, HandshakeReply};
use crate::pipeline::verify::Verified;
use crate::reject::Reject;
use crate::source::{OnInvalid, Source};

/// What would become of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// In one word.
    pub verdict: Verdict,
    /// What the sender would be answered; 0 where there is no request to answer.
    pub status: u16,
    /// A label of [`Reject`], for an unverified request that of its
    /// [`Refusal`](crate::pipeline::verify::Refusal), or one of `accepted`, `quarantined`,
    /// `handshake`, `unreadable`.
    pub reason: &'static str,
    /// What a person should know and do.
    pub detail: String,
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
            detail,
        } = self;
        let verdict = verdict.label();
        json!({"file": file, "verdict": verdict, "status": status, "reason": reason, "detail": detail})
            .to_string()
    }

    /// A file that could not be read, and why.
    pub fn unread(detail: String) -> Self {
        Self {
            verdict: Verdict::Reject,
            status: 0,
            reason: "unreadable",
            detail,
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
        }
    }
}

/// Explains what the gateway would do with `request`, a raw HTTP/1.1 request as saved from the
/// wire, if it came to `source` at `now`.
pub fn explain(source: &Source, request: &[u8], now: Now) -> Explanation {
    let Saved {
        inbound,
        mut remarks,
    } = match saved::read(request) {
        Ok(saved) => saved,
        Err(detail) => {
            let status = StatusCode::BAD_REQUEST.as_u16();
            return Explanation {
                verdict: Verdict::Reject,
                status,
                reason: "unreadable",
                detail,
            };
        }
    };
    if inbound.head.path != source.path {
        let (path, own) = (&inbound.head.path, &source.path);
        remarks.push(format!(
            "it was sent to {path}, but {} listens at {own}",
            source.name
        ));
    }
    if !source.allow_ips.is_empty() {
        remarks.push("a file does not say who sent it, so `allow_ips` is not checked".to_owned());
    }
    let mut explanation = decide(source, inbound, now, &mut remarks);
    for remark in remarks {
        explanation.detail.push_str("; ");
        explanation.detail.push_str(&remark);
    }
    explanation
}

fn decide(source: &Source, inbound: Inbound, now: Now, remarks: &mut Vec<String>) -> Explanation {
    if !source.methods.contains(&inbound.head.method) {
        return Explanation::reject(&Reject::MethodNotAllowed(source.methods.clone()));
    }
    if inbound.body.len() > source.body.bytes_max {
        return Explanation::reject(&Reject::BodyTooLarge(source.body.bytes_max));
    }
    let anybody = |rule: &Handshake| handshake::answer_anybody(slice::from_ref(rule), &inbound);
    if let Some(explanation) = answered(source, anybody) {
        return explanation;
    }
    let verified = match source.verifier.verify(inbound, now) {
        Ok(verified) => verified,
        Err((inbound, refusal)) => {
            remarks.extend(source.verifier.diagnose(&inbound, now, &refusal));
            if source.enforce {
                return Explanation::reject(&Reject::from(refusal));
            }
            remarks.push(format!(
                "let through because `enforce = false`, although {refusal}"
            ));
            Verified::unproved(inbound)
        }
    };
    let proved = |rule: &Handshake| handshake::answer_verified(slice::from_ref(rule), &verified);
    if let Some(explanation) = answered(source, proved) {
        return explanation;
    }
    if let Err(reject) = source.takes_event(&verified.inbound.head) {
        return Explanation::reject(&reject);
    }
    let proof = match (source.verifier.is_insecure(), &verified.proof.key) {
        (true, _) => "nothing is verified (`insecure-none`)".to_owned(),
        (false, None) => "nothing was proved".to_owned(),
        (false, Some(key)) => {
            let coverage = verified.proof.coverage;
            format!("verified with the secret `{key}`, body coverage: {coverage}")
        }
    };
    match decode(verified, source.format, source.duplicate_keys, true) {
        Ok(document) => judge(source, &document, proof),
        Err(reject) => Explanation::reject(&reject),
    }
}

/// The first rule that answers, asked one at a time because a person wants to know which.
fn answered(
    source: &Source,
    answer: impl Fn(&Handshake) -> Option<HandshakeReply>,
) -> Option<Explanation> {
    let (rule, reply) = source
        .handshakes
        .iter()
        .find_map(|rule| Some((rule, answer(rule)?)))?;
    let whose = match &source.provider {
        Some(provider) => format!("the handshake of {provider}"),
        None => "a handshake".to_owned(),
    };
    let HandshakeReply { status, body, .. } = &reply;
    let given = match body.len() {
        0 => format!("{} and no body", status.as_u16()),
        bytes => format!("{} and a body of {bytes} bytes", status.as_u16()),
    };
    Some(Explanation {
        verdict: Verdict::Handshake,
        status: status.as_u16(),
        reason: "handshake",
        detail: format!(
            "{whose} ({}): answered with {given}, nothing is published",
            rule.marks()
        ),
    })
}

/// Holds the document against the schema.
fn judge(source: &Source, document: &Document, proof: String) -> Explanation {
    let accepted = |reason, detail| Explanation {
        verdict: Verdict::Accept,
        status: source.reply.status.as_u16(),
        reason,
        detail,
    };
    match (source.judge(document).schema, source.on_invalid) {
        (Ok(None), _) => accepted("accepted", proof),
        (Ok(Some(schema)), _) => accepted("accepted", format!("{proof}; schema {schema} holds")),
        (Err(violations), OnInvalid::Reject) => {
            Explanation::reject(&Reject::SchemaViolated(violations))
        }
        (Err(violations), OnInvalid::Quarantine) => {
            let reason = Reject::SchemaViolated(violations).detail();
            accepted(
                "quarantined",
                format!("{proof}; goes to the quarantine: {reason}"),
            )
        }
    }
}

#[cfg(test)]
mod tests;
