//! Proofs that stand in the body, and what of a body has to be there before it is signed.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Signer, fresh_id, spoiled};
use crate::pipeline::arrival::Head;
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::expr::{Found, Place};
use crate::pipeline::verify::Verifier;
use crate::pipeline::verify::scheme::{Kind, Scheme};
use crate::pipeline::verify::signature::Spot;
use crate::pipeline::verify::stamp::StampSpot;
use crate::pipeline::verify::template::Part;
use crate::secret::Secret;

/// Longest list that is made for a pointer such as `/items/0/id`.
const INDEX_MAX: usize = 16;

impl Verifier {
    /// Signs like [`Verifier::sign`], and gives the body to send: with a fresh timestamp, fresh ids
    /// and the proof in it, where they stand in the body. Other bodies stay as they are.
    ///
    /// # Errors
    ///
    /// As [`Verifier::sign`]; a body in which there is no room for what belongs there.
    pub fn seal(
        &self,
        head: &mut Head,
        mut body: Bytes,
        at: Timestamp,
        private_key: Option<&Secret>,
    ) -> Result<Bytes, String> {
        for scheme in &self.schemes {
            scheme.fill_body(head, &mut body, at)?;
        }
        let (inside, outside): (Vec<_>, Vec<_>) = self
            .schemes
            .iter()
            .map(|scheme| (scheme, scheme.place_in_body()))
            .partition(|(_, place)| place.is_some());
        for (scheme, place) in inside {
            if let Some(place) = place {
                let proof = scheme.proof_in_body(head, &body, at, private_key)?;
                body = put(&body, place, &proof)?;
            }
        }
        for (scheme, _) in outside {
            if let (Some((list, member)), Kind::Token) = (scheme.list_in_body(), &scheme.kind) {
                let token = scheme.proof_in_body(head, &body, at, private_key)?;
                body = put_each(&body, list, member, |_| token.clone())?;
            } else {
                scheme.sign(head, &body, at, private_key)?;
            }
        }
        Ok(body)
    }

    /// Like [`Verifier::spoil`], for proofs that stand in the body.
    ///
    /// # Errors
    ///
    /// A body in which there is no such place.
    pub fn spoil_body(&self, head: &Head, mut body: Bytes) -> Result<Bytes, String> {
        for place in self.schemes.iter().filter_map(Scheme::place_in_body) {
            let proof = match Facts::new(head, &body).find(place) {
                Ok(Found::Once(proof)) => spoiled(&String::from_utf8_lossy(&proof)),
                _ => continue,
            };
            body = put(&body, place, &proof)?;
        }
        for (list, member) in self.schemes.iter().filter_map(Scheme::list_in_body) {
            body = put_each(&body, list, member, spoiled)?;
        }
        Ok(body)
    }
}

impl Scheme {
    /// The list whose elements have each a proof, and where in them, if that is so.
    pub(super) fn list_in_body(&self) -> Option<(&str, &str)> {
        match self.signature.spots.first() {
            Some(Spot::Each { list, member }) => Some((list, member)),
            _ => None,
        }
    }

    /// Where its proof stands, if that is in the body.
    fn place_in_body(&self) -> Option<&Place> {
        match self.signature.spots.first() {
            Some(Spot::At(place @ (Place::Form(_) | Place::Json(_)))) => Some(place),
            _ => None,
        }
    }

    /// Puts into the body what the signature wants to find there: the timestamp, and values that
    /// are missing.
    fn fill_body(&self, head: &Head, body: &mut Bytes, at: Timestamp) -> Result<(), String> {
        if let Some(stamp) = &self.stamp
            && let StampSpot::At(place @ (Place::Form(_) | Place::Json(_))) = &stamp.spot
        {
            *body = put(body, place, &stamp.unit.write(at))?;
        }
        let Kind::Signed(signing) = &self.kind else {
            return Ok(());
        };
        for part in signing.template.parts() {
            let Part::Value {
                place: place @ (Place::Form(_) | Place::Json(_)),
                optional: false,
            } = part
            else {
                continue;
            };
            let is_absent = Facts::new(head, body).find(place) == Ok(Found::Absent);
            if is_absent {
                let mut value = fresh_id(at);
                if matches!(place, Place::Form(_)) {
                    // A whole event, and no challenge: those have one line.
                    value.push('\n');
                }
                *body = put(body, place, &value)?;
            }
        }
        Ok(())
    }

