//! New connections: each is made, brings one webhook and its answer, and is gone.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsConnector;

use crate::figures::Figures;
use crate::line::Line;
use crate::load::{Load, next_load};
use crate::plan::{Plan, SENDERS};
use crate::process::cpu_seconds;
use crate::support::sender::Sender;

/// Tickets that one sender keeps.
const TICKETS: usize = 8;

/// What one connection needs.
#[derive(Clone)]
struct Way {
    to: Sender,
    connector: TlsConnector,
    expected: HandshakeKind,
}

/// Connects as fast as connections come, each sender from an address of its own, with full
/// handshakes or with resumed ones. An event is a connection.
pub(crate) async fn connections(
    load: &Load<'_>,
    authority: &Path,
    resumed: bool,
    plan: &Plan,
) -> Result<Figures> {
    let begin = Instant::now() + plan.warm_up;
    let end = begin + plan.duration;
    let run = next_load();
    let mut tasks = Vec::new();
    for number in 0..SENDERS {
        let way = Way::new(load.to.from(u32::try_from(number)?), authority, resumed)?;
        let requests = Arc::clone(load.requests);
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            let mut is_first = true;
            for (n, request) in requests.round(number, SENDERS).enumerate() {
                let start = Instant::now();
                if start >= end {
                    break;
                }
                let mut line = way.connect(is_first).await?;
                is_first = false;
                let id = format!("{run:08x}-{number:04x}-4000-8000-{n:012x}");
                line.exchange(request, &id).await?;
                if (begin..end).contains(&Instant::now()) {
                    latencies.push(start.elapsed());
                }
            }
            anyhow::Ok(latencies)
        }));
    }
    sleep_until(begin).await;
    let cpu_before = cpu_seconds(load.pid)?;
    sleep_until(end).await;
    let cpu_after = cpu_seconds(load.pid)?;
    let mut all = Vec::new();
    for task in tasks {
        all.append(&mut task.await??);
    }
    let mut figures = Figures::of_load(all, plan.duration);
    figures.cpu_seconds = Some(cpu_after - cpu_before);
    Ok(figures)
}

impl Way {
    fn new(to: Sender, authority: &Path, resumed: bool) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority)?)?;
        // One key exchange that all servers know: the gateway would prefer a dearer one against
        // quantum computers, where the client offers it.
        let provider = CryptoProvider {
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (resumption, expected) = if resumed {
            (
                Resumption::in_memory_sessions(TICKETS),
                HandshakeKind::Resumed,
            )
        } else {
            (Resumption::disabled(), HandshakeKind::Full)
        };
        config.resumption = resumption;
        Ok(Self {
            to,
            connector: TlsConnector::from(Arc::new(config)),
            expected,
        })
    }

    /// The first connection brings the first ticket; what comes later is as it was asked for.
    async fn connect(&self, is_first: bool) -> Result<Line> {
        let tcp = self.to.tcp().await.map_err(|error| anyhow!(error))?;
        let name = ServerName::try_from("localhost")?;
        let stream = self.connector.connect(name, tcp).await?;
        let kind = stream.get_ref().1.handshake_kind();
        ensure!(
            is_first || kind == Some(self.expected),
            "a handshake was {kind:?}, not {:?}",
            self.expected
        );
        Ok(Line::over(Box::new(stream)))
    }
}
