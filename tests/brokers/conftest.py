"""Brokers under faults: worker processes on RabbitMQ and Redis, with a store apart and without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from brokers.proxy import Proxy
from brokers.servers import PostgresServer, RabbitServer, RedisServer, Server
from conftest import CI
from crash import service
from crash.fleet import Fleet, fleets

LONGEST = 400.0
"""Seconds of one test. Each waits for progress, not for a time; this ends what hangs elsewhere."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Brokers that start, processes that die: on a busy machine this takes minutes, and is right all the same."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(LONGEST))


@pytest.fixture
def make_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Fleet]]:
    monkeypatch.setenv(service.LOG, str(tmp_path / "starts.jsonl"))
    with fleets(tmp_path) as make:
        yield make


def started(kind: type[Server], folder: Path) -> Server:
    if not kind.is_installed:
        (pytest.fail if CI else pytest.skip)(f"{kind.__name__}: the server is not installed here")
    server = kind(folder)
    server.start()
    return server


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that the test may kill and flush."""
    pytest.importorskip("redis")
    server = started(RedisServer, tmp_path / "redis")
    yield server
    server.close()


@pytest.fixture
def own_rabbitmq(tmp_path: Path) -> Iterator[RabbitServer]:
    """A RabbitMQ that the test may kill."""
    server = started(RabbitServer, tmp_path / "rabbitmq")
    yield server
    server.close()


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL that the test may kill."""
    pytest.importorskip("psycopg")
    server = started(PostgresServer, tmp_path / "postgres")
    yield server
    server.close()


@pytest.fixture
def broker() -> str:
    """Which broker; tests have it as a parameter."""
    return "redis"


@pytest.fixture
def store() -> str | None:
    """Which store; tests have it as a parameter."""
    return None


@pytest.fixture
def broker_url(request: pytest.FixtureRequest, broker: str) -> str:
    """The broker: Redis of its own, or queues of its own on RabbitMQ."""
    if broker == "redis":
        return str(request.getfixturevalue("own_redis").url)
    return str(request.getfixturevalue("rabbitmq_url"))


@pytest.fixture
def any_broker_url(request: pytest.FixtureRequest, tmp_path: Path, broker: str) -> str:
    """Databases too."""
    match broker:
        case "sqlite":
            return f"sqlite:///{tmp_path}/paigeant.db"
        case "postgres":
            return str(request.getfixturevalue("postgres_url"))
        case _:
            return str(request.getfixturevalue("broker_url"))


@pytest.fixture
def store_url(request: pytest.FixtureRequest, tmp_path: Path, store: str | None) -> str | None:
    """The store, if any."""
    match store:
        case "sqlite":
            return f"sqlite:///{tmp_path}/store.db"
        case "postgres":
            return str(request.getfixturevalue("postgres_url"))
        case _:
            return None


@pytest.fixture
def make_proxy() -> Iterator[Callable[[str], Proxy]]:
    proxies: list[Proxy] = []

    def make(target: str) -> Proxy:
        proxies.append(Proxy(target))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.close()
