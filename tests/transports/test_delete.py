"""A queue is deleted, and can be used again."""

from __future__ import annotations

from contextlib import aclosing, suppress
from pathlib import Path

import pytest

from paigeant.errors import PaigeantError
from paigeant.transport import Outgoing
from paigeant.transports import forget, get_transport
from paigeant.transports.kombu import KombuTransport

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "sqlite", "postgres", "redis", "rabbitmq"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Every kind of broker."""
    match request.param:
        case "memory":
            return "memory://"
        case "sqlite":
            return f"sqlite:///{tmp_path / 'queue.db'}"
        case server:
            return str(request.getfixturevalue(f"{server}_url"))


async def test_a_deleted_queue_is_gone_with_all_that_was_in_it(url, prefix):
    """Waiting, delayed or handed out; what is published later finds a new, empty queue."""
    transport = get_transport(url)
    forget(transport)
    assert isinstance(transport, KombuTransport)
    queue = f"{prefix}.q"
    delay = 60.0 if transport.features.delay else 0.0
    await transport.send([Outgoing(queue=queue, body=b"{}", id=f"{prefix}-{n}") for n in range(2)])
    await transport.send([Outgoing(queue=queue, body=b"{}", id=f"{prefix}-late", delay=delay)])
    async with aclosing(transport.consume([queue], 1)) as batches:
        [held] = await anext(batches)
    await transport.delete(queue)
    with suppress(PaigeantError):  # refused or not: there is nothing left to settle
        await transport.settle(held)
    await transport.declare(queue)
    assert await transport.depth(queue) == 0
    await transport.send([Outgoing(queue=queue, body=b"new", id=f"{prefix}-new")])
    async with aclosing(transport.consume([queue], 1)) as batches:
        [new] = await anext(batches)
        await transport.settle(new)
    assert new.body == b"new"
    await transport.delete(queue)
    await transport.close()
