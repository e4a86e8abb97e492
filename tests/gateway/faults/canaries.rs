//! Secrets planted everywhere never come out anywhere.

use std::fmt::Write as _;
use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lapin::ExchangeKind;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;
use tokio::process::Command;

use crate::support::broker::{self, Broker};
use crate::support::eventually::eventually;
use crate::support::figures::Row;
use crate::support::gateway::{Gateway, Metrics, PROGRAM, Setup, cli, private_key, said};
use crate::support::sender::{Sender, Version};
use crate::support::webhook::{Webhook, hex, hmac_sha256, unix_now};

/// What is planted, and where. All are letters and digits, so that no encoding of a whole text
/// changes them; [`forms`] has those that would.
const SIGNING: &str = "canaryHmacKey1f0e";
const ROTATED: &str = "canaryOldHmacKey2a";
const STANDARD_WEBHOOKS: &str = "canaryWhsecKey93b1";
const TOKEN: &str = "canaryTokenHeader4";
const QUERY_TOKEN: &str = "canaryQueryToken55";
const PASSWORD: &str = "canaryBasicPass66x";
const VERIFY_TOKEN: &str = "canaryVerifyTok77d";
const BROKER_PASSWORD: &str = "canaryAmqpPass888e";
const ADMIN_TOKEN: &str = "canaryAdminToken9f";
const AUTHORIZATION: &str = "canaryAuthHeader0a";
const COOKIE: &str = "canaryCookieValue1";
const BODY: &str = "canaryBodyContent2";
const WRONG: &str = "canaryWrongToken33";

/// Every planted text.
const PLANTED: [&str; 13] = [
    SIGNING,
    ROTATED,
    STANDARD_WEBHOOKS,
    TOKEN,
    QUERY_TOKEN,
    PASSWORD,
    VERIFY_TOKEN,
    BROKER_PASSWORD,
    ADMIN_TOKEN,
    AUTHORIZATION,
    COOKIE,
    BODY,
    WRONG,
];

/// A canary as it is and as it may travel.
fn forms(canary: &str) -> [String; 4] {
    let bytes = format!("{:?}", canary.as_bytes());
    [
        canary.to_owned(),
        hex(canary.as_bytes()),
        // A part that does not depend on what stands before it.
        STANDARD.encode(canary).chars().take(20).collect(),
        bytes.trim_matches(['[', ']']).to_owned(),
    ]
}

#[derive(Debug, Default)]
struct Search {
    /// Signatures that were made on the way.
    proofs: Vec<String>,
    texts: usize,
    bytes: usize,
}

impl Search {
    /// Fails if a text holds a canary.
    #[track_caller]
    fn assert_absent(&mut self, place: &str, text: &str) {
        self.texts += 1;
        self.bytes += text.len();
        let key = private_key()
            .lines()
            .filter(|line| !line.contains("---") && line.len() > 16);
        let planted = PLANTED.iter().flat_map(|canary| forms(canary));
        let all = planted
            .chain(self.proofs.iter().cloned())
            .chain(key.map(str::to_owned));
        for canary in all {
            if text.contains(&canary) {
                let mut lines = text.lines();
                let line = lines
                    .find(|line| line.contains(&canary))
                    .unwrap_or_default();
                let line: String = line.chars().take(1500).collect();
                panic!("{place} holds {canary}: {line}");
            }
        }
    }
}

fn sources() -> String {
    let whsec = format!("whsec_{}", STANDARD.encode(STANDARD_WEBHOOKS));
    format!(
        r#"
[sources.github]
provider = "github"
secrets = [{{ value = "{SIGNING}", label = "new" }}, {{ value = "{ROTATED}", label = "old" }}]
schema = "push.json"
on_invalid = "reject"

[sources.open]
provider = "github"
secrets = [{{ value = "{SIGNING}", label = "new" }}]
enforce = false
schema = "push.json"
on_invalid = "quarantine"

[sources.standard]
provider = "standard-webhooks"
secrets = [{{ value = "{whsec}", label = "whsec" }}]

[sources.token]
secrets = [{{ value = "{TOKEN}", label = "header" }}, {{ value = "{QUERY_TOKEN}", label = "query" }}]
verify = {{ algorithm = "token", signature = ["header:X-Token", "query:token"] }}

[sources.basic]
secrets = [{{ value = "user:{PASSWORD}", label = "pair" }}]
verify = {{ algorithm = "basic" }}

[sources.meta]
provider = "meta"
secrets = [{{ value = "{SIGNING}", label = "app" }}]
config = {{ verify_token = "{VERIFY_TOKEN}" }}
"#
    )
}

