//! A broker that says what a test tells it to, over a real socket.
//!
//! It hears bytes and knows what a polite broker would answer; a role, one for each connection,
//! passes that on, changes it, or answers something else altogether.

pub(crate) mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use wire::{Frame, Method};

/// How long nothing comes before the role is told so, again and again.
const IDLE: Duration = Duration::from_millis(3);
/// Length of what a client says first.
const PROTOCOL_HEADER_BYTES: usize = 8;

/// What a connection hears.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    /// A client is there.
    Connected,
    /// It wants to speak AMQP.
    Header,
    /// A method other than a publish, on a channel.
    Method(u16, Method),
    /// A whole message.
    Publish(Published),
    /// A heartbeat.
    Heartbeat,
    /// Nothing for a while.
    Idle,
}

/// A message as it came.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) channel: u16,
    /// Its delivery tag: its number on the channel, from 1.
    pub(crate) tag: u64,
    /// Its `message_id`.
    pub(crate) id: String,
    exchange: String,
    routing_key: String,
    header: Vec<u8>,
    body: Vec<u8>,
}

/// What a connection does about what it heard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    /// Written one after the other; the client may see each alone.
    pub(crate) pieces: Vec<Vec<u8>>,
    pub(crate) then: Then,
}

/// What comes after a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Then {
    /// It listens on.
    #[default]
    Listen,
    /// It never says anything again, and reads nothing.
    Freeze,
    /// It ends the connection.
    Close,
}

/// Plays one connection: gets what was heard and what a polite broker would answer.
pub(crate) type Role = Box<dyn FnMut(&Heard, Reply) -> Reply + Send>;

/// A listening fake; it ends when dropped.
#[derive(Debug)]
pub(crate) struct FakeBroker {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl FakeBroker {
    /// Listens; `cast` gives each connection its role, by its number from 0.
    pub(crate) async fn start(cast: impl FnMut(usize) -> Role + Send + 'static) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), cast).await
    }

