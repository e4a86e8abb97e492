//! The real program with a configuration, a directory and ports of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::broker::{Broker, Consumer, amqp_url};
use super::eventually::eventually;
use super::secrets;
use super::sender::{Answer, Client, Sender, Version};
use super::webhook::{
    ERP_SECRET, GITHUB_SECRET, SHOPIFY_SECRET, SLACK_SECRET, STRIPE_SECRET, Webhook,
};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_hookgate");

/// What the admin listener wants of those gateways that have one.
const ADMIN_TOKEN: &str = "the operator's token";

/// A port that nobody listens on. They come from below the range that the system gives to
/// outgoing connections, so that nobody takes one before its owner binds it.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 12_000;
    const PORTS: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run at the same time begin at different places.
    let offset = u16::try_from(std::process::id() * 331 % u32::from(PORTS)).expect("a remainder");
    for _ in 0..PORTS {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % PORTS;
        let port = FIRST + (offset + step) % PORTS;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// A name that no other test uses, for exchanges and queues.
pub(crate) fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "t{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A gateway to be: what differs from the usual.
#[derive(Debug)]
pub(crate) struct Setup {
    exchange: String,
    tls: bool,
    tls_lines: String,
    server: String,
    limits: String,
    admin: String,
    journal: String,
    broker: Option<String>,
    queues: String,
    sources: String,
    files: Vec<(String, Vec<u8>)>,
    environment: Vec<(String, String)>,
    wrapper: Vec<String>,
}

/// A running gateway, or one between two lives.
#[derive(Debug)]
pub(crate) struct Gateway {
    directory: TempDir,
    exchange: String,
    tls: bool,
    address: SocketAddr,
    admin: SocketAddr,
    environment: Vec<(String, String)>,
    wrapper: Vec<String>,
    child: Option<Child>,
}

/// `[sources.NAME]` for each kind of webhook that `Webhook` makes, with more lines from the test.
pub(crate) fn source(name: &str, provider: &str, more: &str) -> String {
    let secret = match provider {
        "github" => GITHUB_SECRET,
        "stripe" => STRIPE_SECRET,
        "shopify" => SHOPIFY_SECRET,
        "slack" => SLACK_SECRET,
        other => panic!("no secret for {other}"),
    };
    // Most presets keep what is genuine and does not fit; most tests are about being turned away.
    let on_invalid = if more.contains("on_invalid") {
        ""
    } else {
        "on_invalid = \"reject\"\n"
    };
    format!(
        "[sources.{name}]\nprovider = \"{provider}\"\n\
         secrets = [{{ value = \"{secret}\", label = \"2026\" }}]\n{on_invalid}{more}\n"
    )
}

/// A source without a preset.
pub(crate) fn erp(more: &str) -> String {
    format!(
        r#"
[sources.erp]
secrets = [{{ value = "{ERP_SECRET}", label = "erp-1" }}]
event_id = "header:X-Event-Id"
event_type = "json:/event/name"
{more}

[sources.erp.verify]
algorithm = "hmac-sha256"
signature = "header:X-Signature"
prefix = "sig="
encoding = "base64"
signed = "{{timestamp}}.{{body}}"
timestamp = "header:X-Timestamp"
tolerance = "5m"
"#
    )
}

impl Setup {
    /// One GitHub source, TLS, no broker.
    pub(crate) fn new() -> Self {
        Self {
            exchange: unique_name(),
            tls: true,
            tls_lines: String::new(),
            server: String::new(),
            limits: String::new(),
            admin: String::new(),
            journal: String::new(),
            broker: None,
            queues: String::new(),
            sources: source("github", "github", ""),
            files: Vec::new(),
            environment: Vec::new(),
            wrapper: Vec::new(),
        }
    }

    /// Publishes to a broker; one classic queue, `EXCHANGE-all`, gets everything.
    pub(crate) fn broker(self, broker: &Broker) -> Self {
        self.broker_at(broker.address())
    }

    /// The same with something between the gateway and the broker.
    pub(crate) fn broker_at(self, address: SocketAddr) -> Self {
        self.brokers_at(&[address])
    }

    /// The same with several nodes of one cluster.
    pub(crate) fn brokers_at(mut self, addresses: &[SocketAddr]) -> Self {
        let urls = addresses
            .iter()
            .map(|address| format!("{{ value = \"{}\" }}", amqp_url(*address)));
        let urls = urls.collect::<Vec<_>>().join(", ");
        self.broker = Some(format!("urls = [{urls}]\n"));
        let all = format!("{}-all", self.exchange);
        self.queue(&all, "#", "classic")
    }

    /// One more queue.
    pub(crate) fn queue(mut self, name: &str, bind: &str, kind: &str) -> Self {
        let _infallible = write!(
            self.queues,
            "[[broker.queues]]\nname = \"{name}\"\nbind = [\"{bind}\"]\ntype = \"{kind}\"\n"
        );
        self
    }

    /// Only the queues that are added from now on.
    pub(crate) fn no_queues(mut self) -> Self {
        self.queues.clear();
        self
    }

    /// More lines under `[broker]`.
    pub(crate) fn broker_lines(mut self, lines: &str) -> Self {
        let broker = self.broker.as_mut().expect("a broker");
        broker.push_str(lines);
        broker.push('\n');
        self
    }

    /// More lines under `[server]`.
    pub(crate) fn server(mut self, lines: &str) -> Self {
        self.server.push_str(lines);
        self.server.push('\n');
        self
    }

    /// More lines under `[server.tls]`.
    pub(crate) fn tls(mut self, lines: &str) -> Self {
        self.tls_lines.push_str(lines);
        self.tls_lines.push('\n');
        self
    }

    /// More lines under `[server.limits]`.
    pub(crate) fn limits(mut self, lines: &str) -> Self {
        self.limits.push_str(lines);
        self.limits.push('\n');
        self
    }

    /// The admin listener wants a token, which [`Gateway::admin`] always sends.
    pub(crate) fn admin_token(mut self) -> Self {
        self.admin = format!("token = {{ value = \"{ADMIN_TOKEN}\" }}\n");
        self
    }

    /// More lines under `[journal]`.
    pub(crate) fn journal(mut self, lines: &str) -> Self {
        self.journal.push_str(lines);
        self.journal.push('\n');
        self
    }

    /// These sources and no others.
    pub(crate) fn sources(mut self, sources: &str) -> Self {
        sources.clone_into(&mut self.sources);
        self
    }

    /// A file beside the configuration.
    pub(crate) fn file(mut self, name: &str, content: &[u8]) -> Self {
        self.files.push((name.to_owned(), content.to_owned()));
        self
    }

    /// A variable in its environment.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs under another program, which gets the gateway's command as its last arguments.
    pub(crate) fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Without TLS.
    pub(crate) fn plain(mut self) -> Self {
        self.tls = false;
        self
    }

    /// Writes the files; starts nothing yet.
    pub(crate) fn prepare(self) -> Gateway {
        let directory = tempfile::Builder::new()
            .prefix("hookgate-test-")
            .tempdir()
            .expect("directory");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let at = |name: &str| directory.path().join(name);
        let identity = identity();
        std::fs::write(at("ca.pem"), &identity.authority).expect("authority");
        std::fs::write(at("cert.pem"), &identity.certificate).expect("certificate");
        std::fs::write(at("key.pem"), &identity.key).expect("key");
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(at("key.pem"), private).expect("mode");
        for (name, content) in &self.files {
            let path = at(name);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            std::fs::write(path, content).expect("file");
        }
        std::fs::write(at("gateway.toml"), self.text(address, admin)).expect("configuration");
        Gateway {
            directory,
            exchange: self.exchange,
            tls: self.tls,
            address,
            admin,
            environment: self.environment,
            wrapper: self.wrapper,
            child: None,
        }
    }

    /// Writes the files, starts the program and waits until it is ready.
    pub(crate) async fn start(self) -> Gateway {
        let mut gateway = self.prepare();
        gateway.start().await;
        gateway
    }

    fn text(&self, address: SocketAddr, admin: SocketAddr) -> String {
        let Self {
            exchange,
            server,
            limits,
            admin: more,
            journal,
            queues,
            sources,
            ..
        } = self;
        let tls = if self.tls {
            let lines = &self.tls_lines;
            format!("[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n{lines}\n")
        } else {
            String::new()
        };
        let off = if self.tls { "" } else { "tls = \"off\"\n" };
        let broker = match &self.broker {
            Some(lines) => format!("[broker]\nexchange = \"{exchange}\"\n{lines}\n{queues}"),
            None => String::new(),
        };
        format!(
            "[server]\nlisten = [\"{address}\"]\n{off}{server}\n{tls}\n\
             [server.limits]\n{limits}\n[admin]\nlisten = \"{admin}\"\n{more}\n\
             [journal]\npath = \"journal\"\n{journal}\n{broker}\n{sources}"
        )
    }
}

impl Gateway {
    /// Starts the program and waits until it is ready.
    pub(crate) async fn start(&mut self) {
        self.start_under(&[]).await;
    }

    /// The same below another program, see [`Gateway::launch_under`].
    pub(crate) async fn start_under(&mut self, wrapper: &[&str]) {
        self.launch_under(wrapper);
        if let Some(ended) = self.ready_or_ended().await {
            panic!("the gateway ended: {ended:?}\n{}", self.log());
        }
    }

    /// Waits until it is ready, or has ended by itself.
    pub(crate) async fn ready_or_ended(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut().expect("launched");
        let (admin, log) = (self.admin, self.directory.path().join("log"));
        let ended = eventually("the gateway to be ready", || {
            let ended = child.try_wait().expect("wait");
            let log = log.clone();
            async move {
                if ended.is_some() {
                    return Ok(ended);
                }
                match get(admin, "/readyz").await {
                    Ok(answer) if answer.status == 200 => Ok(None),
                    other => {
                        let log = std::fs::read_to_string(&log).unwrap_or_default();
                        Err(format!("{other:?}\n{log}"))
                    }
                }
            }
        })
        .await;
        if ended.is_some() {
            self.child = None;
        }
        ended
    }

    /// Starts the program and waits for nothing.
    pub(crate) fn launch(&mut self) {
        self.launch_under(&[]);
    }

    /// The same below another program, which must become it: its process is taken for the
    /// gateway's.
    pub(crate) fn launch_under(&mut self, wrapper: &[&str]) {
        assert!(self.child.is_none(), "it runs already");
        let open = |name: &str| {
            let path = self.directory.path().join(name);
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .expect("log file")
        };
        let around = self.wrapper.iter().map(String::as_str);
        let around = around.chain(wrapper.iter().copied());
        let words: Vec<&str> = around.chain([PROGRAM, "run", "-c"]).collect();
        let child = Command::new(words[0])
            .args(&words[1..])
            .arg(self.config())
            .env_remove("RUST_LOG")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(open("stdout"))
            .stderr(open("log"))
            .spawn()
            .unwrap_or_else(|error| panic!("{words:?} does not start: {error}"));
        self.child = Some(child);
    }

    /// Asks it to end in good order.
    pub(crate) fn term(&self) {
        kill_process(self.pid(), Signal::TERM).expect("signal");
    }

    /// Asks it to read its files again.
    pub(crate) fn hang_up(&self) {
        kill_process(self.pid(), Signal::HUP).expect("signal");
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        let child = self.child.as_ref().expect("it runs");
        if self.wrapper.is_empty() {
            return Pid::from_child(child);
        }
        self.wrapped().expect("it runs under its wrapper")
    }

    /// The gateway that runs below a wrapper: the program with this configuration.
    fn wrapped(&self) -> Option<Pid> {
        let config = self.config();
        let own =
            [PROGRAM, "run", "-c", config.to_str().expect("path")].map(|it| format!("{it}\0"));
        let entries = std::fs::read_dir("/proc").expect("/proc");
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter_map(Pid::from_raw).find(|pid| {
            let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
            line.is_ok_and(|line| line == own.concat().as_bytes())
        })
    }

    /// Ends it at once, as a power cut would end the machine; all that the system had is kept.
    pub(crate) fn kill9(&mut self) {
        kill_process(self.pid(), Signal::KILL).expect("kill");
        let mut child = self.child.take().expect("it runs");
        child.wait().expect("wait");
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("it runs");
        let status = eventually("the gateway to end", || {
            let ended = child.try_wait().expect("wait");
            async move { ended.ok_or_else(|| "it runs on".to_owned()) }
        })
        .await;
        self.child = None;
        status
    }

    /// Ends it in good order and starts it again, on the same directory and ports.
    pub(crate) async fn restart(&mut self) {
        self.term();
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "{}", self.log());
        self.start().await;
    }

    /// Its configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.directory.path().join("gateway.toml")
    }

    /// Its directory.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Changes its configuration file.
    pub(crate) fn edit(&self, change: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.config()).expect("configuration");
        std::fs::write(self.config(), change(text)).expect("configuration");
    }

    /// Gives a gateway that had none this broker, and starts it again.
    pub(crate) async fn restart_with(&mut self, broker: &Broker) {
        let lines = format!(
            "\n[broker]\nurls = [{{ value = \"{}\" }}]\nexchange = \"{}\"\n\
             [[broker.queues]]\nname = \"{}\"\nbind = [\"#\"]\ntype = \"classic\"\n",
            broker.url(),
            self.exchange(),
            self.queue()
        );
        self.edit(|text| text + &lines);
        self.restart().await;
    }

    /// Waits until a request's head has arrived and its answer is still to come.
    pub(crate) async fn until_request_is_under_way(&self) {
        eventually("the request to be under way", || async {
            match self.metrics().await.sum("hookgate_requests_in_flight", &[]) {
                1.0 => Ok(()),
                n => Err(format!("{n} in flight")),
            }
        })
        .await;
    }

    /// Events that are stored and not yet confirmed by the broker.
    pub(crate) async fn waiting(&self) -> f64 {
        self.metrics().await.sum("hookgate_journal_waiting", &[])
    }

    /// Waits until the broker has confirmed everything.
    pub(crate) async fn until_all_published(&self) {
        eventually("the journal to be published", || async {
            match self.waiting().await {
                0.0 => Ok(()),
                n => Err(format!("{n} wait")),
            }
        })
        .await;
    }

    /// Its exchange.
    pub(crate) fn exchange(&self) -> &str {
        &self.exchange
    }

    /// The queue that everything goes to.
    pub(crate) fn queue(&self) -> String {
        format!("{}-all", self.exchange)
    }

    /// What arrives in that queue.
    pub(crate) async fn consume(&self, broker: &Broker) -> Consumer {
        broker.consume(&self.queue()).await
    }

    /// Where webhooks go.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who sends them.
    pub(crate) fn sender(&self) -> Sender {
        if self.tls {
            Sender::tls(self.address, &self.directory.path().join("ca.pem"))
        } else {
            Sender::plain(self.address)
        }
    }

    /// A connection for several webhooks.
    pub(crate) async fn connect(&self, version: Version) -> Client {
        self.sender().connect(version).await.expect("connection")
    }

    /// One webhook over a connection of its own.
    pub(crate) async fn send(&self, webhook: &Webhook) -> Answer {
        self.sender().send(webhook).await
    }

    /// A page of the admin listener.
    pub(crate) async fn admin(&self, path: &str) -> Answer {
        get(self.admin, path)
            .await
            .expect("the admin listener answers")
    }

    /// All metrics at this moment.
    pub(crate) async fn metrics(&self) -> Metrics {
        let answer = self.admin("/metrics").await;
        assert_eq!(answer.status, 200);
        Metrics::parse(&String::from_utf8(answer.body).expect("text"))
    }

    /// What it logged in all its lives.
    pub(crate) fn log(&self) -> String {
        self.said("log")
    }

    /// What it wrote to its standard output in all its lives.
    pub(crate) fn stdout(&self) -> String {
        self.said("stdout")
    }

    fn said(&self, file: &str) -> String {
        let bytes = std::fs::read(self.directory.path().join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Where the admin listener is.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Runs another subcommand on its configuration: `-c` is added.
    pub(crate) async fn cli(&self, arguments: &[&str]) -> Output {
        let mut all = arguments.to_vec();
        let config = self.config();
        all.extend(["-c", config.to_str().expect("path")]);
        cli(&all, &[]).await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // A wrapper ends with what it wraps.
        let is_wrapped = self.child.is_some() && !self.wrapper.is_empty();
        let wrapped = is_wrapped.then(|| self.wrapped()).flatten();
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            match wrapped {
                Some(pid) => drop(kill_process(pid, Signal::KILL)),
                None => drop(child.kill()),
            }
            child.wait().expect("wait");
        }
        let log = self.log();
        if std::thread::panicking() {
            // Under load the requests would hide everything else.
            let lines = log
                .lines()
                .filter(|line| !line.contains("hookgate::access"));
            let log = lines.collect::<Vec<_>>().join("\n");
            let tail = log.len().saturating_sub(6000);
            let tail = log.get(tail..).unwrap_or(&log);
            // Captured by the test runner and shown with the failure.
            #[expect(
                clippy::print_stderr,
                reason = "a failing test shows the gateway's log"
            )]
            {
                eprintln!("--- the gateway's log ends with:\n{tail}\n---");
            }
        } else {
            // Every gateway of every test, so that no fault makes one talk.
            secrets::assert_absent(&log, "the gateway's log");
            secrets::assert_absent(&self.stdout(), "the gateway's standard output");
        }
    }
}

