// The providers' own SDKs behind one small protocol, for tests/gateway/sdk.rs.
//
// A question is one line of JSON on standard input, its answer one line on standard output:
//
//   {"ask": "sign", "provider": "stripe", "secret": "...", "url": "https://...", "body": "..."}
//     -> {"requests": [{"headers": {...}, "body": "...", "url": "..."}], "sdk": "stripe 23.1.0"}
//   {"ask": "judge", ..., "headers": {...}} -> {"genuine": true, "sdk": "..."}
//   {"ask": "post", ..., "sink": "https://localhost:..."} -> {"posted": [{"body", "answer"}], ...}
//   anything that goes wrong -> {"error": "..."}
//
// Headers are written in lower case. Every payload is text. A provider's entry only calls its SDK:
// what it signs is the SDK's business.

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const require = createRequire(import.meta.url);

// Some SDKs talk; standard output is for answers.
console.log = console.error;

const now = () => Math.floor(Date.now() / 1000);

/** The 32 bytes of a private Ed25519 key in PEM: they stand behind 16 that say so (RFC 8410). */
const seed = (pem) => Buffer.from(pem.replace(/-----.*-----/g, ''), 'base64').subarray(16, 48);

/** For SDKs that say no by an exception. */
async function returns(call) {
  await call();
  return true;
}

/** Signs as Standard Webhooks do, with headers that begin with `prefix`. */
function standard(Webhook, prefix) {
  return ({ secret, body }) => {
    const id = `msg_${randomUUID()}`;
    const at = new Date();
    return {
      [`${prefix}-id`]: id,
      [`${prefix}-timestamp`]: String(Math.floor(at / 1000)),
      [`${prefix}-signature`]: new Webhook(secret).sign(id, at, body),
    };
  };
}

/** `@shopify/shopify-api` judges whole requests, and wants headers that prove nothing, too. */
async function shopify(others) {
  await import('@shopify/shopify-api/adapters/web-api');
  const { shopifyApi, ApiVersion } = await import('@shopify/shopify-api');
  const judge = async ({ secret, url, headers, body }) => {
    const shopify = shopifyApi({
      apiKey: 'key',
      apiSecretKey: secret,
      apiVersion: Object.values(ApiVersion).at(-2),
      hostName: 'hooks.example.com',
      isEmbeddedApp: false,
      logger: { log: () => {} },
    });
    const rawRequest = new Request(url, { method: 'POST', headers: { ...others, ...headers } });
    const { valid, reason } = await shopify.webhooks.validate({ rawBody: body, rawRequest });
    if (!valid && reason !== 'invalid_hmac') throw new Error(`not judged: ${reason}`);
    return valid;
  };
  return { package: '@shopify/shopify-api', judge };
}

