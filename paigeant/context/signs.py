"""Signs of life of a running step: heartbeats, progress and shown values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from paigeant.context.services import Services
from paigeant.context.state import StepState
from paigeant.errors import Superseded
from paigeant.wire.limits import refuse_too_large
from paigeant.wire.values import jsonable


@dataclass(frozen=True, slots=True)
class Signs:
    """Sends the signs of life of one step to its worker. Without a worker nothing is shown."""

    state: StepState
    services: Services

    async def heartbeat(self, details: Any) -> None:
        """Reset the heartbeat timeout and report progress, if there are details."""
        if self.state.delivery.lease.lost:
            raise Superseded()
        if self.services.pulse is not None:
            self.services.pulse.beat()
        if details is not None:
            serialized = jsonable(details, "details")
            refuse_too_large(serialized, "the progress reported", self.services.value_limit)
            self.state.report(serialized)
            if self.services.display is not None:
                await self.services.display.report(serialized)

    def heartbeat_sync(self, details: Any) -> None:
        """The same from a thread."""
        if self.services.pulse is not None:
            self.services.pulse.from_thread(partial(self.heartbeat, details))

    def emit(self, value: Any) -> None:
        """Show a value."""
        if self.services.display is not None:
            self.services.display.emit(value)

    def stream(self, event: Any) -> None:
        """Show an event of an agent."""
        if self.services.display is not None:
            self.services.display.stream(event)
