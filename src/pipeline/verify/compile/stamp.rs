//! When it was signed: `timestamp`, `timestamp_unit`, `tolerance`.

use crate::config::raw::RawScheme;
use crate::pipeline::expr::Place;
use crate::pipeline::verify::compile::Compiler;
use crate::pipeline::verify::stamp::{Stamp, StampSpot, TOLERANCE_DEFAULT, Unit};
use crate::pipeline::verify::template::{Part, Template};

impl Compiler<'_> {
    pub(super) fn stamp(&mut self, raw: &RawScheme, template: Option<&Template>) -> Option<Stamp> {
        let tolerance = raw.tolerance.filter(|tolerance| !tolerance.is_zero());
        let Some(text) = &raw.timestamp else {
            if tolerance.is_some() {
                self.wrong(
                    "tolerance",
                    "a tolerance without a `timestamp`",
                    "say where the timestamp stands, or leave `tolerance` out",
                );
            }
            return None;
        };
        let unit = self.word("timestamp_unit", raw.timestamp_unit.as_deref(), &Unit::ALL);
        let spot = self.stamp_spot(text, raw);
        let (template, unit, spot) = (template?, unit?, spot?);
        let interpolated = template.any(|part| matches!(part, Part::Timestamp));
        let covered =
            interpolated || matches!(&spot, StampSpot::At(place) if template.covers(place));
        if covered {
            let tolerance = match raw.tolerance {
                None => Some(TOLERANCE_DEFAULT),
                Some(_) => tolerance,
            };
            return Some(Stamp {
                spot,
                unit,
                tolerance,
            });
        }
        // With "0s" it is said that nobody looks at it.
        if tolerance.is_some() || raw.tolerance.is_none() {
            let key = if tolerance.is_some() {
                "tolerance"
            } else {
                "timestamp"
            };
            self.wrong(
                key,
                "the timestamp is not part of what is signed, so anybody could put a fresh one",
                "put `{timestamp}` into `signed` if the sender signs it; else leave it out, or \
                 write tolerance = \"0s\": it is not checked",
            );
        }
        // Unsigned and unchecked: whatever it says must not matter.
        None
    }

    fn stamp_spot(&mut self, text: &str, raw: &RawScheme) -> Option<StampSpot> {
        let Some(key) = text.strip_prefix("signature:") else {
            return self.take("timestamp", Place::parse(text).map(StampSpot::At));
        };
        let is_named = raw.list.as_ref().is_some_and(|list| list.assign.is_some());
        if !is_named {
            self.wrong(
                "timestamp",
                format!("`{text}` is an item of the signature's list, and there is no such list"),
                "for example `list = { separator = \",\", assign = \"=\", pick = \"v1\" }`",
            );
        } else if raw.signature.len() > 1 {
            self.wrong(
                "timestamp",
                format!("`{text}` could stand at several places"),
                "name one place in `signature`",
            );
        } else {
            return Some(StampSpot::Item(key.to_owned()));
        }
        None
    }
}
