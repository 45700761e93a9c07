"""Deletes workflows that ended long ago."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from paigeant import store as roles
from paigeant.dispatch.dispatcher import Dispatcher
from paigeant.errors import StoreRequired
from paigeant.records.workflow import Family
from paigeant.runtime.clock import Clock
from paigeant.runtime.outage import Outage

log = structlog.stdlib.get_logger("paigeant.retention")

_PAGE = 100
_MOST_OFTEN, _LEAST_OFTEN = 1.0, 3600.0
"""Seconds between two polls of a worker."""

Age = float | timedelta
"""An age: seconds, or a timedelta."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Deletes ended workflows from one App's store.

    A family is deleted as a whole: a workflow that no other workflow dispatched, all workflows that it dispatched,
    their forks, and so on. It stays while any of them runs, waits, has a dead letter, or has ended more recently.
    ``statuses`` are the accepted final statuses of the workflow that began the family; default: all.

    Raises everywhere:
        StoreRequired: the App has no store.
        StoreError: some workflows may remain; a second call continues.
    """

    dispatcher: Dispatcher
    clock: Clock

    async def families(self, older_than: Age, statuses: Collection[str] = ()) -> AsyncIterator[Family]:
        """Yield the families that would be deleted, those that ended first at the beginning."""
        async for page in self._pages(self.since(older_than), statuses):
            for family in page:
                yield family

    async def forget(self, older_than: Age, statuses: Collection[str] = ()) -> int:
        """Delete everything about these workflows, large values included. Return the number of workflows."""
        before, gone = self.since(older_than), 0
        async for page in self._pages(before, statuses):
            await self._drop(page)  # if this process dies now, the next one finds the workflows and continues
            gone += await self._store.forget(page, before)
        return gone

    async def drop_values(self, older_than: Age, statuses: Collection[str] = ()) -> int:
        """Delete only the large values that were stored for these workflows. Return the number of values."""
        return sum([await self._drop(page) async for page in self._pages(self.since(older_than), statuses)])

    async def serve(self, seconds: float) -> None:
        """Delete, for ever, the workflows that ended ``seconds`` ago or earlier."""
        outage = Outage(log, "delete workflows that ended long ago")
        while True:
            with outage.noted():
                if gone := await self.forget(seconds):
                    log.info("workflows forgotten", workflows=gone)
            await asyncio.sleep(min(max(seconds / 10, _MOST_OFTEN), _LEAST_OFTEN))

    def since(self, older_than: Age) -> float:
        """Return the time before which the workflows must have ended, in epoch seconds."""
        seconds = older_than.total_seconds() if isinstance(older_than, timedelta) else older_than
        return self.clock.now() - seconds

    async def _pages(self, before: float, statuses: Collection[str]) -> AsyncIterator[Sequence[Family]]:
        last: Family | None = None
        while page := await self._store.ended(before, statuses, after=last, limit=_PAGE):
            last = page[-1]
            if over := [family for family in page if family.members]:
                yield over

    async def _drop(self, families: Sequence[Family]) -> int:
        keeper = self.dispatcher.keeper
        return await keeper.drop([one for family in families for one in family.members]) if keeper is not None else 0

    @property
    def _store(self) -> roles.Retention:
        if self.dispatcher.store is None:
            raise StoreRequired(
                "deleting old workflows needs a store, and this App has none",
                hint='give it one: App(..., store="sqlite:///paigeant.db") or PAIGEANT_STORE_URL',
            )
        return self.dispatcher.store
