"""What goes wrong in a simulation, as data: a plan of faults, each at one point of the worker protocol."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from paigeant.errors import ConfigurationError

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Kind = Literal["crash", "lose", "duplicate", "delay", "expire", "outage"]
"""What happens: the worker's process dies; its connection breaks, so that it cannot know whether the act was done; the
broker has the message twice; the process stands still; its leases run out; nobody reaches the store for a while."""

Point = Literal["claim", "look", "invoke", "record", "settle", "publish", "ack", "note", "send", "take"]
"""Acts of a worker: it takes deliveries, asks the store where their messages stand, calls the activity, records the
end, settles (or publishes and then acknowledges, where the broker cannot do both at once); besides, it notes what is no
end, sends what no delivery leads to, and takes what has waited in the store for long enough."""

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
}
"""Which faults there are at each point."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong when the workers come to a point for the ``nth`` time (None: each time).

    ``after``: not before the act but when it has been done, and its doer does not know that yet. ``of``: only acts for
    this activity. ``seconds`` is how long a delay or an outage lasts.
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
    """What goes wrong in one run. With the same plan, the same program does the same; ``seed`` decides all the rest:
    how long each act takes, which message comes first and who gets it.
    """

    seed: int = 0
    faults: tuple[Fault, ...] = ()

    @classmethod
    def drawn(cls, seed: int, most: int = 4) -> FaultPlan:
        """A plan of up to so many faults, chosen by the seed."""
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
    """Hypothesis' way to plans, so that a failing one is made as small as can be. Needs Hypothesis."""
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
    """A plan as it comes true: which of its faults strike now, and which points were reached how often."""

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan
        self._met = [0] * len(plan.faults)
        self.reached: dict[Point, int] = {}

    def strike(self, point: Point, activity: str | None, after: bool) -> list[Fault]:
        """The faults at this point, now that it has been reached."""
        if after:
            self.reached[point] = self.reached.get(point, 0) + 1
        return list(self._striking(point, activity, after))

    def _striking(self, point: Point, activity: str | None, after: bool) -> Iterator[Fault]:
        for number, fault in enumerate(self._plan.faults):
            comes_after = fault.after or fault.kind == "duplicate"  # there is nothing to double before
            if (fault.point, comes_after) != (point, after) or fault.of not in (None, activity):
                continue
            self._met[number] += 1
            if fault.nth in (None, self._met[number]):
                yield fault
