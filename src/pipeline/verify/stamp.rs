//! When the sender signed.

use std::time::Duration;

use jiff::Timestamp;

use crate::pipeline::expr::facts::Facts;
use crate::pipeline::expr::{Found, Place};
use crate::pipeline::verify::refusal::Refusal;
use crate::pipeline::verify::signature::Signature;

/// How far a covered timestamp may be off when the configuration does not say: what most
/// providers and Standard Webhooks recommend.
pub(super) const TOLERANCE_DEFAULT: Duration = Duration::from_mins(5);

/// `timestamp`, `timestamp_unit`, `tolerance`.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    pub(super) spot: StampSpot,
    pub(super) unit: Unit,
    /// Either way; `None`: not checked.
    pub(super) tolerance: Option<Duration>,
}

/// Where a timestamp stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StampSpot {
    At(Place),
    /// `signature:KEY`: an item of the signature's list.
    Item(String),
}

/// `timestamp_unit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Millis,
    Rfc3339,
}

impl Unit {
    pub(super) const ALL: [(&'static str, Self); 3] = [
        ("s", Self::Seconds),
        ("ms", Self::Millis),
        ("rfc3339", Self::Rfc3339),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Seconds => "a Unix time in seconds",
            Self::Millis => "a Unix time in milliseconds",
            Self::Rfc3339 => "an RFC 3339 time",
        }
    }

    fn parse(self, text: &str) -> Option<Timestamp> {
        match self {
            Self::Seconds => Timestamp::from_second(digits(text)?).ok(),
            Self::Millis => Timestamp::from_millisecond(digits(text)?).ok(),
            Self::Rfc3339 => text.parse().ok(),
        }
    }

    /// As a sender writes it.
    pub(super) fn write(self, at: Timestamp) -> String {
        match self {
            Self::Seconds => at.as_second().to_string(),
            Self::Millis => at.as_millisecond().to_string(),
            Self::Rfc3339 => at.to_string(),
        }
    }
}

/// Digits only: no sign, no blanks.
fn digits(text: &str) -> Option<i64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// Whether a time is not farther from `now` than `tolerance`, either way.
pub(super) fn ensure_near(
    stamp: Timestamp,
    now: Timestamp,
    tolerance: Duration,
) -> Result<(), Refusal> {
    let age = now.duration_since(stamp);
    let off = age.unsigned_abs();
    match off <= tolerance {
        true => Ok(()),
        false if age.is_negative() => Err(Refusal::Future {
            ahead: off,
            tolerance,
        }),
        false => Err(Refusal::Stale {
            age: off,
            tolerance,
        }),
    }
}

impl Stamp {
    /// The timestamp as it was sent.
    pub(super) fn text(
        &self,
        signature: &Signature,
        facts: &Facts<'_>,
    ) -> Result<Vec<u8>, Refusal> {
        let found = match &self.spot {
            StampSpot::At(place) => facts.find(place)?.map(std::borrow::Cow::into_owned),
            StampSpot::Item(key) => signature.item(facts, key)?,
        };
        match found {
            Found::Once(text) => Ok(text),
            Found::Absent => Err(Refusal::TimestampAbsent(self.place())),
            Found::Twice => Err(Refusal::Ambiguous(self.place())),
        }
    }

    /// Whether it is near enough to `now`. A yes says nothing until the signature holds: it is asked
    /// before a key is fetched, too.
    pub(super) fn check(&self, text: &[u8], now: Timestamp) -> Result<(), Refusal> {
        // Also without a tolerance: text that is no time could move the border to what follows it.
        let Some(stamp) = self.read(text) else {
            return Err(Refusal::TimestampUnreadable {
                place: self.place(),
                unit: self.unit.name(),
            });
        };
        let Some(tolerance) = self.tolerance else {
            return Ok(());
        };
        ensure_near(stamp, now, tolerance)
    }

    /// The moment that a text means. `None`: it is not in the unit.
    pub(super) fn read(&self, text: &[u8]) -> Option<Timestamp> {
        let text = std::str::from_utf8(text).ok()?;
        self.unit.parse(text)
    }

    fn place(&self) -> String {
        match &self.spot {
            StampSpot::At(place) => place.to_string(),
            StampSpot::Item(key) => format!("`{key}` beside the signature"),
        }
    }
}
