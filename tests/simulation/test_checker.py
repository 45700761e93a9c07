"""The promises as a function: small histories, and what is said about them."""

from __future__ import annotations

from typing import Any

import pytest

from paigeant.testing.checker import broken_promises
from paigeant.testing.history import (
    Announced,
    Claimed,
    Copied,
    Declined,
    Dispatched,
    Ended,
    Entered,
    Fact,
    Freed,
    Looked,
    Offered,
    Published,
    Replaced,
    SetAside,
    Settled,
    Started,
    Stopped,
    WorkflowOver,
)


def published(message: str = "m1", cause: str | None = None) -> Fact:
    return Published(message=message, workflow="w", cause=cause)


def claimed(lease: int = 1, message: str = "m1", deliveries: int = 1) -> Fact:
    return Claimed(message=message, worker="a", lease=lease, deliveries=deliveries)


def started(lease: int = 1, look: int = 0, message: str = "m1") -> Fact:
    return Started(message=message, workflow="w", step="1", worker="a", lease=lease, look=look)


def ended(message: str = "m1", **fields: Any) -> Fact:
    return Ended(**{"message": message, "workflow": "w", "step": "1", "how": "step_completed"} | fields)


def announced(run: str, message: str = "m1") -> Fact:
    return Announced(message=message, run=run)


def settled(message: str = "m1", lease: int = 1, **fields: Any) -> Fact:
    return Settled(message=message, worker="a", lease=lease, **fields)


def looked(number: int, done: bool = False) -> Fact:
    return Looked(message="m1", worker="a", done=done, number=number)


def entered(lease: int = 1, message: str = "m1") -> Fact:
    return Entered(message=message, worker="a", lease=lease)


def crashed(lease: int = 1, message: str = "m1") -> Fact:
    return Freed(message=message, lease=lease, why="crash")


def replaced(lease: int = 1) -> Fact:
    return Replaced(message="m1", worker="a", lease=lease)


LONE_DEATHS = [fact for lease in (1, 2, 3) for fact in (entered(lease), crashed(lease))]
IN_COMPANY = [
    fact
    for lease in (1, 3, 5)
    for fact in (entered(lease), entered(lease + 1, "m2"), crashed(lease), crashed(lease + 1, "m2"))
]
OVER = WorkflowOver(workflow="w", how="completed")
DECLINED = Declined(message="m1", worker="a")
DISPATCHED = Dispatched(workflow="w")
KEPT = [DISPATCHED, published(), claimed(), looked(4), started(look=4), ended(), OVER, settled(), Stopped()]


@pytest.mark.parametrize(
    "facts",
    [
        KEPT,
        [DISPATCHED, Stopped(waiting=("w",))],
        [claimed(), started(), Freed(message="m1", lease=1, why="crash"), claimed(2), started(2), ended()],
        [claimed(1), claimed(2), started(1), Freed(message="m1", lease=2, why="expired"), started(2)],
        [claimed(1), started(1), Copied(message="m1"), claimed(2), started(2)],
        [claimed(), started(), crashed(), claimed(2), Copied(message="m1"), replaced(2), claimed(3), started(3)],
        [claimed(), looked(2), ended(), started(look=2)],
        [*LONE_DEATHS, SetAside(message="m1", workflow="w", reason="poison"), settled()],
        [ended(successors=("m2",)), published("m2", "m1"), settled()],
        [ended(successors=("m2",)), ended("m2", step="2"), settled()],
        [ended(), Offered(message="m1", successors=("m2",)), Offered(message="m1", successors=())],
        [claimed(), started(), Copied(message="m1"), claimed(2), settled(lease=2), ended(), settled()],
        [claimed(), started(), Copied(message="m1"), DECLINED, settled(), claimed(2), started(2), ended()],
        [ended(run="a"), Declined(message="m1", worker="b", run="b"), announced("a")],
    ],
    ids=[
        "kept",
        "waits",
        "crash",
        "expired",
        "copy",
        "trial",
        "looked before",
        "poison",
        "followed",
        "done",
        "no successor",
        "a copy is dropped",
        "a stale end",
        "two runs",
    ],
)
def test_promises_kept(facts):
    """What may happen."""
    assert broken_promises(facts, 5) == []


