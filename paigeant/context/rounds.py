"""Rounds of a scatter: what a step that is tried again knows of its branches. Pure.

Branches that completed are done, whichever attempt or epoch began them. The others are begun again, in a join of their
own: each attempt of the step has one at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from paigeant.join import KEY, Join
from paigeant.message import PaigeantMessage

Ended = Mapping[str, Any]
"""How a branch ended, as :class:`~paigeant.join.BranchResult` is written; with nothing else, it completed."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """How each branch ended, by place, as often as it was begun. ``key`` is that of this attempt's join."""

    key: str
    tries: tuple[tuple[Ended, ...], ...]

    @classmethod
    def before(cls, message: PaigeantMessage, place: str, nth: int, total: int) -> Rounds:
        """What earlier attempts left of the nth scatter of the step at this place, which has so many branches now."""
        rounds = cls(_key(message, place, nth), ((),) * total)
        for key, arrived in message.received.items():
            if key != rounds.key and _is_of(key, place, nth) and "value" in arrived[0]:
                rounds = rounds.after(arrived[0]["value"])
        return rounds if len(rounds.tries) == total else replace(rounds, tries=((),) * total)

    def after(self, results: Sequence[Ended]) -> Rounds:
        """And after a round with these results, of what was missing, or of all if the scatter was another one then."""
        missing = self.missing
        if len(results) != len(missing):
            return replace(self, tries=tuple((one,) for one in results))
        latest = {place: (one,) for place, one in zip(missing, results, strict=True)}
        return replace(self, tries=tuple((*tries, *latest.get(at, ())) for at, tries in enumerate(self.tries)))

    @property
    def ended(self) -> list[Ended]:
        """How those ended last that were begun."""
        return [tries[-1] for tries in self.tries if tries]

    @property
    def missing(self) -> list[int]:
        """The places of the branches that have not completed."""
        return [at for at, tries in enumerate(self.tries) if not tries or not has_completed(tries[-1])]

    def workflows(self, place: int) -> list[str]:
        """What was begun for a branch and did not complete."""
        return [ended["workflow"] for ended in self.tries[place] if ended.get("workflow")]

    @property
    def completed(self) -> int:
        """How many have."""
        return len(self.tries) - len(self.missing)

    def suffice(self, join: Join) -> bool:
        """Whether no branch has to be begun again."""
        return self.completed >= (join.total if join.needed is None else join.needed)

    def rest(self, join: Join) -> Join:
        """What the branches that are begun again come together in."""
        return Join(len(self.missing), None if join.needed is None else join.needed - self.completed)


def has_completed(ended: Ended) -> bool:
    """Whether the branch completed that ended like this."""
    return "status" not in ended


def unfinished(message: PaigeantMessage) -> Iterator[str]:
    """The ids of branches that earlier attempts of the step began and that did not complete."""
    for key, arrived in message.received.items():
        if key.startswith(KEY):
            for ended in arrived[0].get("value") or ():
                if not has_completed(ended) and (workflow := ended.get("workflow")) is not None:
                    yield workflow


def _key(message: PaigeantMessage, place: str, nth: int) -> str:
    attempt = f".{message.attempt}" if message.attempt > 1 else ""
    return f"{KEY}{place}:{message.epoch}{attempt}:{nth}"


def _is_of(key: str, place: str, nth: int) -> bool:
    return re.fullmatch(rf"{re.escape(KEY + place)}:\d+(\.\d+)?:{nth}", key) is not None
