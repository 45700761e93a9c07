"""Workflows that are over are forgotten: with their families, by hand and by workers, wherever large values are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import until_async

from paigeant import ActivityContext, App, scatter

pytestmark = pytest.mark.anyio

LARGE = "x" * 100_000


@pytest.fixture
def app(app: App, tmp_path: Path) -> App:
    """An activity with a child, and one that fails if it is told to."""
    app.settings = app.settings.model_copy(update={"claim_check": f"file://{tmp_path / 'values'}"})

    @app.activity
    def parent(ctx: ActivityContext, text: str) -> Any:
        return ctx.wait_for(ctx.dispatch(child.step(text=text)))

    @app.activity
    def child(text: str) -> int:
        if not text:
            raise ValueError("no text")
        return len(text)

    return app


async def test_families_are_forgotten_with_what_they_kept(app, running, tmp_path):
    """But for those with a dead letter, of which a retry may be wanted."""
    async with running(app):
        done = await app.dispatch("parent", scatter("child"), variables={"text": LARGE})
        await done.result(20)
        fork = await done.fork("2")
        await fork.result(20)
        failed = await app.dispatch(app.activities["child"].step(text=""))
        with pytest.raises(Exception, match="no text"):
            await failed.result(20)
        assert [*(tmp_path / "values").rglob("*")]
        (family,) = [one async for one in app.retention.families(0)]
        assert family.root == done.correlation_id
        assert len(family.members) == 5  # the child, a branch, the fork, and a branch of that
        assert await app.retention.forget(older_than=60) == 0
        assert await app.retention.forget(older_than=0) == 5
        assert [one.correlation_id for one in await app.store.workflows()] == [failed.correlation_id]
        assert not [*(tmp_path / "values").rglob("*")]


async def test_workers_forget_what_ended_longer_ago_than_is_set(app, running):
    """The setting is in seconds."""
    app.settings = app.settings.model_copy(update={"retention": 0.01})
    async with running(app):
        workflow = await app.dispatch(app.activities["child"].step(text="short"))

        async def is_forgotten() -> bool:
            return await app.store.workflow(workflow.correlation_id) is None

        await until_async(is_forgotten)
