"""Our transports as any kombu program uses them: SQLite, PostgreSQL and Redis."""

from __future__ import annotations

import gc
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from helpers import until
from kombu import Connection, Consumer, Exchange, Queue
from kombu.exceptions import ChannelError, MessageStateError
from kombu.mixins import ConsumerMixin
from kombu.pools import producers
from processes import run
from transports.kombu_programs import (
    Backend,
    crash,
    declare,
    drain,
    everything,
    get,
    put,
    size,
    sql,
    streams,
)

from paigeant.transport import Outgoing
from paigeant.transports.settlement import Settlement

LEASE = 30.0
TIDY = LEASE / 10


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def backend(request: pytest.FixtureRequest, tmp_path: Path, prefix: str) -> Backend:
    """Empty queues of each kind."""
    match request.param:
        case "sqlite":
            return sql(f"sqlite:///{tmp_path / 'queue.db'}")
        case "postgresql":
            return sql(request.getfixturevalue("postgres_url"))
        case _:
            return streams(request.getfixturevalue("redis_url"), prefix)


@pytest.fixture
def connect(backend: Backend, clock: Any) -> Iterator[Callable[..., Connection]]:
    """Makes connections to the test's queues, each as another process would have it."""
    made: list[Connection] = []

    def make(**options: Any) -> Connection:
        made.append(backend.connect(**{"clock": clock, **options}))
        return made[-1]

    yield make
    for connection in made:
        connection.release()


@pytest.fixture
def connection(connect: Callable[..., Connection]) -> Connection:
    return connect()


# --- messages -----------------------------------------------------------------------------------------------------


def test_a_message_arrives_as_it_was_published(connection: Connection) -> None:
    """Body, content type, properties and headers; nothing is encoded twice."""
    headers = {"n": 1, "when": datetime(2026, 1, 2, tzinfo=UTC), "price": Decimal("1.5"), "raw": b"\xff", "deep": [{}]}
    put(connection, {"a": ["ü"]}, headers=headers, correlation_id="c", reply_to="r", message_id="i")
    message = get(connection)
    assert message.body == b'{"a": ["\\u00fc"]}'
    assert message.payload == {"a": ["ü"]}
    assert message.headers == headers
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
    assert {name: message.properties[name] for name in ("correlation_id", "reply_to", "message_id")} == {
        "correlation_id": "c",
        "reply_to": "r",
        "message_id": "i",
    }
    assert message.delivery_info["routing_key"] == "q"


@pytest.mark.parametrize(
    "body", [b"\x00\xff", b"", "grün", "\x00", b"x" * 5_000_000], ids=["odd", "empty", "text", "NUL", "large"]
)
def test_any_body_arrives(connection: Connection, body: bytes | str) -> None:
    """Bytes stay bytes, text comes back by its encoding."""
    binary = isinstance(body, bytes)
    content_type = "application/octet-stream" if binary else "text/plain"
    put(connection, body, content_type=content_type, content_encoding="binary" if binary else "utf-8")
    assert get(connection).payload == body


def test_compressed_and_pickled_messages_arrive(connection: Connection) -> None:
    """Serialisation is kombu's business."""
    put(connection, {"a": 1}, compression="zlib", serializer="pickle")
    message = get(connection)
    message.accept = {"application/x-python-serialize"}
    assert message.payload == {"a": 1}


def test_kombu_and_paigeant_read_each_other(connection: Connection) -> None:
    """What the pump wrote has no envelope of kombu's; what kombu wrote is bytes for the pump."""
    pump = connection.channel().pump
    pump.exchange([Settlement(outgoing=[Outgoing(queue="q", body=b'{"a": 1}', headers={"h": "1"})])], 0)
    message = get(connection)
    assert (message.payload, message.headers) == ({"a": 1}, {"h": "1"})
    put(connection, {"b": 2}, headers={"h": "2"})
    [delivery] = pump.take("q")
    assert delivery.body == b'{"b": 2}'
    assert delivery.headers["h"] == "2"
    pump.close()


# --- exchanges ----------------------------------------------------------------------------------------------------


