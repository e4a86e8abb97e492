//! A publisher with nothing around it: the client library, confirms, and a window.

use anyhow::{Context as _, Result, anyhow, ensure};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, ShortString};
use lapin::{BasicProperties, Confirmation};
use tokio::time::Instant;

use crate::figures::Figures;
use crate::plan::Plan;
use crate::process::{broker_seconds, own_seconds};
use crate::requests::Requests;
use crate::support::broker::Broker;

/// Every broker has this topic exchange.
pub(crate) const EXCHANGE: &str = "amq.topic";
const QUEUE: &str = "bare";
const NOT_TAKEN: &str = "the broker did not take a message of the bare publisher";

/// A message without its body.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    exchange: ShortString,
    routing_key: ShortString,
    properties: BasicProperties,
}

impl Message {
    /// Persistent, and nothing else.
    pub(crate) fn plain() -> Self {
        Self {
            exchange: EXCHANGE.into(),
            routing_key: QUEUE.into(),
            properties: BasicProperties::default().with_delivery_mode(2),
        }
    }

    /// The first one in a queue, which is taken out.
    pub(crate) async fn of_first(broker: &Broker, queue: &str) -> Result<Self> {
        let connection = broker.connect().await.map_err(|error| anyhow!(error))?;
        let channel = connection.create_channel().await?;
        let options = BasicGetOptions { no_ack: true };
        let got = channel.basic_get(queue.into(), options).await?;
        let delivery = got.context("nothing is in the queue")?.delivery;
        connection.close(200, "done".into()).await?;
        Ok(Self {
            exchange: delivery.exchange,
            routing_key: delivery.routing_key,
            properties: delivery.properties,
        })
    }
}

/// Publishes mandatory messages into a durable quorum queue, with so many of them unconfirmed at
/// most.
pub(crate) async fn publish(
    broker: &Broker,
    plan: &Plan,
    requests: &Requests,
    window: usize,
    message: Message,
) -> Result<Figures> {
    let kind = AMQPValue::LongString("quorum".into());
    broker
        .declare(QUEUE, &[("x-queue-type", kind)], EXCHANGE, QUEUE)
        .await;
    let connection = broker.connect().await.map_err(|error| anyhow!(error))?;
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;

    // Nothing else happens in this process meanwhile.
    let own_pid = std::process::id();
    let begin = Instant::now() + plan.warm_up;
    let end = begin + plan.duration;
    let mut unconfirmed = FuturesUnordered::new();
    let mut latencies = Vec::new();
    let mut cpu_before = None;
    for body in requests.bodies().cycle() {
        let start = Instant::now();
        if start >= end {
            break;
        }
        if start >= begin && cpu_before.is_none() {
            cpu_before = Some((own_seconds(own_pid)?, broker_seconds()?));
        }
        let confirm = channel
            .basic_publish(
                message.exchange.clone(),
                message.routing_key.clone(),
                BasicPublishOptions {
                    mandatory: true,
                    ..BasicPublishOptions::default()
                },
                body,
                message.properties.clone(),
            )
            .await?;
        unconfirmed.push(async move { (start, confirm.await) });
        if unconfirmed.len() < window {
            continue;
        }
        if let Some((start, confirmation)) = unconfirmed.next().await {
            ensure!(confirmation? == Confirmation::Ack(None), NOT_TAKEN);
            let now = Instant::now();
            if (begin..end).contains(&now) {
                latencies.push(now - start);
            }
        }
    }
    let (cpu_after, broker_after) = (own_seconds(own_pid)?, broker_seconds()?);
    while let Some((_, confirmation)) = unconfirmed.next().await {
        ensure!(confirmation? == Confirmation::Ack(None), NOT_TAKEN);
    }
    connection.close(200, "done".into()).await?;
    broker.purge(QUEUE).await;
    let mut figures = Figures::of_load(latencies, plan.duration);
    figures.cpu_seconds = cpu_before.map(|(before, _)| cpu_after - before);
    figures.broker_seconds = cpu_before.map(|(_, before)| broker_after - before);
    Ok(figures)
}
