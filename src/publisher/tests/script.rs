//! A broker that does what a test tells it, and a link over it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::super::broker::{
    Answer, Broker, Channel, Connection, Failure, Notice, Receipt, Returned,
};
use super::super::direct::{Direct, Door, Gate};
use super::super::health::{Board, Health};
use super::super::item::{Item, Origin, Report, Ticket};
use super::super::link::{Bounds, Link, Ports};
use super::super::message::{Message, Shape};
use super::super::urls::Node;
use super::{config, delivery};
use crate::delivery::Delivery;
use crate::journal::{Position, Record};
use crate::metrics::Metrics;
use crate::pipeline::store::Confirming as _;

/// How long the broker takes to answer.
const ANSWER_TIME: Duration = Duration::from_millis(2);
/// Longer than any delay of the publisher's; time is paused, so it costs nothing.
const PATIENCE: Duration = Duration::from_secs(600);

/// What the broker does with a publish.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Ack,
    Nack,
    /// Acknowledged with its return: no queue is bound.
    Return,
    /// No answer.
    Silence,
    /// The channel is closed, with all that is in flight on it.
    CloseChannel(Failure),
    /// The connection ends, with all that is in flight on it.
    EndConnection(Failure),
}

/// A publish as the broker saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) number: u64,
    pub(super) attempt: u32,
    pub(super) exchange: String,
    pub(super) connection: usize,
    pub(super) channel: usize,
    pub(super) at: Instant,
}

type Rule = Box<dyn FnMut(&Published) -> Reply + Send>;

/// The broker.
#[derive(Clone)]
pub(super) struct Script(Arc<Mutex<State>>);

struct State {
    rule: Rule,
    published: Vec<Published>,
    dials: Vec<(String, Instant)>,
    refusals: VecDeque<Failure>,
    opens: Vec<bool>,
    opening_takes: Duration,
    in_flight: usize,
    in_flight_max: usize,
    writes: bool,
    connection: Option<Wiring>,
    closed_well: usize,
}

/// What ends a connection, and speaks on it.
#[derive(Clone)]
struct Wiring {
    notices: mpsc::Sender<Notice>,
    ended: Arc<watch::Sender<Option<Failure>>>,
    up: Arc<AtomicBool>,
}

pub(super) struct ScriptConnection {
    script: Script,
    number: usize,
    wiring: Wiring,
    notices: mpsc::Receiver<Notice>,
}

pub(super) struct ScriptChannel {
    script: Script,
    connection: usize,
    number: usize,
    wiring: Wiring,
    ended: Arc<watch::Sender<Option<Failure>>>,
    sent: AtomicWritten,
}

type AtomicWritten = Arc<std::sync::atomic::AtomicU64>;

// === the broker ===

