//! Reads JSON in one pass, by one set of rules whether anybody keeps a tree of it or not.
//!
//! Whether a body is taken must not depend on whether somebody wants to look into it, and what is
//! looked into must be what the consumer will read. `serde_json` alone is not enough for that:
//! `IgnoredAny` passes over depth, lone surrogates and numbers out of range; `Value` takes an
//! object with the member `$serde_json::private::RawValue` for the JSON in that member's text; and
//! both take an object with the same key twice, of which two readers may use different ones
//! (RFC 8259, section 4).

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

/// Longest pointer to a key that is there twice. What lies deeper is told by the ancestor that
/// still fits.
const POINTER_BYTES_MAX: usize = 512;

/// What becomes of an object that has the same key twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DuplicateKeys {
    /// The body is not taken.
    Reject,
    /// The last one counts.
    Allow,
}

/// Why a text is not taken.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is not JSON, or not within bounds.
    Syntax(serde_json::Error),
    /// A key is there twice: a JSON Pointer (RFC 6901) to it.
    Duplicate(String),
}

/// The tree of a text; of keys that are there twice, the last one. For places in a body that is
/// not yet decoded; [`read`] decides whether it is taken.
pub(crate) fn tree(body: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(body).ok()?;
    read(text, true, DuplicateKeys::Allow).ok()
}

/// The tree of a text without a key that is there twice. `None`: it is not taken.
pub(crate) fn strict(text: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(text).ok()?;
    read(text, true, DuplicateKeys::Reject).ok()
}

/// Reads a text whole. Gives its tree when `keeps` is set, else `null`.
pub(super) fn read(text: &str, keeps: bool, duplicates: DuplicateKeys) -> Result<Value, Fault> {
    let trail = RefCell::default();
    let reader = Reader {
        keeps,
        duplicates,
        trail: &trail,
    };
    let mut json = serde_json::Deserializer::from_str(text);
    let whole = reader
        .deserialize(&mut json)
        .and_then(|value| json.end().map(|()| value));
    whole.map_err(|error| match trail.into_inner() {
        trail if trail.is_empty() => Fault::Syntax(error),
        trail => Fault::Duplicate(pointer(&trail)),
    })
}

/// The outermost segments first, as many as fit.
fn pointer(trail: &[String]) -> String {
    let mut pointer = String::new();
    for segment in trail.iter().rev() {
        let segment = segment.replace('~', "~0").replace('/', "~1");
        if pointer.len() + 1 + segment.len() > POINTER_BYTES_MAX {
            break;
        }
        pointer.push('/');
        pointer.push_str(&segment);
    }
    pointer
}

/// Reads one value, whatever it is.
#[derive(Clone, Copy)]
struct Reader<'t> {
    keeps: bool,
    duplicates: DuplicateKeys,
    /// The way to the key that is there twice, innermost first; empty while there is none.
    trail: &'t RefCell<Vec<String>>,
}

impl Reader<'_> {
    fn keep(self, value: impl FnOnce() -> Value) -> Value {
        if self.keeps { value() } else { Value::Null }
    }

    fn found_twice<E: Error>(self, key: &str) -> Result<(), E> {
        match self.duplicates {
            DuplicateKeys::Allow => Ok(()),
            DuplicateKeys::Reject => {
                self.trail.borrow_mut().push(key.to_owned());
                Err(E::custom("a key is there twice"))
            }
        }
    }

    /// An error passes through what holds the place where it is.
    fn passes_through(self, segment: impl FnOnce() -> String) {
        let mut trail = self.trail.borrow_mut();
        if !trail.is_empty() {
            trail.push(segment());
        }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(self.keep(|| Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(self.keep(|| Value::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(self.keep(|| Value::from(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(self.keep(|| Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(self.keep(|| Value::String(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut kept = Vec::new();
        let mut index = 0_usize;
        while let Some(item) = items
            .next_element_seed(self)
            .inspect_err(|_| self.passes_through(|| index.to_string()))?
        {
            index += 1;
            if self.keeps {
                kept.push(item);
            }
        }
        Ok(self.keep(|| Value::Array(kept)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        let mut seen = BTreeSet::new();
        while let Some(key) = members.next_key_seed(Key)? {
            let value = members
                .next_value_seed(self)
                .inspect_err(|_| self.passes_through(|| key.to_string()))?;
            if self.keeps {
                match kept.entry(key) {
                    Entry::Vacant(place) => {
                        place.insert(value);
                    }
                    Entry::Occupied(mut place) => {
                        self.found_twice(place.key())?;
                        place.insert(value);
                    }
                }
            } else if self.duplicates == DuplicateKeys::Reject
                && let Some(key) = seen.replace(key)
            {
                self.found_twice(&key)?;
            }
        }
        Ok(self.keep(|| Value::Object(kept)))
    }
}

/// Reads a key, without a copy where it has no escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}
