"""What one script of ours costs a Redis that holds very much: by the commands it runs, and by the slow log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from brokers.conftest import started
from brokers.servers import RedisServer
from kombu import Queue
from transports.kombu_programs import put, streams

from paigeant.transport import Outgoing
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.redis.queue import RedisQueue, connect

MANY = 100_000
BODY = b"x" * 100
MOST_COMMANDS = 4_000
"""Commands in one script. Reading or moving all there is would take a hundred thousand."""
LONGEST = 100_000
"""Microseconds, on a busy machine; a script takes a few thousand."""


class InMemory(RedisServer):
    """A server of the test's own that writes nothing to the disk."""

    def _command(self) -> list[str]:
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), "--save", ""]
        return ["redis-server", *options]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisServer]:
    server = started(InMemory, tmp_path / "redis")
    yield server  # type: ignore[misc]
    server.close()


class Meter:
    """Counts the commands of each script that its queue runs."""

    def __init__(self, server: redis.Redis, queue: RedisQueue) -> None:
        self.server: Any = server
        self.commands: list[int] = []
        for name, script in list(queue.server.scripts.items()):
            queue.server.scripts[name] = self._metered(script)
        self.server.config_set("slowlog-log-slower-than", 1000)

    def _metered(self, script: Callable[..., Any]) -> Callable[..., Any]:
        def run(**arguments: Any) -> Any:
            before = self._calls()
            answer = script(**arguments)
            self.commands.append(self._calls() - before)
            return answer

        return run

    def _calls(self) -> int:
        stats = self.server.info("commandstats")
        return sum(one["calls"] for name, one in stats.items() if not name.startswith(("cmdstat_info", "cmdstat_eval")))

    def longest(self) -> int:
        """Microseconds of the slowest script."""
        entries = self.server.slowlog_get(128)
        return max((one["duration"] for one in entries if one["command"].startswith(b"EVAL")), default=0)

    def check(self) -> None:
        assert max(self.commands) < MOST_COMMANDS
        assert self.longest() < LONGEST


def make(server: RedisServer, clock: Any, address: str) -> RedisQueue:
    queue = RedisQueue(connect(server.url), address=address, lease_seconds=30.0, clock=clock)
    queue.open()
    return queue


def fill(queue: RedisQueue, name: str, **options: Any) -> None:
    for start in range(0, MANY, 500):
        outgoing = [Outgoing(queue=name, body=BODY, id=f"{name}-{start + n}", **options) for n in range(500)]
        queue.exchange([Settlement(outgoing=outgoing)], 0)


@pytest.fixture
def crowded(own: RedisServer, clock: Any) -> Iterator[tuple[RedisQueue, Meter]]:
    """100,000 messages wait in one queue, and 100,000 in another are delayed."""
    sender = make(own, clock, "sender")
    fill(sender, "now")
    fill(sender, "later", delay=3600.0)
    sender.close()
    with redis.Redis.from_url(own.url) as server:
        server.config_resetstat()
        queue = make(own, clock, "queue")
        yield queue, Meter(server, queue)
        queue.close()


@pytest.mark.slow
def test_no_script_touches_all_there_is(crowded: tuple[RedisQueue, Meter], clock: Any) -> None:
    """Depth, claims, what becomes due all at once, a holder's death, and a purge."""
    queue, meter = crowded
    assert queue.depth("empty") == 0
    quiet = meter.commands[-1]
    assert (queue.depth("now"), queue.depth("later")) == (MANY, MANY)
    assert meter.commands[-1] <= quiet + 10
    assert queue.depths() == {"empty": 0, "later": MANY, "now": MANY} or queue.depths() == {"later": MANY, "now": MANY}

    queue.subscribe(["now"])
    for _ in range(8):
        assert len(queue.exchange([], 250)[1]) == 250
    clock.advance(4000)  # all of "later" is due, and the lease is over
    queue.subscribe(["now", "later"])
    again = make_heir(queue)
    meter_of_heir = Meter(meter.server, again)
    again.subscribe(["now", "later"])
    claimed = [one for _ in range(12) for one in again.exchange([], 250)[1]]
    assert claimed
    assert again.purge("now") + again.purge("later") == 2 * MANY - len(claimed)
    again.close()
    meter.check()
    meter_of_heir.check()


def make_heir(queue: RedisQueue) -> RedisQueue:
    """Another holder of the same server."""
    heir = RedisQueue(queue.server.redis, address="heir", lease_seconds=30.0, clock=queue.server.clock)
    heir.open()
    return heir


def test_a_thousand_queues_are_buried_and_listed_in_parts(own: RedisServer, clock: Any) -> None:
    """The dead held one message in each of them, and nobody consumes but from one."""
    victim, heir = make(own, clock, "victim"), make(own, clock, "heir")
    names = [f"q{number:03}" for number in range(1000)]
    for name in names:
        victim.exchange([Settlement(outgoing=[Outgoing(queue=name, body=BODY)])], 0)
        assert victim.take(name)
    victim.disconnect()
    clock.advance(31)
    with redis.Redis.from_url(own.url) as server:
        meter = Meter(server, heir)
        heir.subscribe(["q999"])
        while server.zscore("paigeant:holders", victim.leases.me) is not None:
            heir.exchange([], 1)
        meter.check()
    assert set(heir.depths()) == set(names)
    assert [len(heir.take(name)) for name in ("q000", "q500")] == [1, 1]
    heir.close()


@pytest.mark.slow
def test_many_expire_in_parts(own: RedisServer, clock: Any) -> None:
    """Nobody reads the queue: whoever asks or publishes clears it up."""
    queue = make(own, clock, "queue")
    for _ in range(40):
        settlements = [Settlement(outgoing=[Outgoing(queue="q", body=BODY)], expires=5.0) for _ in range(250)]
        queue.exchange(settlements, 0)
    with redis.Redis.from_url(own.url) as server:
        meter = Meter(server, queue)
        clock.advance(6)
        depths = [queue.depth("q") for _ in range(11)]
        meter.check()
    assert depths == sorted(depths, reverse=True)
    assert depths[-1] == 0
    queue.close()


def test_what_expires_in_a_queue_that_nobody_reads_is_dropped(redis_url: str, prefix: str, clock: Any) -> None:
    """By the next publisher, and by whoever asks how many wait."""
    with streams(redis_url, prefix).connect(clock=clock) as connection:
        channel: Any = connection.default_channel
        Queue("q", channel=channel, message_ttl=1.0).declare()
        for number in range(60):
            put(connection, str(number))
        clock.advance(2)
        put(connection, "fresh")
        assert channel._size("q") == 1
        clock.advance(2)
        assert channel._size("q") == 0
