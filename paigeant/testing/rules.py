"""Checks the promises about effects, answers, steering, waits and agents, each with a pure function of the facts.

* G8: :func:`compensation`.
* G10: :func:`steering`.
* G11: :func:`answers`.
* G5 for agents: :func:`units`, and :func:`usage` for their token usage.
* G1 and G7 for waits: :func:`waits`. Together with "every workflow ends" it checks that each wait can be answered.
* Two Apps on one store: :func:`ownership`.

The store's tests check G6 (time). Here a message that is due and that nobody publishes breaks :func:`waits`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from paigeant.testing.history import Dispatched, Ended, Entered, Fact, Published, Reopened, Started, WorkflowOver
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

_ENDS_A_PAUSE = ("resume", "cancel", "compensate")
_BACK = " (back)"


def broken_rules(facts: Sequence[Fact]) -> Iterator[str]:
    """Return the broken promises."""
    parents = {fact.workflow: fact.parent for fact in facts if isinstance(fact, Dispatched)}
    yield from compensation(facts, parents)
    yield from steering(facts, parents)
    yield from answers(facts)
    yield from units(facts)
    yield from usage(facts, parents)
    yield from waits(facts)
    yield from ownership(facts, parents)


# --- G8: compensation -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Token:
    """One effect: which workflow and step completed it, and which workflow undid it, with the places of these facts."""

    workflow: str
    step: str
    completed: int
    undone_in: str = ""
    undone: int = 0
    times: int = 0


@dataclass(slots=True)
class _Effects:
    """The effects of a history so far."""

    by_message: dict[str, set[tuple[str, bool]]] = field(default_factory=lambda: defaultdict(set))
    tokens: dict[str, _Token] = field(default_factory=dict)

    def note(self, place: int, fact: Fact) -> Iterator[str]:
        match fact:
            case Effect(message=message, token=token, is_undone=is_undone):
                self.by_message[message].add((token, is_undone))
                if is_undone and token not in self.tokens:
                    yield f"G8: effect {token} was undone, and its step had not completed"
            case Ended(how="step_completed", message=message, workflow=workflow, step=step):
                for token, is_undone in sorted(self.by_message[message]):
                    if not is_undone and not step.endswith(_BACK):
                        self.tokens[token] = _Token(workflow, step, place)
            case Ended(how="step_compensated", message=message, workflow=workflow):
                for token, is_undone in sorted(self.by_message[message]):
                    if is_undone and (found := self.tokens.get(token)) is not None:
                        found.undone_in, found.undone, found.times = workflow, place, found.times + 1


def compensation(facts: Sequence[Fact], parents: dict[str, str | None]) -> Iterator[str]:
    """Each completed step is compensated once, in reverse order, or is listed as uncompensated; no other step is."""
    effects = _Effects()
    turned: set[str] = set()
    ends: dict[str, WorkflowOver] = {}
    for place, fact in enumerate(facts):
        yield from effects.note(place, fact)
        match fact:
            case Started(workflow=workflow, step=step) if step.endswith(_BACK):
                turned.add(workflow)
            case Ended(how="step_completed", workflow=workflow, step=step) if workflow in turned:
                yield f"G8: step {step} of {workflow} completed after its compensations had begun"
            case WorkflowOver(workflow=workflow):
                ends[workflow] = fact
            case Reopened(workflow=workflow):
                ends.pop(workflow, None)
                turned.discard(workflow)
    yield from _order(effects)
    plainly = {fact.workflow for fact in facts if isinstance(fact, Asked) and fact.act == "cancel"}
    cancelled = {one for one in parents if not plainly.isdisjoint(_line(one, parents))}
    yield from _uncompensated(effects, ends, _branches(facts), cancelled)


def _order(effects: _Effects) -> Iterator[str]:
    """Effects of branches that ran side by side have no order among each other."""
    undone = sorted((one for one in effects.tokens.items() if one[1].undone), key=lambda one: one[1].undone)
    for at, (earlier, before) in enumerate(undone):
        if before.times > 1:
            yield f"G8: effect {earlier} was undone {before.times} times"
        for later, after in undone[at + 1 :]:
            beside = before.workflow != after.workflow and before.undone_in not in (before.workflow, after.workflow)
            if before.undone_in == after.undone_in and before.completed < after.completed and not beside:
                yield f"G8: effect {earlier} was undone before {later}, which had completed after it"


def _branches(facts: Sequence[Fact]) -> dict[str, str]:
    """The parents of branches."""
    return {fact.workflow: fact.parent or "" for fact in facts if isinstance(fact, Dispatched) and fact.is_branch}


def _uncompensated(
    effects: _Effects, ends: dict[str, WorkflowOver], branches: dict[str, str], cancelled: set[str]
) -> Iterator[str]:
    """Find effects without compensation. ``cancelled`` are workflows that an operator ended without compensation."""
    for token, found in effects.tokens.items():
        if found.undone:
            continue
        workflow, end = found.workflow, ends.get(found.workflow)
        while end is not None and end.how == "completed" and workflow in branches:
            workflow = branches[workflow]  # the parent compensates the effects of a completed branch
            end = ends.get(workflow)
        if end is None or end.how == "completed" or workflow in cancelled:
            continue
        if found.step in end.left or any(one.endswith(f":{found.step}") for one in end.left):
            continue
        yield f"G8: effect {token} of {found.workflow} still stands, and {workflow} is {end.how}"


# --- G10: cancel and pause --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Wishes:
    """The workflows that operators know to be cancelled or paused."""

    asked: dict[int, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    paused: set[str] = field(default_factory=set)

    def note(self, place: int, fact: Fact) -> None:
        match fact:
            case Asked(number=number, act=act, workflow=workflow):
                self.asked[number] = place
                if act in _ENDS_A_PAUSE:
                    self.ended[workflow] = place
                    self.paused.discard(workflow)
            case Accepted(act="cancel" | "compensate", workflow=workflow):
                self.cancelled.add(workflow)
            case Accepted(number=number, act="pause", workflow=workflow):
                if self.ended.get(workflow, -1) < self.asked[number]:
                    self.paused.add(workflow)
            case Reopened(workflow=workflow):
                self.cancelled.discard(workflow)


def steering(facts: Sequence[Fact], parents: dict[str, str | None]) -> Iterator[str]:
    """No step of a workflow starts after a cancel has returned, or between a pause and its resume.

    A cancelled workflow may fail by itself before the cancel ends it. If an operator then retries the failed step, the
    retry is the later request and wins.
    """
    wishes = _Wishes()
    for place, fact in enumerate(facts):
        wishes.note(place, fact)
        if isinstance(fact, Entered) and not fact.step.endswith(_BACK):
            line = set(_line(fact.workflow, parents))
            if line & wishes.cancelled:
                yield f"G10: {fact.worker} began step {fact.step} of {fact.workflow} after its cancel had returned"
            if line & wishes.paused:
                yield f"G10: {fact.worker} began step {fact.step} of {fact.workflow}, which is paused"


def _line(workflow: str, parents: dict[str, str | None]) -> Iterator[str]:
    """Yield the workflow, its parent, the parent's parent, and so on."""
    one: str | None = workflow
    while one is not None:
        yield one
        one = parents.get(one)


