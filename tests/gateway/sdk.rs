//! The providers' own SDKs sign, over TLS, into RabbitMQ; and judge what `hookgate send` signs.
//!
//! Which they are stands in `tests/sdk/cases.toml`; the presets' `evidence` is held against it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use rcgen::PublicKeyData as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::balance::balance;
use crate::support::broker;
use crate::support::capture::Capture;
use crate::support::gateway::{Gateway, Setup, said};
use crate::support::sdk::{Language, Sdks};
use crate::support::sender::Version;
use crate::support::webhook::{Webhook, hex};

/// What providers were told.
const PUBLIC_URL: &str = "https://hooks.example.com";

/// How many connections a case's webhooks are spread over.
const CONNECTIONS: usize = 8;

/// The least that the SDKs' examples and the cases together make.
const EVENTS_MIN: usize = 300;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    case: Vec<Case>,
}

/// One of `cases.toml`, where the keys are explained.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    provider: String,
    language: Language,
    by: By,
    secret: String,
    payload: Option<String>,
    content_type: Option<String>,
    #[serde(default)]
    config: BTreeMap<String, String>,
    covered: Option<String>,
    split: Option<String>,
    /// For the unit test of evidence.
    #[serde(rename = "library", default)]
    _library: bool,
    /// In PEM, where `secret` is the public one.
    #[serde(skip)]
    private_key: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum By {
    Sdk,
    Hookgate,
    Posts,
}

fn cases() -> Vec<Case> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/cases.toml");
    let table: Table = toml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    table.case.into_iter().map(Case::ready).collect()
}

impl Case {
    /// With its keys made and its payload read.
    fn ready(mut self) -> Self {
        let (algorithm, write): (_, fn(&rcgen::KeyPair) -> String) = match self.secret.as_str() {
            "ed25519-hex" => (&rcgen::PKCS_ED25519, |pair| hex(pair.public_key_raw())),
            "ed25519-base64" => (&rcgen::PKCS_ED25519, |pair| {
                STANDARD.encode(pair.public_key_raw())
            }),
            "p256-spki" => (&rcgen::PKCS_ECDSA_P256_SHA256, |pair| {
                STANDARD.encode(pair.subject_public_key_info())
            }),
            _ => return self.with_payload(),
        };
        let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
        self.secret = write(&pair);
        self.private_key = Some(pair.serialize_pem());
        self.with_payload()
    }

    fn with_payload(mut self) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"));
        self.payload = self.payload.map(|payload| {
            let now = hookgate::clock::Now::read().wall.as_millisecond();
            match payload.strip_prefix("tests/") {
                Some(_) => std::fs::read_to_string(file.join(&payload)).unwrap(),
                None => payload.replace("{now_ms}", &now.to_string()),
            }
        });
        self
    }

    /// As `[sources.NAME]`.
    fn source(&self) -> String {
        let Self {
            provider, secret, ..
        } = self;
        let mut text = format!(
            "[sources.{provider}]\nprovider = \"{provider}\"\n\
             secrets = [{{ value = \"{secret}\", label = \"sdk\" }}]\n"
        );
        for (key, value) in &self.config {
            writeln!(text, "config.{key} = \"{value}\"").unwrap();
        }
        text
    }

    /// A question to its SDK.
    fn question(&self, ask: &str) -> Value {
        json!({
            "ask": ask,
            "provider": self.provider,
            "secret": self.secret,
            "private_key": self.private_key,
            "config": self.config,
            "url": format!("{PUBLIC_URL}/{}", self.provider),
            "headers": {},
        })
    }

    /// The bodies of the messages that this body becomes.
    fn messages(&self, body: &[u8]) -> Vec<Vec<u8>> {
        let array: Box<RawValue> = match self.split.as_deref() {
            None => return vec![body.to_vec()],
            Some("") => serde_json::from_slice(body).unwrap(),
            Some(pointer) => {
                let mut members: BTreeMap<String, Box<RawValue>> =
                    serde_json::from_slice(body).unwrap();
                members.remove(pointer.trim_start_matches('/')).unwrap()
            }
        };
        let elements: Vec<&RawValue> = serde_json::from_str(array.get()).unwrap();
        let bodies = elements.iter().map(|raw| raw.get().as_bytes().to_vec());
        bodies.collect()
    }

    /// The same webhook with one byte of its body changed.
    fn forged(&self, webhook: &Webhook) -> Webhook {
        let mut forged = webhook.clone();
        let end = match &self.covered {
            None => forged.body.len(),
            Some(covered) => {
                let body = String::from_utf8(forged.body.clone()).unwrap();
                body.find(covered).expect("it is in the body") + covered.len()
            }
        };
        let byte = forged.body[..end]
            .iter_mut()
            .rfind(|byte| byte.is_ascii_alphanumeric())
            .expect("a letter or a digit");
        *byte = if *byte == b'1' { b'2' } else { b'1' };
        forged
    }
}

/// One language's SDKs at work on a gateway.
struct Play<'a> {
    gateway: &'a Gateway,
    sdks: Sdks,
    capture: Capture,
    /// Source and body of each event that was accepted.
    accepted: Vec<(String, Vec<u8>)>,
    titles: BTreeSet<String>,
}

