//! Secret references: `{ env = "X" }`, `{ file = "x" }`, `{ credential = "x" }`, `{ value = "x" }`.
//!
//! No message of this file repeats a value, except the names that a reference is made of.

use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::config::reader::{Node, Table};
use crate::config::surroundings::{Surroundings, read_file};
use crate::config::value::{Wrong, quote};
use crate::pipeline::verify::PublicForm;
use crate::secret::{Labelled, Secret};

/// Longest secret: a file with a key.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Longest label, in bytes. It is published with every message.
const LABEL_BYTES_MAX: usize = 64;

/// Label of a secret that stands in the configuration and has no other name.
const LABEL_INLINE: &str = "inline";

/// Stands for secrets that come in handshakes.
const ENROLLED: &str = "enrolled";

/// How to write a reference.
const HELP: &str =
    "write { env = \"NAME\" }, { file = \"/run/secrets/name\" } or { credential = \"name\" }";

/// Where secrets are looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vault<'a> {
    /// The directory that paths are relative to.
    pub(crate) directory: &'a Path,
    /// Environment and credentials.
    pub(crate) surroundings: &'a Surroundings,
}

/// Whether what is read has to be kept from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privacy {
    Secret,
    /// Public keys, which stand in lists of secrets, too.
    Public,
}

impl Privacy {
    /// Whether others may know these bytes.
    fn allows(self, bytes: &[u8]) -> bool {
        self == Self::Public || PublicForm::is_written_as_public(bytes)
    }
}

impl Vault<'_> {
    /// Resolves one reference; reports why it cannot be.
    pub(crate) fn resolve(self, node: &Node<'_>) -> Option<Labelled> {
        self.resolve_as(node, Privacy::Secret)
    }

    fn resolve_as(self, node: &Node<'_>, privacy: Privacy) -> Option<Labelled> {
        if !node.is_table() {
            node.error(Wrong::new(
                "a secret must be a reference, not the secret itself",
                HELP,
            ));
            return None;
        }
        let mut table = node.table()?;
        let found = [
            table.get("env").map(|name| self.environment(&name)),
            table.get("file").map(|path| self.file(&path, privacy)),
            table
                .get("credential")
                .map(|name| self.credential(&name, privacy)),
            table.get("value").map(|value| inline(&value, privacy)),
        ];
        let label = table.get("label").map(|label| self::label(&label));
        table.finish();

        let mut found = found.into_iter().flatten();
        let (Some(first), None) = (found.next(), found.next()) else {
            node.error(Wrong::new(
                "a secret needs exactly one of `env`, `file`, `credential` and `value`",
                HELP,
            ));
            return None;
        };
        let named = first?;
        if named.bytes.is_empty() {
            node.error(format!("the secret {} is empty", quote(&named.name)));
            return None;
        }
        let label = label.map_or(Some(named.name), |label| label)?;
        Some(Labelled {
            label: Arc::from(label),
            secret: Secret::new(named.bytes),
        })
    }

    fn environment(self, node: &Node<'_>) -> Option<Named> {
        let name = node.string()?;
        let Some(bytes) = self.surroundings.variable(&name) else {
            node.error(Wrong::new(
                format!("the environment variable {} is not set", quote(&name)),
                "set it for this process, or use { file = \"...\" }",
            ));
            return None;
        };
        Some(Named {
            name,
            bytes: bytes.into_vec(),
        })
    }

    fn file(self, node: &Node<'_>, privacy: Privacy) -> Option<Named> {
        let text = node.string()?;
        let path = self.directory.join(&text);
        let name = path
            .file_name()
            .map_or_else(|| text.clone(), |name| name.to_string_lossy().into_owned());
        self.read(node, &path, name, privacy)
    }

    fn credential(self, node: &Node<'_>, privacy: Privacy) -> Option<Named> {
        let name = node.string()?;
        if name.contains('/') || name == "." || name == ".." {
            node.error(Wrong::new(
                format!("{} is not the name of a credential", quote(&name)),
                "write the name alone: systemd says in which directory it is",
            ));
            return None;
        }
        let Some(directory) = self.surroundings.credentials() else {
            node.error(Wrong::new(
                format!(
                    "the credential {} is not there: systemd passed none",
                    quote(&name)
                ),
                "write LoadCredential=NAME:/path in the unit, or use { file = \"...\" }",
            ));
            return None;
        };
        self.read(node, &directory.join(&name), name, privacy)
    }

    fn read(self, node: &Node<'_>, path: &Path, name: String, privacy: Privacy) -> Option<Named> {
        let shown = quote(&path.to_string_lossy());
        let contents = match read_file(path, SECRET_BYTES_MAX) {
            Ok(contents) => contents,
            Err(why) => {
                node.error(format!("cannot read the secret from {shown}: {why}"));
                return None;
            }
        };
        if contents.world_readable && !privacy.allows(&contents.bytes) {
            node.warning(
                format!("everybody on this machine can read the secret in {shown}"),
                "take the permission away: chmod o-r",
            );
        }
        let mut bytes = contents.bytes;
        trim_newline(&mut bytes);
        Some(Named { name, bytes })
    }
}

