"""How long workflows are remembered that are over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from paigeant.clock import Clock
from paigeant.dispatch import Dispatcher
from paigeant.errors import PaigeantError, StoreRequired
from paigeant.records import Family
from paigeant.store import Store

log = structlog.stdlib.get_logger("paigeant.retention")

_PAGE = 100
_MOST_OFTEN, _LEAST_OFTEN = 1.0, 3600.0
"""Seconds between two looks of a worker."""

Age = float | timedelta
"""How long ago: seconds, or a timedelta."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Forgets workflows of one App's store that are over.

    A family is forgotten as a whole: a workflow that no other one began, all that it dispatched, the forks of these,
    and so on. It stays as long as any of them runs, waits, has a dead letter, or has ended more lately. ``statuses``
    say how the one that began the family ended; default: in whatever way.

    Raises everywhere:
        StoreRequired: the App has no store.
        StoreError: some may not be forgotten yet; the same again goes on.
    """

    dispatcher: Dispatcher
    clock: Clock

    async def families(self, older_than: Age, statuses: Collection[str] = ()) -> AsyncIterator[Family]:
        """What would be forgotten, those first that ended first."""
        async for page in self._pages(self.since(older_than), statuses):
            for family in page:
                yield family

    async def forget(self, older_than: Age, statuses: Collection[str] = ()) -> int:
        """Delete all that is known of these, large values included; how many workflows those were."""
        before, gone = self.since(older_than), 0
        async for page in self._pages(before, statuses):
            await self._drop(page)  # if this process dies now, the next one finds the workflows and goes on
            gone += await self._store.forget(page, before)
        return gone

    async def drop_values(self, older_than: Age, statuses: Collection[str] = ()) -> int:
        """Delete only the large values that were kept for these; how many."""
        return sum([await self._drop(page) async for page in self._pages(self.since(older_than), statuses)])

    async def serve(self, seconds: float) -> None:
        """Forget, for ever, what ended so long ago."""
        while True:
            try:
                if gone := await self.forget(seconds):
                    log.info("workflows forgotten", workflows=gone)
            except PaigeantError as error:
                log.warning("could not forget workflows that ended long ago", error=str(error))
            await asyncio.sleep(min(max(seconds / 10, _MOST_OFTEN), _LEAST_OFTEN))

    def since(self, older_than: Age) -> float:
        """Before when they have ended, in epoch seconds."""
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
    def _store(self) -> Store:
        if self.dispatcher.store is None:
            raise StoreRequired(
                "which workflows have ended is known to a store, and this App has none",
                hint='give it one: App(..., store="sqlite:///paigeant.db") or PAIGEANT_STORE_URL',
            )
        return self.dispatcher.store