def route(connect: Callable[..., Connection], kind: str, bindings: dict[str, str], key: str) -> set[str]:
    """Declare in one connection, publish in another, look in a third."""
    exchange = Exchange("e", kind)
    with connect().channel() as channel:
        for queue, pattern in bindings.items():
            Queue(queue, exchange, pattern).bind(channel).declare()
    put(connect(), "m", to=key, exchange="e")
    reader = connect()
    return {queue for queue in bindings if everything(reader, queue)}


def test_a_direct_exchange_routes_by_the_key(connect: Callable[..., Connection]) -> None:
    """To every queue bound with it."""
    assert route(connect, "direct", {"a": "k", "b": "k", "c": "other"}, "k") == {"a", "b"}


def test_a_fanout_exchange_reaches_every_queue(connect: Callable[..., Connection]) -> None:
    """Whatever the key."""
    assert route(connect, "fanout", {"a": "", "b": "x"}, "k") == {"a", "b"}


@pytest.mark.parametrize(
    ("key", "reached"),
    [
        ("a", {"hash", "a.#", "star"}),
        ("a.b", {"hash", "a.#", "a.*", "#.b"}),
        ("a.x.b", {"hash", "a.#", "#.b", "a.#.b"}),
        ("b", {"hash", "#.b", "star"}),
        ("axb", {"hash", "star"}),
    ],
)
def test_a_topic_exchange_routes_by_words(connect: Callable[..., Connection], key: str, reached: set[str]) -> None:
    """As AMQP says: a star is one word, a hash none or more."""
    patterns = {"hash": "#", "star": "*", "a.#": "a.#", "a.*": "a.*", "#.b": "#.b", "a.#.b": "a.#.b"}
    if key == "a.b":
        reached = reached | {"a.#.b"}
    assert route(connect, "topic", patterns, key) == reached


def test_publishing_to_an_unknown_exchange_is_an_error(connection: Connection) -> None:
    """Not a message that is silently gone."""
    with pytest.raises(ChannelError, match="no exchange 'nowhere'"):
        put(connection, "m", exchange="nowhere")


def test_publishing_to_an_exchange_that_was_wiped_is_an_error(connect: Callable[..., Connection]) -> None:
    """Even where kombu remembers that it was declared."""
    connection = connect()
    queue = Queue("q", Exchange("e"), "k")
    put(connection, "m", exchange="e", to="k", declare=[queue])
    connect().default_channel.exchange_delete("e")
    with pytest.raises(ChannelError, match="no exchange 'e'"):
        put(connection, "m", exchange="e", to="k", declare=[queue])


def test_an_unroutable_message_is_returned_if_it_is_mandatory(connection: Connection) -> None:
    """Else it is dropped, as AMQP says."""
    Exchange("e").bind(connection.default_channel).declare()
    put(connection, "m", exchange="e", to="nobody")
    with pytest.raises(ChannelError, match="no queue for 'nobody'"):
        connection.Producer().publish("m", exchange="e", routing_key="nobody", mandatory=True)


def test_exchanges_and_queues_cannot_be_redeclared_differently(connect: Callable[..., Connection]) -> None:
    """The same declaration may be made again, from anywhere."""
    Exchange("e", "topic").bind(connect().default_channel).declare()
    Exchange("e", "topic").bind(connect().default_channel).declare()
    with pytest.raises(ChannelError, match="declared differently"):
        Exchange("e", "direct").bind(connect().default_channel).declare()
    with pytest.raises(ChannelError, match="'headers'"):
        Exchange("h", "headers").bind(connect().default_channel).declare()
    declare(connect(), max_priority=5)
    declare(connect(), max_priority=5)
    with pytest.raises(ChannelError, match="other arguments"):
        declare(connect(), max_priority=6)


def test_passive_declarations_only_look(connection: Connection) -> None:
    """For an error when it is not there."""
    channel = connection.default_channel
    with pytest.raises(ChannelError):
        channel.queue_declare("q", passive=True)
    with pytest.raises(ChannelError):
        channel.exchange_declare("e", passive=True)
    channel.exchange_declare("amq.topic", passive=True)
    declare(connection)
    put(connection, "m")
    assert channel.queue_declare("q", passive=True).message_count == 1


