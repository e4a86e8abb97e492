//! One connection: HTTP/1 or HTTP/2, as ALPN said, under the deadlines of [`Activity`].
//!
//! The two builders are chosen from and never guessed between: hyper-util's `auto` waits without
//! a limit for the bytes that would tell them apart.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

use crate::clock::Now;
use crate::edge::activity::{Activity, Ending, Patience, Protocol};
use crate::edge::linger::{farewell, read_out};
use crate::edge::reply::{self, Afterwards, reply};
use crate::edge::watched::{Exchange, ReplyBody, RequestBody, Watched};
use crate::pipeline::certificate::ClientCertificate;
use crate::reject::Reject;

/// Longest head, in bytes; beyond it hyper answers 431.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header fields.
pub const HEADERS_MAX: usize = 64;
/// Most that HTTP/1 buffers of what was sent.
const READ_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Requests at once on an HTTP/2 connection.
const STREAMS_MAX: u32 = 100;
/// What HTTP/2 takes of one body before somebody reads it.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// The same, of all bodies of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Longest HTTP/2 frame; the least that the protocol allows.
const FRAME_BYTES_MAX: u32 = 16 * 1024;
/// Header compression state per connection; the protocol's default.
const HEADER_TABLE_BYTES: u32 = 4096;
/// Streams that the peer may have reset before we looked at them ("rapid reset").
const RESETS_PENDING_MAX: usize = 20;
/// Streams that the peer may make us reset.
const RESETS_LOCAL_MAX: usize = 128;
/// Answers that wait for the peer's window.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How often an HTTP/2 peer is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The socket's address, or whom a PROXY header named in its place.
    pub address: SocketAddr,
    /// Whether it may speak for others in `Forwarded` and `X-Forwarded-For`, if its address is
    /// that of a trusted proxy.
    pub may_forward: bool,
    /// The certificate that it has shown and that was verified.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// Answers requests. The gateway is one; tests have others.
pub trait Handler: Clone + Send + Sync + Unpin + 'static {
    /// Answers one request.
    fn handle(
        self,
        request: Request<RequestBody>,
        peer: Peer,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send + 'static;

    /// Answers what could not be read as a request, and closes.
    fn refuse(&self, reject: Reject, _peer: Peer) -> Response<Full<Bytes>> {
        reply(&Err(reject), "", Afterwards::Close)
    }
}

/// What connections share.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How long they may do what.
    pub patience: Patience,
    /// Owns what reads on after an answer.
    pub tasks: TaskTracker,
    /// Fires when connections should end after the requests that they carry.
    pub stop: CancellationToken,
}

/// Serves a connection until it ends, one way or another.
pub async fn serve<S, H>(stream: S, protocol: Protocol, terms: &Terms, handler: H, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let activity = Arc::new(Activity::new(protocol, terms.patience, Instant::now()));
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
    let address = peer.address;
    let service = Service {
        handler: handler.clone(),
        peer: peer.clone(),
        activity: Arc::clone(&activity),
        tasks: terms.tasks.clone(),
    };
    let watchdog = Watchdog::new(Arc::clone(&activity), &terms.stop);
    let end = match protocol {
        Protocol::Http1 => {
            let mut connection = http1(&terms.patience).serve_connection(io, service);
            let end = watchdog.run(&mut connection).await;
            if let End::ByHttp(result) = &end {
                let unread = result.is_err() || activity.left_unread();
                let stream = connection.into_parts().io.into_inner().into_inner();
                let last_words = activity.refusal().map(|status| {
                    let answer = handler.refuse(unreadable(status), peer);
                    reply::last_words(answer, Now::read().wall)
                });
                farewell(stream, &last_words.unwrap_or_default(), unread).await;
            }
            end
        }
        Protocol::Http2 => {
            let streams = Streams::default();
            let connection = http2(&streams).serve_connection(io, service);
            watchdog.run(&mut (connection, streams)).await
        }
    };
    match end {
        End::ByHttp(Ok(())) => tracing::trace!(peer = %address, "connection ended"),
        End::ByHttp(Err(error)) => {
            tracing::debug!(peer = %address, %error, "connection broke");
        }
        End::ByUs(why) => tracing::debug!(peer = %address, why, "connection cut"),
    }
}

/// What hyper meant when it refused a head.
fn unreadable(status: u16) -> Reject {
    if status == StatusCode::BAD_REQUEST {
        Reject::HeadMalformed
    } else {
        Reject::HeadTooLarge
    }
}

// === configuration of hyper ===

fn http1(patience: &Patience) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // Without a timer hyper has no header timeout at all, and does not say so.
        .timer(TokioTimer::new())
        // hyper's clock runs between requests too, so it can only be the second line behind
        // `Activity`, which tells an idle connection from a slow head.
        .header_read_timeout(patience.idle + patience.header)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(READ_BUFFER_BYTES_MAX)
        .keep_alive(true)
        .half_close(false)
        .ignore_invalid_headers(false)
        .allow_multiple_spaces_in_request_line_delimiters(false)
        .pipeline_flush(false);
    builder
}

fn http2(streams: &Streams) -> http2::Builder<Begun> {
    let head_bytes_max = u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX);
    let mut builder = http2::Builder::new(streams.begun.clone());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_header_list_size(head_bytes_max)
        .header_table_size(HEADER_TABLE_BYTES)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(RESETS_LOCAL_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .adaptive_window(false);
    builder
}

