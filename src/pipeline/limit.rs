//! Admission: who may send, how fast, and how much at once.
//!
//! What a stranger can trigger never costs the genuine sender its quota: the per-peer limit is
//! charged before verification, the source's own quota after it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::reject::Reject;

/// Most client addresses that one source's per-peer limit remembers; new ones beyond it share
/// one allowance until old ones have recovered.
pub const PEERS_MAX: usize = 65_536;

/// One client address has at most this part of the places for requests in flight.
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
    fn quota(self) -> Quota {
        // A period of less than a nanosecond per event is not configurable; see `config`.
        let interval = self.period / self.count.get();
        let interval = interval.max(Duration::from_nanos(1));
        Quota::with_period(interval)
            .unwrap_or(Quota::per_second(self.count))
            .allow_burst(self.burst)
    }
}

/// One source's limit on its verified traffic.
#[derive(Debug)]
pub struct SourceLimit {
    policy: Arc<str>,
    rate: Rate,
    limiter: RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>,
}

impl SourceLimit {
    /// A limit under the source's name.
    pub fn new(policy: Arc<str>, rate: Rate) -> Self {
        let limiter =
            RateLimiter::direct(rate.quota()).with_middleware::<StateInformationMiddleware>();
        Self {
            policy,
            rate,
            limiter,
        }
    }

    /// Takes one from the quota.
    ///
    /// # Errors
    ///
    /// [`Reject::SourceLimited`].
    pub fn spend(&self) -> Result<(), Reject> {
        match self.limiter.check() {
            Ok(_) => Ok(()),
            Err(not_until) => Err(Reject::SourceLimited(Overrun {
                policy: Arc::clone(&self.policy),
                rate: self.rate,
                retry_after: not_until.wait_time_from(DefaultClock::default().now()),
            })),
        }
    }
}

/// One source's limit per client address, IPv6 by /64.
#[derive(Debug)]
pub struct PeerLimit {
    policy: Arc<str>,
    rate: Rate,
    known: DefaultKeyedRateLimiter<IpAddr>,
    /// What addresses share that come when the table is full.
    crowd: RateLimiter<NotKeyed, InMemoryState, DefaultClock>,
    /// Requests that found the table full.
    since_full: AtomicUsize,
    peers_max: usize,
}

impl PeerLimit {
    /// A limit under the source's name.
    pub fn new(policy: Arc<str>, rate: Rate) -> Self {
        Self::with_peers_max(policy, rate, PEERS_MAX)
    }

    fn with_peers_max(policy: Arc<str>, rate: Rate, peers_max: usize) -> Self {
        Self {
            policy,
            rate,
            known: RateLimiter::keyed(rate.quota()),
            crowd: RateLimiter::direct(rate.quota()),
            since_full: AtomicUsize::new(0),
            peers_max,
        }
    }

    /// Takes one from this address's allowance.
    ///
    /// # Errors
    ///
    /// [`Reject::PeerLimited`].
    pub fn spend(&self, client_ip: IpAddr) -> Result<(), Reject> {
        let verdict = if self.has_room() {
            self.known.check_key(&network_of(client_ip))
        } else {
            self.crowd.check()
        };
        verdict.map_err(|not_until| {
            Reject::PeerLimited(Overrun {
                policy: Arc::clone(&self.policy),
                rate: self.rate,
                retry_after: not_until.wait_time_from(DefaultClock::default().now()),
            })
        })
    }

    /// How many addresses are remembered.
    pub fn peers(&self) -> usize {
        self.known.len()
    }

    /// A full table is swept of recovered addresses, at most once in so many requests that the
    /// cost of a sweep is spread over them.
    fn has_room(&self) -> bool {
        if self.known.len() < self.peers_max {
            return true;
        }
        let sweep_every = (self.peers_max / 16).max(1);
        if self
            .since_full
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(sweep_every)
        {
            self.known.retain_recent();
            self.known.shrink_to_fit();
        }
        self.known.len() < self.peers_max
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

/// Requests in flight of each client address that has any, so never more than there are requests.
#[derive(Debug)]
struct Peers {
    requests: Mutex<HashMap<IpAddr, usize>>,
    each_max: usize,
}

/// One of an address's requests; gives its place back when dropped.
#[derive(Debug)]
struct PeerPlace {
    peers: Arc<Peers>,
    network: IpAddr,
}

/// A place among the requests in flight, with room for as much body as was read; gives both back
/// when dropped.
#[derive(Debug)]
#[must_use = "the place is given back when this is dropped"]
pub struct Admission {
    _request: OwnedSemaphorePermit,
    _of_peer: PeerPlace,
    room: OwnedSemaphorePermit,
}

impl InFlight {
    /// Bounds on requests and on bytes.
    pub fn new(requests_max: usize, bytes_max: usize) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(requests_max.min(Semaphore::MAX_PERMITS))),
            bytes: Arc::new(Semaphore::new(bytes_max.min(Semaphore::MAX_PERMITS))),
            peers: Arc::new(Peers {
                requests: Mutex::default(),
                each_max: requests_max.div_ceil(PEER_SHARE),
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
            _of_peer: self.peers.admit(client_ip)?,
            room: permits(&self.bytes, 0)?,
        })
    }
}

impl Admission {
    /// Room for `bytes` more, which have come. What a sender only announces takes none: a few
    /// strangers that announce long bodies and send nothing would have all of it.
    ///
    /// # Errors
    ///
    /// [`Reject::Overloaded`].
    pub fn make_room(&mut self, bytes: usize) -> Result<(), Reject> {
        self.room.merge(permits(self.room.semaphore(), bytes)?);
        Ok(())
    }
}

impl Peers {
    fn admit(self: &Arc<Self>, client_ip: IpAddr) -> Result<PeerPlace, Reject> {
        let network = network_of(client_ip);
        let mut requests = self.lock();
        let open = requests.entry(network).or_default();
        if *open >= self.each_max {
            return Err(Reject::Overloaded);
        }
        *open += 1;
        Ok(PeerPlace {
            peers: Arc::clone(self),
            network,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Nothing under this lock can panic half way through a change.
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PeerPlace {
    fn drop(&mut self) {
        let mut requests = self.peers.lock();
        if let Some(open) = requests.get_mut(&self.network) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                requests.remove(&self.network);
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