    /// The same at an address of the caller's choosing.
    pub(crate) async fn start_at(
        address: SocketAddr,
        cast: impl FnMut(usize) -> Role + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.expect("port");
        let address = listener.local_addr().expect("address");
        let accepted = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(accept(listener, cast, Arc::clone(&accepted)));
        Self {
            address,
            accepted,
            task,
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A role that is polite.
pub(crate) fn polite() -> Role {
    Box::new(|_, usual| usual)
}

impl Reply {
    /// Says one thing and listens on.
    pub(crate) fn say(bytes: Vec<u8>) -> Self {
        Self {
            pieces: vec![bytes],
            then: Then::Listen,
        }
    }

    /// Says nothing, now or later.
    pub(crate) fn freeze() -> Self {
        Self {
            pieces: Vec::new(),
            then: Then::Freeze,
        }
    }

    /// Does something else after what it says.
    pub(crate) fn then(self, then: Then) -> Self {
        Self { then, ..self }
    }
}

impl Published {
    /// What the broker says when no queue takes it, before it acknowledges.
    pub(crate) fn returned(&self) -> Vec<u8> {
        let arguments = [
            312_u16.to_be_bytes().to_vec(),
            wire::short("NO_ROUTE"),
            wire::short(&self.exchange),
            wire::short(&self.routing_key),
        ];
        let mut out = wire::method(self.channel, wire::RETURN, &arguments.concat());
        out.extend(wire::frame(wire::HEADER, self.channel, &self.header));
        if !self.body.is_empty() {
            out.extend(wire::frame(wire::BODY, self.channel, &self.body));
        }
        out
    }
}

async fn accept(
    listener: TcpListener,
    mut cast: impl FnMut(usize) -> Role,
    accepted: Arc<AtomicUsize>,
) {
    // Dropped, and with it every connection, when the fake is.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let number = accepted.fetch_add(1, Ordering::SeqCst);
        connections.spawn(serve(stream, cast(number)));
        while connections.try_join_next().is_some() {}
    }
}

/// One connection from its first to its last byte.
async fn serve(mut stream: TcpStream, mut role: Role) {
    stream.set_nodelay(true).expect("an option");
    let mut input = Vec::new();
    let mut ear = Ear::default();
    let mut heard = vec![Heard::Connected];
    loop {
        for heard in heard.drain(..) {
            let Reply { pieces, then } = role(&heard, usual(&heard));
            for piece in pieces {
                if stream.write_all(&piece).await.is_err() {
                    return;
                }
            }
            match then {
                Then::Listen => {}
                Then::Freeze => std::future::pending().await,
                Then::Close => return,
            }
        }
        let mut chunk = [0; 64 * 1024];
        match timeout(IDLE, stream.read(&mut chunk)).await {
            Err(_elapsed) => heard.push(Heard::Idle),
            Ok(Ok(length @ 1..)) => {
                input.extend_from_slice(&chunk[..length]);
                ear.hear(&mut input, &mut heard);
            }
            Ok(_ended) => return,
        }
    }
}

/// What has been heard of a message so far.
#[derive(Debug, Default)]
struct Ear {
    greeted: bool,
    message: Option<(Published, usize)>,
    /// Publishes so far, by channel.
    tags: std::collections::HashMap<u16, u64>,
}

impl Ear {
    fn hear(&mut self, input: &mut Vec<u8>, heard: &mut Vec<Heard>) {
        if !self.greeted {
            if input.len() < PROTOCOL_HEADER_BYTES {
                return;
            }
            input.drain(..PROTOCOL_HEADER_BYTES);
            self.greeted = true;
            heard.push(Heard::Header);
        }
        while let Some(frame) = Frame::take(input) {
            heard.extend(self.understand(frame));
        }
    }

    fn understand(&mut self, frame: Frame) -> Option<Heard> {
        match (frame.kind, frame.method()) {
            (wire::METHOD, Some(wire::PUBLISH)) => {
                let tag = self.tags.entry(frame.channel).or_default();
                *tag += 1;
                let (exchange, at) = wire::short_at(&frame.payload, 6);
                let (routing_key, _) = wire::short_at(&frame.payload, at);
                let published = Published {
                    channel: frame.channel,
                    tag: *tag,
                    id: String::new(),
                    exchange,
                    routing_key,
                    header: Vec::new(),
                    body: Vec::new(),
                };
                self.message = Some((published, 0));
                None
            }
            (wire::METHOD, Some(method)) => {
                if method == wire::CHANNEL_OPEN {
                    self.tags.insert(frame.channel, 0);
                }
                Some(Heard::Method(frame.channel, method))
            }
            (wire::HEADER, _) => {
                let (published, size) = self.message.as_mut().expect("a publish");
                (*size, published.id) = wire::content_header(&frame.payload);
                published.header = frame.payload;
                self.whole()
            }
            (wire::BODY, _) => {
                let (published, _) = self.message.as_mut().expect("a publish");
                published.body.extend(frame.payload);
                self.whole()
            }
            _ => Some(Heard::Heartbeat),
        }
    }

    fn whole(&mut self) -> Option<Heard> {
        let (message, _) = self
            .message
            .take_if(|(message, size)| message.body.len() >= *size)?;
        Some(Heard::Publish(message))
    }
}

/// What a polite broker answers.
fn usual(heard: &Heard) -> Reply {
    let bytes = match heard {
        Heard::Header => wire::start(),
        Heard::Method(channel, method) => {
            let empty = |answer| wire::method(*channel, answer, &[]);
            match *method {
                wire::START_OK => wire::tune(2047, wire::FRAME_MAX, 10),
                wire::OPEN => wire::method(0, wire::OPEN_OK, &wire::short("")),
                wire::CHANNEL_OPEN => {
                    wire::method(*channel, wire::CHANNEL_OPEN_OK, &wire::long(b""))
                }
                wire::EXCHANGE_DECLARE => empty(wire::EXCHANGE_DECLARE_OK),
                wire::QUEUE_DECLARE => {
                    let arguments = [wire::short("q"), vec![0; 8]].concat();
                    wire::method(*channel, wire::QUEUE_DECLARE_OK, &arguments)
                }
                wire::QUEUE_BIND => empty(wire::QUEUE_BIND_OK),
                wire::CONFIRM_SELECT => empty(wire::CONFIRM_SELECT_OK),
                wire::CHANNEL_CLOSE => empty(wire::CHANNEL_CLOSE_OK),
                wire::CONNECTION_CLOSE => {
                    let bytes = wire::method(0, wire::CONNECTION_CLOSE_OK, &[]);
                    return Reply::say(bytes).then(Then::Close);
                }
                // Tune-ok, close-ok: nothing is to be said.
                _ => return Reply::default(),
            }
        }
        Heard::Publish(message) => wire::ack(message.channel, message.tag, false),
        Heard::Heartbeat => wire::frame(wire::HEARTBEAT, 0, &[]),
        Heard::Connected | Heard::Idle => return Reply::default(),
    };
    Reply::say(bytes)
}
