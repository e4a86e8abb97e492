//! One call: look the name up, check every address, connect to one that was checked, TLS, one
//! request, one answer under a cap. All before one deadline.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING,
    CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT,
};
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::authorities::Authorities;
use crate::fetch::address::may_be_called;
use crate::pipeline::evidence::{Action, Document, Errand, Target, Unfetched};

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The only status of an answer that counts.
const OK: u16 = 200;

/// How we introduce ourselves.
const AGENT: &str = concat!("hookgate/", env!("CARGO_PKG_VERSION"));

/// What all calls share.
pub(super) struct Calling {
    pub(super) timeout: Duration,
    pub(super) allow_private: Vec<IpNet>,
    pub(super) resolve: BTreeMap<String, SocketAddr>,
    pub(super) authorities: Authorities,
    tls: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Calling {
    pub(super) fn new(config: &crate::config::Fetch) -> Self {
        Self {
            timeout: config.timeout,
            allow_private: config.allow_private.clone(),
            resolve: config.resolve.clone(),
            authorities: config.authorities.clone(),
            tls: OnceLock::new(),
        }
    }

    pub(super) async fn call(&self, errand: &Errand) -> Result<Document, Unfetched> {
        let called = timeout(self.timeout, self.exchange(errand));
        called.await.unwrap_or(Err(Unfetched::TooSlow))
    }

    async fn exchange(&self, errand: &Errand) -> Result<Document, Unfetched> {
        let request = request(errand)?;
        let addresses = self.addresses(&errand.target).await?;
        let stream = self.connect(&addresses).await?;
        let stream = self.encrypt(stream, &errand.target).await?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Unfetched::Broken(error.to_string()))?;
        let mut answer = pin!(async {
            let answer = sender.send_request(request).await;
            let answer = answer.map_err(|error| Unfetched::Broken(error.to_string()))?;
            let (head, body) = answer.into_parts();
            let status = head.status.as_u16();
            if status != OK {
                return Err(Unfetched::Status(status));
            }
            let body = read(&head.headers, body, errand.bytes_max).await?;
            let max_age = max_age(&head.headers);
            Ok(Document { body, max_age })
        });
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            ended = connection => if let Err(error) = ended {
                tracing::debug!(%error, "a connection for fetching ended");
            }
        }
        // The answer may have come whole before the connection ended.
        answer.await
    }

    /// Where the name leads, without what must not be called. What is connected to is exactly
    /// what is checked here: the name is not looked up again.
    async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, Unfetched> {
        let unresolved = || Unfetched::Unresolved(target.host().to_owned());
        let found: Vec<SocketAddr> = match self.resolve.get(target.host()) {
            Some(address) => vec![*address],
            None => lookup_host((target.host(), target.port()))
                .await
                .map_err(|error| {
                    tracing::debug!(host = target.host(), %error, "looking a name up");
                    unresolved()
                })?
                .collect(),
        };
        let first = found.first().ok_or_else(unresolved)?.ip();
        let may = |address: &SocketAddr| may_be_called(address.ip(), &self.allow_private);
        let allowed: Vec<_> = found.into_iter().filter(may).take(ADDRESSES_MAX).collect();
        if allowed.is_empty() {
            return Err(Unfetched::AddressNotAllowed {
                host: target.host().to_owned(),
                address: first,
            });
        }
        Ok(allowed)
    }

    async fn connect(&self, addresses: &[SocketAddr]) -> Result<TcpStream, Unfetched> {
        // One that does not answer leaves time for the next.
        let patience = self.timeout / 2;
        let mut last = Unfetched::TooSlow;
        for address in addresses {
            match timeout(patience, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = Unfetched::Unreachable(format!("{address}: {error}")),
                Err(_elapsed) => last = Unfetched::TooSlow,
            }
        }
        Err(last)
    }

    async fn encrypt(
        &self,
        stream: TcpStream,
        target: &Target,
    ) -> Result<TlsStream<TcpStream>, Unfetched> {
        let name = ServerName::try_from(target.host().to_owned())
            .map_err(|error| Unfetched::Untrusted(error.to_string()))?;
        let tls = self.tls.get_or_init(|| client_config(&self.authorities));
        let tls = tls.clone().map_err(Unfetched::Untrusted)?;
        TlsConnector::from(tls)
            .connect(name, stream)
            .await
            .map_err(|error| Unfetched::Untrusted(error.to_string()))
    }
}

impl fmt::Debug for Calling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calling")
            .field("timeout", &self.timeout)
            .field("allow_private", &self.allow_private)
            .field("resolve", &self.resolve)
            .finish_non_exhaustive()
    }
}

fn client_config(authorities: &Authorities) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        // It is no danger: it is the machine's own verifier.
        .dangerous()
        .with_custom_certificate_verifier(authorities.verifier()?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn request(errand: &Errand) -> Result<Request<Full<Bytes>>, Unfetched> {
    let odd = |what: &str| Unfetched::Broken(format!("{what} cannot be sent"));
    let target = &errand.target;
    let (method, body) = match &errand.action {
        Action::Get | Action::GetNow => (Method::GET, Bytes::new()),
        Action::Post { form, .. } => (Method::POST, form.clone()),
    };
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = target
        .path_and_query()
        .parse()
        .map_err(|_invalid: http::uri::InvalidUri| odd("the path"))?;
    let host = HeaderValue::try_from(target.authority()).map_err(|_invalid| odd("the host"))?;
    let headers = request.headers_mut();
    headers.insert(HOST, host);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if let Action::Post { authorization, .. } = &errand.action {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
    }
    Ok(request)
}

/// Reads the answer's body, if it is not longer than it may be.
async fn read(
    headers: &HeaderMap,
    mut incoming: Incoming,
    bytes_max: usize,
) -> Result<Bytes, Unfetched> {
    let coding = headers.get(CONTENT_ENCODING);
    if coding.is_some_and(|coding| coding != "identity") {
        let what = "it has a content coding, which was not asked for";
        return Err(Unfetched::Broken(what.to_owned()));
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok());
    let announced = announced.and_then(|it| it.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max) {
        return Err(Unfetched::TooLarge(bytes_max));
    }
    let mut body = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| Unfetched::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if body.len() + data.len() > bytes_max {
            return Err(Unfetched::TooLarge(bytes_max));
        }
        body.extend_from_slice(&data);
    }
    Ok(body.freeze())
}

/// `max-age` of `Cache-Control`; zero when it must not be kept (RFC 9111, section 5.2.2).
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).iter();
    let directives = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|directive| directive.trim().to_ascii_lowercase());
    let mut max_age = None;
    for directive in directives {
        if directive == "no-store" || directive == "no-cache" {
            return Some(Duration::ZERO);
        }
        if let Some(seconds) = directive.strip_prefix("max-age=") {
            max_age = seconds.trim_matches('"').parse().ok();
        }
    }
    max_age.map(Duration::from_secs)
}
