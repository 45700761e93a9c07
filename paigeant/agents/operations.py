"""Records capability methods marked with ``@durable_operation``, as the durable engines of pydantic-ai do."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from copy import copy
from typing import Any, Protocol, get_type_hints

from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.durable_exec import JSON_CODEC
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.tools import RunContext
from pydantic_ai.usage import RunUsage

from paigeant.agents.journal import digest

_MARKER = "__pydantic_ai_durable_operation__"

Operation = Callable[..., Awaitable[Any]]


class Recorder(Protocol):
    """Runs a function once for a step, and returns its recorded result, which consists of JSON types."""

    def __call__(self, name: str, asked: str, do: Callable[[], Awaitable[Any]]) -> Awaitable[Any]: ...


def dispatchers(ctx: RunContext[Any], record: Recorder) -> dict[tuple[str, str], Operation]:
    """The recording replacement of each marked method, by the id of its capability and its own name."""
    found: dict[tuple[str, str], Operation] = {}
    for capability in (getattr(ctx, "_run_capabilities_by_id", None) or {}).values():
        for name, body in _marked(capability):
            found[capability.id, name] = _dispatcher(f"{capability.id}.{name}", body, record)
    return found


def _marked(capability: AbstractCapability[Any]) -> Iterator[tuple[str, Operation]]:
    for _, member in inspect.getmembers(type(capability), callable):
        marker = getattr(member, _MARKER, None)
        if marker is not None and not marker.base_hook:
            yield marker.name, marker.function.__get__(capability, type(capability))


def _dispatcher(name: str, body: Operation, record: Recorder) -> Operation:
    kind = _returned(body)

    async def dispatch(ctx: RunContext[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = [*args, *kwargs.values()]
        if any(
            isinstance(one, ModelRequestContext) for one in given
        ):  # it changes a live request, so there is no result to record
            return await body(*args, **kwargs)
        asked = digest([one for one in given if not isinstance(one, RunContext)])

        async def do() -> Any:
            before = copy(ctx.usage)
            result = JSON_CODEC.dump(kind, await body(*args, **kwargs))
            done.append(name)
            return {"result": result, "usage": JSON_CODEC.dump(RunUsage, ctx.usage - before)}

        done: list[str] = []
        kept = await record(name, asked, do)
        if not done:  # replayed: its recorded usage counts in this run
            ctx.usage.incr(JSON_CODEC.load(RunUsage, kept["usage"]))
        return JSON_CODEC.load(kind, kept["result"])

    return dispatch


def _returned(body: Operation) -> Any:
    try:
        return get_type_hints(body).get("return", Any)
    except (NameError, TypeError):
        return Any
