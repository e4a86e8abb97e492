//! The public side: listens, speaks TLS and HTTP, and hands whole heads to the pipeline.
//!
//! ```text
//! socket -> limits -> TLS (tls) -> HTTP/1 or HTTP/2 (connection, activity)
//!        -> gate, client_ip -> pipeline (request) -> answer (reply) -> what still comes (linger)
//! ```
//!
//! Everything here may be a stranger's doing, so everything has a deadline and a bound, and costs
//! nobody but its own connection. What the edge does not know: sources, signatures, brokers.

pub mod activity;
pub mod client_ip;
pub mod connection;
pub mod gate;
pub mod limits;
pub mod linger;
pub mod reply;
pub mod request;
pub mod socket;
#[cfg(test)]
pub(crate) mod testing;
pub mod tls;
pub mod watched;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Limits, Server, Tls};
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::watch::Watch;

use activity::{Patience, Protocol};
use client_ip::is_trusted;
use connection::{Handler, Peer, Terms, serve};
use limits::{Full, Place, Places};
use request::Gateway;
use socket::{ACCEPT_PAUSE, Complaint};
use tls::{Certificates, TlsError};

/// Sockets that listen, and what they need to serve. Connections wait in the kernel until
/// [`Edge::run`].
#[derive(Debug)]
pub struct Edge {
    listeners: Vec<TcpListener>,
    certificates: Option<Certificates>,
    front: Arc<Front>,
}

/// What every connection needs before it speaks HTTP.
struct Front {
    tls: Option<TlsAcceptor>,
    limits: Limits,
    trusted_proxies: Vec<IpNet>,
    places: Places,
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
    pub fn bind(server: &Server, metrics: Arc<Metrics>) -> Result<Self, BindError> {
        let (tls, certificates) = match &server.tls {
            None => (None, None),
            Some(tls) => {
                let (config, certificates) = tls::server_config(server, tls)?;
                (
                    Some(TlsAcceptor::from(Arc::new(config))),
                    Some(certificates),
                )
            }
        };
        if let Some(Tls::Certificates(certificates)) = &server.tls {
            for certificate in certificates {
                metrics.certificate_ends(
                    &certificate.path.display().to_string(),
                    certificate.not_after,
                );
            }
        }
        let listeners = server.listen.iter().map(|&address| {
            let dual = socket::is_dual(address, &server.listen);
            socket::listen(address, dual).map_err(|error| BindError::Address { address, error })
        });
        let limits = &server.limits;
        Ok(Self {
            listeners: listeners.collect::<Result<_, _>>()?,
            certificates,
            front: Arc::new(Front {
                tls,
                limits: limits.clone(),
                trusted_proxies: server.trusted_proxies.clone(),
                places: Places::new(limits.connections_max, limits.connections_per_peer_max),
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

    /// The certificates in use, to be replaced on reload; `None` without TLS.
    pub fn certificates(&self) -> Option<Certificates> {
        self.certificates.clone()
    }

    /// Serves. When `stop` fires, nothing more is accepted, connections are told to finish, and
    /// requests that still come on them are answered 503; returns when the last has ended.
    /// Dropped before that, it cuts the connections that are left.
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
        for listener in self.listeners {
            let front = Arc::clone(&self.front);
            let listening = front.listen(listener, handler.clone(), stop.clone(), cut.clone());
            // The tracker owns the task; its handle is not needed.
            drop(tasks.spawn(listening));
        }
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
                        let peer = Peer {
                            address: canonical(peer),
                        };
                        self.admit(stream, peer, &handler, &stop, &cut);
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
        peer: Peer,
        handler: &H,
        stop: &CancellationToken,
        cut: &CancellationToken,
    ) {
        // A proxy brings everybody's connections.
        let ip = peer.address.ip();
        let bounded = (!is_trusted(ip, &self.trusted_proxies)).then_some(ip);
        match self.places.take(bounded) {
            Ok(place) => {
                let (front, handler) = (Arc::clone(self), handler.clone());
                let (stop, cut) = (stop.clone(), cut.clone());
                drop(self.tasks.spawn(async move {
                    let _place = Open::new(place, &front.metrics);
                    tokio::select! {
                        () = front.connect(stream, peer, handler, stop) => {}
                        () = cut.cancelled() => {}
                    }
                }));
            }
            Err(full) => self.refuse(full, peer),
        }
    }

    fn refuse(&self, full: Full, peer: Peer) {
        let (counter, limit) = match full {
            Full::Total => (&self.metrics.edge.refused_total, "max_connections"),
            Full::Peer => (&self.metrics.edge.refused_peer, "max_connections_per_peer"),
        };
        counter.increment(1);
        if self.places.should_say(Instant::now()) {
            let peer = peer.address.ip();
            tracing::warn!(%peer, limit, "too many connections: closing new ones at once");
        }
    }

    /// From a socket to HTTP.
    async fn connect<H: Handler>(
        &self,
        stream: TcpStream,
        peer: Peer,
        handler: H,
        stop: CancellationToken,
    ) {
        if socket::prepare(&stream).is_err() {
            return; // gone already
        }
        let terms = Terms {
            patience: Patience::new(&self.limits, fastrand::f64()),
            tasks: self.tasks.clone(),
            stop,
        };
        let Some(tls) = &self.tls else {
            serve(stream, Protocol::Http1, &terms, handler, peer).await;
            return;
        };
        let Some((stream, protocol)) = self.handshake(tls, stream, peer).await else {
            return;
        };
        serve(stream, protocol, &terms, handler, peer).await;
    }

    async fn handshake(
        &self,
        tls: &TlsAcceptor,
        stream: TcpStream,
        peer: Peer,
    ) -> Option<(tokio_rustls::server::TlsStream<TcpStream>, Protocol)> {
        let peer = peer.address;
        let metrics = &self.metrics.edge;
        match timeout(self.limits.handshake_timeout, tls.accept(stream)).await {
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
                tracing::debug!(%peer, %error, "tls handshake failed");
                None
            }
            Err(_elapsed) => {
                metrics.handshakes_timed_out.increment(1);
                tracing::debug!(%peer, "tls handshake too slow");
                None
            }
        }
    }
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
    _place: Place,
    metrics: Arc<Metrics>,
}

impl Open {
    fn new(place: Place, metrics: &Arc<Metrics>) -> Self {
        metrics.edge.connections.increment(1.0);
        Self {
            _place: place,
            metrics: Arc::clone(metrics),
        }
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
