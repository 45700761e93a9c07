"""``paigeant doctor --prove``: experiments against the user's own broker, and the tier they support."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from paigeant.doctor.bench import AMPLE, Bench, Stillness
from paigeant.doctor.experiments import ABOUT_LEASES, FIRST, OTHERS, Experiment
from paigeant.doctor.finding import Finding, Verdict
from paigeant.doctor.tier import Tier, declared_tier, measured_tier
from paigeant.errors import PaigeantError

LEASE = 2.0
"""Lease in seconds for the experiments: long enough for a busy machine, short enough to wait for."""

_LONGEST = 120.0
_TRIES = 3


async def prove(url: str, lease_seconds: float = LEASE) -> AsyncIterator[Finding]:
    """Run the experiments and yield each finding as soon as it is available; the tier comes last.

    Every queue is deleted afterwards.

    Raises:
        ConfigurationError: no transport supports the URL.
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
        yield Finding("clearing up", Verdict.WARN, f"these queues were not deleted: {', '.join(series.left)}", advice)


class _Series:
    """The experiments on one broker, with their combined measurements."""

    def __init__(self, root: Bench) -> None:
        self.root = root
        self.left: list[str] = []

    async def make(self, experiment: Experiment) -> Finding:
        """Run the experiment; run it again if it failed while this machine paused or was overloaded."""
        name = experiment.__name__.replace("_", " ")
        lease_seconds = self.root.lease_seconds if experiment in ABOUT_LEASES else AMPLE
        for number in range(1, _TRIES + 1):
            bench = self.root.branch(f"{name.replace(' ', '-')}-{number}", lease_seconds)
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
        """Compare the measured tier with the declared one.

        An experiment can refute a promise but never prove it: a stale holder whose settlement was refused may have
        noticed the lost lease by itself. So the reported tier is never better than the declared one.
        """
        measured, declared = measured_tier(self.root.measured), declared_tier(self.root.features)
        if measured.is_worse_than(declared):
            found = f"{measured}; declared is {declared}"
            return Finding("tier", Verdict.FAIL, found, "do not rely on the declared tier: it is not met")
        is_weak = declared in (Tier.BEST_EFFORT, Tier.ONE_PROCESS)
        advice = "use a SQL database, RabbitMQ or Redis (redis://) if the messages matter" if is_weak else None
        return Finding("tier", Verdict.WARN if is_weak else Verdict.OK, f"{declared}, as declared", advice)


def _is_overloaded() -> bool:
    """Return whether more tasks want to run or wait for the disk than there are processors."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > 2 * (os.cpu_count() or 1)


async def _limited(name: str, experiment: Experiment, bench: Bench) -> Finding:
    try:
        async with asyncio.timeout(_LONGEST):
            return await experiment(bench)
    except TimeoutError:
        return Finding(name, Verdict.FAIL, f"could not be measured within {_LONGEST:g} s")
    except PaigeantError as error:
        return Finding(name, Verdict.FAIL, f"could not be measured: {error}", error.hint)
