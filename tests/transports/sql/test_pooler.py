"""PostgreSQL through a pooler in transaction mode: every transaction has another session of the server."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from conftest import CI
from helpers import served
from sqlalchemy.exc import DBAPIError
from transports.pooler import PgBouncer

from paigeant import ActivityContext, App
from paigeant.database import Database


@pytest.fixture
def pooler(postgres_url: str) -> Iterator[PgBouncer]:
    if not PgBouncer.is_installed:
        (pytest.fail if CI else pytest.skip)("pgbouncer is not installed here")
    folder = Path(tempfile.mkdtemp(prefix="paigeant-pooler-"))
    folder.chmod(0o755)  # it runs as another user than root
    server = PgBouncer(folder / "pooler", postgres_url)
    server.start()
    yield server
    server.close()
    shutil.rmtree(folder)


def is_pooled(database: Database) -> bool:
    with database.reader() as reader:
        return reader.connection.driver_connection.is_pooled


def test_a_pooler_is_noticed(pooler: PgBouncer, postgres_url: str) -> None:
    """And a server without one is not taken for one."""
    assert is_pooled(Database(pooler.url))
    assert not is_pooled(Database(postgres_url))


def test_the_server_ends_a_statement_of_a_transaction_in_time(pooler: PgBouncer) -> None:
    """The limit holds behind the pooler too."""
    database = Database(pooler.url, longest_statement=0.2)
    with (
        pytest.raises(DBAPIError, match="canceling statement due to statement timeout"),
        database.writer() as writer,
        writer.begin(),
    ):
        writer.exec_driver_sql("SELECT pg_sleep(20)")


def test_the_session_is_left_to_others_as_it_was(pooler: PgBouncer) -> None:
    """Other programs use the pool too, and none of them asked for our limits."""
    database = Database(pooler.url, longest_statement=7.0)
    for _ in range(20):
        with database.writer() as writer, writer.begin():
            assert writer.exec_driver_sql("SHOW statement_timeout").scalar_one() == "7s"
    with psycopg.connect(pooler.url, autocommit=True, prepare_threshold=None) as other:
        found = {other.execute("SHOW statement_timeout").fetchone() for _ in range(10)}
    assert found == {("0",)}


def test_many_connections_share_two_sessions(pooler: PgBouncer) -> None:
    """A statement that one of them had prepared would be unknown, or already there, in the next transaction."""
    database = Database(pooler.url)

    def work(number: int) -> int:
        with database.writer() as writer:
            for turn in range(20):
                with writer.begin():
                    total = writer.exec_driver_sql("SELECT %s::int + %s::int", (number, turn)).scalar_one()
        return total

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(8))) == [number + 19 for number in range(8)]


@pytest.mark.anyio
async def test_workflows_run_through_a_pooler(pooler: PgBouncer, prefix: str) -> None:
    """Broker and store, with locks, waits and results."""
    app = App("pooled", broker=pooler.url, queue_prefix=prefix)

    @app.activity(lock="one")
    async def double(n: int) -> int:
        return n * 2

    @app.activity
    async def rested(n: int, ctx: ActivityContext) -> int:
        ctx.sleep(0.1)
        return n

    async with served(app, concurrency=4):
        begun = [await app.dispatch(double.step(n=n), rested, double) for n in range(10)]
        results = await asyncio.gather(*(workflow.result(timeout=60) for workflow in begun))
    await app.close()
    assert results == [n * 4 for n in range(10)]
