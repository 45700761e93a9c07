"""Finds the steps that no live worker serves, and reminds a program that waits for such a step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from types import MappingProxyType

from paigeant.errors import PaigeantError
from paigeant.records.workflow import Status, WorkerRecord, unserved_steps
from paigeant.store import Store

REMIND_AFTER = 3.0
"""Seconds that a program waits before a reminder tells it that no worker serves a step."""

MOST = 100
"""Maximum number of running workflows that are checked, newest first."""

_PATIENCE = 2.0
"""Maximum seconds for which the check for unserved steps may delay an error."""


async def unserved_of(store: Store, correlation_id: str) -> list[str]:
    """Return one line for each activity that this workflow needs and that no live worker serves."""
    found = await store.workflow(correlation_id)
    if found is None or found.status.is_terminal:
        return []
    return unserved_steps([found], await store.workers())


async def unserved_running(
    store: Store, workers: Collection[WorkerRecord], depths: Mapping[str, int] = MappingProxyType({})
) -> list[str]:
    """Do the same for the newest running workflows, apart from queues that hold messages: ``unserved`` names those."""
    newest = await store.workflows(status=Status.RUNNING, parent=None, limit=MOST)
    found = [one for brief in newest if (one := await store.workflow(brief.correlation_id)) is not None]
    return unserved_steps(found, workers, apart_from=[*filter(depths.get, depths)])


async def unserved_at_once(store: Store, correlation_id: str) -> list[str]:
    """:func:`unserved_of` for an error text. It takes two seconds at most; an unreachable store adds no lines."""
    with suppress(PaigeantError, TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            return await unserved_of(store, correlation_id)
    return []


@asynccontextmanager
async def reminding(store: Store, correlation_id: str, tell: Callable[[str], object]) -> AsyncIterator[None]:
    """While the block waits for this workflow, call ``tell`` once per unserved step, after a few seconds."""
    reminder = asyncio.create_task(_remind(store, correlation_id, tell))
    try:
        yield
    finally:
        reminder.cancel()
        with suppress(asyncio.CancelledError):
            await reminder


async def _remind(store: Store, correlation_id: str, tell: Callable[[str], object]) -> None:
    await asyncio.sleep(REMIND_AFTER)
    with suppress(PaigeantError):
        for text in await unserved_of(store, correlation_id):
            tell(text)
