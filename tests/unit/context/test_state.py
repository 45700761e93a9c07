"""The state of a step, its forks for tool calls, and what a fork adds to the step."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from unit.builders import entry, slip

from paigeant.context import ActivityContext
from paigeant.context.activity_context import made_current
from paigeant.context.services import Services
from paigeant.context.state import StepState
from paigeant.decisions.interrupts import Park
from paigeant.errors import InvalidArguments
from paigeant.transport import Delivery
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import RoutingSlip

PLANS = SimpleNamespace(
    specs=lambda steps: slip(*steps).itinerary,
    serialize=lambda variables, _: json.loads(json.dumps(variables)),
    refuse_scopes=lambda *_: None,
)


def context(one: RoutingSlip | None = None, *, services: Services | None = None, **fields: Any) -> ActivityContext:
    """The context of the first step of a slip with two steps ahead."""
    message = PaigeantMessage(correlation_id="c1", routing_slip=one or slip("a", "b", "c"), **fields)
    state = StepState.of(message, Delivery(queue="q", body=b"", tag=1), PLANS)
    return ActivityContext(state, services or Services(plans=PLANS))


def recorded(state: StepState) -> dict[str, Any]:
    """The effects of a fork after a round trip through a journal."""
    effects: dict[str, Any] = json.loads(json.dumps(state.effects()))
    return effects


def received(*values: Any) -> dict[str, Any]:
    return {"signal:news": [{"value": value} for value in values]}


# --- forks -----------------------------------------------------------------------------------------------------------


def test_a_fork_keeps_its_changes_to_itself_until_they_are_merged():
    """So that a call which fails changes nothing."""
    ctx = context(slip("a", "b", variables={"kept": [1], "gone": 1}))
    own = ctx.fork("tool:1:x")
    own.insert("d")
    own.skip("b")
    child = own.dispatch("e")
    own.variables["kept"].append(2)
    own.variables["new"] = 3
    del own.variables["gone"]
    assert (ctx.edits.insert, ctx.edits.skip, ctx.edits.children, ctx.variables.changed) == ((), (), (), None)

    ctx.state.merge(recorded(own.state))
    assert [step.name for step in ctx.edits.insert] == ["d"]
    assert ctx.edits.skip == ("b",)
    assert [one.correlation_id for one in ctx.edits.children] == [child]
    assert ctx.variables.changed == {"kept": [1, 2], "new": 3}


def test_the_recorded_effects_have_the_names_that_journals_contain():
    """Journals of earlier releases are read by these names, and later releases read ours."""
    ctx = context(slip("a", "b", variables={"v": 1, "w": 1}), received=received("x"))
    own = ctx.fork("tool:1:x")
    assert own.state.effects() == {}
    own.insert("d")
    own.skip("b")
    own.dispatch("e", key="k")
    own.variables["v"] = 2
    del own.variables["w"]
    own.await_signal("news")
    effects = recorded(own.state)
    assert list(effects) == ["insert", "skip", "children", "set", "delete", "awaited", "took"]
    assert (effects["set"], effects["delete"]) == ({"v": 2}, ["w"])
    assert effects["awaited"] == {"keyed": 1, f"{own.state.place}#k": 1}
    assert effects["took"] == {"signal:news": [0]}


def test_a_fork_sees_the_changes_of_the_calls_before_it():
    """Steps count for the grant, variables are visible, and a change of the step after the fork is not."""
    ctx = context(slip("a", "b", variables={"v": [1]}))
    ctx.insert("d", "e")
    ctx.variables["v"].append(2)
    own = ctx.fork("tool:1:x")
    ctx.variables["v"].append(3)
    own.insert("f")
    assert (own.variables["v"], own.inserting, ctx.inserting) == ([1, 2], 3, 2)
    assert "set" not in own.state.effects()


def test_each_tool_call_has_a_place_of_its_own():
    """Ids, keys and timers of two calls differ, and those of the step differ from both."""
    ctx = context()
    states = [ctx.state, ctx.fork("tool:1:x").state, ctx.fork("tool:1:y").state]
    for names in (
        [one.place for one in states],
        [one.idempotency_key for one in states],
        [one.sleep_key for one in states],
        [one.approval_key("q") for one in states],
        [one.next_child(None)[0] for one in states],
        [one.next_child("k")[0] for one in states],
    ):
        assert len(set(names)) == 3


def test_children_are_numbered_within_their_call():
    """Calls side by side dispatch the same workflows, whichever of them ends first."""
    ctx = context()
    first, second = ctx.fork("tool:1:x"), ctx.fork("tool:1:y")
    ids = [first.dispatch("d"), first.dispatch("d", key="k"), first.dispatch("d"), second.dispatch("d")]
    assert len(set(ids)) == 4
    ctx.state.merge(second.state.effects())
    ctx.state.merge(first.state.effects())
    assert ctx.fork("tool:1:y").dispatch("d") == ids[3]
    assert [one.correlation_id for one in ctx.edits.children] == [ids[3], *ids[:3]]


def test_a_key_is_used_once_in_a_call():
    """Another call may use it as well."""
    own = context().fork("tool:1:x")
    own.dispatch("d", key="k")
    with pytest.raises(InvalidArguments, match="'k' already"):
        own.dispatch("d", key="k")


def test_a_call_that_waits_adds_its_workflows_alone():
    """They run while it waits; the call makes its other changes when it is repeated."""
    ctx = context()
    own = ctx.fork("tool:1:x")
    own.insert("d")
    own.variables["v"] = 1
    child = own.dispatch("e")
    with pytest.raises(Park):
        own.wait_for(child)
    ctx.state.merge_children(own.state)
    assert [one.correlation_id for one in ctx.edits.children] == [child]
    assert (ctx.edits.insert, ctx.variables.changed) == ((), None)


def test_equal_questions_of_later_calls_count_those_of_earlier_ones():
    """In a run that reads the first call from the journal too."""
    ctx = context()
    first = ctx.fork("tool:1:x")
    assert [first.state.nth_question("q"), first.state.nth_question("q")] == [0, 1]
    again = context()
    for one in (ctx, again):
        one.state.merge(recorded(first.state))
        assert one.fork("tool:2:x").state.nth_question("q") == 2


def test_progress_of_a_call_is_progress_of_its_step():
    """The next attempt of the step reads it, also if an agent in the call reported it."""
    ctx = context()
    ctx.fork("tool:1:x").fork("tool:1:y").state.report({"page": 3})
    assert ctx.reported == {"page": 3}


def test_the_context_of_a_call_is_current_in_the_call_only():
    """Afterwards the step's own is current again, also after an error."""
    ctx = context()
    own = ctx.fork("tool:1:x")

    def call() -> None:
        with made_current(own):
            assert ActivityContext.current() is own
            raise ZeroDivisionError

    with made_current(ctx):
        with pytest.raises(ZeroDivisionError):
            call()
        assert ActivityContext.current() is ctx
    assert ActivityContext.running() is None


