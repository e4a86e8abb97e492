//! `allow_ips`: networks as they are written, and files of those that a provider publishes.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde_json::Value;

use crate::config::compile::Compiler;
use crate::config::raw::RawRange;
use crate::config::surroundings::read_file;
use crate::config::value::{self, Wrong, quote};
use crate::pipeline::networks::{AllowIps, Networks};

/// Longest file of networks: what the largest clouds publish has a few megabytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Most networks of a source.
const NETWORKS_MAX: usize = 100_000;

/// What a comment begins with.
const COMMENT: char = '#';

/// `allow_ips` as it is written. Files are read when the configuration is, and again whenever
/// they change.
#[derive(Clone, Debug, Default)]
pub struct Ranges {
    directory: PathBuf,
    written: Vec<RawRange>,
    stamp: Stamp,
}

/// What the system says of files, without reading them: another one after every change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp(Vec<Option<FileStamp>>);

/// Device, inode, length, and when it was last written and changed.
type FileStamp = (u64, u64, u64, (i64, i64), (i64, i64));

/// Why networks are not taken from files.
#[derive(Debug, thiserror::Error)]
pub enum RangesError {
    /// A file cannot be read now. What is in it may be good.
    #[error("{0}")]
    Unread(String),
    /// What is in them is wrong.
    #[error("{0}")]
    Wrong(String),
}

struct Flaw {
    /// The element that something is wrong with, if it is one.
    at: Option<usize>,
    wrong: Wrong,
    is_unread: bool,
}

impl From<Wrong> for Flaw {
    fn from(wrong: Wrong) -> Self {
        Self {
            at: None,
            wrong,
            is_unread: false,
        }
    }
}

impl Ranges {
    fn new(directory: &Path, written: Vec<RawRange>) -> Self {
        let mut ranges = Self {
            directory: directory.to_owned(),
            written,
            stamp: Stamp::default(),
        };
        // Before they are read, so that no change after that is missed.
        ranges.stamp = ranges.look();
        ranges
    }

    /// Whether any of it is in files.
    pub fn has_files(&self) -> bool {
        !self.stamp.0.is_empty()
    }

    /// What the files were like just before they were first read.
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// What the files are like now.
    pub fn look(&self) -> Stamp {
        let files = self.written.iter().filter_map(|range| match range {
            RawRange::Network(_) => None,
            RawRange::File { file, .. } => Some(self.directory.join(file)),
        });
        Stamp(files.map(|path| stamp(&path)).collect())
    }

    /// The networks that are written, and those that the files name now.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, in one line.
    pub fn read(&self) -> Result<Networks, RangesError> {
        self.networks().map_err(|flaws| {
            let is_unread = flaws.iter().any(|flaw| flaw.is_unread);
            let whats: Vec<String> = flaws.into_iter().map(|flaw| flaw.wrong.what).collect();
            let why = whats.join("; ");
            if is_unread {
                RangesError::Unread(why)
            } else {
                RangesError::Wrong(why)
            }
        })
    }

    fn networks(&self) -> Result<Networks, Vec<Flaw>> {
        let (mut networks, mut flaws) = (Vec::new(), Vec::new());
        for (index, range) in self.written.iter().enumerate() {
            let found = match range {
                RawRange::Network(text) => match value::network(text) {
                    Ok(network) => Ok(vec![network]),
                    Err(wrong) => Err(wrong.into()),
                },
                RawRange::File { file, pointers } => of_file(&self.directory.join(file), pointers),
            };
            match found {
                Ok(found) => networks.extend(found),
                Err(flaw) => flaws.push(Flaw {
                    at: Some(index),
                    ..flaw
                }),
            }
        }
        if networks.len() > NETWORKS_MAX {
            let what = format!("at most {NETWORKS_MAX} networks, not {}", networks.len());
            flaws.push(Wrong::from(what).into());
        }
        if flaws.is_empty() {
            Ok(networks.into_iter().collect())
        } else {
            Err(flaws)
        }
    }
}

