//! A TCP proxy on loopback that fails on command: cut, reset, half-close, stall, refuse, restore.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Most bytes that are moved at once.
const BUFFER_BYTES: usize = 16 * 1024;

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
    /// They stay open, and nothing moves on them any more; new ones are not concerned.
    Stall,
}

#[derive(Clone, Copy, Debug)]
struct Order {
    mode: Mode,
    cuts: u64,
    cut: Cut,
    after_bytes: usize,
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
            after_bytes: 0,
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
        self.cut_after(0, cut);
    }

    /// Ends every open connection once so many more bytes have passed on it, in both directions
    /// together: in the middle of whatever they are.
    pub(crate) fn cut_after(&self, bytes: usize, cut: Cut) {
        self.orders.send_modify(|order| {
            order.cuts += 1;
            order.cut = cut;
            order.after_bytes = bytes;
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
        // What is ordered once it counts as accepted is obeyed, however soon.
        let mut orders = orders.subscribe();
        let first = *orders.borrow_and_update();
        count.send_modify(|n| *n += 1);
        while connections.try_join_next().is_some() {}
        if first.mode == Mode::Refuse {
            drop(client);
            continue;
        }
        connections.spawn(async move {
            if let Ok(server) = TcpStream::connect(upstream).await {
                join(client, server, orders, first.cuts).await;
            }
        });
    }
}

/// Moves bytes between two streams until one ends or is cut.
async fn join(
    mut client: TcpStream,
    mut server: TcpStream,
    mut orders: watch::Receiver<Order>,
    mut cuts: u64,
) {
    // What is to happen, and how many bytes pass before.
    let mut fuse: Option<(usize, Cut)> = None;
    let mut half_closed = false;
    let mut stalled = false;
    let mut up = vec![0; BUFFER_BYTES];
    let mut down = vec![0; BUFFER_BYTES];
    loop {
        let order = *orders.borrow_and_update();
        if order.cuts != cuts {
            cuts = order.cuts;
            fuse = Some((order.after_bytes, order.cut));
        }
        if let Some((0, cut)) = fuse {
            fuse = None;
            match cut {
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
                Cut::Stall => stalled = true,
            }
        }
        let moves = order.mode != Mode::Stall && !stalled;
        let room = fuse.map_or(BUFFER_BYTES, |(left, _)| left.min(BUFFER_BYTES));
        let moved = tokio::select! {
            changed = orders.changed() => {
                if changed.is_err() {
                    return;
                }
                0
            }
            read = client.read(&mut up[..room]), if moves => {
                let Ok(n @ 1..) = read else { return };
                if server.write_all(&up[..n]).await.is_err() {
                    return;
                }
                n
            }
            read = server.read(&mut down[..room]), if moves => {
                let Ok(n @ 1..) = read else { return };
                // After a half-close what the server says goes nowhere.
                if !half_closed && client.write_all(&down[..n]).await.is_err() {
                    return;
                }
                n
            }
        };
        if let Some((left, _)) = &mut fuse {
            *left -= moved;
        }
    }
}
