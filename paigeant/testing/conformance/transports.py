"""What every transport promises. Tests are skipped by the transport's declared ``features`` and by nothing else."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any
from unittest import SkipTest

from paigeant.errors import Superseded
from paigeant.testing.conformance.scratch import Scratch
from paigeant.testing.conformance.waiting import in_loop, until
from paigeant.transport import BaseTransport, Delivery, Durability, Outgoing, Prefetch

_DELAY = 0.4
_SOON = 10.0
_BUSY = 6.0
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

    await until(reached, _SOON)


class TransportConformance:
    """Subclass it with a pytest fixture ``scratch`` that gives a :class:`Scratch`, new for each test."""

    # --- the way of a message ---------------------------------------------------------------------------------

    @in_loop
    async def test_a_message_arrives_as_it_was_sent(self, scratch: Scratch) -> None:
        """Body, id and headers, whatever bytes the body has."""
        queue = scratch.queue("q")
        sent = Outgoing(queue=queue, body=b"\x00\xff{}\r\n\xc3\x28", id="m-1", headers={"a": "b", "ü": "\u2713"})
        async with _open(scratch) as transport, Inbox(transport, [queue]) as inbox:
            await transport.send([sent])
            [delivery] = await inbox.has(1)
            await transport.settle(delivery)
            await has_depth(transport, queue, 0)
        assert (delivery.queue, delivery.body, delivery.id) == (queue, sent.body, "m-1")
        assert {name: delivery.headers[name] for name in sent.headers} == dict(sent.headers)
        assert delivery.deliveries == 1

    @in_loop
    async def test_what_was_sent_outlives_the_connection(self, scratch: Scratch) -> None:
        """Nobody has to listen when it is sent."""
        _skip_unless(scratch.features.durability is not Durability.VOLATILE, "durable")
        queue = scratch.queue("q")
        async with _open(scratch) as sender:
            await sender.send(outgoing(queue, "a", "b"))
        async with _open(scratch) as transport:
            assert await transport.depth(queue) == 2
            await _settle_all(transport, queue, ["a", "b"])

    @in_loop
    async def test_a_queue_keeps_its_order(self, scratch: Scratch) -> None:
        """First in, first out, across batches."""
        queue, names = scratch.queue("q"), [f"{n:03}" for n in range(100)]
        async with _open(scratch) as transport:
            await transport.send(outgoing(queue, *names[:50]))
            await transport.send(outgoing(queue, *names[50:]))
            await _settle_all(transport, queue, names, prefetch=7)

    @in_loop
    async def test_one_consumer_serves_several_queues(self, scratch: Scratch) -> None:
        """Each delivery says which it came from."""
        queues = [scratch.queue(name) for name in "abc"]
        async with _open(scratch) as transport, Inbox(transport, queues) as inbox:
            await transport.send([one for queue in queues for one in outgoing(queue, queue)])
            for delivery in list(await inbox.has(3)):
                await transport.settle(delivery)
        assert {delivery.queue: delivery.body.decode() for delivery in inbox.got} == {q: q for q in queues}

    @in_loop
    async def test_a_queue_nobody_declared_can_be_sent_to(self, scratch: Scratch) -> None:
        """The next step's worker may come up later."""
        async with _open(scratch) as transport:
            await transport.send(outgoing(scratch.queue("new"), "m"))
            await _settle_all(transport, scratch.queue("new"), ["m"])

    @in_loop
    async def test_large_messages(self, scratch: Scratch) -> None:
        """One megabyte and back."""
        queue, body = scratch.queue("q"), bytes(range(256)) * 4096
        async with _open(scratch) as transport, Inbox(transport, [queue]) as inbox:
            await transport.send([Outgoing(queue=queue, body=body, id="large")])
            [delivery] = await inbox.has(1)
            await transport.settle(delivery)
        assert delivery.body == body

    @in_loop
    async def test_depth_and_purge(self, scratch: Scratch) -> None:
        """What waits is counted and deleted, what is out is neither, and the queue goes on."""
        queue = scratch.queue("q")
        async with _open(scratch) as transport:
            await transport.declare(queue)
            assert await transport.depth(queue) == 0
            async with Inbox(transport, [queue], prefetch=1) as inbox:
                await transport.send(outgoing(queue, *"abcd"))
                [held] = await inbox.has(1)
                await has_depth(transport, queue, 3)
                assert await transport.purge(queue) == 3
            await transport.settle(held)
            await has_depth(transport, queue, 0)
            await transport.send(outgoing(queue, "b"))
            await _settle_all(transport, queue, ["b"])

    # --- consumers --------------------------------------------------------------------------------------------

    @in_loop
    async def test_competing_consumers_share_without_duplicates(self, scratch: Scratch) -> None:
        """Each message goes to one of them."""
        queue, names = scratch.queue("q"), [str(n) for n in range(60)]
        async with _open(scratch) as one, AsyncExitStack() as stack:
            other = one
            if scratch.features.durability is not Durability.VOLATILE:
                other = await stack.enter_async_context(_open(scratch))
            first = await stack.enter_async_context(_Settling(one, [queue], 5))
            second = await stack.enter_async_context(_Settling(other, [queue], 5))
            await one.send(outgoing(queue, *names))
            await until(_sum_is(first, second, len(names)))
            await has_depth(one, queue, 0)
        assert Counter(first.names + second.names) == Counter(names)

    @in_loop
    async def test_no_more_is_out_than_prefetch_allows(self, scratch: Scratch) -> None:
        """Settling and releasing make room, one for one."""
        queue = scratch.queue("q")
        async with _open(scratch) as transport, Inbox(transport, [queue], prefetch=2) as inbox:
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
        async with _open(scratch) as transport, Inbox(transport, [queue], prefetch=lambda: allowed) as inbox:
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
        async with _open(scratch) as transport:
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
        _skip_unless(scratch.features.durability is not Durability.VOLATILE, "durable")
        queue = scratch.queue("q")
        async with _open(scratch) as staying:
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
        async with _open(scratch) as transport, Inbox(transport, [queue]) as inbox:
            await transport.declare(queue)
            await asyncio.gather(
                _elsewhere(_send_each(transport, outgoing(queue, *names[:20]))),
                _elsewhere(_send_each(transport, outgoing(queue, *names[20:]))),
            )
            deliveries = list(await inbox.has(40))
            await asyncio.gather(
                _elsewhere(_settle_each(transport, deliveries[:20])),
                _elsewhere(_settle_each(transport, deliveries[20:])),
            )
            await has_depth(transport, queue, 0)
        assert sorted(inbox.names) == sorted(names)

    # --- settling ---------------------------------------------------------------------------------------------

    @in_loop
    async def test_settling_publishes_what_follows_and_acknowledges(self, scratch: Scratch) -> None:
        """One message is gone, all its successors are there."""
        queue, left, right = scratch.queue("q"), scratch.queue("left"), scratch.queue("right")
        async with _open(scratch) as transport, Inbox(transport, [queue]) as inbox:
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
        async with _open(scratch) as transport, Inbox(transport, [queue]) as inbox:
            await transport.declare(following)
            await transport.send(outgoing(queue, "m"))
            [delivery] = await inbox.has(1)
            await transport.settle(delivery, outgoing(following, "good"))
            assert await _is_superseded(transport, delivery, outgoing(following, "bad"))
            await _settle_all(transport, following, ["good"])

    @in_loop
    async def test_two_hundred_settle_at_once(self, scratch: Scratch) -> None:
        """In any order; every successor is there once."""
        queue, following, names = scratch.queue("q"), scratch.queue("next"), [str(n) for n in range(200)]
        async with _open(scratch) as transport:
            async with Inbox(transport, [queue], prefetch=200) as inbox:
                await transport.send(outgoing(queue, *names))
                deliveries = list(await inbox.has(200))
                shuffled = deliveries[1::2] + deliveries[::2]
                await asyncio.gather(
                    *(transport.settle(one, outgoing(following, one.body.decode())) for one in shuffled)
                )
                await has_depth(transport, queue, 0)
            await _settle_all(transport, following, names, in_order=False)

    @in_loop
    async def test_a_released_delivery_comes_again_unharmed(self, scratch: Scratch) -> None:
        """With its id and headers; where deliveries are counted, as if it had never been out."""
        queue = scratch.queue("q")
        async with _open(scratch) as transport, Inbox(transport, [queue]) as inbox:
            await transport.send(outgoing(queue, "m", headers={"a": "b"}))
            await transport.release((await inbox.has(1))[0])
            first, again = await inbox.has(2)
            await transport.settle(again)
            await has_depth(transport, queue, 0)
        assert (again.queue, again.body, again.id, again.headers["a"]) == (queue, b"m", first.id, "b")
        if scratch.features.delivery_count:
            assert again.deliveries == 1

    # --- time -------------------------------------------------------------------------------------------------

    @in_loop
    async def test_a_delayed_message_is_not_early_and_arrives(self, scratch: Scratch) -> None:
        """It holds up nothing else."""
        queue = scratch.queue("q")
        async with _open(scratch) as transport, Inbox(transport, [queue]) as inbox:
            sent_at = time.monotonic()
            late = asyncio.ensure_future(transport.send(outgoing(queue, "late", delay=_DELAY)))
            await transport.send(outgoing(queue, "now"))
            await inbox.has(1)
            await inbox.has(2, _DELAY + _SOON)
            assert time.monotonic() - sent_at >= _DELAY - 0.01
            await late
            await _settle_each(transport, list(inbox.got))
        assert inbox.names == ["now", "late"]

    @in_loop
    async def test_a_delayed_message_outlives_its_sender(self, scratch: Scratch) -> None:
        """The broker keeps it, not the process."""
        _skip_unless(scratch.features.delay, "delay")
        queue = scratch.queue("q")
        async with _open(scratch) as sender:
            await sender.send(outgoing(queue, "m", delay=_DELAY))
        async with _open(scratch) as transport:
            await _settle_all(transport, queue, ["m"])

    @in_loop
    async def test_a_delivery_is_released_until_later(self, scratch: Scratch) -> None:
        """It is not early, and it is not counted."""
        queue = scratch.queue("q")
        async with _open(scratch) as transport, Inbox(transport, [queue]) as inbox:
            await transport.send(outgoing(queue, "m"))
            [first] = await inbox.has(1)
            released_at = time.monotonic()
            await transport.release(first, delay=_DELAY)
            again = (await inbox.has(2, _DELAY + _SOON))[1]
            assert time.monotonic() - released_at >= _DELAY - 0.01
            await transport.settle(again)
        assert (again.body, again.id) == (first.body, first.id)
        if scratch.features.delivery_count:
            assert again.deliveries == 1

    # --- what some brokers can --------------------------------------------------------------------------------

    @in_loop
    async def test_nine_goes_first(self, scratch: Scratch) -> None:
        """And within a priority, what came first."""
        _skip_unless(scratch.features.priority, "priority")
        queue = scratch.queue("q")
        async with _open(scratch) as transport:
            for name, priority in [("c", 0), ("b", 5), ("a", 9), ("d", 0)]:
                await transport.send(outgoing(queue, name, priority=priority))
            await _settle_all(transport, queue, ["a", "b", "c", "d"], prefetch=1)

    @in_loop
    async def test_the_same_id_twice_is_one_message_while_it_waits(self, scratch: Scratch) -> None:
        """Also while it is delayed; once it is settled the id may be sent anew."""
        _skip_unless(scratch.features.dedupes, "dedupes")
        queue = scratch.queue("q")
        async with _open(scratch) as transport:
            for delay in (0.0, _DELAY):
                await transport.send(outgoing(queue, "m", delay=delay))
                await transport.send(outgoing(queue, "m", delay=delay))
                assert await transport.depth(queue) == 1
                await _settle_all(transport, queue, ["m"])
            await transport.send(outgoing(queue, "m"))
            assert await transport.purge(queue) == 1
            await transport.send(outgoing(queue, "m"))
            await _settle_all(transport, queue, ["m"])

    # --- when a holder comes to grief --------------------------------------------------------------------------

    @in_loop
    async def test_what_a_crashed_holder_had_comes_again(self, scratch: Scratch) -> None:
        """Within one and a half leases, and counted, every time."""
        _skip_unless(_survives_crashes(scratch), "at least once")
        queue = scratch.queue("q")
        async with _open(scratch) as survivor:
            await survivor.send(outgoing(queue, "m"))
            for times in (1, 2):
                crashed_at = await _take_and_crash(scratch, queue, times)
            async with Inbox(survivor, [queue]) as inbox:
                [again] = await inbox.has(1, 1.5 * scratch.lease_seconds + _BUSY)
                assert time.monotonic() - crashed_at <= 1.5 * scratch.lease_seconds + _BUSY
                await survivor.settle(again)
                await has_depth(survivor, queue, 0)
        assert again.body == b"m"
        assert again.deliveries == 3 if scratch.features.delivery_count else again.deliveries > 1

    @in_loop
    async def test_a_stale_holder_is_refused(self, scratch: Scratch) -> None:
        """It was stopped for longer than its lease: what it settles then is refused and publishes nothing."""
        _skip_unless(scratch.features.fenced, "fenced")
        queue, following = scratch.queue("q"), scratch.queue("next")
        async with _open(scratch) as stale, _open(scratch) as heir:
            await stale.send(outgoing(queue, "m"))
            async with aclosing(stale.consume([queue], 1)) as batches:
                [old] = await anext(batches)
            async with Inbox(heir, [queue]) as inbox:
                async with scratch.frozen(stale):
                    [new] = await inbox.has(1, 3 * scratch.lease_seconds + _BUSY)
                assert await _is_superseded(stale, old, outgoing(following, "stale"))
                await heir.settle(new, outgoing(following, "good"))
            await _settle_all(heir, following, ["good"])
        assert old.lease.lost
        assert not new.lease.lost

    @in_loop
    async def test_a_live_holder_keeps_its_lease(self, scratch: Scratch) -> None:
        """However long the step takes, although nobody consumes any more."""
        _skip_unless(_survives_crashes(scratch), "at least once")
        queue = scratch.queue("q")
        async with _open(scratch) as busy, _open(scratch) as other:
            await busy.send(outgoing(queue, "m"))
            async with aclosing(busy.consume([queue], 1)) as batches:
                [delivery] = await anext(batches)
            async with Inbox(other, [queue]) as inbox:
                await _time_passes(other, scratch.queue("clock"), 2 * scratch.lease_seconds)
                assert inbox.got == []
            await busy.extend(delivery)
            await busy.settle(delivery)
            await has_depth(other, queue, 0)


