//! The other side: makes a request genuine, for `hookgate send`, the demo and tests.

mod body;
mod json;

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use serde_json::Value;
use uuid::{NoContext, Uuid};

use crate::pipeline::arrival::Head;
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::expr::{Expr, Found, Place, unescaped};
use crate::pipeline::verify::Verifier;
use crate::pipeline::verify::assertion::Rule;
use crate::pipeline::verify::basic;
use crate::pipeline::verify::fetched::LABEL;
use crate::pipeline::verify::public::PublicAlgorithm;
use crate::pipeline::verify::refusal::Refusal;
use crate::pipeline::verify::rfc9421::Message;
use crate::pipeline::verify::scheme::{Key, Kind, Method, Ready, Scheme, Signing};
use crate::pipeline::verify::signature::Spot;
use crate::pipeline::verify::stamp::StampSpot;
use crate::pipeline::verify::template::{Given, Part};
use crate::secret::Secret;

pub use body::Sealed;
pub(crate) use json::members;

impl Verifier {
    /// Signs as the provider would, at the time `at`, with the first secret: sets headers and
    /// query parameters in `head`, those too that the signature covers and that are not there
    /// (an event id becomes a fresh UUID). The body is taken as it is. Where only the provider can
    /// sign, `private_key` does: PEM, the counterpart of the configured public key.
    ///
    /// # Errors
    ///
    /// A scheme whose proof stands in the body, or needs a private key, in words.
    pub fn sign(
        &self,
        head: &mut Head,
        body: &[u8],
        at: Timestamp,
        private_key: Option<&Secret>,
    ) -> Result<(), String> {
        self.schemes
            .iter()
            .try_for_each(|scheme| scheme.sign(head, body, at, private_key))
    }

    /// Changes one character of each proof that [`Verifier::sign`] made, so that it stays well
    /// formed and is wrong.
    ///
    /// # Errors
    ///
    /// A proof that stands in the body, or in no part of the request, in words.
    pub fn spoil(&self, head: &mut Head) -> Result<(), String> {
        let of_connection = |scheme: &Scheme| matches!(scheme.kind, Kind::Certificate(_));
        if self.schemes.iter().all(of_connection) {
            return Err(
                "there is nothing to spoil: no part of a request proves who sends".to_owned(),
            );
        }
        for scheme in &self.schemes {
            if matches!(scheme.kind, Kind::Message(_)) {
                Message::spoil(head)?;
            }
            match scheme.signature.spots.first() {
                Some(Spot::At(place)) => {
                    let wrong = match Facts::new(head, b"").find(place) {
                        Ok(Found::Once(proof)) => spoiled(&String::from_utf8_lossy(&proof)),
                        _ => continue,
                    };
                    put(head, place, &wrong)?;
                }
                Some(Spot::HeadersLike { prefix, .. }) => {
                    put_header(head, &format!("{prefix}1"), "0")?;
                }
                // In the body, which is spoiled by itself.
                Some(Spot::Each { .. }) | None => {}
            }
        }
        Ok(())
    }
}

/// An event while it is made: JSON as it will be sent, and where in it the event stands.
#[derive(Debug)]
pub struct Draft<'a> {
    /// The whole text.
    pub text: &'a mut String,
    /// A pointer to the event.
    pub event: &'a str,
}

impl Draft<'_> {
    /// Whether something stands at a pointer into the event.
    fn has(&self, pointer: &str) -> bool {
        let whole: Option<Value> = serde_json::from_str(self.text).ok();
        let pointer = format!("{}{pointer}", self.event);
        whole.is_some_and(|whole| whole.pointer(&pointer).is_some())
    }

    /// Puts a text there. False when something else is in the way.
    pub fn put(&mut self, pointer: &str, value: &str) -> bool {
        let pointer = format!("{}{pointer}", self.event);
        let text = json::put(self.text, &pointer, &Value::from(value).to_string());
        let is_put = text.is_some();
        *self.text = text.unwrap_or_else(|| std::mem::take(self.text));
        is_put
    }
}

