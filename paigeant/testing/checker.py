"""The promises as a pure function: facts in, what was broken out. See docs/explanation/durability.md for G1 to G5."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from paigeant.testing.history import (
    Claimed,
    Copied,
    Dispatched,
    Ended,
    Fact,
    Freed,
    Looked,
    Offered,
    Published,
    SetAside,
    Settled,
    Started,
    Stopped,
    WorkflowOver,
)

F = TypeVar("F", bound=Fact)

_NO_FAULT_OF_A_STEP = ("TransportError", "StoreError", "Superseded", "Interrupted")


def broken_promises(facts: Sequence[Fact], max_deliveries: int, expected: Mapping[str, str] | None = None) -> list[str]:
    """What of G1 to G5 does not hold in this history; ``expected`` is how workflows end when nothing goes wrong."""
    checks = (_lost(facts), _repeated(facts, max_deliveries), _forked(facts), _forgotten(facts), _run_again(facts))
    problems = [problem for check in checks for problem in check]
    return problems + list(_needlessly_failed(facts, max_deliveries, expected or {}))


def _of(kind: type[F], facts: Sequence[Fact]) -> list[F]:
    return [fact for fact in facts if isinstance(fact, kind)]


def _lost(facts: Sequence[Fact]) -> Iterator[str]:
    """G1: what was dispatched ends, or waits for what has not come; and nothing is left on the broker."""
    over = {fact.workflow for fact in _of(WorkflowOver, facts)}
    for stop in _of(Stopped, facts):
        for workflow in {fact.workflow for fact in _of(Dispatched, facts)} - over - set(stop.waiting):
            yield f"G1: workflow {workflow} was dispatched and never ended"
        for message in stop.left:
            yield f"G1: message {message} is still on the broker"


def _repeated(facts: Sequence[Fact], max_deliveries: int) -> Iterator[str]:
    """G2: a body starts once, and once more for each lost lease and each copy of its message; and not without end."""
    starts: dict[str, int] = defaultdict(int)
    copies: dict[str, int] = defaultdict(int)
    losses: dict[str, int] = defaultdict(int)
    delivered: dict[int, str] = {}
    for fact in facts:
        match fact:
            case Claimed(lease=lease, message=message):
                delivered[lease] = message
            case Freed(message=message, why=why) if why != "given up":
                losses[message] += 1
            case Copied(message=message):
                copies[message] += 1
            case Started(message=message, lease=lease, worker=worker):
                carrier = delivered.get(lease, message)  # the tries in place have messages that were never sent
                starts[message] += 1
                if starts[message] > 1 + copies[carrier] + losses[carrier]:
                    yield f"G2: {worker} started message {message} again, although nothing had happened to it"
                if starts[message] > max_deliveries * (1 + copies[carrier]):
                    yield f"G2: message {message} was started {starts[message]} times"


def _forked(facts: Sequence[Fact]) -> Iterator[str]:
    """G3: one end is accepted, of its holder, and whoever ends the same message would send the same successors."""
    ends: dict[str, Ended] = {}
    offers: dict[str, tuple[str, ...]] = {}
    followed: dict[str, str] = {}
    for fact in facts:
        match fact:
            case Ended(message=message):
                if message in ends:
                    yield f"G3: message {message} was ended twice: {ends[message].how}, {fact.how}"
                ends[message] = fact
            case Offered(message=message, successors=successors) if successors:
                if offers.setdefault(message, successors) != successors:
                    yield f"G3: message {message} has two sets of successors: {offers[message]}, {successors}"
            case Settled(stale=True, worker=worker, message=message):
                yield f"G3: {worker} settled message {message}, which it did not own any more"
            case Published(cause=str() as cause, message=message, workflow=workflow):
                if followed.setdefault(f"{cause} in {workflow}", message) != message:
                    yield f"G3: {message} and {followed[f'{cause} in {workflow}']} both follow {cause}"


def _forgotten(facts: Sequence[Fact]) -> Iterator[str]:
    """G4: a message is let go after its end was recorded and what follows it was published; doubt is no failure."""
    ends: dict[str, Ended] = {}
    published: set[str] = set()
    aside: set[str] = set()
    for fact in facts:
        match fact:
            case Published(message=message):
                published.add(message)
            case SetAside(message=message):
                aside.add(message)
            case Ended(message=message):
                ends[message] = fact
                if fact.error in _NO_FAULT_OF_A_STEP:
                    yield f"G4: trouble with broker or store became the failure of a step: {fact.error}"
            case Settled(message=message) if message not in aside:
                if message not in ends:
                    yield f"G4: message {message} was acknowledged before its end was recorded"
                elif missing := [one for one in ends[message].successors if one not in published | set(ends)]:
                    yield f"G4: message {message} was acknowledged before {missing[0]}, which follows it, was published"


def _run_again(facts: Sequence[Fact]) -> Iterator[str]:
    """G5: a completed step does not run again. A worker that looked before it completed could not know."""
    looks: dict[int, int] = {}
    claims: dict[int, int] = {}
    completed: dict[tuple[str, str], int] = {}
    for place, fact in enumerate(facts):
        match fact:
            case Claimed(lease=lease):
                claims[lease] = place
            case Looked(number=number):
                looks[number] = place
            case Ended(how="step_completed" | "step_compensated", workflow=workflow, step=step):
                completed.setdefault((workflow, step), place)
            case Started(worker=worker, workflow=workflow, step=step, look=look, lease=lease):
                if completed.get((workflow, step), place) < looks.get(look, claims.get(lease, place)):
                    yield f"G5: {worker} ran step {step} of {workflow} again, which had completed"


def _needlessly_failed(facts: Sequence[Fact], max_deliveries: int, expected: Mapping[str, str]) -> Iterator[str]:
    """Liveness: a workflow ends as it does without faults, unless a step killed its worker as often as is allowed."""
    claims: dict[str, int] = defaultdict(int)
    poisoned: set[str] = set()
    for fact in facts:
        match fact:
            case Claimed(message=message, deliveries=deliveries):
                claims[message] = max(claims[message], deliveries)
            case SetAside(message=message, workflow=workflow, reason=reason):
                if claims[message] <= max_deliveries:
                    yield f"message {message} was set aside after {claims[message]} deliveries: {reason}"
                poisoned.add(workflow)
    ends = {workflow: "waiting" for stop in _of(Stopped, facts) for workflow in stop.waiting}
    ends |= {fact.workflow: fact.how for fact in _of(WorkflowOver, facts)}
    for workflow, how in expected.items():
        if ends.get(workflow, how) != how and workflow not in poisoned:
            yield f"workflow {workflow} is {ends[workflow]}; without faults it is {how}"
