//! One request, several events: where a source says `split`, each element of an array becomes a
//! message of its own.
//!
//! The body of such a message is the element as the sender wrote it, a slice of the request's
//! body: nothing is written anew. A batch is kept whole or not at all.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::{Deserializer as _, Error as _, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::pipeline::arrival::Head;
use crate::pipeline::decode::cloudevent::{self, CloudEvent};
use crate::pipeline::decode::{self, Document, DuplicateKeys, Parts};
use crate::pipeline::expr::{Expr, Said, unescaped};
use crate::pipeline::schema::Violation;
use crate::reject::Reject;

/// Most elements of a batch when a source does not say: as many as the largest batch of Azure
/// Event Grid, the largest that any provider here sends.
pub const ELEMENTS_MAX_DEFAULT: usize = 5_000;

/// Most elements that a source can be told to take: each is a record, and all of them wait for
/// the journal's writer at once.
pub const ELEMENTS_MAX: usize = 10_000;

/// What an event of a batch takes in memory besides its body and what is copied for it: headers,
/// its id and type, the reason why it goes to the quarantine.
const EVENT_BYTES: usize = 1024;

/// How many elements have room besides a body, where all that is in flight may take so much: in
/// half of that.
pub fn elements_that_fit(bytes_in_flight_max: usize) -> usize {
    bytes_in_flight_max / 2 / EVENT_BYTES
}

/// Where the array stands; the first place that has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    places: Vec<Place>,
    /// Most elements.
    elements_max: usize,
}

/// A place of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `json:/pointer` (RFC 6901); `json:` is the body itself.
    Json(String),
    /// `form:NAME`: a field that holds JSON.
    Form(String),
    /// `lines`: each line of a body of JSON lines.
    Lines,
    /// Each event of a batch of CloudEvents, for a source that takes those and does not say
    /// `split`: what is no batch is one event.
    CloudEvents,
}

/// The events of one request.
#[derive(Debug)]
pub struct Events {
    /// The request and what it says; of a batch, without its elements.
    pub document: Document,
    /// Its events: one, unless it is a batch.
    pub list: Vec<Event>,
    /// What they are elements of, if it is one.
    pub batch: Option<Batch>,
    /// Why it could not be read, or is not the batch that it should be; then its only event is the
    /// body as it came.
    pub flaw: Option<Reject>,
}

/// One event.
#[derive(Debug)]
pub struct Event {
    /// The sender's bytes of it.
    pub body: Bytes,
    /// The meaning of an element; that of a request which is one event is the document's.
    json: Option<Value>,
    /// What an element that is a CloudEvent says of itself.
    pub cloud: Option<CloudEvent>,
}

/// What the elements of a batch have in common.
#[derive(Debug)]
pub struct Batch {
    /// The array's place, for people and for pointers to what is wrong.
    pointer: String,
    /// Length of the text that the elements are slices of, if it is not the body.
    copied_bytes: usize,
}

/// What a batch is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// By its sender; or by a digest, because the source holds equal bytes to be the same batch.
    Said(Arc<str>),
    /// After the request, because nothing tells whether an equal batch is another one.
    Request(Arc<str>),
}

/// What is found at a place.
struct Found {
    /// The elements as they are written.
    bodies: Vec<Bytes>,
    /// The tree that holds them, if it is not the document's.
    tree: Option<Value>,
    /// See [`Batch`].
    copied_bytes: usize,
}

impl Split {
    /// Arrays at any of `places`, of at most `elements_max` elements.
    pub fn new(places: Vec<Place>, elements_max: usize) -> Self {
        Self {
            places,
            elements_max,
        }
    }

    /// Whether a batch is what says so itself, and nothing else has to be one.
    pub fn is_of_cloud_events(&self) -> bool {
        self.places == [Place::CloudEvents]
    }

    /// Takes the elements out of a document.
    ///
    /// # Errors
    ///
    /// [`Reject::BatchTooLarge`]; for JSON in a form field, what [`decode::decode`] says of JSON.
    pub fn open(&self, document: Document, duplicates: DuplicateKeys) -> Result<Events, Reject> {
        let found = self.find(&document, duplicates)?;
        Ok(self.opened(document, found))
    }

    /// The same for a source that keeps what cannot be read: as one event, with the reason.
    pub fn open_anyway(&self, document: Document, duplicates: DuplicateKeys) -> Events {
        if document.flaw.is_some() {
            return Events::one(document);
        }
        match self.find(&document, duplicates) {
            Ok(found) => self.opened(document, found),
            Err(reject) => Events {
                flaw: Some(reject),
                ..Events::one(document)
            },
        }
    }

