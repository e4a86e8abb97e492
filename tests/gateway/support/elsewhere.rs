//! Servers that the gateway calls: TLS on loopback, certified by an authority of our own.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// Vouches for names.
pub(crate) struct Authority {
    /// Its certificate in PEM.
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("authority").pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    pub(crate) fn certify(&self, names: &[&str], key: &KeyPair) -> Certificate {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let params = CertificateParams::new(names).expect("parameters");
        params.signed_by(key, &self.issuer).expect("certificate")
    }
}

/// Answers requests until it is dropped.
pub(crate) struct Elsewhere {
    pub(crate) address: SocketAddr,
    server: JoinHandle<()>,
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Elsewhere {
    /// Serves these names. `answer` gives the whole answer to a request line and a body.
    pub(crate) async fn start(
        authority: &Authority,
        names: &[&str],
        answer: impl Fn(&str, &str) -> String + Send + Sync + 'static,
    ) -> Self {
        let key = KeyPair::generate().expect("key");
        let certificate = authority.certify(names, &key);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("key");
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("certificate");
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address");
        let answer = Arc::new(answer);
        let server = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
                open.spawn(async move {
                    serve(acceptor, stream, &*answer).await;
                });
            }
        });
        Self { address, server }
    }
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, answer: &impl Fn(&str, &str) -> String) {
    let Ok(mut stream) = acceptor.accept(stream).await else {
        return;
    };
    let mut bytes = Vec::new();
    let (line, body) = loop {
        let mut more = [0; 4_096];
        match stream.read(&mut more).await {
            Ok(read @ 1..) => bytes.extend_from_slice(&more[..read]),
            _ => return,
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let announced = head.to_ascii_lowercase();
        let announced = announced.split("content-length: ").nth(1);
        let announced = announced.and_then(|rest| rest.lines().next()?.parse::<usize>().ok());
        if body.len() >= announced.unwrap_or_default() {
            let line = head.lines().next().unwrap_or_default();
            break (line.to_owned(), body.to_owned());
        }
    };
    drop(stream.write_all(answer(&line, &body).as_bytes()).await);
    drop(stream.shutdown().await);
}

/// An answer with a body.
pub(crate) fn answer(status: &str, body: &str) -> String {
    let bytes = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {bytes}\r\n\r\n{body}")
}
