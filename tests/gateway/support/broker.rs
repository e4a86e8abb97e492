//! A private RabbitMQ node on loopback, and what a consumer sees in it.
//!
//! A node takes about six seconds to start, so there are two for the whole binary: one that every
//! test shares (exchanges and queues have names of their own), and one that tests may kill and
//! block, one test at a time.
//!
//! The node and its port mapper run under a small shell that holds the read end of a pipe. When
//! the pipe closes, because the broker is dropped or because this process ended in whatever way,
//! the shell kills both by their process ids and removes the directory. Statics are never
//! dropped, so nothing less would do.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::sync::{MutexGuard, OnceCell};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::eventually::{PATIENCE, eventually};
use super::gateway::free_port;

/// Where Debian puts the server's own scripts; those in `/usr/sbin` insist on a system user.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CONTROL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";

/// Starts the port mapper and the node, then obeys one word from its standard input:
/// `stop` lets the node end in good order, `kill` does not, and the end of input also removes the
/// directory.
const SUPERVISOR: &str = r#"
epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 </dev/null >/dev/null 2>&1 & mapper=$!
"$SERVER" </dev/null >>"$HOME/output" 2>&1 & node=$!
read -r word || word=end
if [ "$word" = stop ]; then kill -TERM $node; wait $node; else kill -KILL $node; fi
kill -KILL $mapper
wait
if [ "$word" = end ]; then rm -rf "$HOME"; fi
"#;

/// A node, running or not.
#[derive(Debug)]
pub(crate) struct Broker {
    directory: PathBuf,
    name: String,
    amqp_port: u16,
    cluster_port: u16,
    mapper_port: u16,
    supervisor: Mutex<Option<Child>>,
}

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
    } else {
        broker.start_again().await;
    }
    broker
}

impl Broker {
    /// Starts a node in a directory of its own and waits until it speaks AMQP.
    pub(crate) async fn start() -> Self {
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
        std::fs::write(directory.join("plugins"), "[].\n").expect("plugins");
        std::fs::write(directory.join("environment"), "").expect("environment");
        std::fs::write(
            directory.join("rabbitmq.conf"),
            "log.file.level = warning\nlog.console = false\ndisk_free_limit.absolute = 50MB\n",
        )
        .expect("configuration");
        let amqp_port = free_port();
        let broker = Self {
            directory,
            name: format!("hookgate_{}_{amqp_port}@localhost", std::process::id()),
            amqp_port,
            cluster_port: free_port(),
            mapper_port: free_port(),
            supervisor: Mutex::new(None),
        };
        broker.start_again().await;
        broker
    }

    /// Starts the node on the data and ports that it had.
    pub(crate) async fn start_again(&self) {
        assert!(!self.is_running(), "the node runs already");
        let mut command = Command::new("/bin/sh");
        self.environment(&mut command);
        let child = command
            .args(["-c", SUPERVISOR])
            .env("SERVER", SERVER)
            // With a shell of its own the start script stays between us and the node; without,
            // it becomes the node, and its process id is the one to end.
            .env("RABBITMQ_ALLOW_INPUT", "1")
            .env("RABBITMQ_SERVER_START_ARGS", "-noinput")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C at the terminal reaches us, not the node: the pipe tells the supervisor.
            .process_group(0)
            .spawn()
            .expect("sh");
        *self.supervisor.lock().expect("lock") = Some(child);
        eventually("the broker to answer", || async {
            match self.connect().await {
                Ok(_) => Ok(()),
                Err(error) => {
                    let output = std::fs::read_to_string(self.directory.join("output"));
                    Err(format!("{error}\n{}", output.unwrap_or_default()))
                }
            }
        })
        .await;
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
        sleep(std::time::Duration::from_millis(1200)).await;
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

    async fn control(&self, arguments: &[&str]) {
        let cookie =
            std::fs::read_to_string(self.directory.join(".erlang.cookie")).expect("cookie");
        let mut command = Command::new(CONTROL);
        self.environment(&mut command);
        command
            .args(["--node", &self.name, "--erlang-cookie", &cookie])
            .args(arguments);
        let output = tokio::process::Command::from(command)
            .stdin(Stdio::null())
            .output()
            .await
            .expect("rabbitmqctl");
        assert!(
            output.status.success(),
            "rabbitmqctl {arguments:?}: {output:?}"
        );
    }

    fn environment(&self, command: &mut Command) {
        let at = |name: &str| self.directory.join(name);
        command
            .env("HOME", &self.directory)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.mapper_port.to_string())
            .env("RABBITMQ_NODENAME", &self.name)
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.amqp_port.to_string())
            .env("RABBITMQ_DIST_PORT", self.cluster_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", at("data"))
            .env("RABBITMQ_LOG_BASE", at("log"))
            .env("RABBITMQ_PID_FILE", at("pid"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("plugins"))
            .env("RABBITMQ_CONFIG_FILE", at("rabbitmq"))
            .env("RABBITMQ_CONF_ENV_FILE", at("environment"));
    }

    /// Where AMQP is spoken.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.amqp_port).into()
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
        match timeout(std::time::Duration::from_secs(5), connecting).await {
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