/** By preset. Each loads its SDK when it is asked for the first time. */
const providers = {
  async adyen_header() {
    const { hmacValidator: Validator } = await import('@adyen/api-library');
    const validator = new Validator();
    return {
      package: '@adyen/api-library',
      sign: ({ secret, body }) => ({
        protocol: 'HmacSHA256',
        hmacsignature: validator.calculateHmac(body, secret),
      }),
      judge: ({ secret, headers, body }) =>
        validator.validateHMACSignature(secret, headers.hmacsignature, body),
    };
  },

  async adyen_item() {
    const { hmacValidator: Validator } = await import('@adyen/api-library');
    const validator = new Validator();
    return {
      package: '@adyen/api-library',
      signBody({ secret, body }) {
        const notification = JSON.parse(body);
        const item = notification.notificationItems[0].NotificationRequestItem;
        item.additionalData = { hmacSignature: validator.calculateHmac(item, secret) };
        return JSON.stringify(notification);
      },
      judge: ({ secret, body }) =>
        JSON.parse(body).notificationItems.every(({ NotificationRequestItem: item }) =>
          validator.validateHMAC(item, secret),
        ),
    };
  },

  async braintree() {
    const { default: braintree } = await import('braintree');
    const gateway = ({ secret, config }) =>
      new braintree.BraintreeGateway({
        environment: braintree.Environment.Sandbox,
        merchantId: 'merchant',
        publicKey: config.public_key,
        privateKey: secret,
      });
    return {
      package: 'braintree',
      signBody(given) {
        const kind = braintree.WebhookNotification.Kind.SubscriptionWentPastDue;
        const sample = gateway(given).webhookTesting.sampleNotification(kind, randomUUID());
        return new URLSearchParams(sample).toString();
      },
      judge(given) {
        const form = new URLSearchParams(given.body);
        const parsed = gateway(given).webhookNotification.parse(
          form.get('bt_signature'),
          form.get('bt_payload'),
        );
        return returns(() => parsed);
      },
    };
  },

  async clerk() {
    const { verifyWebhook } = await import('@clerk/backend/webhooks');
    return {
      package: '@clerk/backend',
      judge: ({ secret, url, headers, body }) =>
        returns(() =>
          verifyWebhook(new Request(url, { method: 'POST', headers, body }), {
            signingSecret: secret,
          }),
        ),
    };
  },

  async cloudevents_http_webhook() {
    const { CloudEvent, Mode, emitterFor, httpTransport } = await import('cloudevents');
    return {
      package: 'cloudevents',
      async post({ secret, sink }) {
        const posted = [];
        for (const mode of [Mode.BINARY, Mode.STRUCTURED]) {
          const send = httpTransport(sink);
          let sent;
          const emit = emitterFor(
            (message, options) => {
              sent = message.body;
              return send(message, options);
            },
            { mode },
          );
          const event = new CloudEvent({
            type: 'com.example.order.created',
            source: '/orders',
            data: { order: randomUUID() },
          });
          const answer = await emit(event, { headers: { authorization: `Bearer ${secret}` } });
          posted.push({ id: event.id, body: sent, answer: answer.body });
        }
        return posted;
      },
    };
  },

  async discord() {
    const { verifyKey } = await import('discord-interactions');
    const { default: nacl } = await import('tweetnacl');
    return {
      package: 'discord-interactions',
      sign({ private_key, body }) {
        const at = String(now());
        const pair = nacl.sign.keyPair.fromSeed(seed(private_key));
        const signature = nacl.sign.detached(Buffer.from(at + body), pair.secretKey);
        return {
          'x-signature-ed25519': Buffer.from(signature).toString('hex'),
          'x-signature-timestamp': at,
        };
      },
      judge: ({ secret, headers, body }) =>
        verifyKey(body, headers['x-signature-ed25519'], headers['x-signature-timestamp'], secret),
    };
  },

  async github() {
    const { sign, verify } = await import('@octokit/webhooks-methods');
    return {
      package: '@octokit/webhooks-methods',
      sign: async ({ secret, body }) => ({ 'x-hub-signature-256': await sign(secret, body) }),
      judge: ({ secret, headers, body }) => verify(secret, body, headers['x-hub-signature-256']),
      // Real deliveries of every event that GitHub has, for sources that are asked without a body.
      examples: () =>
        JSON.parse(readFileSync(require.resolve('@octokit/webhooks-examples'))).flatMap(
          ({ name, examples }) =>
            examples.map((example) => ({
              body: JSON.stringify(example),
              headers: { 'x-github-event': name, 'x-github-delivery': randomUUID() },
            })),
        ),
    };
  },

  async github_sha1() {
    const { sign, verify } = await import('octokit-webhooks-methods-4');
    const algorithm = 'sha1';
    return {
      package: 'octokit-webhooks-methods-4',
      sign: async ({ secret, body }) => ({
        'x-hub-signature': await sign({ secret, algorithm }, body),
      }),
      judge: ({ secret, headers, body }) => verify(secret, body, headers['x-hub-signature']),
    };
  },

  async gocardless() {
    const { parse } = await import('gocardless-nodejs/webhooks');
    return {
      package: 'gocardless-nodejs',
      judge: ({ secret, headers, body }) =>
        returns(() => parse(body, secret, headers['webhook-signature'])),
    };
  },

  async line() {
    const { validateSignature } = await import('@line/bot-sdk');
    return {
      package: '@line/bot-sdk',
      judge: ({ secret, headers, body }) =>
        validateSignature(body, secret, headers['x-line-signature']),
    };
  },

  async linear() {
    const { LinearWebhookClient } = await import('@linear/sdk/webhooks');
    return {
      package: '@linear/sdk',
      judge: ({ secret, headers, body }) =>
        new LinearWebhookClient(secret).verify(Buffer.from(body), headers['linear-signature']),
    };
  },

  async notion() {
    const { signWebhookPayload, verifyWebhookSignature } = await import('@notionhq/client');
    return {
      package: '@notionhq/client',
      sign: async ({ secret, body }) => ({
        'x-notion-signature': await signWebhookPayload({ body, verificationToken: secret }),
      }),
      judge: ({ secret, headers, body }) =>
        verifyWebhookSignature({
          body,
          signature: headers['x-notion-signature'],
          verificationToken: secret,
        }),
    };
  },

  async openai() {
    const { default: OpenAI } = await import('openai');
    const { webhooks } = new OpenAI({ apiKey: 'key' });
    return {
      package: 'openai',
      judge: ({ secret, headers, body }) =>
        returns(() => webhooks.verifySignature(body, headers, secret)),
    };
  },

  async paddle() {
    const { Paddle } = await import('@paddle/paddle-node-sdk');
    const { webhooks } = new Paddle('key');
    return {
      package: '@paddle/paddle-node-sdk',
      judge: ({ secret, headers, body }) =>
        webhooks.isSignatureValid(body, secret, headers['paddle-signature']),
    };
  },

  async razorpay() {
    const { default: Razorpay } = await import('razorpay');
    return {
      package: 'razorpay',
      judge: ({ secret, headers, body }) =>
        Razorpay.validateWebhookSignature(body, headers['x-razorpay-signature'], secret),
    };
  },

  async replicate() {
    const { validateWebhook } = await import('replicate');
    return {
      package: 'replicate',
      judge: ({ secret, headers, body }) => validateWebhook({ headers, body }, secret),
    };
  },

  async resend() {
    const { Resend } = await import('resend');
    const { webhooks } = new Resend('re_key');
    return {
      package: 'resend',
      judge: ({ secret, headers, body }) =>
        returns(() =>
          webhooks.verify({
            payload: body,
            headers: {
              id: headers['svix-id'],
              timestamp: headers['svix-timestamp'],
              signature: headers['svix-signature'],
            },
            webhookSecret: secret,
          }),
        ),
    };
  },

  async sendgrid() {
    const { EventWebhook, EventWebhookHeader } = require('@sendgrid/eventwebhook');
    const webhook = new EventWebhook();
    return {
      package: '@sendgrid/eventwebhook',
      judge: ({ secret, headers, body }) =>
        webhook.verifySignature(
          webhook.convertPublicKeyToECDSA(secret),
          body,
          headers[EventWebhookHeader.SIGNATURE().toLowerCase()],
          headers[EventWebhookHeader.TIMESTAMP().toLowerCase()],
        ),
    };
  },

  shopify: () =>
    shopify({
      'x-shopify-topic': 'orders/create',
      'x-shopify-shop-domain': 'example.myshopify.com',
      'x-shopify-api-version': '2026-07',
      'x-shopify-webhook-id': '1',
    }),

  shopify_events: () =>
    shopify({
      'shopify-topic': 'Order',
      'shopify-shop-domain': 'example.myshopify.com',
      'shopify-api-version': '2026-07',
      'shopify-webhook-id': '1',
      'shopify-event-id': '1',
      'shopify-handle': 'handle',
      'shopify-action': 'create',
      'shopify-resource-id': '1',
      'shopify-triggered-at': '2026-07-01T00:00:00Z',
    }),

  async standard_webhooks() {
    const { Webhook } = await import('standardwebhooks');
    return {
      package: 'standardwebhooks',
      sign: standard(Webhook, 'webhook'),
      judge: ({ secret, headers, body }) =>
        returns(() => new Webhook(secret).verify(body, headers)),
    };
  },

  async stripe() {
    const { default: Stripe } = await import('stripe');
    const { webhooks } = new Stripe('sk_test_key');
    return {
      package: 'stripe',
      sign: ({ secret, body }) => ({
        'stripe-signature': webhooks.generateTestHeaderString({ payload: body, secret }),
      }),
      judge: ({ secret, headers, body }) =>
        returns(() => webhooks.constructEvent(body, headers['stripe-signature'], secret)),
    };
  },

  async svix() {
    const { Webhook } = await import('svix');
    return {
      package: 'svix',
      sign: standard(Webhook, 'svix'),
      judge: ({ secret, headers, body }) =>
        returns(() => new Webhook(secret).verify(body, headers)),
    };
  },

  async telnyx() {
    const { webhooks } = require('telnyx');
    return {
      package: 'telnyx',
      judge: ({ secret, headers, body }) =>
        returns(() =>
          webhooks.constructEvent(
            body,
            Buffer.from(headers['telnyx-signature-ed25519'], 'base64'),
            headers['telnyx-timestamp'],
            Buffer.from(secret, 'base64'),
          ),
        ),
    };
  },

  async twilio_form() {
    const { default: twilio } = await import('twilio');
    const { getExpectedTwilioSignature } = require('twilio/lib/webhooks/webhooks');
    const form = (body) => Object.fromEntries(new URLSearchParams(body));
    return {
      package: 'twilio',
      sign: ({ secret, url, body }) => ({
        'x-twilio-signature': getExpectedTwilioSignature(secret, url, form(body)),
      }),
      judge: ({ secret, url, headers, body }) =>
        twilio.validateRequest(secret, headers['x-twilio-signature'], url, form(body)),
    };
  },

  async twilio_json() {
    const { default: twilio } = await import('twilio');
    const webhooks = require('twilio/lib/webhooks/webhooks');
    return {
      package: 'twilio',
      target: ({ url, body }) => `${url}?bodySHA256=${webhooks.getExpectedBodyHash(body)}`,
      sign: ({ secret, url }) => ({
        'x-twilio-signature': webhooks.getExpectedTwilioSignature(secret, url, {}),
      }),
      judge: ({ secret, url, headers, body }) =>
        twilio.validateRequestWithBody(secret, headers['x-twilio-signature'], url, body),
    };
  },

  async webflow() {
    const { WebflowClient } = await import('webflow-api');
    const { webhooks } = new WebflowClient({ accessToken: 'key' });
    return {
      package: 'webflow-api',
      judge: ({ secret, headers, body }) => webhooks.verifySignature({ headers, body, secret }),
    };
  },
};

