"""What a worker offers: an activity as it is announced to others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An activity that a worker serves. ``input`` and ``output`` are JSON Schemas: of its arguments, of its output.

    ``queue`` is the full name of the queue it is served from; ``version`` names the code, as that of the worker does.
    A user's token needs the ``scopes`` for it.
    ``proof`` is what the worker has signed, if it signs.
    """

    name: str
    queue: str
    description: str = ""
    input: Mapping[str, Any] = field(default_factory=dict)
    output: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    scopes: Sequence[str] = ()
    proof: str | None = None

    def said(self) -> dict[str, Any]:
        """Return all but the proof, as JSON types: the worker that makes the offer signs this."""
        kept = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "proof"}
        return kept | {"input": dict(self.input), "output": dict(self.output), "scopes": list(self.scopes)}


def merged(offers: Iterable[Offer]) -> list[tuple[Offer, int]]:
    """Each activity once for each queue it is served from, by name, with how often it is offered.

    Where workers describe it differently, the first one counts.
    """
    found: dict[tuple[str, str], tuple[Offer, int]] = {}
    for offer in offers:
        key = (offer.name, offer.queue)
        first, times = found.get(key, (offer, 0))
        found[key] = (first, times + 1)
    return [found[key] for key in sorted(found)]
