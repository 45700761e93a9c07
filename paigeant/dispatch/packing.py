"""Encodes a plan's messages, small enough to travel, and makes the facts about parked messages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from paigeant.decisions.attest import Order
from paigeant.decisions.idempotency import claimed_user
from paigeant.decisions.plan import TIMER, Hold, Plan, Send, Settle
from paigeant.dispatch.sealing import Sealing
from paigeant.errors import MessageTooLarge, StoreRequired
from paigeant.events import Event, MessageDeadLettered, MessageHeld, StepEnded, WorkflowDispatched
from paigeant.records.workflow import Owner
from paigeant.transport import Features, Outgoing
from paigeant.wire import aside, codec
from paigeant.wire.claim_check import Parcel
from paigeant.wire.frame import parts_of
from paigeant.wire.limits import refuse_too_large, refuse_too_many, refuse_too_many_begun
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import ActivitySpec

if TYPE_CHECKING:
    from paigeant.security.notary import Notary

_LONGEST_DELAY, _LONGEST_ON_BROKER = 5.0, 86_400.0
"""Maximum delay in seconds: of a broker that cannot delay, and of one that can, for an App without a store."""

_OUTPUTS = 8
"""Number of outputs that travel in a message even if the store has them."""

_MIDDLING = 1_024
"""Size in bytes from which a value is stored outside a message that would otherwise be too large."""

_LONGEST_ERROR = 1000
"""Maximum characters of an error's message in the headers of a queued dead letter."""

DEAD_LETTER = "dead-letter"
"""The queue of dead letters without a store: the part of its name after the prefix."""


Seal = Callable[[PaigeantMessage, bytes], bytes]
"""Puts signatures around the bytes of a message."""


def _unsealed(message: PaigeantMessage, body: bytes) -> bytes:  # noqa: ARG001
    return body


def queue_name(prefix: str, activity: str) -> str:
    """Return the name of an activity's queue."""
    return f"{prefix}.{activity}"


@dataclass(frozen=True, slots=True)
class Packed:
    """A plan's messages, encoded: those to publish, and the facts about parked messages and started workflows.

    ``parcels`` are values of these messages that must be stored first. ``instead`` is parked instead of the workflow's
    end if the workflow was cancelled meanwhile. ``link`` is the signed end of the attempt that is settled.
    """

    outgoing: Sequence[Outgoing] = ()
    facts: Sequence[Event] = ()
    parcels: Sequence[Parcel] = ()
    instead: Sequence[Event] = ()
    link: str | None = None

    def proven(self, record: Sequence[Event]) -> list[Event]:
        """Return the events with the link: the end of a step has it, or the last event if no step ended."""
        if self.link is None or not record:
            return [*record]
        ends = (at for at, one in enumerate(record) if isinstance(one, StepEnded))
        at = max(ends, default=len(record) - 1)
        return [*record[:at], replace(record[at], proof=self.link), *record[at + 1 :]]


