"""Checks rows of the store against the signed statements there, for an App that signs.

Each method does nothing without a notary, and for a message that is not signed: ``signing = "accept"`` believes those.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paigeant.decisions.evidence import judge_child, judge_done, judge_join, judge_result
from paigeant.decisions.history import Proven
from paigeant.decisions.judge import MOST_ABOVE
from paigeant.errors import KeysUnavailable, MessageError, UnprovedOutput, Untrusted
from paigeant.records.trust import NO_PROOF
from paigeant.records.workflow import Status, WorkflowRecord
from paigeant.store import Store
from paigeant.wire.arrivals import CHILD
from paigeant.wire.frame import is_frame
from paigeant.wire.ids import derive_child_id
from paigeant.wire.join import KEY as JOIN
from paigeant.wire.log import LogEntry
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.proof import Chain

if TYPE_CHECKING:  # it brings cryptography, which an App that does not sign need not load
    from paigeant.security.notary import Notary

EVIDENCE = "somebody has written to the database of the store; the row is left there as evidence"

_AT_ONCE = 20
"""Number of workflows that are verified before other tasks of the event loop have their turn."""


@dataclass(frozen=True, slots=True)
class Proving:
    """Checks rows for one App."""

    store: Store | None
    notary: Notary | None

    def output(self, message: PaigeantMessage, entry: LogEntry, output: Any) -> None:
        """Check the output that the store has for an earlier step. Blocks.

        Raises:
            UnprovedOutput: the step's signed link says another one, or there is no link.
            KeysUnavailable: it is signed with a key that is not known here yet.
        """
        if self.notary is None or self.store is None or message.chain is None:
            return
        from paigeant.security.proving import judge_stored_output

        try:
            judge_stored_output(self.notary, message.chain, entry, output, self.store)
        except Untrusted as error:
            if self._counts(error):
                text = f"the output of {entry.name!r} in the store is not trusted: {error}"
                raise UnprovedOutput(error.code, text, hint=EVIDENCE) from None

    async def done(self, message: PaigeantMessage) -> None:
        """Check a row that says that the step of the message has ended.

        Raises:
            Untrusted: no signed link says so.
            KeysUnavailable: it is signed with a key that is not known here yet.
        """
        if self.notary is None or self.store is None or message.chain is None:
            return
        from paigeant.security.proving import statements_in

        said = statements_in(self.notary, (await self.store.proofs([message.id])).get(message.id, ()))
        try:
            judge_done(message, message.chain, said.links, said.plans, self.notary.policy)
        except Untrusted as error:
            if self._counts(error):
                raise said.doubtful(error) from None

    async def status(self, message: PaigeantMessage, said: Status) -> Status:
        """Return the status of a workflow whose row says that it has ended, or that it is compensated now.

        Raises:
            KeysUnavailable: the statements are signed with a key that is not known here yet.
        """
        if self.notary is None or self.store is None or message.chain is None:
            return said
        try:
            proven = await self._history(message.correlation_id)
        except Untrusted as error:
            return Status.RUNNING if self._counts(error) else said
        if proven.status is None and not self.notary.is_strict:
            return said
        return proven.standing

    async def result(self, record: WorkflowRecord) -> None:
        """Check that a workflow ended as the store has it, and with this output.

        A cancelled workflow has no link: its end is an order.

        Raises:
            Untrusted: its statements do not prove it.
            KeysUnavailable: they are signed with a key that is not known here yet.
        """
        if self.notary is None or self.store is None or record.status is Status.CANCELLED:
            return
        try:
            proven = await self._ended(record.correlation_id, record.status)
            if record.status is Status.COMPLETED:
                judge_result(record.output, proven)
        except Untrusted as error:
            if self._counts(error):
                raise

    def refusal(self, body: bytes, now: float) -> Untrusted | None:
        """Return why the bytes of a message in the store must not be published, or None if they may.

        A message whose plan has expired may: the worker that receives it sets it aside.
        """
        if self.notary is None:
            return None
        if not is_frame(body):
            return Untrusted("unsigned", "the message is not signed") if self.notary.is_strict else None
        try:
            self.notary.open(body, now)
        except Untrusted as error:
            return None if error.code == "expired" else error
        except MessageError as error:
            return Untrusted("frame", str(error))
        except KeysUnavailable:
            return None
        return None

    async def _ended(self, workflow: str, status: Status) -> Proven:
        proven = await self._history(workflow)
        if proven.status is not status:
            found = "has not ended" if proven.status is None else f"is {proven.status.value}"
            raise Untrusted(
                NO_PROOF, f"the store has that the workflow is {status.value}, its statements that it {found}"
            )
        return proven

    async def _history(self, workflow: str) -> Proven:
        """Return what the statements of a workflow prove; those of its ancestors are read, too."""
        assert self.notary is not None, "the caller has looked"
        assert self.store is not None, "the caller has looked"
        from paigeant.security.proving import history_of, statements_in

        found, left = dict[str, Sequence[Any]](), {workflow}
        while left and len(found) <= MOST_ABOVE:
            more = await self.store.statements(left)
            found |= {one: more.get(one, ()) for one in left}
            plans = [one for id in left for one in statements_in(self.notary, found[id]).plans]  # noqa: A001
            left = {one.statement.origin.wf for one in plans if one.statement.origin is not None} - found.keys()
        return history_of(self.notary, workflow, found)

    async def end(self, message: PaigeantMessage, key: str, now: float) -> None:
        """Check the ends of children and branches that came for this key.

        Raises:
            Untrusted: the statements of these workflows do not prove their ends.
            KeysUnavailable: they are signed with a key that is not known here yet.
        """
        if self.notary is None or self.store is None or message.chain is None:
            return
        value = message.received[key][-1].get("value")
        try:
            if key.startswith(JOIN):
                await self._join(message, message.chain, key, value, now)
            else:
                child = key.removeprefix(CHILD)
                [proven] = await self._proven(message.chain, [child])
                is_cancelled = child in await self.store.cancellations([child])
                judge_child(value, proven, message.chain.plan, message.step.id, is_cancelled=is_cancelled)
        except Untrusted as error:
            if self._counts(error):
                raise

    async def _join(self, message: PaigeantMessage, chain: Chain, key: str, value: Any, now: float) -> None:
        link = chain.latest.statement if chain.latest is not None else None
        if link is None or link.join is None or link.key != key:
            raise Untrusted("other-key", f"the step does not wait for {key!r}")
        places = link.join.places or tuple(range(link.join.total))
        workflows = [derive_child_id(message.correlation_id, key, place) for place in places]
        branches = dict(zip(places, await self._proven(chain, workflows), strict=True))
        is_due = link.due is not None and link.due <= now
        assert self.store is not None, "the caller has looked"
        open_ = [one.plan.statement.wf for one in branches.values() if one.status is None]
        cancelled = await self.store.cancellations(open_) if open_ else {}
        told: dict[str, Any] = {
            "parent": chain.plan,
            "step": message.step.id,
            "is_due": is_due,
            "cancelled": cancelled.keys(),
        }
        judge_join(value, link.join, branches, **told)

    async def _proven(self, chain: Chain, workflows: Sequence[str]) -> list[Proven]:
        """Return what the statements of these children prove, in their order, with one question to the store."""
        assert self.notary is not None, "the caller has looked"
        assert self.store is not None, "the caller has looked"
        from paigeant.security.proving import history_of

        found, histories = await self.store.statements(workflows), list[Proven]()
        for at, workflow in enumerate(workflows):
            histories.append(history_of(self.notary, workflow, found, (*chain.above, chain.plan)))
            if at % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
        return histories

    def _counts(self, error: Untrusted) -> bool:
        """Whether the error counts here: where unsigned messages are accepted, unsigned rows are, too."""
        return error.code != NO_PROOF or (self.notary is not None and self.notary.is_strict)
