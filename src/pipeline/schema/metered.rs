//! A body as the validator sees it: it can be looked at only so often, and its values cannot be
//! taken away.
//!
//! The validator collects an error for everything that is wrong before it gives out the first
//! one, each with the whole pointer, and under nested alternatives with copies of the values.
//! A stranger's body can make that arbitrarily long and large. So here every look costs a step,
//! every error costs more, and when no step is left the body looks empty, which ends whatever
//! recursion is going on. And what goes into an error as "the value" is always `null`: it costs
//! nothing and tells nothing.

use std::borrow::Cow;
use std::cell::Cell;
use std::ops::ControlFlow;

use jsonschema::JsonType;
use jsonschema::json::{Array, Json, Node, NodeIdentity, Object, cmp, unique};
use serde_json::{Map, Number, Value};

/// What an error costs besides its pointer, in steps. An error takes some 400 bytes, a step some
/// nanoseconds.
const ERROR_STEPS: u64 = 64;

/// What an index costs in a pointer, in bytes.
const INDEX_BYTES: u64 = 8;

/// How much of a string is read for one step, in bytes.
const STRING_BYTES_PER_STEP: u64 = 16;

/// How many steps are left.
#[derive(Debug)]
pub(super) struct Meter {
    left: Cell<u64>,
    spent: Cell<bool>,
}

impl Meter {
    /// A meter for so many steps.
    pub(super) fn new(steps: u64) -> Self {
        Self {
            left: Cell::new(steps),
            spent: Cell::new(false),
        }
    }

    /// A meter that does not run out, for the yes or no that an event waits for. The validator
    /// remembers its answers there, so alternatives do not multiply.
    pub(super) fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// A body under this meter.
    pub(super) fn root<'a>(&'a self, value: &'a Value) -> Place<'a> {
        Place {
            value,
            meter: self,
            pointer_bytes: 0,
        }
    }

    /// Whether something was not looked at because no step was left.
    pub(super) fn is_spent(&self) -> bool {
        self.spent.get()
    }

    fn spend(&self, steps: u64) -> bool {
        match self.left.get().checked_sub(steps) {
            Some(left) => self.left.set(left),
            None => self.spent.set(true),
        }
        !self.spent.get()
    }
}

/// One value of a body.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    value: &'a Value,
    meter: &'a Meter,
    pointer_bytes: u64,
}

impl<'a> Place<'a> {
    fn look(&self) -> Option<&'a Value> {
        self.meter.spend(1).then_some(self.value)
    }

    fn below(&self, value: &'a Value, segment_bytes: u64) -> Self {
        let pointer_bytes = self.pointer_bytes.saturating_add(segment_bytes);
        Self {
            value,
            meter: self.meter,
            pointer_bytes,
        }
    }
}

/// The members or the elements of a [`Place`].
#[derive(Clone, Copy)]
pub(super) struct Inside<'a, C> {
    place: Place<'a>,
    content: &'a C,
}

/// The kind of document that the schemas are compiled for.
#[derive(Debug)]
pub(super) struct Metered;

impl Json for Metered {
    type Node<'a> = Place<'a>;
    type PreparedKey = String;
    type StringBuffer = ();

    // A lookup compares keys a few times, so a pass over few members is cheaper.
    const KEYS_PER_LOOKUP: usize = 2;
    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>((): &mut (), string: &str, f: impl FnOnce(Place<'_>) -> T) -> T {
        f(Meter::unlimited().root(&Value::String(string.to_owned())))
    }
}

impl<'a> Node<'a, Metered> for Place<'a> {
    type Object = Inside<'a, Map<String, Value>>;
    type Array = Inside<'a, Vec<Value>>;
    type Number = &'a Number;

    fn as_object(&self) -> Option<Self::Object> {
        let content = self.look()?.as_object()?;
        Some(Inside {
            place: *self,
            content,
        })
    }

    fn as_array(&self) -> Option<Self::Array> {
        let content = self.look()?.as_array()?;
        Some(Inside {
            place: *self,
            content,
        })
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        let text = self.look()?.as_str()?;
        let steps = bytes(text) / STRING_BYTES_PER_STEP;
        self.meter.spend(steps).then_some(Cow::Borrowed(text))
    }

    fn as_number(&self) -> Option<&'a Number> {
        self.look()?.as_number()
    }

    fn as_boolean(&self) -> Option<bool> {
        self.look()?.as_bool()
    }

    fn is_null(&self) -> bool {
        self.value.is_null()
    }

    fn json_type(&self) -> JsonType {
        match self.value {
            Value::Null => JsonType::Null,
            Value::Bool(_) => JsonType::Boolean,
            Value::Number(_) => JsonType::Number,
            Value::String(_) => JsonType::String,
            Value::Array(_) => JsonType::Array,
            Value::Object(_) => JsonType::Object,
        }
    }

    fn equals_value(&self, expected: &Value) -> bool {
        cmp::equal(self.value, expected)
    }

    /// Called once for each error.
    fn to_value(&self) -> Cow<'a, Value> {
        self.meter
            .spend(self.pointer_bytes.saturating_add(ERROR_STEPS));
        Cow::Borrowed(&Value::Null)
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(std::ptr::from_ref(self.value).addr()))
    }
}

impl<'a> Object<'a, Metered> for Inside<'a, Map<String, Value>> {
    type Node = Place<'a>;
    type MemberName = &'a str;
    type MembersIter = Members<'a>;

    fn len(&self) -> usize {
        self.content.len()
    }

    fn get(&self, key: &String) -> Option<Place<'a>> {
        self.place.look()?;
        let value = self.content.get(key)?;
        Some(self.place.below(value, bytes(key)))
    }

    fn members(&self) -> Members<'a> {
        Members {
            place: self.place,
            rest: self.content.iter(),
        }
    }

    fn try_for_each_name_node<B>(
        &self,
        (): &mut (),
        mut f: impl FnMut(Place<'_>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for (name, _) in self.members() {
            let value = Value::String(name.to_owned());
            f(Place {
                value: &value,
                ..self.place
            })?;
        }
        ControlFlow::Continue(())
    }
}

impl<'a> Array<'a, Metered> for Inside<'a, Vec<Value>> {
    type Node = Place<'a>;
    type ElementsIter = Elements<'a>;

    fn len(&self) -> usize {
        self.content.len()
    }

    fn elements(&self) -> Elements<'a> {
        Elements {
            place: self.place,
            rest: self.content.iter(),
        }
    }

    fn is_unique(&self) -> bool {
        let elements = u64::try_from(self.content.len()).unwrap_or(u64::MAX);
        // Without steps it does not matter what the answer is.
        !self.place.meter.spend(elements) || unique::is_unique(self.content)
    }
}

/// Members of an object, while there are steps.
pub(super) struct Members<'a> {
    place: Place<'a>,
    rest: serde_json::map::Iter<'a>,
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, Place<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.place.look()?;
        let (name, value) = self.rest.next()?;
        Some((name, self.place.below(value, bytes(name))))
    }
}

/// Elements of an array, while there are steps.
pub(super) struct Elements<'a> {
    place: Place<'a>,
    rest: std::slice::Iter<'a, Value>,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Place<'a>;

    fn next(&mut self) -> Option<Place<'a>> {
        self.place.look()?;
        let value = self.rest.next()?;
        Some(self.place.below(value, INDEX_BYTES))
    }
}

fn bytes(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}
