//! A limit per client address, over a table that strangers cannot grow.
//!
//! A bucket that is whole again is as good as a new one, so it can be forgotten without a trace.
//! Each request looks at a few and forgets those, so that the table is about as long as there are
//! addresses at a time. In a full table a newcomer takes the place of such a one. While there is none, newcomers share
//! one allowance, and whoever is in the table keeps its own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::pipeline::limit::bucket::Bucket;
use crate::pipeline::limit::{Overrun, Rate, network_of};
use crate::reject::Reject;

/// Most client addresses that one source's per-peer limit remembers. A full table takes some
/// 10 MiB.
pub const PEERS_MAX: usize = 65_536;

/// How many places a newcomer looks at in a full table. The search goes on where the last one
/// ended, so every place is looked at in time, and no request pays for a whole sweep.
const LOOKS: usize = 8;

/// How many places each request looks at for buckets that can go. More than the one that it may
/// have added, so that the table gets shorter.
const IDLE_LOOKS: usize = 2;

/// A table with room for fewer keeps its room, whatever is in it.
const ROOM_KEPT: usize = 1024;

/// One source's limit per client address, IPv6 by /64.
#[derive(Debug)]
pub struct PeerLimit {
    policy: Arc<str>,
    rate: Rate,
    peers_max: usize,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    /// Where an address's bucket is.
    places: HashMap<IpAddr, usize>,
    buckets: Vec<(IpAddr, Bucket)>,
    /// The place that was looked at last for a bucket that can go.
    hand: usize,
    /// What newcomers share while nobody can go.
    crowd: Option<Bucket>,
}

impl PeerLimit {
    /// A limit under the source's name.
    pub fn new(policy: Arc<str>, rate: Rate) -> Self {
        Self::with_peers_max(policy, rate, PEERS_MAX)
    }

    pub(super) fn with_peers_max(policy: Arc<str>, rate: Rate, peers_max: usize) -> Self {
        Self {
            policy,
            rate,
            peers_max,
            table: Mutex::new(Table {
                places: HashMap::new(),
                buckets: Vec::new(),
                hand: 0,
                crowd: None,
            }),
        }
    }

    /// Takes one from this address's allowance; forgets a few that have all of theirs.
    ///
    /// # Errors
    ///
    /// [`Reject::PeerLimited`].
    pub fn spend(&self, client_ip: IpAddr, now: Instant) -> Result<(), Reject> {
        let mut table = self.lock();
        let bucket = table.bucket(network_of(client_ip), now, self.peers_max);
        let spent = bucket.spend(self.rate, now);
        table.forget_idle(now);
        drop(table);
        spent.map_err(|retry_after| {
            Reject::PeerLimited(Overrun {
                policy: Arc::clone(&self.policy),
                rate: self.rate,
                retry_after,
            })
        })
    }

    /// How many addresses are remembered.
    pub fn peers(&self) -> usize {
        self.lock().buckets.len()
    }

    /// How many there is room for without taking more memory.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.lock().buckets.capacity()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing under this lock can panic half way through a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn bucket(&mut self, network: IpAddr, now: Instant, peers_max: usize) -> &mut Bucket {
        let place = match self.places.get(&network) {
            Some(&place) => Some(place),
            None => self.place_for(network, now, peers_max),
        };
        match place.and_then(|place| self.buckets.get_mut(place)) {
            Some((_, bucket)) => bucket,
            None => self.crowd.get_or_insert_with(|| Bucket::new(now)),
        }
    }

    /// A place for a newcomer, if there is one.
    fn place_for(&mut self, network: IpAddr, now: Instant, peers_max: usize) -> Option<usize> {
        let newcomer = (network, Bucket::new(now));
        let place = if self.buckets.len() < peers_max {
            self.buckets.push(newcomer);
            self.buckets.len() - 1
        } else {
            let place = self.whole_one(now)?;
            let (gone, _) = std::mem::replace(self.buckets.get_mut(place)?, newcomer);
            self.places.remove(&gone);
            place
        };
        self.places.insert(network, place);
        Some(place)
    }

    fn forget_idle(&mut self, now: Instant) {
        for _ in 0..IDLE_LOOKS {
            if self.hand >= self.buckets.len() {
                self.hand = 0;
            }
            match self.buckets.get(self.hand) {
                None => break,
                Some((_, bucket)) if bucket.is_whole(now) => self.forget(self.hand),
                Some(_) => self.hand += 1,
            }
        }
    }

    /// The last one takes the place of the one that goes.
    fn forget(&mut self, place: usize) {
        let (gone, _) = self.buckets.swap_remove(place);
        self.places.remove(&gone);
        if let Some((moved, _)) = self.buckets.get(place) {
            self.places.insert(*moved, place);
        }
        let room = self.buckets.capacity();
        if room > ROOM_KEPT && self.buckets.len() < room / 4 {
            self.buckets.shrink_to(room / 2);
            self.places.shrink_to(room / 2);
        }
    }

    fn whole_one(&mut self, now: Instant) -> Option<usize> {
        for _ in 0..LOOKS.min(self.buckets.len()) {
            self.hand = (self.hand + 1) % self.buckets.len();
            let (_, bucket) = self.buckets.get(self.hand)?;
            if bucket.is_whole(now) {
                return Some(self.hand);
            }
        }
        None
    }
}
