//! Everything at once, for long: `make soak`.
//!
//! Mixed load on two gateways, and a fault every few seconds: kills, restarts, cuts, stalls, alarms,
//! refusals, a full disk, a slow one. In the end everything that was acknowledged must have come
//! out of the queue, byte for byte, the books must balance, and memory and descriptors must be
//! level. The exit code tells; the table goes to stdout, talk to stderr, and `target/soak` keeps
//! `soak.json` and `soak.svg`.
//!
//! `SOAK=4h` sets the length (five minutes without), `HOOKGATE_TEST_SEED` repeats the faults of an
//! earlier run, `WRITE=1` keeps the table in `deploy/reliability.md` and the picture beside it.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for developers: it prints, and it may stop where it stands"
)]

#[path = "parts.rs"]
mod parts;
mod machine;
mod screen;
#[expect(dead_code, reason = "tests need more of it")]
mod support;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use parts::faults::Fault;
use parts::plot;
use parts::report::Report;
use parts::run::{Plan, run};
use screen::Screen;
use support::chance;
use support::figures::Row;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const LENGTH: Duration = Duration::from_secs(300);
/// Between them stands the table of the last run.
const MARKS: [&str; 2] = ["<!-- soak begins -->\n", "<!-- soak ends -->"];

#[tokio::main]
async fn main() -> ExitCode {
    // `cargo test --benches` starts this program too, without the argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        eprintln!("nothing is soaked: this is for `make soak`");
        return ExitCode::SUCCESS;
    }
    match soak().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("soak: what must hold does not");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn soak() -> Result<bool> {
    let plan = Plan {
        length: length()?,
        seed: chance::dice().get_seed(),
        faults: Fault::ALL.to_vec(),
    };
    machine::warn_of_memory_disk()?;
    let mut screen = Screen::new(plan.length);
    screen.say("starting a broker and two gateways");
    let outcome = run(plan, |progress| screen.show(progress)).await;
    screen.end();
    let report = Report::new(&outcome);
    let text = report.text() + &machine::lines()?;
    print!("{text}");
    let picture = plot::svg(&report);
    let folder = Path::new(ROOT).join("target/soak");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("soak.json"), report.json().to_string() + "\n")?;
    std::fs::write(folder.join("soak.svg"), &picture)?;
    eprintln!("target/soak has soak.json and soak.svg");
    if !report.holds() {
        // What it says is on the screen; the page keeps the last run that went well.
        return Ok(false);
    }
    row(&report).write();
    if std::env::var_os("WRITE").is_some_and(|value| value == "1") {
        std::fs::write(Path::new(ROOT).join("deploy/soak.svg"), &picture)?;
        keep(&text)?;
    }
    Ok(true)
}

/// `SOAK`: a number with `s`, `m` or `h`.
fn length() -> Result<Duration> {
    let Ok(text) = std::env::var("SOAK") else {
        return Ok(LENGTH);
    };
    let at = text.len().saturating_sub(1);
    let (number, unit) = text.split_at_checked(at).context("SOAK is empty")?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => bail!("SOAK={text}: a number with s, m or h, such as 20s, 5m, 4h"),
    };
    let number: u64 = number
        .parse()
        .with_context(|| format!("SOAK={text}: a number with s, m or h, such as 5m"))?;
    Ok(Duration::from_secs(number * seconds))
}

/// For `make figures`.
fn row(report: &Report<'_>) -> Row {
    let counts = report.outcome.ledger.books().counts;
    let samples = report.outcome.samples.iter();
    let memory = samples.map(|sample| sample.memory_mib).fold(0.0, f64::max);
    Row::new("X19")
        .saw("seconds", report.outcome.plan.length.as_secs())
        .saw("faults", report.outcome.chronicle.len())
        .saw("acknowledged", counts.acknowledged)
        .saw("lost", 0)
        .saw("duplicates", counts.duplicates)
        .saw("most memory MiB", format_args!("{memory:.0}"))
}

/// Puts the table where the last one stood.
fn keep(text: &str) -> Result<()> {
    let path = Path::new(ROOT).join("deploy/reliability.md");
    let page = std::fs::read_to_string(&path)?;
    let [begin, end] = MARKS;
    let marked = page
        .split_once(begin)
        .and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
    let (before, after) = marked.context("deploy/reliability.md has no place for the table")?;
    std::fs::write(&path, format!("{before}{begin}{text}{end}{after}"))?;
    Ok(())
}
