"""What every store must do in the role ``History``: reading workflows."""

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
    fails,
    first_of,
    message_of,
)
from paigeant.testing.conformance.waiting import in_loop


class History:
    """The tests of the role :class:`paigeant.store.History`."""

    @in_loop
    async def test_the_end_is_awaited(self, store: Store) -> None:
        """By many at once, and at once when it has come already."""
        async with connected(store):
            await store.record([dispatched("w"), dispatched("other")])
            waiting = [asyncio.ensure_future(store.await_end("w")) for _ in range(5)]
            await store.record([end_of("other")])
            await store.await_end("other")
            assert not any(wait.done() for wait in waiting)
            await store.record([end_of("w")])
            await asyncio.gather(*waiting)
            await store.await_end("w")

    @in_loop
    async def test_the_next_event_is_awaited(self, store: Store) -> None:
        """Offsets grow; a reader goes on where it was."""
        async with connected(store):
            await store.record([dispatched("w")])
            [first] = await store.events("w")
            wait = asyncio.ensure_future(store.await_event("w", first.offset))
            await store.record([dispatched("other")])
            assert not wait.done()
            await store.record([completed("w")])
            await wait
            [second] = await store.events("w", after=first.offset)
        assert second.offset > first.offset
        assert (second.type, second.data["step_id"]) == ("step_completed", "1")

    @in_loop
    async def test_workflows_are_found_by_the_beginning_of_their_id(self, store: Store) -> None:
        """At most ten; upper and lower case differ."""
        async with connected(store):
            ids = [f"ab-{n:02}" for n in range(12)]
            await store.record([dispatched(one) for one in [*ids, "AB-99", "b"]])
            assert sorted(await store.find("ab-1")) == ["ab-10", "ab-11"]
            assert len(await store.find("ab")) == 10
            assert list(await store.find("AB")) == ["AB-99"]
            assert list(await store.find("zz")) == []

    @in_loop
    async def test_workflows_are_listed_newest_first(self, store: Store) -> None:
        """By status, name, App and parent; counted by status."""
        async with connected(store):
            await store.record([dispatched("old", at=1.0), dispatched("new", at=2.0), end_of("old")])
            assert [one.correlation_id for one in await store.workflows()] == ["new", "old"]
            assert [one.correlation_id for one in await store.workflows(status="completed")] == ["old"]
            assert [one.correlation_id for one in await store.workflows(app="shop", limit=1)] == ["new"]
            assert await store.workflows(name="no such") == []
            assert await store.counts() == {"running": 1, "completed": 1}
            await store.record([replace(dispatched("child"), parent="new", at=9.0)])
            assert [one.correlation_id for one in await store.workflows(parent="")] == ["new", "old"]
            [child] = await store.workflows(parent="new")
            assert (child.correlation_id, child.parent) == ("child", "new")

    @in_loop
    async def test_another_loop_can_use_it(self, store: Store) -> None:
        """A store belongs to no loop."""
        async with connected(store):
            await store.record([dispatched("w")])
            assert await asyncio.to_thread(lambda: asyncio.run(store.find("w"))) == ["w"]

    @in_loop
    async def test_the_way_a_workflow_went_is_known(self, store: Store) -> None:
        """Its slip, and what the completed steps changed."""
        async with connected(store):
            await store.record([replace(dispatched("w"), slip={"itinerary": []})], [first_of("w")])
            changed = replace(
                completed("w"), changes={"set": {"v": 2}, "deleted": ["u"]}, ahead=[{"name": "b", "id": "3"}]
            )
            await store.record([changed], [message_of("w-2")], cause="w-1")
            await store.record([dispatched("v")], [first_of("v")])
            courses, course = await store.courses(["w", "nobody", "v"]), await store.course("w")
            plans = await store.plans(["v", "nobody", "w"])
        assert sorted(courses) == ["v", "w"]
        assert course == courses["w"]
        assert courses["v"].done == []
        assert {one: slip for one, (_, slip) in plans.items()} == {"v": None, "w": {"itinerary": []}}
        assert plans["w"][0] == course.workflow.name
        (done,) = course.done
        assert (course.slip, done.id, done.output) == ({"itinerary": []}, "1", {"x": [1, None]})
        assert (done.changes, done.ahead) == ({"set": {"v": 2}, "deleted": ["u"]}, [{"name": "b", "id": "3"}])
        assert done.error is None

    @in_loop
    async def test_a_failed_step_in_whose_place_others_go_is_on_the_way(self, store: Store) -> None:
        """With its error and the steps ahead. A step that failed and ended the workflow is not; the plan shows both."""
        async with connected(store):
            for name, ahead in (("w", [{"name": "b", "id": "2"}]), ("v", None)):
                await store.record([dispatched(name)], [first_of(name)])
                await store.record([replace(fails(name), ahead=ahead)], cause=f"{name}-1")
            courses, found = await store.courses(["w", "v"]), await store.workflow("w")
        assert courses["v"].done == []
        (done,) = courses["w"].done
        assert (done.id, done.error, done.ahead) == ("1", fails("w").error, [{"name": "b", "id": "2"}])
        assert found is not None
        assert found.status is Status.RUNNING
        assert [(step.id, step.status) for step in found.steps if step.id in ("1", "2")] == [
            ("1", "failed"),
            ("2", "pending"),
        ]
