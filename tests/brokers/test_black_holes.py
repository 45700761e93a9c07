"""A connection on which nothing comes back any more, although nobody closed it."""

from __future__ import annotations

import asyncio
import time

import pytest
from helpers import until_async

from paigeant.health import Health
from paigeant.transports import forget, get_transport

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("server", ["redis_url", "rabbitmq_url"])
async def test_a_question_into_a_black_hole_ends_in_a_new_connection(request, make_proxy, prefix, server):
    """Whoever watches a worker sees it become unready and, by itself, ready again."""
    proxy = make_proxy(request.getfixturevalue(server))
    transport = get_transport(proxy.url)
    forget(transport)
    await transport.declare(f"{prefix}.q")
    health = Health(patience=1.0)
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