impl Script {
    pub(super) fn new(rule: impl FnMut(&Published) -> Reply + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(State {
            rule: Box::new(rule),
            published: Vec::new(),
            dials: Vec::new(),
            refusals: VecDeque::new(),
            opens: Vec::new(),
            opening_takes: Duration::ZERO,
            in_flight: 0,
            in_flight_max: 0,
            writes: true,
            connection: None,
            closed_well: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Changes what it does.
    pub(super) fn now(&self, rule: impl FnMut(&Published) -> Reply + Send + 'static) {
        self.state().rule = Box::new(rule);
    }

    /// The next connections are refused.
    pub(super) fn refuse(&self, failures: impl IntoIterator<Item = Failure>) {
        self.state().refusals.extend(failures);
    }

    /// Nothing leaves the socket any more.
    pub(super) fn stop_writing(&self) {
        self.state().writes = false;
    }

    /// Channels take so long to open from now on.
    pub(super) fn open_slowly(&self, opening_takes: Duration) {
        self.state().opening_takes = opening_takes;
    }

    pub(super) async fn say(&self, notice: Notice) {
        let wiring = self.state().connection.clone().unwrap();
        wiring.notices.send(notice).await.unwrap();
    }

    pub(super) fn published(&self) -> Vec<Published> {
        self.state().published.clone()
    }

    /// Numbers of the events published, in order.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.published().iter().map(|one| one.number).collect()
    }

    pub(super) fn dials(&self) -> Vec<(String, Instant)> {
        self.state().dials.clone()
    }

    /// For each channel opened, whether the topology was repaired first.
    pub(super) fn opens(&self) -> Vec<bool> {
        self.state().opens.clone()
    }

    pub(super) fn in_flight_max(&self) -> usize {
        self.state().in_flight_max
    }

    pub(super) fn closed_well(&self) -> usize {
        self.state().closed_well
    }
}

impl Wiring {
    fn end(&self, failure: Failure) {
        self.up.store(false, Ordering::SeqCst);
        self.ended.send_replace(Some(failure.clone()));
        drop(self.notices.try_send(Notice::Failed(failure)));
    }
}

impl Broker for Script {
    type Connection = ScriptConnection;

    async fn connect(&self, node: &Node) -> Result<ScriptConnection, Failure> {
        let mut state = self.state();
        state
            .dials
            .push((node.address().to_owned(), Instant::now()));
        if let Some(failure) = state.refusals.pop_front() {
            return Err(failure);
        }
        let (tell, notices) = mpsc::channel(16);
        let wiring = Wiring {
            notices: tell,
            ended: Arc::default(),
            up: Arc::new(AtomicBool::new(true)),
        };
        state.connection = Some(wiring.clone());
        state.writes = true;
        let number = state.dials.len();
        drop(state);
        Ok(ScriptConnection {
            script: self.clone(),
            number,
            wiring,
            notices,
        })
    }
}

impl Connection for ScriptConnection {
    type Channel = ScriptChannel;

    async fn open(&mut self, repair: bool) -> Result<ScriptChannel, Failure> {
        let (number, opening_takes) = {
            let mut state = self.script.state();
            state.opens.push(repair);
            (state.opens.len(), state.opening_takes)
        };
        if !opening_takes.is_zero() {
            sleep(opening_takes).await;
        }
        Ok(ScriptChannel {
            script: self.script.clone(),
            connection: self.number,
            number,
            wiring: self.wiring.clone(),
            ended: Arc::default(),
            sent: Arc::default(),
        })
    }

    fn is_up(&self) -> bool {
        self.wiring.up.load(Ordering::SeqCst)
    }

    async fn notice(&mut self) -> Notice {
        match self.notices.recv().await {
            Some(notice) => notice,
            None => std::future::pending().await,
        }
    }

    async fn close(self) {
        self.script.state().closed_well += 1;
    }
}

impl Drop for ScriptConnection {
    fn drop(&mut self) {
        self.wiring.end(Failure::new("cut"));
    }
}

impl Channel for ScriptChannel {
    fn publish(&self, message: Message) -> Answer {
        let id = message.properties.message_id().clone().unwrap();
        let id = Uuid::try_parse(id.as_str()).unwrap();
        let headers = message.properties.headers().clone().unwrap();
        let attempt = headers.inner().get("hookgate_attempt");
        let published = Published {
            number: u64::try_from(id.as_u128()).unwrap(),
            attempt: attempt.and_then(|value| value.as_long_uint()).unwrap(),
            exchange: message.exchange.to_string(),
            connection: self.connection,
            channel: self.number,
            at: Instant::now(),
        };
        let reply = {
            let mut state = self.script.state();
            state.published.push(published.clone());
            state.in_flight += 1;
            state.in_flight_max = state.in_flight_max.max(state.in_flight);
            if state.writes {
                self.sent.fetch_add(1, Ordering::SeqCst);
            }
            (state.rule)(&published)
        };
        match &reply {
            Reply::CloseChannel(failure) => {
                self.ended.send_replace(Some(failure.clone()));
            }
            Reply::EndConnection(failure) => self.wiring.end(failure.clone()),
            Reply::Ack | Reply::Nack | Reply::Return | Reply::Silence => {}
        }
        let mut channel = self.ended.subscribe();
        let mut connection = self.wiring.ended.subscribe();
        let script = self.script.clone();
        Box::pin(async move {
            let returned = || Returned { id: Some(id) };
            let answered = async {
                sleep(ANSWER_TIME).await;
                match reply {
                    Reply::Ack => Ok(Receipt::Ack(None)),
                    Reply::Nack => Ok(Receipt::Nack(None)),
                    Reply::Return => Ok(Receipt::Ack(Some(returned()))),
                    Reply::Silence | Reply::CloseChannel(_) | Reply::EndConnection(_) => {
                        std::future::pending().await
                    }
                }
            };
            let answer = tokio::select! {
                biased;
                failure = ended(&mut channel) => Err(failure),
                failure = ended(&mut connection) => Err(failure),
                answer = answered => answer,
            };
            script.state().in_flight -= 1;
            answer
        })
    }

    fn written(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

async fn ended(state: &mut watch::Receiver<Option<Failure>>) -> Failure {
    match state.wait_for(Option::is_some).await {
        Ok(failure) => failure.clone().unwrap(),
        Err(_dropped) => Failure::new("dropped"),
    }
}

// === a link over it ===

/// A link with everything around it.
pub(super) struct Rig {
    feed: mpsc::Sender<Box<Item>>,
    report: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
    direct: Direct,
    health: watch::Receiver<Health>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

impl Rig {
    /// Eight publishes in flight at most, 10 s for a confirm.
    pub(super) fn new(script: &Script) -> Self {
        Self::with_nodes(script, &["amqp://localhost"])
    }

    pub(super) fn with_nodes(script: &Script, urls: &[&str]) -> Self {
        const IN_FLIGHT_MAX: usize = 8;
        let config = config();
        let nodes: Vec<_> = urls
            .iter()
            .map(|text| Node::parse(&super::url(text)).unwrap())
            .collect();
        let (feed, fed) = mpsc::channel(1024);
        let (queue, direct) = mpsc::channel(IN_FLIGHT_MAX);
        let (report, reports) = mpsc::channel(1024);
        let gate = Arc::new(Gate::default());
        let door = Door {
            gate: Arc::clone(&gate),
            queue,
        };
        let board = Board::new(1);
        let metrics = Metrics::new([]);
        let bounds = Bounds {
            in_flight_max: IN_FLIGHT_MAX,
            bytes_max: 1000,
            confirm_timeout: config.confirm_timeout,
        };
        let ports = Ports {
            feed: fed,
            direct,
            gate,
            lamp: board.lamp(0),
            way: metrics.publisher.main.clone(),
            metrics: Arc::clone(&metrics),
        };
        let broker = Arc::new(script.clone());
        let shape = Shape::new(&config).unwrap();
        let link = Link::new(broker, nodes.into(), shape, bounds, ports);
        let stop = CancellationToken::new();
        let task = tokio::spawn(link.run(stop.clone()));
        Self {
            feed,
            report,
            reports,
            direct: Direct::new(vec![door], config.confirm_timeout),
            health: board.watch(),
            metrics,
            stop,
            task,
        }
    }

    /// Events come from the journal.
    pub(super) async fn store(&self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            self.store_this(number, delivery(number)).await;
        }
    }

    pub(super) async fn store_this(&self, number: u64, delivery: Delivery) {
        let record = Record {
            position: Position(number),
            at: Timestamp::UNIX_EPOCH,
            payload: delivery.encode(),
        };
        let ticket = Ticket {
            record,
            reports: self.report.clone(),
            setbacks_max: 3,
        };
        let item = Item::new(delivery, Origin::Journal(ticket));
        self.feed.send(item).await.unwrap();
    }

    /// The next report: a number, and why it was refused.
    pub(super) async fn report(&mut self) -> (u64, Option<String>) {
        let report = timeout(PATIENCE, self.reports.recv()).await;
        match report.expect("no report").expect("the link ended") {
            Report::Published(position) => (position.0, None),
            Report::Refused(record, reason) => (record.position.0, Some(reason)),
            Report::NotTaken(_, record, attempts) => (
                record.position.0,
                Some(format!("not taken {attempts} times")),
            ),
        }
    }

    /// Reports of so many events, sorted; all published.
    pub(super) async fn reports(&mut self, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        for _ in 0..count {
            let (number, refused) = self.report().await;
            assert_eq!(refused, None, "event {number}");
            numbers.push(number);
        }
        numbers.sort_unstable();
        numbers
    }

    /// Nothing more is reported.
    pub(super) fn assert_no_report(&mut self) {
        assert!(self.reports.try_recv().is_err());
    }

    /// A sender waits for an event.
    pub(super) fn ask(&self, number: u64) -> mpsc::Receiver<Result<(), String>> {
        let (tell, told) = mpsc::channel(2);
        let done = Box::new(move |verdict| tell.try_send(verdict).unwrap());
        self.direct.publish(delivery(number), done);
        told
    }

    pub(super) async fn until(&mut self, is: impl FnMut(&Health) -> bool) -> Health {
        let health = timeout(PATIENCE, self.health.wait_for(is)).await;
        health.expect("it does not become so").unwrap().clone()
    }

    pub(super) async fn connected(&mut self) {
        self.until(|health| health.connected).await;
    }

    /// The value of a series on the metrics page.
    #[track_caller]
    pub(super) fn metric(&self, series: &str) -> f64 {
        metric(&self.metrics, series)
    }

    #[track_caller]
    pub(super) fn attempts(&self, result: &str) -> f64 {
        self.metric(&format!(
            "hookgate_publish_attempts_total{{result=\"{result}\"}}"
        ))
    }
}

#[track_caller]
pub(super) fn metric(metrics: &Metrics, series: &str) -> f64 {
    let page = metrics.render();
    let line = page.lines().find_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        (name == series).then(|| value.to_owned())
    });
    line.unwrap_or_else(|| panic!("no {series} in\n{page}"))
        .parse()
        .unwrap()
}

/// The answer to a sender: exactly one.
pub(super) async fn answer(mut told: mpsc::Receiver<Result<(), String>>) -> Result<(), String> {
    let verdict = timeout(PATIENCE, told.recv()).await;
    let verdict = verdict.expect("no answer").expect("dropped without one");
    // The callback is gone after its one call.
    assert_eq!(told.recv().await, None, "answered twice");
    verdict
}