impl Compiler<'_> {
    /// Who may send.
    pub(super) fn allow_ips(&self) -> (AllowIps, Ranges) {
        let written = self.raw.allow_ips.clone().unwrap_or_default();
        let ranges = Ranges::new(self.directory, written);
        let networks = ranges.networks().unwrap_or_else(|flaws| {
            for Flaw { at, wrong, .. } in flaws {
                match at.map(|index| index.to_string()) {
                    Some(index) => self.reporter.error(&["allow_ips", &index], wrong),
                    None => self.reporter.error(&["allow_ips"], wrong),
                }
            }
            Networks::default()
        });
        (AllowIps::new(networks), ranges)
    }
}

/// `None`: it cannot be looked at.
fn stamp(path: &Path) -> Option<FileStamp> {
    let it = fs::metadata(path).ok()?;
    let written = (it.mtime(), it.mtime_nsec());
    let changed = (it.ctime(), it.ctime_nsec());
    Some((it.dev(), it.ino(), it.size(), written, changed))
}

/// The networks of a file: a line each, or those that `pointers` lead to in JSON.
fn of_file(path: &Path, pointers: &[String]) -> Result<Vec<IpNet>, Flaw> {
    let shown = quote(&path.to_string_lossy());
    let contents = read_file(path, FILE_BYTES_MAX).map_err(|why| Flaw {
        is_unread: true,
        ..Wrong::from(format!("cannot read the networks from {shown}: {why}")).into()
    })?;
    let networks = if pointers.is_empty() {
        let text = String::from_utf8(contents.bytes)
            .map_err(|_not_text| Wrong::from(format!("{shown} is not text")))?;
        of_lines(&text, &shown)
    } else {
        of_json(&contents.bytes, pointers, &shown)
    }?;
    if networks.is_empty() {
        // An empty list means anyone, which nobody means by a file.
        let what = format!("{shown} names no network, so nobody could send");
        let help = "for anyone, leave `allow_ips` out";
        return Err(Wrong::new(what, help).into());
    }
    Ok(networks)
}

fn of_lines(text: &str, shown: &str) -> Result<Vec<IpNet>, Wrong> {
    let mut networks = Vec::new();
    for (number, line) in (1_usize..).zip(text.lines()) {
        let line = line.split(COMMENT).next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let network = value::network(line).map_err(|wrong| {
            let help = if line.starts_with(['{', '[']) {
                "for JSON say where the networks stand: pointer = \"/hooks\"".to_owned()
            } else {
                wrong.help.unwrap_or_default()
            };
            Wrong::new(format!("line {number} of {shown}: {}", wrong.what), help)
        })?;
        networks.push(network);
    }
    Ok(networks)
}

fn of_json(bytes: &[u8], pointers: &[String], shown: &str) -> Result<Vec<IpNet>, Wrong> {
    let json: Value = serde_json::from_slice(bytes)
        .map_err(|error| Wrong::from(format!("{shown} is not JSON: {error}")))?;
    let mut networks = Vec::new();
    for pointer in pointers {
        let mut found = Vec::new();
        collect(&json, pointer, &mut found);
        if found.is_empty() {
            return Err(Wrong::new(
                format!("there is nothing at {} in {shown}", quote(pointer)),
                "write it as in \"/hooks\" or \"/prefixes/*/ip_prefix\"",
            ));
        }
        for value in found {
            let network = match value {
                Value::String(text) => value::network(text),
                _ => Err(Wrong::from("there is something that is not text")),
            };
            networks.push(network.map_err(|wrong| {
                let what = format!("at {} in {shown}: {}", quote(pointer), wrong.what);
                Wrong::new(what, wrong.help.unwrap_or_default())
            })?);
        }
    }
    Ok(networks)
}

