"""What the transports' tests share: both databases, and a clock that only the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from paigeant.database import Database
from paigeant.transports.sql_queue import SqlQueue


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
def make_queue(database_url: str, clock: FakeClock) -> Iterator[Callable[..., SqlQueue]]:
    """Makes one SqlQueue after another on the same database, each with connections of its own, as processes have."""
    made: list[SqlQueue] = []

    def make(*names: str, lease: float = 30.0, **options: Any) -> SqlQueue:
        queue = SqlQueue(Database(database_url, clock), lease, **options)
        queue.open()
        queue.subscribe(names or ("q",))
        made.append(queue)
        return queue

    yield make
    for queue in made:
        queue.close()


@pytest.fixture
def queue(make_queue: Callable[..., SqlQueue]) -> SqlQueue:
    return make_queue()
