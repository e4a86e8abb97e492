//! `hookgate tail [SOURCE...]`.

use std::io::Write;

use bytes::{Bytes, BytesMut};
use clap::Args;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::{ConfigArg, Done, Exit, Failure, admin_headers, block_on, find_source, load, talk};
use crate::client::{Client, Trust};
use crate::config::Admin;
use crate::telemetry;

/// Longest line that is taken from a gateway.
const LINE_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Args)]
pub(super) struct TailArgs {
    /// Only these sources
    sources: Vec<String>,
    #[command(flatten)]
    config: ConfigArg,
    /// One JSON object per event
    #[arg(long)]
    json: bool,
    /// End after this many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

pub(super) fn run(args: &TailArgs, out: &mut dyn Write) -> Done {
    let config = load(&args.config.config)?;
    for name in &args.sources {
        find_source(&config, name)?;
    }
    block_on(follow(&config.admin, args, out))
}

async fn follow(admin: &Admin, args: &TailArgs, out: &mut dyn Write) -> Done {
    let unavailable = |error: String| {
        let hint = "is the gateway running with this configuration?";
        Failure::new(Exit::Unavailable, format!("{error}; {hint}"))
    };
    let url = format!("http://{}", admin.listen)
        .parse()
        .map_err(|error: http::uri::InvalidUri| unavailable(error.to_string()))?;
    let mut client = Client::connect(&url, Trust::System)
        .await
        .map_err(|error| unavailable(error.to_string()))?;
    let headers = admin_headers(admin)?;
    let path = if args.sources.is_empty() {
        "/api/v1/tail".to_owned()
    } else {
        format!("/api/v1/tail?source={}", args.sources.join(","))
    };
    let answer = client
        .start(Method::GET, &path, headers, Bytes::new())
        .await
        .map_err(|error| unavailable(error.to_string()))?;
    if answer.status() != StatusCode::OK {
        return Err(unavailable(format!(
            "{} answered {}",
            admin.listen,
            answer.status()
        )));
    }
    talk(&format!("following {}; end with Ctrl-C", admin.listen));
    let mut body = answer.into_body();
    let mut buffer = BytesMut::new();
    let mut shown = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unavailable(error.to_string()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        buffer.extend_from_slice(&data);
        while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
            let line = buffer.split_to(end + 1);
            show(&line, args.json, out)?;
            shown += 1;
            if args.limit.is_some_and(|limit| shown >= limit) {
                return Ok(Exit::Success);
            }
        }
        if buffer.len() > LINE_BYTES_MAX {
            return Err(unavailable(
                "an event is longer than any gateway sends".to_owned(),
            ));
        }
    }
    talk("the gateway has ended");
    Ok(Exit::Success)
}

fn show(line: &[u8], json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(line);
    let event: Option<Value> = serde_json::from_str(&text).ok();
    match event.filter(|_| !json) {
        None => write!(out, "{}", telemetry::escaped(&text))?,
        Some(event) => {
            let field = |name: &str| match event.get(name) {
                Some(Value::String(text)) => telemetry::harmless(text),
                Some(Value::Null) | None => "-".to_owned(),
                Some(other) => other.to_string(),
            };
            if let Some(dropped) = event.get("dropped") {
                writeln!(out, "... {dropped} events passed too fast to show")?;
            } else {
                writeln!(
                    out,
                    "{:<27} {:<3} {:<10} {:<16} {:<28} {:<36} {}",
                    field("at"),
                    field("status"),
                    field("outcome"),
                    field("source"),
                    field("event_type"),
                    field("message_id"),
                    [batch(&event), field("reason"), field("detail")]
                        .into_iter()
                        .filter(|word| word != "-")
                        .collect::<Vec<_>>()
                        .join(": "),
                )?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

/// How many events of a batch are new, and how many had come before.
fn batch(event: &Value) -> String {
    let count = |name: &str| event.get(name).and_then(Value::as_u64);
    match (count("events"), count("copies")) {
        (Some(events), Some(0)) => format!("batch of {events}"),
        (Some(events), Some(copies)) => format!("batch of {events} new, {copies} known"),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sender_wrote_does_not_speak_to_the_terminal() {
        let event = serde_json::json!({
            "at": "2026-01-01T00:00:00Z",
            "outcome": "accepted",
            "event_type": "\u{1b}]0;x\u{7}\u{9b}2J\nline\u{202e}",
        });
        let line = format!("{event}\n");
        for json in [false, true] {
            let mut out = Vec::new();
            show(line.as_bytes(), json, &mut out).unwrap();
            let shown = String::from_utf8(out).unwrap();
            let text = shown.strip_suffix('\n').unwrap();
            let obeyed = |c: char| c.is_control() || c == '\u{202e}';
            assert!(!text.contains(obeyed), "{text:?}");
            assert!(text.contains("line"), "{text:?}");
        }
    }
}
