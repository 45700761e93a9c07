"""Cancels, pauses and resumes workflows. The store records each request; workers check it before each step."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from paigeant import store as roles
from paigeant.dispatch.dispatcher import Dispatcher
from paigeant.dispatch.timers import Timers
from paigeant.errors import PaigeantError, Untrusted, WorkflowError, WorkflowNotFound
from paigeant.events import Cancellation
from paigeant.records.trust import CANCEL, PAUSE, RESUME
from paigeant.records.workflow import STEERING_TAKES, Status, Steered

log = structlog.stdlib.get_logger("paigeant.steering")


@dataclass(frozen=True, slots=True)
class Steering:
    """Steers the workflows of one store."""

    dispatcher: Dispatcher
    store: roles.Steering
    timers: Timers

    async def cancel(self, correlation_id: str, compensate: bool, reason: str, by: str | None) -> None:
        """Cancel the workflow and its child workflows. After this call returns, none of their steps starts.

        Raises:
            WorkflowNotFound, WorkflowError: there is no such workflow, it has ended, or it is being compensated.
            StoreError: it is unknown whether it was cancelled.
        """
        proof = self._order(correlation_id, CANCEL, reason=reason, compensate=compensate)
        by = self.timers.named(by)
        wish = Cancellation(at=self.timers.clock.now(), reason=reason, by=by, compensate=compensate)
        found = self._found(correlation_id, await self.store.cancel(correlation_id, wish, proof))
        if not found.recorded and found.status is not Status.CANCELLED:
            raise _wrong(correlation_id, found.status, "cancelled")
        await self._take_effect(found)

    async def pause(self, correlation_id: str, by: str | None) -> None:
        """Pause the workflow and its child workflows. After this call returns, none of their steps starts.

        Raises:
            WorkflowNotFound, WorkflowError: there is no such workflow, or it is not running.
        """
        proof = self._order(correlation_id, PAUSE)
        found = self._found(correlation_id, await self.store.pause(correlation_id, self.timers.named(by), proof))
        if not found.recorded and found.status is not Status.PAUSED:
            raise _wrong(correlation_id, _MARKED if found.status is Status.RUNNING else found.status, "paused")
        await self._take_effect(found)

    async def resume(self, correlation_id: str, by: str | None) -> None:
        """Resume a paused workflow and its child workflows.

        Raises:
            WorkflowNotFound, WorkflowError: there is no such workflow, or it is not paused.
        """
        proof = self._order(correlation_id, RESUME)
        found = self._found(correlation_id, await self.store.resume(correlation_id, self.timers.named(by), proof))
        if not found.recorded:
            raise _wrong(correlation_id, found.status, "resumed")
        self.dispatcher.announce(found.recorded)
        await self._send_on()

    def _order(self, correlation_id: str, what: str, *, reason: str = "", compensate: bool = False) -> str | None:
        """Return the signed order; None for an App that does not sign.

        Raises:
            WorkflowError: the key of this App may not give it.
        """
        if (notary := self.dispatcher.notary) is None:
            return None
        now = self.timers.clock.now()
        try:
            return notary.order(correlation_id, what, now, reason=reason, compensate=compensate)
        except Untrusted as error:
            text = f"workflow {correlation_id} cannot be changed: {error}"
            hint = f'add to the rule of the key in the trust policy (PAIGEANT_TRUST): order = ["{what}"]'
            raise WorkflowError(text, correlation_id=correlation_id, hint=hint) from error

    def _found(self, correlation_id: str, found: Steered | None) -> Steered:
        if found is None:
            raise WorkflowNotFound(f"no workflow {correlation_id!r}", correlation_id=correlation_id)
        return found

    async def _take_effect(self, found: Steered) -> None:
        """Wait until no worker acts on the state from before this request."""
        self.dispatcher.announce(found.recorded)
        await self._send_on()
        await asyncio.sleep(STEERING_TAKES)

    async def _send_on(self) -> None:
        """Publish parked messages that are due now, and wake parents of the cancelled workflow."""
        try:
            await self.timers.sweep()
            await self.timers.match()
        except PaigeantError as error:  # any worker publishes them on its next poll
            log.warning("could not publish parked messages", error=str(error))


_MARKED = "being cancelled"

_HINTS: dict[str, str] = {
    Status.COMPENSATING: "its steps are being compensated, and it ends by itself",
    _MARKED: "its next message ends it, or starts its compensation",
}


def _wrong(correlation_id: str, status: str, wish: str) -> WorkflowError:
    hint = _HINTS.get(status, "see: paigeant workflow {id}").format(id=correlation_id)
    text = f"workflow {correlation_id} is {status}: it cannot be {wish}"
    return WorkflowError(text, correlation_id=correlation_id, hint=hint)
