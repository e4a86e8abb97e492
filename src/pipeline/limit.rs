//! Admission: who may send, how fast, and how much at once.
//!
//! What a stranger can trigger never costs the genuine sender its quota: the per-peer limit is
//! charged before verification, the source's own quota after it.

pub(crate) mod bucket;
mod peers;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::reject::Reject;

pub use self::peers::{PEERS_MAX, PeerLimit};

/// One client address has at most this part of the places for requests in flight, and of the
/// room for their bodies.
const PEER_SHARE: usize = 4;

/// A rate as configured: so many per period, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Events per `period`.
    pub count: NonZeroU32,
    /// The period.
    pub period: Duration,
    /// Events that may come at once.
    pub burst: NonZeroU32,
}

/// A limit was reached: what the `RateLimit` header fields say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overrun {
    /// Name of the policy: the source's name.
    pub policy: Arc<str>,
    /// The limit.
    pub rate: Rate,
    /// When one more will be taken.
    pub retry_after: Duration,
}

impl Rate {
    /// Time for one event. Less than a nanosecond is not configurable; see `config`.
    fn interval(self) -> Duration {
        (self.period / self.count.get()).max(Duration::from_nanos(1))
    }

    fn quota(self) -> Quota {
        Quota::with_period(self.interval())
            .unwrap_or(Quota::per_second(self.count))
            .allow_burst(self.burst)
    }
}

/// One source's limit on its verified traffic.
#[derive(Debug)]
pub struct SourceLimit {
    policy: Arc<str>,
    rate: Rate,
    limiter: DefaultDirectRateLimiter,
}

impl SourceLimit {
    /// A limit under the source's name.
    pub fn new(policy: Arc<str>, rate: Rate) -> Self {
        Self {
            policy,
            rate,
            limiter: RateLimiter::direct(rate.quota()),
        }
    }

    /// Takes one from the quota.
    ///
    /// # Errors
    ///
    /// [`Reject::SourceLimited`].
    pub fn spend(&self) -> Result<(), Reject> {
        self.limiter.check().map_err(|not_until| {
            Reject::SourceLimited(Overrun {
                policy: Arc::clone(&self.policy),
                rate: self.rate,
                retry_after: not_until.wait_time_from(DefaultClock::default().now()),
            })
        })
    }
}

/// What one customer of an access provider can choose freely counts as one peer.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        },
    }
}

/// Requests and body bytes that may be in flight at once, over all sources.
#[derive(Debug)]
pub struct InFlight {
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    peers: Arc<Peers>,
}

/// What each client address has in flight that has anything, so never more entries than there
/// are requests.
#[derive(Debug)]
struct Peers {
    open: Mutex<HashMap<IpAddr, Share>>,
    requests_each_max: usize,
    bytes_each_max: usize,
}

/// What one address has in flight.
#[derive(Debug, Default)]
struct Share {
    requests: usize,
    bytes: usize,
}

/// One of an address's requests with its bytes; gives both back when dropped.
#[derive(Debug)]
struct PeerPlace {
    peers: Arc<Peers>,
    network: IpAddr,
    bytes: usize,
}

/// A place among the requests in flight, with room for as much body as was read; gives both back
/// when dropped.
#[derive(Debug)]
#[must_use = "the place is given back when this is dropped"]
pub struct Admission {
    _request: OwnedSemaphorePermit,
    of_peer: PeerPlace,
    room: OwnedSemaphorePermit,
}

impl InFlight {
    /// Bounds on requests and on bytes.
    pub fn new(requests_max: usize, bytes_max: usize) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(requests_max.min(Semaphore::MAX_PERMITS))),
            bytes: Arc::new(Semaphore::new(bytes_max.min(Semaphore::MAX_PERMITS))),
            peers: Arc::new(Peers {
                open: Mutex::default(),
                requests_each_max: requests_max.div_ceil(PEER_SHARE),
                bytes_each_max: bytes_max.div_ceil(PEER_SHARE),
            }),
        }
    }

    /// A place for a request, without room for a body so far. No address has more than a quarter
    /// of all places: a place is held for as long as a body may take to come, and over HTTP/2
    /// forty connections can ask for thousands.
    ///
    /// # Errors
    ///
    /// [`Reject::Overloaded`] at once: a queue here would only hide the overload.
    pub fn admit(&self, client_ip: IpAddr) -> Result<Admission, Reject> {
        Ok(Admission {
            _request: permits(&self.requests, 1)?,
            of_peer: self.peers.admit(client_ip)?,
            room: permits(&self.bytes, 0)?,
        })
    }
}

impl Admission {
    /// Room for `bytes` more, which have come. What a sender only announces takes none: a few
    /// strangers that announce long bodies and send nothing would have all of it. No address has
    /// more than a quarter of all room, but for a single body.
    ///
    /// # Errors
    ///
    /// [`Reject::Overloaded`].
    pub fn make_room(&mut self, bytes: usize) -> Result<(), Reject> {
        self.of_peer.make_room(bytes)?;
        self.room.merge(permits(self.room.semaphore(), bytes)?);
        Ok(())
    }
}

impl Peers {
    fn admit(self: &Arc<Self>, client_ip: IpAddr) -> Result<PeerPlace, Reject> {
        let network = network_of(client_ip);
        let mut open = self.lock();
        let share = open.entry(network).or_default();
        if share.requests >= self.requests_each_max {
            return Err(Reject::Overloaded);
        }
        share.requests += 1;
        Ok(PeerPlace {
            peers: Arc::clone(self),
            network,
            bytes: 0,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Share>> {
        // Nothing under this lock can panic half way through a change.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PeerPlace {
    fn make_room(&mut self, bytes: usize) -> Result<(), Reject> {
        let mut open = self.peers.lock();
        let share = open.entry(self.network).or_default();
        // The longest body that is allowed may be more than a quarter; alone it has its room.
        let alone = share.bytes == self.bytes;
        if !alone && share.bytes.saturating_add(bytes) > self.peers.bytes_each_max {
            return Err(Reject::Overloaded);
        }
        share.bytes = share.bytes.saturating_add(bytes);
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }
}

impl Drop for PeerPlace {
    fn drop(&mut self) {
        let mut open = self.peers.lock();
        if let Some(share) = open.get_mut(&self.network) {
            share.requests = share.requests.saturating_sub(1);
            share.bytes = share.bytes.saturating_sub(self.bytes);
            if share.requests == 0 {
                open.remove(&self.network);
            }
        }
    }
}

fn permits(semaphore: &Arc<Semaphore>, count: usize) -> Result<OwnedSemaphorePermit, Reject> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    Arc::clone(semaphore)
        .try_acquire_many_owned(count)
        .map_err(|_none_left| Reject::Overloaded)
}

#[cfg(test)]
mod tests;
