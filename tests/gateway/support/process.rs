//! What the system says of a process.

use rustix::process::{Pid, Signal};

/// Bytes that it has in memory now (`VmRSS`).
pub(crate) fn resident_bytes(pid: Pid) -> u64 {
    let line = status(pid, "VmRSS:");
    let kibibytes = line.trim_end_matches("kB").trim();
    kibibytes.parse::<u64>().expect("a number") * 1024
}

/// Whether it has a handler of its own for a signal.
pub(crate) fn catches(pid: Pid, signal: Signal) -> bool {
    let mask = u64::from_str_radix(&status(pid, "SigCgt:"), 16).expect("a mask");
    mask & (1 << (signal.as_raw() - 1)) != 0
}

/// One value of `/proc/PID/status`.
fn status(pid: Pid, name: &str) -> String {
    let path = format!("/proc/{}/status", pid.as_raw_nonzero());
    let page = std::fs::read_to_string(&path).expect("the process runs");
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.expect("a line of that name").trim().to_owned()
}
