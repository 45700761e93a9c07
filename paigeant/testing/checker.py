"""Checks the promises with a pure function from facts to broken promises. See docs/explanation/durability.md."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from paigeant.testing import rules
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
    Reopened,
    Replaced,
    SetAside,
    Settled,
    Started,
    Stopped,
    WorkflowOver,
)
from paigeant.worker.suspects import Limits

F = TypeVar("F", bound=Fact)

_NO_FAULT_OF_A_STEP = ("TransportError", "StoreError", "Superseded", "Interrupted")


def broken_promises(facts: Sequence[Fact], max_deliveries: int, expected: Mapping[str, str] | None = None) -> list[str]:
    """Return the promises that these facts break; ``expected`` is how workflows end without faults.

    G1 to G4, G5 for steps, and G12 are checked here; :mod:`paigeant.testing.rules` checks the others.
    """
    checks = (_lost(facts), _repeated(facts, max_deliveries), _forked(facts), _mistaken(facts), _forgotten(facts))
    problems = [problem for check in checks for problem in check]
    problems += [*_run_again(facts), *_condemned(facts, max_deliveries), *_needlessly_failed(facts, expected or {})]
    return problems + list(rules.broken_rules(facts))


def _of(kind: type[F], facts: Sequence[Fact]) -> list[F]:
    return [fact for fact in facts if isinstance(fact, kind)]


def _lost(facts: Sequence[Fact]) -> Iterator[str]:
    """G1: a dispatched workflow ends, or waits for an event that has not happened; the broker has no message left."""
    over: set[str] = set()
    for fact in facts:
        match fact:
            case WorkflowOver(workflow=workflow):
                over.add(workflow)
            case Reopened(workflow=workflow):
                over.discard(workflow)
    for stop in _of(Stopped, facts):
        for workflow in {fact.workflow for fact in _of(Dispatched, facts)} - over - set(stop.waiting):
            yield f"G1: workflow {workflow} was dispatched and never ended"
        for message in stop.left:
            yield f"G1: message {message} is still on the broker"


def _repeated(facts: Sequence[Fact], max_deliveries: int) -> Iterator[str]:
    """G2: a body starts once, and once more for each lost lease and each copy of its message; deaths are bounded."""
    starts: Counter[str] = Counter()
    copies: Counter[str] = Counter()
    freed: dict[str, Counter[str]] = defaultdict(Counter)
    carriers: dict[str, str] = {}
    delivered = {fact.lease: fact.message for fact in _of(Claimed, facts)}
    for fact in facts:
        match fact:
            case Freed(message=message, why=why) if why != "given up":
                freed[message][why] += 1
            case Copied(message=message):
                copies[message] += 1
            case Replaced(message=message):
                copies[message] -= 1
            case Started(message=message, lease=lease, worker=worker):
                carrier = delivered.get(lease, message)  # retries in place have messages that were never published
                starts[message], carriers[message] = starts[message] + 1, carrier
                if starts[message] > 1 + copies[carrier] + freed[carrier].total():
                    yield f"G2: {worker} started message {message} again, although nothing had happened to it"
                survived = freed[carrier].total() - freed[carrier]["crash"]
                if starts[message] > max_deliveries * (1 + copies[carrier]) + survived:
                    yield f"G2: message {message} was started {starts[message]} times"
    for message, carrier in carriers.items():  # a copy may start before its original is settled
        if starts[message] > 1 + copies[carrier] + freed[carrier].total():
            yield f"G2: message {message} was started {starts[message]} times, although nothing had happened to it"


def _forked(facts: Sequence[Fact]) -> Iterator[str]:
    """G3: the store accepts one end, from the holder; every run of a message publishes the same successors."""
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


def _mistaken(facts: Sequence[Fact]) -> Iterator[str]:
    """G3: of all runs that end a message, only the one whose end is recorded acts on it, even if answers got lost."""
    recorded: dict[str, str] = {}
    for fact in facts:
        match fact:
            case Ended(message=message, run=run):
                recorded[message] = run
            case Announced(message=message, run=run) if run != (of := recorded.get(message)):
                yield f"G3: run {run} acted on its own end of message {message}, and the recorded end is that of {of}"
            case Declined(message=message, run=run) if run and run == recorded.get(message):
                yield f"G3: the store refused run {run}, whose end of message {message} it had recorded"


def _forgotten(facts: Sequence[Fact]) -> Iterator[str]:
    """G4: a message is settled after its end was recorded and its successors were published; doubt fails no step."""
    ends: dict[str, Ended] = {}
    published: set[str] = set()
    aside: set[str] = set()
    for fact in _without_dropped_copies(facts):
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


def _without_dropped_copies(facts: Sequence[Fact]) -> Iterator[Fact]:
    """The facts without the settlements of copies that were dropped before their message had ended.

    A worker may drop a copy while the broker has the message once more: one that it has not started, or one whose end
    the store refused. It may do so a little later than it decided to: by then another copy may have ended.
    """
    ended: set[str] = set()
    started: set[int] = set()
    declined: set[tuple[str, str]] = set()
    in_time: set[tuple[str, str]] = set()
    others: Counter[str] = Counter()
    for fact in facts:
        match fact:
            case Copied(message=message):
                others[message] += 1
            case Replaced(message=message):
                others[message] -= 1
            case Ended(message=message):
                ended.add(message)
            case Started(lease=lease):
                started.add(lease)
            case Declined(message=message, worker=worker):
                declined.add((message, worker))
                if message not in ended:
                    in_time.add((message, worker))
            case Settled(message=message, worker=worker, lease=lease, stale=False) if (
                message not in ended or (message, worker) in in_time
            ):
                others[message] -= 1
                if others[message] >= 0 and (lease not in started or (message, worker) in declined):
                    continue
        yield fact


def _run_again(facts: Sequence[Fact]) -> Iterator[str]:
    """G5: a completed step does not run again, except on a worker that asked the store before it had completed."""
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


def _condemned(facts: Sequence[Fact], max_deliveries: int) -> Iterator[str]:
    """G12: a step becomes a dead letter for killing workers only after enough workers died while it ran alone."""
    limits = Limits.of(max_deliveries, 0.0)
    runs: dict[str, dict[int, str]] = defaultdict(dict)
    deaths: dict[str, int] = defaultdict(int)
    for fact in facts:
        match fact:
            case Entered(message=message, worker=worker, lease=lease):
                runs[worker][lease] = message
            case Freed(lease=lease, why=why):
                for beside in runs.values():
                    died = beside.pop(lease, None)
                    if died is not None and why == "crash" and not beside:
                        deaths[died] += 1
            case Settled(lease=lease):
                for beside in runs.values():
                    beside.pop(lease, None)
            case SetAside(message=message, reason=reason) if deaths[message] < limits.trials:
                yield f"G12: message {message} was set aside after {deaths[message]} lone deaths: {reason}"


def _needlessly_failed(facts: Sequence[Fact], expected: Mapping[str, str]) -> Iterator[str]:
    """Liveness: a workflow ends as it does without faults, unless one of its messages became a dead letter."""
    poisoned = {fact.workflow for fact in _of(SetAside, facts)}
    ends = {workflow: "waiting" for stop in _of(Stopped, facts) for workflow in stop.waiting}
    ends |= {fact.workflow: fact.how for fact in _of(WorkflowOver, facts)}
    for workflow, how in expected.items():
        if ends.get(workflow, how) != how and workflow not in poisoned:
            yield f"workflow {workflow} is {ends[workflow]}; without faults it is {how}"
