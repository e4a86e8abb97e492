//! `[sources.NAME]` as written: a table becomes a [`RawSource`]. Also the grammar of the built-in
//! providers.

mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::raw::{
    Evidence, RawAbout, RawConfirm, RawFetch, RawHandshake, RawHolder, RawList, RawMessage,
    RawRange, RawReply, RawScheme, RawSource, RawVerify, Window, config_name,
};
use crate::config::reader::{Node, Table};
use crate::config::server::BODY_BYTES;
use crate::config::value::{self, Wrong, quote};
use crate::pipeline::limit::Rate;
use crate::pipeline::split::ELEMENTS_MAX;

/// How long an event id may be recognised.
const DEDUPE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);

/// How far a timestamp may be off; zero is "not checked".
const TOLERANCE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(7 * 86_400);

/// An answer that is given is 2xx: a refusal is never configured.
const REPLY_STATUS: RangeInclusive<u64> = 200..=299;

/// Longest answer, in bytes.
const REPLY_BYTES_MAX: usize = 64 * 1024;

/// Most header fields that a handshake's answer names.
const REPLY_HEADERS_MAX: usize = 16;

/// Most handshake rules of a source, schemes of a `verify`, and words in a list.
const LIST_MAX: usize = 64;

/// Events of one batch.
const ELEMENTS: RangeInclusive<u64> = 1..=ELEMENTS_MAX as u64;

/// How to say who may send.
pub(crate) const VERIFY_HELP: &str = "write provider = \"NAME\" (`hookgate providers` lists them), or \
     [sources.NAME.verify] with algorithm, signature and signed; verify = \"insecure-none\" takes \
     anything from anyone";

/// Reads every key but `secrets` and `about`, which not all tables of this kind have.
pub(crate) fn read(table: &mut Table<'_>) -> RawSource {
    RawSource {
        provider: table.get("provider").and_then(|node| node.string()),
        path: table.get("path").and_then(|node| node.string()),
        methods: strings(table, "methods"),
        verify: table.get("verify").and_then(|node| verify(&node)),
        handshakes: table
            .get("handshake")
            .map(|node| handshakes(&node))
            .unwrap_or_default(),
        config: table
            .get("config")
            .map(|node| words(&node))
            .unwrap_or_default(),
        config_asked: asked_of_config(&table.texts()),
        split: strings(table, "split"),
        max_elements: table
            .get("max_elements")
            .and_then(|node| node.count(&ELEMENTS)),
        event_id: strings(table, "event_id"),
        event_type: strings(table, "event_type"),
        format: choice(
            table,
            "format",
            &[
                "auto",
                "json",
                "form",
                "xml",
                "ndjson",
                "cloudevents",
                "raw",
            ],
        ),
        unwrap: table.get("unwrap").and_then(|node| node.string()),
        content_encodings: strings(table, "content_encodings"),
        duplicate_keys: choice(table, "duplicate_keys", &["reject", "allow"]),
        schema: table.get("schema").and_then(|node| node.string()),
        on_invalid: choice(table, "on_invalid", &["reject", "quarantine"]),
        rate_limit: table.get("rate_limit").and_then(|node| rate(&node)),
        peer_rate_limit: table.get("peer_rate_limit").and_then(|node| rate(&node)),
        routing_key: table.get("routing_key").and_then(|node| node.string()),
        ack: choice(table, "ack", &["journal", "broker"]),
        dedupe: table.get("dedupe").and_then(|node| dedupe(&node)),
        enforce: table.get("enforce").and_then(|node| node.boolean()),
        confirm: table.get("confirm").and_then(|node| node.boolean()),
        forward_headers: list(table, "forward_headers"),
        allow_ips: table.get("allow_ips").map(|node| ranges(&node)),
        max_body: table
            .get("max_body")
            .and_then(|node| node.size(&BODY_BYTES)),
        reply: table.get("reply").and_then(|node| node.table()).map(reply),
        problems: table.get("problems").and_then(|node| node.boolean()),
        about: None,
    }
}

/// What `[about]` claims of a provider, and `unverified` may name.
const CLAIMS: [&str; 4] = ["deadline", "retries", "redelivery", "rotation"];

