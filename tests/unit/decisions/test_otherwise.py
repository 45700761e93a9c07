"""Steps that run instead of one that has failed for good: when, with which slip, and when not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.builders import EXECUTION, entry

from paigeant.decisions.fork import rest, slip_at, slips
from paigeant.decisions.forward import decide, without_others
from paigeant.decisions.outcome import Cancelled, Completed, Edits, Exhausted, Faulted, Poisoned, Refused, Retrying
from paigeant.events import Cancellation, ErrorInfo, StepFailed
from paigeant.records.workflow import Course, DoneStep, Status, WorkflowRecord
from paigeant.wire.budget import Budget
from paigeant.wire.claim_check import Kept
from paigeant.wire.condition import Condition
from paigeant.wire.grant import Grant
from paigeant.wire.log import Fault, LogEntry, Undo
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import ActivitySpec, RoutingSlip, count
from paigeant.wire.usage import Usage

BROKEN = ErrorInfo(type="CardRefused", message="no funds")
INVOICE, ASK = ActivitySpec(name="invoice", arguments={"days": 30}), ActivitySpec(name="ask")


def pay(*otherwise: ActivitySpec, **fields: object) -> ActivitySpec:
    return ActivitySpec(name="pay", otherwise=otherwise or (INVOICE, ASK), **fields)


def shop(step: ActivitySpec | None = None, /, **fields: object) -> PaigeantMessage:
    """A workflow that comes to pay, then ship, and has an order behind it."""
    itinerary = (step or pay(id="2"), ActivitySpec(name="ship", id="3"))
    given = {"log": (entry("1", "order", 7),), "itinerary": itinerary} | fields
    return PaigeantMessage(correlation_id="c1", routing_slip=RoutingSlip(**given))


def ahead(slip: RoutingSlip) -> list[tuple[str, str]]:
    return [(step.id, step.name) for step in slip.itinerary]


@pytest.mark.parametrize("outcome", [Faulted, Poisoned, Refused])
def test_the_other_steps_take_the_place_of_the_failed_one(outcome):
    """With ids of their own; the workflow goes on, and the record says what is ahead."""
    plan = decide(shop(), outcome(EXECUTION, BROKEN))

    [send] = plan.send
    slip = send.message.routing_slip
    assert ahead(slip) == [("4", "invoice"), ("5", "ask"), ("3", "ship")]
    assert slip.itinerary[0].arguments == {"days": 30}
    assert slip.previous == entry("1", "order", 7)
    assert slip.failed == (Fault(step="2", type="CardRefused", message="no funds"),)
    assert not slip.is_back
    assert (send.message.attempt, send.message.causation_id) == (1, shop().id)
    [failed] = plan.record
    assert isinstance(failed, StepFailed)
    assert failed.error == BROKEN
    assert failed.ahead == [step.to_dict() for step in slip.itinerary]
    assert (plan.set_aside is None) == (outcome is Faulted)


@pytest.mark.parametrize(
    "outcome",
    [
        Retrying(EXECUTION, BROKEN, 1.0),
        Exhausted(EXECUTION, BROKEN),
        Completed(EXECUTION, 5),
        Cancelled(EXECUTION, Cancellation(at=1.0), ran=True),
    ],
    ids=lambda outcome: type(outcome).__name__,
)
def test_nothing_else_takes_its_place(outcome):
    """Not while it may still succeed, not after it did, and not in a cancelled workflow."""
    plan = decide(shop(), outcome)
    assert all(not send.message.routing_slip.failed for send in plan.send)
    assert all(getattr(event, "error", None) is None or not getattr(event, "ahead", None) for event in plan.record)


def test_a_step_without_others_fails_the_workflow():
    """As ever."""
    plan = decide(shop(ActivitySpec(name="pay", id="2")), Faulted(EXECUTION, BROKEN))
    assert [event.type for event in plan.record] == ["step_failed", "workflow_failed"]
    assert plan.record[0].ahead is None


def test_steps_in_its_place_may_fail_too():
    """They may have others themselves; with none left the slip heads back over everything that completed."""
    undone = entry("1", "order", 7).model_copy(update={"undo": Undo(queue="q.order")})
    message = shop(pay(INVOICE.options(otherwise=["ask"]), id="2"), log=(undone,))

    [second] = decide(message, Faulted(EXECUTION, BROKEN)).send
    [third] = decide(second.message, Faulted(EXECUTION, BROKEN)).send
    assert ahead(third.message.routing_slip) == [("5", "ask"), ("3", "ship")]
    assert [fault.step for fault in third.message.routing_slip.failed] == ["2", "4"]

    [back] = decide(third.message, Faulted(EXECUTION, BROKEN)).send
    assert back.message.routing_slip.is_back
    assert ahead(back.message.routing_slip) == [("1", "order")]
    assert back.message.routing_slip.fault.step == "5"


def test_what_completed_in_its_place_is_taken_back():
    """In reverse order, before what had completed before it."""
    undone = entry("1", "order", 7).model_copy(update={"undo": Undo(queue="q.order")})
    [invoiced] = decide(shop(pay(INVOICE, id="2"), log=(undone,)), Faulted(EXECUTION, BROKEN)).send
    [shipping] = decide(invoiced.message, Completed(EXECUTION, 5, undo=Undo(queue="q.invoice"))).send
    [back] = decide(shipping.message, Faulted(EXECUTION, BROKEN)).send
    assert ahead(back.message.routing_slip) == [("4", "invoice"), ("1", "order")]


def test_a_compensation_has_no_others():
    """The way back goes on over the next one."""
    undone = entry("1", "order", 7).model_copy(update={"undo": Undo(queue="q.order")})
    [back] = decide(shop(ActivitySpec(name="pay", id="2"), log=(undone,)), Faulted(EXECUTION, BROKEN)).send
    plan = decide(back.message, Faulted(EXECUTION, BROKEN))
    assert [event.type for event in plan.record] == ["step_failed", "workflow_compensated"]


def test_a_workflow_without_time_or_budget_fails():
    """What would take the place could not start either: the error is that of the step."""
    late = decide(shop().model_copy(update={"deadline": EXECUTION.finished_at}), Faulted(EXECUTION, BROKEN))
    spent = decide(shop(budget=Budget(steps=1), used=Usage(steps=1)), Faulted(EXECUTION, BROKEN))
    early = decide(shop().model_copy(update={"deadline": EXECUTION.finished_at + 1}), Faulted(EXECUTION, BROKEN))
    for plan in (late, spent):
        assert [event.type for event in plan.record] == ["step_failed", "workflow_failed"]
        assert plan.record[0].error == BROKEN
    assert [event.type for event in early.record] == ["step_failed"]


def test_conditions_choose_among_the_others():
    """On variables when their turn comes, on an output as soon as it is there; with none left the workflow fails."""
    rich, poor = INVOICE.options(when="rich"), ASK.options(when="poor")
    [send] = decide(shop(pay(rich, poor, id="2"), variables={"poor": True}), Faulted(EXECUTION, BROKEN)).send
    assert ahead(send.message.routing_slip) == [("5", "ask"), ("3", "ship")]

    plan = decide(shop(pay(rich, id="2")), Faulted(EXECUTION, BROKEN))
    assert [event.type for event in plan.record] == ["step_failed", "workflow_failed"]

    checked = Condition(output="check", among=[True])
    steps = (ActivitySpec(name="check", id="1"), pay(INVOICE.options(when=checked), ASK, id="2"))
    first = PaigeantMessage(correlation_id="c1", routing_slip=RoutingSlip(itinerary=steps))
    for output, names in ((True, ["invoice", "ask"]), (False, ["ask"])):
        [paying] = decide(first, Completed(EXECUTION, output)).send
        [instead] = decide(paying.message, Faulted(EXECUTION, BROKEN)).send
        assert [step.name for step in instead.message.routing_slip.itinerary] == names
        assert instead.message.step.when is None


def test_no_id_is_given_twice():
    """That of the failed step is gone from itinerary and log, and its message is done with."""
    message = shop(pay(INVOICE, id="5"), log=())
    [instead] = decide(message, Faulted(EXECUTION, BROKEN)).send
    for _ in range(4):
        grown = decide(instead.message, Completed(EXECUTION, 1, edits=Edits(insert=(ASK, pay()), skip=("ship",))))
        [instead] = grown.send
        assert "5" not in {step.id for step in instead.message.routing_slip.itinerary}


def test_what_branches_did_is_no_output_before_the_others():
    """It stays in the log to be taken back; the next step is given the output of the step before the failed one."""
    part = {"status": "completed", "output": 1, "standing": [{"id": "1", "name": "reserve", "undo": {"queue": "q"}}]}
    message = shop().model_copy(update={"received": {"join:2:0:0": [{"value": [part]}]}})
    [send] = decide(message, Faulted(EXECUTION, BROKEN)).send
    slip = send.message.routing_slip
    assert [one.name for one in slip.log] == ["order", "reserve"]
    assert slip.previous == entry("1", "order", 7)

    aside = slip.model_copy(update={"log": (LogEntry(id="1", name="order", source="m", aside=True), slip.log[1])})
    assert aside.aside == aside.log[0]
    assert [one.output for one in aside.with_previous(7).log] == [7, None]
    assert RoutingSlip(itinerary=slip.itinerary, log=slip.log[1:]).previous is None


def test_a_message_that_is_too_large_goes_without_the_others():
    """Then the workflow fails in order, and what it did is taken back."""
    undone = entry("1", "order", 7).model_copy(update={"undo": Undo(queue="q.order")})
    plan = decide(without_others(shop(log=(undone,))), Faulted(EXECUTION, BROKEN))
    assert plan.send[0].message.routing_slip.is_back
    assert without_others(shop()).id == shop().id


def test_the_grant_counts_steps_that_may_never_run():
    """What a step inserts for the case of a failure may run, so it has to be allowed."""
    assert count([pay(INVOICE, INVOICE.options(otherwise=[ASK]))]) == 4
    assert pay(INVOICE.options(otherwise=[ASK])).activities == ("pay", "invoice", "ask")
    assert [step.depth for step in pay(INVOICE).deep(3).otherwise] == [3]
    message = shop(ActivitySpec(name="plan", id="2"), grant=Grant(activities=("pay", "invoice")))
    allowed = decide(message, Completed(EXECUTION, 1, edits=Edits(insert=(pay(INVOICE),))))
    refused = decide(message, Completed(EXECUTION, 1, edits=Edits(insert=(pay(INVOICE, ASK),))))
    assert [event.type for event in allowed.record] == ["step_completed"]
    assert refused.record[0].error.type == "GrantExceeded"


# --- what was recorded ---------------------------------------------------------------------------------------------


def _recorded(event) -> DoneStep:
    return DoneStep(
        id=event.step_id,
        activity=event.activity,
        output=getattr(event, "output", None),
        message_id=event.message_id,
        attempt=event.attempt,
        worker=event.worker,
        started_at=event.started_at,
        finished_at=event.at,
        changes=getattr(event, "changes", None),
        ahead=event.ahead,
        error=getattr(event, "error", None),
    )


def test_the_way_of_a_workflow_leads_over_the_failed_step():
    """Its slips are those of its messages, so that it can be forked from each step of it."""
    begun = PaigeantMessage(
        correlation_id="c1", routing_slip=RoutingSlip(itinerary=(ActivitySpec(name="order"), pay(), INVOICE))
    )
    message, seen, done = begun, [begun.routing_slip], list[DoneStep]()
    for outcome in (Completed(EXECUTION, 7), Faulted(EXECUTION, BROKEN), Completed(EXECUTION, 8)):
        plan = decide(message, outcome)
        done.append(_recorded(plan.record[0]))
        message = plan.send[0].message
        seen.append(message.routing_slip)
    record = WorkflowRecord(correlation_id="c1", name="", app="", status=Status.FAILED, created_at=0, updated_at=0)
    course = Course(workflow=record, slip=begun.routing_slip.to_dict(), done=done)

    assert [ahead(slip) for slip in slips(course)] == [ahead(slip) for slip in seen]
    assert [slip.failed for slip in slips(course)] == [slip.failed for slip in seen]
    assert ahead(slip_at("c1", course, (), "pay"))[0] == ("2", "pay")
    assert rest(course).itinerary == seen[-1].itinerary
    assert rest(replace(course, done=done[:1])).itinerary[0].name == "pay"


def test_large_values_of_the_others_are_kept_aside_with_the_rest():
    """They do not travel, and come back when it is their turn."""
    from paigeant.wire.aside import needed, put_aside, stripped, whole

    large = ActivitySpec(name="invoice", arguments={"text": "x" * 2000})
    light, [parcel] = put_aside(shop(pay(large, id="2")), 1000, 10_000)
    assert len(light.to_json()) < 1500
    assert needed(light) == {}
    [send] = decide(light, Faulted(EXECUTION, BROKEN)).send
    assert list(needed(send.message)) == [parcel.kept]
    assert isinstance(parcel.kept, Kept)
    restored = whole(send.message, {parcel.kept: parcel.data})
    assert restored.step.arguments == large.arguments
    assert stripped(restored).to_json() == send.message.to_json()
