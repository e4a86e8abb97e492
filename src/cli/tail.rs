//! `hookgate tail [SOURCE...]`.

use std::io::Write;

use bytes::{Bytes, BytesMut};
use clap::Args;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::{
    ConfigArg, Done, Exit, Failure, block_on, connect_admin, load_storage, talk, unavailable,
};
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
    let storage = load_storage(&args.config.config)?;
    block_on(follow(&storage.admin, args, out))
}

async fn follow(admin: &Admin, args: &TailArgs, out: &mut dyn Write) -> Done {
    let (mut client, headers) = connect_admin(admin).await?;
    let path = if args.sources.is_empty() {
        "/api/v1/tail".to_owned()
    } else {
        let names = args.sources.join(",");
        let names: String = form_urlencoded::byte_serialize(names.as_bytes()).collect();
        format!("/api/v1/tail?source={names}")
    };
    let answer = client
        .start(Method::GET, &path, headers, Bytes::new())
        .await
        .map_err(|error| unavailable(admin, &error))?;
    if answer.status() == StatusCode::NOT_FOUND {
        let message = "the gateway that runs has no such source; `hookgate status` lists them";
        return Err(Failure::new(Exit::Usage, message.to_owned()));
    }
    if answer.status() != StatusCode::OK {
        let what = format!("it answered {}", answer.status());
        return Err(unavailable(admin, &what));
    }
    talk(&format!("following {}; end with Ctrl-C", admin.listen));
    let mut body = answer.into_body();
    let mut buffer = BytesMut::new();
    let mut shown = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unavailable(admin, &error))?;
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
            let what = "an event is longer than any gateway sends";
            return Err(unavailable(admin, &what));
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
