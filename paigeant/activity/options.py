"""The options of ``@app.activity``, for type checkers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from paigeant.retry import ErrorMatch, RetryPolicy

if TYPE_CHECKING:
    from pydantic_ai.usage import UsageLimits


class ActivityOptions(TypedDict, total=False):
    """What ``@app.activity(...)`` takes; :meth:`App.activity` says what each is."""

    name: str | None
    queue: str | None
    timeout: float | None
    start_timeout: float | None
    heartbeat_timeout: float | None
    retry: RetryPolicy | None
    retry_on: ErrorMatch
    give_up_on: ErrorMatch
    priority: int
    lock: bool | str
    concurrency: int | Mapping[str, int] | None
    rate: str | Mapping[str, str] | None


class AgentOptions(ActivityOptions, total=False):
    """What ``app.activity(agent, ...)`` takes beside that."""

    prompt: str | None
    deps: Callable[..., Any] | None
    usage_limits: UsageLimits | None
    durable: Literal["step", "model", "full"]
    stream: bool