    fn opened(&self, document: Document, found: Option<(&Place, Found)>) -> Events {
        if let Some((place, found)) = found {
            return batch(document, place, found);
        }
        if self.is_of_cloud_events() {
            return Events::one(document);
        }
        let places: Vec<String> = self.places.iter().map(Place::to_string).collect();
        let violation = Violation {
            pointer: self.places.first().map(Place::pointer).unwrap_or_default(),
            detail: format!("must be an array of events ({})", places.join(" or ")),
        };
        Events {
            flaw: Some(Reject::SchemaViolated(vec![violation])),
            ..Events::one(document)
        }
    }

    /// Whether it looks into more of a document than its text.
    pub fn needs_tree(&self) -> bool {
        let is_field = |place: &Place| matches!(place, Place::Form(_));
        self.places.iter().any(is_field)
    }

    /// Whether an example is to be sent as JSON lines.
    pub fn is_lines(&self) -> bool {
        self.places.first() == Some(&Place::Lines)
    }

    /// The first place that has an array, and what is in that.
    fn find(
        &self,
        document: &Document,
        duplicates: DuplicateKeys,
    ) -> Result<Option<(&Place, Found)>, Reject> {
        for place in &self.places {
            let found = match place {
                Place::Json(pointer) => self.in_json(document, pointer)?,
                Place::Form(name) => self.in_form(document, name, duplicates)?,
                Place::Lines => self.in_lines(document)?,
                Place::CloudEvents if document.parts == Parts::CloudEvents => {
                    self.in_json(document, "")?
                }
                Place::CloudEvents => None,
            };
            if let Some(elements) = found {
                return Ok(Some((place, elements)));
            }
        }
        Ok(None)
    }

    /// The form field that the first place is, whose text is JSON.
    pub fn form_field(&self) -> Option<&str> {
        match self.places.first() {
            Some(Place::Form(name)) => Some(name),
            Some(Place::Json(_) | Place::Lines | Place::CloudEvents) | None => None,
        }
    }

    /// The text of a batch with one event. One that has an array already stays as it is.
    pub fn wrap(&self, example: &str) -> String {
        let whole: Value = serde_json::from_str(example).unwrap_or_default();
        let pointer = match self.places.first() {
            _ if self.array_in(&whole).is_some() => return example.to_owned(),
            Some(Place::Lines) => return example.to_owned(),
            Some(Place::Json(pointer)) => pointer.as_str(),
            _ => "",
        };
        let list = format!("[{example}]");
        let names: Vec<String> = pointer.split('/').skip(1).map(unescaped).collect();
        names.into_iter().rev().fold(list, |inner, name| {
            format!("{{{}:{inner}}}", Value::from(name))
        })
    }

    /// Pointers to the events of a batch; what a form field holds stands for itself. What has no
    /// array is one event.
    pub fn events_of(&self, whole: &Value) -> Vec<String> {
        let Some(pointer) = self.array_in(whole) else {
            return vec![String::new()];
        };
        let elements = whole.pointer(pointer).and_then(Value::as_array);
        let count = elements.map_or(0, Vec::len);
        (0..count)
            .map(|index| format!("{pointer}/{index}"))
            .collect()
    }

    fn array_in(&self, whole: &Value) -> Option<&str> {
        self.places.iter().find_map(|place| {
            let pointer = match place {
                Place::Json(pointer) => pointer.as_str(),
                Place::Form(_) | Place::Lines | Place::CloudEvents => "",
            };
            whole.pointer(pointer)?.is_array().then_some(pointer)
        })
    }

    fn in_json(&self, document: &Document, pointer: &str) -> Result<Option<Found>, Reject> {
        // A form may look like an array of JSON, and is none.
        let is_there = |json: &Value| json.pointer(pointer).is_some_and(Value::is_array);
        let is_lines = matches!(document.parts, Parts::Lines(_));
        if is_lines || !document.json.as_ref().is_none_or(is_there) {
            return Ok(None);
        }
        let Some(body) = &document.text else {
            return Ok(None);
        };
        let text = std::str::from_utf8(body).unwrap_or_default();
        let Some(elements) = self.elements(text, pointer)? else {
            return Ok(None);
        };
        let bodies = elements
            .iter()
            .map(|raw| body.slice_ref(raw.get().as_bytes()));
        Ok(Some(Found {
            bodies: bodies.collect(),
            tree: None,
            copied_bytes: document.copied_bytes(),
        }))
    }

    fn in_lines(&self, document: &Document) -> Result<Option<Found>, Reject> {
        let (Parts::Lines(lines), Some(text)) = (&document.parts, &document.text) else {
            return Ok(None);
        };
        if lines.len() > self.elements_max {
            return Err(Reject::BatchTooLarge(self.elements_max));
        }
        // Their places were found in this very text.
        let bodies = lines.iter().filter(|line| line.end <= text.len());
        let bodies = bodies.map(|line| text.slice(line.clone()));
        Ok(Some(Found {
            bodies: bodies.collect(),
            tree: None,
            copied_bytes: 0,
        }))
    }

