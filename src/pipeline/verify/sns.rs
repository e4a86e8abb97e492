//! What Amazon SNS signs: names and values of some fields, a line each, in an order that depends
//! on what the message is.
//!
//! <https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html>

use crate::pipeline::expr::facts::Facts;
use crate::pipeline::expr::{Found, Place};
use crate::pipeline::verify::public::PublicAlgorithm;
use crate::pipeline::verify::refusal::Refusal;

/// Where the signature stands, where nothing else is said.
pub(super) const SIGNATURE: &str = "json:/Signature";

/// Where the topic stands. Anybody can have one.
pub(super) const TOPIC: &str = "json:/TopicArn";

/// Fields of a notification. The subject is left out where there is none.
const NOTIFICATION: [&str; 6] = [
    "Message",
    "MessageId",
    "Subject",
    "Timestamp",
    "TopicArn",
    "Type",
];

/// Fields of what begins or ends a subscription.
const CONFIRMATION: [&str; 7] = [
    "Message",
    "MessageId",
    "SubscribeURL",
    "Timestamp",
    "Token",
    "TopicArn",
    "Type",
];

/// The only field that may be absent.
const SUBJECT: &str = "Subject";

/// The only field that may hold line breaks. It comes first; so read from the end there is only
/// one way to take the lines apart.
const MESSAGE: &str = "Message";

/// Whether a place of the body is signed in every kind of message.
pub(super) fn covers(pointer: &str) -> bool {
    let is_signed = |name: &str| NOTIFICATION.contains(&name) && CONFIRMATION.contains(&name);
    pointer.strip_prefix('/').is_some_and(is_signed)
}

/// The lines.
pub(super) fn text(facts: &Facts<'_>) -> Result<Vec<u8>, Refusal> {
    let names: &[&str] = match field(facts, "Type")?.as_deref() {
        Some(b"Notification") => &NOTIFICATION,
        Some(b"SubscriptionConfirmation" | b"UnsubscribeConfirmation") => &CONFIRMATION,
        _ => return Err(Refusal::Asserted("json:/Type is one of SNS".to_owned())),
    };
    let mut lines = Vec::new();
    for &name in names {
        match field(facts, name)? {
            Some(value) if name != MESSAGE && value.contains(&b'\n') => {
                return Err(Refusal::FieldUnsafe(place(name).to_string()));
            }
            Some(value) => {
                for line in [name.as_bytes(), &value] {
                    lines.extend_from_slice(line);
                    lines.push(b'\n');
                }
            }
            None if name == SUBJECT => {}
            None => return Err(Refusal::FieldAbsent(place(name).to_string())),
        }
    }
    Ok(lines)
}

/// How the lines are signed: the message's version says.
pub(super) fn algorithm(facts: &Facts<'_>) -> Result<PublicAlgorithm, Refusal> {
    match field(facts, "SignatureVersion")?.as_deref() {
        Some(b"1") => Ok(PublicAlgorithm::RsaPkcs1Sha1),
        Some(b"2") => Ok(PublicAlgorithm::RsaPkcs1Sha256),
        _ => Err(Refusal::Asserted(
            "json:/SignatureVersion is 1 or 2".to_owned(),
        )),
    }
}

fn field(facts: &Facts<'_>, name: &str) -> Result<Option<Vec<u8>>, Refusal> {
    match facts.find(&place(name))? {
        Found::Once(value) => Ok(Some(value.into_owned())),
        Found::Absent => Ok(None),
        Found::Twice => Err(Refusal::Ambiguous(place(name).to_string())),
    }
}

fn place(name: &str) -> Place {
    Place::Json(format!("/{name}"))
}
