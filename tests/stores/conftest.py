from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from sqlalchemy import inspect
from stores.builders import FakeClock

from paigeant.database import Database
from paigeant.stores.sql import SqlStore
from paigeant.stores.tables import metadata

if TYPE_CHECKING:
    import psycopg


@pytest.fixture(scope="session")
def _shared_postgres(_postgres: Callable[..., psycopg.Connection]) -> Iterator[str]:
    """One database for this session's store tests: making one takes longer than most of them."""
    name = f"pgt-stores-{uuid4().hex[:8]}"
    with _postgres() as server:
        server.execute(f'CREATE DATABASE "{name}"')
        at, password = server.info, f":{server.info.password}" if server.info.password else ""
        url = f"postgresql://{at.user}{password}@{at.host}:{at.port}/{name}"
    yield f"{url}?options=-c%20synchronous_commit%3Doff"
    with _postgres() as server:
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def _empty_postgres(_shared_postgres: str) -> Iterator[str]:
    """The shared database, emptied after the test."""
    yield _shared_postgres
    database = Database(_shared_postgres)
    with database.writer() as connection, connection.begin():
        if inspect(connection).has_table("paigeant_workflow"):
            for table in metadata.sorted_tables:
                connection.execute(table.delete())
    database.dispose()


@pytest.fixture(params=["sqlite file", "sqlite in memory", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind, for the one suite that all of them pass."""
    match request.param:
        case "sqlite file":
            return f"sqlite:///{tmp_path / 'store.db'}"
        case "sqlite in memory":
            return "sqlite://"
        case _:
            postgres: str = request.getfixturevalue("_empty_postgres")
            return postgres


@pytest.fixture
def clock() -> FakeClock:
    """What the store takes for the time; on PostgreSQL the server's counts."""
    return FakeClock()


@pytest.fixture
async def store(url: str, clock: FakeClock) -> AsyncIterator[SqlStore]:
    """A connected store."""
    made = SqlStore(url, clock)
    await made.connect()
    yield made
    await made.close()
