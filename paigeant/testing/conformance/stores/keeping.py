"""What every store promises of what it keeps beside the history: keys, large values, schedules, workers."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from paigeant.claim_check import Parcel
from paigeant.records import KeyState, KeyUse, ScheduleRecord
from paigeant.store import Store
from paigeant.testing.conformance.stores._samples import OFFER, connected, worker_of
from paigeant.testing.conformance.waiting import in_loop


class Keeping:
    """A part of :class:`paigeant.testing.conformance.StoreConformance`."""

    @in_loop
    async def test_a_key_stands_for_what_it_was_first_used_for(self, store: Store) -> None:
        """However many use it, and however they use it; and that it was sent is remembered."""
        async with connected(store):
            tries = [store.take_key(KeyUse(correlation_id="w", key="k", digest=str(n))) for n in range(10)]
            found = await asyncio.gather(*tries)
            await store.mark_sent("w")
            later = await store.take_key(KeyUse(correlation_id="w", key="k", digest="later"))
            other = await store.take_key(KeyUse(correlation_id="w-2", key="k-2", digest="other"))
        assert len({use.digest for use in found}) == 1
        assert sorted(use.state for use in found) == [KeyState.SENDING] * 9 + [KeyState.TAKEN]
        assert (later.digest, later.state) == (found[0].digest, KeyState.SENT)
        assert (other.digest, other.state) == ("other", KeyState.TAKEN)

    @in_loop
    async def test_a_value_that_is_kept_is_there_until_its_workflow_is_dropped(self, store: Store) -> None:
        """As it was; for another workflow it is another one."""
        async with connected(store):
            mine, other = (Parcel.of(workflow, b'"\\u0000\xc3\xa4"' * 20_000) for workflow in ("a/../b", "other"))
            for _ in range(2):
                await store.keep([mine, other])
            missing = Parcel.of("nobody", mine.data).kept
            assert await store.fetch([mine.kept, missing]) == {mine.kept: mine.data}
            assert await store.drop(["a/../b", "nobody"]) == 1
            assert await store.fetch([mine.kept, other.kept]) == {other.kept: other.data}

    @in_loop
    async def test_workers_come_and_go(self, store: Store) -> None:
        """Announcing again is the same worker."""
        async with connected(store):
            await store.announce(worker_of("a", started_at=1.0))
            for _ in range(2):
                await store.announce(worker_of("b", started_at=2.0))
            found = await store.workers()
            await store.withdraw("a")
            left = await store.workers()
        assert [(one.id, one.alive, one.queues) for one in found] == [("b", True, ("q",)), ("a", True, ("q",))]
        assert {one.code for one in found} == {"0123456789ab"}
        assert [one.offers for one in found] == [(OFFER,), (OFFER,)]
        assert [one.id for one in left] == ["b"]

    @in_loop
    async def test_a_schedule_that_is_due_is_given_to_one(self, store: Store) -> None:
        """It stays with that one until it is moved on; whoever moves it late changes nothing."""
        definition = {"every": 3600.0}
        declared = ScheduleRecord(app="shop", name="hourly", definition=definition, next_at=1.0)
        async with connected(store):
            for _ in range(2):
                await store.register_schedules("shop", [declared])
            looks = [store.take_schedules("shop", {"hourly": definition}) for _ in range(5)]
            [taken] = [one for found, _ in await asyncio.gather(*looks) for one in found]
            assert await store.move_schedule(taken, 2.0, 1.0, "w")
            assert not await store.move_schedule(taken, 3.0, 1.0, "other")
            assert await store.pause_schedule("shop", "hourly")
            paused, _ = await store.take_schedules("shop", {"hourly": definition})
            assert not paused
            assert await store.schedules() == [replace(declared, next_at=2.0, last_at=1.0, last_id="w", paused=True)]
            assert await store.resume_schedule("shop", "hourly", 5.0)
            await store.register_schedules("shop", [])
            [left] = await store.schedules("shop")
            assert await store.delete_schedule("shop", "hourly")
            assert not await store.delete_schedule("shop", "hourly")
            assert not await store.schedules("shop")
        assert (left.next_at, left.paused, left.orphaned) == (5.0, False, True)