const SCHEMA: &[u8] = br#"{"type":"object","properties":{"after":{"type":"string","maxLength":8},
    "no":{"pattern":"^x$"},"one":{"enum":[1,2]}},"required":["after"]}"#;

/// A gateway with every canary in it, at a level of logging.
fn setup(level: &str) -> Setup {
    Setup::new()
        .environment("RUST_LOG", level)
        .environment("RUST_BACKTRACE", "1")
        .file("push.json", SCHEMA)
        .sources(&sources())
}

fn with_admin_token(gateway: &Gateway) {
    let line = format!("[admin]\ntoken = {{ value = \"{ADMIN_TOKEN}\" }}\n");
    gateway.edit(|text| text.replace("[admin]\n", &line));
}

fn github(path: &str, secret: &str, body: &str, proofs: &mut Vec<String>) -> Webhook {
    let proof = hex(&hmac_sha256(secret.as_bytes(), body.as_bytes()));
    proofs.push(proof.clone());
    Webhook::bare(path, body.as_bytes())
        .with("X-GitHub-Event", "push")
        .with("X-GitHub-Delivery", &format!("id-{}", proofs.len()))
        .with("X-Hub-Signature-256", &format!("sha256={proof}"))
        .with("Authorization", &format!("Bearer {AUTHORIZATION}"))
        .with("Cookie", &format!("session={COOKIE}"))
}

