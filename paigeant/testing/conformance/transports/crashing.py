"""What every transport promises when the process that has a delivery crashes, freezes or is busy."""

from __future__ import annotations

import time
from contextlib import aclosing

from paigeant.testing.conformance.scratch import Scratch
from paigeant.testing.conformance.transports._parts import (
    BUSY,
    Inbox,
    has_depth,
    is_superseded,
    opened,
    outgoing,
    settle_all,
    skip_unless,
    survives_crashes,
    take_and_crash,
    time_passes,
)
from paigeant.testing.conformance.waiting import in_loop


class Crashing:
    """A part of :class:`paigeant.testing.conformance.TransportConformance`."""

    @in_loop
    async def test_what_a_crashed_holder_had_comes_again(self, scratch: Scratch) -> None:
        """Within one and a half leases, and counted, every time."""
        skip_unless(survives_crashes(scratch), "at least once")
        queue = scratch.queue("q")
        async with opened(scratch) as survivor:
            await survivor.send(outgoing(queue, "m"))
            for times in (1, 2):
                crashed_at = await take_and_crash(scratch, queue, times)
            async with Inbox(survivor, [queue]) as inbox:
                [again] = await inbox.has(1, 1.5 * scratch.lease_seconds + BUSY)
                assert time.monotonic() - crashed_at <= 1.5 * scratch.lease_seconds + BUSY
                await survivor.settle(again)
                await has_depth(survivor, queue, 0)
        assert again.body == b"m"
        assert again.deliveries == 3 if scratch.features.delivery_count else again.deliveries > 1

    @in_loop
    async def test_a_stale_holder_is_refused(self, scratch: Scratch) -> None:
        """It was stopped for longer than its lease: what it settles then is refused and publishes nothing."""
        skip_unless(scratch.features.fenced, "fenced")
        queue, following = scratch.queue("q"), scratch.queue("next")
        async with opened(scratch) as stale, opened(scratch) as heir:
            await stale.send(outgoing(queue, "m"))
            async with aclosing(stale.consume([queue], 1)) as batches:
                [old] = await anext(batches)
            async with Inbox(heir, [queue]) as inbox:
                async with scratch.frozen(stale):
                    [new] = await inbox.has(1, 3 * scratch.lease_seconds + BUSY)
                assert await is_superseded(stale, old, outgoing(following, "stale"))
                await heir.settle(new, outgoing(following, "good"))
            await settle_all(heir, following, ["good"])
        assert old.lease.lost
        assert not new.lease.lost

    @in_loop
    async def test_a_live_holder_keeps_its_lease(self, scratch: Scratch) -> None:
        """However long the step takes, although nobody consumes any more."""
        skip_unless(survives_crashes(scratch), "at least once")
        queue = scratch.queue("q")
        async with opened(scratch) as busy, opened(scratch) as other:
            await busy.send(outgoing(queue, "m"))
            async with aclosing(busy.consume([queue], 1)) as batches:
                [delivery] = await anext(batches)
            async with Inbox(other, [queue]) as inbox:
                await time_passes(other, scratch.queue("clock"), 2 * scratch.lease_seconds)
                assert inbox.got == []
            await busy.extend(delivery)
            await busy.settle(delivery)
            await has_depth(other, queue, 0)
