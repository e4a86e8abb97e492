//! The targets of `src/fuzzing.rs` under libFuzzer: `make fuzz`.
//!
//! An input that crashes a target is left in `target/fuzz/TARGET/`, and belongs into
//! `fuzz/crashes/TARGET/` with the change that mends what it shows: `cargo test --lib` tries what
//! is there again, with the seeds, on every machine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use crate::support::figures::{Row, count};

/// For each target, unless `FUZZ_SECONDS` says otherwise.
const SECONDS: u32 = 15;
const SECONDS_FOR_RELEASE: u32 = 30 * 60;

/// The process's memory, as the promise about the journal's parser has it.
const MEBIBYTES_MAX: u32 = 512;
/// One input. With all that a slow machine adds.
const INPUT_TIMEOUT: Duration = Duration::from_secs(20);
const INPUT_BYTES_MAX: u32 = 8192;

/// Fewer places in the code than any target reaches say that nothing was watched.
const PLACES_MIN: u64 = 50;

/// How a target did.
#[derive(Debug)]
struct Run {
    target: String,
    inputs: u64,
    places: u64,
    mebibytes: u64,
}

#[test]
fn no_input_crashes_a_parser() {
    let program = build();
    let all = targets(&program);
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let chosen = all
        .iter()
        .filter(|target| wanted.is_empty() || **target == wanted);
    let chosen: Vec<String> = chosen.cloned().collect();
    assert!(!chosen.is_empty(), "no target {wanted}: there are {all:?}");
    let seconds = match std::env::var("FUZZ_SECONDS") {
        Ok(seconds) => seconds.parse().expect("FUZZ_SECONDS is a number"),
        Err(_not_said) => count(SECONDS, SECONDS_FOR_RELEASE),
    };

    let queue = Mutex::new(chosen.into_iter());
    let runs = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let Some(target) = queue.lock().expect("the queue").next() else {
                        return;
                    };
                    let run = fuzz(&program, &target, seconds);
                    runs.lock().expect("the runs").push(run);
                }
            });
        }
    });
    let runs = runs.into_inner().expect("the runs");
    for run in &runs {
        assert!(run.places > PLACES_MIN, "nothing is watched: {run:?}");
    }
    write_rows(&runs, seconds, all.len());
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Builds the targets, with what is built for the program already.
fn build() -> PathBuf {
    let wrapper = root().join("fuzz/rustc");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--quiet", "--package=hookgate-fuzz"])
        .arg("--message-format=json-render-diagnostics")
        .env("RUSTC_WORKSPACE_WRAPPER", wrapper)
        .current_dir(root())
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(
        built.status.success(),
        "the fuzz targets do not build; they need a C++ compiler: deploy/install-dependencies.sh"
    );
    let messages = String::from_utf8(built.stdout).expect("UTF-8");
    let program = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message.get("executable")?.as_str().map(PathBuf::from)
    });
    program.expect("cargo says what it built")
}

fn targets(program: &Path) -> Vec<String> {
    let output = Command::new(program).env("FUZZ_TARGET", "list").output();
    let names = String::from_utf8(output.expect("the program runs").stdout).expect("UTF-8");
    names.lines().map(str::to_owned).collect()
}

/// Lets one target run. What it learned in an earlier run is where it begins.
fn fuzz(program: &Path, target: &str, seconds: u32) -> Run {
    let folder = root().join("target/fuzz").join(target);
    let [corpus, seeds] = ["corpus", "seeds"].map(|name| folder.join(name));
    for folder in [&corpus, &seeds] {
        fs::create_dir_all(folder).expect("a folder below target");
    }
    let log = folder.join("log");
    let output = File::create(&log).expect("a log");
    let crashes = root().join("fuzz/crashes").join(target);
    let crashes = crashes.is_dir().then_some(crashes);
    let status = Command::new(program)
        .env("FUZZ_TARGET", target)
        .env("FUZZ_SEEDS", &seeds)
        .env("RUST_BACKTRACE", "1")
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-rss_limit_mb={MEBIBYTES_MAX}"))
        .arg(format!("-timeout={}", INPUT_TIMEOUT.as_secs()))
        .arg(format!("-report_slow_units={}", INPUT_TIMEOUT.as_secs()))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-artifact_prefix={}/", folder.display()))
        .arg("-print_final_stats=1")
        .args([&corpus, &seeds])
        .args(crashes)
        .stdout(output.try_clone().expect("a second handle"))
        .stderr(output)
        .status()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&fs::read(&log).expect("the log")).into_owned();
    assert!(
        status.success(),
        "{target}: {status}; keep the input that was found in fuzz/crashes/{target}/ and mend what \
         it shows. {} ends:\n{}",
        log.display(),
        end_of(&said)
    );
    Run {
        target: target.to_owned(),
        inputs: number_after(&said, "stat::number_of_executed_units:"),
        places: number_after(&said, "cov:"),
        mebibytes: number_after(&said, "stat::peak_rss_mb:"),
    }
}

/// The last number that stands behind a word.
fn number_after(text: &str, word: &str) -> u64 {
    let found = text.rsplit_once(word).and_then(|(_, rest)| {
        let number = rest.split_whitespace().next()?;
        number.parse().ok()
    });
    found.unwrap_or_else(|| panic!("no `{word}` in:\n{}", end_of(text)))
}

fn end_of(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// A row for each promise that a target is about, and one for all if all have run.
fn write_rows(runs: &[Run], seconds: u32, all: usize) {
    for (id, target) in [
        ("J14", "journal"),
        ("X10.fuzz", "request"),
        ("X12.fuzz", "log"),
    ] {
        if let Some(run) = runs.iter().find(|run| run.target == target) {
            Row::new(id)
                .saw("seconds", seconds)
                .saw("inputs", run.inputs)
                .saw("places reached", run.places)
                .saw("crashes", 0)
                .saw("MiB at most", run.mebibytes)
                .write();
        }
    }
    if runs.len() == all {
        let inputs: u64 = runs.iter().map(|run| run.inputs).sum();
        Row::new("X17.fuzz")
            .saw("targets", all)
            .saw("seconds each", seconds)
            .saw("inputs", inputs)
            .saw("crashes", 0)
            .write();
    }
}
