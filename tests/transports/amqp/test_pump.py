"""What the pump for RabbitMQ does for itself, on a real broker."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from helpers import until_async
from kombu import Connection

from paigeant.errors import Superseded
from paigeant.testing.conformance.transports import Inbox, outgoing
from paigeant.testing.conformance.waiting import in_loop
from paigeant.transport import Durability, Features
from paigeant.transports.kombu import KombuTransport
from paigeant.transports.pump.contract import Pump

FEATURES = Features(durability=Durability.AT_LEAST_ONCE, delay=True, delivery_count=True)


@asynccontextmanager
async def transport_at(url: str, **options: Any) -> AsyncGenerator[KombuTransport]:
    transport = KombuTransport(url, FEATURES, lambda: Connection(url, **options))
    await transport.connect()
    try:
        yield transport
    finally:
        await transport.close()


async def looked_at(transport: KombuTransport, look: Callable[[Any], Any]) -> Any:
    """What the I/O thread sees in its pump."""
    return await transport._call(look)


async def asked(transport: KombuTransport, question: Callable[[Any], Any]) -> Any:
    """The answer of RabbitMQ on the connection that consumes."""
    return await looked_at(transport, lambda pump: pump._link.desk.ask(question))


async def pump_of(transport: KombuTransport) -> Pump:
    pump: Pump = await looked_at(transport, lambda pump: pump)
    return pump


@in_loop
async def test_heartbeats_alone_keep_a_connection(rabbitmq_url: str, prefix: str) -> None:
    """A step longer than the heartbeat keeps its delivery, though the broker says nothing else meanwhile."""
    queue = f"{prefix}.q"
    async with transport_at(rabbitmq_url, heartbeat=2) as transport, Inbox(transport, [queue]) as inbox:
        await transport.send(outgoing(queue, "m"))
        [delivery] = await inbox.has(1)
        pump = await pump_of(transport)
        heard: int = pump._amqp.bytes_recv  # type: ignore[attr-defined]

        async def three_heartbeats() -> bool:
            return bool(pump._amqp.bytes_recv >= heard + 3)  # type: ignore[attr-defined]

        await until_async(three_heartbeats, 20)
        assert await pump_of(transport) is pump
        assert not delivery.lease.lost
        await transport.settle(delivery)


@in_loop
async def test_many_may_begin_with_a_new_queue_at_once(rabbitmq_url: str, prefix: str) -> None:
    """RabbitMQ closes the connection of who consumes from a quorum queue that is not quite there: tried again."""
    queues = [f"{prefix}.{n}" for n in range(10)]
    async with (
        transport_at(rabbitmq_url) as one,
        transport_at(rabbitmq_url) as two,
        transport_at(rabbitmq_url) as three,
    ):
        for queue in queues:
            consumers = [transport.consume([queue], 1) for transport in (one, two, three)]
            firsts = [asyncio.ensure_future(anext(consumer)) for consumer in consumers]
            await one.send(outgoing(queue, "a", "b", "c"))
            batches = await asyncio.gather(*firsts)
            assert sorted(delivery.body for [delivery] in batches) == [b"a", b"b", b"c"]
            for transport, [delivery] in zip((one, two, three), batches, strict=True):
                await transport.settle(delivery)
            for consumer in consumers:
                await consumer.aclose()


@in_loop
async def test_a_call_is_made_again_when_the_connection_breaks(rabbitmq_url: str, prefix: str) -> None:
    """Once or twice is nobody's business."""
    async with transport_at(rabbitmq_url) as transport:
        troubles = [OSError("gone"), ConnectionResetError("gone")]

        def call(pump: Any) -> str:
            if troubles:
                raise troubles.pop()
            return "there"

        assert await transport._call(call) == "there"


@in_loop
async def test_a_consumer_that_cannot_begin_is_not_left_behind(rabbitmq_url: str, prefix: str) -> None:
    """It would be handed deliveries that nobody settles."""
    async with transport_at(rabbitmq_url) as transport:
        await asked(transport, lambda channel: channel.queue_declare(f"{prefix}.q", durable=False, exclusive=True))
        with pytest.raises(Exception, match="RESOURCE_LOCKED"):
            await anext(transport.consume([f"{prefix}.q"], 1))
        assert await looked_at(transport, lambda pump: not transport._running()._consumers)


