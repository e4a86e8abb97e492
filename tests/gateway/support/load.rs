//! Traffic that keeps books of its own: what was sent, and what was acknowledged.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, sleep};

use super::arrivals::Arrivals;
use super::broker::{Consumer, Message};
use super::gateway::source;
use super::sender::{Client, Sender, Version};
use super::webhook::Webhook;

/// The sources that load is sent to: one sender each, one event after the other, so that the
/// order in which events were accepted is known.
pub(crate) const SOURCES: [&str; 3] = ["one", "two", "three"];

/// Between two events of one sender: enough for a broker in any state to catch up with.
const PACE: Duration = Duration::from_millis(4);

/// Between two tries to connect to a gateway that is down.
const PAUSE: Duration = Duration::from_millis(20);

/// Their configuration.
pub(crate) fn sources() -> String {
    SOURCES.map(|name| source(name, "github", "")).concat()
}

/// The configuration of so many sources for [`rush`], each with these lines.
pub(crate) fn lanes(count: usize, more: &str) -> String {
    (0..count)
        .map(|lane| source(&lane_name(lane), "github", more))
        .collect()
}

fn lane_name(lane: usize) -> String {
    format!("lane{lane}")
}

/// Sends so many events over each lane, one after the other and as fast as they are answered;
/// numbers begin after `from`.
pub(crate) async fn rush(sender: &Sender, lanes: usize, from: u64, each: u64) -> Ledger {
    let tasks: Vec<_> = (0..lanes)
        .map(|lane| {
            let sender = sender.clone();
            tokio::spawn(async move {
                let source = lane_name(lane);
                let mut ledger = Ledger::default();
                let mut client = sender.connect(Version::Http1).await.expect("connection");
                for n in from + 1..=from + each {
                    if !ledger.send(&mut client, &source, n).await {
                        client = sender.connect(Version::Http1).await.expect("connection");
                    }
                }
                ledger
            })
        })
        .collect();
    let mut all = Ledger::default();
    for task in tasks {
        all.add(task.await.expect("a sender"));
    }
    all
}

/// Senders that go on until they are stopped.
#[derive(Debug)]
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    acknowledged: watch::Sender<u64>,
    tasks: Vec<JoinHandle<Ledger>>,
}

/// What the senders know.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Numbers of the acknowledged events of each source, in order.
    pub(crate) acknowledged: BTreeMap<String, Vec<u64>>,
    /// Answers that were not 2xx.
    pub(crate) refused: Vec<(u16, String)>,
    /// Requests that got no answer.
    pub(crate) unanswered: u64,
}

impl Load {
    /// Begins. Numbers go on from `from`, so that several loads can follow each other.
    pub(crate) fn start(sender: &Sender, from: u64) -> Self {
        Self::start_paced(sender, from, PACE)
    }

    /// The same, with at least so much between two events of one sender.
    pub(crate) fn start_paced(sender: &Sender, from: u64, pace: Duration) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (acknowledged, _) = watch::channel(0);
        let tasks = SOURCES.map(|source| {
            tokio::spawn(send(
                sender.clone(),
                source,
                from,
                pace,
                stopped.clone(),
                acknowledged.clone(),
            ))
        });
        Self {
            stop,
            acknowledged,
            tasks: tasks.into(),
        }
    }

    /// Waits until `n` more events are acknowledged.
    pub(crate) async fn more(&self, n: u64) {
        let mut count = self.acknowledged.subscribe();
        let goal = *count.borrow() + n;
        let reached = count.wait_for(|count| *count >= goal);
        match tokio::time::timeout(super::eventually::PATIENCE, reached).await {
            Ok(Ok(_)) => {}
            _ => panic!("the load stands still at {}", *self.acknowledged.borrow()),
        }
    }

    /// Lets the requests that are under way end, and gives the books.
    pub(crate) async fn stop(self) -> Ledger {
        self.stop.send_replace(true);
        let mut all = Ledger::default();
        for task in self.tasks {
            all.add(task.await.expect("a sender"));
        }
        all
    }
}

