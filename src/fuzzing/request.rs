//! A connection as a stranger writes it: HTTP/1, the request gate, the client's address from
//! `Forwarded` and `X-Forwarded-For`, and the whole pipeline behind them.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{repository, scratch, vectors};
use crate::config::Config;
use crate::config::surroundings::Surroundings;
use crate::edge::activity::{Patience, Protocol};
use crate::edge::connection::{Peer, Terms, serve};
use crate::edge::request::Gateway;
use crate::journal::{Journal, Options};
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::pipeline::dedupe::Dedupe;
use crate::pipeline::evidence::Nowhere;
use crate::pipeline::limit::InFlight;
use crate::pipeline::route::Routes;
use crate::pipeline::store::Store;
use crate::watch::Watch;

/// Nothing that has come whole takes so long.
const PATIENCE: Duration = Duration::from_secs(20);
/// What an in-memory socket holds.
const SOCKET_BYTES: usize = 64 * 1024;

const CONFIG: &str = r#"
[server]
listen = ["127.0.0.1:0"]
tls = "off"
public_url = "https://hooks.example.com"
trusted_proxies = ["192.0.2.0/24", "2001:db8::/32"]

[sources.any]
verify = "insecure-none"
format = "raw"
methods = ["POST", "PUT"]
event_id = "header:X-Id"

[sources.json]
verify = "insecure-none"
event_id = "json:/id"
event_type = "json:/type"
on_invalid = "quarantine"
schema = "SCHEMA"
allow_ips = ["198.51.100.0/24"]

[sources.github]
provider = "github"
secrets = [{ value = "It's a Secret to Everybody" }]
enforce = false

[sources.slack]
provider = "slack"
secrets = [{ value = "s3cret" }]
"#;

/// A gateway without a socket.
struct Stage {
    runtime: Runtime,
    gateway: Gateway<Pipeline>,
    terms: Terms,
}

fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(build)
}

fn build() -> Stage {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let folder = scratch("request");
    let path = folder.join("gateway.toml");
    let schema = repository("schemas/order.json").display().to_string();
    std::fs::write(&path, CONFIG.replace("SCHEMA", &schema)).expect("a configuration");
    let now = Timestamp::from_second(vectors::SIGNED_AT).expect("a time");
    let loaded = Config::load_in(&path, &Surroundings::new(|_| None, None, now));
    let config = loaded.expect("a sound configuration").config;
    let journal = Journal::open(Options {
        path: folder.join("journal"),
        bytes_max: 4 << 20,
        segment_bytes: 1 << 20,
        retain: Duration::ZERO,
        refuse_damage: true,
        reserve_bytes: 0,
        on_sync: None,
    });
    let journal = journal.expect("a journal");
    let metrics = Metrics::new(config.sources.iter().map(|source| &source.name));
    let limits = &config.server.limits;
    let terms = Terms {
        patience: Patience::new(limits, 0.0),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    };
    let pipeline = Pipeline {
        routes: Routes::new(&config.sources),
        in_flight: InFlight::new(limits.requests_in_flight_max, limits.bytes_in_flight_max),
        dedupe: Dedupe::new(1 << 10),
        fetching: Arc::new(Nowhere),
        store: Store::new(journal.clone(), None, Arc::clone(&metrics)),
        accept_timeout: limits.accept_timeout,
        metrics,
    };
    let gateway = Gateway::new(
        Arc::new(pipeline),
        Watch::new(),
        config.server.trusted_proxies,
        terms.tasks.clone(),
        terms.stop.clone(),
    );
    runtime.spawn(async move {
        // What was taken need not be kept.
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            journal.confirm_until(journal.status().end);
        }
    });
    Stage {
        runtime,
        gateway,
        terms,
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let heads = [
        "POST /any HTTP/1.1\r\nHost: a\r\nX-Id: 1\r\nContent-Length: 2\r\n\r\n{}",
        "POST /any HTTP/1.1\r\nHost: a\r\nForwarded: for=\"[2001:db8::1]:80\";proto=https, for=192.0.2.7\r\nContent-Length: 0\r\n\r\n",
        "POST /json HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.1, 192.0.2.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "GET /any?a=%31 HTTP/1.0\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "POST http://a/any HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
        "POST /any HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\nTrailer: 1\r\n\r\n",
        "POST /any HTTP/1.1\r\nHost: a\r\nX-Request-Id: abc\r\nContent-Type: application/json; a=b\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\n0",
    ];
    let mut seeds: Vec<Vec<u8>> = heads.iter().map(|head| head.as_bytes().to_vec()).collect();
    let signed = vectors::all();
    let own = signed
        .iter()
        .filter(|vector| vector.file == "github" || vector.file == "slack");
    seeds.extend(own.map(|vector| {
        let request = String::from_utf8_lossy(&vector.request);
        let path = format!("/{}", vector.file);
        request
            .replacen("/in/github", &path, 1)
            .replacen("/in/slack", &path, 1)
            .into_bytes()
    }));
    seeds
}

pub(super) fn run(data: &[u8]) {
    let stage = stage();
    let answers = stage
        .runtime
        .block_on(async { timeout(PATIENCE, converse(stage, data)).await });
    let answers = answers.expect("a connection that was closed by its peer ends");
    let answers = String::from_utf8_lossy(&answers);
    assert!(!answers.contains("\"code\":\"defect\""), "{answers}");
    assert!(
        answers.is_empty() || answers.starts_with("HTTP/1."),
        "{answers}"
    );
}

/// Writes everything, closes its side, reads what comes back.
async fn converse(stage: &Stage, data: &[u8]) -> Vec<u8> {
    let (ours, theirs) = tokio::io::duplex(SOCKET_BYTES);
    let peer = Peer {
        may_forward: true,
        certificate: None,
        address: SocketAddr::from(([192, 0, 2, 1], 4711)),
    };
    let (mut answers, mut questions) = tokio::io::split(ours);
    let serving = serve(
        theirs,
        Protocol::Http1,
        &stage.terms,
        stage.gateway.clone(),
        peer,
    );
    let writing = async {
        // A connection that is cut takes no more.
        drop(questions.write_all(data).await);
        drop(questions.shutdown().await);
    };
    let reading = async {
        let mut bytes = Vec::new();
        drop(answers.read_to_end(&mut bytes).await);
        bytes
    };
    let ((), (), bytes) = tokio::join!(serving, writing, reading);
    stage.terms.tasks.close();
    stage.terms.tasks.wait().await;
    stage.terms.tasks.reopen();
    bytes
}
