//! Tokens of an issuer that is made up here.

mod attacks;
mod claims;
mod fetched;
mod keys;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::algorithm::TokenAlgorithm;
use crate::clock::Now;
use crate::config::problem::Problem;
use crate::config::raw::{RawScheme, RawToken, RawVerify};
use crate::delivery::Coverage;
use crate::pipeline::arrival::{Head, Inbound};
use crate::pipeline::verify::testing::pem;
use crate::pipeline::verify::{Context, Refusal, Verifier};
use crate::secret::{Labelled, Secret};

const SECONDS: i64 = 1_760_000_000;
const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "https://hooks.example.com/in/x";

/// A key of the issuer.
struct IssuerKey {
    algorithm: TokenAlgorithm,
    /// In PEM.
    private: Secret,
    /// As it is published.
    jwk: Value,
    /// In PEM.
    public: String,
}

impl IssuerKey {
    fn rsa() -> &'static Self {
        static KEY: OnceLock<IssuerKey> = OnceLock::new();
        KEY.get_or_init(|| Self::new_rsa("r1"))
    }

    fn ec() -> &'static Self {
        static KEY: OnceLock<IssuerKey> = OnceLock::new();
        KEY.get_or_init(|| Self::new_ec("e1"))
    }

    fn ed() -> &'static Self {
        static KEY: OnceLock<IssuerKey> = OnceLock::new();
        KEY.get_or_init(|| {
            let pair = Ed25519KeyPair::generate().unwrap();
            let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
            Self {
                algorithm: TokenAlgorithm::EdDsa,
                private: secret(pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref())),
                jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "d1"}),
                public: String::new(),
            }
        })
    }

    fn new_rsa(kid: &str) -> Self {
        use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
        let pair = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        // PKCS #1: a sequence of a number of 257 bytes, the first of which is zero, and 65537.
        let n = number(&pair.public_key().as_ref()[9..265]);
        let e = "AQAB";
        Self {
            algorithm: TokenAlgorithm::Rs256,
            private: secret(pem("PRIVATE KEY", private.as_ref())),
            jwk: json!({"kty": "RSA", "n": n, "e": e, "kid": kid, "use": "sig"}),
            public: pem("PUBLIC KEY", public.as_ref()),
        }
    }

    fn new_ec(kid: &str) -> Self {
        use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
        use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let point = pair.public_key().as_ref();
        let (x, y) = (&point[1..33], &point[33..]);
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        Self {
            algorithm: TokenAlgorithm::Es256,
            private: secret(pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref())),
            jwk: json!({"kty": "EC", "crv": "P-256", "x": number(x), "y": number(y), "kid": kid}),
            public: pem("PUBLIC KEY", public.as_ref()),
        }
    }

    fn header(&self) -> Value {
        json!({"alg": self.algorithm.name(), "kid": self.jwk["kid"], "typ": "JWT"})
    }

    /// A token of exactly this header and these claims, as texts.
    fn sign(&self, header: &str, claims: &str) -> String {
        let text = format!("{}.{}", part(header), part(claims));
        let signature = self.algorithm.sign(self.private.expose(), text.as_bytes());
        format!("{text}.{}", part(signature.unwrap()))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&self.header().to_string(), &claims.to_string())
    }
}

fn secret(text: String) -> Secret {
    Secret::new(text.into_bytes())
}

fn part(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> Timestamp {
    Timestamp::from_second(SECONDS).unwrap()
}

/// What a good token says.
fn good() -> Value {
    json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": SECONDS - 10,
        "exp": SECONDS + 3600,
        "email": "push@project.example",
        "email_verified": true,
    })
}

/// The same with one claim changed; `null` takes it away.
fn with(claim: &str, value: Value) -> Value {
    let mut claims = good();
    let members = claims.as_object_mut().unwrap();
    match value {
        Value::Null => members.remove(claim),
        value => members.insert(claim.to_owned(), value),
    };
    claims
}

fn table(algorithms: &[&str]) -> RawScheme {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    RawScheme {
        algorithm: Some("jwt".to_owned()),
        signature: texts(&["header:Authorization"]),
        prefix: Some("Bearer ".to_owned()),
        token: RawToken {
            algorithms: texts(algorithms),
            issuer: texts(&[ISSUER]),
            audience: texts(&["{config:audience}"]),
            claims: BTreeMap::from([
                ("email".to_owned(), texts(&["push@project.example"])),
                ("email_verified".to_owned(), texts(&["true"])),
            ]),
            ..RawToken::default()
        },
        ..RawScheme::default()
    }
}

