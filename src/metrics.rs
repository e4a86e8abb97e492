//! Every metric: names, help, labels. Nothing else may create one.
//!
//! Names begin with `hookgate_`. Labels come from configuration or from closed sets, never from a
//! request, so that no sender can grow the page. Handles are resolved at load; on the way of a
//! webhook a metric is one atomic addition.
//!
//! The books of one process balance at any quiet moment:
//!
//! ```text
//! received                                    = accepted + duplicate + handshake + rejected
//! events + late + replayed + waiting_at_start = published + waiting + set_aside
//! ```
//!
//! The first line counts requests, the second events. A request is one event, but a batch is as
//! many as are new in it: none, or thousands. "Late" are events that are safe although their sender
//! was told 503, because they were stored too late, or because others of their batch were not;
//! "replayed" are those that an operator had published again.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram, with_local_recorder,
};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use crate::reject::Reject;

/// The source label of requests that no source was found for.
pub const UNKNOWN_SOURCE: &str = "_unknown";

/// Seconds; OpenTelemetry's stable list for HTTP servers, with two finer ones below.
const SECONDS_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
const BYTES_BUCKETS: &[f64] = &[
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
];
const COUNT_BUCKETS: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
];

/// All metrics of one gateway.
pub struct Metrics {
    recorder: PrometheusRecorder,
    page: PrometheusHandle,
    sources: HashMap<Arc<str>, Arc<SourceMetrics>>,
    unknown: Arc<SourceMetrics>,
    /// The edge's.
    pub edge: EdgeMetrics,
    /// The journal's.
    pub journal: JournalMetrics,
    /// The publisher's.
    pub publisher: PublisherMetrics,
}

/// One source's handles.
pub struct SourceMetrics {
    name: Arc<str>,
    /// Requests.
    pub received: Counter,
    /// Requests whose events are safe and whose sender was told so.
    pub accepted: Counter,
    /// Requests that brought nothing but copies of events that are safe already.
    pub duplicate: Counter,
    /// Events that are safe and whose sender was told so.
    pub events: Counter,
    /// Copies of events that are safe already, in batches too.
    pub copies: Counter,
    /// Handshakes answered.
    pub handshake: Counter,
    /// Events that are safe although their sender was told 503.
    pub late: Counter,
    /// Requests whose proof failed and that the source let through.
    pub unverified: Tally,
    /// Events of [`SourceMetrics::events`] that went to quarantine.
    pub quarantined: Tally,
    /// From the head to the answer.
    pub duration: Histogram,
    /// Length of bodies.
    pub body_bytes: Histogram,
    rejected: [OnceLock<Counter>; Reject::LABELS.len()],
    /// By the labels of the source's secrets; each is looked up in the registry once.
    secrets: RwLock<BTreeMap<Box<str>, SecretMetrics>>,
}

/// A counter that `hookgate status` reads, too.
#[derive(Debug)]
pub struct Tally {
    counter: Counter,
    count: AtomicU64,
}

/// One secret's handles, and what they say, for `hookgate status`.
struct SecretMetrics {
    uses: Counter,
    last_used: Gauge,
    count: AtomicU64,
    /// Microseconds since 1970; zero is never.
    last_at: AtomicI64,
}

/// How much a secret is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretUse {
    /// The secret's label.
    pub label: String,
    /// Proofs that held by it since the process began.
    pub uses: u64,
    /// When the last one held, also before that; `None`: not known.
    pub last_used: Option<Timestamp>,
}

