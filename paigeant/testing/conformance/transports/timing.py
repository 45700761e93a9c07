"""What every transport promises of delays, and of notes that expire."""

from __future__ import annotations

import asyncio
import time

from paigeant.testing.conformance.scratch import Scratch
from paigeant.testing.conformance.transports._parts import (
    DELAY,
    SOON,
    Inbox,
    is_usable,
    opened,
    outgoing,
    settle_all,
    settle_each,
    skip_unless,
)
from paigeant.testing.conformance.waiting import in_loop, until


class Timing:
    """A part of :class:`paigeant.testing.conformance.TransportConformance`."""

    @in_loop
    async def test_a_note_is_read_by_others_until_it_expires(self, scratch: Scratch) -> None:
        """Another process reads it, also after the one that wrote it has crashed; or the broker says it has none."""
        key = scratch.queue("note")
        async with opened(scratch) as reader:
            writer = await scratch.open()
            if await reader.noted(key) is None:
                await writer.note(key, 60.0)
                assert await reader.noted(key) is None
                return
            await writer.note(key, 60.0)
            await writer.note(key, 60.0)
            await writer.note(f"{key}.short", 0.2)
            await scratch.crash(writer)
            assert await reader.noted(key)
            assert not await reader.noted(f"{key}.other")

            async def expired() -> bool:
                await asyncio.sleep(1.0)  # some brokers keep a note for longer when it is asked for
                return not await reader.noted(f"{key}.short")

            await until(expired, SOON)
            await is_usable(reader, scratch.queue("q"))

    @in_loop
    async def test_a_delayed_message_is_not_early_and_arrives(self, scratch: Scratch) -> None:
        """It holds up nothing else."""
        queue = scratch.queue("q")
        async with opened(scratch) as transport, Inbox(transport, [queue]) as inbox:
            sent_at = time.monotonic()
            late = asyncio.ensure_future(transport.send(outgoing(queue, "late", delay=DELAY)))
            await transport.send(outgoing(queue, "now"))
            await inbox.has(1)
            await inbox.has(2, DELAY + SOON)
            assert time.monotonic() - sent_at >= DELAY - 0.01
            await late
            await settle_each(transport, list(inbox.got))
        assert inbox.names == ["now", "late"]

    @in_loop
    async def test_a_delayed_message_outlives_its_sender(self, scratch: Scratch) -> None:
        """The broker keeps it, not the process."""
        skip_unless(scratch.features.delay, "delay")
        queue = scratch.queue("q")
        async with opened(scratch) as sender:
            await sender.send(outgoing(queue, "m", delay=DELAY))
        async with opened(scratch) as transport:
            await settle_all(transport, queue, ["m"])

    @in_loop
    async def test_a_delivery_is_released_until_later(self, scratch: Scratch) -> None:
        """It is not early, and it is not counted."""
        queue = scratch.queue("q")
        async with opened(scratch) as transport, Inbox(transport, [queue]) as inbox:
            await transport.send(outgoing(queue, "m"))
            [first] = await inbox.has(1)
            released_at = time.monotonic()
            await transport.release(first, delay=DELAY)
            again = (await inbox.has(2, DELAY + SOON))[1]
            assert time.monotonic() - released_at >= DELAY - 0.01
            await transport.settle(again)
        assert (again.body, again.id) == (first.body, first.id)
        if scratch.features.delivery_count:
            assert again.deliveries == 1
