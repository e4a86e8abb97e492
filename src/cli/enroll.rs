//! `hookgate enroll`: says that a source's secret may come now, in the provider's handshake.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Method, StatusCode};
use serde_json::Value;

use super::output::{lines, table};
use super::{
    ConfigArg, Done, Exit, Failure, block_on, connect_admin, load_storage, talk, unavailable,
};
use crate::admin::{CONSENT, ENROLL_PATH};
use crate::config::{Admin, Storage};
use crate::enrolled::Folder;
use crate::pipeline::handshake::enrolment::WINDOW;
use crate::telemetry::harmless;

#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
#[command(group = clap::ArgGroup::new("what").multiple(false))]
pub(super) struct EnrollArgs {
    /// The source that waits for its secret
    #[arg(value_name = "SOURCE", required_unless_present = "list")]
    source: Option<String>,
    /// How long the gateway takes the provider's handshake
    #[arg(long = "for", value_name = "DURATION", default_value = "10m", value_parser = length)]
    length: Duration,
    /// Drop the former secret when the new one comes [default: an hour later, and once the new one
    /// has verified an event]
    #[arg(long, group = "what")]
    replace: bool,
    /// End the window that is open; secrets that are there stay
    #[arg(long, group = "what")]
    close: bool,
    /// Forget the secret that came last, wait for none, and step back to the one before
    #[arg(long, group = "what")]
    forget: bool,
    /// Print the enrolled secret, for a provider that wants to hear it back (Notion)
    #[arg(long, group = "what")]
    show: bool,
    /// List the sources whose secret comes in a handshake
    #[arg(long, group = "what", conflicts_with = "source")]
    list: bool,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArg,
}

fn length(text: &str) -> Result<Duration, String> {
    let length = crate::config::parse_duration(text).filter(|length| WINDOW.contains(length));
    length.ok_or_else(|| "write a duration like 10m, at most 24h".to_owned())
}

pub(super) fn run(args: &EnrollArgs, out: &mut dyn Write) -> Done {
    let storage = load_storage(&args.config.config)?;
    let Some(name) = &args.source else {
        let list = block_on(ask(&storage.admin, Method::GET, ""))?;
        return show_list(&list, args.json, out);
    };
    if args.show {
        return show_secret(&storage, name, out);
    }
    let asked = if args.forget {
        "&forget".to_owned()
    } else if args.close {
        "&close".to_owned()
    } else {
        let replace = if args.replace { "&replace" } else { "" };
        format!("&for_seconds={}{replace}", args.length.as_secs())
    };
    let name = form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>();
    let query = format!("?source={name}{asked}");
    let state = block_on(ask(&storage.admin, Method::POST, &query))?;
    if args.json {
        writeln!(out, "{state}")?;
    } else if args.forget {
        match word(&state, "/current/label").as_str() {
            "-" => writeln!(
                out,
                "{name}: nothing is enrolled any more, so nothing is taken"
            )?,
            former => writeln!(out, "{name}: {former} counts again, and no other")?,
        }
    } else if args.close {
        writeln!(out, "{name}: no handshake brings a secret any more")?;
    } else {
        writeln!(
            out,
            "{name}: the first handshake that comes until {} brings the secret; \
             set up the provider now, then see `hookgate enroll --list`",
            word(&state, "/window/closes_at")
        )?;
    }
    Ok(Exit::Success)
}

fn show_secret(storage: &Storage, name: &str, out: &mut dyn Write) -> Done {
    let folder = Folder::of(&storage.journal.path);
    let record = folder.read(name).map_err(|error| {
        let file = folder.file(name);
        Failure::new(
            Exit::Failure,
            format!("reading {}: {error}", file.display()),
        )
    })?;
    let Some(current) = record.and_then(|record| record.current) else {
        let message = format!("nothing is enrolled for {name}");
        return Err(Failure::new(Exit::Failure, message));
    };
    out.write_all(current.secret.expose())?;
    writeln!(out)?;
    talk(&format!(
        "this is {}; whoever has it can send as the provider",
        current.label()
    ));
    Ok(Exit::Success)
}

fn show_list(list: &Value, json: bool, out: &mut dyn Write) -> Done {
    let mut rows = table(&["source", "enrolled", "since", "former", "window until"]);
    for one in list.as_array().into_iter().flatten() {
        if json {
            writeln!(out, "{one}")?;
            continue;
        }
        let places = [
            "/source",
            "/current/label",
            "/current/since",
            "/former/label",
            "/window/closes_at",
        ];
        rows.add_row(places.map(|place| word(one, place)));
    }
    if !json {
        write!(out, "{}", lines(&rows))?;
    }
    Ok(Exit::Success)
}

fn word(state: &Value, pointer: &str) -> String {
    let word = state.pointer(pointer).and_then(Value::as_str);
    word.map_or_else(|| "-".to_owned(), harmless)
}

/// Asks the running gateway.
async fn ask(admin: &Admin, method: Method, query: &str) -> Result<Value, Failure> {
    let (mut client, mut headers) = connect_admin(admin).await?;
    headers.insert(CONSENT, HeaderValue::from_static("1"));
    let path = format!("{ENROLL_PATH}{query}");
    let answer = client.send(method, &path, headers, Bytes::new()).await;
    let answer = answer.map_err(|error| unavailable(admin, &error))?;
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    if answer.status == StatusCode::OK {
        return Ok(body.unwrap_or_default());
    }
    let detail = body.as_ref().map(|problem| word(problem, "/detail"));
    let detail = detail.unwrap_or_default();
    let exit = match answer.status {
        StatusCode::NOT_FOUND | StatusCode::CONFLICT => Exit::Usage,
        _ => Exit::Failure,
    };
    let message = format!("the gateway answered {}: {detail}", answer.status);
    Err(Failure::new(exit, message))
}
