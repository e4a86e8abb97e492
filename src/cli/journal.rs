//! `hookgate journal status|list|show|verify`: reads the directory, takes no lock, changes nothing.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use uuid::Uuid;

use super::output::{lines, table};
use super::{ConfigArg, Done, Exit, Failure, load};
use crate::delivery::{Delivery, Lane};
use crate::journal::{Contents, Health, Position, Record, Records};
use crate::telemetry::{escaped, harmless};

#[derive(Debug, Args)]
pub(super) struct JournalArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How much there is, and how much of it waits for the broker
    Status(Common),
    /// The events, oldest first
    List(ListArgs),
    /// One event: what is known of it, and its body
    Show(ShowArgs),
    /// Reads every byte and says whether all is as it was written
    Verify(Common),
}

#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    config: ConfigArg,
    /// The journal's directory; the configuration's when not said
    #[arg(long, value_name = "DIRECTORY")]
    path: Option<PathBuf>,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    common: Common,
    /// Only events that the broker has not confirmed
    #[arg(long)]
    waiting: bool,
    /// Only events of this source
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The event's message id, or its position
    event: String,
    #[command(flatten)]
    common: Common,
    /// Only the body, byte for byte
    #[arg(long)]
    body: bool,
}

pub(super) fn run(args: &JournalArgs, out: &mut dyn Write) -> Done {
    match &args.command {
        Command::Status(common) => status(common, out),
        Command::List(args) => list(args, out),
        Command::Show(args) => show(args, out),
        Command::Verify(common) => verify(common, out),
    }
}

fn status(common: &Common, out: &mut dyn Write) -> Done {
    let directory = directory(common)?;
    let contents = contents(&directory)?;
    let bytes: u64 = contents
        .segments
        .iter()
        .map(|segment| segment.file_bytes)
        .sum();
    let events: u64 = contents
        .segments
        .iter()
        .map(|segment| segment.records)
        .sum();
    let cursor = contents.cursor.unwrap_or(contents.first);
    let waiting = waiting(&directory, cursor)?;
    if common.json {
        let object = json!({
            "path": directory, "events": events, "waiting": waiting, "first": contents.first.0,
            "cursor": cursor.0, "end": contents.end.0, "segments": contents.segments.len(),
            "bytes": bytes, "sound": contents.is_sound(),
        });
        writeln!(out, "{object}")?;
    } else {
        let mut rows = table(&["journal", ""]);
        rows.add_row(["directory".to_owned(), directory.display().to_string()]);
        rows.add_row(["events".to_owned(), events.to_string()]);
        rows.add_row([
            "waiting".to_owned(),
            format!("{waiting} (from position {})", cursor.0),
        ]);
        rows.add_row(["segments".to_owned(), contents.segments.len().to_string()]);
        rows.add_row(["bytes".to_owned(), bytes.to_string()]);
        rows.add_row(["sound".to_owned(), yes(contents.is_sound()).to_owned()]);
        write!(out, "{}", lines(&rows))?;
    }
    Ok(Exit::Success)
}

fn list(args: &ListArgs, out: &mut dyn Write) -> Done {
    let directory = directory(&args.common)?;
    let contents = contents(&directory)?;
    let cursor = contents.cursor.unwrap_or(contents.first);
    let from = if args.waiting { cursor } else { contents.first };
    let mut rows = table(&[
        "position",
        "state",
        "received",
        "source",
        "type",
        "event id",
        "message id",
        "bytes",
    ]);
    let mut shown = 0;
    for record in records(&directory, from)? {
        if shown == args.limit {
            super::talk(&format!("there are more than {shown}; --limit shows more"));
            break;
        }
        let record = record.map_err(|error| unreadable(&directory, &error))?;
        let delivery = Delivery::decode(&record.payload);
        let of_source = |wanted: &String| {
            delivery
                .as_ref()
                .is_ok_and(|delivery| *delivery.source == **wanted)
        };
        if !args.source.as_ref().is_none_or(of_source) {
            continue;
        }
        shown += 1;
        let state = if record.position < cursor {
            "published"
        } else {
            "waiting"
        };
        match delivery {
            Ok(delivery) if args.common.json => {
                writeln!(out, "{}", object(&record, &delivery, state))?;
            }
            Err(error) if args.common.json => {
                let object = json!({ "position": record.position.0, "error": error.to_string() });
                writeln!(out, "{object}")?;
            }
            Ok(delivery) => {
                rows.add_row([
                    record.position.0.to_string(),
                    state.to_owned(),
                    delivery.received_at.to_string(),
                    delivery.source.to_string(),
                    delivery
                        .event_type
                        .as_deref()
                        .map_or_else(|| "-".to_owned(), harmless),
                    delivery
                        .event_id
                        .as_deref()
                        .map_or_else(|| "-".to_owned(), harmless),
                    delivery.id.to_string(),
                    delivery.body.len().to_string(),
                ]);
            }
            Err(error) => {
                rows.add_row([record.position.0.to_string(), error.to_string()]);
            }
        }
    }
    if !args.common.json {
        write!(out, "{}", lines(&rows))?;
    }
    Ok(Exit::Success)
}

fn show(args: &ShowArgs, out: &mut dyn Write) -> Done {
    let directory = directory(&args.common)?;
    let contents = contents(&directory)?;
    let (record, delivery) = find(&directory, &contents, &args.event)?;
    if args.body {
        out.write_all(&delivery.body)?;
        return Ok(Exit::Success);
    }
    let cursor = contents.cursor.unwrap_or(contents.first);
    let state = if record.position < cursor {
        "published"
    } else {
        "waiting"
    };
    let mut object = object(&record, &delivery, state);
    if args.common.json {
        if let Some(object) = object.as_object_mut() {
            let body = String::from_utf8_lossy(&delivery.body).into_owned();
            object.insert("body".to_owned(), body.into());
        }
        writeln!(out, "{object}")?;
        return Ok(Exit::Success);
    }
    let mut rows = table(&["event", ""]);
    for (name, value) in object.as_object().into_iter().flatten() {
        let text = value
            .as_str()
            .map_or_else(|| escaped(&value.to_string()), harmless);
        rows.add_row([name.as_str(), &text]);
    }
    write!(
        out,
        "{}\n{}\n",
        lines(&rows),
        escaped(&String::from_utf8_lossy(&delivery.body))
    )?;
    Ok(Exit::Success)
}

