//! The broker through lapin.
//!
//! What lapin 4.12 leaves to its user, and is done here: every await has a deadline, because
//! lapin waits for ever while the broker blocks a connection; and the socket is cut when a
//! connection is dropped, because lapin's thread and buffers live as long as it, and a peer that
//! is silently gone keeps it for a quarter of an hour.

use std::fmt;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use lapin::message::BasicReturnMessage;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::tcp::TLSConfig;
use lapin::types::{FieldTable, LongString, ShortString};
use lapin::uri::AMQPScheme;
use lapin::{AsyncTcpStream, Confirmation, ConnectionProperties, ErrorKind, Event};
use tokio::net::lookup_host;
use tokio::time::timeout;
use uuid::Uuid;

use super::broker::{Answer, Broker, Channel, Connection, Failure, Notice, Receipt, Returned};
use super::message::Message;
use super::topology::{Step, plan};
use super::urls::Node;
use crate::config::{self, Topology};

/// From the name of a node to an AMQP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// One address of a node.
const TCP_TIMEOUT: Duration = Duration::from_secs(4);
/// One method and its answer.
const METHOD_TIMEOUT: Duration = Duration::from_secs(5);
/// Saying goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What the management page shows.
const CONNECTION_NAME: &str = concat!("hookgate ", env!("CARGO_PKG_VERSION"));

/// Connects through lapin.
#[derive(Debug)]
pub(super) struct Amqp {
    topology: Topology,
    steps: Arc<[Step]>,
}

/// A connection of lapin's.
pub(super) struct AmqpConnection {
    connection: lapin::Connection,
    events: Pin<Box<dyn Stream<Item = Event> + Send>>,
    topology: Topology,
    steps: Arc<[Step]>,
    /// Cuts the socket when it is dropped, so it stands last.
    _cord: Cord,
}

/// A channel of lapin's in confirm mode.
pub(super) struct AmqpChannel {
    channel: Arc<lapin::Channel>,
    written: Arc<AtomicU64>,
}

// === impl Amqp ===

impl Amqp {
    /// Reads the topology.
    ///
    /// # Errors
    ///
    /// A name that AMQP cannot carry.
    pub(super) fn new(config: &config::Broker) -> Result<Self, String> {
        Ok(Self {
            topology: config.topology,
            steps: plan(config)?.into(),
        })
    }

    /// Connects and does nothing else.
    pub(super) async fn dial(&self, node: &Node) -> Result<AmqpConnection, Failure> {
        let cord = Cord::default();
        let connection = timeout(CONNECT_TIMEOUT, dial(node, &cord)).await;
        let connection = connection
            .map_err(|_elapsed| Failure::new("it did not answer within 10 s"))?
            .map_err(|error| hint(node, told(&error)))?;
        Ok(AmqpConnection {
            events: Box::pin(connection.events_listener()),
            connection,
            topology: self.topology,
            steps: Arc::clone(&self.steps),
            _cord: cord,
        })
    }

    /// What is declared or checked.
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl Broker for Amqp {
    type Connection = AmqpConnection;

    async fn connect(&self, node: &Node) -> Result<AmqpConnection, Failure> {
        let mut connection = self.dial(node).await?;
        connection.prepare().await?;
        Ok(connection)
    }
}

// === impl AmqpConnection ===

impl AmqpConnection {
    /// Makes or checks exchanges and queues.
    async fn prepare(&mut self) -> Result<(), Failure> {
        let passive = match self.topology {
            Topology::Declare => false,
            Topology::Check => true,
            Topology::Ignore => return Ok(()),
        };
        let channel = self.channel().await?;
        for step in self.steps.iter() {
            let done = in_time(declare(&channel, step, passive)).await;
            done.map_err(|failure| step.trouble(&failure))?;
        }
        // A channel that is dropped is closed.
        Ok(())
    }

    /// A channel without confirms.
    pub(super) async fn channel(&mut self) -> Result<lapin::Channel, Failure> {
        in_time(self.connection.create_channel()).await
    }
}

impl Connection for AmqpConnection {
    type Channel = AmqpChannel;

    async fn open(&mut self, repair: bool) -> Result<AmqpChannel, Failure> {
        if repair {
            self.prepare().await?;
        }
        let channel = self.channel().await?;
        in_time(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(AmqpChannel {
            channel: Arc::new(channel),
            written: Arc::default(),
        })
    }

    fn is_up(&self) -> bool {
        self.connection.status().connected()
    }

    async fn notice(&mut self) -> Notice {
        loop {
            match self.events.next().await {
                Some(Event::ConnectionBlocked(reason)) => return Notice::Blocked(reason),
                Some(Event::ConnectionUnblocked) => return Notice::Unblocked,
                Some(Event::Error(error)) => return Notice::Failed(told(&error)),
                Some(_) => {}
                // lapin keeps the sender as long as the connection.
                None => std::future::pending().await,
            }
        }
    }

    async fn close(self) {
        let close = self.connection.close(
            lapin::protocol::constants::REPLY_SUCCESS,
            ShortString::default(),
        );
        if let Ok(Err(error)) = timeout(CLOSE_TIMEOUT, close).await {
            tracing::debug!(error = %told(&error), "the connection was not closed in good order");
        }
    }
}

/// Declares a thing, or with `passive` only looks whether it is there. Bindings cannot be looked
/// at.
pub(super) async fn declare(
    channel: &lapin::Channel,
    step: &Step,
    passive: bool,
) -> lapin::Result<()> {
    match step {
        Step::Exchange {
            name,
            kind,
            arguments,
        } => {
            let options = ExchangeDeclareOptions {
                passive,
                durable: true,
                ..ExchangeDeclareOptions::default()
            };
            channel
                .exchange_declare(name.clone(), kind.clone(), options, arguments.clone())
                .await
        }
        Step::Queue { name, arguments } => {
            let options = QueueDeclareOptions {
                passive,
                durable: true,
                ..QueueDeclareOptions::default()
            };
            channel
                .queue_declare(name.clone(), options, arguments.clone())
                .await
                .map(drop)
        }
        Step::Bind { .. } if passive => Ok(()),
        Step::Bind {
            queue,
            exchange,
            key,
        } => {
            let options = QueueBindOptions::default();
            channel
                .queue_bind(
                    queue.clone(),
                    exchange.clone(),
                    key.clone(),
                    options,
                    FieldTable::default(),
                )
                .await
        }
    }
}

impl fmt::Debug for AmqpConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpConnection").finish_non_exhaustive()
    }
}

