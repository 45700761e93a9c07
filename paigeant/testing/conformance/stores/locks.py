"""What every store must do in the role ``Locks``: locks, places and rates."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from paigeant.decisions.limit import Limit
from paigeant.store import Store
from paigeant.testing.conformance.stores._samples import (
    connected,
    dispatched,
    granted_ids,
    lock_of,
    takes,
    waiting,
)
from paigeant.testing.conformance.waiting import in_loop, until


class Locks:
    """The tests of the role :class:`paigeant.store.Locks`."""

    @in_loop
    async def test_one_of_many_has_a_lock(self, store: Store) -> None:
        """Until it is given back; keeping it is for its holder only, and another lock is another matter."""
        async with connected(store):
            wanted = [lock_of(f"m{n}", worker=f"v{n}") for n in range(10)]
            taken = await asyncio.gather(*[takes(store, one) for one in wanted])
            holder, *others = sorted(wanted, key=lambda one: not taken[wanted.index(one)])
            assert await store.take_locks([holder], 60) is None
            assert await store.take_locks([lock_of(holder.holder, worker="another")], 60) == "lock:k"
            assert await store.take_locks([lock_of("m1", key="lock:other")], 60) is None
            assert list(await store.renew_locks(wanted, 60)) == [holder]
            await store.free_locks([others[0]])
            assert await store.take_locks([others[0]], 60) == "lock:k"
            await store.free_locks([holder])
            assert await store.take_locks([others[0]], 60) is None
            assert list(await store.renew_locks([holder], 60)) == []
        assert taken.count(True) == 1

    @in_loop
    async def test_a_lock_that_is_not_kept_is_taken_over(self, store: Store) -> None:
        """Its holder has died, or was away; what it does then counts for nothing."""
        async with connected(store):
            assert await store.take_locks([lock_of("m1")], 0.05) is None
            assert await until(lambda: takes(store, lock_of("m2", worker="b"))) is True
            assert list(await store.renew_locks([lock_of("m1")], 60)) == []
            await store.free_locks([lock_of("m1")])
            assert await store.take_locks([lock_of("m3")], 60) == "lock:k"

    @in_loop
    async def test_a_free_lock_is_granted_in_turn(self, store: Store) -> None:
        """Once, to the message that has waited longest, which any worker may run and nobody else overtakes."""
        async with connected(store):
            await store.record([dispatched("w"), dispatched("v")])
            await store.record([waiting("m2", "w", at=2.0), waiting("m1", "v", at=1.0)])
            assert await store.take_locks([lock_of("newcomer")], 60) == "lock:k"
            granted = await granted_ids(store, "lock:k")
            again = await granted_ids(store)
            assert await store.take_locks([lock_of("newcomer")], 60) == "lock:k"
            assert await store.take_locks([lock_of("m1", worker="any")], 60) is None
            await store.free_locks([lock_of("m1", worker="any")])
            assert await store.take_locks([lock_of("newcomer")], 60) == "lock:k"
            others = await granted_ids(store)
        assert (granted, again, others) == (["m1"], [], ["m2"])

    @in_loop
    async def test_as_many_have_a_place_as_there_are(self, store: Store) -> None:
        """However many want one at the same time."""
        async with connected(store):
            wanted = [lock_of(f"m{n}", f"v{n}", "concurrency:k", Limit(3)) for n in range(10)]
            lacking = await asyncio.gather(*[store.take_locks([one], 60) for one in wanted])
            holders = [one for one, missing in zip(wanted, lacking, strict=True) if missing is None]
            assert {one.holder for one in await store.renew_locks(wanted, 60)} == {one.holder for one in holders}
            await store.free_locks(holders[:1])
            again = await asyncio.gather(*[store.take_locks([one], 60) for one in wanted if one not in holders])
        assert (len(holders), again.count(None)) == (3, 1)

    @in_loop
    async def test_all_locks_are_taken_or_none(self, store: Store) -> None:
        """Who lacks one keeps nobody from the others."""
        async with connected(store):
            assert await store.take_locks([lock_of("m1", key="lock:b")], 60) is None
            both = [lock_of("m2", key="lock:a"), lock_of("m2", key="lock:b")]
            assert await store.take_locks(both, 60) == "lock:b"
            assert await store.take_locks([lock_of("m3", key="lock:a")], 60) is None

    @in_loop
    async def test_who_waits_for_several_is_granted_all(self, store: Store) -> None:
        """It waits for the one it lacks, as old as it is, and is in nobody's way."""
        async with connected(store):
            await store.record([dispatched("w"), dispatched("v")])
            assert await store.take_locks([lock_of("m0", key="lock:b")], 60) is None
            both = [lock_of("m1", key="lock:a"), lock_of("m1", key="lock:b")]
            await store.record([waiting("m1", "w", at=1.0, key="lock:a", wanted=both)])
            await store.record([waiting("m2", "v", at=2.0, key="lock:a", wanted=[lock_of("m2", key="lock:a")])])
            assert await granted_ids(store, "lock:a") == ["m2"]
            assert [one.key for one in await store.held("w")] == ["lock:b"]
            await store.free_locks([lock_of("m0", key="lock:b")])
            assert await granted_ids(store) == []
            await store.free_locks([lock_of("m2", key="lock:a")])
            assert await granted_ids(store) == ["m1"]
            assert await store.take_locks(both, 60) is None

    @in_loop
    async def test_a_rate_is_for_all(self, store: Store) -> None:
        """Of many that ask one starts; the others have to wait, and are told how long."""
        async with connected(store):
            await store.record([dispatched("w")])
            wanted = [lock_of(f"m{n}", f"v{n}", "rate:k", Limit(60, 3600.0)) for n in range(5)]
            lacking = await asyncio.gather(*[store.take_locks([one], 60) for one in wanted])
            await store.record([waiting("m9", "w", at=1.0, key="rate:k", wanted=wanted[:1])])
            granted, pause = await store.grant_locks(60)
        assert (lacking.count(None), list(granted)) == (1, [])
        assert pause is not None
        assert 0 < pause <= 60

    @in_loop
    async def test_time_gives_turns(self, store: Store) -> None:
        """In the order in which messages have waited; nobody needs to give anything back."""
        async with connected(store):
            await store.record([dispatched("w"), dispatched("v")])
            limit = Limit(5, 1.0)
            for name, workflow, at in (("m2", "w", 2.0), ("m1", "v", 1.0)):
                lock = lock_of(name, key="rate:k", limit=limit)
                await store.record([waiting(name, workflow, at=at, key="rate:k", wanted=[lock])])
            turns: list[str] = []

            async def both_came() -> bool:
                turns.extend(await granted_ids(store))
                return len(turns) == 2

            assert await until(both_came) is True
        assert turns == ["m1", "m2"]

    @in_loop
    async def test_a_message_that_comes_late_has_its_turn(self, store: Store) -> None:
        """Its lock was granted to the next meanwhile, who has not come either; whoever runs is not disturbed."""
        async with connected(store):
            await store.record([dispatched("w"), dispatched("v")])
            await store.record([waiting("m1", "v", at=1.0)])
            assert [one.wait_id for one in (await store.grant_locks(0.05))[0]] == ["m1"]
            await store.record([waiting("m2", "w", at=2.0)])
            assert await until(lambda: granted_ids(store)) == ["m2"]
            late = replace(lock_of("m1"), granted_until=0.0)
            assert not await takes(store, lock_of("newcomer"))
            assert await takes(store, late)
            assert not await takes(store, replace(lock_of("m2"), granted_until=0.0))
            assert list(await store.renew_locks([late], 60)) == [late]
