"""Who listens for wake-ups over Redis, to what, and what happens when the connection goes deaf."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from brokers.proxy import Proxy
from helpers import until, until_async

from paigeant.transport import Outgoing
from paigeant.transports import new_transport
from paigeant.transports.kombu import KombuTransport
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.redis import wake as redis_wake
from paigeant.transports.redis.client import connect
from paigeant.transports.redis.queue import RedisQueue
from paigeant.transports.redis.wake import WakeUps


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def subscribed(server: redis.Redis, queue: str) -> int:
    """How many listen for this queue."""
    [(_, number)] = server.pubsub_numsub(f"paigeant:wake:{queue}")
    return int(number)


def test_a_client_without_consumers_does_not_listen(redis_url: str, server: redis.Redis, prefix: str) -> None:
    """Before it consumes, and after; a dispatcher's thread sleeps until it is handed something."""

    async def scenario() -> None:
        transport = new_transport(redis_url)
        assert isinstance(transport, KombuTransport)
        queue = f"{prefix}.q"
        await transport.send([Outgoing(queue=queue, body=b"", id=f"{prefix}-m")])
        pump = await _pump(transport)
        assert (pump.fileno(), pump.patience) == (None, None)
        batches = transport.consume([queue], 1)
        [delivery] = await anext(batches)
        assert subscribed(server, queue) == 1
        await transport.settle(delivery)
        await batches.aclose()
        await until_async(lambda: _is(lambda: subscribed(server, queue) == 0))
        assert (pump.fileno(), pump.patience) == (None, None)
        await transport.delete(queue)
        await transport.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))


async def _pump(transport: KombuTransport) -> Any:
    return await transport._call(lambda pump: pump)


async def _is(condition: Any) -> bool:
    return bool(condition())


def test_messages_of_other_queues_wake_nobody(redis_url: str, prefix: str) -> None:
    """A worker hears of its own queues alone."""
    worker, sender = (RedisQueue(connect(redis_url), prefix=f"{prefix}:") for _ in range(2))
    worker.subscribe(["mine"])
    assert worker.exchange([], 1) == ([], [])

    def send(queue: str) -> None:
        sender.exchange([Settlement(outgoing=[Outgoing(queue=queue, body=b"")])], 0)

    send("theirs")
    assert not worker._wake.hear()
    send("mine")
    assert until(worker._wake.hear)
    worker.close()
    sender.close()


def test_a_connection_that_was_dropped_in_silence_is_noticed(
    redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy lets nothing through any more, and tells nobody."""
    monkeypatch.setattr(redis_wake, "QUIET", 0.1)
    monkeypatch.setattr(redis_wake, "SOCKET_TIMEOUT", 0.5)
    proxy = Proxy(redis_url)
    try:
        wake = WakeUps(connect(proxy.url), f"{prefix}:")
        assert wake.listen(["q"])
        begun = time.monotonic()
        until(lambda: wake.hear() or time.monotonic() > begun + 0.7)  # it is asked, and answers
        proxy.stall()
        with pytest.raises(redis.exceptions.ConnectionError, match="wake-ups"):
            until(wake.hear)
        wake.close()
    finally:
        proxy.close()
