//! Signs as a sender does, for `hookgate send` and tests.

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use sfv::{BareItem, InnerList, Item, Key as Name};

use super::digest::{self, CONTENT_DIGEST};
use super::fields::{self, SIGNATURE, SIGNATURE_INPUT};
use super::{Message, Signed};
use crate::pipeline::arrival::Head;
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::verify::key::Encoding;
use crate::pipeline::verify::scheme::{Key, Method, Ready};
use crate::pipeline::verify::sign::{fresh_id, needs_private_key};
use crate::secret::Secret;

/// The label of a signature when the configuration leaves it open.
const LABEL: &str = "sig1";

impl Message {
    /// Puts the signature into the head, over what `covered` asks for; fields that are not there get
    /// a fresh id, and `Content-Digest` the digest.
    pub(in crate::pipeline::verify) fn sign(
        &self,
        key: &Key,
        head: &mut Head,
        body: &[u8],
        at: Timestamp,
        private_key: Option<&Secret>,
    ) -> Result<(), String> {
        for name in self.covered.iter().filter_map(super::Component::field) {
            if head.headers.contains_key(name) {
                continue;
            }
            let value = if name == CONTENT_DIGEST {
                digest::value(body)
            } else {
                fresh_id(at)
            };
            put(head, name, &value)?;
        }
        let list = self.input(key, at)?;
        let signed = fields::signed(&list, &[]).map_err(|refusal| refusal.to_string())?;
        let signature = self.signature(key, &signed, &Facts::new(head, body), private_key)?;
        let label = self.label.as_deref().unwrap_or(LABEL);
        let signature = Encoding::Base64.encode(&signature);
        put(
            head,
            &SIGNATURE_INPUT,
            &format!("{label}={}", signed.written),
        )?;
        put(head, &SIGNATURE, &format!("{label}=:{signature}:"))
    }

    fn input(&self, key: &Key, at: Timestamp) -> Result<InnerList, String> {
        let mut list = InnerList::default();
        for component in &self.covered {
            let item: Option<Item> = sfv::Parser::new(component.written()).parse().ok();
            list.items.extend(item);
        }
        let seconds = sfv::Integer::try_from(at.as_second());
        let seconds = seconds.map_err(|_beyond| "this time cannot be written".to_owned())?;
        let mut parameters = vec![("created", Some(BareItem::Integer(seconds)))];
        // A label is the operator's word, and need not be text that a parameter can hold.
        parameters.push(("keyid", fields::text(&key.label)));
        parameters.push(("alg", fields::text(self.algorithm)));
        parameters.push(("tag", self.tag.as_deref().and_then(fields::text)));
        for (name, value) in parameters {
            let name = Name::from_string(name.to_owned()).ok();
            list.params.extend(name.zip(value));
        }
        Ok(list)
    }

    fn signature(
        &self,
        key: &Key,
        signed: &Signed,
        facts: &Facts<'_>,
        private_key: Option<&Secret>,
    ) -> Result<Vec<u8>, String> {
        let base = self.base(signed, facts, &self.address);
        let base = base.map_err(|refusal| refusal.to_string())?;
        match (&self.method, &key.ready) {
            (Method::Shared { .. }, Ready::Mac(mac)) => {
                let mut mac = mac.clone();
                mac.update(&base);
                Ok(mac.finish())
            }
            (Method::Public { algorithm, .. }, _) => {
                let private_key = private_key.ok_or_else(|| needs_private_key(*algorithm))?;
                algorithm.sign(private_key.expose(), &base)
            }
            (Method::Shared { .. }, Ready::Public(_) | Ready::Hash(_)) => {
                Err("there is no secret to sign with".to_owned())
            }
        }
    }

    /// Another character in the middle of the signature, so that it stays well formed.
    pub(in crate::pipeline::verify) fn spoil(head: &mut Head) -> Result<(), String> {
        let value = head.headers.get(&SIGNATURE);
        let Some(value) = value.and_then(|value| value.to_str().ok()) else {
            return Ok(());
        };
        let begin = value.find("=:").map_or(0, |at| at.saturating_add(2));
        let spoiled = value.char_indices().map(|(at, character)| match character {
            '0' if at == begin => '1',
            _ if at == begin => '0',
            character => character,
        });
        let spoiled: String = spoiled.collect();
        put(head, &SIGNATURE, &spoiled)
    }
}

fn put(head: &mut Head, name: &HeaderName, value: &str) -> Result<(), String> {
    let value = HeaderValue::try_from(value);
    let value = value.map_err(|_invalid| format!("header {name} cannot have that value"))?;
    head.headers.insert(name.clone(), value);
    Ok(())
}
