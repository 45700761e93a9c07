from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from paigeant import ActivityContext, App, RetryPolicy


@pytest.fixture(autouse=True)
def _nothing_from_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No .env, no pyproject.toml, and no database that would be left behind if one were made."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def app() -> App:
    """An App with activities of each kind, which nothing ever connects to a broker."""
    app = App("simulated")
    _of_each_kind(app)
    _of_many_tries(app)
    return app


def _of_each_kind(app: App) -> None:
    @app.activity
    async def double(x: int) -> int:
        return x * 2

    @app.activity
    def increase(x: int) -> int:
        return x + 1

    @app.activity
    async def count(x: int):
        for n in range(x):
            yield n

    @app.activity
    def total(numbers: list[int]) -> int:
        return sum(numbers)


def _of_many_tries(app: App) -> None:
    @app.activity(retry=RetryPolicy(attempts=3, delay=8, jitter=False))
    def second_try(x: int, ctx: ActivityContext) -> int:
        if ctx.attempt == 1:
            raise ValueError("not yet")
        return x

    @app.activity
    async def family(x: int, ctx: ActivityContext) -> int:
        child = ctx.dispatch(app.activities["double"].step(x=x))
        ctx.sleep(3)
        return ctx.wait_for(child, type=int) + ctx.await_signal("more", schema=int)

    @app.activity
    async def reserve(x: int) -> int:
        return x

    @reserve.compensate
    def free(x: int) -> None:
        pass

    @app.activity
    def refuse() -> None:
        raise ValueError("no")


@pytest.fixture
def steps(app: App):
    """The activities by name, to write itineraries with."""
    return app.activities


@pytest.fixture
def quietly() -> Iterator[None]:
    """Workers have much to say about trouble that was made on purpose."""
    logger = logging.getLogger("paigeant")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(before)
