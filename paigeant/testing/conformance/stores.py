"""What every store promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from paigeant.events import StepCompleted, StepStarted, WorkflowCompleted, WorkflowDispatched
from paigeant.store import Status, Store, WorkerRecord
from paigeant.testing.conformance.waiting import in_loop, until
from paigeant.transport import Outgoing


class StoreConformance:
    """Subclass it with a pytest fixture ``store`` that gives an empty, unconnected store, new for each test."""

    # --- recording --------------------------------------------------------------------------------------------

    @in_loop
    async def test_what_is_recorded_is_known(self, store: Store) -> None:
        """From the first record to the last."""
        async with _connected(store):
            assert await store.record([_dispatched("w")], [_first("w")])
            begun = await store.workflow("w")
            assert await store.record([_completed("w"), _ended("w")], cause="w-1")
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
        async with _connected(store):
            await store.record([_dispatched("w")], [_first("w")])
            assert await store.record([_completed("w")], [_out("w-2")], cause="w-1")
            assert not await store.record([_completed("w", output="late")], [_out("w-x")], cause="w-1")
            found = await store.workflow("w")
            followed = await store.successors("w-1")
        assert found is not None
        assert found.steps[0].output == {"x": [1, None]}
        assert [one.id for one in followed or ()] == ["w-2"]

    @in_loop
    async def test_of_many_at_once_one_is_accepted(self, store: Store) -> None:
        """Also when they come in one batch."""
        async with _connected(store):
            await store.record([_dispatched("w")], [_first("w")])
            tries = [store.record([_completed("w", output=n)], [_out(f"w-2-{n}")], cause="w-1") for n in range(10)]
            accepted = await asyncio.gather(*tries)
            followed = await store.successors("w-1")
        assert accepted.count(True) == 1
        assert [one.id for one in followed or ()] == [f"w-2-{accepted.index(True)}"]

    @in_loop
    async def test_dispatching_again_changes_nothing(self, store: Store) -> None:
        """A repeated dispatch is one workflow."""
        async with _connected(store):
            for _ in range(2):
                await store.record([_dispatched("w")], [_first("w")])
            events = await store.events("w")
            counts = await store.counts()
        assert ([event.type for event in events], counts) == (["workflow_dispatched"], {"running": 1})

    # --- the outbox -------------------------------------------------------------------------------------------

    @in_loop
    async def test_successors_are_kept_as_they_were_sent(self, store: Store) -> None:
        """Until they are done with themselves; of a message that is not, nothing is known."""
        sent = _out("w-2", headers={"a": "b"}, priority=3)
        async with _connected(store):
            await store.record([_dispatched("w")], [_first("w")])
            assert await store.successors("w-1") is None
            await store.record([_completed("w")], [sent], cause="w-1")
            before = await store.successors("w-1")
            await store.record([_completed("w", step="2"), _ended("w")], cause="w-2")
            assert await store.successors("w-1") == []
            assert await store.waiting_queues() == []
        assert before == [sent]

    @in_loop
    async def test_overdue_messages_are_taken_once(self, store: Store) -> None:
        """Of these queues, when due for longer than the grace, and not while a live worker runs them."""
        async with _connected(store):
            await store.announce(_worker("alive"))
            await store.record([_dispatched("w"), _dispatched("r")], [_first("w"), _first("r")])
            await store.record([_started("r", worker="alive")])
            await store.record([], [_out("later", delay=60.0), _out("elsewhere", queue="other")])
            assert await store.take_overdue(["q"], 60.0) == []
            assert sorted(await store.waiting_queues()) == ["other", "q"]

            async def overdue() -> list[str | None]:
                return [one.id for one in await store.take_overdue(["q"], 0.05)]

            assert await until(overdue) == ["w-1"]
            assert await store.take_overdue(["q"], 60.0) == []
            await store.withdraw("alive")
            taken = {*await until(overdue)}
            assert "r-1" in taken | {*await until(overdue)}

    # --- waiting ----------------------------------------------------------------------------------------------

    @in_loop
    async def test_the_end_is_awaited(self, store: Store) -> None:
        """By many at once, and at once when it has come already."""
        async with _connected(store):
            await store.record([_dispatched("w"), _dispatched("other")])
            waiting = [asyncio.ensure_future(store.await_end("w")) for _ in range(5)]
            await store.record([_ended("other")])
            await store.await_end("other")
            assert not any(wait.done() for wait in waiting)
            await store.record([_ended("w")])
            await asyncio.gather(*waiting)
            await store.await_end("w")

    @in_loop
    async def test_the_next_event_is_awaited(self, store: Store) -> None:
        """Offsets grow; a reader goes on where it was."""
        async with _connected(store):
            await store.record([_dispatched("w")])
            [first] = await store.events("w")
            wait = asyncio.ensure_future(store.await_event("w", first.offset))
            await store.record([_dispatched("other")])
            assert not wait.done()
            await store.record([_completed("w")])
            await wait
            [second] = await store.events("w", after=first.offset)
        assert second.offset > first.offset
        assert (second.type, second.data["step_id"]) == ("step_completed", "1")

    # --- finding ----------------------------------------------------------------------------------------------

    @in_loop
    async def test_workflows_are_found_by_the_beginning_of_their_id(self, store: Store) -> None:
        """At most ten; upper and lower case differ."""
        async with _connected(store):
            ids = [f"ab-{n:02}" for n in range(12)]
            await store.record([_dispatched(one) for one in [*ids, "AB-99", "b"]])
            assert sorted(await store.find("ab-1")) == ["ab-10", "ab-11"]
            assert len(await store.find("ab")) == 10
            assert list(await store.find("AB")) == ["AB-99"]
            assert list(await store.find("zz")) == []

    @in_loop
    async def test_workflows_are_listed_newest_first(self, store: Store) -> None:
        """By status, name and app; counted by status."""
        async with _connected(store):
            await store.record([_dispatched("old", at=1.0), _dispatched("new", at=2.0), _ended("old")])
            assert [one.correlation_id for one in await store.workflows()] == ["new", "old"]
            assert [one.correlation_id for one in await store.workflows(status="completed")] == ["old"]
            assert [one.correlation_id for one in await store.workflows(app="shop", limit=1)] == ["new"]
            assert await store.workflows(name="no such") == []
            assert await store.counts() == {"running": 1, "completed": 1}

    @in_loop
    async def test_workers_come_and_go(self, store: Store) -> None:
        """Announcing again is the same worker."""
        async with _connected(store):
            await store.announce(_worker("a", started_at=1.0))
            for _ in range(2):
                await store.announce(_worker("b", started_at=2.0))
            found = await store.workers()
            await store.withdraw("a")
            left = await store.workers()
        assert [(one.id, one.alive, one.queues) for one in found] == [("b", True, ("q",)), ("a", True, ("q",))]
        assert {one.code for one in found} == {"0123456789ab"}
        assert [one.id for one in left] == ["b"]

    @in_loop
    async def test_another_loop_can_use_it(self, store: Store) -> None:
        """A store belongs to no loop."""
        async with _connected(store):
            await store.record([_dispatched("w")])
            assert await asyncio.to_thread(lambda: asyncio.run(store.find("w"))) == ["w"]


@asynccontextmanager
async def _connected(store: Store) -> AsyncGenerator[None]:
    await store.connect()
    try:
        yield
    finally:
        await store.close()


def _dispatched(name: str, at: float = 1.0) -> WorkflowDispatched:
    itinerary = [{"id": step, "name": "a", "queue": "q"} for step in ("1", "2")]
    return WorkflowDispatched(
        correlation_id=name,
        at=at,
        name="test",
        app="shop",
        message_id=f"{name}-1",
        variables={"v": 1},
        itinerary=itinerary,
    )


def _step(name: str, step: str, worker: str) -> dict[str, Any]:
    about = {"message_id": f"{name}-{step}", "step_id": step, "activity": "a", "attempt": 1, "worker": worker}
    return {"correlation_id": name, "at": 2.0, **about}


def _started(name: str, worker: str) -> StepStarted:
    return StepStarted(**_step(name, "1", worker))


def _completed(name: str, step: str = "1", output: Any = None) -> StepCompleted:
    value = {"x": [1, None]} if output is None else output
    return StepCompleted(**_step(name, step, "w"), started_at=1.5, output=value)


def _ended(name: str) -> WorkflowCompleted:
    return WorkflowCompleted(correlation_id=name, at=9.0, output="done")


def _out(name: str, queue: str = "q", **options: Any) -> Outgoing:
    return Outgoing(queue=queue, body=b"{}\xff", id=name, **options)


def _first(name: str) -> Outgoing:
    return _out(f"{name}-1")


def _worker(name: str, started_at: float = 1.0) -> WorkerRecord:
    return WorkerRecord(
        id=name,
        app="shop",
        host="h",
        pid=1,
        activities=("a",),
        queues=("q",),
        concurrency=1,
        started_at=started_at,
        seen_at=started_at,
        code="0123456789ab",
    )
