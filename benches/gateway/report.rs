//! The table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};

use crate::figures::{Figures, percentile};
use crate::idle::Fact;
use crate::line::LINES_PER_CONNECTION;
use crate::nginx::Nginx;
use crate::peer::Language;
use crate::plan::{Phase, Plan, SENDERS};

const CONTROL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";

/// All that was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    phases: BTreeMap<Phase, Vec<Figures>>,
    syncs: Vec<Duration>,
    left: Vec<Left>,
    facts: Vec<Fact>,
    /// The machine's load before the first phase.
    load_average: String,
}

/// What the publisher had not published when the load ended, and how long that took it then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    /// Events.
    pub(crate) events: usize,
    /// Seconds.
    pub(crate) seconds: f64,
}

impl Report {
    /// Nothing yet, but how busy the machine was before.
    pub(crate) fn begin() -> Result<Self> {
        let load = std::fs::read_to_string("/proc/loadavg")?;
        let load_average = load
            .split_whitespace()
            .take(3)
            .collect::<Vec<_>>()
            .join(" ");
        Ok(Self {
            load_average,
            ..Self::default()
        })
    }

    /// One round of one phase.
    pub(crate) fn add(&mut self, phase: Phase, figures: Figures) {
        self.phases.entry(phase).or_default().push(figures);
    }

    /// What the disk took for syncs.
    pub(crate) fn add_syncs(&mut self, mut took: Vec<Duration>) {
        self.syncs.append(&mut took);
    }

    /// What was left of a phase that publishes what it takes.
    pub(crate) fn add_left(&mut self, left: Left) {
        self.left.push(left);
    }

    /// Figures that are no rates.
    pub(crate) fn add_facts(&mut self, facts: impl IntoIterator<Item = Fact>) {
        self.facts.extend(facts);
    }

    /// All rounds of a phase as one.
    fn total(&self, phase: Phase) -> Figures {
        let mut total = Figures::default();
        for round in self.phases.get(&phase).into_iter().flatten() {
            total.add(round.clone());
        }
        total
    }