# --- arrivals --------------------------------------------------------------------------------------------------------


def test_each_arrival_is_used_by_one_call():
    """Calls side by side share what has arrived."""
    ctx = context(received=received("x", "y"))
    first, second = ctx.fork("tool:1:x"), ctx.fork("tool:1:y")
    assert (second.await_signal("news"), first.await_signal("news")) == ("x", "y")
    assert (first.state.took, second.state.took) == ({"signal:news": [1]}, {"signal:news": [0]})
    with pytest.raises(Park):
        ctx.await_signal("news")


def test_an_arrival_of_a_recorded_call_is_not_used_again():
    """Neither that of a call which returned nor that of a refused one, whose other changes do not count."""
    own = context(received=received("x", "y")).fork("tool:1:x")
    own.await_signal("news")
    own.insert("d")
    assert own.state.arrivals() == {"took": {"signal:news": [0]}}
    for effects in (own.state.arrivals(), recorded(own.state)):
        ctx = context(received=received("x", "y"))
        ctx.state.note_taken(effects)
        assert ctx.await_signal("news") == "y"


def test_effects_of_an_earlier_release_count_their_arrivals():
    """It recorded how many a call had used, and not which."""
    ctx = context(received=received("x", "y", "z"))
    ctx.state.merge({"awaited": {"signal:news": 2}})
    assert ctx.await_signal("news") == "z"


# --- copies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        lambda ctx: ctx.previous,
        lambda ctx: ctx.output("read"),
        lambda ctx: ctx.output("read", type=dict[str, Any]),
        lambda ctx: ctx.output("stored"),
        lambda ctx: ctx.progress,
        lambda ctx: ctx.user_claims,
        lambda ctx: ctx.await_signal("news"),
        lambda ctx: ctx.await_signal("news", schema={"type": "object"}),
        lambda ctx: ctx.wait_for("w1"),
    ],
    ids=["previous", "output", "typed", "stored", "progress", "claims", "signal", "json-schema", "workflow"],
)
def test_a_step_may_change_what_it_reads(read):
    """The next attempt reads the same again, although it has the same message."""
    value = {"sub": "ada", "list": [{"n": 1}]}
    stored = entry("y", "stored").model_copy(update={"aside": True})
    one = RoutingSlip(itinerary=slip("a").itinerary, log=(stored, entry("x", "read", output=value)))
    arrivals = received(value) | {"child:w1": [{"value": {"status": "completed", "output": value, "error": None}}]}
    message = PaigeantMessage(correlation_id="c1", routing_slip=one, progress=value, received=arrivals)
    before = message.to_json()
    for _ in range(2):
        services = Services(plans=PLANS, claims=value, read=lambda _: value)
        ctx = ActivityContext(StepState.of(message, Delivery(queue="q", body=b"", tag=1), PLANS), services)
        found = read(ctx)
        assert found["list"] == [{"n": 1}]
        found["list"][0]["n"] = 2
        found["list"].append(3)
    assert (message.to_json(), value) == (before, {"sub": "ada", "list": [{"n": 1}]})


@pytest.mark.parametrize("attempt", [1, 2])
def test_the_results_of_branches_are_copies(attempt):
    """Also in an attempt after the one that began them."""
    ctx = context()
    with pytest.raises(Park) as parked:
        ctx.scatter("d", policy="settled")
    ctx = context(attempt=attempt, received={parked.value.key: [{"value": [{"workflow": "w", "output": [1]}]}]})
    before = ctx.message.to_json()
    for _ in range(2):
        again = ActivityContext(StepState.of(ctx.message, ctx.state.delivery, PLANS), ctx.services)
        [result] = again.scatter("d", policy="settled")
        assert result.output == [1]
        result.output.append(2)
    assert ctx.message.to_json() == before
