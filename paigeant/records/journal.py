"""The journal of an agent step: its finished model requests and tool calls, as the store keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from paigeant.wire.usage import NOTHING, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One run of an agent step, that writes its journal until a later one begins.

    Runs are ordered by epoch, attempt, resumes and deliveries; of two that are equal in these, the one that began last
    counts. ``holder`` tells them apart. The journal begins with what the same step did in the workflow ``after`` which
    this one comes, as a branch that is begun again.
    """

    correlation_id: str
    step_id: str
    epoch: int
    attempt: int
    resumes: int
    deliveries: int
    holder: str
    after: str | None = None

    @property
    def place(self) -> str:
        """What tells its journal from others."""
        return f"{self.correlation_id}:{self.step_id}:{self.epoch}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A finished model request or tool call.

    ``key`` is its place in the run, ``digest`` what it was asked, ``value`` what came of it, as JSON types, and
    ``usage`` what it alone used. Of a journal that was begun anew it is not ``current``.
    ``proof`` is what its worker has signed, if it signs.
    """

    key: str
    name: str
    digest: str
    value: Any
    usage: Usage = NOTHING
    worker: str = ""
    step_id: str = ""
    at: float = 0.0
    current: bool = True
    proof: str | None = field(default=None, repr=False)
