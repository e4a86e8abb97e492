//! `hookgate tail [SOURCE...]`.

mod save;

use std::io::Write;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use clap::Args;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::{
    ConfigArg, Done, Exit, Failure, block_on, connect_admin, load_storage, talk, unavailable,
};
use crate::admin::{CONSENT, REQUESTS};
use crate::config::Admin;
use crate::telemetry;
use crate::watch::REQUEST_BYTES_MAX;
use save::Saving;

/// Longest line that is taken from a gateway, without a request.
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
    /// Save requests that are turned away here, at most 100, each in a file that `explain` reads;
    /// they are as they came, with what is personal in them and tokens that work. The gateway must
    /// have a token in `[admin]`
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
}

pub(super) fn run(args: &TailArgs, out: &mut dyn Write) -> Done {
    let storage = load_storage(&args.config.config)?;
    block_on(follow(&storage.admin, args, out))
}

async fn follow(admin: &Admin, args: &TailArgs, out: &mut dyn Write) -> Done {
    let config = &args.config.config;
    let saving = args.save.as_deref();
    let saving = saving.map(|directory| Saving::into_directory(directory, config));
    let mut saving = saving.transpose()?;
    let (mut client, mut headers) = connect_admin(admin).await?;
    let mut query = form_urlencoded::Serializer::new(String::new());
    if !args.sources.is_empty() {
        query.append_pair("source", &args.sources.join(","));
    }
    if saving.is_some() {
        query.append_pair(REQUESTS, "1");
        headers.insert(CONSENT, HeaderValue::from_static("1"));
    }
    let path = format!("/api/v1/tail?{}", query.finish());
    let answer = client
        .start(Method::GET, &path, headers, Bytes::new())
        .await
        .map_err(|error| unavailable(admin, &error))?;
    if answer.status() == StatusCode::NOT_FOUND {
        let message = "the gateway that runs has no such source; `hookgate status` lists them";
        return Err(Failure::new(Exit::Usage, message.to_owned()));
    }
    if answer.status() == StatusCode::FORBIDDEN {
        let message = "requests may hold credentials that work, so a gateway without a token in [admin] \
             shows none: configure one, token = { env = \"HOOKGATE_ADMIN_TOKEN\" }, and restart it";
        return Err(Failure::new(Exit::BadConfig, message.to_owned()));
    }
    if answer.status() == StatusCode::CONFLICT {
        let message = "too many others save requests of this gateway: end one of them first";
        return Err(Failure::new(Exit::Failure, message.to_owned()));
    }
    if answer.status() != StatusCode::OK {
        let what = format!("it answered {}", answer.status());
        return Err(unavailable(admin, &what));
    }
    talk(&format!("following {}; end with Ctrl-C", admin.listen));
    let mut body = answer.into_body();
    let mut buffer = BytesMut::new();
    let mut shown = 0;
    let bytes_max = match saving {
        // In base64.
        Some(_) => LINE_BYTES_MAX + REQUEST_BYTES_MAX / 3 * 4,
        None => LINE_BYTES_MAX,
    };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unavailable(admin, &error))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        buffer.extend_from_slice(&data);
        while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
            let line = buffer.split_to(end + 1);
            match &mut saving {
                Some(saving) => show(&saving.take(&line)?, args.json, out)?,
                None => show(&line, args.json, out)?,
            }
            shown += 1;
            if args.limit.is_some_and(|limit| shown >= limit) {
                return Ok(Exit::Success);
            }
        }
        if buffer.len() > bytes_max {
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
                    "{:<27} {:<3} {:<11} {:<16} {:<28} {:<36} {}",
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

/// How many events of a batch are new, how many had come before, and how many are in quarantine.
fn batch(event: &Value) -> String {
    let count = |name: &str| event.get(name).and_then(Value::as_u64);
    let mut text = match (count("events"), count("copies")) {
        (Some(events), Some(0)) => format!("batch of {events}"),
        (Some(events), Some(copies)) => format!("batch of {events} new, {copies} known"),
        _ => return "-".to_owned(),
    };
    if let Some(quarantined) = count("quarantined") {
        text.push_str(&format!(", {quarantined} in quarantine"));
    }
    text
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
