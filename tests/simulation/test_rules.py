"""The rules about effects, answers, steering, waits and agents: small histories, and what is said about them."""

from __future__ import annotations

from typing import Any

import pytest

from paigeant.testing.history import Dispatched, Ended, Entered, Fact, Published, Reopened, Started, WorkflowOver
from paigeant.testing.rules import broken_rules
from paigeant.testing.witnesses import (
    Accepted,
    Asked,
    Decided,
    Effect,
    GuardedCall,
    Overruled,
    Shown,
    Unanswerable,
    UnitDone,
    UnitRecorded,
    Used,
)


def did(token: str, step: str = "1", workflow: str = "w") -> list[Fact]:
    """A step had an effect and completed."""
    message = f"{workflow}-{step}"
    effect = Effect(token=token, is_undone=False, workflow=workflow, step=step, message=message)
    return [effect, Ended(message=message, workflow=workflow, step=step, how="step_completed")]


def undid(token: str, step: str = "1", workflow: str = "w") -> list[Fact]:
    """A compensation undid it and was recorded."""
    message, label = f"{workflow}-{step}-back", f"{step} (back)"
    return [
        Started(message=message, workflow=workflow, step=label, worker="a", lease=9, look=0),
        Effect(token=token, is_undone=True, workflow=workflow, step=step, message=message),
        Ended(message=message, workflow=workflow, step=label, how="step_compensated"),
    ]


def over(how: str, workflow: str = "w", **fields: Any) -> Fact:
    return WorkflowOver(workflow=workflow, how=how, **fields)


def branch(workflow: str) -> Fact:
    return Dispatched(workflow=workflow, parent="w", is_branch=True)


def entered(workflow: str = "w", step: str = "1") -> Fact:
    return Entered(message="m", worker="a", lease=1, workflow=workflow, step=step)


def asked(act: str, number: int = 1) -> Fact:
    return Asked(number=number, act=act, workflow="w")


def accepted(act: str, number: int = 1) -> Fact:
    return Accepted(number=number, act=act, workflow="w")


def began(lease: int) -> Fact:
    return Started(message="m", workflow="w", step="1", worker="a", lease=lease, look=0)


def published(workflow: str, broker: str) -> Fact:
    return Published(message="m", workflow=workflow, cause=None, broker=broker)


W, CHILD = Dispatched(workflow="w"), Dispatched(workflow="c", parent="w")
SHOWN = Shown(workflow="w", question="q", shown="x")
APPROVED, DENIED = (Decided(workflow="w", question="q", approved=one) for one in (True, False))
CALL, OTHER = (GuardedCall(workflow="w", step="1", place=place, shown="x") for place in "ab")
KEPT = UnitRecorded(workflow="w", step="1", key="model:1", requests=1)
DONE = UnitDone(workflow="w", step="1", key="model:1", lease=2)


@pytest.mark.parametrize(
    "facts",
    [
        [*did("t"), over("completed")],
        [*did("t"), *undid("t"), over("compensated")],
        [*did("t"), *did("u", "2"), *undid("u", "2"), *undid("t"), over("compensated")],
        [*did("t"), over("compensated", left=("1",))],
        [W, *did("t"), asked("cancel"), over("cancelled")],
        [W, asked("cancel"), CHILD, *did("t", workflow="c"), over("cancelled", "c"), over("cancelled")],
        [branch("b"), branch("c"), *did("t", workflow="b"), *did("u", workflow="c"), *undid("t"), *undid("u", "2")],
        [W, asked("cancel"), entered(), accepted("cancel")],
        [W, accepted("compensate"), entered(step="1 (back)")],
        [W, accepted("compensate"), over("failed"), Reopened(workflow="w"), entered()],
        [W, asked("pause"), accepted("pause"), asked("resume", 2), entered()],
        [W, asked("pause"), asked("resume", 2), accepted("pause"), entered()],
        [SHOWN, APPROVED, CALL, CALL],
        [W, began(1), KEPT, UnitDone(workflow="w", step="1", key="model:1", lease=1)],
        [W, KEPT, asked("fresh"), began(2), DONE],
        [W, KEPT, KEPT, Used(workflow="w", requests=1, tool_calls=0)],
        [W, CHILD, published("w", "b"), published("c", "b")],
    ],
)
def test_rules_kept(facts):
    """What may happen."""
    assert list(broken_rules(facts)) == []


@pytest.mark.parametrize(
    ("facts", "complaint"),
    [
        (undid("t"), "G8: effect t was undone, and its step had not completed"),
        (did("t")[:1] + undid("t"), "G8: effect t was undone, and its step had not completed"),
        ([*did("t"), *did("u", "2"), *undid("t"), *undid("u", "2")], "G8: effect t was undone before u"),
        ([*did("t"), *undid("t"), *undid("t")], "G8: effect t was undone 2 times"),
        ([*did("t"), over("failed")], "G8: effect t of w still stands, and w is failed"),
        ([branch("b"), *did("t", workflow="b"), over("cancelled", "b")], "G8: effect t of b still stands"),
        (
            [branch("b"), *did("t", workflow="b"), over("completed", "b"), over("failed")],
            "G8: effect t of b still stands, and w is failed",
        ),
        ([*did("t"), *undid("t"), *did("u", "2")], "G8: step 2 of w completed after its compensations had begun"),
        ([W, accepted("cancel"), entered()], "G10: a began step 1 of w after its cancel had returned"),
        ([W, CHILD, accepted("cancel"), entered("c")], "G10: a began step 1 of c after its cancel had returned"),
        ([W, asked("pause"), accepted("pause"), entered()], "G10: a began step 1 of w, which is paused"),
        ([W, CALL], "G11: call a of w ran, and nobody was asked"),
        ([SHOWN, CALL], "G11: call a of w ran, and its question was not approved"),
        ([SHOWN, DENIED, CALL], "G11: call a of w ran, and its question was not approved"),
        ([SHOWN, APPROVED, CALL, OTHER], "G11: call b of w ran, and its question was not approved"),
        (
            [SHOWN, APPROVED, Overruled(workflow="w", question="q", approved=True), CALL],
            "G11: call a of w ran, and its question was not approved",
        ),
        ([W, KEPT, began(2), DONE], "G5: unit model:1 of step 1 of w was done again"),
        ([W, KEPT, Used(workflow="w", requests=2, tool_calls=0)], "usage: the units of w used"),
        ([Unanswerable(workflow="w", key="child:c", why="it has ended")], "G1: w waits for child:c: it has ended"),
        ([W, published("w", "b"), published("w", "c")], "two Apps: message m of w went to c, not to b"),
        ([W, CHILD, published("w", "b"), published("c", "c")], "two Apps: message m of c went to c, not to b"),
    ],
)
def test_rules_broken(facts, complaint):
    """What may not, by the promise that it breaks."""
    assert complaint in "\n".join(broken_rules(facts))
