// Takes events from a queue. Usage: AMQP_URL=amqp://... node consumer.mjs QUEUE
import amqp from "amqplib";

const PREFETCH = 32; // events at hand that are not acknowledged yet
const REMEMBERED = 100_000; // message ids; with several consumers keep them in the database instead

const seen = new Set(); // in the order of insertion

/** Your work. Throw, and the event comes again. */
async function handle(body, properties) {
  const names = Object.keys(properties.headers).filter((name) => name.startsWith("cloudEvents_"));
  for (const name of names.sort()) {
    console.log(`  ${name}: ${properties.headers[name]}`);
  }
  console.log(`  ${body.length} bytes of ${properties.contentType}`);
}

const connection = await amqp.connect(process.env.AMQP_URL);
const channel = await connection.createChannel();

async function onMessage(message) {
  if (message === null) {
    throw new Error("the queue was deleted");
  }
  // The gateway publishes at least once, with a message id that stays the same.
  const { messageId, type } = message.properties;
  if (!seen.has(messageId)) {
    seen.add(messageId); // before the first await, so that a copy does not slip in
    console.log(`${messageId} ${type}`);
    try {
      await handle(message.content, message.properties);
    } catch (error) {
      console.error(`failed: ${error}`);
      seen.delete(messageId);
      // A quorum queue counts these and has a delivery limit; see the README.
      channel.nack(message);
      return;
    }
    if (seen.size > REMEMBERED) {
      seen.delete(seen.values().next().value);
    }
  }
  // Only now: an event that is not acknowledged is delivered again after a crash.
  channel.ack(message);
}

await channel.prefetch(PREFETCH);
await channel.consume(process.argv[2], onMessage);
process.once("SIGINT", () => connection.close());
