//! Webhooks as their providers send them, signed by code that shares nothing with the product's.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// Shared secrets of the tests' sources.
pub(crate) const GITHUB_SECRET: &str = "It's a Secret to Everybody";
pub(crate) const STRIPE_SECRET: &str = "whsec_test_4f2a9c";
pub(crate) const SHOPIFY_SECRET: &str = "shpss_0f1e2d3c4b5a";
pub(crate) const SLACK_SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
pub(crate) const ERP_SECRET: &str = "erp-secret-17";

/// A request to be.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Webhook {
    /// A POST of JSON without any proof.
    pub(crate) fn bare(path: &str, body: &[u8]) -> Self {
        let webhook = Self {
            method: "POST".to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: body.to_owned(),
        };
        webhook.with("Content-Type", "application/json")
    }

    /// GitHub: HMAC-SHA256 of the body, hexadecimal; event and delivery id in headers.
    pub(crate) fn github(path: &str, event: &str, id: &str, body: &[u8]) -> Self {
        let proof = format!(
            "sha256={}",
            hex(&hmac_sha256(GITHUB_SECRET.as_bytes(), body))
        );
        Self::bare(path, body)
            .with("User-Agent", "GitHub-Hookshot/044aadd")
            .with("X-GitHub-Event", event)
            .with("X-GitHub-Delivery", id)
            .with("X-Hub-Signature-256", &proof)
    }

    /// Stripe: HMAC-SHA256 of `TIME.BODY`; the header lists time and signatures.
    pub(crate) fn stripe(path: &str, at: i64, body: &[u8]) -> Self {
        let signed = [at.to_string().as_bytes(), b".", body].concat();
        let proof = hex(&hmac_sha256(STRIPE_SECRET.as_bytes(), &signed));
        Self::bare(path, body).with("Stripe-Signature", &format!("t={at},v1={proof},v0=00"))
    }

    /// Shopify: HMAC-SHA256 of the body, base64; topic and id in headers.
    pub(crate) fn shopify(path: &str, topic: &str, id: &str, body: &[u8]) -> Self {
        let proof = STANDARD.encode(hmac_sha256(SHOPIFY_SECRET.as_bytes(), body));
        Self::bare(path, body)
            .with("X-Shopify-Topic", topic)
            .with("X-Shopify-Webhook-Id", id)
            .with("X-Shopify-Shop-Domain", "example.myshopify.com")
            .with("X-Shopify-Hmac-Sha256", &proof)
    }

    /// Slack: HMAC-SHA256 of `v0:TIME:BODY`, hexadecimal; the time in a header of its own.
    pub(crate) fn slack(path: &str, at: i64, body: &[u8]) -> Self {
        let signed = [b"v0:", at.to_string().as_bytes(), b":", body].concat();
        let proof = format!("v0={}", hex(&hmac_sha256(SLACK_SECRET.as_bytes(), &signed)));
        Self::bare(path, body)
            .with("X-Slack-Request-Timestamp", &at.to_string())
            .with("X-Slack-Signature", &proof)
    }

    /// An HTTP message signature (RFC 9421) over method, URL and digest, by HMAC-SHA256.
    pub(crate) fn message(path: &str, url: &str, secret: &str, at: i64, body: &[u8]) -> Self {
        let digest = format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(body)));
        let input = format!("(\"@method\" \"@target-uri\" \"content-digest\");created={at}");
        let base = format!(
            "\"@method\": POST\n\"@target-uri\": {url}\n\"content-digest\": {digest}\n\
             \"@signature-params\": {input}"
        );
        let proof = STANDARD.encode(hmac_sha256(secret.as_bytes(), base.as_bytes()));
        Self::bare(path, body)
            .with("Content-Digest", &digest)
            .with("Signature-Input", &format!("sig={input}"))
            .with("Signature", &format!("sig=:{proof}:"))
    }

    /// The house system that has no preset: HMAC-SHA256 of `TIME.BODY`, base64.
    pub(crate) fn erp(path: &str, at: i64, id: &str, body: &[u8]) -> Self {
        let signed = [at.to_string().as_bytes(), b".", body].concat();
        let proof = STANDARD.encode(hmac_sha256(ERP_SECRET.as_bytes(), &signed));
        Self::bare(path, body)
            .with("X-Timestamp", &at.to_string())
            .with("X-Event-Id", id)
            .with("X-Signature", &format!("sig={proof}"))
    }

    /// The same with a header set, in place of one of that name.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same without a header.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers
            .retain(|(present, _)| !present.eq_ignore_ascii_case(name));
        self
    }

    /// The same with another method.
    pub(crate) fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    /// As HTTP/1.1 bytes, with the connection kept alive.
    pub(crate) fn http1(&self) -> Vec<u8> {
        let mut bytes = self.http1_head();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// The head alone, announcing the whole body.
    pub(crate) fn http1_head(&self) -> Vec<u8> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: localhost\r\n",
            self.method, self.path
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        head.into_bytes()
    }
}

/// HMAC (RFC 2104) over SHA-256, by its definition.
pub(crate) fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let mut block = [0u8; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new()
        .chain_update(block.map(|b| b ^ 0x36))
        .chain_update(message);
    let outer = Sha256::new()
        .chain_update(block.map(|b| b ^ 0x5c))
        .chain_update(inner.finalize());
    outer.finalize().into()
}

/// Lower case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> i64 {
    hookgate::clock::Now::read().wall.as_second()
}