def test_unbinding_and_deleting(connect: Callable[..., Connection]) -> None:
    """What is unbound gets nothing more; a deleted queue is empty when it is declared again."""
    channel = connect().default_channel
    exchange = Exchange("e", "fanout")
    for name in ("a", "b"):
        Queue(name, exchange).bind(channel).declare()
    channel.queue_unbind("a", "e", "")
    put(connect(), "m", exchange="e")
    assert channel.list_bindings() == [("b", "e", "")]
    assert (channel.queue_declare("a").message_count, channel.queue_declare("b").message_count) == (0, 1)
    channel.queue_delete("b", if_empty=True)
    assert channel.queue_purge("b") == 1
    put(connect(), "m", to="b")
    channel.queue_delete("b")
    assert channel.list_bindings() == []
    assert channel.queue_declare("b").message_count == 0


# --- priority, delay, expiry --------------------------------------------------------------------------------------


def test_priority_nine_goes_first(connection: Connection) -> None:
    """AMQP's sign, not that of kombu's Redis transport."""
    for priority in (0, 9, 5, 9):
        put(connection, priority, priority=priority)
    assert everything(connection) == [9, 9, 5, 0]


def test_a_queue_may_limit_priorities(connection: Connection) -> None:
    """What is more urgent than ``x-max-priority`` is as urgent as that."""
    Queue("q", max_priority=3).bind(connection.default_channel).declare()
    put(connection, "first", priority=3)
    put(connection, "second", priority=9)
    assert everything(connection) == ["first", "second"]


def test_a_delayed_message_comes_when_it_is_due(connection: Connection, clock: Any) -> None:
    """The header of RabbitMQ's delayed exchanges, in milliseconds."""
    put(connection, "later", headers={"x-delay": 5000})
    put(connection, "now")
    assert everything(connection) == ["now"]
    clock.advance(5)
    assert everything(connection) == ["later"]


def test_an_expired_message_is_not_delivered(connection: Connection, clock: Any) -> None:
    """By its own ``expiration`` or the queue's ``x-message-ttl``, whichever is sooner."""
    declare(connection, message_ttl=10_000)
    put(connection, "short", expiration=5)
    put(connection, "long", expiration=60)
    put(connection, "keeps", to="other")
    clock.advance(6)
    channel = connection.channel()
    assert channel.basic_get("q", no_ack=True).payload == "long"
    put(connection, "by the queue")
    clock.advance(11)
    assert everything(connection) == []
    assert everything(connection, "other") == ["keeps"]
    clock.advance(TIDY)
    assert connection.default_channel.queue_declare("q", passive=True).message_count == 0


# --- acknowledging ------------------------------------------------------------------------------------------------


def test_an_acknowledged_message_is_gone(connect: Callable[..., Connection], clock: Any) -> None:
    """For good."""
    connection = connect()
    put(connection, "m")
    message = get(connection, no_ack=False)
    message.ack()
    with pytest.raises(MessageStateError):
        message.ack()
    connection.release()
    clock.advance(10 * LEASE)
    assert everything(connect()) == []


def test_several_are_acknowledged_at_once(connection: Connection) -> None:
    """``multiple`` means this one and all before it."""
    put(connection, "a", "b", "c")
    messages = [get(connection, no_ack=False) for _ in range(3)]
    messages[1].ack(multiple=True)
    connection.default_channel.basic_recover(requeue=True)
    assert everything(connection) == ["c"]


def test_a_requeued_message_comes_again_in_its_place(connect: Callable[..., Connection]) -> None:
    """It says that it was redelivered, and no delivery is counted."""
    connection = connect()
    put(connection, "a", "b")
    first = get(connection, no_ack=False)
    assert not first.delivery_info["redelivered"]
    first.requeue()
    again = get(connect())
    assert (again.payload, again.delivery_info["redelivered"]) == ("a", True)
    assert "x-delivery-count" not in again.headers


def test_a_rejected_message_is_dropped(connection: Connection) -> None:
    """When its queue has no dead letter exchange."""
    put(connection, "m")
    get(connection, no_ack=False).reject()
    assert connection.default_channel.queue_declare("q").message_count == 0


