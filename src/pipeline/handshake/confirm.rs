//! Handshakes that are finished by calling a URL which the request names: a subscription to
//! Amazon SNS, for instance.
//!
//! The gateway calls it when the source says `confirm = true`, and otherwise leaves it to a person.
//! Either way the request must be proved, and the URL's host be on the rule's list.
//!
//! Some can be finished by the answer's body as well: Azure Event Grid takes an echo, or else,
//! after an answer without one, a call. With `instead_of_body` the body does it unless the source
//! says `confirm = true`; then the call is made once the answer is out, because before that the
//! other side does not take it.

use crate::config::problem::Problem;
use crate::config::raw::RawConfirm;
use crate::delivery::Coverage;
use crate::pipeline::evidence::{Hosts, Target};
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::expr::{Found, Place};
use crate::pipeline::handshake::Handshake;
use crate::pipeline::verify::{Refusal, Verified};

/// What is to be called, once a rule has been answered.
#[derive(Debug)]
pub(super) struct Confirm {
    url: Place,
    hosts: Hosts,
    instead_of_body: bool,
}

/// A handshake that is not finished with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unconfirmed {
    /// What is to be called.
    pub target: Target,
    /// As the request has it, for a person.
    pub url: String,
    /// Whether the sender is known, so that the gateway may call it.
    pub is_proved: bool,
    /// Whether it is called after the answer, which then has no body.
    pub instead_of_body: bool,
}

impl Confirm {
    /// Compiles `confirm` of a rule; `needs_proof` says whether strangers are answered by it.
    pub(super) fn compile(raw: &RawConfirm, needs_proof: bool) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut wrong = |what: String| problems.push(Problem::error(&["confirm"], what));
        if !needs_proof {
            wrong("strangers could make the gateway call others: `verify` must be true".to_owned());
        }
        let url = raw
            .url
            .as_deref()
            .ok_or_else(|| "`url` is missing".to_owned());
        let url = url.and_then(Place::parse).map_err(&mut wrong).ok();
        if raw.hosts.is_empty() {
            wrong("`hosts` is missing: a request could name any".to_owned());
        }
        let hosts = Hosts::parse(&raw.hosts)
            .map_err(|(_, what)| wrong(what))
            .ok();
        match (url, hosts) {
            (Some(url), Some(hosts)) if problems.is_empty() => Ok(Self {
                url,
                hosts,
                instead_of_body: raw.instead_of_body.unwrap_or(false),
            }),
            _ => Err(problems),
        }
    }

    fn target(&self, facts: &Facts<'_>) -> Result<(Target, String), Refusal> {
        let place = || self.url.to_string();
        let url = match facts.find(&self.url)? {
            Found::Once(url) => String::from_utf8_lossy(&url).into_owned(),
            Found::Absent => return Err(Refusal::FieldAbsent(place())),
            Found::Twice => return Err(Refusal::Ambiguous(place())),
        };
        match self.hosts.target(&url) {
            Ok(target) => Ok((target, url)),
            Err(why) => Err(Refusal::UrlNotAllowed {
                place: place(),
                why,
            }),
        }
    }
}

impl Handshake {
    /// The hosts that it may make the gateway call, as configured.
    pub fn hosts(&self) -> impl Iterator<Item = String> {
        self.confirm
            .iter()
            .flat_map(|confirm| confirm.hosts.names())
    }

    /// What is left to be called besides the answer. `confirms`: whether the source lets the
    /// gateway do that.
    ///
    /// # Errors
    ///
    /// The request names what must not be called.
    pub fn unconfirmed(
        &self,
        verified: &Verified,
        confirms: bool,
    ) -> Result<Option<Unconfirmed>, Refusal> {
        let Some(confirm) = &self.confirm else {
            return Ok(None);
        };
        let is_proved = verified.proof.coverage != Coverage::None;
        if confirm.instead_of_body && !(confirms && is_proved) {
            return Ok(None);
        }
        match confirm.target(&Facts::of(&verified.inbound)) {
            Ok((target, url)) => Ok(Some(Unconfirmed {
                target,
                url,
                is_proved,
                instead_of_body: confirm.instead_of_body,
            })),
            // The body does it where there is nothing to call.
            Err(Refusal::FieldAbsent(_)) if confirm.instead_of_body => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }
}
