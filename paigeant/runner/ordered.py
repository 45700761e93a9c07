"""Obeys a cancellation or a pause in the store only if an operator with the right to it has signed the order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from paigeant.decisions.orders import unordered
from paigeant.dispatch.dispatcher import Dispatcher
from paigeant.errors import KeysUnavailable, Untrusted
from paigeant.records.trust import CANCEL, NO_ORDER, PAUSE, ProofFailed, StatementRecord
from paigeant.records.workflow import Standing, Status
from paigeant.runtime.clock import Clock
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.proof import Order, Signed

if TYPE_CHECKING:  # it brings cryptography, which an App that does not sign need not load
    from paigeant.security.notary import Notary

log = structlog.stdlib.get_logger("paigeant.runner")


@dataclass(frozen=True, slots=True)
class Orders:
    """Checks the orders for one worker.

    The cancellation or pause of a child is believed without an order: its parent or a join may have caused it.
    """

    dispatcher: Dispatcher
    worker: str
    clock: Clock

    async def believed(self, message: PaigeantMessage, standing: Standing, *, is_noted: bool = True) -> Standing:
        """Return the standing without the cancellation and the pause that nobody has ordered.

        ``is_noted``: each of them is an event ``ProofFailed``.
        """
        notary, store = self.dispatcher.notary, self.dispatcher.store
        is_steered = standing.cancellation is not None or standing.status in (Status.PAUSED, Status.CANCELLED)
        if notary is None or store is None or not notary.is_strict or not is_steered or message.parent is not None:
            return standing
        workflow = message.correlation_id
        found = await self.dispatcher.patiently(partial(store.statements, [workflow]))
        missing = unordered(standing, [*_orders(notary, found.get(workflow, ()))], workflow, notary.policy)
        if not missing:
            return standing
        believed = _without(standing, missing, is_back=message.routing_slip.is_back)
        for what in missing if is_noted else ():
            await self._note(message, what, _difference(standing, believed))
        return believed

    async def _note(self, message: PaigeantMessage, what: str, difference: Mapping[str, Any]) -> None:
        text = f"nobody with the right to it has signed an order to {what} the workflow"
        log.warning("an order in the store is not trusted", order=what, correlation_id=message.correlation_id)
        failed = ProofFailed(
            correlation_id=message.correlation_id,
            message_id=message.id,
            step_id=message.step.id,
            activity=message.step.name,
            attempt=message.attempt,
            worker=self.worker,
            at=self.clock.now(),
            key=what,
            code=NO_ORDER,
            reason=text,
            given=difference,
        )
        await self.dispatcher.patiently(lambda: self.dispatcher.note([failed]))


def _without(standing: Standing, missing: Sequence[str], *, is_back: bool) -> Standing:
    """Return the standing without what nobody has ordered."""
    steered = {Status.CANCELLED: CANCEL, Status.PAUSED: PAUSE}
    status = standing.status
    if steered.get(status) in missing:
        status = Status.COMPENSATING if is_back else Status.RUNNING
    return replace(standing, status=status, cancellation=None if CANCEL in missing else standing.cancellation)


def _difference(said: Standing, believed: Standing) -> Mapping[str, Any]:
    """Return what the store has and what is believed: the store puts it right if nobody has changed it since."""
    cancelled_at = said.cancellation.at if said.cancellation is not None else None
    return {"said": said.status.value, "is": believed.status.value, "cancelled_at": cancelled_at}


def _orders(notary: Notary, records: Sequence[StatementRecord]) -> Iterator[Signed[Order]]:
    """Yield the orders about a workflow among these statements whose signatures are right."""
    for record in records:
        try:
            if (order := notary.order_in(record.token)) is not None:
                yield order
        except (Untrusted, KeysUnavailable) as error:
            log.warning("a statement in the store is not trusted", reason=str(error))