    /// The table, what else was found, and the machine, in Markdown that lines up.
    pub(crate) fn text(&self, plan: &Plan, directory: &Path) -> Result<String> {
        let mut text = String::new();
        writeln!(text, "{}", self.table())?;
        if !self.facts.is_empty() {
            writeln!(text, "\n{}\n", self.facts())?;
        }
        for line in self.remarks() {
            writeln!(text, "- {line}")?;
        }
        writeln!(
            text,
            "- {SENDERS} senders, TLS 1.3, HTTP/1.1 kept alive, 1,024 byte bodies, HMAC-SHA256, JSON \
             Schema, where nothing else is said; {} of {} s after {} s of warm-up; senders, gateway \
             and broker share the processors",
            rounds(plan.rounds),
            plan.duration.as_secs(),
            plan.warm_up.as_secs()
        )?;
        for line in self.machine(directory)? {
            writeln!(text, "- {line}")?;
        }
        Ok(text)
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN).set_header([
            "phase",
            "accepted/s",
            "by round",
            "ratio",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "CPU s/1,000",
            "broker's",
            "peak MiB",
        ]);
        for (&phase, rounds) in &self.phases {
            let total = self.total(phase);
            let by_round: Vec<_> = rounds.iter().map(|round| thousands(round.rate())).collect();
            let reference = phase
                .reference()
                .filter(|phase| self.phases.contains_key(phase));
            let ratio = reference.map(|phase| total.rate() / self.total(phase).rate());
            let latency = |thousandths| {
                let value = percentile(&total.latencies, thousandths);
                number(value.map(millis), 2)
            };
            table.add_row([
                phase.name().to_owned(),
                thousands(total.rate()),
                by_round.join(" "),
                number(ratio, 2),
                latency(500),
                latency(990),
                latency(999),
                number(total.cpu_per_thousand(), 3),
                number(total.broker_per_thousand().filter(|_| phase.publishes()), 3),
                number(total.peak_mib, 0),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    fn facts(&self) -> Table {
        let mut table = Table::new();
        table
            .load_style(presets::ASCII_MARKDOWN)
            .set_header(["what", "figure"]);
        for (what, figure) in &self.facts {
            table.add_row([what, figure]);
        }
        table
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = vec![
            "ratio: of the rate to nginx's; with `ack = broker` and for a backlog, to the bare \
             publisher's above it; of what is written by hand, to `ack = broker`'s; with many sources \
             or events, to what one source and no events before had"
                .to_owned(),
            "1,000/s and half of its rate: requests come at fixed moments, whatever was answered \
             before, and wait since then"
                .to_owned(),
            format!(
                "HTTP/2: {LINES_PER_CONNECTION} requests at a time over each connection; GitHub's \
                 examples: pushes and issues of 7 to 12 KiB; new connections: TCP, TLS, one webhook, \
                 and gone, the resumed ones by a ticket"
            ),
        ];
        remarks.push(
            "CPU s/1,000: processor time of the program for a thousand events, and of the broker, \
             which has one scheduler here and so no more than one processor; a backlog's time \
             begins with its first confirm"
                .to_owned(),
        );
        remarks.extend(self.dearer());
        remarks.extend(self.same_headers());
        let sync = |thousandths| percentile(&self.syncs, thousandths).map(millis);
        remarks.push(format!(
            "one sync of 4 KiB on this disk: p50 {} ms, p99 {} ms",
            number(sync(500), 2),
            number(sync(990), 2)
        ));
        for phase in [Phase::JournalCalm, Phase::JournalHalf, Phase::Journal] {
            let p99 = percentile(&self.total(phase).latencies, 990).map(millis);
            if let Some((ours, disk)) = p99.zip(sync(990)) {
                remarks.push(format!(
                    "{}: p99 is {:.1} of the disk's p99",
                    phase.name(),
                    ours / disk
                ));
            }
        }
        for Left { events, seconds } in &self.left {
            remarks.push(format!(
                "{}: {events} events were waiting when the load ended, published {seconds:.1} s \
                 later",
                Phase::JournalPublishing.name()
            ));
        }
        remarks
    }

    /// What an event costs, in terms of what is no more than an edge and no more than a publisher.
    fn dearer(&self) -> Option<String> {
        let cost = |phase| self.total(phase).cpu_per_thousand();
        let ours = cost(Phase::BrokerAck)?;
        let parts = cost(Phase::Nginx)? + cost(Phase::BareNarrow)?;
        Some(format!(
            "{}: an event costs {:.2} of what nginx's answer and a bare publish cost together",
            Phase::BrokerAck.name(),
            ours / parts
        ))
    }

    /// What the broker takes of messages like the gateway's, and what of that the gateway uses.
    fn same_headers(&self) -> Vec<String> {
        let pairs = [
            (Phase::BrokerAck, Phase::SameNarrow),
            (Phase::Backlog, Phase::SameWide),
        ];
        let measured = |phase| self.phases.contains_key(&phase);
        pairs
            .into_iter()
            .filter(|&(ours, same)| measured(ours) && measured(same))
            .map(|(ours, same)| {
                format!(
                    "{}: {:.2} of the rate of a bare publisher of messages with the same headers, to \
                     the same exchange",
                    ours.name(),
                    self.total(ours).rate() / self.total(same).rate()
                )
            })
            .collect()
    }

    fn machine(&self, directory: &Path) -> Result<[String; 3]> {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        Ok([
            format!(
                "{} x {}, Linux {}, load average before the run {}",
                std::thread::available_parallelism()?,
                model.map_or("unknown processor", |(_, model)| model),
                kernel.trim(),
                self.load_average
            ),
            format!(
                "journal, broker and disk reference in {}",
                // Said relative to the project: where that stands is nobody's business.
                directory
                    .strip_prefix(env!("CARGO_MANIFEST_DIR"))
                    .unwrap_or(directory)
                    .display()
            ),
            format!(
                "hookgate {}, nginx {}, RabbitMQ {}, Node {}, Python {}, {}",
                env!("CARGO_PKG_VERSION"),
                Nginx::version()?,
                version_of(CONTROL, "version"),
                peer_version(Language::Node),
                peer_version(Language::Python),
                version_of("rustc", "--version"),
            ),
        ])
    }
}

fn rounds(rounds: usize) -> String {
    match rounds {
        1 => "one round".to_owned(),
        n => format!("{n} rounds"),
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
}

/// A whole number with commas.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A run without the peers needs none.
fn peer_version(language: Language) -> String {
    let version = language.version();
    version.unwrap_or_else(|_| "(not there)".to_owned())
}

fn version_of(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.unwrap_or_else(|error| format!("({program}: {error})"))
}
