//! Events of the journal are recognised after a restart, as far as each source's window reaches.
//!
//! They are seen while the journal is recovered, which reads every record anyway.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use crate::clock::Now;
use crate::delivery::Delivery;
use crate::pipeline::dedupe::{self, Dedupe};
use crate::source::Source;

/// Fills the table of known events from records of the journal.
#[derive(Debug)]
pub(super) struct Recall<'a> {
    dedupe: &'a Dedupe,
    windows: HashMap<&'a str, (&'a Arc<str>, Duration)>,
    longest: Duration,
    now: Now,
}

impl<'a> Recall<'a> {
    pub(super) fn new(dedupe: &'a Dedupe, sources: &'a [Arc<Source>], now: Now) -> Self {
        let windows: HashMap<_, _> = sources
            .iter()
            .filter_map(|source| Some((&*source.name, (&source.name, source.dedupe?))))
            .collect();
        let longest = windows.values().map(|(_, window)| *window).max();
        Self {
            dedupe,
            windows,
            longest: longest.unwrap_or_default(),
            now,
        }
    }

    /// Remembers one event, in the order in which they came. `at`: when it was received.
    pub(super) fn see(&self, at: Timestamp, record: &[u8]) {
        // Most of a large journal is older than any window, and need not be looked into.
        if self.windows.is_empty() || self.age(at) > self.longest {
            return;
        }
        // What is no delivery is the publisher's to complain about.
        let Ok(delivery) = Delivery::decode(&Bytes::copy_from_slice(record)) else {
            return;
        };
        let (Some(event_id), Some((source, window))) =
            (&delivery.event_id, self.windows.get(&*delivery.source))
        else {
            return;
        };
        if let Some(left) = window.checked_sub(self.age(delivery.received_at)) {
            let issuer = dedupe::issuer_of(source, delivery.coverage, delivery.origin.as_ref());
            self.dedupe
                .recall(&issuer, event_id, delivery.id, self.now.mono + left);
        }
    }

    fn age(&self, at: Timestamp) -> Duration {
        Duration::try_from(self.now.wall.duration_since(at)).unwrap_or_default()
    }
}
