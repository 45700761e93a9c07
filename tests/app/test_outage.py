"""A store that is away for a while: who waits for a result goes on waiting, for as long as they said."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from helpers import until_async
from structlog.testing import capture_logs

from paigeant.errors import WorkflowTimeout
from paigeant.events import WorkflowCompleted, WorkflowDispatched
from paigeant.stores.sql import SqlStore
from paigeant.workflow import Workflow

PATIENCE = 60.0
BEGUN = WorkflowDispatched(correlation_id="w", at=1.0, name="w", app="a", message_id="m")
ENDED = WorkflowCompleted(correlation_id="w", at=2.0, output=42)


@contextmanager
def outage(postgres_url: str) -> Iterator[None]:
    """Nobody can connect to the database, and whoever was connected is thrown out."""
    server, _, name = postgres_url.rpartition("/")
    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


async def has_seen(workflow: Workflow) -> bool:
    return workflow._patience.outage.reason is not None


@pytest.mark.anyio
@pytest.mark.parametrize("begins", ["before", "during"])
async def test_an_outage_of_the_store_is_waited_out(postgres_url: str, begins: str) -> None:
    """Whether it comes while somebody waits or was there before; it is logged once."""
    store = SqlStore(postgres_url)
    await store.record([BEGUN])
    workflow = Workflow("w", store)
    result: asyncio.Task[Any] | None = None
    if begins == "before":
        result = asyncio.ensure_future(workflow.result(PATIENCE))
        await until_async(lambda: _is_waited_for(store), PATIENCE)
    with capture_logs() as logs:
        with outage(postgres_url):
            result = result or asyncio.ensure_future(workflow.result(PATIENCE))
            await until_async(lambda: has_seen(workflow), PATIENCE)
            with pytest.raises(WorkflowTimeout, match="nobody could tell: cannot use the store"):
                await workflow.result(0.001)
        await store.record([ENDED])
        assert await result == 42
    warnings = [log["event"] for log in logs if log["log_level"] == "warning"]
    assert warnings == [f"could not read about workflow {workflow} in the store"]
    await store.close()


async def _is_waited_for(store: SqlStore) -> bool:
    return await store.access.thread.run(lambda: bool(store.access.watch))