# --- helpers --------------------------------------------------------------------------------------------------


def _skip_unless(declared: bool, feature: str) -> None:
    if not declared:
        raise SkipTest(f"the transport does not declare: {feature}")


def _survives_crashes(scratch: Scratch) -> bool:
    return scratch.features.durability in (Durability.TRANSACTIONAL, Durability.AT_LEAST_ONCE)


@asynccontextmanager
async def _open(scratch: Scratch) -> AsyncGenerator[BaseTransport]:
    transport = await scratch.open()
    try:
        yield transport
    finally:
        await scratch.close(transport)


class _Settling(Inbox):
    """A consumer that settles what it gets."""

    def __init__(self, transport: BaseTransport, queues: Sequence[str], prefetch: int) -> None:
        super().__init__(transport, queues, prefetch)
        self._transport = transport

    async def _collect(self) -> None:
        async with aclosing(self._batches) as batches:
            async for batch in batches:
                await _settle_each(self._transport, batch)
                self.got += batch


def _sum_is(first: Inbox, second: Inbox, count: int) -> Any:
    async def reached() -> bool:
        return len(first.got) + len(second.got) >= count

    return reached


async def _settle_all(
    transport: BaseTransport, queue: str, names: Sequence[str], *, prefetch: int = 100, in_order: bool = True
) -> None:
    """Take everything there is, which must be this, and nothing is left."""
    async with _Settling(transport, [queue], prefetch) as inbox:
        await inbox.has(len(names))
        await has_depth(transport, queue, 0)
    assert (inbox.names if in_order else sorted(inbox.names)) == (list(names) if in_order else sorted(names))