/// Genuine, forged, broken and unwanted, each with what nobody may repeat.
fn webhooks(proofs: &mut Vec<String>) -> Vec<(Webhook, &'static [u16])> {
    let good = format!(r#"{{"after":"x","text":"{BODY}"}}"#);
    let invalid = format!(r#"{{"after":"{BODY}","no":"{BODY}","one":"{BODY}"}}"#);
    let malformed = format!(r#"{{"after":"x" {BODY}}}"#);
    let twice = format!(r#"{{"after":"{BODY}","after":"{BODY}"}}"#);
    let mut all: Vec<(Webhook, &'static [u16])> = Vec::new();
    for secret in [SIGNING, ROTATED] {
        all.push((github("/github", secret, &good, proofs), &[202]));
    }
    all.push((github("/github", SIGNING, &invalid, proofs), &[422]));
    all.push((github("/open", SIGNING, &invalid, proofs), &[202]));
    all.push((github("/github", SIGNING, &malformed, proofs), &[400]));
    all.push((github("/github", SIGNING, &twice, proofs), &[400]));
    all.push((github("/github", WRONG, &good, proofs), &[401]));
    all.push((github("/open", WRONG, &good, proofs), &[202]));
    all.push((
        github("/github", SIGNING, &good, proofs).with("Content-Encoding", "gzip"),
        &[415],
    ));
    all.push((
        github(
            &format!("/nowhere?token={QUERY_TOKEN}"),
            SIGNING,
            &good,
            proofs,
        ),
        &[404],
    ));
    let id = "msg_1";
    let at = unix_now();
    let signed = format!("{id}.{at}.{good}");
    let proof = STANDARD.encode(hmac_sha256(STANDARD_WEBHOOKS.as_bytes(), signed.as_bytes()));
    proofs.push(proof.clone());
    let standard = Webhook::bare("/standard", good.as_bytes())
        .with("webhook-id", id)
        .with("webhook-timestamp", &at.to_string())
        .with("webhook-signature", &format!("v1,{proof}"));
    all.push((standard.clone().with("webhook-timestamp", "1"), &[401]));
    all.push((standard, &[200, 202, 204]));
    for (token, status) in [(TOKEN, &[202_u16][..]), (WRONG, &[401])] {
        let webhook = Webhook::bare("/token", good.as_bytes()).with("X-Token", token);
        all.push((webhook, status));
    }
    for (token, status) in [(QUERY_TOKEN, &[202_u16][..]), (WRONG, &[401])] {
        let path = format!("/token?token={token}&more={BODY}");
        all.push((Webhook::bare(&path, good.as_bytes()), status));
    }
    for (password, status) in [(PASSWORD, &[202_u16][..]), (WRONG, &[401])] {
        let pair = format!("Basic {}", STANDARD.encode(format!("user:{password}")));
        let webhook = Webhook::bare("/basic", good.as_bytes()).with("Authorization", &pair);
        all.push((webhook, status));
    }
    for (token, status) in [
        (VERIFY_TOKEN, &[200_u16][..]),
        (WRONG, &[400, 401, 403, 404, 405]),
    ] {
        let path = format!("/meta?hub.mode=subscribe&hub.verify_token={token}&hub.challenge=17");
        let webhook = Webhook::bare(&path, b"")
            .without("Content-Type")
            .method("GET");
        all.push((webhook, status));
    }
    all
}

/// Sends all of them over both versions of HTTP, and looks at the answers.
async fn send_all(gateway: &Gateway, search: &mut Search) {
    for version in [Version::Http1, Version::Http2] {
        let mut client = gateway.connect(version).await;
        let webhooks = webhooks(&mut search.proofs);
        for (webhook, statuses) in webhooks {
            let answer = client.send(&webhook).await.expect("an answer");
            if answer.header("connection") == Some("close") {
                client = gateway.connect(version).await;
            }
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            let place = format!("{} {}", webhook.method, webhook.path);
            assert!(
                statuses.contains(&answer.status),
                "{place}: {} {body}",
                answer.status
            );
            search.assert_absent(&place, &format!("{:?}\n{body}", answer.headers));
        }
    }
}

/// Every page of the admin listener, with and without its token.
async fn read_admin(gateway: &Gateway, search: &mut Search) {
    let sender = Sender::plain(gateway.admin_address());
    let pages = [
        "/livez",
        "/readyz?verbose",
        "/metrics",
        "/version",
        "/api/v1/status",
        "/x",
    ];
    for page in pages {
        for token in [ADMIN_TOKEN, WRONG] {
            let request = Webhook::bare(&format!("{page}#{token}"), b"")
                .without("Content-Type")
                .method("GET")
                .with("Authorization", &format!("Bearer {token}"));
            let answer = sender.send(&request).await;
            let body = String::from_utf8_lossy(&answer.body);
            search.assert_absent(page, &format!("{:?}\n{body}", answer.headers));
        }
    }
}

/// The page of metrics, with the token.
async fn metrics(gateway: &Gateway) -> Metrics {
    let request = Webhook::bare("/metrics", b"")
        .without("Content-Type")
        .method("GET")
        .with("Authorization", &format!("Bearer {ADMIN_TOKEN}"));
    let answer = Sender::plain(gateway.admin_address()).send(&request).await;
    assert_eq!(answer.status, 200);
    Metrics::parse(&String::from_utf8(answer.body).expect("text"))
}

/// How many messages the broker gave back.
fn returned(metrics: &Metrics) -> f64 {
    metrics.sum("hookgate_publish_attempts_total", &[("result", "returned")])
}

/// Every command that reads the configuration, the journal, or saved requests.
async fn run_commands(gateway: &Gateway, search: &mut Search) {
    let mut files = Vec::new();
    for (n, (webhook, _)) in webhooks(&mut search.proofs).into_iter().enumerate() {
        let file = gateway.directory().join(format!("{n}.http"));
        std::fs::write(&file, webhook.http1()).expect("a file");
        files.push(file.to_str().expect("path").to_owned());
    }
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let commands = [
        vec!["check"],
        vec!["check", "--json"],
        vec!["journal", "status"],
        vec!["journal", "list"],
        vec!["journal", "list", "--json"],
        vec!["journal", "verify"],
        vec!["send", "github", "--type", "push"],
        vec!["send", "token", "--bad-signature", "--json"],
    ];
    for command in commands {
        let output = gateway.cli(&command).await;
        search.assert_absent(&command.join(" "), &said(&output));
    }
    for source in ["github", "open", "standard", "token", "basic", "meta"] {
        for json in [&[][..], &["--json"]] {
            let command = [&["explain", "--source", source], json, &files].concat();
            let output = gateway.cli(&command).await;
            search.assert_absent(&format!("explain {source}"), &said(&output));
        }
    }
    for command in [
        vec!["providers"],
        vec!["providers", "github"],
        vec!["version"],
    ] {
        let output = cli(&command, &[("RUST_LOG", "trace"), ("GITHUB", SIGNING)]).await;
        search.assert_absent(&command.join(" "), &said(&output));
    }
}

/// `hookgate tail`, following while `work` is done.
async fn tailing(gateway: &Gateway, json: bool) -> (tokio::process::Child, std::path::PathBuf) {
    let path = gateway.directory().join(format!("tail-{json}"));
    let file = std::fs::File::create(&path).expect("a file");
    let mut command = Command::new(PROGRAM);
    command.arg("tail").arg("-c").arg(gateway.config());
    if json {
        command.arg("--json");
    }
    let child = command
        .env("RUST_LOG", "trace")
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("a file"))
        .stderr(file)
        .kill_on_drop(true)
        .spawn()
        .expect("tail");
    // It has begun when it shows an event.
    let probe = Webhook::bare("/github", b"{}").with("X-GitHub-Event", "probe");
    eventually("tail to follow", || async {
        gateway.send(&probe).await;
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if text.contains("unverified") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
    (child, path)
}

/// An exchange that nothing is bound to, and without an alternate.
async fn declare_exchange(broker: &Broker, name: &str) {
    let connection = broker.connect().await.expect("connection");
    let channel = connection.create_channel().await.expect("channel");
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(
            name.into(),
            ExchangeKind::Topic,
            options,
            FieldTable::default(),
        )
        .await
        .expect("exchange");
}

/// Whatever is asked of the log, down to every frame of the broker's client.
const LEVELS: [&str; 6] = [
    "error",
    "warn",
    "info",
    "debug",
    "trace",
    "trace,lapin=trace,lapin::io_loop=trace,amq_protocol=trace,h2=trace,hyper=trace,rustls=trace",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_comes_out() {
    let broker = broker::shared().await;
    let mut search = Search::default();
    for level in LEVELS {
        // To an exchange without queues, so that the broker returns every message: the client
        // library would print them.
        let gateway = setup(level)
            .broker(broker)
            .no_queues()
            .broker_lines("topology = \"ignore\"");
        let mut gateway = gateway.prepare();
        with_admin_token(&gateway);
        declare_exchange(broker, gateway.exchange()).await;
        gateway.start().await;
        let tails = [
            tailing(&gateway, false).await,
            tailing(&gateway, true).await,
        ];
        send_all(&gateway, &mut search).await;
        read_admin(&gateway, &mut search).await;
        run_commands(&gateway, &mut search).await;
        for (mut tail, path) in tails {
            tail.kill().await.expect("kill");
            let text = std::fs::read_to_string(path).expect("text");
            search.assert_absent("tail", &text);
        }
        let last = metrics(&gateway).await;
        gateway.term();
        gateway.ended().await;
        assert!(level == "error" || !gateway.log().is_empty());
        search.assert_absent(&format!("the log at {level}"), &gateway.log());
        let returned = returned(&last);
        assert!(returned > 0.0, "the broker returned nothing at {level}");
    }
    // The broker refuses the password, again and again.
    for level in ["info", LEVELS[5]] {
        let mut gateway = setup(level).broker(broker).prepare();
        let wrong = format!("nobody:{BROKER_PASSWORD}@");
        gateway.edit(|text| text.replace("guest:guest@", &wrong));
        gateway.start().await;
        eventually("the password to be refused", || async {
            let log = gateway.log();
            if log.matches("ACCESS").count() + log.matches("broker").count() > 1 {
                Ok(())
            } else {
                Err(log)
            }
        })
        .await;
        let output = gateway.cli(&["check", "--broker"]).await;
        search.assert_absent("check --broker", &said(&output));
        send_all(&gateway, &mut search).await;
        gateway.term();
        gateway.ended().await;
        search.assert_absent("the log", &gateway.log());
    }
    // A configuration with mistakes in it is shown with its lines.
    let gateway = setup("trace").prepare();
    with_admin_token(&gateway);
    let mut mistakes = String::new();
    for (n, canary) in PLANTED.iter().enumerate() {
        let _infallible = write!(
            mistakes,
            "\n[sources.m{n}]\nsecrets = [{{ valeu = \"{canary}\" }}, \"{canary}\"]\nverify = \"x\"\n"
        );
    }
    gateway.edit(|text| text + &mistakes);
    for command in [&["check"][..], &["check", "--json"], &["run"]] {
        let output = gateway.cli(command).await;
        assert_eq!(output.status.code(), Some(78));
        search.assert_absent("a bad configuration", &said(&output));
    }
    Row::new("X11")
        .saw("canaries", PLANTED.len() + 2)
        .saw("proofs", search.proofs.len())
        .saw("texts", search.texts)
        .saw("KiB", search.bytes / 1024)
        .saw("hits", 0)
        .write();
}
