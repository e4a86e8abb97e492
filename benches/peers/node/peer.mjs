// A webhook receiver as a competent team would write it by hand in Node: fastify behind TLS 1.3, a
// worker for each processor, ajv's compiled schema, and a confirm channel to RabbitMQ. It answers
// 202 when the broker has confirmed.
//
// Environment: HOST, PORT, CERT, KEY, SECRET, SCHEMA, AMQP_URL, EXCHANGE, ROUTING_KEY, WORKERS.
// Each worker says `ready` when it listens.

import cluster from 'node:cluster';
import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';

import Ajv2020 from 'ajv/dist/2020.js';
import amqp from 'amqplib';
import Fastify from 'fastify';

const { env } = process;
const BODY_BYTES_MAX = 1024 * 1024;
const PREFIX = 'sha256=';

if (cluster.isPrimary) {
  for (let n = 0; n < Number(env.WORKERS); n += 1) cluster.fork();
  // A worker that fails takes all along: figures of half a program would be no figures.
  cluster.on('exit', () => process.exit(1));
  // Workers end when the channel to their primary does.
  process.on('SIGTERM', () => process.exit(0));
} else {
  await serve();
}

async function serve() {
  const publish = await publisher();
  const validate = new Ajv2020().compile(JSON.parse(readFileSync(env.SCHEMA, 'utf8')));
  const app = Fastify({
    https: { cert: readFileSync(env.CERT), key: readFileSync(env.KEY), minVersion: 'TLSv1.3' },
    bodyLimit: BODY_BYTES_MAX,
    logger: false,
  });
  // The signature covers the bytes as they came.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_, body, done) => done(null, body));

  app.post('/github', async ({ headers, body }, reply) => {
    if (!isGenuine(headers['x-hub-signature-256'], body)) return reply.code(401).send({ status: 'forged' });
    let event;
    try {
      event = JSON.parse(body.toString('utf8'));
    } catch {
      return reply.code(400).send({ status: 'not JSON' });
    }
    if (!validate(event)) return reply.code(422).send({ status: 'invalid' });
    const id = headers['x-github-delivery'] ?? randomUUID();
    try {
      await publish(id, headers['x-github-event'], body);
    } catch {
      return reply.code(503).send({ status: 'not published' });
    }
    return reply.code(202).send({ status: 'accepted', id });
  });

  await app.listen({ host: env.HOST, port: Number(env.PORT) });
  process.stdout.write('ready\n');
}

function isGenuine(header, body) {
  if (!header?.startsWith(PREFIX)) return false;
  const theirs = Buffer.from(header.slice(PREFIX.length), 'hex');
  const ours = createHmac('sha256', env.SECRET).update(body).digest();
  return theirs.length === ours.length && timingSafeEqual(theirs, ours);
}

// Publishes persistent, mandatory messages; resolves at the broker's confirm.
async function publisher() {
  const connection = await amqp.connect(env.AMQP_URL);
  const channel = await connection.createConfirmChannel();
  // What reaches no queue is returned before it is confirmed.
  const returned = new Set();
  channel.on('return', (message) => returned.add(message.properties.messageId));
  connection.on('close', () => process.exit(1));
  return (messageId, type, body) =>
    new Promise((resolve, reject) => {
      const options = { persistent: true, mandatory: true, messageId, type, contentType: 'application/json' };
      channel.publish(env.EXCHANGE, env.ROUTING_KEY, body, options, (error) => {
        if (error || returned.delete(messageId)) reject(error ?? new Error('reached no queue'));
        else resolve();
      });
    });
}
