"""Writing and reading the journal of an agent step while the agent runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, TypeVar
from uuid import uuid4

import structlog
from pydantic_core import to_json

from paigeant.context import ActivityContext
from paigeant.errors import JournalMismatch, StoreError, StoreRefused, Superseded
from paigeant.interrupts import Retry
from paigeant.journal import Turn, Unit
from paigeant.store import Store
from paigeant.usage import NOTHING, Usage, total

T = TypeVar("T")

log = structlog.stdlib.get_logger("paigeant.agents")

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two tries to reach a store that is away."""

_TAKEN_OVER = "another worker has taken the step over"


@dataclass(slots=True)
class Journal:
    """What an agent step has done, for one run of it. A unit that is in the journal is not done again.

    Without a store nothing is kept: a step that runs again does everything again. ``spent`` is what the units of this
    step used, each counted once, those of earlier runs included.
    """

    context: ActivityContext
    turn: Turn
    store: Store | None = None
    recorded: dict[str, Unit] = field(default_factory=dict)
    spent: Usage = NOTHING
    underway: Usage = NOTHING
    replayed: int = 0

    @classmethod
    async def open(cls, context: ActivityContext) -> Journal:
        """Continue the journal of the step that runs here; no earlier run of it can write any more.

        Raises:
            Superseded, Retry: a later run of the step has begun.
        """
        message, store = context.message, context._store
        turn = Turn(
            correlation_id=message.correlation_id,
            step_id=message.step.id,
            epoch=message.epoch,
            attempt=message.attempt,
            resumes=message.resumes,
            deliveries=context.deliveries,
            holder=f"{context._worker}:{uuid4().hex}",
            after=message.branch.after if message.branch is not None else None,
        )
        journal = cls(context, turn, store)
        if store is not None:
            await journal._take(store)
        return journal

    async def _take(self, store: Store) -> None:
        units = await self._insist(lambda: store.take_journal(self.turn))
        if units is None:
            self._give_way()
        else:
            self.recorded = {unit.key: unit for unit in units if unit.current}
            self.context.used = self.spent = total(unit.usage for unit in units)

    def find(self, key: str, name: str, asked: str) -> Unit | None:
        """What came of this unit, if it is finished.

        Raises:
            JournalMismatch: at this place of the run the journal has something else.
        """
        unit = self.recorded.get(key)
        if unit is None:
            return None
        if (unit.name, unit.digest) != (name, asked):
            raise JournalMismatch(
                f"the journal of step {self.turn.step_id!r} does not match: unit {key!r} was {unit.name!r}"
                f"{', asked something else' if unit.name == name else f', and is {name!r} now'}",
                hint=f"run the code that wrote it, or begin anew: paigeant retry {self.turn.correlation_id} --fresh",
            )
        self.replayed += 1
        return unit

    @contextmanager
    def doing(self, requests: int = 0, tool_calls: int = 0) -> Iterator[None]:
        """Around a unit that is not in the journal: it has to be within the workflow's budget.

        Raises:
            BudgetExceeded: it is not.
        """
        slip, one = self.context.message.routing_slip, Usage(requests=requests, tool_calls=tool_calls)
        if slip.budget is not None:
            used = slip.used.plus(self.spent, self.underway)
            slip.budget.check(used, requests=requests, tool_calls=tool_calls)
        self.underway = self.underway.plus(one)
        try:
            yield
        finally:
            self.underway = self.underway.minus(one)

    async def add(self, unit: Unit, is_kept: bool = True) -> None:
        """Count a finished unit, and write it down as soon as the store takes it: it was paid for.

        Raises:
            Superseded, Retry: a later run of the step has begun.
        """
        self.context.used = self.spent = self.spent.plus(unit.usage)
        if not is_kept:  # only what it used is: under a key of its own, where nobody looks for it
            unit = replace(unit, key=f"{unit.key}#{self.turn.holder}", value=None)
        await self._unless_late(lambda store: store.write_unit(self.turn, unit))

    async def restart(self) -> None:
        """Forget what led to a dead end: the next attempt begins from the beginning."""
        await self._unless_late(lambda store: store.restart_journal(self.turn))

    async def _unless_late(self, write: Callable[[Store], Awaitable[bool]]) -> None:
        store = self.store
        if store is not None and not await self._insist(lambda: write(store)):
            self._give_way()

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Wait out an outage of the store, as long as the step is ours."""
        pause = _SHORTEST_PAUSE
        while True:
            try:
                return await call()
            except StoreRefused:
                raise
            except StoreError as error:
                log.warning("cannot reach the journal, trying again", error=str(error), delay=pause)
            await self.context.heartbeat()
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _give_way(self) -> None:
        """Raised where the lease is lost as well; without that it is ours, and the next attempt comes last."""
        if self.context._delivery.lease.lost:
            raise Superseded(_TAKEN_OVER)
        raise Retry(_TAKEN_OVER, after=1.0, counted=False)


def digest(asked: Iterable[Any]) -> str:
    """A short name for what a unit was asked. What cannot be written as JSON counts by its type."""
    return sha256(to_json(list(asked), fallback=_by_type, inf_nan_mode="strings")).hexdigest()[:32]


def _by_type(value: Any) -> str:
    return type(value).__qualname__
