//! What must also hold: `assert = ["header:Box-Signature-Version == 1"]`.

use std::collections::BTreeMap;

use subtle::ConstantTimeEq as _;

use crate::config::problem::Problem;
use crate::pipeline::expr::{Found, Place};
use crate::pipeline::verify::refusal::Refusal;
use crate::pipeline::verify::template::{Given, Part, Template};
use crate::pipeline::verify::words::config_value;

/// A compiled assertion.
#[derive(Clone, Debug)]
pub(super) struct Assertion {
    pub(super) place: Place,
    pub(super) rule: Rule,
    written: String,
}

/// What must be true of the place.
#[derive(Clone, Debug)]
pub(super) enum Rule {
    /// `PLACE == TEMPLATE`; an absent place is a refusal.
    Equals(Template),
    /// `PLACE in VALUE VALUE ...`; an absent place is a refusal.
    In(Vec<String>),
    /// `PLACE absent`.
    Absent,
}

impl Assertion {
    pub(super) fn parse(text: &str, config: &BTreeMap<String, String>) -> Result<Self, Problem> {
        let written = text.to_owned();
        if let Some(place) = text.strip_suffix(" absent") {
            return Ok(Self {
                place: Place::parse(place.trim())?,
                rule: Rule::Absent,
                written,
            });
        }
        if let Some((place, values)) = text.split_once(" in ")
            && !text.contains("==")
        {
            let values = listed(values, config)?;
            return Ok(Self {
                place: Place::parse(place.trim())?,
                rule: Rule::In(values),
                written,
            });
        }
        let Some((place, template)) = text.split_once("==") else {
            return Err(Problem::here(
                "write `PLACE == VALUE`, `PLACE in VALUE VALUE` or `PLACE absent`",
            ));
        };
        let template = Template::parse(template.trim(), config)?;
        if template.any(|part| matches!(part, Part::Secret)) {
            return Err(Problem::here(
                "a secret cannot be sent to be compared; use algorithm `token`",
            ));
        }
        Ok(Self {
            place: Place::parse(place.trim())?,
            rule: Rule::Equals(template),
            written,
        })
    }

    pub(super) fn check(&self, given: &Given<'_>) -> Result<(), Refusal> {
        let holds = match &self.rule {
            Rule::Absent => !given.facts.is_there(&self.place)?,
            Rule::In(values) => match given.facts.find(&self.place)? {
                Found::Once(text) => values.iter().fold(false, |holds, value| {
                    holds | bool::from(value.as_bytes().ct_eq(&text))
                }),
                Found::Absent => false,
                Found::Twice => return Err(Refusal::Ambiguous(self.place.to_string())),
            },
            Rule::Equals(template) => match given.facts.find(&self.place)? {
                Found::Once(text) => template.render(given)?.ct_eq(&text).into(),
                Found::Absent => false,
                Found::Twice => return Err(Refusal::Ambiguous(self.place.to_string())),
            },
        };
        if holds {
            Ok(())
        } else {
            Err(Refusal::Asserted(self.written.clone()))
        }
    }

    /// Whether it takes only texts at this place that were known before any request.
    pub(super) fn pins(&self, place: &str) -> bool {
        let is_known = match &self.rule {
            Rule::In(_) => true,
            Rule::Equals(template) => !template.any(|part| !matches!(part, Part::Literal(_))),
            Rule::Absent => false,
        };
        is_known && Place::parse(place).is_ok_and(|place| place == self.place)
    }

    /// Whether it ties the body's hash to a place that `signed` covers.
    pub(super) fn extends_to_body(&self, signed: &Template) -> bool {
        let Rule::Equals(template) = &self.rule else {
            return false;
        };
        signed.covers(&self.place) && template.any(|part| matches!(part, Part::BodySha256Hex))
    }
}

/// Values with white space between them, as they are written or as `{config:NAME}` has them.
fn listed(text: &str, config: &BTreeMap<String, String>) -> Result<Vec<String>, Problem> {
    let name = text
        .trim()
        .strip_prefix("{config:")
        .and_then(|rest| rest.strip_suffix('}'));
    let text = match name {
        None => text,
        Some(name) => config_value(config, name)?,
    };
    let values: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if values.is_empty() {
        return Err(Problem::here("nothing is in an empty list"));
    }
    Ok(values)
}
