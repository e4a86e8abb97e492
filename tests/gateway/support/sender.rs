//! An HTTPS client as a provider has one: HTTP/1.1 or HTTP/2, connections kept alive, certificates
//! checked. Beside it a raw socket, for what no well-behaved client sends.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::eventually::PATIENCE;
use super::webhook::Webhook;

/// Which HTTP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// Anything that bytes go through.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where to send, and which authority to trust.
#[derive(Clone)]
pub(crate) struct Sender {
    address: SocketAddr,
    /// Where from; one address has its own share of everything.
    from: Option<IpAddr>,
    /// Roots to trust; `None` speaks plain HTTP.
    roots: Option<Arc<rustls::RootCertStore>>,
    /// The certificate to show, and its key, in PEM.
    identity: Option<(String, String)>,
}

/// One open connection.
pub(crate) enum Client {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// Longest answer that a test reads.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

impl Sender {
    /// A sender over TLS that trusts the authority in `ca`, and nobody else.
    pub(crate) fn tls(address: SocketAddr, ca: &Path) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(ca).expect("certificate");
        roots.add(certificate).expect("root");
        Self {
            address,
            from: None,
            roots: Some(Arc::new(roots)),
            identity: None,
        }
    }

    /// A sender without TLS.
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            from: None,
            roots: None,
            identity: None,
        }
    }

    /// The same from the n-th of many addresses of this machine: loopback is a whole network.
    pub(crate) fn from(&self, n: u32) -> Self {
        let [_, high, middle, low] = (n + 2).to_be_bytes();
        Self {
            from: Some(IpAddr::from([127, high + 1, middle, low])),
            ..self.clone()
        }
    }

    /// The same with a certificate of its own.
    pub(crate) fn showing(&self, certificate: &str, key: &str) -> Self {
        Self {
            identity: Some((certificate.to_owned(), key.to_owned())),
            ..self.clone()
        }
    }

    /// TCP alone.
    pub(crate) async fn tcp(&self) -> Result<TcpStream, String> {
        let connecting = async {
            let socket = TcpSocket::new_v4()?;
            // Else a body waits for the acknowledgement of its head, some 40 ms.
            socket.set_nodelay(true)?;
            if let Some(from) = self.from {
                socket.bind(SocketAddr::new(from, 0))?;
            }
            socket.connect(self.address).await
        };
        match timeout(PATIENCE, connecting).await {
            Ok(connected) => connected.map_err(|error| error.to_string()),
            Err(_) => Err("no connection in time".to_owned()),
        }
    }

    /// A stream that HTTP can be spoken on, with these protocols offered.
    pub(crate) async fn stream(&self, alpn: &[&[u8]]) -> Result<Box<dyn Stream>, String> {
        self.over(self.tcp().await?, alpn).await
    }

    /// The same over a connection that is there already.
    pub(crate) async fn over(
        &self,
        tcp: TcpStream,
        alpn: &[&[u8]],
    ) -> Result<Box<dyn Stream>, String> {
        let Some(roots) = &self.roots else {
            return Ok(Box::new(tcp));
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(Arc::clone(roots));
        let mut config = match &self.identity {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
                let chain = vec![certificate.expect("certificate")];
                config
                    .with_client_auth_cert(chain, key.expect("key"))
                    .expect("a certificate with its key")
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from("localhost").expect("name");
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        match timeout(PATIENCE, connecting).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no TLS in time".to_owned()),
        }
    }

    /// A connection for many requests.
    pub(crate) async fn connect(&self, version: Version) -> Result<Client, String> {
        let text = |error: hyper::Error| error.to_string();
        match version {
            Version::Http1 => {
                let io = TokioIo::new(self.stream(&[b"http/1.1"]).await?);
                let (client, connection) = http1::handshake(io).await.map_err(text)?;
                // Ends with the client, or when the server closes.
                tokio::spawn(async move { drop(connection.await) });
                Ok(Client::Http1(client))
            }
            Version::Http2 => {
                let io = TokioIo::new(self.stream(&[b"h2"]).await?);
                let (client, connection) = http2::handshake(TokioExecutor::new(), io)
                    .await
                    .map_err(text)?;
                tokio::spawn(async move { drop(connection.await) });
                Ok(Client::Http2(client))
            }
        }
    }

    /// One webhook over a connection of its own, HTTP/1.1.
    pub(crate) async fn send(&self, webhook: &Webhook) -> Answer {
        let mut client = self.connect(Version::Http1).await.expect("connection");
        client.send(webhook).await.expect("answer")
    }

    /// Raw bytes over HTTP/1.1's transport; gives the stream to go on with.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Box<dyn Stream> {
        let mut stream = self.stream(&[b"http/1.1"]).await.expect("connection");
        stream.write_all(bytes).await.expect("write");
        stream.flush().await.expect("flush");
        stream
    }
}

