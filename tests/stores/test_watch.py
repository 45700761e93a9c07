"""Callers who wait for a workflow over a SQLite file, which does not speak first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from stores.builders import dispatched, workflow_completed

from paigeant.database import Database
from paigeant.stores import watch as watching
from paigeant.stores.sql import SqlStore
from paigeant.stores.watch import Wait, Watch

pytestmark = pytest.mark.anyio


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
def watch(url: str) -> Iterator[Watch]:
    database = Database(url)
    database.migrate("stores")
    yield Watch(database)
    database.dispose()


def new_wait(correlation_id: str = "w1") -> Wait:
    return Wait(correlation_id, asyncio.get_running_loop().create_future())


class Time:
    def __init__(self) -> None:
        self.at = 1_000.0

    def monotonic(self) -> float:
        return self.at


async def test_a_long_wait_is_looked_at_more_rarely(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth of its time passes between two looks, from 5 ms to 50 ms; a new wait is looked at often again."""
    time = Time()
    monkeypatch.setattr(watching, "time", time)
    watch.add(new_wait())
    pauses = []
    for passed in (0.0, 0.5, 1.5, 100.0):
        time.at += passed
        pauses.append(watch.pause)
    watch.add(new_wait("w2"))

    assert [*pauses, watch.pause] == pytest.approx([0.005, 0.005, 0.02, 0.05, 0.005])


async def test_an_end_before_a_new_connection_is_noticed(watch: Watch, url: str) -> None:
    """A connection's version says nothing to the next one, which may see the same number."""
    store = SqlStore(url)
    await store.record([dispatched("w1")])
    wait = new_wait()
    watch.add(wait)
    with watch._database.reader() as reader:
        watch.look(reader)
    assert not wait.future.done()
    await store.record([workflow_completed("w1")])
    watch.forget()
    with watch._database.reader() as reader:
        watch.look(reader)
    await asyncio.wait_for(wait.future, 5)
    await store.close()
