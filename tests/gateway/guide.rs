//! From nothing to a first event, and what a provider gets to hear, with the real program.

use serde_json::Value;

use crate::support::balance::balance;
use crate::support::broker;
use crate::support::gateway::{Setup, cli, said, source};
use crate::support::webhook::Webhook;

const SECRET: &str = "4cbf5d9a7a9ff3dc1a2f3e4d5c6b7a8990a1b2c3d4e5f60718293a4b5c6d7e8f";

#[tokio::test]
async fn init_writes_what_check_finds_good_and_never_twice() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("gateway").display().to_string();
    let config = format!("{directory}/gateway.toml");
    let init = ["init", "--provider", "stripe,github", "--dir", &directory];
    let first = cli(&init, &[]).await;
    let text = said(&first);
    assert_eq!(first.status.code(), Some(0), "{text}");
    for name in ["AMQP_URL", "STRIPE_SECRET", "GITHUB_SECRET", "hookgate run"] {
        assert!(text.contains(name), "no {name}: {text}");
    }
    let check = ["check", "-c", &config];
    let without = cli(&check, &[]).await;
    assert_eq!(without.status.code(), Some(78), "{}", said(&without));
    let environment = [
        ("AMQP_URL", "amqp://127.0.0.1"),
        ("STRIPE_SECRET", "whsec_x"),
        ("GITHUB_SECRET", SECRET),
    ];
    let with = cli(&check, &environment).await;
    assert_eq!(with.status.code(), Some(0), "{}", said(&with));
    let again = cli(&init, &[]).await;
    assert_eq!(again.status.code(), Some(73), "{}", said(&again));
    let unknown = cli(&["init", "--provider", "githb", "--dir", "/nowhere"], &[]).await;
    assert_eq!(unknown.status.code(), Some(2), "{}", said(&unknown));
    assert!(said(&unknown).contains("`github`"), "{}", said(&unknown));
}

/// `hookgate send` plays each of them; the answers are what their documentation asks for.
#[tokio::test]
async fn providers_hear_what_they_need_to() {
    let answers = [
        ("adyen-item", 200, "[accepted]"),
        ("mailgun", 200, ""),
        ("quickbooks", 200, ""),
        ("slack", 200, ""),
        ("telegram", 200, ""),
        ("twilio-form", 200, ""),
        ("xero", 200, ""),
    ];
    let sources: String = answers
        .iter()
        .map(|(name, ..)| {
            format!(
                "[sources.{name}]\nprovider = \"{name}\"\nsecrets = [{{ value = \"{SECRET}\" }}]\n"
            )
        })
        .collect();
    let gateway = Setup::new()
        .server("public_url = \"https://hooks.example.com\"")
        .sources(&sources)
        .start()
        .await;
    for (name, status, body) in answers {
        let output = gateway.cli(&["send", name, "--json"]).await;
        assert_eq!(output.status.code(), Some(0), "{name}: {}", said(&output));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["status"], status, "{name}: {answer}");
        // `[accepted]` is no JSON.
        assert_eq!(answer["answer"], body, "{name}: {answer}");
        let spoiled = ["send", name, "--json", "--bad-signature"];
        let output = gateway.cli(&spoiled).await;
        assert_eq!(output.status.code(), Some(1), "{name}: {}", said(&output));
    }
    balance(&gateway).await;
}

/// GitHub never sends again, so its preset keeps what is genuine and cannot be read.
#[tokio::test]
async fn what_a_provider_would_not_send_again_goes_to_quarantine() {
    let broker = broker::shared().await;
    let lines = "on_invalid = \"quarantine\"";
    let gateway = Setup::new()
        .broker(broker)
        .sources(&source("github", "github", lines))
        .start()
        .await;
    gateway.consume(broker).await;
    let quarantine = broker
        .consume(&format!("{}.quarantine", gateway.exchange()))
        .await;
    let broken = Webhook::github("/github", "push", "broken", b"{\"after\":");
    assert_eq!(gateway.send(&broken).await.status, 202);
    let forged = Webhook::github("/github", "push", "forged", b"{\"after\":")
        .with("X-Hub-Signature-256", "sha256=00");
    assert_eq!(gateway.send(&forged).await.status, 401);
    let messages = quarantine.wait_for(1).await;
    assert_eq!(messages[0].body, broken.body);
    assert_eq!(messages[0].must("hookgate_event_id"), "broken");
    let reason = messages[0].must("hookgate_quarantine");
    assert!(reason.contains("line 1, column 9"), "{reason}");
    balance(&gateway).await;
}

#[tokio::test]
async fn send_asks_for_a_host_where_no_other_is_served() {
    let setup = Setup::new().tls("unknown_name = \"refuse\"");
    let gateway = setup.start().await;
    let output = gateway.cli(&["send", "github"]).await;
    assert_eq!(output.status.code(), Some(69), "{}", said(&output));
    let output = gateway
        .cli(&["send", "github", "--host", "localhost"])
        .await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[tokio::test]
async fn the_journal_is_read_without_the_sources_secrets() {
    let sources = "[sources.github]\nprovider = \"github\"\nsecrets = [{ env = \"NOT_HERE\" }]\n";
    let setup = Setup::new().sources(sources);
    let mut gateway = setup.environment("NOT_HERE", SECRET).start().await;
    let config = gateway.config().display().to_string();
    let send = ["send", "github", "-c", &config];
    let output = cli(&send, &[("NOT_HERE", SECRET)]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    gateway.term();
    gateway.ended().await;

    let (config, journal) = (gateway.config(), gateway.directory().join("journal"));
    let (config, journal) = (config.display().to_string(), journal.display().to_string());
    let without = cli(&["check", "-c", &config], &[]).await;
    assert_eq!(without.status.code(), Some(78), "{}", said(&without));
    let listed = cli(&["journal", "list", "--waiting", "-c", &config], &[]).await;
    assert_eq!(listed.status.code(), Some(0), "{}", said(&listed));
    assert!(said(&listed).contains("waiting"), "{}", said(&listed));
    for place in [&[][..], &["--path", &journal]] {
        let replay = [&["replay", "--source", "gihub", "-c", &config], place].concat();
        let output = cli(&replay, &[]).await;
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("\"gihub\""), "{text}");
    }
}

#[tokio::test]
async fn the_page_of_providers_is_as_new_as_their_files() {
    let page = cli(&["providers", "--markdown"], &[]).await;
    assert_eq!(page.status.code(), Some(0), "{}", said(&page));
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/providers.md");
    let kept = std::fs::read(path).unwrap_or_default();
    assert!(
        page.stdout == kept,
        "deploy/providers.md is older than src/providers: `make providers` writes it anew"
    );
}
