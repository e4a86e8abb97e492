//! The files of `[server.tls]`, read and checked against each other: once when the configuration
//! is loaded, and again whenever they change.

mod look;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::server::danger::ClientCertVerifier;
use sha2::{Digest as _, Sha256};

use crate::config::surroundings::{Contents, read_file};
use crate::config::value::Wrong;
use crate::config::{Certificate, Clients};

/// Longest file of certificates, of a key or of revocation lists.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// The paths of everything that a handshake needs.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Chains with their keys.
    pub pairs: Vec<(PathBuf, PathBuf)>,
    /// Authorities that certificates of clients are checked against.
    pub client_ca: Option<PathBuf>,
    /// Their lists of revoked certificates.
    pub client_crl: Vec<PathBuf>,
}

/// One of [`Files`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The chain at this position.
    Certificate(usize),
    /// The key at this position.
    Key(usize),
    ClientCa,
    /// The list at this position.
    ClientCrl(usize),
}

/// What was found in one of the files.
#[derive(Debug)]
pub(crate) struct Flaw {
    pub(crate) which: Which,
    pub(crate) wrong: Wrong,
    /// A warning otherwise.
    pub(crate) is_error: bool,
}

/// The bytes of all files at one moment.
pub struct Snapshot {
    files: Files,
    contents: Vec<(Which, Result<Contents, String>)>,
    digest: Fingerprint,
}

/// Tells whether any of the files changed. Holds no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// What the files hold.
#[derive(Debug)]
pub struct Material {
    /// In the order of [`Files::pairs`].
    pub certificates: Vec<Certificate>,
    /// `None` without `client_ca`.
    pub clients: Option<Clients>,
}

/// Everything that is wrong with the files, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

impl Files {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.client_ca.is_none()
    }

    /// Reads them all. What cannot be read is found out when the snapshot is looked into.
    pub fn read(&self) -> Snapshot {
        let pairs = self.pairs.iter().enumerate().flat_map(|(at, (cert, key))| {
            [
                (Which::Certificate(at), cert.as_path()),
                (Which::Key(at), key.as_path()),
            ]
        });
        let ca = self.client_ca.iter().map(|path| (Which::ClientCa, path));
        let crls = self.client_crl.iter().enumerate();
        let crls = crls.map(|(at, path)| (Which::ClientCrl(at), path));
        let contents: Vec<_> = pairs
            .chain(ca.chain(crls).map(|(which, path)| (which, path.as_path())))
            .map(|(which, path)| (which, read_file(path, PEM_BYTES_MAX)))
            .collect();
        let mut digest = Sha256::new();
        for (_, contents) in &contents {
            // Hashes of hashes: no file can continue in the next.
            digest.update(match contents {
                Ok(contents) => Sha256::digest(&contents.bytes),
                Err(why) => Sha256::digest(why),
            });
        }
        Snapshot {
            files: self.clone(),
            contents,
            digest: Fingerprint(digest.finalize().into()),
        }
    }

    /// The paths of all.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let pairs = self.pairs.iter().flat_map(|(cert, key)| [cert, key]);
        let others = self.client_ca.iter().chain(&self.client_crl);
        pairs.chain(others).map(PathBuf::as_path)
    }

    fn path(&self, which: Which) -> &Path {
        let path = match which {
            Which::Certificate(at) => self.pairs.get(at).map(|(cert, _)| cert),
            Which::Key(at) => self.pairs.get(at).map(|(_, key)| key),
            Which::ClientCa => self.client_ca.as_ref(),
            Which::ClientCrl(at) => self.client_crl.get(at),
        };
        path.map_or(Path::new(""), PathBuf::as_path)
    }
}

impl Which {
    /// What it is, for messages.
    fn name(self) -> &'static str {
        match self {
            Self::Certificate(_) => "certificate",
            Self::Key(_) => "key",
            Self::ClientCa => "authorities",
            Self::ClientCrl(_) => "revocation list",
        }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The contents hold keys.
        f.debug_struct("Snapshot")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    /// The same as long as no file changes.
    pub fn fingerprint(&self) -> Fingerprint {
        self.digest
    }

    /// Whether every file could be read.
    pub fn is_whole(&self) -> bool {
        self.contents.iter().all(|(_, contents)| contents.is_ok())
    }

    /// What the files hold, at the time `now`; all or nothing. Warnings are logged.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, with the paths.
    pub fn take(&self, now: Timestamp) -> Result<Material, Unusable> {
        let (material, flaws) = self.look_into(now);
        let said = |flaw: &Flaw| {
            let path = self.files.path(flaw.which).display();
            format!("{path}: {}", flaw.wrong.what)
        };
        let (errors, warnings): (Vec<_>, Vec<_>) = flaws.iter().partition(|flaw| flaw.is_error);
        if let Some(material) = material.filter(|_| errors.is_empty()) {
            for warning in warnings {
                let help = warning.wrong.help.as_deref();
                tracing::warn!(help, "{}", said(warning));
            }
            return Ok(material);
        }
        let errors: Vec<String> = errors.into_iter().map(said).collect();
        Err(Unusable(errors.join("; ")))
    }

    /// What the files hold, as far as they can be used, and what is wrong with the rest.
    pub(crate) fn look_into(&self, now: Timestamp) -> (Option<Material>, Vec<Flaw>) {
        look::look_into(self, now)
    }
}

/// Checks certificates of clients.
#[derive(Clone)]
pub struct Verifier(Arc<dyn ClientCertVerifier>);

impl Verifier {
    /// As rustls wants it.
    pub fn to_rustls(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}