/// Reads `[about]` of a built-in provider.
pub(crate) fn about(mut table: Table<'_>) -> RawAbout {
    let mut text = |key| {
        let node = table.require(key, "see another provider's file");
        node.and_then(|node| node.string()).unwrap_or_default()
    };
    let (title, docs) = (text("title"), text("docs"));
    let [deadline, retries, redelivery, rotation] =
        CLAIMS.map(|key| table.get(key).and_then(|node| node.string()));
    let about = RawAbout {
        title,
        docs,
        setup: list(&mut table, "setup").unwrap_or_default(),
        events: table.get("events").and_then(|node| node.string()),
        evidence: table
            .get("evidence")
            .map_or_else(|| vec![Evidence::Recipe], |node| evidence(&node)),
        deadline,
        retries,
        redelivery,
        rotation,
        unverified: claims(&mut table, "unverified", true),
        unsaid: claims(&mut table, "unsaid", false),
        pages: table
            .get("pages")
            .map(|node| words(&node))
            .unwrap_or_default(),
    };
    for key in about.pages.keys().filter(|key| !table.has(key)) {
        table.error(format!("`pages` has one for `{key}`, which is not there"));
    }
    table.finish();
    about
}

/// Names of claims that are there, or that are not.
fn claims(table: &mut Table<'_>, key: &'static str, are_there: bool) -> Vec<String> {
    let Some(node) = table.get(key) else {
        return Vec::new();
    };
    let known = CLAIMS.map(|key| (key, key));
    let items = node.one_or_more();
    let named = items.iter().filter_map(|item| item.choice(&known));
    let named: Vec<String> = named.map(str::to_owned).collect();
    for claim in named.iter().filter(|claim| table.has(claim) != are_there) {
        let there = if are_there { "not there" } else { "there" };
        node.error(format!("`{key}` names `{claim}`, which is {there}"));
    }
    named
}

fn evidence(node: &Node<'_>) -> Vec<Evidence> {
    const ALL: [Evidence; 3] = [Evidence::Published, Evidence::Sdk, Evidence::Recipe];
    let words = ALL.map(|evidence| (evidence.label(), evidence));
    let items = node.one_or_more();
    items
        .iter()
        .filter_map(|item| item.choice(&words))
        .collect()
}

fn verify(node: &Node<'_>) -> Option<RawVerify> {
    if node.is_text() {
        let text = node.text()?;
        if text == "insecure-none" {
            return Some(RawVerify::InsecureNone);
        }
        node.error(Wrong::new(
            format!("`verify` cannot be {}", quote(text)),
            VERIFY_HELP,
        ));
        return None;
    }
    let items = bounded(node, node.one_or_more());
    if items.is_empty() {
        node.error(Wrong::new("`verify` is an empty list", VERIFY_HELP));
        return None;
    }
    let schemes: Vec<RawScheme> = items.iter().filter_map(Node::table).map(scheme).collect();
    if schemes.is_empty() {
        None
    } else {
        Some(RawVerify::Schemes(schemes))
    }
}

