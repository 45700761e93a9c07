"""What processes and servers use, sampled while they run, and whether it stays flat."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import linear_regression

MB = 1_000_000

WARMING_UP = 0.4
"""The part of a run of which nothing is judged: caches fill, threads start."""


class Samples:
    """Series of numbers by name, each with the time at which it was taken."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.series: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def add(self, values: Mapping[str, float], at: float | None = None) -> None:
        at = time.monotonic() - self._began if at is None else at
        for name, value in values.items():
            self.series[name].append((at, value))

    def growth(self, name: str) -> float:
        """How much more the regression line shows at the end than when the warm-up was over."""
        points = warm(self.series[name])
        if len(points) < 3:
            return 0.0
        times, values = zip(*points, strict=True)
        return linear_regression(times, values).slope * (times[-1] - times[0])

    def growing(self, bounds: Mapping[str, float]) -> dict[str, float]:
        """What grew by more than its bound; a bound is for all names that end like it."""
        found = {}
        for name in self.series:
            bound = next(most for end, most in bounds.items() if name.endswith(end))
            if (growth := self.growth(name)) > bound:
                found[name] = growth
        return found

    @property
    def figures(self) -> str:
        return "\n".join(
            f"  {name}: {points[0][1]:,.0f} at first, {points[-1][1]:,.0f} at last,"
            f" {max(value for _, value in points):,.0f} at most, growth after the warm-up {self.growth(name):+,.0f}"
            for name, points in self.series.items()
        )


def warm(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    return [point for point in points if point[0] >= points[-1][0] * WARMING_UP]


def of_process(pid: int, name: str) -> dict[str, float]:
    """Resident memory in bytes, open files and threads."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        f"{name} memory": float(status["VmRSS"].split()[0]) * 1024,
        f"{name} files": float(len(os.listdir(f"/proc/{pid}/fd"))),  # noqa: PTH208 - names only, and at once
        f"{name} threads": float(status["Threads"]),
    }