async fn send(
    sender: Sender,
    source: &'static str,
    from: u64,
    pace: Duration,
    stopped: watch::Receiver<bool>,
    acknowledged: watch::Sender<u64>,
) -> Ledger {
    let mut ledger = Ledger::default();
    let mut n = from;
    let mut client = None;
    let mut pace = tokio::time::interval(pace);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*stopped.borrow() {
        pace.tick().await;
        let Some(open) = &mut client else {
            match sender.connect(Version::Http1).await {
                Ok(connected) => client = Some(connected),
                Err(_) => sleep(PAUSE).await,
            }
            continue;
        };
        n += 1;
        let before = ledger.len();
        if !ledger.send(open, source, n).await {
            client = None;
        }
        if ledger.len() > before {
            acknowledged.send_modify(|count| *count += 1);
        }
    }
    ledger
}

impl Ledger {
    /// Adds the books of another load.
    pub(crate) fn add(&mut self, other: Self) {
        for (source, mut numbers) in other.acknowledged {
            self.acknowledged
                .entry(source)
                .or_default()
                .append(&mut numbers);
        }
        self.refused.extend(other.refused);
        self.unanswered += other.unanswered;
    }

    /// How many were acknowledged.
    pub(crate) fn len(&self) -> usize {
        self.acknowledged.values().map(Vec::len).sum()
    }

    /// Sends one event and enters what became of it. False if the connection is of no more use.
    async fn send(&mut self, client: &mut Client, source: &str, n: u64) -> bool {
        let body = format!(r#"{{"source":"{source}","n":{n}}}"#);
        let id = format!("{source}-{n}");
        let webhook = Webhook::github(&format!("/{source}"), "push", &id, body.as_bytes());
        match client.send(&webhook).await {
            Ok(answer) if (200..300).contains(&answer.status) => {
                match self.acknowledged.get_mut(source) {
                    Some(numbers) => numbers.push(n),
                    None => drop(self.acknowledged.insert(source.to_owned(), vec![n])),
                }
                // A connection has so many requests, and says when one was its last.
                answer.header("connection") != Some("close")
            }
            Ok(answer) => {
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                self.refused.push((answer.status, body));
                true
            }
            Err(_) => {
                self.unanswered += 1;
                false
            }
        }
    }

    /// Waits until everything acknowledged has arrived; gives all that has.
    pub(crate) async fn arrived_in(&self, queue: &Consumer) -> Vec<Message> {
        let mut arrivals = Arrivals::default();
        let mut messages = Vec::new();
        while !arrivals.have_all(self) {
            let read = messages.len();
            let more = queue.after(read).await;
            if more.is_empty() {
                arrivals.assert_complete(self);
            }
            arrivals.add(&more);
            messages.extend(more);
        }
        messages
    }

    /// Waits until everything acknowledged has arrived, and takes it out of the consumer's memory.
    pub(crate) async fn all_arrived(&self, queue: &Consumer, arrivals: &mut Arrivals) {
        while !arrivals.have_all(self) {
            let more = queue.taken().await;
            if more.is_empty() {
                arrivals.assert_complete(self);
            }
            arrivals.add(&more);
        }
    }

    /// Fails unless all answers were 2xx.
    #[track_caller]
    pub(crate) fn assert_none_refused(&self) {
        assert!(
            self.refused.is_empty(),
            "turned away: {:?}",
            self.refused.first()
        );
    }

    /// The same; but while it drains, a gateway may say so.
    #[track_caller]
    pub(crate) fn assert_none_refused_but_by_draining(&self) {
        let other = self
            .refused
            .iter()
            .find(|(status, body)| *status != 503 || !body.contains("draining"));
        assert!(other.is_none(), "turned away: {other:?}");
    }

    /// Fails unless everything acknowledged is there, and all copies of an event have one message
    /// id.
    #[track_caller]
    pub(crate) fn assert_delivered(&self, messages: &[Message]) {
        Arrivals::of(messages).assert_complete(self);
    }

    /// The same, and the first copies of each source's events came in the order of
    /// acknowledgement. For faults after which events are published again from the first that was
    /// not confirmed; one whose confirm came too late is tried again after a pause of its own.
    #[track_caller]
    pub(crate) fn assert_delivered_in_order(&self, messages: &[Message]) {
        let arrivals = Arrivals::of(messages);
        arrivals.assert_complete(self);
        arrivals.assert_in_order(self);
    }
}
