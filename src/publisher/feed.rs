//! From the journal to the links, and the cursor behind their reports.

use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::backoff::RETRY;
use super::direct::share;
use super::item::{Item, Origin, Report};
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

/// Reads the journal, hands each event to its link, and moves the cursor.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) journal: Journal,
    pub(super) set_aside: Journal,
    /// The way to each link.
    pub(super) links: Vec<mpsc::Sender<Box<Item>>>,
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) window: Window,
    pub(super) metrics: Arc<Metrics>,
}

/// Events that are being set aside.
type SettingAside = FuturesUnordered<BoxFuture<'static, Position>>;

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
        let mut aside = SettingAside::new();
        let mut reports = Vec::with_capacity(BATCH);
        let outcome = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break Ok(()),
                Some(position) = aside.next() => {
                    self.was_set_aside(position);
                    self.confirm();
                }
                taken = self.reports.recv_many(&mut reports, BATCH) => {
                    if taken == 0 {
                        break Ok(());
                    }
                    self.heed(&mut reports, &aside);
                }
                Some(record) = records.recv(), if self.window.has_room() => {
                    self.send(record, &aside);
                    for _ in 1..BATCH {
                        let Some(record) = self.next(&mut records) else { break };
                        self.send(record, &aside);
                    }
                }
                outcome = &mut reading => break outcome,
            }
        };
        if let Err(error) = &outcome {
            tracing::error!(%error, "the journal cannot be read; nothing more is published");
        }
        // A link without a connection does not notice that no event comes any more.
        stop.cancel();
        self.finish(aside).await;
        outcome
    }

    /// The next record that has been read, if there is room for it.
    fn next(&self, records: &mut mpsc::Receiver<Record>) -> Option<Record> {
        if !self.window.has_room() {
            return None;
        }
        records.try_recv().ok()
    }

    fn send(&mut self, record: Record, aside: &SettingAside) {
        if !self.window.take(record.position, record.payload.len()) {
            return;
        }
        match Delivery::decode(&record.payload) {
            Ok(delivery) => {
                let link = self.links.get(share(&delivery.source, self.links.len()));
                let item = Item::new(delivery, Origin::Journal(record));
                // A link's queue holds all unsettled events; and one that has ended leaves the event
                // in the journal.
                drop(link.map(|link| link.try_send(item)));
            }
            Err(error) => self.begin_setting_aside(record, error.to_string(), aside),
        }
    }

    fn heed(&mut self, reports: &mut Vec<Report>, aside: &SettingAside) {
        for report in reports.drain(..) {
            match report {
                Report::Published(position) => self.window.settle(position),
                Report::Refused(record, reason) => {
                    self.begin_setting_aside(record, reason, aside);
                }
            }
        }
        self.confirm();
    }

    fn begin_setting_aside(&self, record: Record, reason: String, aside: &SettingAside) {
        let journal = self.set_aside.clone();
        aside.push(Box::pin(async move {
            set_aside(&journal, &record, &reason).await;
            record.position
        }));
    }

    fn was_set_aside(&mut self, position: Position) {
        self.metrics.journal.set_aside.increment(1.0);
        self.window.settle(position);
    }

    fn confirm(&self) {
        self.journal.confirm_until(self.window.cursor());
    }

    /// No event is handed out any more: the links end when they have settled what is in flight.
    async fn finish(mut self, mut aside: SettingAside) {
        self.links.clear();
        while let Some(report) = self.reports.recv().await {
            self.heed(&mut vec![report], &aside);
        }
        let settled = timeout(STOP_TIMEOUT, async {
            while let Some(position) = aside.next().await {
                self.was_set_aside(position);
            }
        });
        // What is not set aside by then stays in the journal.
        drop(settled.await);
        self.confirm();
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
