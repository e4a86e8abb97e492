//! Whether a request that is refused here belongs elsewhere: to another provider, or to another
//! source of the same configuration.

use std::sync::Arc;

use http::HeaderMap;

use crate::clock::Now;
use crate::config::parse_provider;
use crate::config::raw::RawVerify;
use crate::pipeline::arrival::Inbound;
use crate::pipeline::verify::Refusal;
use crate::providers;
use crate::source::Source;

/// Most providers that are named.
const NAMED_MAX: usize = 3;

/// Headers that a provider's signature stands in, and that many others use for something else.
const COMMON: [&str; 4] = [
    "signature",
    "x-signature",
    "x-webhook-signature",
    "webhook-signature",
];

/// The built-in providers whose signature header the request has, where the source's own header
/// is not there, or holds what it cannot.
pub(super) fn other_provider(
    source: &Source,
    headers: &HeaderMap,
    refusal: &Refusal,
) -> Option<String> {
    let is_foreign = matches!(
        refusal,
        Refusal::Absent(_)
            | Refusal::Prefix { .. }
            | Refusal::NotListed { .. }
            | Refusal::Undecodable { .. }
    );
    if !is_foreign {
        return None;
    }
    let mut found: Vec<(String, String)> = Vec::new();
    for name in providers::names() {
        let header = signature_header(&name).filter(|header| header != "authorization");
        let Some(header) = header.filter(|header| headers.contains_key(header)) else {
            continue;
        };
        let own = source.provider.as_deref();
        if own.is_some_and(|own| own.replace('_', "-") == name) {
            return None;
        }
        found.push((name, header));
    }
    // A header of one provider's own says more than one that several have; and a relative of the
    // source's own is the most likely.
    let own = source.provider.as_deref().unwrap_or_default();
    let is_relative = |name: &str| !own.is_empty() && name.starts_with(own);
    found.sort_by_key(|(name, header)| (COMMON.contains(&header.as_str()), !is_relative(name)));
    let (_, header) = found.first()?;
    let names = found.iter().filter(|(_, other)| other == header);
    let names: Vec<&str> = names
        .map(|(name, _)| name.as_str())
        .take(NAMED_MAX)
        .collect();
    let is = match &source.provider {
        Some(own) => format!("the source's provider is `{own}`"),
        None => "the source has no provider".to_owned(),
    };
    Some(format!(
        "the request has {header}, as the provider {} sends it, and {is}",
        words(&names)
    ))
}

fn words(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(" or ")
}

/// The header that a provider's signature stands in, in lower case.
fn signature_header(provider: &str) -> Option<String> {
    let raw = parse_provider(providers::text(provider)?).ok()?;
    let Some(RawVerify::Schemes(schemes)) = raw.verify else {
        return None;
    };
    let mut places = schemes.into_iter().flat_map(|scheme| scheme.signature);
    places.find_map(|place| Some(place.strip_prefix("header:")?.to_ascii_lowercase()))
}

/// Who else there is in a configuration.
#[derive(Clone, Copy, Debug)]
pub struct Neighbours<'a> {
    /// The sources.
    pub sources: &'a [Arc<Source>],
    /// Names and paths of all, also of those that could not be loaded.
    pub paths: &'a [(String, String)],
}

impl Neighbours<'_> {
    /// The source that a request for `path` goes to: `asked` where nobody listens. An error: one
    /// that is not at hand.
    pub(super) fn judge<'s>(&'s self, asked: &'s Source, path: &str) -> Result<&'s Source, String> {
        if asked.listens_at(path) {
            return Ok(asked);
        }
        let mut sources = self.sources.iter();
        if let Some(other) = sources.find(|source| source.listens_at(path)) {
            return Ok(other);
        }
        let mut paths = self.paths.iter();
        match paths.find(|(name, own)| own == path && **name != *asked.name) {
            Some((name, _)) => Err(format!(
                "it was sent to {path}, where the source {name} listens, which cannot be loaded \
                 here: see `hookgate check`"
            )),
            None => Ok(asked),
        }
    }

    /// The other source that would take the request as it is, or whose secret makes its proof.
    pub(super) fn would_take(
        &self,
        source: &Source,
        request: &Inbound,
        now: Now,
    ) -> Option<String> {
        let mut others = self.sources.iter().filter(|it| it.name != source.name);
        others.find_map(|other| {
            let its = other.verifier();
            if its.is_insecure() {
                return None;
            }
            if let Ok(verified) = its.verify(request.clone(), now) {
                let key = verified.proof.key.unwrap_or_default();
                return Some(format!(
                    "the source {} would take it, with its secret `{key}`: was it sent to the \
                     wrong URL, or are two secrets swapped?",
                    other.name
                ));
            }
            let key = source.verifier().holds_with_key_of(&its, request)?;
            Some(format!(
                "it matches with the secret `{key}` of the source {}: are two secrets swapped?",
                other.name
            ))
        })
    }
}
