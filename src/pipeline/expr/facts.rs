//! A request's values, decoded when first asked for and at most once.

use std::borrow::Cow;
use std::cell::OnceCell;

use serde_json::Value;

use crate::pipeline::arrival::{Head, Inbound};
use crate::pipeline::decode::multipart::{self, Content};
use crate::pipeline::decode::{self, Kind, content_type, kind_of};
use crate::pipeline::expr::{Found, Place, find_query, scalar};

/// Most fields of a form that is read before its sender is known; more make it unreadable.
pub(crate) const FORM_FIELDS_MAX: usize = 2_000;

/// Names and values, in order.
type Fields = Vec<(String, String)>;

/// One request.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) head: &'a Head,
    pub(crate) body: &'a [u8],
    form: OnceCell<Option<Fields>>,
    multipart: OnceCell<Option<Fields>>,
    json: OnceCell<Option<Value>>,
}

/// The body is not what an expression needs it to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Form,
    Json,
}

impl<'a> Facts<'a> {
    pub(crate) fn new(head: &'a Head, body: &'a [u8]) -> Self {
        Self {
            head,
            body,
            form: OnceCell::new(),
            multipart: OnceCell::new(),
            json: OnceCell::new(),
        }
    }

    pub(crate) fn of(inbound: &'a Inbound) -> Self {
        Self::new(&inbound.head, &inbound.body)
    }

    /// The value at a place, decoded.
    pub(crate) fn find(&self, place: &Place) -> Result<Found<Cow<'_, [u8]>>, Unreadable> {
        Ok(match place {
            Place::Header(header) => header.find(&self.head.headers).map(Cow::Borrowed),
            Place::Query(name) => find_query(self.head, name).map(into_bytes),
            Place::Form(name) => {
                let values = self.fields()?.iter().filter(|(key, _)| key == name);
                Found::of(values.map(|(_, value)| Cow::Borrowed(value.as_bytes())))
            }
            Place::Json(pointer) => match self.json()?.pointer(pointer).and_then(scalar) {
                Some(value) => Found::Once(into_bytes(value)),
                None => Found::Absent,
            },
        })
    }

    /// Whether anything is at a place, also what has no text: an object, an empty list, `null`.
    pub(crate) fn is_there(&self, place: &Place) -> Result<bool, Unreadable> {
        match place {
            Place::Json(pointer) => Ok(self.json()?.pointer(pointer).is_some()),
            Place::Header(_) | Place::Query(_) | Place::Form(_) => {
                Ok(self.find(place)? != Found::Absent)
            }
        }
    }

    /// The texts among the fields of the body, be it of the one kind of form or of the other: read
    /// as it will be when the sender is known.
    fn fields(&self) -> Result<&[(String, String)], Unreadable> {
        if kind_of(&self.head.headers) != Some(Kind::Multipart) {
            return self.form();
        }
        let fields = self.multipart.get_or_init(|| {
            let content_type = content_type(&self.head.headers)?;
            let parts = multipart::read(content_type, self.body).ok()?.into_iter();
            let texts = parts.filter_map(|part| match part.content {
                Content::Text(text) => Some((part.name, text)),
                Content::File { .. } => None,
            });
            Some(texts.collect())
        });
        fields.as_deref().ok_or(Unreadable::Form)
    }

    /// The body's fields, whatever its content type: a body that is not a form becomes an odd
    /// field, so that a signature over the fields still covers it. But not a multipart form, whose
    /// files no signature over fields covers.
    pub(crate) fn form(&self) -> Result<&[(String, String)], Unreadable> {
        if kind_of(&self.head.headers) == Some(Kind::Multipart) {
            return Err(Unreadable::Form);
        }
        let form = self.form.get_or_init(|| {
            let fields: Vec<_> = form_urlencoded::parse(self.body)
                .into_owned()
                .take(FORM_FIELDS_MAX + 1)
                .collect();
            (fields.len() <= FORM_FIELDS_MAX).then_some(fields)
        });
        form.as_deref().ok_or(Unreadable::Form)
    }

    /// The body as JSON, whatever its content type.
    pub(crate) fn json(&self) -> Result<&Value, Unreadable> {
        let json = self.json.get_or_init(|| decode::json::tree(self.body));
        json.as_ref().ok_or(Unreadable::Json)
    }
}

impl<T> Found<T> {
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Found<U> {
        match self {
            Self::Absent => Found::Absent,
            Self::Once(value) => Found::Once(change(value)),
            Self::Twice => Found::Twice,
        }
    }
}

fn into_bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}
