"""The documents' name for what workflow state is read from."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from paigeant import App, SagaRepository, Store
from paigeant.records.workflow import Status


def test_workflow_state_is_read_by_correlation_id(make_app, tmp_path: Path):
    """A program that only reads needs no more than this of the store."""
    app: App = make_app(f"sqlite:///{tmp_path / 'p.db'}")
    app.activity(name="report")(lambda: "r")
    workflow = app.dispatch("report")

    async def read(sagas: SagaRepository) -> tuple[Status, list[str], dict[str, int]]:
        record = await sagas.workflow(workflow.correlation_id)
        assert record is not None
        events = await sagas.events(workflow.correlation_id)
        return record.status, [one.type for one in events], await sagas.counts()

    assert isinstance(app.store, SagaRepository)
    assert asyncio.run(read(app.store)) == (Status.RUNNING, ["workflow_dispatched"], {"running": 1})


def test_a_store_can_do_all_that_a_repository_can():
    """And the repository alone writes nothing."""
    assert issubclass(Store, SagaRepository)
    reading = SagaRepository.__abstractmethods__
    assert {"workflow", "workflows", "events", "counts", "find"} <= reading < Store.__abstractmethods__
    assert not {"record", "cancel", "forget", "announce"} & reading
    with pytest.raises(TypeError, match="abstract"):
        SagaRepository()  # type: ignore[abstract]
