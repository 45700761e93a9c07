"""Messages that nobody made with paigeant, on every transport: each comes out, bounded, and the next one too."""

from __future__ import annotations

import asyncio
import json
import pickle
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import amqp
import pytest
from brokers.servers import RedisServer
from kombu import Connection

from paigeant import App, Worker
from paigeant.testing.conformance.transports import Inbox
from paigeant.testing.conformance.waiting import in_loop
from paigeant.transport import BaseTransport, Delivery, Outgoing
from paigeant.transports import new_transport

BOMB = 64 * 2**20
"""Bytes that the bomb would grow to."""

MOST = 2**20
"""More bytes than any hostile message has as it is sent."""


class Evil:
    """What unpickling it would do."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('unpickled')",))


@dataclass(frozen=True)
class Message:
    """As any kombu program publishes it."""

    body: bytes = b"{}"
    content_type: str | None = "application/json"
    content_encoding: str | None = "utf-8"
    headers: Any = None
    properties: Any = None


def nested(depth: int, value: Any = 1) -> Any:
    for _ in range(depth):
        value = {"a": value}
    return value


TYPED = {"__type__": "os.system", "__value__": "true"}
HOSTILE = {
    "a decompression bomb": Message(zlib.compress(b" " * BOMB), headers={"compression": "application/x-gzip"}),
    "an unknown compression": Message(headers={"compression": "application/x-evil"}),
    "what is not compressed as it says": Message(headers={"compression": "zlib"}),
    "an unknown content type": Message(content_type="application/x-evil"),
    "a pickle": Message(pickle.dumps(Evil()), "application/x-python-serialize", "binary"),
    "no content type": Message(content_type=None, content_encoding=None),
    "an unknown content encoding": Message(b"\xff\xfe", content_encoding="x-evil"),
    "a codec that is no text encoding": Message(b"78da", content_encoding="hex_codec"),
    "a slow codec": Message(b"a" * 100_000, content_encoding="punycode"),
    "bytes that are no text": Message(b"\xff\x00\xfe", content_encoding="utf-8"),
    "nothing": Message(b""),
    "JSON without end": Message(b"[" * 500_000),
    "an object to revive": Message(json.dumps({"id": TYPED}).encode()),
    "an object to revive in the headers": Message(headers={"a": TYPED}),
    "a number that is no count": Message(headers={"x-delivery-count": "many", "paigeant-deliveries": "9" * 400}),
    "a negative count": Message(headers={"x-delivery-count": -(2**31)}),
    "deep headers": Message(headers=nested(50)),
    "an id that is none": Message(properties={"message_id": "a\0b"}),
}

ODD_ITEMS = {
    "no JSON": b"hello?",
    "no text": b"\xff\xfe\xfd",
    "nothing": b"",
    "null": b"null",
    "a number": b"17",
    "a list": b"[1, 2]",
    "an empty object": b"{}",
    "nested without end": b"[" * 200_000,
    "deep": json.dumps(nested(300)).encode(),
    "no base64": json.dumps({"body": "?", "properties": {"body_encoding": "base64", "delivery_tag": "x"}}).encode(),
    "an unknown body encoding": json.dumps({"body": "x", "properties": {"body_encoding": "evil"}}).encode(),
    "a tag that is none": json.dumps({"body": "x", "properties": {"delivery_tag": {"a": 1}}}).encode(),
    "an address elsewhere": json.dumps(
        {"body": "x", "properties": {"delivery_tag": "y", "delivery_info": {"exchange": "e", "routing_key": "r"}}}
    ).encode(),
    "headers that are none": json.dumps({"body": "x", "headers": [1], "properties": {"delivery_tag": "z"}}).encode(),
    "an object to revive": json.dumps({"body": TYPED, "headers": {"a": TYPED}, "properties": TYPED}).encode(),
}
"""Of a broker that keeps a message as JSON: what another program may have put there."""


# --- brokers ---------------------------------------------------------------------------------------------------------


@dataclass
class Place:
    """A broker as paigeant and as any kombu program sees it. ``plant`` puts raw bytes where messages are kept."""

    url: str
    kombu: Callable[[], Connection]
    plant: Callable[[str, bytes], None] | None = None

    def transport(self) -> BaseTransport:
        return new_transport(self.url, durability="best_effort")

    def publish(self, queue: str, message: Message) -> None:
        with self.kombu() as connection, connection.channel() as channel:
            prepared = channel.prepare_message(
                message.body,
                content_type=message.content_type,
                content_encoding=message.content_encoding,
                headers=message.headers,
                properties=dict(message.properties or {}),
            )
            channel.basic_publish(prepared, exchange="", routing_key=queue)


@pytest.fixture
def sqlite(tmp_path: Path) -> Place:
    url = f"sqlite:///{tmp_path}/queue.db"
    return Place(url, lambda: Connection(f"paigeant+{url}"))


@pytest.fixture
def postgresql(postgres_url: str) -> Place:
    return Place(postgres_url, lambda: Connection(f"paigeant+{postgres_url}"))


@pytest.fixture
def redis(redis_url: str) -> Place:
    return Place(redis_url, lambda: Connection(f"redis-streams+{redis_url}"))


@pytest.fixture
def rabbitmq(rabbitmq_url: str) -> Place:
    return Place(rabbitmq_url, lambda: Connection(rabbitmq_url))


@pytest.fixture
def memory() -> Place:
    return Place("memory://", lambda: Connection("memory://"))


@pytest.fixture
def filesystem(tmp_path: Path) -> Place:
    folder = tmp_path / "q"
    options = {"data_folder_in": str(folder), "data_folder_out": str(folder), "control_folder": f"{folder}/control"}
    numbers = iter(range(10**6, 10**7))

    def plant(queue: str, item: bytes) -> None:
        (folder / f"{next(numbers)}_x.{queue}.msg").write_bytes(item)

    url = f"filesystem://{folder}?processed_folder={tmp_path}/done&store_processed=1"
    return Place(url, lambda: Connection("filesystem://", transport_options=options), plant)


@pytest.fixture
def kombus_redis(tmp_path: Path) -> Iterator[Place]:
    """On a server of its own: kombu leaves keys behind."""
    redis = pytest.importorskip("redis")
    if not RedisServer.is_installed:
        pytest.skip("redis-server is not installed here")
    server = RedisServer(tmp_path / "redis")
    server.start()

    def plant(queue: str, item: bytes) -> None:
        with redis.Redis(port=server.port) as client:
            client.lpush(queue, item)

    yield Place(f"kombu+{server.url}", lambda: Connection(server.url), plant)
    server.close()


EVERYWHERE = ["sqlite", "postgresql", "redis", "rabbitmq", "memory", "filesystem", "kombus_redis"]

pytestmark = pytest.mark.filterwarnings("ignore::paigeant.transports.BestEffortWarning")


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Place:
    made: Place = request.getfixturevalue(request.param)
    return made


def readable(place: Place) -> list[Message]:
    """What kombu's own JSON reader, which revives objects in headers, lets through."""
    refused = {"an object to revive in the headers"} if place.plant else set()
    return [message for name, message in HOSTILE.items() if name not in refused]


