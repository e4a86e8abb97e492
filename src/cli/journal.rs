//! `hookgate journal status|list|show|verify`: reads the directory and those below it, takes no
//! lock, changes nothing.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Args, Subcommand};
use serde_json::json;
use uuid::Uuid;

use super::output::{lines, table};
use super::{ConfigArg, Done, Exit, Failure, load_storage};
use crate::delivery::{DecodeError, Delivery, Lane};
use crate::journal::{Contents, Health, Position, Record, Records};
use crate::publisher::{Parked, SetAside, decode_mark, lots_in, parked_folder, set_aside_folder};
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
    /// The journal's directory [default: that of the configuration]
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
    /// Only events that the broker has not confirmed, the parked ones first
    #[arg(long)]
    waiting: bool,
    #[command(flatten)]
    place: PlaceArgs,
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
    #[command(flatten)]
    place: PlaceArgs,
}

/// Where events are that left the journal unpublished.
#[derive(Debug, Args)]
struct PlaceArgs {
    /// Look at what the broker refused for its own sake; `hookgate replay --set-aside` sends it again
    #[arg(long, conflicts_with = "parked")]
    set_aside: bool,
    /// Look at what its queue does not take, and is tried again and again
    #[arg(long)]
    parked: bool,
}

/// An event, or what stands in its place.
pub(super) struct Listed {
    pub(super) record: Record,
    pub(super) delivery: Result<Delivery, DecodeError>,
    /// Why it was set aside.
    pub(super) reason: Option<String>,
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
    let (parked, set_aside) = (count(parked(&directory)?)?, count(set_aside(&directory)?)?);
    // The parked ones wait, too: `hookgate_journal_waiting` counts both.
    let waiting = contents.waiting + parked;
    if common.json {
        let object = json!({
            "path": directory, "events": events, "waiting": waiting, "first": contents.first.0,
            "cursor": cursor.0, "end": contents.end.0, "segments": contents.segments.len(),
            "bytes": bytes, "sound": contents.is_sound(), "parked": parked,
            "set_aside": set_aside,
        });
        writeln!(out, "{object}")?;
    } else {
        let mut rows = table(&["journal", ""]);
        rows.add_row(["directory".to_owned(), directory.display().to_string()]);
        rows.add_row(["events".to_owned(), events.to_string()]);
        rows.add_row([
            "waiting".to_owned(),
            format!(
                "{waiting} (from position {}, and the parked ones)",
                cursor.0
            ),
        ]);
        rows.add_row(["parked".to_owned(), parked.to_string()]);
        rows.add_row(["set aside".to_owned(), set_aside.to_string()]);
        rows.add_row(["segments".to_owned(), contents.segments.len().to_string()]);
        rows.add_row(["bytes".to_owned(), bytes.to_string()]);
        rows.add_row(["sound".to_owned(), yes(contents.is_sound()).to_owned()]);
        write!(out, "{}", lines(&rows))?;
    }
    Ok(Exit::Success)
}