/// What happens below a request.
#[derive(Debug)]
pub struct EdgeMetrics {
    /// Connections open now.
    pub connections: Gauge,
    /// Requests between their head and their answer.
    pub requests_in_flight: Gauge,
    /// TLS handshakes that succeeded.
    pub handshakes_ok: Counter,
    /// TLS handshakes that failed.
    pub handshakes_failed: Counter,
    /// TLS handshakes that took too long.
    pub handshakes_timed_out: Counter,
    /// Connections refused because there were too many.
    pub refused_total: Counter,
    /// Connections refused because there were too many from one peer.
    pub refused_peer: Counter,
    /// PROXY headers read.
    pub proxy_headers_ok: Counter,
    /// Connections of trusted proxies without a PROXY header.
    pub proxy_headers_failed: Counter,
    /// Connections of trusted proxies whose PROXY header took too long.
    pub proxy_headers_timed_out: Counter,
    /// Certificates that were replaced while serving.
    pub certificate_reloads_ok: Counter,
    /// Certificates that could not be.
    pub certificate_reloads_failed: Counter,
    /// Event ids remembered.
    pub dedupe_ids: Gauge,
    /// How long they are, in fact.
    pub dedupe_window: Gauge,
}

/// The journal's state. Gauges are set when the page is read.
#[derive(Debug)]
pub struct JournalMetrics {
    /// Events stored and not yet confirmed by the broker.
    pub waiting: Gauge,
    /// The same at the moment of start.
    pub waiting_at_start: Gauge,
    /// Events that this process set aside.
    pub set_aside: Gauge,
    /// Events in the set-aside journal that were not replayed, whoever put them there.
    pub set_aside_stored: Gauge,
    /// Events whose queues do not take them; they are among those that wait.
    pub parked: Gauge,
    /// Bytes in all segments.
    pub bytes: Gauge,
    /// Segments.
    pub segments: Gauge,
    /// 1 after the first failure.
    pub failed: Gauge,
    /// One sync of a group.
    pub sync_duration: Histogram,
    /// Events in a group.
    pub group_events: Histogram,
}

/// What happens on the way to the broker.
#[derive(Debug)]
pub struct PublisherMetrics {
    /// Of the journal's connections, and of senders who wait.
    pub main: WayMetrics,
    /// Of the connection of what is parked.
    pub parked: WayMetrics,
    /// Events that were stored again, to be published again.
    pub replayed: Counter,
    /// Publishes that were confirmed.
    pub acks: Counter,
    /// Publishes that the broker refused.
    pub nacks: Counter,
    /// Publishes that came back because no queue took them.
    pub returns: Counter,
    /// Publishes whose confirm did not come in time.
    pub timeouts: Counter,
    /// Publishes that ended with their channel or connection.
    pub errors: Counter,
    /// From publish to confirm.
    pub confirm_duration: Histogram,
    /// Publishes without a confirm.
    pub in_flight: Gauge,
    /// Connections lost.
    pub reconnects: Counter,
}

/// What is told apart by the way that events take, so that lots which are well hide no trouble of
/// the journal's.
#[derive(Clone, Debug)]
pub struct WayMetrics {
    /// Events that the broker confirmed.
    pub published: Counter,
    /// Connections that are up. Nobody counts the lots'.
    pub connected: Gauge,
    /// Connections that the broker blocks. Nobody counts the lots'.
    pub blocked: Gauge,
}

// === impl Tally ===

impl Tally {
    fn new(counter: Counter) -> Self {
        let count = AtomicU64::new(0);
        Self { counter, count }
    }

    /// Counts so many.
    pub fn add(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.counter.increment(count);
        self.count.fetch_add(count, Ordering::Relaxed);
    }