def test_acknowledging_after_the_lease_was_lost_is_an_error(connect: Callable[..., Connection], clock: Any) -> None:
    """The message is somebody else's; the program should know."""
    slow, quick = connect(), connect()
    put(slow, "a", "b")
    a, b = get(slow, no_ack=False), get(slow, no_ack=False)
    clock.advance(LEASE + 1)
    taken = get(quick, no_ack=False)
    for settle in (a.ack, b.reject):
        with pytest.raises(ChannelError, match="lease"):
            settle()
    taken.ack()
    assert everything(quick) == ["b"]


def test_without_acknowledgement_a_message_is_gone_when_it_arrives(connection: Connection) -> None:
    """``no_ack``: and acknowledging it all the same does no harm."""
    got: list[Any] = []
    queue = Queue("q").bind(connection.default_channel)
    put(connection, "a")
    with Consumer(connection.default_channel, [queue], on_message=got.append, no_ack=True):
        assert drain(connection)
    assert size(connection) == 0
    got[0].ack()
    assert got[0].payload == "a"


# --- dead letters -------------------------------------------------------------------------------------------------


def with_dead_letters(connection: Connection, **arguments: Any) -> None:
    """A queue whose dead letters go by a fanout exchange to the queue ``dead``."""
    Queue("dead", Exchange("dlx", "fanout")).bind(connection.default_channel).declare()
    declare(connection, dead_letter_exchange="dlx", **arguments)


def test_a_rejected_message_goes_to_the_dead_letters(connection: Connection) -> None:
    """With its headers, and what happened to it, as RabbitMQ notes it."""
    with_dead_letters(connection)
    put(connection, {"a": 1}, headers={"h": 1}, priority=7, correlation_id="c")
    get(connection, no_ack=False).reject()
    letter = get(connection, "dead")
    assert (letter.payload, letter.headers["h"], letter.properties["correlation_id"]) == ({"a": 1}, 1, "c")
    [death] = letter.headers["x-death"]
    assert {name: death[name] for name in ("reason", "queue", "count", "exchange", "routing-keys")} == {
        "reason": "rejected",
        "queue": "q",
        "count": 1,
        "exchange": "",
        "routing-keys": ["q"],
    }
    assert letter.headers["x-first-death-queue"] == "q"
    assert letter.delivery_info["exchange"] == "dlx"


def test_an_expired_message_goes_to_the_dead_letters(connection: Connection, clock: Any) -> None:
    """It does not expire there again."""
    with_dead_letters(connection)
    put(connection, "m", expiration=5)
    clock.advance(6)
    assert everything(connection) == []
    clock.advance(60)
    assert get(connection) is None
    letter = get(connection, "dead")
    assert (letter.payload, letter.headers["x-death"][0]["reason"]) == ("m", "expired")


def test_a_message_that_kills_its_consumers_goes_to_the_dead_letters(
    connect: Callable[..., Connection], clock: Any
) -> None:
    """As with RabbitMQ's quorum queues: delivered again as often as the limit says, and no more."""
    with_dead_letters(connect(), delivery_limit=2)
    put(connect(), "poison")
    deaths = 0
    while get(victim := connect(), no_ack=False) is not None:
        deaths += 1
        crash(victim)
        clock.advance(LEASE + TIDY)
    letter = get(connect(), "dead")
    assert deaths == 3
    assert (letter.payload, letter.headers["x-death"][0]["reason"]) == ("poison", "delivery_limit")


def test_what_is_given_back_does_not_wear_out(connection: Connection) -> None:
    """Only deliveries that nobody gave back count."""
    with_dead_letters(connection, delivery_limit=2)
    put(connection, "m")
    for _ in range(10):
        get(connection, no_ack=False).requeue()
    assert everything(connection) == ["m"]


def test_a_neighbour_of_poison_is_not_blamed(connect: Callable[..., Connection], clock: Any) -> None:
    """Where deliveries are counted, messages are claimed one by one."""
    with_dead_letters(connect(), delivery_limit=1)
    put(connect(), "poison", "innocent")
    for _ in range(2):
        victim = connect()
        got = consume(victim)
        assert drain(victim)
        assert payloads(got) == ["poison"]
        crash(victim)
        clock.advance(LEASE + TIDY)
    message = get(connect())
    assert message.payload == "innocent"
    assert "x-delivery-count" not in message.headers
    assert everything(connect(), "dead") == ["poison"]