// === impl AmqpChannel ===

impl Channel for AmqpChannel {
    fn publish(&self, message: Message) -> Answer {
        let channel = Arc::clone(&self.channel);
        let written = Arc::clone(&self.written);
        Box::pin(async move {
            let options = BasicPublishOptions {
                mandatory: true,
                immediate: false,
            };
            let Message {
                exchange,
                routing_key,
                properties,
                body,
            } = message;
            let confirm = channel
                .basic_publish(exchange, routing_key, options, &body, properties)
                .await
                .map_err(|error| told(&error))?;
            written.fetch_add(1, Ordering::Relaxed);
            match confirm.await.map_err(|error| told(&error))? {
                Confirmation::Ack(returned) => Ok(Receipt::Ack(returned.map(identify))),
                Confirmation::Nack(returned) => Ok(Receipt::Nack(returned.map(identify))),
                // Every channel is opened in confirm mode, so this does not come. If it did, it
                // would prove nothing.
                Confirmation::NotRequested => Err(Failure::new("the channel does not confirm")),
            }
        })
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "its payload is freed here")]
fn identify(returned: BasicReturnMessage) -> Returned {
    let id = returned.properties.message_id().as_ref();
    Returned {
        id: id.and_then(|id| Uuid::try_parse(id.as_str()).ok()),
    }
}

impl fmt::Debug for AmqpChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpChannel").finish_non_exhaustive()
    }
}

// === the socket ===

async fn dial(node: &Node, cord: &Cord) -> lapin::Result<lapin::Connection> {
    let properties =
        ConnectionProperties::default().with_connection_name(LongString::from(CONNECTION_NAME));
    let runtime = lapin::runtime::default_runtime()?;
    let held = Arc::clone(&cord.0);
    lapin::Connection::connector(
        node.uri().clone(),
        runtime,
        async move |uri, runtime| {
            let authority = &uri.authority;
            let addresses = lookup_host((authority.host.as_str(), authority.port)).await?;
            let mut failure = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
            for address in addresses {
                let stream = AsyncTcpStream::connect(&runtime, address);
                let stream = match timeout(TCP_TIMEOUT, stream).await {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => {
                        failure = error;
                        continue;
                    }
                    Err(elapsed) => {
                        failure = elapsed.into();
                        continue;
                    }
                };
                if let AsyncTcpStream::Plain(plain) = &stream {
                    let socket = plain.get_ref().as_fd().try_clone_to_owned()?;
                    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
                    held.hold(TcpStream::from(socket))?;
                }
                if uri.scheme == AMQPScheme::AMQP {
                    return Ok(stream);
                }
                let secured = stream.into_tls(&authority.host, TLSConfig::default());
                let secured = timeout(CONNECT_TIMEOUT, secured).await;
                return Ok(secured.map_err(std::io::Error::from)??);
            }
            Err(failure.into())
        },
        properties,
    )
    .await
}

/// A second handle on a connection's socket, which cuts it when it is dropped.
#[derive(Debug, Default)]
struct Cord(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    socket: Option<TcpStream>,
    cut: bool,
}

impl Held {
    /// Takes a socket.
    ///
    /// # Errors
    ///
    /// It was made too late: nobody waits for it any more.
    fn hold(&mut self, socket: TcpStream) -> std::io::Result<()> {
        if self.cut {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        self.socket = Some(socket);
        Ok(())
    }
}

impl Drop for Cord {
    fn drop(&mut self) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.cut = true;
        if let Some(socket) = held.socket.take() {
            // It fails if the peer has closed it already.
            drop(socket.shutdown(Shutdown::Both));
        }
    }
}

// === errors ===

/// Waits for one method.
pub(super) async fn in_time<T>(
    method: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Failure> {
    match timeout(METHOD_TIMEOUT, method).await {
        Ok(result) => result.map_err(|error| told(&error)),
        Err(_elapsed) => Err(Failure::new("the broker did not answer within 5 s")),
    }
}

/// A slash at the end of a URL is a frequent mistake.
fn hint(node: &Node, failure: Failure) -> Failure {
    const NOT_ALLOWED: u16 = 530;
    if failure.code != Some(NOT_ALLOWED) || !node.uri().vhost.is_empty() {
        return failure;
    }
    let text = format!(
        "the URL ends in a slash, which names the vhost \"\"; without it, it means \"/\" ({failure})"
    );
    Failure { text, ..failure }
}

/// What lapin said, without its wrapping.
fn told(error: &lapin::Error) -> Failure {
    match error.kind() {
        ErrorKind::ProtocolError(refusal) => {
            let code = refusal.get_id();
            Failure::coded(
                Some(code),
                format_args!("{} ({code})", refusal.get_message()),
            )
        }
        ErrorKind::IOError(error) => Failure::new(error),
        _ => Failure::new(error),
    }
}
