//! What a process uses, as the kernel counts it.

use std::time::Duration;

use rustix::process::Pid;

/// Ticks of the processor time in `/proc`: 100 a second on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process that is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage(u32);

impl Usage {
    /// Of a running process.
    pub(crate) fn of(pid: Pid) -> Self {
        Self(u32::try_from(pid.as_raw_nonzero().get()).expect("positive"))
    }

    /// Resident memory now, in bytes.
    pub(crate) fn resident(self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most that it was since the start, or since [`Usage::forget_peak`].
    pub(crate) fn peak(self) -> u64 {
        self.status("VmHWM:")
    }

    /// Begins a new peak.
    pub(crate) fn forget_peak(self) {
        std::fs::write(self.path("clear_refs"), "5").expect("clear_refs");
    }

    /// Processor time so far, of all threads, in the program and in the kernel.
    pub(crate) fn processor(self) -> Duration {
        let stat = std::fs::read_to_string(self.path("stat")).expect("stat");
        // The name, in brackets, may hold anything.
        let (_, rest) = stat.rsplit_once(')').expect("a name");
        let field = |n: usize| -> f64 {
            let text = rest.split_whitespace().nth(n).expect("a field");
            text.parse().expect("ticks")
        };
        // utime and stime are fields 14 and 15 of proc(5); the state after the name is field 3.
        Duration::from_secs_f64((field(11) + field(12)) / TICKS_PER_SECOND)
    }

    /// Open file descriptors.
    pub(crate) fn descriptors(self) -> usize {
        let folder = std::fs::read_dir(self.path("fd")).expect("fd");
        folder.count()
    }

    fn status(self, name: &str) -> u64 {
        let status = std::fs::read_to_string(self.path("status")).expect("status");
        let line = status.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        let kib: u64 = kib.expect("a field").parse().expect("a number");
        kib * 1024
    }

    fn path(self, name: &str) -> String {
        format!("/proc/{}/{name}", self.0)
    }
}

/// Bytes as MiB, for figures.
pub(crate) fn mib(bytes: u64) -> String {
    let tenths = bytes * 10 / (1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}
