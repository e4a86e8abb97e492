//! A key that is fetched from where the request says that it is: `[verify.fetch]`.
//!
//! The request is a stranger's, so what it names counts only if its host is on the list, and what
//! is there only if it is what the list's owner would keep there: a certificate that is valid, and
//! for a name where one is asked for.

use std::sync::Arc;

use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::authorities::Authorities;
use crate::clock::Now;
use crate::pipeline::evidence::{
    Document, Errand, Holds, Hosts, NotAllowed, Target, certificates, in_force, text_at,
};
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::expr::{Found, Place};
use crate::pipeline::verify::refusal::Refusal;
use crate::pipeline::verify::scheme::{Key, Method, Ready};
use crate::secret::Secret;

/// What a key is called that has no label of its own.
pub(super) const LABEL: &str = "fetched";

/// Where keys come from, and what is believed of them.
#[derive(Debug)]
pub(super) struct FetchedKey {
    /// Where the request names the URL.
    pub(super) url: Place,
    pub(super) hosts: Hosts,
    pub(super) path: PathPattern,
    /// What is at the URL.
    pub(super) holds: Holds,
    /// The certificate must be for one of them, by the word of an authority. None: that it came
    /// from a listed host is enough.
    pub(super) names: Vec<String>,
    pub(super) authorities: Authorities,
}

/// Which paths count: text, in which one `*` stands for anything but a slash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PathPattern(Option<(String, Option<String>)>);

impl PathPattern {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') || text.contains(['?', '#']) || text.matches('*').count() > 1 {
            return Err(format!(
                "`{text}` is not a path: it begins with `/`, and one `*` may stand for what \
                 changes"
            ));
        }
        Ok(Self(Some(match text.split_once('*') {
            None => (text.to_owned(), None),
            Some((before, after)) => (before.to_owned(), Some(after.to_owned())),
        })))
    }

    fn is(&self, target: &Target) -> bool {
        let path = target.path();
        match &self.0 {
            None => true,
            Some((whole, None)) => path == whole && !target.has_query(),
            Some((before, Some(after))) => {
                let between = path.strip_prefix(before.as_str());
                let between = between.and_then(|rest| rest.strip_suffix(after.as_str()));
                between.is_some_and(|between| !between.is_empty() && !between.contains('/'))
                    && !target.has_query()
            }
        }
    }
}

impl FetchedKey {
    /// What the request names, if it may be called.
    fn target(&self, facts: &Facts<'_>) -> Result<Target, Refusal> {
        let place = || self.url.to_string();
        let refused = |why| Refusal::UrlNotAllowed {
            place: place(),
            why,
        };
        let url = match facts.find(&self.url)? {
            Found::Once(url) => url,
            Found::Absent => return Err(Refusal::FieldAbsent(place())),
            Found::Twice => return Err(Refusal::Ambiguous(place())),
        };
        let target = self.hosts.target(&String::from_utf8_lossy(&url));
        let target = target.map_err(refused)?;
        if self.path.is(&target) {
            Ok(target)
        } else {
            Err(refused(NotAllowed::Unlisted))
        }
    }

    /// What has to be fetched for this request.
    pub(super) fn errand(&self, facts: &Facts<'_>, source: &Arc<str>) -> Result<Errand, Refusal> {
        let target = self.target(facts)?;
        Ok(Errand::get(source, target).holding(self.holds.clone()))
    }

    /// A URL that would be called, for who wants to try it.
    pub(super) fn example(&self) -> String {
        let host = self.hosts.names().next().unwrap_or_default();
        let host = host
            .replace("{aws-region}", "us-east-1")
            .replace('*', "any");
        let path = match &self.path.0 {
            None => "/key".to_owned(),
            Some((whole, None)) => whole.clone(),
            Some((before, Some(after))) => format!("{before}key{after}"),
        };
        format!("https://{host}{path}")
    }

    /// The key that was fetched, ready for use.
    pub(super) fn key(
        &self,
        document: &Document,
        method: Method,
        now: Now,
    ) -> Result<Key, Refusal> {
        let (ready, secret) = match (&self.holds, method) {
            (Holds::Certificate, Method::Public { algorithm, .. }) => {
                let public = self.certified(&document.body, now)?;
                let key = algorithm.public_key(&public);
                let what = || format!("the certificate's key is not for {}", algorithm.name());
                let key = key.ok_or_else(|| Refusal::Evidence(what()))?;
                (Ready::Public(Box::new(key)), Secret::new(Vec::new()))
            }
            (Holds::Json(pointer), Method::Shared { algorithm, form }) => {
                let text = text_at(&document.body, pointer).unwrap_or_default();
                let key = form.key(text.as_bytes()).filter(|_| !text.is_empty());
                let mac = key.and_then(|key| algorithm.keyed(&key));
                let what = || format!("there is no key at {pointer}");
                let mac = mac.ok_or_else(|| Refusal::Evidence(what()))?;
                (Ready::Mac(Box::new(mac)), Secret::new(text.into_bytes()))
            }
            // Compiling pairs them; anything else proves nothing.
            (Holds::Certificate, Method::Shared { .. })
            | (Holds::Json(_), Method::Public { .. }) => {
                return Err(Refusal::NoEvidence);
            }
        };
        Ok(Key {
            label: Arc::from(LABEL),
            secret,
            ready,
        })
    }

    /// The public key of a certificate that is to be believed at this moment.
    fn certified(&self, pem: &[u8], now: Now) -> Result<Vec<u8>, Refusal> {
        let unusable = |what: &str| Refusal::Evidence(what.to_owned());
        let chain = certificates(pem).map_err(unusable)?;
        let Some(first) = chain.first() else {
            return Err(unusable("there is no certificate in it"));
        };
        in_force(first, now.wall).map_err(Refusal::Evidence)?;
        let (_, certificate) = X509Certificate::from_der(first)
            .map_err(|_malformed| unusable("the certificate cannot be read"))?;
        let mut flaw = None;
        for name in &self.names {
            match self.authorities.vouch(&chain, name, now.wall) {
                Ok(()) => {
                    flaw = None;
                    break;
                }
                Err(why) => flaw = Some(format!("no authority vouches for {name}: {why}")),
            }
        }
        match flaw {
            Some(flaw) => Err(Refusal::Evidence(flaw)),
            None => Ok(certificate.public_key().raw.to_vec()),
        }
    }
}
