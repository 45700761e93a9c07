"""Reads and writes the journal of an agent step while the agent runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, TypeVar
from uuid import uuid4

import structlog
from pydantic_core import to_json

from paigeant.agents.effects import note_taken
from paigeant.context import ActivityContext
from paigeant.decisions.interrupts import Interrupt, Retry
from paigeant.errors import JournalMismatch, MessageTooLarge, Superseded
from paigeant.records.journal import Turn, Unit
from paigeant.runtime.outage import Outage
from paigeant.runtime.patience import Patience
from paigeant.store import Journals
from paigeant.wire.limits import refuse_too_large
from paigeant.wire.usage import NOTHING, Usage, total

T = TypeVar("T")

log = structlog.stdlib.get_logger("paigeant.agents")

_TAKEN_OVER = "another worker has taken the step over"


class Stopped(Interrupt):
    """Ends the run between two units."""


@dataclass(slots=True)
class Journal:
    """The finished units of an agent step, for one run of it. A unit in the journal is not repeated.

    Without a store the journal records nothing, and a step that runs again repeats every unit. ``spent`` is the usage
    of all units of this step; each counts once, and those of earlier runs are included. ``underway`` is the usage that
    running units have reserved. ``replayed`` counts the units that this run read instead of repeating them.
    """

    context: ActivityContext
    turn: Turn
    store: Journals | None = None
    recorded: dict[str, Unit] = field(default_factory=dict)
    spent: Usage = NOTHING
    underway: Usage = NOTHING
    replayed: int = 0
    _patience: Patience = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """An outage of the store is waited out for as long as the lease of the step holds: a heartbeat tells."""
        self._patience = Patience(Outage(log, "reach the journal"), between=self.context.heartbeat)

    @classmethod
    async def open(cls, context: ActivityContext) -> Journal:
        """Continue the journal of the running step. From now on the store refuses units of earlier runs.

        Raises:
            Superseded, Retry: a later run of the step has begun.
        """
        message, services = context.message, context.services
        turn = Turn(
            correlation_id=message.correlation_id,
            step_id=message.step.id,
            epoch=message.epoch,
            attempt=message.attempt,
            resumes=message.resumes,
            deliveries=context.deliveries,
            holder=f"{services.worker}:{uuid4().hex}",
            after=message.branch.after if message.branch is not None else None,
        )
        journal = cls(context, turn, services.store)
        if services.store is not None:
            await journal._take(services.store)
        return journal

    async def _take(self, store: Journals) -> None:
        units = await self._patience.ask(lambda: store.take_journal(self.turn))
        if units is None:
            self._give_way()
        else:
            if (vouching := self.context.services.vouching) is not None:
                units = vouching.believed(self.turn, units)
            self.recorded = {unit.key: unit for unit in units if unit.current}
            for key, unit in self.recorded.items():
                if not self.has_forgotten(key):
                    note_taken(self.context.state, unit.value)
            self._spend(total(unit.usage for unit in units))

    def _spend(self, spent: Usage) -> None:
        self.context.state.used = self.spent = spent

    def find(self, key: str, name: str, *asked: str) -> Unit | None:
        """Return the unit with this key, or None if it is not finished.

        Its digest must be one of ``asked``: there is one for each rule that releases of paigeant have used.

        Raises:
            JournalMismatch: the journal has another unit under this key.
        """
        unit = self.recorded.get(key)
        if unit is None:
            return None
        if unit.name != name or unit.digest not in asked:
            now = "asked something else" if unit.name == name else f"and is {name!r} now"
            raise self.mismatch(f"unit {key!r} was {unit.name!r}, {now}")
        self.replayed += 1
        return unit

    def mismatch(self, why: str) -> JournalMismatch:
        """The error for a journal that other code wrote."""
        return JournalMismatch(
            f"the journal of step {self.turn.step_id!r} does not match: {why}",
            hint=f"run the code that wrote it, or restart the agent: paigeant retry {self.turn.correlation_id} --fresh",
        )

    def place_of(self, key: str) -> str:
        """The key of a unit in the journal. It changes each time that the unit is forgotten."""
        while self.has_forgotten(key):
            key += "~"
        return key

    def has_forgotten(self, key: str) -> bool:
        """Whether the journal has forgotten the unit, so that it no longer counts as finished."""
        return f"forgotten:{key}" in self.recorded

    async def forget(self, key: str) -> None:
        """Make a unit count as not finished. Its usage still counts."""
        await self.add(Unit(key=f"forgotten:{key}", name="forgotten", digest="", value=None))

    @contextmanager
    def doing(self, requests: int = 0, tool_calls: int = 0) -> Iterator[None]:
        """Surround a unit that is not in the journal, and check that the workflow's budget allows it.

        Raises:
            BudgetExceeded: the budget does not allow it.
            Stopped: the workflow is cancelled, so no further unit may begin.
        """
        if self.context.cancelled:
            raise Stopped("the workflow was cancelled")
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
        """Count a finished unit and record it as soon as the store accepts it, because it was paid for.

        With ``is_kept=False`` only its usage is recorded, and the next run repeats the unit.

        Raises:
            Superseded, Retry: a later run of the step has begun.
            MessageTooLarge: the value of the unit exceeds the setting ``value_limit``. Its usage is recorded.
        """
        self._spend(self.spent.plus(unit.usage))
        try:
            refuse_too_large(unit.value, f"the result of {unit.name!r}", self.context.services.value_limit)
        except MessageTooLarge:
            await self._write(unit, is_kept=False)
            raise
        await self._write(unit, is_kept=is_kept)

    async def _write(self, unit: Unit, *, is_kept: bool) -> None:
        if not is_kept:  # under a key of its own, which no run looks up
            unit = replace(unit, key=f"{unit.key}#{self.turn.holder}", value=None)
        if (vouching := self.context.services.vouching) is not None:
            unit = vouching.signed(self.turn, unit)
        await self._unless_late(lambda store: store.write_unit(self.turn, unit))
        if is_kept and self.store is not None:
            self.recorded[unit.key] = unit

    async def _unless_late(self, write: Callable[[Journals], Awaitable[bool]]) -> None:
        store = self.store
        if store is not None and not await self._patience.ask(lambda: write(store)):
            self._give_way()

    def _give_way(self) -> None:
        """End this run, because a later one has begun. If the lease still holds, the step is retried after that one."""
        if self.context.state.delivery.lease.lost:
            raise Superseded(_TAKEN_OVER)
        raise Retry(_TAKEN_OVER, after=1.0, counted=False)


def digest(asked: Iterable[Any]) -> str:
    """A short hash of the input of a unit. Values that JSON cannot represent count by their type."""
    return sha256(to_json(list(asked), fallback=_by_type, inf_nan_mode="strings")).hexdigest()[:32]


def _by_type(value: Any) -> str:
    return type(value).__qualname__
