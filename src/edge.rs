//! The public side: listens, speaks TLS and HTTP, and hands whole heads to the pipeline.
//!
//! ```text
//! socket -> limits -> PROXY header (proxy_protocol) -> TLS (tls, turns)
//!        -> HTTP/1 or HTTP/2 (connection, activity, frames)
//!        -> gate, client_ip -> pipeline (request) -> answer (reply) -> what still comes (linger)
//! ```
//!
//! Everything here may be a stranger's doing, so everything has a deadline and a bound, and costs
//! nobody but its own connection. What the edge does not know: sources, signatures, brokers.

pub mod activity;
pub mod client_ip;
pub mod connection;
pub mod frames;
pub mod gate;
mod goes_on;
pub mod limits;
pub mod linger;
pub mod proxy_protocol;
pub mod reply;
pub mod request;
pub mod seldom;
pub mod socket;
#[cfg(test)]
pub(crate) mod testing;
pub mod tls;
pub mod turns;
pub mod watched;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;
use rustls::server::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Limits, Server, Shown};
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::pipeline::certificate::ClientCertificate;
use crate::watch::Watch;

use activity::{Patience, Protocol};
use client_ip::is_trusted;
use connection::{Handler, Peer, Terms, serve};
use limits::{Full, Place, Places};
use proxy_protocol::Origin;
use request::Gateway;
use seldom::Seldom;
use socket::{ACCEPT_PAUSE, Complaint};
use tls::reload::{Reloader, show_ends};
use tls::{Identity, TlsError};
use turns::{TURNS_MAX, Turns};

/// Why a connection ended before HTTP, where nothing was wrong but the time that it took.
const TOO_SLOW: &str = "not whole within handshake_timeout";

/// Sockets that listen, and what they need to serve. Connections wait in the kernel until
/// [`Edge::run`].
#[derive(Debug)]
pub struct Edge {
    listeners: Vec<TcpListener>,
    reloader: Option<Reloader>,
    front: Arc<Front>,
}

/// What every connection needs before it speaks HTTP.
struct Front {
    tls: Option<Identity>,
    turns: Turns,
    limits: Limits,
    trusted_proxies: Vec<IpNet>,
    proxy_protocol: bool,
    places: Places,
    /// Failures before HTTP, of which nobody else writes a line.
    bad_starts: Seldom,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
}

/// Why the edge cannot be.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Address {
        /// Which one.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// TLS cannot be set up.
    #[error("cannot set up tls: {0}")]
    Tls(#[from] TlsError),
}

impl Edge {
    /// Listens on every address. Must be called in a runtime.
    ///
    /// # Errors
    ///
    /// The first address that could not be had, or what is wrong with TLS.
    pub fn bind(
        server: &Server,
        metrics: Arc<Metrics>,
        reload: watch::Receiver<()>,
    ) -> Result<Self, BindError> {
        let (identity, reloader) = match &server.tls {
            None => (None, None),
            Some(tls) => {
                let certificates = match &tls.shown {
                    Shown::Certificates(certificates) => certificates.as_slice(),
                    Shown::SelfSigned => &[],
                };
                show_ends(&metrics, certificates, tls.clients.as_ref());
                let identity = Identity::new(server, tls)?;
                let (again, metrics) = (identity.clone(), Arc::clone(&metrics));
                let reloader = Reloader::new(tls, again, metrics, reload);
                (Some(identity), reloader)
            }
        };
        let listeners = server.listen.iter().map(|&address| {
            let dual = socket::is_dual(address, &server.listen);
            socket::listen(address, dual).map_err(|error| BindError::Address { address, error })
        });
        let limits = &server.limits;
        Ok(Self {
            listeners: listeners.collect::<Result<_, _>>()?,
            reloader,
            front: Arc::new(Front {
                tls: identity,
                turns: Turns::new(TURNS_MAX),
                limits: limits.clone(),
                trusted_proxies: server.trusted_proxies.clone(),
                proxy_protocol: server.proxy_protocol,
                places: Places::new(limits.connections_max, limits.connections_per_peer_max),
                bad_starts: Seldom::default(),
                metrics,
                tasks: TaskTracker::new(),
            }),
        })
    }

