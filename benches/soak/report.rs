//! The table, for people and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::faults::Fault;
use super::run::Outcome;
use super::statistics::percentile;
use super::verdict::{Check, checks, trend};

/// Everything worth telling, from one run.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) outcome: &'a Outcome,
    pub(crate) checks: Vec<Check>,
    /// Middle, 99 and 99.9 of a hundred, and the longest of accepted answers.
    latencies: [Option<Duration>; 4],
}

impl<'a> Report<'a> {
    pub(crate) fn new(outcome: &'a Outcome) -> Self {
        let mut sorted = outcome.ledger.books().latencies.clone();
        sorted.sort_unstable();
        Self {
            outcome,
            checks: checks(outcome),
            latencies: [500, 990, 999, 1000].map(|part| percentile(&sorted, part)),
        }
    }

    /// Whether everything holds.
    pub(crate) fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }

    /// How often each fault happened.
    pub(crate) fn faults(&self) -> Vec<(Fault, usize)> {
        let happened = &self.outcome.chronicle;
        let count = |fault| happened.iter().filter(|one| one.fault == fault).count();
        Fault::ALL.map(|fault| (fault, count(fault))).to_vec()
    }

    /// In Markdown that lines up.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for table in [self.promises(), self.figures(), self.fault_table()] {
            let _infallible = writeln!(text, "{table}\n");
        }
        for wrong in &self.outcome.ledger.books().wrong {
            let _infallible = writeln!(text, "- {wrong}");
        }
        for trouble in &self.outcome.trouble {
            let _infallible = writeln!(text, "- {trouble}");
        }
        text
    }

    fn promises(&self) -> Table {
        let mut table = table(["what must hold", "seen", ""]);
        for check in &self.checks {
            let verdict = if check.holds { "yes" } else { "NO" };
            table.add_row([check.promise, &check.seen, verdict]);
        }
        table
    }

    fn figures(&self) -> Table {
        let counts = self.outcome.ledger.books().counts;
        let trend = trend(&self.outcome.samples, self.outcome.plan.length);
        let per_hour = |line: Option<super::statistics::Line>| {
            line.map_or_else(|| "-".to_owned(), |line| format!("{:+.2}/h", line.slope))
        };
        let [p50, p99, p999, max] = self.latencies.map(millis);
        let mut table = table(["figure", "value", ""]);
        let rows: [(&str, String, &str); 15] = [
            ("load", seconds(self.outcome.plan.length), ""),
            ("requests of genuine events", thousands(counts.requests), ""),
            ("events acknowledged", thousands(counts.acknowledged), ""),
            (
                "asked to come again (503)",
                thousands(counts.asked_again),
                "",
            ),
            (
                "cut off before the answer",
                thousands(counts.unanswered),
                "",
            ),
            (
                "given up by their sender",
                thousands(counts.given_up),
                "after six tries",
            ),
            (
                "forged, too large, unfinished",
                thousands(counts.turned_away),
                "turned away or cut",
            ),
            (
                "copies recognised",
                format!("{} of {}", counts.copies_recognised, counts.copies),
                "the others: confirmed by the broker, then a restart",
            ),
            ("messages delivered", thousands(counts.delivered), ""),
            (
                "of these duplicates",
                thousands(counts.duplicates),
                "published again under the same message id",
            ),
            (
                "of these redelivered",
                thousands(counts.redelivered),
                "by the queue, after the consumer was cut off",
            ),
            ("accepted answers, p50 p99", format!("{p50} {p99} ms"), ""),
            (
                "accepted answers, p99.9 max",
                format!("{p999} {max} ms"),
                "",
            ),
            (
                "memory, least squares",
                per_hour(trend.memory),
                "MiB, floors of each minute in the second half; judged from an hour on",
            ),
            (
                "descriptors, least squares",
                per_hour(trend.descriptors),
                "the same",
            ),
        ];
        for (figure, value, remark) in rows {
            table.add_row([figure, &value, remark]);
        }
        table.add_row([
            "published after the load's end",
            &seconds(self.outcome.drained_in),
            "",
        ]);
        right(&mut table, 1);
        table
    }

    fn fault_table(&self) -> Table {
        let mut table = table(["fault", "times", ""]);
        let faults = self.faults();
        for (fault, times) in &faults {
            table.add_row([&fault.to_string(), &times.to_string(), ""]);
        }
        let all: usize = faults.iter().map(|(_, times)| times).sum();
        table.add_row(["all", &all.to_string(), ""]);
        right(&mut table, 1);
        table
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let counts = self.outcome.ledger.books().counts;
        let trend = trend(&self.outcome.samples, self.outcome.plan.length);
        let [p50, p99, p999, max] = self
            .latencies
            .map(|took| took.map(|took| took.as_secs_f64()));
        let checks = self.checks.iter().map(
            |check| json!({ "promise": check.promise, "seen": check.seen, "holds": check.holds }),
        );
        let chronicle =
            self.outcome.chronicle.iter().map(
                |one| json!({ "fault": one.fault.to_string(), "from": one.from, "to": one.to }),
            );
        let samples = self.outcome.samples.iter().map(|sample| {
            json!({
                "at": sample.at,
                "accepted": sample.accepted,
                "delivered": sample.delivered,
                "waiting": sample.waiting,
                "memory_mib": sample.memory_mib,
                "descriptors": sample.descriptors,
            })
        });
        let faults = self.faults().into_iter();
        let faults = faults.map(|(fault, times)| (fault.to_string(), json!(times)));
        json!({
            "holds": self.holds(),
            "seed": self.outcome.plan.seed,
            "seconds": self.outcome.plan.length.as_secs_f64(),
            "checks": checks.collect::<Vec<_>>(),
            "counts": {
                "requests": counts.requests,
                "acknowledged": counts.acknowledged,
                "asked_again": counts.asked_again,
                "unanswered": counts.unanswered,
                "given_up": counts.given_up,
                "turned_away": counts.turned_away,
                "copies": counts.copies,
                "copies_recognised": counts.copies_recognised,
                "delivered": counts.delivered,
                "duplicates": counts.duplicates,
                "redelivered": counts.redelivered,
                "altered": counts.altered,
                "renamed": counts.renamed,
                "misjudged": counts.misjudged,
                "lost": self.outcome.ledger.books().missing().len(),
            },
            "seconds_to_accepted": { "p50": p50, "p99": p99, "p999": p999, "max": max },
            "memory_mib_per_hour": trend.memory.map(|line| line.slope),
            "descriptors_per_hour": trend.descriptors.map(|line| line.slope),
            "faults": faults.collect::<serde_json::Map<_, _>>(),
            "chronicle": chronicle.collect::<Vec<_>>(),
            "samples": samples.collect::<Vec<_>>(),
        })
    }
}

fn table(header: [&str; 3]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    table
}

fn right(table: &mut Table, column: usize) {
    if let Some(column) = table.column_mut(column) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

fn millis(took: Option<Duration>) -> String {
    took.map_or_else(
        || "-".to_owned(),
        |took| format!("{:.1}", took.as_secs_f64() * 1000.0),
    )
}

fn seconds(duration: Duration) -> String {
    format!("{:.0} s", duration.as_secs_f64())
}

/// A whole number with commas.
pub(crate) fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