/// A secret with the name it was found under.
struct Named {
    name: String,
    bytes: Vec<u8>,
}

fn inline(node: &Node<'_>, privacy: Privacy) -> Option<Named> {
    let text = node.text()?;
    if !privacy.allows(text.as_bytes()) {
        node.warning(
            "a secret stands in the configuration, for everybody who can read that",
            "fine while developing; in production use { env = \"NAME\" } or { file = \"...\" }",
        );
    }
    Some(Named {
        name: LABEL_INLINE.to_owned(),
        bytes: text.as_bytes().to_vec(),
    })
}

fn label(node: &Node<'_>) -> Option<String> {
    let label = node.string()?;
    let plain = label
        .bytes()
        .all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if plain && label.len() <= LABEL_BYTES_MAX {
        return Some(label);
    }
    node.error(format!(
        "a label is at most {LABEL_BYTES_MAX} characters of ASCII, which {} is not",
        quote(&label)
    ));
    None
}

/// Editors and `echo` end a file with a newline that is no part of the secret.
fn trim_newline(bytes: &mut Vec<u8>) {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
}

/// Reads `secrets = [...]`: how many there may be, and no two under one label.
pub(crate) fn list(
    table: &mut Table<'_>,
    key: &'static str,
    max: usize,
    vault: Vault<'_>,
    privacy: Privacy,
) -> Listed {
    let Some(node) = table.get(key) else {
        return Listed::Absent;
    };
    if node.text_is(ENROLLED) {
        return Listed::Enrolled;
    }
    if node.is_text() {
        let what = format!("`{key}` must be a list, or \"{ENROLLED}\", not a string");
        node.error(Wrong::new(
            what,
            format!("write {key} = [{{ env = \"NAME\" }}]"),
        ));
        return Listed::Broken;
    }
    let items = node.items();
    if items.len() > max {
        node.error(format!(
            "`{key}` can hold at most {max}, not {}",
            items.len()
        ));
        return Listed::Broken;
    }
    let mut secrets: Vec<Labelled> = Vec::new();
    let mut whole = node.is_list();
    for item in &items {
        let Some(secret) = vault.resolve_as(item, privacy) else {
            whole = false;
            continue;
        };
        if secrets.iter().any(|other| other.label == secret.label) {
            item.warning(
                format!("two secrets have the label {}", quote(&secret.label)),
                "give each its own, to see which one a sender uses: label = \"2026\"",
            );
        }
        secrets.push(secret);
    }
    if whole && !secrets.is_empty() {
        Listed::All(secrets)
    } else if whole {
        Listed::Absent
    } else {
        Listed::Broken
    }
}

/// What became of a list of secrets.
#[derive(Debug)]
pub(crate) enum Listed {
    /// None is given.
    Absent,
    /// Some could not be resolved, which has been reported.
    Broken,
    /// All of them.
    All(Vec<Labelled>),
    /// `secrets = "enrolled"`: they come in handshakes.
    Enrolled,
}

#[cfg(test)]
mod tests;
