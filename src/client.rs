//! A small HTTP client for our own commands: `send`, `tail` and `demo` talk to a gateway with it.
//!
//! One connection, HTTP/1.1, kept alive. The gateway itself never calls anybody with this.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// From connecting to the last byte of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Whom to believe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The machine's certificate authorities.
    System,
    /// Anybody: for a self-signed certificate of our own.
    Anyone,
}

/// Who we are, for a gateway that asks for a certificate.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Of PEM: our certificate and those between it and an authority, and its key.
    ///
    /// # Errors
    ///
    /// Which of the two is not that, in words.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|error| format!("the certificate is not PEM: {error}"))?;
        if chain.is_empty() {
            return Err("there is no certificate in PEM".to_owned());
        }
        // What the parser says could repeat a part of the key.
        let key = PrivateKeyDer::from_pem_slice(key);
        let key = key.map_err(|_error| "there is no private key in PEM".to_owned())?;
        Ok(Self { chain, key })
    }
}

/// An open connection to a gateway.
#[derive(Debug)]
pub struct Client {
    host: String,
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Why there was no answer: what was tried, and what happened.
#[derive(Debug, thiserror::Error)]
#[error("{attempt}: {cause}")]
pub struct ClientError {
    attempt: String,
    cause: String,
}

impl ClientError {
    fn new(attempt: impl Into<String>, cause: impl fmt::Display) -> Self {
        Self {
            attempt: attempt.into(),
            cause: cause.to_string(),
        }
    }
}

impl Client {
    /// Connects to the scheme, host and port of `url`.
    ///
    /// # Errors
    ///
    /// A URL that is not `http` or `https`; nobody there; a certificate that is not trusted.
    pub async fn connect(url: &Uri, trust: Trust) -> Result<Self, ClientError> {
        Self::connect_as(url, None, trust, None).await
    }

    /// The same, but asks whoever is there for `asked`, by TLS (SNI) and in `Host`, instead of for
    /// the host of the URL, and with a certificate of our own.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`]; a name that is none, and a key that is not that of the certificate.
    pub async fn connect_as(
        url: &Uri,
        asked: Option<&str>,
        trust: Trust,
        identity: Option<&Identity>,
    ) -> Result<Self, ClientError> {
        let attempt = format!("connecting to {url}");
        let fail = |cause: String| ClientError::new(attempt.clone(), cause);
        let host = url
            .host()
            .ok_or_else(|| fail("the URL has no host".to_owned()))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let tls = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => {
                return Err(fail(
                    "the URL must begin with http:// or https://".to_owned(),
                ));
            }
        };
        let port = url.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let stream = timeout(ANSWER_TIMEOUT, TcpStream::connect((bare, port)))
            .await
            .map_err(|elapsed| fail(elapsed.to_string()))?
            .map_err(|error| fail(error.to_string()))?;
        stream
            .set_nodelay(true)
            .map_err(|error| fail(error.to_string()))?;
        let authority = url.authority().map_or(host, |authority| authority.as_str());
        let host = asked.unwrap_or(authority).to_owned();
        if !tls {
            return Self::open(host, TokioIo::new(stream)).await;
        }
        let name = ServerName::try_from(asked.unwrap_or(bare).to_owned())
            .map_err(|error| fail(error.to_string()))?;
        let config = client_config(trust, identity).map_err(|error| fail(error.to_string()))?;
        let stream = timeout(
            ANSWER_TIMEOUT,
            TlsConnector::from(Arc::new(config)).connect(name, stream),
        )
        .await
        .map_err(|elapsed| fail(elapsed.to_string()))?
        .map_err(|error| fail(error.to_string()))?;
        Self::open(host, TokioIo::new(stream)).await
    }

    async fn open<I>(host: String, io: I) -> Result<Self, ClientError>
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(io)
            .await
            .map_err(|error| ClientError::new(format!("opening HTTP/1.1 to {host}"), error))?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        Ok(Self {
            host,
            sender,
            driver,
        })
    }

    /// Sends one request and gives its answer while the body is still coming.
    ///
    /// # Errors
    ///
    /// The connection ended.
    pub async fn start(
        &mut self,
        method: Method,
        path_and_query: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let fail = |cause: String| {
            ClientError::new(format!("{method} {path_and_query} at {}", self.host), cause)
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        *request.uri_mut() = path_and_query
            .parse()
            .map_err(|error: http::uri::InvalidUri| fail(error.to_string()))?;
        *request.headers_mut() = headers;
        let host = self
            .host
            .parse()
            .map_err(|_invalid| fail("the host has odd bytes".to_owned()))?;
        request.headers_mut().insert(http::header::HOST, host);
        self.sender
            .ready()
            .await
            .map_err(|error| fail(error.to_string()))?;
        self.sender
            .send_request(request)
            .await
            .map_err(|error| fail(error.to_string()))
    }

    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    ///
    /// The connection ended, or the answer took too long or was too long.
    pub async fn send(
        &mut self,
        method: Method,
        path_and_query: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let attempt = format!("{method} {path_and_query} at {}", self.host);
        let answer = async {
            let response = self.start(method, path_and_query, headers, body).await?;
            let (head, mut incoming) = response.into_parts();
            let mut body = BytesMut::new();
            while let Some(frame) = incoming.frame().await {
                let frame = frame.map_err(|error| ClientError::new(attempt.clone(), error))?;
                if let Ok(data) = frame.into_data() {
                    if body.len() + data.len() > ANSWER_BYTES_MAX {
                        return Err(ClientError::new(attempt.clone(), "the answer is too long"));
                    }
                    body.extend_from_slice(&data);
                }
            }
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body: body.freeze(),
            })
        };
        match timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => answer,
            Err(elapsed) => Err(ClientError::new(attempt.clone(), elapsed)),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn client_config(trust: Trust, identity: Option<&Identity>) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match trust {
        Trust::System => {
            use rustls_platform_verifier::BuilderVerifierExt as _;
            builder.with_platform_verifier()?
        }
        Trust::Anyone => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider))),
    };
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(Identity { chain, key }) => {
            builder.with_client_auth_cert(chain.clone(), key.clone_key())
        }
    }
}

/// Takes any certificate, but still makes sure that the peer holds its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
