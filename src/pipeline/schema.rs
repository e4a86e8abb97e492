//! What a body must look like: JSON Schema, drafts 4 to 2020-12, one schema per event type.
//!
//! Schemas belong to the operator, bodies to strangers. So a schema is read once, at load, from the
//! operator's own folder and from nowhere else; and whatever a body is, checking it ends soon and
//! says nothing of its values. Patterns run in linear time, which is why look-around and
//! back-references are refused. `format` is what the drafts say: an assertion up to draft 7, a
//! remark since 2019-09. Numbers are compared as 64 bit integers or floats, the bytes that are
//! published stay as they came.

mod folder;
mod metered;
mod violation;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use jsonschema::Validator;
use serde_json::Value;

use crate::config::problem::Problem;
use crate::pipeline::routing::words;

use self::metered::{Meter, Metered};
pub use self::violation::{VIOLATIONS_MAX, Violation};

/// Most work that is spent on saying what is wrong with one body. With an `anyOf`
/// that contains itself there are exponentially many things to say.
const REPORT_STEPS_MAX: u64 = 1_000_000;

/// The name, without `.json`, of the schema for types that have none of their own.
const DEFAULT: &str = "default";

/// One source's schemas.
pub struct SchemaSet {
    by_type: HashMap<Arc<str>, Validator<Metered>>,
    rest: Option<(Arc<str>, Validator<Metered>)>,
}

impl SchemaSet {
    /// Compiles a schema file, or a folder of `EVENT_TYPE.json` with `default.json` for the rest.
    ///
    /// In a file's name the `/` of an event type is a `.`, and what is not in `[A-Za-z0-9_.-]` is
    /// a `_`, as in routing keys: `orders/create` is `orders.create.json`. Names that begin with a
    /// `.` are passed over, because mounted volumes have some.
    ///
    /// A `$ref` may lead within its file, to another file of the same folder by its name, or to
    /// the `$id` of a file of the folder. Nothing is fetched.
    ///
    /// # Errors
    ///
    /// All mistakes, with paths relative to the source (`["schema"]`).
    pub fn load(path: &Path) -> Result<Self, Vec<Problem>> {
        let schemas = folder::compile(path)?;
        if !schemas.is_folder {
            let rest = schemas.validators.into_iter().next();
            return Ok(Self {
                by_type: HashMap::new(),
                rest,
            });
        }
        let mut by_type: HashMap<_, _> = schemas.validators.into_iter().collect();
        let rest = by_type.remove_entry(DEFAULT);
        Ok(Self { by_type, rest })
    }

    /// Checks a body. Gives the name of the schema that it satisfies, or `None` when no schema is
    /// there for its type.
    ///
    /// # Errors
    ///
    /// At least one and at most [`VIOLATIONS_MAX`] violations.
    pub fn check(
        &self,
        event_type: Option<&str>,
        json: &Value,
    ) -> Result<Option<Arc<str>>, Vec<Violation>> {
        let own = event_type.and_then(|value| self.by_type.get_key_value(words(value).as_str()));
        let rest = self
            .rest
            .as_ref()
            .map(|(name, validator)| (name, validator));
        let Some((name, validator)) = own.or(rest) else {
            return Ok(None);
        };
        if validator.is_valid(Meter::unlimited().root(json)) {
            return Ok(Some(Arc::clone(name)));
        }
        Err(report(validator, json))
    }
}

/// Names only: a compiled schema is thousands of lines.
impl fmt::Debug for SchemaSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.rest.as_ref().map(|(name, _)| name);
        f.debug_struct("SchemaSet")
            .field("by_type", &self.by_type.keys())
            .field("rest", &rest)
            .finish()
    }
}

/// What is wrong with an invalid body: everything, or the first thing, or only that it is wrong,
/// as far as [`REPORT_STEPS_MAX`] goes.
fn report(validator: &Validator<Metered>, json: &Value) -> Vec<Violation> {
    let meter = Meter::new(REPORT_STEPS_MAX);
    let violations = violation::list(validator.iter_errors(meter.root(json)));
    // What was found after the meter ran out may be wrong, and nobody can tell it apart.
    if !meter.is_spent() && !violations.is_empty() {
        return violations;
    }
    drop(violations);
    let meter = Meter::new(REPORT_STEPS_MAX);
    let first = validator.validate(meter.root(json)).err();
    match first {
        Some(error) if !meter.is_spent() => violation::list(std::iter::once(error)),
        _ => vec![Violation::unlocated()],
    }
}

#[cfg(test)]
mod tests;
