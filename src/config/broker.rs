//! `[broker]` and `[journal]`: where events wait, and where they go.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::reader::{Node, Table};
use crate::config::secrets::Vault;
use crate::config::server::to_usize;
use crate::config::value::{Wrong, quote};
use crate::config::{Broker, Journal, OnDamage, Queue, QueueKind, Topology};
use crate::publisher;
use crate::secret::{Labelled, Secret};

/// Where the journal is when a configuration does not say, from the directory that it is in.
const JOURNAL_PATH_DEFAULT: &str = "data/journal";

/// Below this, a journal has no room for its segments.
const JOURNAL_BYTES: RangeInclusive<u64> = (8 << 20)..=(64 << 40);
const JOURNAL_BYTES_DEFAULT: u64 = 1 << 30;
const RETAIN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(365 * 86_400);
const RETAIN_DEFAULT: Duration = Duration::from_secs(86_400);

/// A segment is at most this long.
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// And at least this long.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// A journal is made of at least so many, so that old ones can go one by one.
const SEGMENTS_MIN: u64 = 8;

const CONNECTIONS: RangeInclusive<u64> = 1..=16;
const IN_FLIGHT: RangeInclusive<u64> = 1..=65_535;
const CONFIRM_TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);

/// Most nodes of a cluster.
const URLS_MAX: usize = 16;

/// Most queues, and most binding keys of one.
const QUEUES_MAX: usize = 1_000;

/// AMQP 0-9-1 short strings hold at most this many bytes.
const SHORT_STRING_BYTES_MAX: usize = 255;

const URLS_HELP: &str = "write urls = [{ env = \"AMQP_URL\" }] with a URL such as amqps://user:password@host:5671/vhost";

/// How long a segment of a journal of this size is. Filling one must leave room for others.
pub fn journal_segment_bytes(bytes_max: u64) -> u64 {
    (bytes_max / SEGMENTS_MIN).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
}

/// Reads `[journal]`.
pub(crate) fn read_journal(mut table: Table<'_>, vault: Vault<'_>) -> Journal {
    let path_node = table.get("path");
    let path = path_node.as_ref().map(Node::string);
    let path = match path {
        None => Some(PathBuf::from(JOURNAL_PATH_DEFAULT)),
        Some(path) => path.map(PathBuf::from),
    };
    let path = path.map(|path| vault.directory.join(path));
    if let Some(obstacle) = path.as_deref().and_then(obstacle) {
        let wrong = Wrong::new(
            format!(
                "the journal cannot be in {}: {} is not a directory",
                quote(&path.as_deref().unwrap_or(obstacle).to_string_lossy()),
                quote(&obstacle.to_string_lossy())
            ),
            "`path` is a directory; it is made when it is not there, and so are those above it",
        );
        match &path_node {
            Some(node) => node.error(wrong),
            None => table.error(wrong),
        }
    }
    let bytes_max = table
        .get("max_size")
        .and_then(|node| node.size(&JOURNAL_BYTES));
    let retain = table.get("retain").and_then(|node| node.duration(&RETAIN));
    let on_damage = table.get("on_damage").and_then(|node| {
        node.choice(&[
            ("set-aside", OnDamage::SetAside),
            ("refuse", OnDamage::Refuse),
        ])
    });
    table.finish();
    Journal {
        path: path.unwrap_or_default(),
        bytes_max: bytes_max.unwrap_or(JOURNAL_BYTES_DEFAULT),
        retain: retain.unwrap_or(RETAIN_DEFAULT),
        on_damage: on_damage.unwrap_or(OnDamage::SetAside),
    }
}

/// What is in the way of a directory: the path itself, or the nearest above it that exists, when
/// that is something else.
fn obstacle(path: &Path) -> Option<&Path> {
    let mut existing = path
        .ancestors()
        .filter(|above| !above.as_os_str().is_empty())
        .filter_map(|above| Some((above, above.metadata().ok()?)));
    let (nearest, metadata) = existing.next()?;
    (!metadata.is_dir()).then_some(nearest)
}

/// Reads `[broker]`.
pub(crate) fn read(mut table: Table<'_>, vault: Vault<'_>) -> Broker {
    let urls = table
        .require("urls", URLS_HELP)
        .map(|node| urls(&node, vault))
        .unwrap_or_default();
    let exchange = table.get("exchange").and_then(|node| node.parse(amqp_name));
    let topology = table.get("topology").and_then(|node| {
        node.choice(&[
            ("declare", Topology::Declare),
            ("check", Topology::Check),
            ("ignore", Topology::Ignore),
        ])
    });
    let connections = table
        .get("connections")
        .and_then(|node| node.count(&CONNECTIONS));
    let in_flight_max = table
        .get("max_in_flight")
        .and_then(|node| node.count(&IN_FLIGHT));
    let confirm_timeout = table
        .get("confirm_timeout")
        .and_then(|node| node.duration(&CONFIRM_TIMEOUT));
    let cloudevents = table.get("cloudevents").and_then(|node| {
        node.choice(&[
            ("cloudEvents_", Some("cloudEvents_")),
            ("cloudEvents:", Some("cloudEvents:")),
            ("ce-", Some("ce-")),
            ("off", None),
        ])
    });
    let queues = table
        .get("queues")
        .map(|node| queues(&node))
        .unwrap_or_default();
    table.finish();
    Broker {
        urls,
        exchange: exchange.unwrap_or_else(|| "hookgate".to_owned()),
        topology: topology.unwrap_or(Topology::Declare),
        connections: connections.map_or(1, to_usize),
        in_flight_max: in_flight_max.map_or(1_024, to_usize),
        confirm_timeout: confirm_timeout.unwrap_or(Duration::from_secs(10)),
        cloudevents: cloudevents
            .unwrap_or(Some("cloudEvents_"))
            .map(str::to_owned),
        queues,
    }
}

