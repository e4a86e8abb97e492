//! Proofs that stand in the body, and what of a body has to be there before it is signed.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use super::{Signer, fresh_id, json, spoiled, with_pair};
use crate::pipeline::arrival::Head;
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::expr::{Found, Place};
use crate::pipeline::verify::Verifier;
use crate::pipeline::verify::scheme::{Kind, Scheme};
use crate::pipeline::verify::signature::Spot;
use crate::pipeline::verify::stamp::StampSpot;
use crate::pipeline::verify::template::Part;
use crate::secret::Secret;

/// A body with what its sender's signature wants to find in it.
#[derive(Debug)]
pub struct Sealed {
    /// The bytes to send.
    pub body: Bytes,
    /// The places in it that were written, for people. Everything else is as it was.
    pub written: Vec<String>,
}

impl Sealed {
    fn put(&mut self, place: &Place, value: &str) -> Result<(), String> {
        self.body = put(&self.body, place, value)?;
        self.written.push(place.to_string());
        Ok(())
    }
}

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
        body: Bytes,
        at: Timestamp,
        private_key: Option<&Secret>,
    ) -> Result<Sealed, String> {
        let mut sealed = Sealed {
            body,
            written: Vec::new(),
        };
        for scheme in &self.schemes {
            scheme.fill_body(head, &mut sealed, at)?;
        }
        let (inside, outside): (Vec<_>, Vec<_>) = self
            .schemes
            .iter()
            .map(|scheme| (scheme, scheme.place_in_body()))
            .partition(|(_, place)| place.is_some());
        for (scheme, place) in inside {
            if let Some(place) = place {
                let proof = scheme.proof_in_body(head, &sealed.body, at, private_key)?;
                sealed.put(place, &proof)?;
            }
        }
        for (scheme, _) in outside {
            if let (Some((list, member)), Kind::Token) = (scheme.list_in_body(), &scheme.kind) {
                let token = scheme.proof_in_body(head, &sealed.body, at, private_key)?;
                sealed.body = put_each(&sealed.body, list, member, |_| token.clone())?;
                sealed.written.push(scheme.signature.to_string());
            } else {
                scheme.sign(head, &sealed.body, at, private_key)?;
            }
        }
        Ok(sealed)
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
    fn fill_body(&self, head: &Head, sealed: &mut Sealed, at: Timestamp) -> Result<(), String> {
        let is_absent = |sealed: &Sealed, place: &Place| {
            is_in_body(place) && Facts::new(head, &sealed.body).find(place) == Ok(Found::Absent)
        };
        if let Some((place, url)) = self.key_url()
            && is_absent(sealed, place)
        {
            sealed.put(place, &url)?;
        }
        if let Some(stamp) = &self.stamp
            && let StampSpot::At(place @ (Place::Form(_) | Place::Json(_))) = &stamp.spot
        {
            sealed.put(place, &stamp.unit.write(at))?;
        }
        let Kind::Signed(signing) = &self.kind else {
            return Ok(());
        };
        let is_alone = signing.template.parts().count() == 1;
        for part in signing.template.parts() {
            let Part::Value {
                place,
                optional: false,
            } = part
            else {
                continue;
            };
            if is_absent(sealed, place) {
                let mut value = fresh_id(at);
                if is_alone && matches!(place, Place::Form(_)) {
                    // A whole event, and no challenge: those have one line.
                    value.push('\n');
                }
                sealed.put(place, &value)?;
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

fn is_in_body(place: &Place) -> bool {
    matches!(place, Place::Form(_) | Place::Json(_))
}

/// The body with `value` at `place`, which is made if there is none.
fn put(body: &[u8], place: &Place, value: &str) -> Result<Bytes, String> {
    let put = match place {
        Place::Form(name) => Some(with_pair(body, name, value)),
        Place::Json(pointer) => put_json(body, pointer, value),
        Place::Header(_) | Place::Query(_) => None,
    };
    put.map(Bytes::from).ok_or_else(|| {
        format!("{place} belongs to what is sent, and there is no room for it in this payload")
    })
}

fn put_json(body: &[u8], pointer: &str, value: &str) -> Option<Vec<u8>> {
    let whole: Value = serde_json::from_slice(body).ok()?;
    let was_text = whole.pointer(pointer).is_some_and(Value::is_string);
    // A number stays one, and a time that nobody wrote before is one.
    let value = match value.parse::<i64>() {
        Ok(number) if !was_text => Value::from(number),
        _ => Value::from(value),
    };
    let text = json::put(std::str::from_utf8(body).ok()?, pointer, &value.to_string());
    text.map(String::into_bytes)
}

/// The body with another text at `member` of each element of a list; of one, where there is none.
fn put_each(
    body: &[u8],
    list: &str,
    member: &str,
    text: impl Fn(&str) -> String,
) -> Result<Bytes, String> {
    let put_all = || {
        let whole: Value = serde_json::from_slice(body).ok()?;
        let elements = match whole.pointer(list) {
            None | Some(Value::Null) => [Value::Null].to_vec(),
            Some(elements) => elements.as_array()?.clone(),
        };
        let mut body = std::str::from_utf8(body).ok()?.to_owned();
        for (position, element) in elements.iter().enumerate() {
            let old = element.pointer(member).and_then(Value::as_str);
            let new = Value::from(text(old.unwrap_or_default())).to_string();
            body = json::put(&body, &format!("{list}/{position}{member}"), &new)?;
        }
        Some(Bytes::from(body))
    };
    put_all().ok_or_else(|| format!("there is no room for a list at {list} in this payload"))
}
