"""Holding locks while steps run. A lock is a lease in the store, renewed here, and taken over when its holder dies.

A step that does not get its lock waits in the store as one that waits for a signal does. Whoever frees a lock grants it
to the step that has waited longest; locks of the dead, and what fell in between, are found by every worker's next look.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import structlog

from paigeant.activity import Activity
from paigeant.errors import PaigeantError, StoreError, StoreRequired
from paigeant.lock import KEY
from paigeant.message import PaigeantMessage
from paigeant.run import Run
from paigeant.store import Lock, Store
from paigeant.timers import Timers

log = structlog.stdlib.get_logger("paigeant.locks")

_LONGEST_LOOK = 1.0
"""Seconds between two looks for locks that can be granted, at most."""

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two questions to a store that is away."""


@dataclass(slots=True)
class Locks:
    """The locks of one worker. ``lease`` is how many seconds one is held after its holder's last sign of life."""

    store: Store
    timers: Timers
    lease: float
    _held: set[Lock] = field(default_factory=set)

    async def take(self, lock: Lock) -> bool:
        """Take it, or say that somebody else has it: another run of the same message here, too."""
        if lock in self._held or not await self.store.take_lock(lock, self.lease):
            return False
        self._held.add(lock)
        return True

    async def still_has(self, lock: Lock) -> bool:
        """Whether it was held all the time: then it is for a lease from now. A store that is away is waited for."""
        pause = _SHORTEST_PAUSE
        while True:
            try:
                return lock in await self.store.keep_locks([lock], self.lease)
            except StoreError as error:
                log.warning("cannot ask whether a lock is held, trying again", lock=lock.key, error=str(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def free(self, lock: Lock) -> None:
        """Give it to the next, or to nobody. If the store is away it ends with its lease."""
        self._held.discard(lock)
        try:
            await self.timers.send(await self.store.free_lock(lock, self.lease))
        except PaigeantError as error:
            log.warning("could not free a lock, it ends with its lease", lock=lock.key, error=str(error))

    async def pass_on(self, message: PaigeantMessage, worker: str) -> None:
        """A step that does not start, as its workflow is paused or over, keeps nobody from the lock it was granted."""
        for key in filter(lambda key: key.startswith(KEY), message.received):
            await self._pass_on(Lock(key=key, holder=message.id, worker=worker))

    async def _pass_on(self, lock: Lock) -> None:
        try:
            if await self.take(lock):
                await self.free(lock)
        except StoreError as error:
            log.warning("could not pass on a lock, it ends with its lease", lock=lock.key, error=str(error))

    async def grant(self, key: str | None = None) -> None:
        """Send on the messages whose turn it is for this lock (default: for any)."""
        try:
            await self.timers.send(await self.store.grant_locks(self.lease, key))
        except PaigeantError as error:  # any worker's next look finds it
            log.warning("could not grant locks", error=str(error))

    async def watch(self) -> None:
        """Renew what is held and grant what is free, for ever."""
        while True:
            await asyncio.sleep(min(self.lease / 4, _LONGEST_LOOK))
            await self._renew()
            await self.grant()

    async def _renew(self) -> None:
        if not (held := set(self._held)):
            return
        try:
            lost = held.difference(await self.store.keep_locks(held, self.lease))
        except StoreError as error:
            log.warning("could not renew locks", error=str(error))
            return
        for lock in lost & self._held:
            self._held.discard(lock)
            log.warning("a lock was taken over: the result of its step will be refused", lock=lock.key)


def lock_of(activity: Activity[..., Any], run: Run, prefix: str, locks: Locks | None) -> Lock | None:
    """The lock that this run takes, if it takes one.

    Raises:
        InvalidInput: its name cannot be made of the step's arguments.
        StoreRequired: there is nothing to keep it in.
    """
    message = run.message
    name = activity.lock_of(message.step, message.routing_slip)
    if name is None:
        return None
    if locks is None:
        raise StoreRequired(f"the lock {name!r} is kept in a store, and this App has none")
    key = f"{KEY}{prefix}:{name}"
    return Lock(key=key, holder=message.id, worker=run.worker, granted=key in message.received)
