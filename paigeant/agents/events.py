"""External events of capabilities such as ``RequestInput``, which arrive as signals of the workflow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, Protocol

from pydantic_ai import durable_exec

from paigeant.context import ActivityContext
from paigeant.errors import SignalTimeout

Ask = Callable[[str], Awaitable[Any]]


class Waiting(Protocol):
    """The run that waits."""

    async def asked(self, name: str, ask: Ask) -> tuple[str, Any]:
        """Return the token of this wait and an immediate answer, if there is one. A step calls ``ask`` once."""
        ...

    @property
    def context(self) -> ActivityContext: ...


def waiting_for_signals(run: Waiting) -> AbstractContextManager[Any]:
    """Surround a run, so that ``workflow.signal(token, value)`` answers the wait with this token.

    It has no effect with releases of pydantic-ai that have no external events.
    """
    scope: Any = getattr(durable_exec, "external_event_scope", None)
    return nullcontext() if scope is None else scope(_waiter(run))


def _waiter(run: Waiting) -> Any:
    from pydantic_ai.durable_exec import ExternalEventError, ExternalEventWaiter

    class Signals(ExternalEventWaiter):
        async def wait(self, name: str, *, ask: Ask, timeout: timedelta | None) -> Any:
            token, answer = await run.asked(name, ask)
            if answer is not None:
                return answer
            seconds = None if timeout is None else timeout.total_seconds()
            try:
                return run.context.await_signal(token, timeout=seconds, details={"event": name})
            except SignalTimeout as error:
                raise ExternalEventError(f"no answer arrived within {timeout}") from error

    return Signals()
