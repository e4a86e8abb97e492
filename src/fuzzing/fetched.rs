//! URLs that strangers name, and what is found there: a line with the URL, then a certificate or a
//! document with a key.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method};
use jiff::Timestamp;

use crate::clock::Now;
use crate::config::raw::{RawFetch, RawScheme, RawVerify};
use crate::fuzzing::{Input, vectors};
use crate::pipeline::arrival::{Head, Inbound};
use crate::pipeline::evidence::{Document, Errand, Fetching, Hosts, Unfetched};
use crate::pipeline::verify::{Context, Verifier};

const HOSTS: [&str; 3] = [
    "sns.{aws-region}.amazonaws.com",
    "*.certs.example.com",
    "idp.example.com:8443",
];

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let urls = [
        "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-a.pem",
        "https://eu.certs.example.com/a?b=c",
        "https://idp.example.com:8443/",
        "https://user@idp.example.com:8443/",
        "https://[::1]/",
    ];
    let documents = [
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        r#"{"keys":{"signing":"c2VjcmV0"}}"#,
        "<html></html>",
    ];
    let pairs = urls.iter().flat_map(|url| {
        let seed = move |document: &&str| format!("{url}\n{document}").into_bytes();
        documents.iter().map(seed)
    });
    pairs.collect()
}

/// Has what it was given.
#[derive(Debug)]
struct Has(Bytes);

impl Fetching for Has {
    fn fetch(&self, errand: Errand) -> BoxFuture<'static, Result<Document, Unfetched>> {
        let listed = Hosts::parse(&HOSTS.map(str::to_owned)).expect("hosts");
        let url = format!("https://{}/", errand.target.authority());
        assert!(listed.target(&url).is_ok(), "{url}");
        let body = self.0.clone();
        Box::pin(std::future::ready(Ok(Document {
            body,
            max_age: None,
        })))
    }
}

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let url = input.line();
    let has = Has(Bytes::copy_from_slice(input.rest()));
    let Ok(value) = HeaderValue::from_str(&url) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert("x-url", value);
    headers.insert("x-signature", HeaderValue::from_static("QUJD"));
    let request = Inbound {
        head: Head {
            method: Method::POST,
            path: "/in".to_owned(),
            query: None,
            headers,
            client_ip: [192, 0, 2, 1].into(),
            certificate: None,
            request_id: Arc::from("r"),
        },
        body: Bytes::from_static(b"{}"),
    };
    let now = Now::at(Timestamp::from_second(vectors::SIGNED_AT).expect("a time"));
    for (algorithm, holds) in [
        ("rsa-pkcs1-sha256", "certificate"),
        ("ecdsa-p256-sha256", "certificate"),
        ("hmac-sha256", "json:/keys/signing"),
    ] {
        let scheme = RawScheme {
            algorithm: Some(algorithm.to_owned()),
            signature: vec!["header:X-Signature".to_owned()],
            encoding: Some("base64".to_owned()),
            fetch: Some(RawFetch {
                url: Some("header:X-Url".to_owned()),
                hosts: HOSTS.map(str::to_owned).to_vec(),
                holds: Some(holds.to_owned()),
                ..RawFetch::default()
            }),
            ..RawScheme::default()
        };
        let context = Context {
            secrets: &[],
            config: &BTreeMap::new(),
            url: None,
        };
        let verifier = Verifier::compile(&RawVerify::Schemes(vec![scheme]), &context);
        let verifier = verifier.expect("it compiles");
        let source = Arc::from("shop");
        let gathering = verifier.gather(&request, &source, &has, now);
        let evidence = gathering.now_or_never().expect("it is at hand");
        let evidence = evidence.unwrap_or_default();
        let verified = verifier.verify_with(request.clone(), &evidence, now);
        assert!(verified.is_err(), "nobody signs so short");
    }
}
