"""What every transport promises of messages on their way to a consumer."""

from __future__ import annotations

from paigeant.testing.conformance.scratch import Scratch
from paigeant.testing.conformance.transports._parts import Inbox, has_depth, opened, outgoing, settle_all, skip_unless
from paigeant.testing.conformance.waiting import in_loop
from paigeant.transport import Durability, Outgoing


class Delivering:
    """A part of :class:`paigeant.testing.conformance.TransportConformance`."""

    @in_loop
    async def test_a_message_arrives_as_it_was_sent(self, scratch: Scratch) -> None:
        """Body, id and headers, whatever bytes the body has."""
        queue = scratch.queue("q")
        sent = Outgoing(queue=queue, body=b"\x00\xff{}\r\n\xc3\x28", id="m-1", headers={"a": "b", "ü": "\u2713"})
        async with opened(scratch) as transport, Inbox(transport, [queue]) as inbox:
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
        skip_unless(scratch.features.durability is not Durability.VOLATILE, "durable")
        queue = scratch.queue("q")
        async with opened(scratch) as sender:
            await sender.send(outgoing(queue, "a", "b"))
        async with opened(scratch) as transport:
            assert await transport.depth(queue) == 2
            await settle_all(transport, queue, ["a", "b"])

    @in_loop
    async def test_a_queue_keeps_its_order(self, scratch: Scratch) -> None:
        """First in, first out, across batches."""
        queue, names = scratch.queue("q"), [f"{n:03}" for n in range(100)]
        async with opened(scratch) as transport:
            await transport.send(outgoing(queue, *names[:50]))
            await transport.send(outgoing(queue, *names[50:]))
            await settle_all(transport, queue, names, prefetch=7)

    @in_loop
    async def test_one_consumer_serves_several_queues(self, scratch: Scratch) -> None:
        """Each delivery says which it came from."""
        queues = [scratch.queue(name) for name in "abc"]
        async with opened(scratch) as transport, Inbox(transport, queues) as inbox:
            await transport.send([one for queue in queues for one in outgoing(queue, queue)])
            for delivery in list(await inbox.has(3)):
                await transport.settle(delivery)
        assert {delivery.queue: delivery.body.decode() for delivery in inbox.got} == {q: q for q in queues}

    @in_loop
    async def test_a_queue_nobody_declared_can_be_sent_to(self, scratch: Scratch) -> None:
        """The next step's worker may come up later."""
        async with opened(scratch) as transport:
            await transport.send(outgoing(scratch.queue("new"), "m"))
            await settle_all(transport, scratch.queue("new"), ["m"])

    @in_loop
    async def test_large_messages(self, scratch: Scratch) -> None:
        """One megabyte and back."""
        queue, body = scratch.queue("q"), bytes(range(256)) * 4096
        async with opened(scratch) as transport, Inbox(transport, [queue]) as inbox:
            await transport.send([Outgoing(queue=queue, body=body, id="large")])
            [delivery] = await inbox.has(1)
            await transport.settle(delivery)
        assert delivery.body == body

    @in_loop
    async def test_depth_and_purge(self, scratch: Scratch) -> None:
        """What waits is counted and deleted, what is out is neither, and the queue goes on."""
        queue = scratch.queue("q")
        async with opened(scratch) as transport:
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
            await settle_all(transport, queue, ["b"])