def test_a_retry_queue_sends_messages_back_after_a_while(connection: Connection, clock: Any) -> None:
    """The usual construction: rejected to a queue with a time to live, whose dead letters return."""
    declare(connection, dead_letter_exchange="", dead_letter_routing_key="retry")
    declare(connection, "retry", dead_letter_exchange="", dead_letter_routing_key="q", message_ttl=10_000)
    put(connection, "m")
    for _ in range(2):
        get(connection, no_ack=False).reject()
        assert get(connection) is None
        clock.advance(10 + TIDY)
    message = get(connection)
    assert [(death["queue"], death["reason"], death["count"]) for death in message.headers["x-death"]] == [
        ("retry", "expired", 2),
        ("q", "rejected", 2),
    ]


@pytest.mark.parametrize("exchange", ["gone", "unbound"])
def test_a_dead_letter_that_leads_nowhere_stays(connection: Connection, clock: Any, exchange: str) -> None:
    """Rejecting it says so; expired it waits for an exchange; worn out it is delivered again."""
    Exchange("unbound", "fanout").bind(connection.default_channel).declare()
    declare(connection, dead_letter_exchange=exchange)
    put(connection, "m")
    message = get(connection, no_ack=False)
    with pytest.raises(ChannelError, match=exchange):
        message.reject()
    message = connection.default_channel.basic_recover(requeue=True) or get(connection, no_ack=False)
    assert message.payload == "m"
    message.ack()
    put(connection, "old", expiration=1)
    for _ in range(2):
        clock.advance(10)
        assert get(connection) is None
    Queue("dead", Exchange(exchange, "fanout")).bind(connection.default_channel).declare()
    clock.advance(10)
    assert get(connection) is None
    assert everything(connection, "dead") == ["old"]


# --- consuming ----------------------------------------------------------------------------------------------------


def consume(connection: Connection, *names: str, prefetch: int = 0) -> list[Any]:
    """Start to consume; the list fills while the connection is drained."""
    got: list[Any] = []
    queues = [Queue(name) for name in names or ("q",)]
    channel = connection.default_channel
    Consumer(channel, queues, on_message=got.append, prefetch_count=prefetch or None).consume()
    return got


def payloads(messages: list[Any]) -> list[Any]:
    return [message.payload for message in messages]


def test_one_event_is_one_message(connection: Connection) -> None:
    """As on a socket: the next message waits for the next call."""
    got = consume(connection)
    put(connection, "a", "b")
    assert drain(connection)
    assert payloads(got) == ["a"]
    assert drain(connection)
    assert not drain(connection)
    assert payloads(got) == ["a", "b"]


def test_no_more_is_held_than_prefetch_allows(connect: Callable[..., Connection]) -> None:
    """The rest is for others, until something is acknowledged."""
    ours, theirs = connect(), connect()
    put(ours, "a", "b", "c")
    got = consume(ours, prefetch=2)
    while drain(ours):
        pass
    assert payloads(got) == ["a", "b"]
    assert payloads([get(theirs)]) == ["c"]
    put(ours, "d")
    got[0].ack()
    assert drain(ours)
    assert payloads(got) == ["a", "b", "d"]


def test_channels_of_one_connection_consume_side_by_side(connection: Connection) -> None:
    """Each acknowledges its own; a closed one gives back only its own."""
    got: dict[int, list[Any]] = {0: [], 1: []}
    channels = [connection.channel(), connection.channel()]
    for number, channel in enumerate(channels):
        consumer = Consumer(channel, [Queue("q")], on_message=got[number].append, prefetch_count=1)
        consumer.consume()
    put(connection, "a", "b")
    while drain(connection):
        pass
    assert sorted(payloads(got[0] + got[1])) == ["a", "b"]
    channels[0].close()
    got[1][0].ack()
    assert everything(connection) == payloads(got[0])


def test_consumers_of_one_queue_take_turns(connection: Connection) -> None:
    """Two on the same channel."""
    first, second = consume(connection), consume(connection)
    put(connection, "a", "b", "c", "d")
    while drain(connection):
        pass
    assert (payloads(first), payloads(second)) == (["a", "c"], ["b", "d"])


