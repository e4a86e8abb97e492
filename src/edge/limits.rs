//! How many connections there may be: over all, and of one peer.
//!
//! A connection beyond a limit is accepted and closed at once. Leaving it in the kernel's queue
//! instead would hide the overload: the sender would wait without an answer, and no metric would
//! say so.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::pipeline::limit::network_of;

/// Refusals are counted one by one and logged at most so often.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Open connections.
#[derive(Clone, Debug)]
pub struct Places {
    table: Arc<Mutex<Table>>,
    total_max: usize,
    per_peer_max: usize,
}

#[derive(Debug, Default)]
struct Table {
    total: usize,
    /// Only peers that have a connection, so it is never longer than `total`.
    peers: HashMap<IpAddr, usize>,
    said: Option<Instant>,
}

/// A connection's place; gives it back when dropped.
#[derive(Debug)]
#[must_use = "the place is given back when this is dropped"]
pub struct Place {
    places: Places,
    network: Option<IpAddr>,
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// `max_connections`.
    Total,
    /// `max_connections_per_peer`.
    Peer,
}

impl Places {
    /// Bounds over all and per peer.
    pub fn new(total_max: usize, per_peer_max: usize) -> Self {
        Self {
            table: Arc::default(),
            total_max,
            per_peer_max,
        }
    }

    /// Takes a place. `None` for the peer: a trusted proxy, which brings everybody's connections
    /// and is bounded by the total only. IPv6 counts by /64.
    ///
    /// # Errors
    ///
    /// Which limit was reached.
    pub fn take(&self, peer: Option<IpAddr>) -> Result<Place, Full> {
        let network = peer.map(network_of);
        let mut table = self.lock();
        if table.total >= self.total_max {
            return Err(Full::Total);
        }
        if let Some(network) = network {
            let open = table.peers.entry(network).or_default();
            if *open >= self.per_peer_max {
                return Err(Full::Peer);
            }
            *open += 1;
        }
        table.total += 1;
        Ok(Place {
            places: self.clone(),
            network,
        })
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.lock().total
    }

    /// Whether a refusal at `now` is to be logged.
    pub fn should_say(&self, now: Instant) -> bool {
        let mut table = self.lock();
        let quiet = table.said.is_none_or(|said| now >= said + SAY_EVERY);
        if quiet {
            table.said = Some(now);
        }
        quiet
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing under this lock can panic half way through a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.places.lock();
        table.total = table.total.saturating_sub(1);
        let Some(network) = self.network else {
            return;
        };
        if let Some(open) = table.peers.get_mut(&network) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                table.peers.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(places: &Places, peer: &str) -> Result<Place, Full> {
        places.take(Some(peer.parse().unwrap()))
    }

    #[test]
    fn places_are_bounded_over_all_and_per_peer_and_come_back() {
        let places = Places::new(3, 2);
        let first = take(&places, "192.0.2.1").unwrap();
        let second = take(&places, "::ffff:192.0.2.1").unwrap();
        assert_eq!(take(&places, "192.0.2.1").unwrap_err(), Full::Peer);
        let third = take(&places, "192.0.2.2").unwrap();
        assert_eq!(take(&places, "192.0.2.3").unwrap_err(), Full::Total);
        drop((first, second, third));
        assert_eq!(places.open(), 0);
        assert!(places.lock().peers.is_empty());
    }

    #[test]
    fn ipv6_counts_by_64_and_a_trusted_proxy_not_at_all() {
        let places = Places::new(10, 1);
        let _one = take(&places, "2001:db8::1").unwrap();
        assert_eq!(take(&places, "2001:db8::2").unwrap_err(), Full::Peer);
        let _other = take(&places, "2001:db8:0:1::1").unwrap();
        let _proxied = [places.take(None).unwrap(), places.take(None).unwrap()];
        assert_eq!(places.open(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_logged_now_and_then() {
        let places = Places::new(0, 0);
        let now = Instant::now();
        assert!(places.should_say(now));
        assert!(!places.should_say(now + SAY_EVERY / 2));
        assert!(places.should_say(now + SAY_EVERY));
    }
}
