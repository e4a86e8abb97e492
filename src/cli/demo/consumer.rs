//! The accepted events as a consumer sees them: from a queue, or, where there is no broker, as the
//! messages that the journal would become.

use std::io::Write;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, ExchangeDeleteOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties, Consumer};
use tokio::time::{Instant, sleep, timeout};

use super::setting::EXCHANGE;
use super::{excerpt, print_headers};
use crate::cli::{Exit, Failure};
use crate::delivery::Delivery;
use crate::journal::{Journal, Position};
use crate::publisher;

/// How long an event may take from its 2xx to the consumer.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Between two looks for the queue.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// One event as shown.
struct Shown<'a> {
    routing_key: &'a str,
    headers: Vec<(String, String)>,
    body: &'a [u8],
}

pub(super) async fn from_journal(
    journal: &Journal,
    expected: usize,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    writeln!(
        out,
        "\nthe accepted events, as the messages that a broker would get:\n"
    )?;
    let mut reader = journal.read_from(Position(0));
    for _ in 0..expected {
        let record = match timeout(ARRIVAL_TIMEOUT, reader.next()).await {
            Ok(Ok(Some(record))) => record,
            Ok(Ok(None)) | Err(_) => return Err(missing()),
            Ok(Err(error)) => return Err(Failure::new(Exit::Failure, error.to_string())),
        };
        let delivery = Delivery::decode(&record.payload)
            .map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
        let shown = Shown {
            routing_key: &delivery.routing_key,
            headers: publisher::preview(&delivery)
                .map_err(|what| Failure::new(Exit::Failure, what))?,
            body: &delivery.body,
        };
        show(&shown, out)?;
    }
    Ok(())
}

pub(super) async fn from_queue(
    amqp_url: &str,
    expected: usize,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let fail = |error: lapin::Error| {
        Failure::new(
            Exit::Unavailable,
            format!("consuming from the broker: {error}"),
        )
    };
    writeln!(
        out,
        "\nthe accepted events, consumed from the queue {EXCHANGE}:\n"
    )?;
    let connection = Connection::connect(amqp_url, ConnectionProperties::default())
        .await
        .map_err(fail)?;
    let (channel, mut consumer) = consume(&connection).await?;
    for _ in 0..expected {
        let next = timeout(ARRIVAL_TIMEOUT, consumer.next()).await;
        let Ok(Some(message)) = next else {
            return Err(missing());
        };
        let message = message.map_err(fail)?;
        let headers = publisher::printable(&message.properties);
        let shown = Shown {
            routing_key: message.routing_key.as_str(),
            headers,
            body: &message.data,
        };
        show(&shown, out)?;
        message
            .ack(BasicAckOptions::default())
            .await
            .map_err(fail)?;
    }
    clear_away(&channel).await.map_err(fail)?;
    connection
        .close(200, "the demo is over".into())
        .await
        .map_err(fail)
}

/// The gateway declares the queue when it connects, which may be a moment after the first answer.
async fn consume(connection: &Connection) -> Result<(Channel, Consumer), Failure> {
    let deadline = Instant::now() + ARRIVAL_TIMEOUT;
    loop {
        // A failed consume costs its channel.
        let attempt = async {
            let channel = connection.create_channel().await?;
            let options = BasicConsumeOptions::default();
            let consumer = channel
                .basic_consume(EXCHANGE.into(), "".into(), options, FieldTable::default())
                .await?;
            lapin::Result::Ok((channel, consumer))
        };
        match attempt.await {
            Ok(consuming) => return Ok(consuming),
            Err(_not_yet) if Instant::now() < deadline => sleep(RETRY_PAUSE).await,
            Err(error) => {
                let message = format!("consuming from the broker: {error}");
                return Err(Failure::new(Exit::Unavailable, message));
            }
        }
    }
}

/// The demo leaves nothing at the broker. By now the gateway has published all that it had.
async fn clear_away(channel: &Channel) -> lapin::Result<()> {
    let quarantine = format!("{EXCHANGE}.quarantine");
    let unrouted = format!("{EXCHANGE}.unrouted");
    channel
        .queue_delete(EXCHANGE.into(), QueueDeleteOptions::default())
        .await?;
    channel
        .exchange_delete(EXCHANGE.into(), ExchangeDeleteOptions::default())
        .await?;
    for name in [quarantine, unrouted] {
        channel
            .queue_delete(name.as_str().into(), QueueDeleteOptions::default())
            .await?;
        channel
            .exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default())
            .await?;
    }
    Ok(())
}

fn show(event: &Shown<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "  {}", event.routing_key)?;
    print_headers(&event.headers, out)?;
    writeln!(out, "    {}\n", excerpt(event.body))?;
    Ok(())
}

fn missing() -> Failure {
    Failure::new(Exit::Failure, "an event that was accepted did not arrive")
}
