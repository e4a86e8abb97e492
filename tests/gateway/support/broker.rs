//! A private RabbitMQ node on loopback, and what a consumer sees in it.
//!
//! A node takes about six seconds to start, so there are two for the whole binary: one that every
//! test shares (exchanges and queues have names of their own), and one that tests may kill and
//! block, one test at a time. Three that form a cluster are made by [`super::cluster`].
//!
//! The node and its port mapper run under a small shell that holds the read end of a pipe. When
//! the pipe closes, because the broker is dropped or because this process ended in whatever way,
//! the shell kills both by their process ids and removes the directory. Statics are never
//! dropped, so nothing less would do.

use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use tokio::sync::{MutexGuard, OnceCell};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::eventually::{PATIENCE, eventually, within};
use super::gateway::free_port;

/// Where Debian puts the server's own scripts; those in `/usr/sbin` insist on a system user.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CONTROL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";

/// How long a node may take to start: seconds of one core, which it may have to share with two
/// other nodes and all that runs beside.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// Longest message that a node takes as it ships, 128 MiB.
const MESSAGE_BYTES_MAX: u32 = 134_217_728;

/// Starts the port mapper and the node, then obeys one word from its standard input:
/// `stop` lets the node end in good order, `kill` does not, and the end of input also removes the
/// directory.
const SUPERVISOR: &str = r#"
mapper=
if [ "$OWN_MAPPER" = yes ]; then
    epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 </dev/null >/dev/null 2>&1 & mapper=$!
fi
"$SERVER" </dev/null >>"$HOME/output" 2>&1 & node=$!
read -r word || word=end
if [ "$word" = stop ]; then kill -TERM $node; wait $node; else kill -KILL $node; fi
if [ -n "$mapper" ]; then kill -KILL $mapper; fi
wait
if [ "$word" = end ]; then rm -rf "$HOME"; fi
"#;

/// A node, running or not.
#[derive(Debug)]
pub(crate) struct Broker {
    directory: PathBuf,
    place: Place,
    supervisor: Mutex<Option<Child>>,
}

/// What a node is called, and where it listens.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Without the host.
    pub(super) name: String,
    pub(super) host: Ipv4Addr,
    pub(super) amqp_port: u16,
    /// For the other nodes and `rabbitmqctl`.
    pub(super) cluster_port: u16,
    /// Where nodes are found by their names.
    pub(super) mapper_port: u16,
    /// Whether the port mapper is started with the node and ends with it.
    pub(super) own_mapper: bool,
}

/// What lets nodes and `rabbitmqctl` talk to each other. They listen on loopback only.
const COOKIE: &str = "hookgate";

/// The node that no test may disturb.
pub(crate) async fn shared() -> &'static Broker {
    static SHARED: OnceCell<Broker> = OnceCell::const_new();
    SHARED.get_or_init(Broker::start).await
}

/// The node that one test at a time may kill and block. It is up when the test gets it.
pub(crate) async fn breakable() -> MutexGuard<'static, Broker> {
    static BREAKABLE: OnceCell<tokio::sync::Mutex<Broker>> = OnceCell::const_new();
    let place = BREAKABLE
        .get_or_init(|| async { tokio::sync::Mutex::new(Broker::start().await) })
        .await;
    let broker = place.lock().await;
    if broker.is_running() {
        broker.unblock().await;
        broker.limit_messages(MESSAGE_BYTES_MAX).await;
    } else {
        broker.start_again().await;
    }
    broker
}

impl Broker {
    /// Starts a node in a directory of its own and waits until it speaks AMQP.
    pub(crate) async fn start() -> Self {
        let amqp_port = free_port();
        let place = Place {
            name: format!("hookgate_{}_{amqp_port}", std::process::id()),
            host: Ipv4Addr::LOCALHOST,
            amqp_port,
            cluster_port: free_port(),
            mapper_port: free_port(),
            own_mapper: true,
        };
        let broker = Self::prepare(place, "");
        broker.start_again().await;
        broker
    }

