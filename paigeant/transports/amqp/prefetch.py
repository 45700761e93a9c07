"""How the deliveries that one worker may hold are shared out among its queues on RabbitMQ.

RabbitMQ limits each consumer of a channel on its own, and quorum queues know no limit for them together. The full
number for each would let a worker hoard what others could run; equal parts would leave it idle when one queue is busy.
So a queue that has used up its part is given what the others have not taken: with more queues than steps that may run
at once, every part is one, and the one busy queue must be let have them all. Nothing is taken away from a queue again
before the worker connects anew: where the load moves, more is held for a while than was asked for.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

_PAUSE = 0.05
"""Seconds between two changes: each costs a round trip."""

_WORTH = 1.25
"""How much larger a part must become for that."""


def shares(prefetch: int, held: Mapping[str, int], hungry: Collection[str]) -> dict[str, int]:
    """The part of each queue, at least one; ``held`` is what each has out. Without any hungry one they are equal."""
    others = {name: count for name, count in held.items() if name not in hungry} if hungry else {}
    rest = [name for name in held if name not in others]
    each, left = divmod(max(0, prefetch - sum(others.values())), len(rest))
    parts = {name: each + (place < left) for place, name in enumerate(rest)}
    return {name: max(1, part) for name, part in (others | parts).items()}


class Prefetch:
    """The parts of a pump's consumers."""

    def __init__(self, queues: Sequence[str] = (), prefetch: int = 0) -> None:
        self._prefetch = prefetch
        self.parts = shares(prefetch, dict.fromkeys(queues, 0), ()) if queues else {}
        self._not_before = time.monotonic() + _PAUSE  # until what waits in the others has come as well
        self._is_waiting = False

    @property
    def patience(self) -> float | None:
        """Seconds after which :meth:`grown` should be asked although nothing has happened; None for whenever."""
        return max(0.0, self._not_before - time.monotonic()) if self._is_waiting else None

    def widen(self, prefetch: int) -> None:
        """So many may be held from now on, if that is more than before."""
        self._prefetch = max(self._prefetch, prefetch)

    def grown(self, held: Mapping[str, int]) -> dict[str, int]:
        """By how much parts grow now, by what each queue has out."""
        self._is_waiting = False
        out = {name: held.get(name, 0) for name in self.parts}
        hungry = {name for name, part in self.parts.items() if out[name] >= part}
        if not hungry or sum(out.values()) >= self._prefetch:
            return {}
        wanted = shares(self._prefetch, out, hungry)
        if all(wanted[name] < _WORTH * self.parts[name] for name in hungry):
            return {}
        if time.monotonic() < self._not_before:
            self._is_waiting = True
            return {}
        self._not_before = time.monotonic() + _PAUSE
        more = {name: wanted[name] - self.parts[name] for name in hungry if wanted[name] > self.parts[name]}
        self.parts |= {name: wanted[name] for name in more}
        return more
