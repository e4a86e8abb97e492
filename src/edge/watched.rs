//! A stream that notes in [`Activity`] what passes through it, and a body that does.
//!
//! A head that hyper cannot read it answers by itself, with a bare status. Such an answer ends
//! here, and `connection` gives one that has what every answer has.

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

use crate::edge::activity::{Activity, Flood, Protocol};
use crate::edge::frames::Frames;

/// A stream under observation.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
    frames: Frames,
}

impl<S> Watched<S> {
    /// Observes a stream.
    pub fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            activity,
            frames: Frames::default(),
        }
    }

    /// Ends the observation.
    pub fn into_inner(self) -> S {
        self.stream
    }

    fn note(&mut self, bytes: &[u8]) -> Result<(), Flood> {
        let now = Instant::now();
        self.activity.read(bytes.len(), now)?;
        if self.activity.protocol() == Protocol::Http2 {
            let frames = &mut self.frames;
            frames.read(bytes);
            self.activity
                .framed(frames.count(), frames.owed_head(), now)?;
        }
        Ok(())
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
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        if !bytes.is_empty() {
            self.note(bytes).map_err(io::Error::other)?;
        }
        result
    }
}

impl<S> Watched<S> {
    /// Takes note of an answer that nobody here has given, and says whether it was one.
    fn withheld(&self, bytes: &[u8]) -> bool {
        let status = || {
            let rest = bytes.strip_prefix(b"HTTP/1.")?;
            let digits = std::str::from_utf8(rest.get(2..5)?).ok()?;
            digits.parse().ok()
        };
        if !self.activity.unasked() {
            return false;
        }
        let refusal = status();
        if let Some(status) = refusal {
            self.activity.refused(status);
        }
        refusal.is_some()
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.withheld(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.first().is_some_and(|slice| self.withheld(slice)) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        if result.is_ready() {
            self.activity.flushed();
        }
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
    /// Whether a body that is dropped before its end is left in `rest`.
    keeps_rest: AtomicBool,
    /// Such a body.
    rest: Mutex<Option<Incoming>>,
}

impl Exchange {
    /// Begins now.
    pub fn begin(activity: &Arc<Activity>) -> Arc<Self> {
        activity.begin(Instant::now());
        Arc::new(Self {
            activity: Arc::clone(activity),
            body_ended: AtomicBool::new(false),
            keeps_rest: AtomicBool::new(activity.protocol() == Protocol::Http2),
            rest: Mutex::new(None),
        })
    }

    /// What it is spoken over.
    pub fn protocol(&self) -> Protocol {
        self.activity.protocol()
    }

    /// Whether the request's body was read to its end.
    pub fn body_ended(&self) -> bool {
        self.body_ended.load(Ordering::Acquire)
    }

    /// Keeps the rest of an HTTP/1 body too, for [`Exchange::rest`] to be asked once.
    pub fn keep_rest(&self) {
        self.keeps_rest.store(true, Ordering::Release);
    }

    /// The body, if it was dropped before its end and can still be read from. Left here, it goes
    /// with the exchange. HTTP/1 has the end of its connection for that, unless told otherwise.
    pub fn rest(self: &Arc<Self>) -> Option<RequestBody> {
        let http2 = self.protocol() == Protocol::Http2;
        self.keeps_rest.store(http2, Ordering::Release);
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
        let kept = self.exchange.keeps_rest.load(Ordering::Acquire);
        if kept && !self.exchange.body_ended() {
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