@pytest.mark.parametrize(
    ("facts", "complaint"),
    [
        ([DISPATCHED, Stopped()], "G1: workflow w was dispatched and never ended"),
        ([Stopped(left=("m1",))], "G1: message m1 is still on the broker"),
        ([claimed(), started(), claimed(2), started(2)], "G2: a started message m1 again"),
        ([started(1), Freed(message="m1", lease=1, why="given up"), started(2)], "G2: a started message m1 again"),
        (
            [one for n in range(6) for one in (started(n), Freed(message="m1", lease=n, why="crash"))],
            "G2: message m1 was started 6 times",
        ),
        ([ended(), ended(how="step_failed")], "G3: message m1 was ended twice: step_completed, step_failed"),
        ([ended(), settled(stale=True)], "G3: a settled message m1, which it did not own"),
        ([published("m2", "m1"), published("m3", "m1")], "G3: m3 and m2 both follow m1"),
        ([Offered(message="m1", successors=(one,)) for one in ("m2", "m3")], "G3: message m1 has two sets"),
        ([settled()], "G4: message m1 was acknowledged before its end"),
        ([ended(successors=("m2",)), settled(), published("m2", "m1")], "G4: message m1 was acknowledged before m2"),
        ([ended(how="step_failed", error="StoreError")], "G4: trouble with broker or store became the failure"),
        ([claimed(), ended(), looked(3, done=True), started(look=3)], "G5: a ran step 1 of w again"),
        ([ended(), claimed(), started()], "G5: a ran step 1 of w again"),
        (
            [*LONE_DEATHS[2:], SetAside(message="m1", workflow="w", reason="bad")],
            "G12: message m1 was set aside after 2 l",
        ),
        (
            [*IN_COMPANY, SetAside(message="m1", workflow="w", reason="bad")],
            "G12: message m1 was set aside after 0 lone",
        ),
        ([claimed(), started(), Copied(message="m1"), settled()], "G4: message m1 was acknowledged before its end"),
        (
            [claimed(), Copied(message="m1"), claimed(2), settled(lease=2), settled()],
            "G4: message m1 was acknowledged before its end",
        ),
        (
            [Copied(message="m1"), claimed(2), ended(successors=("m2",)), settled(lease=2)],
            "G4: message m1 was acknowledged before m2",
        ),
        ([claimed(), started(), DECLINED, settled()], "G4: message m1 was acknowledged before its end"),
        ([started(1), Copied(message="m1"), replaced(), started(2)], "G2: a started message m1 again"),
        (
            [announced("a"), ended(run="a")],
            "G3: run a acted on its own end of message m1, and the recorded end is that of None",
        ),
        (
            [ended(run="a"), announced("b")],
            "G3: run b acted on its own end of message m1, and the recorded end is that of a",
        ),
        (
            [ended(run="a"), Declined(message="m1", worker="a", run="a")],
            "G3: the store refused run a, whose end of message m1 it had recorded",
        ),
    ],
)
def test_promises_broken(facts, complaint):
    """What may not, by the promise that it breaks."""
    assert complaint in "\n".join(broken_promises(facts, 5))


@pytest.mark.parametrize("last", [WorkflowOver(workflow="w", how="failed"), Stopped(waiting=("w",))])
def test_a_workflow_ends_as_without_faults(last):
    """A run that only fails, or only waits, is none that went well."""
    assert broken_promises([DISPATCHED, last], 5, {"w": "failed"})[1:] == []
    [problem] = broken_promises([DISPATCHED, last], 5, {"w": "completed"})
    assert "without faults it is completed" in problem
