"""Filling a broker again that lost messages, from what the store still expects to happen.

Only where broker and store are apart: in one database a message cannot be lost without its history. What is overdue is
published again under its own id, so a step that was done meanwhile is not run again, it only sends its successor again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from paigeant.dispatch import Dispatcher
from paigeant.store import Store
from paigeant.transport import BaseTransport, Durability, Outgoing

GRACE = 60.0
"""Seconds a message may be overdue before it counts as lost."""

SECOND_LOOK = 2.0
"""Seconds between two looks at a queue, longer than it takes until others see that a step runs: what a worker had just
taken out of the queue at the first look is known to run at the second."""


def is_needed(dispatcher: Dispatcher) -> bool:
    """Whether the broker can lose what the store remembers: not in one database, and not in this process."""
    apart = dispatcher.store is not None and not dispatcher.joined
    return apart and dispatcher.transport.features.durability is not Durability.VOLATILE


async def refill(
    transport: BaseTransport, store: Store, grace: float = GRACE, only: Collection[str] | None = None
) -> Sequence[Outgoing]:
    """Publish again what the broker lost; what was published. ``only``: these queues; default: all that are waited for.

    A message counts as lost when it is overdue, no living worker runs it, and its queue is empty, twice in a row: while
    messages wait in the queue, it may be one of them.

    Raises:
        TransportError, StoreError: nothing, or not everything, was published; calling again goes on after ``grace``.
    """
    waited_for = [queue for queue in await store.waiting_queues() if only is None or queue in only]
    empty = await _empty(transport, waited_for)
    if not empty:
        return ()
    await asyncio.sleep(SECOND_LOOK)
    empty = await _empty(transport, empty)
    lost = await store.take_overdue(empty, grace) if empty else ()
    if lost:
        await transport.send(lost)
    return lost


async def _empty(transport: BaseTransport, queues: Sequence[str]) -> list[str]:
    return [queue for queue in queues if await transport.depth(queue) == 0]