@in_loop
async def test_what_was_on_its_way_when_its_consumer_went_is_not_counted(rabbitmq_url: str, prefix: str) -> None:
    """py-amqp would requeue a delivery without a consumer, and quorum queues count that as a crash."""
    queue = f"{prefix}.q"
    async with transport_at(rabbitmq_url) as transport:
        for _ in range(20):
            batches = transport.consume([queue], 100)
            sending = asyncio.ensure_future(transport.send(outgoing(queue, *"abcde")))
            first = await anext(batches)
            await batches.aclose()
            await asyncio.gather(sending, *(transport.settle(one) for one in first))
        async with Inbox(transport, [queue], 200) as inbox:
            await inbox.has(await transport.depth(queue))
            assert {delivery.deliveries for delivery in inbox.got} <= {1}


@in_loop
async def test_a_queue_that_is_deleted_is_declared_again(rabbitmq_url: str, prefix: str) -> None:
    """By its consumer and by who publishes to it; what is held of other queues stays held, and of this one too."""
    queue, other = f"{prefix}.q", f"{prefix}.other"
    async with transport_at(rabbitmq_url) as transport, transport_at(rabbitmq_url) as operator:
        async with Inbox(transport, [queue, other]) as inbox:
            await transport.send(outgoing(queue, "1") + outgoing(other, "2"))
            held = list(await inbox.has(2))
            for name in (queue, other):
                await asked(operator, lambda channel, name=name: channel.queue_delete(name))
            await transport.send(outgoing(queue, "3"))
            await inbox.has(3)
            for delivery in [*held, inbox.got[2]]:
                await transport.settle(delivery, outgoing(other, f"after {delivery.body.decode()}"))
            await inbox.has(6)
        assert sorted(inbox.names[3:]) == ["after 1", "after 2", "after 3"]
        assert not any(delivery.lease.lost for delivery in held)


async def cut(transport: KombuTransport) -> None:
    """Break the connection; return when there is a new one."""
    before = await pump_of(transport)
    await looked_at(transport, lambda pump: pump._amqp.sock.shutdown(socket.SHUT_RDWR))

    async def is_replaced() -> bool:
        return await pump_of(transport) is not before

    await until_async(is_replaced)


@in_loop
async def test_settling_after_the_connection_broke_is_superseded(rabbitmq_url: str, prefix: str) -> None:
    """The message is another's by then; nothing of the stale holder's is published."""
    queue, following = f"{prefix}.q", f"{prefix}.next"
    async with transport_at(rabbitmq_url) as transport, transport_at(rabbitmq_url) as other:
        batches = transport.consume([queue], 1)
        await transport.send(outgoing(queue, "m"))
        [stale] = await anext(batches)
        await batches.aclose()
        async with Inbox(other, [queue]) as inbox:
            await cut(transport)
            [again] = await inbox.has(1)
            with pytest.raises(Superseded):
                await transport.settle(stale, outgoing(following, "stale"))
            assert stale.lease.lost
            await other.settle(again, outgoing(following, "good"))
        assert (again.deliveries, await transport.depth(following)) == (2, 1)


@pytest.mark.parametrize("settled", ["at once", "later"])
@in_loop
async def test_what_comes_again_while_its_step_runs_is_settled_by_it(
    rabbitmq_url: str, prefix: str, settled: str
) -> None:
    """However often the connection breaks: nobody died, so the step is not run twice."""
    queue, following = f"{prefix}.q", f"{prefix}.next"
    async with transport_at(rabbitmq_url) as transport, Inbox(transport, [queue], 2) as inbox:
        await transport.send(outgoing(queue, "m"))
        [delivery] = await inbox.has(1)

        async def is_ours() -> bool:
            return not delivery.lease.lost

        for _ in range(3):
            await cut(transport)
        if settled == "later":
            await until_async(is_ours)
            await transport.extend(delivery)
        await transport.settle(delivery, outgoing(following, "n"))
        await transport.send(outgoing(queue, "last"))
        await transport.settle((await inbox.has(2))[1])
        assert inbox.names == ["m", "last"]
        assert (await transport.depth(queue), await transport.depth(following)) == (0, 1)
