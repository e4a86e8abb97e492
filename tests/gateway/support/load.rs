//! Traffic that keeps books of its own: what was sent, and what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, sleep};

use super::broker::{Consumer, Message};
use super::gateway::source;
use super::sender::{Sender, Version};
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
        let (stop, stopped) = watch::channel(false);
        let (acknowledged, _) = watch::channel(0);
        let tasks = SOURCES.map(|source| {
            tokio::spawn(send(
                sender.clone(),
                source,
                from,
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
    stopped: watch::Receiver<bool>,
    acknowledged: watch::Sender<u64>,
) -> Ledger {
    let mut ledger = Ledger::default();
    let mut n = from;
    let mut client = None;
    let mut pace = tokio::time::interval(PACE);
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
        let body = format!(r#"{{"source":"{source}","n":{n}}}"#);
        let id = format!("{source}-{n}");
        let webhook = Webhook::github(&format!("/{source}"), "push", &id, body.as_bytes());
        match open.send(&webhook).await {
            Ok(answer) if (200..300).contains(&answer.status) => {
                ledger
                    .acknowledged
                    .entry(source.to_owned())
                    .or_default()
                    .push(n);
                acknowledged.send_modify(|count| *count += 1);
            }
            Ok(answer) => {
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                ledger.refused.push((answer.status, body));
            }
            Err(_) => {
                ledger.unanswered += 1;
                client = None;
            }
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

    /// Waits until everything acknowledged has arrived; gives all that has.
    pub(crate) async fn arrived_in(&self, queue: &Consumer) -> Vec<Message> {
        queue
            .wait_until("all events", |seen| self.missing(seen).is_empty())
            .await
    }

    /// The acknowledged events that are not among these messages.
    pub(crate) fn missing(&self, messages: &[Message]) -> Vec<(String, u64)> {
        let there: BTreeSet<_> = messages.iter().map(number).collect();
        let ours = self
            .acknowledged
            .iter()
            .flat_map(|(source, numbers)| numbers.iter().map(|n| (source.clone(), *n)));
        ours.filter(|event| !there.contains(event)).collect()
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

    /// Fails unless everything acknowledged is there, and all copies of an event have one message
    /// id.
    #[track_caller]
    pub(crate) fn assert_delivered(&self, messages: &[Message]) {
        let missing = self.missing(messages);
        assert!(
            missing.is_empty(),
            "{} acknowledged and lost: {missing:?}",
            missing.len()
        );
        let mut ids = BTreeMap::new();
        for message in messages {
            let event = number(message);
            let id = ids.entry(event.clone()).or_insert_with(|| message.id());
            assert_eq!(*id, message.id(), "{event:?} changed its message id");
        }
    }

    /// The same, and the first copies of each source's events came in the order of
    /// acknowledgement. For faults after which events are published again from the first that was
    /// not confirmed; one whose confirm came too late is tried again after a pause of its own.
    #[track_caller]
    pub(crate) fn assert_delivered_in_order(&self, messages: &[Message]) {
        self.assert_delivered(messages);
        let mut seen = BTreeSet::new();
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for (source, n) in messages.iter().map(number) {
            let acknowledged = self
                .acknowledged
                .get(&source)
                .is_some_and(|all| all.binary_search(&n).is_ok());
            if acknowledged && seen.insert((source.clone(), n)) {
                let before = last.insert(source.clone(), n).unwrap_or(0);
                assert!(before < n, "{source}: {n} came after {before}");
            }
        }
    }
}

fn number(message: &Message) -> (String, u64) {
    let json = message.json();
    let source = json["source"].as_str().expect("source").to_owned();
    (source, json["n"].as_u64().expect("n"))
}