fn list(args: &ListArgs, out: &mut dyn Write) -> Done {
    let directory = directory(&args.common)?;
    let mut titles = vec![
        "position",
        "state",
        "received",
        "source",
        "type",
        "event id",
        "message id",
        "bytes",
        "flaw",
    ];
    if args.place.set_aside {
        titles.push("reason");
    }
    let mut rows = table(&titles);
    let mut shown = 0;
    for listed in args.place.events(&directory, args.waiting)? {
        if shown == args.limit {
            super::talk(&format!("there are more than {shown}; --limit shows more"));
            break;
        }
        let (listed, state) = listed?;
        let Listed {
            record, delivery, ..
        } = &listed;
        let of_source = |wanted: &String| {
            delivery
                .as_ref()
                .is_ok_and(|delivery| *delivery.source == **wanted)
        };
        if !args.source.as_ref().is_none_or(of_source) {
            continue;
        }
        shown += 1;
        let reason = listed.reason.as_deref();
        match delivery {
            Ok(delivery) if args.common.json => {
                writeln!(out, "{}", object(record, delivery, state, reason))?;
            }
            Err(error) if args.common.json => {
                let object = json!({
                    "position": record.position.0, "error": error.to_string(), "reason": reason,
                });
                writeln!(out, "{object}")?;
            }
            Ok(delivery) => {
                let text = |text: Option<&str>| text.map_or_else(|| "-".to_owned(), harmless);
                let mut row = vec![
                    record.position.0.to_string(),
                    state.to_owned(),
                    delivery.received_at.to_string(),
                    delivery.source.to_string(),
                    text(delivery.event_type.as_deref()),
                    text(delivery.event_id.as_deref()),
                    delivery.id.to_string(),
                    delivery.body.len().to_string(),
                    flaw(delivery),
                ];
                row.extend(reason.map(harmless));
                rows.add_row(row);
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
    let (listed, delivery, state) = find(&directory, &args.place, &args.event)?;
    if args.body {
        out.write_all(&delivery.body)?;
        return Ok(Exit::Success);
    }
    let mut object = object(&listed.record, &delivery, state, listed.reason.as_deref());
    if args.common.json {
        if let Some(object) = object.as_object_mut() {
            let body = String::from_utf8_lossy(&delivery.body).into_owned();
            object.insert("body".to_owned(), body.into());
        }
        writeln!(out, "{object}")?;
        return Ok(Exit::Success);
    }
    let mut rows = table(&["event", ""]);
    let said = object.as_object().into_iter().flatten();
    for (name, value) in said.filter(|(_, value)| !value.is_null()) {
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
    let mut rows = table(&["segment", "events", "bytes", "health"]);
    let (mut undecodable, mut is_sound) = (0_u64, true);
    for (place, is_event) in places(&directory)? {
        let contents = contents(&place)?;
        is_sound &= contents.is_sound();
        for record in records(&place, contents.first)? {
            let record = record.map_err(|error| unreadable(&place, &error))?;
            undecodable += u64::from(!is_event(&record.payload));
        }
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
                let file = segment.file.strip_prefix(&directory);
                rows.add_row([
                    file.unwrap_or(&segment.file).display().to_string(),
                    segment.records.to_string(),
                    segment.file_bytes.to_string(),
                    health,
                ]);
            }
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
    Ok(if is_sound && undecodable == 0 {
        Exit::Success
    } else {
        Exit::Failure
    })
}

/// Says whether a record is what belongs into its journal.
type IsEvent = fn(&Bytes) -> bool;

/// A journal and those below it, for events that left it unpublished.
fn places(journal: &Path) -> Result<Vec<(PathBuf, IsEvent)>, Failure> {
    let mut places: Vec<(PathBuf, IsEvent)> = vec![(journal.to_owned(), |stored| {
        Delivery::decode(stored).is_ok()
    })];
    let set_aside = set_aside_folder(journal);
    if set_aside.try_exists().unwrap_or(true) {
        places.push((set_aside, |stored| {
            decode_mark(stored).is_some() || SetAside::decode(stored).is_some()
        }));
    }
    let parked = parked_folder(journal);
    let lots = lots_in(&parked).map_err(|error| unreadable(&parked, &error))?;
    places.extend(lots.into_iter().map(|lot| {
        let is_event: IsEvent = |stored| Parked::decode(stored).is_some();
        (lot, is_event)
    }));
    Ok(places)
}

// === what they share ===

fn directory(common: &Common) -> Result<PathBuf, Failure> {
    let directory = match &common.path {
        Some(path) => path.clone(),
        None => load_storage(&common.config.config)?.journal.path,
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

pub(super) fn contents(directory: &Path) -> Result<Contents, Failure> {
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

pub(super) fn unreadable(directory: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::Failure,
        format!("reading {}: {error}", directory.display()),
    )
}

/// By message id, or by position.
fn find(
    directory: &Path,
    place: &PlaceArgs,
    event: &str,
) -> Result<(Listed, Delivery, &'static str), Failure> {
    let id = Uuid::try_parse(event).ok();
    let position = event.parse().ok().map(Position);
    if id.is_none() && position.is_none() {
        let message = format!("{event:?} is neither a message id nor a position");
        return Err(Failure::new(Exit::Usage, message));
    }
    for listed in place.events(directory, false)? {
        let (mut listed, state) = listed?;
        let found = |delivery: &Delivery| Some(delivery.id) == id;
        if position != Some(listed.record.position) && !listed.delivery.as_ref().is_ok_and(found) {
            continue;
        }
        let place = listed.record.position.0;
        let delivery = std::mem::replace(&mut listed.delivery, Err(DecodeError::Truncated));
        let delivery = delivery
            .map_err(|error| Failure::new(Exit::Failure, format!("position {place}: {error}")))?;
        return Ok((listed, delivery, state));
    }
    Err(Failure::new(
        Exit::Failure,
        format!("there is no event {event} here"),
    ))
}

/// Events of a place, oldest first, each with its state.
type Events = Box<dyn Iterator<Item = Result<(Listed, &'static str), Failure>>>;

impl PlaceArgs {
    fn events(&self, directory: &Path, waiting: bool) -> Result<Events, Failure> {
        if self.set_aside {
            let events = set_aside(directory)?;
            return Ok(Box::new(events.map(|listed| Ok((listed?, "set aside")))));
        }
        if self.parked {
            let events = parked(directory)?;
            return Ok(Box::new(events.map(|listed| Ok((listed?, "parked")))));
        }
        let (in_lots, aside) = (ids(parked(directory)?)?, ids(set_aside(directory)?)?);
        let contents = contents(directory)?;
        let cursor = contents.cursor.unwrap_or(contents.first);
        let from = if waiting { cursor } else { contents.first };
        let directory = directory.to_owned();
        let records = records(&directory, from)?;
        let parked = waiting.then(|| parked(&directory)).transpose()?;
        let parked = parked.into_iter().flatten();
        let parked = parked.map(|listed| Ok((listed?, "parked")));
        Ok(Box::new(parked.chain(records.map(move |record| {
            let record = record.map_err(|error| unreadable(&directory, &error))?;
            let delivery = Delivery::decode(&record.payload);
            let is_in = |ids: &HashSet<Uuid>| {
                let delivery = delivery.as_ref();
                delivery.is_ok_and(|delivery| ids.contains(&delivery.id))
            };
            let state = match record.position < cursor {
                false => "waiting",
                true if is_in(&in_lots) => "parked",
                true if is_in(&aside) => "set aside",
                true => "published",
            };
            let listed = Listed {
                record,
                delivery,
                reason: None,
            };
            Ok((listed, state))
        }))))
    }
}

/// What was set aside of a journal's events and not replayed since.
pub(super) fn set_aside(
    journal: &Path,
) -> Result<impl Iterator<Item = Result<Listed, Failure>> + use<>, Failure> {
    let folder = set_aside_folder(journal);
    let mut replayed = HashSet::new();
    for record in unconfirmed(&folder)? {
        replayed.extend(decode_mark(&record?.payload));
    }
    let left = unconfirmed(&folder)?;
    Ok(left.filter_map(move |record| {
        let record = match record {
            Ok(record) if replayed.contains(&record.position) => return None,
            Ok(record) => record,
            Err(failure) => return Some(Err(failure)),
        };
        let SetAside {
            reason, delivery, ..
        } = SetAside::decode(&record.payload)?;
        Some(Ok(Listed {
            record,
            delivery: Delivery::decode(&delivery),
            reason: Some(reason),
        }))
    }))
}

/// The message ids of events that can be read.
pub(super) fn ids(
    events: impl Iterator<Item = Result<Listed, Failure>>,
) -> Result<HashSet<Uuid>, Failure> {
    let ids = events.filter_map(|listed| match listed {
        Ok(listed) => listed.delivery.ok().map(|delivery| Ok(delivery.id)),
        Err(failure) => Some(Err(failure)),
    });
    ids.collect()
}

/// Events of a journal that their queues do not take.
pub(super) fn parked(
    journal: &Path,
) -> Result<impl Iterator<Item = Result<Listed, Failure>> + use<>, Failure> {
    let folder = parked_folder(journal);
    let lots = lots_in(&folder).map_err(|error| unreadable(&folder, &error))?;
    let lots: Result<Vec<_>, _> = lots.iter().map(|lot| unconfirmed(lot)).collect();
    Ok(lots?.into_iter().flatten().map(|record| {
        let record = record?;
        let (_, stored) = Parked::decode(&record.payload).unwrap_or_default();
        Ok(Listed {
            delivery: Delivery::decode(&stored),
            record,
            reason: None,
        })
    }))
}

/// The records of a journal from its cursor on; none if there is no such directory.
fn unconfirmed(
    directory: &Path,
) -> Result<impl Iterator<Item = Result<Record, Failure>> + use<>, Failure> {
    let directory = directory.to_owned();
    let records = if directory.try_exists().unwrap_or(true) {
        let contents = Contents::verify(&directory).map_err(|error| {
            Failure::new(Exit::Failure, format!("reading the journal: {error}"))
        })?;
        let from = contents.cursor.unwrap_or(contents.first);
        Some(records(&directory, from)?)
    } else {
        None
    };
    let records = records.into_iter().flatten();
    Ok(records.map(move |record| record.map_err(|error| unreadable(&directory, &error))))
}

/// How many there are.
fn count(events: impl Iterator<Item = Result<Listed, Failure>>) -> Result<u64, Failure> {
    events.map(|event| event.map(|_| 1)).sum()
}

fn object(
    record: &Record,
    delivery: &Delivery,
    state: &str,
    reason: Option<&str>,
) -> serde_json::Value {
    json!({
        "position": record.position.0,
        "state": state,
        "reason": reason,
        "message_id": delivery.id.to_string(),
        "source": &*delivery.source,
        "event_type": delivery.event_type,
        "event_id": delivery.event_id,
        "received_at": delivery.received_at.to_string(),
        "client_ip": delivery.client_ip,
        "request_id": &*delivery.request_id,
        "verified": delivery.coverage.label(),
        "key": delivery.key.as_deref(),
        "unverified": delivery.unverified.as_deref(),
        "schema": delivery.schema.as_deref(),
        "batch": delivery.batch.as_ref().map(|batch| json!({
            "name": &*batch.name, "index": batch.index, "size": batch.size,
        })),
        "quarantine": match &delivery.lane {
            Lane::Main => None,
            Lane::Quarantine(reason) => Some(reason),
        },
        "routing_key": delivery.routing_key,
        "content_type": delivery.content_type,
        "bytes": delivery.body.len(),
    })
}

/// What a person should know of an event before it is taken for a good one.
fn flaw(delivery: &Delivery) -> String {
    let quarantined = (delivery.lane != Lane::Main).then_some("quarantined");
    let unverified = delivery.unverified.as_ref().map(|_| "unverified");
    let flaws: Vec<&str> = unverified.into_iter().chain(quarantined).collect();
    if flaws.is_empty() {
        "-".to_owned()
    } else {
        flaws.join(", ")
    }
}

fn yes(value: bool) -> &'static str {
    if value {
        "yes"
    } else {
        "NO: see `hookgate journal verify`"
    }
}
