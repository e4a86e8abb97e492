//! Providers whose keys are fetched: what is at the URL stands in `secret` of a vector, and what
//! vouches for it in `authority`.

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::*;
use crate::config::Config;
use crate::config::surroundings::Surroundings;
use crate::explain::{Verdict, explain, explain_with};
use crate::pipeline::evidence::{Document, Errand, Evidence, Fetching, Unfetched};

/// Presets whose keys are fetched.
pub(super) const FILES: [&str; 3] = ["connectwise", "paypal_cert_url", "sns"];

/// Has one document, wherever it is looked for.
#[derive(Debug)]
pub(super) struct Has(Bytes);

impl Has {
    pub(super) fn of(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl Fetching for Has {
    fn fetch(&self, _errand: Errand) -> BoxFuture<'static, Result<Document, Unfetched>> {
        let body = self.0.clone();
        Box::pin(std::future::ready(Ok(Document {
            body,
            max_age: None,
        })))
    }
}

pub(super) fn is(source: &RawSource) -> bool {
    match &source.verify {
        Some(RawVerify::Schemes(schemes)) => schemes.iter().any(|scheme| scheme.fetch.is_some()),
        _ => false,
    }
}

pub(super) fn authorities(vector: &Value) -> Authorities {
    let pem = vector["authority"].as_str();
    let one = pem.map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap());
    Authorities::with(one.into_iter().collect())
}

pub(super) fn evidence(vector: &Vector, verifier: &Verifier, now: Now) -> Evidence {
    let has = Has(Bytes::from(vector.secrets[0].clone()));
    let source = Arc::from("shop");
    let gathering = verifier.gather(&vector.inbound, &source, &has, now);
    gathering.now_or_never().unwrap().unwrap_or_default()
}

#[test]
fn these_are_all() {
    let mut files = Vec::new();
    each_preset(|file, source| {
        if is(&source) {
            files.push(file.to_owned());
        }
    });
    assert_eq!(files, FILES);
}

#[test]
fn nothing_is_proved_without_what_has_to_be_fetched() {
    for file in FILES {
        let source = reader::read(text(file).unwrap());
        for vector in vectors(file).iter().filter(|vector| vector.accept) {
            let verifier = vector.verifier(&source);
            assert!(verifier.needs_evidence());
            let now = Now::at(vector.now);
            let (_, refusal) = verifier.verify(vector.inbound.clone(), now).unwrap_err();
            assert_eq!(refusal.label(), "evidence_absent", "{}", vector.id);
        }
    }
}

/// Whatever does not depend on what is there is judged before anybody is called.
#[test]
fn a_hopeless_request_makes_nobody_fetch_anything() {
    #[derive(Debug)]
    struct Never;
    impl Fetching for Never {
        fn fetch(&self, errand: Errand) -> BoxFuture<'static, Result<Document, Unfetched>> {
            panic!("{errand:?}");
        }
    }
    let hopeless = [
        ("sns", "sns-04"),
        ("sns", "sns-other-topic"),
        ("sns", "sns-topic-prefix"),
        ("sns", "sns-stale"),
        ("sns", "sns-bucket"),
        ("sns", "sns-http"),
        ("sns", "sns-other-path"),
        ("sns", "sns-query"),
        ("paypal_cert_url", "paypal-host"),
        ("paypal_cert_url", "paypal-userinfo"),
        ("paypal_cert_url", "paypal-sandbox-host"),
        ("paypal_cert_url", "paypal-other-path"),
        ("paypal_cert_url", "paypal-below-the-path"),
        ("paypal_cert_url", "paypal-algorithm"),
        ("connectwise", "connectwise-host"),
        ("connectwise", "connectwise-port"),
        ("connectwise", "connectwise-other-company"),
    ];
    for (file, id) in hopeless {
        let source = reader::read(text(file).unwrap());
        let all = vectors(file);
        let vector = all.iter().find(|vector| vector.id == id).unwrap();
        let verifier = vector.verifier(&source);
        let shop = Arc::from("shop");
        let gathering = verifier.gather(&vector.inbound, &shop, &Never, Now::at(vector.now));
        assert!(gathering.now_or_never().unwrap().is_err(), "{id}");
    }
}

