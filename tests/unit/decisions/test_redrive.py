"""Dead letters as decisions: which may be sent again, as what, and what their steps still know."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.builders import EXECUTION, json_values, labels, message

from paigeant.decisions.forward import decide
from paigeant.decisions.outcome import Completed, Faulted
from paigeant.decisions.redrive import Again, NotRedrivable, awaits, judge, lasting
from paigeant.events import ErrorInfo, LetterKind
from paigeant.records.workflow import Status, StepRecord, WorkflowRecord
from paigeant.wire.codec import decode, encode
from paigeant.wire.log import Undo
from paigeant.wire.message import DEADLINE, SLEEP, PaigeantMessage, child_key

EXHAUSTED, POISON, REFUSED = LetterKind.EXHAUSTED, LetterKind.POISON, LetterKind.REFUSED
NOW = 1000.0


def record(status: Status, *steps: StepRecord) -> WorkflowRecord:
    return WorkflowRecord(
        correlation_id="c1", name="", app="", status=status, created_at=0.0, updated_at=0.0, steps=steps
    )


def step(id: str, status: str, heading: str = "forward", **fields: object) -> StepRecord:  # noqa: A002
    return StepRecord(id=id, activity="a", status=status, heading=heading, finished_at=1.0, **fields)


FORWARD = message("a", "b", attempt=3, uncounted=1, resumes=2)


def back(*left: str) -> PaigeantMessage:
    """A message that takes back the third of three steps; these, before it, could not be taken back."""
    at = message("a", "b", "c", "failing")
    for number in range(3):
        at = decide(at, Completed(EXECUTION, undo=Undo(queue=f"q{number}"))).send[0].message
    turned = decide(at, Faulted(EXECUTION, ErrorInfo(type="E", message=""))).send[0].message
    slip = turned.routing_slip
    fault = slip.fault.model_copy(update={"left": left})
    return turned.model_copy(update={"routing_slip": slip.model_copy(update={"fault": fault})})


@pytest.mark.parametrize(
    ("status", "kind", "after"),
    [
        (Status.FAILED, EXHAUSTED, Status.RUNNING),
        (Status.FAILED, POISON, Status.RUNNING),
        (Status.RUNNING, REFUSED, Status.RUNNING),
        (Status.PAUSED, REFUSED, Status.PAUSED),
        (Status.COMPLETED, REFUSED, "paigeant fork c1"),
        (Status.CANCELLED, EXHAUSTED, "paigeant fork c1"),
        (Status.COMPENSATING, POISON, "being taken back"),
        (Status.COMPENSATED, POISON, "paigeant dispatch"),
        (Status.COMPENSATION_INCOMPLETE, POISON, "paigeant dlq list --workflow c1"),
        (None, EXHAUSTED, None),
    ],
)
def test_where_a_step_may_go_forward_again(status, kind, after):
    """By how its workflow stands; what it moves to, or what to do instead."""
    verdict = judge(FORWARD, kind, record(status) if status else None, (), NOW)
    if isinstance(after, str) and not isinstance(after, Status):
        assert isinstance(verdict, NotRedrivable)
        assert after in verdict.hint
    else:
        assert isinstance(verdict, Again)
        assert (verdict.move.before, verdict.move.after) == (status, after)


def test_it_is_the_same_step_from_its_first_attempt_under_the_next_epoch():
    """So it has another id, and so has all that follows it."""
    again = judge(FORWARD, EXHAUSTED, record(Status.FAILED), (), NOW).message
    assert (again.epoch, again.attempt, again.uncounted, again.resumes, again.tries) == (1, 1, 0, 0, 1)
    assert (again.step, again.correlation_id, again.causation_id) == (FORWARD.step, "c1", FORWARD.id)
    assert again.id not in {FORWARD.id, message("a", "b").id}
    assert again.next(again.routing_slip).epoch == 1


@pytest.mark.parametrize(
    ("letter", "known", "words"),
    [
        (message("a", deadline=NOW), record(Status.FAILED), "deadline has passed"),
        (FORWARD, record(Status.RUNNING, step("1", "completed", message_id="other")), "has completed in another"),
        (FORWARD, record(Status.RUNNING, step("1", "retried", message_id=FORWARD.id)), "gone on without it"),
        (
            message("a", parent="p", branch={"join": "join:1:0:0", "index": 0}),
            record(Status.FAILED),
            "workflow p has gone on without",
        ),
    ],
    ids=["deadline", "completed", "done with", "branch"],
)
def test_what_would_run_in_vain_or_twice_is_refused(letter, known, words):
    """With what to do instead."""
    verdict = judge(letter, EXHAUSTED, known, (), NOW)
    assert isinstance(verdict, NotRedrivable)
    assert words in verdict.why
    assert verdict.hint


# --- on the way back -------------------------------------------------------------------------------------------------


def test_a_compensation_that_failed_goes_on_alone():
    """The others have been tried, and those that failed have letters of their own."""
    tried = [step("3", "failed", "back"), step("2", "compensated", "back"), step("1", "failed", "back")]
    verdict = judge(back(), EXHAUSTED, record(Status.COMPENSATION_INCOMPLETE, *tried), ["3", "1"], NOW)
    assert (verdict.move.before, verdict.move.after) == (Status.COMPENSATION_INCOMPLETE, Status.COMPENSATING)
    slip = verdict.message.routing_slip
    assert ([one.id for one in slip.itinerary], slip.fault.left) == (["3"], ("1",))


def test_with_it_go_those_that_nothing_tried_to_take_back():
    """Their message could not be written."""
    known = record(Status.COMPENSATION_INCOMPLETE, step("3", "failed", "back"))
    slip = judge(back(), REFUSED, known, ["3", "2", "1"], NOW).message.routing_slip
    assert ([one.id for one in slip.itinerary], slip.fault.left) == (["3", "2", "1"], ())


@pytest.mark.parametrize(
    ("known", "kind", "left", "words"),
    [
        (record(Status.COMPENSATING), EXHAUSTED, (), "is compensating"),
        (record(Status.COMPENSATED), EXHAUSTED, (), "is compensated"),
        (record(Status.COMPENSATION_INCOMPLETE), EXHAUSTED, ("1",), "is compensation_incomplete"),
        (
            record(Status.COMPENSATION_INCOMPLETE, step("3", "compensated", "back")),
            EXHAUSTED,
            ("3",),
            "taken back by now",
        ),
    ],
)
def test_a_compensation_is_not_repeated(known, kind, left, words):
    """Nor one begun while others still run."""
    verdict = judge(back(), kind, known, left, NOW)
    assert isinstance(verdict, NotRedrivable)
    assert words in verdict.why


def test_the_way_back_goes_on_with_a_message_that_no_worker_accepted():
    """Nothing has happened to its step."""
    verdict = judge(back(), REFUSED, record(Status.COMPENSATING), (), NOW)
    assert verdict.move.before is verdict.move.after is Status.COMPENSATING
    assert verdict.message.routing_slip == back().routing_slip
    assert awaits(back(), REFUSED, record(Status.COMPENSATING))


@pytest.mark.parametrize(
    ("letter", "kind", "known", "does"),
    [
        (FORWARD, REFUSED, record(Status.RUNNING), True),
        (FORWARD, REFUSED, record(Status.PAUSED), True),
        (FORWARD, EXHAUSTED, record(Status.FAILED), False),
        (FORWARD, REFUSED, record(Status.COMPENSATING), False),
        (FORWARD, REFUSED, record(Status.RUNNING, step("1", "completed")), False),
        (FORWARD, REFUSED, record(Status.RUNNING, step("1", "retried", message_id=FORWARD.id)), False),
        (back(), EXHAUSTED, record(Status.COMPENSATING), False),
        (back(), REFUSED, record(Status.COMPENSATED), False),
    ],
)
def test_when_a_workflow_waits_for_a_letter(letter, kind, known, does):
    """Only then does it fail when the letter is thrown away."""
    assert awaits(letter, kind, known) is does


# --- what a step has received ----------------------------------------------------------------------------------------

GIVEN, LATE = {"value": 1}, {"timeout": True}


@pytest.mark.parametrize(
    ("key", "came", "kept"),
    [
        ("signal:word", [GIVEN, GIVEN], [GIVEN, GIVEN]),
        ("signal:word", [GIVEN, LATE, GIVEN], [GIVEN]),
        ("signal:word", [{"error": "too large"}], None),
        (SLEEP, [LATE, LATE], [LATE, LATE]),
        (DEADLINE, [LATE], None),
        ("lock:shop:a", [GIVEN], None),
        ("pause", [LATE], None),
        ("operator:1", [GIVEN], None),
        ("redrive", [LATE], None),
        ("approval:1:0", [{"value": {"approved": True}}], [{"value": {"approved": True}}]),
        ("approval:1:0", [{"value": {"approved": False}}], None),
        (child_key("c"), [{"value": {"status": "failed"}}], [{"value": {"status": "failed"}, "tried": True}]),
        (child_key("c"), [{"value": {"status": "completed"}}], [{"value": {"status": "completed"}}]),
        (child_key("c"), [LATE], None),
        ("join:1:0:0", [{"value": [{"output": 1}]}], [{"value": [{"output": 1}]}]),
        ("join:1:0:0", [{"error": "too large"}], None),
    ],
)
def test_what_a_step_still_has_of_what_came_for_it(key, came, kept):
    """What it was given; not what came too late, was denied, or was for one attempt alone."""
    assert lasting({key: came}) == ({key: kept} if kept else {})


@given(
    epochs=st.integers(1, 6),
    received=st.dictionaries(
        st.sampled_from(["signal:a", "signal:b", SLEEP, "lock:x"]),
        st.lists(st.one_of(st.builds(lambda v: {"value": v}, json_values), st.just(LATE)), min_size=1, max_size=3),
    ),
    name=labels,
)
def test_however_often_it_is_redriven_no_two_messages_are_one(epochs, received, name):
    """And what it still has does not change any more."""
    at = message(name, received=received)
    seen = {at.id}
    for _ in range(epochs):
        at = judge(at, EXHAUSTED, record(Status.FAILED), (), NOW).message
        assert at.id not in seen
        assert at.received == lasting(received) == lasting(at.received)
        assert decode(encode(at, 10**6), 10**6) == at
        seen.add(at.id)
    assert at.epoch == epochs


def test_what_is_kept_aside_is_still_there():
    """Nobody looks into it; but what came for one attempt alone is gone."""
    kept = [{"kept": {"digest": "0" * 64, "size": 1, "of": "c1"}}]
    assert lasting({"signal:a": kept, "lock:x": kept, "join:1:0:0": kept}) == {"signal:a": kept, "join:1:0:0": kept}