    fn in_form(
        &self,
        document: &Document,
        name: &str,
        duplicates: DuplicateKeys,
    ) -> Result<Option<Found>, Reject> {
        let field = document.fields().and_then(|form| form.get(name));
        // What is there twice is a list, and a file is an object.
        let Some(text) = field.and_then(Value::as_str) else {
            return Ok(None);
        };
        let tree = decode::json_in_field(name, text, duplicates)?;
        let text = Bytes::from(text.to_owned());
        let Some(elements) = self.elements(std::str::from_utf8(&text).unwrap_or_default(), "")?
        else {
            return Ok(None);
        };
        let bodies = elements
            .iter()
            .map(|raw| text.slice_ref(raw.get().as_bytes()));
        Ok(Some(Found {
            bodies: bodies.collect(),
            tree: Some(tree),
            copied_bytes: text.len(),
        }))
    }

    /// The elements of the array at `pointer`, if there is one. `text` is known to be JSON.
    fn elements<'t>(
        &self,
        text: &'t str,
        pointer: &str,
    ) -> Result<Option<Vec<&'t RawValue>>, Reject> {
        let array = find(text, pointer).filter(|raw| raw.get().starts_with('['));
        let Some(array) = array else {
            return Ok(None);
        };
        let elements = array_of(array, self.elements_max);
        elements
            .map(Some)
            .map_err(|_too_many| Reject::BatchTooLarge(self.elements_max))
    }
}

fn batch(mut document: Document, place: &Place, found: Found) -> Events {
    let Found {
        bodies,
        tree,
        copied_bytes,
    } = found;
    let json = document.json.as_mut();
    let trees = match (tree, place) {
        (Some(tree), _) => Some(tree),
        (None, Place::Json(pointer)) => json
            .and_then(|json| json.pointer_mut(pointer))
            .map(Value::take),
        (None, Place::Lines | Place::CloudEvents) => json.map(Value::take),
        (None, Place::Form(_)) => None,
    };
    let trees = match trees {
        Some(Value::Array(trees)) => trees,
        _ => Vec::new(),
    };
    let are_cloud_events = document.parts == Parts::CloudEvents;
    let mut trees = trees.into_iter();
    let list = bodies.into_iter().map(|body| {
        let tree = trees.next();
        // All of them have been looked at: what is none has been refused.
        let cloud = tree
            .as_ref()
            .filter(|_| are_cloud_events)
            .and_then(|tree| CloudEvent::of(tree).ok());
        let json = match &cloud {
            Some(_) => tree.and_then(|tree| cloudevent::into_data(tree).ok()),
            None => tree,
        };
        Event { body, json, cloud }
    });
    Events {
        list: list.collect(),
        document,
        batch: Some(Batch {
            pointer: place.pointer(),
            copied_bytes,
        }),
        flaw: None,
    }
}

/// The value at a JSON Pointer, as it is written. Of a key that is there twice the last one counts,
/// as everywhere.
fn find<'t>(text: &'t str, pointer: &str) -> Option<&'t RawValue> {
    let mut here: &RawValue = serde_json::from_str(text).ok()?;
    for token in pointer.split('/').skip(1).map(unescaped) {
        here = if here.get().starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(here.get()).ok()?;
            let index: usize = token.parse().ok()?;
            items.get(index).copied()?
        } else {
            let mut members: HashMap<String, &RawValue> = serde_json::from_str(here.get()).ok()?;
            members.remove(&token)?
        };
    }
    Some(here)
}

/// The elements of an array, of which there are at most so many.
fn array_of(array: &RawValue, elements_max: usize) -> serde_json::Result<Vec<&RawValue>> {
    struct Elements(usize);

    impl<'t> Visitor<'t> for Elements {
        type Value = Vec<&'t RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {} elements", self.0)
        }

        fn visit_seq<A: SeqAccess<'t>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut elements = Vec::new();
            while let Some(item) = items.next_element()? {
                if elements.len() >= self.0 {
                    return Err(A::Error::invalid_length(self.0, &self));
                }
                elements.push(item);
            }
            Ok(elements)
        }
    }

    serde_json::Deserializer::from_str(array.get()).deserialize_seq(Elements(elements_max))
}

// === impl Place ===