/// What a pointer leads to; `*` is every element, and a list at the end counts as its elements.
fn collect<'v>(json: &'v Value, pointer: &str, found: &mut Vec<&'v Value>) {
    if let Some((list, rest)) = pointer.split_once("/*") {
        let elements = json.pointer(list).and_then(Value::as_array);
        for element in elements.into_iter().flatten() {
            collect(element, rest, found);
        }
        return;
    }
    match json.pointer(pointer) {
        Some(Value::Array(elements)) => found.extend(elements),
        Some(value) => found.push(value),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(networks: Result<Vec<IpNet>, Wrong>) -> String {
        match networks {
            Ok(networks) => {
                let texts: Vec<String> = networks.iter().map(IpNet::to_string).collect();
                texts.join(" ")
            }
            Err(wrong) => wrong.what,
        }
    }

    #[test]
    fn lines_are_networks_with_comments() {
        let text =
            "# GitHub\n192.30.252.0/22\n\n 185.199.108.0/22  # more\r\n2a0a:a440::/29\n::1\n";
        assert_eq!(
            shown(of_lines(text, "f")),
            "192.30.252.0/22 185.199.108.0/22 2a0a:a440::/29 ::1/128"
        );
        assert_eq!(
            shown(of_lines("10.0.0.0/8\n\nnowhere\n", "\"f\"")),
            "line 3 of \"f\": \"nowhere\" is not a network"
        );
        let json = of_lines("{\"hooks\": []}", "f").unwrap_err();
        assert!(json.help.unwrap().contains("pointer"));
    }

    #[test]
    fn what_cannot_be_read_is_told_from_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let written = vec![RawRange::File {
            file: "f".into(),
            pointers: Vec::new(),
        }];
        let ranges = Ranges::new(folder.path(), written);
        assert!(matches!(ranges.read(), Err(RangesError::Unread(_))));
        for wrong in [b"nowhere\n".as_slice(), b"", b"\xff"] {
            fs::write(folder.path().join("f"), wrong).unwrap();
            assert!(matches!(ranges.read(), Err(RangesError::Wrong(_))));
        }
    }

    #[test]
    fn published_json_is_read_by_pointers() {
        let github = br#"{"hooks": ["192.30.252.0/22", "2606:50c0::/32"], "web": ["10.0.0.0/8"]}"#;
        let of = |bytes: &[u8], pointers: &[&str]| {
            let pointers: Vec<String> = pointers.iter().map(|&it| it.to_owned()).collect();
            shown(of_json(bytes, &pointers, "\"f\""))
        };
        assert_eq!(of(github, &["/hooks"]), "192.30.252.0/22 2606:50c0::/32");
        let aws = br#"{"prefixes": [{"ip_prefix": "3.4.12.4/32"}, {"ip_prefix": "3.5.140.0/22"}],
                       "ipv6_prefixes": [{"ipv6_prefix": "2600:1f00::/24"}]}"#;
        assert_eq!(
            of(
                aws,
                &["/prefixes/*/ip_prefix", "/ipv6_prefixes/*/ipv6_prefix"]
            ),
            "3.4.12.4/32 3.5.140.0/22 2600:1f00::/24"
        );
        let stripe = br#"{"WEBHOOKS": ["3.18.12.63"]}"#;
        assert_eq!(of(stripe, &["/WEBHOOKS"]), "3.18.12.63/32");
        assert_eq!(
            of(stripe, &["/API"]),
            "there is nothing at \"/API\" in \"f\""
        );
        let broken = of(b"{\n!", &["/API"]);
        assert!(
            broken.contains("is not JSON") && broken.contains("line 2"),
            "{broken}"
        );
        assert_eq!(
            of(br#"{"a": ["10.0.0.1/8"]}"#, &["/a"]),
            "at \"/a\" in \"f\": \"10.0.0.1/8\" has bits set beyond its prefix"
        );
        assert!(of(br#"{"a": [1]}"#, &["/a"]).ends_with("is not text"));
    }
}
