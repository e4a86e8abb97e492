//! HTTP Message Signatures (RFC 9421), with the body by its digest (RFC 9530).
//!
//! The sender says in `Signature-Input` what it signs, so what must at least be signed is up to the
//! configuration: `covered`. Parts of the URL are always those of the configured `public_url`, never
//! of the `Host` that a request claims. The body counts as proved only where the signature covers
//! `Content-Digest` and the digest is that of the body.

mod compile;
mod component;
mod digest;
mod fields;
mod shown;
mod sign;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use subtle::ConstantTimeEq as _;

use crate::clock::Now;
use crate::delivery::Coverage;
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::verify::refusal::Refusal;
use crate::pipeline::verify::scheme::{Key, Method, Proved, Ready, Scheme};
use crate::pipeline::verify::stamp;

use component::{Component, Request};
use fields::{Parameters, Signed};

/// One signature of a message, as the configuration asks for it.
#[derive(Debug)]
pub(super) struct Message {
    /// How it is made.
    pub(super) method: Method,
    /// The same in the words of the RFC's registry, as parameter `alg` says it.
    algorithm: &'static str,
    /// Its label; any when not said.
    label: Option<String>,
    /// Its parameter `tag`; any when not said.
    tag: Option<String>,
    /// What it must cover, at least.
    covered: Vec<Component>,
    /// How far `created` may be off, either way; `None`: not asked for.
    tolerance: Option<Duration>,
    /// Where the request was sent to, as the sender was told.
    address: Address,
}

/// `public_url` with the source's path, taken apart.
#[derive(Debug)]
struct Address {
    url: String,
    scheme: String,
    authority: String,
    path: String,
}

impl Address {
    /// `None`: it is not an absolute URL.
    fn parse(url: &str) -> Option<Self> {
        let uri: http::Uri = url.parse().ok()?;
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let host = uri.host()?.to_ascii_lowercase();
        let default = if scheme == "https" { 443 } else { 80 };
        let authority = match uri.port_u16().filter(|port| *port != default) {
            Some(port) => format!("{host}:{port}"),
            None => host,
        };
        Some(Self {
            url: url.to_owned(),
            scheme,
            authority,
            path: uri.path().to_owned(),
        })
    }
}

impl Message {
    /// Checks the request's signatures until one is all that is asked for.
    pub(super) fn check(
        &self,
        scheme: &Scheme,
        facts: &Facts<'_>,
        now: Now,
    ) -> Result<Proved, Refusal> {
        let mut first = None;
        for signed in self.candidates(facts)? {
            match self.check_one(scheme, &signed, facts, now) {
                Ok(proved) => return Ok(proved),
                Err(refusal) => first = first.or(Some(refusal)),
            }
        }
        Err(first.unwrap_or_else(|| Refusal::Absent("header Signature-Input".to_owned())))
    }

    /// Whether a signature would hold if the request had been sent to this URL.
    pub(super) fn holds_for(&self, url: &str, keys: &[Key], facts: &Facts<'_>) -> bool {
        let Some(address) = Address::parse(url) else {
            return false;
        };
        let signed = self.candidates(facts).unwrap_or_default();
        signed.iter().any(|signed| {
            let keys = named(keys, signed.parameters.keyid.as_deref());
            let base = self.base(signed, facts, &address);
            base.is_ok_and(|base| matching(&keys, &base, &signed.signature).is_some())
        })
    }

    /// How much of the query every signature covers that counts.
    pub(super) fn query_coverage(&self) -> Coverage {
        let mut covered = self.covered.iter();
        if covered.any(Component::is_whole_query) {
            Coverage::Full
        } else if self.covered.iter().any(Component::is_of_query) {
            Coverage::Fields
        } else {
            Coverage::None
        }
    }

    /// The signatures that may be meant: at least one.
    fn candidates(&self, facts: &Facts<'_>) -> Result<Vec<Signed>, Refusal> {
        let mut signed = fields::signatures(&facts.head.headers, self.label.as_deref())?;
        if let Some(tag) = &self.tag {
            signed.retain(|signed| signed.parameters.tag.as_ref() == Some(tag));
            if signed.is_empty() {
                let (name, wanted) = ("tag", tag.clone());
                return Err(Refusal::Parameter { name, wanted });
            }
        }
        Ok(signed)
    }

