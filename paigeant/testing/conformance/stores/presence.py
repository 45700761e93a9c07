"""What every store must do in the role ``Presence``: workers and the messages they hold."""

from __future__ import annotations

import asyncio

from paigeant.store import Store
from paigeant.testing.conformance.stores._samples import (
    OFFER,
    connected,
    dispatched,
    first_of,
    worker_of,
)
from paigeant.testing.conformance.waiting import in_loop


class Presence:
    """The tests of the role :class:`paigeant.store.Presence`."""

    @in_loop
    async def test_what_a_living_worker_holds_is_not_overdue(self, store: Store) -> None:
        """It says so; a worker that has gone holds nothing, whatever it had said."""
        async with connected(store):
            await store.record([dispatched("w"), dispatched("r")], [first_of("w"), first_of("r")])
            for name in ("alive", "other"):
                await store.announce(worker_of(name))
            await store.holds("alive", ["w-1", "r-1"])
            await store.holds("never announced", ["w-1"])
            assert await store.overdue(-1.0) == {}
            await store.holds("alive", ["r-1"])
            assert await store.overdue(-1.0) == {"q": 1}
            assert await store.claim("other", "w-1")
            assert await store.overdue(-1.0) == {}
            await store.withdraw("alive")
            assert [one.id for one in await store.take_overdue("q", -1.0, 10)] == ["r-1"]

    @in_loop
    async def test_a_message_is_claimed_by_one_of_the_living(self, store: Store) -> None:
        """Until it is held no more, its holder is gone, or the broker has taken it from that one."""
        async with connected(store):
            for name in ("a", "b"):
                await store.announce(worker_of(name))
            claims = await asyncio.gather(*(store.claim(name, "m") for name in ("a", "b", "a")))
            assert claims in ([True, False, True], [False, True, False])
            holder, other = ("a", "b") if claims[0] else ("b", "a")
            assert not await store.claim(other, "m")
            assert await store.claim(other, "m", take_over=True)
            assert not await store.claim(holder, "m")
            await store.holds(other, [])
            assert await store.claim(holder, "m")
            await store.withdraw(holder)
            assert await store.claim(other, "m")

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
        assert {(one.code, one.policy) for one in found} == {("0123456789ab", "digest-of-a-policy")}
        assert [one.offers for one in found] == [(OFFER,), (OFFER,)]
        assert [one.id for one in left] == ["b"]
