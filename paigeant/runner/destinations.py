"""Checks the queues that a message names, so that a worker does not publish for a stranger to any queue.

A worker publishes with its own rights on the broker. A message whose next step has the queue of another App would
otherwise put a message there for whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import structlog

from paigeant.decisions.refusal import is_of, queues_in
from paigeant.dispatch.dispatcher import Dispatcher
from paigeant.errors import ForeignQueue
from paigeant.runtime.clock import boot_time
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import RoutingSlip

log = structlog.stdlib.get_logger("paigeant.runner")

ANY = "*"
"""In the setting: every queue."""

_READ_EVERY = 30.0
"""Seconds for which a worker trusts its last read of the Apps that the store knows."""

_MOST_TOLD = 1000
"""Number of queues after which a worker warns about no further ones."""


@dataclass(slots=True)
class Destinations:
    """The queues to which one worker publishes.

    ``allowed`` are the queue prefixes of other Apps, as the setting ``publish_to`` lists them. None: the worker
    publishes to the Apps that its store knows, and to the queues of plans whose dispatch the store has recorded.
    Without a store it warns, and publishes.
    """

    dispatcher: Dispatcher
    allowed: Collection[str] | None = None
    _known: frozenset[str] = frozenset()
    _read_at: float = -_READ_EVERY
    _told: set[str] = field(default_factory=set)

    async def check(self, message: PaigeantMessage) -> None:
        """Check every queue that the message names.

        Raises:
            ForeignQueue: one of them belongs to an App to which this worker does not publish.
        """
        own = (self.dispatcher.prefix, *(self.allowed or ()))
        foreign = {queue: step for queue, step in queues_in(message.routing_slip) if not is_of(queue, own)}
        if not foreign or ANY in own:
            return
        if self.allowed is None:
            foreign = {queue: step for queue, step in foreign.items() if not is_of(queue, await self._apps(foreign))}
            foreign = await self._unplanned(message, foreign) if foreign else foreign
        if foreign:
            queue, step = min(foreign.items())
            raise ForeignQueue(
                f"step {step!r} has the queue {queue!r}, and this worker does not publish to that App",
                hint=f"if it may, add {queue.rpartition('.')[0]!r} to PAIGEANT_PUBLISH_TO, then redrive the message",
            )

    async def _apps(self, queues: Collection[str]) -> Collection[str]:
        """Return the queue prefixes of the Apps whose workers have announced themselves in the store, at any time."""
        store = self.dispatcher.store
        if store is None or is_of_all(queues, self._known):
            return self._known
        if boot_time() - self._read_at >= _READ_EVERY:
            self._known = frozenset(one.prefix for one in await store.brokers())
            self._read_at = boot_time()
        return self._known

    async def _unplanned(self, message: PaigeantMessage, foreign: dict[str, str]) -> dict[str, str]:
        """Return the queues that are not in the workflow's plan, as the store recorded it at dispatch."""
        store = self.dispatcher.store
        if store is None:
            self._warn(foreign)
            return {}
        _, plan = (await store.plans([message.correlation_id])).get(message.correlation_id, ("", None))
        planned = {queue for queue, _ in queues_in(RoutingSlip.from_dict({**plan}))} if plan is not None else set()
        return {queue: step for queue, step in foreign.items() if queue not in planned}

    def _warn(self, foreign: dict[str, str]) -> None:
        for queue, step in foreign.items():
            if queue not in self._told and len(self._told) < _MOST_TOLD:
                self._told.add(queue)
                text = (
                    f"a message names the queue {queue!r} of another App, and this worker publishes to it: "
                    "set PAIGEANT_PUBLISH_TO to the Apps that messages may name"
                )
                log.warning(text, activity=step)


def is_of_all(queues: Collection[str], prefixes: Collection[str]) -> bool:
    """Whether all these queues belong to Apps with these prefixes."""
    return all(is_of(queue, prefixes) for queue in queues)
