//! Where the key is fetched from: `fetch`.

use crate::authorities::Authorities;
use crate::config::raw::RawFetch;
use crate::pipeline::evidence::{Holds, Hosts};
use crate::pipeline::expr::Place;
use crate::pipeline::verify::compile::{Asked, CERTIFICATE, Compiler};
use crate::pipeline::verify::fetched::{FetchedKey, PathPattern};

impl Compiler<'_> {
    /// Where the key is fetched from. What is wrong with it is a problem at `fetch`.
    pub(super) fn fetched(&mut self, raw: &RawFetch, asked: Option<Asked>) -> Option<FetchedKey> {
        let example = "for example `fetch = { url = \"header:X-Cert-Url\", hosts = \
                       [\"certs.example.com\"] }`";
        let url = match &raw.url {
            Some(text) => self.take("fetch", Place::parse(text)),
            None => {
                let what = "`url` is missing: nobody knows where the request names the key";
                self.wrong("fetch", what, example);
                None
            }
        };
        if raw.hosts.is_empty() {
            let what = "`hosts` is missing: a request could name any";
            self.wrong("fetch", what, example);
        }
        let hosts = Hosts::parse(&raw.hosts).map_err(|(_, what)| what);
        let hosts = self.take("fetch", hosts);
        let path = raw.path.as_deref().map(PathPattern::parse).transpose();
        let path = self.take("fetch", path)?.unwrap_or_default();
        let holds = match raw.holds.as_deref() {
            None | Some(CERTIFICATE) => Holds::Certificate,
            Some(text) => match Place::parse(text) {
                Ok(Place::Json(pointer)) => Holds::Json(pointer),
                _ => {
                    let what = format!("`holds` cannot be `{text}`");
                    let help = "it can be `certificate`, or `json:/pointer` to a shared key";
                    self.wrong("fetch", what, help);
                    return None;
                }
            },
        };
        let fits = match asked {
            Some(Asked::Public(_) | Asked::Sns) => holds == Holds::Certificate,
            Some(Asked::Signed(_)) => holds != Holds::Certificate,
            Some(
                Asked::Token | Asked::Basic | Asked::Jwt | Asked::Message | Asked::Certificate,
            ) => false,
            None => true,
        };
        if !fits {
            let what = "what is fetched is no key for this `algorithm`";
            let help = "a certificate is for `rsa-pkcs1-sha256` and its like, `holds = \
                        \"json:/pointer\"` for `hmac-` algorithms";
            self.wrong("fetch", what, help);
        }
        if !raw.names.is_empty() && holds != Holds::Certificate {
            let what = "`names` are for certificates";
            self.wrong("fetch", what, "leave them out");
        }
        Some(FetchedKey {
            url: url?,
            hosts: hosts?,
            path,
            holds,
            names: raw.names.clone(),
            authorities: Authorities::with(Vec::new()),
        })
    }
}
