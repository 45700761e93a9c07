"""What has become of workflows, with a store and without one, where the steps' own log is all there is."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from crash.fleet import Fleet
from crash.service import CHAIN

from paigeant import ActivitySpec

RECORDING = 5.0
"""Seconds from the end of a step to its record, at most: until then another may have begun the same step."""

_LOOK_EVERY = 0.2
"""Seconds: looking takes what the workers need."""


def chain(fleet: Fleet, seconds: float = 0.1) -> list[ActivitySpec]:
    return [fleet.app.activities[name].step(seconds=seconds) for name in CHAIN]


def finished(fleet: Fleet, workflows: Collection[str], last: str = "3") -> int:
    """How many have come to the end of their last step, or with a store to their end."""
    if fleet.store is not None:
        query = "SELECT correlation_id FROM paigeant_workflow WHERE status <> 'running'"
        return len(set(workflows) & {row[0] for row in fleet.facts.rows(query)})
    notes = fleet.facts.notes()
    return len(set(workflows) & {fact["workflow"] for fact in notes if (fact["what"], fact["step"]) == ("end", last)})


def until_finished(
    fleet: Fleet, workflows: Collection[str], patience: float = 60.0, at_least: int | None = None, last: str = "3"
) -> None:
    """Wait until so many have finished, as long as it goes on: fails when nothing more has in ``patience`` seconds."""
    enough = len(workflows) if at_least is None else at_least
    done, give_up = -1, 0.0
    while (now_done := finished(fleet, workflows, last)) < enough:
        if now_done > done:
            done, give_up = now_done, time.monotonic() + patience
        assert time.monotonic() < give_up, f"{done} of {enough} have finished, and none in the last {patience:g} s"
        time.sleep(_LOOK_EVERY)


def assert_complete(fleet: Fleet, workflows: Sequence[str]) -> None:
    """Everything came to its end; with a store once, and nothing began again after its end was recorded."""
    if fleet.store is None:
        assert_carried_by_the_same_messages(fleet, workflows)
        return
    fleet.facts.assert_each_step_completed_once(workflows)
    rows = fleet.facts.rows("SELECT message_id, finished_at FROM paigeant_step")
    finished_at = {row.message_id: row.finished_at for row in rows}
    again = [
        fact
        for fact in fleet.facts.notes()
        if fact["what"] == "start" and fact["at"] > finished_at[fact["message"]] + RECORDING
    ]
    assert again == []


def assert_carried_by_the_same_messages(fleet: Fleet, workflows: Sequence[str]) -> None:
    """Each step of each workflow has one message id, however often it was carried."""
    messages: dict[tuple[str, str], set[str]] = {}
    for fact in fleet.facts.notes():
        messages.setdefault((fact["workflow"], fact["step"]), set()).add(fact["message"])
    assert {workflow for workflow, _ in messages} == set(workflows)
    assert len(messages) == 3 * len(workflows)
    assert {len(ids) for ids in messages.values()} == {1}
