"""Finds parked messages of an idle run that nobody can answer, from the store's tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from paigeant.decisions.forward import OPERATOR, PAUSE
from paigeant.decisions.lock_names import KEYS as LOCKS
from paigeant.records.workflow import Status
from paigeant.testing.witnesses import Unanswerable
from paigeant.wire.approval import KEY as APPROVAL
from paigeant.wire.arrivals import CHILD
from paigeant.wire.join import KEY as JOIN

if TYPE_CHECKING:
    from paigeant.testing.stores import SimulatedStore

_PEOPLE = ("signal:", APPROVAL, OPERATOR)
"""Prefixes of the keys that a person can answer at any time."""


def unanswerable(store: SimulatedStore, now: float) -> Iterator[Unanswerable]:
    """Yield the parked messages that can never resume, each with the reason."""
    status = {
        workflow: Status(stands)
        for workflow, stands in store.rows("SELECT correlation_id, status FROM paigeant_workflow")
    }
    branches: dict[str, list[str]] = {}
    for parent, key, workflow in store.rows("SELECT correlation_id, key, workflow FROM paigeant_branch"):
        branches.setdefault(f"{parent} {key}", []).append(workflow)
    waits = store.rows("SELECT correlation_id, key, due_at FROM paigeant_wait WHERE fired_at IS NULL ORDER BY since")
    for workflow, key, due_at in waits:
        why = _why(key, due_at, now, status, workflow, branches.get(f"{workflow} {key}", ()))
        if why is not None:
            yield Unanswerable(workflow=workflow, key=key, why=why)


def _why(
    key: str,
    due_at: float | None,
    now: float,
    status: dict[str, Status],
    workflow: str,
    branches: list[str] | tuple[()],
) -> str | None:
    """Return the reason why nobody can answer this wait, or None."""

    def is_open(one: str) -> bool:
        return one in status and not status[one].is_terminal

    if not is_open(workflow):
        return "its workflow has ended"
    if due_at is not None:
        return "its time has come, and nobody published it" if due_at < now else None
    if key.startswith(_PEOPLE) or key.startswith(LOCKS):
        return None
    if key.startswith(CHILD):
        return None if is_open(key.removeprefix(CHILD)) else "the workflow that it waits for has ended"
    if key.startswith(JOIN):
        return None if any(map(is_open, branches)) else "no branch of the scatter is open"
    if key == PAUSE:
        return None if status[workflow] is Status.PAUSED else "its workflow is not paused"
    return "nobody knows what answers such a key"
