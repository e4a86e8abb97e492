//! Enrolled secrets on the disk: one file per source below the journal's directory, readable by
//! its owner only.
//!
//! A file is written beside, synced, and put in the place of the one before; then the directory
//! is synced. So a crash leaves the old record or the new one, and who is told that a secret is
//! taken can rely on it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::clock::Now;
use crate::pipeline::handshake::enrolment::{Enrolled, Enrolment, Keep, Record, Window};
use crate::secret::Secret;
use crate::source::Source;

/// Longest file that is read, in bytes: two secrets and some dates.
const FILE_BYTES_MAX: u64 = 16 * 1024;

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The folder of these files.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

/// A record as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    captured: u64,
    current: Option<WrittenSecret>,
    former: Option<WrittenSecret>,
    window: Option<WrittenWindow>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSecret {
    number: u64,
    since: String,
    secret: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenWindow {
    opened_at: String,
    closes_at: String,
    replace: bool,
}

impl Drop for WrittenSecret {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl Folder {
    /// The one of a journal.
    pub fn of(journal: &Path) -> Self {
        Self(journal.join("enrolled"))
    }

    /// A source's file.
    pub fn file(&self, source: &str) -> PathBuf {
        // Names of sources are letters, digits, `-` and `_`, by configuration.
        self.0.join(format!("{source}.json"))
    }

    /// What is kept of a source; `None` when that is nothing.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is not as it was written.
    pub fn read(&self, source: &str) -> io::Result<Option<Record>> {
        let file = match File::open(self.file(source)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = Zeroizing::new(Vec::new());
        file.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it is not as it was written");
        parse(&text).map(Some).map_err(|Damaged| damaged())
    }

    /// Makes the folder, and syncs the directory that it is in.
    fn make(&self) -> io::Result<()> {
        if self.0.is_dir() {
            return Ok(());
        }
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(FOLDER_MODE).create(&self.0)?;
        let parent = self.0.parent().unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()
    }
}

impl Keep for Folder {
    fn keep(&self, source: &str, record: &Record) -> io::Result<()> {
        self.make()?;
        let beside = self.0.join(format!(".{source}.new"));
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&beside)?;
        // The mask of the process can only take away, but not all of them are sane.
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        file.write_all(&text(record))?;
        file.sync_all()?;
        fs::rename(&beside, self.file(source))?;
        File::open(&self.0)?.sync_all()
    }
}

/// Gives sources back what was enrolled for them. What cannot be read is said, and that source
/// takes nothing until a secret is enrolled again.
pub fn recall(folder: &Folder, sources: &[Arc<Source>], now: Now) -> Vec<String> {
    let enrolments = sources
        .iter()
        .filter_map(|source| Some((source, source.enrolment.as_ref()?)));
    enrolments
        .filter_map(|(source, enrolment)| {
            let why = recall_one(folder, &source.name, enrolment, now).err()?;
            let file = folder.file(&source.name);
            let file = file.display();
            Some(format!(
                "what is enrolled for source `{}` cannot be used, so it takes no events: {file}: \
                 {why}; enrol its secret again",
                source.name
            ))
        })
        .collect()
}

fn recall_one(
    folder: &Folder,
    source: &str,
    enrolment: &Enrolment,
    now: Now,
) -> Result<(), String> {
    let (record, read) = match folder.read(source) {
        Ok(record) => (record.unwrap_or_default(), Ok(())),
        Err(error) => (Record::default(), Err(error.to_string())),
    };
    let recalled = enrolment.recall(record, Arc::new(folder.clone()), now);
    read.and(recalled.map_err(str::to_owned))
}

fn text(record: &Record) -> Zeroizing<Vec<u8>> {
    let secret = |enrolled: &Enrolled| WrittenSecret {
        number: enrolled.number,
        since: enrolled.since.to_string(),
        secret: String::from_utf8_lossy(enrolled.secret.expose()).into_owned(),
    };
    let window = |window: &Window| WrittenWindow {
        opened_at: window.opened_at.to_string(),
        closes_at: window.closes_at.to_string(),
        replace: window.replace,
    };
    let written = Written {
        captured: record.captured,
        current: record.current.as_ref().map(secret),
        former: record.former.as_ref().map(secret),
        window: record.window.as_ref().map(window),
    };
    // Texts and numbers always have a JSON form.
    let mut text = serde_json::to_vec_pretty(&written).unwrap_or_default();
    text.push(b'\n');
    Zeroizing::new(text)
}

/// A file that is not as it was written. In which way is not said: that could repeat a secret.
struct Damaged;

fn parse(text: &[u8]) -> Result<Record, Damaged> {
    let written: Written = serde_json::from_slice(text).map_err(|_secret| Damaged)?;
    let moment = |text: &str| text.parse().map_err(|_odd| Damaged);
    let secret = |written: &WrittenSecret| {
        Ok(Enrolled {
            number: written.number,
            since: moment(&written.since)?,
            secret: Secret::new(written.secret.clone().into_bytes()),
        })
    };
    let window = |written: &WrittenWindow| {
        Ok(Window {
            opened_at: moment(&written.opened_at)?,
            closes_at: moment(&written.closes_at)?,
            replace: written.replace,
        })
    };
    Ok(Record {
        captured: written.captured,
        current: written.current.as_ref().map(secret).transpose()?,
        former: written.former.as_ref().map(secret).transpose()?,
        window: written.window.as_ref().map(window).transpose()?,
    })
}

#[cfg(test)]
mod tests;