impl Expr {
    /// Writes a value where this expression reads it, of a template into its first place: into
    /// `head`, or into the event. False when there is no such place.
    pub fn put(&self, head: &mut Head, event: Option<&mut Draft<'_>>, value: &str) -> bool {
        let Some(place) = self.places().next() else {
            return false;
        };
        match (place, event) {
            (Place::Header(header), _) => put_header(head, header.name.as_str(), value).is_ok(),
            (Place::Query(name), _) => {
                put_query(head, name, value);
                true
            }
            (Place::Json(pointer), Some(event)) => event.has(pointer) && event.put(pointer, value),
            (Place::Form(_), _) | (Place::Json(_), None) => false,
        }
    }

    /// Gives an example the members that this expression reads, where it is without them.
    pub fn make_room(&self, example: &mut Draft<'_>) {
        for place in self.places() {
            if let Place::Json(pointer) = place
                && !example.has(pointer)
            {
                example.put(pointer, "0");
            }
        }
    }

    /// The outermost member that it reads in a body.
    pub fn outermost(&self) -> Option<String> {
        self.places().find_map(|place| match place {
            Place::Json(pointer) => pointer.split('/').nth(1).map(unescaped),
            _ => None,
        })
    }
}

/// Another character near the end. Not the very last: in base64 that one may have bits that count
/// for nothing.
fn spoiled(proof: &str) -> String {
    const FROM_THE_END: usize = 4;
    let mut chars: Vec<char> = proof.chars().collect();
    let victim = chars.len().saturating_sub(FROM_THE_END);
    if let Some(victim) = chars.get_mut(victim) {
        *victim = if *victim == '0' { '1' } else { '0' };
    }
    chars.into_iter().collect()
}

/// What makes a signature.
struct Signer<'a> {
    signing: &'a Signing,
    key: &'a Key,
    private_key: Option<&'a Secret>,
}

impl Scheme {
    fn sign(
        &self,
        head: &mut Head,
        body: &[u8],
        at: Timestamp,
        private_key: Option<&Secret>,
    ) -> Result<(), String> {
        if matches!(self.kind, Kind::Certificate(_)) {
            // The connection proves it, and no header can.
            return self.satisfy_asserts(head, body);
        }
        if let Kind::Jwt(jwt) = &self.kind {
            self.satisfy_asserts(head, body)?;
            let token = jwt.issue(head, body, at, private_key)?;
            return self.put(head, &format!("{}{token}", self.signature.prefix));
        }
        let stand_in;
        let key = match (self.keys.first(), &self.fetched) {
            (Some(key), _) => key,
            (None, Some(fetched)) => {
                let url = self.key_url().map(|(_, url)| url);
                put_unless_in_body(head, &fetched.url, &url.unwrap_or_default())?;
                stand_in = self.stand_in(private_key)?;
                &stand_in
            }
            (None, None) => return Err("there is no secret to sign with".to_owned()),
        };
        if let Kind::Message(message) = &self.kind {
            self.satisfy_asserts(head, body)?;
            return message.sign(key, head, body, at, private_key);
        }
        let timestamp = self.stamp.as_ref().map(|stamp| stamp.unit.write(at));
        if let (Some(stamp), Some(text)) = (&self.stamp, &timestamp)
            && let StampSpot::At(place) = &stamp.spot
        {
            put_unless_in_body(head, place, text)?;
        }
        self.satisfy_asserts(head, body)?;
        let text = match &self.kind {
            Kind::Token | Kind::Jwt(_) => String::from_utf8_lossy(key.secret.expose()).into_owned(),
            Kind::Basic => basic::value(key.secret.expose()),
            Kind::Message(_) | Kind::Certificate(_) => String::new(),
            Kind::Signed(signing) => {
                fill_in(signing, head, at)?;
                let signer = Signer {
                    signing,
                    key,
                    private_key,
                };
                self.signature_text(&signer, head, body, timestamp.as_deref())?
            }
        };
        let value = self.listed(&text, timestamp.as_deref());
        self.put(head, &value)
    }