/// Runs the program with arguments and waits for it.
pub(crate) async fn cli(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let running = tokio::process::Command::new(PROGRAM)
        .args(arguments)
        .env_remove("RUST_LOG")
        .env_remove("AMQP_URL")
        .env("NO_COLOR", "1")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(super::eventually::PATIENCE, running).await {
        Ok(output) => output.expect("the program starts"),
        Err(elapsed) => panic!("hookgate {arguments:?} does not end: {elapsed}"),
    }
}

/// What a command said on both streams, with its exit code, for comparisons and failures.
pub(crate) fn said(output: &Output) -> String {
    format!(
        "exit {:?}\n{}{}",
        output.status.code(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// All metrics of the gateway whose admin listener is at an address, if it answers.
pub(crate) async fn metrics_at(admin: SocketAddr) -> Result<Metrics, String> {
    let answer = get(admin, "/metrics").await?;
    let text = String::from_utf8(answer.body).map_err(|error| error.to_string())?;
    match answer.status {
        200 => Ok(Metrics::parse(&text)),
        status => Err(format!("{status}: {text}")),
    }
}

/// One page over plain HTTP.
async fn get(address: SocketAddr, path: &str) -> Result<Answer, String> {
    let mut client = Sender::plain(address).connect(Version::Http1).await?;
    client
        .send(
            &Webhook::bare(path, b"")
                .without("Content-Type")
                .with("Authorization", &format!("Bearer {ADMIN_TOKEN}"))
                .method("GET"),
        )
        .await
}

/// What `/metrics` said.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Vec<Sample>);

#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Reads the Prometheus text format.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(lines.map(Sample::parse).collect())
    }

    /// The sum over every series of this name that has these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |sample: &&Sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(key, value)| sample.labels.get(*key).is_some_and(|there| there == value))
        };
        self.0.iter().filter(fits).map(|sample| sample.value).sum()
    }

    /// How often a source turned somebody away for a reason.
    pub(crate) fn rejected(&self, source: &str, reason: &str) -> f64 {
        self.sum(
            "hookgate_rejected_total",
            &[("source", source), ("reason", reason)],
        )
    }

    /// Every value of a label of a metric.
    pub(crate) fn values(&self, name: &str, label: &str) -> Vec<String> {
        let named = self.0.iter().filter(|sample| sample.name == name);
        let mut values: Vec<_> = named
            .filter_map(|sample| sample.labels.get(label).cloned())
            .collect();
        values.sort();
        values.dedup();
        values
    }
}

