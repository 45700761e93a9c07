"""PostgreSQL databases that cannot take every text are refused at once, whoever connects."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from uuid import uuid4

import psycopg
import pytest
from conftest import _database

from paigeant import App
from paigeant.database import Database
from paigeant.errors import ConfigurationError


@pytest.fixture(params=["LATIN1", "SQL_ASCII"])
def narrow_url(request: pytest.FixtureRequest, _postgres: Callable[..., psycopg.Connection]) -> Iterator[str]:
    """A database of another encoding."""
    name = f"pgt-{uuid4().hex[:8]}"
    with _postgres() as server:
        server.execute(
            f"CREATE DATABASE \"{name}\" ENCODING '{request.param}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
    yield _database(name)
    with _postgres() as server:
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_it_is_refused_when_it_is_connected_to(narrow_url: str) -> None:
    """As a mistake of the settings, which trying again does not put right."""
    database = Database(narrow_url)
    with pytest.raises(ConfigurationError, match=r"has the encoding (LATIN1|SQL_ASCII)") as raised:
        database.migrate("stores")
    assert "createdb --encoding=UTF8" in raised.value.hint
    database.dispose()


@pytest.mark.anyio
async def test_nothing_is_dispatched_into_it(narrow_url: str) -> None:
    app = App("narrow", broker=narrow_url)

    @app.activity
    async def price(n: int) -> str:
        return f"{n} €"

    with pytest.raises(ConfigurationError, match="has the encoding"):
        await app.dispatch(price.step(n=1))
    await app.close()


@pytest.mark.anyio
async def test_nor_is_it_a_store(narrow_url: str) -> None:
    """Beside a broker that takes every text."""
    app = App("narrow", broker="memory://", store=narrow_url)
    with pytest.raises(ConfigurationError, match="has the encoding"):
        await app.store.counts()
    await app.close()


def test_doctor_says_what_to_do(narrow_url: str) -> None:
    command = [sys.executable, "-m", "paigeant", "doctor", "-b", narrow_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 69
    assert "createdb --encoding=UTF8" in done.stdout


def test_the_encoding_of_the_environment_changes_nothing(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts travel as UTF-8 whatever PGCLIENTENCODING says."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    database = Database(postgres_url)
    with database.reader() as reader:
        assert reader.exec_driver_sql("SELECT %s::text", ("€",)).scalar_one() == "€"
    database.dispose()