fn urls(node: &Node<'_>, vault: Vault<'_>) -> Vec<Labelled> {
    let items = node.items();
    if node.is_list() && (items.is_empty() || items.len() > URLS_MAX) {
        node.error(Wrong::new(
            format!("`urls` takes from 1 to {URLS_MAX}, not {}", items.len()),
            URLS_HELP,
        ));
    }
    items.iter().filter_map(|item| url(item, vault)).collect()
}

/// A URL may hold a password, so no message repeats any of it.
fn url(node: &Node<'_>, vault: Vault<'_>) -> Option<Labelled> {
    let url = if node.is_text() {
        let text = node.string()?;
        if text.contains('@') {
            node.warning(
                "a broker's URL with its password stands in the configuration",
                "fine while developing; in production use { env = \"AMQP_URL\" }",
            );
        }
        Labelled {
            label: Arc::from("urls"),
            secret: Secret::new(text.into_bytes()),
        }
    } else {
        vault.resolve(node)?
    };
    let text = std::str::from_utf8(url.secret.expose()).unwrap_or_default();
    let rest = text
        .strip_prefix("amqp://")
        .or_else(|| text.strip_prefix("amqps://"));
    let is_plain = !text.contains(|letter: char| letter.is_whitespace() || letter.is_control());
    if is_plain && rest.is_some_and(|rest| !rest.is_empty()) {
        // Whoever will use it knows best what can be used.
        if let Err(why) = publisher::check_url(&url) {
            node.error(Wrong::new(
                why,
                "write amqps://user:password@host:5671/vhost",
            ));
            return None;
        }
        return Some(url);
    }
    node.error(Wrong::new(
        format!("the URL in {} is not one of a broker", quote(&url.label)),
        "it must begin with amqp:// or amqps://, and hold no spaces",
    ));
    None
}

fn queues(node: &Node<'_>) -> Vec<Queue> {
    let items = node.items();
    if items.len() > QUEUES_MAX {
        node.error(format!(
            "there can be at most {QUEUES_MAX} queues, not {}",
            items.len()
        ));
        return Vec::new();
    }
    let mut queues: Vec<Queue> = Vec::new();
    for item in &items {
        let Some(mut table) = item.table() else {
            continue;
        };
        let name_node = table.require("name", "write name = \"orders\"");
        let name = name_node.as_ref().and_then(|node| node.parse(amqp_name));
        if let (Some(node), Some(name)) = (&name_node, &name)
            && queues.iter().any(|other| other.name == *name)
        {
            node.error(format!("there is another queue {}", quote(name)));
        }
        let bind = table.require(
            "bind",
            "write bind = [\"github.#\"], or [\"#\"] for all events",
        );
        let kind = table.get("type").and_then(|node| {
            node.choice(&[
                ("quorum", QueueKind::Quorum),
                ("classic", QueueKind::Classic),
                ("stream", QueueKind::Stream),
            ])
        });
        table.finish();
        queues.push(Queue {
            name: name.unwrap_or_default(),
            bind: bind.map(|node| binding_keys(&node)).unwrap_or_default(),
            kind: kind.unwrap_or(QueueKind::Quorum),
        });
    }
    queues
}

fn binding_keys(node: &Node<'_>) -> Vec<String> {
    let items = node.one_or_more();
    if node.is_list() && (items.is_empty() || items.len() > QUEUES_MAX) {
        node.error(format!(
            "`bind` takes from 1 to {QUEUES_MAX} keys, not {}",
            items.len()
        ));
        return Vec::new();
    }
    let mut keys = Vec::new();
    for item in items {
        let Some(key) = item.string() else { continue };
        if key.len() > SHORT_STRING_BYTES_MAX {
            item.error(format!(
                "a binding key has at most {SHORT_STRING_BYTES_MAX} bytes, not {}",
                key.len()
            ));
        }
        if keys.contains(&key) {
            item.error(format!("the binding key {} is there twice", quote(&key)));
        }
        keys.push(key);
    }
    keys
}

/// The name of an exchange or a queue.
fn amqp_name(name: &str) -> Result<String, Wrong> {
    if name.is_empty() || name.len() > SHORT_STRING_BYTES_MAX {
        return Err(Wrong::from(format!(
            "a name has from 1 to {SHORT_STRING_BYTES_MAX} bytes, not {}",
            name.len()
        )));
    }
    if name.starts_with("amq.") {
        return Err(Wrong::from(format!(
            "{} cannot be used: names that begin with \"amq.\" are the broker's own",
            quote(name)
        )));
    }
    if name.contains(char::is_control) {
        return Err(Wrong::from(format!(
            "{} has control characters in it",
            quote(name)
        )));
    }
    Ok(name.to_owned())
}
