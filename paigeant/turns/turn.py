"""A turn: one call of a tool, with its arguments and timeout."""

from __future__ import annotations

import time
from asyncio import timeout as limit
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from paigeant.errors import ConfigurationError, NotSerializable, TurnTimeout
from paigeant.turns.hooks import Hook, TurnHook, call, hooks
from paigeant.turns.tools import Tool, evaluated, is_dynamic, tools
from paigeant.wire.values import jsonable

TIMEOUT = 60.0
"""Default timeout of a turn, in seconds."""


class StopReason(StrEnum):
    """The reason why a turn ended."""

    COMPLETED = "completed"
    TIMEOUT = "timeout"
    ERROR = "error"
    CANCELLED = "cancelled"
    """The receiver of its values stopped reading."""


class Turn:
    """A call of a tool that runs later. Arguments that are functions are called when the turn runs.

    ``timeout`` is seconds of the tool's own time; the time that the receiver spends between two values does not count.
    ``metadata`` is for your own data. Only one run of a turn is active at a time; ``start_time``, ``end_time``,
    ``stop_reason`` and ``output`` belong to the last run.
    """

    def __init__(
        self,
        tool: str | Tool[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        timeout: float = TIMEOUT,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        stop_reason: StopReason | str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """
        Raises:
            ConfigurationError: there is no such tool, or the timeout is not a positive number.
        """
        if not timeout > 0:
            raise ConfigurationError(f"timeout={timeout!r} is not valid for a turn", hint="pass seconds above 0")
        self.tool: Tool[..., Any] = tool if isinstance(tool, Tool) else tools.get(tool)
        self.args = list(args)
        self.kwargs = dict(kwargs or {})
        self.timeout = timeout
        self.start_time = start_time
        self.end_time = end_time
        self.stop_reason = None if stop_reason is None else StopReason(stop_reason)
        self.metadata = dict(metadata or {})
        self.output: Any = None
        """The tool's result; for a tool that streams, the list of its values."""
        self.hooks: list[Hook] = []
        self._is_running = False

    def __repr__(self) -> str:
        return f"<turn {self.tool.name!r}>"

    async def run(self, source: Source | None = None) -> AsyncGenerator[Any, None]:
        """Run the tool and yield its values as they arrive. ``source`` decides where it runs; default: this process.

        Raises:
            TurnTimeout: the turn took longer than its timeout.
            ConfigurationError: the turn is already running.
        """
        if self._is_running:
            raise ConfigurationError(f"{self!r} is running", hint="make another Turn for another call")
        self._is_running = True
        self.start_time, self.end_time, self.stop_reason, self.output = _now(), None, None, None
        reason = StopReason.CANCELLED
        try:
            async with aclosing(self._values(source or here)) as values:
                async for value in values:
                    yield value
            reason = StopReason.COMPLETED
            await call(self.hooks, TurnHook.AFTER_RUN, self)
        except TurnTimeout:
            reason = StopReason.TIMEOUT
            await call(self.hooks, TurnHook.ON_TIMEOUT, self)
            raise
        except Exception as error:
            reason = StopReason.ERROR
            await call(self.hooks, TurnHook.ON_ERROR, self, error)
            raise
        finally:
            self.end_time, self.stop_reason = _now(), reason
            self._is_running = False

    async def _values(self, source: Source) -> AsyncGenerator[Any, None]:
        await call(self.hooks, TurnHook.BEFORE_RUN, self)
        seen = []
        async with aclosing(source(self)) as values:
            async for value in values:
                seen.append(value)
                await call(self.hooks, TurnHook.ON_VALUE, self, value)
                yield value
        self.output = seen if self.tool.streams else seen[0]

    async def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """Return positional and keyword arguments, with dynamic ones evaluated now."""
        args = [await evaluated(value) for value in self.args]
        return args, {name: await evaluated(value) for name, value in self.kwargs.items()}

    # --- serializing -----------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Serialize the turn to JSON types for :meth:`from_dict`; the tool and hooks become names.

        Raises:
            NotSerializable: an argument cannot be serialized, for example a dynamic one; the error names it.
        """
        for place, value in (*enumerate(self.args), *self.kwargs.items()):
            if is_dynamic(value):
                raise NotSerializable(
                    f"{self!r}: argument {place!r} is a function, which is called when the turn runs",
                    hint="pass the value to the turn instead, or make it a fixed argument of the tool",
                )
        return {
            "tool_name": self.tool.name,
            "args": jsonable(self.args, "args"),
            "kwargs": jsonable(self.kwargs, "kwargs"),
            "timeout": self.timeout,
            "start_time": _formatted(self.start_time),
            "end_time": _formatted(self.end_time),
            "stop_reason": self.stop_reason and self.stop_reason.value,
            "metadata": jsonable(self.metadata, "metadata"),
            "output": jsonable(self.output, "output"),
            "hooks": [one.name for one in self.hooks],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Restore a turn from the output of :meth:`to_dict`.

        Raises:
            ConfigurationError: this process does not define a tool or hook with one of the names.
        """
        turn = cls(
            data["tool_name"],
            data.get("args", ()),
            data.get("kwargs"),
            data.get("timeout", TIMEOUT),
            _read(data.get("start_time")),
            _read(data.get("end_time")),
            data.get("stop_reason"),
            data.get("metadata"),
        )
        turn.output = data.get("output")
        turn.hooks = [hooks.get(name) for name in data.get("hooks", ())]
        return turn


Source = Callable[[Turn], AsyncGenerator[Any, None]]
"""Runs a turn's tool and yields the values."""


async def here(turn: Turn) -> AsyncGenerator[Any, None]:
    """Run the tool in this process."""
    async with turn.tool.lock:
        args, kwargs = await turn.arguments()
        left = turn.timeout
        async with aclosing(turn.tool.values(args, kwargs)) as values:
            while True:
                began = time.monotonic()
                try:
                    async with limit(left) as clock:
                        value = await anext(values)
                except StopAsyncIteration:
                    return
                except TimeoutError as error:
                    if not clock.expired():  # the tool itself raised it
                        raise
                    raise TurnTimeout(f"{turn!r} took longer than {turn.timeout:g} s") from error
                left -= time.monotonic() - began
                yield value


def _now() -> datetime:
    return datetime.now(UTC)


def _formatted(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _read(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
