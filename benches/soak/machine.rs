//! What it ran on.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::Result;
use rustix::fs::statfs;

const CONTROL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";

/// Filesystems in memory (`statfs(2)`), whose syncs say nothing about a disk.
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;

/// Says so when the journals would stand in memory.
pub(crate) fn warn_of_memory_disk() -> Result<()> {
    let directory = std::env::temp_dir();
    if statfs(&directory)?.f_type == TMPFS_MAGIC {
        eprintln!(
            "soak: {} is in memory, so syncs cost nothing here: set TMPDIR to a directory on disk",
            directory.display()
        );
    }
    Ok(())
}

/// Processors, memory, kernel, versions: a list in Markdown.
pub(crate) fn lines() -> Result<String> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    let broker = Command::new(CONTROL).arg("version").output()?;
    let build = if cfg!(debug_assertions) {
        "debug build"
    } else {
        "release build"
    };
    let mut text = String::new();
    writeln!(
        text,
        "- {} processors shared by gateways, broker, senders and consumer; {:.0} GiB, Linux {}",
        std::thread::available_parallelism()?,
        kib.unwrap_or_default() / (1024.0 * 1024.0),
        kernel.trim()
    )?;
    writeln!(
        text,
        "- hookgate {} ({build}), RabbitMQ {}",
        env!("CARGO_PKG_VERSION"),
        String::from_utf8_lossy(&broker.stdout).trim()
    )?;
    Ok(text)
}
