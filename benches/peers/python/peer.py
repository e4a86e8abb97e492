"""A webhook receiver as a competent team would write it by hand in Python: Starlette on uvicorn with
uvloop behind TLS, a worker for each processor, orjson, fastjsonschema's compiled schema, and a
channel with publisher confirms to RabbitMQ. It answers 202 when the broker has confirmed.

Environment: HOST, PORT, CERT, KEY, SECRET, SCHEMA, AMQP_URL, EXCHANGE, ROUTING_KEY, WORKERS.
Each worker says `ready` when it is about to listen.
"""

import hmac
import os
import uuid
from contextlib import asynccontextmanager

import aio_pika
import fastjsonschema
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

BODY_BYTES_MAX = 1024 * 1024
PREFIX = "sha256="

ENV = os.environ
SECRET = ENV["SECRET"].encode()
ROUTING_KEY = ENV["ROUTING_KEY"]

with open(ENV["SCHEMA"], "rb") as file:
    validate = fastjsonschema.compile(orjson.loads(file.read()))


@asynccontextmanager
async def lifespan(app: Starlette):
    connection = await aio_pika.connect_robust(ENV["AMQP_URL"])
    async with connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        app.state.exchange = await channel.get_exchange(ENV["EXCHANGE"], ensure=False)
        print("ready", flush=True)
        yield


def answer(status_code: int, **fields: str) -> Response:
    return Response(orjson.dumps(fields), status_code, media_type="application/json")


async def body_of(request: Request) -> bytes | None:
    """The bytes as they came, which the signature covers; none when there are too many."""
    chunks = []
    length = 0
    async for chunk in request.stream():
        length += len(chunk)
        if length > BODY_BYTES_MAX:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def is_genuine(header: str, body: bytes) -> bool:
    if not header.startswith(PREFIX):
        return False
    ours = hmac.digest(SECRET, body, "sha256").hex()
    return hmac.compare_digest(header[len(PREFIX) :].encode(), ours.encode())


async def github(request: Request) -> Response:
    headers = request.headers
    body = await body_of(request)
    if body is None:
        return answer(413, status="too long")
    if not is_genuine(headers.get("x-hub-signature-256", ""), body):
        return answer(401, status="forged")
    try:
        validate(orjson.loads(body))
    except orjson.JSONDecodeError:
        return answer(400, status="not JSON")
    except fastjsonschema.JsonSchemaValueException:
        return answer(422, status="invalid")
    event_id = headers.get("x-github-delivery") or str(uuid.uuid4())
    message = aio_pika.Message(
        body,
        message_id=event_id,
        type=headers.get("x-github-event"),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )
    try:
        await request.app.state.exchange.publish(message, ROUTING_KEY, mandatory=True)
    except (aio_pika.exceptions.AMQPError, ConnectionError):
        return answer(503, status="not published")
    return answer(202, status="accepted", id=event_id)


app = Starlette(routes=[Route("/github", github, methods=["POST"])], lifespan=lifespan)

if __name__ == "__main__":
    uvicorn.run(
        "peer:app",
        host=ENV["HOST"],
        port=int(ENV["PORT"]),
        workers=int(ENV["WORKERS"]),
        loop="uvloop",
        http="httptools",
        lifespan="on",
        ssl_certfile=ENV["CERT"],
        ssl_keyfile=ENV["KEY"],
        log_level="warning",
        access_log=False,
        backlog=1024,
    )
