//! A TCP proxy on loopback that fails on command: cut, reset, half-close, stall, refuse, restore.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What is done with bytes and with new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Everything passes.
    Forward,
    /// Connections stay open, new ones are accepted, and nothing moves.
    Stall,
    /// New connections are closed at once.
    Refuse,
}

/// How connections are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Both sides see an orderly end.
    Close,
    /// Both sides see a reset.
    Reset,
    /// The client's side sees the end of what it reads, while its own bytes still pass.
    HalfClose,
}

#[derive(Clone, Copy, Debug)]
struct Order {
    mode: Mode,
    cuts: u64,
    cut: Cut,
}

/// A running proxy; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    orders: watch::Sender<Order>,
    accepted: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a port of its own and forwards to `upstream`.
    pub(crate) async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address");
        let (orders, _) = watch::channel(Order {
            mode: Mode::Forward,
            cuts: 0,
            cut: Cut::Close,
        });
        let (count, accepted) = watch::channel(0);
        let task = tokio::spawn(serve(listener, upstream, orders.clone(), count));
        Self {
            address,
            orders,
            accepted,
            task,
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        *self.accepted.borrow()
    }

    /// From now on.
    pub(crate) fn set(&self, mode: Mode) {
        self.orders.send_modify(|order| order.mode = mode);
    }

    /// Ends every open connection.
    pub(crate) fn cut(&self, cut: Cut) {
        self.orders.send_modify(|order| {
            order.cuts += 1;
            order.cut = cut;
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    listener: TcpListener,
    upstream: SocketAddr,
    orders: watch::Sender<Order>,
    count: watch::Sender<u64>,
) {
    // Dropped, and with it every connection, when the proxy is.
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        count.send_modify(|n| *n += 1);
        while connections.try_join_next().is_some() {}
        if orders.borrow().mode == Mode::Refuse {
            drop(client);
            continue;
        }
        let orders = orders.subscribe();
        connections.spawn(async move {
            if let Ok(server) = TcpStream::connect(upstream).await {
                join(client, server, orders).await;
            }
        });
    }
}

/// Moves bytes between two streams until one ends or a cut is ordered.
async fn join(mut client: TcpStream, mut server: TcpStream, mut orders: watch::Receiver<Order>) {
    let first = orders.borrow_and_update().cuts;
    let mut half_closed = false;
    let mut up = vec![0; 16 * 1024];
    let mut down = vec![0; 16 * 1024];
    loop {
        let order = *orders.borrow_and_update();
        if order.cuts != first && !half_closed {
            match order.cut {
                Cut::Close => return,
                Cut::Reset => {
                    for stream in [&client, &server] {
                        SockRef::from(stream)
                            .set_linger(Some(Duration::ZERO))
                            .expect("linger");
                    }
                    return;
                }
                Cut::HalfClose => {
                    if client.shutdown().await.is_err() {
                        return;
                    }
                    half_closed = true;
                }
            }
        }
        let moves = order.mode != Mode::Stall;
        tokio::select! {
            changed = orders.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            read = client.read(&mut up), if moves => {
                let Ok(n @ 1..) = read else { return };
                if server.write_all(&up[..n]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut down), if moves => {
                let Ok(n @ 1..) = read else { return };
                // After a half-close what the server says goes nowhere.
                if !half_closed && client.write_all(&down[..n]).await.is_err() {
                    return;
                }
            }
        }
    }
}
