"""Reads the outputs of earlier steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from paigeant.context.services import Services
from paigeant.context.state import StepState
from paigeant.wire.log import LogEntry
from paigeant.wire.typed_values import revive
from paigeant.wire.values import copied


@dataclass(frozen=True, slots=True)
class Outputs:
    """The outputs of the steps before a running step. Each one returned is a copy that the step may change."""

    state: StepState
    services: Services

    @property
    def previous(self) -> Any:
        """The output of the step before, as JSON types; None at the start and in a compensation."""
        slip = self.state.message.routing_slip
        entry = None if slip.is_back else slip.previous
        return None if entry is None else copied(self._read(entry))

    def of(self, step: str, kind: Any = Any) -> Any:
        """The output of an earlier step, by name or id, as this type. ``revive`` makes a copy of every value."""
        return revive(self._read(self.state.message.routing_slip.entry(step)), kind)

    def _read(self, entry: LogEntry) -> Any:
        if not entry.aside:
            return entry.output
        if self.services.read is None:
            raise LookupError(f"the output of {entry.name!r} is in the store, which only a running step reaches")
        return self.services.read(entry)
