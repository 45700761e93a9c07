"""Rounds of a scatter: the results of branches from earlier attempts of the step. Pure.

A branch that completed does not run again, in any attempt or epoch. The other branches begin again, in a new join: each
attempt of the step has at most one join per scatter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from paigeant.wire.join import KEY, Join
from paigeant.wire.message import PaigeantMessage

Ended = Mapping[str, Any]
"""The end of a branch, as the fields of :class:`~paigeant.wire.join.BranchResult`; no ``status`` means completed."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """The ends of each branch, by place, one for each time that it ran. ``key`` is that of this attempt's join."""

    key: str
    tries: tuple[tuple[Ended, ...], ...]

    @classmethod
    def before(cls, message: PaigeantMessage, place: str, nth: int, total: int) -> Rounds:
        """The rounds of earlier attempts, for the nth scatter at this place, which has ``total`` branches now."""
        rounds = cls(_key(message, place, nth), ((),) * total)
        for key, arrived in message.received.items():
            if key != rounds.key and _is_of(key, place, nth) and "value" in arrived[0]:
                rounds = rounds.after(arrived[0]["value"])
        return rounds if len(rounds.tries) == total else replace(rounds, tries=((),) * total)

    def after(self, results: Sequence[Ended]) -> Rounds:
        """Add a round with the results of the missing branches, or of all branches if their number was another one."""
        missing = self.missing
        if len(results) != len(missing):
            return replace(self, tries=tuple((one,) for one in results))
        latest = {place: (one,) for place, one in zip(missing, results, strict=True)}
        return replace(self, tries=tuple((*tries, *latest.get(at, ())) for at, tries in enumerate(self.tries)))

    @property
    def ended(self) -> list[Ended]:
        """The last end of each branch that ran."""
        return [tries[-1] for tries in self.tries if tries]

    @property
    def missing(self) -> list[int]:
        """The places of the branches that have not completed."""
        return [at for at, tries in enumerate(self.tries) if not tries or not has_completed(tries[-1])]

    def workflows(self, place: int) -> list[str]:
        """The workflows that ran for a branch and did not complete."""
        return [ended["workflow"] for ended in self.tries[place] if ended.get("workflow")]

    @property
    def completed(self) -> int:
        """How many branches have completed."""
        return len(self.tries) - len(self.missing)

    def suffice(self, join: Join) -> bool:
        """Whether enough branches have completed, so that none begins again."""
        return self.completed >= (join.total if join.needed is None else join.needed)

    def rest(self, join: Join) -> Join:
        """The join of the branches that begin again."""
        return Join(len(self.missing), None if join.needed is None else join.needed - self.completed)


def has_completed(ended: Ended) -> bool:
    """Whether the branch with this end completed."""
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
