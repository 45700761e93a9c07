"""The ledger of effects: one line for each start and each end of a step's body, written by the step itself.

Times are monotonic seconds of the machine, so that a process whose wall clock is wrong writes right ones.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from paigeant import ActivityContext

LEDGER = "CRASH_LEDGER"
"""The environment variable that names the file."""

Kind = Literal["start", "cut short", "done", "failed", "undoing", "undone"]
"""``cut short``: its worker stops. ``failed``: the body is about to raise because its shape says so. The last two are
those of a compensation."""
UNFINISHED = ("start", "cut short")


@dataclass(frozen=True)
class Line:
    """What the body of a step says of itself.

    ``effect`` is the name of the step within the workflow that the test dispatched (``root``); ``unit`` the key of a
    model request or a tool call in the journal of an agent step.
    """

    effect: str
    kind: Kind
    root: str
    workflow: str
    step: str
    message: str
    attempt: int
    deliveries: int
    pid: int
    at: float
    activity: str = ""
    unit: str = ""
    value: str = ""


def write(kind: Kind, ctx: ActivityContext, root: str, effect: str, *, unit: str = "", value: str = "") -> None:
    """Append one line by one write: it is whole, even if other processes write too and this one dies."""
    line = Line(
        effect=effect,
        kind=kind,
        root=root,
        workflow=ctx.correlation_id,
        step=ctx.step.id,
        message=ctx.message.id,
        attempt=ctx.attempt,
        deliveries=ctx.deliveries,
        pid=os.getpid(),
        at=time.monotonic(),
        activity=ctx.step.name,
        unit=unit,
        value=value,
    )
    file = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, json.dumps(asdict(line)).encode() + b"\n")
    finally:
        os.close(file)


class Reader:
    """Reads what was appended since it last looked; ``lines`` are all so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.lines: list[Line] = []

    def look(self) -> list[Line]:
        """The new lines."""
        new = list(self._new())
        self.lines += new
        return new

    def _new(self) -> Iterator[Line]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole, newline, _ = file.read().rpartition(b"\n")  # the last line may be half
        self._offset += len(whole) + len(newline)
        for line in whole.splitlines():
            yield Line(**json.loads(line))