const loaded = new Map();

function load(name) {
  if (!loaded.has(name)) {
    if (!Object.hasOwn(providers, name)) throw new Error(`sdk.mjs has no ${name}`);
    loaded.set(name, providers[name]());
  }
  return loaded.get(name);
}

const { packages } = JSON.parse(readFileSync(new URL('./package-lock.json', import.meta.url)));

/** Name and version, as they stand in the lock file. */
function title(name) {
  const { name: original, version } = packages[`node_modules/${name}`];
  return `${original ?? name} ${version}`;
}

async function sign(provider, given) {
  const url = provider.target?.(given) ?? given.url;
  const body = (await provider.signBody?.(given)) ?? given.body;
  const headers = (await provider.sign?.({ ...given, url, body })) ?? {};
  return { url, body, headers: { ...given.headers, ...headers } };
}

async function answer(question) {
  const provider = await load(question.provider);
  const sdk = title(provider.package);
  switch (question.ask) {
    case 'sign': {
      if (!provider.sign && !provider.signBody) throw new Error(`${sdk} does not sign`);
      const wanted = question.body === undefined ? (provider.examples?.() ?? [{}]) : [{}];
      const requests = await Promise.all(
        wanted.map((example) => sign(provider, { ...question, ...example })),
      );
      return { sdk, requests };
    }
    case 'judge': {
      // An SDK says no by an answer or by an exception; which words it chooses is its own.
      try {
        return { sdk, genuine: Boolean(await provider.judge(question)) };
      } catch (error) {
        return { sdk, genuine: false, why: String(error) };
      }
    }
    case 'post':
      return { sdk, posted: await provider.post(question) };
    default:
      throw new Error(`nobody can ${question.ask}`);
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const said = await answer(JSON.parse(line)).catch((error) => ({ error: error.stack }));
  process.stdout.write(`${JSON.stringify(said)}\n`);
}
