//! The consumer: takes everything from the queue, through every fault of the broker, and lets go of
//! a message only once it is in the books.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio::time::sleep;

use super::ledger::Ledger;
use crate::support::broker::{Broker, Message};

/// The queue that everything goes to.
pub(crate) const QUEUE: &str = "soak";
/// A queue that takes one message and refuses all others.
const REFUSING: &str = "soak-refuses";

/// Between two tries to reach the broker.
const PAUSE: Duration = Duration::from_millis(200);
/// Messages that the broker gives out ahead of acknowledgements.
const AHEAD: u16 = 200;

/// Consumes until it is dropped.
pub(crate) async fn drain(broker: Arc<Broker>, ledger: Arc<Ledger>) {
    loop {
        // A broker that was killed: whatever the reason, come again.
        drop(consume(&broker, &ledger).await);
        sleep(PAUSE).await;
    }
}

async fn consume(broker: &Broker, ledger: &Ledger) -> Result<(), String> {
    let text = |error: lapin::Error| error.to_string();
    let connection = broker.connect().await?;
    let channel = connection.create_channel().await.map_err(text)?;
    channel
        .basic_qos(AHEAD, BasicQosOptions::default())
        .await
        .map_err(text)?;
    let mut deliveries = channel
        .basic_consume(
            QUEUE.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(text)?;
    while let Some(delivery) = deliveries.next().await {
        let delivery = delivery.map_err(text)?;
        let acker = delivery.acker.clone();
        enter(ledger, delivery);
        acker.ack(BasicAckOptions::default()).await.map_err(text)?;
    }
    Ok(())
}

fn enter(ledger: &Ledger, delivery: Delivery) {
    let redelivered = delivery.redelivered;
    let message = Message::from(delivery);
    let event_id = message.header("hookgate_event_id").unwrap_or_default();
    ledger.arrived(&event_id, &message.id(), &message.body, redelivered);
}

/// From now on the broker refuses what these exchanges get: one of their queues is full.
pub(crate) async fn refuse(broker: &Broker, exchanges: &[String]) {
    let limits = [
        ("x-max-length", AMQPValue::LongInt(1)),
        ("x-overflow", AMQPValue::LongString("reject-publish".into())),
    ];
    for exchange in exchanges {
        broker.declare(REFUSING, &limits, exchange, "#").await;
    }
}

/// It does no more.
pub(crate) async fn accept_again(broker: &Broker) {
    let connection = broker.connect().await.expect("connection");
    let channel = connection.create_channel().await.expect("channel");
    channel
        .queue_delete(REFUSING.into(), QueueDeleteOptions::default())
        .await
        .expect("delete");
}
