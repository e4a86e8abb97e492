//! What a process has used so far.

use std::fs;
use std::sync::OnceLock;

use anyhow::{Context as _, Result};

/// Ticks per second of the times in `/proc/PID/stat`; the same on every Linux (`proc(5)`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time of a process and its children, in user and kernel mode, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let mut seconds = own_seconds(pid)?;
    for child in children.split_whitespace() {
        seconds += own_seconds(child.parse()?)?;
    }
    Ok(seconds)
}

/// The same without its children.
pub(crate) fn own_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name stands in parentheses and may hold anything. After it, `utime` and `stime` are the
    // twelfth and the thirteenth.
    let (_, fields) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    let mut next = || times.next().context("/proc/PID/stat ends early");
    Ok((next()?? + next()??) / TICKS_PER_SECOND)
}

/// Processor time of the broker, in seconds. There is one in a run.
pub(crate) fn broker_seconds() -> Result<f64> {
    static BROKER: OnceLock<u32> = OnceLock::new();
    let pid = match BROKER.get() {
        Some(pid) => *pid,
        None => {
            let pid = descendant("beam.smp").context("the broker's process")?;
            *BROKER.get_or_init(|| pid)
        }
    };
    own_seconds(pid)
}

/// The process of that name among those that come of this one.
fn descendant(name: &str) -> Option<u32> {
    let mut families = vec![std::process::id()];
    while let Some(pid) = families.pop() {
        if fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name) {
            return Some(pid);
        }
        // Each thread has its own children, and may have ended since.
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            families.extend(children.split_whitespace().flat_map(str::parse::<u32>));
        }
    }
    None
}

/// Which memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Resident at this moment.
    Now,
    /// The most that was resident.
    Peak,
}

/// Memory of a process, in KiB.
pub(crate) fn memory_kib(pid: u32, memory: Memory) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let name = match memory {
        Memory::Now => "VmRSS:",
        Memory::Peak => "VmHWM:",
    };
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context(name)?.parse()?)
}