async def _is_superseded(transport: BaseTransport, delivery: Delivery, following: Sequence[Outgoing]) -> bool:
    try:
        await transport.settle(delivery, following)
    except Superseded:
        return True
    return False


async def _take_and_crash(scratch: Scratch, queue: str, deliveries: int) -> float:
    """A process that gets the message and dies; when that was."""
    victim = await scratch.open()
    async with Inbox(victim, [queue]) as inbox:
        [delivery] = await inbox.has(1, 2 * scratch.lease_seconds + _BUSY)
        if scratch.features.delivery_count:
            assert delivery.deliveries == deliveries
        await scratch.crash(victim)
        died_at = time.monotonic()
    await scratch.close(victim)
    return died_at


async def _time_passes(transport: BaseTransport, queue: str, seconds: float) -> None:
    """Ask the broker over and over, as a worker does, until the time is over."""
    end = time.monotonic() + seconds

    async def over() -> bool:
        await transport.depth(queue)
        return time.monotonic() >= end

    await until(over, seconds + _SOON)


async def _send_each(transport: BaseTransport, messages: Sequence[Outgoing]) -> None:
    await asyncio.gather(*(transport.send([one]) for one in messages))


async def _settle_each(transport: BaseTransport, deliveries: Sequence[Delivery]) -> None:
    await asyncio.gather(*(transport.settle(one) for one in deliveries))


async def _elsewhere(work: Any) -> None:
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
