"""What every transport promises its consumers: shares, prefetch limits, and orderly ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

from paigeant.testing.conformance.scratch import Scratch
from paigeant.testing.conformance.transports._parts import (
    Inbox,
    SettlingInbox,
    elsewhere,
    has_depth,
    opened,
    outgoing,
    send_each,
    settle_each,
    skip_unless,
    sum_is,
)
from paigeant.testing.conformance.waiting import in_loop, until
from paigeant.transport import Durability


class Consuming:
    """A part of :class:`paigeant.testing.conformance.TransportConformance`."""

    @in_loop
    async def test_competing_consumers_share_without_duplicates(self, scratch: Scratch) -> None:
        """Each message goes to one of them."""
        queue, names = scratch.queue("q"), [str(n) for n in range(60)]
        async with opened(scratch) as one, AsyncExitStack() as stack:
            other = one
            if scratch.features.durability is not Durability.VOLATILE:
                other = await stack.enter_async_context(opened(scratch))
            first = await stack.enter_async_context(SettlingInbox(one, [queue], 5))
            second = await stack.enter_async_context(SettlingInbox(other, [queue], 5))
            await one.send(outgoing(queue, *names))
            await until(sum_is(first, second, len(names)))
            await has_depth(one, queue, 0)
        assert Counter(first.names + second.names) == Counter(names)

    @in_loop
    async def test_no_more_is_out_than_prefetch_allows(self, scratch: Scratch) -> None:
        """Settling and releasing make room, one for one."""
        queue = scratch.queue("q")
        async with opened(scratch) as transport, Inbox(transport, [queue], prefetch=2) as inbox:
            await transport.send(outgoing(queue, *"abcde"))
            await inbox.has(2)
            await has_depth(transport, queue, 3)
            await transport.settle(inbox.got[0])
            await inbox.has(3)
            await has_depth(transport, queue, 2)
            assert inbox.names == ["a", "b", "c"]

    @in_loop
    async def test_more_is_out_when_more_is_allowed(self, scratch: Scratch) -> None:
        """A consumer that allows more than before gets more, with what next goes on at the latest."""
        queue, allowed = scratch.queue("q"), 1
        async with opened(scratch) as transport, Inbox(transport, [queue], prefetch=lambda: allowed) as inbox:
            await transport.send(outgoing(queue, *"abcde"))
            await inbox.has(1)
            allowed = 3
            await transport.settle(inbox.got[0])
            await inbox.has(4)
            await has_depth(transport, queue, 1)

    @in_loop
    async def test_closing_a_consumer_gives_back_what_it_did_not_take(self, scratch: Scratch) -> None:
        """What it has yielded can still be settled, with what follows; nothing more comes."""
        queue = scratch.queue("q")
        async with opened(scratch) as transport:
            batches = transport.consume([queue], 10)
            await transport.send(outgoing(queue, "first"))
            [first] = await anext(batches)
            await transport.send(outgoing(queue, "a", "b"))
            await batches.aclose()
            await has_depth(transport, queue, 2)
            await transport.settle(first, outgoing(scratch.queue("next"), "n"))
            async with Inbox(transport, [queue, scratch.queue("next")]) as inbox:
                for delivery in list(await inbox.has(3)):
                    await transport.settle(delivery)
            assert sorted(inbox.names) == ["a", "b", "n"]
            assert {delivery.deliveries for delivery in inbox.got} == {1}

    @in_loop
    async def test_closing_a_transport_gives_deliveries_back_at_once(self, scratch: Scratch) -> None:
        """It does not count as a crash, as a lease that runs out would."""
        skip_unless(scratch.features.durability is not Durability.VOLATILE, "durable")
        queue = scratch.queue("q")
        async with opened(scratch) as staying:
            leaving = await scratch.open()
            await leaving.send(outgoing(queue, "m"))
            batches = leaving.consume([queue], 10)
            await anext(batches)
            await leaving.close()
            async with Inbox(staying, [queue]) as inbox:
                [again] = await inbox.has(1)
                await staying.settle(again)
        assert (again.body, again.deliveries) == (b"m", 1)

    @in_loop
    async def test_two_loops_in_two_threads_use_one_transport(self, scratch: Scratch) -> None:
        """A transport belongs to no loop."""
        queue, names = scratch.queue("q"), [f"{thread}-{n}" for thread in "ab" for n in range(20)]
        async with opened(scratch) as transport, Inbox(transport, [queue]) as inbox:
            await transport.declare(queue)
            await asyncio.gather(
                elsewhere(send_each(transport, outgoing(queue, *names[:20]))),
                elsewhere(send_each(transport, outgoing(queue, *names[20:]))),
            )
            deliveries = list(await inbox.has(40))
            await asyncio.gather(
                elsewhere(settle_each(transport, deliveries[:20])),
                elsewhere(settle_each(transport, deliveries[20:])),
            )
            await has_depth(transport, queue, 0)
        assert sorted(inbox.names) == sorted(names)
