//! Takes a PROXY header off a connection, and not a byte of what follows.

use std::io;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::edge::proxy_protocol::{Origin, Parsed, V2_BYTES_MAX, parse};

/// Why a connection has no header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// It ended before there was one; a health check that only connects does that.
    #[error("the connection ended within the PROXY header")]
    Ended,
    /// Something else came.
    #[error("no PROXY header: {0}")]
    Bad(&'static str),
    /// The system said so.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads the header that a connection begins with.
///
/// What has come is first looked at where it lies, and taken only as far as it is the header's.
///
/// # Errors
///
/// See [`ReadError`].
pub(crate) async fn read(stream: &mut TcpStream) -> Result<Origin, ReadError> {
    let mut header = vec![0; V2_BYTES_MAX];
    let mut taken = 0;
    loop {
        let room = header.get_mut(taken..).unwrap_or_default();
        let seen = taken + stream.peek(room).await?;
        if seen == taken {
            return Err(ReadError::Ended);
        }
        let (origin, end) = match parse(header.get(..seen).unwrap_or_default()) {
            Parsed::Header { origin, bytes } => (Some(origin), bytes),
            Parsed::NeedMore => (None, seen),
            Parsed::Bad(why) => return Err(ReadError::Bad(why)),
        };
        let ours = header.get_mut(taken..end).unwrap_or_default();
        stream.read_exact(ours).await?;
        taken = end;
        if let Some(origin) = origin {
            return Ok(origin);
        }
    }
}
