//! The URL that the sender may have signed instead of the configured one.

use std::borrow::Cow;
use std::collections::BTreeSet;

use http::HeaderMap;

use super::Trial;
use crate::pipeline::arrival::Head;
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::verify::rfc9421::Message;
use crate::pipeline::verify::scheme::{Scheme, Signing};
use crate::pipeline::verify::template::Part;
use crate::pipeline::verify::url::UrlVariant;

/// Most URLs that are tried: what is in the headers is a stranger's, and each costs a signature.
const URLS_MAX: usize = 128;

/// Where proxies say which host was asked for, and under which path.
const HOSTS: [&str; 3] = ["host", "x-forwarded-host", "x-original-host"];
const PATHS: [&str; 3] = ["x-original-uri", "x-original-url", "x-forwarded-uri"];
const PREFIXES: [&str; 2] = ["x-forwarded-prefix", "x-forwarded-path"];

impl Scheme {
    pub(super) fn mistake_in_url(
        &self,
        trial: &Trial<'_>,
        signing: &Signing,
        facts: &Facts<'_>,
    ) -> Option<String> {
        if !signing.template.any(|part| matches!(part, Part::Url(_))) {
            return None;
        }
        let url = self.url.as_deref()?;
        if facts.head.query.is_some() {
            let head = Head {
                query: None,
                ..facts.head.clone()
            };
            if trial.holds(&Facts::new(&head, facts.body)) {
                return Some(format!(
                    "it matches for the URL {url} without the query: something added one"
                ));
            }
        }
        let others = others(url, facts.head);
        others.into_iter().take(URLS_MAX).find_map(|other| {
            let trial = Trial {
                url: Some(other.clone()),
                ..trial.clone()
            };
            trial
                .holds(facts)
                .then(|| mismatch(url, &other, &remedy(url, &other)))
        })
    }

    /// The same for a message signature, which covers parts of the URL. Of several that fit, it is
    /// the one most like the configured.
    pub(super) fn mistake_in_address(
        &self,
        message: &Message,
        facts: &Facts<'_>,
    ) -> Option<String> {
        let url = self.url.as_deref()?;
        let others = others(url, facts.head).into_iter().take(URLS_MAX);
        let fitting = others.filter(|other| message.holds_for(other, &self.keys, facts));
        let other = fitting.min_by_key(|other| strsim::levenshtein(url, other))?;
        Some(mismatch(url, &other, CORRECT))
    }
}

/// What to do about another URL.
const CORRECT: &str = "correct that, or the URL at the provider";

/// The same, where it may be one of the ways in which senders write the configured one.
fn remedy(url: &str, signed: &str) -> String {
    let mut variants = UrlVariant::ALL.into_iter();
    let variant = variants.find(|(_, variant)| variant.of(url).as_deref() == Some(signed));
    match variant {
        Some((name, _)) => format!("add `url_variants = [\"{name}\"]`"),
        None => CORRECT.to_owned(),
    }
}

fn mismatch(url: &str, signed: &str, remedy: &str) -> String {
    format!("it matches for the URL {signed}, but `public_url` makes it {url}: {remedy}")
}

/// Every scheme with every host, port and path that the request knows of.
fn others(url: &str, head: &Head) -> BTreeSet<String> {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    let (own_host, own_path) = match rest.find('/') {
        Some(at) => rest.split_at_checked(at).unwrap_or((rest, "")),
        None => (rest, ""),
    };
    let mut hosts = vec![Cow::Borrowed(own_host)];
    hosts.extend(said(&head.headers, &HOSTS).map(Cow::Borrowed));
    let ports = said(&head.headers, &["x-forwarded-port"]).chain(["443", "80", "8443"]);
    let ports: Vec<&str> = ports.collect();
    let with_ports = hosts.iter().flat_map(|host| {
        let bare = host.rsplit_once(':').map_or(&**host, |(bare, _)| bare);
        let with = ports.iter().map(move |port| format!("{bare}:{port}"));
        std::iter::once(bare.to_owned()).chain(with)
    });
    let with_ports: Vec<_> = with_ports.map(Cow::Owned).collect();
    hosts.extend(with_ports);

    let mut paths = vec![own_path.to_owned(), head.path.clone()];
    paths.extend(said(&head.headers, &PATHS).map(|path| {
        let path = path.split('?').next().unwrap_or_default();
        path.to_owned()
    }));
    paths.extend(said(&head.headers, &PREFIXES).flat_map(|prefix| {
        let prefix = prefix.trim_end_matches('/');
        [
            format!("{prefix}{own_path}"),
            format!("{prefix}{}", head.path),
        ]
    }));
    let slashes = paths.iter().map(|path| match path.strip_suffix('/') {
        Some(bare) => bare.to_owned(),
        None => format!("{path}/"),
    });
    let slashes: Vec<_> = slashes.collect();
    paths.extend(slashes);

    let mut others = BTreeSet::new();
    for scheme in ["https", "http"] {
        for host in &hosts {
            others.extend(paths.iter().map(|path| format!("{scheme}://{host}{path}")));
        }
    }
    others.remove(url);
    others
}

fn said<'a>(headers: &'a HeaderMap, names: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let values = names.iter().filter_map(|name| headers.get(*name));
    values.filter_map(|value| value.to_str().ok())
}
