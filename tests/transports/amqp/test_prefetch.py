"""How one worker's deliveries are shared out among its queues: a table, a law, and RabbitMQ."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant.testing.conformance.transports import Inbox, has_depth, outgoing
from paigeant.testing.conformance.waiting import in_loop
from paigeant.transports import new_transport
from paigeant.transports.amqp import prefetch as amqp_prefetch
from paigeant.transports.amqp.prefetch import Prefetch, shares


@pytest.mark.parametrize(
    ("prefetch", "held", "hungry", "parts"),
    [
        (10, {"a": 0}, [], {"a": 10}),
        (10, {"a": 0, "b": 0, "c": 0}, [], {"a": 4, "b": 3, "c": 3}),
        (2, {"a": 0, "b": 0, "c": 0}, [], {"a": 1, "b": 1, "c": 1}),
        (10, {"a": 4, "b": 0, "c": 0}, ["a"], {"a": 10, "b": 1, "c": 1}),
        (10, {"a": 4, "b": 3, "c": 0}, ["a", "b"], {"a": 5, "b": 5, "c": 1}),
        (10, {"a": 4, "b": 2, "c": 0}, ["a"], {"a": 8, "b": 2, "c": 1}),
        (2, {"a": 1, "b": 0, "c": 0, "d": 0}, ["a"], {"a": 2, "b": 1, "c": 1, "d": 1}),
    ],
)
def test_what_the_others_do_not_need_goes_to_the_hungry(prefetch, held, hungry, parts):
    """Equal parts until one has used up its own."""
    assert shares(prefetch, held, hungry) == parts


@given(
    st.integers(1, 200),
    st.dictionaries(st.sampled_from("abcdefgh"), st.tuples(st.integers(0, 200), st.booleans()), min_size=1),
)
def test_the_total_is_what_was_asked_for(prefetch, queues):
    """And one for each queue, so that each is heard of, beside what is out already."""
    held = {name: count for name, (count, _) in queues.items()}
    hungry = [name for name, (_, is_hungry) in queues.items() if is_hungry]
    parts = shares(prefetch, held, hungry)
    assert set(parts) == set(held)
    assert min(parts.values()) >= 1
    assert sum(parts.values()) <= max(prefetch, sum(held.values())) + len(held)


@pytest.fixture
def _no_pause(monkeypatch):
    monkeypatch.setattr(amqp_prefetch, "_PAUSE", 0.0)


@pytest.mark.usefixtures("_no_pause")
def test_changes_settle_down():
    """The same load asks for no second change."""
    prefetch = Prefetch(["a", "b"], 10)
    assert prefetch.grown({"a": 5}) == {"a": 5}
    assert prefetch.grown({"a": 10}) == {}
    assert prefetch.patience is None


def test_a_change_that_comes_too_early_is_made_up_for():
    """Whoever rests is told until when."""
    prefetch = Prefetch(["a", "b"], 10)
    assert prefetch.grown({"a": 5}) == {}
    assert 0 < (prefetch.patience or 0) <= amqp_prefetch._PAUSE


@pytest.mark.usefixtures("_no_pause")
def test_more_may_be_held_than_at_first():
    """One queue has all of it, and more when more is allowed; never less."""
    prefetch = Prefetch(["a"], 10)
    assert prefetch.grown({"a": 10}) == {}
    prefetch.widen(20)
    assert prefetch.grown({"a": 10}) == {"a": 10}
    prefetch.widen(5)
    assert prefetch.parts == {"a": 20}


@in_loop
async def test_a_worker_holds_no_more_than_it_was_allowed(rabbitmq_url: str, prefix: str) -> None:
    """Of several queues together; the rest waits for others."""
    queues = [f"{prefix}.{name}" for name in "abc"]
    transport, other = new_transport(rabbitmq_url), new_transport(rabbitmq_url)
    await other.declare(*queues)
    await other.send([one for queue in queues for one in outgoing(queue, *map(str, range(10)))])
    async with Inbox(transport, queues, prefetch=6) as inbox:
        await inbox.has(6)
        waiting = [await other.depth(queue) for queue in queues]
        assert sum(waiting) == 30 - 6
        assert len(inbox.got) == 6
        for delivery in list(inbox.got):
            await transport.settle(delivery)
    await _end(transport, other, queues)


@in_loop
async def test_a_busy_queue_gets_what_the_others_do_not_need(rabbitmq_url: str, prefix: str) -> None:
    """And another one when the load moves there."""
    queues = [f"{prefix}.{name}" for name in "abcd"]
    transport, other = new_transport(rabbitmq_url), new_transport(rabbitmq_url)
    await other.declare(*queues)
    async with Inbox(transport, queues, prefetch=40) as inbox:
        for number, busy in enumerate((queues[0], queues[2]), 1):
            await other.send(outgoing(busy, *map(str, range(37))))
            await inbox.has(37 * number, 20)
            for delivery in inbox.got[37 * (number - 1) :]:
                await transport.settle(delivery)
        await has_depth(other, queues[0], 0)
    assert {delivery.deliveries for delivery in inbox.got} == {1}
    await _end(transport, other, queues)


@in_loop
async def test_one_busy_queue_of_many_gets_all_of_it(rabbitmq_url: str, prefix: str) -> None:
    """A worker that serves more activities than it runs steps at once is not idle for that."""
    queues = [f"{prefix}.{name}" for name in "abcdef"]
    transport, other = new_transport(rabbitmq_url), new_transport(rabbitmq_url)
    await other.declare(*queues)
    await other.send(outgoing(queues[3], *map(str, range(10))))
    async with Inbox(transport, queues, prefetch=4) as inbox:
        assert len(await inbox.has(4)) == 4
        for delivery in list(inbox.got):
            await transport.settle(delivery)
    await _end(transport, other, queues)


async def _end(transport, other, queues):
    await transport.close()
    for queue in queues:
        await other.delete(queue)
    await other.close()
