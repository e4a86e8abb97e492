//! Forms, as an object of their fields: `application/x-www-form-urlencoded`, and
//! `multipart/form-data` with its files described.

use serde_json::{Map, Value};

use super::multipart;

/// Reads a form of the one kind. Any bytes are one.
pub(super) fn urlencoded(body: &[u8]) -> Value {
    let mut object = Map::new();
    for (name, value) in form_urlencoded::parse(body).into_owned() {
        push(&mut object, name, Value::String(value));
    }
    Value::Object(object)
}

/// Reads a form of the other kind.
///
/// # Errors
///
/// Those of [`multipart::read`].
pub(super) fn multipart(content_type: &str, body: &[u8]) -> Result<Value, String> {
    let mut object = Map::new();
    for part in multipart::read(content_type, body)? {
        push(&mut object, part.name, part.content.into_json());
    }
    Ok(Value::Object(object))
}

/// Adds a member; one that repeats becomes a list. No `value` may be a list itself.
pub(super) fn push(object: &mut Map<String, Value>, name: String, value: Value) {
    match object.get_mut(&name) {
        None => drop(object.insert(name, value)),
        Some(Value::Array(values)) => values.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
    }
}
