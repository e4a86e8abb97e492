//! The table that is kept: what each stage took when it was last looked at, in both builds.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::process::Command;

use crate::stages::{EVENTS, Stage};

/// A stage may take so much more than the table says, in percent: what compilers and maps with
/// random keys do by themselves is less.
const TOLERANCE_PERCENT: u64 = 5;

/// The build that is counted: the one that the tests run, or the one that ships.
const IS_RELEASE: bool = !cfg!(debug_assertions);

/// What is known of each stage, by name.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: BTreeMap<String, Row>,
    counted_with: Option<String>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    release: Option<u64>,
    dev: Option<u64>,
}

/// What is said of a stage.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// As much as before.
    Same(Stage, u64),
    /// Noticeably less: the table should say so.
    Cheaper(Stage, u64, u64),
    /// More than the tolerance allows.
    Dearer(Stage, u64, u64),
    /// There is nothing to compare with: the table does not have it, or was made by another
    /// compiler.
    New(Stage, u64),
}

impl Table {
    /// Reads what [`Table::text`] wrote.
    pub(crate) fn read(text: &str) -> Self {
        let mut table = Self::default();
        for line in text.lines() {
            if let Some(with) = line.strip_prefix(COUNTED_WITH) {
                table.counted_with = Some(with.to_owned());
            }
            let mut cells = line.split('|').map(str::trim).skip(1);
            let (Some(name), Some(release), Some(dev)) = (cells.next(), cells.next(), cells.next())
            else {
                continue;
            };
            let row = Row {
                release: number(release),
                dev: number(dev),
            };
            if row.own().is_some() || row.release.is_some() || row.dev.is_some() {
                table.rows.insert(name.to_owned(), row);
            }
        }
        table
    }

    /// Holds counts against the table.
    pub(crate) fn compare(&self, counts: &[(Stage, u64)]) -> Vec<Verdict> {
        let is_comparable = self.counted_with.as_ref() == Some(&tools());
        let compare = |&(stage, now): &(Stage, u64)| {
            let row = self.rows.get(stage.name()).filter(|_| is_comparable);
            match row.and_then(|row| row.own()) {
                None => Verdict::New(stage, now),
                Some(before) if now * 100 > before * (100 + TOLERANCE_PERCENT) => {
                    Verdict::Dearer(stage, now, before)
                }
                Some(before) if now * 100 < before * (100 - TOLERANCE_PERCENT) => {
                    Verdict::Cheaper(stage, now, before)
                }
                Some(_) => Verdict::Same(stage, now),
            }
        };
        counts.iter().map(compare).collect()
    }

    /// Takes over what was counted; what the other build took stays.
    pub(crate) fn write(&mut self, counts: &[(Stage, u64)]) {
        self.rows
            .retain(|name, _| Stage::ALL.iter().any(|stage| stage.name() == name));
        for &(stage, count) in counts {
            let row = self.rows.entry(stage.name().to_owned()).or_default();
            *row.own_mut() = Some(count);
        }
        self.counted_with = Some(tools());
    }

    /// As it is kept.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "# Instructions per event\n\n\
             Written by `make instructions WRITE=1`, checked by `make instructions`: a stage that \
             takes {TOLERANCE_PERCENT} %\nmore than here fails. `release` is the program that \
             ships, `dev` the one that `make test` builds.\n\
             The event is an order of 1 KiB from GitHub, the mean of {EVENTS}.\n\n"
        );
        let wide = Stage::ALL.iter().map(|stage| stage.name().len()).max();
        let wide = wide.unwrap_or_default();
        let mut line = |name: &str, release: &str, dev: &str, what: &str| {
            let _infallible = writeln!(text, "| {name:wide$} | {release:>9} | {dev:>9} | {what} |");
        };
        line("stage", "release", "dev", "what is counted");
        line(&"-".repeat(wide), "--------:", "--------:", "---");
        for stage in Stage::ALL {
            let row = self.rows.get(stage.name()).copied().unwrap_or_default();
            let shown = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), thousands);
            line(
                stage.name(),
                &shown(row.release),
                &shown(row.dev),
                stage.what(),
            );
        }
        if let Some(with) = &self.counted_with {
            let _infallible = write!(text, "\n{COUNTED_WITH}{with}\n");
        }
        text
    }
}

const COUNTED_WITH: &str = "Counted with ";

impl Row {
    fn own(&self) -> Option<u64> {
        if IS_RELEASE { self.release } else { self.dev }
    }

    fn own_mut(&mut self) -> &mut Option<u64> {
        if IS_RELEASE {
            &mut self.release
        } else {
            &mut self.dev
        }
    }
}

impl Verdict {
    /// Whether it is a reason to fail.
    pub(crate) fn is_dearer(&self) -> bool {
        matches!(self, Self::Dearer(..))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stage, now, word, before) = match *self {
            Self::Same(stage, now) => (stage, now, "", None),
            Self::Cheaper(stage, now, before) => (
                stage,
                now,
                "cheaper, keep it with WRITE=1: before ",
                Some(before),
            ),
            Self::Dearer(stage, now, before) => (stage, now, "DEARER: before ", Some(before)),
            Self::New(stage, now) => (
                stage,
                now,
                "nothing to compare with: WRITE=1 keeps it",
                None,
            ),
        };
        let before = before.map(thousands).unwrap_or_default();
        write!(
            f,
            "{:28} {:>9}  {word}{before}",
            stage.name(),
            thousands(now)
        )
    }
}

/// What counts depend on besides the code.
fn tools() -> String {
    let version = |program: &str| {
        let output = Command::new(program).arg("--version").output();
        let output = output.unwrap_or_else(|error| panic!("{program} --version: {error}"));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    format!("{}, {}.", version("rustc"), version("valgrind"))
}

fn number(cell: &str) -> Option<u64> {
    cell.replace(',', "").parse().ok()
}

/// `1,234,567`
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (left, digit) in (0..digits.len()).rev().zip(digits.chars()) {
        text.push(digit);
        if left > 0 && left % 3 == 0 {
            text.push(',');
        }
    }
    text
}