def test_cancelling_gives_back_what_was_not_handed_out(connect: Callable[..., Connection]) -> None:
    """What the program has seen stays with it."""
    ours, theirs = connect(), connect()
    got: list[Any] = []
    put(ours, "a", "b", "c")
    with Consumer(ours.default_channel, [Queue("q")], on_message=got.append):
        assert drain(ours)
    assert everything(theirs) == ["b", "c"]
    got[0].ack()


def test_closing_gives_back_at_once(connect: Callable[..., Connection]) -> None:
    """Channel or connection, uncounted."""
    for close in (lambda one: one.default_channel.close(), lambda one: one.release()):
        leaving = connect()
        put(leaving, "m")
        assert get(leaving, no_ack=False)
        close(leaving)
        message = get(connect())
        assert message is not None
        assert "x-delivery-count" not in message.headers


def test_a_forgotten_channel_gives_back(connect: Callable[..., Connection], connection: Connection) -> None:
    """Programs forget to close; the lease must not be kept for them for ever."""
    put(connection, "m")
    forgotten = connect()
    channel: Any = forgotten.channel()
    assert channel.basic_get("q") is not None
    heartbeat = channel._heartbeat
    forgotten.transport.channels.remove(channel)
    del channel
    gc.collect()
    assert everything(connection) == ["m"]
    until(lambda: not heartbeat.is_alive())


def test_a_message_can_be_acknowledged_from_another_thread(connection: Connection) -> None:
    """Worker pools do."""
    got = consume(connection)
    put(connection, *(f"m{number}" for number in range(20)))
    threads = []
    while drain(connection):
        threads.append(threading.Thread(target=got[-1].ack))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert len(threads) == 20
    assert size(connection) == 0
    assert not connection.default_channel._queue.is_holding


# --- leases -------------------------------------------------------------------------------------------------------


def test_draining_keeps_the_lease(connect: Callable[..., Connection], clock: Any) -> None:
    """With nothing to receive, and with no room to receive it."""
    busy, other = connect(), connect()
    put(busy, "a", "b")
    got = consume(busy, prefetch=1)
    assert drain(busy)
    for _ in range(10):
        clock.advance(LEASE / 2)
        assert not drain(busy)
        assert everything(other) in (["b"], [])
    got[0].ack()


def program(backend: Backend) -> list[str]:
    """The arguments of a program of its own that uses the same queues."""
    return [backend.url, json.dumps(backend.options)]


HOLD = """
import json, sys, time
from kombu import Connection
import paigeant.transports
with Connection(sys.argv[1], transport_options=json.loads(sys.argv[2]) | {"lease_seconds": 0.5}) as connection:
    print(connection.default_channel.basic_get("q").payload, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_held_comes_back(connect: Callable[..., Connection], backend: Backend) -> None:
    """After its lease; SIGKILL leaves no time to give anything back."""
    connection = connect(clock=None)
    put(connection, "m")
    command = [sys.executable, "-c", HOLD, *program(backend)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "m\n"
        assert get(connection) is None
        victim.send_signal(signal.SIGKILL)
    message = until(lambda: get(connection))
    assert (message.payload, message.headers["x-delivery-count"]) == ("m", 1)


FORGET = """
import json, os, sys, warnings
from kombu import Connection
import paigeant.transports
options = json.loads(sys.argv[2])
connection = Connection(sys.argv[1], transport_options=options)
print(connection.default_channel.basic_get("q").payload, flush=True)
warnings.simplefilter("ignore")
child = os.fork()
if child == 0:
    sys.exit()
os.waitpid(child, 0)
with Connection(sys.argv[1], transport_options=options) as other:
    print(other.default_channel.basic_get("q"), flush=True)
"""


def test_a_program_that_ends_gives_back(connect: Callable[..., Connection], backend: Backend) -> None:
    """Without closing anything. A forked child that ends gives nothing back: it is its parent's."""
    connection = connect(clock=None)
    put(connection, "m")
    ended = run("-c", FORGET, *program(backend), cwd=Path.cwd())
    assert ended.stdout.splitlines() == ["m", "None"]
    message = get(connection)
    assert message.payload == "m"
    assert "x-delivery-count" not in message.headers


