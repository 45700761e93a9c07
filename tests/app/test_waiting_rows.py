"""Waiting rows that cannot be sent on: each is dealt with by itself and holds up none of the others."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from helpers import until_async

from paigeant import App, RetryPolicy, Workflow, await_signal, sleep
from paigeant.errors import TransportError

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["joined", "apart"])
def app(request: pytest.FixtureRequest, make_app: Callable[..., App], tmp_path: Path) -> App:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    app = make_app(store if request.param == "joined" else f"sqlite:///{tmp_path / 'broker.db'}", store)

    @app.activity
    def end() -> str:
        return "done"

    return app


def spoil(path: Path, wait_id: str, **columns: Any) -> None:
    """Change a waiting row, as another program could."""
    settings = ", ".join(f"{name} = ?" for name in columns)
    with closing(sqlite3.connect(path, timeout=30)) as rows, rows:
        rows.execute(f"UPDATE paigeant_wait SET {settings} WHERE wait_id = ?", (*columns.values(), wait_id))


async def waiting(app: App, *steps: Any) -> tuple[Workflow, Any]:
    """A workflow that waits at these steps, and its row."""
    workflow = await app.dispatch(*steps, "end")
    (row,) = await until_async(lambda: app.store.held(workflow.correlation_id))
    return workflow, row


def with_fields(body: bytes, **fields: Any) -> bytes:
    return json.dumps(json.loads(body) | fields).encode()


async def test_rows_that_no_worker_can_read_are_set_aside(app, running, tmp_path):
    """The reason names the row; timers of other workflows fire."""
    async with running(app):
        spoilt = [await waiting(app, sleep(3600)) for _ in range(3)]
        bodies = [b"hello", with_fields(spoilt[1][1].body, received={"timer": 5}), b"{}"]
        for (_, row), body in zip(spoilt, bodies, strict=True):
            spoil(tmp_path / "store.db", row.wait_id, body=body, due_at=1.0)
        good = await app.dispatch(sleep(0.2), "end")
        assert await good.result(20) == "done"
        letters = await until_async(lambda: _letters(app, 3))
        assert {letter.message_id for letter in letters} == {row.wait_id for _, row in spoilt}
        assert {letter.kind.value for letter in letters} == {"unreadable"}
        assert {letter.correlation_id for letter in letters} == {one.correlation_id for one, _ in spoilt}
        assert await app.store.held() == []


async def _letters(app: App, count: int) -> Any:
    letters = await app.dead_letters.list()
    return letters if len(letters) == count else None


async def test_a_value_of_a_wrong_shape_is_set_aside_with_its_row(app, running, tmp_path):
    """The message itself could be read."""
    async with running(app):
        _, row = await waiting(app, await_signal("x"))
        spoil(tmp_path / "store.db", row.wait_id, value="[5]", fired_at=1.0)
        (letter,) = await until_async(lambda: _letters(app, 1))
        assert "'signal:x': an entry is an object" in letter.reason
        assert letter.activity == row.activity


async def test_a_row_of_a_newer_release_is_left_to_its_workers(app, running, tmp_path):
    """It is neither set aside nor in the way of others."""
    async with running(app):
        _, row = await waiting(app, sleep(3600))
        newer = with_fields(row.body, spec_version="2.0")
        spoil(tmp_path / "store.db", row.wait_id, body=newer, due_at=1.0)
        others = [await app.dispatch(sleep(0.01 * n), "end") for n in range(5)]
        assert [await one.result(20) for one in others] == ["done"] * 5
        assert await app.dead_letters.list() == []
        with closing(sqlite3.connect(tmp_path / "store.db", timeout=30)) as rows:
            assert rows.execute("SELECT wait_id, body FROM paigeant_wait").fetchall() == [(row.wait_id, newer)]


async def test_a_row_stays_until_its_message_is_published(app, running, tmp_path, monkeypatch):
    """A broker that refuses one message delays that one only, until it takes it."""
    refused: list[str] = []
    async with running(app):
        send = app.transport.send

        async def picky(outgoing: Any, record: Any = ()) -> None:
            if any(b'"blocked"' in one.body for one in outgoing) and len(refused) < 2:
                refused.append(outgoing[0].id)
                raise TransportError("no room")
            await send(outgoing, record)

        blocked = await app.dispatch(sleep(0.3), "end", variables={"who": "free"})
        monkeypatch.setattr(app.transport, "send", picky, raising=False)
        named = blocked.correlation_id
        (row,) = await until_async(lambda: app.store.held(named))
        spoil(
            tmp_path / "store.db",
            row.wait_id,
            body=row.body.replace(b'"free"', b'"blocked"'),
        )
        free = await app.dispatch(sleep(0.3), "end")
        assert await free.result(20) == "done"
        assert await blocked.result(30) == "done"
        assert refused == [row.wait_id] * 2


async def test_apps_that_share_a_store_publish_their_own_messages_only(make_app, running, tmp_path):
    """Whichever looks first; locks and retries as well as sleeps."""
    store = f"sqlite:///{tmp_path / 'store.db'}"
    alpha, beta = [
        make_app(f"sqlite:///{tmp_path / name}.db", store, queue_prefix=name, lease_seconds=2) for name in ("a", "b")
    ]
    tried: list[int] = []

    @alpha.activity(lock=True, retry=RetryPolicy(attempts=2, delay=0.1))
    async def work(n: int) -> int:
        tried.append(n)
        if tried.count(n) == 1:
            raise ValueError("not yet")
        return n

    @beta.activity
    async def other() -> None:
        pass

    async with running(beta), running(alpha, concurrency=5):
        workflows = [await alpha.dispatch(sleep(0.1), work.step(n=n)) for n in range(5)]
        assert [await one.result(60) for one in workflows] == [*range(5)]
        depths = await beta.transport.queues()
    assert sum(depths.values()) == 0