    /// Writes the proof where it is looked for first.
    fn put(&self, head: &mut Head, value: &str) -> Result<(), String> {
        match self.signature.spots.first() {
            Some(Spot::At(place)) => put(head, place, value),
            Some(Spot::HeadersLike { prefix, .. }) => {
                put_header(head, &format!("{prefix}1"), value)
            }
            Some(Spot::Each { .. }) => Err(in_body(&self.signature)),
            None => Err("nobody knows where the signature goes".to_owned()),
        }
    }

    /// Where a key would be fetched from, and where the request says so: what the source insists
    /// on, or an example.
    fn key_url(&self) -> Option<(&Place, String)> {
        let fetched = self.fetched.as_ref()?;
        let wanted = self.asserts.iter().find_map(|it| match &it.rule {
            Rule::In(values) if it.place == fetched.url => values.first().cloned(),
            _ => None,
        });
        Some((&fetched.url, wanted.unwrap_or_else(|| fetched.example())))
    }

    /// In place of a key that is fetched: whoever signs has it.
    fn stand_in(&self, private_key: Option<&Secret>) -> Result<Key, String> {
        let secret = private_key.cloned().ok_or(
            "the provider's key is fetched from where the request says. To play the provider, make \
             a key of your own, have it found there (`resolve` in [fetch]), and give it (its \
             private half, where it has one) with --signing-key FILE",
        )?;
        let ready = match &self.kind {
            Kind::Signed(Signing {
                method: Method::Shared { algorithm, form },
                ..
            }) => {
                let key = form.key(secret.expose().trim_ascii_end());
                let mac = key.and_then(|key| algorithm.keyed(&key));
                let mac = mac.ok_or_else(|| format!("the signing key is not {}", form.looks()))?;
                Ready::Mac(Box::new(mac))
            }
            // What is signed with a private key asks for nothing else.
            _ => Ready::Hash([0; 32]),
        };
        Ok(Key {
            label: Arc::from(LABEL),
            secret,
            ready,
        })
    }

    fn signature_text(
        &self,
        signer: &Signer<'_>,
        head: &Head,
        body: &[u8],
        timestamp: Option<&str>,
    ) -> Result<String, String> {
        let Signer {
            signing,
            key,
            private_key,
        } = signer;
        let facts = Facts::new(head, body);
        // A timestamp in the body is signed as it stands there; one elsewhere is the new one.
        let in_body = match self.stamp.as_ref().map(|stamp| &stamp.spot) {
            Some(StampSpot::At(Place::Form(_) | Place::Json(_))) => self
                .timestamp(&facts)
                .map_err(|refusal| refusal.to_string())?,
            _ => None,
        };
        let given = Given {
            facts: &facts,
            timestamp: in_body.as_deref().or(timestamp.map(str::as_bytes)),
            secret: key.secret.expose(),
            url: self.url.as_deref(),
        };
        let in_words = |refusal: Refusal| refusal.to_string();
        let signature = match signing.method {
            Method::Shared { .. } => self.expected(&key.ready, &given).map_err(in_words)?,
            Method::Public { algorithm, .. } => {
                let private_key = private_key.ok_or_else(|| needs_private_key(algorithm))?;
                let text = signing.template.render(&given).map_err(in_words)?;
                algorithm.sign(private_key.expose(), &text)?
            }
        };
        Ok(signing.encoding.encode(&signature))
    }

    /// The header value around a signature: prefix, and list with the timestamp where it goes.
    fn listed(&self, text: &str, timestamp: Option<&str>) -> String {
        let text = format!("{}{text}", self.signature.prefix);
        let Some((list, named)) = self
            .signature
            .list
            .as_ref()
            .and_then(|l| Some((l, l.named.as_ref()?)))
        else {
            return text;
        };
        let mut items = Vec::new();
        if let (Some(stamp), Some(timestamp)) = (&self.stamp, timestamp)
            && let StampSpot::Item(key) = &stamp.spot
        {
            items.push(format!("{key}{}{timestamp}", named.assign));
        }
        items.push(format!("{}{}{text}", named.pick, named.assign));
        items.join(&list.separator)
    }

