"""Cancelling, pausing and resuming workflows: the wish is recorded in the store, and whoever holds a message obeys."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from paigeant.dispatch import Dispatcher
from paigeant.errors import PaigeantError, WorkflowError, WorkflowNotFound
from paigeant.events import Cancellation
from paigeant.records import STANDS_FOR, Status, Steered
from paigeant.store import Store
from paigeant.timers import Timers

log = structlog.stdlib.get_logger("paigeant.steering")


@dataclass(frozen=True, slots=True)
class Steering:
    """Steers the workflows of one store."""

    dispatcher: Dispatcher
    store: Store
    timers: Timers

    async def cancel(self, correlation_id: str, compensate: bool, reason: str, by: str | None) -> None:
        """End the workflow, and those it dispatched. When this returns, no step of them starts any more.

        Raises:
            WorkflowNotFound, WorkflowError: there is no such workflow, or it has ended, or is being taken back.
            StoreError: it is unknown whether it was cancelled.
        """
        wish = Cancellation(at=self.timers.clock.now(), reason=reason, by=by, compensate=compensate)
        found = self._found(correlation_id, await self.store.cancel(correlation_id, wish))
        if not found.recorded and found.status is not Status.CANCELLED:
            raise _wrong(correlation_id, found.status, "cancelled")
        await self._take_effect(found)

    async def pause(self, correlation_id: str, by: str | None) -> None:
        """Let no step of the workflow start, nor of those it dispatched. When this returns, none starts any more.

        Raises:
            WorkflowNotFound, WorkflowError: there is no such workflow, or it is not running.
        """
        found = self._found(correlation_id, await self.store.pause(correlation_id, by))
        if not found.recorded and found.status is not Status.PAUSED:
            raise _wrong(correlation_id, _MARKED if found.status is Status.RUNNING else found.status, "paused")
        await self._take_effect(found)

    async def resume(self, correlation_id: str, by: str | None) -> None:
        """Let a paused workflow go on, and those it dispatched.

        Raises:
            WorkflowNotFound, WorkflowError: there is no such workflow, or it is not paused.
        """
        found = self._found(correlation_id, await self.store.resume(correlation_id, by))
        if not found.recorded:
            raise _wrong(correlation_id, found.status, "resumed")
        self.dispatcher.announce(found.recorded)
        await self._send_on()

    def _found(self, correlation_id: str, found: Steered | None) -> Steered:
        if found is None:
            raise WorkflowNotFound(f"no workflow {correlation_id!r}", correlation_id=correlation_id)
        return found

    async def _take_effect(self, found: Steered) -> None:
        """Wait until no worker acts any more on what it was told before."""
        self.dispatcher.announce(found.recorded)
        await self._send_on()
        await asyncio.sleep(STANDS_FOR)

    async def _send_on(self) -> None:
        """What waited may be due now, and a parent may wait for what was cancelled."""
        try:
            await self.timers.sweep()
            await self.timers.match()
        except PaigeantError as error:  # any worker's next look finds it
            log.warning("could not send on what was waiting", error=str(error))


_MARKED = "being cancelled"

_HINTS: dict[str, str] = {
    Status.COMPENSATING: "what it did is being taken back, and it ends by itself",
    _MARKED: "its next message ends it, or takes back what it did",
}


def _wrong(correlation_id: str, standing: str, wish: str) -> WorkflowError:
    hint = _HINTS.get(standing, "see: paigeant workflow {id}").format(id=correlation_id)
    text = f"workflow {correlation_id} is {standing}: it cannot be {wish}"
    return WorkflowError(text, correlation_id=correlation_id, hint=hint)
