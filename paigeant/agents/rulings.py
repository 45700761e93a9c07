"""Records the rulings of tool validators, so that a replay does not call them again."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ModelRetry
from pydantic_ai.tools import RunContext

from paigeant.wire.values import jsonable

Check = Callable[[RunContext[Any]], Any]
"""Calls the validator of a tool with this context of its run."""


@dataclass(frozen=True)
class Ruling:
    """How a validator ruled on the arguments of a tool call."""

    kind: Literal["fine", "retry", "approval", "deferred"]
    message: str = ""
    metadata: dict[str, Any] | None = None

    def apply(self) -> None:
        """Raise the exception that the validator raised, if it raised one."""
        match self.kind:
            case "retry":
                raise ModelRetry(self.message)
            case "approval":
                raise ApprovalRequired(metadata=self.metadata)
            case "deferred":
                raise CallDeferred(metadata=self.metadata)


async def ruling(check: Check, ctx: RunContext[Any]) -> Ruling:
    """Call the validator and return its ruling."""
    try:
        await checked(check, ctx)
    except ModelRetry as error:
        return Ruling("retry", error.message)
    except ApprovalRequired as error:
        return Ruling("approval", metadata=jsonable(error.metadata, "the metadata of an approval"))
    except CallDeferred as error:
        return Ruling("deferred", metadata=jsonable(error.metadata, "the metadata of a call"))
    return Ruling("fine")


async def checked(check: Check, ctx: RunContext[Any]) -> None:
    """Call the validator, which may be async; it raises its own exceptions."""
    result = check(ctx)
    if inspect.isawaitable(result):
        await result
