"""A SQLite file that is deleted, or replaced by a backup, while a worker has it open."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from helpers import served

from paigeant import App
from paigeant.database import sqlite

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _nothing_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_told", set())


def delete(path: Path) -> None:
    for one in path.parent.glob(f"{path.name}*"):
        one.unlink()


def put_back(path: Path) -> None:
    """As an operator does who restores a backup."""
    backup = path.with_name("backup.db")
    with sqlite3.connect(path) as live, sqlite3.connect(backup) as copy:
        live.backup(copy)
    copy.close()
    live.close()
    delete(path)
    backup.rename(path)


@pytest.mark.parametrize("place", ["joined", "broker", "store"])
@pytest.mark.parametrize("trouble", [delete, put_back])
async def test_a_worker_uses_the_new_file(
    make_app: Callable[..., App], tmp_path: Path, place: str, trouble: Callable[[Path], None]
) -> None:
    """It notices, says so once for each file, and goes on; so does an App that had dispatched before."""
    files = {"broker": tmp_path / "one.db", "store": tmp_path / ("one.db" if place == "joined" else "two.db")}
    app = make_app(*(f"sqlite:///{path}" for path in files.values()))

    @app.activity
    async def double(n: int) -> int:
        return n * 2

    with structlog.testing.capture_logs() as logs:
        async with served(app):
            assert await (await app.dispatch(double.step(n=1))).result(timeout=20) == 2
            trouble(files["store" if place == "store" else "broker"])
            assert await (await app.dispatch(double.step(n=2))).result(timeout=20) == 4
    told = [one for one in logs if "deleted or replaced" in one["event"]]
    assert len(told) == 1
    assert told[0]["log_level"] == "warning"


async def test_another_process_may_replace_it(make_app: Callable[..., App], tmp_path: Path) -> None:
    """The worker finds what others dispatch into the new file."""
    path = tmp_path / "one.db"
    app, other = make_app(f"sqlite:///{path}"), make_app(f"sqlite:///{path}?")
    for one in (app, other):

        @one.activity
        async def double(n: int) -> int:
            return n * 2

    async with served(app):
        assert await (await app.dispatch("double", variables={"n": 1})).result(timeout=20) == 2
        delete(path)
        begun = await other.dispatch("double", variables={"n": 2})
        assert await begun.result(timeout=20) == 4
