"""Checks steps of activities that the App does not have: warns about those that no worker serves, or rejects them."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

import structlog

from paigeant.dispatch.catalog import Catalog
from paigeant.errors import StoreError, UnknownActivity
from paigeant.records.workflow import WORKER_ANNOUNCES_EVERY
from paigeant.runtime.nearest import PROBABLY, nearest, suggestion
from paigeant.store import Store
from paigeant.wire.slip import ActivitySpec

log = structlog.stdlib.get_logger("paigeant.app")

Attitude = Literal["allow", "warn", "refuse"]
"""What happens to a step if neither the App nor a live worker is known to serve it."""


_WAITS = "the step waits until one has; to plan a step write activity.step(...), as activity(...) runs it at once"

_MOST_TOLD = 1000
"""Number of names after which an App warns about no further ones."""

_TRUSTED_FOR = WORKER_ANNOUNCES_EVERY
"""Seconds for which an App that only warns trusts that a live worker serves a step. To read all workers with all their
activities costs several times as much as a dispatch."""


@dataclass(frozen=True, slots=True)
class Strangers:
    """Checks steps for one App, and warns once about each name."""

    attitude: Attitude
    _told: set[str] = field(default_factory=set)
    _trusted_until: dict[tuple[str, str | None], float] = field(default_factory=dict)
    """By activity and queue; times are of the monotonic clock."""

    def silent(self) -> Strangers:
        """Return a copy that does not warn, for a caller that warns itself."""
        return replace(self, attitude="allow") if self.attitude == "warn" else self

    def among(self, steps: Iterable[ActivitySpec], catalog: Catalog) -> list[ActivitySpec]:
        """Return the steps, including those in branches, to look up. Warns about names that resemble known ones."""
        strange = list[ActivitySpec]()
        for step in _all(steps) if self.attitude != "allow" else ():
            if catalog.find(step.name) is not None:
                continue
            near = nearest(step.name, catalog.activities, PROBABLY) if self.attitude == "warn" else None
            if near is not None:
                text = f"this App has no activity {step.name!r}; did you mean {near!r}?"
                log.warning(text, activity=step.name)
            elif self.attitude == "refuse" or self._may_warn(step):
                strange.append(step)
        return strange

    def _may_warn(self, step: ActivitySpec) -> bool:
        if step.name in self._told or len(self._told) >= _MOST_TOLD:
            return False
        return self._trusted_until.get((step.name, step.queue), -math.inf) <= time.monotonic()

    async def judge(self, steps: Iterable[ActivitySpec], known: Collection[str], store: Store | None) -> None:
        """Warn about the steps that no live worker serves, or raise. ``known`` are the names of the App's activities.

        Raises:
            UnknownActivity: no live worker serves a step, and the App rejects such steps; the error names the first.
            StoreError: the App rejects such steps, and the store cannot be read.
        """
        served = await self._served(store)
        for step in steps:
            if step.queue in served.get(step.name, ()):
                self._trusted_until[step.name, step.queue] = time.monotonic() + _TRUSTED_FOR
                continue
            if self.attitude == "refuse":
                raise _refusal(step, known, served)
            self._told.add(step.name)
            text = f"neither this App nor a live worker has an activity {step.name!r}: {_WAITS}"
            log.warning(text, activity=step.name)

    async def _served(self, store: Store | None) -> dict[str, set[str]]:
        """Return the queues from which live workers serve each activity, as far as the store knows."""
        served: dict[str, set[str]] = {}
        with suppress(*(() if self.attitude == "refuse" else (StoreError,))):  # the dispatch meets the outage, too
            for worker in await store.workers() if store is not None else ():
                for offer in worker.offers if worker.alive else ():
                    served.setdefault(offer.name, set()).add(offer.queue)
        return served


def _all(steps: Iterable[ActivitySpec]) -> Iterable[ActivitySpec]:
    for step in steps:
        yield step
        for slip in step.branches:
            yield from _all(slip.itinerary)
        yield from _all(step.otherwise)


def _refusal(step: ActivitySpec, known: Collection[str], served: dict[str, set[str]]) -> UnknownActivity:
    text = f"neither this App nor a live worker has an activity {step.name!r}"
    if (queues := served.get(step.name)) is not None:
        there = sorted(queues)[0]
        return UnknownActivity(
            f"{text} with the queue {step.queue!r}",
            hint=f"a worker serves it from {there!r}: ActivitySpec(name={step.name!r}, queue={there!r})",
        )
    more = suggestion(step.name, [*known, *served], "did you mean")
    return UnknownActivity(text, hint=more or "start a worker that serves it, then dispatch")
