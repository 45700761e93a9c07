"""Hooks that a worker calls before and after every run of an activity, and when an attempt has failed.

The hooks of an App surround the hooks of its activities: the App's ``before`` hooks run first, its ``after`` and
``on_failure`` hooks last. Hooks of the same App or activity run in the order in which they were registered.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog

from paigeant.errors import ConfigurationError
from paigeant.wire.values import said

log = structlog.stdlib.get_logger("paigeant.hooks")

H = TypeVar("H", bound=Callable[..., Any])

Call = Callable[..., Awaitable[Any]]
"""Calls its first argument, a hook, with the other arguments: plain functions in a thread, async ones in the loop."""


class Hooks:
    """The hooks of an App, or of an activity within one."""

    def __init__(self, outer: Hooks | None = None) -> None:
        self._outer = outer
        self._before: list[Callable[..., Any]] = []
        self._after: list[Callable[..., Any]] = []
        self._on_failure: list[Callable[..., Any]] = []

    # --- registering -----------------------------------------------------------------------------------------

    def before(self, hook: H) -> H:
        """Register ``hook(ctx)``. If it raises, the activity is not called and the attempt fails with that error."""
        return _added(self._before, hook, "ctx")

    def after(self, hook: H) -> H:
        """Register ``hook(ctx, output)``. If it raises, the attempt fails with that error."""
        return _added(self._after, hook, "ctx", "output")

    def on_failure(self, hook: H) -> H:
        """Register ``hook(ctx, error)``. Errors that it raises are logged and change nothing."""
        return _added(self._on_failure, hook, "ctx", "error")

    # --- calling ---------------------------------------------------------------------------------------------

    async def begin(self, context: Any, call: Call) -> None:
        """Call the ``before`` hooks, right before the activity."""
        if self._outer is not None:
            await self._outer.begin(context, call)
        for hook in self._before:
            await call(hook, context)

    async def end(self, context: Any, output: Any, call: Call) -> None:
        """Call the ``after`` hooks with the output that the activity returned or ended the workflow with."""
        for hook in self._after:
            await call(hook, context, output)
        if self._outer is not None:
            await self._outer.end(context, output, call)

    async def fail(self, context: Any, error: BaseException, call: Call) -> None:
        """Call the ``on_failure`` hooks with the error of a failed attempt. A hook cannot change that it failed."""
        for hook in self._on_failure:
            try:
                await call(hook, context, error)
            except asyncio.CancelledError:  # the hooks ran into a timeout, or one of them cancelled its own task
                raise
            except BaseException as broken:
                log.exception("a hook failed", hook=repr(hook), error=said(broken))
        if self._outer is not None:
            await self._outer.fail(context, error, call)


class Hooked:
    """Base of App and Activity: registers hooks around the runs of an App's activities, or of one activity.

    Raises:
        ConfigurationError: a hook cannot be called like that.
    """

    hooks: Hooks

    def before(self, hook: H) -> H:
        """Decorate a hook that runs before each run, as ``hook(ctx)``.

        If it raises, the activity is not called, and the attempt fails as if the activity had raised the error.
        """
        return self.hooks.before(hook)

    def after(self, hook: H) -> H:
        """Decorate a hook that runs after each run, as ``hook(ctx, output)``.

        If it raises, the attempt fails as if the activity had raised the error.
        """
        return self.hooks.after(hook)

    def on_failure(self, hook: H) -> H:
        """Decorate a hook that runs after each failed attempt, as ``hook(ctx, error)``. Its own errors are logged."""
        return self.hooks.on_failure(hook)


def _added(hooks: list[Callable[..., Any]], hook: H, *given: str) -> H:
    try:
        inspect.signature(hook).bind(*given)
    except (TypeError, ValueError) as error:
        what = ", ".join(given)
        raise ConfigurationError(
            f"{hook!r} cannot be a hook here: {error}", hint=f"it is called with ({what})"
        ) from error
    hooks.append(hook)
    return hook
