//! The broker as the publisher needs it: a connection, a channel per exchange, publishes with
//! confirms. [`super::amqp`] does it with lapin, tests with a script.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use uuid::Uuid;

use super::message::Message;
use super::urls::Node;

/// Longest text of the broker's that is logged or kept.
const TEXT_CHARS_MAX: usize = 400;

/// Makes connections.
pub(super) trait Broker: Send + Sync + 'static {
    /// What it makes.
    type Connection: Connection;

    /// Connects, and makes or checks exchanges and queues. Bounded in time.
    fn connect(
        &self,
        node: &Node,
    ) -> impl Future<Output = Result<Self::Connection, Failure>> + Send;
}

/// One connection with one life. Dropping it cuts it.
pub(super) trait Connection: Send {
    /// Its channels.
    type Channel: Channel;

    /// Opens a channel in confirm mode; with `repair`, after exchanges and queues have been made
    /// or checked again. Bounded in time.
    fn open(&mut self, repair: bool)
    -> impl Future<Output = Result<Self::Channel, Failure>> + Send;

    /// Whether it is still up.
    fn is_up(&self) -> bool;

    /// The next thing it has to say. May be dropped and called again.
    fn notice(&mut self) -> impl Future<Output = Notice> + Send;

    /// Says goodbye and cuts it. Bounded in time.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// One channel in confirm mode, for one exchange: what the broker refuses closes only this one.
pub(super) trait Channel: Send {
    /// Publishes, mandatory. The message is on its way after the first poll, so publishes leave
    /// in the order of their first polls; the answer comes whenever it comes.
    fn publish(&self, message: Message) -> Answer;

    /// How many publishes have been written to the socket.
    fn written(&self) -> u64;
}

/// A publish on its way.
pub(super) type Answer = Pin<Box<dyn Future<Output = Result<Receipt, Failure>> + Send>>;

/// What a confirm said. Whose return came with it is another matter: see [`super::pairing`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Receipt {
    /// Taken.
    Ack(Option<Returned>),
    /// Refused.
    Nack(Option<Returned>),
}

/// A message that no queue took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Returned {
    /// Its `message_id`.
    pub(super) id: Option<Uuid>,
}

/// What a connection says of its own accord.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// The broker takes no publishes for now, and why.
    Blocked(String),
    /// It takes them again.
    Unblocked,
    /// Something failed; the connection may be down.
    Failed(Failure),
}

/// Why a channel or a connection ended, or was never there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// AMQP reply code, where the broker said one.
    pub(super) code: Option<u16>,
    /// For the log; nothing of a payload or a password.
    pub(super) text: String,
}

impl Failure {
    /// A failure without a code.
    pub(super) fn new(text: impl fmt::Display) -> Self {
        Self::coded(None, text)
    }

    /// A failure as the broker told it.
    pub(super) fn coded(code: Option<u16>, text: impl fmt::Display) -> Self {
        let text = text.to_string().chars().take(TEXT_CHARS_MAX).collect();
        Self { code, text }
    }

    /// Whether the broker objects to the message itself, so that it would again. A missing
    /// exchange, a missing permission, a node that stops are nobody's message's fault.
    pub(super) fn blames_message(&self) -> bool {
        const CONTENT_TOO_LARGE: u16 = 311;
        const PRECONDITION_FAILED: u16 = 406;
        const FRAME_ERROR: u16 = 501;
        const SYNTAX_ERROR: u16 = 502;
        const COMMAND_INVALID: u16 = 503;
        const UNEXPECTED_FRAME: u16 = 505;
        const NOT_IMPLEMENTED: u16 = 540;
        matches!(
            self.code,
            Some(
                CONTENT_TOO_LARGE
                    | PRECONDITION_FAILED
                    | FRAME_ERROR
                    | SYNTAX_ERROR
                    | COMMAND_INVALID
                    | UNEXPECTED_FRAME
                    | NOT_IMPLEMENTED
            )
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