impl Client {
    /// One webhook. An error is a connection that ended before the answer.
    pub(crate) async fn send(&mut self, webhook: &Webhook) -> Result<Answer, String> {
        match timeout(PATIENCE, self.exchange(webhook)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {PATIENCE:?}")),
        }
    }

    /// Whether the server has ended the connection.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Http1(client) => client.is_closed(),
            Self::Http2(client) => client.is_closed(),
        }
    }

    async fn exchange(&mut self, webhook: &Webhook) -> Result<Answer, String> {
        let text = |error: hyper::Error| error.to_string();
        let body = Full::new(Bytes::from(webhook.body.clone()));
        let mut request = Request::builder().method(webhook.method.as_str());
        for (name, value) in &webhook.headers {
            request = request.header(name, value);
        }
        let answer = match self {
            Self::Http1(client) => {
                client.ready().await.map_err(text)?;
                let request = request.uri(&webhook.path).header("Host", "localhost");
                client
                    .send_request(request.body(body).expect("request"))
                    .await
                    .map_err(text)?
            }
            Self::Http2(client) => {
                client.ready().await.map_err(text)?;
                let request = request.uri(format!("https://localhost{}", webhook.path));
                client
                    .send_request(request.body(body).expect("request"))
                    .await
                    .map_err(text)?
            }
        };
        Answer::read(answer).await
    }
}

impl Answer {
    async fn read(answer: Response<Incoming>) -> Result<Self, String> {
        let (head, mut body) = answer.into_parts();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| error.to_string())?;
            if let Ok(data) = frame.into_data() {
                assert!(
                    bytes.len() + data.len() <= ANSWER_BYTES_MAX,
                    "the answer never ends"
                );
                bytes.extend_from_slice(&data);
            }
        }
        Ok(Self {
            status: head.status.as_u16(),
            headers: head.headers,
            body: bytes.to_vec(),
        })
    }

    /// One HTTP/1.1 answer from a raw stream; `None` if the stream ended before one.
    pub(crate) async fn from_raw(stream: &mut Box<dyn Stream>) -> Option<Self> {
        match timeout(PATIENCE, Self::parse(stream)).await {
            Ok(answer) => answer,
            Err(elapsed) => panic!("neither an answer nor the end: {elapsed}"),
        }
    }

    async fn parse(stream: &mut Box<dyn Stream>) -> Option<Self> {
        let mut bytes = Vec::new();
        loop {
            let mut chunk = [0; 4096];
            let n = stream.read(&mut chunk).await.unwrap_or(0);
            bytes.extend_from_slice(&chunk[..n]);
            let mut space = [httparse::EMPTY_HEADER; 64];
            let mut head = httparse::Response::new(&mut space);
            if let Ok(httparse::Status::Complete(length)) = head.parse(&bytes) {
                let mut headers = HeaderMap::new();
                for header in head.headers.iter() {
                    let name = http::HeaderName::try_from(header.name).expect("name");
                    headers.append(
                        name,
                        http::HeaderValue::from_bytes(header.value).expect("value"),
                    );
                }
                let status = head.code.expect("status");
                let announced = headers.get("content-length").map_or(0, |value| {
                    value
                        .to_str()
                        .expect("text")
                        .parse::<usize>()
                        .expect("number")
                });
                let mut body = bytes.split_off(length);
                while body.len() < announced {
                    let n = stream.read(&mut chunk).await.unwrap_or(0);
                    if n == 0 {
                        break;
                    }
                    body.extend_from_slice(&chunk[..n]);
                }
                return Some(Self {
                    status,
                    headers,
                    body,
                });
            }
            if n == 0 {
                return None;
            }
        }
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        match serde_json::from_slice(&self.body) {
            Ok(json) => json,
            Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&self.body)),
        }
    }
}

/// Waits until the other side ends a connection; gives how long that took and what it said.
pub(crate) async fn until_closed(stream: &mut Box<dyn Stream>) -> (Duration, Vec<u8>) {
    let start = Instant::now();
    let mut said = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match timeout(PATIENCE, stream.read(&mut chunk)).await {
            // A reset is an end, too.
            Ok(Ok(0) | Err(_)) => return (start.elapsed(), said),
            Ok(Ok(n)) => said.extend_from_slice(&chunk[..n]),
            Err(elapsed) => panic!("still open after {PATIENCE:?}: {elapsed}"),
        }
    }
}
