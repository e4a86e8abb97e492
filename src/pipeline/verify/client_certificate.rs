//! `algorithm = "client-certificate"`: who the connection's certificate says the sender is.
//!
//! That the certificate is genuine, and from an authority of `client_ca`, has been made sure of by
//! TLS. Here its facts are compared with exact values; patterns would let in whoever finds a gap.

use std::net::IpAddr;

use crate::config::raw::RawScheme;
use crate::delivery::Coverage;
use crate::pipeline::arrival::Head;
use crate::pipeline::certificate::ClientCertificate;
use crate::pipeline::verify::compile::Compiler;
use crate::pipeline::verify::refusal::Refusal;
use crate::pipeline::verify::scheme::{Kind, Scheme};
use crate::pipeline::verify::signature::Signature;

/// Length of a fingerprint in hex.
const FINGERPRINT_DIGITS: usize = 64;

/// Whose certificate is taken. Of each list that is not empty, one value must be there.
#[derive(Debug, Default)]
pub(super) struct Holder {
    subjects: Vec<String>,
    names: Vec<String>,
    issuers: Vec<String>,
    fingerprints: Vec<String>,
}

impl Holder {
    pub(super) fn check(&self, head: &Head) -> Result<(), Refusal> {
        let shown = head.certificate.as_deref();
        let certificate = shown.ok_or(Refusal::CertificateAbsent)?;
        let ClientCertificate {
            subject,
            issuer,
            serial: _,
            names,
            fingerprint,
        } = certificate;
        let has = |wanted: &[String], actual: &[String]| {
            wanted.is_empty() || actual.iter().any(|actual| wanted.contains(actual))
        };
        let one = std::slice::from_ref::<String>;
        for (what, fits) in [
            ("subject", has(&self.subjects, one(subject))),
            ("san", has(&self.names, names)),
            ("issuer", has(&self.issuers, one(issuer))),
            ("fingerprint", has(&self.fingerprints, one(fingerprint))),
        ] {
            if !fits {
                return Err(Refusal::CertificateOther(what));
            }
        }
        Ok(())
    }
}

impl Compiler<'_> {
    /// The whole table, with every mistake at once.
    pub(super) fn certificate(&mut self, raw: &RawScheme) -> Scheme {
        let asserts = self.asserts(raw);
        let raw = &raw.holder;
        let holder = Holder {
            subjects: raw.subject.clone(),
            names: self.names(&raw.san),
            issuers: raw.issuer.clone(),
            fingerprints: self.fingerprints(&raw.fingerprint),
        };
        let asked = [&raw.subject, &raw.san, &raw.issuer, &raw.fingerprint];
        if asked.iter().all(|values| values.is_empty()) {
            self.wrong(
                "algorithm",
                "any certificate of any authority in `client_ca` would do",
                "say whose: `san = [\"dns:partner.example\"]`, `subject`, `issuer` or `fingerprint`",
            );
        }
        Scheme {
            kind: Kind::Certificate(holder),
            signature: Signature::nowhere(),
            stamp: None,
            asserts,
            coverage: Coverage::Token,
            keys: Vec::new(),
            fetched: None,
            url: self.url().map(str::to_owned),
            other_urls: Vec::new(),
        }
    }

    fn names(&mut self, written: &[String]) -> Vec<String> {
        let mut names = Vec::new();
        for name in written {
            let (kind, value) = name.split_once(':').unwrap_or_default();
            names.push(match kind {
                "dns" => format!("dns:{}", value.to_ascii_lowercase()),
                "email" | "uri" => name.clone(),
                "ip" => match value.parse::<IpAddr>() {
                    Ok(address) => format!("ip:{address}"),
                    Err(_) => {
                        let what = format!("`{name}` is not an IP address");
                        let help = "write \"ip:192.0.2.7\" or \"ip:2001:db8::7\"";
                        self.wrong("san", what, help);
                        continue;
                    }
                },
                _ => {
                    let what = format!("`{name}` does not say what kind of name it is");
                    let help = "write \"dns:partner.example\", or \"email:\", \"uri:\" or \"ip:\" \
                                before it";
                    self.wrong("san", what, help);
                    continue;
                }
            });
        }
        names
    }

    fn fingerprints(&mut self, written: &[String]) -> Vec<String> {
        let mut fingerprints = Vec::new();
        for text in written {
            let digits = text.replace(':', "").to_ascii_lowercase();
            let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if digits.len() != FINGERPRINT_DIGITS || !is_hex {
                self.wrong(
                    "fingerprint",
                    format!("`{text}` is not the SHA-256 of a certificate in hex"),
                    "take it from `openssl x509 -noout -fingerprint -sha256 -in partner.pem`",
                );
            }
            fingerprints.push(digits);
        }
        fingerprints
    }
}
