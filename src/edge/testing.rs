//! What the tests of the edge share: handlers, bounds, and a client over an in-memory stream.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Limits;
use crate::edge::activity::{Patience, Protocol};
use crate::edge::connection::{Handler, Peer, Terms, serve};
use crate::edge::watched::RequestBody;

/// Short and all different, so that a test sees which one was at work.
pub(crate) fn limits() -> Limits {
    Limits {
        connections_max: 100,
        connections_per_peer_max: 100,
        requests_in_flight_max: 100,
        bytes_in_flight_max: 1 << 20,
        body_bytes_max: 1 << 16,
        handshake_timeout: Duration::from_secs(3),
        header_timeout: Duration::from_secs(5),
        body_timeout: Duration::from_secs(7),
        idle_timeout: Duration::from_secs(60),
        accept_timeout: Duration::from_secs(2),
        drain_timeout: Duration::from_secs(25),
    }
}

pub(crate) fn peer() -> Peer {
    Peer {
        address: SocketAddr::from(([192, 0, 2, 1], 4711)),
        may_forward: true,
        certificate: None,
    }
}

pub(crate) fn terms() -> Terms {
    Terms {
        patience: Patience::new(&limits(), 0.0),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    }
}

/// Reads a body to its end without a limit; the peer is ours.
pub(crate) async fn drain<B: Body<Data = Bytes>>(body: B) -> Result<Vec<u8>, B::Error> {
    let mut body = std::pin::pin!(body);
    let mut all = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await
    {
        if let Ok(data) = frame?.into_data() {
            all.extend_from_slice(&data);
        }
    }
    Ok(all)
}

/// Answers 200 with the length of the body.
#[derive(Clone, Debug)]
pub(crate) struct Length;

impl Handler for Length {
    async fn handle(self, request: Request<RequestBody>, _peer: Peer) -> Response<Full<Bytes>> {
        let text = match drain(request.into_body()).await {
            Ok(body) => format!("{} bytes", body.len()),
            Err(_broken) => "broken".to_owned(),
        };
        Response::new(Full::new(Bytes::from(text)))
    }
}

/// Answers by a function of the request's head.
#[derive(Clone, Debug)]
pub(crate) struct ByHead<F>(pub(crate) F);

impl<F> Handler for ByHead<F>
where
    F: Fn(&http::request::Parts) -> Response<Full<Bytes>> + Clone + Send + Sync + Unpin + 'static,
{
    async fn handle(self, request: Request<RequestBody>, _peer: Peer) -> Response<Full<Bytes>> {
        let (head, _body) = request.into_parts();
        (self.0)(&head)
    }
}

/// Never answers.
#[derive(Clone, Debug)]
pub(crate) struct Stuck;

impl Handler for Stuck {
    async fn handle(self, _request: Request<RequestBody>, _peer: Peer) -> Response<Full<Bytes>> {
        std::future::pending().await
    }
}

/// Serves one end of an in-memory stream; gives the other.
pub(crate) fn served<H: Handler>(
    protocol: Protocol,
    terms: &Terms,
    handler: H,
) -> (DuplexStream, JoinHandle<()>) {
    served_over(64 * 1024, protocol, terms, handler)
}

/// The same over a stream that holds so many bytes.
pub(crate) fn served_over<H: Handler>(
    bytes: usize,
    protocol: Protocol,
    terms: &Terms,
    handler: H,
) -> (DuplexStream, JoinHandle<()>) {
    let (ours, theirs) = tokio::io::duplex(bytes);
    let terms = terms.clone();
    let serving =
        tokio::spawn(async move { serve(theirs, protocol, &terms, handler, peer()).await });
    (ours, serving)
}

/// Everything up to the end of the stream, as text.
pub(crate) async fn read_to_end(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    drop(stream.read_to_end(&mut bytes).await);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until `text` has come.
pub(crate) async fn read_until(stream: &mut (impl AsyncReadExt + Unpin), text: &str) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let seen = String::from_utf8_lossy(&bytes).into_owned();
        if seen.contains(text) {
            return seen;
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => panic!("ended before {text:?}: {seen}"),
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

/// An HTTP/2 client over a stream. Its connection is driven until it ends.
pub(crate) async fn h2_client<S, B>(stream: S) -> H2Client<B>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Unpin + Send + 'static,
{
    h2_client_with_window(stream, 64 * 1024).await
}

/// What requests are sent by, and the connection's end.
pub(crate) type H2Client<B> = (
    hyper::client::conn::http2::SendRequest<B>,
    JoinHandle<Result<(), hyper::Error>>,
);

/// The same, with so much room for an answer that nobody reads.
pub(crate) async fn h2_client_with_window<S, B>(stream: S, window: u32) -> H2Client<B>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Unpin + Send + 'static,
{
    let io = hyper_util::rt::TokioIo::new(stream);
    let (sender, connection) = hyper::client::conn::http2::Builder::new(OnTokio)
        .initial_stream_window_size(window)
        .handshake(io)
        .await
        .unwrap();
    (sender, tokio::spawn(connection))
}

#[derive(Clone)]
struct OnTokio;

impl<F> hyper::rt::Executor<F> for OnTokio
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        drop(tokio::spawn(future));
    }
}

/// A request without a body.
pub(crate) fn get(uri: &str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = uri.parse().unwrap();
    request
}

/// A body that comes as it is fed, for a client whose server may answer before its end.
pub(crate) struct Fed(mpsc::Receiver<Bytes>);

impl Body for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = self.0.poll_recv(context);
        chunk.map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// A request with a body, and what feeds it: it fails as soon as the client sends no more of it.
pub(crate) fn post_fed(uri: &str) -> (Request<Fed>, mpsc::Sender<Bytes>) {
    let (feed, body) = mpsc::channel(1);
    let mut request = Request::new(Fed(body));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = uri.parse().unwrap();
    (request, feed)
}
