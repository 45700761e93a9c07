"""Redis servers of other kinds: a cluster, a Unix socket, one that is restarted for longer than a lease."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers.conftest import started
from brokers.servers import RedisServer, free_port
from helpers import until
from kombu import Connection

from paigeant import App, Worker
from paigeant.errors import ConfigurationError
from paigeant.transport import Outgoing
from paigeant.transports import new_transport
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.redis.queue import RedisQueue, connect

redis = pytest.importorskip("redis")

LEASE = 2.0


class Cluster(RedisServer):
    """The only node of a Redis Cluster; it has every slot."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.bus = free_port()

    def _command(self) -> list[str]:
        options = ["--cluster-enabled", "yes", "--cluster-port", str(self.bus)]
        return ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", *options]

    def start(self) -> None:
        super().start()
        with redis.Redis(port=self.port) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))


class OnASocket(RedisServer):
    """Redis on a Unix socket, and on a port for the test itself."""

    @property
    def socket(self) -> str:
        return f"/{str(self.folder).strip('/')}/redis.sock"

    def _command(self) -> list[str]:
        return [*super()._command(), "--unixsocket", "redis.sock"]  # in its folder: paths of sockets are short


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisServer]:
    server = started(Cluster, tmp_path / "cluster")
    yield server  # type: ignore[misc]
    server.close()


@pytest.fixture
def on_a_socket(tmp_path: Path) -> Iterator[OnASocket]:
    server: Any = started(OnASocket, tmp_path / "s")
    yield server
    server.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisServer]:
    server = started(RedisServer, tmp_path / "redis")
    yield server  # type: ignore[misc]
    server.close()


def test_a_cluster_is_refused_at_once(cluster: RedisServer) -> None:
    """At dispatch, in a worker, and in a kombu program, with what to use instead."""
    app = App("cluster", broker=cluster.url, store="none")

    @app.activity
    async def hello() -> None: ...

    async def scenario() -> None:
        begun = time.monotonic()
        with pytest.raises(ConfigurationError, match="Redis Cluster") as refused:
            await app.dispatch(hello.step())
        assert "sentinel" in str(refused.value.hint)
        assert time.monotonic() < begun + 10
        with pytest.raises(ConfigurationError, match="Redis Cluster"):
            await Worker(app).run()
        await app.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))
    with Connection(f"redis-streams+{cluster.url}") as connection, pytest.raises(ConfigurationError, match="Cluster"):
        connection.connect()


@pytest.mark.parametrize("scheme", ["unix", "redis+socket"])
def test_messages_go_over_a_unix_socket(on_a_socket: OnASocket, scheme: str) -> None:
    """As redis-py writes its URL, and as Celery does."""

    async def scenario() -> bytes:
        transport = new_transport(f"{scheme}://{on_a_socket.socket}?db=1")
        try:
            await transport.send([Outgoing(queue="q", body=b"near", id="m")])
            batches = transport.consume(["q"], 1)
            [delivery] = await anext(batches)
            await transport.settle(delivery)
            await batches.aclose()
            return delivery.body
        finally:
            await transport.close()

    assert asyncio.run(asyncio.wait_for(scenario(), 60)) == b"near"
    with redis.Redis(port=on_a_socket.port, db=1) as client:
        assert client.exists("paigeant:mark")


def test_a_socket_needs_an_absolute_path() -> None:
    """A relative one would be taken for a user's name or a host."""
    with pytest.raises(ConfigurationError, match="absolute path"):
        connect("unix://redis.sock")


def test_an_outage_longer_than_the_lease_costs_no_lease(own: RedisServer) -> None:
    """Redis is away, comes back with its append-only file, and others come first."""

    def make(address: str) -> RedisQueue:
        queue = RedisQueue(connect(own.url), address=address, lease_seconds=LEASE)
        queue.open()
        queue.subscribe(["q"])
        return queue

    worker = make("worker")
    worker.exchange([Settlement(outgoing=[Outgoing(queue="q", body=b"", id="m")])], 0)
    [delivery] = until(lambda: worker.exchange([], 1)[1])
    own.kill()
    worker.disconnect()
    gone = time.monotonic()
    until(lambda: time.monotonic() > gone + LEASE + 0.5)
    own.start()
    others = [make(f"other {number}") for number in range(2)]
    assert [other.take("q") for other in others] == [[], []]
    worker.open()
    assert worker.exchange([Settlement(delivery=delivery)], 0)[0] == [True]
    assert others[0].depth("q") == 0
    for queue in (worker, *others):
        queue.close()


def test_a_server_that_stood_still_costs_no_lease(own: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could reach it: who comes back takes nothing from the others before they could renew."""
    monkeypatch.setattr("paigeant.transports.redis.client.SOCKET_TIMEOUT", 0.2)
    worker, other = (RedisQueue(connect(own.url), address=name, lease_seconds=LEASE) for name in ("worker", "other"))
    assert other.take("q") == []
    worker.exchange([Settlement(outgoing=[Outgoing(queue="q", body=b"", id="m")])], 0)
    [delivery] = worker.take("q")
    assert own.process is not None
    os.kill(own.process.pid, signal.SIGSTOP)
    gone = time.monotonic()
    with pytest.raises(redis.RedisError):
        other.renew()
    other.disconnect()
    until(lambda: time.monotonic() > gone + LEASE + 0.5)
    os.kill(own.process.pid, signal.SIGCONT)
    assert other.take("q") == []
    assert worker.exchange([Settlement(delivery=delivery)], 0)[0] == [True]
    worker.close()
    other.close()


def test_who_does_not_come_back_from_an_outage_is_buried(own: RedisServer) -> None:
    """After the time of one lease."""
    worker = RedisQueue(connect(own.url), address="worker", lease_seconds=LEASE)
    worker.exchange([Settlement(outgoing=[Outgoing(queue="q", body=b"", id="m")])], 0)
    assert worker.take("q")
    own.restart()
    worker.disconnect()
    begun = time.monotonic()
    other = RedisQueue(connect(own.url), address="other", lease_seconds=LEASE)
    other.open()
    [delivery] = until(lambda: other.take("q"))
    assert time.monotonic() >= begun + LEASE
    assert delivery.deliveries == 2
    other.close()
