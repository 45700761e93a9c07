"""Holding locks while steps run. A lock is a lease in the store, renewed here, and taken over when its holder dies.

A step that does not get all it wants waits in the store as one that waits for a signal does. Whoever frees a lock
grants it to the step that has waited longest; locks of the dead, what time gives back, and what fell in between are
found by every worker's next look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from paigeant.activity import Activity
from paigeant.errors import PaigeantError, StoreError, StoreRequired
from paigeant.limits.limit import Lock
from paigeant.limits.names import KEYS
from paigeant.message import PaigeantMessage
from paigeant.runner.run import Run
from paigeant.store import Store
from paigeant.timers import Timers

log = structlog.stdlib.get_logger("paigeant.locks")

_LONGEST_LOOK, _SHORTEST_LOOK = 1.0, 0.02
"""Seconds between two looks for locks that can be granted, at most and at least."""

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two questions to a store that is away."""


@dataclass(slots=True)
class Locks:
    """The locks of one worker. ``lease`` is how many seconds one is held after its holder's last sign of life."""

    store: Store
    timers: Timers
    lease: float
    _held: set[Lock] = field(default_factory=set)
    _sooner: asyncio.Event = field(default_factory=asyncio.Event)
    _pause: float = _LONGEST_LOOK

    async def take(self, wanted: Sequence[Lock]) -> str | None:
        """Take all of them, or say which somebody else has: another run of the same message here, too."""
        for lock in wanted:
            if lock in self._held:
                return lock.key
        lacking = await self.store.take_locks(wanted, self.lease)
        if lacking is None:
            self._held |= {lock for lock in wanted if lock.limit.period is None}
        return lacking

    async def lost(self, held: Sequence[Lock]) -> Lock | None:
        """One that was not held all the time, if any; else all are, for a lease from now. Waits for the store."""
        pause = _SHORTEST_PAUSE
        while True:
            try:
                kept = await self.store.keep_locks(held, self.lease)
                return next((lock for lock in held if lock not in kept), None)
            except StoreError as error:
                log.warning("cannot ask whether locks are held, trying again", error=str(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def free(self, freed: Collection[Lock]) -> None:
        """Give them to the next, or to nobody. If the store is away they end with their leases."""
        self._held.difference_update(freed)
        freed = [lock for lock in freed if lock.limit.period is None]
        try:
            await self.store.free_locks(freed)
        except StoreError as error:
            log.warning("could not free locks, they end with their leases", error=str(error))
            return
        for lock in freed:
            await self.grant(lock.key)

    async def pass_on(self, message: PaigeantMessage, worker: str) -> None:
        """A step that does not start, as its workflow is paused or over, keeps nobody from what it was granted."""
        if (turn := _turn(message)) is not None:
            await self.free([Lock(key=key, holder=message.id, worker=worker) for key in turn.keys])

    async def grant(self, key: str | None = None) -> None:
        """Send on the messages whose turn it is for this lock (default: for any)."""
        try:
            granted, pause = await self.store.grant_locks(self.lease, key)
            await self.timers.send(granted)
        except PaigeantError as error:  # any worker's next look finds it
            log.warning("could not grant locks", error=str(error))
            return
        if pause is not None and pause < self._pause:
            self._pause = pause
            self._sooner.set()

    async def watch(self) -> None:
        """Renew what is held and grant what is free, for ever."""
        loop = asyncio.get_running_loop()
        renew_at = loop.time()
        while True:
            if loop.time() >= renew_at:
                renew_at = loop.time() + self._longest_look
                await self._renew()
            self._pause = self._longest_look
            await self.grant()
            await self._until_next_look()

    @property
    def _longest_look(self) -> float:
        return min(self.lease / 4, _LONGEST_LOOK)

    async def _until_next_look(self) -> None:
        looked_at = asyncio.get_running_loop().time()
        while (left := looked_at + max(self._pause, _SHORTEST_LOOK) - asyncio.get_running_loop().time()) > 0:
            self._sooner.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._sooner.wait()

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


def locks_of(activity: Activity[..., Any], run: Run, prefix: str, locks: Locks | None) -> list[Lock]:
    """What this run takes before it starts.

    Raises:
        InvalidInput: a name cannot be made of the step's arguments.
        StoreRequired: there is nothing to keep it in.
    """
    message = run.message
    limits = activity.limits_of(message.step, message.routing_slip, prefix)
    if limits and locks is None:
        raise StoreRequired(f"{next(iter(limits))!r} is kept in a store, and this App has none")
    turn = _turn(message)
    about: dict[str, Any] = {"holder": message.id, "worker": run.worker, "granted_until": turn.until if turn else None}
    return [Lock(key=key, limit=limit, **about) for key, limit in limits.items()]


@dataclass(frozen=True, slots=True)
class _Turn:
    """What the store gave a message that waited, and until when it is kept for it."""

    until: float
    keys: tuple[str, ...]


def _turn(message: PaigeantMessage) -> _Turn | None:
    """The turn that this very message was given: not one of an earlier attempt."""
    for key, arrived in message.received.items():
        match arrived[-1:] if key.startswith(KEYS) and isinstance(arrived, list) else None:
            case [{"value": {"granted": message.id, "until": float() | int() as until, "keys": list(keys)}}]:
                return _Turn(until, tuple(one for one in keys if isinstance(one, str)))
    return None
