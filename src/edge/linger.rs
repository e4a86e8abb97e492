//! Reading on after an answer, for a peer that is still sending: a socket closed with bytes unread
//! resets its connection, an HTTP/2 body dropped before its end resets its stream, and either way
//! the peer may lose the answer.

use std::future::{pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::edge::watched::{Exchange, RequestBody};

/// How long a peer that is still sending is listened to.
pub const LINGER_MAX: Duration = Duration::from_secs(2);
/// How much of what it sends is read meanwhile.
pub const LINGER_BYTES_MAX: usize = 1024 * 1024;
/// Longest rest of a body that is read before an answer, so that its connection can go on.
pub const SKIP_BYTES_MAX: u64 = 64 * 1024;
/// How long it may take to come; mostly it has come with its head.
pub const SKIP_MAX: Duration = Duration::from_millis(100);
/// How much of that is read at once from a socket.
const WASTE_BYTES: usize = 8 * 1024;

/// Ends an HTTP/1 connection: says its last words and that nothing more will be sent, and reads on
/// for a while if the peer may still be sending.
pub async fn farewell<S>(mut stream: S, last_words: &[u8], unread: bool)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let goodbye = async {
        stream.write_all(last_words).await?;
        stream.shutdown().await?;
        if !unread {
            return Ok(());
        }
        let mut waste = vec![0; WASTE_BYTES];
        let mut left = LINGER_BYTES_MAX;
        while left > 0 {
            match stream.read(&mut waste).await? {
                0 => return Ok(()),
                bytes => left = left.saturating_sub(bytes),
            }
        }
        // Closed now, the socket would reset; so the peer waits at its window, and finds the
        // answer.
        pending::<io::Result<()>>().await
    };
    // However it ends, the stream is closed next.
    drop(timeout(LINGER_MAX, goodbye).await);
}

/// Reads over a short HTTP/1 body that nobody wants. A sender that is turned away would otherwise
/// lose its connection with every request, and cost a TLS handshake each time, above all while
/// there is too much to do already.
pub async fn skip(exchange: &Arc<Exchange>) {
    let Some(mut rest) = exchange.rest() else {
        return;
    };
    let bytes = rest.size_hint().upper();
    if bytes.is_some_and(|bytes| bytes <= SKIP_BYTES_MAX) {
        let reading = async {
            while let Some(Ok(_)) = poll_fn(|context| Pin::new(&mut rest).poll_frame(context)).await
            {
            }
        };
        // What has not come by then ends with the connection.
        drop(timeout(SKIP_MAX, reading).await);
    }
}

/// Ends an HTTP/2 body that nobody wants: reads on until the peer has sent all of it, or has given
/// it up. Past the bytes it only keeps the stream open, and the peer waits at its window, where it
/// finds the answer.
pub async fn read_out(mut body: RequestBody) {
    let reading = async {
        let mut left = LINGER_BYTES_MAX;
        while left > 0 {
            match poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                Some(Ok(frame)) => {
                    left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                }
                Some(Err(_)) | None => return,
            }
        }
        pending::<()>().await;
    };
    // However it ends, the stream is reset next if it is still open.
    drop(timeout(LINGER_MAX, reading).await);
}
