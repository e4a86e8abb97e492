//! `ack = "broker"`: an event goes straight to the broker while its sender waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use super::item::{Item, Origin, Waiter};
use crate::delivery::Delivery;
use crate::pipeline::store::{Confirmed, Confirming};

/// Publishes events of waiting senders. Clones share it.
///
/// An event is tried once: refused at once when there is no connection, when the broker blocks
/// it, or when the queue is full; refused later when the broker does not confirm it in time.
#[derive(Clone, Debug)]
pub struct Direct {
    doors: Arc<[Door]>,
    confirm_timeout: Duration,
}

/// The way into one connection.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) gate: Arc<Gate>,
    pub(super) queue: mpsc::Sender<Box<Item>>,
}

/// Whether a connection takes events of waiting senders.
#[derive(Debug, Default)]
pub(super) struct Gate(AtomicBool);

impl Gate {
    pub(super) fn open(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn close(&self) {
        self.0.store(false, Ordering::Release);
    }

    fn is_open(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Direct {
    pub(super) fn new(doors: Vec<Door>, confirm_timeout: Duration) -> Self {
        Self {
            doors: doors.into(),
            confirm_timeout,
        }
    }
}

impl Confirming for Direct {
    fn publish(&self, delivery: Delivery, done: Confirmed) {
        let Some(door) = self.doors.get(share(&delivery.source, self.doors.len())) else {
            return done(Err("there is no connection to the broker".to_owned()));
        };
        if !door.gate.is_open() {
            return done(Err("there is no connection to the broker".to_owned()));
        }
        let deadline = Instant::now() + self.confirm_timeout;
        let item = Item::new(delivery, Origin::Direct(Waiter::new(done, deadline)));
        match door.queue.try_send(item) {
            Ok(()) => {}
            Err(TrySendError::Full(item)) => {
                drop(item.fail("too many events wait for the broker"));
            }
            Err(TrySendError::Closed(item)) => drop(item.fail("the gateway is stopping")),
        }
    }
}

/// Which connection a source's events go over: always the same one, so that they keep their
/// order.
pub(super) fn share(source: &str, connections: usize) -> usize {
    let hash = usize::try_from(crc32c::crc32c(source.as_bytes())).unwrap_or_default();
    hash.checked_rem(connections).unwrap_or_default()
}
