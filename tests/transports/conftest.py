"""What the transports' tests share: both databases, and a clock that only the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection
from transports.kombu_programs import Backend, sql, streams
from transports.sql_queues import LEASE

from paigeant.database import Database
from paigeant.transports.sql.queue import SqlQueue


class FakeClock:
    def __init__(self) -> None:
        self.time = 1_000_000.0

    def now(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'queue.db'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def made() -> Iterator[Callable[..., SqlQueue]]:
    """Makes one SqlQueue after another, each with connections of its own, as processes have. By the real clock."""
    queues: list[SqlQueue] = []

    def make(url: str, *names: str, lease: float = LEASE, clock: Any = None, **options: Any) -> SqlQueue:
        queue = SqlQueue(Database(url, clock), lease, **options)
        queue.open()
        queue.subscribe(names)
        queues.append(queue)
        return queue

    yield make
    for queue in queues:
        queue.close()


@pytest.fixture
def make_queue(made: Callable[..., SqlQueue], database_url: str, clock: FakeClock) -> Callable[..., SqlQueue]:
    """Makes queues on one database of each kind, subscribed to ``q``, by the clock that only the test moves."""
    return lambda *names, **options: made(database_url, *(names or ("q",)), clock=clock, **options)


@pytest.fixture
def queue(make_queue: Callable[..., SqlQueue]) -> SqlQueue:
    return make_queue()


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def backend(request: pytest.FixtureRequest, tmp_path: Path, prefix: str) -> Backend:
    """Empty queues of each kind."""
    match request.param:
        case "sqlite":
            return sql(f"sqlite:///{tmp_path / 'queue.db'}")
        case "postgresql":
            return sql(request.getfixturevalue("postgres_url"))
        case _:
            return streams(request.getfixturevalue("redis_url"), prefix)


@pytest.fixture
def connect(backend: Backend, clock: Any) -> Iterator[Callable[..., Connection]]:
    """Makes connections to the test's queues, each as another process would have it."""
    made: list[Connection] = []

    def make(**options: Any) -> Connection:
        made.append(backend.connect(**{"clock": clock, **options}))
        return made[-1]

    yield make
    for connection in made:
        connection.release()


@pytest.fixture
def connection(connect: Callable[..., Connection]) -> Connection:
    return connect()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'queue.db'}"


@pytest.fixture(params=["sqlite", "memory"])
def url(request: pytest.FixtureRequest, sqlite_url: str) -> str:
    return sqlite_url if request.param == "sqlite" else "memory://"
