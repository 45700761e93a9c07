"""What every store must do in the role ``Inbox``: the end of each message is recorded once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from paigeant.records.workflow import Status
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
)
from paigeant.testing.conformance.waiting import in_loop


class Inbox:
    """The tests of the role :class:`paigeant.store.Inbox`."""

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
            late = replace(completed("w", output="late"), at=9.0)
            assert not await store.record([late], [message_of("w-x")], cause="w-1")
            found = await store.workflow("w")
            followed = await store.successors("w-1")
        assert found is not None
        assert found.steps[0].output == {"x": [1, None]}
        assert [one.id for one in followed or ()] == ["w-2"]

    @in_loop
    async def test_the_same_end_is_accepted_again(self, store: Store) -> None:
        """The answer to the first try got lost. The second try writes nothing, and all other runs are refused."""
        async with connected(store):
            await store.record([dispatched("w")], [first_of("w")])
            ends = [retried("w", 1), completed("w", "1-2", output=0.1 + 0.2)]
            for _ in range(2):
                assert await store.record(ends, [message_of("w-2")], cause="w-1-1")
                events = [event.type for event in await store.events("w")]
            for other in ({"worker": "other"}, {"deliveries": 2}, {"started_at": 3.0}, {"at": 9.0}):
                of_another = [replace(one, **other) for one in ends]
                assert not await store.record(of_another, [message_of("w-3")], cause="w-1-1"), other
            followed = await store.successors("w-1-1")
        assert events == ["workflow_dispatched", "step_retried", "step_completed"]
        assert [one.id for one in followed or ()] == ["w-2"]

    @in_loop
    async def test_of_several_runs_that_repeat_their_ends_one_is_accepted(self, store: Store) -> None:
        """Their answers got lost. They repeat the end in any order, and at the same time."""
        async with connected(store):
            await store.record([dispatched("w")], [first_of("w")])
            ends = [completed("w", worker=name) for name in ("a", "b", "a")]
            runs = [[replace(end, started_at=0.1 * number)] for number, end in enumerate(ends)]
            first = await asyncio.gather(*(store.record(run, [message_of("w-2")], cause="w-1") for run in runs))
            again = [await store.record(run, [message_of("w-2")], cause="w-1") for run in reversed(runs)]
            together = await asyncio.gather(*(store.record(run, [message_of("w-2")], cause="w-1") for run in runs))
            events = [event.type for event in await store.events("w")]
        assert sorted(first) == [False, False, True]
        assert again == first[::-1]
        assert together == first
        assert events == ["workflow_dispatched", "step_completed"]

    @in_loop
    async def test_an_end_is_refused_after_another_worker_has_begun_the_step(self, store: Store) -> None:
        """The first try to record it broke before the commit. Only the later run may end the step."""
        async with connected(store):
            await store.record([dispatched("w")], [first_of("w")])
            await store.record([started("w", worker="other", deliveries=2)])
            for _ in range(2):
                assert not await store.record([completed("w")], [message_of("w-2")], cause="w-1")
            assert await store.successors("w-1") is None
            later = [completed("w", worker="other", deliveries=2)]
            assert [await store.record(later, [message_of("w-2")], cause="w-1") for _ in range(2)] == [True, True]
            assert not await store.record([completed("w")], [message_of("w-2")], cause="w-1")

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
            ends = [replace(completed("w", output=n), at=9.0 + n) for n in range(10)]
            tries = [store.record([end], [message_of(f"w-2-{n}")], cause="w-1") for n, end in enumerate(ends)]
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
            assert await store.overdue(-1.0) == {}
        assert before == [sent]

    @in_loop
    async def test_a_message_is_late_when_it_is_overdue_or_was_sent_again(self, store: Store) -> None:
        """Whoever receives it claims it before its step begins."""
        async with connected(store):
            await store.record([dispatched("w"), dispatched("r")], [first_of("w"), first_of("r")])
            assert not (await store.standing("w-1", "w", 60.0)).is_late
            assert (await store.standing("w-1", "w", -60.0)).is_late
            assert len(await store.take_overdue("q", -1.0, 1)) == 1
            late = [(await store.standing(f"{name}-1", name, 60.0)).is_late for name in ("w", "r")]
            assert sorted(late) == [False, True]

    @in_loop
    async def test_the_end_of_a_delivery_counts_no_more_when_a_later_one_has_begun(self, store: Store) -> None:
        """Its holder was frozen, say, and knows nothing of its successor (the fence of a store apart)."""
        async with connected(store):
            await store.record([dispatched("w")], [first_of("w")])
            await store.record([started("w", worker="stale", deliveries=1)])
            await store.record([started("w", worker="successor", deliveries=2)])
            await store.record([started("w", worker="stale", deliveries=1)])
            assert not await store.record([completed("w", worker="stale", deliveries=1)], cause="w-1")
            assert await store.successors("w-1") is None
            assert await store.record([completed("w", worker="successor", deliveries=2)], cause="w-1")
