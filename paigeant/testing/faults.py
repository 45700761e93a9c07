"""The faults of a simulation as data: a plan of faults, each at one point of the worker protocol."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from paigeant.errors import ConfigurationError

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Kind = Literal["crash", "lose", "duplicate", "delay", "expire", "outage"]
"""Kinds of faults: the worker's process dies; its connection breaks, so it cannot know whether the act was done; the
broker has the message twice; the process pauses; its leases expire; no process reaches the store for a while."""

Point = Literal["claim", "look", "invoke", "record", "settle", "publish", "ack", "note", "send", "take", "mark"]
"""Acts of a worker. It claims deliveries, asks the store for the status of their messages, calls the activity, records
the end, and settles (or publishes and then acknowledges, if the broker cannot do both at once). It also records events
that end no step, publishes messages without a delivery, publishes parked messages that are due, and marks on the broker
how the trial of a suspect message proceeds."""

_BROKER: tuple[Kind, ...] = ("crash", "lose", "delay", "expire")
_STORE: tuple[Kind, ...] = ("crash", "lose", "delay", "expire", "outage")
KINDS: dict[Point, tuple[Kind, ...]] = {
    "claim": ("crash", "lose", "delay", "duplicate"),
    "look": _STORE,
    "invoke": ("crash", "delay", "expire"),
    "record": _STORE,
    "settle": _BROKER,
    "publish": _BROKER,
    "ack": _BROKER,
    "note": _STORE,
    "send": ("crash", "lose", "delay"),
    "take": ("crash", "lose"),
    "mark": ("crash", "lose", "delay"),
}
"""The kinds of faults that are possible at each point."""


@dataclass(frozen=True)
class Fault:
    """One fault that strikes when the workers reach a point for the ``nth`` time (None: each time).

    ``after``: the fault strikes after the act was done, before the worker knows it. ``of``: only acts for this activity
    count. ``seconds`` is the duration of a delay or an outage.
    """

    kind: Kind
    point: Point
    nth: int | None = 1
    after: bool = False
    of: str | None = None
    seconds: float = 2.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS.get(self.point, ()):
            points = [point for point, kinds in KINDS.items() if self.kind in kinds]
            raise ConfigurationError(
                f"no fault {self.kind!r} at {self.point!r}",
                hint=f"{self.kind!r} happens at: {', '.join(points)}" if points else f"kinds: {get_args(Kind)}",
            )


@dataclass(frozen=True)
class FaultPlan:
    """The faults of one run. The same program behaves the same with the same plan.

    ``seed`` decides everything else: how long each act takes, which message is delivered first and to which worker.
    """

    seed: int = 0
    faults: tuple[Fault, ...] = ()

    @classmethod
    def drawn(cls, seed: int, most: int = 4) -> FaultPlan:
        """Draw a plan of at most ``most`` faults, chosen by the seed."""
        dice = random.Random(seed)
        return cls(seed, tuple(_drawn(dice) for _ in range(dice.randint(1, most))))


def _drawn(dice: random.Random) -> Fault:
    point = dice.choice(list(KINDS))
    return Fault(
        kind=dice.choice(KINDS[point]),
        point=point,
        nth=dice.randint(1, 6),
        after=dice.random() < 0.5,
        seconds=dice.choice([0.1, 2.0, 20.0]),
    )


def fault_plans(most: int = 4) -> SearchStrategy[FaultPlan]:
    """Return a Hypothesis strategy for plans, which shrinks failing plans. Needs Hypothesis."""
    from hypothesis import strategies as st

    def at(point: Point) -> SearchStrategy[Fault]:
        return st.builds(
            Fault,
            kind=st.sampled_from(KINDS[point]),
            point=st.just(point),
            nth=st.integers(1, 6),
            after=st.booleans(),
            seconds=st.sampled_from([0.1, 2.0, 20.0]),
        )

    faults = st.lists(st.sampled_from(list(KINDS)).flatmap(at), max_size=most)
    return st.builds(FaultPlan, seed=st.integers(0, 1_000_000), faults=faults.map(tuple))


class Faults:
    """The progress of a plan: counts how often each point was reached and decides which faults strike."""

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan
        self._met = [0] * len(plan.faults)
        self.reached: dict[Point, int] = {}

    def strike(self, point: Point, activity: str | None, after: bool) -> list[Fault]:
        """Count that this point was reached and return the faults that strike here."""
        if after:
            self.reached[point] = self.reached.get(point, 0) + 1
        return list(self._striking(point, activity, after))

    def _striking(self, point: Point, activity: str | None, after: bool) -> Iterator[Fault]:
        for number, fault in enumerate(self._plan.faults):
            comes_after = fault.after or fault.kind == "duplicate"  # before the act there is no message to duplicate
            if (fault.point, comes_after) != (point, after) or fault.of not in (None, activity):
                continue
            self._met[number] += 1
            if fault.nth in (None, self._met[number]):
                yield fault
