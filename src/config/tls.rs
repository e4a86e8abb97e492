//! `[server.tls]`: certificates and keys, loaded and checked against each other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::reader::{Node, Table};
use crate::config::secrets::Vault;
use crate::config::surroundings::{Contents, read_file};
use crate::config::value::{Wrong, quote};
use crate::config::{Certificate, Tls};

/// Longest file of certificates or of a key.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// A certificate that ends sooner is warned of.
const EXPIRY_NOTICE: SignedDuration = SignedDuration::from_hours(14 * 24);

/// How to say what TLS is to do.
const HELP: &str = "write cert = \"fullchain.pem\" and key = \"privkey.pem\" in [server.tls], \
     self_signed = true while developing, or tls = \"off\" in [server] behind a load balancer that \
     ends TLS";

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
    if let Some(client_ca) = table.get("client_ca") {
        client_ca.error(Wrong::new(
            "`client_ca` is not available yet",
            "take it out: clients are not asked for a certificate",
        ));
    }

    if self_signed && (cert.is_some() || key.is_some() || more.is_some()) {
        table.error(Wrong::new(
            "self_signed = true and a certificate exclude each other",
            HELP,
        ));
    }
    let mut certificates = Vec::new();
    let mut named = 0;
    if cert.is_some() || key.is_some() {
        named += 1;
        match (cert, key) {
            (Some(cert), Some(key)) => certificates.extend(load(&cert, &key, vault)),
            (Some(_), None) => {
                table.error(Wrong::new("`cert` is there, but `key` is missing", HELP));
            }
            _ => {
                table.error(Wrong::new("`key` is there, but `cert` is missing", HELP));
            }
        }
    }
    for item in more.iter().flat_map(Node::items) {
        named += 1;
        let Some(mut pair) = item.table() else {
            continue;
        };
        let cert = pair.require("cert", "write cert = \"fullchain.pem\"");
        let key = pair.require("key", "write key = \"privkey.pem\"");
        if let (Some(cert), Some(key)) = (cert, key) {
            certificates.extend(load(&cert, &key, vault));
        }
        pair.finish();
    }
    if named == 0 && !self_signed {
        table.error(Wrong::new("[server.tls] names no certificate", HELP));
    }
    table.finish();
    Some(if self_signed {
        Tls::SelfSigned
    } else {
        Tls::Certificates(certificates)
    })
}

/// Loads one chain and its key.
fn load(cert: &Node<'_>, key: &Node<'_>, vault: Vault<'_>) -> Option<Certificate> {
    let chain = chain(cert, vault);
    let private = private_key(key, vault);
    let (path, chain) = chain?;
    let end_entity = chain.first()?;
    let not_after = check_validity(cert, end_entity, vault.surroundings.now);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    match CertifiedKey::from_der(chain, private?, &provider) {
        Ok(certified) => Some(Certificate {
            path,
            not_after: not_after?,
            certified: Arc::new(certified),
        }),
        Err(rustls::Error::InconsistentKeys(_)) => {
            key.error(Wrong::new(
                "this key does not belong to the certificate",
                "the file of `cert` must begin with the certificate that was made for this key",
            ));
            None
        }
        Err(error) => {
            key.error(format!(
                "the certificate or its key cannot be used: {error}"
            ));
            None
        }
    }
}

fn chain(node: &Node<'_>, vault: Vault<'_>) -> Option<(PathBuf, Vec<CertificateDer<'static>>)> {
    let (path, Contents { bytes, .. }) = read_pem(node, vault, "certificate")?;
    let shown = quote(&path.to_string_lossy());
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&bytes).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Some((path, chain)),
        Ok(_) => {
            node.error(Wrong::new(
                format!("there is no certificate in {shown}"),
                "it must be PEM: -----BEGIN CERTIFICATE-----",
            ));
            None
        }
        Err(error) => {
            node.error(format!("{shown} is not PEM: {error}"));
            None
        }
    }
}

fn private_key(node: &Node<'_>, vault: Vault<'_>) -> Option<PrivateKeyDer<'static>> {
    let (
        path,
        Contents {
            bytes,
            world_readable,
        },
    ) = read_pem(node, vault, "key")?;
    let shown = quote(&path.to_string_lossy());
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => {
            if world_readable {
                node.warning(
                    "everybody on this machine can read this key",
                    "take the permission away: chmod o-r",
                );
            }
            Some(key)
        }
        Err(pem::Error::NoItemsFound) => {
            node.error(Wrong::new(
                format!("there is no private key in {shown}"),
                "it must be PEM without a passphrase: -----BEGIN PRIVATE KEY-----",
            ));
            None
        }
        // What the parser says could repeat a part of the key.
        Err(_) => {
            node.error(format!("{shown} is not PEM"));
            None
        }
    }
}

fn read_pem(node: &Node<'_>, vault: Vault<'_>, what: &str) -> Option<(PathBuf, Contents)> {
    let path = vault.directory.join(Path::new(&node.string()?));
    match read_file(&path, PEM_BYTES_MAX) {
        Ok(contents) => Some((path, contents)),
        Err(why) => {
            let shown = quote(&path.to_string_lossy());
            node.error(format!("cannot read the {what} from {shown}: {why}"));
            None
        }
    }
}

/// When the certificate ends. An old one still serves those who do not look, so it is no error.
fn check_validity(
    node: &Node<'_>,
    certificate: &CertificateDer<'_>,
    now: Timestamp,
) -> Option<Timestamp> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        node.error("the certificate cannot be read");
        return None;
    };
    let validity = parsed.validity();
    let moment = |seconds| Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    let begin = moment(validity.not_before.timestamp());
    let end = moment(validity.not_after.timestamp());
    let help = "senders that verify certificates will not connect: renew it";
    if now > end {
        node.warning(format!("the certificate expired at {end}"), help);
    } else if now < begin {
        node.warning(format!("the certificate is not valid before {begin}"), help);
    } else if end.duration_since(now) < EXPIRY_NOTICE {
        node.warning(format!("the certificate expires at {end}"), "renew it");
    }
    Some(end)
}
