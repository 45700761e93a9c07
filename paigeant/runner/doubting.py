"""Decides with the runner what of the store is believed about a message, and records what is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from paigeant.decisions.forward import decide
from paigeant.decisions.outcome import Retrying
from paigeant.decisions.plan import Settle
from paigeant.dispatch.dispatcher import Dispatcher
from paigeant.errors import Untrusted
from paigeant.events import ErrorInfo
from paigeant.records.trust import END, NO_PROOF, Doubt
from paigeant.records.workflow import Standing, Status
from paigeant.runner.run import Run

log = structlog.stdlib.get_logger("paigeant.runner")


def _would_drop(status: Status, *, is_back: bool) -> bool:
    """Whether a message would not run for this status, which no order has caused."""
    if status is Status.COMPENSATING:
        return not is_back
    return status.is_terminal and status is not Status.CANCELLED


@dataclass(frozen=True, slots=True)
class Doubting:
    """Checks what the store says about the messages of one worker. Each doubt is an event ``ProofFailed``."""

    dispatcher: Dispatcher

    async def note(self, run: Run, doubts: Sequence[Doubt]) -> None:
        """Record these doubts."""
        for one in doubts:
            log.warning("what the store has for a step is not trusted", key=one.key, code=one.code, reason=one.reason)
        failed = [run.doubted(one) for one in doubts]
        await self.dispatcher.patiently(lambda: self.dispatcher.note(failed))

    async def believed(self, run: Run, standing: Standing) -> Standing | None:
        """Return what is believed of a standing. None if the message was settled, because another one takes its place.

        A cancelled or paused workflow is believed: its operator's order says so.

        Raises:
            KeysUnavailable: it is signed with a key that is not known here yet.
        """
        proving, message = self.dispatcher.proving, run.message
        if standing.done is not None:
            try:
                await self.dispatcher.patiently(partial(proving.done, message))
            except Untrusted as error:
                await self._run_again(run, Doubt("done", error.code, str(error)))
                return None
        elif standing.cancellation is None and _would_drop(standing.status, is_back=message.routing_slip.is_back):
            now = await self.dispatcher.patiently(partial(proving.status, message, standing.status))
            if now is not standing.status:
                text = f"the store says that the workflow is {standing.status.value}, and its statements do not"
                said = {"said": standing.status.value, "is": now.value}
                await self.note(run, [Doubt(END, NO_PROOF, text, said)])
                return replace(standing, status=now)
        return standing

    async def _run_again(self, run: Run, doubt: Doubt) -> None:
        """Settle a message whose step is said to have ended: its next attempt runs, because the row stays as it is."""
        now, message = run.clock.now(), run.message
        error = ErrorInfo(type="ProofFailed", message=doubt.reason)
        plan = decide(message, Retrying(run.execution(), error, 0.0, counted=False))
        packed = self.dispatcher.packing.packed(plan, now, message)
        told = Settle(record=(run.doubted(doubt),))  # it has the link of the attempt, whose row is a stranger's
        log.error("the end of a step in the store is not trusted: the step runs", reason=doubt.reason)
        await self.dispatcher.settling.carry_out(told, run.delivery, packed, cause=None, worker=run.worker, at=now)

    async def with_proved_ends(self, run: Run) -> Run:
        """Return the run without those ends of children and branches that are not proved, and with doubts about them.

        Raises:
            KeysUnavailable: they are signed with a key that is not known here yet.
        """
        proving = self.dispatcher.proving
        for key in run.ends:
            try:
                await self.dispatcher.patiently(partial(proving.end, run.message, key, run.clock.now()))
            except Untrusted as error:
                doubt = Doubt(key, error.code, str(error))
                run = replace(run.carrying(run.message.without_latest(key)), doubts=(*run.doubts, doubt))
        return run