# --- kombu's higher levels ----------------------------------------------------------------------------------------


def test_simple_queues(connect: Callable[..., Connection]) -> None:
    """Put, look, get, size."""
    queue = connect().SimpleQueue("simple")
    queue.put({"a": 1})
    queue.put("b")
    assert queue.qsize() == 2
    message = queue.get(timeout=5)
    assert message.payload == {"a": 1}
    message.ack()
    with pytest.raises(queue.Empty):
        connect().SimpleQueue("empty").get(block=False)
    assert queue.get(timeout=5).payload == "b"


def test_timeouts(connection: Connection) -> None:
    """Nothing came: socket.timeout, as everywhere in kombu."""
    consume(connection)
    with pytest.raises(socket.timeout):
        connection.drain_events(timeout=0.01)


class Listener(ConsumerMixin):
    """Collects until it has enough; its connection breaks at the first message that is ``fragile``."""

    def __init__(self, connection: Connection, enough: int, fragile: str, trouble: Exception) -> None:
        self.connection = connection
        self.enough = enough
        self.fragile = fragile
        self.trouble = trouble
        self.got: list[Any] = []

    def get_consumers(self, consumer: Any, channel: Any) -> list[Any]:
        return [consumer(queues=[Queue("q")], callbacks=[self.on_message], prefetch_count=1)]

    def on_message(self, body: Any, message: Any) -> None:
        self.got.append(body)
        if body == self.fragile:
            self.fragile = ""
            raise self.trouble
        message.ack()
        self.should_stop = len(self.got) >= self.enough


def test_a_consumer_mixin_goes_on_after_a_lost_connection(connect: Callable[..., Connection], backend: Backend) -> None:
    """The message that was not acknowledged comes again."""
    put(connect(), "a", "b", "c")
    listener = Listener(connect(), enough=4, fragile="b", trouble=backend.trouble)
    thread = threading.Thread(target=listener.run, daemon=True)
    thread.start()
    until(lambda: not thread.is_alive(), deadline=30)
    assert listener.got == ["a", "b", "b", "c"]


def test_publishing_is_retried_over_a_lost_connection(connect: Callable[..., Connection], backend: Backend) -> None:
    """With ``retry``; kombu makes a new connection and channel."""
    connection = connect()
    with producers[connection].acquire(block=True) as producer:
        channel = producer.channel
        queue = channel._queue
        exchange = queue.exchange

        def broken(*arguments: Any) -> Any:
            queue.exchange = exchange
            raise backend.trouble

        queue.exchange = broken
        producer.publish("m", routing_key="q", retry=True, retry_policy={"max_retries": 3, "interval_start": 0})
        producer.connection.release()
    assert everything(connect()) == ["m"]


WORKER = """
import json, sys
from kombu import Connection, Queue
import paigeant.transports
with Connection(sys.argv[1], transport_options=json.loads(sys.argv[2])) as connection:
    channel, producer, got = connection.default_channel, connection.Producer(), []
    for number in range(int(sys.argv[3])):
        producer.publish(number, routing_key="in", declare=[Queue("in")])
    def forward(body, message):
        producer.publish(body, routing_key="out")
        message.ack()
        got.append(body)
    with connection.Consumer([Queue("in")], callbacks=[forward]):
        try:
            while True:
                connection.drain_events(timeout=2)
        except TimeoutError:
            print(len(got))
"""


@pytest.mark.slow
def test_many_processes_share_one_database(connect: Callable[..., Connection], backend: Backend) -> None:
    """Four publish, receive and acknowledge at once: no lock errors, nothing lost, nothing twice."""
    count = 60
    with ThreadPoolExecutor(4) as threads:
        command = ("-c", WORKER, *program(backend), str(count))
        running = [threads.submit(run, *command, cwd=Path.cwd(), timeout=100.0) for _ in range(4)]
    results = [one.result() for one in running]
    assert [one.stderr for one in results if one.stderr] == []
    assert sum(int(one.stdout) for one in results) == 4 * count
    assert sorted(everything(connect(), "out")) == sorted(list(range(count)) * 4)
