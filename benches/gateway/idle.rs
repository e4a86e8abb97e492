//! What it takes to be there: memory, time to the first answer, bytes on disk.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::{Instant, sleep};

use crate::line::Line;
use crate::load::next_load;
use crate::process::{Memory, memory_kib};
use crate::requests::Requests;
use crate::support::eventually::PATIENCE;
use crate::support::gateway::PROGRAM;
use crate::support::sender::Version;

/// Connections that stay, if this process may have as many.
const CONNECTIONS: usize = 10_000;
/// Files that both sides have open besides.
const FILES_ASIDE: usize = 500;
/// Connections from one address; the gateway's bound is 256.
const PER_ADDRESS: usize = 200;
/// Connections that are made at the same time.
const AT_ONCE: usize = 50;
/// Sources of a gateway whose start is measured.
const SOURCES: usize = 100;
/// Starts; the middle one counts.
const STARTS: usize = 5;
/// Between two attempts to connect.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A figure by its name.
pub(crate) type Fact = (String, String);

/// Raises the bound on open files as far as it goes; gives how many connections may stay.
fn room() -> Result<usize> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised)?;
    let files = limit.maximum.map_or(Ok(usize::MAX), usize::try_from)?;
    Ok(CONNECTIONS.min(files.saturating_sub(FILES_ASIDE)))
}

/// Resident memory with no connection, and with many that have brought one webhook each and stay.
pub(crate) async fn memory(requests: &Arc<Requests>) -> Result<[Fact; 3]> {
    let connections = room()?;
    let gateway = requests
        .setup("journal")
        .limits("max_connections = 20000\nidle_timeout = \"5m\"")
        .start()
        .await;
    let pid = gateway.pid().as_raw_nonzero().get().unsigned_abs();
    let before = memory_kib(pid, Memory::Now)?;
    let to = gateway.sender();
    let load = next_load();
    let mut open = Vec::new();
    while open.len() < connections {
        let wave = (open.len()..connections.min(open.len() + AT_ONCE)).map(|number| {
            let requests = Arc::clone(requests);
            let from = u32::try_from(number / PER_ADDRESS).map(|n| to.from(n));
            tokio::spawn(async move {
                let mut lines = Line::open(&from?, Version::Http1, 1).await?;
                let line = lines.first_mut().context("one line")?;
                let id = format!("{load:08x}-0000-4000-8000-{number:012x}");
                let request = requests.round(0, 1).next().context("a request")?;
                line.exchange(request, &id).await?;
                anyhow::Ok(lines)
            })
        });
        for made in wave.collect::<Vec<_>>() {
            open.append(&mut made.await??);
        }
    }
    let after = memory_kib(pid, Memory::Now)?;
    let metrics = gateway.metrics().await;
    // One more is who asks for the metrics, where that is counted.
    let there = metrics.sum("hookgate_connections", &[]);
    ensure!(
        there >= to_f64(connections),
        "{there} of {connections} connections are open"
    );
    Ok([
        (
            "resident memory after the start".to_owned(),
            format!("{:.1} MiB", before / 1024.0),
        ),
        (
            format!("the same with {connections} idle TLS connections"),
            format!("{:.1} MiB", after / 1024.0),
        ),
        (
            "for each of them, and for the one event that it brought".to_owned(),
            format!("{:.1} KiB", (after - before) / to_f64(connections)),
        ),
    ])
}

/// From the start of the process to the first 202, with some sources.
pub(crate) async fn first_answer() -> Result<Fact> {
    let requests = Requests::orders(SOURCES)?;
    let request = requests.round(0, 1).next().context("a request")?;
    let mut took = Vec::new();
    for _ in 0..STARTS {
        let mut gateway = requests.setup("journal").prepare();
        let to = gateway.sender();
        let start = Instant::now();
        gateway.launch();
        while to.tcp().await.is_err() {
            ensure!(
                start.elapsed() < PATIENCE,
                "it does not listen: {}",
                gateway.log()
            );
            sleep(LOOK_EVERY).await;
        }
        let mut lines = Line::open(&to, Version::Http1, 1).await?;
        let id = format!("{:08x}-0000-4000-8000-000000000000", next_load());
        let line = lines.first_mut().context("one line")?;
        line.exchange(request, &id).await?;
        took.push(start.elapsed());
    }
    took.sort();
    let middle = took.get(STARTS / 2).context("some starts")?;
    Ok((
        format!("start to the first 202, {SOURCES} sources, middle of {STARTS}"),
        format!("{:.0} ms", middle.as_secs_f64() * 1000.0),
    ))
}

/// The program as it is built, and without what is only for debuggers.
pub(crate) fn program() -> Result<Fact> {
    let built = std::fs::metadata(PROGRAM)?.len();
    let directory = tempfile::tempdir()?;
    let stripped = directory.path().join("stripped");
    let status = Command::new("strip")
        .arg("-o")
        .arg(&stripped)
        .arg(PROGRAM)
        .status();
    ensure!(status.context("strip")?.success(), "strip failed");
    let stripped = std::fs::metadata(stripped)?.len();
    Ok((
        "the program, as built and stripped".to_owned(),
        format!("{} MiB, {} MiB", built >> 20, stripped >> 20),
    ))
}

#[expect(clippy::cast_precision_loss, reason = "nobody has 2^53 connections")]
fn to_f64(connections: usize) -> f64 {
    connections as f64
}
