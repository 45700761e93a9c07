from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from signing import Deployment

from paigeant import App, Worker

Running = Callable[..., AbstractAsyncContextManager[Worker]]


@pytest.fixture(autouse=True)
def _nothing_from_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No .env, no pyproject.toml, no file left behind."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _signed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """With PAIGEANT_TEST_SIGNED=1 every test of this folder runs with signing required."""
    if os.environ.get("PAIGEANT_TEST_SIGNED"):
        deployment = Deployment(tmp_path_factory.mktemp("trust"))
        deployment.add("everybody")
        for name, value in deployment.settings("everybody").items():
            monkeypatch.setenv(name, value)


@pytest.fixture(params=["sqlite", "memory"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where record, publish and acknowledge are one transaction, and where they are three."""
    return f"sqlite:///{tmp_path / 'paigeant.db'}" if request.param == "sqlite" else "memory://"


@pytest.fixture
def make_app(prefix: str) -> Iterator[Callable[..., App]]:
    """Makes Apps with queues of their own, and closes them."""
    made = []

    def make(broker: str, store: str | None = None, **options: Any) -> App:
        made.append(App("test", broker, store, **{"queue_prefix": prefix} | options))
        return made[-1]

    yield make
    for app in made:
        app.close_sync()


@pytest.fixture
def app(make_app: Callable[..., App], broker: str) -> App:
    """An App on each kind of broker."""
    return make_app(broker)


@pytest.fixture(params=["rabbitmq and postgres", "redis and sqlite"])
def elsewhere(request: pytest.FixtureRequest, make_app: Callable[..., App], tmp_path: Path) -> App:
    """An App on each other kind of broker, with a store beside it."""
    if request.param == "rabbitmq and postgres":
        return make_app(request.getfixturevalue("rabbitmq_url"), request.getfixturevalue("postgres_url"))
    return make_app(request.getfixturevalue("redis_url"), f"sqlite:///{tmp_path / 'store.db'}")


@pytest.fixture
def running() -> Running:
    """``async with running(app):`` a worker of the App serves in this loop; it is stopped at the end."""

    @asynccontextmanager
    async def serve(app: App, **options: Any) -> AsyncIterator[Worker]:
        worker, ready = Worker(app, **options), asyncio.Event()
        serving = asyncio.ensure_future(worker.run(ready.set))
        waiting = asyncio.ensure_future(ready.wait())
        await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            waiting.cancel()
            serving.result()
        try:
            yield worker
        finally:
            worker.stop()
            await asyncio.wait_for(serving, 20)

    return serve
