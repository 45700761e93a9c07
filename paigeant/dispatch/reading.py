"""Reads the data of a step before it runs: its standing, values outside the message, outputs of earlier steps."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from paigeant.dispatch.proving import Proving
from paigeant.errors import ForeignValue, StoreRequired
from paigeant.records.workflow import Standing
from paigeant.store import Store
from paigeant.wire import aside
from paigeant.wire.claim_check import Keeper, Kept
from paigeant.wire.log import LogEntry
from paigeant.wire.message import PaigeantMessage


@dataclass(frozen=True, slots=True)
class Reading:
    """Reads for one App. A message that was due ``late_after`` seconds ago is late: recovery may consider it lost."""

    store: Store | None
    keeper: Keeper | None
    late_after: float
    proving: Proving

    async def standing(self, message: PaigeantMessage) -> Standing:
        """Return the standing of the message: whether it may run. Without a store every message may."""
        if self.store is None:
            return Standing()
        asking = self.store.standing(message.id, message.correlation_id, self.late_after)
        if message.causation_id is not None and not message.epoch:
            return await asking  # a message that was redriven may be of a workflow that no worker has run
        standing, is_known = await asyncio.gather(asking, self.store.knows(message.correlation_id))
        return replace(standing, is_known=is_known)

    async def whole(self, message: PaigeantMessage) -> PaigeantMessage:
        """Return the message with the values its current step needs, and the output of the previous step.

        Raises:
            ValueMissing: one of them is not where it was stored.
            ForeignValue: one of them belongs to a workflow that this one may not read.
            StoreError: it cannot be read now.
        """
        slip = message.routing_slip
        if self.store is not None and (entry := slip.aside) is not None:
            output = await asyncio.to_thread(self.output, message, entry)
            message = message.model_copy(update={"routing_slip": slip.with_previous(output)})
        if needed := aside.needed(message):
            await self._refuse_foreign(message.correlation_id, needed)
            kept = await self.keeper.fetch(needed.keys()) if self.keeper is not None else {}
            message = await asyncio.to_thread(aside.whole, message, kept)
        return message

    async def _refuse_foreign(self, correlation_id: str, needed: Mapping[Kept, str]) -> None:
        """Raise an error if a value belongs to a workflow that this one may not read.

        Without a store nobody knows how workflows are related. A value is then found by its digest, which only those
        know who have seen the value or a message that refers to it.
        """
        owners = {kept.of for kept in needed} - {correlation_id}
        if not owners or self.store is None:
            return
        readable = await self.store.readable(correlation_id, owners)
        for kept, what in needed.items():
            if kept.of != correlation_id and kept.of not in readable:
                raise ForeignValue(f"{what} belongs to workflow {kept.of!r}, which is unrelated to {correlation_id!r}")

    def output(self, message: PaigeantMessage, entry: LogEntry) -> Any:
        """Return the output of an earlier step from the store, for the step of this message. Blocks.

        Raises:
            StoreRequired: this App has no store.
            ValueMissing: the store does not have the output.
            UnprovedOutput: the store has another output than the step's signed link says.
            ForeignValue: the output belongs to a workflow that this one may not read.
            StoreError: the store cannot be read now.
            KeysUnavailable: the output is signed with a key that is not known here yet.
        """
        if self.store is None:
            raise StoreRequired(
                f"the output of {entry.name!r} is in a store, and this App has none",
                hint="configure the store of the service that dispatched the workflow",
            )
        output = self.store.output(entry.source or "", message.correlation_id)
        self.proving.output(message, entry, output)
        return output
