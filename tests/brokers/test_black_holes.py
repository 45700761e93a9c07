"""A connection on which nothing comes back any more, although nobody closed it."""

from __future__ import annotations

import asyncio
import time

import pytest
from helpers import until_async

from paigeant.testing.conformance.transports import Inbox, outgoing
from paigeant.transports import forget, get_transport, new_transport
from paigeant.transports.pump import hearing
from paigeant.transports.sql import transport as sql
from paigeant.worker.health import Health

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("server", ["redis_url", "rabbitmq_url", "postgres_url"])
async def test_a_question_into_a_black_hole_ends_in_a_new_connection(request, make_proxy, prefix, server, monkeypatch):
    """Whoever watches a worker sees it become unready and, by itself, ready again."""
    monkeypatch.setattr(sql, "LONGEST_STATEMENT", 1.0)
    proxy = make_proxy(request.getfixturevalue(server))
    transport = get_transport(proxy.url)
    forget(transport)
    await transport.declare(f"{prefix}.q")
    health = Health(patience=1.0)
    health.serving()
    watching = asyncio.create_task(health.watch(transport, f"{prefix}.q"))

    async def is_ready() -> bool:
        return health.ready(time.monotonic()).is_good

    async def is_unready() -> bool:
        return not await is_ready()

    await until_async(is_ready)
    before = proxy.connections
    proxy.stall()
    await until_async(is_unready, 30)
    await until_async(is_ready, 60)
    watching.cancel()
    await transport.delete(f"{prefix}.q")
    await transport.close()
    assert proxy.connections > before


def deaf_rabbitmq(pump):
    """RabbitMQ has forgotten the consumer, and nobody was told."""
    for inlet in pump._inlets.values():
        for tag in inlet._consumers:
            inlet._channel.basic_cancel(tag)


def deaf_kombu(pump):
    """kombu looks at another queue."""
    pump._channel._active_queues.clear()
    pump._channel._reset_cycle()


@pytest.mark.parametrize(("server", "deafen"), [("rabbitmq_url", deaf_rabbitmq), ("memory", deaf_kombu)])
async def test_a_consumer_that_has_gone_deaf_is_noticed(request, prefix, server, deafen, monkeypatch):
    """Messages wait, none comes, and no connection broke: the connection is made anew."""
    monkeypatch.setattr(hearing, "DEAF_AFTER", 0.3)
    transport = new_transport(server if server == "memory" else request.getfixturevalue(server))
    queue = f"{prefix}.q"
    async with Inbox(transport, [queue]) as inbox:
        await transport.send(outgoing(queue, "before"))
        await transport.settle((await inbox.has(1))[0])
        await transport._call(deafen)
        await transport.send(outgoing(queue, "after"))
        await transport.settle((await inbox.has(2, 60))[1])
    assert inbox.names == ["before", "after"]
    await transport.delete(queue)
    await transport.close()