fn compile(table: RawScheme, secrets: &[&str]) -> Result<Verifier, Vec<Problem>> {
    compile_all(vec![table], secrets)
}

fn compile_all(tables: Vec<RawScheme>, secrets: &[&str]) -> Result<Verifier, Vec<Problem>> {
    let secrets: Vec<Labelled> = secrets
        .iter()
        .enumerate()
        .map(|(position, text)| Labelled {
            label: Arc::from(position.to_string()),
            secret: secret((*text).to_owned()),
        })
        .collect();
    let config = BTreeMap::from([("audience".to_owned(), AUDIENCE.to_owned())]);
    let context = Context {
        secrets: &secrets,
        config: &config,
        url: Some(AUDIENCE.to_owned()),
    };
    Verifier::compile(&RawVerify::Schemes(tables), &context)
}

/// Everything that the issuer publishes.
fn published() -> String {
    let keys = [IssuerKey::rsa(), IssuerKey::ec(), IssuerKey::ed()];
    let keys: Vec<&Value> = keys.iter().map(|key| &key.jwk).collect();
    json!({ "keys": keys }).to_string()
}

fn verifier() -> &'static Verifier {
    static VERIFIER: OnceLock<Verifier> = OnceLock::new();
    VERIFIER.get_or_init(|| compile(table(&["RS256", "ES256", "EdDSA"]), &[&published()]).unwrap())
}

fn request(authorization: &str) -> Inbound {
    let mut headers = http::HeaderMap::new();
    let value = http::HeaderValue::from_bytes(authorization.as_bytes()).unwrap();
    headers.insert("authorization", value);
    Inbound {
        head: Head {
            method: Method::POST,
            path: "/in/x".to_owned(),
            query: None,
            headers,
            client_ip: [192, 0, 2, 1].into(),
            certificate: None,
            request_id: Arc::from("r"),
        },
        body: Bytes::from_static(b"{}"),
    }
}

fn check(verifier: &Verifier, inbound: Inbound, at: Timestamp) -> Result<(), Refusal> {
    let verified = verifier.verify(inbound, Now::at(at));
    verified.map(drop).map_err(|(_, refusal)| refusal)
}

fn judge(verifier: &Verifier, token: &str) -> Result<(), Refusal> {
    check(verifier, request(&format!("Bearer {token}")), now())
}

/// The label of the refusal.
#[track_caller]
fn refused(verifier: &Verifier, token: &str) -> &'static str {
    judge(verifier, token).unwrap_err().label()
}

#[test]
fn a_genuine_token_of_every_kind_of_key_counts() {
    for key in [IssuerKey::rsa(), IssuerKey::ec(), IssuerKey::ed()] {
        judge(verifier(), &key.token(&good())).unwrap();
    }
}

#[test]
fn each_algorithm_verifies_what_it_signs() {
    for algorithm in TokenAlgorithm::ALL {
        let name = algorithm.name();
        let (key, kty) = match name {
            "ES256" => (IssuerKey::ec(), "EC"),
            "EdDSA" => (IssuerKey::ed(), "OKP"),
            "ES384" => continue,
            _ if name.starts_with("HS") => continue,
            _ => (IssuerKey::rsa(), "RSA"),
        };
        assert_eq!(key.jwk["kty"], kty);
        let verifier = compile(table(&[name]), &[&key.jwk.to_string()]).unwrap();
        let other = IssuerKey {
            algorithm,
            private: key.private.clone(),
            jwk: key.jwk.clone(),
            public: key.public.clone(),
        };
        judge(&verifier, &other.token(&good())).unwrap();
    }
}

