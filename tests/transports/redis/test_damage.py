"""Redis as others left it: wiped, or with values at our keys that are no messages of ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from kombu import Connection, Exchange, Queue
from kombu.exceptions import ChannelError
from transports.kombu_programs import Backend, everything, get, put, streams
from transports.redis_queues import claim, ids, send

from paigeant.transport import Outgoing
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.redis.queue import RedisQueue

# --- a wiped database ---------------------------------------------------------------------------------------------


def wipe(server: redis.Redis, prefix: str) -> None:
    for key in server.scan_iter(match=f"{prefix}:*", count=1000):
        server.delete(key)


@pytest.fixture
def processes(redis_url: str, prefix: str) -> Iterator[Callable[[str], Connection]]:
    """A connection for each name that shares no memory with the others, as in separate processes."""
    made: list[Connection] = []

    def connect_as(name: str) -> Connection:
        sign = "&" if "?" in redis_url else "?"
        backend = streams(f"{redis_url}{sign}client_name={prefix}-{name}", prefix)
        made.append(backend.connect())
        return made[-1]

    yield connect_as
    for connection in made:
        connection.release()


def test_whoever_publishes_restores_the_bindings_it_has_seen(
    processes: Callable[[str], Connection], server: redis.Redis, prefix: str
) -> None:
    """A message published after a flush is not dropped for lack of a binding."""
    consumer, producer = processes("consumer"), processes("producer")
    Queue("q", Exchange("e", "topic"), "a.#").bind(consumer.default_channel).declare()
    put(producer, "before", exchange="e", to="a.b")
    assert everything(consumer) == ["before"]
    wipe(server, prefix)
    put(producer, "after", exchange="e", to="a.b")
    assert everything(consumer) == ["after"]


def test_whoever_consumes_restores_what_it_has_declared(
    processes: Callable[[str], Connection], server: redis.Redis, prefix: str
) -> None:
    """It restores the queue's arguments too; a new publisher finds the queue once the consumer has polled."""
    consumer = processes("consumer")
    Queue("q", Exchange("e", "fanout"), max_priority=3).bind(consumer.default_channel).declare()
    wipe(server, prefix)
    with pytest.raises(ChannelError, match="no exchange 'e'"):
        put(processes("early"), "lost", exchange="e")
    assert get(consumer) is None
    put(processes("late"), "m", exchange="e")
    assert everything(consumer) == ["m"]
    assert consumer.default_channel._queue.routes.arguments_of(["q"]) == {"q": {"x-max-priority": 3}}


def test_what_was_deleted_by_another_process_is_not_restored(processes: Callable[[str], Connection]) -> None:
    """A process restores queues on a wiped or new server only."""
    first, second = processes("first"), processes("second")
    Queue("q", Exchange("e", "fanout")).bind(first.default_channel).declare()
    second.default_channel.queue_unbind("q", "e", "")
    first.default_channel._queue.disconnect()
    put(first, "m", exchange="e")
    assert first.default_channel.list_bindings() == []


# --- what is not ours ---------------------------------------------------------------------------------------------

RAW: list[dict[str, str | bytes]] = [
    {"x": "y"},
    {"b": b"\xff\x00", "h": "not json", "d": "many", "i": b"\xff"},
    {"b": "", "h": "[1, 2]", "r": "?", "x": "soon"},
    {"b": "{}", "h": "[" * 100_000},
    {"i": "only an id"},
]


@pytest.mark.parametrize("fields", RAW, ids=range(len(RAW)))
def test_an_entry_that_is_no_message_is_handed_out_and_the_next_one_served(
    queue: RedisQueue, server: redis.Redis, fields: dict[Any, Any]
) -> None:
    """The reader rejects it and keeps its bytes as evidence."""
    stream = f"{queue.server.prefix}queue:q:0"
    server.xadd(stream, fields)
    send(queue, "m")
    strange, message = claim(queue)
    assert message.id == "m"
    assert strange.headers == {}
    if "b" not in fields:
        assert all(str(part) in strange.body.decode() for part in fields.values())
    for later in (0.0, 5.0):
        [strange, *_] = [one for one in (strange, *claim(queue)) if one.id != "m"]
        assert queue.exchange([Settlement(delivery=strange, release_after=later)], 0)[0] == [True]
        queue.server.clock.advance(10)  # type: ignore[union-attr]
        [strange] = claim(queue)
    assert queue.exchange([Settlement(delivery=strange)], 0)[0] == [True]
    assert queue.depth("q") == 0


KEYS = ["queue:q:0", "holders", "delayed", "expiring", "streams", "queues", "levels:q", "sent:m", "aside"]
KEYS += ["delayed:q", "numbers"]


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("kind", ["string", "list"])
def test_a_key_of_the_wrong_type_is_set_aside(queue: RedisQueue, server: redis.Redis, name: str, kind: str) -> None:
    """It is renamed with its value; the queues continue, and no operation is left half done."""
    key = f"{queue.server.prefix}{name}"
    server.zadd(f"{queue.server.prefix}delayed", {b"no message": 1})
    server.delete(key)
    server.set(key, "theirs") if kind == "string" else server.rpush(key, "theirs")
    assert send(queue, "m") == [True]
    [delivery] = claim(queue)
    assert delivery.id == "m"
    follower = Outgoing(queue="q", body=b"", id="n", delay=1.0, priority=3)
    assert queue.exchange([Settlement(delivery=delivery, outgoing=[follower])], 0)[0] == [True]
    assert queue.depth("q") == 1
    kept = list(server.scan_iter(match=f"{queue.server.prefix}aside:*"))
    if name != "sent:m":  # nothing but an answer to "was it sent?" may be overwritten
        assert [server.get(one) if kind == "string" else server.lrange(one, 0, -1)[0] for one in kept] == [b"theirs"]


def test_what_is_no_delayed_message_is_set_aside(queue: RedisQueue, server: redis.Redis) -> None:
    """The reason is kept; messages that are due beside it arrive."""
    server.zadd(f"{queue.server.prefix}delayed", {b"\xc1 garbage": 1, b"\x93\x01\x02\x03": 2})
    send(queue, "m", delay=1.0)
    queue.server.clock.advance(2)  # type: ignore[union-attr]
    assert ids(claim(queue)) == ["m"]
    found = [fields for _, fields in server.xrange(f"{queue.server.prefix}aside")]
    assert {fields[b"body"] for fields in found} == {b"\xc1 garbage", b"\x93\x01\x02\x03"}
    assert all(b"no message" in fields[b"reason"] for fields in found)
    assert queue.depth("q") == 0
    assert queue.purge("q") == 0


def test_a_giant_body_arrives(queue: RedisQueue) -> None:
    """The reader decides which size is too large."""
    body = b"x" * 20_000_000
    queue.exchange([Settlement(outgoing=[Outgoing(queue="q", body=body)])], 0)
    [delivery] = claim(queue)
    assert delivery.body == body


@pytest.mark.parametrize("headers", ['{"x-kombu": 5}', '{"x-kombu": {"properties": []}}', '{"compression": "bomb"}'])
def test_strange_headers_do_not_stop_a_kombu_consumer(
    redis_url: str, prefix: str, server: redis.Redis, headers: str
) -> None:
    """Anyone who can write to Redis could write them."""
    backend: Backend = streams(redis_url, prefix)
    with backend.connect() as connection:
        put(connection, "first")
        assert everything(connection) == ["first"]
        server.xadd(f"{prefix}:queue:q:0", {"b": json.dumps("m"), "h": headers})
        put(connection, "next")
        assert get(connection) is not None
        assert everything(connection) == ["next"]
