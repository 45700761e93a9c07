"""Whoever redrives a dead letter dies on the way: it is still there, or it goes on once. Never neither, never both."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from crash.redriver import make_app
from helpers import until_async
from processes import run

from paigeant import App, Worker

pytestmark = pytest.mark.anyio

REDRIVER = Path(__file__).with_name("redriver.py")
PATIENCE = 60.0

WITH_STORE = {
    "before the transaction": True,
    "in the transaction": True,
    "after the commit": False,
    "taken to be sent": False,
    "sent": False,
}
"""Where the process dies, and whether the letter is still there then."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@asynccontextmanager
async def serving(app: App) -> AsyncIterator[None]:
    worker = Worker(app)
    running = asyncio.ensure_future(worker.run())
    try:
        yield
    finally:
        worker.stop()
        await running


async def fail(app: App) -> str:
    workflow = await app.dispatch("work")

    async def set_aside() -> bool:
        return await app.dead_letters.count() == 1

    async with serving(app):
        await until_async(set_aside, PATIENCE)
    return str(workflow)


async def redrive_and_die(*arguments: str) -> None:
    died = await asyncio.to_thread(run, str(REDRIVER), *arguments, cwd=Path.cwd())
    assert died.returncode == -signal.SIGKILL


def runs(place: Path) -> list[int]:
    return [int(line) for line in (place / "runs").read_text().split()]


async def goes_on_once(urls: tuple[str, str], prefix: str, place: Path, point: str, is_left: bool) -> None:
    app = make_app(*urls, prefix)
    try:
        workflow = await fail(app)
        (place / "repaired").touch()
        await redrive_and_die(*urls, prefix, point)
        left = await app.dead_letters.list()
        assert bool(left) is is_left
        for letter in left:
            await app.dead_letters.redrive(letter.id)
        async with serving(app):
            assert await app.workflow(workflow).result(PATIENCE) == 1
        assert runs(place) == [0, 1]
        assert await app.dead_letters.count() == 0
    finally:
        await app.close()


@pytest.mark.parametrize("point", WITH_STORE)
async def test_with_broker_and_store_in_one_database(place: Path, prefix: str, point: str) -> None:
    """What was taken out of the dead letters is found by any worker."""
    url = f"sqlite:///{place / 'paigeant.db'}"
    await goes_on_once((url, url), prefix, place, point, WITH_STORE[point])


@pytest.mark.parametrize("point", ["taken to be sent"])
async def test_with_rabbitmq_and_a_store(place: Path, prefix: str, rabbitmq_url: str, point: str) -> None:
    """The same where they are apart."""
    urls = rabbitmq_url, f"sqlite:///{place / 'store.db'}"
    await goes_on_once(urls, prefix, place, point, WITH_STORE[point])


@pytest.fixture(params=["sqlite", "redis"])
def broker(request: pytest.FixtureRequest, place: Path) -> str:
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return f"sqlite:///{place / 'paigeant.db'}"


@pytest.mark.parametrize(("point", "is_left"), [("before settling", True), ("settled", False)])
async def test_without_a_store(broker: str, place: Path, prefix: str, point: str, is_left: bool) -> None:
    """Sent and taken out of its queue are one act; a letter held by the dead comes back with its lease."""
    app = make_app(broker, "none", prefix)
    count: Callable[..., Any] = app.dead_letters.count
    try:
        await fail(app)
        (place / "repaired").touch()
        await redrive_and_die(broker, "none", prefix, point)
        if is_left:
            await until_async(count, PATIENCE)
            (letter,) = await app.dead_letters.list()
            await app.dead_letters.redrive(letter.id)

        async def went_on() -> bool:
            return len(runs(place)) == 2

        async with serving(app):
            await until_async(went_on, PATIENCE)
        assert runs(place) == [0, 1]
        assert await app.dead_letters.list() == []
    finally:
        await app.close()
