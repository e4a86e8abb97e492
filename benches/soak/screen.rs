//! What is shown while it runs: one line, in its place on a terminal, and one every ten seconds
//! elsewhere.

use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

use crate::parts::report::thousands;
use crate::parts::run::Progress;

/// Between two lines where they stay.
const LINE_EVERY: u64 = 10;

/// What fits on every terminal.
const COLUMNS: usize = 79;

/// Where progress is shown.
#[derive(Debug)]
pub(crate) struct Screen {
    length: Duration,
    is_terminal: bool,
    next_line: u64,
    accepted_before: u64,
}

impl Screen {
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            length,
            is_terminal: stderr().is_terminal(),
            next_line: 0,
            accepted_before: 0,
        }
    }

    /// A line that stays.
    pub(crate) fn say(&self, text: &str) {
        eprintln!("{text}");
    }

    pub(crate) fn show(&mut self, progress: &Progress) {
        let counts = progress.counts;
        let elapsed = progress.elapsed.as_secs();
        let rate = counts.acknowledged - self.accepted_before;
        self.accepted_before = counts.acknowledged;
        let now: Vec<_> = progress.now.iter().map(ToString::to_string).collect();
        let mut line = format!(
            "{} of {}  {} accepted, {rate}/s  {:.0} waiting  {:.0} MiB  {} faults  {}",
            clock(elapsed),
            clock(self.length.as_secs()),
            thousands(counts.acknowledged),
            progress.sample.waiting,
            progress.sample.memory_mib,
            progress.faults,
            now.join(", ")
        );
        if self.is_terminal {
            // All of it is ASCII. A longer line would not stay in its place.
            line.truncate(COLUMNS);
            eprint!("\r\x1b[2K{line}");
        } else if elapsed >= self.next_line {
            self.next_line = elapsed + LINE_EVERY;
            eprintln!("{line}");
        }
    }

    pub(crate) fn end(&self) {
        if self.is_terminal {
            eprintln!();
        }
    }
}

fn clock(seconds: u64) -> String {
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{:02}", seconds % 60)
    } else {
        format!("{minutes}:{:02}", seconds % 60)
    }
}
