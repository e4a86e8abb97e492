//! `hookgate replay`: publishes again what was published or set aside, under the same message ids.
//!
//! It reads the journal as `hookgate journal` does and picks the events. A running gateway is
//! asked through its admin listener to take each up again; when none runs, that is done here, and
//! the next start publishes them.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::journal::{contents, ids, parked, set_aside, unreadable};
use super::output::{lines, table};
use super::{ConfigArg, Done, Exit, Failure, block_on, connect_admin, load_storage, talk};
use crate::admin::{CONSENT, REPLAY_PATH};
use crate::app::Stores;
use crate::client::Client;
use crate::clock::Now;
use crate::config::Storage;
use crate::delivery::Delivery;
use crate::journal::{OpenError, Position, Records};
use crate::metrics::Metrics;
use crate::publisher::{Replay, ReplayError, Shelf};
use crate::telemetry::harmless;

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// Events that the broker refused for their own sake, instead of published ones
    #[arg(long)]
    set_aside: bool,
    /// Only events of this source
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Only this event, by its message id; may be repeated
    #[arg(long, value_name = "MESSAGE_ID")]
    id: Vec<Uuid>,
    /// Only events received since then: 2026-01-31T12:00:00Z, or how long ago: 90m, 2h
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,
    /// Show what would be published again, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Events per second [default: as fast as they are taken]
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,
    #[command(flatten)]
    config: ConfigArg,
    /// The journal's directory [default: that of the configuration]
    #[arg(long, value_name = "DIRECTORY")]
    path: Option<PathBuf>,
    /// One JSON object per event
    #[arg(long)]
    json: bool,
}

/// An event that the arguments name.
#[derive(Debug)]
struct Chosen {
    position: Position,
    id: Uuid,
    source: Arc<str>,
    event_type: Option<String>,
    received_at: Timestamp,
    /// Why it was set aside.
    reason: Option<String>,
}

impl Chosen {
    fn new(position: Position, delivery: Delivery, reason: Option<String>) -> Self {
        Self {
            position,
            id: delivery.id,
            source: delivery.source,
            event_type: delivery.event_type,
            received_at: delivery.received_at,
            reason,
        }
    }
}

/// A moment, or how long ago it was.
#[derive(Clone, Copy, Debug)]
enum Since {
    At(Timestamp),
    Ago(Duration),
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(at) = text.parse() {
        return Ok(Since::At(at));
    }
    let ago = crate::config::parse_duration(text);
    ago.map(Since::Ago)
        .ok_or_else(|| "write a time like 2026-01-31T12:00:00Z, or a duration like 2h".to_owned())
}

pub(super) fn run(args: &ReplayArgs, out: &mut dyn Write) -> Done {
    let all = args.source.is_none() && args.id.is_empty() && args.since.is_none();
    if all && !args.set_aside {
        let message = "say which events: --set-aside, --source, --id or --since";
        return Err(Failure::new(Exit::Usage, message));
    }
    let mut storage = load_storage(&args.config.config)?;
    if let Some(path) = &args.path {
        storage.journal.path.clone_from(path);
    }
    let chosen = choose(&storage.journal.path, args)?;
    if chosen.is_empty() {
        return Err(Failure::new(
            Exit::Failure,
            none(&storage.journal.path, args),
        ));
    }
    if args.dry_run {
        show(&chosen, args.json, out)?;
        talk(&format!("{} would be published again", chosen.len()));
        return Ok(Exit::Success);
    }
    block_on(replay(storage, &chosen, args, out))
}

/// Why there is nothing to do, with a way on where a name may be wrong.
fn none(directory: &Path, args: &ReplayArgs) -> String {
    let shelf = if args.set_aside {
        "set aside in"
    } else {
        "published and still kept in"
    };
    let place = format!("{shelf} {}", directory.display());
    match &args.source {
        None => format!("there is no such event: nothing of the kind was {place}"),
        Some(source) => format!(
            "there is no such event: nothing of a source {source:?} was {place}; \
             `hookgate journal list` shows what there is, and of which sources"
        ),
    }
}

