//! Listening sockets, and what can go wrong with accepting.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections that the kernel completes before we have accepted them.
const BACKLOG: i32 = 1024;
/// How long accepting rests when the system has run out of something. Trying again at once would
/// keep a core busy with failing.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Silence after which the kernel asks whether the peer is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);

/// Listens. `dual` makes an IPv6 wildcard address take IPv4 too. Must be called in a runtime.
///
/// # Errors
///
/// What the system said.
pub fn listen(address: SocketAddr, dual: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Without it a restart would wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!dual)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Whether an IPv6 wildcard should take IPv4 too: `[::]:8443` alone means everybody, but next to
/// `0.0.0.0:8443` it can only mean the rest.
pub fn is_dual(address: SocketAddr, all: &[SocketAddr]) -> bool {
    let has_own_v4 = all.iter().any(|other| {
        other.is_ipv4() && other.ip().is_unspecified() && other.port() == address.port()
    });
    address.is_ipv6() && address.ip().is_unspecified() && !has_own_v4
}

/// Answers are small and whole: they leave at once. A peer that vanished is noticed in time.
///
/// # Errors
///
/// What the system said; the connection is then gone already.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream)
        .set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER))
}

/// Whether an error is about the one connection that was to be accepted, and says nothing about
/// the next. Everything else, above all running out of file descriptors, is about us.
pub fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// Says once that accepting fails, and once that it works again.
#[derive(Debug, Default)]
pub struct Complaint {
    failing: bool,
}

impl Complaint {
    /// Accepting failed. True when accepting should rest.
    pub fn failed(&mut self, address: SocketAddr, error: &io::Error) -> bool {
        if is_about_one_connection(error) {
            return false;
        }
        if !self.failing {
            self.failing = true;
            tracing::error!(
                %address, %error,
                "cannot accept connections; trying on: see the limit on open files (`ulimit -n`)"
            );
        }
        true
    }

    /// Accepting worked.
    pub fn worked(&mut self, address: SocketAddr) {
        if self.failing {
            self.failing = false;
            tracing::info!(%address, "accepting connections again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_out_of_descriptors_is_said_once_and_makes_accepting_rest() {
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let emfile = io::Error::from_raw_os_error(24);
        let aborted = io::Error::from(io::ErrorKind::ConnectionAborted);
        let mut complaint = Complaint::default();
        assert!(!complaint.failed(address, &aborted));
        assert!(!complaint.failing);
        assert!(complaint.failed(address, &emfile));
        assert!(complaint.failed(address, &emfile));
        assert!(complaint.failing);
        complaint.worked(address);
        assert!(!complaint.failing);
    }

    #[test]
    fn an_ipv6_wildcard_takes_ipv4_unless_somebody_else_does() {
        let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let (v6, v4) = (address("[::]:80"), address("0.0.0.0:80"));
        assert!(is_dual(v6, &[v6]));
        assert!(!is_dual(v6, &[v4, v6]));
        assert!(is_dual(v6, &[address("0.0.0.0:81"), v6]));
        assert!(!is_dual(v4, &[v4]));
        assert!(!is_dual(address("[::1]:80"), &[]));
    }

    #[tokio::test]
    async fn both_families_can_be_listened_on_at_once() {
        let Ok(v6) = listen("[::]:0".parse().unwrap(), true) else {
            return; // a machine without IPv6
        };
        let port = v6.local_addr().unwrap().port();
        let (accepted, _stream) = tokio::join!(
            v6.accept(),
            TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port)))
        );
        let (_, peer) = accepted.unwrap();
        assert!(peer.ip().to_canonical().is_ipv4());
        drop(v6);
        let v4 = listen("0.0.0.0:0".parse().unwrap(), false).unwrap();
        let port = v4.local_addr().unwrap().port();
        listen(SocketAddr::from(([0u16; 8], port)), false).unwrap();
    }
}
