//! What has arrived of a load: what is missing, what came twice, and in which order, in little
//! memory for each event.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::broker::Message;
use super::load::Ledger;

/// Events by source and number.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    events: BTreeMap<String, BTreeMap<u64, Event>>,
    messages: u64,
    distinct: u64,
    /// Events whose copies differ in their message id.
    changed: Vec<(String, u64)>,
}

#[derive(Debug)]
struct Event {
    id: Uuid,
    /// Messages that had come before it.
    before: u64,
}

impl Arrivals {
    /// Of these messages.
    pub(crate) fn of(messages: &[Message]) -> Self {
        let mut arrivals = Self::default();
        arrivals.add(messages);
        arrivals
    }

    /// More messages.
    pub(crate) fn add(&mut self, messages: &[Message]) {
        for message in messages {
            let json = message.json();
            let source = json["source"].as_str().expect("source");
            let n = json["n"].as_u64().expect("n");
            let id = Uuid::try_parse(&message.id()).expect("message_id");
            if !self.events.contains_key(source) {
                self.events.insert(source.to_owned(), BTreeMap::new());
            }
            let events = self.events.get_mut(source).expect("it is there");
            match events.get(&n) {
                None => {
                    let before = self.messages;
                    events.insert(n, Event { id, before });
                    self.distinct += 1;
                }
                Some(first) if first.id != id => self.changed.push((source.to_owned(), n)),
                Some(_) => {}
            }
            self.messages += 1;
        }
    }

    /// Copies beyond the first of each event.
    pub(crate) fn duplicates(&self) -> u64 {
        self.messages - self.distinct
    }

    /// Whether everything acknowledged is there.
    pub(crate) fn have_all(&self, ledger: &Ledger) -> bool {
        let acknowledged = u64::try_from(ledger.len()).expect("a count");
        self.distinct >= acknowledged && self.missing(ledger).is_empty()
    }

    /// The acknowledged events that are not there.
    fn missing(&self, ledger: &Ledger) -> Vec<(String, u64)> {
        let mut missing = Vec::new();
        for (source, numbers) in &ledger.acknowledged {
            let there = self.events.get(source);
            let is_there = |n: &u64| there.is_some_and(|events| events.contains_key(n));
            missing.extend(
                numbers
                    .iter()
                    .filter(|n| !is_there(n))
                    .map(|n| (source.clone(), *n)),
            );
        }
        missing
    }

    /// Fails unless everything acknowledged is there, and all copies of an event have one message
    /// id.
    #[track_caller]
    pub(crate) fn assert_complete(&self, ledger: &Ledger) {
        let missing = self.missing(ledger);
        assert!(
            missing.is_empty(),
            "{} acknowledged and lost, first {:?}",
            missing.len(),
            &missing[..missing.len().min(20)]
        );
        assert!(
            self.changed.is_empty(),
            "{} came with several message ids, first {:?}",
            self.changed.len(),
            self.changed.first()
        );
    }

    /// Fails unless the first copies of each source's events came in the order of
    /// acknowledgement.
    #[track_caller]
    pub(crate) fn assert_in_order(&self, ledger: &Ledger) {
        for (source, numbers) in &ledger.acknowledged {
            let mut last = None;
            for n in numbers {
                let before = self.events[source][n].before;
                assert!(
                    last.is_none_or(|last| last < before),
                    "{source}: {n} came before an earlier one"
                );
                last = Some(before);
            }
        }
    }
}
