//! What the soak asserts.

use std::time::Duration;

use super::probe::Sample;
use super::run::{DESCRIPTORS_SPARE, Outcome};
use super::statistics::{Line, floors, line};

/// One thing that must hold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Check {
    pub(crate) promise: &'static str,
    pub(crate) seen: String,
    pub(crate) holds: bool,
}

/// Most resident memory at any time, in MiB: under this load, all buffers full, and as much again.
const MEMORY_MAX: f64 = 192.0;
/// Most growth of resident memory, in MiB per hour: the target.
const SLOPE_MAX: f64 = 1.0;
/// A slope is judged from here on: in less time a single buffer makes one.
const SLOPE_FROM: Duration = Duration::from_secs(3600);
/// Growth from the first quarter to the last is judged from here on.
const GROWTH_FROM: Duration = Duration::from_secs(1200);
/// Most growth of the floor between them, in MiB: an allocator's steps.
const GROWTH_MAX: f64 = 16.0;
/// The allocator keeps what the worst backlog took, and takes some minutes to see its worst.
const WARM_UP_MAX: Duration = Duration::from_secs(1200);
/// Floors are taken over a minute, and over less in a run that has not twelve of them.
const FLOOR_SECONDS: f64 = 60.0;

/// How the memory and the descriptors of the steady gateway developed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trend {
    /// Memory, MiB per hour.
    pub(crate) memory: Option<Line>,
    /// Descriptors per hour.
    pub(crate) descriptors: Option<Line>,
    /// Least memory in the first quarter after the warm-up and in the last, in MiB.
    pub(crate) quarters: Option<(f64, f64)>,
}

/// The first half, but no more than twenty minutes.
fn warm_up(length: Duration) -> Duration {
    (length / 2).min(WARM_UP_MAX)
}

/// Of what came after the warm-up, while there was load.
#[expect(clippy::cast_precision_loss, reason = "nobody has 2^53 descriptors")]
pub(crate) fn trend(samples: &[Sample], length: Duration) -> Trend {
    let (from, to) = (warm_up(length).as_secs_f64(), length.as_secs_f64());
    let warm: Vec<_> = samples
        .iter()
        .filter(|sample| (from..to).contains(&sample.at))
        .collect();
    let width = FLOOR_SECONDS.min((to - from) / 12.0).max(1.0);
    let of = |value: fn(&Sample) -> f64| {
        let points: Vec<_> = warm
            .iter()
            .map(|sample| (sample.at / 3600.0, value(sample)))
            .collect();
        floors(&points, width / 3600.0)
    };
    let memory = of(|sample| sample.memory_mib);
    let quarter = memory.len() / 4;
    let least = |points: &[(f64, f64)]| points.iter().map(|point| point.1).reduce(f64::min);
    let quarters = least(&memory[..quarter]).zip(least(&memory[memory.len() - quarter..]));
    Trend {
        memory: line(&memory),
        descriptors: line(&of(|sample| sample.descriptors as f64)),
        quarters,
    }
}

/// Everything that must hold, in the order of the promises.
pub(crate) fn checks(outcome: &Outcome) -> Vec<Check> {
    let books = outcome.ledger.books();
    let counts = books.counts;
    let missing = books.missing();
    let mut checks = vec![
        Check {
            promise: "everything acknowledged was delivered",
            seen: format!(
                "{} acknowledged, {} lost",
                counts.acknowledged,
                missing.len()
            ),
            holds: missing.is_empty() && counts.acknowledged > 0,
        },
        Check {
            promise: "byte for byte, and nothing else",
            seen: format!("{} delivered, {} altered", counts.delivered, counts.altered),
            holds: counts.altered == 0,
        },
        Check {
            promise: "copies have the event's message id",
            seen: format!(
                "{} duplicates, {} renamed",
                counts.duplicates, counts.renamed
            ),
            holds: counts.renamed == 0,
        },
        Check {
            promise: "our trouble is never the sender's fault, forged is never taken",
            seen: format!("{} misjudged", counts.misjudged),
            holds: counts.misjudged == 0,
        },
        books_balance(outcome),
        Check {
            promise: "nothing ends that should not",
            seen: match outcome.trouble.first() {
                None => "all ended with exit code 0".to_owned(),
                Some(first) => first.clone(),
            },
            holds: outcome.trouble.is_empty(),
        },
    ];
    checks.push(memory(outcome));
    checks.push(descriptors(outcome));
    checks
}

fn books_balance(outcome: &Outcome) -> Check {
    let wrong: Vec<_> = outcome
        .balances
        .iter()
        .filter_map(|(name, found)| Some(format!("{name}: {}", found.as_ref().err()?)))
        .collect();
    Check {
        promise: "the books balance",
        seen: if wrong.is_empty() {
            format!("those of {} gateways", outcome.balances.len())
        } else {
            wrong.join("; ")
        },
        holds: wrong.is_empty(),
    }
}

fn memory(outcome: &Outcome) -> Check {
    let length = outcome.plan.length;
    let trend = trend(&outcome.samples, length);
    let peak = outcome.samples.iter().map(|sample| sample.memory_mib);
    let peak = peak.fold(0.0, f64::max);
    let mut seen = format!("{peak:.1} MiB at most");
    let mut holds = peak > 0.0 && peak <= MEMORY_MAX;
    if length >= GROWTH_FROM
        && let Some((first, last)) = trend.quarters
    {
        seen.push_str(&format!(
            "; {first:.1} MiB in the first quarter, {last:.1} in the last"
        ));
        holds &= last - first <= GROWTH_MAX;
    }
    if length >= SLOPE_FROM
        && let Some(line) = trend.memory
    {
        // Twice the standard error: what is not there by chance.
        let margin = 2.0 * line.error;
        seen.push_str(&format!(
            "; {:+.1} MiB/h, give or take {margin:.1}",
            line.slope
        ));
        holds &= line.slope - margin <= SLOPE_MAX;
    }
    Check {
        promise: "memory is bounded and level",
        seen,
        holds,
    }
}

fn descriptors(outcome: &Outcome) -> Check {
    let (before, after) = &outcome.descriptors;
    let (now, then) = (after.count(), before.count());
    let mut seen = format!("{then} before the load, {now} after it");
    let more = after.more_than(before);
    if !more.is_empty() {
        seen.push_str(&format!(": {more} more"));
    }
    Check {
        promise: "descriptors are given back",
        seen,
        holds: now > 0 && now <= then + DESCRIPTORS_SPARE,
    }
}
