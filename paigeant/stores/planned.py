"""The steps of a workflow by its current plan: completed, skipped and pending ones. Pure.

It starts from the plan at dispatch. A step that changes the plan records the steps that were ahead of it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from paigeant.records.workflow import Status, StepRecord

PENDING, SKIPPED = "pending", "skipped"


class PlannedStep(NamedTuple):
    """A step of a plan: the name of its activity and the full name of its queue (None if the plan has none)."""

    name: str
    queue: str | None = None


Planned = dict[str, PlannedStep]
"""The planned steps by their ids, in order."""


def planned_in(itinerary: Any) -> Planned:
    """Return the steps of a recorded itinerary."""
    steps = [one for one in itinerary if isinstance(one, Mapping)] if isinstance(itinerary, list) else []
    found: Planned = {}
    for one in steps:
        id_, name, queue = one.get("id"), one.get("name"), one.get("queue")
        if id_ and isinstance(id_, str) and isinstance(name, str):
            found[id_] = PlannedStep(name, queue if isinstance(queue, str) else None)
    return found


def with_planned(
    attempts: Sequence[StepRecord], dispatched: Planned, changes: Iterable[tuple[str, Planned]], status: Status
) -> list[StepRecord]:
    """Return the attempts, and the steps without an attempt in their places.

    ``changes`` are the ids of completed steps that changed the plan, in their order, each with the steps ahead of it.
    """
    order, begun, left_out = dict(dispatched), {one.id for one in attempts}, set[str]()
    for step, ahead in changes:
        order = _changed(order, step, ahead)
        left_out -= ahead.keys()
        left_out |= _behind(order, step) - ahead.keys() - begun
    if status is Status.COMPLETED:
        left_out |= order.keys() - begun
    return _in_place(attempts, order, left_out)


def _behind(order: Planned, step: str) -> set[str]:
    ids = list(order)
    return set(ids[ids.index(step) + 1 :]) if step in order else set(ids)


def _changed(order: Planned, step: str, ahead: Planned) -> Planned:
    """Return the plan with new steps in their places. Skipped steps stay in front of the steps that follow them."""
    ids = list(order)
    at = ids.index(step) + 1 if step in order else 0
    before, behind = ids[:at], ids[at:]
    merged = list[str]()
    for id_ in ahead:
        if id_ in behind:
            upto = behind.index(id_) + 1
            merged += [one for one in behind[:upto] if one not in ahead or one == id_]
            behind = behind[upto:]
        elif id_ not in merged:
            merged.append(id_)
    steps = {**order, **ahead}
    return {id_: steps[id_] for id_ in dict.fromkeys([*before, *merged, *behind])}


def _in_place(attempts: Sequence[StepRecord], order: Planned, left_out: set[str]) -> list[StepRecord]:
    last_at = {one.id: at for at, one in enumerate(attempts)}
    after: dict[int, list[StepRecord]] = {}
    place = -1
    for id_, (name, queue) in order.items():
        if id_ in last_at:
            place = max(place, last_at[id_])
        else:
            status = SKIPPED if id_ in left_out else PENDING
            after.setdefault(place, []).append(StepRecord(id=id_, activity=name, status=status, queue=queue))
    found = after.get(-1, [])
    for at, one in enumerate(attempts):
        found += [_with_queue(one, order), *after.get(at, ())]
    return found


def _with_queue(attempt: StepRecord, order: Planned) -> StepRecord:
    """Return an attempt with the queue of its step. A compensation may have another queue."""
    if attempt.id not in order or attempt.heading != "forward":
        return attempt
    return replace(attempt, queue=order[attempt.id].queue)
