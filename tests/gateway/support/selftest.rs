//! The harness itself: what these tests are measured with must work without the product.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::broker;
use super::eventually::eventually;
use super::gateway::{Metrics, Setup};
use super::proxy::{Cut, Mode, Proxy};
use super::sender::{Answer, Sender, Version};
use super::webhook::{Webhook, hex, hmac_sha256};

#[test]
fn hmac_is_as_rfc_4231_has_it() {
    let proof = hmac_sha256(&[0x0b; 20], b"Hi There");
    assert_eq!(
        hex(&proof),
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    );
    let long_key = hmac_sha256(
        &[0xaa; 131],
        b"Test Using Larger Than Block-Size Key - Hash Key First",
    );
    assert_eq!(
        hex(&long_key),
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
    );
}

#[test]
fn metrics_are_read() {
    let metrics = Metrics::parse(
        "# HELP a b\na_total{source=\"x\",reason=\"r\"} 2\na_total{source=\"y\"} 3\nb 0.5\n",
    );
    assert_eq!(metrics.sum("a_total", &[]), 5.0);
    assert_eq!(metrics.sum("a_total", &[("source", "x")]), 2.0);
    assert_eq!(metrics.sum("b", &[]), 0.5);
    assert_eq!(metrics.values("a_total", "source"), ["x", "y"]);
}

/// Says what it was told.
async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = format!(
        "{:?} {} {}",
        request.version(),
        request.method(),
        request.uri().path()
    );
    Ok(Response::new(Full::new(Bytes::from(text))))
}

#[tokio::test]
async fn the_sender_speaks_both_versions_over_tls() {
    let gateway = Setup::new().prepare();
    let pem = |name: &str| gateway.directory().join(name);
    let certificate = CertificateDer::from_pem_file(pem("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(pem("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let stream = acceptor.accept(tcp).await.unwrap();
            let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let io = TokioIo::new(stream);
            tokio::spawn(async move {
                let service = service_fn(echo);
                if two {
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    drop(builder.serve_connection(io, service).await);
                } else {
                    let builder = hyper::server::conn::http1::Builder::new();
                    drop(builder.serve_connection(io, service).await);
                }
            });
        }
    });
    let sender = Sender::tls(address, &pem("ca.pem"));
    let webhook = Webhook::bare("/there", b"{}");
    for (version, expected) in [
        (Version::Http1, "HTTP/1.1 POST /there"),
        (Version::Http2, "HTTP/2.0 POST /there"),
    ] {
        let mut client = sender.connect(version).await.unwrap();
        for _ in 0..2 {
            let answer = client.send(&webhook).await.unwrap();
            assert_eq!(
                (answer.status, answer.body.as_slice()),
                (200, expected.as_bytes())
            );
        }
    }
    let mut raw = sender.raw(&webhook.http1()).await;
    let answer = Answer::from_raw(&mut raw).await.unwrap();
    assert_eq!(answer.body, b"HTTP/1.1 POST /there");
    server.abort();
}

#[tokio::test]
async fn the_proxy_fails_as_ordered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                drop(tokio::io::copy(&mut read, &mut write).await);
            });
        }
    });
    let proxy = Proxy::start(upstream).await;
    let open = async || TcpStream::connect(proxy.address()).await.unwrap();
    let mut byte = [0];

    let mut stream = open().await;
    stream.write_all(b"a").await.unwrap();
    stream.read_exact(&mut byte).await.unwrap();
    assert_eq!(byte, *b"a");

    proxy.set(Mode::Stall);
    stream.write_all(b"b").await.unwrap();
    let mut late = open().await;
    late.write_all(b"c").await.unwrap();
    eventually("both connections", || async {
        if proxy.accepted() == 2 {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
    proxy.set(Mode::Forward);
    stream.read_exact(&mut byte).await.unwrap();
    assert_eq!(byte, *b"b");
    late.read_exact(&mut byte).await.unwrap();
    assert_eq!(byte, *b"c");

    proxy.cut(Cut::Reset);
    let error = stream.read(&mut byte).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    let mut stream = open().await;
    stream.write_all(b"d").await.unwrap();
    stream.read_exact(&mut byte).await.unwrap();
    proxy.cut(Cut::HalfClose);
    assert_eq!(stream.read(&mut byte).await.unwrap(), 0);
    stream.write_all(b"e").await.unwrap();

    let mut stream = open().await;
    stream.write_all(b"f").await.unwrap();
    stream.read_exact(&mut byte).await.unwrap();
    proxy.cut(Cut::Close);
    assert_eq!(stream.read(&mut byte).await.unwrap(), 0);

    // Two bytes go up and one comes back; the second is torn off.
    let mut stream = open().await;
    stream.write_all(b"f").await.unwrap();
    stream.read_exact(&mut byte).await.unwrap();
    proxy.cut_after(3, Cut::Close);
    stream.write_all(b"gh").await.unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).await.unwrap_or_default();
    assert_eq!(back, b"g");

    let mut stream = open().await;
    stream.write_all(b"i").await.unwrap();
    stream.read_exact(&mut byte).await.unwrap();
    proxy.cut(Cut::Stall);
    let mut other = open().await;
    other.write_all(b"j").await.unwrap();
    other.read_exact(&mut byte).await.unwrap();
    assert_eq!(byte, *b"j");

    proxy.set(Mode::Refuse);
    let mut refused = open().await;
    assert_eq!(refused.read(&mut byte).await.unwrap_or(0), 0);
    server.abort();
}

#[tokio::test]
async fn the_breakable_broker_stops_blocks_and_comes_back_with_its_messages() {
    let broker = broker::breakable().await;
    broker
        .declare("selftest", &[], "amq.topic", "selftest")
        .await;
    broker.put("selftest", b"\"kept\"").await;
    broker.settle("selftest").await;
    broker.kill9().await;
    assert!(broker.connect().await.is_err());
    broker.start_again().await;
    assert_eq!(broker.depth("selftest").await, Ok(1));
    let consumer = broker.consume("selftest").await;
    let messages = consumer.wait_for(1).await;
    assert_eq!(messages[0].json(), "kept");
    assert_eq!(messages[0].routing_key, "selftest");
    assert_eq!(messages[0].exchange, "");

    broker.block().await;
    broker.unblock().await;
    broker.put("selftest", b"\"again\"").await;
    assert_eq!(consumer.wait_for(2).await[1].json(), "again");

    drop(consumer);
    broker.put("selftest", b"\"gone\"").await;
    broker.purge("selftest").await;
    broker.stop().await;
    broker.start_again().await;
    assert_eq!(broker.depth("selftest").await, Ok(0));
}

#[tokio::test]
async fn a_stream_is_read_from_its_beginning() {
    let broker = broker::shared().await;
    let kind = lapin::types::AMQPValue::LongString("stream".into());
    broker
        .declare(
            "selftest-stream",
            &[("x-queue-type", kind)],
            "amq.topic",
            "stream",
        )
        .await;
    for body in [b"1", b"2"] {
        broker.put("selftest-stream", body).await;
    }
    let messages = broker
        .consume_stream("selftest-stream")
        .await
        .wait_for(2)
        .await;
    assert_eq!(
        (messages[0].json(), messages[1].json()),
        (1.into(), 2.into())
    );
}
