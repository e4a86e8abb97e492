//! Senders: one connection each, kept alive, one request after the other.
//!
//! Requests are signed before the load begins; only the delivery id, which GitHub's signature does
//! not cover, is written in while sending, so that no event is a copy of another. The very same
//! requests go to nginx and to the gateway, and cost the generator the same.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until};

use crate::figures::Figures;
use crate::order;
use crate::plan::{Plan, SENDERS};
use crate::process::cpu_seconds;
use crate::support::sender::{Sender, Stream};
use crate::support::webhook::Webhook;

/// Different bodies. Each is sent many times, under a new id.
const BODIES: usize = 1024;
/// Where the id goes, and how long it is.
const NO_ID: &str = "00000000-0000-4000-8000-000000000000";
/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Signed requests for `POST /github`.
#[derive(Debug)]
pub(crate) struct Requests(Vec<Request>);

#[derive(Debug)]
struct Request {
    bytes: Vec<u8>,
    id: Range<usize>,
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

/// When a sender measures, and how long it waits between two requests.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    begin: Instant,
    end: Instant,
    every: Option<Duration>,
}

impl Requests {
    /// Makes and signs them.
    pub(crate) fn signed() -> Self {
        let make = |number| {
            let body = order::order(number, order::KIB);
            let bytes = Webhook::github("/github", order::EVENT_TYPE, NO_ID, &body).http1();
            let head = String::from_utf8_lossy(&bytes);
            let start = head.find(NO_ID).expect("the id is in the head");
            Request {
                id: start..start + NO_ID.len(),
                bytes,
            }
        };
        Self((0..BODIES).map(make).collect())
    }

    /// The bodies alone.
    pub(crate) fn bodies(&self) -> Vec<Vec<u8>> {
        let body = |request: &Request| request.bytes[request.bytes.len() - order::KIB..].to_vec();
        self.0.iter().map(body).collect()
    }
}

/// Sends as fast as answers come, or `per_second` in all, to a program. Anything but a 202 for a
/// new event is an error.
pub(crate) async fn load(
    to: &Sender,
    pid: u32,
    requests: &Arc<Requests>,
    plan: &Plan,
    per_second: Option<u32>,
) -> Result<Loaded> {
    let mut streams = Vec::new();
    for _ in 0..SENDERS {
        streams.push(
            to.stream(&[b"http/1.1"])
                .await
                .map_err(|error| anyhow!(error))?,
        );
    }
    let begin = Instant::now() + plan.warm_up;
    let end = begin + plan.duration;
    let senders = u32::try_from(SENDERS)?;
    let every = per_second.map(|rate| Duration::from_secs(1) * senders / rate);
    let schedule = Schedule { begin, end, every };
    let tasks: Vec<_> = (0..)
        .zip(streams)
        .map(|(number, stream)| tokio::spawn(send(stream, Arc::clone(requests), number, schedule)))
        .collect();

    sleep_until(begin).await;
    let cpu_before = cpu_seconds(pid)?;
    sleep_until(end).await;
    let cpu_after = cpu_seconds(pid)?;
    let mut all = Ledger::default();
    for task in tasks {
        let mut ledger = task.await??;
        all.answered += ledger.answered;
        all.latencies.append(&mut ledger.latencies);
    }
    let mut figures = Figures::of_load(all.latencies, plan.duration);
    figures.cpu_seconds = Some(cpu_after - cpu_before);
    Ok(Loaded {
        figures,
        answered: all.answered,
    })
}

async fn send(
    mut stream: Box<dyn Stream>,
    requests: Arc<Requests>,
    number: u32,
    schedule: Schedule,
) -> Result<Ledger> {
    let mut ledger = Ledger::default();
    let mut answer = Vec::with_capacity(ANSWER_BYTES_MAX);
    // Senders begin at different places, in the time between two requests and among the requests.
    let senders = u32::try_from(SENDERS)?;
    let mut due = Instant::now() + schedule.every.unwrap_or_default() * number / senders;
    let first = usize::try_from(number)? * BODIES / SENDERS;
    let mut bytes = Vec::new();
    for (n, request) in requests.0.iter().cycle().skip(first).enumerate() {
        let id = format!("{number:08x}-0000-4000-8000-{n:012x}");
        bytes.clone_from(&request.bytes);
        bytes[request.id.clone()].copy_from_slice(id.as_bytes());
        if let Some(every) = schedule.every {
            sleep_until(due).await;
            due += every;
        }
        let start = Instant::now();
        if start >= schedule.end {
            break;
        }
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        read_answer(&mut stream, &mut answer).await?;
        let now = Instant::now();
        ledger.answered += 1;
        if (schedule.begin..schedule.end).contains(&now) {
            ledger.latencies.push(now - start);
        }
    }
    Ok(ledger)
}

/// Reads one answer to its end, and makes sure that it says what it has to.
async fn read_answer(stream: &mut Box<dyn Stream>, bytes: &mut Vec<u8>) -> Result<()> {
    bytes.clear();
    loop {
        let n = stream.read_buf(bytes).await?;
        ensure!(n > 0, "the connection ended before the answer");
        ensure!(bytes.len() <= ANSWER_BYTES_MAX, "the answer never ends");
        let mut space = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut space);
        let httparse::Status::Complete(head_bytes) = head.parse(bytes)? else {
            continue;
        };
        let field = |name: &str| {
            let found = head
                .headers
                .iter()
                .find(|header| header.name.eq_ignore_ascii_case(name));
            found.map(|header| header.value)
        };
        let length = field("content-length").context("an answer without a length")?;
        let length: usize = std::str::from_utf8(length)?.parse()?;
        if bytes.len() < head_bytes + length {
            continue;
        }
        let said = || String::from_utf8_lossy(bytes).into_owned();
        ensure!(head.code == Some(202), "not accepted: {}", said());
        ensure!(
            field("hookgate-duplicate").is_none(),
            "taken for a copy: {}",
            said()
        );
        return Ok(());
    }
}
