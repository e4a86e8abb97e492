//! `[fetch]`: what holds for everything that the gateway itself fetches.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::authorities::Authorities;
use crate::config::Fetch;
use crate::config::reader::{Node, Table};
use crate::config::secrets::Vault;
use crate::config::server::networks;
use crate::config::surroundings::read_file;
use crate::config::value::{Wrong, quote};
use crate::pipeline::evidence::Target;

/// From looking a name up to the last byte.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// Longest file of authorities.
const CA_BYTES_MAX: u64 = 1024 * 1024;

/// Most names that are given an address by hand.
const RESOLVE_MAX: usize = 64;

/// Reads `[fetch]`.
pub(crate) fn read(mut table: Table<'_>, vault: Vault<'_>) -> Fetch {
    let ca = table.get("ca").map(|node| authorities(&node, vault));
    let allow_private = table.get("allow_private").map(|node| networks(&node));
    let timeout = table.get("timeout").and_then(|it| it.duration(&TIMEOUT));
    let resolve = table.get("resolve").map(|node| resolve(&node));
    table.finish();
    Fetch {
        timeout: timeout.unwrap_or(TIMEOUT_DEFAULT),
        allow_private: allow_private.unwrap_or_default(),
        resolve: resolve.unwrap_or_default(),
        authorities: Authorities::with(ca.unwrap_or_default()),
    }
}

fn authorities(node: &Node<'_>, vault: Vault<'_>) -> Vec<CertificateDer<'static>> {
    let Some(path) = node.string().map(|path| vault.directory.join(path)) else {
        return Vec::new();
    };
    let shown = quote(&path.to_string_lossy());
    let help = "write ca = \"internal-ca.pem\": certificates of authorities in PEM";
    let wrong = |what: String| Wrong::new(what, help);
    let read = read_file(&path, CA_BYTES_MAX)
        .map_err(|why| wrong(format!("cannot read {shown}: {why}")))
        .and_then(|contents| {
            CertificateDer::pem_slice_iter(&contents.bytes)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| wrong(format!("{shown} is not PEM: {error}")))
        });
    let Some(certificates) = node.accept(read) else {
        return Vec::new();
    };
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        if let Err(error) = store.add(certificate.clone()) {
            let what = format!("{shown} holds what is no certificate of an authority: {error}");
            node.error(wrong(what));
        }
    }
    if certificates.is_empty() {
        node.error(wrong(format!("there is no certificate in {shown}")));
    }
    certificates
}

fn resolve(node: &Node<'_>) -> BTreeMap<String, SocketAddr> {
    let Some(table) = node.table() else {
        return BTreeMap::new();
    };
    let entries = table.entries();
    if entries.len() > RESOLVE_MAX {
        node.error(format!("`resolve` has at most {RESOLVE_MAX} names"));
    }
    let mut addresses = BTreeMap::new();
    for (host, node) in entries.into_iter().take(RESOLVE_MAX) {
        let target = Target::configured(&format!("https://{host}"));
        if !target.is_ok_and(|it| it.host().eq_ignore_ascii_case(host)) {
            node.error(format!("{} is not the name of a host", quote(host)));
        }
        let address = node.parse(|text| {
            text.parse().map_err(|_invalid| {
                let what = format!("{} is not an address to call", quote(text));
                Wrong::new(what, "write an IP address and a port: \"10.0.0.5:443\"")
            })
        });
        addresses.extend(address.map(|address| (host.to_ascii_lowercase(), address)));
    }
    addresses
}
