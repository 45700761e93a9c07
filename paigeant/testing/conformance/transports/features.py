"""What transports promise that declare the features priority or dedupes."""

from __future__ import annotations

from paigeant.testing.conformance.scratch import Scratch
from paigeant.testing.conformance.transports._parts import DELAY, opened, outgoing, settle_all, skip_unless
from paigeant.testing.conformance.waiting import in_loop


class DeclaredFeatures:
    """A part of :class:`paigeant.testing.conformance.TransportConformance`."""

    @in_loop
    async def test_nine_goes_first(self, scratch: Scratch) -> None:
        """And within a priority, what came first."""
        skip_unless(scratch.features.priority, "priority")
        queue = scratch.queue("q")
        async with opened(scratch) as transport:
            for name, priority in [("c", 0), ("b", 5), ("a", 9), ("d", 0)]:
                await transport.send(outgoing(queue, name, priority=priority))
            await settle_all(transport, queue, ["a", "b", "c", "d"], prefetch=1)

    @in_loop
    async def test_the_same_id_twice_is_one_message_while_it_waits(self, scratch: Scratch) -> None:
        """Also while it is delayed; once it is settled the id may be sent anew."""
        skip_unless(scratch.features.dedupes, "dedupes")
        queue = scratch.queue("q")
        async with opened(scratch) as transport:
            for delay in (0.0, DELAY):
                await transport.send(outgoing(queue, "m", delay=delay))
                await transport.send(outgoing(queue, "m", delay=delay))
                assert await transport.depth(queue) == 1
                await settle_all(transport, queue, ["m"])
            await transport.send(outgoing(queue, "m"))
            assert await transport.purge(queue) == 1
            await transport.send(outgoing(queue, "m"))
            await settle_all(transport, queue, ["m"])