/// Those that the arguments name, oldest first.
fn choose(directory: &Path, args: &ReplayArgs) -> Result<Vec<Chosen>, Failure> {
    let since = match args.since {
        None => None,
        Some(Since::At(at)) => Some(at),
        Some(Since::Ago(ago)) => Now::read().wall.checked_sub(ago).ok(),
    };
    let wanted = |delivery: &Delivery| {
        (args.id.is_empty() || args.id.contains(&delivery.id))
            && args
                .source
                .as_ref()
                .is_none_or(|name| **name == *delivery.source)
            && since.is_none_or(|since| delivery.received_at >= since)
    };
    let mut chosen = Vec::new();
    if args.set_aside {
        for one in set_aside(directory)? {
            let one = one?;
            if let Ok(delivery) = one.delivery
                && wanted(&delivery)
            {
                chosen.push(Chosen::new(one.record.position, delivery, one.reason));
            }
        }
        return Ok(chosen);
    }
    let (in_lots, aside) = (ids(parked(directory)?)?, ids(set_aside(directory)?)?);
    let found = contents(directory)?;
    let cursor = found.cursor.unwrap_or(found.first);
    // An event that was replayed before stands there twice.
    let mut seen = HashSet::new();
    let (mut waiting, mut refused) = (0, 0);
    let records = Records::read(directory, found.first);
    for record in records.map_err(|error| unreadable(directory, &error))? {
        let record = record.map_err(|error| unreadable(directory, &error))?;
        if record.position >= found.end {
            break;
        }
        let Ok(delivery) = Delivery::decode(&record.payload) else {
            continue;
        };
        if !wanted(&delivery) {
            continue;
        }
        if record.position >= cursor || in_lots.contains(&delivery.id) {
            waiting += 1;
        } else if aside.contains(&delivery.id) {
            refused += 1;
        } else if seen.insert(delivery.id) {
            chosen.push(Chosen::new(record.position, delivery, None));
        }
    }
    if waiting > 0 {
        talk(&format!(
            "{waiting} more wait for the broker and will be published by themselves"
        ));
    }
    if refused > 0 {
        talk(&format!(
            "{refused} more were set aside: --set-aside takes those up"
        ));
    }
    Ok(chosen)
}

fn show(chosen: &[Chosen], json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let mut rows = table(&[
        "position",
        "received",
        "source",
        "type",
        "message id",
        "reason",
    ]);
    let text = |text: Option<&str>| text.map_or_else(|| "-".to_owned(), harmless);
    for one in chosen {
        if json {
            writeln!(out, "{}", object(one))?;
            continue;
        }
        rows.add_row([
            one.position.0.to_string(),
            one.received_at.to_string(),
            one.source.to_string(),
            text(one.event_type.as_deref()),
            one.id.to_string(),
            text(one.reason.as_deref()),
        ]);
    }
    if !json {
        write!(out, "{}", lines(&rows))?;
    }
    Ok(())
}

fn object(one: &Chosen) -> Value {
    json!({
        "position": one.position.0,
        "message_id": one.id.to_string(),
        "source": &*one.source,
        "event_type": one.event_type,
        "received_at": one.received_at.to_string(),
        "reason": one.reason,
    })
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// It is in the journal once more.
    Taken,
    /// It is not there any more: it outlived `retain`, or somebody else was faster.
    Absent,
}

/// Who takes events up again.
enum Way {
    /// A gateway that runs.
    Admin(Client, HeaderMap),
    /// Nobody has the journal but us.
    Here(Stores, Replay),
}

