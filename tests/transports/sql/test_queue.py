"""SqlQueue by itself: how messages are delivered and settled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from transports.sql_queues import LEASE, TIDY, bodies, claim, release, send, settle

from paigeant.transport import Outgoing
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.sql.queue import SqlQueue

# --- delivering ---------------------------------------------------------------------------------------------------


def test_a_message_arrives_as_it_was_sent(queue: SqlQueue) -> None:
    """Body, id, headers and queue arrive unchanged; the first delivery is number one."""
    outgoing = Outgoing(queue="q", body=b"\x00\xff odd", id="m1", headers={"a": "\x00\U0001f600"})
    queue.exchange([Settlement(outgoing=[outgoing])], 0)
    [delivery] = claim(queue)
    assert (delivery.queue, delivery.body, delivery.id, delivery.deliveries) == ("q", b"\x00\xff odd", "m1", 1)
    assert delivery.headers == {"a": "\x00\U0001f600"}


@pytest.mark.parametrize("body", [b"", b"\x00" * 1000, bytes(range(256)), b"x" * 20_000_000], ids=len)
def test_any_body_survives(queue: SqlQueue, body: bytes) -> None:
    """Nothing, NUL bytes, every byte, twenty megabytes."""
    queue.exchange([Settlement(outgoing=[Outgoing(queue="q", body=body)])], 0)
    [delivery] = claim(queue)
    assert delivery.body == body


def test_the_most_urgent_comes_first_then_the_oldest(make_queue: Callable[..., SqlQueue]) -> None:
    """Priority 9 goes before 0, over all queues; within a priority the oldest goes first."""
    queue = make_queue("q", "other")
    send(queue, b"a", b"b")
    send(queue, b"c", to="other")
    send(queue, b"urgent", to="other", priority=9)
    assert bodies(claim(queue, 1)) == [b"urgent"]
    assert bodies(claim(queue)) == [b"a", b"b", b"c"]


def test_only_subscribed_queues_are_claimed_from(queue: SqlQueue) -> None:
    """A message elsewhere stays there; ``take`` gets it all the same."""
    send(queue, b"elsewhere", to="other")
    assert claim(queue) == []
    assert bodies(queue.take("other")) == [b"elsewhere"]


def test_hundreds_of_queues_can_be_subscribed_to(make_queue: Callable[..., SqlQueue]) -> None:
    """SQLite joins 500 selects at most; nobody should find that out in production."""
    queue = make_queue(*(f"q{number}" for number in range(1200)))
    send(queue, b"first", to="q3")
    send(queue, b"last", to="q1199")
    assert bodies(claim(queue)) == [b"first", b"last"]


def test_thousands_of_deliveries_are_settled_at_once(queue: SqlQueue) -> None:
    """A group is not limited by how many values a statement takes."""
    send(queue, *(f"m{number}".encode() for number in range(3000)))
    deliveries = claim(queue, 3000)
    assert len(deliveries) == 3000
    assert all(settle(queue, *deliveries))
    assert queue.depths() == {"q": 0}


def test_a_delayed_message_is_not_delivered_before_it_is_due(queue: SqlQueue, clock: Any) -> None:
    """It waits, is counted, and comes when its time has come."""
    send(queue, b"later", delay=60.0)
    clock.advance(59)
    assert claim(queue) == []
    assert queue.depth("q") == 1
    clock.advance(1.5)
    assert bodies(claim(queue)) == [b"later"]


def test_a_message_that_expired_is_never_delivered(queue: SqlQueue, clock: Any) -> None:
    """Not even before somebody tidies up; then it is gone."""
    assert claim(queue) == []
    outgoing = Outgoing(queue="q", body=b"stale", id="s")
    queue.exchange([Settlement(outgoing=[outgoing], expires=TIDY / 2)], 0)
    clock.advance(TIDY / 2)
    assert claim(queue) == []
    assert queue.depth("q") == 1
    clock.advance(TIDY)
    claim(queue)
    assert queue.depth("q") == 0


def test_a_delayed_message_ages_when_it_is_due(queue: SqlQueue, clock: Any) -> None:
    """A delay longer than the time to live does not kill the message."""
    outgoing = Outgoing(queue="q", body=b"m", id="m", delay=60.0)
    queue.exchange([Settlement(outgoing=[outgoing], expires=10.0)], 0)
    clock.advance(65)
    assert bodies(claim(queue)) == [b"m"]


def test_the_same_id_waits_in_a_queue_once(queue: SqlQueue) -> None:
    """Publishing again what waits changes nothing; another queue and messages without an id are not concerned."""
    send(queue, b"m", b"m")
    send(queue, b"m")
    send(queue, b"m", to="other")
    queue.exchange([Settlement(outgoing=[Outgoing(queue="free", body=b"m")] * 2)], 0)
    assert queue.depths() == {"q": 1, "other": 1, "free": 2}


def test_queues_are_listed_counted_and_purged(queue: SqlQueue) -> None:
    """Declared or only published to; what is out is neither counted nor purged."""
    queue.declare(["empty"])
    send(queue, b"a", b"b", b"c")
    send(queue, b"d", delay=10)
    [delivery] = claim(queue, 1)
    assert queue.depths() == {"empty": 0, "q": 3}
    assert queue.purge("q") == 3
    assert settle(queue, delivery) == [True]


# --- settling -----------------------------------------------------------------------------------------------------


def test_settling_publishes_what_follows_in_the_same_commit(queue: SqlQueue) -> None:
    """The message is gone and its successor is there."""
    send(queue, b"m")
    [delivery] = claim(queue)
    assert settle(queue, delivery, outgoing=[Outgoing(queue="next", body=b"n")]) == [True]
    assert queue.depths() == {"q": 0, "next": 1}
    assert claim(queue) == []


def test_a_group_is_settled_one_by_one(make_queue: Callable[..., SqlQueue], clock: Any) -> None:
    """One refused settlement does not spoil the others of its group."""
    ours, theirs = make_queue(), make_queue()
    send(ours, b"old")
    [old] = claim(ours)
    clock.advance(LEASE + 1)
    assert bodies(claim(theirs)) == [b"old"]
    send(ours, b"new")
    [new] = claim(ours)
    follow = [Outgoing(queue="next", body=b"n")]
    accepted, _ = ours.exchange(
        [Settlement(delivery=old, outgoing=follow), Settlement(delivery=new, outgoing=follow), Settlement()], 0
    )
    assert accepted == [False, True, True]
    assert ours.depth("next") == 1


def test_the_second_settlement_of_a_delivery_is_refused(queue: SqlQueue) -> None:
    """In the same group and later."""
    send(queue, b"m")
    [delivery] = claim(queue)
    assert settle(queue, delivery, delivery, outgoing=[Outgoing(queue="next", body=b"n")]) == [True, False]
    assert settle(queue, delivery) == [False]
    assert queue.depth("next") == 1


def test_releasing_makes_the_delivery_uncounted(queue: SqlQueue, clock: Any) -> None:
    """It is as if it had never been handed out, due after the delay."""
    send(queue, b"m")
    [delivery] = claim(queue)
    release(queue, delivery, after=5.0)
    assert claim(queue) == []
    clock.advance(5)
    [again] = claim(queue)
    assert again.deliveries == 1
    assert again.token > delivery.token


def test_a_released_delivery_cannot_be_settled(queue: SqlQueue) -> None:
    """Not even when this very holder has claimed the message again."""
    send(queue, b"m")
    [first] = claim(queue)
    release(queue, first)
    [second] = claim(queue)
    assert settle(queue, first) == [False]
    assert settle(queue, second) == [True]


def test_closing_gives_everything_back_at_once(make_queue: Callable[..., SqlQueue]) -> None:
    """An orderly stop keeps nobody waiting and counts no delivery."""
    leaving, staying = make_queue(), make_queue()
    send(leaving, b"m")
    assert claim(leaving)
    assert claim(staying) == []
    leaving.close()
    [delivery] = claim(staying)
    assert delivery.deliveries == 1