/// The streams of an HTTP/2 connection, polled in turn with it. In tasks of their own, an answer's
/// head could leave without its body, and the reset that answers a body cut short could leave
/// before the rest: curl cuts its body short as soon as it sees a head that refuses it.
#[derive(Debug, Default)]
struct Streams {
    begun: Begun,
    running: FuturesUnordered<Stream>,
}

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where hyper puts new streams.
#[derive(Clone, Default)]
struct Begun(Arc<Mutex<Vec<Stream>>>);

impl Streams {
    fn poll(&mut self, context: &mut Context<'_>) {
        self.running.extend(self.begun.take());
        // Whatever they have to say wakes the connection.
        while let Poll::Ready(Some(())) = self.running.poll_next_unpin(context) {}
    }
}

impl Begun {
    fn take(&self) -> Vec<Stream> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Stream>> {
        // Nothing under this lock can panic half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Begun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Begun").field(&self.lock().len()).finish()
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Begun {
    fn execute(&self, future: F) {
        self.lock().push(Box::pin(future));
    }
}

/// A handler as hyper calls it.
struct Service<H> {
    handler: H,
    peer: Peer,
    activity: Arc<Activity>,
    /// Owns what reads on after an answer.
    tasks: TaskTracker,
}

impl<H: Handler> hyper::service::Service<Request<Incoming>> for Service<H> {
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let exchange = Exchange::begin(&self.activity);
        let request = request.map(|body| RequestBody::new(body, Arc::clone(&exchange)));
        let answer = self.handler.clone().handle(request, self.peer.clone());
        let (tasks, activity) = (self.tasks.clone(), Arc::clone(&self.activity));
        Box::pin(async move {
            let mut answer = answer.await;
            if activity.is_last_answer(Instant::now()) {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, close);
            }
            if let Some(rest) = exchange.rest() {
                // The tracker owns the task; its handle is not needed.
                drop(tasks.spawn(read_out(rest)));
            }
            Ok(answer.map(|body| ReplyBody::new(body, exchange)))
        })
    }
}

// === the watchdog ===

/// hyper's two kinds of connection, as far as the watchdog needs them.
trait Connection {
    fn poll_done(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>>;
    fn end_gracefully(&mut self);
}

impl<S, H> Connection for http1::Connection<TokioIo<Watched<S>>, Service<H>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    fn poll_done(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.poll_without_shutdown(context)
    }

    fn end_gracefully(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

impl<S, H> Connection
    for (
        http2::Connection<TokioIo<Watched<S>>, Service<H>, Begun>,
        Streams,
    )
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    fn poll_done(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let (connection, streams) = self;
        let done = Pin::new(connection).poll(context);
        streams.poll(context);
        done
    }

    fn end_gracefully(&mut self) {
        let (connection, _) = self;
        Pin::new(connection).graceful_shutdown();
    }
}

/// How a connection ended.
#[derive(Debug)]
enum End {
    /// By HTTP's rules, or by breaking them.
    ByHttp(hyper::Result<()>),
    /// A deadline passed.
    ByUs(&'static str),
}

/// Asks [`Activity`] after everything that happens, and when the alarm rings.
struct Watchdog {
    activity: Arc<Activity>,
    alarm: Pin<Box<Sleep>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    closing: bool,
}

impl Watchdog {
    fn new(activity: Arc<Activity>, stop: &CancellationToken) -> Self {
        Self {
            activity,
            // Rings at once, and is set right then.
            alarm: Box::pin(sleep_until(Instant::now())),
            stop: Box::pin(stop.clone().cancelled_owned()),
            closing: false,
        }
    }

    async fn run<C: Connection>(mut self, connection: &mut C) -> End {
        poll_fn(|context| self.poll(connection, context)).await
    }

    fn poll<C: Connection>(&mut self, connection: &mut C, context: &mut Context<'_>) -> Poll<End> {
        loop {
            // First, so that an answer that is ready now already says that it is the last.
            if !self.closing && self.stop.as_mut().poll(context).is_ready() {
                self.close(connection);
            }
            if let Poll::Ready(result) = connection.poll_done(context) {
                return Poll::Ready(End::ByHttp(result));
            }
            match ready!(self.poll_deadline(context)) {
                Ending::Gracefully(why) => {
                    tracing::trace!(why, "connection ends");
                    self.close(connection);
                }
                Ending::Now(why) => return Poll::Ready(End::ByUs(why)),
            }
        }
    }

    fn close<C: Connection>(&mut self, connection: &mut C) {
        self.closing = true;
        self.activity.closing(Instant::now());
        connection.end_gracefully();
    }

    /// Deadlines mostly move away, so the alarm is set anew only when it would ring too late, or
    /// rang too early.
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<Ending> {
        loop {
            let until = match self.activity.check(Instant::now()) {
                Ok(until) => until,
                Err(ending) => return Poll::Ready(ending),
            };
            if until < self.alarm.deadline() || self.alarm.is_elapsed() {
                self.alarm.as_mut().reset(until);
            }
            ready!(self.alarm.as_mut().poll(context));
        }
    }
}

#[cfg(test)]
mod tests;
