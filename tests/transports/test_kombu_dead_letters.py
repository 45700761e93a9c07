"""Dead letters of our transports as any kombu program sees them: SQLite, PostgreSQL and Redis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue
from kombu.exceptions import ChannelError
from transports.kombu_programs import LEASE, TIDY, consume, crash, declare, drain, everything, get, payloads, put


def with_dead_letters(connection: Connection, **arguments: Any) -> None:
    """A queue whose dead letters go through a fanout exchange to the queue ``dead``."""
    Queue("dead", Exchange("dlx", "fanout")).bind(connection.default_channel).declare()
    declare(connection, dead_letter_exchange="dlx", **arguments)


def test_a_rejected_message_goes_to_the_dead_letters(connection: Connection) -> None:
    """It keeps its headers and gets the ones that RabbitMQ adds."""
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
    """As on RabbitMQ's quorum queues, it is redelivered as often as the limit allows."""
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
    """Only deliveries that end without a release count."""
    with_dead_letters(connection, delivery_limit=2)
    put(connection, "m")
    for _ in range(10):
        get(connection, no_ack=False).requeue()
    assert everything(connection) == ["m"]


def test_a_neighbour_of_poison_is_not_blamed(connect: Callable[..., Connection], clock: Any) -> None:
    """Where deliveries are counted, a process claims one message at a time."""
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
    """Programs often reject to a queue with a time to live, whose dead letters return to the first queue."""
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
    """A reject raises; an expired message waits for an exchange; one over its limit is delivered again."""
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
