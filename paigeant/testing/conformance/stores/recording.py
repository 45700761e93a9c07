"""What every store promises of the history that it writes, and of what is published with it."""

from __future__ import annotations

import asyncio

from paigeant.records import Status
from paigeant.store import Store
from paigeant.testing.conformance.stores._samples import (
    completed,
    connected,
    dispatched,
    end_of,
    first_of,
    message_of,
    retried,
    started,
    worker_of,
)
from paigeant.testing.conformance.waiting import in_loop, until


class Recording:
    """A part of :class:`paigeant.testing.conformance.StoreConformance`."""

    @in_loop
    async def test_what_is_recorded_is_known(self, store: Store) -> None:
        """From the first record to the last."""
        async with connected(store):
            assert await store.record([dispatched("w")], [first_of("w")])
            begun = await store.workflow("w")
            assert await store.record([completed("w"), end_of("w")], cause="w-1")
            ended = await store.workflow("w")
            types = [event.type for event in await store.events("w")]
            assert await store.workflow("nobody") is None
        assert begun is not None
        assert (begun.status, begun.variables, [step.status for step in begun.steps]) == (
            Status.RUNNING,
            {"v": 1},
            ["pending", "pending"],
        )
        assert ended is not None
        assert (ended.status, ended.output, ended.steps[0].output) == (Status.COMPLETED, "done", {"x": [1, None]})
        assert types == ["workflow_dispatched", "step_completed", "workflow_completed"]

    @in_loop
    async def test_the_end_of_a_step_is_recorded_once(self, store: Store) -> None:
        """The second to record it is refused, and nothing of its is written (G3)."""
        async with connected(store):
            await store.record([dispatched("w")], [first_of("w")])
            assert await store.record([completed("w")], [message_of("w-2")], cause="w-1")
            assert not await store.record([completed("w", output="late")], [message_of("w-x")], cause="w-1")
            found = await store.workflow("w")
            followed = await store.successors("w-1")
        assert found is not None
        assert found.steps[0].output == {"x": [1, None]}
        assert [one.id for one in followed or ()] == ["w-2"]

    @in_loop
    async def test_tries_in_place_stand_or_fall_with_the_message_that_was_delivered(self, store: Store) -> None:
        """Of a refused write nothing is left, or the next attempt would count as done with."""
        async with connected(store):
            await store.record([dispatched("w")], [first_of("w")])
            assert await store.record([retried("w", 1)], [message_of("w-1-2")], cause="w-1-1")
            late = [retried("w", 1), retried("w", 2), completed("w", "1-3")]
            assert not await store.record(late, [message_of("w-2")], cause="w-1-1")
            assert await store.successors("w-1-2") is None
            assert await store.record([retried("w", 2), completed("w", "1-3")], [], cause="w-1-2")
            found = await store.workflow("w")
        assert found is not None
        ended = [step.status for step in found.steps if step.status != "pending"]
        assert sorted(ended) == ["completed", "retried", "retried"]

    @in_loop
    async def test_of_many_at_once_one_is_accepted(self, store: Store) -> None:
        """Also when they come in one batch."""
        async with connected(store):
            await store.record([dispatched("w")], [first_of("w")])
            tries = [store.record([completed("w", output=n)], [message_of(f"w-2-{n}")], cause="w-1") for n in range(10)]
            accepted = await asyncio.gather(*tries)
            followed = await store.successors("w-1")
        assert accepted.count(True) == 1
        assert [one.id for one in followed or ()] == [f"w-2-{accepted.index(True)}"]

    @in_loop
    async def test_dispatching_again_changes_nothing(self, store: Store) -> None:
        """A repeated dispatch is one workflow."""
        async with connected(store):
            for _ in range(2):
                await store.record([dispatched("w")], [first_of("w")])
            events = await store.events("w")
            counts = await store.counts()
        assert ([event.type for event in events], counts) == (["workflow_dispatched"], {"running": 1})

    @in_loop
    async def test_successors_are_kept_as_they_were_sent(self, store: Store) -> None:
        """Until they are done with themselves; of a message that is not, nothing is known."""
        sent = message_of("w-2", headers={"a": "b"}, priority=3)
        async with connected(store):
            await store.record([dispatched("w")], [first_of("w")])
            assert await store.successors("w-1") is None
            await store.record([completed("w")], [sent], cause="w-1")
            before = await store.successors("w-1")
            await store.record([completed("w", step="2"), end_of("w")], cause="w-2")
            assert await store.successors("w-1") == []
            assert await store.waiting_queues() == []
        assert before == [sent]

    @in_loop
    async def test_overdue_messages_are_taken_once(self, store: Store) -> None:
        """Of these queues, when due for longer than the grace, and not while a live worker runs them."""
        async with connected(store):
            await store.announce(worker_of("alive"))
            await store.record([dispatched("w"), dispatched("r")], [first_of("w"), first_of("r")])
            await store.record([started("r", worker="alive")])
            await store.record([], [message_of("later", delay=60.0), message_of("elsewhere", queue="other")])
            assert await store.take_overdue(["q"], 60.0) == []
            assert sorted(await store.waiting_queues()) == ["other", "q"]

            async def overdue() -> list[str | None]:
                return [one.id for one in await store.take_overdue(["q"], 0.05)]

            assert await until(overdue) == ["w-1"]
            assert await store.take_overdue(["q"], 60.0) == []
            await store.withdraw("alive")
            taken = {*await until(overdue)}
            assert "r-1" in taken | {*await until(overdue)}
