//! A table with `algorithm = "rfc9421"`.

use super::component::Component;
use super::digest::CONTENT_DIGEST;
use super::{Address, Message, fields};
use crate::config::raw::RawScheme;
use crate::delivery::Coverage;
use crate::pipeline::verify::compile::Compiler;
use crate::pipeline::verify::key::KeyForm;
use crate::pipeline::verify::mac::Algorithm;
use crate::pipeline::verify::public::{PublicAlgorithm, PublicForm};
use crate::pipeline::verify::scheme::{Kind, Method, Scheme};
use crate::pipeline::verify::signature::Signature;
use crate::pipeline::verify::stamp::TOLERANCE_DEFAULT;
use crate::pipeline::verify::words::one_of;

/// What has to be signed when the configuration does not say.
const COVERED_DEFAULT: [&str; 3] = ["@method", "@target-uri", CONTENT_DIGEST];

/// The registry of RFC 9421, section 6.2.2; `None` is HMAC.
const ALGORITHMS: [(&str, Option<PublicAlgorithm>); 6] = [
    ("hmac-sha256", None),
    ("ed25519", Some(PublicAlgorithm::Ed25519)),
    (
        "ecdsa-p256-sha256",
        Some(PublicAlgorithm::EcdsaP256Sha256Fixed),
    ),
    (
        "ecdsa-p384-sha384",
        Some(PublicAlgorithm::EcdsaP384Sha384Fixed),
    ),
    ("rsa-pss-sha512", Some(PublicAlgorithm::RsaPssSha512)),
    ("rsa-v1_5-sha256", Some(PublicAlgorithm::RsaPkcs1Sha256)),
];

impl Compiler<'_> {
    /// The whole table, with every mistake at once.
    pub(in crate::pipeline::verify) fn message(
        &mut self,
        raw: &RawScheme,
        lenient: bool,
    ) -> Option<Scheme> {
        let asserts = self.asserts(raw);
        let (name, method) = self.message_method(raw).unzip();
        let covered = self.covered(raw);
        let address = self.address();
        self.ensure_can_be_sent(raw);
        let tolerance = Some(raw.tolerance.unwrap_or(TOLERANCE_DEFAULT));
        let message = Message {
            method: method?,
            algorithm: name?,
            label: raw.message.label.clone(),
            tag: raw.message.tag.clone(),
            covered,
            tolerance: tolerance.filter(|tolerance| !tolerance.is_zero()),
            address: address?,
        };
        let covers_body = message.covered.iter().any(Component::is_content_digest);
        let kind = Kind::Message(Box::new(message));
        Some(Scheme {
            keys: self.keys(&kind, &raw.secrets, lenient),
            fetched: None,
            kind,
            signature: Signature::nowhere(),
            stamp: None,
            asserts,
            coverage: if covers_body {
                Coverage::Full
            } else {
                Coverage::Token
            },
            url: self.url().map(str::to_owned),
            other_urls: Vec::new(),
        })
    }

    /// A label or tag that no request can hold would refuse every one.
    fn ensure_can_be_sent(&mut self, raw: &RawScheme) {
        let label = raw.message.label.clone();
        if label.is_some_and(|label| sfv::Key::from_string(label).is_err()) {
            self.wrong(
                "label",
                "no signature can have this label",
                "it is small letters, digits, `_`, `-`, `.` and `*`, and begins with a letter",
            );
        }
        let tag = raw.message.tag.as_deref();
        if tag.is_some_and(|tag| fields::text(tag).is_none()) {
            self.wrong(
                "tag",
                "no signature can have this tag",
                "it is printable ASCII",
            );
        }
    }

    fn message_method(&mut self, raw: &RawScheme) -> Option<(&'static str, Method)> {
        let names = ALGORITHMS.map(|(name, _)| name);
        let Some(text) = raw.message.signature_algorithm.as_deref() else {
            self.wrong(
                "signature_algorithm",
                "`signature_algorithm` is missing: a request must not choose how it is signed",
                one_of(&names),
            );
            return None;
        };
        let public = self.word("signature_algorithm", Some(text), &ALGORITHMS)?;
        let name = names.into_iter().find(|name| *name == text)?;
        let method = match public {
            None => Method::Shared {
                algorithm: Algorithm::HmacSha256,
                form: self.word("key", raw.key.as_deref(), &KeyForm::ALL)?,
            },
            Some(algorithm) => Method::Public {
                algorithm,
                form: self.word("key", raw.key.as_deref(), &PublicForm::ALL)?,
            },
        };
        Some((name, method))
    }

    fn covered(&mut self, raw: &RawScheme) -> Vec<Component> {
        let written: Vec<&str> = if raw.message.covered.is_empty() {
            COVERED_DEFAULT.to_vec()
        } else {
            raw.message.covered.iter().map(String::as_str).collect()
        };
        let mut covered: Vec<Component> = Vec::new();
        for text in written {
            let Some(component) = self.take("covered", Component::parse(text)) else {
                continue;
            };
            if covered.iter().any(|other| other.is_same(&component)) {
                self.wrong(
                    "covered",
                    format!("`{text}` is there twice"),
                    "once is enough",
                );
            }
            covered.push(component);
        }
        covered
    }

    fn address(&mut self) -> Option<Address> {
        let address = self.url().and_then(Address::parse);
        if address.is_none() {
            self.wrong(
                "algorithm",
                "message signatures cover parts of the address that the sender was given",
                "set `public_url` under `[server]`",
            );
        }
        address
    }
}