impl Sample {
    fn parse(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let value = value.parse().expect("a number");
        let Some((name, rest)) = series.split_once('{') else {
            return Self {
                name: series.to_owned(),
                labels: BTreeMap::new(),
                value,
            };
        };
        // The values of our labels hold neither commas nor quotes: they come from names in the
        // configuration and from closed lists.
        let pairs = rest
            .trim_end_matches('}')
            .split(',')
            .filter(|pair| !pair.is_empty());
        let labels = pairs
            .map(|pair| {
                let (key, quoted) = pair.split_once('=').expect("a label");
                (key.to_owned(), quoted.trim_matches('"').to_owned())
            })
            .collect();
        Self {
            name: name.to_owned(),
            labels,
            value,
        }
    }
}

struct Identity {
    authority: String,
    certificate: String,
    key: String,
}

/// The private key of that certificate, in PEM.
pub(crate) fn private_key() -> &'static str {
    &identity().key
}

/// One certificate for all gateways of this process, and the authority that signed it.
fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let authority_key = rcgen::KeyPair::generate().expect("key");
        let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        // Under another name than what it signs, which OpenSSL would take for self-signed.
        let name = "the authority of the tests";
        authority
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let authority_certificate = authority.self_signed(&authority_key).expect("authority");
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate().expect("key");
        let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
            .expect("parameters")
            .signed_by(&key, &issuer)
            .expect("certificate");
        Identity {
            authority: authority_certificate.pem(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    })
}
