//! Handshakes over TLS, and the secrets that come in them: until a signed event is in RabbitMQ.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::balance::balance;
use crate::support::broker::{self, Message};
use crate::support::gateway::{Gateway, Setup, said};
use crate::support::sender::{Answer, Sender, Version};
use crate::support::webhook::{Webhook, hex, hmac_sha256};

const FIRST: &str = "b537207f20cbfa02357cf448134da559";
const SECOND: &str = "c648318a31dcab13468da559b5372070";
const TOKEN: &str = "secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl";

/// Asana and Notion, each waiting for its secret.
const ENROLLED: &str = "[sources.asana]\nprovider = \"asana\"\nsecrets = \"enrolled\"\n\
                        [sources.notion]\nprovider = \"notion\"\nsecrets = \"enrolled\"\n";

/// What Asana sends when somebody creates a webhook.
fn asana_handshake(secret: &str) -> Webhook {
    Webhook::bare("/asana", b"{}").with("X-Hook-Secret", secret)
}

fn asana_event(secret: &str, gid: u32) -> Webhook {
    let body = format!(r#"{{"events":[{{"action":"changed","resource":{{"gid":"{gid}"}}}}]}}"#);
    let proof = hex(&hmac_sha256(secret.as_bytes(), body.as_bytes()));
    Webhook::bare("/asana", body.as_bytes()).with("X-Hook-Signature", &proof)
}

fn notion_handshake() -> Webhook {
    let body = format!(r#"{{"verification_token":"{TOKEN}"}}"#);
    Webhook::bare("/notion", body.as_bytes())
}

fn notion_event() -> Webhook {
    let body = br#"{"id":"n-1","type":"page.created","attempt_number":1}"#;
    let proof = hex(&hmac_sha256(TOKEN.as_bytes(), body));
    Webhook::bare("/notion", body).with("X-Notion-Signature", &format!("sha256={proof}"))
}

async fn enroll(gateway: &Gateway, arguments: &[&str]) -> String {
    let output = gateway.cli(&[&["enroll"], arguments].concat()).await;
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn file(gateway: &Gateway, source: &str) -> PathBuf {
    let folder = gateway.directory().join("journal/enrolled");
    folder.join(format!("{source}.json"))
}

#[track_caller]
fn assert_echoed(answer: &Answer, secret: &str) {
    assert_eq!(
        (answer.status, &*answer.body),
        (200, &b""[..]),
        "{answer:?}"
    );
    assert_eq!(answer.header("x-hook-secret"), Some(secret));
}

#[tokio::test]
async fn secrets_come_in_a_handshake_while_an_operator_waits_for_them() {
    let broker = broker::shared().await;
    let mut gateway = Setup::new().broker(broker).sources(ENROLLED).start().await;
    let queue = gateway.consume(broker).await;

    // Nobody waits: handshakes and events are refused alike.
    for webhook in [
        asana_handshake(FIRST),
        asana_event(FIRST, 1),
        notion_handshake(),
        notion_event(),
    ] {
        let answer = gateway.send(&webhook).await;
        assert_eq!(answer.status, 401, "{webhook:?}");
        assert_eq!(answer.header("x-hook-secret"), None);
    }
    assert!(!file(&gateway, "asana").try_exists().unwrap());

    let unknown = gateway.cli(&["enroll", "nosuch"]).await;
    let told = "there is no such source; secrets are enrolled for asana, notion";
    assert!(said(&unknown).contains(told), "{}", said(&unknown));
    let opened = enroll(&gateway, &["asana"]).await;
    assert!(opened.contains("hookgate enroll --list"), "{opened}");
    enroll(&gateway, &["notion", "--for", "1h"]).await;
    assert!(
        enroll(&gateway, &["--list"]).await.contains("20"),
        "a window"
    );
    assert_echoed(&gateway.send(&asana_handshake(FIRST)).await, FIRST);
    assert_eq!(gateway.send(&notion_handshake()).await.status, 200);
    for source in ["asana", "notion"] {
        let mode = file(&gateway, source).metadata().unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }
    assert_eq!(
        enroll(&gateway, &["notion", "--show"]).await,
        format!("{TOKEN}\n")
    );

    // Frozen: another one is refused, and the same one is only asked for again.
    assert_eq!(gateway.send(&asana_handshake(SECOND)).await.status, 401);
    assert_echoed(&gateway.send(&asana_handshake(FIRST)).await, FIRST);
    assert_eq!(gateway.send(&asana_event(FIRST, 1)).await.status, 200);
    assert_eq!(gateway.send(&notion_event()).await.status, 200);
    let messages = queue.wait_for(2).await;
    for message in &messages {
        assert_eq!(message.must("hookgate_verified"), "full");
        assert_eq!(message.must("hookgate_key"), "enrolled-1");
    }
    assert_eq!(messages[0].routing_key, "asana.changed");
    assert_eq!(messages[1].routing_key, "notion.page.created");

    gateway.kill9();
    gateway.start().await;
    assert_eq!(gateway.send(&asana_handshake(SECOND)).await.status, 401);
    assert_eq!(gateway.send(&asana_event(FIRST, 2)).await.status, 200);

    // The next one: the former counts beside it, so that nobody is locked out by a stranger who
    // was faster.
    enroll(&gateway, &["asana"]).await;
    assert_echoed(&gateway.send(&asana_handshake(SECOND)).await, SECOND);
    assert_eq!(gateway.send(&asana_event(FIRST, 3)).await.status, 200);
    assert_eq!(gateway.send(&asana_event(SECOND, 4)).await.status, 200);
    assert_eq!(gateway.send(&asana_event(FIRST, 5)).await.status, 200);
    // After a kill, what was published may be published once more.
    let key_of = |messages: &[Message], gid: &str| {
        let mut of_event = messages.iter();
        let found = of_event.find(|it| String::from_utf8_lossy(&it.body).contains(gid));
        found.map(|message| message.must("hookgate_key"))
    };
    queue
        .wait_until("the last event", |messages| {
            key_of(messages, r#""4""#).is_some()
        })
        .await;
    let messages = queue.seen();
    assert_eq!(key_of(&messages, r#""3""#).as_deref(), Some("enrolled-1"));
    assert_eq!(key_of(&messages, r#""4""#).as_deref(), Some("enrolled-2"));

    let page = gateway.admin("/metrics").await;
    let page = String::from_utf8(page.body).unwrap();
    assert!(page.contains("enrolment_closed"), "{page}");
    let status = gateway.admin("/api/v1/status").await.json().to_string();
    assert!(status.contains("enrolled-2"), "{status}");
    for secret in [FIRST, SECOND, TOKEN] {
        for text in [&page, &status, &gateway.log(), &gateway.stdout()] {
            assert!(!text.contains(secret), "a secret is shown:\n{text}");
        }
    }
    assert!(gateway.log().contains("a secret was enrolled"));

    let said = enroll(&gateway, &["asana", "--forget"]).await;
    assert!(said.contains("enrolled-1 counts again"), "{said}");
    assert_eq!(gateway.send(&asana_event(SECOND, 6)).await.status, 401);
    assert_eq!(gateway.send(&asana_event(FIRST, 7)).await.status, 200);
    enroll(&gateway, &["asana", "--forget"]).await;
    assert_eq!(gateway.send(&asana_event(FIRST, 8)).await.status, 401);
    let forgotten = [("reason", "not_enrolled")];
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("hookgate_refusals_total", &forgotten), 1.0);
    balance(&gateway).await;
}

#[tokio::test]
async fn an_operator_ends_a_window() {
    let gateway = Setup::new().sources(ENROLLED).start().await;
    enroll(&gateway, &["asana"]).await;
    enroll(&gateway, &["asana", "--close"]).await;
    assert_eq!(gateway.send(&asana_handshake(FIRST)).await.status, 401);
    // What it was opened for can still come, if somebody opens it again.
    enroll(&gateway, &["asana", "--for", "1m"]).await;
    assert_echoed(&gateway.send(&asana_handshake(FIRST)).await, FIRST);
    balance(&gateway).await;
}

#[tokio::test]
async fn a_secret_that_cannot_be_stored_is_not_taken() {
    let gateway = Setup::new().sources(ENROLLED).start().await;
    enroll(&gateway, &["asana"]).await;
    let in_the_way = file(&gateway, "asana").with_file_name(".asana.new");
    std::fs::create_dir(&in_the_way).unwrap();
    let answer = gateway.send(&asana_handshake(FIRST)).await;
    assert_eq!((answer.status, answer.header("x-hook-secret")), (503, None));
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.rejected("asana", "secret_not_stored"), 1.0);
    std::fs::remove_dir(&in_the_way).unwrap();
    assert_echoed(&gateway.send(&asana_handshake(FIRST)).await, FIRST);
    balance(&gateway).await;
}

/// Whenever the process dies, the provider's next try ends well, and with the same secret.
#[tokio::test]
async fn a_kill_amid_a_handshake_leaves_it_done_or_undone() {
    let mut gateway = Setup::new().sources(ENROLLED).start().await;
    for round in 0..6_u64 {
        enroll(&gateway, &["asana", "--forget"]).await;
        enroll(&gateway, &["asana"]).await;
        let sender = gateway.sender();
        let handshake = asana_handshake(FIRST);
        let mut client = sender.connect(Version::Http1).await.unwrap();
        let sent = tokio::spawn(async move { client.send(&handshake).await });
        // From before the request is there to after it is answered.
        tokio::time::sleep(Duration::from_millis(round * 2)).await;
        gateway.kill9();
        let answer = sent.await.unwrap();
        gateway.start().await;
        if answer.is_ok() {
            let written = std::fs::read_to_string(file(&gateway, "asana")).unwrap();
            assert!(written.contains(FIRST), "round {round}: {written}");
        }
        assert_echoed(&gateway.send(&asana_handshake(FIRST)).await, FIRST);
        assert_eq!(gateway.send(&asana_handshake(SECOND)).await.status, 401);
        let event = asana_event(FIRST, u32::try_from(round).unwrap());
        assert_eq!(gateway.send(&event).await.status, 200, "round {round}");
    }
}

#[tokio::test]
async fn only_an_operator_opens_a_window_and_only_where_one_is_meant_to_be() {
    let configured = "[sources.other]\nprovider = \"asana\"\n\
                      secrets = [{ value = \"b537207f20cbfa02357cf448134da558\" }]\n";
    let sources = format!("{ENROLLED}{configured}");
    let gateway = Setup::new().sources(&sources).start().await;
    let output = gateway.cli(&["enroll", "other"]).await;
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));

    let admin = Sender::plain(gateway.admin_address());
    let ask = async |method: &str, query: &str, consent: bool| {
        let path = format!("/api/v1/enroll{query}");
        let webhook = Webhook::bare(&path, b"")
            .without("Content-Type")
            .method(method);
        let webhook = match consent {
            true => webhook.with("Hookgate-Admin", "1"),
            false => webhook,
        };
        admin.send(&webhook).await.status
    };
    let good = "?source=asana&for_seconds=60";
    assert_eq!(ask("POST", good, false).await, 403);
    assert_eq!(ask("PUT", good, true).await, 405);
    assert_eq!(ask("GET", good, true).await, 200);
    assert_eq!(ask("POST", "?source=asana", true).await, 400);
    assert_eq!(
        ask("POST", "?source=asana&for_seconds=86401", true).await,
        400
    );
    assert_eq!(
        ask("POST", "?source=nobody&for_seconds=60", true).await,
        404
    );
    assert_eq!(ask("POST", "?source=other&for_seconds=60", true).await, 409);
    for handshake in [
        asana_handshake(FIRST),
        at("/other", &asana_handshake(FIRST)),
    ] {
        assert_eq!(
            gateway.send(&handshake).await.status,
            401,
            "nothing has changed"
        );
    }
    assert_eq!(ask("POST", good, true).await, 200);
    assert_echoed(&gateway.send(&asana_handshake(FIRST)).await, FIRST);
}

fn at(path: &str, webhook: &Webhook) -> Webhook {
    Webhook {
        path: path.to_owned(),
        ..webhook.clone()
    }
}

/// A preset with a secret that is none.
fn source(name: &str, provider: &str, more: &str) -> String {
    format!(
        "[sources.{name}]\nprovider = \"{provider}\"\nsecrets = [{{ value = \"s3cr3t\" }}]\n{more}\n"
    )
}

#[tokio::test]
async fn methods_that_bring_no_events_are_answered_by_rule() {
    let allowed = "config = { allowed_origins = \"eventemitter.example.com\" }";
    let verify_token = "config = { verify_token = \"t0ken\" }";
    let fastly = "config = { service_id = \"7i6HN3TK9wS159v2gPAZ8A\" }";
    let sources = [
        source("ce", "cloudevents_http_webhook", allowed),
        source("trello", "trello", ""),
        source("mandrill", "mandrill", ""),
        source("meta", "meta", verify_token),
        source("fastly", "fastly_logging", fastly),
        source("xero", "xero", ""),
        source("woo", "woocommerce", ""),
    ];
    let gateway = Setup::new()
        .server("public_url = \"https://hooks.example.com\"")
        .sources(&sources.concat())
        .start()
        .await;
    let bare = |method: &str, path: &str| {
        let webhook = Webhook::bare(path, b"").without("Content-Type");
        webhook.method(method)
    };
    let with_origin = |origin: &str| bare("OPTIONS", "/ce").with("WebHook-Request-Origin", origin);
    for version in [Version::Http1, Version::Http2] {
        let mut client = gateway.connect(version).await;
        let mut send = async |webhook: &Webhook| client.send(webhook).await.unwrap();

        let answer = send(&with_origin("eventemitter.example.com")).await;
        assert_eq!(answer.status, 200);
        let origin = answer.header("webhook-allowed-origin");
        assert_eq!(origin, Some("eventemitter.example.com"));
        assert_eq!(answer.header("webhook-allowed-rate"), Some("*"));
        assert_eq!(answer.header("allow"), Some("POST"));
        let answer = send(&with_origin("evil.example")).await;
        assert_eq!(answer.status, 405);
        assert_eq!(answer.header("webhook-allowed-origin"), None);

        for path in ["/trello", "/mandrill"] {
            let answer = send(&bare("HEAD", path)).await;
            assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
            let answer = send(&bare("PUT", path)).await;
            assert_eq!(answer.status, 405);
            assert_eq!(answer.header("allow"), Some("POST, HEAD"));
        }

        let challenge = "/.well-known/fastly/logging/challenge";
        let answer = send(&bare("GET", challenge)).await;
        assert_eq!((answer.status, answer.body.len()), (200, 65), "{answer:?}");
        assert_eq!(send(&bare("POST", challenge)).await.status, 405);

        let meta = "/meta?hub.mode=subscribe&hub.challenge=115820&hub.verify_token=";
        let answer = send(&bare("GET", &format!("{meta}t0ken"))).await;
        assert_eq!((answer.status, &*answer.body), (200, &b"115820"[..]));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(send(&bare("GET", &format!("{meta}t0ke"))).await.status, 403);

        let forged = Webhook::bare("/xero", b"{\"events\":[]}").with("x-xero-signature", "AAAA");
        let answer = send(&forged).await;
        assert_eq!((answer.status, answer.body.len()), (401, 0), "{answer:?}");
        assert_eq!(answer.header("set-cookie"), None);

        let ping = Webhook::bare("/woo", b"webhook_id=12").without("Content-Type");
        let ping = ping.with("Content-Type", "application/x-www-form-urlencoded");
        assert_eq!(send(&ping).await.status, 200);
    }
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.rejected("meta", "handshake_refused"), 2.0);
    assert_eq!(metrics.sum("hookgate_handshake_total", &[]), 12.0);
    assert_eq!(metrics.sum("hookgate_journal_waiting", &[]), 0.0);
    balance(&gateway).await;
}

/// What the program says of each saved handshake, beside what it answers them.
#[tokio::test]
async fn explain_says_of_each_saved_handshake_what_becomes_of_it() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/handshakes.json");
    let pairs: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut files = Vec::new();
    let mut sources = String::new();
    for pair in pairs.as_array().unwrap() {
        // Those that have to be signed at a certain moment, or to find keys elsewhere, are the unit
        // tests'.
        let is_elsewhere = pair["evidence"].is_string();
        if pair["signed"] == true || pair["window"] == true || is_elsewhere {
            continue;
        }
        // A challenge at the host's root can be one source's only.
        if pair["provider"] == "fastly_logging" && sources.contains("fastly_logging") {
            continue;
        }
        let word = |key: &str| pair[key].as_str().unwrap_or_default().to_owned();
        let name = word("id").to_lowercase();
        let url: http::Uri = word("url").parse().unwrap();
        // Each to its own source's path, but for a challenge at the host's root.
        let path = match url.path() {
            root if root.starts_with("/.well-known/") => root.to_owned(),
            _ => format!("/{name}"),
        };
        let query = url.query().map(|query| format!("?{query}"));
        let target = path + &query.unwrap_or_default();
        let mut head = format!("{} {target} HTTP/1.1\r\n", word("method"));
        for (name, value) in pair["headers"].as_object().unwrap() {
            head.push_str(&format!("{name}: {}\r\n", value.as_str().unwrap()));
        }
        let body = base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            word("body_base64"),
        );
        let request = [format!("{head}\r\n").into_bytes(), body.unwrap()].concat();
        let file = format!("requests/{name}");
        let provider = match word("provider") {
            none if none.is_empty() => String::new(),
            provider => format!("provider = \"{provider}\"\n"),
        };
        let is_enrolled = provider.contains("asana") || provider.contains("notion");
        let secrets = match word("secret") {
            _ if is_enrolled => "secrets = \"enrolled\"\n".to_owned(),
            none if none.is_empty() => String::new(),
            secret => format!("secrets = [{{ value = {secret:?} }}]\n"),
        };
        sources.push_str(&format!(
            "[sources.{name}]\n{provider}{secrets}[sources.{name}.config]\n"
        ));
        for (key, value) in pair["config"].as_object().into_iter().flatten() {
            sources.push_str(&format!("{key} = {value}\n"));
        }
        let rule = word("rule").replace("sources.one", &format!("sources.{name}"));
        sources.push_str(&rule);
        files.push((name, file, request, pair["status"].as_u64().unwrap()));
    }
    let mut setup = Setup::new().server("public_url = \"https://hooks.example.com\"");
    for (_, file, request, _) in &files {
        setup = setup.file(file, request);
    }
    let gateway = setup.sources(&sources).prepare();
    assert!(files.len() > 40, "{}", files.len());
    for (name, file, _, status) in &files {
        let file = gateway.directory().join(file);
        let file = file.to_str().unwrap();
        let output = gateway
            .cli(&[
                "explain",
                "--source",
                name,
                "--json",
                "--at",
                "1760000000",
                file,
            ])
            .await;
        let line: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{name}: {error}: {}", said(&output)));
        assert_eq!(line["status"].as_u64(), Some(*status), "{name}: {line}");
        assert_eq!(output.status.success(), *status < 300, "{name}: {line}");
    }
}
