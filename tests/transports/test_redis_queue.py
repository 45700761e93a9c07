"""Queues in Redis: lost answers, lost leases, a wiped database, and what others wrote at our keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from kombu import Connection, Exchange, Queue
from kombu.exceptions import ChannelError
from transports.kombu_programs import Backend, everything, get, put, streams

from paigeant.transport import Delivery, Outgoing
from paigeant.transports.redis_queue import RedisQueue, connect
from paigeant.transports.settlement import Settlement

LEASE = 30.0


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    """The server as anyone else sees it."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def make_queue(redis_url: str, prefix: str, clock: Any) -> Iterator[Callable[..., RedisQueue]]:
    """Makes one RedisQueue after another, each as a process of its own would have it."""
    made: list[RedisQueue] = []

    def make(*names: str) -> RedisQueue:
        options = {"address": str(len(made)), "prefix": f"{prefix}:", "lease_seconds": LEASE, "clock": clock}
        queue = RedisQueue(connect(redis_url), **options)
        queue.open()
        queue.subscribe(names or ("q",))
        made.append(queue)
        return queue

    yield make
    for queue in made:
        queue.close()


@pytest.fixture
def queue(make_queue: Callable[..., RedisQueue]) -> RedisQueue:
    return make_queue()


def send(queue: RedisQueue, *ids: str, to: str = "q", **options: Any) -> list[bool]:
    outgoing = [Outgoing(queue=to, body=id_.encode(), id=id_, **options) for id_ in ids]
    return queue.exchange([Settlement(outgoing=outgoing)], 0)[0]


def claim(queue: RedisQueue, limit: int = 10) -> list[Delivery]:
    return queue.exchange([], limit)[1]


def ids(deliveries: list[Delivery]) -> list[str | None]:
    return [delivery.id for delivery in deliveries]


class AnswerLost(redis.exceptions.ConnectionError):
    pass


def with_lost_answer(queue: RedisQueue, call: Callable[[], Any]) -> None:
    """The script runs, and its answer never arrives; the connection is made again."""
    script = queue._scripts["exchange"]

    def lossy(**arguments: Any) -> None:
        script(**arguments)
        raise AnswerLost("connection reset")

    queue._scripts["exchange"] = lossy
    with pytest.raises(AnswerLost):
        call()
    queue._scripts["exchange"] = script
    queue.disconnect()
    queue.open()


# --- lost answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("followers", [[], ["next"]], ids=["last step", "middle"])
@pytest.mark.parametrize("kind", ["ack", "release"])
def test_a_settlement_whose_answer_was_lost_is_done(queue: RedisQueue, followers: list[str], kind: str) -> None:
    """Made again it is accepted, and changes nothing."""
    send(queue, "m")
    [delivery] = claim(queue)
    outgoing = [Outgoing(queue="other", body=b"", id=id_) for id_ in followers]
    release = 0.0 if kind == "release" else None
    settlement = Settlement(delivery=delivery, outgoing=outgoing, release_after=release)
    with_lost_answer(queue, lambda: queue.exchange([settlement], 0))
    assert settlement.tried
    assert queue.exchange([settlement], 0)[0] == [True]
    assert not delivery.lease.lost
    assert queue.depth("other") == (len(followers) if kind == "ack" else 0)
    assert queue.depth("q") == (1 if kind == "release" else 0)


def test_a_settlement_is_remembered_longer_than_its_lease(make_queue: Callable[..., RedisQueue], clock: Any) -> None:
    """The worker was cut off for so long that others buried it: what it had settled before is still done."""
    queue, other = make_queue(), make_queue()
    send(queue, "m")
    [delivery] = claim(queue)
    settlement = Settlement(delivery=delivery)
    with_lost_answer(queue, lambda: queue.exchange([settlement], 0))
    clock.advance(LEASE + 1)
    assert claim(other) == []
    assert queue.exchange([settlement], 0)[0] == [True]