    /// The addresses that are listened on, with the ports that the system chose for 0.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        let addresses = self.listeners.iter().map(TcpListener::local_addr);
        addresses.filter_map(Result::ok).collect()
    }

    /// Serves. When `stop` fires, nothing more is accepted, connections are told to finish, and
    /// requests that still come on them are answered 503; returns when the last has ended.
    /// Dropped before that, it cuts the connections that are left; and it returns before that if
    /// an address cannot be served any more, which only a defect brings about.
    pub async fn run(self, pipeline: Arc<Pipeline>, watch: Watch, stop: CancellationToken) {
        let gateway = Gateway::new(
            pipeline,
            watch,
            self.front.trusted_proxies.clone(),
            self.front.tasks.clone(),
            stop.clone(),
        );
        self.run_with(gateway, stop).await;
    }

    async fn run_with<H: Handler>(self, handler: H, stop: CancellationToken) {
        let cut = CancellationToken::new();
        let _cut_when_dropped = cut.clone().drop_guard();
        let tasks = self.front.tasks.clone();
        if let Some(reloader) = self.reloader {
            drop(tasks.spawn(reloader.run(stop.clone())));
        }
        let mut listening = JoinSet::new();
        for listener in self.listeners {
            let front = Arc::clone(&self.front);
            listening.spawn(front.listen(listener, handler.clone(), stop.clone(), cut.clone()));
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            // A panic: nobody would serve this address any more, and nobody would know.
            Some(_ended) = listening.join_next() => return,
        }
        while listening.join_next().await.is_some() {}
        tasks.close();
        tasks.wait().await;
    }
}

impl Front {
    /// Accepts until `stop`. Nothing that goes wrong here ends it or makes it spin.
    async fn listen<H: Handler>(
        self: Arc<Self>,
        listener: TcpListener,
        handler: H,
        stop: CancellationToken,
        cut: CancellationToken,
    ) {
        let Ok(address) = listener.local_addr() else {
            return;
        };
        let mut complaint = Complaint::default();
        let end = stop.clone();
        let accepting = async {
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        complaint.worked(address);
                        self.admit(stream, canonical(peer), &handler, &stop, &cut);
                    }
                    Err(error) if complaint.failed(address, &error) => sleep(ACCEPT_PAUSE).await,
                    Err(_one_connection) => {}
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            () = end.cancelled() => {}
            () = cut.cancelled() => {}
        }
    }

    /// Gives a connection its place and its task, or closes it.
    fn admit<H: Handler>(
        self: &Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        handler: &H,
        stop: &CancellationToken,
        cut: &CancellationToken,
    ) {
        match self.take_place(address) {
            Ok(place) => {
                let (front, handler) = (Arc::clone(self), handler.clone());
                let (stop, cut) = (stop.clone(), cut.clone());
                drop(self.tasks.spawn(async move {
                    let open = Open::new(place, &front.metrics);
                    tokio::select! {
                        () = front.connect(stream, address, open, handler, stop) => {}
                        () = cut.cancelled() => {}
                    }
                }));
            }
            Err(full) => self.refuse(full, address),
        }
    }

    fn take_place(&self, address: SocketAddr) -> Result<Place, Full> {
        // A proxy brings everybody's connections.
        let ip = address.ip();
        let bounded = (!is_trusted(ip, &self.trusted_proxies)).then_some(ip);
        self.places.take(bounded)
    }

    fn refuse(&self, full: Full, peer: SocketAddr) {
        let (counter, limit) = match full {
            Full::Total => (&self.metrics.edge.refused_total, "max_connections"),
            Full::Peer => (&self.metrics.edge.refused_peer, "max_connections_per_peer"),
        };
        counter.increment(1);
        if self.places.should_say(Instant::now()) {
            let peer = peer.ip();
            tracing::warn!(%peer, limit, "too many connections: closing new ones at once");
        }
    }

    /// From a socket to HTTP.
    async fn connect<H: Handler>(
        &self,
        mut stream: TcpStream,
        address: SocketAddr,
        mut open: Open,
        handler: H,
        stop: CancellationToken,
    ) {
        if socket::prepare(&stream).is_err() {
            return; // gone already
        }
        let deadline = Instant::now() + self.limits.handshake_timeout;
        let mut peer = Peer {
            address,
            may_forward: true,
            certificate: None,
        };
        if self.proxy_protocol && is_trusted(address.ip(), &self.trusted_proxies) {
            let origin = self.proxy_header(&mut stream, address, deadline).await;
            match origin {
                Some(Origin::Client(client)) => {
                    if let Err(full) = open.count_as(|| self.take_place(client)) {
                        self.refuse(full, client);
                        return;
                    }
                    peer.address = client;
                }
                // The proxy passes on what it does not look into, so that somebody it cannot name
                // could name himself.
                Some(Origin::Nobody) => peer.may_forward = false,
                None => return,
            }
        }
        let terms = Terms {
            patience: Patience::new(&self.limits, fastrand::f64()),
            tasks: self.tasks.clone(),
            stop,
        };
        let Some(identity) = &self.tls else {
            serve(stream, Protocol::Http1, &terms, handler, peer).await;
            return;
        };
        let shaken = self.handshake(identity, stream, peer.address, deadline);
        let Some((stream, protocol)) = shaken.await else {
            return;
        };
        peer.certificate = client_certificate(&stream);
        serve(stream, protocol, &terms, handler, peer).await;
    }

    async fn proxy_header(
        &self,
        stream: &mut TcpStream,
        proxy: SocketAddr,
        deadline: Instant,
    ) -> Option<Origin> {
        let metrics = &self.metrics.edge;
        match timeout_at(deadline, proxy_protocol::read::read(stream)).await {
            Ok(Ok(origin)) => {
                metrics.proxy_headers_ok.increment(1);
                Some(origin)
            }
            Ok(Err(error)) => {
                metrics.proxy_headers_failed.increment(1);
                self.complain(proxy, "a trusted proxy sent no PROXY header", &error);
                None
            }
            Err(_elapsed) => {
                metrics.proxy_headers_timed_out.increment(1);
                self.complain(proxy, "a trusted proxy sent no PROXY header", &TOO_SLOW);
                None
            }
        }
    }

    async fn handshake(
        &self,
        identity: &Identity,
        stream: TcpStream,
        peer: SocketAddr,
        deadline: Instant,
    ) -> Option<(TlsStream<TcpStream>, Protocol)> {
        let metrics = &self.metrics.edge;
        let handshake = async {
            let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            let answer = hello.into_stream(identity.config());
            self.turns.take(answer).await
        };
        match timeout_at(deadline, handshake).await {
            Ok(Ok(stream)) => {
                metrics.handshakes_ok.increment(1);
                let (_, session) = stream.get_ref();
                let protocol = match session.alpn_protocol() {
                    Some(tls::H2) => Protocol::Http2,
                    _ => Protocol::Http1,
                };
                Some((stream, protocol))
            }
            Ok(Err(error)) => {
                metrics.handshakes_failed.increment(1);
                self.complain(peer, "tls handshake failed", &error);
                None
            }
            Err(_elapsed) => {
                metrics.handshakes_timed_out.increment(1);
                self.complain(peer, "tls handshake failed", &TOO_SLOW);
                None
            }
        }
    }
}

