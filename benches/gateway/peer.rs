//! What a competent team would write by hand, in Node and in Python: see `benches/peers/`. The same
//! checks, the same broker, and an answer after its confirm.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::broker::Broker;
use crate::support::eventually::{PATIENCE, eventually};
use crate::support::gateway::free_port;
use crate::support::webhook::GITHUB_SECRET;

/// As many as the machine that the targets are meant for has processors.
const WORKERS: usize = 2;

/// What a peer is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    /// fastify, ajv, amqplib, node:cluster.
    Node,
    /// Starlette, uvicorn, fastjsonschema, aio-pika.
    Python,
}

/// Where a peer publishes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    /// The broker.
    pub(crate) broker: &'a Broker,
    /// An exchange that is there.
    pub(crate) exchange: &'a str,
    /// A queue that is bound to it under its own name.
    pub(crate) queue: &'a str,
}

/// A running peer. It ends with this value.
#[derive(Debug)]
pub(crate) struct Peer {
    address: SocketAddr,
    child: Child,
}

impl Language {
    /// The program, and the lock file of what it needs; then what is installed.
    fn files(self) -> (PathBuf, PathBuf, PathBuf) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (name, program, lock) = match self {
            Self::Node => ("node", "peer.mjs", "package-lock.json"),
            Self::Python => ("python", "peer.py", "requirements.txt"),
        };
        let source = root.join("benches/peers").join(name);
        let installed = root.join("target/peers").join(name);
        (source.join(program), source.join(lock), installed)
    }

    fn command(self, program: &Path, installed: &Path) -> Command {
        match self {
            Self::Node => {
                let mut command = Command::new("node");
                // Through the link there: packages are looked for beside it.
                command
                    .arg("--preserve-symlinks-main")
                    .arg(installed.join("peer.mjs"));
                command
            }
            Self::Python => {
                let mut command = Command::new(installed.join("bin/python"));
                command.arg(program).env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
        }
    }

    /// Its interpreter's version.
    pub(crate) fn version(self) -> Result<String> {
        let (program, _, installed) = self.files();
        let command = self.command(&program, &installed);
        let output = Command::new(command.get_program())
            .arg("--version")
            .output()
            .with_context(|| format!("{command:?}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let number = said
            .trim()
            .trim_start_matches(|c: char| !c.is_ascii_digit());
        Ok(number.to_owned())
    }
}

impl Peer {
    /// Starts one with `cert.pem` and `key.pem` of a directory and a schema, and waits until each of
    /// its workers is ready.
    pub(crate) async fn start(
        language: Language,
        identity: &Path,
        schema: &Path,
        target: Target<'_>,
    ) -> Result<Self> {
        let (program, lock, installed) = language.files();
        let there = std::fs::read(installed.join("installed")).unwrap_or_default();
        ensure!(
            there == std::fs::read(&lock).with_context(|| lock.display().to_string())?,
            "{} is not what {} says: run deploy/install-dependencies.sh bench, or `make bench`",
            installed.display(),
            lock.display()
        );
        let port = free_port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut child = language
            .command(&program, &installed)
            .env("HOST", "127.0.0.1")
            .env("PORT", port.to_string())
            .env("WORKERS", WORKERS.to_string())
            .env("CERT", identity.join("cert.pem"))
            .env("KEY", identity.join("key.pem"))
            .env("SECRET", GITHUB_SECRET)
            .env("SCHEMA", schema)
            .env("AMQP_URL", target.broker.url())
            .env("EXCHANGE", target.exchange)
            .env("ROUTING_KEY", target.queue)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{language:?}"))?;
        let said = child.stdout.take().context("piped")?;
        let peer = Self { address, child };
        let ready = tokio::task::spawn_blocking(move || {
            let lines = BufReader::new(said).lines().map_while(Result::ok);
            lines.filter(|line| line == "ready").take(WORKERS).count()
        });
        let ready = timeout(PATIENCE, ready).await??;
        ensure!(
            ready == WORKERS,
            "{language:?}: {ready} of {WORKERS} workers began"
        );
        eventually("the peer to listen", || async {
            TcpStream::connect(address)
                .await
                .map_err(|error| error.to_string())
        })
        .await;
        Ok(peer)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its first process; the workers are its children.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Asked to end, the first process takes its workers along.
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("the peer runs");
        self.child.wait().expect("the peer ends");
    }
}