# --- what comes of it ------------------------------------------------------------------------------------------------


async def all_that_came(place: Place, queue: str, put: Callable[[], None], count: int) -> list[Delivery]:
    """What was put there and a good message behind it, settled; nothing is left."""
    transport = place.transport()
    try:
        await transport.declare(queue)
        await asyncio.to_thread(put)
        await transport.send([Outgoing(queue=queue, body=b"good", id="good")])
        async with Inbox(transport, [queue]) as inbox:
            came = list(await inbox.has(count + 1, 30))
            assert b"good" in [delivery.body for delivery in came]
            for delivery in came:
                await transport.settle(delivery)
        assert await transport.depth(queue) == 0
        return [delivery for delivery in came if delivery.id != "good"]
    finally:
        await transport.delete(queue)
        await transport.close()


@pytest.mark.parametrize("place", EVERYWHERE, indirect=True)
@in_loop
async def test_every_message_comes_as_the_bytes_it_was(place: Place, prefix: str) -> None:
    """Not decompressed, not decoded, not revived; with headers that have names and an id that can be written down."""
    queue, messages = f"{prefix}.q", readable(place)

    def put() -> None:
        for message in messages:
            place.publish(queue, message)

    came = await all_that_came(place, queue, put, len(messages))
    assert sorted(delivery.body for delivery in came) == sorted(message.body for message in messages)
    assert max(len(delivery.body) for delivery in came) < MOST < BOMB
    assert all(delivery.deliveries >= 1 for delivery in came)
    assert all(isinstance(name, str) for delivery in came for name in delivery.headers)
    assert all(delivery.id is None or delivery.id.isprintable() for delivery in came)


