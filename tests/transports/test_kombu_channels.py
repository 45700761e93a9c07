"""Our transports as any kombu program uses them: SQLite, PostgreSQL and Redis."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from kombu import Connection, Consumer, Exchange, Queue
from kombu.exceptions import ChannelError, MessageStateError
from transports.kombu_programs import LEASE, TIDY, declare, drain, everything, get, put, size

from paigeant.transport import Outgoing
from paigeant.transports.pump.settlement import Settlement

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
