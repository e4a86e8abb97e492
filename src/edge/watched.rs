//! A stream that notes in [`Activity`] what passes through it, and a body that does.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::edge::activity::{Activity, Protocol};

/// A stream under observation.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    /// Observes a stream.
    pub fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }

    /// Ends the observation.
    pub fn into_inner(self) -> S {
        self.stream
    }

    fn wrote<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &result {
            Poll::Pending => self.activity.write_blocked(Instant::now()),
            Poll::Ready(_) => self.activity.write_moved(),
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len().saturating_sub(before);
        if bytes > 0 {
            self.activity
                .read(bytes, Instant::now())
                .map_err(io::Error::other)?;
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.wrote(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(context);
        self.wrote(result)
    }
}

/// One request with its answer, as its connection sees it: in flight until the last part of both
/// is dropped.
#[derive(Debug)]
pub struct Exchange {
    activity: Arc<Activity>,
    body_ended: AtomicBool,
    /// An HTTP/2 body that was dropped before its end.
    rest: Mutex<Option<Incoming>>,
}

impl Exchange {
    /// Begins now.
    pub fn begin(activity: &Arc<Activity>) -> Arc<Self> {
        activity.begin(Instant::now());
        Arc::new(Self {
            activity: Arc::clone(activity),
            body_ended: AtomicBool::new(false),
            rest: Mutex::new(None),
        })
    }

    /// Whether the request's body was read to its end.
    pub fn body_ended(&self) -> bool {
        self.body_ended.load(Ordering::Acquire)
    }

    /// The body, if it was dropped before its end and its stream can still be read from. Left
    /// here, it goes with the exchange. HTTP/1 has the end of its connection for that.
    pub fn rest(self: &Arc<Self>) -> Option<RequestBody> {
        let incoming = self.lock_rest().take()?;
        Some(RequestBody::new(incoming, Arc::clone(self)))
    }

    fn lock_rest(&self) -> MutexGuard<'_, Option<Incoming>> {
        // Nothing under this lock can panic half way through a change.
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.activity.end(Instant::now(), self.body_ended());
    }
}

/// A request's body. Dropped before its end, it may leave the rest to its exchange.
#[derive(Debug)]
pub struct RequestBody {
    /// There is one until this is dropped.
    incoming: Option<Incoming>,
    exchange: Arc<Exchange>,
}

impl RequestBody {
    /// The body of an exchange.
    pub fn new(incoming: Incoming, exchange: Arc<Exchange>) -> Self {
        if incoming.is_end_stream() {
            exchange.body_ended.store(true, Ordering::Release);
        }
        Self {
            incoming: Some(incoming),
            exchange,
        }
    }

    /// The exchange that it belongs to.
    pub fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let result = Pin::new(incoming).poll_frame(context);
        match &result {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.exchange.activity.body_read(data.len());
                }
            }
            Poll::Ready(None) => self.exchange.body_ended.store(true, Ordering::Release),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        result
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let incoming = self.incoming.as_ref();
        incoming.map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let http2 = self.exchange.activity.protocol() == Protocol::Http2;
        if http2 && !self.exchange.body_ended() {
            *self.exchange.lock_rest() = self.incoming.take();
        }
    }
}

/// An answer's body; the exchange lasts until it has been taken.
#[derive(Debug)]
pub struct ReplyBody {
    full: Full<Bytes>,
    _exchange: Arc<Exchange>,
}

impl ReplyBody {
    /// The answer to an exchange.
    pub fn new(full: Full<Bytes>, exchange: Arc<Exchange>) -> Self {
        Self {
            full,
            _exchange: exchange,
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.full).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.full.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.full.size_hint()
    }
}
