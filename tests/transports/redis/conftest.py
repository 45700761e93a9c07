"""Fixtures for the tests of RedisQueue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from transports.redis_queues import LEASE

from paigeant.transports.redis.queue import RedisQueue, connect


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    """The server as anyone else sees it."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def make_queue(redis_url: str, prefix: str, clock: Any) -> Iterator[Callable[..., RedisQueue]]:
    """Makes one RedisQueue after another, each as a process of its own would have it."""
    made: list[RedisQueue] = []

    def make(*names: str) -> RedisQueue:
        options = {"address": str(len(made)), "prefix": f"{prefix}:", "lease_seconds": LEASE, "clock": clock}
        queue = RedisQueue(connect(redis_url), **options)
        queue.open()
        queue.subscribe(names or ("q",))
        made.append(queue)
        return queue

    yield make
    for queue in made:
        queue.close()


@pytest.fixture
def queue(make_queue: Callable[..., RedisQueue]) -> RedisQueue:
    return make_queue()
