"""An older release's database, and its workers beside new ones. ``older/`` has the scripts of that release."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from paigeant.transport import Delivery, Outgoing
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.redis.queue import RedisQueue

LEASE = 30.0
OLDER = Path(__file__).parent / "older"


class OlderWorker:
    """Runs the older release's script as its worker did."""

    def __init__(self, server: redis.Redis, prefix: str, clock: Any) -> None:
        self._run: Any = server.register_script((OLDER / "exchange.lua").read_text())
        self._depth: Any = server.register_script((OLDER / "depth.lua").read_text())
        self._prefix = prefix
        self._clock = clock
        self._known = 0

    def _exchange(self, limit: int, *settlements: tuple[Any, ...]) -> list[Any]:
        head = [self._prefix, int(self._clock.now() * 1000), "older", int(LEASE * 1000), self._known, limit, 1, "q"]
        self._known = 1
        found: list[Any] = self._run(args=[*head, len(settlements), *(part for one in settlements for part in one)])
        return found

    def send(self, id_: str, body: bytes = b"", delay: float = 0.0) -> None:
        self._exchange(0, ("send", "", "", 0, "", 0, 0, 1, "q", id_, body, "{}", int(delay * 1000), 0, -1))

    def claim(self, limit: int = 10) -> list[tuple[bytes, bytes, int, str]]:
        """Stream, entry, count and id of each."""
        return [(one[1], one[2], one[3], _id(one[7:])) for one in self._exchange(limit)[2]]

    def ack(self, *claimed: tuple[bytes, bytes, int, str]) -> list[int]:
        accepted: list[int] = self._exchange(0, *(("ack", *one, 0, 0, 0) for one in claimed))[1]
        return accepted

    def depth(self) -> int:
        return int(self._depth(args=[self._prefix, "q"]))


def _id(pairs: list[bytes]) -> str:
    return dict(zip(pairs[::2], pairs[1::2], strict=True))[b"i"].decode()


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def older(server: redis.Redis, prefix: str, clock: Any) -> OlderWorker:
    return OlderWorker(server, f"{prefix}:", clock)


def ids(deliveries: list[Delivery]) -> list[str]:
    return sorted(str(one.id) for one in deliveries)


def everything(queue: RedisQueue, rounds: int = 10) -> list[Delivery]:
    return [one for _ in range(rounds) for one in queue.exchange([], 250)[1]]


def send(queue: RedisQueue, *ids_: str, **options: Any) -> None:
    outgoing = [Outgoing(queue="q", body=b"", id=one, **options) for one in ids_]
    queue.exchange([Settlement(outgoing=outgoing)], 0)


def test_an_older_database_is_served(
    older: OlderWorker, make_queue: Callable[..., RedisQueue], server: redis.Redis, clock: Any
) -> None:
    """What waits, what is delayed, what is held; and no id is sent twice."""
    older.send("waits")
    older.send("held")
    held = older.claim(2)
    older.ack(held[0])
    older.send("waits")
    delayed = [f"d{number}" for number in range(700)]
    for name in delayed:
        older.send(name, delay=60.0)
    queue = make_queue()
    assert not server.exists(f"{queue.server.prefix}delayed")
    assert queue.depth("q") == 1 + 700
    send(queue, "d3", "d699", "waits", "held")
    assert queue.depth("q") == 1 + 700
    assert ids(everything(queue)) == ["waits"]
    clock.advance(61)
    assert ids(everything(queue)) == sorted([*delayed, "held"])
    assert older.ack(held[1]) == [0]


def test_an_older_worker_beside_a_new_one(
    older: OlderWorker, make_queue: Callable[..., RedisQueue], clock: Any
) -> None:
    """Each claims what the other sends, what the other delays comes, and what the other dies with is freed."""
    queue = make_queue()
    send(queue, "from new")
    [claimed] = older.claim()
    assert claimed[3] == "from new"
    older.send("from older")
    older.send("delayed by older", delay=5.0)
    send(queue, "delayed by new", delay=5.0)
    deliveries = everything(queue)
    assert ids(deliveries) == ["from older"]
    assert older.ack(claimed) == [1]
    older.send("delayed by new", delay=5.0)
    clock.advance(6)
    assert ids(everything(queue)) == ["delayed by new", "delayed by older"]
    older.send("last")
    assert [one[3] for one in older.claim()] == ["last"]
    clock.advance(LEASE + 1)
    queue.renew()
    assert ids(everything(queue)) == ["last"]


def test_an_older_worker_frees_what_a_new_one_dies_with(
    older: OlderWorker, make_queue: Callable[..., RedisQueue], clock: Any
) -> None:
    """It claims it again; the new one's settlement is refused."""
    queue = make_queue()
    send(queue, "m")
    [delivery] = everything(queue, 1)
    clock.advance(LEASE + 1)
    [claimed] = older.claim()
    assert claimed[2:] == (2, "m")
    assert queue.exchange([Settlement(delivery=delivery)], 0)[0] == [False]
    assert older.ack(claimed) == [1]


def test_a_new_worker_moves_what_older_ones_go_on_to_delay(
    older: OlderWorker, make_queue: Callable[..., RedisQueue], server: redis.Redis, clock: Any
) -> None:
    """With each look, and equal ones stay apart from then on."""
    queue = make_queue()
    older.send("", body=b"a", delay=5.0)
    older.send("", body=b"b", delay=5.0)
    assert everything(queue, 1) == []
    assert not server.exists(f"{queue.server.prefix}delayed")
    assert queue.depth("q") == 2
    assert queue.purge("q") == 2


def test_only_the_same_bytes_are_a_copy(make_queue: Callable[..., RedisQueue], clock: Any) -> None:
    """Anybody can compute the id of a message to come, and publish with it, also with a delay or elsewhere."""
    queue = make_queue()
    for place, delay in (("q", 0.0), ("q", 5.0), ("other", 5.0)):
        for sent in (Outgoing(queue=place, body=b"stranger", id="m", delay=delay), _honest(delay), _honest(delay)):
            queue.exchange([Settlement(outgoing=[sent])], 0)
        clock.advance(6)
        taken = everything(queue)
        assert sorted(one.body for one in taken) == ([b"honest", b"stranger"] if place == "q" else [b"honest"])
        queue.exchange([Settlement(delivery=one) for one in taken], 0)


def _honest(delay: float) -> Outgoing:
    return Outgoing(queue="q", body=b"honest", id="m", delay=delay)
