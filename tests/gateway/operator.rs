//! What an operator asks of a gateway: what was turned away and why, and what was let through.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::support::balance::balance;
use crate::support::broker;
use crate::support::eventually::eventually;
use crate::support::gateway::{PROGRAM, Setup, cli, said, source};
use crate::support::webhook::Webhook;

const BODY: &[u8] = br#"{"after":"6113728f"}"#;

fn saved_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[tokio::test]
async fn what_is_refused_can_be_saved_and_explained() {
    let gateway = Setup::new().admin_token().start().await;
    let saved = gateway.directory().join("saved");
    let talk = gateway.directory().join("talk");
    let mut tail = tokio::process::Command::new(PROGRAM)
        .args(["tail", "--save"])
        .arg(&saved)
        .arg("-c")
        .arg(gateway.config())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&talk).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let said_so = |word: &'static str| {
        let talk = &talk;
        eventually("tail to say so", move || async move {
            let text = std::fs::read_to_string(talk).unwrap();
            if text.contains(word) {
                Ok(())
            } else {
                Err(text)
            }
        })
    };
    said_so("following").await;
    let good = Webhook::github("/github", "push", "good", BODY);
    let forged = good
        .clone()
        .with("X-Hub-Signature-256", &format!("sha256={:064}", 0));
    gateway.send(&good).await;
    gateway
        .send(&Webhook::github("/nobody", "push", "lost", BODY))
        .await;
    assert_eq!(gateway.send(&forged).await.status, 401);
    said_so("saved: hookgate explain --source github --at ").await;
    tail.kill().await.unwrap();

    let files = saved_in(&saved);
    let [file] = files.as_slice() else {
        panic!("{files:?}");
    };
    let mode = std::fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&talk).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("saved: hookgate "));
    let arguments: Vec<&str> = line.expect("the command").split(' ').collect();
    let explained = cli(&arguments, &[]).await;
    let text = said(&explained);
    assert_eq!(explained.status.code(), Some(1), "{text}");
    assert!(text.contains("reject (401 signature_mismatch)"), "{text}");
    assert!(text.contains("the body (20 bytes)"), "{text}");
    balance(&gateway).await;
}

/// Whole requests may hold credentials that work.
#[tokio::test]
async fn without_a_token_no_requests_are_saved() {
    let gateway = Setup::new().start().await;
    let answer = gateway.admin("/api/v1/tail?requests=1").await;
    assert_eq!(answer.status, 403);
    let saved = gateway.directory().join("saved");
    let tail = gateway
        .cli(&["tail", "--save", saved.to_str().unwrap()])
        .await;
    let text = said(&tail);
    assert_eq!(tail.status.code(), Some(78), "{text}");
    assert!(text.contains("HOOKGATE_ADMIN_TOKEN"), "{text}");
}

