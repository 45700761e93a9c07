"""A program that waits for a result learns which step no live worker serves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from paigeant import App, Worker
from paigeant.errors import WorkflowTimeout
from paigeant.workflow import unserved

pytestmark = pytest.mark.anyio

SAYS = "no live worker serves 'archive' (queue myapp.archive)"


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    app = App("myapp", broker=f"sqlite:///{tmp_path / 'paigeant.db'}")

    @app.activity
    async def extract() -> str:
        return "text"

    yield app
    await app.close()


async def test_the_timeout_names_the_step(app: App) -> None:
    """In the error, with what to start as its hint."""
    workflow = await app.dispatch("extract", "archive")
    await Worker(app, burst=True).run()
    with pytest.raises(WorkflowTimeout, match="no live worker serves 'archive'") as caught:
        await workflow.result(timeout=0.01)
    assert SAYS in str(caught.value)
    assert "paigeant worker -A APP" in (caught.value.hint or "")


async def test_the_timeout_of_a_step_that_is_served_names_none(app: App) -> None:
    """It says where to look."""
    workflow = await app.dispatch("extract", "archive")
    app.activity(name="archive")(lambda text: text)
    assert app.store is not None
    await app.store.announce(Worker(app)._record())
    with pytest.raises(WorkflowTimeout) as caught:
        await workflow.result(timeout=0.01)
    assert "no live worker" not in str(caught.value)
    assert f"paigeant workflow {workflow}" in (caught.value.hint or "")


async def test_waiting_logs_it_once(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few seconds, with the workflow's id."""
    monkeypatch.setattr(unserved, "REMIND_AFTER", 0.05)
    workflow = await app.dispatch("archive")
    with capture_logs() as logs, pytest.raises(WorkflowTimeout):
        await workflow.result(timeout=1)
    assert [(one["event"], one["workflow"]) for one in logs if one["log_level"] == "warning"] == [(SAYS, str(workflow))]


async def test_a_result_that_is_there_in_time_logs_nothing(app: App) -> None:
    """The reminder ends with the waiting."""
    workflow = await app.dispatch("extract")
    await Worker(app, burst=True).run()
    with capture_logs() as logs:
        assert await workflow.result(timeout=10) == "text"
    assert logs == []
