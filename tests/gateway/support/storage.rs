//! What a disk does to the gateway on it: calls that fail or take their time, a disk that is small;
//! and what is on it in the end.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::gateway::{Gateway, cli, said};

/// The words before a program whose system calls are tampered with, for
/// [`Gateway::start_under`]. The calls of each thread are counted for themselves; no other call is
/// slowed down.
pub(crate) fn tampered<'a>(calls: &'a str, inject: &'a str) -> Vec<&'a str> {
    // A tracer that is the program's grandchild leaves the program our child.
    let mut words = vec![
        "strace",
        "-D",
        "-f",
        "-qqq",
        "--seccomp-bpf",
        "-o",
        "/dev/null",
    ];
    words.extend(["-e", calls, "-e", inject]);
    words
}

/// The tracer of a gateway that was started so; dropped, it lets go of it, hanging calls and all.
#[derive(Debug)]
pub(crate) struct Tracer(Pid);

impl Tracer {
    pub(crate) fn of(gateway: &Gateway) -> Self {
        let path = format!("/proc/{}/status", gateway.pid().as_raw_nonzero());
        let status = std::fs::read_to_string(path).expect("status");
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("TracerPid:"));
        let pid = line.and_then(|pid| pid.trim().parse().ok());
        Self(Pid::from_raw(pid.expect("a tracer")).expect("it is traced"))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It may have ended by itself.
        kill_process(self.0, Signal::KILL).unwrap_or_default();
    }
}

/// A file system in memory, of a size, that only processes see which are started on it.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    /// Keeps it. It ends when this process does, however that ends.
    holder: Child,
    _alive: Option<ChildStdin>,
    namespace: String,
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts one on a directory, which is made.
    pub(crate) fn mount(at: &Path, mebibytes: u32) -> Self {
        std::fs::create_dir_all(at).expect("a directory to mount on");
        let script =
            format!("mount -t tmpfs -o size={mebibytes}m tmpfs \"$0\" && echo mounted && exec cat");
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .arg(at)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare: it is in the package util-linux");
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        assert_eq!(
            line, "mounted\n",
            "mounting a tmpfs needs root: run the tests as root, or in a container where you are"
        );
        let pid = holder.id();
        Self {
            _alive: holder.stdin.take(),
            holder,
            namespace: format!("--mount=/proc/{pid}/ns/mnt"),
            at: PathBuf::from(format!("/proc/{pid}/root{}", at.display())),
        }
    }

    /// The words before a program that is to be on it.
    pub(crate) fn wrapper(&self) -> [&str; 2] {
        ["nsenter", &self.namespace]
    }

    /// Where it is seen from here.
    pub(crate) fn path(&self) -> &Path {
        &self.at
    }

    /// Takes all that is free.
    pub(crate) fn fill(&self) {
        use std::io::Write as _;
        let filler = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.filler());
        let mut filler = filler.expect("a filler");
        let piece = [b'x'; 4096];
        // The last piece fits in part, or not at all.
        let full = loop {
            if let Err(error) = filler.write_all(&piece) {
                break error;
            }
        };
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
    }

    /// Gives it back.
    pub(crate) fn free(&self) {
        std::fs::remove_file(self.filler()).expect("the filler");
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.holder.kill());
        self.holder.wait().expect("wait");
    }
}

/// The ids that the provider gave the events that are in a journal. Fails if the journal is not
/// sound.
pub(crate) async fn event_ids(journal: &Path) -> BTreeSet<String> {
    let path = journal.to_str().expect("path");
    let verified = cli(&["journal", "verify", "--path", path], &[]).await;
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
    let listed = [
        "journal", "list", "--path", path, "--json", "--limit", "1000000",
    ];
    let listed = cli(&listed, &[]).await;
    assert_eq!(listed.status.code(), Some(0), "{}", said(&listed));
    let lines = String::from_utf8(listed.stdout).expect("text");
    let ids = lines.lines().map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
        event["event_id"].as_str().expect("an event id").to_owned()
    });
    ids.collect()
}

/// Fails unless everything acknowledged is in the gateway's journal. The gateway may run.
pub(crate) async fn assert_kept(gateway: &Gateway, acknowledged: &[String]) {
    let there = event_ids(&gateway.directory().join("journal")).await;
    assert_all(&there, acknowledged);
}

/// Fails unless everything acknowledged is there.
#[track_caller]
pub(crate) fn assert_all(there: &BTreeSet<String>, acknowledged: &[String]) {
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|id| !there.contains(*id))
        .collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}
