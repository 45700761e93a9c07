"""PostgreSQL roles: one owns the tables, workers only read and write rows."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from helpers import served
from roles import Roles, made

from paigeant import ActivityContext, App
from paigeant.database import Database
from paigeant.errors import SchemaTooOld


@pytest.fixture
def roles(postgres_url: str) -> Iterator[Roles]:
    with made(postgres_url) as both:
        yield both


def migrate(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paigeant", "migrate", "-b", url, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.anyio
async def test_a_worker_that_may_not_make_tables_works(roles: Roles, prefix: str) -> None:
    """Steps, waits, locks, schedules, retention, dead letters: all are rows."""
    assert migrate(roles.of("owner")).returncode == 0
    app = App("roles", broker=roles.of("worker"), queue_prefix=prefix)

    @app.activity(lock="one")
    async def nap(n: int, ctx: ActivityContext) -> int:
        ctx.sleep(0.05)
        return n

    @app.activity
    async def fail() -> None:
        raise ValueError("no")

    app.schedule("naps", nap.step(n=1), every=3600)
    async with served(app):
        assert await (await app.dispatch(nap.step(n=2), nap)).result(timeout=60) == 2
        with pytest.raises(Exception, match="no"):
            await (await app.dispatch(fail)).result(timeout=60)
        assert len(await app.schedules.list()) == 1
    assert await app.retention.forget(0) == 1  # the other has a dead letter
    await app.close()


def test_missing_tables_name_the_command_that_makes_them(roles: Roles) -> None:
    """The worker's role may not."""
    database = Database(roles.of("worker"))
    with pytest.raises(SchemaTooOld, match=f"'{roles.name}_worker' may not") as raised:
        database.migrate("stores")
    assert "paigeant migrate" in raised.value.hint
    database.dispose()


def test_the_command_says_so_too(roles: Roles) -> None:
    """With the exit code of a wrong configuration."""
    done = migrate(roles.of("worker"))
    assert done.returncode == 78
    assert "paigeant migrate" in done.stderr


def test_a_dry_run_changes_nothing(roles: Roles) -> None:
    done = migrate(roles.of("owner"), "--dry-run", "--json")
    assert done.returncode == 0
    database = Database(roles.of("owner"))
    assert database.schema_of("stores")[0] == 0
    database.dispose()


def test_tables_that_may_not_even_be_read_are_a_clear_error(roles: Roles, postgres_url: str) -> None:
    """They belong to somebody else, and nothing was granted."""
    database = Database(postgres_url)
    database.migrate("stores")
    database.dispose()
    refused = Database(roles.of("worker"))
    with pytest.raises(SchemaTooOld, match="permission denied"):
        refused.migrate("stores")
    refused.dispose()
