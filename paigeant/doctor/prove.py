"""``paigeant doctor --prove``: experiments against the user's own broker, and the tier they support."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from paigeant.doctor.bench import Bench, Stillness
from paigeant.doctor.experiments import FIRST, OTHERS, Experiment
from paigeant.doctor.finding import Finding, Verdict
from paigeant.doctor.tier import Tier, declared_tier, measured_tier
from paigeant.errors import PaigeantError

LEASE = 2.0
"""Seconds of lease under which is measured: long enough for a busy machine, short enough to wait for."""

_LONGEST = 120.0
_TRIES = 3


async def prove(url: str, lease_seconds: float = LEASE) -> AsyncIterator[Finding]:
    """Each experiment's finding as soon as it is there; last the tier. Every queue is deleted afterwards.

    Raises:
        ConfigurationError: for a URL no transport knows.
    """
    series = _Series(Bench(url, lease_seconds))
    try:
        await series.root.here.connect()
    except PaigeantError as error:
        yield Finding("broker", Verdict.FAIL, str(error), error.hint)
        return
    finally:
        await series.root.clear_up()
    for experiment in FIRST:
        yield await series.make(experiment)
    making = [asyncio.create_task(series.make(experiment)) for experiment in OTHERS]
    try:
        for one in making:
            yield await one
    finally:
        for one in making:
            one.cancel()
        await asyncio.gather(*making, return_exceptions=True)
    yield series.tier()
    if series.left:
        advice = "delete them yourself: nothing else uses them"
        yield Finding("clearing up", Verdict.WARN, f"queues are left: {', '.join(series.left)}", advice)


class _Series:
    """The experiments on one broker, with what they found out together."""

    def __init__(self, root: Bench) -> None:
        self.root = root
        self.left: list[str] = []

    async def make(self, experiment: Experiment) -> Finding:
        """Make the experiment; if it failed while this machine stood still or had too much to do, make it again."""
        name = experiment.__name__.replace("_", " ")
        for number in range(1, _TRIES + 1):
            bench = self.root.branch(f"{name.replace(' ', '-')}-{number}")
            async with Stillness() as stillness:
                try:
                    finding = await _limited(name, experiment, bench)
                finally:
                    self.left += await bench.clear_up()
            is_busy = stillness.longest >= self.root.lease_seconds / 3 or _is_overloaded()
            if finding.verdict is not Verdict.FAIL or not is_busy:
                break
        self.root.measured.adopt(bench.measured)
        return finding

    def tier(self) -> Finding:
        """What was measured, against what is declared."""
        measured, declared = measured_tier(self.root.measured), declared_tier(self.root.features)
        if measured.is_worse_than(declared):
            found = f"{measured}; declared is {declared}"
            return Finding("tier", Verdict.FAIL, found, "do not rely on what is declared: this broker does not keep it")
        is_weak = measured in (Tier.BEST_EFFORT, Tier.ONE_PROCESS)
        found = f"{measured}, " + ("as declared" if measured is declared else f"better than the declared {declared}")
        advice = "use a SQL database, RabbitMQ or Redis (redis://) if the messages matter" if is_weak else None
        return Finding("tier", Verdict.WARN if is_weak else Verdict.OK, found, advice)


def _is_overloaded() -> bool:
    """Whether more wants to run, or waits for the disk, than there are processors for."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > 2 * (os.cpu_count() or 1)


async def _limited(name: str, experiment: Experiment, bench: Bench) -> Finding:
    try:
        async with asyncio.timeout(_LONGEST):
            return await experiment(bench)
    except TimeoutError:
        return Finding(name, Verdict.FAIL, f"could not be measured within {_LONGEST:g} s")
    except PaigeantError as error:
        return Finding(name, Verdict.FAIL, f"could not be measured: {error}", error.hint)