    fn proof_in_body(
        &self,
        head: &Head,
        body: &[u8],
        at: Timestamp,
        private_key: Option<&Secret>,
    ) -> Result<String, String> {
        let key = self.keys.first().ok_or(match self.fetched {
            Some(_) => {
                "only the provider can make this proof, with a key that is fetched: have it send a \
                 test event, or judge a saved one with `hookgate explain --evidence`"
            }
            None => "there is no secret to sign with",
        })?;
        let timestamp = self.stamp.as_ref().map(|stamp| stamp.unit.write(at));
        let text = match &self.kind {
            Kind::Signed(signing) => {
                let signer = Signer {
                    signing,
                    key,
                    private_key,
                };
                self.signature_text(&signer, head, body, timestamp.as_deref())?
            }
            _ => String::from_utf8_lossy(key.secret.expose()).into_owned(),
        };
        Ok(self.listed(&text, timestamp.as_deref()))
    }
}

/// The body with `value` at `place`, which is made if there is none.
fn put(body: &[u8], place: &Place, value: &str) -> Result<Bytes, String> {
    let no_room =
        || format!("{place} belongs to what is sent, and there is no room for it in this payload");
    match place {
        Place::Form(name) => {
            let others = form_urlencoded::parse(body).filter(|(key, _)| key != name);
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.extend_pairs(others).append_pair(name, value);
            Ok(Bytes::from(form.finish()))
        }
        Place::Json(pointer) => {
            let mut json: Value = serde_json::from_slice(body).map_err(|_not_json| no_room())?;
            let slot = slot(&mut json, pointer).ok_or_else(no_room)?;
            // A number stays one, and a time that nobody wrote before is one.
            *slot = match value.parse::<i64>() {
                Ok(number) if !slot.is_string() => Value::from(number),
                _ => Value::from(value),
            };
            Ok(Bytes::from(json.to_string()))
        }
        _ => Err(no_room()),
    }
}

/// The body with another text at `member` of each element of a list; of one, where there is none.
fn put_each(
    body: &[u8],
    list: &str,
    member: &str,
    text: impl Fn(&str) -> String,
) -> Result<Bytes, String> {
    let no_room = || format!("there is no room for a list at {list} in this payload");
    let mut json: Value = serde_json::from_slice(body).map_err(|_not_json| no_room())?;
    let elements = slot(&mut json, list).ok_or_else(no_room)?;
    if elements.is_null() {
        *elements = Value::Array(vec![Value::Null]);
    }
    for element in elements.as_array_mut().ok_or_else(no_room)? {
        let place = slot(element, member).ok_or_else(no_room)?;
        *place = Value::from(text(place.as_str().unwrap_or_default()));
    }
    Ok(Bytes::from(json.to_string()))
}

/// The value at a JSON Pointer; objects and lists on the way are made where there is nothing.
fn slot<'a>(json: &'a mut Value, pointer: &str) -> Option<&'a mut Value> {
    let mut value = json;
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        let index = token.parse::<usize>().ok();
        if value.is_null() {
            *value = if index.is_some() {
                Value::Array(Vec::new())
            } else {
                Value::Object(Map::new())
            };
        }
        value = match value {
            Value::Object(members) => members.entry(token).or_insert(Value::Null),
            Value::Array(items) => {
                let index = index.filter(|&index| index <= INDEX_MAX)?;
                if items.len() <= index {
                    items.resize(index + 1, Value::Null);
                }
                items.get_mut(index)?
            }
            _ => return None,
        };
    }
    Some(value)
}