async fn replay(
    storage: Storage,
    chosen: &[Chosen],
    args: &ReplayArgs,
    out: &mut dyn Write,
) -> Done {
    let shelf = if args.set_aside {
        Shelf::SetAside
    } else {
        Shelf::Journal
    };
    let mut way = Way::find(&storage).await?;
    let mut pace = args.rate.map(|rate| {
        let mut pace = interval(Duration::from_secs(1) / rate);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        pace
    });
    let mut done = Ok(Exit::Success);
    let (mut replayed, mut absent) = (0, 0);
    for one in chosen {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        match way.again(shelf, one.position).await {
            Ok(Again::Taken) => replayed += 1,
            Ok(Again::Absent) => {
                absent += 1;
                continue;
            }
            Err(failure) => {
                done = Err(failure);
                break;
            }
        }
        if args.json {
            writeln!(out, "{}", object(one))?;
        }
    }
    let when = match &way {
        Way::Admin(..) => "are on their way",
        Way::Here(..) => "will be published when the gateway starts",
    };
    talk(&format!("{replayed} of {} {when}", chosen.len()));
    if absent > 0 {
        let why = match shelf {
            Shelf::Journal => "are not kept any more",
            Shelf::SetAside => "are not set aside any more",
        };
        talk(&format!("{absent} {why}: they went since they were chosen"));
        done = done.map(|_| Exit::Failure);
    }
    if let Way::Here(stores, _) = way {
        stores.close().await;
    }
    done
}

impl Way {
    async fn find(config: &Storage) -> Result<Self, Failure> {
        let (metrics, never) = (Metrics::new([]), CancellationToken::new());
        match Stores::open(&config.journal, &metrics, &never, &mut |_, _| {}) {
            Ok(stores) => {
                let replay = stores.replay(&config.journal, metrics, &never);
                let replay = replay.map_err(|error| cannot_open(&error))?;
                return Ok(Self::Here(stores, replay));
            }
            Err(OpenError::Locked(_)) => {}
            Err(error) => return Err(cannot_open(&error)),
        }
        let connected = connect_admin(&config.admin).await;
        let (client, mut headers) = connected.map_err(|failure| {
            let why = failure.message;
            let message = format!("a gateway has the journal, and does not answer: {why}");
            Failure::new(failure.exit, message)
        })?;
        headers.insert(CONSENT, HeaderValue::from_static("1"));
        Ok(Self::Admin(client, headers))
    }

    async fn again(&mut self, shelf: Shelf, position: Position) -> Result<Again, Failure> {
        match self {
            Self::Here(_, replay) => match replay.again(shelf, position).await {
                Ok(_) => Ok(Again::Taken),
                Err(ReplayError::Absent(_)) => Ok(Again::Absent),
                Err(error) => Err(Failure::new(Exit::Failure, error.to_string())),
            },
            Self::Admin(client, headers) => {
                let more = match shelf {
                    Shelf::Journal => "",
                    Shelf::SetAside => "&set_aside",
                };
                let path = format!("{REPLAY_PATH}?position={}{more}", position.0);
                let answer = client
                    .send(Method::POST, &path, headers.clone(), Bytes::new())
                    .await
                    .map_err(|error| Failure::new(Exit::Unavailable, error.to_string()))?;
                match answer.status {
                    StatusCode::ACCEPTED => return Ok(Again::Taken),
                    StatusCode::NOT_FOUND => return Ok(Again::Absent),
                    _ => {}
                }
                let problem: Option<Value> = serde_json::from_slice(&answer.body).ok();
                let detail = problem
                    .as_ref()
                    .and_then(|problem| problem.get("detail"))
                    .and_then(Value::as_str)
                    .map_or_else(String::new, |detail| format!(": {}", harmless(detail)));
                let message = format!("the gateway answered {}{detail}", answer.status);
                Err(Failure::new(Exit::Failure, message))
            }
        }
    }
}

fn cannot_open(error: &OpenError) -> Failure {
    let message = format!("opening the journal: {error}");
    Failure::new(Exit::CannotCreate, message)
}

#[cfg(test)]
mod tests;
