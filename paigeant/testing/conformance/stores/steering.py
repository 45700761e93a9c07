"""What every store must do in the role ``Steering``: cancelling, pausing and resuming workflows."""

from __future__ import annotations

import asyncio

from paigeant.events import LAST, Cancellation
from paigeant.records.workflow import Status
from paigeant.store import Store
from paigeant.testing.conformance.stores._samples import (
    completed,
    connected,
    dispatched,
    end_of,
    first_of,
    hold_of,
)
from paigeant.testing.conformance.waiting import in_loop


class Steering:
    """The tests of the role :class:`paigeant.store.Steering`."""

    @in_loop
    async def test_a_cancelled_workflow_does_not_end_again(self, store: Store) -> None:
        """Whatever its steps still record; and nothing waits in it."""
        async with connected(store):
            await store.record([dispatched("w")], [first_of("w")])
            await store.record([hold_of("w", "signal:x")])
            found = await store.cancel("w", Cancellation(at=0.0, by="ada", reason="enough"))
            await store.record([completed("w"), end_of("w")], cause="w-1")
            await store.record([hold_of("w", "signal:y")])
            record, standing = await store.workflow("w"), await store.standing("w-2", "w")
            known = await asyncio.gather(*(store.knows(name) for name in ("w", "nobody")))
            types = [event.type for event in await store.events("w")]
            assert await store.held("w") == []
            again = await store.cancel("w", Cancellation(at=0.0))
            assert await store.cancel("nobody", Cancellation(at=0.0)) is None
        assert found is not None
        assert (found.status, [event.type for event in found.recorded]) == (Status.RUNNING, ["workflow_cancelled"])
        assert again is not None
        assert (again.status, again.recorded) == (Status.CANCELLED, ())
        assert record is not None
        assert record.cancellation is not None
        assert (record.status, record.output, record.cancellation.by) == (Status.CANCELLED, None, "ada")
        assert standing.status is Status.CANCELLED
        assert known == [True, False]
        assert [one for one in types if one in LAST] == ["workflow_cancelled"]

    @in_loop
    async def test_a_workflow_that_ended_is_not_cancelled(self, store: Store) -> None:
        """Nor paused, nor resumed."""
        async with connected(store):
            await store.record([dispatched("w"), end_of("w")])
            for found in (
                await store.cancel("w", Cancellation(at=0.0)),
                await store.pause("w"),
                await store.resume("w"),
            ):
                assert found is not None
                assert (found.status, found.recorded) == (Status.COMPLETED, ())
            assert await store.cancellations(["w"]) == {}

    @in_loop
    async def test_what_waits_in_a_workflow_to_be_taken_back_is_due(self, store: Store) -> None:
        """Also what begins to wait after that; the workflow ends by what its messages become."""
        async with connected(store):
            await store.record([dispatched("w")])
            await store.record([hold_of("w", "signal:x")])
            await store.cancel("w", Cancellation(at=0.0, compensate=True))
            await store.record([hold_of("w", "signal:y")])
            due, _ = await store.take_due()
            marked = await store.cancellations(["w", "other"])
            record = await store.workflow("w")
        assert sorted(one.key for one in due) == ["signal:x", "signal:y"]
        assert {name: one.compensate for name, one in marked.items()} == {"w": True}
        assert record is not None
        assert record.status is Status.RUNNING

    @in_loop
    async def test_a_cancel_goes_down_to_the_children(self, store: Store) -> None:
        """Those that are there, at any depth, and those that are dispatched after it."""
        async with connected(store):
            await store.record([dispatched("w"), dispatched("child", parent="w"), dispatched("over", parent="w")])
            await store.record([dispatched("deep", parent="over"), end_of("over")])
            found = await store.cancel("w", Cancellation(at=0.0))
            await store.record([dispatched("late", parent="w")])
            late = await store.standing("late-1", "late")
            every = await store.workflows()
        assert found is not None
        assert {one.correlation_id: one.status.value for one in every} == {
            "w": "cancelled",
            "child": "cancelled",
            "deep": "cancelled",
            "over": "completed",
            "late": "running",
        }
        assert (late.status, late.cancellation is not None) == (Status.RUNNING, True)

    @in_loop
    async def test_a_paused_workflow_is_resumed(self, store: Store) -> None:
        """What was held for it is due then, also what is held too late."""
        async with connected(store):
            await store.record([dispatched("w")])
            paused = await store.pause("w", "ada")
            assert (await store.standing("w-1", "w")).status is Status.PAUSED
            await store.record([hold_of("w", "pause"), hold_of("w", "signal:x")])
            assert await store.take_due() == ((), None)
            resumed = await store.resume("w", "ada")
            await store.record([hold_of("w", "pause", id="w-late")])
            due, _ = await store.take_due()
            assert (await store.standing("w-1", "w")).status is Status.RUNNING
            assert await store.pause("nobody") is None
            assert await store.resume("nobody") is None
        assert paused is not None
        assert resumed is not None
        assert (paused.status, resumed.status) == (Status.RUNNING, Status.PAUSED)
        assert sorted(one.wait_id for one in due) == ["w-late", "w-pause"]