    /// How many since the process began.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

// === impl Metrics ===

impl Metrics {
    /// Registers the series of every source at zero.
    pub fn new<'a>(sources: impl IntoIterator<Item = &'a Arc<str>>) -> Arc<Self> {
        let recorder = recorder();
        let page = recorder.handle();
        with_local_recorder(&recorder, || {
            describe();
            gauge!("hookgate_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        });
        let of = |name: &Arc<str>| {
            Arc::new(with_local_recorder(&recorder, || {
                SourceMetrics::register(Arc::clone(name))
            }))
        };
        let unknown = of(&Arc::from(UNKNOWN_SOURCE));
        let sources = sources
            .into_iter()
            .map(|name| (Arc::clone(name), of(name)))
            .collect();
        let (edge, journal, publisher) = with_local_recorder(&recorder, || {
            (
                EdgeMetrics::register(),
                JournalMetrics::register(),
                PublisherMetrics::register(),
            )
        });
        Arc::new(Self {
            recorder,
            page,
            sources,
            unknown,
            edge,
            journal,
            publisher,
        })
    }

    /// The handles of a source; those of `_unknown` for a name that is not configured.
    pub fn source(&self, name: Option<&str>) -> &Arc<SourceMetrics> {
        name.and_then(|name| self.sources.get(name))
            .unwrap_or(&self.unknown)
    }

    /// Counts one request that was turned away.
    pub fn rejected(&self, source: Option<&str>, reject: &Reject) {
        let metrics = self.source(source);
        let label = reject.label();
        let slot = Reject::LABELS.iter().position(|&known| known == label);
        let Some(cell) = slot.and_then(|slot| metrics.rejected.get(slot)) else {
            return;
        };
        cell.get_or_init(|| {
            let source = metrics.name.to_string();
            with_local_recorder(
                &self.recorder,
                || counter!("hookgate_rejected_total", "source" => source, "reason" => label),
            )
        })
        .increment(1);
        if let Reject::Unverified(refusal) = reject {
            self.refused(source, refusal.label());
        }
    }

    /// Counts one failed proof by its reason, a word of a closed set.
    pub fn refused(&self, source: Option<&str>, reason: &'static str) {
        let source = self.source(source).name.to_string();
        with_local_recorder(
            &self.recorder,
            || counter!("hookgate_refusals_total", "source" => source, "reason" => reason),
        )
        .increment(1);
    }

    /// Counts one thing that the gateway fetched for a source, or did not, by a word of
    /// [`Unfetched::OUTCOMES`](crate::pipeline::evidence::Unfetched::OUTCOMES).
    pub fn fetched(&self, source: &str, outcome: &'static str) {
        let source = self.source(Some(source)).name.to_string();
        with_local_recorder(
            &self.recorder,
            || counter!("hookgate_fetches_total", "source" => source, "outcome" => outcome),
        )
        .increment(1);
    }

    /// Makes known that a source has a secret of this label, so that one that is never used is
    /// seen to be.
    pub fn secret_known(&self, source: &str, secret: &str) {
        let metrics = self.source(Some(source));
        let register = || {
            let labels = || (metrics.name.to_string(), secret.to_owned());
            let (uses, last_used) = (labels(), labels());
            with_local_recorder(&self.recorder, || SecretMetrics {
                uses: counter!("hookgate_secret_uses_total", "source" => uses.0, "secret" => uses.1),
                last_used: gauge!(
                    "hookgate_secret_last_used_timestamp_seconds",
                    "source" => last_used.0, "secret" => last_used.1
                ),
                count: AtomicU64::new(0),
                last_at: AtomicI64::new(0),
            })
        };
        let known = metrics.secrets.write();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        known.entry(Box::from(secret)).or_insert_with(register);
    }

    /// Counts one use of a secret by its label, so that an operator sees when an old one is out
    /// of use.
    pub fn secret_used(&self, source: &str, secret: &str, at: Timestamp) {
        let metrics = self.source(Some(source));
        let used = || {
            let known = metrics.secrets.read();
            let known = known.unwrap_or_else(PoisonError::into_inner);
            known.get(secret).map(|secret| secret.used(at)).is_some()
        };
        if !used() {
            self.secret_known(source, secret);
            used();
        }
    }

    /// Makes known when a secret was last used, by a process before this one.
    pub fn secret_was_used(&self, source: &str, secret: &str, at: Timestamp) {
        self.secret_known(source, secret);
        let known = self.source(Some(source)).secrets.read();
        let known = known.unwrap_or_else(PoisonError::into_inner);
        if let Some(secret) = known.get(secret) {
            secret.seen(at);
        }
    }

    /// How much each secret of a source is used, by label.
    pub fn secret_uses(&self, source: &str) -> Vec<SecretUse> {
        let known = self.source(Some(source)).secrets.read();
        let known = known.unwrap_or_else(PoisonError::into_inner);
        let uses = known.iter().map(|(label, secret)| SecretUse {
            label: label.to_string(),
            uses: secret.count.load(Ordering::Relaxed),
            last_used: match secret.last_at.load(Ordering::Relaxed) {
                0 => None,
                at => Timestamp::from_microsecond(at).ok(),
            },
        });
        uses.collect()
    }

    /// When a certificate ends, for the alarm that comes before that.
    pub fn certificate_ends(&self, name: &str, not_after: Timestamp) {
        let name = name.to_owned();
        with_local_recorder(&self.recorder, || {
            #[expect(
                clippy::cast_precision_loss,
                reason = "seconds since 1970 fit in 53 bits"
            )]
            gauge!("hookgate_certificate_not_after_timestamp_seconds", "name" => name)
                .set(not_after.as_second() as f64);
        });
    }

    /// The page, in Prometheus' text format.
    pub fn render(&self) -> String {
        self.page.run_upkeep();
        self.page.render()
    }

    /// Empties what histograms have buffered; to be called every few seconds.
    pub fn upkeep(&self) {
        self.page.run_upkeep();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SourceMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceMetrics")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn recorder() -> PrometheusRecorder {
    let suffix = |text: &str| Matcher::Suffix(text.to_owned());
    let full = |text: &str| Matcher::Full(text.to_owned());
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(suffix("_seconds"), SECONDS_BUCKETS)
        .and_then(|builder| builder.set_buckets_for_metric(suffix("_bytes"), BYTES_BUCKETS))
        .and_then(|builder| {
            builder.set_buckets_for_metric(full("hookgate_journal_group_events"), COUNT_BUCKETS)
        });
    // The only error is an empty list of buckets, and these are constants.
    builder.unwrap_or_default().build_recorder()
}

/// Durations go into histograms as seconds.
pub fn observe(histogram: &Histogram, duration: Duration) {
    histogram.record(duration.as_secs_f64());
}

// === the names ===

impl SourceMetrics {
    fn register(name: Arc<str>) -> Self {
        let source = || name.to_string();
        Self {
            received: counter!("hookgate_received_total", "source" => source()),
            accepted: counter!("hookgate_accepted_total", "source" => source()),
            duplicate: counter!("hookgate_duplicate_total", "source" => source()),
            handshake: counter!("hookgate_handshake_total", "source" => source()),
            events: counter!("hookgate_events_total", "source" => source()),
            copies: counter!("hookgate_event_copies_total", "source" => source()),
            late: counter!("hookgate_late_total", "source" => source()),
            unverified: Tally::new(counter!("hookgate_unverified_total", "source" => source())),
            quarantined: Tally::new(counter!("hookgate_quarantined_total", "source" => source())),
            duration: histogram!("hookgate_request_duration_seconds", "source" => source()),
            body_bytes: histogram!("hookgate_request_body_bytes", "source" => source()),
            rejected: [const { OnceLock::new() }; Reject::LABELS.len()],
            secrets: RwLock::default(),
            name,
        }
    }
}

impl SecretMetrics {
    fn used(&self, at: Timestamp) {
        self.uses.increment(1);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.seen(at);
    }

    fn seen(&self, at: Timestamp) {
        let before = self
            .last_at
            .fetch_max(at.as_microsecond(), Ordering::Relaxed);
        if before < at.as_microsecond() {
            self.last_used.set(at.as_duration().as_secs_f64());
        }
    }
}

impl SourceMetrics {
    /// Counts the events of one request: those that are new, and copies.
    pub fn took(&self, (events, copies): (usize, usize)) {
        self.events
            .increment(u64::try_from(events).unwrap_or(u64::MAX));
        self.copies
            .increment(u64::try_from(copies).unwrap_or(u64::MAX));
    }
}

impl EdgeMetrics {
    fn register() -> Self {
        Self {
            connections: gauge!("hookgate_connections"),
            requests_in_flight: gauge!("hookgate_requests_in_flight"),
            handshakes_ok: counter!("hookgate_tls_handshakes_total", "result" => "ok"),
            handshakes_failed: counter!("hookgate_tls_handshakes_total", "result" => "failed"),
            handshakes_timed_out: counter!("hookgate_tls_handshakes_total", "result" => "timeout"),
            refused_total: counter!("hookgate_connections_refused_total", "limit" => "total"),
            refused_peer: counter!("hookgate_connections_refused_total", "limit" => "peer"),
            proxy_headers_ok: counter!("hookgate_proxy_headers_total", "result" => "ok"),
            proxy_headers_failed: counter!("hookgate_proxy_headers_total", "result" => "failed"),
            proxy_headers_timed_out: counter!("hookgate_proxy_headers_total", "result" => "timeout"),
            certificate_reloads_ok: counter!("hookgate_certificate_reloads_total", "result" => "ok"),
            certificate_reloads_failed: counter!("hookgate_certificate_reloads_total", "result" => "failed"),
            dedupe_ids: gauge!("hookgate_dedupe_ids"),
            dedupe_window: gauge!("hookgate_dedupe_window_seconds"),
        }
    }
}

impl JournalMetrics {
    fn register() -> Self {
        Self {
            waiting: gauge!("hookgate_journal_waiting"),
            waiting_at_start: gauge!("hookgate_journal_waiting_at_start"),
            set_aside: gauge!("hookgate_set_aside"),
            set_aside_stored: gauge!("hookgate_set_aside_stored"),
            parked: gauge!("hookgate_parked"),
            bytes: gauge!("hookgate_journal_bytes"),
            segments: gauge!("hookgate_journal_segments"),
            failed: gauge!("hookgate_journal_failed"),
            sync_duration: histogram!("hookgate_journal_sync_duration_seconds"),
            group_events: histogram!("hookgate_journal_group_events"),
        }
    }
}

impl PublisherMetrics {
    fn register() -> Self {
        let attempts =
            |result: &'static str| counter!("hookgate_publish_attempts_total", "result" => result);
        let published =
            |parked: &'static str| counter!("hookgate_published_total", "parked" => parked);
        Self {
            main: WayMetrics {
                published: published("no"),
                connected: gauge!("hookgate_broker_connected"),
                blocked: gauge!("hookgate_broker_blocked"),
            },
            parked: WayMetrics {
                published: published("yes"),
                connected: Gauge::noop(),
                blocked: Gauge::noop(),
            },
            replayed: counter!("hookgate_replayed_total"),
            acks: attempts("ack"),
            nacks: attempts("nack"),
            returns: attempts("returned"),
            timeouts: attempts("timeout"),
            errors: attempts("error"),
            confirm_duration: histogram!("hookgate_publish_confirm_duration_seconds"),
            in_flight: gauge!("hookgate_publish_in_flight"),
            reconnects: counter!("hookgate_broker_reconnects_total"),
        }
    }
}

fn describe() {
    describe_counter!("hookgate_received_total", "Requests that arrived");
    describe_counter!(
        "hookgate_accepted_total",
        "Requests whose events are safe and that were answered 2xx"
    );
    describe_counter!(
        "hookgate_duplicate_total",
        "Requests with nothing but copies of events that were safe already"
    );
    describe_counter!(
        "hookgate_events_total",
        "Events that are safe and answered 2xx: one of a request, or those of a batch"
    );
    describe_counter!(
        "hookgate_event_copies_total",
        "Copies of events that were safe already, in batches too"
    );
    describe_counter!("hookgate_handshake_total", "Handshakes answered");
    describe_counter!("hookgate_rejected_total", "Requests turned away, by reason");
    describe_counter!("hookgate_refusals_total", "Failed proofs, by reason");
    describe_counter!(
        "hookgate_fetches_total",
        "What the gateway itself fetched, by what became of it"
    );
    describe_counter!(
        "hookgate_late_total",
        "Events that are safe although their sender was told 503"
    );
    describe_counter!(
        "hookgate_unverified_total",
        "Requests whose proof failed and that were accepted all the same (enforce = false)"
    );
    describe_counter!(
        "hookgate_quarantined_total",
        "Events that are safe, and go to quarantine"
    );
    describe_counter!(
        "hookgate_secret_uses_total",
        "Proofs that held, by the secret's label"
    );
    describe_gauge!(
        "hookgate_secret_last_used_timestamp_seconds",
        "When a proof last held by the secret, Unix time; 0: not since the process began"
    );
    describe_histogram!(
        "hookgate_request_duration_seconds",
        "From the head to the answer"
    );
    describe_histogram!("hookgate_request_body_bytes", "Length of bodies");
    describe_gauge!("hookgate_connections", "Connections open now");
    describe_gauge!(
        "hookgate_requests_in_flight",
        "Requests between head and answer"
    );
    describe_counter!("hookgate_tls_handshakes_total", "TLS handshakes, by result");
    describe_counter!(
        "hookgate_connections_refused_total",
        "Connections refused, by the limit"
    );
    describe_counter!(
        "hookgate_proxy_headers_total",
        "Connections of trusted proxies, by what became of their PROXY header"
    );
    describe_counter!(
        "hookgate_certificate_reloads_total",
        "Changes of certificate files, by result"
    );
    describe_gauge!("hookgate_dedupe_ids", "Event ids remembered");
    describe_gauge!(
        "hookgate_dedupe_window_seconds",
        "How far back event ids are recognised: the longest configured, less when the table is full"
    );
    describe_gauge!(
        "hookgate_certificate_not_after_timestamp_seconds",
        "When a certificate ends, Unix time"
    );
    describe_gauge!(
        "hookgate_journal_waiting",
        "Events stored and not yet confirmed"
    );
    describe_gauge!(
        "hookgate_journal_waiting_at_start",
        "The same when the process started"
    );
    describe_gauge!(
        "hookgate_set_aside",
        "Events that this process set aside after repeated refusals"
    );
    describe_gauge!(
        "hookgate_set_aside_stored",
        "Events that were set aside and not replayed"
    );
    describe_gauge!(
        "hookgate_parked",
        "Of the events that wait, those whose queues do not take them"
    );
    describe_gauge!("hookgate_journal_bytes", "Bytes in all segments");
    describe_gauge!("hookgate_journal_segments", "Segments");
    describe_gauge!(
        "hookgate_journal_failed",
        "1 after the first failure of the disk"
    );
    describe_histogram!(
        "hookgate_journal_sync_duration_seconds",
        "One sync of a group of events"
    );
    describe_histogram!("hookgate_journal_group_events", "Events per sync");
    describe_counter!(
        "hookgate_published_total",
        "Events that the broker confirmed"
    );
    describe_counter!(
        "hookgate_replayed_total",
        "Events stored again to be published again"
    );
    describe_counter!(
        "hookgate_publish_attempts_total",
        "Publishes, by how they ended"
    );
    describe_histogram!(
        "hookgate_publish_confirm_duration_seconds",
        "From publish to confirm"
    );
    describe_gauge!("hookgate_publish_in_flight", "Publishes without a confirm");
    describe_gauge!(
        "hookgate_broker_connected",
        "Connections to the broker that are up, but for that of parked events"
    );
    describe_gauge!(
        "hookgate_broker_blocked",
        "Connections that the broker blocks, but for that of parked events"
    );
    describe_counter!(
        "hookgate_broker_reconnects_total",
        "Connections to the broker lost"
    );
    describe_gauge!("hookgate_build_info", "1, with the version as label");
}
