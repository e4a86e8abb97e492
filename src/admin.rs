//! The operator's side: health, metrics, status and `tail`, on a listener of its own.
//!
//! Plain HTTP, on loopback unless configured otherwise, and then behind a token. It is small on
//! purpose: nothing here changes anything, except that an event may be published again, and that a
//! source may be told to wait for its secret. The same hygiene as at the edge holds, only simpler:
//! few connections, short heads, no bodies.

mod desk;
mod enroll;
mod health;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config;
use crate::edge::socket::{self, ACCEPT_PAUSE, Complaint};
use crate::journal::Status;
use crate::metrics::Metrics;
use crate::publisher::{Health as BrokerHealth, Replay};
use crate::secret::Secret;
use crate::source::{Ack, Source};
use crate::watch::Watch;

use desk::Desk;
pub use desk::{CONSENT, REPLAY_PATH, REQUESTS};
pub use enroll::ENROLL_PATH;

/// Most connections at once, `tail` included; more wait.
pub const CONNECTIONS_MAX: usize = 64;
/// To the end of a head, and between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// What answers may take to be sent once the gateway has stopped.
const FAREWELL_MAX: Duration = Duration::from_secs(1);
/// A reader that takes no byte for so long is cut.
const WRITE_STALL_MAX: Duration = Duration::from_secs(10);
/// Longest head, in bytes.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// What the admin listener shows.
#[derive(Clone)]
pub struct AdminState {
    /// When the process began, and with it all that is counted.
    pub since: Timestamp,
    /// Every source.
    pub sources: Vec<Arc<Source>>,
    /// The journal's numbers, now.
    pub journal: Arc<dyn Fn() -> Status + Send + Sync>,
    /// How many events wait for queues that do not take them, now; they are among those that wait.
    pub parked: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// The broker, if one is configured.
    pub broker: Option<watch::Receiver<BrokerHealth>>,
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// Sets gauges that nobody keeps, before the page is shown.
    pub refresh: Arc<dyn Fn() + Send + Sync>,
    /// What `tail` listens to.
    pub watch: Watch,
    /// Publishes events again.
    pub replay: Replay,
    /// Fires when the gateway begins to drain: from then on it is not ready.
    pub draining: CancellationToken,
}

/// A socket that listens for operators.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    token: Option<Secret>,
}

/// Why the admin listener cannot be.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for [admin]: {error}")]
pub struct AdminError {
    /// Where.
    pub address: SocketAddr,
    /// What the system said.
    pub error: io::Error,
}

impl AdminState {
    /// Whether no source can take an event without the broker. One that can is reason enough to
    /// stay in rotation: the others answer 503 for themselves.
    fn needs_broker(&self) -> bool {
        let mut sources = self.sources.iter().peekable();
        sources.peek().is_some() && sources.all(|source| source.ack == Ack::Broker)
    }
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState")
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}

impl Admin {
    /// Listens. Must be called in a runtime.
    ///
    /// # Errors
    ///
    /// The address cannot be had.
    pub fn bind(admin: &config::Admin) -> Result<Self, AdminError> {
        let address = admin.listen;
        let dual = socket::is_dual(address, &[]);
        let listener =
            socket::listen(address, dual).map_err(|error| AdminError { address, error })?;
        Ok(Self {
            listener,
            token: admin.token.clone(),
        })
    }

    /// The address that is listened on, with the port that the system chose for 0.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, which should fire after the edge has drained, so that probes see the
    /// draining. Connections are closed; `tail` ends.
    pub async fn run(self, state: AdminState, stop: CancellationToken) {
        let desk = Arc::new(Desk::new(state, self.token, stop.clone()));
        let tasks = TaskTracker::new();
        tokio::select! {
            () = accept(&self.listener, &desk, &tasks) => {}
            () = stop.cancelled() => {}
        }
        tasks.close();
        tasks.wait().await;
    }
}

async fn accept(listener: &TcpListener, desk: &Arc<Desk>, tasks: &TaskTracker) {
    let Ok(address) = listener.local_addr() else {
        return;
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut complaint = Complaint::default();
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _peer)) => {
                complaint.worked(address);
                let desk = Arc::clone(desk);
                drop(tasks.spawn(async move {
                    serve(stream, desk).await;
                    drop(place);
                }));
            }
            Err(error) if complaint.failed(address, &error) => sleep(ACCEPT_PAUSE).await,
            Err(_one_connection) => {}
        }
    }
}

async fn serve(stream: TcpStream, desk: Arc<Desk>) {
    // Keepalive is what ends a `tail` whose reader vanished, the timeout one whose reader is there
    // and does not read: the kernel counts it from the first byte that it cannot pass on.
    let patience = SockRef::from(&stream).set_tcp_user_timeout(Some(WRITE_STALL_MAX));
    if socket::prepare(&stream).is_err() || patience.is_err() {
        return;
    }
    let stop = desk.stop.clone();
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, std::convert::Infallible>(desk.answer(&request).await) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_header_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // Whoever does not read by then is cut.
            timeout(FAREWELL_MAX, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "admin connection broke");
    }
}

#[cfg(test)]
mod tests;
