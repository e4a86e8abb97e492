"""Takes events from a queue. Usage: AMQP_URL=amqp://... python3 consumer.py QUEUE"""

import collections
import os
import sys

import pika

PREFETCH = 32  # events at hand that are not acknowledged yet
REMEMBERED = 100_000  # message ids; with several consumers keep them in the database instead

seen = collections.OrderedDict()


def handle(body, properties):
    """Your work. Raise, and the event comes again."""
    headers = properties.headers or {}
    for name in sorted(name for name in headers if name.startswith("cloudEvents_")):
        print(f"  {name}: {headers[name]}")
    print(f"  {len(body)} bytes of {properties.content_type}", flush=True)


def on_message(channel, method, properties, body):
    # The gateway publishes at least once, with a message_id that stays the same.
    if properties.message_id not in seen:
        print(f"{properties.message_id} {properties.type}")
        try:
            handle(body, properties)
        except Exception as error:
            print(f"failed: {error!r}", file=sys.stderr)
            # A quorum queue counts these and has a delivery limit; see the README.
            channel.basic_nack(method.delivery_tag, requeue=True)
            return
        seen[properties.message_id] = None
        if len(seen) > REMEMBERED:
            seen.popitem(last=False)
    # Only now: an event that is not acknowledged is delivered again after a crash.
    channel.basic_ack(method.delivery_tag)


def main():
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=PREFETCH)
    channel.basic_consume(queue=sys.argv[1], on_message_callback=on_message)
    try:
        channel.start_consuming()
    except KeyboardInterrupt:
        channel.stop_consuming()
    connection.close()


main()