impl Place {
    /// Compiles a place.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("json", pointer)) if pointer.is_empty() || pointer.starts_with('/') => {
                Ok(Self::Json(pointer.to_owned()))
            }
            None if text == "lines" => Ok(Self::Lines),
            Some(("form", name)) if !name.is_empty() => Ok(Self::Form(name.to_owned())),
            _ => Err(
                "write `json:/pointer`, `json:` for a body that is itself an array, or \
                      `form:NAME` for a field that holds one, or `lines` for JSON lines"
                    .to_owned(),
            ),
        }
    }

    /// The array in the body, as a JSON Pointer.
    fn pointer(&self) -> String {
        match self {
            Self::Json(pointer) => pointer.clone(),
            Self::Lines | Self::CloudEvents => String::new(),
            Self::Form(name) => format!("/{}", name.replace('~', "~0").replace('/', "~1")),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(pointer) if pointer.is_empty() => f.write_str("the body"),
            Self::Json(pointer) => write!(f, "body member {pointer}"),
            Self::Form(name) => write!(f, "form field {name}"),
            Self::Lines => f.write_str("lines of JSON"),
            Self::CloudEvents => f.write_str("a batch of CloudEvents"),
        }
    }
}

// === impl Events ===

impl Events {
    /// A request that is one event.
    pub fn one(document: Document) -> Self {
        let event = Event {
            body: document.verified.inbound.body.clone(),
            json: None,
            cloud: None,
        };
        Self {
            flaw: document.flaw.clone(),
            document,
            list: vec![event],
            batch: None,
        }
    }

    /// The meaning of an event, if anybody wants to know.
    pub(crate) fn json<'a>(&'a self, event: &'a Event) -> Option<&'a Value> {
        match &self.batch {
            Some(_) => event.json.as_ref(),
            None => self.document.json.as_ref(),
        }
    }

    /// What an event says of itself, where it is a CloudEvent. What a head says is said of the
    /// batch.
    pub(crate) fn cloud_event<'a>(&'a self, event: &'a Event) -> Option<&'a CloudEvent> {
        match &self.batch {
            Some(_) => event.cloud.as_ref(),
            None => self.document.event.as_ref(),
        }
    }

    /// What an event is made of.
    pub(crate) fn parts(&self) -> &Parts {
        match &self.batch {
            Some(_) => &Parts::Whole,
            None => &self.document.parts,
        }
    }

    /// The first value of an event at `places`. What stands in a header, or outside of the
    /// batch's array, is said of every event.
    pub(crate) fn read<'e>(
        &self,
        event: &Event,
        places: impl IntoIterator<Item = &'e Expr>,
    ) -> Option<String> {
        let (said, own) = (self.said(), self.json(event));
        places
            .into_iter()
            .find_map(|place| place.read_in(said, own))
    }

    /// The id that an event has for itself: one of a batch, none that is said of all of them.
    pub(crate) fn own_id(&self, event: &Event, event_id: &[Expr]) -> Option<String> {
        let is_own = |place: &&Expr| self.batch.is_none() || place.is_of_event();
        self.read(event, event_id.iter().filter(is_own))
    }

    /// What the batch is called, if it is one.
    pub(crate) fn name(&self, event_id: &[Expr]) -> Option<Name> {
        self.batch.as_ref()?;
        let of_head = self.document.event.as_ref().map(|event| event.id.clone());
        let of_batch = event_id.iter().filter(|place| !place.is_of_event());
        let said = of_head.or_else(|| {
            of_batch
                .filter_map(|place| place.read_in(self.said(), None))
                .find(|name| name.len() <= super::NAME_BYTES_MAX)
        });
        Some(match said {
            Some(said) => Name::Said(Arc::from(said)),
            None => Name::Request(Arc::clone(&self.head().request_id)),
        })
    }

    fn said(&self) -> Said<'_> {
        Said {
            head: self.head(),
            form: self.document.fields(),
            json: self.document.json.as_ref(),
            body: Some(&self.document.verified.inbound.body),
        }
    }

    /// Where in the body what is wrong in an element is.
    pub(crate) fn locate(&self, index: usize, violation: Violation) -> Violation {
        let Some(batch) = &self.batch else {
            return violation;
        };
        let Violation { pointer, detail } = violation;
        Violation {
            pointer: format!("{}/{index}{pointer}", batch.pointer),
            detail,
        }
    }

    /// What the events of a batch take in memory besides the request's body. `copied`: bytes of
    /// headers that each of them gets.
    pub(crate) fn extra_bytes(&self, copied: usize) -> usize {
        let Some(batch) = &self.batch else {
            return 0;
        };
        let each = EVENT_BYTES.saturating_add(copied);
        let all = self.list.len().saturating_mul(each);
        all.saturating_add(batch.copied_bytes)
    }

    /// The request's head.
    pub(crate) fn head(&self) -> &Head {
        &self.document.verified.inbound.head
    }
}

// === impl Name ===

impl Name {
    pub(crate) fn text(&self) -> &Arc<str> {
        match self {
            Self::Said(name) | Self::Request(name) => name,
        }
    }

    /// The id of an element that has none of its own; where the batch has one, so that its copy is
    /// recognised when the batch comes again.
    pub(crate) fn of_element(&self, index: usize) -> Option<String> {
        match self {
            Self::Said(name) => Some(format!("{name}/{index}")),
            Self::Request(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