def test_a_settlement_that_was_never_made_is_refused_once_the_lease_is_lost(
    make_queue: Callable[..., RedisQueue], clock: Any
) -> None:
    """Not knowing is no reason to be believed."""
    queue, other = make_queue(), make_queue()
    send(queue, "m")
    [delivery] = claim(queue)
    clock.advance(LEASE + 1)
    [again] = claim(other)
    settlement = Settlement(delivery=delivery, outgoing=[Outgoing(queue="o", body=b"", id="n")], tried=True)
    assert queue.exchange([settlement], 0)[0] == [False]
    assert other.exchange([Settlement(delivery=again)], 0)[0] == [True]
    assert queue.depth("o") == 0


def test_what_was_claimed_without_an_answer_comes_again(make_queue: Callable[..., RedisQueue]) -> None:
    """Even the first claim of a holder, of which it does not know that it is registered. Nothing is counted."""
    queue, other = make_queue(), make_queue()
    send(other, "m")
    with_lost_answer(queue, lambda: claim(queue))
    [delivery] = claim(other)
    assert (delivery.id, delivery.deliveries, delivery.redelivered) == ("m", 1, True)


def test_closing_frees_what_was_claimed_without_an_answer(make_queue: Callable[..., RedisQueue]) -> None:
    """A holder that resigns leaves nothing behind under its name."""
    queue, other = make_queue(), make_queue()
    send(other, "a")
    assert ids(claim(queue)) == ["a"]
    send(other, "b")
    script = queue._scripts["exchange"]
    script(args=[queue._prefix, queue._now(), queue._me, 0, 1, 10, 1, "q", 0])
    queue.close()
    assert sorted(map(str, ids(claim(other)))) == ["a", "b"]


# --- leases -------------------------------------------------------------------------------------------------------


def test_a_holder_that_was_buried_cannot_claim(make_queue: Callable[..., RedisQueue], clock: Any) -> None:
    """Nobody would ever free what it claims under a name that is not registered."""
    slow, quick = make_queue(), make_queue()
    send(quick, "a", "b")
    assert ids(claim(slow, 1)) == ["a"]
    clock.advance(LEASE + 1)
    claimed = claim(quick, 1)
    slow._renewed_at = clock.now()  # it believes that it has just renewed
    assert claim(slow) == []
    assert ids(claimed + claim(quick)) == ["a", "b"]
    quick.exchange([Settlement(delivery=claimed[0], release_after=0.0)], 0)
    assert ids(claim(slow)) == ["a"], "under a new name it can"


def test_a_beat_keeps_a_lease_but_does_not_revive_one(make_queue: Callable[..., RedisQueue], clock: Any) -> None:
    """What is lost is lost."""
    queue, other = make_queue(), make_queue()
    send(queue, "m")
    claim(queue)
    clock.advance(LEASE - 1)
    queue.beat()
    clock.advance(LEASE - 1)
    assert claim(other) == []
    clock.advance(2)
    assert ids(claim(other)) == ["m"]
    queue.beat()
    assert queue._redis.zscore(f"{queue._prefix}holders", queue._me) is None


def test_a_full_worker_waits_for_room_rather_than_look_all_the_time(queue: RedisQueue) -> None:
    """With more waiting and no room there is nothing to do until something is settled."""
    send(queue, "a", "b")
    [delivery] = claim(queue, 1)
    assert queue.patience == 0.0
    assert claim(queue, 0) == []
    assert queue.patience is not None
    assert queue.patience > 1.0
    assert ids(queue.exchange([Settlement(delivery=delivery)], 1)[1]) == ["b"]


def test_whoever_finds_itself_late_does_not_bury_itself(make_queue: Callable[..., RedisQueue], clock: Any) -> None:
    """It slept between the look at its watch and the claim: what it claims must be under a name that is registered."""
    late, other = make_queue(), make_queue()
    send(other, "a", "b")
    assert ids(claim(late, 1)) == ["a"]
    clock.advance(LEASE + 1)
    late._renewed_at = clock.now()
    assert ids(claim(late, 1)) == ["b"]
    assert sorted(map(str, ids(claim(other)))) == ["a", "b"]


# --- a wiped database ---------------------------------------------------------------------------------------------


