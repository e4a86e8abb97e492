//! What is written by hand, under the gateway's load.

use anyhow::Result;
use lapin::types::AMQPValue;

use crate::bare;
use crate::figures::Figures;
use crate::load::Load;
use crate::order;
use crate::peer::{Language, Peer, Target};
use crate::phases::{Bench, refuses};
use crate::support::gateway::Setup;
use crate::support::sender::{Sender, Version};

/// The peers' queue, of the same kind as the gateway's.
const QUEUE: &str = "hookgate-bench-peers";
/// The file with what the bodies must look like.
const SCHEMA: &str = "order.json";

impl Bench {
    /// A peer, which answers when the broker has confirmed.
    pub(crate) async fn peer(&self, language: Language) -> Result<Figures> {
        let kind = AMQPValue::LongString("quorum".into());
        let arguments = [("x-queue-type", kind)];
        self.broker
            .declare(QUEUE, &arguments, bare::EXCHANGE, QUEUE)
            .await;
        let target = Target {
            broker: &self.broker,
            exchange: bare::EXCHANGE,
            queue: QUEUE,
        };
        let files = Setup::new()
            .file(SCHEMA, order::SCHEMA.as_bytes())
            .prepare();
        let directory = files.directory();
        let peer = Peer::start(language, directory, &directory.join(SCHEMA), target).await?;
        let load = Load {
            to: &Sender::tls(peer.address(), &directory.join("ca.pem")),
            pid: peer.pid(),
            requests: &self.orders,
            version: Version::Http1,
            per_second: None,
        };
        refuses(load.to, &self.orders).await?;
        let loaded = load.run(&self.plan).await?;
        self.arrived(QUEUE, loaded.answered).await?;
        Ok(loaded.figures)
    }
}
