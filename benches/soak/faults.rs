//! What goes wrong, one fault after the other on each of two sides: the gateways and their clients,
//! and the broker. So two faults are often there at once.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use rustix::process::Pid;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::queue;
use super::strace::Injection;
use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::proxy::{Cut, Mode, Proxy};

/// One kind of fault. The order is that of the table and of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    GatewayKilled,
    GatewayRestarted,
    DiskFull,
    DiskSlow,
    ClientsReset,
    BrokerReset,
    BrokerHalfClosed,
    BrokerStalled,
    BrokerKilled,
    BrokerAlarm,
    QueueRefuses,
}

/// Which side a fault is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Gateway,
    Broker,
}

impl Fault {
    pub(crate) const ALL: [Self; 11] = [
        Self::GatewayKilled,
        Self::GatewayRestarted,
        Self::DiskFull,
        Self::DiskSlow,
        Self::ClientsReset,
        Self::BrokerReset,
        Self::BrokerHalfClosed,
        Self::BrokerStalled,
        Self::BrokerKilled,
        Self::BrokerAlarm,
        Self::QueueRefuses,
    ];

    pub(crate) fn side(self) -> Side {
        match self {
            Self::GatewayKilled
            | Self::GatewayRestarted
            | Self::DiskFull
            | Self::DiskSlow
            | Self::ClientsReset => Side::Gateway,
            Self::BrokerReset
            | Self::BrokerHalfClosed
            | Self::BrokerStalled
            | Self::BrokerKilled
            | Self::BrokerAlarm
            | Self::QueueRefuses => Side::Broker,
        }
    }

    /// Whether strace does it.
    pub(crate) fn needs_strace(self) -> bool {
        matches!(self, Self::DiskFull | Self::DiskSlow)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::GatewayKilled => "gateway kill -9",
            Self::GatewayRestarted => "gateway SIGTERM",
            Self::DiskFull => "disk full",
            Self::DiskSlow => "disk slow",
            Self::ClientsReset => "clients reset",
            Self::BrokerReset => "broker reset",
            Self::BrokerHalfClosed => "broker half-close",
            Self::BrokerStalled => "broker stall",
            Self::BrokerKilled => "broker kill -9",
            Self::BrokerAlarm => "memory alarm",
            Self::QueueRefuses => "queue refuses",
        })
    }
}

/// A fault that was, in seconds since the load began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Happened {
    pub(crate) fault: Fault,
    pub(crate) from: f64,
    /// `None` while it lasts.
    pub(crate) to: Option<f64>,
}

/// All that happened.
#[derive(Debug)]
pub(crate) struct Chronicle {
    begin: Instant,
    all: Mutex<Vec<Happened>>,
}

impl Chronicle {
    pub(crate) fn begin_at(begin: Instant) -> Self {
        Self {
            begin,
            all: Mutex::default(),
        }
    }

    /// To read.
    pub(crate) fn all(&self) -> MutexGuard<'_, Vec<Happened>> {
        self.all.lock().expect("no one panics with the chronicle")
    }

    fn begins(&self, fault: Fault) -> usize {
        let from = self.begin.elapsed().as_secs_f64();
        let mut all = self.all();
        all.push(Happened {
            fault,
            from,
            to: None,
        });
        all.len() - 1
    }

    fn ends(&self, index: usize) {
        let to = self.begin.elapsed().as_secs_f64();
        if let Some(happened) = self.all().get_mut(index) {
            happened.to = Some(to);
        }
    }
}

/// A fault that has begun.
struct Turn {
    fault: Fault,
    /// For as long as this, if it has a length.
    lasts: Duration,
    /// In the chronicle.
    index: usize,
}

/// Deals the faults of one side: each once in every round, in random order.
pub(crate) struct Deck {
    faults: Vec<Fault>,
    left: Vec<Fault>,
    dice: Rng,
}

impl Deck {
    /// `faults` are those of both sides.
    pub(crate) fn new(side: Side, faults: &[Fault], dice: Rng) -> Self {
        let of_side = faults.iter().copied().filter(|fault| fault.side() == side);
        Self {
            faults: of_side.collect(),
            left: Vec::new(),
            dice,
        }
    }

    fn deal(&mut self) -> Option<Fault> {
        if self.left.is_empty() {
            self.left.clone_from(&self.faults);
            self.dice.shuffle(&mut self.left);
        }
        self.left.pop()
    }

