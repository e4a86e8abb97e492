//! Senders, as many as come at the same time, each one request after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep_until};

use crate::figures::Figures;
use crate::line::Line;
use crate::pace::pace;
use crate::plan::{Plan, SENDERS};
use crate::process::{broker_seconds, cpu_seconds};
use crate::requests::Requests;
use crate::support::sender::{Sender, Version};

/// What is sent to whom.
#[derive(Clone)]
pub(crate) struct Load<'a> {
    /// Where to.
    pub(crate) to: &'a Sender,
    /// The process whose time is measured, with its children.
    pub(crate) pid: u32,
    /// The very same for all that are compared.
    pub(crate) requests: &'a Arc<Requests>,
    /// In which language.
    pub(crate) version: Version,
    /// How many by all senders together; `None`: as fast as answers come.
    pub(crate) per_second: Option<f64>,
}

/// What came of a load.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// What was measured.
    pub(crate) figures: Figures,
    /// Answers in all, those of the warm-up and the last ones among them.
    pub(crate) answered: usize,
}

/// What one sender knows.
#[derive(Debug, Default)]
struct Ledger {
    answered: usize,
    latencies: Vec<Duration>,
}

/// When a sender measures.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    begin: Instant,
    end: Instant,
}

impl Load<'_> {
    /// Anything but a 202 for a new event is an error.
    pub(crate) async fn run(&self, plan: &Plan) -> Result<Loaded> {
        let lines = Line::open(self.to, self.version, SENDERS).await?;
        let begin = Instant::now() + plan.warm_up;
        let end = begin + plan.duration;
        let schedule = Schedule { begin, end };
        let (mut due, clock) = self
            .per_second
            .map(|per_second| pace(per_second, SENDERS, end))
            .unzip();
        let load = next_load();
        let tasks: Vec<_> = (0..)
            .zip(lines)
            .map(|(number, line)| {
                let due = due.as_mut().and_then(Vec::pop);
                let name = format!("{load:08x}-{number:04x}");
                let requests = Arc::clone(self.requests);
                tokio::spawn(send(line, requests, number, name, due, schedule))
            })
            .collect();

        sleep_until(begin).await;
        let (cpu_before, broker_before) = (cpu_seconds(self.pid)?, broker_seconds()?);
        sleep_until(end).await;
        let (cpu_after, broker_after) = (cpu_seconds(self.pid)?, broker_seconds()?);
        let mut all = Ledger::default();
        for task in tasks {
            let mut ledger = task.await??;
            all.answered += ledger.answered;
            all.latencies.append(&mut ledger.latencies);
        }
        if let Some(clock) = clock {
            clock.await??;
        }
        let mut figures = Figures::of_load(all.latencies, plan.duration);
        figures.cpu_seconds = Some(cpu_after - cpu_before);
        figures.broker_seconds = Some(broker_after - broker_before);
        Ok(Loaded {
            figures,
            answered: all.answered,
        })
    }
}

/// Loads of one run have ids of their own.
pub(crate) fn next_load() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

async fn send(
    mut line: Line,
    requests: Arc<Requests>,
    number: usize,
    name: String,
    mut due: Option<Receiver<Instant>>,
    schedule: Schedule,
) -> Result<Ledger> {
    let mut ledger = Ledger::default();
    // Senders begin at different places among the requests.
    for (n, request) in requests.round(number, SENDERS).enumerate() {
        let start = match &mut due {
            None => Instant::now(),
            Some(due) => match due.recv().await {
                Some(due) => due,
                None => break,
            },
        };
        if start >= schedule.end {
            break;
        }
        line.exchange(request, &format!("{name}-4000-8000-{n:012x}"))
            .await?;
        ledger.answered += 1;
        // Of what was due in time, the last answers may come after it.
        let counted = if due.is_some() { start } else { Instant::now() };
        if (schedule.begin..schedule.end).contains(&counted) {
            ledger.latencies.push(start.elapsed());
        }
    }
    Ok(ledger)
}
