"""What every store promises to those who read: of workflows, of how they went, of what comes next."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from paigeant.claim_check import Parcel
from paigeant.records import KeyState, KeyUse
from paigeant.store import Store
from paigeant.testing.conformance.stores._samples import (
    completed,
    connected,
    dispatched,
    end_of,
    first_of,
    letter_of,
    message_of,
)
from paigeant.testing.conformance.waiting import in_loop


class Reading:
    """A part of :class:`paigeant.testing.conformance.StoreConformance`."""

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
    async def test_what_has_ended_is_told_page_by_page(self, store: Store) -> None:
        """Families: not what runs, or ended later; those of which something runs or has a dead letter must stay."""
        async with connected(store):
            ids = [f"old-{n}" for n in range(6)]
            begun = [dispatched(one, at=1.0) for one in [*ids, "runs"]]
            children = [
                replace(dispatched("child", at=1.0), parent="old-1"),
                replace(dispatched("grandchild", at=1.0), parent="child"),
                replace(dispatched("fork", at=1.0), forked_from="grandchild"),
                replace(dispatched("busy", at=1.0), parent="old-2"),
                replace(dispatched("busy fork", at=1.0), forked_from="old-3"),
            ]
            ended = [replace(end_of(one), at=at) for at, one in enumerate(ids, 10)]
            over = [replace(end_of(one), at=12.0) for one in ("child", "grandchild", "fork")]
            letter = letter_of("old-4")
            await store.record([*begun, *children, *ended, *over, letter])
            assert list(await store.ended(10.0)) == []
            first, second = await store.ended(100.0, limit=2)
            assert (first.root, first.ended_at, first.members) == ("old-0", 10.0, ("old-0",))
            assert sorted(second.members) == ["child", "fork", "grandchild", "old-1"]
            rest = await store.ended(100.0, after=second)
            assert [(one.root, one.members) for one in rest] == [
                ("old-2", ()), ("old-3", ()), ("old-4", ()), ("old-5", ("old-5",)),
            ]  # fmt: skip
            assert [one.members for one in await store.ended(12.0)] == [("old-0",), ()]
            assert list(await store.ended(100.0, ["failed"])) == []

    @in_loop
    async def test_what_is_forgotten_is_gone_with_all_its_family(self, store: Store) -> None:
        """Unless something of it must stay by then."""
        async with connected(store):
            for root in ("gone", "kept"):
                begun = [dispatched(root), replace(dispatched(f"{root}-child"), parent=root)]
                await store.record([*begun, completed(root), end_of(root), end_of(f"{root}-child")])
                await store.keep([Parcel.of(root, b"1")])
                await store.take_key(KeyUse(correlation_id=root, key=root, digest="d"))
            later = 1e12
            families = await store.ended(later)
            await store.record([replace(dispatched("fork"), forked_from="kept-child")])
            assert await store.forget(families, later) == 2
            assert [one.correlation_id for one in await store.workflows()] == ["fork", "kept-child", "kept"]
            assert [await store.workflow(one) for one in ("gone", "gone-child")] == [None, None]
            assert list(await store.events("gone")) == []
            assert await store.fetch([Parcel.of(one, b"1").kept for one in ("gone", "kept")]) == {
                Parcel.of("kept", b"1").kept: b"1"
            }
            assert (await store.take_key(KeyUse(correlation_id="gone", key="gone", digest="d"))).state is KeyState.TAKEN
            assert await store.forget(families, later) == 0

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
            changed = replace(completed("w"), variables={"v": 2}, ahead=[{"name": "b", "id": "3"}])
            await store.record([changed], [message_of("w-2")], cause="w-1")
            course, nobody = await store.course("w"), await store.course("nobody")
        assert nobody is None
        assert course is not None
        (done,) = course.done
        assert (course.slip, done.id, done.output) == ({"itinerary": []}, "1", {"x": [1, None]})
        assert (done.variables, done.ahead) == ({"v": 2}, [{"name": "b", "id": "3"}])
