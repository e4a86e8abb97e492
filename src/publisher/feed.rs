//! From a journal to the links, and the cursor behind their reports.
//!
//! There is one feed for the journal and one for each lot of [`super::parked`]. What a feed's
//! event needs more than a few tries for, because its queue does not take it, goes into the lot
//! of its source; for a lot's own events that means to its end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::backoff::RETRY;
use super::direct::share;
use super::item::{Item, Origin, Report, Ticket};
use super::parked::Parked;
use super::set_aside::{STOP_TIMEOUT, set_aside};
use super::window::Window;
use crate::delivery::Delivery;
use crate::journal::{Journal, Position, Reader, Record};
use crate::metrics::Metrics;

/// Reports handled before the cursor is told to the journal, and records handed out before the
/// reports are looked at.
const BATCH: usize = 256;
/// Records read ahead of the window.
const AHEAD: usize = 16;

/// Most events of a lot on their way at once.
pub(super) const LOT_EVENTS_MAX: usize = 64;
/// And most bytes of them, unless it is one: what is not taken is stored again before it is let go,
/// so a turn needs as much room once more.
pub(super) const LOT_BYTES_MAX: usize = 1024 * 1024;
/// How often an event of the journal is tried in its place before it is moved into a lot.
const SETBACKS_MAX: u32 = 3;
/// How long an event whose lot is full, or cannot be written, waits before it is tried again.
const LOT_PAUSE: Duration = Duration::from_secs(5);
/// How often one of those is spoken of.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Reads a journal, hands each event to its link, and moves the cursor.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) journal: Journal,
    pub(super) set_aside: Journal,
    pub(super) parked: Parked,
    /// The way to each link.
    pub(super) links: Vec<mpsc::Sender<Box<Item>>>,
    /// Where reports come from; each event takes the sender along.
    pub(super) reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    pub(super) window: Window,
    /// `None` for the journal: only a lot is read turn by turn.
    pub(super) turns: Option<Turns>,
    /// When events that cannot be parked were last spoken of.
    pub(super) complained_at: Option<Instant>,
    pub(super) metrics: Arc<Metrics>,
}

/// The pace of a lot: its events are tried until one is not taken. The next turn begins after a
/// rest that grows while none is taken.
#[derive(Debug, Default)]
pub(super) struct Turns {
    taken: bool,
    refused: bool,
    /// Turns in a row in which nothing was taken.
    failures: u32,
    rests_until: Option<Instant>,
}

/// An event that leaves its place in the journal without having been published.
struct Leaving {
    position: Position,
    where_to: WhereTo,
}

enum WhereTo {
    /// Among those that the broker refuses for their own sake. It is there.
    SetAside,
    /// Into a lot. It is there.
    Lot,
    /// Nowhere: the lot does not take it, and why. To be tried again, as the attempt after this
    /// one.
    Back(Box<Delivery>, Record, u32, String),
}

/// Events that leave.
type Departures = FuturesUnordered<BoxFuture<'static, Leaving>>;

impl Feed {
    /// Runs until it is told to stop, or the journal is closed; then stops the links, by the same
    /// token, and waits for them to end.
    ///
    /// # Errors
    ///
    /// The journal cannot be read.
    pub(super) async fn run(mut self, stop: CancellationToken) -> std::io::Result<()> {
        let reader = self.journal.read_from(self.window.cursor());
        let (ahead, mut records) = mpsc::channel(AHEAD);
        // A read that has begun is not given up for a report, so it is one future for all.
        let mut reading = pin!(read(reader, ahead));
        let mut departures = Departures::new();
        let mut reports = Vec::with_capacity(BATCH);
        let outcome = loop {
            let rests_until = self.turns.as_ref().and_then(|turns| turns.rests_until);
            tokio::select! {
                biased;
                () = stop.cancelled() => break Ok(()),
                Some(leaving) = departures.next() => {
                    self.left(leaving);
                    self.confirm();
                }
                taken = self.reports.1.recv_many(&mut reports, BATCH) => {
                    if taken == 0 {
                        break Ok(());
                    }
                    self.heed(&mut reports, &departures);
                }
                () = rest(rests_until) => {
                    self.turns.iter_mut().for_each(|turns| turns.rests_until = None);
                }
                Some(record) = records.recv(), if self.may_take() => {
                    self.send(record, &departures);
                    for _ in 1..BATCH {
                        let Some(record) = self.next(&mut records) else { break };
                        self.send(record, &departures);
                    }
                }
                outcome = &mut reading => break outcome,
            }
            let is_idle = self.window.is_empty();
            if let Some(turns) = self.turns.as_mut().filter(|_| is_idle) {
                turns.end(Instant::now());
            }
        };
        if let Err(error) = &outcome {
            tracing::error!(%error, "the journal cannot be read; nothing more is published");
        }
        // A link without a connection does not notice that no event comes any more.
        stop.cancel();
        self.finish(departures).await;
        outcome
    }

    fn may_take(&self) -> bool {
        self.window.has_room() && self.turns.as_ref().is_none_or(Turns::is_open)
    }

    /// The next record that has been read, if there is room for it.
    fn next(&self, records: &mut mpsc::Receiver<Record>) -> Option<Record> {
        if !self.may_take() {
            return None;
        }
        records.try_recv().ok()
    }

    fn send(&mut self, record: Record, departures: &Departures) {
        if !self.window.take(record.position, record.payload.len()) {
            return;
        }
        let (attempts, stored) = if self.turns.is_some() {
            Parked::decode(&record.payload).unwrap_or_default()
        } else {
            (0, record.payload.clone())
        };
        match Delivery::decode(&stored) {
            Ok(delivery) => self.hand_out(delivery, record, attempts),
            Err(error) => self.begin_setting_aside(record, error.to_string(), departures),
        }
    }

