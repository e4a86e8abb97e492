//! What is signed and how: `signed`, `encoding`, `key`, `url_variants`.

use crate::config::raw::RawScheme;
use crate::pipeline::verify::compile::Compiler;
use crate::pipeline::verify::key::{Encoding, KeyForm};
use crate::pipeline::verify::mac::Algorithm;
use crate::pipeline::verify::public::{PublicAlgorithm, PublicForm};
use crate::pipeline::verify::scheme::{Kind, Method, Signing};
use crate::pipeline::verify::template::{Part, Template};
use crate::pipeline::verify::url::UrlVariant;

/// What is signed when the configuration does not say.
const SIGNED_DEFAULT: &str = "{body}";

impl Compiler<'_> {
    /// What is signed and how, and the template also when the rest makes no sense. One mistake
    /// keeps the table from compiling, so anything may stand in for a word that is not known.
    pub(super) fn signing(
        &mut self,
        raw: &RawScheme,
        algorithm: Option<Algorithm>,
    ) -> (Option<Kind>, Option<Template>) {
        let form = self.word("key", raw.key.as_deref(), &KeyForm::ALL);
        let method = Method::Shared {
            algorithm: algorithm.unwrap_or(Algorithm::HmacSha256),
            form: form.unwrap_or(KeyForm::Utf8),
        };
        let (kind, template) = self.signed(raw, method);
        let has_secret = template
            .as_ref()
            .is_none_or(|template| template.any(|part| matches!(part, Part::Secret)));
        if algorithm.is_some_and(Algorithm::is_plain) && !has_secret {
            self.wrong(
                "signed",
                "a plain hash without `{secret}` could be made by anybody",
                "put `{secret}` where the provider puts it, or use an `hmac-` algorithm",
            );
        }
        (kind, template)
    }

    /// The same for a sender with a key of its own.
    pub(super) fn public_signing(
        &mut self,
        raw: &RawScheme,
        algorithm: PublicAlgorithm,
    ) -> (Option<Kind>, Option<Template>) {
        let form = self.word("key", raw.key.as_deref(), &PublicForm::ALL);
        let form = form.unwrap_or(PublicForm::Pem);
        let (kind, template) = self.signed(raw, Method::Public { algorithm, form });
        let has_secret = |template: &Template| template.any(|part| matches!(part, Part::Secret));
        if template.as_ref().is_some_and(has_secret) {
            self.wrong(
                "signed",
                format!("with {} there is no secret to be signed", algorithm.name()),
                "leave `{secret}` out",
            );
        }
        (kind, template)
    }

    /// The same for Amazon SNS, which has its own way with everything.
    pub(super) fn sns_signing(&mut self, raw: &RawScheme) -> (Option<Kind>, Option<Template>) {
        let said = [
            ("signed", raw.signed.is_some()),
            ("encoding", raw.encoding.is_some()),
            ("key", raw.key.is_some()),
        ];
        for (key, _) in said.into_iter().filter(|(_, said)| *said) {
            let what = format!("`{key}` is not for `sns`, which says it itself");
            self.wrong(key, what, "leave it out");
        }
        let signing = Signing {
            method: Method::Public {
                algorithm: PublicAlgorithm::Sns,
                form: PublicForm::Pem,
            },
            encoding: Encoding::Base64,
            template: Template::sns(),
        };
        (Some(Kind::Signed(signing)), Some(Template::sns()))
    }

    fn signed(&mut self, raw: &RawScheme, method: Method) -> (Option<Kind>, Option<Template>) {
        let encoding = self.word("encoding", raw.encoding.as_deref(), &Encoding::ALL);
        let text = raw.signed.as_deref().unwrap_or(SIGNED_DEFAULT);
        let Some(template) = self.take("signed", Template::parse(text, self.context.config)) else {
            return (None, None);
        };
        if !template.any(|part| !matches!(part, Part::Literal(_) | Part::Secret)) {
            self.wrong(
                "signed",
                "nothing of the request is signed, so one signature would fit every request",
                "for example `signed = \"{body}\"`",
            );
        }
        if template.any(|part| matches!(part, Part::Timestamp)) && raw.timestamp.is_none() {
            self.wrong(
                "signed",
                "`{timestamp}` is signed, but nobody knows where it stands",
                "for example `timestamp = \"header:X-Timestamp\"`",
            );
        }
        let signing = Signing {
            method,
            encoding: encoding.unwrap_or(Encoding::Hex),
            template: template.clone(),
        };
        (Some(Kind::Signed(signing)), Some(template))
    }

    pub(super) fn other_urls(&mut self, raw: &RawScheme, signs_url: bool) -> Vec<String> {
        if !raw.url_variants.is_empty() && !signs_url {
            self.wrong(
                "url_variants",
                "the URL is not part of what is signed",
                "leave it out, or put `{url}` into `signed`",
            );
        }
        let mut urls = Vec::new();
        for word in &raw.url_variants {
            let variant = self.word("url_variants", Some(word), &UrlVariant::ALL);
            let url = self.context.url.as_deref();
            urls.extend(variant.zip(url).and_then(|(variant, url)| variant.of(url)));
        }
        urls
    }
}
