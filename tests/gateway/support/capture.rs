//! An HTTPS server that takes everything and keeps it: what `hookgate send` sent, byte for byte.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::eventually::PATIENCE;
use super::webhook::Webhook;

/// Most requests that nobody has looked at.
const KEPT_MAX: usize = 64;

/// Longest body that is kept.
const BODY_BYTES_MAX: usize = 1 << 20;

/// The server; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Capture {
    address: SocketAddr,
    received: mpsc::Receiver<Webhook>,
    server: AbortHandle,
}

impl Capture {
    /// Listens on a port of its own, with `cert.pem` and `key.pem` of this folder.
    pub(crate) async fn start(folder: &Path) -> Self {
        let certificate = CertificateDer::from_pem_file(folder.join("cert.pem")).expect("cert");
        let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).expect("key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("identity");
        let tls = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("address");
        let (keep, received) = mpsc::channel(KEPT_MAX);
        let server = tokio::spawn(async move {
            // One sender at a time.
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(stream) = tls.accept(tcp).await else {
                    continue;
                };
                let service = service_fn(|request| take(request, keep.clone()));
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                // How it ends is the sender's business.
                drop(connection.await);
            }
        });
        Self {
            address,
            received,
            server: server.abort_handle(),
        }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("https://{}/", self.address)
    }

    /// The next request, without what belongs to its connection.
    pub(crate) async fn next(&mut self) -> Webhook {
        match timeout(PATIENCE, self.received.recv()).await {
            Ok(webhook) => webhook.expect("the server runs"),
            Err(elapsed) => panic!("nothing was sent: {elapsed}"),
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(
    request: Request<Incoming>,
    keep: mpsc::Sender<Webhook>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, mut body) = request.into_parts();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.expect("body").into_data() {
            assert!(bytes.len() + data.len() <= BODY_BYTES_MAX, "it never ends");
            bytes.extend_from_slice(&data);
        }
    }
    let text = |value: &http::HeaderValue| value.to_str().expect("text").to_owned();
    let of_the_connection = [http::header::HOST, http::header::CONTENT_LENGTH];
    let headers = head.headers.iter();
    let headers = headers.filter(|(name, _)| !of_the_connection.contains(name));
    let webhook = Webhook {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: headers
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        body: bytes,
    };
    keep.send(webhook).await.expect("the test listens");
    Ok(Response::new(Full::default()))
}