impl<'a> Play<'a> {
    async fn new(gateway: &'a Gateway, language: Language) -> Self {
        Self {
            gateway,
            sdks: Sdks::start(language, &gateway.directory().join("ca.pem")),
            capture: Capture::start(gateway.directory()).await,
            accepted: Vec::new(),
            titles: BTreeSet::new(),
        }
    }

    async fn all(mut self, cases: &[Case], language: Language) -> Self {
        for case in cases.iter().filter(|case| case.language == language) {
            let webhooks = match case.by {
                By::Sdk => self.signed(case).await,
                By::Hookgate => vec![self.sent(case).await],
                By::Posts => {
                    self.posted(case).await;
                    continue;
                }
            };
            self.decide(case, webhooks).await;
        }
        self
    }

    async fn ask(&mut self, question: &Value) -> Value {
        let answer = self.sdks.ask(question).await;
        let title = answer["sdk"].as_str().expect("the SDK's name and version");
        self.titles.insert(title.to_owned());
        answer
    }

    /// What the SDK signs.
    async fn signed(&mut self, case: &Case) -> Vec<Webhook> {
        let mut question = case.question("sign");
        if let Some(payload) = &case.payload {
            question["body"] = json!(payload);
        }
        let answer = self.ask(&question).await;
        let requests = answer["requests"].as_array().expect("requests");
        let webhooks = requests.iter().map(|request| {
            let url = request["url"].as_str().expect("url");
            let path = url.strip_prefix(PUBLIC_URL).expect("ours");
            let body = request["body"].as_str().expect("body");
            let mut webhook = Webhook::bare(path, body.as_bytes());
            if let Some(content_type) = &case.content_type {
                webhook = webhook.with("content-type", content_type);
            }
            for (name, value) in request["headers"].as_object().expect("headers") {
                webhook = webhook.with(name, value.as_str().expect("text"));
            }
            webhook
        });
        webhooks.collect()
    }

    /// What `hookgate send` signs.
    async fn sent(&mut self, case: &Case) -> Webhook {
        let place = |name: &str| {
            self.gateway
                .directory()
                .join(format!("{}.{name}", case.provider))
        };
        let (payload, key) = (place("payload"), place("pem"));
        std::fs::write(&payload, case.payload.as_ref().expect("a payload")).unwrap();
        let url = self.capture.url();
        let mut arguments = vec!["send", &case.provider, "--url", &url, "--file"];
        arguments.push(payload.to_str().unwrap());
        if let Some(private_key) = &case.private_key {
            std::fs::write(&key, private_key).unwrap();
            arguments.extend(["--signing-key", key.to_str().unwrap()]);
        }
        let output = self.gateway.cli(&arguments).await;
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        self.capture.next().await
    }

    /// Sends by itself.
    async fn posted(&mut self, case: &Case) {
        let port = self.gateway.address().port();
        let mut question = case.question("post");
        question["sink"] = json!(format!("https://localhost:{port}/{}", case.provider));
        let answer = self.ask(&question).await;
        for posted in answer["posted"].as_array().expect("what it posted") {
            // The preset's answer to an event: 202 and nothing else.
            assert_eq!(posted["answer"], "", "{answer}");
            let body = posted["body"].as_str().expect("a body").as_bytes();
            self.accepted.push((case.provider.clone(), body.to_owned()));
        }
        question["secret"] = json!("cloudevents-token-18");
        let answer = self.ask(&question).await;
        for posted in answer["posted"].as_array().expect("what it posted") {
            let answer = posted["answer"].as_str().expect("an answer");
            assert!(answer.contains("401"), "{answer}");
        }
    }

    /// The SDK and the gateway say yes to each, and no to it with one byte changed.
    async fn decide(&mut self, case: &Case, webhooks: Vec<Webhook>) {
        let provider = &case.provider;
        for webhook in &webhooks {
            let verdict = self.judged(case, webhook).await;
            assert_eq!(
                verdict["genuine"], true,
                "{provider}: {verdict} {webhook:?}"
            );
            let forged = case.forged(webhook);
            let verdict = self.judged(case, &forged).await;
            assert_eq!(
                verdict["genuine"], false,
                "{provider}: {verdict} {forged:?}"
            );
        }
        // Some at once, so that they share what storing costs.
        let share = webhooks.len().div_ceil(CONNECTIONS);
        let senders = webhooks
            .chunks(share)
            .map(|webhooks| deliver(self.gateway, case, webhooks));
        join_all(senders).await;
        let bodies = webhooks.iter().flat_map(|it| case.messages(&it.body));
        self.accepted
            .extend(bodies.map(|body| (provider.clone(), body)));
    }

    async fn judged(&mut self, case: &Case, webhook: &Webhook) -> Value {
        let mut question = case.question("judge");
        let headers = webhook.headers.iter();
        question["headers"] = headers
            .map(|(name, value)| (name.to_ascii_lowercase(), json!(value)))
            .collect();
        question["url"] = json!(format!("{PUBLIC_URL}{}", webhook.path));
        question["body"] = json!(String::from_utf8(webhook.body.clone()).expect("text"));
        self.ask(&question).await
    }
}

