//! How many instructions each stage takes for one event, counted by valgrind's callgrind, and held
//! against the table in `benches/INSTRUCTIONS.md`: `make instructions`.
//!
//! Unlike times, counts hardly depend on what else the machine does, so a change that makes an
//! event dearer is seen, and by the stage's name. `WRITE=1` keeps what was counted.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for developers: it prints, and it may stop where it stands"
)]

#[path = "gateway/order.rs"]
mod order;
#[path = "pipeline/setting.rs"]
mod setting;
#[path = "instructions/stages.rs"]
mod stages;
#[path = "instructions/table.rs"]
mod table;
#[expect(dead_code, reason = "tests need more of it")]
#[path = "../tests/gateway/support/webhook.rs"]
mod webhook;

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};

use stages::Stage;
use table::Table;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/INSTRUCTIONS.md");

/// What this program is told when it is to be counted.
const COUNTED: &str = "--counted";

/// Callgrind counts inside of this function, and writes a file each time that it is left. Not a
/// pattern: callgrind forgets the second option of two with the same.
const FUNCTION: &str = "instructions::stages::counted_by_callgrind";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some(COUNTED) => {
            stages::run();
            ExitCode::SUCCESS
        }
        Some("--bench") => check().unwrap_or_else(|error| {
            eprintln!("instructions: {error:#}");
            ExitCode::FAILURE
        }),
        // `cargo test --benches` starts this program too.
        _ => {
            eprintln!("nothing is counted: this is for `make instructions`");
            ExitCode::SUCCESS
        }
    }
}

fn check() -> Result<ExitCode> {
    let counts = count()?;
    let text = std::fs::read_to_string(TABLE).unwrap_or_default();
    let mut table = Table::read(&text);
    if std::env::var("WRITE").is_ok_and(|value| value == "1") {
        table.write(&counts);
        std::fs::write(TABLE, table.text()).context(TABLE)?;
        print!("{}", table.text());
        return Ok(ExitCode::SUCCESS);
    }
    let verdicts = table.compare(&counts);
    for verdict in &verdicts {
        println!("{verdict}");
    }
    if verdicts.iter().any(table::Verdict::is_dearer) {
        println!(
            "an event costs more than benches/INSTRUCTIONS.md says; where it is worth that, \
             `make instructions WRITE=1` says so there"
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs this program once more under callgrind. Gives what each stage takes for one event.
fn count() -> Result<Vec<(Stage, u64)>> {
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("stage");
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--toggle-collect={FUNCTION}"))
        .arg(format!("--dump-after={FUNCTION}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .arg(COUNTED)
        .output()
        .context("valgrind does not start: deploy/install-dependencies.sh installs it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the stages do not run:\n{said}");
    let stages = Stage::ALL.into_iter().zip(1..);
    let counts = stages.map(|(stage, part): (Stage, u32)| {
        let file = format!("{}.{part}", out.display());
        let sum = sum_of(Path::new(&file)).with_context(|| stage.name())?;
        Ok((stage, sum / stages::EVENTS))
    });
    counts.collect()
}

/// The instructions of one part.
fn sum_of(file: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(file).context("callgrind has written nothing about it")?;
    let line = text.lines().find_map(|line| line.strip_prefix("summary:"));
    let sum = line.context("callgrind's file has no summary")?;
    sum.trim().parse().context("callgrind's summary")
}
