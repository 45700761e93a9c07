"""Starts workflows: records and publishes the first message, once for each workflow id and idempotency key."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from paigeant.decisions.idempotency import plan_digest, refuse_other, refuse_other_plan
from paigeant.dispatch.packing import Packed, Packing
from paigeant.dispatch.posting import Posting
from paigeant.events import WorkflowDispatched
from paigeant.records.workflow import KeyState, KeyUse
from paigeant.store import Keys
from paigeant.wire import aside, codec
from paigeant.wire.message import PaigeantMessage

_LOOKS = 0.1
"""Seconds between two polls whether another process has published a workflow's first message."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """Starts workflows for one App."""

    posting: Posting
    packing: Packing

    async def start_once(self, begun: Packed, use: KeyUse) -> None:
        """Publish a workflow's first message, unless another process has published it under the same idempotency key.

        If another process is about to publish it, this waits some seconds. If the outcome is still unknown then, this
        publishes the message as well: both have the same id.

        Raises:
            IdempotencyConflict: the key belongs to a different workflow.
            TransportError, StoreError: nothing was published, or nobody knows whether it was.
        """
        assert self.posting.store is not None, "an App without a store takes no key"
        if await self._is_ours_to_send(self.posting.store, use):
            await self.start(begun, repeated=True)
            await self.posting.store.mark_sent(use.correlation_id)

    async def _is_ours_to_send(self, store: Keys, use: KeyUse) -> bool:
        """Whether no process has published the message. Waits while another process is about to."""
        while True:
            known = await store.take_key(use)
            refuse_other(use, known)
            if known.state is not KeyState.SENDING:
                return known.state is KeyState.TAKEN
            await asyncio.sleep(_LOOKS)

    async def start(self, begun: Packed, *, repeated: bool = False) -> None:
        """Publish a workflow's first message. When this returns, the broker has the message.

        ``repeated``: the message may have been published before. In a joined database this is certain if the workflow
        is known; the message may be finished, and published again it would run again. Elsewhere the inbox recognizes
        finished messages, so the message is published again.

        Raises:
            IdempotencyConflict: a different workflow was dispatched under this id.
            TransportError, StoreError: nothing was published, or nobody knows whether it was.
        """
        if repeated and await self._is_known(begun) and self.posting.joined:
            return
        if self.posting.store is not None and self.posting.joined:
            await self.posting.store.connect()
        await self.posting.post(begun.outgoing, begun.facts, begun.parcels)

    async def _is_known(self, begun: Packed) -> bool:
        """Whether the store has the same workflow under this id."""
        fact = begun.facts[0]
        assert isinstance(fact, WorkflowDispatched)
        return bool(await self._known_as_planned([fact]))

    async def refuse_changed(self, packed: Packed) -> None:
        """Raise an error if a step that runs again dispatches different workflows than in its earlier run.

        Raises:
            IdempotencyConflict: a workflow is different; the error names the first one.
        """
        begun = [fact for fact in packed.facts if isinstance(fact, WorkflowDispatched) and fact.branch is None]
        if begun:
            await self._known_as_planned(begun)

    async def _known_as_planned(self, begun: Sequence[WorkflowDispatched]) -> Collection[str]:
        """Return the ids of those of these workflows that the store knows.

        Raises:
            IdempotencyConflict: the store has a different workflow under one of the ids.
        """
        if self.posting.store is None:
            return ()
        known = await self.posting.store.plans([fact.correlation_id for fact in begun])
        for fact in begun:
            name, slip = known.get(fact.correlation_id, (fact.name, None))
            if slip is not None and fact.slip is not None:
                ours, theirs = plan_digest(fact.name, fact.slip), plan_digest(name, slip)
                refuse_other_plan(fact.correlation_id, ours, theirs)
        return known.keys()

    async def introduce(self, message: PaigeantMessage, at: float) -> None:
        """Record a workflow that another program started, as the first worker with a store receives it.

        The record names no parent: a parent that this store knows would have recorded the dispatch.
        """
        body = codec.encode(aside.stripped(message), sys.maxsize)
        fact = self.packing.dispatched(message, body, at)
        plan = message.chain.plan.token if message.chain is not None else None
        await self.posting.note([replace(fact, parent=None, branch=None, introduced=True, proof=plan)])