    fn hand_out(&self, delivery: Delivery, record: Record, attempts: u32) {
        let link = self.links.get(share(&delivery.source, self.links.len()));
        let ticket = Ticket {
            record,
            reports: self.reports.0.clone(),
            setbacks_max: if self.turns.is_some() {
                0
            } else {
                SETBACKS_MAX
            },
        };
        let mut item = Item::new(delivery, Origin::Journal(ticket));
        item.attempts = attempts;
        // A link's queue holds all unsettled events; and one that has ended leaves the event in
        // the journal.
        drop(link.map(|link| link.try_send(item)));
    }

    fn heed(&mut self, reports: &mut Vec<Report>, departures: &Departures) {
        for report in reports.drain(..) {
            match report {
                Report::Published(position) => {
                    self.turns.iter_mut().for_each(|turns| turns.taken = true);
                    self.window.settle(position);
                }
                Report::Refused(record, reason) => {
                    self.begin_setting_aside(record, reason, departures);
                }
                Report::NotTaken(delivery, record, attempts) => {
                    self.turns.iter_mut().for_each(|turns| turns.refused = true);
                    self.begin_parking(delivery, record, attempts, departures);
                }
            }
        }
        self.confirm();
    }

    fn begin_setting_aside(&self, mut record: Record, reason: String, departures: &Departures) {
        let journal = self.set_aside.clone();
        if self.turns.is_some()
            && let Some((_, stored)) = Parked::decode(&record.payload)
        {
            record.payload = stored;
        }
        departures.push(Box::pin(async move {
            set_aside(&journal, &record, &reason).await;
            Leaving {
                position: record.position,
                where_to: WhereTo::SetAside,
            }
        }));
    }

    fn begin_parking(
        &self,
        delivery: Box<Delivery>,
        record: Record,
        attempts: u32,
        departures: &Departures,
    ) {
        let parked = self.parked.clone();
        departures.push(Box::pin(async move {
            let (position, at) = (record.position, record.at);
            let stored = delivery.encode();
            let where_to = match parked.park(&delivery.source, at, attempts, &stored).await {
                Ok(()) => WhereTo::Lot,
                Err(error) => {
                    sleep(LOT_PAUSE).await;
                    WhereTo::Back(delivery, record, attempts, error)
                }
            };
            Leaving { position, where_to }
        }));
    }

    fn left(&mut self, leaving: Leaving) {
        match leaving.where_to {
            WhereTo::SetAside => {
                self.metrics.journal.set_aside.increment(1.0);
                self.window.settle(leaving.position);
            }
            WhereTo::Lot => self.window.settle(leaving.position),
            WhereTo::Back(delivery, record, attempts, error) => {
                self.complain(&delivery.source, &error);
                self.hand_out(*delivery, record, attempts);
            }
        }
    }

    /// There may be very many of them, so one speaks for the others.
    fn complain(&mut self, source: &str, error: &str) {
        let now = Instant::now();
        if self
            .complained_at
            .is_some_and(|at| now - at < COMPLAIN_EVERY)
        {
            return;
        }
        self.complained_at = Some(now);
        tracing::error!(
            source,
            error,
            "events whose queues do not take them cannot be parked; they take up the room of others"
        );
    }

    fn confirm(&self) {
        let settled = u64::try_from(self.window.settled()).unwrap_or_default();
        self.journal.confirm_with(self.window.cursor(), settled);
    }

    /// No event is handed out any more: the links end when they have settled what is in flight.
    async fn finish(mut self, mut departures: Departures) {
        self.links.clear();
        let (reports, _) = mpsc::channel(1);
        // Only events hold the sender from now on.
        self.reports.0 = reports;
        while let Some(report) = self.reports.1.recv().await {
            self.heed(&mut vec![report], &departures);
        }
        let settled = timeout(STOP_TIMEOUT, async {
            while let Some(leaving) = departures.next().await {
                self.left(leaving);
            }
        });
        // What is not moved by then stays in the journal.
        drop(settled.await);
        self.confirm();
    }
}

impl Turns {
    /// Whether another event may be tried.
    fn is_open(&self) -> bool {
        !self.refused && self.rests_until.is_none()
    }

    /// Nothing is on its way any more.
    fn end(&mut self, now: Instant) {
        if !std::mem::take(&mut self.refused) {
            return;
        }
        let taken = std::mem::take(&mut self.taken);
        self.failures = if taken { 1 } else { self.failures + 1 };
        self.rests_until = Some(now + RETRY.delay(self.failures, fastrand::f64()));
    }
}

/// Until then, or for ever.
async fn rest(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Reads records until the journal is closed or nobody wants them. Trouble that may pass, like a
/// process out of file descriptors, does not end it: events are still taken meanwhile.
pub(super) async fn read(mut reader: Reader, records: mpsc::Sender<Record>) -> std::io::Result<()> {
    let mut failures = 0u32;
    loop {
        match reader.next().await {
            Ok(Some(record)) => {
                failures = 0;
                if records.send(record).await.is_err() {
                    return Ok(());
                }
            }
            Ok(None) => return Ok(()),
            Err(error) if needs_restart(&error) => return Err(error),
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::error!(%error, "the journal cannot be read for now; events wait in it");
                sleep(RETRY.delay(failures, fastrand::f64())).await;
            }
        }
    }
}

/// Bytes that changed, a file that is gone, a panic: recovery mends the first two, and nothing
/// that we wait for.
fn needs_restart(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, NotFound, Other};
    matches!(error.kind(), InvalidData | NotFound | Other)
}