#[test]
fn another_key_is_refused() {
    for file in FILES {
        let source = reader::read(text(file).unwrap());
        let other = "sns-certificate-expired";
        for vector in vectors(file).into_iter().filter(|vector| vector.accept) {
            let mut other_key = vector.clone();
            let certificates = vectors("sns");
            let certificate = certificates.iter().find(|vector| vector.id == other);
            other_key.secrets = match file {
                "connectwise" => vec![r#"{"signing_key":"other"}"#.to_owned()],
                // Valid for nobody here: another key, or out of its time.
                _ => certificate.unwrap().secrets.clone(),
            };
            refused(&other_key, &source, "what was fetched");
        }
    }
}

#[test]
fn who_has_the_key_can_sign() {
    let source = reader::read(text("paypal_cert_url").unwrap());
    let vector = vectors("paypal_cert_url").remove(0);
    let verifier = vector.verifier(&source);
    let mut head = vector.inbound.head.clone();
    head.headers.clear();
    let body = vector.inbound.body.clone();
    let pair = pair("rsa-pkcs1-sha256", "pem").unwrap();
    let what = verifier.sign(&mut head, &body, vector.now, None);
    assert!(what.unwrap_err().contains("--signing-key"));
    verifier
        .sign(&mut head, &body, vector.now, Some(&pair.private))
        .unwrap();
    let url = head.headers["paypal-cert-url"].to_str().unwrap();
    assert_eq!(url, "https://api.paypal.com/v1/notifications/certs/key");
    assert!(head.headers.contains_key("paypal-transmission-sig"));

    let source = reader::read(text("connectwise").unwrap());
    let mut vector = vectors("connectwise").remove(0);
    let verifier = vector.verifier(&source);
    vector.inbound.head.headers.clear();
    let key = Secret::new(b"A0B1C2D3-signing-key\n".to_vec());
    let (now, body) = (vector.now, vector.inbound.body.clone());
    verifier
        .sign(&mut vector.inbound.head, &body, now, Some(&key))
        .unwrap();
    vector.check(&source).unwrap();
}

/// What `explain` says of each, from the configuration to the verdict.
#[test]
fn explain_decides_them_too() {
    for file in FILES {
        for json in read_json(file) {
            let vector = Vector::read(&json);
            let directory = tempfile::tempdir().unwrap();
            let mut text = "[server]\ntls = \"off\"\n".to_owned();
            if let Some(authority) = json["authority"].as_str() {
                std::fs::write(directory.path().join("ca.pem"), authority).unwrap();
                text.push_str("[fetch]\nca = \"ca.pem\"\n");
            }
            let path = &vector.inbound.head.path;
            text.push_str(&format!(
                "[sources.shop]\nprovider = \"{file}\"\npath = \"{path}\"\n"
            ));
            text.push_str("[sources.shop.config]\n");
            for (key, value) in &vector.config {
                text.push_str(&format!("{key} = \"{value}\"\n"));
            }
            let config = directory.path().join("gateway.toml");
            std::fs::write(&config, text).unwrap();
            let surroundings = Surroundings::new(|_| None, None, vector.now);
            let loaded = Config::load_in(&config, &surroundings);
            let source = Arc::clone(&loaded.unwrap_or_else(|it| panic!("{it}")).config.sources[0]);
            let mut request = format!("POST {path} HTTP/1.1\r\n").into_bytes();
            for (name, value) in &vector.inbound.head.headers {
                request.extend_from_slice(name.as_str().as_bytes());
                request.extend_from_slice(b": ");
                request.extend_from_slice(value.as_bytes());
                request.extend_from_slice(b"\r\n");
            }
            request.extend_from_slice(b"\r\n");
            request.extend_from_slice(&vector.inbound.body);
            let has = Has(Bytes::from(vector.secrets[0].clone()));
            let said = explain_with(&source, &request, None, &has, Now::at(vector.now));
            let is_taken = said.verdict != Verdict::Reject;
            assert_eq!(is_taken, vector.accept, "{}: {said:?}", vector.id);
            let offline = explain(&source, &request, Now::at(vector.now));
            assert_eq!(offline.verdict, Verdict::Reject, "{}", vector.id);
        }
    }
}
