//! The whole gateway under load, beside what it can be compared with, in one run: `make bench`.
//!
//! 64 senders over TLS; the gateway verifies, validates and stores. Beside it, on the same
//! processors and the same disk: nginx, which answers a constant; a bare publisher to the same
//! broker; what one would write by hand in Node and in Python; and the disk's own syncs. The table goes to stdout, talk to stderr. It gives figures,
//! and fails only when something is lost or answered wrongly.
//!
//! `QUICK=1` takes less time, `WRITE=1` keeps the table in `benches/RESULTS.md`. `PHASE` picks phases
//! by parts of their names: `make bench PHASE='bare publisher,ack = broker'`.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for developers: it prints, and it may stop where it stands"
)]

mod plan;
mod phases;

mod edge;
mod peers;

mod load;
mod line;
mod pace;
mod handshakes;
mod requests;
mod order;
mod nginx;
mod peer;
mod bare;
mod disk;
mod idle;

mod process;
mod figures;
mod report;

#[expect(dead_code, reason = "tests need more of it")]
mod support;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use rustix::fs::statfs;

use phases::Bench;
use plan::{Plan, is_asked_for, is_set};
use report::Report;

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/RESULTS.md");

/// What the page begins with.
const PREFACE: &str = "\
# Figures of `make bench`

Senders, gateway and broker share the processors here, and other machines are faster or slower: a
rate says little by itself. What counts is the ratio to what stands beside it in the same run, and
the processor time of an event, which a busy neighbour changes little.
`make bench WRITE=1` measures anew and writes this page; with `QUICK=1` some phases are left out.
";

/// What is measured without load, for the command line.
const IDLE: &str = "idle";

/// Filesystems in memory (`statfs(2)`), whose syncs say nothing about a disk.
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;

#[tokio::main]
async fn main() -> ExitCode {
    // `cargo test --benches` starts this program too, without the argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        eprintln!("nothing is measured: this is for `make bench`");
        return ExitCode::SUCCESS;
    }
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let directory = std::env::temp_dir();
    if statfs(&directory)?.f_type == TMPFS_MAGIC {
        eprintln!(
            "bench: {} is in memory, so syncs cost nothing here: set TMPDIR to a directory on disk",
            directory.display()
        );
    }
    let plan = Plan::from_environment();
    let text = measure(plan, &directory).await?.text(&plan, &directory)?;
    print!("{text}");
    if is_set("WRITE") {
        let page = format!("{PREFACE}\n{text}");
        std::fs::write(RESULTS, page).context(RESULTS)?;
    }
    Ok(())
}

async fn measure(plan: Plan, directory: &Path) -> Result<Report> {
    let mut report = Report::begin()?;
    eprintln!("starting a broker, signing requests");
    let mut bench = Bench::prepare(plan).await?;
    for round in 1..=plan.rounds {
        let syncs = disk::syncs(directory, plan.warm_up).context("syncing a file")?;
        report.add_syncs(syncs);
        for phase in plan.phases(round) {
            eprintln!("round {round} of {}: {}", plan.rounds, phase.name());
            bench.run(phase, &mut report).await.context(phase.name())?;
        }
    }
    if is_asked_for(IDLE) {
        eprintln!("{IDLE}");
        report.add_facts(idle::memory(&bench.orders).await.context(IDLE)?);
        report.add_facts([idle::first_answer().await.context(IDLE)?, idle::program()?]);
    }
    Ok(report)
}
