//! `tail --save`: requests that were turned away, as they came, a file each for `explain` to read.
//!
//! What is in them is the sender's and may be personal: nobody else may read the files, there are
//! never many, and none replaces another.

use std::borrow::Cow;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::super::{CONFIG, Exit, Failure, talk};

/// Most requests that are saved in one run.
const REQUESTS_MAX: usize = 100;
/// Longest part of a file's name, in bytes.
const WORD_BYTES_MAX: usize = 64;

/// Where requests are saved.
#[derive(Debug)]
pub(super) struct Saving {
    directory: PathBuf,
    /// The configuration, for whoever has a request explained.
    config: PathBuf,
    saved: usize,
    /// Tells the person at the terminal.
    say: fn(&str),
}

impl Saving {
    /// Makes the directory, if it is not there.
    pub(super) fn into_directory(directory: &Path, config: &Path) -> Result<Self, Failure> {
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory);
        made.map_err(|error| cannot_create(directory, &error))?;
        Ok(Self {
            directory: directory.to_path_buf(),
            config: config.to_path_buf(),
            saved: 0,
            say: talk,
        })
    }

    /// Saves the request of one line of `tail`, if it has one, and says how to have it explained.
    /// Gives the line without it.
    pub(super) fn take<'a>(&mut self, line: &'a [u8]) -> Result<Cow<'a, [u8]>, Failure> {
        let Ok(mut event) = serde_json::from_slice::<Value>(line) else {
            return Ok(Cow::Borrowed(line));
        };
        self.save(&event)?;
        let members = event.as_object_mut();
        Ok(
            match members.and_then(|members| members.remove("request")) {
                Some(_) => Cow::Owned(format!("{event}\n").into_bytes()),
                None => Cow::Borrowed(line),
            },
        )
    }

    fn save(&mut self, event: &Value) -> Result<(), Failure> {
        if let Some(why) = event.get("unsaved").and_then(Value::as_str) {
            let why = match why {
                "too_long" => "it is too long",
                _ => "too many came at once",
            };
            (self.say)(&format!("not saved: {why}"));
        }
        let request = event.get("request").and_then(Value::as_str);
        let Some(request) = request.and_then(|text| STANDARD.decode(text).ok()) else {
            return Ok(());
        };
        if self.saved >= REQUESTS_MAX {
            return Ok(());
        }
        let [at, source, id] = ["at", "source", "request_id"].map(|key| word(event, key));
        let second = at.split_once('.').map_or(&*at, |(second, _)| second);
        let second = second.trim_end_matches('Z');
        let name = format!("{}-{source}-{id}.http", at.replace(':', ""));
        let file = self.directory.join(name);
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file);
        let written = match opened {
            // A sender that chooses its requests' ids chose one twice.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) => Err(error),
            Ok(mut opened) => opened.write_all(&request),
        };
        written.map_err(|error| cannot_create(&file, &error))?;
        self.saved += 1;
        let command = self.command(&source, second, &file);
        (self.say)(&format!("saved: {command}"));
        if self.saved == REQUESTS_MAX {
            (self.say)(&format!(
                "{REQUESTS_MAX} requests are saved, and no more will be"
            ));
        }
        Ok(())
    }
}

impl Saving {
    /// What has a saved request explained, to be copied into a shell.
    fn command(&self, source: &str, second: &str, file: &Path) -> String {
        let config = match &*self.config {
            config if config == Path::new(CONFIG) => String::new(),
            config => format!(" -c {}", quoted(config)),
        };
        let file = quoted(file);
        format!("hookgate explain --source {source} --at {second}Z{config} {file}")
    }
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "-_./+:@%,=".contains(c);
    if text.chars().all(is_plain) && !text.starts_with('-') {
        return text;
    }
    let dot = if text.starts_with('-') { "./" } else { "" };
    format!("{dot}'{}'", text.replace('\'', r"'\''"))
}

/// A text of an event, with nothing in it that is not fit for a file's name.
fn word(event: &Value, key: &str) -> String {
    let text = event.get(key).and_then(Value::as_str).unwrap_or("-");
    let fit = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.:".contains(c) {
            c
        } else {
            '_'
        }
    };
    text.chars().take(WORD_BYTES_MAX).map(fit).collect()
}

fn cannot_create(path: &Path, error: &io::Error) -> Failure {
    let what = format!("--save: {}: {error}", path.display());
    Failure::new(Exit::CannotCreate, what)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;

    fn event(id: &str) -> Value {
        json!({
            "at": "2026-01-01T00:00:00.25Z", "source": "shop", "request_id": id,
            "request": STANDARD.encode("POST /shop HTTP/1.1\r\n\r\n{}"),
        })
    }

    fn into(directory: &Path) -> Saving {
        let saving = Saving::into_directory(directory, Path::new(CONFIG)).unwrap();
        Saving {
            say: |_| {},
            ..saving
        }
    }

    #[test]
    fn a_request_is_in_a_file_that_nobody_else_reads() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("saved");
        let mut saving = into(&directory);
        saving.save(&event("../../a/b")).unwrap();
        // No line has two, and what is there is left alone.
        saving
            .save(&json!({ "at": "2026-01-01T00:00:00.25Z" }))
            .unwrap();
        saving.save(&event("../../a/b")).unwrap();
        let entries: Vec<_> = fs::read_dir(&directory).unwrap().flatten().collect();
        let [entry] = entries.as_slice() else {
            panic!("{entries:?}");
        };
        assert_eq!(
            entry.file_name().to_str(),
            Some("2026-01-01T000000.25Z-shop-.._.._a_b.http")
        );
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&entry.path()), mode(&directory)), (0o600, 0o700));
        let text = fs::read_to_string(entry.path()).unwrap();
        assert_eq!(text, "POST /shop HTTP/1.1\r\n\r\n{}");
    }

    #[test]
    fn the_command_is_fit_for_a_shell() {
        let folder = tempfile::tempdir().unwrap();
        let command = |config: &str, file: &str| {
            let saving = Saving::into_directory(folder.path(), Path::new(config)).unwrap();
            saving.command("shop", "2026-01-01T00:00:00", Path::new(file))
        };
        let begins = "hookgate explain --source shop --at 2026-01-01T00:00:00Z";
        assert_eq!(command(CONFIG, "r/a.http"), format!("{begins} r/a.http"));
        assert_eq!(
            command("../gw.toml", "my refused/it's.http"),
            format!(r"{begins} -c ../gw.toml 'my refused/it'\''s.http'")
        );
        assert_eq!(command(CONFIG, "-r/a"), format!("{begins} ./'-r/a'"));
    }

    #[test]
    fn there_are_never_many() {
        let folder = tempfile::tempdir().unwrap();
        let mut saving = into(folder.path());
        for n in 0..REQUESTS_MAX + 20 {
            saving.save(&event(&n.to_string())).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), REQUESTS_MAX);
    }
}