fn scheme(mut table: Table<'_>) -> RawScheme {
    let mut text = |key| table.get(key).and_then(|node: Node<'_>| node.string());
    let algorithm = text("algorithm");
    let encoding = text("encoding");
    let key = text("key");
    let signed = text("signed");
    let timestamp = text("timestamp");
    let timestamp_unit = text("timestamp_unit");
    let prefix = table
        .get("prefix")
        .and_then(|node| node.text())
        .map(str::to_owned);
    let scheme = RawScheme {
        secrets: strings(&mut table, "secrets").unwrap_or_default(),
        algorithm,
        signature: strings(&mut table, "signature").unwrap_or_default(),
        prefix,
        list: table
            .get("list")
            .and_then(|node| node.table())
            .map(signature_list),
        encoding,
        key,
        signed,
        timestamp,
        timestamp_unit,
        tolerance: table
            .get("tolerance")
            .and_then(|node| node.duration(&TOLERANCE)),
        assert: strings(&mut table, "assert").unwrap_or_default(),
        fetch: table
            .get("fetch")
            .and_then(|node| node.table())
            .map(key_fetch),
        token: token::read(&mut table),
        url_variants: strings(&mut table, "url_variants").unwrap_or_default(),
        message: message(&mut table),
        holder: holder(&mut table),
    };
    table.finish();
    scheme
}

fn key_fetch(mut table: Table<'_>) -> RawFetch {
    let mut text = |key| table.get(key).and_then(|node: Node<'_>| node.string());
    let (url, path, holds) = (text("url"), text("path"), text("holds"));
    let fetch = RawFetch {
        url,
        path,
        holds,
        hosts: strings(&mut table, "hosts").unwrap_or_default(),
        names: strings(&mut table, "names").unwrap_or_default(),
    };
    table.finish();
    fetch
}

fn message(table: &mut Table<'_>) -> RawMessage {
    let mut text = |key| table.get(key).and_then(|node: Node<'_>| node.string());
    RawMessage {
        signature_algorithm: text("signature_algorithm"),
        label: text("label"),
        tag: text("tag"),
        covered: strings(table, "covered").unwrap_or_default(),
    }
}

fn holder(table: &mut Table<'_>) -> RawHolder {
    let mut texts = |key| strings(table, key).unwrap_or_default();
    RawHolder {
        subject: texts("subject"),
        san: texts("san"),
        issuer: texts("issuer"),
        fingerprint: texts("fingerprint"),
    }
}

fn signature_list(mut table: Table<'_>) -> RawList {
    let mut text = |key| table.get(key).and_then(|node: Node<'_>| node.string());
    let list = RawList {
        separator: text("separator"),
        assign: text("assign"),
        pick: text("pick"),
    };
    table.finish();
    list
}

fn handshakes(node: &Node<'_>) -> Vec<RawHandshake> {
    let items = bounded(node, node.items());
    items
        .iter()
        .filter_map(Node::table)
        .map(handshake)
        .collect()
}

fn handshake(mut table: Table<'_>) -> RawHandshake {
    let handshake = RawHandshake {
        method: table.get("method").and_then(|node| node.string()),
        path: table.get("path").and_then(|node| node.string()),
        equals: pairs(&mut table, "match"),
        one_of: pairs(&mut table, "one_of"),
        has: strings(&mut table, "has").unwrap_or_default(),
        absent: strings(&mut table, "absent").unwrap_or_default(),
        require: pairs(&mut table, "require"),
        capture: table.get("capture").and_then(|node| node.string()),
        verify: table.get("verify").and_then(|node| node.boolean()),
        reply: handshake_reply(table.section("reply")),
        confirm: table
            .get("confirm")
            .and_then(|node| node.table())
            .map(confirm),
    };
    table.finish();
    handshake
}

fn confirm(mut table: Table<'_>) -> RawConfirm {
    let confirm = RawConfirm {
        url: table.get("url").and_then(|node| node.string()),
        hosts: strings(&mut table, "hosts").unwrap_or_default(),
        instead_of_body: table.get("instead_of_body").and_then(|node| node.boolean()),
    };
    table.finish();
    confirm
}

fn pairs(table: &mut Table<'_>, key: &'static str) -> BTreeMap<String, String> {
    let node = table.get(key);
    node.map(|node| words(&node)).unwrap_or_default()
}

fn handshake_reply(mut table: Table<'_>) -> RawReply {
    let headers = table.get("headers").map(|node| {
        let headers = words(&node);
        if headers.len() > REPLY_HEADERS_MAX {
            let what = format!("an answer has at most {REPLY_HEADERS_MAX} headers of yours");
            node.error(what);
        }
        headers
    });
    RawReply {
        headers: headers.unwrap_or_default(),
        ..reply(table)
    }
}

fn reply(mut table: Table<'_>) -> RawReply {
    let status = table
        .get("status")
        .and_then(|node| node.count(&REPLY_STATUS));
    let content_type = table.get("content_type").and_then(|node| node.string());
    let body_node = table.get("body");
    let body = body_node.as_ref().and_then(Node::text).map(str::to_owned);
    if let (Some(node), Some(body)) = (&body_node, &body)
        && body.len() > REPLY_BYTES_MAX
    {
        node.error(format!(
            "`body` has at most {REPLY_BYTES_MAX} bytes, not {}",
            body.len()
        ));
    }
    table.finish();
    RawReply {
        status: status.and_then(|status| u16::try_from(status).ok()),
        content_type,
        headers: BTreeMap::new(),
        body,
    }
}

/// `"200/s"` or `{ rate = "200/s", burst = 400 }`.
fn rate(node: &Node<'_>) -> Option<Rate> {
    if !node.is_table() {
        return rate_text(node);
    }
    let mut table = node.table()?;
    let help = "write rate_limit = \"200/s\" or { rate = \"200/s\", burst = 400 }";
    let rate = table
        .require("rate", help)
        .and_then(|node| rate_text(&node));
    let burst = table.get("burst").and_then(|node| {
        let count = node.count(&(1..=u64::from(value::RATE_COUNT_MAX)))?;
        node.accept(value::rate_count(count))
    });
    table.finish();
    rate.map(|rate| Rate {
        burst: burst.unwrap_or(rate.burst),
        ..rate
    })
}

fn rate_text(node: &Node<'_>) -> Option<Rate> {
    let rate = value::rate(node.text()?);
    node.accept(rate.map_err(|wrong| Wrong {
        what: format!("`{}`: {}", node.name(), wrong.what),
        ..wrong
    }))
}

/// `false` or `"24h"`.
fn dedupe(node: &Node<'_>) -> Option<Window> {
    if node.is_false() {
        return Some(Window::Off);
    }
    if !node.is_text() {
        node.mistyped("`false` or a duration such as \"24h\"");
        return None;
    }
    node.duration(&DEDUPE).map(Window::For)
}

/// `["192.0.2.0/24", { file = "ranges.txt" }]`, or one such table.
fn ranges(node: &Node<'_>) -> Vec<RawRange> {
    let items = if node.is_table() {
        vec![node.clone()]
    } else {
        node.items()
    };
    let items = bounded(node, items);
    items.iter().filter_map(range).collect()
}

fn range(node: &Node<'_>) -> Option<RawRange> {
    if !node.is_table() {
        return node.string().map(RawRange::Network);
    }
    let mut table = node.table()?;
    let file = table.require("file", "write { file = \"ranges.txt\" }");
    let file = file.and_then(|node| node.string());
    let pointers = match table.get("pointer") {
        None => Some(Vec::new()),
        Some(node) => pointers(&node),
    };
    table.finish();
    Some(RawRange::File {
        file: file?,
        pointers: pointers?,
    })
}

/// Pointers into a JSON file. `None`: one of them is none.
fn pointers(node: &Node<'_>) -> Option<Vec<String>> {
    let pointers = node.strings()?;
    match pointers.iter().find(|pointer| !pointer.starts_with('/')) {
        None => Some(pointers),
        Some(wrong) => {
            let wrong = quote(wrong);
            node.error(format!("{wrong} is not a JSON pointer: it begins with `/`"));
            None
        }
    }
}

/// A table of texts under keys of the user's own. Several under one key are one with spaces.
fn words(node: &Node<'_>) -> BTreeMap<String, String> {
    let Some(table) = node.table() else {
        return BTreeMap::new();
    };
    let entries = table.entries().into_iter();
    entries
        .filter_map(|(key, node)| {
            if node.is_list() {
                return Some((key.to_owned(), node.strings()?.join(" ")));
            }
            Some((key.to_owned(), node.text()?.to_owned()))
        })
        .collect()
}

/// What stands behind an expression or in braces when the operator has to say it.
const CONFIG: &str = "config:";

/// The names behind `config:`.
fn asked_of_config(texts: &[&str]) -> BTreeSet<String> {
    let places = texts.iter().flat_map(|text| text.split(CONFIG).skip(1));
    let names = places.map(config_name).filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

/// A word of a closed set, kept as a word.
fn choice(table: &mut Table<'_>, key: &'static str, words: &[&'static str]) -> Option<String> {
    let choices: Vec<(&str, &str)> = words.iter().map(|&word| (word, word)).collect();
    table
        .get(key)
        .and_then(|node| node.choice(&choices))
        .map(str::to_owned)
}

/// One text or several; at least one.
fn strings(table: &mut Table<'_>, key: &'static str) -> Option<Vec<String>> {
    let node = table.get(key)?;
    bounded(&node, node.strings().unwrap_or_default()).into()
}

/// Several texts, maybe none.
fn list(table: &mut Table<'_>, key: &'static str) -> Option<Vec<String>> {
    let node = table.get(key)?;
    Some(
        bounded(&node, node.items())
            .iter()
            .filter_map(Node::string)
            .collect(),
    )
}

fn bounded<T>(node: &Node<'_>, mut items: Vec<T>) -> Vec<T> {
    if items.len() > LIST_MAX {
        node.error(format!(
            "this list has at most {LIST_MAX} elements, not {}",
            items.len()
        ));
        items.truncate(LIST_MAX);
    }
    items
}
