"""What every store must do in the role ``Schedules``: schedules."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from paigeant.records.workflow import ScheduleRecord
from paigeant.store import Store
from paigeant.testing.conformance.stores._samples import (
    connected,
)
from paigeant.testing.conformance.waiting import in_loop


class Schedules:
    """The tests of the role :class:`paigeant.store.Schedules`."""

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
