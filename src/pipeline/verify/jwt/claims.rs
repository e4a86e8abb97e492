//! What the claims of a token must say, once its signature holds (RFC 7519, section 4.1).

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::fault::TokenFault;
use super::token::shown;
use crate::pipeline::expr::{scalar, unescaped};

/// How far two clocks may be apart when the configuration does not say.
pub(super) const LEEWAY_DEFAULT: Duration = Duration::from_mins(1);

/// Claims that hold several words with spaces between them (RFC 8693, section 4.2; Entra's `scp`).
const WORD_LISTS: [&str; 2] = ["scope", "scp"];

/// Most values of a claim that are shown.
const SHOWN_VALUES_MAX: usize = 4;

/// What is asked of the claims.
#[derive(Debug)]
pub(super) struct Rules {
    /// Any of them; empty: any issuer.
    pub(super) issuers: Vec<String>,
    /// Any of them; empty: any audience, which the configuration has to spell out.
    pub(super) audiences: Vec<String>,
    /// How far two clocks may be apart.
    pub(super) leeway: Duration,
    /// From `iat` on, which then bounds a token's life even without `exp`.
    pub(super) age_max: Option<Duration>,
    /// Whether a token without an end counts too.
    pub(super) is_endless: bool,
    /// Claims with the values that they may have.
    pub(super) claims: Vec<ClaimRule>,
}

/// One entry of `claims`.
#[derive(Debug)]
pub(super) struct ClaimRule {
    /// The first of them that is there: `azp|appid` has one name in each version of the issuer.
    pub(super) claims: Vec<Claim>,
    /// As it is written.
    pub(super) written: String,
    /// Any of them.
    pub(super) values: Vec<String>,
}

/// Where a claim stands.
#[derive(Debug)]
pub(super) enum Claim {
    Named(String),
    /// A JSON Pointer (RFC 6901).
    At(String),
}

impl Rules {
    /// Holds the claims against the rules at the time `now`.
    pub(super) fn check(
        &self,
        claims: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<(), TokenFault> {
        self.check_times(claims, now)?;
        self.check_issuer(claims)?;
        self.check_audience(claims)?;
        self.claims.iter().try_for_each(|rule| rule.check(claims))
    }

    fn check_times(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<(), TokenFault> {
        let issued = time(claims, "iat")?;
        for (claim, at) in [("nbf", time(claims, "nbf")?), ("iat", issued)] {
            let ahead = at.map(|at| at.duration_since(now)).unwrap_or_default();
            if ahead.is_positive() && ahead.unsigned_abs() > self.leeway {
                let ahead = ahead.unsigned_abs();
                return Err(TokenFault::Early { claim, ahead });
            }
        }
        match time(claims, "exp")? {
            None if self.is_endless || self.age_max.is_some() => {}
            None => return Err(TokenFault::ClaimAbsent("exp".to_owned())),
            Some(expires) => {
                let ago = now.duration_since(expires);
                if !ago.is_negative() && ago.unsigned_abs() >= self.leeway {
                    return Err(TokenFault::Expired(ago.unsigned_abs()));
                }
            }
        }
        let Some(max) = self.age_max else {
            return Ok(());
        };
        let issued = issued.ok_or_else(|| TokenFault::ClaimAbsent("iat".to_owned()))?;
        let age = now.duration_since(issued);
        if !age.is_negative() && age.unsigned_abs() > max {
            let age = age.unsigned_abs();
            return Err(TokenFault::Old { age, max });
        }
        Ok(())
    }

    fn check_issuer(&self, claims: &Map<String, Value>) -> Result<(), TokenFault> {
        if self.issuers.is_empty() {
            return Ok(());
        }
        let issuer = claims.get("iss").and_then(Value::as_str);
        let issuer = issuer.ok_or_else(|| TokenFault::ClaimAbsent("iss".to_owned()))?;
        if self.issuers.iter().any(|own| own == issuer) {
            Ok(())
        } else {
            Err(TokenFault::Issuer(format!("`{}`", shown(issuer))))
        }
    }

    /// `aud` is a text, or a list of texts of which one must be ours.
    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), TokenFault> {
        if self.audiences.is_empty() {
            return Ok(());
        }
        let audiences = match claims.get("aud") {
            None => return Err(TokenFault::ClaimAbsent("aud".to_owned())),
            Some(Value::Array(audiences)) => audiences.iter().map(Value::as_str).collect(),
            Some(audience) => vec![audience.as_str()],
        };
        // A list with anything but texts in it is not what the standard knows.
        let audiences: Option<Vec<&str>> = audiences.into_iter().collect();
        let audiences = audiences.unwrap_or_default();
        let is_own = |audience: &&str| self.audiences.iter().any(|own| own == audience);
        if audiences.iter().any(is_own) {
            return Ok(());
        }
        let seen: Vec<String> = audiences
            .iter()
            .take(SHOWN_VALUES_MAX)
            .map(|audience| format!("`{}`", shown(audience)))
            .collect();
        Err(TokenFault::Audience(seen.join(", ")))
    }
}

impl ClaimRule {
    pub(super) fn new(written: &str, values: Vec<String>) -> Self {
        // A pointer may hold any character.
        let claims = if written.starts_with('/') {
            vec![Claim::At(written.to_owned())]
        } else {
            let names = written.split('|');
            names.map(|name| Claim::Named(name.to_owned())).collect()
        };
        Self {
            claims,
            written: written.to_owned(),
            values,
        }
    }

    /// A list holds, if one of its elements does; `scope` holds, if one of its words does.
    fn check(&self, claims: &Map<String, Value>) -> Result<(), TokenFault> {
        let mut found = self
            .claims
            .iter()
            .filter_map(|claim| Some((claim, claim.find(claims)?)));
        let found = found.next();
        let (claim, value) = found.ok_or_else(|| TokenFault::ClaimAbsent(self.written.clone()))?;
        let elements = match value {
            Value::Array(elements) => elements.iter().filter_map(scalar).collect(),
            single => Vec::from_iter(scalar(single)),
        };
        let is_words = matches!(claim, Claim::Named(name) if WORD_LISTS.contains(&&**name));
        let is_wanted = |element: &Cow<'_, str>| {
            self.values.iter().any(|wanted| {
                element == wanted || is_words && element.split(' ').any(|word| word == wanted)
            })
        };
        if elements.iter().any(is_wanted) {
            Ok(())
        } else {
            Err(TokenFault::Claim(self.written.clone()))
        }
    }
}

impl Claim {
    fn find<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value> {
        match self {
            Self::Named(name) => claims.get(name),
            Self::At(pointer) => {
                let mut segments = pointer.split('/').skip(1).map(unescaped);
                let first = claims.get(&segments.next()?)?;
                segments.try_fold(first, |value, segment| match value {
                    Value::Object(members) => members.get(&segment),
                    Value::Array(items) => items.get(segment.parse::<usize>().ok()?),
                    _ => None,
                })
            }
        }
    }
}

/// A time of the claims. Whole seconds only, so that no two readers round it differently.
fn time(claims: &Map<String, Value>, claim: &'static str) -> Result<Option<Timestamp>, TokenFault> {
    let Some(value) = claims.get(claim) else {
        return Ok(None);
    };
    let seconds = value.as_i64().filter(|seconds| !seconds.is_negative());
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map(Some).ok_or(TokenFault::Time(claim))
}