impl Front {
    /// Says what went wrong before there was a request, to which somebody may look for the
    /// reason in vain otherwise; not for every port scanner.
    fn complain(&self, peer: SocketAddr, what: &str, error: &dyn std::fmt::Display) {
        match self.bad_starts.is_due(Instant::now()) {
            Some(left_out) => tracing::info!(peer = %peer.ip(), %error, left_out, "{what}"),
            None => tracing::debug!(%peer, %error, "{what}"),
        }
    }
}

/// Whom the client has shown itself to be. Nothing here is believed that was not verified.
fn client_certificate(stream: &TlsStream<TcpStream>) -> Option<Arc<ClientCertificate>> {
    let (_, session) = stream.get_ref();
    let leaf = session.peer_certificates()?.first()?;
    ClientCertificate::of(leaf).map(Arc::new)
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front")
            .field("tls", &self.tls.is_some())
            .field("open", &self.places.open())
            .finish_non_exhaustive()
    }
}

/// A place, counted in the gauge for as long.
struct Open {
    place: Option<Place>,
    metrics: Arc<Metrics>,
}

impl Open {
    fn new(place: Place, metrics: &Arc<Metrics>) -> Self {
        metrics.edge.connections.increment(1.0);
        Self {
            place: Some(place),
            metrics: Arc::clone(metrics),
        }
    }

    /// Gives the proxy's place back for one of the client that it speaks for.
    fn count_as(&mut self, take: impl FnOnce() -> Result<Place, Full>) -> Result<(), Full> {
        // First, so that the last place of all can change hands.
        self.place = None;
        self.place = Some(take()?);
        Ok(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.edge.connections.decrement(1.0);
    }
}

/// An IPv4 peer of a socket for both families is an IPv4 peer.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
