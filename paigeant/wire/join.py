"""Joins: what the branches of a scatter come together in, and when that is decided. Pure.

The patterns are Hohpe and Woolf's *Scatter-Gather* and *Aggregator* (Enterprise Integration Patterns, 2003).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from paigeant.errors import InvalidArguments
from paigeant.wire.model import Label, WireModel

T = TypeVar("T")

KEY = "join:"
"""How the keys of messages begin that wait for a join."""

Policy = Literal["all", "any", "settled"] | int
"""How many branches must complete: all, any one, this many (a quorum), or none as long as all of them end."""


class Branch(WireModel):
    """Where a workflow belongs that is a branch: the join of its parent, by key, and its place in it, from 0.

    ``after`` is the workflow that did not complete which it takes the place of: its agents go on where that one's were.
    """

    join: Annotated[Label, Field(min_length=1)]
    index: Annotated[int, Field(ge=0)]
    after: Label | None = None


class BranchError(BaseModel):
    """Why a branch did not complete."""

    model_config = ConfigDict(frozen=True)

    type: str
    message: str = ""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class BranchResult(BaseModel, Generic[T]):
    """How one branch ended: as a workflow does, or ``cancelled`` when the others decided without it.

    ``workflow`` is the id under which the steps of a branch that did not complete can be looked at.
    """

    model_config = ConfigDict(frozen=True)

    status: str = "completed"
    output: T | None = None
    error: BranchError | None = None
    workflow: str | None = None

    @property
    def is_completed(self) -> bool:
        return self.status == "completed"

    @model_serializer(mode="wrap")
    def _briefly(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what goes without saying: ten thousand of them travel in one message."""
        written = {name: value for name, value in write(self).items() if value is not None}
        if self.is_completed:
            del written["status"]
        return written


ANY_RESULT = BranchResult[Any]
"""Made once, before there are threads: pydantic makes another class for each of two that ask at the same time."""


@dataclass(frozen=True, slots=True)
class Join:
    """What is waited for: so many branches, of which ``needed`` must complete; None: all must end, however."""

    total: int
    needed: int | None

    @classmethod
    def of(cls, total: int, policy: Policy) -> Join:
        """The join of so many branches under this policy.

        Raises:
            InvalidArguments: more branches are needed than there are, or none.
        """
        match policy:
            case "settled":
                return cls(total, None)
            case "all":
                return cls(total, total)
            case "any":
                needed = 1
            case int() if not isinstance(policy, bool):
                needed = policy
            case _:
                raise InvalidArguments(
                    f"{policy!r} is no policy of a scatter", hint='"all", "any", "settled" or quorum(n)'
                )
        if not 1 <= needed <= total:
            raise InvalidArguments(f"a scatter over {total} branches cannot wait for {needed} of them")
        return cls(total, needed)

    def is_decided(self, completed: int, failed: int) -> bool:
        """Whether the branches that still run can change nothing any more."""
        if self.needed is None:
            return completed + failed >= self.total
        return self.is_reached(completed) or failed > self.total - self.needed

    def is_reached(self, completed: int) -> bool:
        """Whether as many completed as must."""
        return self.needed is None or completed >= self.needed


def quorum(needed: int) -> Policy:
    """The policy that so many branches must complete."""
    return needed


def why_not(results: list[BranchResult[Any]], join: Join) -> str:
    """For people: why a join was not reached."""
    failed = [(index, one) for index, one in enumerate(results) if not one.is_completed]
    index, first = next((pair for pair in failed if pair[1].error), failed[0])
    reason = first.error or first.status
    return (
        f"{len(results) - len(failed)} of {join.total} branches completed, {join.needed} had to;"
        f" branch {index}: {reason}"
    )
