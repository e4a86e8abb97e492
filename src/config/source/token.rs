//! The words about signed tokens in a `verify` table.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{bounded, strings};
use crate::config::raw::{RawIntrospection, RawToken};
use crate::config::reader::{Node, Table};

/// How long ago a token may have been issued.
const MAX_AGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);

/// How long the answer of an authorization server counts.
const CACHE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);

pub(super) fn read(table: &mut Table<'_>) -> RawToken {
    let mut text = |key| table.get(key).and_then(|node: Node<'_>| node.string());
    let jwks = text("jwks");
    let body_hash = text("body_hash");
    let query_hash = text("query_hash");
    RawToken {
        algorithms: strings(table, "algorithms").unwrap_or_default(),
        jwks,
        issuer: strings(table, "issuer").unwrap_or_default(),
        audience: strings(table, "audience").unwrap_or_default(),
        max_age: table
            .get("max_age")
            .and_then(|node| node.duration(&MAX_AGE)),
        expires: table.get("expires").and_then(|node| node.boolean()),
        claims: table
            .get("claims")
            .map(|node| claims(&node))
            .unwrap_or_default(),
        body_hash,
        query_hash,
        introspection: table
            .get("introspection")
            .and_then(|node| node.table())
            .map(introspection),
    }
}

/// Claims, each with one text or several.
fn claims(node: &Node<'_>) -> BTreeMap<String, Vec<String>> {
    let Some(table) = node.table() else {
        return BTreeMap::new();
    };
    let entries = table.entries().into_iter();
    entries
        .map(|(claim, node)| {
            let values = node.strings().unwrap_or_default();
            (claim.to_owned(), bounded(&node, values))
        })
        .collect()
}

fn introspection(mut table: Table<'_>) -> RawIntrospection {
    let mut text = |key| table.get(key).and_then(|node: Node<'_>| node.string());
    let url = text("url");
    let client_id = text("client_id");
    let introspection = RawIntrospection {
        url,
        client_id,
        cache: table.get("cache").and_then(|node| node.duration(&CACHE)),
    };
    table.finish();
    introspection
}
