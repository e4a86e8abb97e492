//! nginx, answering a constant over TLS: what an edge costs that decides nothing.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::support::eventually::eventually;
use crate::support::gateway::free_port;

const PROGRAM: &str = "/usr/sbin/nginx";

/// A running nginx. It ends with this value.
#[derive(Debug)]
pub(crate) struct Nginx {
    address: SocketAddr,
    child: Child,
    _directory: TempDir,
}

impl Nginx {
    /// Starts one with `cert.pem` and `key.pem` of a directory, as many workers as there are
    /// processors, and waits until it listens.
    pub(crate) async fn start(identity: &Path) -> Result<Self> {
        ensure!(
            Path::new(PROGRAM).try_exists()?,
            "{PROGRAM} is not there: `make bench` installs it"
        );
        let directory = tempfile::Builder::new()
            .prefix("hookgate-nginx-")
            .tempdir()?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = directory.path().join("nginx.conf");
        std::fs::write(&config, text(address, identity))?;
        let child = Command::new(PROGRAM)
            .args(["-e", "stderr", "-p"])
            .arg(directory.path())
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context(PROGRAM)?;
        let nginx = Self {
            address,
            child,
            _directory: directory,
        };
        eventually("nginx to listen", || async {
            TcpStream::connect(address)
                .await
                .map_err(|error| error.to_string())
        })
        .await;
        Ok(nginx)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its master process; the workers are its children.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it calls itself.
    pub(crate) fn version() -> Result<String> {
        let output = Command::new(PROGRAM).arg("-v").output().context(PROGRAM)?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Ok(said.rsplit('/').next().unwrap_or(&said).to_owned())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Asked to end, the master takes its workers along; killed, it would leave them behind.
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("nginx runs");
        self.child.wait().expect("nginx ends");
    }
}

fn text(address: SocketAddr, identity: &Path) -> String {
    let identity = identity.display();
    format!(
        r#"
daemon off;
pid nginx.pid;
worker_processes auto;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path temp-body;
    proxy_temp_path temp-proxy;
    fastcgi_temp_path temp-fastcgi;
    uwsgi_temp_path temp-uwsgi;
    scgi_temp_path temp-scgi;
    keepalive_requests 1000000000;
    server {{
        listen {address} ssl http2;
        ssl_certificate {identity}/cert.pem;
        ssl_certificate_key {identity}/key.pem;
        ssl_protocols TLSv1.3;
        location / {{
            default_type application/json;
            return 202 '{{"status":"accepted","id":"01890a5d-ac96-774b-bcce-b302099a8057"}}';
        }}
    }}
}}
"#
    )
}
