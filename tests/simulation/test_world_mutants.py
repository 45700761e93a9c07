"""The tests of the rules: each way to break a promise is found in small worlds, by the rule that it breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pydantic_ai.tools import ToolApproved
from sqlalchemy import false, true
from worlds import schedule

from paigeant.activity import Activity
from paigeant.agents import deferred, journal
from paigeant.agents.journal import Journal
from paigeant.dead_letters import stored
from paigeant.decisions import forward
from paigeant.records.workflow import Standing, Status
from paigeant.runner import runner
from paigeant.stores import history, joins, steering, waiting
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import RoutingSlip
from paigeant.workflow import Workflow, forks
from paigeant.workflow import steering as operators

MOST = 150
"""Schedules of each kind after which a mutant counts as not found."""


pytestmark = pytest.mark.usefixtures("quietly")


def assert_found(complaint: str, *kinds: str) -> None:
    """Play schedules of these kinds until one breaks the promise."""
    others: list[str] = []
    for seed in range(MOST):
        for kind in kinds:
            problems = schedule(kind, seed).problems()
            if any(complaint in one for one in problems):
                return
            others += problems
    pytest.fail(f"{complaint!r} was not found; what was: {others[:5]}")


# --- G8 ---------------------------------------------------------------------------------------------------------------


def turned(change: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> Any:
    """A slip that heads back over other steps than it should."""
    original = RoutingSlip.turned

    def mutant(self: RoutingSlip, fault: Any) -> RoutingSlip:
        slip = original(self, fault)
        return slip.model_copy(update={"itinerary": change(slip.itinerary)})

    return mutant


def test_compensations_run_in_the_order_of_the_steps(monkeypatch):
    monkeypatch.setattr(RoutingSlip, "turned", turned(lambda steps: steps[::-1]))
    assert_found("which had completed after it", "saga")


def test_a_step_is_not_compensated(monkeypatch):
    monkeypatch.setattr(RoutingSlip, "turned", turned(lambda steps: steps[:-1]))
    assert_found("still stands", "saga")


def test_a_compensation_gets_the_data_of_another_step(monkeypatch):
    original = Activity.undo_with
    monkeypatch.setattr(Activity, "undo_with", lambda self, undo, output: original(self, undo, "nobody:0"))
    assert_found("its step had not completed", "saga")


def test_losers_of_a_scatter_are_not_compensated(monkeypatch):
    made = joins.Cancellation
    monkeypatch.setattr(joins, "Cancellation", lambda **fields: replace(made(**fields), compensate=False))
    assert_found("still stands", "losers")


def test_completed_branches_are_not_compensated(monkeypatch):
    monkeypatch.setattr(PaigeantMessage, "gathered", lambda self: self.routing_slip)
    assert_found("still stands", "losers")


# --- G10 --------------------------------------------------------------------------------------------------------------


def admitting(change: Callable[[Standing], Standing]) -> Any:
    """A worker that is told something else about the workflow."""
    return lambda message, standing, execution: forward.admit(message, change(standing), execution)


def test_steps_of_cancelled_workflows_begin(monkeypatch):
    monkeypatch.setattr(runner, "admit", admitting(lambda one: replace(one, cancellation=None, status=Status.RUNNING)))
    assert_found("after its cancel had returned", "steered", "crowd")


def test_a_cancel_does_not_wait_for_its_effect(monkeypatch):
    monkeypatch.setattr(operators, "STEERING_TAKES", 0.0)
    assert_found("after its cancel had returned", "hasty")


def test_steps_of_paused_workflows_begin(monkeypatch):
    def unpaused(standing: Standing) -> Standing:
        return replace(standing, status=Status.RUNNING) if standing.status is Status.PAUSED else standing

    monkeypatch.setattr(runner, "admit", admitting(unpaused))
    assert_found("which is paused", "hasty")


# --- G1 and G7: what waits --------------------------------------------------------------------------------------------


def test_nobody_wakes_what_waited_for_the_end_of_a_pause(monkeypatch):
    original = steering._due
    monkeypatch.setattr(steering, "_due", lambda ids, now: original(ids, now).where(false()))
    assert_found("waits for pause: its workflow is not paused", "steered", "crowd")


def test_a_parent_is_not_told_of_the_end_of_its_child(monkeypatch):
    original = history._child_row
    monkeypatch.setattr(history, "_child_row", lambda event, parent: original(event, parent) | {"key": "child:other"})
    assert_found("the workflow that it waits for has ended", "steered", "crowd")


def test_the_ends_of_branches_are_not_counted(monkeypatch):
    monkeypatch.setattr(joins, "count", lambda *_: None)
    assert_found("no branch of the scatter is open", "losers")


# --- two Apps ---------------------------------------------------------------------------------------------------------


def test_each_app_publishes_what_waits_in_the_store(monkeypatch):
    monkeypatch.setattr(waiting, "is_mine", lambda *_: true())
    assert_found("two Apps: message", "two_apps")


# --- agents and answers -----------------------------------------------------------------------------------------------


def test_the_journal_is_not_read(monkeypatch):
    monkeypatch.setattr(Journal, "find", lambda *_: None)
    assert_found("was done again", "agents")


def test_units_of_earlier_runs_count_twice(monkeypatch):
    original = journal.total
    monkeypatch.setattr(journal, "total", lambda used: original([*(units := list(used)), *units]))
    assert_found("usage: the units of", "agents")


def test_a_denied_call_runs(monkeypatch):
    monkeypatch.setattr(deferred, "_verdict", lambda said: ToolApproved())
    assert_found("its question was not approved", "agents")


def test_a_call_runs_without_a_question(monkeypatch):
    async def approval(*_: Any) -> ToolApproved:
        return ToolApproved()

    monkeypatch.setattr(deferred, "_approval", approval)
    assert_found("nobody was asked", "agents")


def test_an_answer_counts_for_another_question(monkeypatch):
    monkeypatch.setattr(Workflow, "_asked", lambda self, waiting, question: waiting[-1])
    assert_found("its question was not approved", "people")


def test_a_compensation_runs_twice(monkeypatch):
    def twice(steps: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*steps, *(one.model_copy(update={"id": f"{one.id}-again"}) for one in steps))

    monkeypatch.setattr(RoutingSlip, "turned", turned(twice))
    assert_found("was undone 2 times", "saga")


def test_a_redriven_message_goes_to_the_broker_of_whoever_redrives_it(monkeypatch):
    monkeypatch.setattr(stored, "elsewhere", lambda *_: None)
    assert_found("two Apps: message", "two_apps")


def test_a_fork_begins_on_the_broker_of_whoever_forks(monkeypatch):
    monkeypatch.setattr(forks, "elsewhere", lambda *_: None)
    assert_found("was dispatched and never ended", "two_apps")