    /// Makes a node's directory, with more lines for `rabbitmq.conf`; starts nothing yet.
    pub(super) fn prepare(place: Place, lines: &str) -> Self {
        assert!(
            Path::new(SERVER).try_exists().unwrap_or(false),
            "{SERVER} is not there: run deploy/install-dependencies.sh, or `make test` which does"
        );
        let directory = tempfile::Builder::new()
            .prefix("hookgate-broker-")
            .tempdir()
            .expect("directory");
        // Removed by the supervisor: it outlives this process.
        let directory = directory.keep();
        let write = |name: &str, content: &str| {
            let path = directory.join(name);
            std::fs::write(&path, content).expect("a file of the node's");
            let private = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&path, private).expect("mode");
        };
        write("plugins", "[].\n");
        write("environment", "");
        write(".erlang.cookie", COOKIE);
        let fixed = "log.file.level = info\nlog.console = false\n\
                     disk_free_limit.absolute = 50MB\n";
        write("rabbitmq.conf", &format!("{fixed}{lines}"));
        Self {
            directory,
            place,
            supervisor: Mutex::new(None),
        }
    }

    /// Starts the node on the data and ports that it had, and waits until it speaks AMQP.
    pub(crate) async fn start_again(&self) {
        self.launch();
        self.until_up().await;
    }

    /// Starts the node and waits for nothing.
    pub(super) fn launch(&self) {
        assert!(!self.is_running(), "the node runs already");
        let mut command = Command::new("/bin/sh");
        self.environment(&mut command);
        let host = self.place.host.to_string().replace('.', ",");
        let child = command
            .args(["-c", SUPERVISOR])
            .env("SERVER", SERVER)
            .env(
                "OWN_MAPPER",
                if self.place.own_mapper { "yes" } else { "no" },
            )
            // With a shell of its own the start script stays between us and the node; without,
            // it becomes the node, and its process id is the one to end.
            .env("RABBITMQ_ALLOW_INPUT", "1")
            .env("RABBITMQ_SERVER_START_ARGS", "-noinput")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                // Whoever is called sees the caller's own address, by which they can be cut off.
                format!(
                    "+S 1:1 +sbwt none -kernel inet_dist_use_interface {{{host}}} \
                     inet_dist_connect_options [{{ip,{{{host}}}}}]"
                ),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C at the terminal reaches us, not the node: the pipe tells the supervisor.
            .process_group(0)
            .spawn()
            .expect("sh");
        *self.supervisor.lock().expect("lock") = Some(child);
    }

    /// Waits until the node speaks AMQP.
    pub(super) async fn until_up(&self) {
        within(START_PATIENCE, "the broker to answer", || async {
            match self.connect().await {
                Ok(_) => Ok(()),
                Err(error) => {
                    let log = format!("log/{}.log", self.place.full_name());
                    Err(format!(
                        "{error}\n{}{}",
                        self.said("output"),
                        self.said(&log)
                    ))
                }
            }
        })
        .await;
    }

    /// The end of one of its files.
    fn said(&self, file: &str) -> String {
        let text = std::fs::read(self.directory.join(file)).unwrap_or_default();
        let end = text.len().saturating_sub(4_000);
        String::from_utf8_lossy(&text[end..]).into_owned()
    }

    /// Ends the node in good order; its data stays.
    pub(crate) async fn stop(&self) {
        self.end("stop\n").await;
    }

    /// Ends the node at once, as a power cut would; its data stays.
    ///
    /// A quorum queue that was declared less than about a second before never elects a leader
    /// again (RabbitMQ 3.10): use [`Broker::settle`] before.
    pub(crate) async fn kill9(&self) {
        self.end("kill\n").await;
    }

    /// Waits until a queue has held a message for a second, so that it survives a kill.
    pub(crate) async fn settle(&self, queue: &str) {
        eventually("the queue to hold a message", || async {
            match self.depth(queue).await {
                Ok(0) => Err(format!("{queue} is empty")),
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await;
        // Not a condition that could be awaited: the broker does not tell when the queue's
        // membership is on disk.
        sleep(Duration::from_millis(1200)).await;
    }

    async fn end(&self, word: &str) {
        let child = self.supervisor.lock().expect("lock").take();
        let mut child = child.expect("the node runs");
        let mut pipe = child.stdin.take().expect("pipe");
        pipe.write_all(word.as_bytes())
            .expect("the supervisor listens");
        eventually("the broker to end", || {
            let ended = child.try_wait();
            async move {
                match ended {
                    Ok(Some(_)) => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            }
        })
        .await;
    }

    /// Whether the node was started and not ended since.
    pub(crate) fn is_running(&self) -> bool {
        self.supervisor.lock().expect("lock").is_some()
    }

    /// Raises the memory alarm: publishing connections are no longer read from.
    pub(crate) async fn block(&self) {
        self.control(&["set_vm_memory_high_watermark", "0.00001"])
            .await;
    }

    /// Ends the memory alarm.
    pub(crate) async fn unblock(&self) {
        self.control(&["set_vm_memory_high_watermark", "0.4"]).await;
    }

    /// Longest message that channels opened from now on take; the node's own limit again after a
    /// restart, or when it is given to the next test.
    pub(crate) async fn limit_messages(&self, bytes: u32) {
        let set = format!("application:set_env(rabbit, max_message_size, {bytes}).");
        self.control(&["eval", &set]).await;
    }

    /// For commands that may be said twice: a node takes connections a little before it takes orders.
    async fn control(&self, arguments: &[&str]) {
        within(START_PATIENCE, "rabbitmqctl to be obeyed", || async {
            self.ask(arguments).await.map(drop)
        })
        .await;
    }

    /// What `rabbitmqctl` says to these arguments.
    pub(super) async fn ask(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(CONTROL);
        self.environment(&mut command);
        command
            .args(["--longnames", "--quiet"])
            .args(["--node", &self.place.full_name()])
            .args(["--erlang-cookie", COOKIE])
            .args(arguments);
        let running = tokio::process::Command::from(command)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let Ok(output) = timeout(PATIENCE, running).await else {
            return Err(format!("no end within {PATIENCE:?}"));
        };
        let output = output.expect("rabbitmqctl");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(format!("{output:?}"))
        }
    }

    fn environment(&self, command: &mut Command) {
        let at = |name: &str| self.directory.join(name);
        let place = &self.place;
        command
            .env("HOME", &self.directory)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", place.mapper_port.to_string())
            .env("RABBITMQ_USE_LONGNAME", "true")
            .env("RABBITMQ_NODENAME", place.full_name())
            .env("RABBITMQ_NODE_IP_ADDRESS", place.host.to_string())
            .env("RABBITMQ_NODE_PORT", place.amqp_port.to_string())
            .env("RABBITMQ_DIST_PORT", place.cluster_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", at("data"))
            .env("RABBITMQ_LOG_BASE", at("log"))
            .env("RABBITMQ_PID_FILE", at("pid"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("plugins"))
            .env("RABBITMQ_CONFIG_FILE", at("rabbitmq"))
            .env("RABBITMQ_CONF_ENV_FILE", at("environment"));
    }

    /// As the nodes of a cluster call it.
    pub(super) fn full_name(&self) -> String {
        self.place.full_name()
    }

    /// Where AMQP is spoken.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        (self.place.host, self.place.amqp_port).into()
    }

    /// The same, for a configuration.
    pub(crate) fn url(&self) -> String {
        amqp_url(self.address())
    }

    /// A connection of the test's own.
    pub(crate) async fn connect(&self) -> Result<Connection, String> {
        let connecting = async {
            // A closed port answers at once; the client library would take its time.
            tokio::net::TcpStream::connect(self.address())
                .await
                .map_err(|e| e.to_string())?;
            Connection::connect(&self.url(), ConnectionProperties::default())
                .await
                .map_err(|e| e.to_string())
        };
        match timeout(Duration::from_secs(5), connecting).await {
            Ok(connected) => connected,
            Err(_) => Err("no answer within five seconds".to_owned()),
        }
    }

    /// Messages that are ready in a queue.
    pub(crate) async fn depth(&self, queue: &str) -> Result<u32, String> {
        let connection = self.connect().await?;
        let channel = connection
            .create_channel()
            .await
            .map_err(|e| e.to_string())?;
        let state = channel
            .queue_declare(
                queue.into(),
                QueueDeclareOptions::default().passive(),
                FieldTable::default(),
            )
            .await
            .map_err(|e| e.to_string())?;
        Ok(state.message_count())
    }

    /// Declares a durable exchange without an alternate one.
    pub(crate) async fn declare_exchange(&self, name: &str, kind: ExchangeKind) {
        let connection = self.connect().await.expect("connection");
        let channel = connection.create_channel().await.expect("channel");
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        channel
            .exchange_declare(name.into(), kind, options, FieldTable::default())
            .await
            .expect("exchange");
    }

    /// Takes at most so many messages out of a queue; gives their ids.
    pub(crate) async fn take(&self, channel: &Channel, queue: &str, most: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < most {
            let got = channel
                .basic_get(queue.into(), BasicGetOptions { no_ack: true })
                .await
                .expect("an answer");
            let Some(message) = got else { break };
            ids.push(Message::from(message.delivery).id());
        }
        ids
    }

    /// Declares a durable queue with arguments and binds it to an exchange.
    pub(crate) async fn declare(
        &self,
        queue: &str,
        arguments: &[(&str, AMQPValue)],
        exchange: &str,
        key: &str,
    ) {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        let connection = self.connect().await.expect("connection");
        let channel = connection.create_channel().await.expect("channel");
        channel
            .queue_declare(queue.into(), QueueDeclareOptions::durable(), table)
            .await
            .expect("queue");
        channel
            .queue_bind(
                queue.into(),
                exchange.into(),
                key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .expect("binding");
    }

    /// Empties a queue.
    pub(crate) async fn purge(&self, queue: &str) {
        let connection = self.connect().await.expect("connection");
        let channel = connection.create_channel().await.expect("channel");
        channel
            .queue_purge(queue.into(), QueuePurgeOptions::default())
            .await
            .expect("purge");
    }

    /// Publishes one message straight into a queue, confirmed.
    pub(crate) async fn put(&self, queue: &str, body: &[u8]) {
        let connection = self.connect().await.expect("connection");
        let channel = connection.create_channel().await.expect("channel");
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .expect("confirm mode");
        channel
            .basic_publish(
                "".into(),
                queue.into(),
                BasicPublishOptions::default(),
                body,
                BasicProperties::default().with_delivery_mode(2),
            )
            .await
            .expect("publish")
            .await
            .expect("confirm");
    }

    /// Consumes a queue from now on, once it is there.
    pub(crate) async fn consume(&self, queue: &str) -> Consumer {
        let channel = self.channel_to(queue).await;
        let options = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        Consumer::start(channel, queue, options, FieldTable::default()).await
    }

    /// Reads a stream from its beginning, once it is there. Streams are read with credit and
    /// acknowledgements.
    pub(crate) async fn consume_stream(&self, queue: &str) -> Consumer {
        let channel = self.channel_to(queue).await;
        channel
            .1
            .basic_qos(100, BasicQosOptions::default())
            .await
            .expect("credit");
        let mut arguments = FieldTable::default();
        arguments.insert(
            "x-stream-offset".into(),
            AMQPValue::LongString("first".into()),
        );
        Consumer::start(channel, queue, BasicConsumeOptions::default(), arguments).await
    }

    /// A channel of its own, once a queue is there.
    async fn channel_to(&self, queue: &str) -> (Connection, Channel) {
        eventually("the queue to be there", || async {
            self.depth(queue)
                .await
                .map_err(|error| format!("{queue}: {error}"))
        })
        .await;
        let connection = self.connect().await.expect("connection");
        let channel = connection.create_channel().await.expect("channel");
        (connection, channel)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let child = self.supervisor.lock().expect("lock").take();
        match child {
            Some(mut child) => {
                drop(child.stdin.take());
                child.wait().expect("the supervisor ends");
            }
            None => std::fs::remove_dir_all(&self.directory).expect("directory"),
        }
    }
}

// === impl Place ===

impl Place {
    /// As the nodes call each other.
    pub(super) fn full_name(&self) -> String {
        format!("{}@{}", self.name, self.host)
    }
}

/// `amqp://` at an address, with the user that every new node has.
pub(crate) fn amqp_url(address: std::net::SocketAddr) -> String {
    format!("amqp://guest:guest@{address}/%2f?heartbeat=10")
}

/// What arrives in a queue.
#[derive(Debug)]
pub(crate) struct Consumer {
    arrived: tokio::sync::watch::Sender<Vec<Message>>,
    task: JoinHandle<()>,
    _connection: Connection,
}

/// One message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Vec<u8>,
}

impl Consumer {
    async fn start(
        (connection, channel): (Connection, Channel),
        queue: &str,
        options: BasicConsumeOptions,
        arguments: FieldTable,
    ) -> Self {
        let mut deliveries = channel
            .basic_consume(queue.into(), "".into(), options, arguments)
            .await
            .expect("consumer");
        let (arrived, _) = tokio::sync::watch::channel(Vec::new());
        let seen = arrived.clone();
        let task = tokio::spawn(async move {
            while let Some(Ok(delivery)) = deliveries.next().await {
                if !options.no_ack && delivery.ack(BasicAckOptions::default()).await.is_err() {
                    return;
                }
                seen.send_modify(|messages| messages.push(Message::from(delivery)));
            }
        });
        Self {
            arrived,
            task,
            _connection: connection,
        }
    }

    /// Everything so far, in order.
    pub(crate) fn seen(&self) -> Vec<Message> {
        self.arrived.borrow().clone()
    }

    /// Waits until there are more than `n` messages; gives those after the first `n`, or none
    /// when patience is over.
    pub(crate) async fn after(&self, n: usize) -> Vec<Message> {
        self.wait_for_more_than(n).await;
        self.arrived.borrow().get(n..).unwrap_or_default().to_vec()
    }

    /// Waits until there is a message; gives all there are, which are then forgotten, or none
    /// when patience is over.
    pub(crate) async fn taken(&self) -> Vec<Message> {
        self.wait_for_more_than(0).await;
        self.take()
    }

    /// Gives all there are, which are then forgotten.
    pub(crate) fn take(&self) -> Vec<Message> {
        let mut taken = Vec::new();
        self.arrived.send_if_modified(|messages| {
            taken = std::mem::take(messages);
            false
        });
        taken
    }

    async fn wait_for_more_than(&self, n: usize) {
        let mut arrivals = self.arrived.subscribe();
        let more = arrivals.wait_for(|messages| messages.len() > n);
        // The caller finds none.
        drop(timeout(PATIENCE, more).await.map(drop));
    }

    /// Waits until there are at least `n` messages.
    pub(crate) async fn wait_for(&self, n: usize) -> Vec<Message> {
        self.wait_until(&format!("{n} messages"), |messages| messages.len() >= n)
            .await
    }

    /// Waits until what has arrived is enough.
    pub(crate) async fn wait_until(
        &self,
        what: &str,
        enough: impl Fn(&[Message]) -> bool,
    ) -> Vec<Message> {
        let mut arrivals = self.arrived.subscribe();
        let waited = timeout(PATIENCE, arrivals.wait_for(|messages| enough(messages))).await;
        match waited {
            Ok(Ok(messages)) => messages.clone(),
            other => {
                drop(other);
                panic!(
                    "waited {PATIENCE:?} for {what}; there are {}",
                    self.seen().len()
                )
            }
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl From<Delivery> for Message {
    fn from(delivery: Delivery) -> Self {
        Self {
            exchange: delivery.exchange.as_str().to_owned(),
            routing_key: delivery.routing_key.as_str().to_owned(),
            properties: delivery.properties,
            body: delivery.data,
        }
    }
}

impl Message {
    /// Names of all headers.
    pub(crate) fn header_names(&self) -> Vec<String> {
        let Some(table) = self.properties.headers() else {
            return Vec::new();
        };
        table
            .inner()
            .keys()
            .map(|name| name.as_str().to_owned())
            .collect()
    }

    /// One header as text.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let table = self.properties.headers().as_ref()?;
        Some(match table.inner().get(name)? {
            AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
            AMQPValue::ShortString(text) => text.as_str().to_owned(),
            AMQPValue::Boolean(value) => value.to_string(),
            AMQPValue::LongInt(value) => value.to_string(),
            AMQPValue::LongUInt(value) => value.to_string(),
            AMQPValue::LongLongInt(value) => value.to_string(),
            AMQPValue::ShortShortUInt(value) => value.to_string(),
            AMQPValue::ShortInt(value) => value.to_string(),
            AMQPValue::ShortUInt(value) => value.to_string(),
            AMQPValue::Timestamp(value) => value.to_string(),
            other => panic!("header {name} is not a scalar: {other:?}"),
        })
    }

    /// One header that must be there.
    #[track_caller]
    pub(crate) fn must(&self, name: &str) -> String {
        match self.header(name) {
            Some(value) => value,
            None => panic!("no header {name} among {:?}", self.header_names()),
        }
    }

    /// The message id as text.
    #[track_caller]
    pub(crate) fn id(&self) -> String {
        self.properties
            .message_id()
            .as_ref()
            .expect("message_id")
            .as_str()
            .to_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}