    fn satisfy_asserts(&self, head: &mut Head, body: &[u8]) -> Result<(), String> {
        for assertion in &self.asserts {
            let Rule::Equals(template) = &assertion.rule else {
                continue;
            };
            let value = {
                let facts = Facts::new(head, body);
                let url = self.url.as_deref();
                let given = Given {
                    facts: &facts,
                    timestamp: None,
                    secret: b"",
                    url,
                };
                template
                    .render(&given)
                    .map_err(|refusal| refusal.to_string())?
            };
            put_unless_in_body(head, &assertion.place, &String::from_utf8_lossy(&value))?;
        }
        Ok(())
    }
}

/// Gives every header and query parameter that is signed and not there a fresh UUID.
fn fill_in(signing: &Signing, head: &mut Head, at: Timestamp) -> Result<(), String> {
    for part in signing.template.parts() {
        let Part::Value {
            place: place @ (Place::Header(_) | Place::Query(_)),
            optional: false,
        } = part
        else {
            continue;
        };
        let is_absent = Facts::new(head, b"").find(place) == Ok(Found::Absent);
        if is_absent {
            put(head, place, &fresh_id(at))?;
        }
    }
    Ok(())
}

/// What to say to somebody who has only the public key.
pub(super) fn needs_private_key(algorithm: PublicAlgorithm) -> String {
    format!(
        "{} is made with the sender's private key, and here is only the public one: to play the \
         sender, make a pair of your own, put its public key into `secrets`, and give the private \
         one with --signing-key FILE",
        algorithm.name()
    )
}

pub(super) fn fresh_id(at: Timestamp) -> String {
    let seconds = u64::try_from(at.as_second()).unwrap_or_default();
    let nanos = u32::try_from(at.subsec_nanosecond()).unwrap_or_default();
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanos)).to_string()
}

fn put_unless_in_body(head: &mut Head, place: &Place, value: &str) -> Result<(), String> {
    match place {
        Place::Header(_) | Place::Query(_) => put(head, place, value),
        Place::Form(_) | Place::Json(_) => Ok(()),
    }
}

fn put(head: &mut Head, place: &Place, value: &str) -> Result<(), String> {
    match place {
        Place::Header(header) => put_header(head, header.name.as_str(), value),
        Place::Query(name) => {
            put_query(head, name, value);
            Ok(())
        }
        Place::Form(_) | Place::Json(_) => Err(in_body(place)),
    }
}

fn in_body(place: &impl std::fmt::Display) -> String {
    format!("the proof stands in the body ({place}): send a recorded event instead")
}

fn put_query(head: &mut Head, name: &str, value: &str) {
    let query = head.query.take().unwrap_or_default();
    let query = with_pair(query.as_bytes(), name, value);
    head.query = Some(String::from_utf8_lossy(&query).into_owned());
}

/// A query or a form with a value for one name; its other pairs stay as they are written, where
/// they are.
fn with_pair(pairs: &[u8], name: &str, value: &str) -> Vec<u8> {
    let pair = form_urlencoded::Serializer::new(String::new())
        .append_pair(name, value)
        .finish();
    let mut new = Some(pair.as_bytes());
    let mut all = Vec::new();
    for old in pairs.split(|byte| *byte == b'&') {
        let is_it = form_urlencoded::parse(old).any(|(key, _)| key == name);
        all.extend(if is_it { new.take() } else { Some(old) });
    }
    all.extend(new);
    all.retain(|pair| !pair.is_empty());
    all.join(&b'&')
}

fn put_header(head: &mut Head, name: &str, value: &str) -> Result<(), String> {
    let Ok(name) = HeaderName::try_from(name) else {
        return Err(format!("`{name}` cannot be a header's name"));
    };
    let Ok(value) = HeaderValue::try_from(value) else {
        return Err(format!(
            "what goes into header {name} cannot be a header's value"
        ));
    };
    head.headers.insert(name, value);
    Ok(())
}
