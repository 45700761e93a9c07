"""What is called around every run of an activity: before it, after it, and when an attempt has failed.

An App's hooks surround those of its activities: its ``before`` hooks come first, its ``after`` and ``on_failure`` hooks
last. Those of one place come in the order in which they were registered.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog

from paigeant.errors import ConfigurationError
from paigeant.interrupts import Interrupt

log = structlog.stdlib.get_logger("paigeant.hooks")

H = TypeVar("H", bound=Callable[..., Any])

Call = Callable[..., Awaitable[Any]]
"""Calls a hook, its first argument, with the others: a plain function in a thread, an async one in the event loop."""


class Hooks:
    """The hooks of an App, or of an activity within one."""

    def __init__(self, outer: Hooks | None = None) -> None:
        self._outer = outer
        self._before: list[Callable[..., Any]] = []
        self._after: list[Callable[..., Any]] = []
        self._on_failure: list[Callable[..., Any]] = []

    # --- registering -----------------------------------------------------------------------------------------

    def before(self, hook: H) -> H:
        """Decorates ``hook(ctx)``: what it raises counts as raised by the activity, which is then not called."""
        return _added(self._before, hook, "ctx")

    def after(self, hook: H) -> H:
        """Decorates ``hook(ctx, output)``: what it raises counts as raised by the activity."""
        return _added(self._after, hook, "ctx", "output")

    def on_failure(self, hook: H) -> H:
        """Decorates ``hook(ctx, error)``: what it raises is logged and changes nothing."""
        return _added(self._on_failure, hook, "ctx", "error")

    # --- calling ---------------------------------------------------------------------------------------------

    async def begin(self, context: Any, call: Call) -> None:
        """The activity is about to be called."""
        if self._outer is not None:
            await self._outer.begin(context, call)
        for hook in self._before:
            await call(hook, context)

    async def end(self, context: Any, output: Any, call: Call) -> None:
        """The activity returned this, or ended the workflow with it."""
        for hook in self._after:
            await call(hook, context, output)
        if self._outer is not None:
            await self._outer.end(context, output, call)

    async def fail(self, context: Any, error: BaseException, call: Call) -> None:
        """An attempt failed with this error; whatever a hook does with it, it did."""
        for hook in self._on_failure:
            try:
                await call(hook, context, error)
            except (Exception, Interrupt, SystemExit) as broken:
                log.exception("a hook failed", hook=repr(hook), error=str(broken))
        if self._outer is not None:
            await self._outer.fail(context, error, call)


class Hooked:
    """What has hooks around the runs of activities: an App around all of its own, an activity around its own.

    Raises:
        ConfigurationError: a hook cannot be called like that.
    """

    hooks: Hooks

    def before(self, hook: H) -> H:
        """Decorates what is called before each run, as ``hook(ctx)``; what it raises counts as raised by the activity,
        which is then not called.
        """
        return self.hooks.before(hook)

    def after(self, hook: H) -> H:
        """Decorates what is called after each run, as ``hook(ctx, output)``; what it raises counts as raised by the
        activity.
        """
        return self.hooks.after(hook)

    def on_failure(self, hook: H) -> H:
        """Decorates what is called after each failed attempt, as ``hook(ctx, error)``; what it raises is logged."""
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
