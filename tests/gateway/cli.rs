//! The command line: what each subcommand prints and how it exits.

use serde_json::Value;

use crate::support::balance::balance;
use crate::support::broker;
use crate::support::eventually::eventually;
use crate::support::gateway::{Gateway, PROGRAM, Setup, cli, said, source};
use crate::support::webhook::{Webhook, unix_now};

fn push(id: &str) -> Webhook {
    Webhook::github("/github", "push", id, br#"{"after":"6113728f"}"#)
}

/// Exits as it should, and talks only where it should.
async fn exits(gateway: &Gateway, arguments: &[&str], code: i32) -> String {
    let output = gateway.cli(arguments).await;
    let said = said(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Standard output as JSON: one document, or one a line.
#[track_caller]
fn json(text: &str) -> Vec<Value> {
    let documents: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text)
        .into_iter()
        .collect();
    match documents {
        Ok(documents) => documents
            .into_iter()
            .flat_map(|document| match document {
                Value::Array(items) => items,
                other => vec![other],
            })
            .collect(),
        Err(error) => panic!("{error}: {text}"),
    }
}

#[tokio::test]
async fn exit_2_on_usage() {
    for arguments in [
        ["no-such-command"].as_slice(),
        &["run", "--no-such-option"],
        &["send"],
    ] {
        let output = cli(arguments, &[]).await;
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            said(&output)
        );
    }
}

#[tokio::test]
async fn exit_78_on_configuration() {
    let gateway = Setup::new().prepare();
    gateway.edit(|text| format!("{text}\n[sources.open]\n"));
    for arguments in [["run"].as_slice(), &["check"]] {
        exits(&gateway, arguments, 78).await;
    }
    let output = cli(&["run", "-c", "/nowhere/gateway.toml"], &[]).await;
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
}

#[tokio::test]
async fn exit_73_when_an_address_is_taken_or_a_directory_cannot_be() {
    let first = Setup::new().start().await;
    let second = Setup::new().prepare();
    let taken = format!("listen = [\"{}\"]", first.address());
    second.edit(|text| {
        let lines = text.lines().map(|line| {
            if line.starts_with("listen = [") {
                taken.as_str()
            } else {
                line
            }
        });
        lines.collect::<Vec<_>>().join("\n")
    });
    exits(&second, &["run"], 73).await;

    // The journal of a gateway that runs is locked.
    let third = Setup::new().prepare();
    let locked = format!("path = \"{}\"", first.directory().join("journal").display());
    third.edit(|text| text.replace("path = \"journal\"", &locked));
    exits(&third, &["run"], 73).await;
}

#[tokio::test]
async fn exit_69_when_nobody_answers() {
    let gateway = Setup::new().prepare();
    for arguments in [["tail"].as_slice(), &["send", "github"]] {
        exits(&gateway, arguments, 69).await;
    }
}

#[tokio::test]
async fn version_providers_and_help() {
    let output = cli(&["version"], &[]).await;
    let said_version = said(&output);
    assert_eq!(output.status.code(), Some(0), "{said_version}");
    assert!(
        said_version.contains(env!("CARGO_PKG_VERSION")),
        "{said_version}"
    );
    let output = cli(&["providers"], &[]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    for name in ["github", "stripe", "shopify", "slack"] {
        assert!(text.contains(name), "no {name}: {text}");
    }
    let output = cli(&["providers", "github"], &[]).await;
    assert!(String::from_utf8_lossy(&output.stdout).contains("X-Hub-Signature-256"));
    let output = cli(&["providers", "gihub"], &[]).await;
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        said(&output).contains("hookgate providers"),
        "no way on: {}",
        said(&output)
    );
    let output = cli(&["--help"], &[]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    for name in ["run", "check", "send", "tail", "explain", "journal", "demo"] {
        assert!(text.contains(name), "no {name}: {text}");
    }
    assert!(!text.contains('\u{1b}'), "colours in a file");
}

#[tokio::test]
async fn send_signs_as_the_provider_would() {
    let sources = [
        source("github", "github", ""),
        source("stripe", "stripe", ""),
        source("shopify", "shopify", ""),
        source("slack", "slack", ""),
    ]
    .concat();
    let gateway = Setup::new().plain().sources(&sources).start().await;
    for name in ["github", "stripe", "shopify", "slack"] {
        exits(&gateway, &["send", name], 0).await;
        exits(&gateway, &["send", name, "--bad-signature"], 1).await;
    }
    for name in ["stripe", "slack"] {
        exits(&gateway, &["send", name, "--stale"], 1).await;
    }
    exits(
        &gateway,
        &["send", "github", "--type", "issues", "--count", "3"],
        0,
    )
    .await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("hookgate_accepted_total", &[]), 7.0);
    assert_eq!(metrics.rejected("github", "unverified"), 1.0);
    assert_eq!(metrics.rejected("stripe", "unverified"), 2.0);
    balance(&gateway).await;
    let output = gateway.cli(&["send", "gihub"]).await;
    assert_ne!(output.status.code(), Some(0));
    assert!(
        said(&output).contains("github"),
        "no suggestion: {}",
        said(&output)
    );
}

#[tokio::test]
async fn tail_shows_events_as_they_come() {
    let gateway = Setup::new().start().await;
    let output = gateway.directory().join("tail");
    let mut tail = tokio::process::Command::new(PROGRAM)
        .args(["tail", "--json", "-c"])
        .arg(gateway.config())
        .stdout(std::fs::File::create(&output).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut n = 0;
    eventually("both kinds of outcome to be shown", || {
        n += 1;
        let good = push(&format!("tail-{n}"));
        let bad = push("bad").without("X-Hub-Signature-256");
        let (gateway, output) = (&gateway, &output);
        async move {
            gateway.send(&good).await;
            gateway.send(&bad).await;
            let text = std::fs::read_to_string(output).unwrap();
            // A line may be half written yet.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let events = json(whole);
            let shown = |word: &str| events.iter().any(|event| event.to_string().contains(word));
            if shown("tail-") && shown("unverified") {
                Ok(())
            } else {
                Err(text)
            }
        }
    })
    .await;
    tail.kill().await.unwrap();
}

#[tokio::test]
async fn explain_judges_saved_requests_without_a_network() {
    let sources = [
        source("github", "github", ""),
        source("stripe", "stripe", ""),
    ]
    .concat();
    let good = push("good").http1();
    let bad = push("bad").with("X-Hub-Signature-256", "sha256=00").http1();
    let at = unix_now() - 100_000;
    let old = Webhook::stripe("/stripe", at, br#"{"id":"evt_1","type":"invoice.paid"}"#).http1();
    let gateway = Setup::new()
        .sources(&sources)
        .file("good.http", &good)
        .file("bad.http", &bad)
        .file("old.http", &old)
        .prepare();
    let file = |name: &str| gateway.directory().join(name).display().to_string();
    let (good, bad, old) = (file("good.http"), file("bad.http"), file("old.http"));
    let said = exits(
        &gateway,
        &["explain", "--source", "github", "--json", &good, &bad],
        1,
    )
    .await;
    let verdicts = json(&said);
    assert_eq!(verdicts.len(), 2, "{said}");
    assert_eq!(verdicts[0]["verdict"], "accept", "{said}");
    assert_eq!(verdicts[1]["verdict"], "reject", "{said}");
    assert_eq!(verdicts[1]["reason"], "signature_mismatch", "{said}");
    assert_eq!(verdicts[1]["file"], bad, "{said}");
    exits(&gateway, &["explain", "--source", "github", &good], 0).await;
    exits(&gateway, &["explain", "--source", "stripe", &old], 1).await;
    let at = at.to_string();
    exits(
        &gateway,
        &["explain", "--source", "stripe", "--at", &at, &old],
        0,
    )
    .await;
    let journal = gateway.directory().join("journal");
    assert!(!journal.try_exists().unwrap(), "explain wrote something");
}

#[tokio::test]
async fn the_journal_can_be_inspected() {
    let mut gateway = Setup::new().start().await;
    let answer = gateway.send(&push("first")).await;
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    gateway.send(&push("second")).await;
    gateway.term();
    gateway.ended().await;

    let status = json(&exits(&gateway, &["journal", "status", "--json"], 0).await);
    assert!(status[0].to_string().contains('2'), "{status:?}");
    let list = json(&exits(&gateway, &["journal", "list", "--json"], 0).await);
    assert_eq!(list.len(), 2, "{list:?}");
    assert!(list[0].to_string().contains(&id), "{list:?}");
    let shown = exits(&gateway, &["journal", "show", &id], 0).await;
    assert!(shown.contains("6113728f"), "{shown}");
    exits(
        &gateway,
        &["journal", "show", "01890000-0000-7000-8000-000000000000"],
        1,
    )
    .await;
    exits(&gateway, &["journal", "verify"], 0).await;

    // One byte in the middle of the first record.
    let segment = largest_file(&gateway.directory().join("journal"));
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes
        .windows(8)
        .position(|bytes| bytes == b"6113728f")
        .expect("the body");
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let output = gateway.cli(&["journal", "verify"]).await;
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let name = segment.file_name().unwrap().to_string_lossy();
    assert!(said.contains(&*name), "the file is not named: {said}");
}

fn largest_file(directory: &std::path::Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .max_by_key(|path| std::fs::metadata(path).unwrap().len())
        .expect("a file")
}

#[tokio::test]
async fn the_admin_pages() {
    let gateway = Setup::new().start().await;
    gateway.send(&push("x")).await;
    assert_eq!(gateway.admin("/livez").await.status, 200);
    let ready = gateway.admin("/readyz?verbose").await;
    assert_eq!(ready.status, 200);
    assert!(String::from_utf8_lossy(&ready.body).contains("journal"));
    assert_eq!(gateway.admin("/no-such-page").await.status, 404);
}

#[tokio::test]
async fn the_demo_shows_what_it_promises() {
    let broker = broker::shared().await;
    for environment in [[].as_slice(), &[("AMQP_URL", broker.url().as_str())]] {
        let output = cli(&["demo"], environment).await;
        let said = said(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        for word in ["accepted", "duplicate", "unverified", "schema_violated"] {
            assert!(said.contains(word), "no {word}: {said}");
        }
    }
}

/// With `topology = "ignore"` nobody else would notice before the first event.
#[tokio::test]
async fn check_finds_a_missing_exchange_that_nobody_declares() {
    let broker = broker::shared().await;
    let gateway = Setup::new()
        .broker(broker)
        .broker_lines("topology = \"ignore\"")
        .prepare();
    let check = ["check", "--broker"];
    let text = exits(&gateway, &check, 1).await;
    let missing = format!("error: exchange {}: it is not there", gateway.exchange());
    assert!(text.contains(&missing), "{text}");
    broker
        .declare_exchange(gateway.exchange(), lapin::ExchangeKind::Topic)
        .await;
    // Without the one for the quarantine most gateways do well.
    let text = exits(&gateway, &check, 0).await;
    let missing = format!(
        "note: exchange {}.quarantine: it is not",
        gateway.exchange()
    );
    assert!(text.contains(&missing), "{text}");
}
