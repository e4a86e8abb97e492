//! `[server.tls]`: certificates and keys, loaded and checked against each other.

pub(crate) mod files;
pub(crate) mod stamps;

use std::path::{Path, PathBuf};

use crate::config::reader::{Node, Table};
use crate::config::secrets::Vault;
use crate::config::value::{Wrong, quote};
use crate::config::{Shown, Tls, UnknownName};

use files::{Files, Flaw, Which};

/// How to say what TLS is to do.
const HELP: &str = "write cert = \"fullchain.pem\" and key = \"privkey.pem\" in [server.tls], \
     self_signed = true while developing, or tls = \"off\" in [server] behind a load balancer that \
     ends TLS";

/// Most files of revocation lists.
const CRL_FILES_MAX: usize = 64;

/// The files, and where the configuration names them.
#[derive(Default)]
struct Named<'a> {
    files: Files,
    pairs: Vec<(Node<'a>, Node<'a>)>,
    client_ca: Option<Node<'a>>,
    client_crl: Vec<Node<'a>>,
}

/// Reads `server.tls`. `None` is `"off"`.
pub(crate) fn read(server: &mut Table<'_>, vault: Vault<'_>) -> Option<Tls> {
    let node = server.require("tls", HELP)?;
    if !node.is_table() {
        let text = node.text()?;
        if text != "off" {
            node.error(Wrong::new(format!("`tls` cannot be {}", quote(text)), HELP));
        }
        return None;
    }
    let mut table = node.table()?;
    let cert = table.get("cert");
    let key = table.get("key");
    let more = table.get("certificates");
    let self_signed = table
        .get("self_signed")
        .and_then(|node| node.boolean())
        .unwrap_or(false);
    let unknown_name = table.get("unknown_name").and_then(|node| {
        node.choice(&[
            ("first", UnknownName::First),
            ("refuse", UnknownName::Refuse),
        ])
    });

    if self_signed && (cert.is_some() || key.is_some() || more.is_some()) {
        table.error(Wrong::new(
            "self_signed = true and a certificate exclude each other",
            HELP,
        ));
    }
    let mut named = Named::default();
    let mut wanted = 0;
    if cert.is_some() || key.is_some() {
        wanted += 1;
        match (cert, key) {
            (Some(cert), Some(key)) => named.pair(cert, key, vault),
            (Some(_), None) => {
                table.error(Wrong::new("`cert` is there, but `key` is missing", HELP));
            }
            _ => {
                table.error(Wrong::new("`key` is there, but `cert` is missing", HELP));
            }
        }
    }
    for item in more.iter().flat_map(Node::items) {
        wanted += 1;
        let Some(mut pair) = item.table() else {
            continue;
        };
        let cert = pair.require("cert", "write cert = \"fullchain.pem\"");
        let key = pair.require("key", "write key = \"privkey.pem\"");
        if let (Some(cert), Some(key)) = (cert, key) {
            named.pair(cert, key, vault);
        }
        pair.finish();
    }
    if wanted == 0 && !self_signed {
        table.error(Wrong::new("[server.tls] names no certificate", HELP));
    }
    named.clients(&mut table, vault);
    table.finish();
    Some(named.load(self_signed, unknown_name.unwrap_or_default(), vault))
}

impl<'a> Named<'a> {
    fn pair(&mut self, cert: Node<'a>, key: Node<'a>, vault: Vault<'_>) {
        if let (Some(cert_path), Some(key_path)) = (path(&cert, vault), path(&key, vault)) {
            self.files.pairs.push((cert_path, key_path));
            self.pairs.push((cert, key));
        }
    }

    fn clients(&mut self, table: &mut Table<'a>, vault: Vault<'_>) {
        if let Some(node) = table.get("client_ca") {
            self.files.client_ca = path(&node, vault);
            self.client_ca = Some(node);
        }
        let Some(node) = table.get("client_crl") else {
            return;
        };
        if self.client_ca.is_none() {
            node.error(Wrong::new(
                "`client_crl` is there, but `client_ca` is missing",
                "write client_ca = \"partners.pem\": whose certificates are believed",
            ));
            return;
        }
        let items = node.one_or_more();
        if items.is_empty() || items.len() > CRL_FILES_MAX {
            node.error(format!(
                "`client_crl` takes from 1 to {CRL_FILES_MAX} files, not {}",
                items.len()
            ));
            return;
        }
        for item in items {
            if let Some(path) = path(&item, vault) {
                self.files.client_crl.push(path);
                self.client_crl.push(item);
            }
        }
    }

    fn load(self, self_signed: bool, unknown_name: UnknownName, vault: Vault<'_>) -> Tls {
        let snapshot = self.files.read();
        let (material, flaws) = snapshot.look_into(vault.surroundings.now);
        for flaw in flaws {
            self.report(flaw);
        }
        let (certificates, clients) = material.map_or((Vec::new(), None), |material| {
            (material.certificates, material.clients)
        });
        Tls {
            shown: if self_signed {
                Shown::SelfSigned
            } else {
                Shown::Certificates(certificates)
            },
            unknown_name,
            clients,
            fingerprint: snapshot.fingerprint(),
            files: self.files,
        }
    }

    fn report(&self, flaw: Flaw) {
        let node = match flaw.which {
            Which::Certificate(at) => self.pairs.get(at).map(|(cert, _)| cert),
            Which::Key(at) => self.pairs.get(at).map(|(_, key)| key),
            Which::ClientCa => self.client_ca.as_ref(),
            Which::ClientCrl(at) => self.client_crl.get(at),
        };
        let Some(node) = node else {
            return;
        };
        if flaw.is_error {
            node.error(flaw.wrong);
        } else {
            node.warning(flaw.wrong.what, flaw.wrong.help.unwrap_or_default());
        }
    }
}

fn path(node: &Node<'_>, vault: Vault<'_>) -> Option<PathBuf> {
    Some(vault.directory.join(Path::new(&node.string()?)))
}
