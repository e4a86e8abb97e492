//! `[server]`, `[server.limits]` and `[admin]`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::Uri;
use ipnet::IpNet;

use crate::config::raw::PUBLIC_URL_TO_CHANGE;
use crate::config::reader::{Node, Table};
use crate::config::secrets::Vault;
use crate::config::value::{self, Wrong, quote};
use crate::config::{Admin, Limits, Server, tls};

const LISTEN: ([u8; 4], u16) = ([0, 0, 0, 0], 8443);
const ADMIN_LISTEN: ([u8; 4], u16) = ([127, 0, 0, 1], 9090);

/// Most addresses to listen on.
const LISTEN_MAX: usize = 16;

/// Files that are open besides connections: the journal, the broker, the system's own.
const OPEN_FILES_RESERVED: u64 = 256;

const CONNECTIONS: RangeInclusive<u64> = 1..=1_000_000;
const REQUESTS_IN_FLIGHT: RangeInclusive<u64> = 1..=1_000_000;
const BYTES_IN_FLIGHT: RangeInclusive<u64> = (64 << 10)..=(64 << 30);

/// How long a body may be made, for the whole gateway or for one source.
pub(crate) const BODY_BYTES: RangeInclusive<u64> = 1..=(32 << 20);

/// Of everything that a sender makes the gateway wait for.
const PATIENCE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);
const IDLE_TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);
const DRAIN_TIMEOUT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3_600);

/// Reads `[server]`.
pub(crate) fn read(table: &mut Table<'_>, vault: Vault<'_>) -> Server {
    let listen = table
        .get("listen")
        .map(|node| listen(&node))
        .unwrap_or_default();
    let public_url = table.get("public_url").and_then(|node| {
        let url = node.parse(public_url)?;
        if url == PUBLIC_URL_TO_CHANGE {
            node.warning(
                format!("`public_url` is still {}", quote(&url)),
                "write scheme and host of the URLs that you give the providers; some sign them",
            );
        }
        Some(url)
    });
    let trusted_proxies = table
        .get("trusted_proxies")
        .map(|node| trusted_proxies(&node))
        .unwrap_or_default();
    let proxy_protocol = proxy_protocol(table, &trusted_proxies);
    let tls = tls::read(table, vault);
    let limits = limits(table.section("limits"), vault);
    let listen = if listen.is_empty() {
        vec![SocketAddr::from(LISTEN)]
    } else {
        listen
    };
    Server {
        listen,
        public_url,
        trusted_proxies,
        proxy_protocol,
        tls,
        limits,
    }
}

/// Whether trusted proxies begin their connections with a PROXY header.
fn proxy_protocol(table: &mut Table<'_>, trusted_proxies: &[IpNet]) -> bool {
    let Some(node) = table.get("proxy_protocol") else {
        return false;
    };
    let is_on = node
        .choice(&[("off", false), ("v1v2", true)])
        .unwrap_or_default();
    if is_on && trusted_proxies.is_empty() {
        node.error(Wrong::new(
            "nobody is trusted to send a PROXY header",
            "write the addresses of the load balancer: trusted_proxies = [\"10.0.0.5\"]",
        ));
    }
    is_on
}

/// Reads `[admin]`. `taken` are addresses that somebody else listens on.
pub(crate) fn read_admin(mut table: Table<'_>, taken: &[SocketAddr], vault: Vault<'_>) -> Admin {
    let node = table.get("listen");
    let listen = node.as_ref().and_then(|node| node.parse(address));
    let listen = listen.unwrap_or_else(|| SocketAddr::from(ADMIN_LISTEN));
    let token_node = table.get("token");
    let token = token_node.as_ref().and_then(|node| vault.resolve(node));
    if let Some(node) = &node
        && !listen.ip().is_loopback()
        && token_node.is_none()
    {
        node.error(Wrong::new(
            format!("{listen} can be reached from other machines, so `token` is required"),
            "write token = { env = \"HOOKGATE_ADMIN_TOKEN\" } in [admin], or listen on 127.0.0.1",
        ));
    }
    if taken.contains(&listen) && listen.port() != 0 {
        let wrong = Wrong::new(
            format!("{listen} is wanted by [server] and by [admin]"),
            "give `listen` in [admin] another port",
        );
        match &node {
            Some(node) => node.error(wrong),
            None => table.error(wrong),
        }
    }
    table.finish();
    Admin {
        listen,
        token: token.map(|token| token.secret),
    }
}