/// Forged and genuine over one connection, as they are.
async fn deliver(gateway: &Gateway, case: &Case, webhooks: &[Webhook]) {
    let mut client = gateway.connect(Version::Http1).await;
    for webhook in webhooks {
        let forged = case.forged(webhook);
        let answer = client.send(&forged).await.expect("an answer");
        assert_eq!(answer.status, 401, "{answer:?} {forged:?}");
        let answer = client.send(webhook).await.expect("an answer");
        let is_accepted = (200..300).contains(&answer.status);
        assert!(is_accepted, "{answer:?} {webhook:?}");
        assert!(answer.header("hookgate-duplicate").is_none(), "{webhook:?}");
    }
}

#[tokio::test]
async fn sdks_and_the_gateway_decide_alike() {
    let cases = cases();
    let broker = broker::shared().await;
    let sources: String = cases.iter().map(Case::source).collect();
    let gateway = Setup::new()
        .broker(broker)
        .server(&format!("public_url = \"{PUBLIC_URL}\""))
        .sources(&sources)
        .start()
        .await;
    let queue = gateway.consume(broker).await;
    let play = async |language| {
        Play::new(&gateway, language)
            .await
            .all(&cases, language)
            .await
    };
    let (node, python) = tokio::join!(play(Language::Node), play(Language::Python));

    let mut accepted = [node.accepted, python.accepted].concat();
    assert!(accepted.len() >= EVENTS_MIN, "only {}", accepted.len());
    let messages = queue.wait_for(accepted.len()).await;
    let mut arrived: Vec<_> = messages
        .into_iter()
        .map(|message| (message.must("hookgate_source"), message.body))
        .collect();
    accepted.sort();
    arrived.sort();
    assert!(accepted == arrived, "other bodies arrived than were sent");
    balance(&gateway).await;
    let log = gateway.log();
    for case in &cases {
        let Case {
            provider, secret, ..
        } = case;
        assert!(!log.contains(secret.as_str()), "the log holds {provider}'s");
    }

    // Not by a macro, whose words the test runner keeps to itself.
    let titles: Vec<String> = node.titles.into_iter().chain(python.titles).collect();
    let told = format!(
        "SDKs that took part: {}; {} events\n",
        titles.join(", "),
        accepted.len()
    );
    std::io::stdout().write_all(told.as_bytes()).unwrap();
}

/// Real requests with one of the usual mistakes each, as a user would save them.
#[tokio::test]
async fn explain_finds_the_mistake_in_what_an_sdk_signed() {
    let cases = cases();
    let sources: String = cases.iter().map(Case::source).collect();
    let gateway = Setup::new()
        .server(&format!("public_url = \"{PUBLIC_URL}\""))
        .sources(&sources)
        .prepare();
    let mut sdks = Sdks::start(Language::Node, &gateway.directory().join("ca.pem"));
    let mut explain = async |signer: &str, judge: &str, change: fn(&mut Value)| {
        let case = cases.iter().find(|case| case.provider == signer).unwrap();
        let mut question = case.question("sign");
        question["body"] = json!(case.payload);
        // Where the provider believes that it sends to.
        change(&mut question);
        let answer = sdks.ask(&question).await;
        let request = &answer["requests"][0];
        let mut webhook = Webhook::bare(
            &format!("/{judge}"),
            request["body"].as_str().unwrap().as_bytes(),
        );
        for (name, value) in request["headers"].as_object().unwrap() {
            webhook = webhook.with(name, value.as_str().unwrap());
        }
        // What a text editor does.
        webhook
            .body
            .extend_from_slice(question["added"].as_str().unwrap_or_default().as_bytes());
        let file = gateway.directory().join("saved.http");
        std::fs::write(&file, webhook.http1()).unwrap();
        let output = gateway
            .cli(&["explain", "--source", judge, file.to_str().unwrap()])
            .await;
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let told = said(&output);
        assert!(!told.contains(&case.secret), "{told}");
        told
    };
    let told = explain("stripe", "stripe", |question| {
        question["added"] = json!("\n");
    })
    .await;
    assert!(
        told.contains("without the newline at the end of the body"),
        "{told}"
    );
    assert!(
        told.contains("tried: `sdk` as utf8, hmac-sha256 in hex over the timestamp"),
        "{told}"
    );
    let told = explain("twilio_form", "twilio_form", |question| {
        question["url"] = json!("http://hooks.example.com/twilio_form/");
    });
    let told = told.await;
    assert!(
        told.contains("matches for the URL http://hooks.example.com/twilio_form/"),
        "{told}"
    );
    let told = explain("standard_webhooks", "standard_webhooks", |question| {
        question["secret"] = json!("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
    });
    let told = told.await;
    assert!(
        told.contains("the source replicate would take it, with its secret `sdk`"),
        "{told}"
    );
    let told = explain("svix", "github", |_| ()).await;
    assert!(told.contains("svix-signature, as the provider"), "{told}");
}
