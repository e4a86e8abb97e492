//! The edge alone: what is verified, validated and stored, and published by nobody; beside nginx.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::figures::Figures;
use crate::handshakes::connections;
use crate::load::Load;
use crate::nginx::Nginx;
use crate::phases::{Bench, JOURNAL, counted, pid, refuses};
use crate::plan::MANY_EVENTS;
use crate::requests::Requests;
use crate::support::gateway::{Gateway, Setup};
use crate::support::sender::{Sender, Version};

/// A file system in memory that every Linux has.
const MEMORY: &str = "/dev/shm";
/// How long a gateway is loaded at once while it is filled.
const FILL_FOR: Duration = Duration::from_secs(5);

impl Bench {
    /// nginx, with the certificate that the gateways have.
    pub(crate) async fn nginx(
        &self,
        requests: &Arc<Requests>,
        version: Version,
    ) -> Result<Figures> {
        let identity = Setup::new().prepare();
        let nginx = Nginx::start(identity.directory()).await?;
        let load = Load {
            to: &Sender::tls(nginx.address(), &authority(&identity)),
            pid: nginx.pid(),
            requests,
            version,
            per_second: None,
        };
        Ok(load.run(&self.plan).await?.figures)
    }

    /// nginx, a connection for each request.
    pub(crate) async fn nginx_connections(&self, resumed: bool) -> Result<Figures> {
        let identity = Setup::new().prepare();
        let nginx = Nginx::start(identity.directory()).await?;
        let load = Load {
            to: &Sender::tls(nginx.address(), &authority(&identity)),
            pid: nginx.pid(),
            requests: &self.orders,
            version: Version::Http1,
            per_second: None,
        };
        connections(&load, &authority(&identity), resumed, &self.plan).await
    }

    /// The gateway, without a broker.
    pub(crate) async fn edge(
        &self,
        requests: &Arc<Requests>,
        version: Version,
        per_second: Option<f64>,
    ) -> Result<Figures> {
        let gateway = requests.setup("journal").journal(JOURNAL).start().await;
        refuses(&gateway.sender(), requests).await?;
        let load = Load {
            to: &gateway.sender(),
            pid: pid(&gateway),
            requests,
            version,
            per_second,
        };
        let loaded = load.run(&self.plan).await?;
        Ok(counted(&gateway, loaded, 0).await?.figures)
    }

    /// The gateway, whose syncs cost nothing.
    pub(crate) async fn journal_in_memory(&self) -> Result<Figures> {
        let memory = tempfile::Builder::new()
            .prefix("hookgate-bench-")
            .tempdir_in(MEMORY)
            .context(MEMORY)?;
        let mut gateway = self.orders.setup("journal").journal(JOURNAL).prepare();
        let path = memory.path().join("journal");
        gateway.edit(|text| {
            text.replacen(
                "path = \"journal\"",
                &format!("path = \"{}\"", path.display()),
                1,
            )
        });
        gateway.start().await;
        let loaded = self.load_more(&gateway, &self.orders, 0).await?;
        Ok(loaded.figures)
    }

    /// The gateway, a connection for each webhook.
    pub(crate) async fn edge_connections(&self, resumed: bool) -> Result<Figures> {
        let gateway = self.orders.setup("journal").journal(JOURNAL).start().await;
        let load = Load {
            to: &gateway.sender(),
            pid: pid(&gateway),
            requests: &self.orders,
            version: Version::Http1,
            per_second: None,
        };
        connections(&load, &authority(&gateway), resumed, &self.plan).await
    }

    /// The gateway with so many sources, each of which gets its share.
    pub(crate) async fn sources(&self, count: usize) -> Result<Figures> {
        let requests = Arc::new(Requests::orders(count)?);
        let gateway = requests.setup("journal").journal(JOURNAL).start().await;
        let loaded = self.load_more(&gateway, &requests, 0).await?;
        Ok(loaded.figures)
    }

    /// Gives a gateway a million events; says how many it has then.
    pub(crate) async fn fill(&self, gateway: &Gateway) -> Result<usize> {
        let plan = self.plan.unmeasured(FILL_FOR);
        let load = Load {
            to: &gateway.sender(),
            pid: pid(gateway),
            requests: &self.orders,
            version: Version::Http1,
            per_second: None,
        };
        let mut there = 0;
        while there < MANY_EVENTS {
            there += load.run(&plan).await?.answered;
        }
        Ok(there)
    }
}

/// The certificate of who has signed a gateway's.
fn authority(gateway: &Gateway) -> PathBuf {
    gateway.directory().join("ca.pem")
}
