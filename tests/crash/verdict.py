"""What a mixed run must show: judged from the ledger of effects and from the store. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from crash.ledger import UNFINISHED, Line
from crash.mixed import Shape

from paigeant.records.workflow import ACTED_ON_FOR

MOST_OVERDUE = 0.01
"""The part of all starts that may be overdue."""

Effect = tuple[str, str]
"""The root workflow and the name of the effect in it."""


@dataclass(frozen=True)
class Letter:
    """A dead letter: the workflow it belongs to, its kind and the reason."""

    workflow: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Facts:
    """What happened.

    ``statuses`` are those of all workflows in the store, ``parents`` says which workflow dispatched which.
    ``recorded`` has the monotonic time at which the test first saw that a message was completed, or a unit of an agent
    was in the journal (key: root and unit). ``killed`` has the time at which a process was killed, by process id.
    ``shown`` are the values of streams that count, by root.
    """

    lines: Sequence[Line]
    statuses: Mapping[str, str]
    parents: Mapping[str, str | None] = field(default_factory=dict)
    letters: Sequence[Letter] = ()
    recorded: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[Effect, float] = field(default_factory=dict)
    killed: Mapping[int, float] = field(default_factory=dict)
    shown: Mapping[str, Sequence[object]] = field(default_factory=dict)

    def root_of(self, workflow: str) -> str:
        while (parent := self.parents.get(workflow)) is not None:
            workflow = parent
        return workflow


@dataclass(frozen=True)
class Verdict:
    """Everything that was wrong, each as a text; ``open_losers`` are bodies that the end of their scatter interrupted.

    ``overdue`` are starts beside a living process whose own start was longer ago than a lease: a machine that is busy
    with other things may leave a worker or a store no time for that long, so a few of them are no fault.
    """

    lost: Sequence[str] = ()
    innocent: Sequence[str] = ()
    again: Sequence[str] = ()
    repeated: Sequence[str] = ()
    unfinished: Sequence[str] = ()
    crowded: Sequence[str] = ()
    misordered: Sequence[str] = ()
    early: Sequence[str] = ()
    overdue: Sequence[str] = ()
    open_losers: int = 0
    starts: int = 0
    restarts: int = 0

    @property
    def faults(self) -> dict[str, Sequence[str]]:
        named = {
            "workflows lost": self.lost,
            "innocent dead letters": self.innocent,
            "finished steps run again": self.again,
            "starts that no kill explains": self.repeated,
            "starts after a lease was over": self.overdue if len(self.overdue) > MOST_OVERDUE * self.starts else (),
            "effects neither completed nor compensated": self.unfinished,
            "limits exceeded": self.crowded,
            "streams out of order": self.misordered,
            "timers fired early": self.early,
        }
        return {name: found for name, found in named.items() if found}


def judge(
    facts: Facts,
    expected: Mapping[str, Shape],
    *,
    limits: Mapping[str, int],
    values: int,
    lease: float,
    strict: bool = True,
    apart: bool = False,
) -> Verdict:
    """The verdict on these workflows, by root.

    ``limits`` says how many steps of an activity may run at a time, ``values`` how many values a stream shows,
    ``lease`` how many seconds a holder has. Where a broker or a store was away, a body may start again though no
    process was killed, and values of a stream may be missing: that is not ``strict``. Where broker and store are
    ``apart``, a worker that is killed right after a step may leave the next step in the queue twice.
    """
    starts = [line for line in facts.lines if line.kind in ("start", "undoing")]
    repeats = [
        (
            after.at - before.at,
            f"{_named(after)} started in {after.pid} {after.at - before.at:.2f} s after {before.pid}",
        )
        for before, after in (_unexplained(facts, starts) if strict else ())
        if not (apart and _was_sent_twice(facts, after, lease))
    ]
    return Verdict(
        lost=[*_lost(facts, expected)],
        innocent=[*_innocent(facts, expected)],
        again=[*_run_again(facts, starts, 0.0 if strict else ACTED_ON_FOR)],
        repeated=[text for seconds, text in repeats if seconds < lease],
        overdue=[text for seconds, text in repeats if seconds >= lease],
        unfinished=[*_unfinished(facts, expected)],
        crowded=[one for activity, places in limits.items() for one in _crowded(facts, activity, places)],
        early=[*_early(facts, expected)],
        misordered=[*_misordered(facts, expected, range(values), complete=strict)],
        open_losers=len(_open_losers(facts, expected)),
        starts=len(starts),
        restarts=len(starts) - len({_body(line) for line in starts}),
    )


def _body(line: Line) -> tuple[str, str]:
    """What must run once without a crash: a message, and in an agent step each unit."""
    return line.message, line.unit


# --- workflows -----------------------------------------------------------------------------------------------------


def _lost(facts: Facts, expected: Mapping[str, Shape]) -> Iterator[str]:
    for root, shape in expected.items():
        if (status := facts.statuses.get(root, "not in the store")) != shape.status:
            yield f"{root} ({shape.name}) is {status}, not {shape.status}"
    for workflow, status in facts.statuses.items():
        if status in ("running", "compensating", "paused") and facts.root_of(workflow) != workflow:
            yield f"{workflow}, a child of {facts.root_of(workflow)}, is {status}"


def _innocent(facts: Facts, expected: Mapping[str, Shape]) -> Iterator[str]:
    """No shape kills its worker, so nothing is poison; only what is meant to fail is exhausted."""
    for letter in facts.letters:
        shape = expected.get(facts.root_of(letter.workflow))
        meant = shape is not None and (shape.status != "completed" or bool(shape.maybe))
        if letter.kind != "exhausted" or not meant:
            yield f"{letter.workflow} ({shape.name if shape else 'unknown'}): {letter.kind}, {letter.reason}"


# --- starts --------------------------------------------------------------------------------------------------------


def _run_again(facts: Facts, starts: Iterable[Line], within: float) -> Iterator[str]:
    """Where a body started after its completion was known, and later than an answer about it may be acted on."""
    for line in starts:
        if line.unit:
            seen = facts.units.get((line.root, line.unit))
        else:
            seen = facts.recorded.get(line.message)
        if seen is not None and line.at > seen + within:
            yield f"{_named(line)} started {line.at - seen:.2f} s after its completion was in the store"


def _unexplained(facts: Facts, starts: Iterable[Line]) -> Iterator[tuple[Line, Line]]:
    """A body may start again only if the process of the start before was killed, and before the new start.

    Each other pair of starts.
    """
    bodies: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in starts:
        bodies[_body(line)].append(line)
    for runs in bodies.values():
        for before, after in pairwise(runs):
            died = facts.killed.get(before.pid)
            if died is None or died > after.at:
                yield before, after


def _was_sent_twice(facts: Facts, start: Line, within: float) -> bool:
    """Whether a worker ended another step of the workflow and was killed soon after, maybe before it acknowledged.

    Its successor is then sent once more, since nobody knows whether the broker has it.
    """
    return any(
        line.at <= facts.killed.get(line.pid, -math.inf) <= min(start.at, line.at + within)
        for line in facts.lines
        if line.root == start.root and line.message != start.message and line.kind not in ("undoing", *UNFINISHED)
    )


def _named(line: Line) -> str:
    return f"{line.root} {line.effect}{' ' + line.unit if line.unit else ''} (delivery {line.deliveries})"


# --- effects -------------------------------------------------------------------------------------------------------


def _unfinished(facts: Facts, expected: Mapping[str, Shape]) -> Iterator[str]:
    by_effect = _by_effect(facts.lines)
    for root, shape in expected.items():
        for name in shape.done:
            if not any(line.kind == "done" for line in by_effect.get((root, name), ())):
                yield f"{root} ({shape.name}) {name}: never done"
        yield from _not_taken_back(root, shape, by_effect)
    for (root, name), lines in by_effect.items():
        known = expected.get(root)
        if known is not None and name not in (*known.done, *known.maybe) and lines[-1].kind in UNFINISHED:
            yield f"{root} ({known.name}) {name}: started and not ended"


def _not_taken_back(root: str, shape: Shape, by_effect: Mapping[Effect, Sequence[Line]]) -> Iterator[str]:
    ends = {}
    for name in shape.done:
        kinds = [line.kind for line in by_effect.get((root, name), ())]
        if ("undone" in kinds) != (name in shape.undone):
            yield f"{root} ({shape.name}) {name}: {'not taken back' if name in shape.undone else 'taken back'}"
        elif name in shape.undone and kinds[-1] != "undone":
            yield f"{root} ({shape.name}) {name}: {kinds[-1]} after it was taken back"
        ends |= {name: [line.at for line in by_effect.get((root, name), ()) if line.kind == "undone"]}
    if shape.ordered and all(ends.get(name) for name in shape.undone):
        first = [min(ends[name]) for name in shape.undone]
        if first != sorted(first):
            yield f"{root} ({shape.name}): taken back in another order than {shape.undone}"


def _open_losers(facts: Facts, expected: Mapping[str, Shape]) -> list[Effect]:
    """Branches that lost while a body ran, which has neither come to its end nor anything that takes it back."""
    by_effect = _by_effect(facts.lines)
    return [
        (root, name)
        for (root, name), lines in by_effect.items()
        if (shape := expected.get(root)) is not None and name in shape.maybe and lines[-1].kind in UNFINISHED
    ]


def _by_effect(lines: Iterable[Line]) -> dict[Effect, list[Line]]:
    found: dict[Effect, list[Line]] = defaultdict(list)
    for line in lines:
        is_end_of_agent = line.unit == "model:3" and line.kind == "done"  # of its last request
        if not line.unit or is_end_of_agent:
            found[line.root, line.effect].append(line)
    return dict(found)


# --- limits and streams --------------------------------------------------------------------------------------------


def _crowded(facts: Facts, activity: str, places: int) -> Iterator[str]:
    """Where more bodies of the activity ran at a time than may; a killed process ran its bodies until its death."""
    running: dict[tuple[str, int], float] = {}
    for line in facts.lines:
        if line.activity != activity:
            continue
        key = (line.message, line.pid)
        if line.kind != "start":
            running.pop(key, None)
            continue
        running[key] = line.at
        alive = [one for one in running if facts.killed.get(one[1], line.at) >= line.at]
        if len(alive) > places:
            yield f"{len(alive)} bodies of {activity} ran at a time: {_named(line)}"


def _misordered(facts: Facts, expected: Mapping[str, Shape], values: Sequence[int], *, complete: bool) -> Iterator[str]:
    """A stream shows its values in order and none twice; all of them, unless the store was away."""
    for root, shape in expected.items():
        shown = [*facts.shown.get(root, ())] if shape.name == "stream" else None
        if shown is not None and shown != ([*values] if complete else [one for one in values if one in shown]):
            yield f"{root}: the stream shows {shown}"


def _early(facts: Facts, expected: Mapping[str, Shape]) -> Iterator[str]:
    """Where less time passed between two lines than must have."""
    at: dict[tuple[str, str, str], float] = {}
    for line in facts.lines:
        at.setdefault((line.root, line.effect, line.kind), line.at)
    for root, shape in expected.items():
        for before, after, seconds in shape.waits:
            waited = at.get((root, *after), math.inf) - at.get((root, *before), 0.0)
            if waited < seconds:
                yield f"{root} ({shape.name}): {waited:.2f} s instead of {seconds:g} s"


def missing_times(dues: Collection[float], every: float) -> list[str]:
    """Times of a schedule that were dispatched twice, or not at all between the first and the last."""
    ordered = sorted(dues)
    twice = [f"{at} came twice" for at, after in pairwise(ordered) if at == after]
    gaps = [f"none between {at} and {after}" for at, after in pairwise(ordered) if after - at > 1.5 * every]
    return twice + gaps
