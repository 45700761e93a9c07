"""A Redis that has reached its maxmemory (noeviction): it can be drained, and refuses new messages with the reason."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from brokers.conftest import started
from brokers.servers import RedisServer
from helpers import until, until_async
from kombu.exceptions import ChannelError
from transports.kombu_programs import declare, everything, put, streams

from paigeant.errors import TransportError
from paigeant.transport import Delivery, Outgoing
from paigeant.transports import new_transport
from paigeant.transports.kombu import KombuTransport
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.redis.queue import RedisQueue, connect

BODY = b"x" * 5000


class Small(RedisServer):
    """A server whose memory the test limits."""

    def _command(self) -> list[str]:
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), "--save", ""]
        return ["redis-server", *options]

    def limit(self, by: int) -> None:
        """Allow so many bytes more, or less, than are used; 0 is no limit."""
        with redis.Redis(port=self.port) as client:
            used = client.info("memory")["used_memory"]
            client.config_set("maxmemory", used + by if by else 0)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    server = started(Small, tmp_path / "redis")
    yield server  # type: ignore[misc]
    server.close()


@pytest.fixture
def make(small: Small) -> Iterator[Callable[[], RedisQueue]]:
    made: list[RedisQueue] = []

    def queue() -> RedisQueue:
        one = RedisQueue(connect(small.url), address=str(len(made)))
        one.open()
        one.declare(["q"])
        one.subscribe(["q"])
        made.append(one)
        return one

    yield queue
    for one in made:
        one.close()


def outgoing(*ids: str, body: bytes = BODY, **options: Any) -> list[Outgoing]:
    return [Outgoing(queue="q", body=body, id=id_, **options) for id_ in ids]


def claim(queue: RedisQueue, limit: int) -> list[Delivery]:
    queue._look_at = 0.0
    return queue.exchange([], limit)[1]


def is_refused(answer: object) -> bool:
    return isinstance(answer, TransportError) and "Redis is full" in str(answer)


def test_a_full_server_is_drained(small: Small, make: Callable[[], RedisQueue]) -> None:
    """By a worker that starts now: it declares, claims, renews, releases, acknowledges and parts."""
    sender = make()
    sender.exchange([Settlement(outgoing=outgoing(*map(str, range(100))))], 0)
    small.limit(-100_000)
    worker = make()
    deliveries = claim(worker, 50)
    assert len(deliveries) == 50
    worker.renew()
    worker.beat()
    releases = [
        Settlement(delivery=one, release_after=after) for one, after in zip(deliveries, (0.0, 60.0), strict=False)
    ]
    assert worker.exchange(releases, 0)[0] == [True, True]
    assert worker.exchange([Settlement(delivery=one) for one in deliveries[2:]], 0)[0] == [True] * 48
    assert worker.depth("q") == 52
    assert len(claim(worker, 10)) == 10
    worker.close()
    assert sender.depth("q") == 52
    assert sender.purge("q") == 52
    sender.delete("q")


def test_what_publishes_is_refused_as_a_whole_until_there_is_room(small: Small, make: Callable[[], RedisQueue]) -> None:
    """Nothing of it is done: the message is still held, and the same settlement succeeds later."""
    queue = make()
    queue.exchange([Settlement(outgoing=outgoing("a", "b", "c"))], 0)
    first, second, third = claim(queue, 3)
    small.limit(-100_000)
    grows = Settlement(delivery=first, outgoing=outgoing("a1", "a2", "a3"))
    late = Settlement(delivery=second, outgoing=outgoing("b1", body=BODY * 4, delay=60.0))
    new = Settlement(outgoing=outgoing("new"))
    alike = Settlement(delivery=third, outgoing=outgoing("c1", body=BODY + b"more"))
    answers = queue.exchange([grows, late, new, alike], 0)[0]
    assert [is_refused(one) for one in answers] == [True, True, True, False]
    assert answers[3] is True
    assert queue.depth("q") == 1  # what followed the third
    small.limit(0)
    assert queue.exchange([grows, late, new], 0)[0] == [True, True, True]
    assert queue.depth("q") == 1 + 3 + 1 + 1


def test_a_message_that_was_sent_is_not_refused(small: Small, make: Callable[[], RedisQueue]) -> None:
    """It waits there already: sending it again needs no room."""
    queue = make()
    again = Settlement(outgoing=outgoing("a"))
    queue.exchange([again], 0)
    small.limit(-100_000)
    assert queue.exchange([again], 0)[0] == [True]
    assert queue.depth("q") == 1


def test_what_is_refused_holds_up_nothing_else(small: Small) -> None:
    """A dispatch is refused with the reason when its patience is over; a settlement waits for room; others go on."""

    async def scenario() -> None:
        sender, worker = new_transport(small.url), new_transport(small.url)
        assert isinstance(sender, KombuTransport)
        sender._send_timeout = 0.5
        await sender.send(outgoing(*map(str, range(20))))
        batches = worker.consume(["q"], 20)
        deliveries = await anext(batches)
        while len(deliveries) < 20:
            deliveries = [*deliveries, *await anext(batches)]
        small.limit(-100_000)
        growing = asyncio.create_task(worker.settle(deliveries[0], outgoing("n", body=BODY * 10)))
        await asyncio.gather(*(worker.settle(one) for one in deliveries[1:]))
        with pytest.raises(TransportError, match="Redis is full") as refused:
            await sender.send(outgoing("new"))
        assert "maxmemory" in str(refused.value)
        assert not growing.done()
        small.limit(0)
        await asyncio.wait_for(growing, 30)
        await until_async(lambda: _is_empty(sender, deliveries))
        await batches.aclose()
        await sender.close()
        await worker.close()

    async def _is_empty(transport: KombuTransport, deliveries: Any) -> bool:
        return await transport.depth("q") == 0

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_kombu_program_is_told(small: Small, prefix: str) -> None:
    """Its publish fails with the reason, its acknowledgements pass, and dead letters do."""
    with streams(small.url, prefix).connect() as connection:
        declare(connection, "dead")
        declare(connection, "q", dead_letter_exchange="", dead_letter_routing_key="dead")
        put(connection, "first", "second")
        small.limit(-100_000)
        with pytest.raises(ChannelError, match="Redis is full"):
            put(connection, "third")
        channel: Any = connection.default_channel
        channel.basic_get("q").reject()
        assert everything(connection, "q") == ["second"]
        assert everything(connection, "dead") == ["first"]


def test_the_first_worker_starts_on_a_full_server(small: Small, make: Callable[[], RedisQueue]) -> None:
    """No script is loaded, and no queue is there: others have filled it."""
    small.limit(-100_000)
    worker = make()
    worker.routes.declare_exchange("e", "direct", {})
    worker.routes.bind("q", "e", "key")
    assert claim(worker, 1) == []
    assert is_refused(worker.exchange([Settlement(outgoing=outgoing("a"))], 0)[0][0])
    small.limit(0)
    assert worker.exchange([Settlement(outgoing=outgoing("a"))], 0)[0] == [True]
    assert [one.id for one in claim(worker, 1)] == ["a"]


def test_what_expires_while_there_is_no_room_for_its_dead_letter_is_looked_at_again(
    small: Small, make: Callable[[], RedisQueue]
) -> None:
    """It stays, the worker does not look for it all the time, and it moves when there is room."""
    queue = make()
    queue.declare(["dead"])
    queue.declare(["short"], {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    headers = {"x": "y" * 5000}
    settlement = Settlement(outgoing=[Outgoing(queue="short", body=b"", id="m", headers=headers)], expires=0.01)
    queue.exchange([settlement], 0)
    small.limit(-100_000)
    until(lambda: queue.depth("short") + queue.depth("dead") == 1)  # both are counted while it moves
    small.limit(0)
    until(lambda: queue.depth("dead") == 1)
    assert queue.depth("short") == 0