    /// After a pause, the next fault; `None` when it is time to stop.
    async fn turn(
        &mut self,
        chronicle: &Chronicle,
        stopped: &mut watch::Receiver<bool>,
    ) -> Option<Turn> {
        loop {
            let pause = self.millis(PAUSES);
            if !goes_on(stopped, pause).await {
                return None;
            }
            if let Some(fault) = self.deal() {
                return Some(Turn {
                    fault,
                    lasts: self.millis(LASTS),
                    index: chronicle.begins(fault),
                });
            }
        }
    }

    /// A time between two bounds, in milliseconds.
    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.dice.u64(range))
    }
}

/// Between two faults of a side, in milliseconds.
const PAUSES: std::ops::Range<u64> = 1_000..4_000;
/// How long a fault lasts that has a length, in milliseconds.
const LASTS: std::ops::Range<u64> = 1_000..5_000;

/// Waits a little; false if it is time to stop.
async fn goes_on(stopped: &mut watch::Receiver<bool>, pause: Duration) -> bool {
    timeout(pause, stopped.wait_for(|stopped| *stopped))
        .await
        .is_err()
}

/// The side of the gateways.
pub(crate) struct Gateways {
    /// The one that is killed.
    pub(crate) mortal: Gateway,
    /// The one that has to live to the end.
    pub(crate) steady: Pid,
    /// What stands before each.
    pub(crate) fronts: Vec<Proxy>,
}

impl Gateways {
    /// Until it is time to stop. Gives back the gateway, which is up.
    pub(crate) async fn suffer(
        mut self,
        mut deck: Deck,
        chronicle: Arc<Chronicle>,
        mut stopped: watch::Receiver<bool>,
    ) -> Self {
        while let Some(Turn {
            fault,
            lasts,
            index,
        }) = deck.turn(&chronicle, &mut stopped).await
        {
            match fault {
                Fault::GatewayKilled => {
                    self.mortal.kill9();
                    sleep(lasts / 4).await;
                    self.mortal.start().await;
                }
                Fault::GatewayRestarted => self.mortal.restart().await,
                Fault::DiskFull => {
                    let full = Injection::full_disk(self.either(&mut deck.dice)).await;
                    sleep(lasts).await;
                    full.stop().await;
                }
                Fault::DiskSlow => {
                    let slow = Injection::slow_disk(self.either(&mut deck.dice)).await;
                    sleep(lasts).await;
                    slow.stop().await;
                }
                Fault::ClientsReset => {
                    for front in &self.fronts {
                        front.cut(Cut::Reset);
                    }
                }
                other => unreachable!("{other} is the broker's"),
            }
            chronicle.ends(index);
        }
        self
    }

    fn either(&self, dice: &mut Rng) -> Pid {
        if dice.bool() {
            self.mortal.pid()
        } else {
            self.steady
        }
    }
}

/// The broker's side.
pub(crate) struct Brokers {
    pub(crate) broker: Arc<Broker>,
    /// What stands before it.
    pub(crate) proxy: Proxy,
    /// The gateways' exchanges.
    pub(crate) exchanges: Vec<String>,
}

impl Brokers {
    /// Until it is time to stop. Gives itself back, well again.
    pub(crate) async fn suffer(
        self,
        mut deck: Deck,
        chronicle: Arc<Chronicle>,
        mut stopped: watch::Receiver<bool>,
    ) -> Self {
        while let Some(Turn {
            fault,
            lasts,
            index,
        }) = deck.turn(&chronicle, &mut stopped).await
        {
            match fault {
                Fault::BrokerReset => self.proxy.cut(Cut::Reset),
                Fault::BrokerHalfClosed => self.proxy.cut(Cut::HalfClose),
                Fault::BrokerStalled => {
                    self.proxy.set(Mode::Stall);
                    sleep(lasts).await;
                    // Some stalls pass, some end in a reset.
                    if deck.dice.bool() {
                        self.proxy.cut(Cut::Reset);
                    }
                    self.proxy.set(Mode::Forward);
                }
                Fault::BrokerKilled => {
                    self.broker.kill9().await;
                    sleep(lasts / 2).await;
                    self.broker.start_again().await;
                }
                Fault::BrokerAlarm => {
                    self.broker.block().await;
                    sleep(lasts).await;
                    self.broker.unblock().await;
                }
                Fault::QueueRefuses => {
                    queue::refuse(&self.broker, &self.exchanges).await;
                    sleep(lasts).await;
                    queue::accept_again(&self.broker).await;
                }
                other => unreachable!("{other} is the gateways'"),
            }
            chronicle.ends(index);
        }
        self
    }
}
