"""Publishes again what a broker may have lost, from the messages that the store still expects.

This is needed only where broker and store are separate: in one database a message cannot be lost without its history.
An overdue message that no live worker holds is published again under its own id. The original may still be in its
queue. So a worker runs such a copy only if nobody else holds the message and the message is not finished. A copy that
is not needed costs two reads.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from time import time as wall_clock
from typing import Any

import structlog

from paigeant.dispatch.dispatcher import Dispatcher
from paigeant.errors import MessageError, Untrusted
from paigeant.records.trust import ProofFailed
from paigeant.store import Outbox
from paigeant.transport import BaseTransport, Durability, Outgoing
from paigeant.wire import codec

log = structlog.stdlib.get_logger("paigeant.recovery")

GRACE = 60.0
"""Seconds a message may be overdue before it may count as lost."""

MOST, FEW = 500, 20
"""Messages published again at once per queue: maximum, and maximum while all of them may still be in the queue."""


def is_needed(dispatcher: Dispatcher) -> bool:
    """Whether the broker can lose messages that the store expects: not in one database, and not in this process."""
    apart = dispatcher.store is not None and not dispatcher.joined
    return apart and dispatcher.transport.features.durability is not Durability.VOLATILE


def allowance(overdue: int, depth: int) -> int:
    """Return how many overdue messages of a queue to publish again now, when ``depth`` messages are in the queue.

    If more messages are overdue than are in the queue, the difference is certainly lost. Nobody knows which ones,
    and some messages in the queue are delayed. So a few are published in any case: the oldest, which a long but intact
    queue has delivered first.
    """
    return min(overdue, MOST, max(FEW, overdue - depth))


async def refill(
    transport: BaseTransport,
    store: Outbox,
    grace: float = GRACE,
    only: Collection[str] | None = None,
    dispatcher: Dispatcher | None = None,
) -> Sequence[Outgoing]:
    """Publish messages again that the broker may have lost, and return them. ``only``: these queues; default: all.

    Messages that ``dispatcher`` does not trust are not published: their rows stay as evidence, and each is an event.

    Raises:
        TransportError, StoreError: not all were published; a call after ``grace`` seconds publishes the rest.
    """
    sent: list[Outgoing] = []
    for queue, overdue in (await store.overdue(grace, only)).items():
        lost = await store.take_overdue(queue, grace, allowance(overdue, await transport.depth(queue)))
        lost = lost if dispatcher is None else await _trusted(dispatcher, lost)
        await transport.send(lost)
        sent += lost
    return sent


async def _trusted(dispatcher: Dispatcher, lost: Sequence[Outgoing]) -> Sequence[Outgoing]:
    """Return those of these messages whose signatures are right, and record that the others are not trusted."""
    now = wall_clock()
    refusals = [(one, dispatcher.proving.refusal(one.body, now)) for one in lost]
    for one, refusal in refusals:
        if refusal is not None:
            log.error("a message in the store is not trusted and not published", id=one.id, reason=str(refusal))
    events = [_doubt(one, refusal, now) for one, refusal in refusals if refusal is not None]
    await dispatcher.note([one for one in events if one is not None])
    return [one for one, refusal in refusals if refusal is None]


def _doubt(lost: Outgoing, refusal: Untrusted, now: float) -> ProofFailed | None:
    """Return the event about a message that is not published; None if it does not even name its workflow and step."""
    try:
        message = codec.decode(lost.body, len(lost.body))
    except MessageError:
        return None
    said: dict[str, Any] = {"message_id": lost.id or message.id, "step_id": message.step.id}
    return ProofFailed(
        **said,
        activity=message.step.name,
        correlation_id=message.correlation_id,
        attempt=message.attempt,
        worker="",
        at=now,
        key="outbox",
        code=refusal.code,
        reason=str(refusal),
    )