#[test]
fn what_is_issued_here_counts_here() {
    let key = IssuerKey::ec();
    for (algorithms, known, private) in [
        (["ES256"], key.jwk.to_string(), Some(&key.private)),
        (["ES256"], key.public.clone(), Some(&key.private)),
        (
            ["HS256"],
            "a shared secret of thirty-two bytes".to_owned(),
            None,
        ),
    ] {
        let mut table = table(&algorithms);
        table.token.body_hash = Some("hash".to_owned());
        table.token.query_hash = Some("qsh".to_owned());
        let verifier = compile(table, &[&known]).unwrap();
        let mut inbound = request("");
        inbound.head.query = Some("b=2&a=1".to_owned());
        let body = inbound.body.clone();
        verifier
            .sign(&mut inbound.head, &body, now(), private)
            .unwrap();
        check(&verifier, inbound.clone(), now()).unwrap();

        let mut other_body = inbound.clone();
        other_body.body = Bytes::from_static(b"[]");
        let refusal = check(&verifier, other_body, now()).unwrap_err();
        assert_eq!(refusal.label(), "token_body");
        let mut other_query = inbound.clone();
        other_query.head.query = Some("a=1&b=3".to_owned());
        let refusal = check(&verifier, other_query, now()).unwrap_err();
        assert_eq!(refusal.label(), "token_query");
        verifier.spoil(&mut inbound.head).unwrap();
        let refusal = check(&verifier, inbound, now()).unwrap_err();
        assert_eq!(refusal.label(), "token_signature");
    }
}

#[test]
fn a_hash_of_the_query_covers_a_query_and_no_body() {
    let covered = |query_hash: Option<&str>| {
        let mut table = table(&["RS256"]);
        table.token.query_hash = query_hash.map(str::to_owned);
        let verifier = compile(table, &[&published()]).unwrap();
        (verifier.coverage(), verifier.query_coverage())
    };
    assert_eq!(covered(None), (Coverage::Token, Coverage::Token));
    assert_eq!(covered(Some("qsh")), (Coverage::Token, Coverage::Fields));
}

#[test]
fn every_token_of_a_list_must_hold() {
    let mut table = table(&["RS256"]);
    table.signature = vec!["json:/validationTokens/*".to_owned()];
    table.prefix = None;
    let verifier = compile(table, &[&published()]).unwrap();
    let (good, bad) = (
        IssuerKey::rsa().token(&good()),
        IssuerKey::rsa().token(&with("aud", json!("other"))),
    );
    let sent = |tokens: Value| {
        let mut inbound = request("");
        inbound.body = Bytes::from(json!({ "validationTokens": tokens }).to_string());
        check(&verifier, inbound, now())
    };
    sent(json!([good])).unwrap();
    sent(json!([good, good])).unwrap();
    for (tokens, label) in [
        (json!([]), "signature_absent"),
        (json!(good), "signature_absent"),
        (json!([good, bad]), "token_audience"),
        (json!([bad, good]), "token_audience"),
        (json!([good, 1]), "signature_absent"),
        (json!([good, ""]), "token_malformed"),
        (json!(vec![good; 17]), "signatures_too_many"),
    ] {
        assert_eq!(sent(tokens.clone()).unwrap_err().label(), label, "{tokens}");
    }
}

#[test]
fn two_tokens_at_two_places_must_both_hold() {
    let mut table = table(&["RS256"]);
    table.prefix = None;
    table.signature = vec!["header:Authorization".to_owned(), "query:token".to_owned()];
    let verifier = compile(table, &[&published()]).unwrap();
    let good = IssuerKey::rsa().token(&good());
    let mut inbound = request(&good);
    check(&verifier, inbound.clone(), now()).unwrap();
    inbound.head.query = Some("token=x.y.z".to_owned());
    let refusal = check(&verifier, inbound, now()).unwrap_err();
    assert_eq!(refusal.label(), "token_malformed");
}

/// The example of Atlassian's page: `GET&/rest/api/2/issue&...` in its canonical form.
#[test]
fn the_canonical_form_of_a_query_is_atlassians() {
    use sha2::Digest as _;
    let mut head = request("").head;
    head.path = "/path/to/service/".to_owned();
    head.query = Some(
        "zee_last=param&repeated=parameter+1&first=param&repeated=parameter%202&jwt=t".to_owned(),
    );
    let canonical =
        "POST&/path/to/service&first=param&repeated=parameter%201,parameter%202&zee_last=param";
    let expected = hex::encode(sha2::Sha256::digest(canonical));
    assert_eq!(super::query_hash::hash(&head), expected);
}
