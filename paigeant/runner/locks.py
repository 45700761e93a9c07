"""Acquires and renews locks while steps run. A lock is a lease in the store; it expires when its holder dies.

A step that does not get all its locks is parked in the store, like a step that waits for a signal. A worker that
releases a lock grants it to the step that has waited longest. Every worker polls for the other cases: locks of dead
workers, places that a rate limit frees, and grants that a crash interrupted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from paigeant import store as roles
from paigeant.activity import Activity
from paigeant.decisions.limit import Lock
from paigeant.decisions.lock_names import KEYS
from paigeant.dispatch.timers import Timers
from paigeant.errors import StoreRequired
from paigeant.runner.run import Run
from paigeant.runtime.outage import Outage
from paigeant.runtime.patience import Patience
from paigeant.wire.message import PaigeantMessage

log = structlog.stdlib.get_logger("paigeant.locks")

_LONGEST_LOOK, _SHORTEST_LOOK = 1.0, 0.02
"""Seconds between two polls for locks that can be granted: maximum and minimum."""


@dataclass(slots=True)
class Locks:
    """The locks of one worker. ``lease`` is the number of seconds after which an unrenewed lock expires."""

    store: roles.Locks
    timers: Timers
    lease: float
    _held: set[Lock] = field(default_factory=set)
    _sooner: asyncio.Event = field(default_factory=asyncio.Event)
    _pause: float = _LONGEST_LOOK
    _granting: Outage = field(default_factory=lambda: Outage(log, "grant locks"))
    _renewing: Outage = field(default_factory=lambda: Outage(log, "renew locks"))
    _freeing: Outage = field(default_factory=lambda: Outage(log, "release locks, which expire with their leases"))
    _asking: Outage = field(default_factory=lambda: Outage(log, "ask whether locks are held"))

    async def take(self, wanted: Sequence[Lock]) -> str | None:
        """Acquire all of these locks or none. Return None, or the key of a lock that another run or worker has."""
        for lock in wanted:
            if lock in self._held:
                return lock.key
        lacking = await self.store.take_locks(wanted, self.lease)
        if lacking is None:
            self._held |= {lock for lock in wanted if lock.limit.period is None}
        return lacking

    async def lost(self, held: Sequence[Lock]) -> Lock | None:
        """Renew these locks. Return one that was lost meanwhile, or None. Waits until the store answers."""
        kept = await Patience(self._asking, hopeless=()).ask(lambda: self.store.renew_locks(held, self.lease))
        return next((lock for lock in held if lock not in kept), None)

    async def free(self, freed: Collection[Lock]) -> None:
        """Release these locks and grant them to waiting steps. If the store is away, they expire with their leases."""
        self._held.difference_update(freed)
        freed = [lock for lock in freed if lock.limit.period is None]
        is_free = False
        with self._freeing.noted():
            await self.store.free_locks(freed)
            is_free = True
        for lock in freed if is_free else ():
            await self.grant(lock.key)

    async def pass_on(self, message: PaigeantMessage, worker: str) -> None:
        """Release the locks reserved for a step that does not start, for example of a paused workflow."""
        if (reservation := _reservation(message)) is not None:
            await self.free([Lock(key=key, holder=message.id, worker=worker) for key in reservation.keys])

    async def grant(self, key: str | None = None) -> None:
        """Publish the messages that are next for this lock (default: for any lock)."""
        pause: float | None = None
        with self._granting.noted():  # the next poll of any worker finds the rest
            granted, pause = await self.store.grant_locks(self.lease, key)
            await self.timers.send(granted)
        if pause is not None and pause < self._pause:
            self._pause = pause
            self._sooner.set()

    async def watch(self) -> None:
        """Renew held locks and grant free ones, for ever."""
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
        lost: Collection[Lock] = ()
        with self._renewing.noted():
            lost = held.difference(await self.store.renew_locks(held, self.lease))
        for lock in self._held.intersection(lost):
            self._held.discard(lock)
            log.warning("a lock was taken over: the result of its step will be rejected", lock=lock.key)


def locks_of(activity: Activity[..., Any], run: Run, prefix: str, locks: Locks | None) -> list[Lock]:
    """Return the locks that this run needs before it starts.

    Raises:
        InvalidInput: the step's arguments do not yield a lock name.
        StoreRequired: the App has no store.
    """
    message = run.message
    limits = activity.limits_of(message.step, message.routing_slip, prefix)
    if limits and locks is None:
        raise StoreRequired(f"{next(iter(limits))!r} needs a store, and this App has none")
    reservation = _reservation(message)
    about: dict[str, Any] = {
        "holder": message.id,
        "worker": run.worker,
        "granted_until": reservation.until if reservation else None,
    }
    return [Lock(key=key, limit=limit, **about) for key, limit in limits.items()]


@dataclass(frozen=True, slots=True)
class _Reservation:
    """Locks that the store reserves for a waiting message, until a time (epoch seconds)."""

    until: float
    keys: tuple[str, ...]


def _reservation(message: PaigeantMessage) -> _Reservation | None:
    """Return the locks reserved for exactly this message; those of an earlier attempt do not count."""
    for key, arrived in message.received.items():
        match arrived[-1:] if key.startswith(KEYS) and isinstance(arrived, list) else None:
            case [{"value": {"granted": message.id, "until": float() | int() as until, "keys": list(keys)}}]:
                return _Reservation(until, tuple(one for one in keys if isinstance(one, str)))
    return None
