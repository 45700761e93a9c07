from __future__ import annotations

from datetime import date, timedelta
from types import SimpleNamespace

import pytest
from unit.builders import entry, slip

from paigeant.context import ActivityContext
from paigeant.context.services import Services
from paigeant.context.state import StepState
from paigeant.context.variables import Variables
from paigeant.errors import NotSerializable, Superseded
from paigeant.transport import Delivery
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import RoutingSlip


def context(one: RoutingSlip | None = None, *, display=None, **fields) -> ActivityContext:
    """The context of the current step of a slip."""
    message = PaigeantMessage(correlation_id="c1", routing_slip=one or slip("a"), **fields)
    delivery = Delivery(queue="q", body=b"", tag=1, deliveries=3)
    return ActivityContext(StepState.of(message, delivery), Services(display=display))


# --- variables -------------------------------------------------------------------------------------------------------


def test_variables_that_are_only_read_are_not_changed():
    """So that they need not be recorded again."""
    variables = Variables({"a": 1})
    assert (variables["a"], variables.get("b"), dict(variables), len(variables)) == (1, None, {"a": 1}, 1)
    assert variables.changed is None


@pytest.mark.parametrize(
    ("change", "after"),
    [
        (lambda v: v.__setitem__("b", 2), {"a": 1, "b": 2}),
        (lambda v: v.update(a=5), {"a": 5}),
        (lambda v: v.__delitem__("a"), {}),
        (lambda v: v.setdefault("c", 3), {"a": 1, "c": 3}),
        (lambda v: v.pop("a"), {}),
        (lambda v: v.clear(), {}),
        (lambda v: v.__setitem__("due", date(2026, 1, 2)), {"a": 1, "due": "2026-01-02"}),
    ],
    ids=["set", "update", "delete", "setdefault", "pop", "clear", "typed"],
)
def test_a_change_is_seen_at_once_and_carried_as_a_whole(change, after):
    """Like any mapping."""
    before = {"a": 1}
    variables = Variables(before)
    change(variables)
    assert (dict(variables), variables.changed, before) == (after, after, {"a": 1})


def test_a_variable_comes_back_typed():
    """The reader says what it expects."""
    variables = Variables({})
    variables["due"] = date(2026, 1, 2)
    assert variables.typed("due", date) == date(2026, 1, 2)


def test_a_variable_that_cannot_be_written_is_refused_where_it_is_set():
    """By its path; nothing has changed."""
    variables = Variables({})
    with pytest.raises(NotSerializable, match=r"^variables\['x'\]\['y'\] cannot"):
        variables["x"] = {"y": object()}
    assert variables.changed is None or "x" not in variables


# --- about the step --------------------------------------------------------------------------------------------------


def test_attempts_and_deliveries_are_two_counts():
    """Ours and the broker's."""
    ctx = context(attempt=2)
    assert (ctx.attempt, ctx.deliveries) == (2, 3)


def test_the_idempotency_key_is_the_same_for_every_attempt_and_not_for_a_redrive():
    """An operator who sends a step again means it."""
    keys = [context(attempt=attempt, epoch=epoch).idempotency_key for attempt, epoch in [(1, 0), (2, 0), (1, 1)]]
    assert keys[0] == keys[1] != keys[2]


def test_the_previous_output_is_none_at_the_start():
    """And the latest one later."""
    later = RoutingSlip(itinerary=slip("a").itinerary, log=(entry("x", output=1), entry("y", output=2)))
    assert (context().previous, context(later).previous) == (None, 2)


# --- workflows dispatched --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "given", "expected"),
    [
        (None, None, None),
        (100.0, None, 100.0),
        (100.0, 30, 80.0),
        (100.0, timedelta(hours=1), 100.0),
        (None, timedelta(seconds=5), 55.0),
    ],
)
def test_a_workflow_dispatched_has_the_deadline_or_an_earlier_one(own, given, expected):
    """Nothing that a workflow begins outlasts it."""
    message = PaigeantMessage(correlation_id="c1", routing_slip=slip("a"), deadline=own)
    delivery = Delivery(queue="q", body=b"", tag=1, deliveries=1)
    plans = SimpleNamespace(
        specs=lambda _: slip("b").itinerary, serialize=lambda variables, _: variables, refuse_scopes=lambda *_: None
    )
    services = Services(plans=plans, clock=SimpleNamespace(now=lambda: 50.0))
    ctx = ActivityContext(StepState.of(message, delivery, plans), services)
    ctx.dispatch("b", deadline=given)
    assert [child.deadline for child in ctx.edits.children] == [expected]


# --- heartbeats ------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_heartbeat_without_details_records_nothing():
    """It only says that the step is alive."""
    reported = []

    async def report(details):
        reported.append(details)

    ctx = context(display=SimpleNamespace(report=report))
    await ctx.heartbeat()
    await ctx.heartbeat({"on": date(2026, 1, 2)})
    assert reported == [{"on": "2026-01-02"}]


@pytest.mark.anyio
async def test_a_heartbeat_tells_a_worker_that_lost_its_lease():
    """Another one may be running the step: stop."""
    ctx = context()
    ctx.state.delivery.lease.lost = True
    with pytest.raises(Superseded):
        await ctx.heartbeat()