def wipe(server: redis.Redis, prefix: str) -> None:
    for key in server.scan_iter(match=f"{prefix}:*", count=1000):
        server.delete(key)


@pytest.fixture
def processes(redis_url: str, prefix: str) -> Iterator[Callable[[str], Connection]]:
    """A connection for each name, as a process of its own has it: with a memory of its own."""
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
    """A message that is published after a flush is not dropped for want of a binding."""
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
    """With the queue's arguments; a publisher that knows of nothing finds it as soon as the consumer has looked."""
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
    """Only a wiped or another server is filled again, not one where somebody has tidied up."""
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
    """Its reader refuses it, with what it was for evidence."""
    stream = f"{queue._prefix}queue:q:0"
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
        queue._clock.advance(10)  # type: ignore[union-attr]
        [strange] = claim(queue)
    assert queue.exchange([Settlement(delivery=strange)], 0)[0] == [True]
    assert queue.depth("q") == 0


KEYS = ["queue:q:0", "holders", "delayed", "expiring", "streams", "queues", "levels:q", "sent:m", "aside"]


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("kind", ["string", "list"])
def test_a_key_of_the_wrong_type_is_set_aside(queue: RedisQueue, server: redis.Redis, name: str, kind: str) -> None:
    """Under another name, with what is in it; the queues go on, and nothing is half done."""
    key = f"{queue._prefix}{name}"
    server.zadd(f"{queue._prefix}delayed", {b"no message": 1})
    server.delete(key)
    server.set(key, "theirs") if kind == "string" else server.rpush(key, "theirs")
    assert send(queue, "m") == [True]
    [delivery] = claim(queue)
    assert delivery.id == "m"
    follower = Outgoing(queue="q", body=b"", id="n", delay=1.0, priority=3)
    assert queue.exchange([Settlement(delivery=delivery, outgoing=[follower])], 0)[0] == [True]
    assert queue.depth("q") == 1
    kept = list(server.scan_iter(match=f"{queue._prefix}aside:*"))
    if name != "sent:m":  # nothing but an answer to "was it sent?" may be overwritten
        assert [server.get(one) if kind == "string" else server.lrange(one, 0, -1)[0] for one in kept] == [b"theirs"]


def test_what_is_no_delayed_message_is_set_aside(queue: RedisQueue, server: redis.Redis) -> None:
    """With the reason; what is due besides it comes."""
    server.zadd(f"{queue._prefix}delayed", {b"\xc1 garbage": 1, b"\x93\x01\x02\x03": 2})
    send(queue, "m", delay=1.0)
    queue._clock.advance(2)  # type: ignore[union-attr]
    assert ids(claim(queue)) == ["m"]
    found = [fields for _, fields in server.xrange(f"{queue._prefix}aside")]
    assert {fields[b"body"] for fields in found} == {b"\xc1 garbage", b"\x93\x01\x02\x03"}
    assert all(b"no message" in fields[b"reason"] for fields in found)
    assert queue.depth("q") == 0
    assert queue.purge("q") == 0


def test_a_giant_body_arrives(queue: RedisQueue) -> None:
    """How much is too much is for its reader to say."""
    body = b"x" * 20_000_000
    queue.exchange([Settlement(outgoing=[Outgoing(queue="q", body=body)])], 0)
    [delivery] = claim(queue)
    assert delivery.body == body


@pytest.mark.parametrize("headers", ['{"x-kombu": 5}', '{"x-kombu": {"properties": []}}', '{"compression": "bomb"}'])
def test_strange_headers_do_not_stop_a_kombu_consumer(
    redis_url: str, prefix: str, server: redis.Redis, headers: str
) -> None:
    """Whoever can write to Redis could write them."""
    backend: Backend = streams(redis_url, prefix)
    with backend.connect() as connection:
        put(connection, "first")
        assert everything(connection) == ["first"]
        server.xadd(f"{prefix}:queue:q:0", {"b": json.dumps("m"), "h": headers})
        put(connection, "next")
        assert get(connection) is not None
        assert everything(connection) == ["next"]