@dataclass(frozen=True, slots=True)
class Packing:
    """Packs messages for one App.

    ``features`` are those of the transport; ``has_store`` and ``has_keeper`` say what else the App has. Values of
    ``large`` bytes or more are stored outside the message, up to ``value_limit`` bytes each. A message, and the
    workflows that one step begins, have at most ``step_limit`` steps.
    """

    features: Features
    has_store: bool
    has_keeper: bool
    app: str
    prefix: str
    message_limit: int
    large: int
    value_limit: int
    step_limit: int
    owner: Owner | None
    notary: Notary | None = None

    def packed(
        self, plan: Plan, at: float, before: PaigeantMessage | None = None, order: Order | None = None
    ) -> Packed:
        """Encode the plan's messages, and sign them if the App signs.

        ``before`` is the message that is settled; ``order`` says that an operator settles it.

        Raises:
            MessageTooLarge: a message exceeds a limit; the error names its largest part, or what is too much in it.
            StoreRequired: the plan parks a message, and there is no store.
        """
        if not isinstance(plan, Settle):
            return Packed()
        refuse_too_many_begun(len(plan.begin), self.step_limit)
        sealing = Sealing(self.notary, plan, at, before, order)
        begun = [(message, self._encoded(Send(message), sealing.first)) for message in plan.begin]
        facts: list[Event] = [self.dispatched(message, encoded.body, at) for message, encoded in begun]
        holds, sends = list(plan.hold), list[Outgoing]()
        for send in plan.send:
            if (hold := self._hold_of(send, at)) is not None:
                holds.append(hold)
            else:
                sends.append(self._encoded(send, sealing.next))
        sends += [encoded for _, encoded in begun]
        parked = [(hold, self._encoded_hold(hold, sealing.next)) for hold in holds]
        if not (parked or plan.send):
            sealing.end()
        link = sealing.link
        instead = self._instead(plan, at, sealing.next)
        parcels = [parcel for _, encoded in (*parked, *instead) for parcel in encoded.parcels]
        facts += [_parking(hold, encoded, at, self.owner) for hold, encoded in parked]
        followed = [_parking(hold, encoded, at, self.owner) for hold, encoded in instead]
        return Packed(sends, facts, parcels, Packed(link=sealing.link).proven(followed), link)

    def _instead(self, plan: Settle, at: float, seal: Seal) -> list[tuple[Hold, Outgoing]]:
        """Return the message to park instead of the workflow's end if the workflow was cancelled meanwhile."""
        if plan.if_cancelled is None or not self.has_store:
            return []
        hold = Hold(plan.if_cancelled.message, TIMER, at)
        return [(hold, self._encoded_hold(hold, seal))]

    def _hold_of(self, send: Send, at: float) -> Hold | None:
        """Return the message as it is parked, if the broker cannot delay it for so long and there is a store."""
        if not self.has_store or send.delay <= self._longest_delay:
            return None
        return Hold(send.message, TIMER, at + send.delay)

    @property
    def _longest_delay(self) -> float:
        """Maximum delay in seconds that the broker handles; for a longer delay the message is parked in the store."""
        if not self.features.delay:
            return _LONGEST_DELAY
        return self.features.longest_delay if self.has_store else _LONGEST_ON_BROKER

    def begun(self, send: Send, at: float, forked: str | None = None) -> Packed:
        """Encode a workflow's first message, with the fact that the workflow starts. ``forked``: from this workflow.

        Raises:
            MessageTooLarge: the message or a value exceeds a limit; the error names it.
            StoreRequired: the delay is too long for the broker, and there is no store.
        """
        if not self.has_store and send.delay > self._longest_delay:
            raise StoreRequired(
                f"a message that is due in {send.delay:.0f} s needs a store, and this App has none",
                hint='give it one: App(..., store="sqlite:///paigeant.db") or PAIGEANT_STORE_URL',
            )
        packed = self._first(send, at, forked)
        body = packed.outgoing[0].body if packed.outgoing else _body_of(packed.facts)
        if len(body) > self.value_limit:  # a value may be too large although it is small enough to travel
            for what, value in aside.named(send.message).items():
                refuse_too_large(value, what, self.value_limit)
        return replace(packed, facts=[self.dispatched(send.message, body, at), *packed.facts])

    def _first(self, send: Send, at: float, forked: str | None) -> Packed:
        def sealed(message: PaigeantMessage, body: bytes) -> bytes:
            return body if self.notary is None else self.notary.begin(message, body, at, forked=forked).to_bytes()

        if (hold := self._hold_of(send, at)) is not None:
            encoded = self._encoded_hold(hold, sealed)
            return Packed((), [_parking(hold, encoded, at, self.owner)], encoded.parcels)
        return Packed([self._encoded(send, sealed)])

    def encoded(self, message: PaigeantMessage, delay: float = 0.0) -> Outgoing:
        """Encode a message for its queue."""
        return self._encoded(Send(message, delay))

    def arrived(
        self, message: PaigeantMessage, key: str, entry: dict[str, Any]
    ) -> tuple[dict[str, Any], Sequence[Parcel]]:
        """Return what came for a signed message as it travels, and the value to store outside it.

        A value that is too large to be stored becomes an error, which the step reports.
        """
        at_least = self.large if self.has_keeper else sys.maxsize
        try:
            return aside.arrival_aside(message.correlation_id, key, entry, at_least, self.value_limit)
        except MessageTooLarge as error:
            return {"error": f"the value for {key!r}: {error}"}, ()

    def dispatched(self, message: PaigeantMessage, body: bytes, at: float) -> WorkflowDispatched:
        """Return the fact that this message, encoded as these bytes, starts a workflow."""
        slip, (plan, signed) = message.routing_slip, parts_of(body)
        user = None if message.obo_token is None else claimed_user(message.obo_token)
        return WorkflowDispatched(
            correlation_id=message.correlation_id,
            at=at,
            proof=plan,
            name=message.name,
            app=self.app,
            message_id=message.id,
            variables=slip.variables,
            itinerary=[{"id": step.id, "name": step.name, "queue": step.queue} for step in slip.itinerary],
            slip=from_json(signed)["routing_slip"] if self.has_store else None,
            parent=message.parent,
            branch=message.branch,
            user=None if user is None else {"issuer": user[0], "subject": user[1]},
        )

    def queue_of(self, step: ActivitySpec) -> str:
        return step.queue or queue_name(self.prefix, step.name)

    def _encoded(self, send: Send, seal: Seal = _unsealed) -> Outgoing:
        message, body, parcels = self._fitted(send.message)
        body = seal(message, body)
        return Outgoing(
            queue=self.queue_of(message.step),
            body=body,
            id=message.id,
            delay=send.delay,
            priority=message.step.priority,
            parcels=parcels,
        )

    def _fitted(self, message: PaigeantMessage) -> tuple[PaigeantMessage, bytes, list[Parcel]]:
        """Return the message as it travels, its bytes, and the values to store outside it.

        Outputs of earlier steps that the store already has are left out of the message where that is better.
        """
        message, parcels = aside.stripped(message), list[Parcel]()
        if self.has_store:
            message = message.compacted(_OUTPUTS)
        body = codec.encode(message, sys.maxsize)
        if len(body) > self.step_limit:  # a step takes more than one byte
            refuse_too_many(message, self.step_limit)
        if len(body) <= min(self.large, self.message_limit):
            return message, body, parcels
        if self.has_store:
            message = message.compacted(0)
        for size in (self.large, _MIDDLING) if self.has_keeper else ():
            message, more = aside.put_aside(message, size, self.value_limit, is_signed=self.notary is not None)
            parcels += more
            if len(body := codec.encode(message, sys.maxsize)) <= self.message_limit:
                break
        if len(body) > self.message_limit or not self.has_keeper:
            body = codec.encode(message, self.message_limit)
        return message, body, parcels

    def _encoded_hold(self, hold: Hold, seal: Seal) -> Outgoing:
        if not self.has_store:
            raise StoreRequired(
                f"the step waits for {hold.key!r} and needs a store, and this App has none",
                hint='give it one: App(..., store="sqlite:///paigeant.db") or PAIGEANT_STORE_URL',
            )
        return self._encoded(Send(hold.message), seal)

    def letter(self, letter: MessageDeadLettered) -> Outgoing:
        """Encode a dead letter as a message: without a store it waits in a queue of its own."""
        headers = {"kind": letter.kind.value, "reason": letter.reason, "queue": letter.queue, "worker": letter.worker}
        headers |= {"deliveries": str(letter.deliveries), "at": str(letter.at)}
        if letter.code:
            headers |= {"code": letter.code}
        if letter.error is not None:
            headers |= {"error-type": letter.error.type, "error": letter.error.message[:_LONGEST_ERROR]}
        return Outgoing(queue=queue_name(self.prefix, DEAD_LETTER), body=letter.body, headers=headers)


def _parking(hold: Hold, encoded: Outgoing, at: float, owner: Owner | None) -> MessageHeld:
    message = hold.message
    return MessageHeld(
        correlation_id=message.correlation_id,
        at=at,
        wait_id=message.id,
        step_id=message.step.id,
        activity=message.step.name,
        key=hold.key,
        due_at=hold.due_at,
        detail=hold.detail,
        join=hold.join,
        queue=encoded.queue,
        body=encoded.body,
        priority=encoded.priority,
        prefix=owner.prefix if owner else None,
        broker=owner.broker if owner else None,
    )


def _body_of(facts: Sequence[Event]) -> bytes:
    """Return the bytes of the parked message."""
    return next(fact.body for fact in facts if isinstance(fact, MessageHeld))