fn limits(mut table: Table<'_>, vault: Vault<'_>) -> Limits {
    let connections = table.get("max_connections");
    let mut count = |key, range, default| {
        table
            .get(key)
            .and_then(|node: Node<'_>| node.count(range))
            .map_or(default, to_usize)
    };
    let connections_per_peer_max = count("max_connections_per_peer", &CONNECTIONS, 256);
    let requests_in_flight_max = count("max_requests_in_flight", &REQUESTS_IN_FLIGHT, 4_096);
    let connections_max = connections
        .as_ref()
        .and_then(|node| node.count(&CONNECTIONS))
        .map_or(10_000, to_usize);

    let bytes_in_flight = table
        .get("max_bytes_in_flight")
        .and_then(|node| node.size(&BYTES_IN_FLIGHT));
    let bytes_in_flight_max = bytes_in_flight.map_or(256 << 20, to_usize);
    let body_node = table.get("max_body");
    let body = body_node
        .as_ref()
        .and_then(|node| node.size(&BODY_BYTES))
        .map_or(1 << 20, to_usize);
    if body > bytes_in_flight_max {
        let what = "`max_body` is more than `max_bytes_in_flight`, so no such body could be taken";
        let help = "make `max_bytes_in_flight` larger: it is for all requests together";
        match body_node {
            Some(node) => node.error(Wrong::new(what, help)),
            None => table.error(Wrong::new(what, help)),
        }
    }

    let mut wait = |key, range, default_ms| {
        let duration = table
            .get(key)
            .and_then(|node: Node<'_>| node.duration(range));
        duration.unwrap_or(Duration::from_millis(default_ms))
    };
    let limits = Limits {
        connections_max,
        connections_per_peer_max,
        requests_in_flight_max,
        bytes_in_flight_max,
        body_bytes_max: body,
        handshake_timeout: wait("handshake_timeout", &PATIENCE, 5_000),
        header_timeout: wait("header_timeout", &PATIENCE, 5_000),
        body_timeout: wait("body_timeout", &PATIENCE, 10_000),
        idle_timeout: wait("idle_timeout", &IDLE_TIMEOUT, 60_000),
        accept_timeout: wait("accept_timeout", &PATIENCE, 2_000),
        drain_timeout: wait("drain_timeout", &DRAIN_TIMEOUT, 25_000),
    };
    check_open_files(&table, connections.as_ref(), connections_max, vault);
    table.finish();
    limits
}

/// Connections that cannot be opened would be refused by the system, which senders see as an
/// outage.
fn check_open_files(
    table: &Table<'_>,
    node: Option<&Node<'_>>,
    connections: usize,
    vault: Vault<'_>,
) {
    let Some(open_files_max) = vault.surroundings.open_files_max else {
        return;
    };
    let needed = u64::try_from(connections)
        .unwrap_or(u64::MAX)
        .saturating_add(OPEN_FILES_RESERVED);
    if needed <= open_files_max {
        return;
    }
    let what = format!(
        "max_connections = {connections} needs {needed} open files, and this process may have \
         {open_files_max}"
    );
    let help = format!("raise the limit (LimitNOFILE={needed} in the unit, or ulimit -n)");
    match node {
        Some(node) => node.warning(what, help),
        None => table.warning(what, help),
    }
}

fn listen(node: &Node<'_>) -> Vec<SocketAddr> {
    let items = node.one_or_more();
    if items.is_empty() || items.len() > LISTEN_MAX {
        node.error(format!(
            "`listen` takes from 1 to {LISTEN_MAX} addresses, not {}",
            items.len()
        ));
    }
    let mut addresses = Vec::new();
    for item in items {
        let Some(address) = item.parse(address) else {
            continue;
        };
        if addresses.contains(&address) && address.port() != 0 {
            item.error(format!("{address} is there twice"));
        }
        addresses.push(address);
    }
    addresses
}

fn address(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().ok().ok_or_else(|| {
        Wrong::new(
            format!("{} is not an address to listen on", quote(text)),
            "write an IP address and a port: \"0.0.0.0:8443\" or \"[::]:8443\"",
        )
    })
}

/// A list of networks.
fn trusted_proxies(node: &Node<'_>) -> Vec<IpNet> {
    let networks = networks(node);
    if networks.iter().any(|network| network.prefix_len() == 0) {
        node.warning(
            "everybody is trusted to say who sent a request: `allow_ips` and limits by address \
             can be evaded by anybody",
            "write the addresses of the proxies alone",
        );
    }
    networks
}

pub(crate) fn networks(node: &Node<'_>) -> Vec<IpNet> {
    node.items()
        .iter()
        .filter_map(|item| item.parse(value::network))
        .collect()
}

fn public_url(text: &str) -> Result<String, Wrong> {
    let url = text.strip_suffix('/').unwrap_or(text);
    let uri = url.parse::<Uri>().ok().filter(|uri| {
        let is_web = matches!(uri.scheme_str(), Some("https" | "http"));
        let is_bare = uri.path() == "/" && uri.query().is_none() && !url.ends_with('/');
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        is_web && is_bare && !authority.is_empty() && !authority.contains('@')
    });
    match uri {
        Some(_) => Ok(url.to_owned()),
        None => Err(Wrong::new(
            format!("{} is not what a URL begins with", quote(text)),
            "write scheme and host, without a path: \"https://hooks.example.com\"",
        )),
    }
}

pub(crate) fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
