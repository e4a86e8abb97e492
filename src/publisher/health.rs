//! How the publisher is, for `/readyz` and `status`.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// The state of all connections together.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Health {
    /// All connections are up.
    pub connected: bool,
    /// The broker takes no publishes on one of them.
    pub blocked: bool,
    /// The last failure, for people; stays after it is over.
    pub last_error: Option<String>,
    /// Host and port of the node that is connected to, or tried; several are separated by commas.
    pub node: String,
}

/// Where the links hang their state.
#[derive(Clone, Debug)]
pub(super) struct Board(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    links: Mutex<Vec<LinkState>>,
    health: watch::Sender<Health>,
}

#[derive(Clone, Debug, Default)]
struct LinkState {
    node: String,
    connected: bool,
    blocked: bool,
}

/// One link's place on the board.
#[derive(Clone, Debug)]
pub(super) struct Lamp {
    board: Board,
    index: usize,
}

impl Board {
    pub(super) fn new(links: usize) -> Self {
        let links = vec![LinkState::default(); links];
        Self(Arc::new(Inner {
            links: Mutex::new(links),
            health: watch::Sender::new(Health::default()),
        }))
    }

    pub(super) fn lamp(&self, index: usize) -> Lamp {
        Lamp {
            board: self.clone(),
            index,
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Health> {
        self.0.health.subscribe()
    }
}

impl Lamp {
    pub(super) fn trying(&self, node: &str) {
        self.set(|link| node.clone_into(&mut link.node));
    }

    pub(super) fn connected(&self) {
        self.set(|link| link.connected = true);
    }

    pub(super) fn disconnected(&self) {
        self.set(|link| link.connected = false);
    }

    pub(super) fn blocked(&self, blocked: bool) {
        self.set(|link| link.blocked = blocked);
    }

    pub(super) fn failed(&self, error: &str) {
        let health = &self.board.0.health;
        health.send_modify(|health| health.last_error = Some(error.to_owned()));
    }

    fn set(&self, change: impl FnOnce(&mut LinkState)) {
        let inner = &self.board.0;
        let mut links = inner.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get_mut(self.index) {
            change(link);
        }
        let mut nodes: Vec<_> = links.iter().map(|link| link.node.as_str()).collect();
        nodes.dedup();
        let node = nodes.join(",");
        inner.health.send_modify(|health| {
            health.connected = links.iter().all(|link| link.connected);
            health.blocked = links.iter().any(|link| link.blocked);
            health.node = node;
        });
    }
}