#[tokio::test]
async fn what_is_let_through_or_quarantined_says_so() {
    let broker = broker::shared().await;
    let lines = "enforce = false\non_invalid = \"quarantine\"\nschema = \"push.json\"";
    let gateway = Setup::new()
        .broker(broker)
        .file("push.json", br#"{"type":"object","required":["after"]}"#)
        .sources(&source("github", "github", lines))
        .start()
        .await;
    let queue = gateway.consume(broker).await;
    let forged = Webhook::github("/github", "push", "forged", BODY);
    let forged = forged.with("X-Hub-Signature-256", &format!("sha256={:064}", 0));
    assert_eq!(gateway.send(&forged).await.status, 202);
    let messages = queue.wait_for(1).await;
    assert_eq!(messages[0].must("hookgate_verified"), "none");
    assert_eq!(
        messages[0].must("hookgate_unverified"),
        "signature_mismatch"
    );
    let invalid = gateway.directory().join("invalid.json");
    std::fs::write(&invalid, b"{}").unwrap();
    let send = ["send", "github", "--file", invalid.to_str().unwrap()];
    let sent = gateway.cli(&send).await;
    assert!(said(&sent).contains("(quarantined)"), "{}", said(&sent));

    let page = gateway.cli(&["status", "--json"]).await;
    let status: Value = serde_json::from_slice(&page.stdout).expect("JSON");
    let shown = &status["sources"][0];
    assert_eq!(
        (&shown["unverified"], &shown["quarantined"]),
        (&1.into(), &1.into()),
        "{shown}"
    );
    assert!(status["since"].is_string(), "{status}");
    let page = gateway.cli(&["status"]).await;
    assert!(said(&page).contains("no (1)"), "{}", said(&page));
    let page = gateway.cli(&["journal", "list"]).await;
    for flaw in ["unverified", "quarantined"] {
        assert!(said(&page).contains(flaw), "{flaw}: {}", said(&page));
    }
    let page = gateway.cli(&["journal", "list", "--json"]).await;
    let reason = "\"unverified\":\"signature_mismatch\"";
    assert!(said(&page).contains(reason), "{}", said(&page));
    let metrics = gateway.metrics().await;
    for name in ["hookgate_unverified_total", "hookgate_quarantined_total"] {
        assert_eq!(metrics.sum(name, &[("source", "github")]), 1.0, "{name}");
    }
    let log = gateway.log();
    for (outcome, reason) in [
        ("unverified", "signature_mismatch"),
        ("quarantined", "schema_violated"),
    ] {
        let told = format!("\"outcome\":\"{outcome}\",\"reason\":\"{reason}\"");
        assert!(log.contains(&told), "{told}: {log}");
    }
    balance(&gateway).await;
}

/// Nothing of the other source is there: no secret, and no gateway that runs.
#[tokio::test]
async fn one_source_is_tried_without_the_secrets_of_the_others() {
    let sources = "[sources.github]\nprovider = \"github\"\nsecrets = [{ env = \"OWN\" }]\n\
                   [sources.calendly]\nprovider = \"calendly\"\nsecrets = [{ env = \"OWN\" }]\n\
                   [sources.asked]\nmethods = [\"GET\"]\nsecrets = [{ env = \"OWN\" }]\n\
                   verify = { algorithm = \"token\", signature = \"header:X-Token\" }\n\
                   [sources.other]\nprovider = \"stripe\"\nsecrets = [{ env = \"ABSENT\" }]\n";
    let gateway = Setup::new().sources(sources).prepare();
    let config = gateway.config().display().to_string();
    let run = async |arguments: &[&str], code: i32| {
        let all = [arguments, &["-c", &config]].concat();
        let output = cli(&all, &[("OWN", "a-secret-of-its-own")]).await;
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        output
    };
    let print = [
        "send", "github", "--print", "--type", "issues", "--header", "X-A: b", "--query", "a=1",
    ];
    let request = run(&print, 0).await.stdout;
    let text = String::from_utf8_lossy(&request).into_owned();
    assert!(text.starts_with("POST /github?a=1 HTTP/1.1\r\n"), "{text}");
    assert!(text.contains("\r\nx-a: b\r\n"), "{text}");
    let file = gateway.directory().join("request.http");
    std::fs::write(&file, &request).unwrap();
    let file = file.to_str().unwrap();
    let explain = run(&["explain", "--source", "github", file], 0).await;
    assert!(said(&explain).contains("type issues"), "{}", said(&explain));
    let elsewhere = run(&["explain", "--source", "calendly", file], 0).await;
    let told = "what the source github says";
    assert!(said(&elsewhere).contains(told), "{}", said(&elsewhere));
    run(&["explain", "--source", "other", file], 78).await;

    let typed = ["send", "calendly", "--print", "--type", "invitee.created"];
    let typed = run(&typed, 0).await.stdout;
    let typed = String::from_utf8_lossy(&typed).into_owned();
    assert!(typed.contains("\"event\":\"invitee.created\""), "{typed}");
    run(&["send", "asked", "--print"], 1).await;
    let asked = ["send", "asked", "--print", "--query", "type=x"];
    let asked = run(&asked, 0).await.stdout;
    assert!(
        asked.starts_with(b"GET /asked?type=x HTTP/1.1\r\n"),
        "{asked:?}"
    );
    std::fs::write(file, &asked).unwrap();
    run(&["explain", "--source", "asked", file], 0).await;
    let stale = run(&["send", "github", "--print", "--stale"], 1).await;
    assert!(
        said(&stale).contains("makes no difference"),
        "{}",
        said(&stale)
    );
}
