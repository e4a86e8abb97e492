//! `hookgate status`: what a running gateway knows of itself, and whether an old secret can go.

use std::io::Write;

use bytes::Bytes;
use clap::Args;
use http::{Method, StatusCode};
use serde_json::Value;

use super::output::{lines, table};
use super::{ConfigArg, Done, Exit, Failure, block_on, connect_admin, load_storage, unavailable};
use crate::config::Admin;
use crate::telemetry;

/// What is shown where there is nothing to show.
const NOTHING: &str = "-";

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// JSON instead of tables
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &StatusArgs, out: &mut dyn Write) -> Done {
    let storage = load_storage(&args.config.config)?;
    let status = block_on(ask(&storage.admin))?;
    if args.json {
        writeln!(out, "{status:#}")?;
    } else {
        write!(out, "{}", page(&status))?;
    }
    Ok(Exit::Success)
}

async fn ask(admin: &Admin) -> Result<Value, Failure> {
    let (mut client, headers) = connect_admin(admin).await?;
    let answer = client
        .send(Method::GET, "/api/v1/status", headers, Bytes::new())
        .await
        .map_err(|error| unavailable(admin, &error))?;
    if answer.status != StatusCode::OK {
        let what = format!("it answered {}", answer.status);
        return Err(unavailable(admin, &what));
    }
    serde_json::from_slice(&answer.body)
        .map_err(|error| unavailable(admin, &format!("it answered no JSON: {error}")))
}

/// The tables, one under the other.
fn page(status: &Value) -> String {
    let journal = status.get("journal").unwrap_or(&Value::Null);
    let mut state = table(&["part", "state"]);
    let draining = status.get("draining") == Some(&Value::Bool(true));
    let word = if draining { "draining" } else { "serving" };
    let (version, since) = (field(status, "version"), field(status, "since"));
    state.add_row(["gateway", &format!("{version} {word} since {since}")]);
    state.add_row(["journal", &journal_state(journal)]);
    for (part, key) in [
        ("waiting", "waiting"),
        ("parked", "parked"),
        ("set aside", "set_aside"),
    ] {
        state.add_row([part, &field(journal, key)]);
    }
    state.add_row(["broker", &broker_state(status.get("broker"))]);

    let mut sources = table(&[
        "source",
        "provider",
        "path",
        "ack",
        "enforced",
        "quarantined",
        "secret",
        "uses",
        "last used",
    ]);
    for source in array(status, "sources") {
        let mut row: Vec<String> = ["name", "provider", "path", "ack"]
            .map(|key| field(source, key))
            .to_vec();
        row.extend([enforced(source), field(source, "quarantined")]);
        let secrets = array(source, "secrets");
        if secrets.is_empty() {
            sources.add_row(row.iter().chain([&NOTHING.to_owned()]));
        }
        for secret in secrets {
            let last_used = match secret.get("last_used") {
                Some(Value::String(at)) => telemetry::harmless(&to_the_second(at)),
                _ => "not known".to_owned(),
            };
            row.extend([field(secret, "label"), field(secret, "uses"), last_used]);
            sources.add_row(row);
            // What is said once of a source is not said again beside its next secret.
            row = vec![String::new(); 6];
        }
    }
    format!(
        "{}\n{}\nenforced no (N): so many were let through unverified; N, quarantined and uses: since \
         {}\n",
        lines(&state),
        lines(&sources),
        field(status, "since"),
    )
}

/// Whether a source turns away what it cannot verify; if not, how much it has let through.
fn enforced(source: &Value) -> String {
    match source.get("enforce") {
        Some(Value::Bool(false)) => format!("no ({})", field(source, "unverified")),
        _ => "yes".to_owned(),
    }
}

/// A moment without what is less than a second.
fn to_the_second(at: &str) -> String {
    let whole = at.split_once('.').map(|(whole, _)| format!("{whole}Z"));
    whole.unwrap_or_else(|| at.to_owned())
}

fn journal_state(journal: &Value) -> String {
    let word = match journal.get("failed") {
        Some(Value::String(why)) => format!("failed: {}", telemetry::harmless(why)),
        _ if journal.get("full") == Some(&Value::Bool(true)) => "full".to_owned(),
        _ => "ok".to_owned(),
    };
    let (bytes, segments) = (field(journal, "bytes"), field(journal, "segments"));
    let plural = if segments == "1" { "" } else { "s" };
    format!("{word}, {bytes} bytes in {segments} segment{plural}")
}

fn broker_state(broker: Option<&Value>) -> String {
    let Some(broker) = broker.filter(|broker| broker.is_object()) else {
        return "none is configured".to_owned();
    };
    let is = |key: &str| broker.get(key) == Some(&Value::Bool(true));
    let node = field(broker, "node");
    match (is("connected"), is("blocked")) {
        (true, false) => format!("connected to {node}"),
        (true, true) => format!("connected to {node}, which takes no events"),
        (false, _) => format!("not connected to {node}: {}", field(broker, "last_error")),
    }
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    let array = value.get(key).and_then(Value::as_array);
    array.map(Vec::as_slice).unwrap_or_default()
}

fn field(value: &Value, key: &str) -> String {
    match value.get(key) {
        Some(Value::String(text)) => telemetry::harmless(text),
        Some(Value::Null) | None => NOTHING.to_owned(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_old_secret_is_seen_to_be_out_of_use() {
        let status = json!({
            "version": "1.0", "draining": false, "since": "2025-12-31T00:00:00Z",
            "sources": [
                {"name": "stripe", "provider": "stripe", "path": "/in", "ack": "journal",
                 "enforce": true, "unverified": 0, "quarantined": 5, "secrets": [
                    {"label": "2025", "uses": 0, "last_used": null},
                    {"label": "2026", "uses": 7, "last_used": "2026-01-01T00:00:00.25Z"},
                ]},
                {"name": "open", "provider": null, "path": "/open", "ack": "broker",
                 "enforce": false, "unverified": 12, "quarantined": 0, "secrets": []},
            ],
            "journal": {"waiting": 4, "bytes": 64, "segments": 1, "full": false, "failed": null,
                        "parked": 3, "set_aside": 2},
            "broker": {"connected": false, "blocked": false, "last_error": "refused", "node": "a:1"},
        });
        let shown = page(&status);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let shown: Vec<String> = shown.lines().map(words).collect();
        for line in [
            "gateway 1.0 serving since 2025-12-31T00:00:00Z",
            "journal ok, 64 bytes in 1 segment",
            "waiting 4",
            "parked 3",
            "set aside 2",
            "broker not connected to a:1: refused",
            "stripe stripe /in journal yes 5 2025 0 not known",
            "2026 7 2026-01-01T00:00:00Z",
            "open - /open broker no (12) 0 -",
        ] {
            assert!(shown.iter().any(|it| it == line), "{line}: {shown:#?}");
        }
    }

    #[test]
    fn what_is_not_well_is_said() {
        let journal = json!({"failed": "cannot sync", "bytes": 1, "segments": 1});
        assert!(journal_state(&journal).starts_with("failed: cannot sync"));
        let full = json!({"full": true});
        assert!(journal_state(&full).starts_with("full"));
        let blocked = json!({"connected": true, "blocked": true, "node": "a"});
        assert!(broker_state(Some(&blocked)).contains("takes no events"));
        assert_eq!(broker_state(Some(&Value::Null)), "none is configured");
    }
}