@pytest.mark.parametrize("place", ["filesystem", "kombus_redis"], indirect=True)
@in_loop
async def test_what_is_no_message_at_all_stops_nobody(place: Place, prefix: str) -> None:
    """Where kombu keeps messages as JSON anybody may write there: the good one behind them comes."""
    queue = f"{prefix}.q"
    plant = place.plant
    assert plant is not None

    def put() -> None:
        for item in ODD_ITEMS.values():
            plant(queue, item)

    transport = place.transport()
    try:
        await transport.declare(queue)
        await asyncio.to_thread(put)
        await transport.send([Outgoing(queue=queue, body=b"good", id="good")])
        async with Inbox(transport, [queue]) as inbox:
            while b"good" not in [delivery.body for delivery in inbox.got]:
                await inbox.has(len(inbox.got) + 1, 30)
            for delivery in list(inbox.got):
                await transport.settle(delivery)
        assert await transport.depth(queue) == 0
    finally:
        await transport.close()


# --- AMQP, which has types of its own --------------------------------------------------------------------------------


def table(depth: int) -> bytes:
    """A table in a table in a table."""
    inner = b""
    for _ in range(depth):
        inner = b"\x01aF" + struct.pack(">I", len(inner)) + inner
    return struct.pack(">I", len(inner)) + inner


ODD_PROPERTIES = {
    "a table without end": struct.pack(">H", 1 << 13) + table(5000),
    "an id that is no text": struct.pack(">H", 1 << 7) + b"\x02\xff\xfe",
    "a time nobody lives to see": struct.pack(">H", 1 << 6) + struct.pack(">Q", 2**63),
    "a header's time nobody lives to see": struct.pack(">H", 1 << 13)
    + struct.pack(">I", 11)
    + b"\x01tT"
    + struct.pack(">Q", 2**62),
    "a name that is no text": struct.pack(">H", 1 << 13) + struct.pack(">I", 4) + b"\x01\xfft\x01",
}
"""The properties as they are on the wire: flags, then the values. RabbitMQ carries all of these."""


class Raw(amqp.basic_message.Message):
    """A message whose properties are these bytes."""

    def __init__(self, body: bytes, properties: bytes) -> None:
        super().__init__(body)
        self._raw = properties

    def _serialize_properties(self) -> bytes:
        return self._raw


@in_loop
async def test_properties_that_cannot_be_read_break_no_connection(rabbitmq: Place, prefix: str) -> None:
    """The message comes without them, and once."""
    queue = f"{prefix}.q"

    def put() -> None:
        with rabbitmq.kombu() as connection:
            channel = connection.connection.channel()
            channel.confirm_select()
            for name, properties in ODD_PROPERTIES.items():
                channel.basic_publish_confirm(Raw(name.encode(), properties), exchange="", routing_key=queue)

    came = await all_that_came(rabbitmq, queue, put, len(ODD_PROPERTIES))
    assert sorted(delivery.body.decode() for delivery in came) == sorted(ODD_PROPERTIES)
    assert {delivery.deliveries for delivery in came} == {1}


# --- a worker ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", EVERYWHERE, indirect=True)
@in_loop
async def test_a_worker_sets_them_aside_and_goes_on(place: Place, prefix: str, tmp_path: Path) -> None:
    """With a reason each, and the workflow behind them completes."""
    app = App("hostile", place.url, f"sqlite:///{tmp_path}/s.db", queue_prefix=prefix, durability="best_effort")
    if place.url.startswith(("sqlite", "postgresql")):
        app.use(store=place.url)

    @app.activity
    def fine() -> str:
        return "fine"

    await app.connect()
    await app.transport.declare(app.queue_of(fine))
    messages = readable(place)
    for message in messages:
        await asyncio.to_thread(place.publish, app.queue_of(fine), message)
    worker = Worker(app)
    working = asyncio.create_task(worker.run())
    try:
        workflow = await app.dispatch(fine)
        assert await workflow.result(timeout=30) == "fine"
    finally:
        worker.stop()
        await working
    reasons = await _reasons(app)
    assert len(reasons) == len(messages)
    assert all(reason.startswith("MalformedMessage") for reason in reasons)


async def _reasons(app: App) -> list[str]:
    """Of what was set aside."""
    from sqlalchemy import create_engine, text

    assert app.store is not None
    url = app.store.url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url)
    with engine.connect() as connection:
        found = [str(row.reason) for row in connection.execute(text("SELECT reason FROM paigeant_dead_letter"))]
    engine.dispose()
    await app.close()
    return found
