"""A tool: an async function that turns call."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from functools import partial
from typing import Any, Generic, ParamSpec, TypeVar, get_type_hints, overload
from weakref import WeakKeyDictionary

from paigeant.activity import caller_namespace
from paigeant.errors import ConfigurationError, InvalidArguments
from paigeant.turns.hooks import Hook, ToolHook, call
from paigeant.turns.names import Names

P = ParamSpec("P")
R = TypeVar("R")


class Tool(Generic[P, R]):
    """An async function or async generator with fixed keyword arguments. Calling the tool also calls its hooks."""

    def __init__(
        self,
        function: Callable[P, R],
        *,
        lock: bool = False,
        hooks: Sequence[Hook] = (),
        fixed: Mapping[str, Any] | None = None,
        namespace: Mapping[str, Any] | None = None,
    ) -> None:
        self.function = function
        self.name = str(getattr(function, "__name__", function))
        self.description = (inspect.getdoc(function) or "").partition("\n")[0]
        self.locks = lock
        self.hooks = list(hooks)
        self.fixed = dict(fixed or {})
        self.streams = inspect.isasyncgenfunction(function)
        self._namespace = dict(namespace or {})
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
        self._refuse_mistakes()
        functools.update_wrapper(self, function, updated=())
        tools.add(self.name, self)

    def __repr__(self) -> str:
        return f"<tool {self.name!r}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        run: Any = self._stream if self.streams else self._once
        result: R = run(args, kwargs)
        return result

    @property
    def lock(self) -> AbstractAsyncContextManager[Any]:
        """The lock that lets one call run at a time in this event loop; it does nothing without ``lock=True``."""
        if not self.locks:
            return nullcontext()
        return self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())

    async def values(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """Call the tool and yield its values as they arrive: one value, unless the tool streams."""
        if not self.streams:
            yield await self._once(args, kwargs)
            return
        async with aclosing(self._stream(args, kwargs)) as stream:
            async for value in stream:
                yield value

    def named(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by name.

        Raises:
            InvalidArguments: the tool does not take these arguments.
        """
        try:
            return dict(inspect.signature(self.function).bind_partial(*args, **kwargs).arguments)
        except TypeError as error:
            raise InvalidArguments(f"tool {self.name!r}: {error}") from error

    def as_function(self) -> Callable[..., Any]:
        """Return an equivalent function for an activity. Its annotations are resolved, fixed arguments are optional."""

        async def once(**kwargs: Any) -> Any:
            return await self._once((), kwargs)

        async def stream(**kwargs: Any) -> AsyncGenerator[Any, None]:
            async with aclosing(self._stream((), kwargs)) as values:
                async for value in values:
                    yield value

        plain: Any = functools.wraps(self.function)(stream if self.streams else once)
        plain.__annotations__ = get_type_hints(self.function, localns=self._namespace, include_extras=True)
        signature = inspect.signature(self.function)
        parameters = [
            one.replace(default=None, kind=one.KEYWORD_ONLY) if one.name in self.fixed else one
            for one in signature.parameters.values()
        ]
        plain.__signature__ = signature.replace(parameters=sorted(parameters, key=lambda one: one.kind))
        return plain  # type: ignore[no-any-return]

    async def _once(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        whole = await self._whole(kwargs)
        await call(self.hooks, ToolHook.BEFORE_INVOKE, *args, **whole)
        function: Any = self.function
        result = await function(*args, **whole)
        await call(self.hooks, ToolHook.AFTER_INVOKE, result)
        return result

    async def _stream(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        whole = await self._whole(kwargs)
        await call(self.hooks, ToolHook.BEFORE_INVOKE, *args, **whole)
        function: Any = self.function
        values = []
        async with aclosing(function(*args, **whole)) as stream:
            async for value in stream:
                await call(self.hooks, ToolHook.ON_YIELD, value)
                values.append(value)
                yield value
        await call(self.hooks, ToolHook.AFTER_INVOKE, values)

    async def _whole(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fixed arguments, evaluated now, updated with the arguments of the call."""
        fixed = {name: value for name, value in self.fixed.items() if name not in kwargs}
        return {name: await evaluated(value) for name, value in fixed.items()} | dict(kwargs)

    def _refuse_mistakes(self) -> None:
        if not (self.streams or inspect.iscoroutinefunction(self.function)):
            raise ConfigurationError(
                f"the tool {self.name!r} is not an async function", hint="define it with 'async def'"
            )
        parameters = inspect.signature(self.function).parameters
        if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
            return
        for name in self.fixed:
            if name not in parameters:
                raise ConfigurationError(f"the tool {self.name!r} takes no argument {name!r}, so it cannot be fixed")


tools = Names[Tool[..., Any]]("tool")
"""The tools of this process by name, so that turns find them."""


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...
@overload
def tool(
    function: None = None, /, *, lock: bool = False, hooks: Sequence[Hook] = (), **fixed: Any
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...


def tool(function: Any = None, /, *, lock: bool = False, hooks: Sequence[Hook] = (), **fixed: Any) -> Any:
    """Decorate an async function or async generator as a tool: ``@tool()``, with or without options.

    With ``lock=True`` one call runs at a time: in an event loop and, over a broker, across all workers. All other
    keywords are fixed arguments: every call gets them unless it passes its own. A fixed argument that is a function is
    evaluated at each call.

    Raises:
        ConfigurationError: the function is not async, it does not take a fixed argument, or its name is taken.
    """
    options: dict[str, Any] = {"lock": lock, "hooks": hooks, "fixed": fixed, "namespace": caller_namespace(1)}
    if function is None:
        return lambda decorated: Tool(decorated, **options)
    return Tool(function, **options)


async def evaluated(value: Any) -> Any:
    """Return the value; for a dynamic argument, call the function and return its result."""
    if not is_dynamic(value):
        return value
    result = value()
    return await result if inspect.isawaitable(result) else result


def is_dynamic(value: Any) -> bool:
    """Return whether an argument is a function to call when the turn runs. Classes and objects pass unchanged."""
    return inspect.isroutine(value) or isinstance(value, partial)
