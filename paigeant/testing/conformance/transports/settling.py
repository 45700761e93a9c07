"""What every transport promises of settling, releasing and replacing deliveries."""

from __future__ import annotations

import asyncio

from paigeant.testing.conformance.scratch import Scratch
from paigeant.testing.conformance.transports._parts import Inbox, has_depth, is_superseded, opened, outgoing, settle_all
from paigeant.testing.conformance.waiting import in_loop


class Settling:
    """A part of :class:`paigeant.testing.conformance.TransportConformance`."""

    @in_loop
    async def test_settling_publishes_what_follows_and_acknowledges(self, scratch: Scratch) -> None:
        """One message is gone, all its successors are there."""
        queue, left, right = scratch.queue("q"), scratch.queue("left"), scratch.queue("right")
        async with opened(scratch) as transport, Inbox(transport, [queue]) as inbox:
            await transport.send(outgoing(queue, "m"))
            [delivery] = await inbox.has(1)
            await transport.settle(delivery, outgoing(left, "1", "2") + outgoing(right, "3"))
            await has_depth(transport, left, 2)
            await has_depth(transport, right, 1)
            await has_depth(transport, queue, 0)
            assert len(inbox.got) == 1

    @in_loop
    async def test_a_delivery_is_settled_once(self, scratch: Scratch) -> None:
        """The second time is refused, and publishes nothing."""
        queue, following = scratch.queue("q"), scratch.queue("next")
        async with opened(scratch) as transport, Inbox(transport, [queue]) as inbox:
            await transport.declare(following)
            await transport.send(outgoing(queue, "m"))
            [delivery] = await inbox.has(1)
            await transport.settle(delivery, outgoing(following, "good"))
            assert await is_superseded(transport, delivery, outgoing(following, "bad"))
            await settle_all(transport, following, ["good"])

    @in_loop
    async def test_two_hundred_settle_at_once(self, scratch: Scratch) -> None:
        """In any order; every successor is there once."""
        queue, following, names = scratch.queue("q"), scratch.queue("next"), [str(n) for n in range(200)]
        async with opened(scratch) as transport:
            async with Inbox(transport, [queue], prefetch=200) as inbox:
                await transport.send(outgoing(queue, *names))
                deliveries = list(await inbox.has(200))
                shuffled = deliveries[1::2] + deliveries[::2]
                await asyncio.gather(
                    *(transport.settle(one, outgoing(following, one.body.decode())) for one in shuffled)
                )
                await has_depth(transport, queue, 0)
            await settle_all(transport, following, names, in_order=False)

    @in_loop
    async def test_a_released_delivery_comes_again_unharmed(self, scratch: Scratch) -> None:
        """With its id and headers; where deliveries are counted, as if it had never been out."""
        queue = scratch.queue("q")
        async with opened(scratch) as transport, Inbox(transport, [queue]) as inbox:
            await transport.send(outgoing(queue, "m", headers={"a": "b"}))
            await transport.release((await inbox.has(1))[0])
            first, again = await inbox.has(2)
            await transport.settle(again)
            await has_depth(transport, queue, 0)
        assert (again.queue, again.body, again.id, again.headers["a"]) == (queue, b"m", first.id, "b")
        if scratch.features.delivery_count:
            assert again.deliveries == 1

    @in_loop
    async def test_a_copy_takes_the_place_of_its_delivery(self, scratch: Scratch) -> None:
        """With what was written into its headers; it counts from the start, and what waited behind it goes first."""
        queue = scratch.queue("q")
        async with opened(scratch) as transport, Inbox(transport, [queue], prefetch=1) as inbox:
            await transport.send(outgoing(queue, "m", headers={"a": "b"}, priority=4))
            [first] = await inbox.has(1)
            for number in range(3):
                await transport.settle(inbox.got[-1], [inbox.got[-1].copy({"n": str(number)})])
                await inbox.has(number + 2)
            again = inbox.got[-1]
            await transport.settle(again)
            await has_depth(transport, queue, 0)
        assert (again.body, again.id, again.deliveries) == (b"m", first.id, 1)
        assert (again.headers["a"], again.headers["n"]) == ("b", "2")
        if scratch.features.priority:
            assert (first.priority, again.priority) == (4, 4)
