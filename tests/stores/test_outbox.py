"""The ends of messages, their successors, and the outbox that keeps them until they are published."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select
from stores.builders import (
    completed,
    dispatched,
    outgoing,
    retried,
    started,
    types,
    worker,
    workflow_completed,
)

from paigeant.stores.tables import outbox, workers

pytestmark = pytest.mark.anyio


async def outbox_ids(store):
    return await store.access.run(lambda: store.access.reader.execute(select(outbox.c.message_id)).scalars().all())


async def test_the_end_of_a_message_is_recorded_once(store):
    """The store refuses the second worker and records none of its events."""
    await store.record([dispatched()], [outgoing("w1-1")])
    assert await store.record([completed(worker="first")], [outgoing("next")], cause="w1-1") is True
    before = (await store.workflow("w1"), await types(store), await outbox_ids(store))
    assert await store.record([completed(worker="second")], [outgoing("other")], cause="w1-1") is False
    assert (await store.workflow("w1"), await types(store), await outbox_ids(store)) == before


async def test_of_two_ends_at_the_same_moment_one_is_accepted(store):
    """This holds even if both are recorded in one transaction."""
    await store.record([dispatched()], [outgoing("w1-1")])
    ends = [store.record([completed(worker=f"w{n}")], [outgoing(f"next-{n}")], cause="w1-1") for n in range(8)]
    accepted = await asyncio.gather(*ends)
    winner = accepted.index(True)
    assert sorted(accepted) == [False] * 7 + [True]
    assert (await store.workflow("w1")).steps[0].worker == f"w{winner}"
    assert await outbox_ids(store) == [f"next-{winner}"]
    assert (await types(store)).count("step_completed") == 1


async def test_successors_are_what_was_stored_with_the_end(store):
    """They are equal byte for byte, so that publishing one again publishes the same message."""
    sent = outgoing("next", headers={"h": "1"}, priority=7)
    await store.record([completed()], [sent], cause="w1-1")
    assert await store.successors("w1-1") == [sent]


async def test_a_successors_delay_runs_on(store):
    """A retry that is published again keeps its original due time."""
    await store.record([retried()], [outgoing("again", delay=600.0)], cause="w1-1")
    ((again),) = await store.successors("w1-1")
    assert 500 < again.delay <= 600


async def test_a_message_that_is_not_done_with_has_no_successors_yet(store):
    """The store returns None, unlike for a message that has ended without successors."""
    await store.record([dispatched()], [outgoing("w1-1")])
    await store.record([started()])
    await store.record([completed(id="w2"), workflow_completed(id="w2")], cause="w2-1")
    assert await store.successors("w1-1") is None
    assert await store.successors("unknown") is None
    assert await store.successors("w2-1") == []


async def test_a_message_leaves_the_outbox_when_it_is_done_with(store):
    """It stays until then, because it may have to be published again."""
    await store.record([dispatched()], [outgoing("w1-1")])
    assert await outbox_ids(store) == ["w1-1"]
    await store.record([completed(step="1")], [outgoing("w1-2")], cause="w1-1")
    assert await outbox_ids(store) == ["w1-2"]
    await store.record([completed(step="2"), workflow_completed()], cause="w1-2")
    assert await outbox_ids(store) == []
    assert await store.successors("w1-1") == []


async def test_questions_and_writes_at_the_same_time_each_get_their_own_answer(store):
    """This holds although they share statements and transactions."""
    await asyncio.gather(*[store.record([dispatched(f"w{n}")], [outgoing(f"w{n}-1")]) for n in range(20)])
    ends = [store.record([completed(f"w{n}")], [outgoing(f"w{n}-2")], cause=f"w{n}-1") for n in range(0, 20, 2)]
    assert await asyncio.gather(*ends) == [True] * 10
    answers = await asyncio.gather(*[store.successors(f"w{n}-1") for n in range(20)])
    assert [answer and answer[0].id for answer in answers] == [None if n % 2 else f"w{n}-2" for n in range(20)]


async def test_messages_that_were_never_delivered_are_taken_by_one_caller(store):
    """The broker lost them; of several callers, one acquires each message."""
    await store.record([dispatched()], [outgoing("w1-1"), outgoing("later", delay=3600.0), outgoing("else", queue="q")])
    await _age(store, 100)
    assert await store.overdue(60.0) == {"q": 1, "shop.b": 1}
    taken = await asyncio.gather(*[store.take_overdue("shop.b", 60.0, 10) for _ in range(3)])
    assert [one.id for some in taken for one in some] == ["w1-1"]


async def test_a_child_that_is_over_is_not_posted_again(store):
    """A step that waited for it names it once more when it ends; the row would stay, and be sent again some day."""
    child = dispatched("w2", parent="w1")
    await store.record([dispatched("w1"), child], [outgoing("w1-1"), outgoing("w2-1")])
    await store.record([completed("w2"), workflow_completed("w2")], cause="w2-1")
    await store.record([completed("w1"), child], [outgoing("w1-2"), outgoing("w2-1")], cause="w1-1")

    assert await store.overdue(-1.0) == {"shop.b": 1}
    assert [one.id for one in await store.successors("w1-1")] == ["w1-2"]


async def test_messages_that_an_older_worker_runs_are_not_overdue(store):
    """An older worker does not report its messages: those it started count as held while it sends heartbeats."""
    await store.record([dispatched()], [outgoing("w1-1")])
    await store.announce(worker("w7"))
    await _change(store, workers.update().values(says_what_it_holds=0))
    await store.record([started(worker="w7")])
    await _age(store, 100)
    assert await store.take_overdue("shop.b", 60.0, 10) == []
    await store.withdraw("w7")
    assert [one.id for one in await store.take_overdue("shop.b", 60.0, 10)] == ["w1-1"]


async def _change(store, statement):
    def change():
        with store.access.writer.begin():
            store.access.writer.execute(statement)

    await store.access.run(change)


async def _age(store, seconds):
    """Let time pass for the outbox, whatever the clock of the server says."""

    await _change(store, outbox.update().values(due_at=outbox.c.due_at - seconds))


async def test_a_message_that_is_not_overdue_is_left_alone(store):
    """The broker may be about to deliver it."""
    await store.record([dispatched()], [outgoing("w1-1")])
    assert await store.take_overdue("shop.b", 60.0, 10) == []
