"""Helpers of the transports' suite: consumers that collect deliveries, and waits for what a broker shows."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any
from unittest import SkipTest

from paigeant.errors import Superseded
from paigeant.testing.conformance.scratch import Scratch
from paigeant.testing.conformance.waiting import until
from paigeant.transport import BaseTransport, Delivery, Durability, Outgoing, Prefetch

DELAY = 0.4
SOON = 10.0
BUSY = 6.0
"""Seconds that a busy machine may add to what is measured."""


class Inbox:
    """What a consumer has been given so far, collected in the background."""

    def __init__(self, transport: BaseTransport, queues: Sequence[str], prefetch: Prefetch = 100) -> None:
        self.got: list[Delivery] = []
        self._batches = transport.consume(queues, prefetch)

    async def __aenter__(self) -> Inbox:
        self._task = asyncio.create_task(self._collect())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _collect(self) -> None:
        async with aclosing(self._batches) as batches:
            async for batch in batches:
                self.got += batch

    @property
    def names(self) -> list[str]:
        return [delivery.body.decode() for delivery in self.got]

    async def has(self, count: int, deadline: float = 20.0) -> list[Delivery]:
        async def enough() -> bool:
            return len(self.got) >= count

        await until(enough, deadline)
        return self.got


def outgoing(queue: str, *names: str, **options: Any) -> list[Outgoing]:
    """Messages that say and are called these names."""
    return [Outgoing(queue=queue, body=name.encode(), id=f"{queue}/{name}", **options) for name in names]


async def has_depth(transport: BaseTransport, queue: str, depth: int) -> None:
    """Wait for it: some brokers count a moment later."""

    async def reached() -> bool:
        return await transport.depth(queue) == depth

    await until(reached, SOON)


async def is_usable(transport: BaseTransport, queue: str) -> None:
    """What was asked before has harmed nothing."""
    await transport.send(outgoing(queue, "m"))
    await settle_all(transport, queue, ["m"])


def skip_unless(declared: bool, feature: str) -> None:
    if not declared:
        raise SkipTest(f"the transport does not declare: {feature}")


def survives_crashes(scratch: Scratch) -> bool:
    return scratch.features.durability in (Durability.TRANSACTIONAL, Durability.AT_LEAST_ONCE)


@asynccontextmanager
async def opened(scratch: Scratch) -> AsyncGenerator[BaseTransport]:
    transport = await scratch.open()
    try:
        yield transport
    finally:
        await scratch.close(transport)


class SettlingInbox(Inbox):
    """A consumer that settles what it gets."""

    def __init__(self, transport: BaseTransport, queues: Sequence[str], prefetch: int) -> None:
        super().__init__(transport, queues, prefetch)
        self._transport = transport

    async def _collect(self) -> None:
        async with aclosing(self._batches) as batches:
            async for batch in batches:
                await settle_each(self._transport, batch)
                self.got += batch


def sum_is(first: Inbox, second: Inbox, count: int) -> Any:
    async def reached() -> bool:
        return len(first.got) + len(second.got) >= count

    return reached


async def settle_all(
    transport: BaseTransport, queue: str, names: Sequence[str], *, prefetch: int = 100, in_order: bool = True
) -> None:
    """Take everything there is, which must be this, and nothing is left."""
    async with SettlingInbox(transport, [queue], prefetch) as inbox:
        await inbox.has(len(names))
        await has_depth(transport, queue, 0)
    assert (inbox.names if in_order else sorted(inbox.names)) == (list(names) if in_order else sorted(names))


async def is_superseded(transport: BaseTransport, delivery: Delivery, following: Sequence[Outgoing]) -> bool:
    try:
        await transport.settle(delivery, following)
    except Superseded:
        return True
    return False


async def take_and_crash(scratch: Scratch, queue: str, deliveries: int) -> float:
    """A process that gets the message and dies; when that was."""
    victim = await scratch.open()
    async with Inbox(victim, [queue]) as inbox:
        [delivery] = await inbox.has(1, 2 * scratch.lease_seconds + BUSY)
        if scratch.features.delivery_count:
            assert delivery.deliveries == deliveries
        await scratch.crash(victim)
        died_at = time.monotonic()
    await scratch.close(victim)
    return died_at


async def time_passes(transport: BaseTransport, queue: str, seconds: float) -> None:
    """Ask the broker over and over, as a worker does, until the time is over."""
    end = time.monotonic() + seconds

    async def over() -> bool:
        await transport.depth(queue)
        return time.monotonic() >= end

    await until(over, seconds + SOON)


async def send_each(transport: BaseTransport, messages: Sequence[Outgoing]) -> None:
    await asyncio.gather(*(transport.send([one]) for one in messages))


async def settle_each(transport: BaseTransport, deliveries: Sequence[Delivery]) -> None:
    await asyncio.gather(*(transport.settle(one) for one in deliveries))


async def elsewhere(work: Any) -> None:
    """Run the coroutine in a loop of another thread."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(work)
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    await asyncio.to_thread(thread.join)
    if failed:
        raise failed[0]
