"""Reading the marks that the steps of a worker leave."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.work import RECORD, STEPS


@dataclass(frozen=True, slots=True)
class Mark:
    """A step ran at this time, in seconds of the monotonic clock."""

    step: int
    workflow: int
    at: float


class Marks:
    """The file that the steps write to, read while it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: list[Mark] = []
        self._offset = 0
        path.unlink(missing_ok=True)
        path.touch()

    def read(self) -> list[Mark]:
        """Every mark so far."""
        with self.path.open("rb") as page:
            page.seek(self._offset)
            new = page.read()
        new = new[: len(new) - len(new) % RECORD.size]
        self._offset += len(new)
        self._seen += [Mark(number, one, ns / 1e9) for number, one, ns in RECORD.iter_unpack(new)]
        return self._seen

    def completed(self) -> dict[int, float]:
        """When the last step of each workflow ran, for the first time."""
        ended: dict[int, float] = {}
        for mark in self.read():
            if mark.step == STEPS:
                ended.setdefault(mark.workflow, mark.at)
        return ended

    def wait(self, enough: Callable[[], bool], limit: float, look: float) -> bool:
        """Look every so many seconds whether there is enough; False when there is not within the limit."""
        give_up = time.monotonic() + limit
        while not enough():
            if time.monotonic() > give_up:
                return False
            time.sleep(look)
        return True