    fn check_one(
        &self,
        scheme: &Scheme,
        signed: &Signed,
        facts: &Facts<'_>,
        now: Now,
    ) -> Result<Proved, Refusal> {
        self.ensure_asked_for(signed)?;
        let base = self.base(signed, facts, &self.address)?;
        let keys = named(&scheme.keys, signed.parameters.keyid.as_deref());
        let key = matching(&keys, &base, &signed.signature);
        let key = key.ok_or(Refusal::Mismatch(keys.len()))?;

        let mut coverage = Coverage::Token;
        if signed.components.iter().any(Component::is_content_digest) {
            digest::ensure(&facts.head.headers, facts.body)?;
            coverage = Coverage::Full;
        }
        scheme.ensure_asserted(facts)?;
        self.ensure_fresh(&signed.parameters, now.wall)?;
        Ok(Proved {
            key: Some(Arc::clone(&key.label)),
            coverage,
        })
    }

    /// Whether it covers enough, and is made as the configuration says.
    fn ensure_asked_for(&self, signed: &Signed) -> Result<(), Refusal> {
        for required in &self.covered {
            if !signed.components.iter().any(|it| it.is_same(required)) {
                return Err(Refusal::NotCovered(required.written().to_owned()));
            }
        }
        match &signed.parameters.alg {
            // Which algorithm goes with a key is never up to the request (RFC 9421, section 3.2).
            Some(alg) if *alg != self.algorithm => Err(Refusal::Parameter {
                name: "alg",
                wanted: self.algorithm.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// The text that is signed (RFC 9421, section 2.5).
    fn base(
        &self,
        signed: &Signed,
        facts: &Facts<'_>,
        address: &Address,
    ) -> Result<Vec<u8>, Refusal> {
        let request = Request { facts, address };
        let mut base = Vec::new();
        for component in &signed.components {
            base.extend_from_slice(component.written().as_bytes());
            base.extend_from_slice(b": ");
            base.extend_from_slice(&component.value(&request)?);
            base.push(b'\n');
        }
        base.extend_from_slice(b"\"@signature-params\": ");
        base.extend_from_slice(signed.written.as_bytes());
        Ok(base)
    }

    fn ensure_fresh(&self, parameters: &Parameters, now: Timestamp) -> Result<(), Refusal> {
        if let Some(expires) = parameters.expires {
            let late = now.duration_since(expires);
            if late.is_positive() {
                return Err(Refusal::Expired(late.unsigned_abs()));
            }
        }
        let Some(tolerance) = self.tolerance else {
            return Ok(());
        };
        let created = parameters
            .created
            .ok_or_else(|| Refusal::TimestampAbsent("signature parameter created".to_owned()))?;
        stamp::ensure_near(created, now, tolerance)
    }
}

/// The key whose label is the `keyid`. Every key where none has it: a key is known by what it
/// signs, and its name is only a hint.
fn named<'k>(keys: &'k [Key], keyid: Option<&str>) -> Vec<&'k Key> {
    let named: Vec<&Key> = keys
        .iter()
        .filter(|key| Some(&*key.label) == keyid)
        .collect();
    if named.is_empty() {
        keys.iter().collect()
    } else {
        named
    }
}

/// The key that made the signature. All are tried: how long that takes says nothing about which one
/// was nearly right.
fn matching<'k>(keys: &[&'k Key], base: &[u8], signature: &[u8]) -> Option<&'k Key> {
    let mut found = None;
    for &key in keys {
        let fits = match &key.ready {
            Ready::Mac(mac) => {
                let mut mac = mac.clone();
                mac.update(base);
                mac.finish().ct_eq(signature).into()
            }
            Ready::Public(public) => public.verifies(base, signature),
            Ready::Hash(_) => false,
        };
        if fits && found.is_none() {
            found = Some(key);
        }
    }
    found
}

#[cfg(test)]
mod tests;
