//! Three RabbitMQ nodes that form a cluster, each with an address of its own, and a network
//! between them that can be cut. Only inside of [`super::namespace::run`].

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use super::broker::{Broker, Place};
use super::eventually::eventually;
use super::namespace::tool;

/// Nodes; with [`MAJORITY`] of them a quorum queue goes on.
const NODES: u8 = 3;
pub(crate) const MAJORITY: usize = 2;

/// The registered ports: nobody else is in this network.
const AMQP_PORT: u16 = 5672;
const MAPPER_PORT: u16 = 4369;

/// A node that comes later asks the first one this often, every 200 ms, to let it in.
const JOIN_ATTEMPTS: u32 = 200;

/// The running nodes. They end when it is dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    nodes: Vec<Broker>,
    mapper: Child,
}

/// Who hears nothing of whom.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Partition {
    /// Each node is alone; clients reach all of them.
    Nodes,
    /// Clients reach none of them.
    Clients,
}

impl Cluster {
    /// Starts the nodes and waits until they are one cluster.
    pub(crate) async fn start() -> Self {
        // All names are on one port, on every address, so no node can bring its own.
        let mapper = Command::new("epmd")
            .args(["-port", &MAPPER_PORT.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("epmd");
        let nodes = (1..=NODES).map(node).collect();
        let cluster = Self { nodes, mapper };
        // One that joins while the first is still making its tables ends with an error.
        cluster.node(0).start_again().await;
        for node in &cluster.nodes[1..] {
            node.launch();
        }
        for node in &cluster.nodes {
            node.until_up().await;
        }
        tool("nft", &["add", "table", "inet", "hookgate"]);
        let hook = "{ type filter hook input priority 0; }";
        tool("nft", &["add", "chain", "inet", "hookgate", "cut", hook]);
        cluster
    }

    /// Where AMQP is spoken.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Broker::address).collect()
    }

    /// One node.
    pub(crate) fn node(&self, index: usize) -> &Broker {
        &self.nodes[index]
    }

    /// The node that leads a quorum queue.
    pub(crate) async fn leader_of(&self, queue: &str) -> usize {
        eventually("the queue to have a leader", || async {
            let leader = self.member_info(queue, "leader").await?;
            let named = |node: &Broker| node.full_name() == leader;
            let index = self.nodes.iter().position(named);
            index.ok_or_else(|| format!("the leader is {leader:?}"))
        })
        .await
    }

    /// Waits until every node is up and has its member of a quorum queue.
    pub(crate) async fn until_whole(&self, queue: &str) {
        for node in &self.nodes {
            node.until_up().await;
        }
        eventually("all members of the queue", || async {
            let online = self.member_info(queue, "online").await?;
            let there = |node: &&Broker| online.contains(&node.full_name());
            if self.nodes.iter().filter(there).count() == self.nodes.len() {
                Ok(())
            } else {
                Err(format!("{online} are online"))
            }
        })
        .await;
    }

    /// One column of `rabbitmqctl list_queues`, as any running node knows it.
    async fn member_info(&self, queue: &str, column: &str) -> Result<String, String> {
        let node = self.nodes.iter().find(|node| node.is_running());
        let node = node.expect("a node runs");
        let arguments = ["list_queues", "--no-table-headers", "name", column];
        let table = node.ask(&arguments).await?;
        let mut rows = table.lines().filter_map(|row| row.split_once('\t'));
        let row = rows.find(|(name, _)| *name == queue);
        let (_, value) = row.ok_or_else(|| format!("no {queue} in:\n{table}"))?;
        Ok(value.to_owned())
    }

    /// Cuts the network: what is sent is dropped, and nobody is told.
    pub(crate) fn cut(&self, partition: Partition) {
        let hosts: Vec<_> = (1..=NODES).map(|n| host(n).to_string()).collect();
        let us = Ipv4Addr::LOCALHOST.to_string();
        for to in &hosts {
            match partition {
                Partition::Nodes => {
                    for from in hosts.iter().filter(|from| *from != to) {
                        drop_all(from, to);
                    }
                }
                Partition::Clients => {
                    drop_all(&us, to);
                    drop_all(to, &us);
                }
            }
        }
    }

    /// Mends the network.
    pub(crate) fn heal(&self) {
        tool("nft", &["flush", "chain", "inet", "hookgate", "cut"]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.clear();
        // It may be gone already.
        drop(self.mapper.kill());
        self.mapper.wait().expect("wait");
    }
}

fn host(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, n)
}

fn drop_all(from: &str, to: &str) {
    let rule = ["ip", "saddr", from, "ip", "daddr", to, "drop"];
    let mut arguments = vec!["add", "rule", "inet", "hookgate", "cut"];
    arguments.extend(rule);
    tool("nft", &arguments);
}

/// The first node begins a cluster; the others ask it to let them in.
fn node(n: u8) -> Broker {
    let place = |n| Place {
        name: format!("node{n}"),
        host: host(n),
        amqp_port: AMQP_PORT,
        // The server tries them on all addresses before it takes its own.
        cluster_port: 25_670 + u16::from(n),
        mapper_port: MAPPER_PORT,
        own_mapper: false,
    };
    let (first, this) = (place(1), place(n));
    if n == 1 {
        return Broker::prepare(this, "");
    }
    let lines = format!(
        "cluster_formation.peer_discovery_backend = classic_config\n\
         cluster_formation.classic_config.nodes.1 = {}\n\
         cluster_formation.classic_config.nodes.2 = {}\n\
         cluster_formation.discovery_retry_limit = {JOIN_ATTEMPTS}\n\
         cluster_formation.discovery_retry_interval = 200\n",
        first.full_name(),
        this.full_name(),
    );
    Broker::prepare(this, &lines)
}