fn verify(common: &Common, out: &mut dyn Write) -> Done {
    let directory = directory(common)?;
    let contents = contents(&directory)?;
    let mut undecodable = 0_u64;
    for record in records(&directory, contents.first)? {
        let record = record.map_err(|error| unreadable(&directory, &error))?;
        if Delivery::decode(&record.payload).is_err() {
            undecodable += 1;
        }
    }
    let mut rows = table(&["segment", "events", "bytes", "health"]);
    for segment in &contents.segments {
        let health = match &segment.health {
            Health::Whole => "whole".to_owned(),
            Health::Torn { offset } => {
                format!("ends in an unfinished write at byte {offset}; the next start cuts it")
            }
            Health::Damaged { offset, what } => format!("DAMAGED at byte {offset}: {what}"),
        };
        if common.json {
            let object = json!({
                "file": segment.file, "events": segment.records, "bytes": segment.file_bytes,
                "sound": !matches!(segment.health, Health::Damaged { .. }), "health": health,
            });
            writeln!(out, "{object}")?;
        } else {
            let file = segment
                .file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            rows.add_row([
                file,
                segment.records.to_string(),
                segment.file_bytes.to_string(),
                health,
            ]);
        }
    }
    if !common.json {
        write!(out, "{}", lines(&rows))?;
    }
    if undecodable > 0 {
        super::talk(&format!(
            "{undecodable} records verify but are no events of this version"
        ));
    }
    Ok(if contents.is_sound() && undecodable == 0 {
        Exit::Success
    } else {
        Exit::Failure
    })
}

/// Counted, because damage may have left positions without an event.
fn waiting(directory: &Path, cursor: Position) -> Result<u64, Failure> {
    let mut waiting = 0;
    for record in records(directory, cursor)? {
        record.map_err(|error| unreadable(directory, &error))?;
        waiting += 1;
    }
    Ok(waiting)
}

// === what they share ===

fn directory(common: &Common) -> Result<PathBuf, Failure> {
    let directory = match &common.path {
        Some(path) => path.clone(),
        None => load(&common.config.config)?.journal.path,
    };
    match directory.try_exists() {
        Ok(true) => Ok(directory),
        Ok(false) => {
            let message = format!(
                "{} is not there; no gateway has run here yet",
                directory.display()
            );
            Err(Failure::new(Exit::Failure, message))
        }
        Err(error) => Err(unreadable(&directory, &error)),
    }
}

fn contents(directory: &Path) -> Result<Contents, Failure> {
    let contents = Contents::verify(directory)
        .map_err(|error| Failure::new(Exit::Failure, format!("reading the journal: {error}")))?;
    if contents.segments.is_empty() {
        let message = format!("{} holds no journal", directory.display());
        return Err(Failure::new(Exit::Failure, message));
    }
    Ok(contents)
}

fn records(directory: &Path, from: Position) -> Result<Records, Failure> {
    Records::read(directory, from).map_err(|error| unreadable(directory, &error))
}

fn unreadable(directory: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::Failure,
        format!("reading {}: {error}", directory.display()),
    )
}

/// By message id, or by position.
fn find(directory: &Path, contents: &Contents, event: &str) -> Result<(Record, Delivery), Failure> {
    let id = Uuid::try_parse(event).ok();
    let position = event.parse().ok().map(Position);
    if id.is_none() && position.is_none() {
        let message = format!("{event:?} is neither a message id nor a position");
        return Err(Failure::new(Exit::Usage, message));
    }
    for record in records(directory, position.unwrap_or(contents.first))? {
        let record = record.map_err(|error| unreadable(directory, &error))?;
        if position.is_some_and(|position| record.position > position) {
            break;
        }
        let delivery = Delivery::decode(&record.payload);
        if position.is_some()
            || delivery
                .as_ref()
                .is_ok_and(|delivery| Some(delivery.id) == id)
        {
            let delivery = delivery.map_err(|error| {
                Failure::new(
                    Exit::Failure,
                    format!("position {}: {error}", record.position.0),
                )
            })?;
            return Ok((record, delivery));
        }
    }
    Err(Failure::new(
        Exit::Failure,
        format!("there is no event {event} in the journal"),
    ))
}

fn object(record: &Record, delivery: &Delivery, state: &str) -> serde_json::Value {
    json!({
        "position": record.position.0,
        "state": state,
        "message_id": delivery.id.to_string(),
        "source": &*delivery.source,
        "event_type": delivery.event_type,
        "event_id": delivery.event_id,
        "received_at": delivery.received_at.to_string(),
        "client_ip": delivery.client_ip,
        "request_id": &*delivery.request_id,
        "verified": delivery.coverage.label(),
        "key": delivery.key.as_deref(),
        "schema": delivery.schema.as_deref(),
        "quarantine": match &delivery.lane {
            Lane::Main => None,
            Lane::Quarantine(reason) => Some(reason),
        },
        "routing_key": delivery.routing_key,
        "content_type": delivery.content_type,
        "bytes": delivery.body.len(),
    })
}

fn yes(value: bool) -> &'static str {
    if value {
        "yes"
    } else {
        "NO: see `hookgate journal verify`"
    }
}
