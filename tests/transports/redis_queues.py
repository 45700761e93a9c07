"""What the tests of RedisQueue do with it, and how they lose its answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from paigeant.transport import Delivery, Outgoing
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.redis.queue import RedisQueue

LEASE = 30.0


def send(queue: RedisQueue, *ids: str, to: str = "q", **options: Any) -> list[bool]:
    outgoing = [Outgoing(queue=to, body=id_.encode(), id=id_, **options) for id_ in ids]
    return queue.exchange([Settlement(outgoing=outgoing)], 0)[0]


def claim(queue: RedisQueue, limit: int = 10) -> list[Delivery]:
    return queue.exchange([], limit)[1]


def ids(deliveries: list[Delivery]) -> list[str | None]:
    return [delivery.id for delivery in deliveries]


class AnswerLost(redis.exceptions.ConnectionError):
    pass


def with_lost_answer(queue: RedisQueue, call: Callable[[], Any]) -> None:
    """Run the script, lose its answer, and open a new connection."""
    script = queue.server.scripts["exchange"]

    def lossy(**arguments: Any) -> None:
        script(**arguments)
        raise AnswerLost("connection reset")

    queue.server.scripts["exchange"] = lossy
    with pytest.raises(AnswerLost):
        call()
    queue.server.scripts["exchange"] = script
    queue.disconnect()
    queue.open()