# --- G11: answers -----------------------------------------------------------------------------------------------------


def answers(facts: Sequence[Fact]) -> Iterator[str]:
    """A guarded call runs only if its own question was shown and approved."""
    shown: dict[str, tuple[str, str]] = {}
    said: dict[str, list[bool]] = defaultdict(list)
    places: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for fact in facts:
        match fact:
            case Shown(workflow=workflow, question=question):
                shown[question] = workflow, fact.shown
            case Decided(question=question, approved=approved):
                said[question].append(approved)
            case Overruled(question=question, approved=approved):
                said[question].remove(approved)
            case GuardedCall(workflow=workflow, step=step, place=place):
                content = workflow, fact.shown
                places[content].add((step, place))
                approved_ones = [one for one, what in shown.items() if what == content and True in said[one]]
                if not [one for one, what in shown.items() if what == content]:
                    yield f"G11: call {place} of {workflow} ran, and nobody was asked"
                elif len(approved_ones) < len(places[content]):
                    yield f"G11: call {place} of {workflow} ran, and its question was not approved"


# --- agents -----------------------------------------------------------------------------------------------------------


def units(facts: Sequence[Fact]) -> Iterator[str]:
    """A model request or tool call that is in the journal is not made again by a run that began afterwards."""
    began: dict[int, int] = {}
    kept: dict[tuple[str, str, str], int] = {}
    for place, fact in enumerate(facts):
        match fact:
            case Started(lease=lease):
                began[lease] = place
            case Asked(act="fresh", workflow=workflow):
                kept = {unit: at for unit, at in kept.items() if unit[0] != workflow}
            case UnitRecorded(workflow=workflow, step=step, key=key):
                kept.setdefault((workflow, step, key), place)
            case UnitDone(workflow=workflow, step=step, key=key, lease=lease):
                if kept.get((workflow, step, key), place) < began.get(lease, 0):
                    yield f"G5: unit {key} of step {step} of {workflow} was done again, and it was in the journal"


def usage(facts: Sequence[Fact], parents: dict[str, str | None]) -> Iterator[str]:
    """The record of a completed workflow contains the usage of its units, each counted once.

    Workflows with child workflows are skipped, and workflows whose journal an operator restarted.
    """
    used: dict[str, Counter[str]] = defaultdict(Counter)
    counted: set[tuple[str, str, str]] = set()
    left_out = {fact.workflow for fact in facts if isinstance(fact, Asked) and fact.act == "fresh"}
    left_out |= {one for pair in parents.items() if pair[1] is not None for one in pair if one is not None}
    for fact in facts:
        match fact:
            case UnitRecorded(workflow=workflow, step=step, key=key) if (workflow, step, key) not in counted:
                counted.add((workflow, step, key))
                used[workflow].update(requests=fact.requests, tool_calls=fact.tool_calls)
            case Used(workflow=workflow) if workflow not in left_out:
                says = {"requests": fact.requests, "tool_calls": fact.tool_calls}
                if any(used[workflow][what] != number for what, number in says.items()):
                    yield f"usage: the units of {workflow} used {dict(used[workflow])}, and its record says {says}"


# --- what waits, and where --------------------------------------------------------------------------------------------


def waits(facts: Sequence[Fact]) -> Iterator[str]:
    """When the run is idle, somebody can answer each parked message."""
    for fact in facts:
        if isinstance(fact, Unanswerable):
            yield f"G1: {fact.workflow} waits for {fact.key}: {fact.why}"


def ownership(facts: Sequence[Fact], parents: dict[str, str | None]) -> Iterator[str]:
    """All messages of a workflow and its child workflows are published to one broker."""
    homes: dict[str, str] = {}
    for fact in facts:
        if isinstance(fact, Published):
            *_, root = _line(fact.workflow, parents)
            home = homes.setdefault(root, fact.broker)
            if fact.broker != home:
                yield f"two Apps: message {fact.message} of {fact.workflow} went to {fact.broker}, not to {home}"
